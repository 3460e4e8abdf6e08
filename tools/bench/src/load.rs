//! The two ways to load a server, and what is counted meanwhile.
//!
//! A closed loop has N clients that wait for each answer before they ask again: it shows throughput. An
//! open loop asks at a given rate whatever the server does, and measures from the moment a request was
//! meant to start: it shows what users feel, stalls included ("coordinated omission" is the mistake of
//! measuring from the moment the request could be sent).

use crate::arrival::{Arrival, Schedule};
use crate::progress::Progress;
use crate::random::seed_from_system;
use crate::tally::{Answer, Tally};
use crate::timeline::Timeline;
use anyhow::{Result, ensure};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Requests of an open loop that may wait for their answers; at about 2 KiB each. Past it the loop waits,
/// and the wait counts as latency.
const IN_FLIGHT_COUNT_MAX: u32 = 16_384;
/// A client that was refused waits this long, so that a server that is down is not asked a million times.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);
/// Requests if neither a number nor a time is given.
const TOTAL_DEFAULT: u64 = 10_000;

/// How hard, how long.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Closed loop: clients that wait for each answer before they ask again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    pub clients: u32,
    /// Open loop: requests per second, sent whether or not the last ones are answered
    #[arg(long, conflicts_with = "clients", value_parser = parse_rate, value_name = "R")]
    pub rate: Option<f64>,
    /// How the starts of an open loop are spread
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    pub arrival: Arrival,
    /// Stop after that many requests (10000 if no time is given either)
    #[arg(long, value_name = "N")]
    pub total: Option<u64>,
    /// Stop after that time
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// TCP connections, shared by all clients and spread over the endpoints (default: one per client, at most 4)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096), value_name = "N")]
    pub connections: Option<u32>,
    /// Longest wait for one answer
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Decides keys, values and moments; drawn and printed if not given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write each request to FILE: when it was meant to start, how long it took, which server, what came of it
    #[arg(long, value_name = "FILE")]
    pub timeline: Option<PathBuf>,
    /// No progress bar
    #[arg(long, short)]
    pub quiet: bool,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse()?;
    ensure!(rate.is_finite() && rate > 0.0 && rate <= 1e6, "a rate is a number above 0 and at most 1000000");
    Ok(rate)
}

impl LoadArgs {
    /// The seed, drawn once if none was given.
    pub(crate) fn seed(&self) -> u64 {
        // Short enough to type again.
        self.seed.unwrap_or_else(|| seed_from_system() >> 40)
    }

    pub(crate) fn connection_count(&self) -> usize {
        const DEFAULT_MAX: u32 = 4;
        let by_clients = if self.rate.is_some() { DEFAULT_MAX } else { self.clients.min(DEFAULT_MAX) };
        usize::try_from(self.connections.unwrap_or(by_clients)).expect("a u32 fits a usize on every board")
    }

    /// When to stop: a number, a time, or both.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total.or(if self.duration.is_some() { None } else { Some(TOTAL_DEFAULT) })
    }

    pub(crate) fn pace(&self) -> Pace {
        match self.rate {
            Some(rate) => Pace::Open { rate, arrival: self.arrival },
            None => Pace::Closed { clients: self.clients },
        }
    }
}

/// Which loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    Closed { clients: u32 },
    Open { rate: f64, arrival: Arrival },
}

/// One load being run.
struct Run {
    started: Instant,
    total: u64,
    deadline: Option<Duration>,
    next: AtomicU64,
    stop: AtomicBool,
    timeout: Duration,
    /// Servers; connections take turns at them.
    members: usize,
    timeline: Option<Timeline>,
    tally: Mutex<Tally>,
}

impl Run {
    /// The number of the next request, from 0; nothing once the load is over.
    fn take(&self) -> Option<u64> {
        let over = self.deadline.is_some_and(|deadline| self.started.elapsed() >= deadline);
        if over || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then_some(number)
    }

