//! `bench watch`: many watchers of one prefix while it is written, and what each of them saw.

use crate::endpoint::EndpointArgs;
use crate::keys::{KeySpace, prefix_end};
use crate::load::{self, LoadArgs};
use crate::random::{hash, seed_from_system};
use crate::report::{Report, WatchReport};
use crate::stats::Latencies;
use anyhow::{Context, Result, bail};
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::watch_client::WatchClient;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Most puts of one run: each needs eight bytes for the moment it was sent.
const TOTAL_MAX: u64 = 100_000_000;

/// Arguments of `bench watch`.
#[derive(Debug, Clone, clap::Args)]
pub struct WatchArgs {
    /// Where the servers are.
    #[command(flatten)]
    pub endpoint: EndpointArgs,
    /// How hard and how long to put.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Watch streams
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub streams: u32,
    /// Watchers on each stream; all of them watch the whole prefix
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub watches: u32,
    /// What every key begins with; each run adds a folder of its own below
    #[arg(long, default_value = "quorate-bench-watch/", value_name = "TEXT")]
    pub prefix: String,
    /// Bytes of a value
    #[arg(long, default_value_t = 64, value_name = "BYTES")]
    pub value_size: usize,
    /// Longest wait for the last events after the last put
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub patience: Duration,
    /// Leave the keys there; else they are deleted at the end
    #[arg(long)]
    pub keep: bool,
}

/// What all tasks of one run share.
struct Shared {
    space: KeySpace,
    started: Instant,
    /// Microseconds from the start to the sending of each put.
    sent_us: Vec<AtomicU64>,
    /// Revision of the last put, once known; watchers that reached it are done.
    final_revision: AtomicI64,
    events: AtomicU64,
    over: AtomicBool,
}

/// What one watcher saw. Digests add up, so that two watchers that saw the same have the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    count: u64,
    digest: u64,
    last_revision: i64,
    out_of_order: u64,
    canceled: bool,
}

impl Seen {
    fn add(&mut self, put_number: u64, revision: i64) {
        if revision <= self.last_revision {
            self.out_of_order += 1;
        }
        self.last_revision = self.last_revision.max(revision);
        self.count += 1;
        self.digest = self.digest.wrapping_add(digest(put_number, revision));
    }
}

fn digest(put_number: u64, revision: i64) -> u64 {
    hash(put_number, u64::from_le_bytes(revision.to_le_bytes()))
}

