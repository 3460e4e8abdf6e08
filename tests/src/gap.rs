//! How long a cluster takes no write: seen by one closed-loop writer that goes on to the next member when one fails
//! it, as a client with all endpoints does.

use crate::client::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The longest time between two of these moments, in microseconds and any order.
#[must_use]
pub fn longest(moments: &[u64]) -> Duration {
    let mut moments = moments.to_vec();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_micros(gaps.max().unwrap_or(0))
}

/// What a writer saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Writes acknowledged.
    pub writes: u64,
    /// Writes that failed or took too long.
    pub failed: u64,
    /// The longest time from one acknowledged write to the next, or to the end of the measurement.
    pub longest: Duration,
}

/// A writer at work.
#[derive(Debug)]
pub struct Writer {
    ending: Arc<AtomicBool>,
    task: JoinHandle<Gaps>,
}

impl Writer {
    /// Starts one that begins with the first of these members and gives each write so much time, connecting included.
    #[must_use]
    pub fn start(endpoints: Vec<String>, patience: Duration) -> Writer {
        let ending = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(endpoints, patience, Arc::clone(&ending)));
        Writer { ending, task }
    }

    /// Ends it after its last write.
    ///
    /// # Panics
    /// If the writer did.
    pub async fn end(self) -> Gaps {
        self.ending.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer does not panic")
    }
}

async fn write(endpoints: Vec<String>, patience: Duration, ending: Arc<AtomicBool>) -> Gaps {
    let mut clients: Vec<Client> =
        endpoints.iter().map(|endpoint| Client::lazy(endpoint).expect("a URL")).collect();
    let (mut gaps, mut member, mut last) = (Gaps::default(), 0, Instant::now());
    while !ending.load(Ordering::Relaxed) {
        let put = clients[member].put("gap", gaps.writes.to_string());
        let is_done = matches!(tokio::time::timeout(patience, put).await, Ok(Ok(_)));
        if is_done {
            gaps.writes += 1;
            gaps.longest = gaps.longest.max(last.elapsed());
            last = Instant::now();
        } else {
            gaps.failed += 1;
            // A fresh connection when its turn comes again: the old one may wait for a dead peer.
            clients[member] = Client::lazy(&endpoints[member]).expect("a URL");
            member = (member + 1) % clients.len();
            // Where everybody refuses at once, the writer shall not be the load.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    gaps.longest = gaps.longest.max(last.elapsed());
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found_in_any_order() {
        assert_eq!(longest(&[]), Duration::ZERO);
        assert_eq!(longest(&[5]), Duration::ZERO);
        assert_eq!(longest(&[9, 1, 2, 20, 8]), Duration::from_micros(11));
    }
}
