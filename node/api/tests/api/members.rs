//! Cluster and MoveLeader, with etcd's codes and texts.

use crate::node::{NODE, Served, member};
use quorate_api::{MemberChange, MemberRefusal, Refusal};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_types::NodeId;
use std::process::Command;
use tonic::Code;
use tonic::transport::Channel;

const LEARNER: u64 = 0x22;

/// A voter and a learner.
async fn two() -> (Served, ClusterClient<Channel>) {
    let served = Served::start().await;
    served.node.state().membership.members.push(member(LEARNER, "n2"));
    served.node.state().membership.learners.push(NodeId(LEARNER));
    let cluster = ClusterClient::new(served.channel().await);
    (served, cluster)
}

#[tokio::test]
async fn members_are_listed_with_what_they_count_for() {
    let (served, mut cluster) = two().await;
    let list = cluster.member_list(pb::MemberListRequest { linearizable: false }).await.unwrap().into_inner();
    let header = list.header.unwrap();
    assert_eq!((header.member_id, header.raft_term), (NODE, 7));
    assert_eq!(header.revision, 0, "etcd's says nothing of the store either");
    let seen: Vec<_> = list.members.iter().map(|m| (m.id, m.name.as_str(), m.is_learner)).collect();
    assert_eq!(seen, [(NODE, "n1", false), (LEARNER, "n2", true)]);
    assert_eq!(list.members[1].client_ur_ls, ["http://10.0.0.34:2379"]);
    assert_eq!(list.members[1].peer_ur_ls, ["https://10.0.0.34:2380"]);
    assert!(served.node.state().reads.is_empty(), "this node's own knowledge is enough");
}

