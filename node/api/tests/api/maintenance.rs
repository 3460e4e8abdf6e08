//! Maintenance, Cluster and health.

use crate::node::{NODE, Served, put};
use bytes::Bytes;
use quorate_api::Refusal;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::alarm_request::AlarmAction;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_proto::health as health_pb;
use quorate_proto::health::health_client::HealthClient;
use sha2::{Digest, Sha256};
use std::process::Command;
use tonic::Code;

#[tokio::test]
async fn status_tells_the_node_at_a_glance() {
    let served = Served::start().await;
    served.keys().await.put(put("a", "1")).await.unwrap();
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.version, "3.5.24");
    assert_eq!(
        (status.leader, status.raft_term, status.raft_index, status.raft_applied_index),
        (NODE, 7, 1, 1)
    );
    assert!(status.db_size > 0 && status.db_size == status.db_size_in_use);
    assert!(status.errors.is_empty());
    served.node.state().leader = 0;
    served.node.state().errors = vec!["etcdserver: no leader".to_owned(), "last words".to_owned()];
    alarm(&mut maintenance, AlarmAction::Activate, pb::AlarmType::Nospace).await;
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, ["etcdserver: no leader", "memberID:17 alarm:NOSPACE ", "last words"]);
    served.node.state().removed = true;
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors[0], "quorate: this node was removed from its cluster; ask another member");
    assert_eq!(status.errors.len(), 4);
}

async fn alarm(
    maintenance: &mut MaintenanceClient<tonic::transport::Channel>,
    action: AlarmAction,
    kind: pb::AlarmType,
) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest { action: action.into(), member_id: NODE, alarm: kind.into() };
    maintenance.alarm(request).await.unwrap().into_inner().alarms
}

#[tokio::test]
async fn alarms_are_raised_listed_and_cleared() {
    let served = Served::start().await;
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let nospace = pb::AlarmMember { member_id: NODE, alarm: pb::AlarmType::Nospace.into() };
    let none = pb::AlarmType::None;
    assert!(alarm(&mut maintenance, AlarmAction::Get, none).await.is_empty());
    assert_eq!(alarm(&mut maintenance, AlarmAction::Activate, pb::AlarmType::Nospace).await, [nospace]);
    assert!(alarm(&mut maintenance, AlarmAction::Activate, none).await.is_empty());
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get, none).await, [nospace]);
    assert_eq!(alarm(&mut maintenance, AlarmAction::Get, pb::AlarmType::Nospace).await, [nospace]);
    assert!(alarm(&mut maintenance, AlarmAction::Get, pb::AlarmType::Corrupt).await.is_empty());
    let status = served.keys().await.put(put("a", "1")).await.unwrap_err();
    assert_eq!(status.message(), "etcdserver: mvcc: database space exceeded");
    assert_eq!(alarm(&mut maintenance, AlarmAction::Deactivate, pb::AlarmType::Nospace).await, [nospace]);
    assert!(alarm(&mut maintenance, AlarmAction::Deactivate, pb::AlarmType::Nospace).await.is_empty());
    served.keys().await.put(put("a", "1")).await.unwrap();
}

#[tokio::test]
async fn hashes_and_the_small_calls() {
    let served = Served::start().await;
    served.keys().await.put(put("a", "1")).await.unwrap();
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let now = maintenance.hash_kv(pb::HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((now.compact_revision, now.hash_revision), (-1, 2));
    let future = maintenance.hash_kv(pb::HashKvRequest { revision: 9 }).await.unwrap_err();
    assert_eq!(future.code(), Code::OutOfRange);
    let whole = maintenance.hash(pb::HashRequest {}).await.unwrap().into_inner();
    assert_eq!(whole.hash, now.hash);
    let done = maintenance.defragment(pb::DefragmentRequest {}).await.unwrap().into_inner();
    assert_eq!(done.header, None);
}

async fn snapshot(served: &Served) -> Result<Vec<u8>, tonic::Status> {
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let mut blobs = maintenance.snapshot(pb::SnapshotRequest {}).await?.into_inner();
    let mut file = Vec::new();
    while let Some(answer) = blobs.message().await? {
        file.extend_from_slice(&answer.blob);
    }
    Ok(file)
}

#[tokio::test]
async fn a_snapshot_has_the_size_and_the_hash_etcds_tools_want() {
    let served = Served::start().await;
    for bytes in [0, 1, 511, 512, 513, 32 * 1024, 300_001] {
        let image: Vec<u8> = (0..bytes).map(|at: usize| u8::try_from(at % 251).unwrap()).collect();
        served.node.state().image = image.chunks(100_000).map(|slice| Ok(slice.to_vec().into())).collect();
        let file = snapshot(&served).await.unwrap();
        assert_eq!(file.len() % 512, 32);
        let (body, hash) = file.split_at(file.len() - 32);
        assert_eq!(&body[..bytes], image);
        assert!(body.len() < bytes + 512 && body[bytes..].iter().all(|byte| *byte == 0));
        assert_eq!(Sha256::digest(body).as_slice(), hash);
    }
}

#[tokio::test]
async fn a_snapshot_that_fails_half_way_has_no_hash() {
    let served = Served::start().await;
    let half = Bytes::from(vec![1; 40_000]);
    served.node.state().image = vec![Ok(half), Err(Refusal::Stopping)];
    let status = snapshot(&served).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_saves_a_snapshot() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        eprintln!("skipped: there is no etcdctl on the path");
        return;
    }
    let served = Served::start().await;
    served.node.state().image = vec![Ok(Bytes::from(vec![7; 70_000]))];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let endpoint = format!("--endpoints=http://{}", served.address);
    let target = file.clone();
    let saved = tokio::task::spawn_blocking(move || {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").arg(endpoint).args(["snapshot", "save"]).arg(target).output()
    });
    let saved = saved.await.unwrap().unwrap();
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    assert_eq!(std::fs::metadata(file).unwrap().len(), 70_144 + 32);
}

#[tokio::test]
async fn the_health_service_serves() {
    let served = Served::start().await;
    let mut health = HealthClient::new(served.channel().await);
    let whole = health_pb::HealthCheckRequest::default();
    let answer = health.check(whole.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
    let other = health_pb::HealthCheckRequest { service: "moon".to_owned() };
    assert_eq!(health.check(other).await.unwrap_err().code(), Code::NotFound);
    let mut watched = health.watch(whole).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
}
