//! The one loop: drain the inbox, step consensus, hand out what is ready, apply, answer.
//!
//! One thread owns consensus, store, watch hub and leases; nothing here waits for a disk, a socket or a
//! log line. It moves things between rooms and judges none of them.

mod answer;
mod apply;
mod ask;
mod export;
mod follow;
mod give_back;
mod image;
mod install;
mod join;
mod lease;
mod member;
mod propose;
mod read;
mod turn;

pub use image::ImageTrigger;

use crate::auto_compact::AutoCompactor;
use crate::background::Job;
use crate::card_pace::CardPace;
use crate::clock::Clock;
use crate::forward::Forward;
use crate::inbox::{ExportId, Reply};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::pending::{OutcomeReply, Pending};
use crate::status::{LastWords, StatusSource};
use crate::wal_worker::WalRequest;
use answer::Answerer;
use ask::Asks;
use core::time::Duration;
use give_back::GiveBack;
use join::Joins;
use member::Changing;
use quorate_api::{Answer, ReadOutcome, Refusal};
use quorate_raft::Raft;
use quorate_store::{Export, Hasher, LeaseClock, Outcome, Store};
use quorate_types::{Identity, LeaseId, Member, NodeId, Position, Revision, Start, Term};
use quorate_watch::{Delivery, Hub, StreamId};
use read::Reads;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::UnboundedSender;

/// How long a client waits at most: etcd's five seconds and two election timeouts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

type ReadReply = Reply<Answer<ReadOutcome>>;

/// The driver: what it is given, and what it has in work.
pub struct Driver {
    /// Who this is.
    pub identity: Identity,
    /// Incarnation of this start.
    pub incarnation: u64,
    /// How this node wants to be known now: it tells the leader when the membership says otherwise.
    pub described: Member,
    /// The clock, gone on from the log's newest time.
    pub clock: Clock,
    /// Consensus, restored.
    pub core: Raft,
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
    /// The other nodes.
    pub links: Box<dyn Links>,
    /// Where the node is seen.
    pub status: StatusSource,
    /// Where last words go.
    pub last_words: LastWords,
    /// Counters.
    pub metrics: Metrics,
    /// What is under way.
    pub work: Work,
}

/// What the driver has in work; a start begins with nothing.
pub struct Work {
    hub: Hub,
    leases: LeaseClock,
    /// Whether the leases have their full time in this leadership: from its first entry on.
    leases_run: bool,
    pending: Pending,
    asks: Asks,
    reads: Reads,
    /// Messages to other halls gathered in this turn.
    forwards: BTreeMap<NodeId, Vec<Forward>>,
    /// The leader, and its term, that did not take what it was given a moment ago.
    held_from: Option<(Option<NodeId>, Term)>,
    /// Logical growth of what this leader has in the log and not yet applied: the quota counts it too.
    growth_unapplied: u64,
    /// Whether an alarm for space is on its way, so that a burst of refusals raises one.
    is_raising_alarm: bool,
    /// Compactions in force whose space is not yet free.
    sweeping: Vec<(OutcomeReply, Answer<Outcome>)>,
    give_back: GiveBack,
    /// Leases whose expiry is in the log: their keep-alives wait for it (protocol.md rule 16).
    expiring: BTreeMap<LeaseId, Vec<Answerer>>,
    changing: Option<Changing>,
    joins: Joins,
    streams: BTreeMap<StreamId, UnboundedSender<Delivery>>,
    exports: BTreeMap<ExportId, Export>,
    hashing: VecDeque<(Hasher, ReadReply)>,
    export_last: ExportId,
    /// Peers an image is being sent to: the log after its position is kept for them.
    image_sending: BTreeMap<NodeId, Position>,
    /// A trim that waits for them.
    trim_held: Option<WalRequest>,
    seen: follow::Seen,
    card_pace: CardPace,
    phase: Phase,
    core_ticked: Duration,
    tick_next: Duration,
    progress_next: Duration,
}

impl Default for Work {
    fn default() -> Work {
        Work {
            hub: Hub::new(Revision::FIRST),
            leases: LeaseClock::default(),
            leases_run: false,
            pending: Pending::default(),
            asks: Asks::default(),
            reads: Reads::default(),
            forwards: BTreeMap::new(),
            held_from: None,
            growth_unapplied: 0,
            is_raising_alarm: false,
            sweeping: Vec::new(),
            give_back: GiveBack::default(),
            expiring: BTreeMap::new(),
            changing: None,
            joins: Joins::default(),
            streams: BTreeMap::new(),
            exports: BTreeMap::new(),
            hashing: VecDeque::new(),
            export_last: ExportId(0),
            image_sending: BTreeMap::new(),
            trim_held: None,
            seen: follow::Seen::default(),
            card_pace: CardPace::default(),
            phase: Phase::Running,
            core_ticked: Duration::ZERO,
            tick_next: Duration::ZERO,
            progress_next: Duration::ZERO,
        }
    }
}

/// How far this start of the node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// At work.
    Running,
    /// Asked to stop: leadership goes to another node first, until then at most.
    Leaving(Duration),
    /// Nothing new is taken, what is under way ends.
    Stopping,
    /// It has ended.
    Ended(DriverEnd),
}

/// How the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverEnd {
    /// It was asked to.
    Stopped,
    /// The card failed; its last words are said.
    CardFailed,
    /// The log has what this release cannot read.
    BadData,
    /// The other members have seen this start of the node, which this card does not know: it is an older copy.
    OlderCopy(Start),
}

impl Driver {
    fn answer<T>(&self, value: T) -> Answer<T> {
        Answer { revision: self.store.revision(), term: self.core.term().0, value }
    }

    /// Why new work is refused, if it is.
    fn refusal(&self) -> Option<Refusal> {
        match self.work.phase {
            Phase::Running | Phase::Leaving(_) if self.work.seen.is_removed() => Some(Refusal::Removed),
            Phase::Running | Phase::Leaving(_) => None,
            Phase::Stopping | Phase::Ended(_) => Some(Refusal::Stopping),
        }
    }

    /// The store, for whoever compares nodes.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How the driver ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<DriverEnd> {
        match self.work.phase {
            Phase::Ended(end) => Some(end),
            Phase::Running | Phase::Leaving(_) | Phase::Stopping => None,
        }
    }
}