    fn with_tally<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs one request that was meant to start at `intended`, on the connection of that number; whether it went well.
    async fn run_one(
        &self,
        intended: Duration,
        lane: usize,
        operation: impl Future<Output = Result<(), Status>>,
    ) -> bool {
        let outcome = tokio::time::timeout(self.timeout, operation)
            .await
            .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "no answer within --timeout")));
        let answer = Answer { intended, at: self.started.elapsed(), member: lane % self.members, outcome };
        if let Some(timeline) = &self.timeline {
            timeline.add(&answer);
        }
        let good = answer.outcome.is_ok();
        self.with_tally(|tally| tally.add(&answer));
        good
    }
}

/// Loads `channels`, which take turns at that many `members`, with `operation(channel, number)`, numbers from 0, until
/// the load is over or interrupted from the keyboard.
pub(crate) async fn run<F, T>(
    args: &LoadArgs,
    seed: u64,
    channels: Vec<Channel>,
    members: usize,
    operation: F,
) -> Result<Tally>
where
    F: Fn(Channel, u64) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Status>> + Send + 'static,
{
    let total = args.total();
    let run = Arc::new(Run {
        started: Instant::now(),
        total: total.unwrap_or(u64::MAX),
        deadline: args.duration,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        timeout: args.timeout,
        members: members.max(1),
        timeline: args.timeline.as_deref().map(Timeline::create).transpose()?,
        tally: Mutex::new(Tally::new(members)),
    });
    let progress = Progress::start(args.quiet || args.json, total, args.duration);
    let watcher = tokio::spawn(watch_over(Arc::clone(&run), progress.clone()));
    let operation = Arc::new(operation);
    match args.pace() {
        Pace::Closed { clients } => closed(&run, clients, channels, operation).await?,
        Pace::Open { rate, arrival } => {
            let schedule = Schedule::new(rate, arrival, seed);
            open(&run, schedule, channels, operation).await?;
        }
    }
    watcher.abort();
    progress.finish();
    if let Some(timeline) = &run.timeline {
        timeline.finish()?;
    }
    Ok(run.with_tally(|tally| {
        tally.close(run.started.elapsed());
        tally.clone()
    }))
}

/// Draws the bar, and stops the load when a person does.
async fn watch_over(run: Arc<Run>, progress: Progress) {
    let mut interval = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = interval.tick() => {
                let (done, failed) = run.with_tally(|tally| (tally.all.done, tally.all.failed));
                progress.show(done, failed, run.started.elapsed());
            }
            _ = tokio::signal::ctrl_c() => run.stop.store(true, Ordering::Relaxed),
        }
    }
}

