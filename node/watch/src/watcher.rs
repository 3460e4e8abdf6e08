//! One registration, and what its stream is told.

use alloc::{sync::Arc, vec::Vec};
use quorate_store::{Event, KeyRange};
use quorate_types::Revision;

/// One client stream; ids are never reused within a start of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One watcher within its stream, from 0; -1 on the wire speaks of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl WatchId {
    /// The wire's "all watchers of the stream", and "a watcher refused at creation".
    pub const ALL: WatchId = WatchId(-1);
}

/// What a client wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    /// The client's own id; none or zero: the stream counts on from 0, past ids in use, and gives none
    /// twice, as etcd does.
    pub id: Option<WatchId>,
    /// Which keys.
    pub range: KeyRange,
    /// First revision of interest; zero is from now on, less is refused as compacted (etcd does so
    /// since 3.5.24; before, it was created and then canceled).
    pub revision_start: i64,
    /// Events carry the state before.
    pub prev_kv: bool,
    /// Tell the revision now and then while nothing happens.
    pub progress_notify: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletions out.
    pub no_delete: bool,
    /// A long delivery may be split over several responses.
    pub fragment: bool,
}

/// What a stream is told, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The watcher is registered; the revision is the store's at that moment.
    Created {
        /// Its id.
        id: WatchId,
        /// For the header.
        revision: Revision,
    },
    /// The watcher has ended, or (with `WatchId::ALL`) was refused; then the api answers both
    /// `created` and `canceled`.
    Canceled {
        /// Its id.
        id: WatchId,
        /// For the header.
        revision: Revision,
        /// Why.
        reason: CancelReason,
    },
    /// Changes, whole revisions, rising.
    Events {
        /// Whose.
        id: WatchId,
        /// The store's revision when this was handed out, at least that of the last event.
        revision: Revision,
        /// The changes; shared between watchers that want the same.
        events: Arc<Vec<Event>>,
        /// Bytes to give back as credit once the client's connection took them.
        bytes: usize,
        /// Whether it may be split.
        fragment: bool,
    },
    /// Everything up to `revision` was delivered to this watcher (or to all of the stream).
    Progress {
        /// Whose.
        id: WatchId,
        /// The revision.
        revision: Revision,
    },
}

/// Why a watcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The client asked.
    Requested,
    /// It wanted revisions that compaction took; the store's compacted revision.
    Compacted(Revision),
    /// Its own id is taken in this stream.
    DuplicateId,
    /// The stream has `limits::WATCH_STREAM_WATCHER_COUNT_MAX` already.
    TooMany,
    /// An empty range: etcd's "mvcc: watcher range is empty" and refusal.
    EmptyRange,
}
