//! Partitions, one-way links, loss and delay, each node in a network namespace of its own.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_proto::etcdserverpb as pb;
use quorate_tests::cluster::{Cluster, Shape};
use quorate_tests::cluster_tests;
use quorate_tests::history::Plan;
use quorate_tests::net::Net;
use quorate_tests::program::Program;
use quorate_tests::skip;
use quorate_tests::trial::Trial;
use std::time::{Duration, Instant};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// A request has ended by then, or the node is broken: etcd's own limit is 7 s.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

cluster_tests!(
    the_leader_alone,
    a_follower_alone,
    two_against_two,
    one_way,
    one_link,
    loss_delay_and_pauses,
    the_leaders_plug_is_pulled,
);

/// A cluster in a network, under load; none where there can be no network.
async fn start(program: Program, nodes: usize) -> Option<Trial> {
    if let Some(reason) = Net::missing() {
        skip::skip(&reason);
        return None;
    }
    Some(Trial::start(Shape::new(program, nodes).in_net(), Plan::default()).await)
}

fn others(trial: &Trial, number: usize) -> Vec<usize> {
    trial.cluster.members_running().filter(|other| *other != number).collect()
}

/// etcd's words for a cluster without a leader: Unavailable, and one of these.
fn is_without_quorum(status: &Status) -> bool {
    status.code() == Code::Unavailable
        && ["etcdserver: request timed out", "etcdserver: no leader", "etcdserver: leader changed"]
            .iter()
            .any(|text| status.message().starts_with(text))
}

async fn ended<T>(what: &str, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let began = Instant::now();
    let answer = tokio::time::timeout(REQUEST_LIMIT, call).await;
    println!("    {what} took {:?}", began.elapsed());
    answer.unwrap_or_else(|_| panic!("{what} neither answered nor refused"))
}

