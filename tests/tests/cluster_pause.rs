//! SIGSTOP of the leader for seconds, then SIGCONT: it comes back in the belief that it leads, with requests and
//! timers of another time.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::{Client, revision};
use quorate_tests::cluster::{Cluster, LIMIT, Shape};
use quorate_tests::cluster_tests;
use quorate_tests::history::Plan;
use quorate_tests::keeper::{self, Keeper};
use quorate_tests::program::Program;
use quorate_tests::trial::Trial;
use std::time::Duration;

/// Longer than an election, shorter than a lease.
const PAUSE: Duration = Duration::from_secs(4);
const TTL_SECONDS: i64 = 5;

cluster_tests!(a_leader_that_stood_still, a_follower_that_stood_still);

async fn put_with_lease(client: &mut Client, key: &str, lease: i64) {
    let put = pb::PutRequest { key: key.to_owned().into(), lease, ..Default::default() };
    client.kv.put(put).await.unwrap();
}

/// The rest of a lease as a member tells it; -1 if it is gone.
async fn time_to_live(cluster: &Cluster, number: usize, lease: i64) -> i64 {
    let ask = pb::LeaseTimeToLiveRequest { id: lease, keys: false };
    let mut client = cluster.client(number);
    let mut ttl = None;
    cluster
        .wait("a member tells the rest of a lease", async || {
            let answer = tokio::time::timeout(Duration::from_secs(2), client.lease.lease_time_to_live(ask));
            ttl = answer.await.ok().and_then(Result::ok).map(|answer| answer.into_inner().ttl);
            ttl.is_some()
        })
        .await;
    ttl.unwrap()
}

async fn a_leader_that_stood_still(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    let leader = trial.leader("at first").await;
    let others: Vec<usize> = trial.cluster.members_running().filter(|number| *number != leader).collect();
    let through: Vec<String> = others.iter().map(|number| trial.cluster.endpoint(*number)).collect();
    let mut client = trial.cluster.client(others[0]);
    let kept = Keeper::grant(through.clone(), TTL_SECONDS).await.unwrap();
    let left = keeper::grant(&through, TTL_SECONDS).await.unwrap();
    put_with_lease(&mut client, "lease/kept", kept.lease).await;
    put_with_lease(&mut client, "lease/left", left).await;
    client.put("mark", "before").await.unwrap();

    trial.cluster.pause(leader);
    trial.load.fault(format!("SIGSTOP of the leader, node {leader}"));
    let resting = tokio::time::sleep(PAUSE);
    let next = trial.cluster.leader_among(&others).await;
    trial.load.fault(format!("node {next} leads"));
    trial.load.wait_writes(50).await;
    let marked = client.put("mark", "meanwhile").await.unwrap();
    resting.await;
    trial.cluster.resume(leader);
    trial.load.fault(format!("SIGCONT of node {leader}"));
    never_old(&trial.cluster, leader, marked).await;

    // A lease that is not kept ends, however often leadership changed; the one that is kept does not.
    trial
        .cluster
        .wait("the lease that nobody keeps ends", async || matches!(client.get("lease/left").await, Ok(None)))
        .await;
    trial.load.fault("the lease that nobody kept has ended");
    let renewals = kept.renewals();
    trial.cluster.wait("the other is still kept", async || kept.renewals() > renewals + 3).await;
    assert_eq!(kept.gone(), 0, "a kept lease was said to be gone");
    for number in trial.cluster.members_running() {
        assert!(time_to_live(&trial.cluster, number, kept.lease).await > 0, "node {number}");
    }
    assert_eq!(client.get("lease/kept").await.unwrap().as_deref(), Some(&b""[..]));
    trial.finish().await;
}

/// From the moment it goes on, whatever the node answers to a linearizable read is not from before.
async fn never_old(cluster: &Cluster, number: usize, marked: i64) {
    const READS: usize = 20;
    let mut client = cluster.client(number);
    let (mut answered, began) = (0, std::time::Instant::now());
    while answered < READS {
        let range = pb::RangeRequest { key: "mark".into(), ..Default::default() };
        let answer = tokio::time::timeout(Duration::from_secs(2), client.kv.range(range)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer.into_inner(),
            failed => {
                if began.elapsed() > LIMIT {
                    panic!("node {number} serves no more: {failed:?}\n{}", cluster.describe().await);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        assert_eq!(answer.kvs[0].value, "meanwhile", "an old read");
        assert!(revision(answer.header) >= marked);
        answered += 1;
    }
}

async fn a_follower_that_stood_still(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    let leader = trial.leader("at first").await;
    let follower = trial.cluster.members_running().find(|number| *number != leader).unwrap();
    trial.cluster.pause(follower);
    trial.load.fault(format!("SIGSTOP of a follower, node {follower}"));
    let resting = tokio::time::sleep(PAUSE);
    trial.load.wait_writes(100).await;
    resting.await;
    assert_eq!(trial.cluster.leader().await, leader, "the leader has not changed meanwhile");
    trial.cluster.resume(follower);
    trial.load.fault(format!("SIGCONT of node {follower}"));
    trial.cluster.wait_serves(follower).await;
    trial.finish().await;
}
