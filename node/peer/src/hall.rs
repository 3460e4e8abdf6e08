//! What the hall does with what peers say. The room moves; the hall judges.

use crate::{ImageOffer, ImageSink, JoinAnswer, JoinRefusal, JoinRequest};
use quorate_raft::Message;
use quorate_types::{Index, NodeId, Start};
use std::future::Future;

/// The hall's side of the room. None of these may block: they run on the async worker. A message or a forward
/// for which the hall has no room is dropped by it; raft sends again, and a forward's owner asks again.
pub trait Hall: Clone + Send + Sync + 'static {
    /// A peer's core says something. Who it is was proven by its key.
    fn message(&self, from: NodeId, message: Message);

    /// A peer's hall says something: at most `FORWARD_BYTES_MAX` bytes that only halls understand.
    fn forward(&self, from: NodeId, bytes: Vec<u8>);

    /// Somebody who proved the secret of `invite_hash` wants in. The answer may take as long as
    /// `JOIN_ANSWER_MAX`; when the joiner goes away the future is dropped.
    fn join(&self, request: JoinRequest) -> impl Future<Output = Result<JoinAnswer, JoinRefusal>> + Send;

    /// A peer wants to send an image. None: not wanted. Otherwise where its bytes go, and from which on. A peer
    /// whose link broke offers again, perhaps before the intake of the cut transfer has seen its end: the
    /// answer may wait for that.
    fn image_begins(&self, from: NodeId, offer: ImageOffer)
    -> impl Future<Output = Option<ImageSink>> + Send;

    /// A new link with that member leads to this life of it; `earlier` are the starts before, oldest first. Told
    /// before any message that comes over the link, whoever dialled it (protocol.md rule 12).
    fn greeted(&self, node: NodeId, start: Start, earlier: Vec<Start>);

    /// The link on which this node sends to that peer is up, or down: for status, not for judging liveness.
    fn reachable(&self, node: NodeId, is_up: bool);

    /// A member does not listen to this node. Told at each dial, so again and again.
    fn refused(&self, by: NodeId, refusal: Refusal);
}

/// Why a member refuses a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its membership, as of that index and version, does not hold this node's key: newer than what this node knows, it
    /// was removed; older, the member is behind and will learn.
    NotAMember {
        /// Index of the membership it judged by.
        at: Index,
        /// Its version: of two memberships the one with the higher is the newer. Zero from a node that is
        /// still joining and knows none.
        version: u64,
    },
    /// Another cluster, another protocol version, another node id than the key's: its words.
    Words(String),
}