/// A node that reaches no quorum refuses writes and linearizable reads in etcd's words and in time, and serves
/// serializable reads.
async fn refuses(cluster: &Cluster, number: usize) {
    let mut client = cluster.client(number);
    let mut reader = client.clone();
    let put = pb::PutRequest { key: "minority".into(), ..Default::default() };
    let range = |serializable| pb::RangeRequest { key: "mark".into(), serializable, ..Default::default() };
    let (written, read) = tokio::join!(
        ended("a put", client.kv.put(put.clone())),
        ended("a read", reader.kv.range(range(false))),
    );
    for refused in [written.unwrap_err(), read.unwrap_err()] {
        // An etcd 3.5 lets some run into their deadline.
        let is_late =
            matches!(cluster.program(), Program::Etcd(_)) && refused.code() == Code::DeadlineExceeded;
        assert!(is_without_quorum(&refused) || is_late, "{refused:?}");
    }
    let served = ended("a serializable read", client.kv.range(range(true))).await.unwrap();
    assert_eq!(served.into_inner().kvs[0].value, "whole");
    // By now it knows that it has no leader, and who asks for one is told so at once.
    let mut request = tonic::Request::new(put);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let refused = ended("a put that asks for a leader", client.kv.put(request)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
}

async fn the_leader_alone(program: Program) {
    let Some(trial) = start(program, 3).await else { return };
    let leader = trial.leader("at first").await;
    trial.cluster.client(leader).put("mark", "whole").await.unwrap();
    let others = others(&trial, leader);
    trial.cluster.net().isolate(&[leader]);
    trial.load.fault(format!("the leader, node {leader}, is alone"));
    let next = trial.cluster.leader_among(&others).await;
    trial.load.fault(format!("node {next} leads the others"));
    trial.load.wait_writes(50).await;
    trial.cluster.client(next).put("mark", "moved on").await.unwrap();
    refuses(&trial.cluster, leader).await;
    assert!(trial.cluster.net().passed(leader, next).dropped > 0, "the cut met no packet");
    trial.cluster.net().heal();
    trial.load.fault("healed");
    trial.cluster.wait_serves(leader).await;
    let mut client = trial.cluster.client(leader);
    assert_eq!(client.get("mark").await.unwrap().as_deref(), Some(&b"moved on"[..]));
    let (_, _, history) = trial.finish().await;
    // `refuses` saw an old serializable read; whether the load made one too is the hour's luck. Where it did, the
    // judge is awake: as a linearizable one it would not pass.
    println!(
        "the load read old values without asking for the newest: {}",
        history.check_peeks_as_gets().is_err()
    );
}

async fn a_follower_alone(program: Program) {
    let is_ours = matches!(program, Program::Quorated(_));
    let Some(trial) = start(program, 3).await else { return };
    let leader = trial.leader("at first").await;
    trial.cluster.client(leader).put("mark", "whole").await.unwrap();
    let follower = others(&trial, leader)[0];
    let before = trial.cluster.status(leader).await.unwrap().raft_term;
    trial.cluster.net().isolate(&[follower]);
    trial.load.fault(format!("node {follower} is alone"));
    trial.load.wait_writes(50).await;
    refuses(&trial.cluster, follower).await;
    trial.cluster.net().heal();
    trial.load.fault("healed");
    trial.cluster.wait_serves(follower).await;
    let after = trial.cluster.status(trial.cluster.leader().await).await.unwrap();
    if is_ours {
        // Pre-vote: who comes back disturbs nobody. (An etcd 3.4 has none by default.)
        assert_eq!(after.raft_term, before, "there was an election");
    }
    trial.finish().await;
}

async fn two_against_two(program: Program) {
    let Some(trial) = start(program, 4).await else { return };
    let leader = trial.leader("at first").await;
    trial.cluster.client(leader).put("mark", "whole").await.unwrap();
    let others = others(&trial, leader);
    trial.cluster.net().isolate(&[leader, others[0]]);
    trial.load.fault(format!("nodes {leader} and {} against {} and {}", others[0], others[1], others[2]));
    // Nobody has a quorum: one of each half is asked at the same time.
    tokio::join!(refuses(&trial.cluster, leader), refuses(&trial.cluster, others[1]));
    let written = trial.load.written();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(trial.load.written(), written, "a half of four took writes");
    trial.cluster.net().heal();
    trial.load.fault("healed");
    trial.leader("healed").await;
    trial.finish().await;
}

async fn one_way(program: Program) {
    let Some(trial) = start(program, 3).await else { return };
    for round in 1..=2 {
        let leader = trial.leader("before").await;
        let follower = others(&trial, leader)[0];
        trial.cluster.net().cut_one_way(leader, follower);
        trial.load.fault(format!("round {round}: nothing passes from leader {leader} to {follower}"));
        trial.load.wait_writes(50).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        trial.load.wait_writes(20).await;
        assert!(trial.cluster.net().passed(leader, follower).dropped > 0, "the cut met no packet");
        trial.cluster.net().heal();
        let leader = trial.leader("healed").await;
        let follower = others(&trial, leader)[0];
        trial.cluster.net().cut_one_way(follower, leader);
        trial.load.fault(format!("round {round}: nothing passes from {follower} to leader {leader}"));
        trial.load.wait_writes(50).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        trial.load.wait_writes(20).await;
        trial.cluster.net().heal();
        trial.load.fault("healed");
    }
    trial.finish().await;
}

async fn one_link(program: Program) {
    let Some(trial) = start(program, 3).await else { return };
    let leader = trial.leader("before").await;
    let follower = others(&trial, leader)[0];
    trial.cluster.net().cut(leader, follower);
    trial.load.fault(format!("the link between leader {leader} and {follower} is cut"));
    trial.load.wait_writes(50).await;
    // Long enough for several elections, should each take leadership from the other.
    tokio::time::sleep(Duration::from_secs(4)).await;
    trial.load.wait_writes(20).await;
    trial.cluster.net().heal();
    trial.load.fault("healed");
    trial.finish().await;
}

async fn loss_delay_and_pauses(program: Program) {
    let is_ours = matches!(program, Program::Quorated(_));
    let Some(trial) = start(program, 3).await else { return };
    let before = trial.cluster.status(trial.leader("before").await).await.unwrap().raft_term;
    trial.cluster.net().change_all(|wire| {
        wire.loss_per_thousand = 20;
        wire.delay = Duration::from_millis(5);
    });
    trial.load.fault("2 % of packets are lost, all are 5 ms late");
    trial.load.wait_writes(100).await;
    for _ in 0..4 {
        let until = Instant::now() + Duration::from_millis(300);
        trial.cluster.net().change_all(|wire| wire.held_until = Some(until));
        trial.load.fault("a pause of 300 ms");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    trial.load.wait_writes(50).await;
    trial.cluster.net().heal();
    trial.load.fault("healed");
    let after = trial.cluster.status(trial.cluster.leader().await).await.unwrap().raft_term;
    if is_ours {
        assert_eq!(after, before, "there was an election");
    }
    trial.finish().await;
}

async fn the_leaders_plug_is_pulled(program: Program) {
    let Some(trial) = start(program, 3).await else { return };
    let leader = trial.leader("at first").await;
    trial.cluster.net().set_up(leader, false).unwrap();
    trial.load.fault(format!("the device of leader {leader} is down"));
    let next = trial.cluster.leader_among(&others(&trial, leader)).await;
    trial.load.fault(format!("node {next} leads"));
    trial.load.wait_writes(50).await;
    trial.cluster.net().set_up(leader, true).unwrap();
    trial.load.fault("plugged in again");
    trial.cluster.wait_serves(leader).await;
    trial.finish().await;
}
