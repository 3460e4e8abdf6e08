//! Each known way to break the core is caught within so many ordinary seeds: the checkers see what they are there to
//! see. Run in the simulator's profile: `cargo test --profile sim -p quorate-sim --features mutants --test mutants`.

use quorate_raft::Mutant;
use quorate_sim::Options;
use quorate_sim::report::run_many;

/// Seeds of one mutant that run at once.
const THREADS: usize = 2;

/// Seeds a mutant may survive at most: a minute of one core, which only a checker that sleeps ever costs.
const SEEDS_MAX: u64 = 300;

/// The seed that caught each when this was written; all thirteen took 16 seconds of one core.
const CAUGHT_BY: [(Mutant, u64); 13] = [
    (Mutant::VoteBeforeDurable, 1),
    (Mutant::CommitOldTermByCount, 1),
    (Mutant::CountOwnBeforeAck, 1),
    (Mutant::SkipPreVote, 1),
    (Mutant::CommitBeyondVerified, 19),
    (Mutant::CountLateAck, 6),
    (Mutant::ReadWithoutRound, 44),
    (Mutant::SingleQuorumInJoint, 24),
    (Mutant::ReadBeforeOwnCommit, 1),
    (Mutant::ClaimInUndurableTerm, 1),
    (Mutant::VoteNotWritten, 1),
    (Mutant::LeadAlone, 1),
    (Mutant::CountLearners, 1),
];

#[test]
fn each_mutant_is_caught() {
    assert_eq!(CAUGHT_BY.map(|(mutant, _)| mutant), Mutant::ALL, "none is forgotten");
    // An assertion that stops a broken core is a finding, and needs no second voice.
    std::panic::set_hook(Box::new(|_| ()));
    let mut alive = Vec::new();
    for (mutant, seed) in CAUGHT_BY {
        let options = Options { mutant: Some(mutant), ..Options::default() };
        let (_, failure) = run_many(THREADS, options, |number| (number < SEEDS_MAX).then_some(number + 1));
        match failure {
            Some(failure) => println!("{mutant:?}: seed {}: {}", failure.seed, failure.words),
            None => alive.push((mutant, seed)),
        }
    }
    drop(std::panic::take_hook());
    assert!(alive.is_empty(), "nobody noticed {alive:?} in {SEEDS_MAX} seeds");
}
