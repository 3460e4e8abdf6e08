//! A hundred times kill -9 under load: every acknowledged change is there, none is half there.
//!
//! `QUORATE_KILL_ROUNDS` sets the number of rounds, `QUORATE_KILL_SEED` the choices.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use quorate_tests::crash::{Attempt, Judge, Load, Shape};
use quorate_tests::program::Program;
use quorate_tests::server::{Options, Server};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Only ends a broken run: what a round waits for comes far sooner.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// Added to the round's number for its second load: authors are never used twice.
const LIGHT_LOADS: u64 = 1_000_000;

/// When a round kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// At any time under load.
    AnyTime,
    /// While it starts, several times in a row, with clients already dialling.
    StartUp,
    /// When the log goes on to another segment.
    Rotation,
    /// While an image of the state is being written.
    Image,
    /// Just after an image has replaced the last one, while the log is trimmed.
    Trim,
}

impl Moment {
    fn of(round: u64) -> Moment {
        match round % 20 {
            3 | 7 | 15 => Moment::StartUp,
            5 | 10 | 18 => Moment::Rotation,
            13 if round % 60 < 20 => Moment::Image,
            13 if round % 100 < 40 => Moment::Trim,
            _ => Moment::AnyTime,
        }
    }

    fn shape(self, seed: u64, random: &mut SmallRng) -> Shape {
        let value_bytes_max = match self {
            Moment::AnyTime | Moment::StartUp => *[64, 600, 5_000].get(random.random_range(0..3)).unwrap(),
            Moment::Rotation => 20_000,
            Moment::Image | Moment::Trim => 120_000,
        };
        Shape { clients: random.random_range(8..=16), value_bytes_max, seed }
    }
}

struct Rounds {
    server: Server,
    judge: Judge,
    random: SmallRng,
    runtime: tokio::runtime::Runtime,
    acknowledged: usize,
    lost_answers: usize,
}

impl Rounds {
    fn run(&mut self, round: u64, seed: u64) {
        let (began, moment) = (Instant::now(), Moment::of(round));
        let shape = moment.shape(seed, &mut self.random);
        let attempts = self.load_and_kill(round, moment, shape);
        println!("round {round}: {moment:?}, {} attempts, {:?}", attempts.len(), began.elapsed());
        self.acknowledged += attempts.iter().filter(|attempt| is_acknowledged(attempt)).count();
        self.lost_answers += attempts.iter().filter(|attempt| !is_acknowledged(attempt)).count();
        if self.random.random_bool(0.2) {
            self.kill_starts();
        }
        self.server.restart();
        // Mostly only what is new is read again; now and then all of the history.
        let known = self.judge.revision();
        let from = if round.is_multiple_of(10) { 0 } else { known - self.random.random_range(0..200) };
        let endpoint = self.server.endpoint();
        let judged = self.judge.judge(&endpoint, attempts, from);
        if let Err(error) = self.runtime.block_on(judged) {
            panic!("round {round} ({moment:?}, {shape:?}, seed {seed}): {error:#}");
        }
        if matches!(moment, Moment::Rotation | Moment::Image | Moment::Trim) {
            self.runtime.block_on(self.judge.compact(&self.server.endpoint())).unwrap();
            // Rounds are shorter than an image of so much takes: without rest none would ever be finished.
            let images = self.server.data_dir().join("image");
            until("no image under way", || !files(&images).iter().any(|name| name.ends_with(".tmp")));
        }
    }

    fn load_and_kill(&mut self, round: u64, moment: Moment, shape: Shape) -> Vec<Attempt> {
        let runtime = self.runtime.handle().clone();
        let _entered = runtime.enter();
        if moment == Moment::StartUp {
            self.server.kill();
            self.kill_starts();
            // The first changes come in when the node has just begun to serve.
            self.server.restart();
        }
        let mut earlier = Vec::new();
        let mut load = Load::start(&self.server.endpoint(), round, shape);
        if moment == Moment::Trim {
            // A full load would write a log many times the image while the image keeps out of its way.
            self.wait_for(Moment::Image, &load);
            load.end_soon();
            earlier = runtime.block_on(load.attempts());
            load = Load::start(
                &self.server.endpoint(),
                round + LIGHT_LOADS,
                Shape { clients: 1, value_bytes_max: 50, ..shape },
            );
        }
        self.wait_for(moment, &load);
        self.server.kill();
        earlier.extend(runtime.block_on(load.attempts()));
        earlier
    }

