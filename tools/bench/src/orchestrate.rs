//! `bench orchestrate`: what an orchestrator asks of its store, and whether anybody would have lost leadership.
//!
//! Electors hold a leadership each as client-go does: read the lease's object, replace it if nobody else did, every
//! two seconds; a leadership is lost ten seconds after the last renewal that went well began. Beside them nodes
//! tell their state, things happen, informers list and watch, and the history is compacted.

mod elector;
mod informer;

use crate::compact;
use crate::endpoint::EndpointArgs;
use crate::random::{Random, hash};
use crate::stats::{Latencies, Quantiles, print_ms};
use crate::tally::print_status;
use anyhow::Result;
use bytes::Bytes;
use quorate_proto::etcdserverpb::PutRequest;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// client-go gives one request half its deadline.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `bench orchestrate`.
#[derive(Debug, Clone, clap::Args)]
pub struct OrchestrateArgs {
    /// Where the servers are.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// Leaderships, renewed every two seconds
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub electors: u32,
    /// Nodes that write their state every ten seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000), value_name = "N")]
    pub nodes: u32,
    /// Informers: each lists everything, then watches; lists again every half minute
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(0..=10_000), value_name = "N")]
    pub informers: u32,
    /// Things that happen a second: new objects of 1 KiB
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    pub events: f64,
    /// How long
    #[arg(long, default_value = "2m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Compact the history that often up to the newest revision
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub compact_every: Duration,
    /// Decides moments
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Nothing beside the report
    #[arg(long, short)]
    pub quiet: bool,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What the orchestrator saw.
#[derive(Debug, Clone, Serialize)]
pub struct OrchestrateReport {
    /// Length of the load.
    pub elapsed_seconds: f64,
    /// Leaderships held.
    pub electors: u32,
    /// Leaderships that went ten seconds without a renewal; each is counted once and goes on.
    pub lost: u64,
    /// From the moment a renewal was due until it was through, failed tries included.
    pub renewal: Option<Quantiles>,
    /// Renewals that were not through after five seconds.
    pub renewals_over_five_seconds: u64,
    /// States and events written, and how long that took.
    pub writes: Option<Quantiles>,
    /// Lists of everything, in pages of 500.
    pub lists: Option<Quantiles>,
    /// Events that arrived at informers.
    pub events: u64,
    /// Longest wait of an informer for a progress notification it had asked for.
    pub progress: Option<Quantiles>,
    /// Watches that ended, broke the order of revisions, or had missed the newest revision at the end.
    pub watches_broken: u64,
    /// Compactions that were refused or not answered.
    pub compactions_failed: u64,
    /// Failed requests by code and text.
    pub errors: BTreeMap<String, u64>,
}

impl OrchestrateReport {
    /// Whether nobody lost leadership and no watch broke.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.watches_broken == 0
    }

    /// For people.
    #[must_use]
    pub fn print(&self) -> String {
        let longest = |of: &Option<Quantiles>| of.map_or_else(|| "–".into(), |of| print_ms(of.max_ms));
        let mut text = format!(
            "{} leaderships for {:.0} s: {} lost; the slowest renewal {}, list {}, write {}, progress {}; {} events seen, \
             {} watches broken",
            self.electors,
            self.elapsed_seconds,
            self.lost,
            longest(&self.renewal),
            longest(&self.lists),
            longest(&self.writes),
            longest(&self.progress),
            self.events,
            self.watches_broken
        );
        for (kind, count) in &self.errors {
            text.push_str(&format!("\n  {count} × {kind}"));
        }
        text
    }
}

/// What all parts count together.
#[derive(Debug, Default)]
struct Counts {
    lost: u64,
    renewals: Latencies,
    late: u64,
    writes: Latencies,
    lists: Latencies,
    progress: Latencies,
    events: u64,
    watches_broken: u64,
    compactions_failed: u64,
    errors: BTreeMap<String, u64>,
}

/// The store as one orchestrator's clients reach it.
struct World {
    channels: Vec<Channel>,
    until: Instant,
    is_over: AtomicBool,
    seed: u64,
    counts: Mutex<Counts>,
}

/// What everything is called.
const PREFIX: &str = "/registry/";

impl World {
    fn channel(&self, number: usize) -> Channel {
        self.channels[number % self.channels.len()].clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || Instant::now() >= self.until
    }

    /// Whether there is still something to do at `due`.
    async fn wait_until(&self, due: Instant) -> bool {
        sleep_until(due.min(self.until)).await;
        !self.is_over()
    }

