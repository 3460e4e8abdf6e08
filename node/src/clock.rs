//! The node's only clock: ticks for the driver, cluster time for the log, deadlines for whoever waits.

use core::time::Duration;
use quorate_raft::TICK_MS;
use quorate_types::ClusterTime;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Time between two ticks of consensus.
pub const TICK: Duration = Duration::from_millis(TICK_MS);

/// Monotonic time since this start, and cluster time. The wall clock is never asked: a board may have
/// none, and it may jump.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
    base: ClusterTime,
    base_at: Duration,
}

/// Where time comes from.
#[derive(Debug, Clone)]
enum Source {
    /// The system's monotonic clock, counted from then.
    System(Instant),
    /// Nanoseconds that a simulator moves.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// The system's clock, gone on from `base`, the newest cluster time the log or the image knows.
    #[must_use]
    pub fn from_base(base: ClusterTime) -> Clock {
        Clock { source: Source::System(Instant::now()), base, base_at: Duration::ZERO }
    }

    /// A simulator's clock: `nanoseconds` is the time since some start, moved by the simulator alone.
    #[must_use]
    pub fn simulated(base: ClusterTime, nanoseconds: Arc<AtomicU64>) -> Clock {
        let base_at = Duration::from_nanos(nanoseconds.load(Ordering::Relaxed));
        Clock { source: Source::Simulated(nanoseconds), base, base_at }
    }

    /// Time since the clock's origin: for deadlines and for measuring how long something took.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.source {
            Source::System(start) => start.elapsed(),
            Source::Simulated(nanoseconds) => Duration::from_nanos(nanoseconds.load(Ordering::Relaxed)),
        }
    }

    /// Cluster time now: never below what was seen in the log, never falls.
    #[must_use]
    pub fn cluster_time(&self) -> ClusterTime {
        let since = self.now().saturating_sub(self.base_at);
        self.base.plus_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// An applied entry has that stamp: cluster time is max(last in the log, own) (protocol.md rule 16).
    pub fn raise(&mut self, stamp: ClusterTime) {
        if stamp > self.cluster_time() {
            self.base = stamp;
            self.base_at = self.now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_time_follows_the_log_and_never_falls() {
        let nanoseconds = Arc::new(AtomicU64::new(5_000_000_000));
        let mut clock = Clock::simulated(ClusterTime(100), Arc::clone(&nanoseconds));
        assert_eq!(clock.cluster_time(), ClusterTime(100));
        nanoseconds.fetch_add(3_000_000, Ordering::Relaxed);
        assert_eq!(clock.cluster_time(), ClusterTime(103));
        clock.raise(ClusterTime(50));
        assert_eq!(clock.cluster_time(), ClusterTime(103), "an older stamp changes nothing");
        clock.raise(ClusterTime(500));
        nanoseconds.fetch_add(1_000_000, Ordering::Relaxed);
        assert_eq!(clock.cluster_time(), ClusterTime(501));
    }
}
