//! Why a connection is ended, said in its close: a code, an index where one belongs to it, and words.

use crate::hall::Refusal;
use quinn::{Connection, ConnectionError, VarInt};
use quorate_types::Index;

/// What the closing end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The key is no member's, as of the membership of that index and version.
    NotAMember(Index, u64),
    /// Another cluster, version or node than expected; in words.
    Mismatch(String),
    /// A newer connection takes its place.
    Superseded,
    /// Bytes that mean nothing; in words.
    Malformed(String),
    /// Too much at once; try later.
    Busy,
    /// The node stops, or is done with this connection.
    Done,
    /// The other end says something this release does not know.
    Unknown(u64),
}

impl Goodbye {
    pub(crate) fn say(&self, connection: &Connection) {
        let none = (Index(0), 0);
        let (code, (index, version), words) = match self {
            Goodbye::Done | Goodbye::Unknown(_) => (0, none, ""),
            Goodbye::NotAMember(at, version) => (1, (*at, *version), "no member"),
            Goodbye::Mismatch(words) => (2, none, words.as_str()),
            Goodbye::Superseded => (3, none, "a newer connection takes its place"),
            Goodbye::Malformed(words) => (4, none, words.as_str()),
            Goodbye::Busy => (5, none, "too many at once: try again later"),
        };
        let reason = [&index.0.to_le_bytes(), version.to_le_bytes().as_slice(), words.as_bytes()].concat();
        connection.close(VarInt::from_u32(code), &reason);
    }

    /// What the other end said, if it was it that closed.
    pub(crate) fn heard(error: &ConnectionError) -> Option<Goodbye> {
        let ConnectionError::ApplicationClosed(close) = error else { return None };
        let number = |at: usize| {
            let bytes = close.reason.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let words = close.reason.get(16..).unwrap_or(&[]);
        // QUIC bounds a reason by one packet.
        let words = || String::from_utf8_lossy(words).into_owned();
        Some(match close.error_code.into_inner() {
            0 => Goodbye::Done,
            1 => Goodbye::NotAMember(Index(number(0)), number(8)),
            2 => Goodbye::Mismatch(words()),
            3 => Goodbye::Superseded,
            4 => Goodbye::Malformed(words()),
            5 => Goodbye::Busy,
            other => Goodbye::Unknown(other),
        })
    }

    /// What of it the hall must know: that this node is not listened to.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Goodbye::NotAMember(at, version) => Some(Refusal::NotAMember { at: *at, version: *version }),
            Goodbye::Mismatch(words) | Goodbye::Malformed(words) => Some(Refusal::Words(words.clone())),
            Goodbye::Superseded | Goodbye::Busy | Goodbye::Done | Goodbye::Unknown(_) => None,
        }
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Goodbye::NotAMember(at, _) => format!("this node is no member there, as of index {at}"),
            Goodbye::Mismatch(words) | Goodbye::Malformed(words) => words.clone(),
            Goodbye::Superseded => "a newer connection takes its place".into(),
            Goodbye::Busy => "it is busy, try again later".into(),
            Goodbye::Done => "it ended the connection".into(),
            Goodbye::Unknown(code) => format!("it ended the connection with code {code}"),
        }
    }
}
