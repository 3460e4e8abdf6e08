//! kill -9 of leader and followers, and restarts one after the other, under load.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::Shape;
use quorate_tests::cluster_tests;
use quorate_tests::history::Plan;
use quorate_tests::program::Program;
use quorate_tests::trial::Trial;

cluster_tests!(leaders_and_followers_are_killed_in_turn, all_are_killed_at_once, a_rolling_restart);

async fn leaders_and_followers_are_killed_in_turn(program: Program) {
    const ROUNDS: usize = 3;
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    for round in 1..=ROUNDS {
        let leader = trial.leader("before the kill").await;
        trial.cluster.kill(leader);
        trial.load.fault(format!("round {round}: kill -9 of the leader, node {leader}"));
        let next = trial.leader("after it").await;
        assert_ne!(leader, next);
        trial.load.wait_writes(30).await;
        trial.cluster.spawn(leader);
        trial.cluster.wait_serves(leader).await;
        let follower = trial.cluster.members_running().find(|number| *number != next).unwrap();
        trial.cluster.kill(follower);
        trial.load.fault(format!("round {round}: kill -9 of a follower, node {follower}"));
        trial.load.wait_writes(30).await;
        trial.cluster.spawn(follower);
        trial.cluster.wait_serves(follower).await;
    }
    let (checked, ..) = trial.finish().await;
    assert!(checked.unknown > 0, "no kill met a request under way: {checked:?}");
}

/// Power comes back for all at once.
async fn all_are_killed_at_once(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    for _ in 0..2 {
        let all: Vec<usize> = trial.cluster.members_running().collect();
        all.iter().for_each(|number| trial.cluster.kill(*number));
        trial.load.fault("kill -9 of all");
        all.iter().for_each(|number| trial.cluster.spawn(*number));
        trial.leader("started again").await;
        trial.load.wait_writes(50).await;
    }
    trial.finish().await;
}

async fn a_rolling_restart(program: Program) {
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    for number in [1, 2, 3] {
        trial.load.fault(format!("node {number} ends and starts again"));
        trial.cluster.restart(number).await;
        trial.load.wait_writes(30).await;
    }
    trial.finish().await;
}
