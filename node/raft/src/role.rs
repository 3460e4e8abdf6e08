//! What a node does in its term, and every way from one role to another.
//!
//! ```text
//! follower --timeout--> pre-candidate --quorum would vote--> candidate --quorum voted, durably--> leader
//!     ^ leader heard, newer term, quorum refused, quorum silent ------------'----------------------'
//! ```

pub(crate) mod candidate;
pub(crate) mod follower;
pub(crate) mod leader;

use crate::raft::Following;
use crate::timing::{ELECTION_TICKS_MAX, ELECTION_TICKS_MIN, HEARTBEAT_TICKS};
use crate::{Body, Raft, ReadRefused, VoteRequest, quorum};
use alloc::{boxed::Box, collections::BTreeMap};
use candidate::Campaign;
use follower::Follower;
use leader::Leader;
use quorate_types::{HardState, NodeId, Term};

/// The role, with what only it knows.
#[derive(Debug, Clone)]
pub(crate) enum RoleState {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Box<Leader>),
}

impl Default for RoleState {
    fn default() -> RoleState {
        RoleState::Follower(Follower::default())
    }
}

impl Raft {
    /// Follows `leader`, or waits for one, in `term`, which is the own one or newer.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.hard_state.term, "terms never fall");
        assert!(leader != Some(self.node), "nobody follows itself");
        let is_new_term = term > self.hard_state.term;
        if is_new_term {
            self.enter_term(HardState { term, vote: None });
        }
        if is_new_term || self.leader() != leader {
            self.lose_leader();
        }
        // What a leader committed before it stepped down within its term.
        self.following.verified = self.following.verified.max(self.committed);
        self.role = RoleState::Follower(Follower { leader, heard_at: self.now });
        self.arm_election();
    }

    /// Asks whether it would be elected, without raising its term: who returns from a cut-off must not depose
    /// a leader that others hear.
    pub(crate) fn become_pre_candidate(&mut self) {
        assert!(self.may_campaign(), "only a voter campaigns");
        self.lose_leader();
        self.arm_election();
        let mut campaign = Campaign::new(false, self.now + HEARTBEAT_TICKS);
        campaign.count(self.node, true);
        let is_won = campaign.is_won(self.memberships.in_force());
        self.role = RoleState::PreCandidate(campaign);
        if is_won {
            self.become_candidate(false);
        } else {
            self.ask_for_votes();
        }
    }

    /// Stands for election in the next term. Nothing leaves before term and vote are durable, and with them
    /// the log that the request names.
    pub(crate) fn become_candidate(&mut self, is_hand_over: bool) {
        assert!(self.may_campaign(), "only a voter campaigns");
        self.lose_leader();
        let term = Term(self.hard_state.term.0 + 1);
        self.enter_term(HardState { term, vote: Some(self.node) });
        self.arm_election();
        self.role = RoleState::Candidate(Campaign::new(is_hand_over, self.now + HEARTBEAT_TICKS));
        self.ask_for_votes_if_durable();
    }

    /// Leads: a quorum of durable votes says so.
    pub(crate) fn become_leader(&mut self) {
        assert!(
            self.durable.hard_state() == self.hard_state || crate::mutant::mutated!(self, VoteBeforeDurable),
            "a leader's own vote is durable"
        );
        let next = self.log.last().index.next();
        let mut leader = Leader::new(next, self.now);
        leader.sync_members(self.memberships.in_force(), self.node, next, self.now);
        self.role = RoleState::Leader(Box::new(leader));
        self.append_noop();
        self.begin_heartbeat_round();
        self.advance_commit();
    }

    /// Whether this node may stand for election: a voter by the membership in force, committed or not, as it
    /// is what votes are counted by. A voter whose removal is not known to be committed may too, without a vote
    /// of its own: it may be the only one whose log has the membership without it (Raft thesis 4.2.2). A
    /// membership not applied yet is no obstacle, since applying it changes nothing here.
    pub(crate) fn may_campaign(&self) -> bool {
        let is_voter = |membership| quorum::is_voter(membership, self.node);
        let may_be_needed = is_voter(self.memberships.in_force()) || is_voter(self.memberships.committed());
        self.stale.is_none() && may_be_needed
    }

    /// Sets a new random timeout, longer on a sick card.
    pub(crate) fn arm_election(&mut self) {
        let timeout = self.random.between(ELECTION_TICKS_MIN, ELECTION_TICKS_MAX);
        self.election_at = self.now + timeout + self.card().campaign_delay();
    }

    /// Asks every voter that has not answered yet, in the role's own kind of vote.
    pub(crate) fn ask_for_votes(&mut self) {
        let last = self.log.last();
        let term = self.hard_state.term;
        let membership = self.memberships.in_force().clone();
        let (campaign, term, is_pre_vote) = match &mut self.role {
            RoleState::PreCandidate(campaign) => (campaign, Term(term.0 + 1), true),
            RoleState::Candidate(campaign) => (campaign, term, false),
            RoleState::Follower(_) | RoleState::Leader(_) => return,
        };
        campaign.resend_at = self.now + HEARTBEAT_TICKS;
        let request = VoteRequest { last, is_hand_over: campaign.is_hand_over };
        let silent: BTreeMap<NodeId, ()> = membership
            .members
            .iter()
            .filter(|member| quorum::is_voter(&membership, member.id) && member.id != self.node)
            .filter(|member| !campaign.has_answered(member.id))
            .map(|member| (member.id, ()))
            .collect();
        for voter in silent.into_keys() {
            let body = if is_pre_vote { Body::PreVoteRequest(request) } else { Body::VoteRequest(request) };
            self.send_in(term, voter, body);
        }
    }

    /// A new term begins here: nothing that was known of another leader's log holds.
    fn enter_term(&mut self, hard_state: HardState) {
        assert!(hard_state.term > self.hard_state.term, "terms only rise");
        self.lose_leader();
        self.hard_state = hard_state;
        self.vote_owed = None;
        // By leader completeness every later leader has what is committed; nothing beyond is known of it.
        self.following = Following { verified: self.committed, ..Following::default() };
    }

    /// Whatever waited for the leader of before, this node or another, is refused: each read is answered once.
    fn lose_leader(&mut self) {
        let waiting = self.reads.drain();
        self.refuse_reads(waiting, ReadRefused::LeaderChanged);
        if let RoleState::Leader(leader) = &mut self.role {
            let readers = leader.reads.drain();
            for reader in readers {
                self.refuse_reader(reader);
            }
        }
    }
}
