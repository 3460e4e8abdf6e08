//! `bench keep`: leases that must not be lost as long as they are renewed.

use crate::endpoint::EndpointArgs;
use crate::random::hash;
use crate::stats::{Latencies, Quantiles, print_ms};
use crate::tally::print_status;
use anyhow::{Context, Result, anyhow};
use quorate_proto::etcdserverpb::lease_client::LeaseClient;
use quorate_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// A renewal that one server does not answer is asked of the next after this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries when nobody answers well.
const REST: Duration = Duration::from_millis(100);
/// Tries to hear at the end whether a lease is there.
const LAST_TRIES: usize = 30;

/// Arguments of `bench keep`.
#[derive(Debug, Clone, clap::Args)]
pub struct KeepArgs {
    /// Where the servers are.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// Leases; each is renewed by a client of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    pub leases: u32,
    /// Time to live, in whole seconds; a third of it passes between two renewals
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i64).range(1..=3_600), value_name = "SECONDS")]
    pub ttl: i64,
    /// How long; it ends earlier when interrupted from the keyboard
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Decides when in its period each lease is renewed
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Nothing beside the report
    #[arg(long, short)]
    pub quiet: bool,
    /// The report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What became of the leases.
#[derive(Debug, Clone, Serialize)]
pub struct KeepReport {
    /// Leases granted.
    pub leases: u32,
    /// Seconds each lives without being renewed.
    pub ttl_seconds: i64,
    /// Renewals that a server answered.
    pub renewals: u64,
    /// Tries that failed or were not answered within a second; the next server was asked then.
    pub failed_tries: u64,
    /// Leases that are gone although somebody renewed them.
    pub lost: u64,
    /// From the moment a renewal was due to its answer.
    pub renewal: Option<Quantiles>,
    /// Failed tries by code and text.
    pub errors: BTreeMap<String, u64>,
}

impl KeepReport {
    /// Whether no lease was lost.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost == 0
    }

    /// For people.
    #[must_use]
    pub fn print(&self) -> String {
        let longest = self.renewal.map_or_else(|| "–".into(), |renewal| print_ms(renewal.max_ms));
        format!(
            "{} leases of {} s: {} lost; {} renewals, the slowest {longest}; {} tries failed",
            self.leases, self.ttl_seconds, self.lost, self.renewals, self.failed_tries
        )
    }
}

/// What all keepers count together.
#[derive(Debug, Default)]
struct Counts {
    renewals: u64,
    failed_tries: u64,
    lost: u64,
    latencies: Latencies,
    errors: BTreeMap<String, u64>,
}

/// Grants leases, keeps them alive, and asks at the end which are there.
///
/// # Errors
/// A server does not answer at the start, or grants no lease.
pub async fn keep(args: &KeepArgs) -> Result<KeepReport> {
    let channels = args.endpoint.connect(args.endpoint.urls()?.len()).await?;
    let counts = Arc::new(Mutex::new(Counts::default()));
    let until = Instant::now() + args.duration;
    let mut keepers = Vec::new();
    for number in 0..args.leases {
        let at = usize::try_from(number)? % channels.len();
        let grant = LeaseGrantRequest { ttl: args.ttl, id: 0 };
        let granted = LeaseClient::new(channels[at].clone()).lease_grant(grant).await;
        let id =
            granted.map_err(|status| anyhow!(print_status(&status))).context("no lease")?.into_inner().id;
        let period = Duration::from_secs(args.ttl.unsigned_abs()) / 3;
        // Out of phase, as leases of unconnected clients are.
        let phase = period.mul_f64((hash(args.seed, u64::from(number)) % 1_000) as f64 / 1_000.0);
        let keeper = Keeper { id, at, channels: channels.clone(), counts: Arc::clone(&counts) };
        keepers.push(tokio::spawn(keeper.run(Instant::now() + phase, period, until)));
    }
    for keeper in keepers {
        keeper.await?;
    }
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(KeepReport {
        leases: args.leases,
        ttl_seconds: args.ttl,
        renewals: counts.renewals,
        failed_tries: counts.failed_tries,
        lost: counts.lost,
        renewal: counts.latencies.quantiles(),
        errors: counts.errors.clone(),
    })
}

/// Keeps one lease.
struct Keeper {
    id: i64,
    /// Which server it asks now.
    at: usize,
    channels: Vec<Channel>,
    counts: Arc<Mutex<Counts>>,
}

impl Keeper {
    async fn run(mut self, first: Instant, period: Duration, until: Instant) {
        let mut due = first;
        while due < until {
            tokio::select! {
                () = sleep_until(due) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
            // Zero says that the server knows no such lease.
            if self.renew().await <= 0 {
                self.count(|counts| counts.lost += 1);
                return;
            }
            self.count(|counts| {
                counts.renewals += 1;
                counts.latencies.record(due.elapsed());
            });
            due = Instant::now().max(due + period);
        }
        if !self.is_there().await {
            self.count(|counts| counts.lost += 1);
        }
    }

    /// Asks one server after the other until one answers; the time to live.
    async fn renew(&mut self) -> i64 {
        loop {
            match timeout(PATIENCE, self.renew_once()).await {
                Ok(Ok(ttl)) => return ttl,
                Ok(Err(status)) => self.failed(&status),
                Err(_) => self.failed(&Status::deadline_exceeded("no answer within a second")),
            }
            self.at = (self.at + 1) % self.channels.len();
            tokio::time::sleep(REST).await;
        }
    }

    async fn renew_once(&self) -> Result<i64, Status> {
        // The request stream stays open while the answer is awaited: a server may end with it.
        let asked = LeaseKeepAliveRequest { id: self.id };
        let requests = futures_util::StreamExt::chain(
            futures_util::stream::iter([asked]),
            futures_util::stream::pending::<LeaseKeepAliveRequest>(),
        );
        let mut answers =
            LeaseClient::new(self.channels[self.at].clone()).lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        Ok(answer.ttl)
    }

    async fn is_there(&self) -> bool {
        for channel in self.channels.iter().cycle().take(LAST_TRIES) {
            let asked = LeaseTimeToLiveRequest { id: self.id, keys: false };
            let mut client = LeaseClient::new(channel.clone());
            if let Ok(Ok(answer)) = timeout(PATIENCE, client.lease_time_to_live(asked)).await {
                return answer.into_inner().ttl > 0;
            }
            tokio::time::sleep(REST).await;
        }
        false
    }

    fn failed(&self, status: &Status) {
        self.count(|counts| {
            counts.failed_tries += 1;
            *counts.errors.entry(print_status(status)).or_default() += 1;
        });
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
