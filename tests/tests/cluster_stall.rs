//! Cards that stand still under a cluster of real processes that have nothing else: program, log output and data lie
//! on the card, and the kernel takes what memory it can.
//!
//! `QUORATE_STALL_SECONDS` sets how long a card stands still: 30 are asked for, 8 are what a run of all tests takes.
//! Nothing is judged by short times: what failed is counted, and the card's own counters say that it did nothing.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_card::{Card, Figures, Model};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_tests::client::{Client, revision};
use quorate_tests::field::Field;
use quorate_tests::gap::Writer;
use quorate_tests::keeper::Keeper;
use quorate_tests::resident::of_file;
use quorate_tests::skip;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;
use tonic::Streaming;

/// Longer than any put may take: what is not answered by then counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// No client may be without an answer for so long. The goal is 0.3 s on a quiet machine; this is a bound for any.
const GAP_MAX: Duration = Duration::from_secs(3);
/// Shorter than a stall.
const TTL_SECONDS: i64 = 5;
/// Fewer would say nothing of a stall's length.
const ROUNDS_MIN: u64 = 10;

/// A card whose flush takes a moment, with no pauses of its own.
fn calm_card() -> Figures {
    Figures { flush_median: Duration::from_millis(5), ..Model::Free.figures() }
}

fn stall_length() -> Duration {
    let seconds = std::env::var("QUORATE_STALL_SECONDS").map_or(8, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: no answer within {PATIENCE:?}"),
    }
}

/// Clients of each node: one that puts, and one that keeps a lease alive, through this node and no other.
struct Crowd {
    writers: Vec<Writer>,
    keepers: Vec<Keeper>,
}

impl Crowd {
    async fn start(field: &Field) -> Crowd {
        let mut crowd = Crowd { writers: Vec::new(), keepers: Vec::new() };
        for endpoint in field.cluster.endpoints() {
            crowd.keepers.push(Keeper::grant(vec![endpoint.clone()], TTL_SECONDS).await.unwrap());
            crowd.writers.push(Writer::start(vec![endpoint], PATIENCE));
        }
        crowd
    }

    /// No put failed, none took long, no lease was lost.
    async fn end(self, field: &Field) {
        for (number, writer) in (1..).zip(self.writers) {
            let gaps = writer.end().await;
            println!("  through node {number}: {} puts, longest gap {:?}", gaps.writes, gaps.longest);
            assert_eq!(gaps.failed, 0, "puts failed through node {number}");
            assert!(gaps.longest < GAP_MAX, "no put for {:?} through node {number}", gaps.longest);
        }
        for (number, keeper) in (1..).zip(self.keepers) {
            assert!(keeper.renewals() > 0, "no renewal through node {number}");
            assert_eq!(keeper.gone(), 0, "a kept lease was said to be gone through node {number}");
            let ask = pb::LeaseTimeToLiveRequest { id: keeper.lease, keys: false };
            let mut client = field.cluster.client(number);
            assert!(client.lease.lease_time_to_live(ask).await.unwrap().into_inner().ttl > 0);
        }
    }
}

/// One client of one node, that asks for everything a node is there for.
struct Visitor {
    client: Client,
    events: Streaming<pb::WatchResponse>,
    key: String,
}

impl Visitor {
    async fn come(field: &Field, number: usize) -> Visitor {
        let mut client = field.cluster.client(number);
        let key = format!("visited/{number}");
        let create = pb::WatchCreateRequest { key: key.clone().into(), ..Default::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut events = client.watch.watch(requests).await.unwrap().into_inner();
        assert!(in_time("a watch", events.message()).await.unwrap().unwrap().created);
        Visitor { client, events, key }
    }

    /// A put, its event, and both kinds of reads that see it.
    async fn round(&mut self, number: u64) {
        let value = number.to_string();
        let put = in_time("a put", self.client.put(self.key.clone(), value.clone())).await.unwrap();
        let told = in_time("an event", self.events.message()).await.unwrap().unwrap();
        assert_eq!(told.events.len(), 1, "{told:?}");
        assert_eq!(told.events[0].kv.as_ref().unwrap().mod_revision, put);
        for serializable in [true, false] {
            let range = pb::RangeRequest { key: self.key.clone().into(), serializable, ..Default::default() };
            let read = in_time("a read", self.client.kv.range(range)).await.unwrap().into_inner();
            assert_eq!(read.kvs[0].value, value.as_bytes(), "serializable: {serializable}");
            assert!(revision(read.header) >= put);
        }
    }

    async fn rounds(&mut self, length: Duration) -> u64 {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < length {
            self.round(count).await;
            count += 1;
        }
        count
    }
}

/// How much of each node's program is in memory.
fn programs(field: &Field) -> Vec<u64> {
    let cluster = &field.cluster;
    let of = |number| of_file(cluster.pid(number), &cluster.data_dir(number).with_file_name("quorated"));
    (1..=3).map(of).collect()
}

/// The card of that node stands still, with clients of all nodes, and memory under pressure.
async fn one_stands_still(field: &Field, number: usize) {
    let leader = field.cluster.leader().await;
    println!("card {number} stands still, node {leader} leads");
    let (term, hand_overs, resident) = (field.term().await, field.hand_overs(), programs(field));
    let mut visitor = Visitor::come(field, number).await;
    let crowd = Crowd::start(field).await;
    visitor.round(0).await;

    let stall = field.stall(number);
    let pressure = field.press();
    let before = field.stats(number);
    let rounds = visitor.rounds(stall_length()).await;
    let done = field.stats(number).since(&before);
    assert_eq!((done.writes, done.flushes, done.reads), (0, 0, 0), "the card did not stand still");
    assert!(rounds >= ROUNDS_MIN, "{rounds} rounds of puts, events and reads at its node");
    assert!(pressure.iter().any(|pressure| pressure.rounds() > 0), "no pressure");
    let kept = programs(field);
    println!("  {rounds} rounds at its node; of the programs {resident:?} bytes, then {kept:?}");
    assert!(kept.iter().zip(&resident).all(|(kept, resident)| kept * 10 >= resident * 9));
    drop(stall);
    drop(pressure);
    field.cluster.wait("the card moves", async || field.stats(number).flushes > before.flushes).await;

    crowd.end(field).await;
    let (moves, begun) = (field.term().await - term, field.hand_overs() - hand_overs);
    println!("  {moves} terms began, {begun} hand-overs for a card");
    assert!(moves <= begun, "somebody was elected without need");
    assert!(begun <= u64::from(leader == number), "leadership moved {begun} times");
    field.cluster.wait_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_card_in_turn_stands_still_and_costs_nothing() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(calm_card()).await;
    for number in 1..=3 {
        one_stands_still(&field, number).await;
    }
}
