//! `quorate.Admin`, the local socket, and who may change the cluster.

use crate::node::{NODE, Served, get, member, put};
use quorate_api::{CardState, MemberChange, MemberRefusal, PeerStatus, Refusal};
use quorate_proto::etcdserverpb as etcd;
use quorate_proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_proto::quorate as pb;
use quorate_proto::quorate::admin_client::AdminClient;
use quorate_types::NodeId;
use std::time::Duration;
use tokio::net::UdpSocket;
use tonic::transport::Channel;
use tonic::{Code, Status};

#[tokio::test]
async fn the_local_socket_serves_clients_and_administrators() {
    let served = Served::start().await;
    let channel = served.local().await;
    let mut keys = KvClient::new(channel.clone());
    keys.put(put("a", "1")).await.unwrap();
    assert_eq!(keys.range(get("a")).await.unwrap().into_inner().count, 1);
    ClusterClient::new(channel.clone()).member_list(etcd::MemberListRequest::default()).await.unwrap();
    AdminClient::new(channel).members(pb::MembersRequest::default()).await.unwrap();
}

#[tokio::test]
async fn members_are_seen_with_how_they_fare() {
    let served = Served::start().await;
    let learner = quorate_types::Member { stays_learner: true, ..member(0x22, "n2") };
    let peer = PeerStatus {
        id: NodeId(0x22),
        name: "n2".to_owned(),
        is_active: Some(false),
        lag_entries: Some(17),
        is_learner: true,
        is_voter: false,
        card: CardState::StandsStill,
        address: "10.0.0.99:2380".to_owned(),
    };
    {
        let mut state = served.node.state();
        state.membership.members.push(learner);
        state.membership.learners.push(NodeId(0x22));
        state.membership.voters_outgoing.push(NodeId(NODE));
        state.peers.push(peer);
    }
    let mut admin = AdminClient::new(served.local().await);
    let seen = admin.members(pb::MembersRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!(served.node.state().reads, [true]);
    assert_eq!((seen.node_id, seen.cluster_id, seen.leader, seen.term), (NODE, 0xc1, NODE, 7));
    assert_eq!((seen.role.as_str(), seen.removed, seen.change_under_way), ("leader", false, true));
    let [own, other] = seen.members.as_slice() else { panic!("two: {:?}", seen.members) };
    assert!(own.is_voter && !own.is_learner && own.is_active == Some(true) && own.lag_entries.is_none());
    assert!(!other.is_voter && other.is_learner && other.stays_learner);
    assert_eq!((other.is_active, other.lag_entries), (Some(false), Some(17)));
    assert_eq!((own.card_write_ms, own.card_stands_still), (Some(42), false));
    assert_eq!((other.card_write_ms, other.card_stands_still), (None, true));
    assert_eq!((other.address.as_str(), &other.peer_addresses[0][..]), ("10.0.0.99:2380", "10.0.0.34:2380"));
}

#[tokio::test]
async fn members_change_through_it_and_refusals_are_for_people() {
    let served = Served::start().await;
    served.node.state().membership.members.push(member(0x22, "n2"));
    let mut admin = AdminClient::new(served.local().await);
    let id = pb::MemberRequest { id: 0x22 };
    admin.member_promote(id).await.unwrap();
    served.node.state().leader = 0x33;
    let seen = admin.member_transfer(id).await.expect("through any member").into_inner();
    assert_eq!(seen.leader, 0x22);
    assert_eq!(admin.member_remove(id).await.unwrap().into_inner().members.len(), 1);
    let id = NodeId(0x22);
    assert_eq!(
        served.node.state().changes,
        [MemberChange::Promote(id), MemberChange::Transfer(id), MemberChange::Remove(id)]
    );
    let reason = "n3 does not answer".to_owned();
    for (refusal, code, words) in [
        (MemberRefusal::NotFound, Code::NotFound, "member list"),
        (MemberRefusal::NotLearner, Code::FailedPrecondition, "votes already"),
        (MemberRefusal::LearnerNotReady, Code::FailedPrecondition, "behind"),
        (MemberRefusal::WouldLoseQuorum { reason }, Code::FailedPrecondition, "n3 does not answer"),
        (MemberRefusal::BadTransferee, Code::FailedPrecondition, "cannot lead"),
        (MemberRefusal::ChangeUnderWay, Code::Unavailable, "under way"),
        (MemberRefusal::Refused(Refusal::NoLeader), Code::Unavailable, "no leader"),
    ] {
        served.node.state().member_refusal = Some(refusal);
        let status = admin.member_remove(pb::MemberRequest { id: 1 }).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(words), "{status}");
    }
}

