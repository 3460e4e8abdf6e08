//! What always holds, checked after every input in tests and simulation.
//!
//! Each line is a claim of the design; a core that breaks one stops before it can tell anyone.

use crate::role::RoleState;
use crate::{Raft, quorum};
use quorate_types::{EntryKind, Index};

/// Entries at either end of the log that are looked at each time: the middle does not change.
const LOOKED_AT_COUNT: usize = 32;

/// Stops the program if something stated does not hold.
///
/// # Panics
/// If an invariant is broken: the core is wrong, or memory is.
pub fn check(raft: &Raft) {
    #[cfg(feature = "mutants")]
    if raft.mutant.is_some() {
        // A core broken on purpose is judged by the tests' own checkers.
        return;
    }
    check_positions(raft);
    check_log(raft);
    check_memberships(raft);
    check_votes(raft);
    assert!(raft.reads.is_consistent(), "reads are counted");
    if let RoleState::Leader(leader) = &raft.role {
        check_leader(raft, leader);
    }
}

fn check_positions(raft: &Raft) {
    let last = raft.log.last().index;
    let persisted = raft.durable.persisted();
    assert!(
        raft.log.base().index <= raft.applied.min(persisted),
        "memory holds what is not applied and durable"
    );
    assert!(raft.applied <= raft.committed, "only what is committed is applied");
    assert!(raft.committed <= last, "only what is in the log is committed");
    assert!(persisted <= raft.durable.handed(), "only what was handed out is durable");
    assert!(raft.durable.handed() <= last, "only what is in the log was handed out");
    assert!(raft.log.last().term <= raft.hard_state.term, "no entry is of a term to come");
    if !matches!(raft.role, RoleState::Leader(_)) {
        assert!(raft.following.verified <= last, "only what is in the log is verified");
        assert!(raft.committed <= raft.following.verified, "a follower commits what it verified");
        assert!(raft.following.claimed <= raft.following.verified, "only what is verified is claimed");
    }
}

fn check_log(raft: &Raft) {
    let mut previous = raft.log.base();
    for entry in raft.log.entries().take(LOOKED_AT_COUNT) {
        assert_eq!(entry.position.index, previous.index.next(), "the log has no gap");
        assert!(entry.position.term >= previous.term, "terms never fall along the log");
        previous = entry.position;
    }
    let mut next = None;
    for entry in raft.log.entries().rev().take(LOOKED_AT_COUNT) {
        if let Some(next) = next.replace(entry.position) {
            assert!(entry.position.index.next() == next.index && entry.position.term <= next.term);
        }
    }
}

fn check_memberships(raft: &Raft) {
    let mut newest = raft.committed;
    for index in raft.memberships.in_flight() {
        assert!(index > newest || newest == raft.committed, "memberships stand in the order of the log");
        assert!(index > raft.committed, "a committed membership is not in flight");
        let kind = raft.log.entry(index).map(|entry| entry.kind);
        assert_eq!(kind, Some(EntryKind::Membership), "each membership stands in the log");
        newest = index;
    }
    if matches!(raft.role, RoleState::Leader(_)) {
        // A leader may inherit several; of its own term it appends one at a time.
        let is_own = |index: &Index| raft.log.term_at(*index) == Some(raft.hard_state.term);
        assert!(raft.memberships.in_flight().filter(is_own).count() <= 1, "one change at a time");
    }
}

fn check_votes(raft: &Raft) {
    let durable = raft.durable.hard_state();
    assert!(durable.term <= raft.hard_state.term, "what is durable is not newer than what is known");
    if durable.term == raft.hard_state.term && durable.vote.is_some() {
        assert_eq!(durable.vote, raft.hard_state.vote, "a vote is never changed within its term");
    }
    match &raft.role {
        RoleState::Follower(follower) => {
            assert_ne!(follower.leader, Some(raft.node), "nobody follows itself")
        }
        RoleState::PreCandidate(_) => assert!(raft.may_campaign(), "only a voter campaigns"),
        RoleState::Candidate(campaign) => {
            assert_eq!(raft.hard_state.vote, Some(raft.node), "a candidate votes for itself");
            assert!(!campaign.has_answered(raft.node) || raft.is_own_vote_durable(), "votes are durable");
        }
        RoleState::Leader(_) => assert_eq!(durable, raft.hard_state, "a leader's vote is durable"),
    }
}

fn check_leader(raft: &Raft, leader: &crate::role::leader::Leader) {
    let last = raft.log.last().index;
    let membership = raft.memberships.in_force();
    for (id, peer) in &leader.progress {
        assert!(peer.persisted() <= peer.verified() && peer.verified() <= last, "claims are within the log");
        assert!(
            peer.next() > peer.verified() && peer.next() <= last.next(),
            "sending goes on after what is verified"
        );
        assert!(peer.round() <= leader.round, "only rounds that began are answered");
        assert_eq!(peer.is_member(), membership.member(*id).is_some(), "peers are members or leave");
    }
    let others = membership.members.iter().filter(|member| member.id != raft.node);
    assert!(others.clone().all(|member| leader.progress.contains_key(&member.id)), "members are fed");
    assert!(leader.reads.is_consistent(), "reads are counted");
    let first_term = raft.log.term_at(leader.first);
    assert!(first_term.is_none_or(|term| term == raft.hard_state.term), "the first entry is its own");
    let is_target = |id| quorum::is_voter(membership, id);
    assert!(leader.transfer.is_none_or(|transfer| is_target(transfer.to)), "a voter takes over");
}
