//! A leader's rounds, and what the answers prove.

use crate::mutant::mutated;
use crate::read::Reader;
use crate::role::RoleState;
use crate::role::leader::Leader;
use crate::timing::HEARTBEAT_TICKS;
use crate::{AppendAnswer, Body, Heartbeat, HeartbeatAnswer, Raft, ReadDone, ReadRefused, promotion, quorum};
use alloc::vec::Vec;
use quorate_types::{Index, Membership, NodeId, Position, Term};

/// A peer this close to the end of the log keeps up: a learner by what its card has, an heir by what it verified.
pub(crate) const CLOSE_ENTRY_COUNT: u64 = 1_000;

/// The same in bytes.
const CLOSE_BYTES: u64 = 1024 * 1024;

impl Raft {
    /// The leader's state, if this node leads.
    pub(crate) fn leading(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// Time passed for a leader.
    pub(crate) fn tick_leader(&mut self) {
        let (own, now) = (self.node, self.now);
        let membership = self.memberships.in_force().clone();
        let leads_alone = mutated!(self, LeadAlone);
        let Some(leader) = self.leading() else { return };
        let is_heard = |id| id == own || leader.progress.get(&id).is_some_and(|peer| peer.is_active(now));
        if !quorum::agrees(&membership, is_heard) && !leads_alone {
            self.become_follower(self.hard_state.term, None);
            return;
        }
        leader.transfer = leader.transfer.take().filter(|transfer| !transfer.is_over(now));
        if now >= leader.upkeep_at {
            leader.upkeep_at = now + HEARTBEAT_TICKS;
            leader.progress.retain(|_, peer| !peer.is_gone(now));
            leader.progress.values_mut().for_each(|peer| peer.maintain(now));
            self.judge_lag();
            self.finish_change();
            self.tell_transfer(true);
            self.guard_card();
            self.promote();
        }
        if self.leading().is_some_and(|leader| now >= leader.heartbeat_at) {
            self.begin_heartbeat_round();
        }
    }

    /// A round: whoever answers it has seen no newer term since it began.
    pub(crate) fn begin_heartbeat_round(&mut self) {
        let (now, committed) = (self.now, self.committed);
        let Some(leader) = self.leading() else { return };
        let round = leader.next_round(now);
        leader.progress.values_mut().for_each(|peer| peer.told(committed, round));
        let peers: Vec<NodeId> = leader.progress.keys().copied().collect();
        for peer in peers {
            self.send(peer, Body::Heartbeat(Heartbeat { committed, round }));
        }
    }

    pub(crate) fn step_heartbeat_answer(&mut self, from: NodeId, answer: HeartbeatAnswer) {
        let HeartbeatAnswer { round, verified, persisted, card } = answer;
        let (now, last) = (self.now, self.log.last().index);
        let Some(leader) = self.leading() else { return };
        let newest = leader.round;
        let is_sound = persisted <= verified && verified <= last && round <= newest;
        let Some(peer) = leader.progress.get_mut(&from).filter(|_| is_sound) else {
            self.ignored += 1;
            return;
        };
        peer.heard(now);
        peer.answered(round);
        peer.shows_card(card);
        peer.claims(verified, persisted, now);
        self.advance_commit();
        self.end_read_round();
    }

    pub(crate) fn step_append_answer(&mut self, from: NodeId, answer: AppendAnswer) {
        let (now, last, base) = (self.now, self.log.last().index, self.log.base().index);
        let meeting = match answer {
            AppendAnswer::Rejected { hint, .. } if hint.index < base => hint.index,
            AppendAnswer::Rejected { hint, .. } => self.log.meeting_point(hint).index,
            AppendAnswer::Taken { .. } | AppendAnswer::Full => last,
        };
        let is_blind =
            matches!(answer, AppendAnswer::Rejected { previous, hint } if previous.max(hint.index) < base);
        let is_sound = match answer {
            AppendAnswer::Taken { verified, persisted } => persisted <= verified && verified <= last,
            AppendAnswer::Rejected { previous, .. } => previous > Index(0) && previous <= last,
            AppendAnswer::Full => true,
        };
        let peer = self.leading().and_then(|leader| leader.progress.get_mut(&from));
        let Some(peer) = peer.filter(|_| is_sound) else {
            self.ignored += 1;
            return;
        };
        peer.heard(now);
        match answer {
            AppendAnswer::Taken { verified, persisted } => peer.taken(verified, persisted, now),
            AppendAnswer::Rejected { previous, .. } => peer.rejected(previous, meeting, is_blind),
            AppendAnswer::Full => peer.full(now),
        }
        self.advance_commit();
    }

    /// A peer lives anew: what it held in memory is gone.
    pub(crate) fn peer_restarted(&mut self, peer: NodeId) {
        let last = self.log.last().index;
        if let Some(peer) = self.leading().and_then(|leader| leader.progress.get_mut(&peer)) {
            peer.restarted(last);
        }
    }

    /// Commits what a quorum of cards holds, with or without this node's own; of older terms only what an
    /// entry of the own term carries with it (Raft thesis 3.6.2).
    pub(crate) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let counts_unpersisted = mutated!(self, CountOwnBeforeAck);
        let own = if counts_unpersisted { self.log.last().index } else { self.durable.persisted() };
        let persisted = |id: NodeId| {
            if id == self.node {
                own
            } else {
                leader.progress.get(&id).map_or(Index(0), |peer| peer.persisted())
            }
        };
        let reached = quorum::reached(&self.deciding(), persisted);
        let is_own_term =
            self.log.term_at(reached) == Some(self.hard_state.term) || mutated!(self, CommitOldTermByCount);
        if reached > self.committed && is_own_term {
            self.commit(reached);
            self.finish_change();
        }
    }

