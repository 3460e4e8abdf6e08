//! Each known way to break the core is caught within so many ordinary seeds: the checkers see what they are there to
//! see. Run in the simulator's profile: `cargo test --profile sim -p quorate-sim --features mutants --test mutants`.

use quorate_raft::Mutant;
use quorate_sim::Options;
use quorate_sim::report::run_many;

/// Seeds of one mutant that run at once.
const THREADS: usize = 2;

/// Seeds a mutant may survive at most. All but two were caught by the first or second seed when this was written;
/// `SingleQuorumInJoint` by seed 11, `CountLateAck` by 24. All thirteen together took 8 seconds of one core: a mutant
/// that lives through its seeds costs half a minute, and means that a checker sleeps.
const CAUGHT_WITHIN: [(Mutant, u64); 13] = [
    (Mutant::VoteBeforeDurable, 20),
    (Mutant::CommitOldTermByCount, 20),
    (Mutant::CountOwnBeforeAck, 20),
    (Mutant::SkipPreVote, 20),
    (Mutant::CommitBeyondVerified, 20),
    (Mutant::CountLateAck, 200),
    (Mutant::ReadWithoutRound, 20),
    (Mutant::SingleQuorumInJoint, 100),
    (Mutant::ReadBeforeOwnCommit, 20),
    (Mutant::ClaimInUndurableTerm, 20),
    (Mutant::VoteNotWritten, 20),
    (Mutant::LeadAlone, 20),
    (Mutant::CountLearners, 20),
];

#[test]
fn each_mutant_is_caught() {
    assert_eq!(CAUGHT_WITHIN.map(|(mutant, _)| mutant), Mutant::ALL, "none is forgotten");
    // An assertion that stops a broken core is a finding, and needs no second voice.
    std::panic::set_hook(Box::new(|_| ()));
    let mut alive = Vec::new();
    for (mutant, seeds_max) in CAUGHT_WITHIN {
        let options = Options { mutant: Some(mutant), ..Options::default() };
        let (_, failure) = run_many(THREADS, options, |number| (number < seeds_max).then_some(number + 1));
        match failure {
            Some(failure) => println!("{mutant:?}: seed {}: {}", failure.seed, failure.words),
            None => alive.push((mutant, seeds_max)),
        }
    }
    drop(std::panic::take_hook());
    assert!(alive.is_empty(), "nobody noticed {alive:?}");
}
