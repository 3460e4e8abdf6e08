//! The process on a board: the hall's own parts, put together as `node/src/assembly.rs` does it, but for the
//! threads, the ports and the wall clock.

use crate::board::Board;
use crate::card::Card;
use crate::links::{Outbox, SimLinks};
use crate::queue::{Life, Nanos};
use crate::storage::Work;
use prometheus_client::registry::Registry;
use quorate_api::{CardState, NodeStatus};
use quorate_types::{Identity, Index, Member, NodeId, PeerKey, Position, Revision, Start, Term};
use quorate_wal::ImageHead;
use quorated::auto_compact::{AutoCompact, AutoCompactor};
use quorated::background::Job;
use quorated::clock::Clock;
use quorated::disk_health::DiskHealth;
use quorated::driver::{self, Driver, ImageTrigger};
use quorated::fetcher::{FetchJob, Fetcher};
use quorated::inbox::{Arrivals, Inbound, Inbox};
use quorated::metrics::Metrics;
use quorated::recover::{Opened, RecoverError, look};
use quorated::status::{self, LastWords, StatusView};
use quorated::wal_worker::{WalParts, WalRequest, WalWorker};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A running node.
pub(crate) struct Process {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    /// The starts before it on this card.
    pub(crate) earlier: Vec<Start>,
    /// Whose hello was heard, and of which of its lives.
    pub(crate) greeted: BTreeMap<NodeId, Start>,
    pub(crate) driver: Driver,
    pub(crate) inbox: Inbox,
    pub(crate) arrivals: Arrivals,
    pub(crate) outbox: Outbox,
    /// Held so that what the driver publishes has a reader.
    _status: StatusView,
    pub(crate) wal: WalWorker<Card>,
    pub(crate) wal_state: WalState,
    pub(crate) wal_requests: Sender<WalRequest>,
    /// What the driver gives the wal thread, on its way there.
    pub(crate) wal_given: Receiver<WalRequest>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) job_queue: VecDeque<Job>,
    pub(crate) work: Option<Work>,
    pub(crate) fetches: Receiver<FetchJob<Card>>,
    pub(crate) fetch_give: Sender<FetchJob<Card>>,
    pub(crate) fetcher: Fetcher<Card>,
    pub(crate) image_number: Arc<AtomicU64>,
    pub(crate) image_head: ImageHead,
    pub(crate) is_receiving_image: bool,
    /// When the driver's next turn is; later wishes do not move it.
    pub(crate) wake_at: Nanos,
    pub(crate) observed: Observed,
    /// When each other core was heard last.
    pub(crate) heard: BTreeMap<NodeId, Nanos>,
    /// Since when it leads, if it does.
    pub(crate) led_since: Nanos,
    /// Another core has said something since the last turn.
    pub(crate) has_heard: bool,
    /// The term after the last turn in which another core had said something.
    pub(crate) term_heard: Term,
}

/// What the wal thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalState {
    Idle,
    Busy,
    Ended,
}

/// What the checkers saw of a process last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) term: Term,
    pub(crate) leads: bool,
    pub(crate) leader: Option<NodeId>,
    pub(crate) committed: Index,
    pub(crate) applied: Index,
    pub(crate) revision: i64,
    pub(crate) persisted: Index,
    pub(crate) last: Position,
    pub(crate) is_joint: bool,
    pub(crate) is_removed: bool,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) voters_outgoing: Vec<NodeId>,
    /// Hand-overs because of its card, so far.
    pub(crate) card_hand_overs: u64,
    /// Index of the newest image on the card.
    pub(crate) image: Index,
}

/// Turns of a card's contents into a process.
pub(crate) struct Begun {
    pub(crate) process: Box<Process>,
    pub(crate) warning: Option<String>,
}

/// How this board wants to be known.
pub(crate) fn described(slot: usize, id: NodeId, key: PeerKey) -> Member {
    Member {
        id,
        name: format!("board-{slot}"),
        peer_addresses: vec![address(slot)],
        client_urls: Vec::new(),
        key,
        stays_learner: false,
    }
}

/// Where a board is reached.
pub(crate) fn address(slot: usize) -> String {
    format!("board-{slot}:2380")
}

/// Which board is reached there.
pub(crate) fn slot_at(address: &str) -> Option<usize> {
    address.strip_prefix("board-")?.strip_suffix(":2380")?.parse().ok()
}

