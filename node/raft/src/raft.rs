//! The core: one node's part in the quorum.

use crate::durable::Durable;
use crate::log::Log;
use crate::membership_log::{MembershipLog, decode_membership};
use crate::peers::Peers;
use crate::random::Random;
use crate::read::FollowerReads;
use crate::role::RoleState;
use crate::timing::{IDLE_TICKS, RESTART_SILENCE_TICKS};
use crate::{AppendNumber, Body, Config, Envelope, Message, ReadDone, ReadId, ReadRefused, Restored, quorum};
use alloc::vec::Vec;
use quorate_types::{HardState, Index, NodeId, Start, Term};

/// One node's consensus. Inputs first, then `take_ready`, after each turn.
#[derive(Debug, Clone)]
pub struct Raft {
    pub(crate) node: NodeId,
    pub(crate) start: Start,
    /// Starts before it, on this card.
    pub(crate) earlier: Vec<Start>,
    pub(crate) random: Random,
    /// Ticks since the start.
    pub(crate) now: u64,
    /// Newest term seen, and the vote in it: maybe not durable yet.
    pub(crate) hard_state: HardState,
    /// Whom the vote was granted, not said yet because it is not durable.
    pub(crate) vote_owed: Option<NodeId>,
    pub(crate) role: RoleState,
    /// How the log stands against this term's leader.
    pub(crate) following: Following,
    pub(crate) log: Log,
    pub(crate) memberships: MembershipLog,
    pub(crate) durable: Durable,
    /// What is written is durable after so many milliseconds.
    pub(crate) card_takes: Option<u16>,
    pub(crate) card_hand_overs: u64,
    pub(crate) committed: Index,
    pub(crate) applied: Index,
    /// Whether a committed membership had a place for this node.
    pub(crate) was_member: bool,
    pub(crate) peers: Peers,
    pub(crate) stale: Option<Start>,
    pub(crate) reads: FollowerReads,
    /// No vote before then, except in a hand-over.
    pub(crate) silent_until: u64,
    /// When a node that does not lead campaigns, or campaigns again.
    pub(crate) election_at: u64,
    pub(crate) outbox: Outbox,
    pub(crate) ignored: u64,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<crate::Mutant>,
}

/// A follower's knowledge of this term's leader's log. Volatile; nothing of it outlives the term (rule 8).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Following {
    /// The log in memory matches the leader's up to here.
    pub(crate) verified: Index,
    /// The leader has committed up to here.
    pub(crate) committed: Index,
    /// Durability claimed so far.
    pub(crate) claimed: Index,
}

/// What waits to be taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Envelope>,
    pub(crate) reads: Vec<ReadDone>,
    pub(crate) fetches: Vec<crate::Fetch>,
    pub(crate) images: Vec<crate::ImageWanted>,
    /// Something came in since the last `take_ready`.
    pub(crate) is_dirty: bool,
}

/// Terms beyond this are nonsense: a peer must not bring the end of counting near.
const TERM_MAX: u64 = u64::MAX >> 16;

/// No cluster elects that often while a node is away.
const TERM_STEP_MAX: u64 = 1 << 32;

