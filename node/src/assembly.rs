//! Puts a node together from what recovery found, and starts its threads.

use crate::auto_compact::AutoCompactor;
use crate::background::Background;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk_health::DiskHealth;
use crate::driver::{Driver, DriverEnd, ImageTrigger, Work};
use crate::fetcher::Fetcher;
use crate::inbox::{Arrivals, Inbox};
use crate::links::Links;
use crate::memory;
use crate::metrics::Metrics;
use crate::node::{Node, NodeParts};
use crate::recover::Opened;
use crate::status::{self, LastWords};
use crate::wal_worker::{WalParts, WalWorker};
use crate::wear::Wear;
use prometheus_client::registry::Registry;
use quorate_api::{API_VERSION, ApiMetrics, CardState, NodeStatus};
use quorate_board::storage::Device;
use quorate_types::Member;
use quorate_wal::{ImageHead, RealDisk};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// Stack of a worker thread: what the deepest nested transaction needs, many times over.
pub const STACK_BYTES: usize = 1024 * 1024;

/// A node, put together and not yet running.
pub struct Assembly {
    /// Counters of the api, in the node's registry.
    pub api_metrics: ApiMetrics,
    node: Node,
    driver: Driver,
    wal: WalWorker<RealDisk>,
    fetcher: Fetcher<RealDisk>,
    background: Background<RealDisk>,
}

/// What a node is put together from.
pub struct AssemblyParts {
    /// What counts.
    pub counters: Counters,
    /// What recovery found.
    pub opened: Opened<RealDisk>,
    /// How the node wants to be known.
    pub described: Member,
    /// The queue to the driver.
    pub inbox: Inbox,
    /// The other nodes.
    pub links: Box<dyn Links>,
    /// Images counted by this node.
    pub image_number: Arc<AtomicU64>,
    /// What the log's syncs say.
    pub health: Arc<DiskHealth>,
    /// Where last words go.
    pub last_words: LastWords,
    /// What the status page says from the start.
    pub errors: Vec<String>,
}

impl Assembly {
    /// Of its parts.
    #[must_use]
    pub fn of(config: &Config, parts: AssemblyParts) -> Assembly {
        let AssemblyParts { counters, opened, described, inbox, links, .. } = parts;
        let AssemblyParts { image_number, health, last_words, errors, .. } = parts;
        let Counters { registry, metrics, api_metrics } = counters;
        let quota_bytes = config.quota_bytes.unwrap_or_else(memory::quota_default);
        metrics.quota_bytes.set(i64::try_from(quota_bytes).unwrap_or(i64::MAX));
        tracing::info!(
            identity = %opened.identity,
            start = opened.start.count,
            applied = opened.store.applied().0,
            quota_bytes,
            "node opened"
        );
        let first = first_status(&opened, quota_bytes, errors);
        let (status, status_view) = status::channel(first, opened.membership.clone());
        let (wal_in, wal_out) = channel();
        let (background_in, background_out) = channel();
        let (fetcher_in, fetcher_out) = channel();
        let image_head = image_head(&opened);
        let node = Node::new(NodeParts {
            identity: opened.identity,
            described: described.clone(),
            inbox: inbox.clone(),
            wal: wal_in.clone(),
            status: status_view,
            health: Arc::clone(&health),
            metrics: metrics.clone(),
            registry,
            image_head: image_head.clone(),
        });
        let background = Background {
            disk: opened.disk,
            image_head,
            image_number,
            jobs: background_out,
            inbox: inbox.clone(),
            wal: wal_in.clone(),
            health: Arc::clone(&health),
            metrics: metrics.clone(),
        };
        let wal_parts = WalParts {
            requests: wal_out,
            inbox: inbox.clone(),
            background: background_in.clone(),
            fetcher: fetcher_in,
            health,
            metrics: metrics.clone(),
        };
        let driver = Driver {
            identity: opened.identity,
            incarnation: opened.start.incarnation,
            described,
            clock: Clock::from_base(opened.newest_time),
            core: opened.core,
            applied_term: opened.applied_term,
            store: opened.store,
            quota_bytes,
            auto_compactor: AutoCompactor::new(config.auto_compact),
            image: ImageTrigger::recovered(opened.log_bytes, opened.image_bytes, opened.image_position),
            wal: wal_in,
            background: background_in,
            links,
            status,
            last_words,
            metrics,
            work: Work::default(),
        };
        let wal = WalWorker::new(opened.writer, wal_parts);
        let fetcher = Fetcher { jobs: fetcher_out, inbox };
        Assembly { api_metrics, node, driver, wal, fetcher, background }
    }

    /// What the api asks.
    #[must_use]
    pub fn backend(&self) -> Node {
        self.node.clone()
    }

    /// Starts the threads; how the driver ends arrives in the receiver.
    ///
    /// # Errors
    /// What the system says about a new thread.
    pub fn spawn(
        self,
        arrivals: Arrivals,
    ) -> io::Result<(oneshot::Receiver<DriverEnd>, Vec<JoinHandle<()>>)> {
        let Assembly { driver, wal, fetcher, background, .. } = self;
        let (end_in, end_out) = oneshot::channel();
        let thread = |name: &str| Builder::new().name(name.into()).stack_size(STACK_BYTES);
        let threads = vec![
            thread("background").spawn(move || background.run())?,
            thread("fetcher").spawn(move || fetcher.run())?,
            thread("wal").spawn(move || wal.run())?,
            thread("driver").spawn(move || {
                let end = driver.run(&arrivals);
                end_in.send(end).ok();
            })?,
        ];
        Ok((end_out, threads))
    }
}

/// All counters, and who counts.
#[derive(Debug)]
pub struct Counters {
    /// All of them, for whoever asks.
    pub registry: Registry,
    /// The node's own.
    pub metrics: Metrics,
    /// The api's.
    pub api_metrics: ApiMetrics,
}

impl Counters {
    /// Registers all of them.
    #[must_use]
    pub fn register() -> Counters {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, API_VERSION);
        let api_metrics = ApiMetrics::new();
        api_metrics.register(&mut registry);
        Counters { registry, metrics, api_metrics }
    }

    /// Accounts for what `device` has to write, from now on.
    #[must_use]
    pub fn account_for(&mut self, device: Option<Device>) -> Wear {
        let wear = Wear::new(self.metrics.written.clone(), device);
        self.registry.register_collector(Box::new(wear.clone()));
        wear
    }
}

fn image_head(opened: &Opened<RealDisk>) -> ImageHead {
    ImageHead {
        identity: opened.identity,
        position: quorate_types::Position::default(),
        membership: opened.membership.clone(),
        hard_state: opened.core.hard_state(),
        start: opened.start,
        number: opened.image_number,
    }
}

fn first_status(opened: &Opened<RealDisk>, quota_bytes: u64, errors: Vec<String>) -> NodeStatus {
    NodeStatus {
        identity: opened.identity,
        leader: 0,
        term: opened.core.hard_state().term.0,
        committed: opened.core.committed().0,
        applied: opened.store.applied().0,
        revision: opened.store.revision(),
        bytes_total: opened.store.bytes_total(),
        bytes_in_use: opened.store.bytes_total(),
        bytes_quota: quota_bytes,
        is_learner: false,
        role: "follower",
        removed: false,
        voters: opened.membership.voters.clone(),
        learners: opened.membership.learners.clone(),
        card: CardState::Unknown,
        peers: Vec::new(),
        errors,
        alarms: opened.store.alarms(),
    }
}
