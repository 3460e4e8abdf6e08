//! Rows of the torture table, shortened, as checks of what a slow card must not do: no put fails, nobody is elected
//! without need, no lease is lost. Never of how long anything takes: `cargo xtask torture` measures.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_bench::{
    Arrival, EndpointArgs, KeepArgs, LoadArgs, OrchestrateArgs, PutArgs, Report, keep, orchestrate, put,
};
use quorate_card::{Card, CardOptions, Figures, Model};
use quorate_tests::cluster::{Cluster, Shape};
use quorate_tests::program::{Program, build};
use quorate_tests::skip;
use quorate_tests::trial::turn;
use std::fs::File;
use std::time::Duration;
use tempfile::TempDir;

/// Twice what a leader's card may stand still before leadership moves, and longer than a put is waited for.
const STALL: Duration = Duration::from_secs(6);
/// Who waits for a card that stands still gives up before it moves again.
const PATIENCE: Duration = Duration::from_secs(5);
const CALM: Duration = Duration::from_secs(2);

/// Three nodes on three cards. The nodes end first.
struct Field {
    cluster: Cluster,
    cards: Vec<Card>,
    _folder: TempDir,
    _turn: File,
}

impl Field {
    /// The cards cost nothing until all three nodes vote, and then what `figures` say.
    async fn open(figures: Figures) -> Field {
        let (turn, folder) = (turn(), tempfile::tempdir().unwrap());
        let program = build("quorate-card", "quorate-card");
        let cards: Vec<Card> = (1..=3)
            .map(|number: u64| {
                let options = CardOptions::new(folder.path().join(format!("card{number}")));
                let (seed, program) = (Some(number), Some(program.clone()));
                Card::start(&CardOptions { seed, program, size: 2 << 30, ..options }).unwrap()
            })
            .collect();
        let mounts = cards.iter().map(|card| card.mount_point().to_owned());
        let cluster = Cluster::start(Shape::new(Program::quorated(), 3).on(mounts)).await;
        for card in &cards {
            card.set(figures).unwrap();
        }
        Field { cluster, cards, _folder: folder, _turn: turn }
    }

    fn endpoint(&self) -> EndpointArgs {
        EndpointArgs {
            endpoints: self.cluster.endpoints(),
            cacert: None,
            cert: None,
            key: None,
            dial_timeout: PATIENCE,
        }
    }

    /// So many puts a second, spread over all nodes.
    fn puts(&self, rate: f64, length: Duration) -> PutArgs {
        let load = LoadArgs {
            clients: 1,
            rate: Some(rate),
            arrival: Arrival::Uniform,
            total: None,
            duration: Some(length),
            connections: Some(3),
            timeout: PATIENCE,
            seed: Some(1),
            timeline: None,
            quiet: true,
            json: false,
        };
        PutArgs {
            endpoint: self.endpoint(),
            load,
            prefix: "torture/".into(),
            key_size: 32,
            value_size: 256,
            keys: 1_000,
            device: None,
            record: None,
            compact_every: None,
        }
    }

    /// Leases that are kept alive, of which none may be lost.
    fn leases(&self, length: Duration) -> KeepArgs {
        KeepArgs {
            endpoint: self.endpoint(),
            leases: 20,
            ttl: 6,
            duration: length,
            seed: 1,
            quiet: true,
            json: false,
        }
    }

    /// The highest term: it rises with each election and each hand-over.
    async fn term(&self) -> u64 {
        let mut term = 0;
        for number in self.cluster.members_running() {
            term = term.max(self.cluster.status(number).await.map_or(0, |status| status.raft_term));
        }
        term
    }

    /// Lets the card of that node stand still under 50 puts a second and 20 leases; how many terms began meanwhile.
    async fn stall(&self, number: usize) -> u64 {
        let length = CALM + STALL + CALM;
        let (puts, leases) = (self.puts(50.0, length), self.leases(length));
        let term = self.term().await;
        let stalled = async {
            tokio::time::sleep(CALM).await;
            self.cards[number - 1].stall(STALL).unwrap();
        };
        let (puts, kept, ()) = tokio::join!(put(&puts, None), keep(&leases), stalled);
        none_failed(&puts.unwrap());
        let kept = kept.unwrap();
        assert_eq!(kept.lost, 0, "{}", kept.print());
        self.term().await - term
    }
}

fn none_failed(report: &Report) {
    assert!(report.done > 0 && report.failed == 0, "{}", report.print());
}

/// A card whose flush takes a moment, with no pauses of its own.
fn calm_card() -> Figures {
    Figures { flush_median: Duration::from_millis(5), ..Model::Free.figures() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_card_stands_still() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(calm_card()).await;
    let leader = field.cluster.leader().await;
    let moves = field.stall(leader).await;
    assert!(moves <= 1, "leadership moved {moves} times for one cause");
    field.cluster.wait_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followers_card_stands_still() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(calm_card()).await;
    let leader = field.cluster.leader().await;
    let follower = field.cluster.members_running().find(|number| *number != leader).unwrap();
    let moves = field.stall(follower).await;
    assert_eq!(moves, 0, "the leader had nothing to do with it");
    field.cluster.wait_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_puts_a_second_on_ordinary_cards() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(Model::Ordinary.figures()).await;
    let term = field.term().await;
    let puts = field.puts(7.0, Duration::from_secs(6));
    none_failed(&put(&puts, None).await.unwrap());
    assert_eq!(field.term().await, term, "slow cards elect nobody");
    field.cluster.wait_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_keeps_its_leaderships_on_bad_cards() {
    if let Err(reason) = Card::available() {
        skip!("{reason}");
    }
    let field = Field::open(Model::Bad.figures()).await;
    let asked = OrchestrateArgs {
        endpoint: field.endpoint(),
        electors: 6,
        nodes: 4,
        informers: 6,
        events: 1.0,
        // Longer than a leadership that nobody renews.
        duration: Duration::from_secs(15),
        compact_every: Duration::from_secs(5),
        seed: 1,
        quiet: true,
        json: false,
    };
    let report = orchestrate(&asked).await.unwrap();
    assert!(report.is_good() && report.compactions_failed == 0, "{}", report.print());
    assert!(report.renewal.is_some() && report.lists.is_some() && report.events > 0, "{}", report.print());
    field.cluster.wait_converged().await;
}
