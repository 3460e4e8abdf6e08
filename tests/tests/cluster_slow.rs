//! Cards that are slow, alike or one among others, and more work than they bear. What is asserted is what failed, who
//! was elected and that bounds hold; throughput is printed only: `cargo xtask torture` measures it.
//!
//! `QUORATE_SLOW_SECONDS` sets the length of a load.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_bench::{Arrival, EndpointArgs, LoadArgs, PutArgs, Report, put};
use quorate_card::{Card, Figures, Model};
use quorate_tests::field::Field;
use quorate_tests::resident::{peak, reset_peak, resident};
use quorate_tests::skip;
use std::time::Duration;

/// Beyond the seven seconds a node lets a request wait.
const PATIENCE: Duration = Duration::from_secs(12);
/// Longer than the seven seconds, by what a busy machine takes.
const ANSWERED_WITHIN_MS: f64 = 10_000.0;
/// The log's 32 MiB, 32 MiB of proposals that wait, and as much again for what is on its way.
const GROWTH_BYTES_MAX: u64 = 128 << 20;
/// What overload sends, so large that bandwidth binds.
const LARGE_BYTES: usize = 64 * 1024;
/// Clients that keep up a queue of more than may always wait, at each node, and how long before they are there.
const STANDING_CLIENTS: u32 = 72;
const STANDING: Duration = Duration::from_secs(4);
const SMALL_BYTES: usize = 256;

fn load_length() -> Duration {
    let seconds = std::env::var("QUORATE_SLOW_SECONDS").map_or(6, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

enum Pace {
    Clients(u32),
    PerSecond(f64),
}

async fn puts(field: &Field, pace: Pace, value_bytes: usize, length: Duration) -> Report {
    let endpoints = field.cluster.endpoints();
    let endpoint = EndpointArgs { endpoints, cacert: None, cert: None, key: None, dial_timeout: PATIENCE };
    let (clients, rate) = match pace {
        Pace::Clients(clients) => (clients, None),
        Pace::PerSecond(rate) => (1, Some(rate)),
    };
    let load = LoadArgs {
        clients,
        rate,
        arrival: Arrival::Uniform,
        total: None,
        duration: Some(length),
        connections: Some(6),
        timeout: PATIENCE,
        seed: Some(1),
        timeline: None,
        quiet: true,
        json: false,
    };
    let args = PutArgs {
        endpoint,
        load,
        prefix: "slow/".into(),
        key_size: 32,
        value_size: value_bytes,
        keys: 500,
        device: None,
        record: None,
        compact_every: None,
    };
    put(&args, None).await.unwrap()
}

fn none_failed(report: &Report) {
    assert!(report.done > 0 && report.failed == 0, "{}", report.print());
}

/// Nobody was elected, and nobody handed over, while this stands.
struct Calm {
    term: u64,
    hand_overs: u64,
}

impl Calm {
    async fn begins(field: &Field) -> Calm {
        Calm { term: field.term().await, hand_overs: field.hand_overs() }
    }

    async fn ends(self, field: &Field) {
        let now = (field.term().await, field.hand_overs());
        assert_eq!(
            now,
            (self.term, self.hand_overs),
            "terms and hand-overs: {}",
            field.cluster.describe().await
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_that_are_slow_alike_move_nobody() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(Model::Bad.figures()).await;
    let calm = Calm::begins(&field).await;
    // Longer than what is slow "for long".
    let report =
        puts(&field, Pace::Clients(16), SMALL_BYTES, load_length().max(Duration::from_secs(12))).await;
    println!("three bad cards: {:.0} puts/s, longest gap {:.0} ms", report.per_second, report.gap_max_ms);
    none_failed(&report);
    calm.ends(&field).await;
    field.cluster.wait_converged().await;
}

/// An ordinary card in all respects ten times slower.
fn ten_times_slower() -> Figures {
    let ordinary = Model::Ordinary.figures();
    Figures {
        flush_median: ordinary.flush_median * 10,
        bandwidth: ordinary.bandwidth / 10,
        seek: ordinary.seek * 10,
        pause: ordinary.pause * 10,
        ..ordinary
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slow_follower_is_nobodys_business() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(Model::Ordinary.figures()).await;
    let calm = Calm::begins(&field).await;
    for clients in [16, 64] {
        let equal = puts(&field, Pace::Clients(clients), SMALL_BYTES, load_length() / 2).await;
        none_failed(&equal);
        let follower = field.follower().await;
        field.set(follower, ten_times_slower());
        let slow = puts(&field, Pace::Clients(clients), SMALL_BYTES, load_length()).await;
        none_failed(&slow);
        println!(
            "{clients} clients: {:.0} puts/s with equal cards, {:.0} beside a follower ten times slower",
            equal.per_second, slow.per_second
        );
        for member in &slow.members {
            assert!(member.done > 0, "{}", slow.print());
        }
        field.set(follower, Model::Ordinary.figures());
    }
    calm.ends(&field).await;
    field.cluster.wait_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_too_much_is_refused_at_once() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(Model::Bad.figures()).await;
    let sustained = puts(&field, Pace::Clients(32), LARGE_BYTES, load_length() / 2).await;
    none_failed(&sustained);
    let calm = Calm::begins(&field).await;
    let pids: Vec<_> = (1..=3).map(|number| field.cluster.pid(number)).collect();
    let before: Vec<u64> = pids.iter().map(|pid| resident(*pid)).collect();
    pids.iter().for_each(|pid| reset_peak(*pid).unwrap());
    // How long something would wait is known from what was answered while a queue stood: so a load that keeps one up
    // goes on beside the flood, and began before it.
    let rate = sustained.per_second * 10.0;
    let standing = puts(&field, Pace::Clients(STANDING_CLIENTS), LARGE_BYTES, STANDING + load_length());
    let flood = async {
        tokio::time::sleep(STANDING).await;
        puts(&field, Pace::PerSecond(rate), LARGE_BYTES, load_length()).await
    };
    let (standing, flood) = tokio::join!(standing, flood);
    println!("{:.0} puts/s of {LARGE_BYTES} bytes are borne; ten times that:", sustained.per_second);
    assert!(flood.failed > 0, "it was no overload");
    for load in [&standing, &flood] {
        println!("{}", load.print());
        for refusal in load.errors.keys() {
            assert_eq!(refusal, "ResourceExhausted: etcdserver: too many requests");
        }
        let accepted = load.latency.as_ref().expect("some were accepted");
        assert!(accepted.max_ms < ANSWERED_WITHIN_MS, "what was accepted took {} ms", accepted.max_ms);
    }
    for (pid, before) in pids.iter().zip(before) {
        let growth = peak(*pid).saturating_sub(before);
        println!("  {} MiB more at most", growth >> 20);
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more in memory");
    }
    calm.ends(&field).await;
    // What was refused left nothing behind: the same load as before is borne as before.
    none_failed(&puts(&field, Pace::Clients(32), LARGE_BYTES, load_length() / 2).await);
    field.cluster.wait_converged().await;
}
