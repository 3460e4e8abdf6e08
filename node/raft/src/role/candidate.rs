//! Standing for election, and answering those who do.

use crate::mutant::mutated;
use crate::role::RoleState;
use crate::{Body, Raft, VoteRequest, quorum};
use alloc::collections::BTreeMap;
use quorate_types::{Membership, NodeId, Term};

/// Votes of one round, pre-votes or votes.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    votes: BTreeMap<NodeId, bool>,
    /// The leader asked for it.
    pub(crate) is_hand_over: bool,
    /// Who has not answered is asked again then.
    pub(crate) resend_at: u64,
}

impl Campaign {
    pub(crate) fn new(is_hand_over: bool, resend_at: u64) -> Campaign {
        Campaign { votes: BTreeMap::new(), is_hand_over, resend_at }
    }

    /// An answer; the first of each node counts.
    pub(crate) fn count(&mut self, node: NodeId, granted: bool) {
        self.votes.entry(node).or_insert(granted);
    }

    pub(crate) fn has_answered(&self, node: NodeId) -> bool {
        self.votes.contains_key(&node)
    }

    pub(crate) fn is_won(&self, membership: &Membership) -> bool {
        quorum::agrees(membership, |node| self.votes.get(&node) == Some(&true))
    }

    /// Whether no quorum can come together any more.
    pub(crate) fn is_lost(&self, membership: &Membership) -> bool {
        !quorum::agrees(membership, |node| self.votes.get(&node) != Some(&false))
    }
}

impl Raft {
    /// The own vote counts, and others are asked, once all of it is durable: term, vote, and the log that the
    /// request names. Until then a stalled card keeps the candidate silent, and its term where it is.
    pub(crate) fn ask_for_votes_if_durable(&mut self) {
        let is_durable = self.is_own_vote_durable() || mutated!(self, VoteBeforeDurable);
        let RoleState::Candidate(campaign) = &mut self.role else { return };
        if campaign.has_answered(self.node) || !is_durable {
            return;
        }
        campaign.count(self.node, true);
        if !self.maybe_win() {
            self.ask_for_votes();
        }
    }

    /// Whether the card has the own vote of this term, and all of the log.
    pub(crate) fn is_own_vote_durable(&self) -> bool {
        self.hard_state.vote == Some(self.node)
            && self.durable.hard_state() == self.hard_state
            && self.durable.persisted() == self.log.last().index
    }

    /// Someone asks whether this node would vote for it in `term`. Changes nothing here.
    pub(crate) fn step_pre_vote_request(&mut self, from: NodeId, term: Term, request: VoteRequest) {
        if self.keeps_silent(request) {
            return;
        }
        let last = self.log.last();
        // Of two that ask each other with equal logs the higher id goes first: no split vote.
        let is_own_turn =
            matches!(self.role, RoleState::PreCandidate(_)) && request.last == last && from < self.node;
        let is_free =
            term > self.hard_state.term || (term == self.hard_state.term && self.may_vote_for(from));
        if is_free && request.last >= last && !is_own_turn {
            self.send_in(term, from, Body::PreVoteAnswer { granted: true });
        } else {
            self.send(from, Body::PreVoteAnswer { granted: false });
        }
    }

    /// Someone asks for this node's vote in `term`.
    pub(crate) fn step_vote_request(&mut self, from: NodeId, term: Term, request: VoteRequest) {
        if self.keeps_silent(request) {
            return;
        }
        if term > self.hard_state.term {
            self.become_follower(term, None);
        }
        let is_free = term == self.hard_state.term && self.may_vote_for(from);
        if is_free && request.last >= self.log.last() {
            self.hard_state.vote = Some(from);
            self.vote_owed = Some(from);
            self.arm_election();
            self.pay_vote();
        } else {
            self.send(from, Body::VoteAnswer { granted: false });
        }
    }

