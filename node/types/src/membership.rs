//! Who belongs to the cluster.

use crate::{NodeId, limits};
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

impl Member {
    /// What of this is more than a member may say of itself, in words; none if it is within bounds. Every member
    /// stands in every membership, and a membership in the head of every log segment and image.
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        let is_long =
            |texts: &[String]| texts.iter().any(|text| text.len() > limits::MEMBER_ADDRESS_BYTES_MAX);
        if self.name.len() > limits::MEMBER_NAME_BYTES_MAX {
            Some("the name is longer than 64 bytes")
        } else if self.peer_addresses.len() > limits::MEMBER_ADDRESS_COUNT_MAX {
            Some("there are more than 8 peer addresses")
        } else if self.client_urls.len() > limits::MEMBER_ADDRESS_COUNT_MAX {
            Some("there are more than 8 client URLs")
        } else if is_long(&self.peer_addresses) || is_long(&self.client_urls) {
            Some("an address is longer than 272 bytes")
        } else {
            None
        }
    }
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
    /// Counts the changes of this cluster's membership, the founder's is 1: of two memberships the one with the
    /// higher version is the newer. A node that joins is told a membership that stands later in the log than
    /// what it has of the log yet; by its version it stays in force until the log has come there.
    pub version: u64,
}

impl Membership {
    /// A cluster of one voter: its founder.
    #[must_use]
    pub fn founded_by(member: Member) -> Membership {
        let voters = alloc::vec![member.id];
        Membership {
            members: alloc::vec![member],
            voters,
            voters_outgoing: Vec::new(),
            learners: Vec::new(),
            version: 1,
        }
    }

    /// The member with that id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether that node belongs to the cluster, in whatever part.
    #[must_use]
    pub fn is_member(&self, id: NodeId) -> bool {
        self.member(id).is_some()
    }

    /// Whether that node votes: in a joint change, in either set.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// Whether one set of voters is being replaced by another, and both must agree.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether that node only learns.
    #[must_use]
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.learners.contains(&id)
    }

    /// The same with one more member, who learns; in place of what was known of it, if it is no voter.
    ///
    /// # Panics
    /// If it votes: a voter is not made a learner by joining.
    #[must_use]
    pub fn with_learner(mut self, member: Member) -> Membership {
        assert!(!self.is_voter(member.id), "a voter is not made a learner by joining");
        self.learners.retain(|id| *id != member.id);
        self.learners.insert(self.learners.partition_point(|id| *id < member.id), member.id);
        self.members.retain(|known| known.id != member.id);
        self.members.insert(self.members.partition_point(|known| known.id < member.id), member);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> Member {
        Member {
            id: NodeId(id),
            name: name.into(),
            peer_addresses: Vec::new(),
            client_urls: Vec::new(),
            key: PeerKey::default(),
            stays_learner: false,
        }
    }

    #[test]
    fn a_member_says_no_more_of_itself_than_a_log_head_holds() {
        let most = Member {
            name: "n".repeat(limits::MEMBER_NAME_BYTES_MAX),
            peer_addresses: alloc::vec!["a".repeat(limits::MEMBER_ADDRESS_BYTES_MAX); limits::MEMBER_ADDRESS_COUNT_MAX],
            client_urls: alloc::vec!["u".repeat(limits::MEMBER_ADDRESS_BYTES_MAX); limits::MEMBER_ADDRESS_COUNT_MAX],
            ..member(1, "")
        };
        assert_eq!(most.excess(), None);
        let mut more = most.clone();
        more.name.push('n');
        assert!(more.excess().is_some());
        let mut more = most.clone();
        more.peer_addresses.push("a".into());
        assert!(more.excess().is_some());
        let mut more = most;
        more.client_urls[3].push('u');
        assert!(more.excess().is_some());
    }

    #[test]
    fn learners_stand_in_order_and_once() {
        let mut membership = Membership::founded_by(member(5, "founder"));
        for (id, name) in [(9, "a"), (2, "b"), (7, "c"), (9, "again")] {
            membership = membership.with_learner(member(id, name));
        }
        assert_eq!(membership.learners, [2, 7, 9].map(NodeId));
        let ids: Vec<u64> = membership.members.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [2, 5, 7, 9]);
        assert_eq!(membership.member(NodeId(9)).map(|member| member.name.as_str()), Some("again"));
        assert!(membership.is_member(NodeId(2)) && !membership.is_member(NodeId(3)));
        assert!(membership.is_learner(NodeId(2)) && !membership.is_learner(NodeId(5)));
    }

    #[test]
    fn both_sets_vote_in_a_joint_change() {
        let mut membership = Membership::founded_by(member(5, "founder"));
        assert!(!membership.is_joint());
        membership.voters_outgoing = alloc::vec![NodeId(6)];
        assert!(membership.is_joint() && membership.is_voter(NodeId(5)) && membership.is_voter(NodeId(6)));
        assert!(!membership.is_voter(NodeId(7)));
    }
}