async fn closed<F, T>(run: &Arc<Run>, clients: u32, channels: Vec<Channel>, operation: Arc<F>) -> Result<()>
where
    F: Fn(Channel, u64) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Status>> + Send + 'static,
{
    let mut tasks = Vec::new();
    for (_, (lane, channel)) in (0..clients).zip(channels.iter().enumerate().cycle()) {
        let (run, channel, operation) = (Arc::clone(run), channel.clone(), Arc::clone(&operation));
        tasks.push(tokio::spawn(async move {
            while let Some(number) = run.take() {
                let intended = run.started.elapsed();
                if !run.run_one(intended, lane, operation(channel.clone(), number)).await {
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn open<F, T>(
    run: &Arc<Run>,
    schedule: Schedule,
    channels: Vec<Channel>,
    operation: Arc<F>,
) -> Result<()>
where
    F: Fn(Channel, u64) -> T + Send + Sync + 'static,
    T: Future<Output = Result<(), Status>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(usize::try_from(IN_FLIGHT_COUNT_MAX)?));
    let runtime = tokio::runtime::Handle::current();
    let sender = {
        let (run, permits) = (Arc::clone(run), Arc::clone(&permits));
        // A thread of its own: the runtime's timer counts whole milliseconds, too coarse for 1,000 a second.
        move || {
            for (intended, (lane, channel)) in schedule.zip(channels.iter().enumerate().cycle()) {
                std::thread::sleep(intended.saturating_sub(run.started.elapsed()));
                let Some(number) = run.take() else { break };
                let Ok(permit) = runtime.block_on(Arc::clone(&permits).acquire_owned()) else { break };
                let late = run.started.elapsed().saturating_sub(intended);
                let request = operation(channel.clone(), number);
                let run = Arc::clone(&run);
                runtime.spawn(async move {
                    run.with_tally(|tally| tally.lag.record(late));
                    run.run_one(intended, lane, request).await;
                    drop(permit);
                });
            }
        }
    };
    tokio::task::spawn_blocking(sender).await?;
    // Every request gives its permit back when it is answered: all of them back means nothing is under way.
    let _all = permits.acquire_many(IN_FLIGHT_COUNT_MAX).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, clap::Error> {
        let words = ["x"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.load)
    }

    fn idle_channel() -> Channel {
        // Never dialled: the operations of these tests do not use it.
        tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy()
    }

    #[test]
    fn the_load_is_read_from_the_line() {
        assert_eq!(parse("--clients 64").unwrap().pace(), Pace::Closed { clients: 64 });
        let open = parse("--rate 7 --arrival poisson --duration 30s").unwrap();
        assert_eq!(open.pace(), Pace::Open { rate: 7.0, arrival: Arrival::Poisson });
        assert_eq!((open.total(), open.duration), (None, Some(Duration::from_secs(30))));
        assert_eq!(parse("").unwrap().total(), Some(TOTAL_DEFAULT));
        assert_eq!(parse("--clients 64").unwrap().connection_count(), 4);
        assert_eq!(parse("--clients 2").unwrap().connection_count(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--clients 0",
            "--rate 0",
            "--rate -1",
            "--rate nan",
            "--rate 1 --clients 2",
            "--arrival poisson",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn a_closed_loop_runs_every_number_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let numbers = Arc::clone(&seen);
        let load = parse("--clients 8 --total 500 --quiet").unwrap();
        let tally = run(&load, 1, vec![idle_channel()], 1, move |_, number| {
            numbers.lock().unwrap().push(number);
            async move { if number % 10 == 0 { Err(Status::unavailable("down")) } else { Ok(()) } }
        })
        .await
        .unwrap();
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        assert_eq!((tally.all.done, tally.all.failed, tally.all.latencies.count()), (450, 50, 450));
        assert_eq!(tally.errors.get("Unavailable: down"), Some(&50));
    }

    /// A server that stalls once must show in every request that was meant to be sent meanwhile.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_open_loop_hides_no_stall() {
        let gate = Arc::new(Semaphore::new(1));
        let load = parse("--rate 200 --total 100 --quiet").unwrap();
        let tally = run(&load, 1, vec![idle_channel()], 1, move |_, number| {
            let gate = Arc::clone(&gate);
            async move {
                let _one = gate.acquire().await.expect("the gate is never closed");
                if number == 0 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Ok(())
            }
        })
        .await
        .unwrap();
        // 100 requests within 500 ms: all of them waited, the first longest, the last shortest.
        let quantiles = tally.all.latencies.quantiles().unwrap();
        assert_eq!(tally.all.done, 100);
        assert!(
            quantiles.p50_ms > 100.0,
            "half the requests were sent in the first half of the stall: {quantiles:?}"
        );
        assert!(tally.all.gap_max >= Duration::from_millis(500), "{:?}", tally.all.gap_max);
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_an_error() {
        let load = parse("--total 3 --timeout 20ms --quiet").unwrap();
        let tally = run(&load, 1, vec![idle_channel()], 1, |_, _| std::future::pending()).await.unwrap();
        assert_eq!((tally.all.done, tally.all.failed), (0, 3));
        assert!(tally.errors.keys().all(|kind| kind.starts_with("DeadlineExceeded")), "{:?}", tally.errors);
    }
}
