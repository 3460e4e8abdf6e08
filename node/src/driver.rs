//! The one loop: drain the inbox, step consensus, hand out what is ready, apply, answer.
//!
//! One thread owns consensus, store, watch hub and leases; nothing here waits for a disk, a socket or a
//! log line. It moves things between rooms and judges none of them.

mod apply;
mod export;
mod image;
mod lease;
mod propose;
mod read;
mod turn;

pub use image::ImageTrigger;

use crate::auto_compact::AutoCompactor;
use crate::background::Job;
use crate::clock::Clock;
use crate::inbox::{ExportId, Reply};
use crate::metrics::Metrics;
use crate::pending::{OutcomeReply, Pending};
use crate::solo::Solo;
use crate::status::{LastWords, StatusSource};
use crate::wal_worker::WalRequest;
use core::time::Duration;
use quorate_api::{Answer, ReadOutcome, Refusal};
use quorate_store::{Export, Hasher, LeaseClock, Outcome, Store};
use quorate_types::{Identity, LeaseId, Term};
use quorate_watch::{Delivery, Hub, StreamId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;

/// How long a client waits at most: etcd's five seconds and two election timeouts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

type ReadReply = Reply<Answer<ReadOutcome>>;

/// What the driver is made of.
pub struct Driver {
    identity: Identity,
    incarnation: u64,
    clock: Clock,
    core: Solo,
    /// Term of the entry applied last.
    applied_term: Term,
    store: Store,
    hub: Hub,
    leases: LeaseClock,
    pending: Pending,
    quota_bytes: u64,
    /// Logical growth of what is in the log and not yet applied: the quota counts it too.
    growth_unapplied: u64,
    /// Whether an alarm for space is on its way, so that a burst of refusals raises one.
    is_raising_alarm: bool,
    auto_compactor: AutoCompactor,
    /// Compactions in force whose space is not yet free.
    sweeping: Vec<(OutcomeReply, Answer<Outcome>)>,
    /// Bytes freed since memory was last given back.
    bytes_swept: u64,
    /// Leases whose expiry is in the log: their keep-alives wait for it (protocol.md rule 16).
    expiring: BTreeMap<LeaseId, Vec<Reply<Answer<i64>>>>,
    streams: BTreeMap<StreamId, UnboundedSender<Delivery>>,
    exports: BTreeMap<ExportId, Export>,
    hashing: VecDeque<(Hasher, ReadReply)>,
    export_last: ExportId,
    image: ImageTrigger,
    wal: Sender<WalRequest>,
    background: Sender<Job>,
    status: StatusSource,
    last_words: LastWords,
    metrics: Metrics,
    phase: Phase,
    tick_next: Instant,
    /// Whether the last tick came late.
    was_stalled: bool,
    progress_next: Duration,
}

/// How far this start of the node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// At work.
    Running,
    /// Asked to stop: nothing new is taken, what is under way ends.
    Stopping,
    /// The wal thread has ended.
    Stopped,
    /// The card failed.
    Failed,
}

/// How the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverEnd {
    /// It was asked to.
    Stopped,
    /// The card failed; its last words are said.
    CardFailed,
}

/// What a driver starts from.
pub struct DriverParts {
    /// Who this is.
    pub identity: Identity,
    /// Incarnation of this start.
    pub incarnation: u64,
    /// The clock, gone on from the log's newest time.
    pub clock: Clock,
    /// Consensus, restored.
    pub core: Solo,
    /// Term at the store's applied index.
    pub applied_term: Term,
    /// The store, as the image had it.
    pub store: Store,
    /// The quota.
    pub quota_bytes: u64,
    /// When to compact by itself.
    pub auto_compactor: AutoCompactor,
    /// When to write the next image.
    pub image: ImageTrigger,
    /// The wal thread.
    pub wal: Sender<WalRequest>,
    /// The background thread.
    pub background: Sender<Job>,
    /// Where the node is seen.
    pub status: StatusSource,
    /// Where last words go.
    pub last_words: LastWords,
    /// Counters.
    pub metrics: Metrics,
}

impl Driver {
    /// A driver that has applied everything recovery found.
    #[must_use]
    pub fn new(parts: DriverParts) -> Driver {
        let now = parts.clock.now();
        let mut driver = Driver {
            identity: parts.identity,
            incarnation: parts.incarnation,
            clock: parts.clock,
            core: parts.core,
            applied_term: parts.applied_term,
            hub: Hub::new(parts.store.revision()),
            store: parts.store,
            leases: LeaseClock::default(),
            pending: Pending::default(),
            quota_bytes: parts.quota_bytes,
            growth_unapplied: 0,
            is_raising_alarm: false,
            auto_compactor: parts.auto_compactor,
            sweeping: Vec::new(),
            bytes_swept: 0,
            expiring: BTreeMap::new(),
            streams: BTreeMap::new(),
            exports: BTreeMap::new(),
            hashing: VecDeque::new(),
            export_last: ExportId(0),
            image: parts.image,
            wal: parts.wal,
            background: parts.background,
            status: parts.status,
            last_words: parts.last_words,
            metrics: parts.metrics,
            phase: Phase::Running,
            tick_next: now,
            was_stalled: false,
            progress_next: Duration::ZERO,
        };
        driver.replay();
        driver
    }

    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { revision: self.store.revision(), term: self.core.hard_state().term.0, value }
    }

    /// Why new work is refused, if it is.
    fn refusal(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Running => None,
            Phase::Stopping | Phase::Stopped | Phase::Failed => Some(Refusal::Stopping),
        }
    }
}
