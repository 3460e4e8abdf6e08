//! What one node's core says to another's. One struct per kind, one enum; peers may say anything, so
//! nothing here is believed before it is checked.

use crate::Card;
use alloc::vec::Vec;
use quorate_types::{Entry, Index, NodeId, Position, Start, Term};

/// A message and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The receiver.
    pub to: NodeId,
    /// What is said.
    pub message: Message,
}

/// A message as the receiver gets it. Who sent it is what the link proved, not what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender's life (rule 12): a lower count, or the same count with another incarnation, is a clone
    /// or a restored card.
    pub start: Start,
    /// The sender's term; in pre-votes and their grants the term that would be campaigned for.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What can be said. What each kind waits for is the table in ARCHITECTURE.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? Changes nothing anywhere.
    PreVoteRequest(VoteRequest),
    /// An answer to it.
    PreVoteAnswer {
        /// Yes.
        granted: bool,
    },
    /// A vote is asked for; own term and vote are durable.
    VoteRequest(VoteRequest),
    /// A vote; if granted, it is durable.
    VoteAnswer {
        /// Yes.
        granted: bool,
    },
    /// The leader lives.
    Heartbeat(Heartbeat),
    /// The sender has seen no higher term (rule 9).
    HeartbeatAnswer(HeartbeatAnswer),
    /// Entries, or none to probe.
    AppendEntries(AppendEntries),
    /// How far they were taken, or that they do not fit.
    AppendAnswer(AppendAnswer),
    /// A follower wants to read: what must be applied before it may?
    ReadRequest {
        /// The follower's number for it.
        number: u64,
    },
    /// The answer, after a round with the quorum that began later than the request.
    ReadAnswer {
        /// The follower's number.
        number: u64,
        /// Apply up to here, then read; none if this node could not confirm that it leads.
        index: Option<Index>,
    },
    /// Campaign at once: a planned hand-over to the receiver (Raft thesis 3.10).
    CampaignNow,
    /// The receiver's start is older than one seen before, or forked (rule 12): it is not listened to.
    StaleStart {
        /// What was seen of it.
        seen: Start,
    },
}

/// Asks for a vote or pre-vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteRequest {
    /// End of the candidate's log.
    pub last: Position,
    /// The leader asked for this: followers that hear it do not hold back (rule 10).
    pub is_hand_over: bool,
}

/// Sent by a leader every few ticks; never waits for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Committed by the leader; the follower takes it as far as it verified its log (rule 8).
    pub committed: Index,
    /// Counts the leader's rounds within its term; answered back.
    pub round: u64,
}

/// Answers a heartbeat at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// The round answered.
    pub round: u64,
    /// As far as the log in memory was matched against this leader in this term. Volatile: guides sending.
    pub verified: Index,
    /// As far as that is durable; zero while the answerer's term is not (rule 9).
    pub persisted: Index,
    /// How the answerer's card does (rule 7).
    pub card: Card,
}

/// Entries that follow `previous`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendEntries {
    /// What must stand right before them.
    pub previous: Position,
    /// In order, without a gap, at most `limits::APPEND_BYTES_MAX` of payload unless there is only one.
    pub entries: Vec<Entry>,
    /// Committed by the leader.
    pub committed: Index,
}

/// Answers an append: at once, and again when more of it has become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendAnswer {
    /// The log matches the leader's.
    Taken {
        /// Up to here, in memory.
        verified: Index,
        /// Up to here durable; zero while the answerer's term is not.
        persisted: Index,
    },
    /// There is something else, or nothing, at `previous`.
    Rejected {
        /// The index of `previous` in the append.
        previous: Index,
        /// Where the leader may try next: no entry of the follower's beyond it can match (thesis 3.5 and the
        /// fast back-off etcd does).
        hint: Position,
    },
    /// Too much in memory is not durable yet: sent again later, heartbeats go on (rule 13).
    Full,
}