#[tokio::test]
async fn a_linearizable_list_costs_a_round_and_fails_without_a_quorum() {
    let (served, mut cluster) = two().await;
    cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap();
    assert_eq!(served.node.state().reads, [true]);
    served.node.state().refusal = Some(Refusal::TimedOut);
    let status = cluster.member_list(pb::MemberListRequest { linearizable: true }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: request timed out"));
    cluster.member_list(pb::MemberListRequest { linearizable: false }).await.unwrap();
}

#[tokio::test]
async fn members_are_promoted_moved_and_removed() {
    let (served, mut cluster) = two().await;
    let promoted =
        cluster.member_promote(pb::MemberPromoteRequest { id: LEARNER }).await.unwrap().into_inner();
    assert_eq!(promoted.members.iter().filter(|member| member.is_learner).count(), 0);
    let peer_ur_ls = vec!["http://10.0.0.9:2380".to_owned(), "https://n2.local:1".to_owned()];
    let moved = cluster.member_update(pb::MemberUpdateRequest { id: LEARNER, peer_ur_ls }).await.unwrap();
    let urls = &moved.get_ref().members[1].peer_ur_ls;
    assert_eq!(urls, &["https://10.0.0.9:2380", "https://n2.local:1"]);
    let removed = cluster.member_remove(pb::MemberRemoveRequest { id: LEARNER }).await.unwrap().into_inner();
    assert_eq!(removed.members.len(), 1);
    assert_eq!(removed.header.unwrap().raft_term, 7);
    let id = NodeId(LEARNER);
    let peer_addresses = vec!["10.0.0.9:2380".to_owned(), "n2.local:1".to_owned()];
    assert_eq!(
        served.node.state().changes,
        [MemberChange::Promote(id), MemberChange::Update { id, peer_addresses }, MemberChange::Remove(id)]
    );
}

#[tokio::test]
async fn every_refused_change_has_etcds_code_and_text() {
    let (served, mut cluster) = two().await;
    let table = [
        (MemberRefusal::NotFound, Code::NotFound, "etcdserver: member not found"),
        (
            MemberRefusal::NotLearner,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        (
            MemberRefusal::LearnerNotReady,
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        (
            MemberRefusal::WouldLoseQuorum { reason: "n3 does not answer".to_owned() },
            Code::Unavailable,
            "etcdserver: unhealthy cluster: n3 does not answer",
        ),
        (MemberRefusal::BadTransferee, Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        (
            MemberRefusal::ChangeUnderWay,
            Code::Unavailable,
            "quorate: another change of members is under way; try again when it is through",
        ),
        (MemberRefusal::Refused(Refusal::NoLeader), Code::Unavailable, "etcdserver: no leader"),
        (MemberRefusal::Refused(Refusal::LeaderChanged), Code::Unavailable, "etcdserver: leader changed"),
        (MemberRefusal::Refused(Refusal::TimedOut), Code::Unavailable, "etcdserver: request timed out"),
    ];
    for (refusal, code, text) in table {
        served.node.state().member_refusal = Some(refusal);
        let peer_ur_ls = vec!["http://10.0.0.9:2380".to_owned()];
        for status in [
            cluster.member_remove(pb::MemberRemoveRequest { id: LEARNER }).await.unwrap_err(),
            cluster.member_promote(pb::MemberPromoteRequest { id: LEARNER }).await.unwrap_err(),
            cluster.member_update(pb::MemberUpdateRequest { id: LEARNER, peer_ur_ls }).await.unwrap_err(),
        ] {
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}

#[tokio::test]
async fn addresses_that_are_none_or_anothers_are_refused() {
    let (served, mut cluster) = two().await;
    for (urls, code, text) in [
        (vec![], Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
        (vec!["http://n2"], Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
        (
            vec!["n2:1", "http://10.0.0.17:2380"],
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists",
        ),
    ] {
        let peer_ur_ls = urls.into_iter().map(str::to_owned).collect();
        let request = pb::MemberUpdateRequest { id: LEARNER, peer_ur_ls };
        let status = cluster.member_update(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let peer_ur_ls = vec!["http://10.0.0.34:2380".to_owned()];
    cluster.member_update(pb::MemberUpdateRequest { id: LEARNER, peer_ur_ls }).await.expect("its own");
    assert_eq!(served.node.state().changes.len(), 1);
}

#[tokio::test]
async fn adding_a_member_names_the_invite() {
    let (served, mut cluster) = two().await;
    let status = cluster.member_add(pb::MemberAddRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("quorate --data-dir DIR invite"), "{status}");
    assert!(served.node.state().changes.is_empty());
}

#[tokio::test]
async fn leadership_is_moved_by_the_leader_only() {
    let (served, _) = two().await;
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let mut to = async |target_id| maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await;
    for (refusal, code, text) in [
        (MemberRefusal::BadTransferee, Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        (MemberRefusal::NotFound, Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        (
            MemberRefusal::Refused(Refusal::TimedOut),
            Code::Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
    ] {
        served.node.state().member_refusal = Some(refusal);
        let status = to(LEARNER).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
    served.node.state().member_refusal = None;
    to(NODE).await.expect("to itself: nothing to do");
    to(LEARNER).await.unwrap();
    let moves = [MemberChange::Transfer(NodeId(NODE)), MemberChange::Transfer(NodeId(LEARNER))];
    assert_eq!(served.node.state().changes, moves);
    let status = to(NODE).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "etcdserver: not leader"));
}

/// etcdctl against that endpoint: what it prints, complaints included.
async fn etcdctl(endpoint: &str, words: &str) -> (bool, String) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoint}")).args(words.split(' '));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_manages_members() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        eprintln!("skipped: there is no etcdctl on the path");
        return;
    }
    let (served, _) = two().await;
    let port = format!("http://{}", served.address);
    let (done, table) = etcdctl(&port, "member list -w table").await;
    assert!(done && table.contains("| 22 | started |   n2 | https://10.0.0.34:2380 |"), "{table}");
    let (done, text) = etcdctl(&port, "member update 22 --peer-urls=http://10.0.0.9:2380").await;
    assert!(done && text.contains("Member               22 updated"), "{text}");
    let (done, text) = etcdctl(&port, "member promote 22").await;
    assert!(done && text.contains("Member               22 promoted"), "{text}");
    let (done, text) = etcdctl(&port, "member add n3 --peer-urls=http://10.0.0.3:2380").await;
    assert!(!done && text.contains("quorate --data-dir DIR invite"), "{text}");
    // Through the socket it is a client like any other, and may do what is done on the board itself.
    let socket = format!("unix://{}/quorated.sock", served.data_dir.path().display());
    let (done, text) = etcdctl(&socket, "member remove 22").await;
    assert!(done && text.contains("Member               22 removed from cluster               c1"), "{text}");
    served.node.state().member_refusal =
        Some(MemberRefusal::WouldLoseQuorum { reason: "n3 does not answer".to_owned() });
    let (done, text) = etcdctl(&port, "member remove 22").await;
    assert!(!done && text.contains("etcdserver: unhealthy cluster: n3 does not answer"), "{text}");
    served.node.state().member_refusal = None;
    let (done, text) = etcdctl(&port, "move-leader 11").await;
    assert!(done && text.contains("Leadership transferred from 11 to 11"), "{text}");
    served.node.state().leader = 0x22;
    let (done, text) = etcdctl(&port, "move-leader 11").await;
    assert!(!done && text.contains("no leader endpoint given"), "{text}");
}
