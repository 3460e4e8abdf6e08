//! What the hall must do now.

use crate::Envelope;
use alloc::vec::Vec;
use quorate_types::{Entry, HardState, Index, Membership, NodeId, Position, Term};

/// All there is to do since it was last taken. Fields are independent of each other but for their order
/// within; nothing in `messages` waits for `append`: what does, comes in a later `Ready`, after its ack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// To be sent now. May be lost, doubled, reordered.
    pub messages: Vec<Envelope>,
    /// To be made durable, in the order handed out, each answered by `ack_append`.
    pub append: Option<Append>,
    /// To be applied, in order, each once.
    pub committed: Vec<Entry>,
    /// Reads whose index is known, or that failed.
    pub reads: Vec<ReadDone>,
    /// Spans wanted from the log on the card, for peers that are behind what memory holds (rule 6).
    pub fetches: Vec<Fetch>,
    /// Peers that are behind the log: they need an image.
    pub images: Vec<ImageWanted>,
}

/// Durable work: written in this order as one batch, then synced, then `ack_append(number)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Names it; rises by one.
    pub number: AppendNumber,
    /// Term and vote, if they changed. Precedes what follows (rule 3).
    pub hard_state: Option<HardState>,
    /// The membership newly committed, if there is one: what a start without image begins from. Written before
    /// the entries.
    pub membership: Option<Membership>,
    /// What happens to the log before the entries go to its end.
    pub change: LogChange,
    /// Entries, in order, following the log's end.
    pub entries: Vec<Entry>,
    /// Committed so far, as a hint for the next start.
    pub committed: Index,
}

/// Counts appends within one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AppendNumber(pub u64);

/// What happens to the log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogChange {
    /// Nothing.
    #[default]
    None,
    /// Entries after `last` are void (rule 3).
    Truncate {
        /// The log's last position from here on.
        last: Position,
        /// Term of the leader that has others there.
        leader_term: Term,
    },
    /// All entries are void; the log goes on after an image's position (rule 5).
    Reset {
        /// The image's position.
        position: Position,
    },
}

/// Names one read, chosen by the hall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// A read that may go on, or not. Each asked for is answered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDone {
    /// Which.
    pub id: ReadId,
    /// Once this index is applied here, the state is as new as when the read was asked for.
    pub outcome: Result<Index, ReadRefused>,
}

/// Why a read cannot be linearizable now; it may be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRefused {
    /// No leader is known.
    NoLeader,
    /// Leadership moved while it waited, or the leader lost its quorum.
    LeaderChanged,
    /// More reads wait than there is room for.
    Overloaded,
}

/// A span of the log wanted from the card: answered by `fetched` or `fetch_failed`, for the same peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// For whom.
    pub to: NodeId,
    /// Entries after this one; the term at it is needed too.
    pub after: Index,
    /// At most up to here.
    pub last: Index,
    /// Payload bytes, at least one entry.
    pub bytes_max: usize,
}

/// A peer needs an image: the hall sends its newest one (or makes one), and says `image_sent` or
/// `image_failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageWanted {
    /// For whom.
    pub to: NodeId,
    /// Entries after this are in memory or on the card here: an image at or beyond it does.
    pub at_least: Index,
}
