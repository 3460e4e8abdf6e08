//! Codes and exact texts.

use crate::node::{Served, get, put};
use quorate_api::Refusal;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op::Request as Op;
use quorate_store::StoreError;
use tonic::{Code, Request, Status};

#[tokio::test]
async fn every_refusal_has_etcds_code_and_text() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let table = [
        (Refusal::Overloaded, Code::ResourceExhausted, "etcdserver: too many requests"),
        (Refusal::NoLeader, Code::Unavailable, "etcdserver: no leader"),
        (Refusal::LeaderChanged, Code::Unavailable, "etcdserver: leader changed"),
        (Refusal::TimedOut, Code::Unavailable, "etcdserver: request timed out"),
        (Refusal::Stopping, Code::Unavailable, "etcdserver: server stopped"),
        (
            Refusal::Removed,
            Code::Unavailable,
            "quorate: this node was removed from its cluster; ask another member",
        ),
        (Refusal::Unsupported("not here"), Code::Unimplemented, "not here"),
        (
            Refusal::Store(StoreError::Compacted),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            Refusal::Store(StoreError::FutureRevision),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (Refusal::Store(StoreError::KeyNotFound), Code::InvalidArgument, "etcdserver: key not found"),
        (Refusal::Store(StoreError::LeaseNotFound), Code::NotFound, "etcdserver: requested lease not found"),
        (
            Refusal::Store(StoreError::LeaseExists),
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        ),
        (Refusal::Store(StoreError::LeaseTtlTooLarge), Code::OutOfRange, "etcdserver: too large lease TTL"),
        (
            Refusal::Store(StoreError::NoSpace),
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        (Refusal::Store(StoreError::Corrupt), Code::DataLoss, "etcdserver: corrupt cluster"),
    ];
    for (refusal, code, text) in table {
        served.node.state().refusal = Some(refusal);
        for status in [keys.put(put("a", "1")).await.unwrap_err(), keys.range(get("a")).await.unwrap_err()] {
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}

fn txn(success: Vec<Op>) -> pb::TxnRequest {
    let success = success.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    pb::TxnRequest { success, ..Default::default() }
}

fn nested(depth: usize) -> pb::TxnRequest {
    if depth == 0 { txn(vec![]) } else { txn(vec![Op::RequestTxn(nested(depth - 1))]) }
}

#[tokio::test]
async fn bad_transactions_are_refused_in_etcds_order() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let many = || (0..129).map(|_| Op::RequestPut(put("", ""))).collect::<Vec<_>>();
    let sorted = |order| Op::RequestRange(pb::RangeRequest { sort_order: order, ..get("a") });
    let valued = || Op::RequestPut(pb::PutRequest { ignore_value: true, ..put("a", "1") });
    let leased = || Op::RequestPut(pb::PutRequest { ignore_lease: true, lease: 1, ..put("a", "1") });
    let delete = |key: &str| {
        Op::RequestDeleteRange(pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() })
    };
    let nothing = pb::TxnRequest { success: vec![pb::RequestOp::default()], ..txn(vec![]) };
    let no_compare_key = pb::TxnRequest { compare: vec![pb::Compare::default()], ..txn(vec![delete("")]) };
    let table = [
        (txn(many()), "etcdserver: too many operations in txn request"),
        (nested(99), "decode"),
        (no_compare_key, "etcdserver: key is not provided"),
        (txn(vec![delete("")]), "etcdserver: key is not provided"),
        (txn(vec![valued(), delete("")]), "etcdserver: value is provided"),
        (txn(vec![leased(), delete("")]), "etcdserver: lease is provided"),
        (txn(vec![sorted(7), delete("")]), "etcdserver: invalid sort option"),
        (txn(vec![delete(""), sorted(7)]), "etcdserver: key is not provided"),
        (nothing, "etcdserver: key not found"),
        (
            txn(vec![Op::RequestPut(put("a", "1")), Op::RequestPut(put("a", "2"))]),
            "etcdserver: duplicate key given in txn request",
        ),
        (
            txn(vec![Op::RequestPut(put("a", "1")), delete("a")]),
            "etcdserver: duplicate key given in txn request",
        ),
    ];
    for (request, text) in table {
        let status = keys.txn(request).await.unwrap_err();
        if text == "decode" {
            // Deeper than protobuf may nest: refused before anything walks it.
            assert_eq!(status.code(), Code::Internal, "{status:?}");
        } else {
            assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
        }
    }
    assert_eq!(served.node.state().proposals, 0);
    keys.txn(nested(40)).await.unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused_before_the_node_sees_them() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let refused = |status: Status| (status.code(), status.message().to_owned());
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    assert_eq!(
        refused(keys.put(put("", "1")).await.unwrap_err()),
        invalid("etcdserver: key is not provided")
    );
    assert_eq!(refused(keys.range(get("")).await.unwrap_err()), invalid("etcdserver: key is not provided"));
    let by_moon = pb::RangeRequest { sort_target: 5, ..get("a") };
    assert_eq!(refused(keys.range(by_moon).await.unwrap_err()), invalid("etcdserver: invalid sort option"));
    let none = pb::DeleteRangeRequest::default();
    assert_eq!(
        refused(keys.delete_range(none).await.unwrap_err()),
        invalid("etcdserver: key is not provided")
    );
    assert_eq!(served.node.state().proposals, 0);
    assert!(served.node.state().reads.is_empty());
}

#[tokio::test]
async fn sizes_are_bounded_as_etcd_bounds_them() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    keys.put(put("a", &"v".repeat(1_572_000))).await.unwrap();
    let status = keys.put(put("a", &"v".repeat(1_572_864))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let status = keys.put(put("a", &"v".repeat(2_200_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "grpc: received message larger than max (2200008 vs. 2097152)");
    // The connection is none the worse for it.
    keys.put(put("a", "small")).await.unwrap();
}

#[tokio::test]
async fn clients_that_want_a_leader_are_refused_without_one() {
    let served = Served::start().await;
    let mut keys = served.keys().await;
    let wanting = || {
        let mut request = Request::new(get("a"));
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        request
    };
    keys.range(wanting()).await.unwrap();
    served.node.state().leader = 0;
    let status = keys.range(wanting()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    keys.range(get("a")).await.unwrap();
}

#[tokio::test]
async fn streams_that_want_a_leader_are_not_opened_without_one() {
    let served = Served::start().await;
    served.node.state().leader = 0;
    for wants in ["true", "false"] {
        let mut watch = Request::new(tokio_stream::pending::<pb::WatchRequest>());
        watch.metadata_mut().insert("hasleader", wants.parse().unwrap());
        let watch = pb::watch_client::WatchClient::new(served.channel().await).watch(watch).await.map(|_| ());
        let mut renewals = Request::new(tokio_stream::pending::<pb::LeaseKeepAliveRequest>());
        renewals.metadata_mut().insert("hasleader", wants.parse().unwrap());
        let mut leases = pb::lease_client::LeaseClient::new(served.channel().await);
        let renewals = leases.lease_keep_alive(renewals).await.map(|_| ());
        for opened in [watch, renewals] {
            assert_eq!(opened.is_err(), wants == "true");
            if let Err(status) = opened {
                assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
            }
        }
    }
}

#[tokio::test]
async fn auth_says_that_it_is_off() {
    let served = Served::start().await;
    let mut auth = pb::auth_client::AuthClient::new(served.channel().await);
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    let refused = auth.authenticate(pb::AuthenticateRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "etcdserver: authentication is not enabled");
    let refused = auth.user_add(pb::AuthUserAddRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("--client-cert-auth"), "{refused:?}");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let served = Served::start().await;
    let mut registry = prometheus_client::registry::Registry::default();
    served.metrics.register(&mut registry);
    let mut keys = served.keys().await;
    keys.put(put("a", "1")).await.unwrap();
    keys.put(put("a", "2")).await.unwrap();
    keys.put(put("", "")).await.unwrap_err();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let count = |code: &str| {
        text.lines()
            .find(|line| line.starts_with("grpc_server_handled_total{") && line.contains(code))
            .and_then(|line| line.split(' ').next_back())
            .map(str::to_owned)
    };
    assert!(text.contains(r#"grpc_service="etcdserverpb.KV""#), "{text}");
    assert_eq!(count(r#"grpc_code="OK""#).as_deref(), Some("2"), "{text}");
    assert_eq!(count(r#"grpc_code="InvalidArgument""#).as_deref(), Some("1"), "{text}");
    assert!(text.contains("grpc_server_started_total{grpc_type=\"unary\""), "{text}");
}
