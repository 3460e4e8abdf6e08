//! Time and revisions, as the cluster counts them.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Milliseconds the cluster has lived, stamped into commands by the leader: max(last in the log, own).
///
/// It never falls, is no wall clock, and boards without a clock have it too (protocol.md rule 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// This time and `ms` more, stopping at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> ClusterTime {
        ClusterTime(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`, zero if that is later.
    #[must_use]
    pub const fn ms_since(self, earlier: ClusterTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// etcd's store-wide counter: 1 for the empty store, one more for each command that changes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Revision(pub i64);

impl Revision {
    /// Revision of the empty store.
    pub const FIRST: Revision = Revision(1);

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