    /// Out of phase with others of its kind.
    fn phase(&self, number: u64, period: Duration) -> Instant {
        Instant::now() + period.mul_f64((hash(self.seed, number) % 1_000) as f64 / 1_000.0)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn failed(&self, what: &str, status: &Status) {
        let kind = format!("{what}: {}", print_status(status));
        self.count(|counts| *counts.errors.entry(kind).or_default() += 1);
    }
}

/// One answer within client-go's limit.
async fn ask<T>(request: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let answer = timeout(REQUEST_LIMIT, request).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer within 5 s"))??.into_inner())
}

/// Runs all parts for the given time.
///
/// # Errors
/// A server does not answer at the start.
pub async fn orchestrate(args: &OrchestrateArgs) -> Result<OrchestrateReport> {
    let channels = args.endpoint.connect(args.endpoint.urls()?.len()).await?;
    let started = Instant::now();
    let world = Arc::new(World {
        channels,
        until: started + args.duration,
        is_over: AtomicBool::new(false),
        seed: args.seed,
        counts: Mutex::default(),
    });
    let mut parts = tokio::task::JoinSet::new();
    for number in 0..args.electors {
        parts.spawn(elector::hold(Arc::clone(&world), number));
    }
    for number in 0..args.nodes {
        parts.spawn(tell_state(Arc::clone(&world), number));
    }
    if args.events > 0.0 {
        parts.spawn(happen(Arc::clone(&world), Duration::from_secs_f64(1.0 / args.events)));
    }
    parts.spawn(compact_now_and_then(Arc::clone(&world), args.compact_every));
    let mut informers = tokio::task::JoinSet::new();
    for number in 0..args.informers {
        informers.spawn(informer::inform(Arc::clone(&world), number));
    }
    while let Some(ended) = tokio::select! {
        ended = parts.join_next() => ended,
        _ = tokio::signal::ctrl_c() => None,
    } {
        ended?;
    }
    world.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = informers.join_next().await {
        ended?;
    }
    let counts = world.counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(OrchestrateReport {
        elapsed_seconds: started.elapsed().as_secs_f64(),
        electors: args.electors,
        lost: counts.lost,
        renewal: counts.renewals.quantiles(),
        renewals_over_five_seconds: counts.late,
        writes: counts.writes.quantiles(),
        lists: counts.lists.quantiles(),
        events: counts.events,
        progress: counts.progress.quantiles(),
        watches_broken: counts.watches_broken,
        compactions_failed: counts.compactions_failed,
        errors: counts.errors.clone(),
    })
}

/// A node writes its state: 2 KiB every ten seconds.
async fn tell_state(world: Arc<World>, number: u32) {
    const PERIOD: Duration = Duration::from_secs(10);
    let mut due = world.phase(u64::from(number) + 10_000, PERIOD);
    while world.wait_until(due).await {
        write(&world, format!("{PREFIX}nodes/node-{number:05}"), 2_048, number).await;
        due = Instant::now().max(due + PERIOD);
    }
}

/// New objects, at random moments.
async fn happen(world: Arc<World>, mean: Duration) {
    let mut random = Random::new(world.seed);
    let mut due = Instant::now();
    for number in 0_u32.. {
        due += mean.mul_f64(-random.next_unit().ln());
        if !world.wait_until(due).await {
            return;
        }
        write(&world, format!("{PREFIX}events/event-{number:08}"), 1_024, number).await;
    }
}

async fn write(world: &World, key: String, value_bytes: usize, number: u32) {
    let began = Instant::now();
    let mut random = Random::new(hash(world.seed, u64::from(number)));
    let value: Vec<u8> =
        std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(value_bytes).collect();
    let put = PutRequest { key: key.into(), value: Bytes::from(value), ..PutRequest::default() };
    let channel = world.channel(usize::try_from(number).unwrap_or(0));
    match ask(KvClient::new(channel).put(put)).await {
        Ok(_) => world.count(|counts| counts.writes.record(began.elapsed())),
        Err(status) => world.failed("write", &status),
    }
}

async fn compact_now_and_then(world: Arc<World>, period: Duration) {
    let mut compacted = 0;
    let mut due = Instant::now() + period;
    for turn in 0_usize.. {
        if !world.wait_until(due).await {
            return;
        }
        match timeout(REQUEST_LIMIT, compact::compact(&world.channel(turn), compacted, false)).await {
            Ok(Ok(revision)) => compacted = revision,
            Ok(Err(_)) | Err(_) => world.count(|counts| counts.compactions_failed += 1),
        }
        due += period;
    }
}
