//! The store as an API server of Kubernetes uses it: its transactions, its lists in pages, its progress
//! requests, its compaction.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op::Request;
use quorate_proto::etcdserverpb::response_op::Response;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_proto::mvccpb;
use quorate_tests::client::{Client, revision};
use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PREFIX: (&str, &str) = ("/registry/pods/", "/registry/pods0");

async fn server() -> (Server, Client) {
    let server = Server::start(Options::new(Program::quorated()).in_memory());
    let client = Client::connect(&server.endpoint()).await.unwrap();
    (server, client)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> pb::RequestOp {
    let put = pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

fn get(key: &str) -> pb::RequestOp {
    let range = pb::RangeRequest { key: bytes(key), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestRange(range)) }
}

fn delete(key: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: bytes(key), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// If the key was last written at that revision (0: is not there), then this, else that.
fn if_mod(key: &str, revision: i64, then: pb::RequestOp, or: Option<pb::RequestOp>) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Mod.into(),
        key: bytes(key),
        target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    pb::TxnRequest { compare: vec![compare], success: vec![then], failure: or.into_iter().collect() }
}

async fn txn(client: &mut Client, txn: pb::TxnRequest) -> pb::TxnResponse {
    client.kv.txn(txn).await.unwrap().into_inner()
}

/// The key a transaction's only read found.
fn found(answer: &pb::TxnResponse) -> Option<&mvccpb::KeyValue> {
    match answer.responses.as_slice() {
        [pb::ResponseOp { response: Some(Response::ResponseRange(range)) }] => range.kvs.first(),
        other => panic!("a read was asked for: {other:?}"),
    }
}

#[tokio::test]
async fn objects_are_created_updated_and_deleted_by_revision() {
    let (_server, mut client) = server().await;
    let key = "/registry/pods/default/web";
    let created = txn(&mut client, if_mod(key, 0, put(key, "v1"), None)).await;
    assert!(created.succeeded);
    let first = revision(created.header);
    let again = txn(&mut client, if_mod(key, 0, put(key, "other"), None)).await;
    assert!(!again.succeeded && again.responses.is_empty());
    assert_eq!(revision(again.header), first);

    let updated = txn(&mut client, if_mod(key, first, put(key, "v2"), Some(get(key)))).await;
    assert!(updated.succeeded);
    assert_eq!(revision(updated.header), first + 1);
    // The loser of a race learns what is there in the same answer.
    let stale = txn(&mut client, if_mod(key, first, put(key, "v3"), Some(get(key)))).await;
    assert!(!stale.succeeded);
    let there = found(&stale).unwrap();
    assert_eq!((&there.value[..], there.mod_revision, there.create_revision), (&b"v2"[..], first + 1, first));
    assert_eq!(there.version, 2);

    let stale = txn(&mut client, if_mod(key, first, delete(key), Some(get(key)))).await;
    assert!(!stale.succeeded && found(&stale).is_some());
    let deleted = txn(&mut client, if_mod(key, first + 1, delete(key), Some(get(key)))).await;
    assert!(deleted.succeeded);
    assert_eq!(revision(deleted.header), first + 2);
    let gone = txn(&mut client, if_mod(key, first + 1, delete(key), Some(get(key)))).await;
    assert!(!gone.succeeded && found(&gone).is_none());
    assert_eq!(revision(gone.header), first + 2);
}

async fn list(client: &mut Client, from: &str, limit: i64, revision: i64) -> pb::RangeResponse {
    let range = pb::RangeRequest {
        key: bytes(from),
        range_end: bytes(PREFIX.1),
        limit,
        revision,
        ..Default::default()
    };
    client.kv.range(range).await.unwrap().into_inner()
}

/// Writers that change, delete and create objects until told to stop.
async fn churn(mut client: Client, offset: usize, stop: Arc<AtomicBool>) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{}{:04}", PREFIX.0, (count * 37 + offset) % 700);
        if count % 3 == 0 {
            let delete = pb::DeleteRangeRequest { key: bytes(&key), ..Default::default() };
            client.kv.delete_range(delete).await.unwrap();
        } else {
            client.put(key, format!("written {count}")).await.unwrap();
        }
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_one_list_are_of_one_revision_while_writes_go_on() {
    const PAGE: i64 = 50;
    let (_server, mut client) = server().await;
    for number in 0..500 {
        client.put(format!("{}{number:04}", PREFIX.0), "first").await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..4).map(|offset| tokio::spawn(churn(client.clone(), offset, Arc::clone(&stop)))).collect();
    let mut moved = 0;
    for _ in 0..20 {
        let mut page = list(&mut client, PREFIX.0, PAGE, 0).await;
        let at = revision(page.header);
        let mut kvs = Vec::new();
        let mut left = page.count;
        loop {
            assert_eq!(page.count, left, "what is left from here on, at that revision");
            assert_eq!(page.more, page.count > PAGE);
            left -= i64::try_from(page.kvs.len()).unwrap();
            let last = page.kvs.last().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap());
            kvs.extend(page.kvs);
            if !page.more {
                break;
            }
            // The next page begins right behind the last key.
            page = list(&mut client, &format!("{}\0", last.unwrap()), PAGE, at).await;
            moved += usize::from(revision(page.header) > at);
        }
        assert_eq!(left, 0);
        let whole = list(&mut client, PREFIX.0, 0, at).await;
        assert_eq!(kvs, whole.kvs);
        assert!(kvs.iter().all(|kv| kv.mod_revision <= at));
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(moved > 0, "nothing was written between two pages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_never_overtakes_an_event() {
    const PUTS: i64 = 2_000;
    let (_server, mut client) = server().await;
    let (requests, outbound) = mpsc::channel(16);
    let send = |union| {
        let requests = requests.clone();
        async move { requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap() }
    };
    let create = pb::WatchCreateRequest {
        key: bytes(PREFIX.0),
        range_end: bytes(PREFIX.1),
        prev_kv: true,
        progress_notify: true,
        ..Default::default()
    };
    send(RequestUnion::CreateRequest(create)).await;
    let mut answers = client.watch.watch(ReceiverStream::new(outbound)).await.unwrap().into_inner();
    let created = answers.message().await.unwrap().unwrap();
    assert!(created.created);
    let first = revision(created.header) + 1;
    let mut writing = client.clone();
    let writer = tokio::spawn(async move {
        for number in 0..PUTS {
            writing.put(format!("{}{}", PREFIX.0, number % 20), "v").await.unwrap();
        }
    });
    // As an API server: about every 100 ms while a read waits; often here, for the sake of the test.
    let asking = requests.clone();
    let asker = tokio::spawn(async move {
        let progress = || RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        while asking.send(pb::WatchRequest { request_union: Some(progress()) }).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    // All writes are to the prefix: revisions and events are the same count.
    let (mut next, mut answered) = (first, 0);
    loop {
        let response = answers.message().await.unwrap().unwrap();
        for event in &response.events {
            let kv = event.kv.as_ref().unwrap();
            assert_eq!(kv.mod_revision, next);
            assert_eq!(event.prev_kv.is_some(), kv.create_revision != kv.mod_revision);
            next += 1;
        }
        if response.events.is_empty() {
            assert_eq!(response.watch_id, -1);
            assert_eq!(revision(response.header), next - 1, "told of progress it was not told the events of");
            answered += 1;
            if next == first + PUTS {
                break;
            }
        }
    }
    writer.await.unwrap();
    asker.abort();
    assert!(answered > 1, "progress while events came, and at the end");
}

/// Claims a round of compaction: of all API servers on one store, one succeeds.
fn claim(version: i64, revision: i64) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Version.into(),
        key: bytes("compact_rev_key"),
        target_union: Some(pb::compare::TargetUnion::Version(version)),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![put("compact_rev_key", &revision.to_string())],
        failure: vec![get("compact_rev_key")],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_api_servers_compacts() {
    let (server, mut client) = server().await;
    let mut revision_kept = 0;
    for round in 0..5 {
        for number in 0..10 {
            client.put(format!("{}{number}", PREFIX.0), format!("round {round}")).await.unwrap();
        }
        let claims = (0..4).map(|_| {
            let endpoint = server.endpoint();
            tokio::spawn(async move {
                let mut client = Client::connect(&endpoint).await.unwrap();
                txn(&mut client, claim(round, revision_kept)).await
            })
        });
        let mut winners = Vec::new();
        for answer in claims.collect::<Vec<_>>() {
            let answer = answer.await.unwrap();
            if answer.succeeded {
                winners.push(answer);
            } else {
                assert_eq!(found(&answer).unwrap().version, round + 1);
            }
        }
        assert_eq!(winners.len(), 1);
        if revision_kept > 0 {
            let compact = pb::CompactionRequest { revision: revision_kept, physical: false };
            client.kv.compact(compact).await.unwrap();
            let behind = pb::RangeRequest {
                key: bytes(PREFIX.0),
                range_end: bytes(PREFIX.1),
                revision: revision_kept - 1,
                ..Default::default()
            };
            let status = client.kv.range(behind).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::OutOfRange);
            assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
            assert_eq!(list(&mut client, PREFIX.0, 0, revision_kept).await.count, 10);
        }
        revision_kept = revision(winners[0].header);
    }
}
