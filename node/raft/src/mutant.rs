//! Known ways to break the core, so that tests can show that they would notice. Without the feature `mutants`
//! nothing of this is built.

/// One broken rule.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A vote is asked for and given before it is durable.
    VoteBeforeDurable,
    /// An entry of an older term is committed by counting (Raft thesis, figure 3.7).
    CommitOldTermByCount,
    /// The leader counts its own entries before its own card has them.
    CountOwnBeforeAck,
    /// A node that hears no leader raises its term at once.
    SkipPreVote,
    /// A follower commits what it has not verified against this leader.
    CommitBeyondVerified,
    /// The ack of an append covers entries that replaced those it was for.
    CountLateAck,
    /// A read is answered without a round with the quorum.
    ReadWithoutRound,
    /// During a joint change the new voters alone decide.
    SingleQuorumInJoint,
    /// A leader reads at its commit index before it has committed an entry of its own term.
    ReadBeforeOwnCommit,
    /// Durability is claimed to a leader whose term is not durable (rule 9).
    ClaimInUndurableTerm,
    /// The vote is not written with its term: a restart may give another.
    VoteNotWritten,
    /// A leader goes on without a quorum that hears it.
    LeadAlone,
    /// What a learner's card has counts like a voter's.
    CountLearners,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 13] = [
        Mutant::VoteBeforeDurable,
        Mutant::CommitOldTermByCount,
        Mutant::CountOwnBeforeAck,
        Mutant::SkipPreVote,
        Mutant::CommitBeyondVerified,
        Mutant::CountLateAck,
        Mutant::ReadWithoutRound,
        Mutant::SingleQuorumInJoint,
        Mutant::ReadBeforeOwnCommit,
        Mutant::ClaimInUndurableTerm,
        Mutant::VoteNotWritten,
        Mutant::LeadAlone,
        Mutant::CountLearners,
    ];
}

/// Whether this core is broken in that way; never, without the feature.
macro_rules! mutated {
    ($raft:expr, $mutant:ident) => {{
        #[cfg(feature = "mutants")]
        let is_mutated = $raft.mutant == Some($crate::Mutant::$mutant);
        #[cfg(not(feature = "mutants"))]
        let is_mutated = false;
        is_mutated
    }};
}

pub(crate) use mutated;
