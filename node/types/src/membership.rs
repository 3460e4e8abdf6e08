//! Who belongs to the cluster.

use crate::NodeId;
use alloc::{string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};

/// One node as the others know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Name for people; need not be unique.
    pub name: String,
    /// Where its peers reach it: `host:port`, names are resolved at every dial.
    pub peer_addresses: Vec<String>,
    /// What it tells clients: URLs, as etcd's member list has them.
    pub client_urls: Vec<String>,
    /// What it proves itself with to its peers (RFC 7250).
    pub key: PeerKey,
    /// Never becomes a voter by itself.
    pub stays_learner: bool,
}

/// An Ed25519 public key: 32 bytes. All zeros for a node that has no peers yet and was never asked for one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PeerKey(pub [u8; 32]);

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The members and what each counts for (protocol.md rule 11).
///
/// `voters_outgoing` is empty outside a joint change; during one, both sets must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Membership {
    /// Everybody, ordered by id.
    pub members: Vec<Member>,
    /// Ids that vote, ordered.
    pub voters: Vec<NodeId>,
    /// The set being left in a joint change, ordered.
    pub voters_outgoing: Vec<NodeId>,
    /// Ids that receive the log and do not vote, ordered.
    pub learners: Vec<NodeId>,
}

impl Membership {
    /// A cluster of one voter: its founder.
    #[must_use]
    pub fn founded_by(member: Member) -> Membership {
        let voters = alloc::vec![member.id];
        Membership { members: alloc::vec![member], voters, voters_outgoing: Vec::new(), learners: Vec::new() }
    }

    /// The member with that id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether that node only learns.
    #[must_use]
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.learners.contains(&id)
    }
}
