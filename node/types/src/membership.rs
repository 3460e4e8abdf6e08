//! Who belongs to the cluster.

use crate::NodeId;
use alloc::{string::String, vec::Vec};
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