/// Watches and puts, and reports what each watcher saw.
///
/// # Errors
/// No server answers, or a watch is refused. Puts that fail and events that are missing are counted.
pub async fn watch(args: &WatchArgs) -> Result<Report> {
    let seed = args.load.seed();
    let (load, total) = bounded(&args.load)?;
    let shared = Arc::new(Shared {
        space: space(args, seed),
        started: Instant::now(),
        sent_us: (0..total).map(|_| AtomicU64::new(0)).collect(),
        final_revision: AtomicI64::new(i64::MAX),
        events: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let channels = args.endpoint.connect(load.connection_count()).await?;
    let mut streams = Vec::new();
    for (_, channel) in (0..args.streams).zip(channels.iter().cycle()) {
        let stream = Stream::open(channel.clone(), &shared.space.prefix, args.watches).await?;
        streams.push(tokio::spawn(stream.follow(Arc::clone(&shared))));
    }
    let mut report = put_all(args, &load, seed, channels.clone(), &shared).await?;

    let expected = read_expected(&channels[0], &shared.space).await?;
    let last = expected.last_revision;
    shared.final_revision.store(last, Ordering::Release);
    wait_for_events(args, &shared, expected.count).await;
    let mut delivery = Latencies::default();
    let mut seen = Vec::new();
    for stream in streams {
        let (watchers, latencies) = stream.await?;
        seen.extend(watchers);
        delivery.add(&latencies);
    }
    report.watch = Some(summary(args, &seen, &expected, &delivery));
    if !args.keep {
        let request = DeleteRangeRequest {
            key: shared.space.prefix.clone().into(),
            range_end: prefix_end(shared.space.prefix.as_bytes()).into(),
            ..DeleteRangeRequest::default()
        };
        KvClient::new(channels[0].clone()).delete_range(request).await.context("the keys stay there")?;
    }
    Ok(report)
}

/// The number of puts must be known: a time and a rate give it too.
fn bounded(load: &LoadArgs) -> Result<(LoadArgs, u64)> {
    let by_time = match (load.duration, load.rate) {
        (Some(duration), Some(rate)) => {
            let starts =
                Duration::try_from_secs_f64(duration.as_secs_f64() * rate).context("that is too long")?;
            // A little more than the mean, for arrivals that come in bunches.
            Some(starts.as_secs() * 11 / 10 + 100)
        }
        (Some(_), None) if load.total.is_none() => bail!("with --duration, say --rate or --total too"),
        (Some(_) | None, _) => None,
    };
    let total = load.total.or(by_time).or(load.total()).unwrap_or(TOTAL_MAX);
    if total > TOTAL_MAX {
        bail!("{total} puts are too many for one run: at most {TOTAL_MAX}");
    }
    Ok((LoadArgs { total: Some(total), ..load.clone() }, total))
}

fn space(args: &WatchArgs, seed: u64) -> KeySpace {
    // A folder for each run, also with the same seed: the watchers must see this run's keys only.
    let prefix = format!("{}{:08x}/", args.prefix, seed_from_system() >> 32);
    KeySpace { key_bytes: prefix.len() + 12, prefix, value_bytes: args.value_size, key_count: 0, seed }
}

async fn put_all(
    args: &WatchArgs,
    load: &LoadArgs,
    seed: u64,
    channels: Vec<Channel>,
    shared: &Arc<Shared>,
) -> Result<Report> {
    let (connections, members) = (channels.len(), args.endpoint.urls()?.len());
    let tally = {
        let shared = Arc::clone(shared);
        load::run(load, seed, channels, members, move |channel, number| {
            let shared = Arc::clone(&shared);
            async move {
                let request = PutRequest {
                    key: shared.space.key(number).into(),
                    value: shared.space.value(number),
                    ..PutRequest::default()
                };
                if let Some(sent) = usize::try_from(number).ok().and_then(|at| shared.sent_us.get(at)) {
                    sent.store(elapsed_us(shared.started), Ordering::Release);
                }
                KvClient::new(channel).put(request).await?;
                Ok(())
            }
        })
        .await?
    };
    let mut report = Report::new("watch", args.endpoint.urls()?, load, seed, &tally);
    report.connections = connections;
    (report.key_bytes, report.value_bytes) = (shared.space.key_bytes, shared.space.value_bytes);
    Ok(report)
}

/// Until every watcher has had all events, or patience ends; then tells the streams to stop.
async fn wait_for_events(args: &WatchArgs, shared: &Shared, expected_each: u64) {
    let wanted = expected_each * u64::from(args.streams) * u64::from(args.watches);
    let deadline = Instant::now() + args.patience;
    while shared.events.load(Ordering::Acquire) < wanted && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.over.store(true, Ordering::Release);
}

/// What the store itself says was written: each key is put once, so its revision is the event's.
async fn read_expected(channel: &Channel, space: &KeySpace) -> Result<Seen> {
    const PAGE_COUNT: i64 = 10_000;
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut revisions = BTreeMap::new();
    let mut key = space.prefix.clone().into_bytes();
    loop {
        let request = RangeRequest {
            key: key.into(),
            range_end: prefix_end(space.prefix.as_bytes()).into(),
            limit: PAGE_COUNT,
            keys_only: true,
            ..RangeRequest::default()
        };
        let answer = client.range(request).await.context("the written keys cannot be read")?.into_inner();
        for kv in &answer.kvs {
            revisions.insert(kv.mod_revision, put_number(&space.prefix, &kv.key));
        }
        match answer.kvs.last() {
            Some(last) if answer.more => key = [&last.key[..], &[0]].concat(),
            Some(_) | None => break,
        }
    }
    let mut expected = Seen::default();
    for (revision, number) in revisions {
        expected.add(number, revision);
    }
    Ok(expected)
}

/// The number a key was made from; a key that was not counts as the highest.
fn put_number(prefix: &str, key: &[u8]) -> u64 {
    let digits = key.strip_prefix(prefix.as_bytes()).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

fn elapsed_us(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// One watch stream with its watchers.
struct Stream {
    /// Kept open: closing it would end the stream.
    _requests: mpsc::UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    seen: BTreeMap<i64, Seen>,
}

impl Stream {
    async fn open(channel: Channel, prefix: &str, watches: u32) -> Result<Stream> {
        let (requests, queue) = mpsc::unbounded_channel();
        for _ in 0..watches {
            let create = WatchCreateRequest {
                key: prefix.to_owned().into(),
                range_end: prefix_end(prefix.as_bytes()).into(),
                ..WatchCreateRequest::default()
            };
            let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            requests.send(request).context("the stream is closed")?;
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut answers = client.watch(UnboundedReceiverStream::new(queue)).await?.into_inner();
        let mut seen = BTreeMap::new();
        while seen.len() < usize::try_from(watches)? {
            let answer = answers.message().await?.context("the server closed the stream at once")?;
            if answer.canceled {
                bail!("the server refused a watch: {}", answer.cancel_reason);
            }
            if answer.created {
                seen.insert(answer.watch_id, Seen::default());
            }
        }
        Ok(Stream { _requests: requests, answers, seen })
    }

    /// Takes events until all watchers are done, the run is over, or the stream ends.
    async fn follow(mut self, shared: Arc<Shared>) -> (Vec<Seen>, Latencies) {
        let mut latencies = Latencies::default();
        loop {
            let next = tokio::time::timeout(Duration::from_millis(200), self.answers.message()).await;
            match next {
                Ok(Ok(Some(answer))) => self.take(&answer, &shared, &mut latencies),
                Ok(Ok(None) | Err(Status { .. })) => {
                    self.seen.values_mut().for_each(|seen| seen.canceled = true);
                    break;
                }
                Err(_) => {}
            }
            let last = shared.final_revision.load(Ordering::Acquire);
            if shared.over.load(Ordering::Acquire)
                || self.seen.values().all(|seen| seen.last_revision >= last)
            {
                break;
            }
        }
        (self.seen.into_values().collect(), latencies)
    }

    fn take(&mut self, answer: &WatchResponse, shared: &Shared, latencies: &mut Latencies) {
        let now = elapsed_us(shared.started);
        let Some(seen) = self.seen.get_mut(&answer.watch_id) else { return };
        seen.canceled |= answer.canceled;
        for kv in answer.events.iter().filter_map(|event| event.kv.as_ref()) {
            let number = put_number(&shared.space.prefix, &kv.key);
            seen.add(number, kv.mod_revision);
            if let Some(sent) = usize::try_from(number).ok().and_then(|at| shared.sent_us.get(at)) {
                let sent = sent.load(Ordering::Acquire);
                latencies.record(Duration::from_micros(now.saturating_sub(sent)));
            }
        }
        let count = u64::try_from(answer.events.len()).unwrap_or(u64::MAX);
        shared.events.fetch_add(count, Ordering::AcqRel);
    }
}

fn summary(args: &WatchArgs, seen: &[Seen], expected: &Seen, delivery: &Latencies) -> WatchReport {
    let complete = |seen: &&Seen| seen.count == expected.count && seen.digest == expected.digest;
    WatchReport {
        streams: usize::try_from(args.streams).unwrap_or(usize::MAX),
        watchers: seen.len(),
        events: seen.iter().map(|seen| seen.count).sum(),
        events_expected_each: expected.count,
        complete: seen.iter().filter(complete).count(),
        out_of_order: seen.iter().map(|seen| seen.out_of_order).sum(),
        canceled: seen.iter().filter(|seen| seen.canceled).count(),
        delivery: delivery.quantiles(),
        histogram: delivery.bars(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(events: &[(u64, i64)]) -> Seen {
        let mut seen = Seen::default();
        for (number, revision) in events {
            seen.add(*number, *revision);
        }
        seen
    }

    #[test]
    fn a_missing_doubled_or_changed_event_shows() {
        let whole = seen(&[(0, 5), (1, 6), (2, 9)]);
        assert_eq!(whole.out_of_order, 0);
        let differs = |events: &[(u64, i64)]| {
            let other = seen(events);
            (other.count, other.digest) != (whole.count, whole.digest)
        };
        assert!(differs(&[(0, 5), (2, 9)]));
        assert!(differs(&[(0, 5), (1, 6), (1, 6)]));
        assert!(differs(&[(0, 5), (1, 7), (2, 9)]));
        assert!(differs(&[(1, 5), (0, 6), (2, 9)]));
    }

    #[test]
    fn order_is_judged_apart_from_completeness() {
        let swapped = seen(&[(0, 5), (2, 9), (1, 6)]);
        assert_eq!((swapped.out_of_order, swapped.count), (1, 3));
        assert_eq!(swapped.digest, seen(&[(0, 5), (1, 6), (2, 9)]).digest);
    }

    #[test]
    fn keys_give_their_numbers_back() {
        assert_eq!(put_number("p/", b"p/000000000042"), 42);
        assert_eq!(put_number("p/", b"q/000000000042"), u64::MAX);
        assert_eq!(put_number("p/", b"p/\xff"), u64::MAX);
    }
}
