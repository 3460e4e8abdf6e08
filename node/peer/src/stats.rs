//! What the room tells about itself: plain counters, read for status and metrics.

use quorate_types::{Index, NodeId};
use std::net::SocketAddr;
use std::time::Duration;

/// The room at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeersStats {
    /// Index of the membership believed.
    pub membership_at: Index,
    /// Other members, by id.
    pub peers: Vec<PeerStats>,
    /// Links refused because their key is no member's.
    pub strangers_refused: u64,
    /// Knocks turned away: too many, too slow, or without proof.
    pub knocks_refused: u64,
    /// Connections ended because of bytes that mean nothing.
    pub malformed: u64,
}

/// One peer at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// Who.
    pub node: NodeId,
    /// Whether the link on which this node sends is up.
    pub is_up: bool,
    /// Whether the peer's own link to this node is up.
    pub is_heard: bool,
    /// Where the outgoing link leads.
    pub address: Option<SocketAddr>,
    /// Round trip as QUIC measures it.
    pub round_trip: Option<Duration>,
    /// Messages handed to the link.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
    /// Messages dropped: the queue was full, or the peer down.
    pub dropped: u64,
    /// Forwards refused for the same reasons.
    pub forwards_refused: u64,
    /// Messages waiting.
    pub queued_count: usize,
    /// Bytes waiting; payloads of appends are shared with the log.
    pub queued_bytes: usize,
    /// Dials that did not lead to a link since the last one that did.
    pub dials_failed: u64,
    /// Why the last of them failed.
    pub last_failure: Option<String>,
    /// Why the last link that was up ended.
    pub last_end: Option<String>,
    /// The image on its way to it.
    pub image: Option<ImageProgress>,
}

/// How far an image on its way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageProgress {
    /// Bytes handed to the link, those the receiver had before included.
    pub sent_bytes: u64,
    /// Bytes of the image.
    pub total_bytes: u64,
}
