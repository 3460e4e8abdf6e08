//! Why a door was not opened: what the caller may do instead.

use core::fmt;
use quorate_types::NodeId;

/// Why a proposal was not appended. It left no trace, so it may be made again anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposeRefused {
    /// Another node leads, or none.
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over; the next leader will take it.
    HandingOver,
    /// Too much is not yet durable here, or not yet committed: `limits::UNPERSISTED_BYTES_MAX`.
    Full,
}

/// Why a membership was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipRefused {
    /// Another node leads, or none.
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    HandingOver,
    /// This leader has not committed an entry of its own term yet: soon.
    NotReady,
    /// Another change has not ended yet.
    ChangeInFlight,
    /// It was made from another membership than the one in force.
    Outdated,
    /// Ids not sorted, doubled, unknown, both voter and learner, or in no set.
    Malformed,
    /// No voter would be left.
    NoVoters,
    /// More than `limits::MEMBER_COUNT_MAX` members.
    TooManyMembers,
    /// Its members say more of themselves than `limits::MEMBERSHIP_BYTES_MAX` holds.
    TooLarge,
    /// Voters change only through a joint membership whose outgoing voters are today's.
    NotJoint,
    /// The same as the one in force.
    Unchanged,
}

/// Why leadership is not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferRefused {
    /// Another node leads, or none.
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// The target is this node.
    IsLeader,
    /// The target does not vote.
    NotVoter,
    /// The target has not answered for an election timeout.
    NotActive,
    /// Another hand-over is under way.
    HandingOver,
}

impl fmt::Display for ProposeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeRefused::NotLeader { leader } => not_leader(f, *leader),
            ProposeRefused::HandingOver => f.write_str("leadership is being handed over"),
            ProposeRefused::Full => f.write_str("too much is waiting for the card or the quorum"),
        }
    }
}

impl fmt::Display for MembershipRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipRefused::NotLeader { leader } => not_leader(f, *leader),
            MembershipRefused::HandingOver => f.write_str("leadership is being handed over"),
            MembershipRefused::NotReady => f.write_str("the leader is too new; try again"),
            MembershipRefused::ChangeInFlight => f.write_str("another membership change has not ended yet"),
            MembershipRefused::Outdated => f.write_str("the members have changed meanwhile; try again"),
            MembershipRefused::Malformed => f.write_str("the membership contradicts itself"),
            MembershipRefused::NoVoters => f.write_str("no voter would be left"),
            MembershipRefused::TooManyMembers => f.write_str("more members than a cluster may have"),
            MembershipRefused::TooLarge => {
                f.write_str("the members' names and addresses are too long together")
            }
            MembershipRefused::NotJoint => f.write_str("voters change through a joint membership only"),
            MembershipRefused::Unchanged => f.write_str("nothing would change"),
        }
    }
}

impl fmt::Display for TransferRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferRefused::NotLeader { leader } => not_leader(f, *leader),
            TransferRefused::IsLeader => f.write_str("the target leads already"),
            TransferRefused::NotVoter => f.write_str("the target is no voter"),
            TransferRefused::NotActive => f.write_str("the target does not answer"),
            TransferRefused::HandingOver => f.write_str("leadership is being handed over already"),
        }
    }
}

impl core::error::Error for ProposeRefused {}
impl core::error::Error for MembershipRefused {}
impl core::error::Error for TransferRefused {}

fn not_leader(f: &mut fmt::Formatter<'_>, leader: Option<NodeId>) -> fmt::Result {
    match leader {
        Some(leader) => write!(f, "this node does not lead; node {leader} does"),
        None => f.write_str("no node leads"),
    }
}
