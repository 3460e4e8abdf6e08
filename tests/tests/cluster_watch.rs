//! Watches through changes of leader: nothing missing, nothing twice, and no stream broken that need not be.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::Shape;
use quorate_tests::cluster_tests;
use quorate_tests::history::Plan;
use quorate_tests::history::follow::Follower;
use quorate_tests::program::Program;
use quorate_tests::trial::Trial;

cluster_tests!(watches_live_through_hand_overs);

async fn watches_live_through_hand_overs(program: Program) {
    const HAND_OVERS: usize = 6;
    let mut trial = Trial::start(Shape::new(program, 3), Plan::default()).await;
    // Clients that ask for a leader are sent away when there is none, and come back.
    for endpoint in trial.cluster.endpoints() {
        trial.followers.push(Follower::start(&endpoint, true));
    }
    for _ in 0..HAND_OVERS {
        let leader = trial.leader("before").await;
        let next = trial.cluster.members_running().find(|number| *number == leader % 3 + 1).unwrap();
        trial.cluster.move_leader(leader, next).await.unwrap();
        trial.load.fault(format!("leadership moved from {leader} to {next}"));
        assert_eq!(trial.leader("after").await, next);
        trial.load.wait_writes(20).await;
    }
    for follower in trial.followers.iter().filter(|follower| !follower.has_leader()) {
        assert_eq!(follower.streams(), 1, "a hand-over broke a watch that did not ask for a leader");
    }
    trial.finish().await;
}