    /// Sends the vote that is owed, once it is durable.
    pub(crate) fn pay_vote(&mut self) {
        let is_durable = self.durable.hard_state() == self.hard_state || mutated!(self, VoteBeforeDurable);
        if let Some(candidate) = self.vote_owed.take_if(|_| is_durable) {
            assert_eq!(self.hard_state.vote, Some(candidate), "only the vote of this term is owed");
            self.send(candidate, Body::VoteAnswer { granted: true });
        }
    }

    pub(crate) fn step_pre_vote_answer(&mut self, from: NodeId, term: Term, granted: bool) {
        let RoleState::PreCandidate(campaign) = &mut self.role else {
            // A late one says nothing to who hears a leader: it would end the leader's term for nothing.
            if !granted && term > self.hard_state.term && !self.hears_leader() {
                self.become_follower(term, None);
            }
            return;
        };
        if granted {
            if term != Term(self.hard_state.term.0 + 1) {
                return;
            }
            campaign.count(from, true);
            if campaign.is_won(self.memberships.in_force()) {
                self.become_candidate(false);
            }
        } else if term > self.hard_state.term {
            self.become_follower(term, None);
        } else {
            campaign.count(from, false);
            if campaign.is_lost(self.memberships.in_force()) {
                self.become_follower(self.hard_state.term, None);
            }
        }
    }

    pub(crate) fn step_vote_answer(&mut self, from: NodeId, granted: bool) {
        let RoleState::Candidate(campaign) = &mut self.role else { return };
        campaign.count(from, granted);
        if !self.maybe_win()
            && let RoleState::Candidate(campaign) = &self.role
            && campaign.is_lost(self.memberships.in_force())
        {
            self.become_follower(self.hard_state.term, None);
        }
    }

    /// The leader hands over to this node. Whether its word is durable is for the candidate to wait for.
    pub(crate) fn step_campaign_now(&mut self, from: NodeId) {
        if self.leader() == Some(from) && self.may_campaign() {
            self.become_candidate(true);
        } else {
            self.ignored += 1;
        }
    }

    fn maybe_win(&mut self) -> bool {
        let RoleState::Candidate(campaign) = &self.role else { return false };
        let is_won = campaign.has_answered(self.node) && campaign.is_won(self.memberships.in_force());
        if is_won {
            self.become_leader();
        }
        is_won
    }

    /// Whether this term's vote is free, or was given to that node. Someone who hears a leader of the term has
    /// nothing to give; a node with intact state answers whatever it believes that it is (rule 11).
    fn may_vote_for(&self, candidate: NodeId) -> bool {
        let is_free = self.hard_state.vote.is_none() && self.leader().is_none();
        is_free || self.hard_state.vote == Some(candidate)
    }

    /// Whether votes are not answered at all: a leader is heard, or may have been promised to before a
    /// restart. A hand-over overrides both (rule 10).
    fn keeps_silent(&self, request: VoteRequest) -> bool {
        let is_alone = quorum::is_alone(self.memberships.in_force(), self.node);
        let is_silent = self.now < self.silent_until && !is_alone;
        !request.is_hand_over && (is_silent || self.hears_leader())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership_change::tests::membership;

    #[test]
    fn votes_count_once_and_in_both_sets() {
        let joint = membership(&[1, 4], &[1, 2, 3], &[]);
        let mut campaign = Campaign::new(false, 0);
        campaign.count(NodeId(1), true);
        campaign.count(NodeId(2), false);
        campaign.count(NodeId(2), true);
        campaign.count(NodeId(4), true);
        assert!(!campaign.is_won(&joint) && !campaign.is_lost(&joint));
        campaign.count(NodeId(3), true);
        assert!(campaign.is_won(&joint));
    }

    #[test]
    fn a_round_is_lost_when_no_quorum_can_come_together() {
        let three = membership(&[1, 2, 3], &[], &[]);
        let mut campaign = Campaign::new(false, 0);
        campaign.count(NodeId(2), false);
        assert!(!campaign.is_lost(&three));
        campaign.count(NodeId(3), false);
        assert!(campaign.is_lost(&three));
    }
}