#[tokio::test]
async fn invites_are_made_listed_and_taken_back() {
    let served = Served::start().await;
    let mut admin = AdminClient::new(served.local().await);
    for ttl_seconds in [0, 365 * 24 * 3_600 + 1, u64::MAX] {
        let status = admin.invite(pb::InviteRequest { ttl_seconds }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{ttl_seconds}");
    }
    let made = admin.invite(pb::InviteRequest { ttl_seconds: 600 }).await.unwrap().into_inner();
    assert_eq!((made.token.as_str(), made.id.as_str(), made.expires_in_seconds), ("token-a0", "a0", 600));
    served.node.state().invites[0].expires_in = Duration::from_millis(10);
    served.node.state().invites[0].used_by = Some("ab".to_owned());
    let listed = admin.invites(pb::InvitesRequest {}).await.unwrap().into_inner().invites;
    let view = pb::InviteView { id: "a0".to_owned(), expires_in_seconds: 1, used_by: "ab".to_owned() };
    assert_eq!(listed, [view], "not expired yet, so not zero");
    let revoke = pb::InviteRevokeRequest { id: "a0".to_owned() };
    admin.invite_revoke(revoke.clone()).await.unwrap();
    assert_eq!(admin.invite_revoke(revoke).await.unwrap_err().code(), Code::NotFound);
    served.node.state().refusal = Some(Refusal::NoLeader);
    let status = admin.invite(pb::InviteRequest { ttl_seconds: 1 }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
}

/// The statuses of everything that changes the cluster, or would tell a secret.
async fn changes(channel: Channel) -> Vec<Result<(), Status>> {
    let mut cluster = ClusterClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let mut admin = AdminClient::new(channel);
    let id = NODE;
    let peer_ur_ls = vec!["http://10.0.0.9:2380".to_owned()];
    vec![
        cluster.member_update(etcd::MemberUpdateRequest { id, peer_ur_ls }).await.map(|_| ()),
        cluster.member_promote(etcd::MemberPromoteRequest { id }).await.map(|_| ()),
        maintenance.move_leader(etcd::MoveLeaderRequest { target_id: id }).await.map(|_| ()),
        admin.member_promote(pb::MemberRequest { id }).await.map(|_| ()),
        admin.member_transfer(pb::MemberRequest { id }).await.map(|_| ()),
        admin.invite(pb::InviteRequest { ttl_seconds: 1 }).await.map(|_| ()),
        admin.invites(pb::InvitesRequest {}).await.map(|_| ()),
        admin.invite_revoke(pb::InviteRevokeRequest { id: "a0".to_owned() }).await.map(|_| ()),
        admin.member_remove(pb::MemberRequest { id }).await.map(|_| ()),
        cluster.member_remove(etcd::MemberRemoveRequest { id }).await.map(|_| ()),
    ]
}

#[tokio::test]
async fn who_is_at_hand_may_change_the_cluster() {
    let served = Served::start().await;
    for channel in [served.local().await, served.channel().await] {
        for answer in changes(channel).await {
            answer.expect("the socket and loopback may");
        }
        served.node.state().membership.members.push(member(NODE, "n1"));
    }
    assert!(served.address.ip().is_loopback());
}

/// An address of this machine that is not loopback; asking for a route sends nothing.
pub(crate) async fn address_of_its_own() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
    socket.connect("203.0.113.1:9").await.ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[tokio::test]
async fn a_stranger_on_the_client_port_may_not() {
    let Some(ip) = address_of_its_own().await else {
        eprintln!("skipped: this machine has no address but loopback");
        return;
    };
    let served = Served::start_on(&format!("{ip}:0"), None).await;
    for answer in changes(served.channel().await).await {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains(&format!("came from {ip} without")), "{status}");
        assert!(status.message().contains("--data-dir"), "{status}");
    }
    assert!(served.node.state().changes.is_empty() && served.node.state().invites.is_empty());
    // Reading and writing, and who the members are, is for every client.
    served.keys().await.put(put("a", "1")).await.unwrap();
    let mut admin = AdminClient::new(served.channel().await);
    admin.members(pb::MembersRequest::default()).await.unwrap();
    let mut cluster = ClusterClient::new(served.channel().await);
    cluster.member_list(etcd::MemberListRequest::default()).await.unwrap();
    let status = cluster.member_add(etcd::MemberAddRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "how it is done is no secret");
}

pub(crate) async fn may_invite(channel: Channel) -> Result<(), Status> {
    AdminClient::new(channel).invite(pb::InviteRequest { ttl_seconds: 1 }).await.map(|_| ())
}
