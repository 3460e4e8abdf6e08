//! What a core is started with.

use alloc::{collections::BTreeMap, vec::Vec};
use quorate_types::{Entry, HardState, Index, Membership, NodeId, Position, Start};

/// Who this node is, and the seed of its timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// This life of it (rule 12).
    pub start: Start,
    /// Seed of the election timeouts; two nodes with one seed would campaign at once, so random.
    pub seed: u64,
}

/// What recovery made durable, and what it knows beside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Term and vote as last made durable.
    pub hard_state: HardState,
    /// The newest committed membership: the image's or the log's record. Membership entries in `entries` are
    /// in force on top of it. Empty for a node that does not know its cluster yet.
    pub membership: Membership,
    /// What stands right before `entries`; at or below `applied`.
    pub base: Position,
    /// The log after `base`: contiguous, all durable, each Membership entry one that `decode_membership` takes.
    pub entries: Vec<Entry>,
    /// Committed before the stop, as a hint; clamped to what is there.
    pub committed: Index,
    /// As far as the image goes that the store was loaded from.
    pub applied: Index,
    /// Starts of peers seen before (rule 12).
    pub seen: BTreeMap<NodeId, Start>,
    /// Starts of this node before this one, on this card; at most `limits::EARLIER_STARTS_COUNT_MAX` are of use.
    pub earlier: Vec<Start>,
}
