//! Puts a node together from what recovery found, and starts its threads.

use crate::auto_compact::AutoCompactor;
use crate::background::Background;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk_health::DiskHealth;
use crate::driver::{Driver, DriverEnd, DriverParts, ImageTrigger};
use crate::inbox::{Inbound, Inbox};
use crate::memory;
use crate::metrics::Metrics;
use crate::node::{Node, NodeParts};
use crate::recover::Opened;
use crate::status::{self, LastWords};
use crate::wal_worker::WalWorker;
use prometheus_client::registry::Registry;
use quorate_api::{API_VERSION, ApiMetrics, NodeStatus};
use quorate_wal::{ImageHead, RealDisk};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// Stack of a worker thread: what the deepest nested transaction needs, many times over.
pub const STACK_BYTES: usize = 1024 * 1024;

/// A node, put together and not yet running.
pub struct Assembly {
    /// Counters of the api, in the node's registry.
    pub api_metrics: ApiMetrics,
    node: Node,
    driver: DriverParts,
    wal: WalWorker<RealDisk>,
    background: Background<RealDisk>,
}

impl Assembly {
    /// Of what recovery found. `errors` is what the status page says from the start.
    #[must_use]
    pub fn of(
        config: &Config,
        opened: Opened,
        inbox: Inbox,
        last_words: LastWords,
        errors: Vec<String>,
    ) -> Assembly {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, API_VERSION);
        let api_metrics = ApiMetrics::new();
        api_metrics.register(&mut registry);
        let quota_bytes = config.quota_bytes.unwrap_or_else(memory::quota_default);
        metrics.announce_leader(quota_bytes);
        tracing::info!(
            identity = %opened.identity,
            start = opened.start.count,
            applied = opened.store.applied().0,
            quota_bytes,
            "node opened"
        );
        let (status_source, status_view) = status::channel(first_status(&opened, quota_bytes, errors));
        let health = Arc::new(DiskHealth::default());
        let (wal_in, wal_out) = channel();
        let (background_in, background_out) = channel();
        let image_head = image_head(&opened);
        let node = Node::new(NodeParts {
            identity: opened.identity,
            membership: opened.membership.clone(),
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
            jobs: background_out,
            inbox: inbox.clone(),
            wal: wal_in.clone(),
            health: Arc::clone(&health),
            metrics: metrics.clone(),
        };
        let wal =
            WalWorker::new(opened.writer, wal_out, inbox, background_in.clone(), health, metrics.clone());
        let driver = DriverParts {
            identity: opened.identity,
            incarnation: opened.start.incarnation,
            clock: Clock::from_base(opened.newest_time),
            core: opened.core,
            applied_term: opened.applied_term,
            store: opened.store,
            quota_bytes,
            auto_compactor: AutoCompactor::new(config.auto_compact),
            image: ImageTrigger::recovered(opened.log_bytes, opened.image_bytes),
            wal: wal_in,
            background: background_in,
            status: status_source,
            last_words,
            metrics,
        };
        Assembly { api_metrics, node, driver, wal, background }
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
        inbound: Receiver<Inbound>,
    ) -> io::Result<(oneshot::Receiver<DriverEnd>, Vec<JoinHandle<()>>)> {
        let Assembly { driver, wal, background, .. } = self;
        let (end_in, end_out) = oneshot::channel();
        let thread = |name: &str| Builder::new().name(name.into()).stack_size(STACK_BYTES);
        let threads = vec![
            thread("background").spawn(move || background.run())?,
            thread("wal").spawn(move || wal.run())?,
            thread("driver").spawn(move || {
                let end = Driver::new(driver).run(&inbound);
                end_in.send(end).ok();
            })?,
        ];
        Ok((end_out, threads))
    }
}

fn image_head(opened: &Opened) -> ImageHead {
    ImageHead {
        identity: opened.identity,
        position: quorate_types::Position::default(),
        membership: opened.membership.clone(),
        hard_state: opened.core.hard_state(),
        start: opened.start,
        number: opened.image_number,
    }
}

fn first_status(opened: &Opened, quota_bytes: u64, errors: Vec<String>) -> NodeStatus {
    NodeStatus {
        identity: opened.identity,
        leader: opened.identity.node.0,
        term: opened.core.hard_state().term.0,
        committed: opened.core.committed().0,
        applied: opened.store.applied().0,
        revision: opened.store.revision(),
        bytes_total: opened.store.bytes_total(),
        bytes_in_use: opened.store.bytes_total(),
        bytes_quota: quota_bytes,
        is_learner: false,
        role: "leader",
        removed: false,
        voters: opened.membership.voters.clone(),
        learners: opened.membership.learners.clone(),
        peers: Vec::new(),
        errors,
        alarms: opened.store.alarms(),
    }
}
