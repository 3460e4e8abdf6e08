//! Requests within etcd's bound that would be too large for the log.

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op::Request as Op;
use quorate_tests::cluster::{Cluster, Shape, missing};
use quorate_tests::program::Program;
use quorate_tests::trial::turn;
use quorate_types::limits::REQUEST_BYTES_MAX;
use std::time::Duration;
use tonic::Code;

/// A transaction that holds so many others, each with thousands of small reads that nobody executes: for want of a
/// compare that fails, the first branch is taken. Every read takes seven bytes in the request and more in the log, where
/// each field has its place.
fn nested(count: usize) -> pb::TxnRequest {
    let op = |request| pb::RequestOp { request: Some(request) };
    let both =
        |ops: Vec<pb::RequestOp>| pb::TxnRequest { success: ops.clone(), failure: ops, ..Default::default() };
    let read = op(Op::RequestRange(pb::RangeRequest { key: "k".into(), ..Default::default() }));
    let reads = op(Op::RequestTxn(both(vec![read; 48])));
    let within = op(Op::RequestTxn(both(vec![reads; 40])));
    let put = pb::PutRequest { key: "nested".into(), value: count.to_string().into(), ..Default::default() };
    pb::TxnRequest {
        success: vec![op(Op::RequestPut(put))],
        failure: vec![within; count],
        ..Default::default()
    }
}

/// The ends of all logs, once they rest.
async fn log_ends(cluster: &Cluster) -> Vec<u64> {
    let ends = async || {
        let mut ends = Vec::new();
        for number in cluster.members_running() {
            ends.push(cluster.status(number).await.map_or(0, |status| status.raft_index));
        }
        ends
    };
    let mut last = ends().await;
    cluster
        .wait("nothing more comes into the logs", async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = std::mem::replace(&mut last, ends().await);
            before == last && last.iter().all(|end| *end == last[0])
        })
        .await;
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_too_large_for_the_log_never_enters_it() {
    let program = Program::quorated();
    if let Some(reason) = missing(&program) {
        eprintln!("skipped: {reason}");
        return;
    }
    let _turn = turn();
    let cluster = Cluster::start(Shape::new(program, 3)).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = cluster.members_running().filter(|number| *number != leader).collect();
    let too_large = nested(27);
    let bytes = prost::Message::encoded_len(&too_large);
    assert!((1_400_000..=REQUEST_BYTES_MAX).contains(&bytes), "etcd takes up to 1.5 MiB: {bytes}");

    let before = log_ends(&cluster).await;
    for number in [leader, others[0]] {
        let refused = cluster.client(number).kv.txn(too_large.clone()).await.unwrap_err();
        let said = (refused.code(), refused.message());
        assert_eq!(said, (Code::InvalidArgument, "etcdserver: request is too large"), "node {number}");
    }
    assert_eq!(log_ends(&cluster).await, before, "something was appended");

    // Smaller ones of the same form pass through both, and everybody is well.
    for (number, count) in [(leader, 7), (others[0], 8)] {
        let mut client = cluster.client(number);
        assert!(client.kv.txn(nested(count)).await.unwrap().into_inner().succeeded);
        let read = client.get("nested").await.unwrap().unwrap();
        assert_eq!(read, count.to_string().into_bytes());
    }
    assert_eq!(cluster.leader().await, leader);
    cluster.wait_converged().await;
}
