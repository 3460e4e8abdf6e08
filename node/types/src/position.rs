//! Where in the log.

use crate::NodeId;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Period of at most one leader. Zero stands before the first election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Term(pub u64);

/// Position in the log; the first entry stands at 1, zero is "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Index(pub u64);

/// An index with the term of the entry there; ordered by term, then index, as Raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// Term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// What must survive a power cut before a vote or an answer in a term may leave the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HardState {
    /// Newest term seen.
    pub term: Term,
    /// Vote given in that term.
    pub vote: Option<NodeId>,
}

impl Index {
    /// The index after this one.
    ///
    /// # Panics
    /// After 2^64 - 1 entries, which no card lives to see.
    #[must_use]
    pub const fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}
