//! Ways into a cluster that do not lead there: nothing of them touches the quorum. Ours only: an etcd is told of a
//! member before anybody has seen it answer.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::Cluster;
use quorate_tests::trial::Trial;
use std::time::Duration;

/// Long enough that a node which could join would have.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

async fn stays_out(trial: &Trial, name: &str) {
    tokio::time::sleep(LONG_ENOUGH).await;
    trial.load.wait_writes(20).await;
    for number in trial.cluster.members_running() {
        let members = trial.cluster.members(number).await.unwrap();
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert!(members.len() == 3 && !names.contains(&name), "node {number} lists {names:?}");
    }
}

/// A port on which nobody listens.
const NOBODY: &str = "127.0.0.1:9";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_address_touches_nothing() {
    let Some(mut trial) = Trial::of_three(1).await else { return };
    let token = trial.cluster.invite(1);
    let spare = 4;
    trial.cluster.admit(spare, token.clone(), &["--advertise-peer", NOBODY]);
    trial.cluster.spawn(spare);
    trial.load.fault("a node with a mistyped address asks to join");
    stays_out(&trial, "n4").await;
    trial.cluster.end(spare);
    // The same node with the same token, told right: it gets in.
    trial.cluster.admit(spare, token, &[]);
    trial.cluster.spawn(spare);
    joined(&trial.cluster, "n4").await;
    trial.cluster.count_in(spare);
    trial.load.fault("told right, it has joined");
    trial.finish().await;
}

async fn joined(cluster: &Cluster, name: &str) {
    cluster
        .wait("the node is a member", async || {
            let members = cluster.members(1).await.unwrap_or_default();
            members.iter().any(|member| member.name == name)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_one_node_in() {
    let Some(mut trial) = Trial::of_three(2).await else { return };
    let token = trial.cluster.invite(1);
    trial.cluster.admit(4, token.clone(), &[]);
    trial.cluster.spawn(4);
    joined(&trial.cluster, "n4").await;
    trial.cluster.count_in(4);
    trial.cluster.admit(5, token, &[]);
    trial.cluster.spawn(5);
    trial.load.fault("a second node with the token of another");
    tokio::time::sleep(LONG_ENOUGH).await;
    let members = trial.cluster.members(1).await.unwrap();
    assert!(members.iter().all(|member| member.name != "n5"), "{members:?}");
    trial.cluster.end(5);
    trial.finish().await;
}
