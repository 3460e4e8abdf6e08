//! KV.

use crate::node::{NODE, Served, get, prefix, put};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op::Request as Op;
use quorate_proto::etcdserverpb::response_op::Response as OpAnswer;

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn revision_only(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

#[tokio::test]
async fn a_put_is_read_back_with_its_header() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let answer = keys.put(put("a", "1")).await.unwrap().into_inner();
    assert_eq!(
        answer.header,
        Some(pb::ResponseHeader { cluster_id: 0xc1, member_id: NODE, revision: 2, raft_term: 7 })
    );
    assert_eq!(answer.prev_kv, None);
    let answer = keys.put(pb::PutRequest { prev_kv: true, ..put("a", "2") }).await.unwrap().into_inner();
    assert_eq!(answer.prev_kv.unwrap().value, "1");
    let answer = keys.range(get("a")).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.more), (1, false));
    let kv = &answer.kvs[0];
    assert_eq!((&kv.key[..], &kv.value[..]), (&b"a"[..], &b"2"[..]));
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (2, 3, 2, 0));
}

#[tokio::test]
async fn serializable_reads_do_not_ask_the_quorum() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    keys.range(get("a")).await.unwrap();
    keys.range(pb::RangeRequest { serializable: true, ..get("a") }).await.unwrap();
    let local = || op(Op::RequestRange(pb::RangeRequest { serializable: true, ..get("a") }));
    let quorum = || op(Op::RequestRange(get("a")));
    keys.txn(pb::TxnRequest { success: vec![local(), quorum()], ..Default::default() }).await.unwrap();
    keys.txn(pb::TxnRequest { success: vec![local()], failure: vec![local()], ..Default::default() })
        .await
        .unwrap();
    keys.txn(pb::TxnRequest::default()).await.unwrap();
    assert_eq!(served.node.state().reads, [true, false, true, false, false]);
    assert_eq!(served.node.state().proposals, 0);
    // A nested transaction enters the log even if it only reads, as in etcd.
    let nested = pb::TxnRequest { success: vec![local()], ..Default::default() };
    keys.txn(pb::TxnRequest { success: vec![op(Op::RequestTxn(nested))], ..Default::default() })
        .await
        .unwrap();
    assert_eq!(served.node.state().proposals, 1);
}

#[tokio::test]
async fn inner_headers_of_a_transaction_follow_its_changes() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    keys.put(put("a", "1")).await.unwrap();
    let nested = pb::TxnRequest { success: vec![op(Op::RequestRange(get("b")))], ..Default::default() };
    let gone = pb::DeleteRangeRequest { key: "none".into(), ..Default::default() };
    let answer = keys
        .txn(pb::TxnRequest {
            success: vec![
                op(Op::RequestRange(get("a"))),
                op(Op::RequestDeleteRange(gone.clone())),
                op(Op::RequestPut(put("b", "2"))),
                op(Op::RequestTxn(nested)),
                op(Op::RequestDeleteRange(gone)),
            ],
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert!(answer.succeeded);
    assert_eq!(answer.header.as_ref().unwrap().revision, 3);
    let headers: Vec<_> = answer
        .responses
        .iter()
        .map(|one| match one.response.as_ref().unwrap() {
            OpAnswer::ResponseRange(range) => range.header,
            OpAnswer::ResponsePut(put) => put.header,
            OpAnswer::ResponseDeleteRange(delete) => delete.header,
            OpAnswer::ResponseTxn(txn) => {
                let OpAnswer::ResponseRange(inner) = txn.responses[0].response.as_ref().unwrap() else {
                    panic!("asked for a range")
                };
                assert_eq!(inner.header, revision_only(3));
                assert_eq!(inner.kvs[0].value, "2");
                txn.header
            }
        })
        .collect();
    assert_eq!(
        headers,
        [revision_only(2), revision_only(2), revision_only(3), revision_only(0), revision_only(3)]
    );
}

#[tokio::test]
async fn lists_beyond_four_megabytes_are_sent() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let value = "v".repeat(1_000_000);
    for number in 0..6 {
        keys.put(put(&format!("big{number}"), &value)).await.unwrap();
    }
    let answer = keys.range(prefix("big", "bih")).await.unwrap().into_inner();
    assert_eq!(answer.kvs.len(), 6);
    assert!(answer.kvs.iter().all(|kv| kv.value.len() == 1_000_000));
}

#[tokio::test]
async fn compares_of_unknown_numbers_go_as_in_etcd() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    keys.put(put("a", "1")).await.unwrap();
    let compare = |result, target| pb::Compare { result, target, key: "a".into(), ..Default::default() };
    // (result, target, holds): result 99 always holds; target 99 compares equal.
    for (result, target, holds) in
        [(99, 0, true), (0, 99, true), (1, 99, false), (3, 99, false), (0, 0, false)]
    {
        let txn = pb::TxnRequest { compare: vec![compare(result, target)], ..Default::default() };
        let answer = keys.txn(txn).await.unwrap().into_inner();
        assert_eq!(answer.succeeded, holds, "result {result} target {target}");
    }
}
