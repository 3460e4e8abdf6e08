//! Following: taking the leader's log, in memory at once, on the card when it is.

use crate::membership_log::decode_membership;
use crate::mutant::mutated;
use crate::role::RoleState;
use crate::timing::{ELECTION_TICKS_MIN, STICKINESS_TICKS};
use crate::{AppendAnswer, AppendEntries, Body, Heartbeat, HeartbeatAnswer, Raft, ReadDone, ReadRefused};
use alloc::vec::Vec;
use quorate_types::{Entry, EntryKind, Index, Membership, NodeId, Position, Term, limits};

/// Images beyond this are nonsense: a peer must not bring the end of counting near.
const INDEX_MAX: Index = Index(u64::MAX >> 16);

/// Whom a node follows, and when it was heard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Follower {
    pub(crate) leader: Option<NodeId>,
    pub(crate) heard_at: u64,
}

impl Raft {
    /// Time passed for a node that does not lead.
    pub(crate) fn tick_follower(&mut self) {
        if self.now >= self.election_at {
            self.election_timeout();
            return;
        }
        let is_due = match &self.role {
            RoleState::PreCandidate(campaign) => self.now >= campaign.resend_at,
            // Its own vote must be counted before it may ask for others'.
            RoleState::Candidate(campaign) => {
                campaign.has_answered(self.node) && self.now >= campaign.resend_at
            }
            RoleState::Follower(_) | RoleState::Leader(_) => false,
        };
        if is_due {
            self.ask_for_votes();
        }
    }

    /// No leader was heard for an election timeout.
    fn election_timeout(&mut self) {
        let is_undecided = matches!(self.role, RoleState::Candidate(_)) && !self.is_own_vote_durable();
        // Nothing a campaign needs can become durable before what already waits: a stalled card cannot win, and
        // a candidate on one keeps its term until its vote is safe.
        let is_stalled =
            self.durable.waits_since().is_some_and(|since| self.now - since >= ELECTION_TICKS_MIN);
        if is_undecided {
            self.arm_election();
            if let RoleState::Candidate(campaign) = &mut self.role {
                // The leader has given the hand-over up by now: its word no longer overrides anything.
                campaign.is_hand_over = false;
            }
        } else if !self.may_campaign() || is_stalled {
            self.become_follower(self.hard_state.term, None);
        } else if mutated!(self, SkipPreVote) {
            self.become_candidate(false);
        } else {
            self.become_pre_candidate();
        }
    }

