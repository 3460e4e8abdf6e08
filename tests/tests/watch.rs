//! Watching under load, and as an API server does it. Nothing here is judged by wall time: what is counted is
//! what was told, and in which order.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_tests::client::{Client, revision};
use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const WATCHERS: usize = 1_000;
const PUTS: i64 = 3_000;
/// Puts go out at this pace, or as fast as the machine can if that is slower.
const PUTS_PER_SECOND: u64 = 1_000;
const PREFIX: (&[u8], &[u8]) = (b"k/", b"k0");

fn server() -> Server {
    Server::start(Options::new(Program::quorated()).in_memory())
}

/// A watch stream as a client holds it.
struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watch {
    /// Opens a stream with a first watcher of the prefix.
    async fn open(client: &Client) -> Watch {
        let (requests, outbound) = mpsc::channel(64);
        let union = RequestUnion::CreateRequest(prefix());
        requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
        let answers = client.watch.clone().watch(ReceiverStream::new(outbound)).await.unwrap().into_inner();
        let mut watch = Watch { requests, answers };
        assert!(watch.next().await.created);
        watch
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.answers.message().await.unwrap().expect("the stream does not end")
    }
}

fn prefix() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: Bytes::from_static(PREFIX.0),
        range_end: Bytes::from_static(PREFIX.1),
        prev_kv: true,
        ..Default::default()
    }
}

/// Follows one watcher: each put of `put_all` once, in order.
#[derive(Clone)]
struct Follower {
    revision_next: i64,
    revision_end: i64,
}

impl Follower {
    fn new(first: i64) -> Follower {
        Follower { revision_next: first, revision_end: first + PUTS }
    }

    fn take(&mut self, response: &pb::WatchResponse) {
        assert!(!response.canceled, "{response:?}");
        for event in &response.events {
            let kv = event.kv.as_ref().unwrap();
            assert_eq!(kv.mod_revision, self.revision_next, "of watcher {}", response.watch_id);
            self.revision_next += 1;
        }
        let header = response.header.as_ref().unwrap();
        assert!(header.revision >= self.revision_next - 1);
    }

    fn is_done(&self) -> bool {
        self.revision_next == self.revision_end
    }
}

