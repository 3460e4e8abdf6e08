//! A few seeds in the ordinary profile, so that every test run plays some; thousands are `cargo xtask sim`'s.

use quorate_sim::Options;
use quorate_sim::report::{Sum, run_guarded};

#[test]
fn a_few_seeds_go_well_and_do_something() {
    let mut sum = Sum::default();
    for seed in 1..=6 {
        match run_guarded(seed, Options::default()) {
            Ok(report) => sum.add(&report),
            Err(failure) => {
                panic!("seed {seed} at {} ms: {}\n{}", failure.at_ms, failure.words, failure.story)
            }
        }
    }
    assert!(sum.committed > 200 && sum.operations > 200 && sum.elections > 6, "{}", sum.print());
}

/// Without this no failure could be looked at twice.
#[test]
fn one_seed_is_one_run() {
    let run = || run_guarded(3, Options::default()).expect("it is one of those that go well");
    let (one, other) = (run(), run());
    assert_eq!((one.trace, one.turns, one.committed), (other.trace, other.turns, other.committed));
    assert_eq!(one.situations, other.situations);
    let another = run_guarded(4, Options::default()).expect("it is one of those that go well");
    assert_ne!(one.trace, another.trace, "and another seed is another run");
}
