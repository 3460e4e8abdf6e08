//! What the halls of two nodes say to each other: proposals and questions for the leader, and its answers.
//!
//! Carried by the peer room as bytes it does not look into. Variants are only ever appended. Numbers are
//! the asker's own; its incarnation comes back with them, so that an answer never meets a later start.

use quorate_types::{Index, LeaseId, Member, Membership, NodeId, Term};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Payload bytes of proposals in one message: one proposal may be larger and then goes alone.
pub const FORWARD_BYTES_MAX: usize = 256 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// To the leader of that term and to no other: append these.
    Propose {
        /// The leader's term, as the asker knows it.
        term: Term,
        /// Encoded commands; the leader stamps the time.
        payloads: Vec<ByteBuf>,
    },
    /// These were not appended: the receiver does not lead in that term, or hands over.
    NotTaken {
        /// The term they were meant for.
        term: Term,
        /// The asker's incarnation.
        incarnation: u64,
        /// The asker's numbers.
        numbers: Vec<u64>,
    },
    /// This one was not appended and shall not be tried again. Means nothing to a proposal that was given to
    /// another leader meanwhile: that one may append it.
    Refused {
        /// The term it was meant for.
        term: Term,
        /// The asker's incarnation.
        incarnation: u64,
        /// The asker's number.
        number: u64,
        /// Why.
        refusal: FarRefusal,
    },
    /// To the leader.
    Ask {
        /// The asker's incarnation.
        incarnation: u64,
        /// The asker's number.
        number: u64,
        /// What.
        question: Question,
    },
    /// From the leader.
    Answer {
        /// The asker's incarnation.
        incarnation: u64,
        /// The asker's number.
        number: u64,
        /// The answer.
        answer: Result<FarAnswer, FarRefusal>,
    },
    /// The members as committed where this comes from: told when a link comes up, and when they change. Who missed
    /// changes would else refuse a leader that joined since as a stranger, and never learn of them.
    Members(Membership),
}

/// What only the leader can answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Give this lease its full time again.
    KeepAlive(LeaseId),
    /// How long has it left?
    Remaining(LeaseId),
    /// Change who belongs.
    Change(Change),
    /// Take a new node in.
    Join(Joiner),
}

/// A change of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Out.
    Remove(NodeId),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// Leadership goes to that voter.
    Transfer(NodeId),
    /// A member says how it is reached and named now; its id stands in it.
    Describe(Member),
}

/// A node that has proved a token and wants to become a learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joiner {
    /// Hash of the invite's public key.
    pub invite: [u8; 32],
    /// As it describes itself; the id is chosen by the leader.
    pub member: Member,
}

/// A node has become a learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its id.
    pub node: NodeId,
    /// The members, it among them.
    pub membership: Membership,
    /// Where that stands in the log.
    pub index: Index,
}

/// The leader's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FarAnswer {
    /// To `KeepAlive`: the lease's time to live.
    Renewed {
        /// In seconds.
        ttl_seconds: i64,
    },
    /// To `Remaining`: milliseconds left; none if there is no such lease.
    Remaining(Option<u64>),
    /// To `Change`: the members after it.
    Changed(Membership),
    /// To `Join`.
    Joined(Joined),
}

/// Why the other node did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FarRefusal {
    /// It does not lead.
    NotLeader,
    /// Too much waits there.
    Overloaded,
    /// Its quota is used up.
    NoSpace,
    /// There is no such lease.
    LeaseNotFound,
    /// A change of members is refused.
    Member(FarMemberRefusal),
    /// A sentence for a person.
    Words(String),
    /// It stops.
    Stopping,
    /// The command is larger than an entry may be.
    TooLarge,
    /// A sentence for a person; the same may succeed a little later.
    NotNow(String),
}

/// Why a change of members is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FarMemberRefusal {
    /// No such member.
    NotFound,
    /// It is a voter already.
    NotLearner,
    /// It is behind.
    LearnerNotReady,
    /// The live members would be left without a quorum.
    WouldLoseQuorum(String),
    /// It cannot lead.
    BadTransferee,
    /// One change at a time.
    ChangeUnderWay,
}

impl Forward {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("plain values always encode into a growing vector")
    }

    /// From bytes a peer sent; none if they are not one whole message of a kind known here.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Forward> {
        match postcard::take_from_bytes(bytes) {
            Ok((forward, [])) => Some(forward),
            Ok(_) | Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_only() {
        let forward = Forward::Propose { term: Term(4), payloads: vec![ByteBuf::from(vec![1, 2, 3])] };
        let mut bytes = forward.encode();
        assert_eq!(Forward::decode(&bytes), Some(forward));
        assert_eq!(Forward::decode(&bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        assert_eq!(Forward::decode(&bytes), None);
        assert_eq!(Forward::decode(&[9; 40]), None);
    }
}
