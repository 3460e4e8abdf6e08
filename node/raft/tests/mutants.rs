//! The random cluster test would notice: each known way to break the core is caught within a bounded number of
//! histories. A mutant that lives means that a checker sleeps.

mod cluster;

use cluster::random::play;
use quorate_raft::Mutation;
use std::panic::catch_unwind;

/// Histories a mutant may survive at most.
const SEEDS_MAX: u64 = 1_500;

/// The first seed whose history shows that the core is broken.
fn caught_by(mutation: Mutation) -> Option<u64> {
    (0..SEEDS_MAX)
        .find(|seed| catch_unwind(|| play(*seed, |cluster| cluster.mutation = Some(mutation))).is_err())
}

#[test]
fn each_mutant_is_caught() {
    std::panic::set_hook(Box::new(|_| ()));
    let verdicts = Mutation::ALL.map(|mutation| (mutation, caught_by(mutation)));
    drop(std::panic::take_hook());
    for (mutation, seed) in verdicts {
        println!("{mutation:?}: {}", seed.map_or_else(|| "lives".to_owned(), |seed| format!("seed {seed}")));
    }
    let alive: Vec<Mutation> = verdicts.iter().filter(|(_, seed)| seed.is_none()).map(|(m, _)| *m).collect();
    assert!(alive.is_empty(), "nobody noticed {alive:?}");
}