impl Raft {
    /// Goes on from what recovery made durable. A node that is the only voter campaigns at once.
    ///
    /// # Panics
    /// If `restored` contradicts itself: entries with a gap, an image beyond the log's end or below its base, a
    /// Membership entry that `decode_membership` does not take. Recovery has checked that.
    #[must_use]
    pub fn restore(config: Config, restored: Restored) -> Raft {
        let Restored { hard_state, membership, base, entries, committed, applied, seen, earlier } = restored;
        let log = Log::new(base, entries);
        let last = log.last();
        assert!(base.index <= applied && applied <= last.index, "the image stands within the log");
        // An image may lead the log, and the term too (rule 5); entries never do.
        let durable = Durable::new(hard_state, last.index);
        let is_behind = base.term > hard_state.term;
        let hard_state = if is_behind { HardState { term: base.term, vote: None } } else { hard_state };
        assert!(last.term <= hard_state.term, "a term is durable before its entries");
        let mut random = Random::new(config.seed ^ config.start.incarnation.rotate_left(32));
        let salt = random.next();
        let mut raft = Raft {
            node: config.node,
            start: config.start,
            earlier,
            random,
            now: 0,
            hard_state,
            vote_owed: None,
            role: RoleState::default(),
            following: Following::default(),
            was_member: membership.member(config.node).is_some(),
            memberships: MembershipLog::new(membership),
            durable,
            card_takes: None,
            card_hand_overs: 0,
            committed: applied,
            applied,
            peers: Peers::new(seen),
            stale: None,
            reads: FollowerReads::new(salt),
            silent_until: RESTART_SILENCE_TICKS,
            election_at: 0,
            outbox: Outbox { is_dirty: true, ..Outbox::default() },
            ignored: 0,
            log,
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        for entry in raft.log.entries().filter(|entry| entry.kind == quorate_types::EntryKind::Membership) {
            let membership = decode_membership(entry).expect("recovery checked each membership");
            raft.was_member |= membership.member(raft.node).is_some();
            raft.memberships.push(entry.position.index, membership);
        }
        raft.commit(committed.clamp(applied, last.index));
        raft.following.verified = raft.committed;
        raft.arm_election();
        if quorum::is_alone(raft.memberships.in_force(), raft.node) {
            raft.become_candidate(false);
        }
        raft.end_input();
        raft
    }

    /// So many ticks of `TICK_MS` have passed.
    pub fn tick(&mut self, count: u32) {
        self.now += u64::from(count);
        let expired = self.reads.expire(self.now);
        self.refuse_reads(expired, ReadRefused::LeaderChanged);
        match &self.role {
            RoleState::Leader(_) => self.tick_leader(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.tick_follower();
            }
        }
        self.end_input();
    }

    /// Nothing happens by itself before so many ticks have passed; at least 1.
    #[must_use]
    pub fn ticks_until_due(&self) -> u32 {
        let role_due = match &self.role {
            RoleState::Leader(leader) => leader.due(),
            RoleState::Follower(_) => Some(self.election_at),
            RoleState::PreCandidate(campaign) | RoleState::Candidate(campaign) => {
                Some(self.election_at.min(campaign.resend_at))
            }
        };
        let due = role_due.into_iter().chain(self.reads.due()).min();
        let ticks = due.map_or(IDLE_TICKS, |due| due.saturating_sub(self.now).clamp(1, IDLE_TICKS));
        u32::try_from(ticks).expect("clamped to a small number")
    }

    /// A peer said something; `from` is what its link proved. What cannot be true is ignored and counted.
    pub fn step(&mut self, from: NodeId, message: Message) {
        if from == self.node || self.is_far(message.term) {
            self.ignored += 1;
            return;
        }
        if let Body::StaleStart { seen } = message.body {
            self.step_stale_start(from, seen);
        } else if self.stale.is_some() {
            self.ignored += 1;
        } else if self.judge_start(from, message.start, &[]) {
            self.step_body(from, message.term, message.body);
        }
        self.end_input();
    }

    /// A link tells which life of a peer is at its other end, and the starts before it on that card: to be said
    /// before the messages that come over it. Nodes that have nothing to say to each other learn so, too, which
    /// life is the newest (rule 12).
    pub fn heard_start(&mut self, from: NodeId, start: Start, earlier: &[Start]) {
        if from == self.node || self.stale.is_some() {
            self.ignored += 1;
            return;
        }
        self.judge_start(from, start, earlier);
        self.end_input();
    }

    /// Asks from where on a read here is linearizable; answered once in `Ready.reads`.
    pub fn request_read(&mut self, id: ReadId) {
        match &mut self.role {
            RoleState::Leader(leader) => {
                if !leader.reads.ask(crate::read::Reader::Local(id)) {
                    self.refuse_reads([id], ReadRefused::Overloaded);
                }
            }
            RoleState::Follower(follower) if follower.leader.is_some() => {
                if !self.reads.ask(id) {
                    self.refuse_reads([id], ReadRefused::Overloaded);
                }
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.refuse_reads([id], ReadRefused::NoLeader);
            }
        }
        self.end_input();
    }

    /// That append, and all before it, are durable.
    ///
    /// # Panics
    /// If it was never handed out, or acknowledged before.
    pub fn ack_append(&mut self, number: AppendNumber) {
        self.durable.ack(number);
        self.pay_vote();
        match &self.role {
            RoleState::Leader(_) => self.advance_commit(),
            RoleState::Candidate(_) => self.ask_for_votes_if_durable(),
            RoleState::Follower(_) => self.claim_durable(),
            RoleState::PreCandidate(_) => {}
        }
        self.end_input();
    }

    /// Whether no such term can have been reached, from what is known here.
    pub(crate) fn is_far(&self, term: Term) -> bool {
        term.0 > TERM_MAX || term.0 > self.hard_state.term.0 + TERM_STEP_MAX
    }

    /// Whether this life of the peer may be listened to (rule 12).
    fn judge_start(&mut self, from: NodeId, start: Start, earlier: &[Start]) -> bool {
        match self.peers.judge(from, start, earlier, self.memberships.in_force()) {
            crate::peers::Life::First | crate::peers::Life::Same => true,
            crate::peers::Life::Newer => {
                self.peer_restarted(from);
                true
            }
            crate::peers::Life::Stale { seen } => {
                self.ignored += 1;
                self.send(from, Body::StaleStart { seen });
                false
            }
            crate::peers::Life::Unknown => {
                self.ignored += 1;
                false
            }
        }
    }

    /// A peer says that it has seen another life of this node. Only a member's word counts, and only if it
    /// proves something: an answer to an earlier life of this node's own does not.
    fn step_stale_start(&mut self, from: NodeId, seen: Start) {
        let is_member = self.memberships.in_force().member(from).is_some();
        if !is_member || !crate::peers::is_stale(self.start, &self.earlier, seen) {
            self.ignored += 1;
            return;
        }
        self.become_follower(self.hard_state.term, None);
        self.stale = Some(seen);
        self.vote_owed = None;
    }

    fn step_body(&mut self, from: NodeId, term: Term, body: Body) {
        match body {
            Body::PreVoteRequest(request) => self.step_pre_vote_request(from, term, request),
            Body::VoteRequest(request) => self.step_vote_request(from, term, request),
            Body::PreVoteAnswer { granted } => self.step_pre_vote_answer(from, term, granted),
            Body::Heartbeat(heartbeat) => {
                if self.listens_to_leader(from, term, heartbeat.round) {
                    self.step_heartbeat(from, heartbeat);
                }
            }
            Body::AppendEntries(append) => {
                if self.listens_to_leader(from, term, 0) {
                    self.step_append(from, append);
                }
            }
            Body::ReadRequest { number } => self.step_read_request(from, term, number),
            Body::VoteAnswer { granted } if self.is_of_this_term(term) => {
                self.step_vote_answer(from, granted)
            }
            Body::HeartbeatAnswer(answer) if self.is_of_this_term(term) => {
                self.step_heartbeat_answer(from, answer);
            }
            Body::AppendAnswer(answer) if self.is_of_this_term(term) => self.step_append_answer(from, answer),
            Body::ReadAnswer { number, index } if self.is_of_this_term(term) => {
                self.step_read_answer(from, number, index);
            }
            Body::CampaignNow if self.is_of_this_term(term) => self.step_campaign_now(from),
            Body::StaleStart { .. } => unreachable!("heard before"),
            Body::VoteAnswer { .. }
            | Body::HeartbeatAnswer(_)
            | Body::AppendAnswer(_)
            | Body::ReadAnswer { .. }
            | Body::CampaignNow => {}
        }
    }

    /// Whether an answer is of the own term; a newer one ends the own first, and is no answer to anything.
    fn is_of_this_term(&mut self, term: Term) -> bool {
        if term > self.hard_state.term {
            self.become_follower(term, None);
            return false;
        }
        term == self.hard_state.term
    }

    /// The end of every input: what is stated always holds.
    pub(crate) fn end_input(&mut self) {
        self.outbox.is_dirty = true;
        #[cfg(debug_assertions)]
        crate::invariants::check(self);
    }

    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        self.send_in(self.hard_state.term, to, body);
    }

    pub(crate) fn send_in(&mut self, term: Term, to: NodeId, body: Body) {
        self.outbox.messages.push(Envelope { to, message: Message { start: self.start, term, body } });
    }

    pub(crate) fn refuse_reads(&mut self, ids: impl IntoIterator<Item = ReadId>, refused: ReadRefused) {
        let done = ids.into_iter().map(|id| ReadDone { id, outcome: Err(refused) });
        self.outbox.reads.extend(done);
    }

    /// Everything up to `index` is committed, as this node knows from now on.
    pub(crate) fn commit(&mut self, index: Index) {
        assert!(index >= self.committed, "what is committed is never taken back");
        assert!(index <= self.log.last().index, "only what is in the log is committed");
        self.committed = index;
        if let Some(membership) = self.memberships.commit(index) {
            self.was_member |= membership.member(self.node).is_some();
            self.durable.record_membership(membership.clone());
        }
    }
}
