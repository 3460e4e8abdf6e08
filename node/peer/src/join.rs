//! Joining: what a new node says, what it is told.

pub(crate) mod answer;
pub(crate) mod knock;
pub(crate) mod proof;

use core::fmt;
use quorate_types::{ClusterId, Index, Membership, NodeId, PeerKey};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// What a new node tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinDetails {
    /// Name for people.
    pub name: String,
    /// Where its peers shall reach it: `host:port`.
    pub peer_addresses: Vec<String>,
    /// What it tells clients: URLs.
    pub client_urls: Vec<String>,
    /// Never becomes a voter by itself.
    pub stays_learner: bool,
}

/// A knock whose proof was verified: the joiner holds the secret of the invite and its own key.
/// Serializable, as one hall passes it to the leader's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Names the invite: SHA-256 of the key that proved it.
    pub invite_hash: [u8; 32],
    /// The joiner's key, proven.
    pub key: PeerKey,
    /// Where the knock came from, as this node saw it.
    pub seen_at: IpAddr,
    /// Name for people; not checked.
    pub name: String,
    /// Where the joiner says it is reached; to be dialled back before it is believed.
    pub peer_addresses: Vec<String>,
    /// What it tells clients; not checked.
    pub client_urls: Vec<String>,
    /// Never becomes a voter by itself.
    pub stays_learner: bool,
}

/// The joiner is in: as a learner, in the membership committed at `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// Everybody, itself included.
    pub membership: Membership,
    /// Index of that membership.
    pub at: Index,
}

/// Why a joiner is not let in. Words for people stand in `Display`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// No such invite: never made, revoked, or swept after its time.
    UnknownInvite,
    /// The invite's time is over.
    Expired,
    /// Another node used it.
    Used,
    /// The token is of another cluster.
    OtherCluster,
    /// The joiner was not reached at what it advertises; what was tried.
    NotReachedBack(String),
    /// The cluster has as many members as it may have.
    Full,
    /// No leader now, or a membership change in flight: worth another try.
    NotNow(String),
    /// Anything else, in words.
    Other(String),
}

impl JoinRefusal {
    /// Whether the same knock may succeed a little later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            JoinRefusal::NotNow(_) => true,
            JoinRefusal::UnknownInvite
            | JoinRefusal::Expired
            | JoinRefusal::Used
            | JoinRefusal::OtherCluster
            | JoinRefusal::NotReachedBack(_)
            | JoinRefusal::Full
            | JoinRefusal::Other(_) => false,
        }
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinRefusal::UnknownInvite => {
                f.write_str("the cluster knows no such invite: it was revoked or is long over")
            }
            JoinRefusal::Expired => {
                f.write_str("the token's time is over: make a new one with `quorate invite`")
            }
            JoinRefusal::Used => {
                f.write_str("the token was used by another node: make a new one with `quorate invite`")
            }
            JoinRefusal::OtherCluster => f.write_str("the token is of another cluster"),
            JoinRefusal::NotReachedBack(tried) => {
                write!(f, "the leader did not reach this node at what it advertises: {tried}")
            }
            JoinRefusal::Full => f.write_str("the cluster has as many members as it may have"),
            JoinRefusal::NotNow(why) => write!(f, "not now: {why}"),
            JoinRefusal::Other(why) => f.write_str(why),
        }
    }
}

/// Longest a joiner waits for the hall's answer: a dial back, a proposal on the slowest card, and room.
pub const JOIN_ANSWER_MAX: Duration = Duration::from_secs(60);
