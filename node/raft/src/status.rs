//! What can be seen from outside.

use crate::Card;
use quorate_types::{Index, NodeId};

/// What this node does in its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected; its term has not risen.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// How far a peer is, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer.
    pub node: NodeId,
    /// Matches the leader's log up to here, in its memory.
    pub verified: Index,
    /// Up to here on its card.
    pub persisted: Index,
    /// Answered within an election timeout.
    pub is_active: bool,
    /// Has kept up for `timing::CAUGHT_UP_TICKS`.
    pub is_caught_up: bool,
    /// How its card does.
    pub card: Card,
    /// What the leader does about it.
    pub state: PeerState,
}

/// How a peer is being fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Where its log meets the leader's is not known: one append at a time.
    Probe,
    /// Appends flow, as many bytes as may be in flight.
    Stream,
    /// Waits for a span from the log on the card.
    Fetch,
    /// Needs an image, or is being sent one.
    Image,
}
