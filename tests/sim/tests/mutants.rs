//! Each known way to break the core is caught within so many seeds: the checkers see what they are there to see.
//! Run in the simulator's profile: `cargo test --profile sim -p quorate-sim --features mutants --test mutants`.

use quorate_raft::Mutant;
use quorate_sim::Options;
use quorate_sim::report::run_guarded;

/// Seeds within which each was caught when this was written, times four or more.
fn is_caught(mutant: Mutant, seeds_max: u64) {
    let options = Options { mutant: Some(mutant), ..Options::default() };
    let found = (1..=seeds_max).find_map(|seed| run_guarded(seed, options).err());
    let failure = found.unwrap_or_else(|| panic!("{mutant:?} was not noticed in {seeds_max} seeds"));
    println!("{mutant:?}: seed {}: {}", failure.seed, failure.words);
}

macro_rules! caught {
    ($($test:ident: $mutant:ident within $seeds:literal,)*) => {
        $(#[test] fn $test() { is_caught(Mutant::$mutant, $seeds); })*

        #[test]
        fn none_is_forgotten() {
            assert_eq!(Mutant::ALL.as_slice(), [$(Mutant::$mutant,)*]);
        }
    };
}

caught! {
    a_vote_before_it_is_durable: VoteBeforeDurable within 3000,
    an_old_terms_entry_committed_by_count: CommitOldTermByCount within 3000,
    the_leaders_own_card_not_waited_for: CountOwnBeforeAck within 3000,
    a_term_raised_without_asking: SkipPreVote within 3000,
    a_commit_beyond_what_was_verified: CommitBeyondVerified within 3000,
    an_ack_that_covers_what_came_later: CountLateAck within 3000,
    a_read_without_a_round: ReadWithoutRound within 3000,
    one_quorum_of_two_in_a_joint_change: SingleQuorumInJoint within 3000,
    a_read_before_the_first_own_commit: ReadBeforeOwnCommit within 3000,
    durability_claimed_in_a_term_that_is_not: ClaimInUndurableTerm within 3000,
}
