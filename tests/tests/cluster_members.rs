//! Nodes that join and leave under load.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::{Cluster, Shape};
use quorate_tests::cluster_tests;
use quorate_tests::history::Plan;
use quorate_tests::program::Program;
use quorate_tests::trial::Trial;

cluster_tests!(
    three_become_five_and_three_again,
    a_learner_is_killed_while_it_catches_up,
    etcdctl_lists_removes_and_moves,
);

async fn three_become_five_and_three_again(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3).spares(2), Plan::default()).await;
    let fourth = trial.add().await;
    trial.load.wait_writes(20).await;
    if matches!(trial.cluster.program(), Program::Etcd(_)) {
        // An etcd takes one learner at a time.
        trial.cluster.wait_promoted(fourth).await;
    }
    let fifth = trial.add().await;
    trial.cluster.wait_promoted(fourth).await;
    trial.cluster.wait_promoted(fifth).await;
    trial.cluster.wait_voters(5).await;
    trial.load.fault("all five are voters");
    for number in [fourth, fifth] {
        trial.add_clients(number);
        trial.cluster.wait_serves(number).await;
    }
    trial.load.wait_writes(50).await;

    let leader = trial.leader("with five").await;
    let follower = trial.cluster.members_running().find(|number| *number != leader).unwrap();
    trial.cluster.remove(follower).await;
    trial.load.fault(format!("node {follower}, a follower, removed"));
    trial.load.wait_writes(50).await;
    let leader = trial.leader("with four").await;
    trial.cluster.remove(leader).await;
    trial.load.fault(format!("node {leader}, the leader, removed"));
    trial.load.wait_writes(50).await;
    trial.cluster.wait_voters(3).await;
    trial.finish().await;
}

/// State enough that catching up takes a moment.
async fn fill(cluster: &Cluster) {
    const VALUES: usize = 200;
    const VALUE_BYTES: usize = 64 * 1024;
    let mut client = cluster.client(1);
    for number in 0..VALUES {
        client.put(format!("fill/{number}"), vec![b'f'; VALUE_BYTES]).await.unwrap();
    }
}

async fn a_learner_is_killed_while_it_catches_up(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3).spares(1), Plan::default()).await;
    fill(&trial.cluster).await;
    let learner = trial.add().await;
    for round in 1..=3 {
        trial.cluster.kill(learner);
        trial.load.fault(format!("round {round}: kill -9 of the learner"));
        trial.load.wait_writes(20).await;
        trial.cluster.spawn(learner);
        // Another depth each time.
        tokio::time::sleep(std::time::Duration::from_millis(100 * round)).await;
    }
    let leader = trial.leader("the learner comes back").await;
    let follower =
        trial.cluster.members_running().find(|number| ![leader, learner].contains(number)).unwrap();
    if matches!(trial.cluster.program(), Program::Etcd(_)) {
        trial.cluster.wait_promoted(learner).await;
    }
    trial.cluster.remove(follower).await;
    trial.load.fault(format!("node {follower}, a voter, removed"));
    trial.cluster.wait_promoted(learner).await;
    trial.load.fault("the learner has taken its place");
    trial.cluster.wait_voters(3).await;
    trial.cluster.wait_serves(learner).await;
    let client = trial.cluster.client(learner).get("fill/199").await.unwrap();
    assert_eq!(client.unwrap().len(), 64 * 1024);
    trial.finish().await;
}

async fn etcdctl_lists_removes_and_moves(program: Program) {
    let is_ours = matches!(program, Program::Quorated(_));
    let mut trial = Trial::start(Shape::new(program, 3).spares(1), Plan::default()).await;
    let all: Vec<usize> = trial.cluster.members_running().collect();
    let leader = trial.leader("at first").await;
    let follower = *all.iter().find(|number| **number != leader).unwrap();
    let id = format!("{:x}", trial.cluster.id(follower).await);

    let (done, said) = trial.cluster.etcdctl(&all, &["member", "list"]);
    assert!(done && said.lines().count() == 3 && said.contains(&id), "{said}");

    let (done, said) = trial.cluster.etcdctl(&all, &["move-leader", &id]);
    assert!(done && said.contains("Leadership transferred"), "{said}");
    assert_eq!(trial.leader("moved").await, follower);
    trial.load.wait_writes(20).await;

    let learner = trial.add().await;
    let learner_id = format!("{:x}", trial.cluster.id(learner).await);
    let (done, said) = trial.cluster.etcdctl(&[follower], &["member", "remove", &learner_id]);
    assert!(done && said.contains("removed from cluster"), "{said}");
    trial.cluster.forget(learner);
    trial.cluster.wait_voters(3).await;
    if is_ours {
        let (done, said) =
            trial.cluster.etcdctl(&all, &["member", "add", "n9", "--peer-urls=http://127.0.0.1:1"]);
        assert!(!done && said.contains("quorate") && said.contains(" invite"), "{said}");
        trial.cluster.wait_voters(3).await;
    }
    trial.finish().await;
}