    /// Whether a leader was heard so recently that nobody else is voted for.
    pub(crate) fn hears_leader(&self) -> bool {
        match &self.role {
            RoleState::Follower(Follower { leader, heard_at }) => {
                leader.is_some() && self.now - heard_at < STICKINESS_TICKS
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
            RoleState::Leader(_) => true,
        }
    }

    /// Whether `from` leads in `term`, as far as can be; if so it is followed from here on. A leader of before
    /// is told of the newer term, as only so can a node that was cut off as a candidate come back; but not while
    /// that term waits for a stalled card: such a candidate cannot win, and must not depose who can lead.
    pub(crate) fn listens_to_leader(&mut self, from: NodeId, term: Term, round: u64) -> bool {
        if term < self.hard_state.term {
            if self.durable.hard_state().term == self.hard_state.term {
                let nothing =
                    HeartbeatAnswer { round, verified: Index(0), persisted: Index(0), card: self.card() };
                self.send(from, Body::HeartbeatAnswer(nothing));
            }
            return false;
        }
        let rival = self.leader().filter(|leader| *leader != from);
        if term == self.hard_state.term && rival.is_some() {
            self.ignored += 1;
            return false;
        }
        self.become_follower(term, Some(from));
        true
    }

    pub(crate) fn step_heartbeat(&mut self, from: NodeId, heartbeat: Heartbeat) {
        self.hear_commit(heartbeat.committed);
        let answer = HeartbeatAnswer {
            round: heartbeat.round,
            verified: self.following.verified,
            persisted: self.claimable(),
            card: self.card(),
        };
        self.following.claimed = self.following.claimed.max(answer.persisted);
        self.send(from, Body::HeartbeatAnswer(answer));
    }

    pub(crate) fn step_append(&mut self, from: NodeId, append: AppendEntries) {
        let Some(memberships) = check_append(&append, self.hard_state.term) else {
            self.ignored += 1;
            return;
        };
        let AppendEntries { previous, entries, committed } = append;
        let last = entries.last().map_or(previous, |entry| entry.position);
        let is_wrong = |position: Position| {
            let term = self.log.term_at(position.index).filter(|_| position.index <= self.committed);
            term.is_some_and(|term| term != position.term)
        };
        if is_wrong(previous) || entries.iter().any(|entry| is_wrong(entry.position)) {
            // What is committed is the same on every leader; this peer says it is not.
            self.ignored += 1;
            return;
        }
        if previous.index > self.committed && !self.log.holds(previous) {
            let hint = self.log.meeting_point(previous);
            let answer = AppendAnswer::Rejected { previous: previous.index, hint };
            self.send(from, Body::AppendAnswer(answer));
            return;
        }
        // The rest is compared, and kept as far as it matches.
        let differs =
            |entry: &&Entry| entry.position.index > self.committed && !self.log.holds(entry.position);
        let first_new = entries.iter().find(differs).map(|entry| entry.position.index);
        if let Some(first) = first_new {
            if first <= self.following.verified || !self.memberships.may_follow(first, &memberships) {
                self.ignored += 1;
                return;
            }
            if self.is_full() {
                self.send(from, Body::AppendAnswer(AppendAnswer::Full));
                return;
            }
            self.replace_from(first, entries, memberships);
        }
        self.following.verified = self.following.verified.max(last.index).max(self.committed);
        self.hear_commit(committed);
        let persisted = self.claimable();
        self.following.claimed = self.following.claimed.max(persisted);
        let answer = AppendAnswer::Taken { verified: self.following.verified, persisted };
        self.send(from, Body::AppendAnswer(answer));
    }

    /// More became durable: the leader counts it.
    pub(crate) fn claim_durable(&mut self) {
        let persisted = self.claimable();
        let Some(leader) = self.leader() else { return };
        if persisted > self.following.claimed {
            self.following.claimed = persisted;
            let answer = AppendAnswer::Taken { verified: self.following.verified, persisted };
            self.send(leader, Body::AppendAnswer(answer));
        }
    }

    /// Sends reads on to the leader, and again those that brought no answer.
    pub(crate) fn ask_leader(&mut self) {
        let Some(leader) = self.leader() else { return };
        for number in self.reads.resend(self.now) {
            self.send(leader, Body::ReadRequest { number });
        }
        if self.reads.wants_batch() {
            let number = self.reads.close_batch(self.now);
            self.send(leader, Body::ReadRequest { number });
        }
    }

    pub(crate) fn step_read_answer(&mut self, from: NodeId, number: u64, index: Option<Index>) {
        if self.leader() != Some(from) || matches!(self.role, RoleState::Leader(_)) {
            self.ignored += 1;
            return;
        }
        let outcome = index.ok_or(ReadRefused::LeaderChanged);
        let ids = self.reads.answered(number);
        self.outbox.reads.extend(ids.into_iter().map(|id| ReadDone { id, outcome }));
    }

    /// A received image is durable and is to become this node's state; whether it does. It does not if this
    /// node already has all of it, or leads. If so, `applied` becomes its position, entries up to it are not
    /// handed out any more, and the log is kept only if it has the same there.
    pub fn install_image(&mut self, position: Position, membership: Membership) -> bool {
        let is_contradiction = position.index <= self.committed
            && self.log.term_at(position.index).is_some_and(|term| term != position.term);
        let is_known = position.index <= self.applied || matches!(self.role, RoleState::Leader(_));
        let is_far = self.is_far(position.term) || position.index > INDEX_MAX;
        let is_sound = crate::membership_change::is_well_formed(&membership);
        if is_known || is_contradiction || is_far || !is_sound {
            return false;
        }
        let term = self.hard_state.term.max(position.term);
        if term > self.hard_state.term || !matches!(self.role, RoleState::Follower(_)) {
            // Votes were asked for with the log of before.
            self.become_follower(term, None);
        }
        let is_matching = self.log.holds(position);
        if !is_matching {
            self.log.reset(position);
            // What was verified beyond is gone with the log.
            self.following.verified = self.following.verified.min(position.index);
            self.following.claimed = self.following.claimed.min(position.index);
            self.memberships.truncate(Index(0));
            self.durable.reset(position);
        }
        self.was_member |= membership.member(self.node).is_some();
        if position.index >= self.committed {
            self.memberships.install(position.index, membership);
            // A joiner knows a newer one than the image may hold: a start must not begin with the older.
            self.durable.record_membership(self.memberships.committed().clone());
            self.committed = position.index;
        }
        self.applied = position.index;
        self.following.verified = self.following.verified.max(position.index);
        self.end_input();
        true
    }

    /// The leader has committed that much; this node as far as it verified its log against it (rule 8). What
    /// the leader said is remembered: an append that comes later need not say it again.
    fn hear_commit(&mut self, committed: Index) {
        self.following.committed = self.following.committed.max(committed);
        let bound = if mutated!(self, CommitBeyondVerified) {
            self.log.last().index
        } else {
            self.following.verified
        };
        let committed = self.following.committed.min(bound);
        if committed > self.committed {
            self.commit(committed);
        }
    }

    /// Durable, of what is verified; nothing while the own term is not durable (rule 9).
    fn claimable(&self) -> Index {
        let claim = if mutated!(self, ClaimInUndurableTerm) {
            self.durable.persisted()
        } else {
            self.durable.claim(self.hard_state.term)
        };
        claim.min(self.following.verified)
    }

    /// Whether the card is too far behind to hold more in memory (rule 13).
    fn is_full(&self) -> bool {
        let bytes_max = u64::try_from(limits::UNPERSISTED_BYTES_MAX).expect("fits");
        self.log.bytes_after(self.durable.persisted()) > bytes_max
    }

    /// Entries from `first` on take the place of what stands there.
    fn replace_from(&mut self, first: Index, entries: Vec<Entry>, memberships: Vec<(Index, Membership)>) {
        let last = Index(first.0 - 1);
        assert!(last >= self.committed, "what is committed is never replaced");
        if last < self.log.last().index {
            self.log.truncate(last);
            self.memberships.truncate(last);
            let (last, term) = (self.log.last(), self.hard_state.term);
            if mutated!(self, CountLateAck) {
                self.durable.truncated_keeping_acks(last, term);
            } else {
                self.durable.truncated(last, term);
            }
        }
        for entry in entries.into_iter().filter(|entry| entry.position.index >= first) {
            self.log.push(entry);
        }
        for (index, membership) in memberships.into_iter().filter(|(index, _)| *index >= first) {
            self.memberships.push(index, membership);
        }
    }
}

/// The memberships in an append that can be true: entries that follow `previous` without a gap, of terms that
/// never fall and are not beyond the leader's, not larger than an entry may be.
fn check_append(append: &AppendEntries, term: Term) -> Option<Vec<(Index, Membership)>> {
    let mut memberships = Vec::new();
    let mut last = append.previous;
    if last.term > term || (last.index == Index(0)) != (last.term == Term(0)) {
        return None;
    }
    for entry in &append.entries {
        let position = entry.position;
        let follows = last.index.0.checked_add(1) == Some(position.index.0);
        let is_in_order = position.term >= last.term && position.term <= term && position.term > Term(0);
        if !follows || !is_in_order || entry.payload.len() > limits::ENTRY_BYTES_MAX {
            return None;
        }
        if entry.kind == EntryKind::Membership {
            memberships.push((position.index, decode_membership(entry)?));
        }
        last = position;
    }
    Some(memberships)
}
