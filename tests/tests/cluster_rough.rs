//! Rough weather for long: a fifth of every core stolen, 2 % of packets lost, and pauses of 300 ms as on Wi-Fi.
//! Nobody loses leadership by it.
//!
//! A minute by default, and only when asked for; `QUORATE_ROUGH_SECONDS=3600` for the hour that figures name.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::cluster::{Shape, missing};
use quorate_tests::history::Plan;
use quorate_tests::net::Net;
use quorate_tests::program::Program;
use quorate_tests::skip;
use quorate_tests::thief::Thief;
use quorate_tests::trial::Trial;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// Share of every core that is taken.
const STOLEN_PER_HUNDRED: u32 = 20;
const LOSS_PER_THOUSAND: u32 = 20;
const PAUSE: Duration = Duration::from_millis(300);

/// Elections and writes of a run.
async fn weather(program: Program) -> (u64, u64) {
    let seconds = std::env::var("QUORATE_ROUGH_SECONDS").map_or(60, |text| text.parse().unwrap());
    // Few requests: hours of a full load would be millions of operations to judge.
    let plan = Plan { clients_per_member: 1, rest: Duration::from_millis(100), ..Plan::default() };
    let trial = Trial::start(Shape::new(program, 3).in_net(), plan).await;
    let term = async || trial.cluster.status(trial.cluster.leader().await).await.unwrap().raft_term;
    let before = term().await;
    let (thief, mut random) = (Thief::start(STOLEN_PER_HUNDRED), SmallRng::seed_from_u64(1));
    trial.cluster.net().change_all(|wire| wire.loss_per_thousand = LOSS_PER_THOUSAND);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..5_000))).await;
        // The access point is away for one of them, or for all.
        let node = random.random_range(0..=3);
        let until = Instant::now() + PAUSE;
        if node == 0 {
            trial.cluster.net().change_all(|wire| wire.held_until = Some(until));
        } else {
            for other in (1..=3).filter(|other| *other != node) {
                trial.cluster.net().change(node, other, |wire| wire.held_until = Some(until));
                trial.cluster.net().change(other, node, |wire| wire.held_until = Some(until));
            }
        }
    }
    let elections = term().await - before;
    trial.cluster.net().heal();
    drop(thief);
    let (checked, _, history) = trial.finish().await;
    println!(
        "{seconds} s: {elections} elections, {} operations, longest gap {:?}",
        checked.answered,
        history.longest_gap()
    );
    (elections, seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute to an hour; the figures ask for it"]
async fn nobody_loses_leadership_in_rough_weather() {
    let program = Program::quorated();
    if let Some(reason) = missing(&program).or_else(Net::missing) {
        skip!("{reason}");
    }
    let (elections, seconds) = weather(program).await;
    assert_eq!(elections, 0, "elections in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for comparison: a real etcd in the same weather"]
async fn a_real_etcd_in_rough_weather() {
    let Some(etcd) = Program::etcd() else { skip!("no etcd in /usr/bin, none named by ETCD") };
    if let Some(reason) = Net::missing() {
        skip!("{reason}");
    }
    weather(etcd).await;
}