    /// With the node down: kills a few starts at different depths, from before `main` to just after the port is open.
    fn kill_starts(&mut self) {
        for _ in 0..3 {
            self.server.spawn_again();
            std::thread::sleep(Duration::from_micros(self.random.random_range(0..150_000)));
            self.server.kill();
        }
    }

    fn wait_for(&mut self, moment: Moment, load: &Load) {
        let folder = self.server.data_dir().to_owned();
        match moment {
            Moment::AnyTime | Moment::StartUp => {
                let least = self.random.random_range(0..40);
                until("changes", || load.tally.acknowledged.load(Ordering::Relaxed) >= least);
            }
            Moment::Rotation => {
                for _ in 0..self.random.random_range(1..4) {
                    let before = newest_use(&folder);
                    until("another segment", || newest_use(&folder) != before);
                }
            }
            Moment::Image => {
                until("an image", || files(&folder.join("image")).iter().any(|name| name.ends_with(".tmp")));
            }
            Moment::Trim => {
                let before = images(&folder);
                until("a finished image", || images(&folder) != before);
            }
        }
        let further = match moment {
            Moment::AnyTime | Moment::StartUp => 250_000,
            Moment::Rotation | Moment::Trim => 30_000,
            Moment::Image => 500_000,
        };
        std::thread::sleep(Duration::from_micros(self.random.random_range(0..further)));
    }
}

fn is_acknowledged(attempt: &Attempt) -> bool {
    matches!(attempt.fate, quorate_tests::crash::Fate::Acknowledged(_))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WAIT_LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn files(folder: &Path) -> BTreeSet<String> {
    let Ok(list) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    list.flatten().map(|item| item.file_name().to_string_lossy().into_owned()).collect()
}

fn images(folder: &Path) -> BTreeSet<String> {
    files(&folder.join("image")).into_iter().filter(|name| !name.ends_with(".tmp")).collect()
}

/// Which files a use of has begun: the first block of each segment changes when it is used (again).
fn newest_use(folder: &Path) -> Vec<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let wal = folder.join("wal");
    let segments = files(&wal).into_iter().filter(|name| name.starts_with("segment-"));
    let first_block = |name: String| {
        let mut block = vec![0; 512];
        std::fs::File::open(wal.join(name)).and_then(|file| file.read_at(&mut block, 0)).ok();
        block
    };
    segments.map(first_block).filter(|block| block.iter().any(|byte| *byte != 0)).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_acknowledged_change_survives_a_hundred_kills() {
    let (rounds, seed) = (number("QUORATE_KILL_ROUNDS", 100), number("QUORATE_KILL_SEED", 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut run = Rounds {
        // In memory: what a killed process has written is in the page cache either way, and a sync costs nothing.
        server: Server::start(Options::new(Program::quorated()).in_memory()),
        judge: Judge::new(),
        random: SmallRng::seed_from_u64(seed),
        runtime,
        acknowledged: 0,
        lost_answers: 0,
    };
    for round in 0..rounds {
        run.run(round, seed);
    }
    run.runtime.block_on(run.judge.compaction_holds(&run.server.endpoint())).unwrap();
    println!(
        "{rounds} kills, {} changes acknowledged, {} answers lost, {} of those had happened, revision {}",
        run.acknowledged,
        run.lost_answers,
        run.judge.unknown_happened,
        run.judge.revision()
    );
    assert!(run.acknowledged > 0 && run.lost_answers > 0, "a load that never ran proves nothing");
}
