//! What goes wrong at the room's door, told apart by who is at fault.

use crate::JoinRefusal;
use core::fmt;
use quorate_types::PeerKey;
use std::io;

/// Why the room did not open.
#[derive(Debug)]
pub enum PeerError {
    /// The socket does not do.
    Socket(io::Error),
    /// TLS does not take the key or the settings.
    Tls(String),
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Socket(error) => write!(f, "the peer socket does not work: {error}"),
            PeerError::Tls(why) => write!(f, "the node's key or TLS settings do not work: {why}"),
        }
    }
}

impl core::error::Error for PeerError {}

/// Why one address did not lead to the node asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialFailure {
    /// The name has no address now.
    NotResolved(String),
    /// Nothing came back at all.
    NoAnswer,
    /// Somebody answers who has another key.
    OtherKey(PeerKey),
    /// Something answers that does not speak this protocol.
    NotQuorate,
    /// The node asked for answers and refuses; its words.
    Refused(String),
    /// The connection broke.
    Broken(String),
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialFailure::NotResolved(why) => write!(f, "the name is not resolved ({why})"),
            DialFailure::NoAnswer => f.write_str("nothing answers"),
            DialFailure::OtherKey(key) => write!(f, "another node answers, with key {key}"),
            DialFailure::NotQuorate => f.write_str("what answers there is no peer port of Quorate"),
            DialFailure::Refused(words) => write!(f, "refused: {words}"),
            DialFailure::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

/// None of the addresses led to the node asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialError {
    /// Each address tried, as it was given, and why not; empty if there was none to try.
    pub tried: Vec<(String, DialFailure)>,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return f.write_str("there is no address to dial");
        }
        for (at, (address, failure)) in self.tried.iter().enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}{address}: {failure}")?;
        }
        Ok(())
    }
}

impl core::error::Error for DialError {}

/// Why a node did not join. A sentence for people each.
#[derive(Debug)]
pub enum JoinError {
    /// The room did not open.
    Room(PeerError),
    /// No address of the token resolves.
    NotResolved(DialError),
    /// Nothing answered at any address.
    NoAnswer {
        /// What was dialled.
        addresses: Vec<String>,
    },
    /// Somebody else answers at the token's addresses.
    OtherKey(DialError),
    /// The issuer was not reached, for mixed reasons.
    NotReached(DialError),
    /// The cluster said no.
    Refused(JoinRefusal),
    /// The issuer speaks another version, or is too busy to listen; its words.
    TurnedAway(String),
    /// The issuer went away before it answered: it may have let this node in, the same token may be tried again.
    Broken(String),
}

impl JoinError {
    /// Whether another try with the same token may succeed without anybody doing anything.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            JoinError::Refused(refusal) => refusal.is_passing(),
            JoinError::TurnedAway(_) | JoinError::Broken(_) => true,
            JoinError::Room(_)
            | JoinError::NotResolved(_)
            | JoinError::NoAnswer { .. }
            | JoinError::OtherKey(_)
            | JoinError::NotReached(_) => false,
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Room(error) => error.fmt(f),
            JoinError::NotResolved(tried) => write!(f, "the token's addresses do not resolve here: {tried}"),
            JoinError::NoAnswer { addresses } => write!(
                f,
                "no answer at all from {}: is that node up, and is UDP {} blocked on the way?",
                addresses.join(", "),
                ports(addresses)
            ),
            JoinError::OtherKey(tried) => {
                write!(f, "who answers at the token's address did not give the token: {tried}")
            }
            JoinError::NotReached(tried) => {
                write!(f, "the node that gave the token was not reached: {tried}")
            }
            JoinError::Refused(refusal) => write!(f, "the cluster did not let this node in: {refusal}"),
            JoinError::TurnedAway(words) => {
                write!(f, "the node that gave the token does not listen: {words}")
            }
            JoinError::Broken(why) => {
                write!(
                    f,
                    "the node that gave the token went away before it answered ({why}): try the token again"
                )
            }
        }
    }
}

impl core::error::Error for JoinError {}

/// The ports of those addresses, each once, for a person who looks at a firewall.
fn ports(addresses: &[String]) -> String {
    let mut ports: Vec<&str> =
        addresses.iter().filter_map(|address| address.rsplit_once(':')).map(|(_, port)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.join(", ")
}
