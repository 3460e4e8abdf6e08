//! Thousands of random histories, each from its seed: what must hold is checked at every step.

mod cluster;

use cluster::dice::Reached;
use cluster::random::play;

/// What some history must have reached, or the test proves less than it says.
const SITUATIONS: &[&str] = &[
    "stall",
    "image sent",
    "image failed",
    "proposed",
    "paused",
    "unsynced lost",
    "crash in joint",
    "leader alone",
    "node alone",
    "one way",
    "split",
    "transfer",
    "learner added",
    "read always",
    "removal",
    "swap",
    "leader applied first",
    "follower applied first",
    "settled",
    "read answered",
    "read refused",
    "fetched",
    "leader full",
    "follower full",
];

fn play_all(seeds: impl Iterator<Item = u64>) -> Reached {
    let mut reached = Reached::default();
    for seed in seeds {
        match std::panic::catch_unwind(|| play(seed, |_| ())) {
            Ok(story) => reached.add(&story),
            Err(_) => panic!("seed {seed} breaks a promise; QUORATE_SEED={seed} plays it alone"),
        }
    }
    reached
}

/// `QUORATE_SEED` plays one history, `QUORATE_SEEDS` so many.
#[test]
fn random_histories_keep_every_promise() {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = setting("QUORATE_SEED") {
        println!("{:?}", play(seed, |_| ()));
        return;
    }
    let seeds = setting("QUORATE_SEEDS").unwrap_or(2_000);
    let workers =
        std::thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap_or(1));
    let reached = std::thread::scope(|scope| {
        let work = |worker: u64| move || play_all((0..seeds).filter(|seed| seed % workers == worker));
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        let mut reached = Reached::default();
        for worker in running {
            reached.add(&worker.join().expect("every history keeps every promise"));
        }
        reached
    });
    println!("{reached:?}");
    for situation in SITUATIONS {
        assert!(reached.0.get(situation).is_some_and(|count| *count > 0), "no history reached: {situation}");
    }
}
