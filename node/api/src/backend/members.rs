//! Who belongs to the cluster, as the api asks for it and sees it.

use super::Refusal;
use core::time::Duration;
use quorate_types::NodeId;

/// What an administrator may change about the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Out of the cluster, voter or learner.
    Remove(NodeId),
    /// A learner becomes a voter, by hand: the number of voters may then be even.
    Promote(NodeId),
    /// The voter that shall lead. To the leader itself: nothing to do.
    Transfer(NodeId),
    /// A member's peers find it elsewhere.
    Update {
        /// Which.
        id: NodeId,
        /// `host:port` each; replaces all.
        peer_addresses: Vec<String>,
    },
}

/// Why the members stay as they are. Nothing was changed, but for `Refused` with an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberRefusal {
    /// There is no such member.
    NotFound,
    /// Only a learner can be promoted.
    NotLearner,
    /// The learner is too far behind its leader to vote.
    LearnerNotReady,
    /// Those that live and vote afterwards would be no quorum.
    WouldLoseQuorum {
        /// Who does not answer, in a sentence for a person.
        reason: String,
    },
    /// Not a voter, or not caught up: it cannot lead.
    BadTransferee,
    /// Another change is not through yet; try again.
    ChangeUnderWay,
    /// As any other command.
    Refused(Refusal),
}

/// How a member's card does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CardState {
    /// Nobody here can tell: too little was written of late, or only the leader knows.
    #[default]
    Unknown,
    /// What is written is durable after that time: the median of late.
    Takes {
        /// In milliseconds, rounded up.
        ms: u16,
    },
    /// It has work, and makes none of it durable.
    StandsStill,
}

/// Another member as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Heard of within an election timeout. On a follower, which hears its leader only: none if unknown.
    pub is_active: Option<bool>,
    /// Log entries it is known not to have durable; only the leader knows, none elsewhere.
    pub lag_entries: Option<u64>,
    /// Receives the log without a vote.
    pub is_learner: bool,
    /// Votes.
    pub is_voter: bool,
    /// How its card does; only the leader knows.
    pub card: CardState,
    /// Where it was reached last, or would be dialled: `host:port`.
    pub address: String,
}

/// What a token shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteRequest {
    /// How long it may be used.
    pub ttl: Duration,
}

/// A token. The only time its secret is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// What `quorated --join` takes.
    pub token: String,
    /// Short hex of the invite's hash: what `quorate invite revoke` takes.
    pub id: String,
    /// How long it may be used.
    pub expires_in: Duration,
}

/// An invite as the cluster keeps it: without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteView {
    /// As [`Invite::id`].
    pub id: String,
    /// What is left of its time; zero once expired.
    pub expires_in: Duration,
    /// Key of the node that used it, in hex.
    pub used_by: Option<String>,
}