    /// Who decides: the membership in force.
    fn deciding(&self) -> Membership {
        let mut membership = self.memberships.in_force().clone();
        if mutated!(self, SingleQuorumInJoint) {
            membership.voters_outgoing.clear();
        }
        if mutated!(self, CountLearners) {
            membership.voters.extend_from_slice(&membership.learners);
        }
        membership
    }

    /// After a commit: a joint membership that is committed is left, but not during a hand-over, whose heir would not
    /// have all of the log any more; a leader that is no voter any more goes.
    fn finish_change(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let is_handing_over = leader.transfer.is_some();
        let is_in_flight = self.memberships.in_flight().next().is_some();
        if is_in_flight || self.committed < leader.first {
            return;
        }
        let membership = self.memberships.in_force();
        if !membership.voters_outgoing.is_empty() {
            if is_handing_over {
                return;
            }
            let next = crate::membership_change::after_joint(membership);
            self.append_membership(next);
        } else if !membership.voters.contains(&self.node) {
            self.resign();
        }
    }

    /// Leaves the cluster's lead to the voter that is furthest, having told everybody what is committed.
    fn resign(&mut self) {
        self.begin_heartbeat_round();
        self.feed_peers();
        let now = self.now;
        let voters = self.memberships.in_force().voters.clone();
        let Some(leader) = self.leading() else { return };
        let live = leader.progress.iter().filter(|(id, peer)| voters.contains(id) && peer.is_active(now));
        let heir = live.max_by_key(|(_, peer)| (peer.persisted(), peer.verified())).map(|(id, _)| *id);
        if let Some(heir) = heir {
            self.send(heir, Body::CampaignNow);
        }
        self.become_follower(self.hard_state.term, None);
    }

    /// Begins a round for the reads that wait, if this leader may answer reads yet.
    pub(crate) fn begin_read_round(&mut self) {
        let committed = self.committed;
        let skips_own_commit = mutated!(self, ReadBeforeOwnCommit);
        let Some(leader) = self.leading() else { return };
        if !leader.reads.wants_round() || (committed < leader.first && !skips_own_commit) {
            return;
        }
        self.begin_heartbeat_round();
        if let Some(leader) = self.leading() {
            leader.reads.begin(leader.round, committed);
        }
        self.end_read_round();
    }

    /// Answers reads whose round a quorum has answered.
    pub(crate) fn end_read_round(&mut self) {
        let own = self.node;
        let membership = self.deciding();
        let skips_round = mutated!(self, ReadWithoutRound);
        let Some(leader) = self.leading() else { return };
        let progress = &leader.progress;
        let ended = leader.reads.end(|number| {
            let answers = |id| id == own || progress.get(&id).is_some_and(|peer| peer.round() >= number);
            skips_round || quorum::agrees(&membership, answers)
        });
        let Some((index, readers)) = ended else { return };
        for reader in readers {
            match reader {
                Reader::Local(id) => self.outbox.reads.push(ReadDone { id, outcome: Ok(index) }),
                Reader::Peer(peer, number) => {
                    self.send(peer, Body::ReadAnswer { number, index: Some(index) });
                }
            }
        }
    }

    pub(crate) fn step_read_request(&mut self, from: NodeId, term: Term, number: u64) {
        if term > self.hard_state.term {
            self.become_follower(term, None);
        }
        let reader = Reader::Peer(from, number);
        if !self.leading().is_some_and(|leader| leader.reads.ask(reader)) {
            self.refuse_reader(reader);
        }
    }

    /// This node cannot answer that read.
    pub(crate) fn refuse_reader(&mut self, reader: Reader) {
        match reader {
            Reader::Local(id) => self.refuse_reads([id], ReadRefused::LeaderChanged),
            Reader::Peer(peer, number) => self.send(peer, Body::ReadAnswer { number, index: None }),
        }
    }

    /// Tells the target of a hand-over to campaign, once its card has all of the log.
    pub(crate) fn tell_transfer(&mut self, is_heartbeat: bool) {
        let (now, last) = (self.now, self.log.last().index);
        let Some(leader) = self.leading() else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        let is_caught_up = leader.progress.get(&to).is_some_and(|peer| peer.persisted() == last);
        if transfer.tells(is_caught_up, is_heartbeat, now) {
            self.send(to, Body::CampaignNow);
        }
    }

    /// Judges who keeps up with the log.
    fn judge_lag(&mut self) {
        let (now, last, base) = (self.now, self.log.last().index, self.log.base().index);
        let Raft { role: RoleState::Leader(leader), log, .. } = self else { return };
        for peer in leader.progress.values_mut() {
            let persisted = peer.persisted();
            let is_near = last.0 - persisted.0 <= CLOSE_ENTRY_COUNT && persisted >= base;
            peer.judge_lag(is_near && log.bytes_after(persisted) <= CLOSE_BYTES, now);
        }
    }

    /// Makes voters of learners by itself, as long as they stay odd (rule 14).
    fn promote(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.transfer.is_some() || self.check_change().is_err() {
            return;
        }
        let (_, caught_up) = self.standing();
        if let Some(next) = promotion::automatic(self.memberships.in_force(), &caught_up) {
            self.append_membership(next);
        }
    }

    /// Where an entry stands that this leader has just appended.
    pub(crate) fn next_position(&self) -> Position {
        Position { term: self.hard_state.term, index: self.log.last().index.next() }
    }
}
