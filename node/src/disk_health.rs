//! What the WAL's syncs say about the card: how long they take, and whether one is under way.
//!
//! Written by the wal thread, read by anybody, without a lock. Deciding what a sick card means is for the
//! core (protocol.md rule 7); here it is only measured.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::time::Instant;

/// Weight of one sync in the recent mean: one part in eight.
const MEAN_SHIFT: u32 = 3;

/// The quickest sync is forgotten slowly: with each other one it rises by one part in so many.
const QUICK_RISE_PART: u64 = 64;

/// The measurements. Times are microseconds since `origin`, zero is "never".
#[derive(Debug)]
pub struct DiskHealth {
    origin: Instant,
    sync_mean_us: AtomicU64,
    in_flight_since_us: AtomicU64,
    sync_last_end_us: AtomicU64,
    sync_quick_us: AtomicU64,
}

impl Default for DiskHealth {
    fn default() -> Self {
        DiskHealth {
            origin: Instant::now(),
            sync_mean_us: AtomicU64::new(0),
            in_flight_since_us: AtomicU64::new(0),
            sync_last_end_us: AtomicU64::new(0),
            sync_quick_us: AtomicU64::new(0),
        }
    }
}

impl DiskHealth {
    fn now_us(&self) -> u64 {
        // Never zero, which stands for "never".
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// A sync begins.
    pub fn sync_begins(&self) {
        self.in_flight_since_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// The sync that began last has succeeded; answers how long it took.
    pub fn sync_ended(&self) -> Duration {
        let now = self.now_us();
        let took = now.saturating_sub(self.in_flight_since_us.swap(0, Ordering::Relaxed));
        let mean = self.sync_mean_us.load(Ordering::Relaxed);
        let mean = if mean == 0 { took } else { mean - (mean >> MEAN_SHIFT) + (took >> MEAN_SHIFT) };
        self.sync_mean_us.store(mean, Ordering::Relaxed);
        let quick = self.sync_quick_us.load(Ordering::Relaxed);
        let risen = quick + quick.div_ceil(QUICK_RISE_PART);
        let quick = if quick == 0 { took } else { took.min(risen) };
        self.sync_quick_us.store(quick, Ordering::Relaxed);
        self.sync_last_end_us.store(now, Ordering::Relaxed);
        Duration::from_micros(took)
    }

    /// Mean of the recent syncs; zero before the first.
    #[must_use]
    pub fn sync_mean(&self) -> Duration {
        Duration::from_micros(self.sync_mean_us.load(Ordering::Relaxed))
    }

    /// The quickest of the recent syncs: what the card takes when nothing stands in its way. Zero before the first.
    #[must_use]
    pub fn sync_quick(&self) -> Duration {
        Duration::from_micros(self.sync_quick_us.load(Ordering::Relaxed))
    }

    /// How long the sync in flight has been under way.
    #[must_use]
    pub fn in_flight(&self) -> Option<Duration> {
        let since = self.in_flight_since_us.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_micros(self.now_us().saturating_sub(since)))
    }

    /// Time since a sync last succeeded.
    #[must_use]
    pub fn since_last_sync(&self) -> Option<Duration> {
        let end = self.sync_last_end_us.load(Ordering::Relaxed);
        (end != 0).then(|| Duration::from_micros(self.now_us().saturating_sub(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_in_flight_until_it_ends() {
        let health = DiskHealth::default();
        assert_eq!(health.in_flight(), None);
        assert_eq!(health.since_last_sync(), None);
        health.sync_begins();
        assert!(health.in_flight().is_some());
        health.sync_ended();
        assert_eq!(health.in_flight(), None);
        assert!(health.since_last_sync().is_some());
    }
}
