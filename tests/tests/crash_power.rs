//! Power cuts of a simulated card under load, and a card that stalls.
//!
//! `QUORATE_CUT_ROUNDS` sets the number of cuts, `QUORATE_CUT_SEED` what is drawn.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_card::{Card, CardOptions, Figures, Model};
use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::Client;
use quorate_tests::crash::{Fate, Judge, Load, Shape};
use quorate_tests::program::{Program, build};
use quorate_tests::server::{Options, Server};
use quorate_tests::skip;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// Only ends a broken run.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
/// Shorter than the stall together with the health pages that wait for it.
const LEASE_SECONDS: i64 = 6;
/// A card as quick as cards are not, with syncs long enough to be cut in.
const QUICK: Figures = Figures {
    flush_median: Duration::from_millis(3),
    flush_sigma: 0.5,
    bandwidth: 80_000_000,
    seek: Duration::from_micros(100),
    pause: Duration::ZERO,
    pause_every: 0,
};

fn card(folder: &Path, size: u64, seed: u64) -> Card {
    let program = Some(build("quorate-card", "quorate-card"));
    Card::start(&CardOptions { size, seed: Some(seed), program, ..CardOptions::new(folder.join("card")) })
        .unwrap()
}

fn on(card: &Card) -> Options {
    Options::new(Program::quorated()).data_dir(card.mount_point().join("data"))
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WAIT_LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The status code of a page.
fn page_code(server: &Server, path: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: n1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_acknowledged_change_survives_thirty_power_cuts() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let (rounds, seed) = (number("QUORATE_CUT_ROUNDS", 30), number("QUORATE_CUT_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let card = card(folder.path(), 512 << 20, seed);
    let (runtime, mut random) = (runtime(), SmallRng::seed_from_u64(seed));
    let mut server = Server::start(on(&card));
    let (mut judge, mut acknowledged, mut lost_sectors, mut kept_sectors) = (Judge::new(), 0, 0, 0);
    for round in 0..rounds {
        // Every third card pauses for garbage, so that cuts fall into pauses too.
        let pauses = Figures { pause: Duration::from_millis(150), pause_every: 1 << 20, ..QUICK };
        card.set(if round % 3 == 2 { pauses } else { QUICK }).unwrap();
        let value_bytes_max = if round % 4 == 1 { 60_000 } else { 1_000 };
        let shape = Shape { clients: random.random_range(8..=16), value_bytes_max, seed };
        let entered = runtime.enter();
        let load = Load::start(&server.endpoint(), round, shape);
        drop(entered);
        let least = random.random_range(0..300);
        until("changes", || load.tally.acknowledged.load(Ordering::Relaxed) >= least);
        std::thread::sleep(Duration::from_micros(random.random_range(0..300_000)));
        let cut = card.cut(random.random()).unwrap();
        server.kill();
        let attempts = runtime.block_on(load.attempts());
        acknowledged += attempts.iter().filter(|attempt| attempt.fate != Fate::Unknown).count();
        (lost_sectors, kept_sectors) = (lost_sectors + cut.lost, kept_sectors + cut.kept);
        card.set(Model::Free.figures()).unwrap();
        card.revive().unwrap();
        if random.random_bool(0.3) {
            cut_a_start(&card, &mut server, &mut random);
        }
        server.restart();
        let endpoint = server.endpoint();
        let from = if round % 8 == 7 { 0 } else { judge.revision() };
        if let Err(error) = runtime.block_on(judge.judge(&endpoint, attempts, from)) {
            panic!("round {round}, seed {seed}, {cut:?}, {shape:?}: {error:#}\n{}", server.last_lines());
        }
    }
    println!(
        "{rounds} power cuts, {acknowledged} changes acknowledged, {lost_sectors} unflushed sectors lost and \
         {kept_sectors} kept, {} changes happened unacknowledged, revision {}",
        judge.unknown_happened,
        judge.revision()
    );
    assert!(acknowledged > 0 && lost_sectors > 0, "cuts that lose nothing prove nothing");
    server.kill();
    card.stop().unwrap();
}

/// The power fails again while the node starts.
fn cut_a_start(card: &Card, server: &mut Server, random: &mut SmallRng) {
    card.set(QUICK).unwrap();
    server.spawn_again();
    std::thread::sleep(Duration::from_micros(random.random_range(0..200_000)));
    card.cut(random.random()).unwrap();
    server.kill();
    card.set(Model::Free.figures()).unwrap();
    card.revive().unwrap();
}

/// A card that does nothing until this is dropped: its process is halted.
struct Stall(Pid);

impl Stall {
    fn of(card: &Card) -> Stall {
        let pid = i32::try_from(card.ready().pid).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Stall(pid)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // Gone is as good as going on.
        kill_process(self.0, Signal::CONT).ok();
    }
}

#[test]
fn a_stalled_card_holds_puts_back_and_nothing_else() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let card = card(folder.path(), 128 << 20, 1);
    let mut server = Server::start(on(&card));
    runtime().block_on(async {
        let mut client = Client::connect(&server.endpoint()).await.unwrap();
        client.lease.lease_grant(pb::LeaseGrantRequest { ttl: LEASE_SECONDS, id: 77 }).await.unwrap();
        client.put("before", "1").await.unwrap();
        assert_eq!((page_code(&server, "/readyz"), page_code(&server, "/health")), (200, 200));
        let keeping = tokio::spawn(keep_alive(client.clone(), 77));
        let stall = Stall::of(&card);
        let mut putting = client.clone();
        let put = tokio::spawn(async move { putting.put("during", "2").await });
        // A probe that finds a recent sync and none in flight does not ask the card.
        until("not ready", || page_code(&server, "/readyz") == 503);
        assert_eq!(
            page_code(&server, "/livez"),
            200,
            "a node that waits for its card is not to be restarted"
        );
        assert_eq!(page_code(&server, "/health"), 503);
        assert!(!put.is_finished(), "nothing is acknowledged while the card stalls");
        assert_eq!(client.get("before").await.unwrap().as_deref(), Some(&b"1"[..]), "reads go on");
        assert_eq!(client.get("during").await.unwrap(), None, "what is not durable is not seen");
        drop(stall);
        assert!(put.await.unwrap().is_ok(), "a put in flight completes after the stall");
        until("ready again", || page_code(&server, "/readyz") == 200);
        let ttl = pb::LeaseTimeToLiveRequest { id: 77, keys: false };
        assert!(client.lease.lease_time_to_live(ttl).await.unwrap().into_inner().ttl > 0, "the lease lives");
        assert!(!keeping.is_finished(), "each keep-alive was granted");
        keeping.abort();
    });
    server.kill();
    card.stop().unwrap();
}

/// Ends only if the lease is lost.
async fn keep_alive(mut client: Client, id: i64) {
    loop {
        let asks = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let mut answers = client.lease.lease_keep_alive(asks).await.unwrap().into_inner();
        if answers.message().await.unwrap().unwrap().ttl != LEASE_SECONDS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[test]
fn a_dead_card_ends_the_node_with_a_code_of_its_own() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let card = card(folder.path(), 128 << 20, 1);
    let mut server = Server::start(on(&card));
    let runtime = runtime();
    let mut judge = Judge::new();
    let entered = runtime.enter();
    let load = Load::start(&server.endpoint(), 0, Shape { clients: 8, value_bytes_max: 500, seed: 1 });
    drop(entered);
    until("changes", || load.tally.acknowledged.load(Ordering::Relaxed) > 50);
    card.cut(1).unwrap();
    let status = server.wait_exit();
    assert_eq!(status.code(), Some(74), "{}", server.last_lines());
    let log = server.log();
    assert!(log.contains("Nothing was acknowledged after it; this node stops"), "{log}");
    let attempts = runtime.block_on(load.attempts());
    card.revive().unwrap();
    server.restart();
    let endpoint = server.endpoint();
    runtime.block_on(judge.judge(&endpoint, attempts, 0)).unwrap();
    server.kill();
    card.stop().unwrap();
}
