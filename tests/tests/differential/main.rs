//! Our node beside a real etcd: the same random questions to both, the same answers from both.
//!
//! Not compared: ids, terms, raft indexes, sizes, hashes (each server has its own). What the two are known to
//! answer differently stands in `known.rs`, with reasons.
//!
//! `QUORATE_SEED=n` runs one seed, `QUORATE_SEEDS=n` so many (a longer run), `ETCD=path` takes another etcd.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod ask;
mod generate;
mod known;
mod requests;
mod situations;
mod transcript;
mod watches;

use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use quorate_tests::{client::Client, skip};

/// Both servers, empty or as the last seed left them.
struct Pair {
    node: Server,
    etcd: Server,
}

impl Pair {
    fn start(etcd: Program) -> Pair {
        Pair {
            node: Server::start(Options::new(Program::quorated()).in_memory()),
            etcd: Server::start(Options::new(etcd).in_memory()),
        }
    }

    async fn clients(&self) -> (Client, Client) {
        let dial = async |server: &Server| Client::connect(&server.endpoint()).await.unwrap();
        (dial(&self.node).await, dial(&self.etcd).await)
    }
}

/// Seeds to run, and whether all situations have to be met: not when somebody looks at one.
fn seeds(default_count: u64) -> (Vec<u64>, bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("QUORATE_SEED") {
        return (vec![seed], false);
    }
    ((1..=number("QUORATE_SEEDS").unwrap_or(default_count)).collect(), true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_as_etcd_answers() {
    let Some(etcd) = Program::etcd() else { skip!("no etcd in /usr/bin, none named by ETCD") };
    let (seeds, complete) = seeds(requests::SEED_COUNT);
    requests::compare(Pair::start(etcd), &seeds, complete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watch_is_told_as_etcd_tells() {
    let Some(etcd) = Program::etcd() else { skip!("no etcd in /usr/bin, none named by ETCD") };
    let (seeds, complete) = seeds(watches::SEED_COUNT);
    watches::compare(Pair::start(etcd), &seeds, complete).await;
}
