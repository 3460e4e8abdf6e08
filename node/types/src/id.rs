//! Who is who.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Identity of a cluster: random, chosen once by the node that founded it. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// Identity of a node in its cluster; etcd's clients know it as the member id. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// Client lease, as etcd counts them: positive on the wire, zero means "no lease".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The wire's "no lease".
    pub const NONE: LeaseId = LeaseId(0);

    /// Whether this names a lease at all.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// Which node of which cluster wrote something. Stands in every segment header and image head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
}

/// One life of a node's process on its folder (protocol.md rule 12).
///
/// `count` rises by one at each start; `incarnation` is random. Two folders copied from one card share a
/// count and differ in the incarnation of the next start: that is how a clone shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Starts so far, the first is 1.
    pub count: u64,
    /// Random for each start.
    pub incarnation: u64,
}

/// Names one proposal for ever: the start makes it unique across restarts and cloned cards (rule 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalId {
    /// Node that took the proposal from a client.
    pub node: NodeId,
    /// Incarnation of that node's start.
    pub incarnation: u64,
    /// Number within the start, from 1.
    pub number: u64,
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {} node {}", self.cluster, self.node)
    }
}
