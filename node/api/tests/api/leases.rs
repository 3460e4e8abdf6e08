//! Lease.

use crate::node::{Served, put};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::lease_client::LeaseClient;
use tonic::Code;

#[tokio::test]
async fn a_lease_lives_through_all_its_calls() {
    let served = Served::start().await;
    let mut leases = LeaseClient::new(served.channel().await);
    let granted = leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner();
    assert!(granted.id > 0);
    assert_eq!((granted.ttl, granted.error.as_str()), (60, ""));
    let again = leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: granted.id }).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    let mut keys = served.keys().await;
    keys.put(pb::PutRequest { lease: granted.id, ..put("a", "1") }).await.unwrap();
    let left = leases
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id: granted.id, keys: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((left.ttl, left.granted_ttl, left.keys), (60, 60, vec!["a".into()]));
    let all = leases.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(all, [pb::LeaseStatus { id: granted.id }]);
    let revoked = leases.lease_revoke(pb::LeaseRevokeRequest { id: granted.id }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 3);
    let missing = leases.lease_revoke(pb::LeaseRevokeRequest { id: granted.id }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let left = leases
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id: granted.id, keys: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((left.id, left.ttl, left.granted_ttl, left.keys), (granted.id, -1, 0, vec![]));
}

#[tokio::test]
async fn keep_alive_answers_each_request_and_zero_for_the_unknown() {
    let served = Served::start().await;
    let mut leases = LeaseClient::new(served.channel().await);
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 30, id: 5 }).await.unwrap();
    let asked = [5, 99, 5].map(|id| pb::LeaseKeepAliveRequest { id });
    let mut answers = leases.lease_keep_alive(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.header.unwrap().revision, 1);
        told.push((answer.id, answer.ttl));
    }
    assert_eq!(told, [(5, 30), (99, 0), (5, 30)]);
}
