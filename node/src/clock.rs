//! The node's only clock: ticks for the driver, cluster time for the log, and how long a sync took.

use core::time::Duration;
use quorate_types::ClusterTime;
use std::time::Instant;

/// Time between two ticks of the driver: etcd's default heartbeat interval.
pub const TICK: Duration = Duration::from_millis(100);

/// Monotonic time, started from the newest cluster time in the log. The wall clock is never asked: a
/// board may have none, and it may jump.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    base: ClusterTime,
}

impl Clock {
    /// A clock that goes on from `base`, the newest time the log or the image knows.
    #[must_use]
    pub fn from_base(base: ClusterTime) -> Clock {
        Clock { start: Instant::now(), base }
    }

    /// Cluster time now: never below `base`, never falls.
    #[must_use]
    pub fn cluster_time(&self) -> ClusterTime {
        self.base.plus_ms(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Time since this start of the node.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// The moment, for measuring how long something took.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}