/// Reads a board's card and puts the node together; `incarnation` and `seed` are what production takes from the
/// system.
pub(crate) fn begin(
    slot: usize,
    board: &mut Board,
    incarnation: u64,
    seed: u64,
) -> Result<Begun, RecoverError> {
    let found = look(board.card.clone(), incarnation)?;
    let founding = if found.identity().is_none() { board.founding.clone() } else { None };
    let opened = found.begin(founding, seed)?;
    let warning = opened.warning.clone();
    let described = described(slot, opened.identity.node, board.key);
    let process = assemble(opened, described, &board.clock.nanoseconds, board.life);
    Ok(Begun { process: Box::new(process), warning })
}

fn assemble(opened: Opened<Card>, described: Member, clock: &Arc<AtomicU64>, life: Life) -> Process {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, "3.5.24");
    let (status, status_view) = status::channel(first_status(&opened), opened.membership.clone());
    let (inbox, arrivals) = Inbox::bounded();
    let (wal_in, wal_out) = channel();
    let (driver_wal, wal_given) = channel();
    let (jobs_in, jobs) = channel();
    let (fetches_in, fetches) = channel();
    let (fetch_give, fetch_take) = channel();
    let outbox = Outbox::new(opened.identity.node, life);
    let image_head = image_head(&opened);
    let parts = WalParts {
        requests: wal_out,
        inbox: inbox.clone(),
        background: jobs_in.clone(),
        fetcher: fetches_in,
        health: Arc::new(DiskHealth::default()),
        metrics: metrics.clone(),
    };
    let driver = Driver {
        identity: opened.identity,
        incarnation: opened.start.incarnation,
        described,
        clock: Clock::simulated(opened.newest_time, Arc::clone(clock)),
        core: opened.core,
        applied_term: opened.applied_term,
        store: opened.store,
        quota_bytes: 1 << 40,
        auto_compactor: AutoCompactor::new(AutoCompact::Off),
        image: ImageTrigger::recovered(opened.log_bytes, opened.image_bytes, opened.image_position),
        wal: driver_wal,
        background: jobs_in,
        links: Box::new(SimLinks(outbox.clone())),
        status,
        // A folder that is not there: the thread that writes them finds nowhere to.
        last_words: LastWords::in_folder(Path::new("/nonexistent/quorate-sim")),
        metrics,
        work: driver::Work::default(),
    };
    Process {
        identity: opened.identity,
        start: opened.start,
        earlier: opened.earlier,
        greeted: BTreeMap::new(),
        driver,
        inbox: inbox.clone(),
        arrivals,
        outbox,
        _status: status_view,
        wal: WalWorker::new(opened.writer, parts),
        wal_state: WalState::Idle,
        wal_requests: wal_in,
        wal_given,
        jobs,
        job_queue: VecDeque::new(),
        work: None,
        fetches,
        fetch_give,
        fetcher: Fetcher { jobs: fetch_take, inbox },
        image_number: Arc::new(AtomicU64::new(opened.image_number)),
        image_head,
        is_receiving_image: false,
        wake_at: Nanos::MAX,
        observed: Observed::default(),
        heard: BTreeMap::new(),
        led_since: 0,
        has_heard: true,
        term_heard: Term(0),
    }
}

fn image_head(opened: &Opened<Card>) -> ImageHead {
    ImageHead {
        identity: opened.identity,
        position: Position::default(),
        membership: opened.membership.clone(),
        hard_state: opened.core.hard_state(),
        start: opened.start,
        number: opened.image_number,
    }
}

fn first_status(opened: &Opened<Card>) -> NodeStatus {
    NodeStatus {
        identity: opened.identity,
        leader: 0,
        role: "follower",
        term: 0,
        committed: 0,
        applied: 0,
        revision: Revision::FIRST,
        bytes_total: 0,
        bytes_in_use: 0,
        bytes_quota: 0,
        is_learner: false,
        removed: false,
        voters: Vec::new(),
        learners: Vec::new(),
        card: CardState::Unknown,
        peers: Vec::new(),
        errors: Vec::new(),
        alarms: Vec::new(),
    }
}

impl Process {
    /// Something of the node's own reaches the driver. One that has ended hears nothing.
    pub(crate) fn tell(&self, inbound: Inbound) {
        let _is_heard: bool = self.inbox.deliver(inbound);
    }
}