/// Puts in order, some in flight at a time; every one changes one of a hundred keys.
async fn put_all(client: &Client, value_bytes: usize) {
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / PUTS_PER_SECOND));
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..PUTS {
        pace.tick().await;
        let mut client = client.clone();
        let value = vec![b'v'; value_bytes];
        under_way.spawn(async move { client.put(format!("k/{}", number % 100), value).await.unwrap() });
        if under_way.len() >= 64 {
            under_way.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(put) = under_way.join_next().await {
        put.unwrap();
    }
}

/// The next revision.
async fn revision_next(client: &mut Client) -> i64 {
    let range = pb::RangeRequest { key: Bytes::from_static(b"k"), ..Default::default() };
    revision(client.kv.range(range).await.unwrap().into_inner().header) + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_over_many_streams_see_every_put_in_order() {
    let server = server();
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    let first = revision_next(&mut client).await;
    let mut followers = tokio::task::JoinSet::new();
    let mut connection = client.clone();
    for number in 0..WATCHERS {
        // Ten streams a connection: a hundred clients.
        if number % 10 == 0 {
            connection = Client::connect(&server.endpoint()).await.unwrap();
        }
        let mut watch = Watch::open(&connection).await;
        followers.spawn(async move {
            let mut follower = Follower::new(first);
            while !follower.is_done() {
                follower.take(&watch.next().await);
            }
        });
    }
    put_all(&client, 16).await;
    let mut complete = 0;
    while let Some(follower) = followers.join_next().await {
        follower.unwrap();
        complete += 1;
    }
    assert_eq!(complete, WATCHERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_in_one_stream_see_every_put_in_order() {
    let server = server();
    let client = Client::connect(&server.endpoint()).await.unwrap();
    let first = revision_next(&mut client.clone()).await;
    let watching = Client::connect(&server.endpoint()).await.unwrap();
    let mut watch = Watch::open(&watching).await;
    for id in 1..WATCHERS {
        watch.send(RequestUnion::CreateRequest(prefix())).await;
        let answer = watch.next().await;
        assert!(answer.created && answer.watch_id == i64::try_from(id).unwrap(), "{answer:?}");
    }
    let mut followers = vec![Follower::new(first); WATCHERS];
    let putting = tokio::spawn(async move { put_all(&client, 16).await });
    let mut left = WATCHERS;
    while left > 0 {
        let response = watch.next().await;
        let follower = &mut followers[usize::try_from(response.watch_id).unwrap()];
        follower.take(&response);
        if follower.is_done() {
            left -= 1;
        }
    }
    putting.await.unwrap();
}

const IDLE_STREAMS: usize = 20;

/// Streams whose clients do not read: each on a connection of its own.
async fn idle_streams(server: &Server) -> Vec<Watch> {
    let mut idle = Vec::new();
    for _ in 0..IDLE_STREAMS {
        idle.push(Watch::open(&Client::connect(&server.endpoint()).await.unwrap()).await);
    }
    idle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_nobody_and_misses_nothing() {
    let server = server();
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    let first = revision_next(&mut client).await;
    let idle = idle_streams(&server).await;
    let mut reading = Watch::open(&Client::connect(&server.endpoint()).await.unwrap()).await;
    let reader = tokio::spawn(async move {
        let mut follower = Follower::new(first);
        while !follower.is_done() {
            follower.take(&reading.next().await);
        }
    });
    // More than a stream's credit and its connection's window together: they do fall behind.
    put_all(&client, 4 * 1024).await;
    // The one that reads has all, while twenty others took nothing.
    reader.await.unwrap();
    let mut caught_up = Vec::new();
    for mut watch in idle {
        let mut follower = Follower::new(first);
        while !follower.is_done() {
            follower.take(&watch.next().await);
        }
        caught_up.push((watch, follower));
    }
    // And once only: what comes next is the next put.
    client.put("k/after", "").await.unwrap();
    for (mut watch, mut follower) in caught_up {
        follower.take(&watch.next().await);
        assert_eq!(follower.revision_next, first + PUTS + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_no_memory() {
    const VALUE_BYTES: usize = 16 * 1024;
    /// Twenty streams of a MiB of credit each, with what their connections hold; far below what was written.
    const GROWTH_BYTES_MAX: f64 = 32.0 * 1024.0 * 1024.0;
    let server = server();
    let mut client = Client::connect(&server.endpoint()).await.unwrap();
    let resident = || server.metric("process_resident_memory_bytes").unwrap();
    // Once without watchers, so that what the store itself takes is there already.
    put_and_compact(&mut client, VALUE_BYTES).await;
    let before = resident();
    let idle = idle_streams(&server).await;
    put_and_compact(&mut client, VALUE_BYTES).await;
    let grown = resident() - before;
    println!("grown by {grown} bytes with {IDLE_STREAMS} streams that do not read");
    assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
    // What they have not fetched is compacted: they are told so, after what they were sent before.
    for mut watch in idle {
        let end = loop {
            let response = watch.next().await;
            if response.canceled {
                break response;
            }
        };
        assert!(end.compact_revision > 0, "{end:?}");
    }
}

/// `put_all`, with all history given up at every few puts.
async fn put_and_compact(client: &mut Client, value_bytes: usize) {
    let putting = client.clone();
    let mut putting = tokio::spawn(async move { put_all(&putting, value_bytes).await });
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            done = &mut putting => return done.unwrap(),
            _ = pace.tick() => {
                let revision = revision_next(client).await - 1;
                // Where nothing was put since the last one, it is refused.
                client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.ok();
            }
        }
    }
}
