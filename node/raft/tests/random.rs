//! Thousands of random histories, each from its seed: what must hold is checked at every step.

mod cluster;

use cluster::random::{Reached, play};

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

/// `QUORATE_SEED` plays one history, `QUORATE_SEEDS` so many.
#[test]
fn random_histories_keep_every_promise() {
    let setting = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = setting("QUORATE_SEED") {
        println!("{:?}", play(seed, |_| ()));
        return;
    }
    let seeds = setting("QUORATE_SEEDS").unwrap_or(2_000);
    let mut reached = Reached::default();
    for seed in 0..seeds {
        // The seed is the last line before a failure's own.
        let story = std::panic::catch_unwind(|| play(seed, |_| ()));
        match story {
            Ok(story) => reached.add(&story),
            Err(_) => panic!("seed {seed} breaks a promise; QUORATE_SEED={seed} plays it alone"),
        }
    }
    println!("{reached:?}");
    for situation in SITUATIONS {
        assert!(reached.0.get(situation).is_some_and(|count| *count > 0), "no history reached: {situation}");
    }
}
