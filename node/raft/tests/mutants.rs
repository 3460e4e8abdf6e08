//! The random cluster test would notice: each known way to break the core is caught within a bounded number of
//! histories. A mutant that lives means that a checker sleeps.

mod cluster;

use cluster::random::play;
use quorate_raft::Mutant;
use std::panic::catch_unwind;

/// Histories a mutant may survive at most.
const SEEDS_MAX: u64 = 500;

/// The first seed whose history shows that the core is broken.
fn caught_by(mutant: Mutant) -> Option<u64> {
    (0..SEEDS_MAX).find(|seed| catch_unwind(|| play(*seed, |cluster| cluster.mutant = Some(mutant))).is_err())
}

#[test]
fn each_mutant_is_caught() {
    std::panic::set_hook(Box::new(|_| ()));
    let verdicts = Mutant::ALL.map(|mutant| (mutant, caught_by(mutant)));
    drop(std::panic::take_hook());
    for (mutant, seed) in verdicts {
        println!("{mutant:?}: {}", seed.map_or_else(|| "lives".to_owned(), |seed| format!("seed {seed}")));
    }
    let alive: Vec<Mutant> = verdicts.iter().filter(|(_, seed)| seed.is_none()).map(|(m, _)| *m).collect();
    assert!(alive.is_empty(), "nobody noticed {alive:?}");
}
