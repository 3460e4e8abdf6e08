//! Commands on their way into the log: at the leader, or through it.

use super::{Driver, REQUEST_TIMEOUT};
use crate::forward::{FORWARD_BYTES_MAX, FarRefusal, Forward};
use crate::pending::{OutcomeReply, Proposal};
use quorate_api::Refusal;
use quorate_raft::{ProposeRefused, Role};
use quorate_store::{Alarm, AlarmKind, Command, Stamped, StoreError, decode, encode};
use quorate_types::limits::{ENTRY_BYTES_MAX, SWEEP_REVISION_COUNT};
use quorate_types::{ClusterTime, NodeId, ProposalId, Revision, Term};
use serde_bytes::ByteBuf;

/// Messages of proposals to the leader in one turn.
const FORWARD_COUNT_MAX: usize = 8;

/// A stamp may be that old when its command is appended: encoding again costs more than the precision is
/// worth to leases counted in seconds.
const STAMP_AGE_MS_MAX: u64 = 500;

/// Why the leader did not append a command.
enum NotAppended {
    /// It does not lead (any more): another leader may be asked.
    NotLeader,
    /// Final.
    Refused(FarRefusal),
}

impl Driver {
    /// Takes a client's command, or refuses it before anything entered a log.
    pub(super) fn propose(&mut self, command: Command, reply: OutcomeReply) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        let number = self.work.pending.next_number();
        let proposal = self.proposal(number, command);
        if proposal.payload.len() > ENTRY_BYTES_MAX {
            return reply.send(Err(Refusal::TooLarge));
        }
        if !self.work.pending.has_room(proposal.payload.len()) {
            self.metrics.failed.inc();
            return reply.send(Err(Refusal::Overloaded));
        }
        let deadline = self.clock.now() + REQUEST_TIMEOUT;
        self.work.pending.register(number, reply, proposal, deadline);
    }

    fn proposal(&self, number: u64, command: Command) -> Proposal {
        let id = ProposalId { node: self.identity.node, incarnation: self.incarnation, number };
        self.stamped(Stamped { id, time: ClusterTime::default(), command })
    }

    fn stamped(&self, mut stamped: Stamped) -> Proposal {
        let stamp = self.clock.cluster_time();
        stamped.time = stamp;
        Proposal { payload: encode(&stamped).into(), stamp, growth: stamped.command.growth_bytes() }
    }

    /// Takes a command of the leader's own. If it gets lost with the leadership, the next leader sees the
    /// same need. Answers its number, if it was appended.
    pub(super) fn propose_own(&mut self, command: Command) -> Option<u64> {
        let number = self.work.pending.next_number();
        let Proposal { payload, growth, .. } = self.proposal(number, command);
        self.core.propose(payload).ok()?;
        self.work.growth_unapplied += growth;
        Some(number)
    }

    pub(super) fn compact_by_itself(&mut self, revision: Revision) {
        if revision > self.store.compacted() && self.refusal().is_none() {
            tracing::info!(%revision, "compacting by itself");
            self.propose_own(Command::Compact(revision));
        }
    }

    /// Gives what waits for a leader to the one there is.
    pub(super) fn give_proposals(&mut self) {
        let Some(leader) = self.core.leader() else { return };
        if leader == self.identity.node {
            self.append_own();
        } else if !self.is_giving_held() {
            self.forward_proposals(leader);
        }
    }

    /// Whether that leader, in that term, did not take what it was given a moment ago: it is hung up, hands over, or
    /// cannot be reached. Offering it the same again with each turn would only stand in its way.
    pub(super) fn is_giving_held(&self) -> bool {
        self.work.held_from == Some((self.core.leader(), self.core.term()))
    }

    /// Gives that leader nothing more until the next housekeeping.
    pub(super) fn hold_giving(&mut self) {
        self.work.held_from = Some((self.core.leader(), self.core.term()));
    }

    fn append_own(&mut self) {
        let term = self.core.term();
        while let Some((number, proposal)) = self.work.pending.first_ungiven() {
            match self.append(self.fresh(proposal)) {
                Ok(()) => self.work.pending.give(number, term),
                Err(NotAppended::NotLeader) => return,
                Err(NotAppended::Refused(refusal)) => {
                    self.metrics.failed.inc();
                    self.work.pending.resolve(number, Err(refusal_of(&refusal)));
                }
            }
        }
    }

    /// The same with a stamp of now, if it waited.
    fn fresh(&self, proposal: Proposal) -> Proposal {
        if self.clock.cluster_time().ms_since(proposal.stamp) < STAMP_AGE_MS_MAX {
            return proposal;
        }
        // What was encoded here decodes; else it goes as it is, and apply takes the larger time anyway.
        decode(&proposal.payload).map_or(proposal, |stamped| self.stamped(stamped))
    }

    /// Another node's command with a stamp of this leader's time: its own stamp if that is right: encoding each again
    /// was 5 % of what a put costs three nodes. One ahead of this leader's time never is: it would end leases early.
    fn stamped_far(&self, stamped: Stamped, payload: ByteBuf) -> Proposal {
        let now = self.clock.cluster_time();
        if stamped.time <= now && now.ms_since(stamped.time) < STAMP_AGE_MS_MAX {
            let growth = stamped.command.growth_bytes();
            return Proposal { payload: payload.into_vec().into(), stamp: stamped.time, growth };
        }
        self.stamped(stamped)
    }

    fn forward_proposals(&mut self, leader: NodeId) {
        let term = self.core.term();
        for _ in 0..FORWARD_COUNT_MAX {
            let mut numbers = Vec::new();
            let mut payloads = Vec::new();
            let mut bytes = 0;
            while let Some((number, Proposal { payload, .. })) = self.work.pending.first_ungiven() {
                if bytes + payload.len() > FORWARD_BYTES_MAX && !payloads.is_empty() {
                    break;
                }
                bytes += payload.len();
                payloads.push(ByteBuf::from(payload.to_vec()));
                numbers.push(number);
                self.work.pending.give(number, term);
            }
            if numbers.is_empty() {
                return;
            }
            if !self.links.forward(leader, &Forward::Propose { term, payloads }) {
                for number in numbers {
                    self.work.pending.take_back(number, term);
                }
                return self.hold_giving();
            }
        }
    }

    /// Appends a command at the leader.
    fn append(&mut self, proposal: Proposal) -> Result<(), NotAppended> {
        if self.core.role() != Role::Leader {
            return Err(NotAppended::NotLeader);
        }
        let Proposal { payload, growth, .. } = proposal;
        if payload.len() > ENTRY_BYTES_MAX {
            return Err(NotAppended::Refused(FarRefusal::TooLarge));
        }
        if growth > 0 && !self.has_space(growth) {
            self.raise_space_alarm();
            return Err(NotAppended::Refused(FarRefusal::NoSpace));
        }
        match self.core.propose(payload) {
            Ok(_) => {
                self.work.growth_unapplied += growth;
                Ok(())
            }
            Err(ProposeRefused::NotLeader { .. } | ProposeRefused::HandingOver) => {
                Err(NotAppended::NotLeader)
            }
            Err(ProposeRefused::Full) => Err(NotAppended::Refused(FarRefusal::Overloaded)),
        }
    }

    /// Another node's commands, meant for the leader of `term`.
    pub(super) fn proposed_from(&mut self, from: NodeId, term: Term, payloads: Vec<ByteBuf>) {
        let mut not_taken: Vec<ProposalId> = Vec::new();
        for payload in payloads {
            let Ok(stamped) = decode(&payload) else {
                tracing::warn!(%from, "a peer forwards what is no command of this release; it is not appended");
                continue;
            };
            let id = stamped.id;
            if id.node != from {
                tracing::warn!(%from, claimed = %id.node, "a peer forwards a command in another node's name");
                continue;
            }
            // The term is part of the offer: its sender counts it as dead once a newer term is applied there.
            let appended = if self.core.term() == term && self.refusal().is_none() {
                let proposal = self.stamped_far(stamped, payload);
                self.append(proposal)
            } else {
                Err(NotAppended::NotLeader)
            };
            match appended {
                Ok(()) => {}
                Err(NotAppended::NotLeader) => not_taken.push(id),
                Err(NotAppended::Refused(refusal)) => {
                    let (incarnation, number) = (id.incarnation, id.number);
                    self.send_forward(from, Forward::Refused { term, incarnation, number, refusal });
                }
            }
        }
        if let Some(first) = not_taken.first() {
            let incarnation = first.incarnation;
            let numbers = not_taken.iter().map(|id| id.number).collect();
            self.send_forward(from, Forward::NotTaken { term, incarnation, numbers });
        }
    }

    /// Whether the quota has room for that much growth, counting what is under way. Checked before
    /// proposing, never in apply (protocol.md rule 15). What compaction already gave up counts as free: if
    /// the sweep has not come by, it comes by now, and if an image or a snapshot holds it, that one
    /// has to begin again.
    fn has_space(&mut self, growth: u64) -> bool {
        loop {
            if self.store.bytes_total() + self.work.growth_unapplied + growth <= self.quota_bytes {
                return true;
            }
            if !self.store.is_sweep_due() {
                return false;
            }
            if self.store.is_held() {
                tracing::info!("space is short: exports begin again, so that compacted space is free now");
                self.work.exports.clear();
                self.work.hashing.clear();
            }
            self.sweep_slice(SWEEP_REVISION_COUNT);
        }
    }

    fn raise_space_alarm(&mut self) {
        let node = self.identity.node;
        let stands = self.store.alarms().contains(&Alarm { node, kind: AlarmKind::NoSpace });
        if !stands && !self.work.is_raising_alarm {
            tracing::warn!(
                quota_bytes = self.quota_bytes,
                "the quota is used up: writes that grow are refused until space is free and the alarm disarmed; \
                 delete keys, compact, then `etcdctl alarm disarm`"
            );
            let alarm = Command::AlarmRaise { node, kind: AlarmKind::NoSpace };
            self.work.is_raising_alarm = self.propose_own(alarm).is_some();
        }
    }
}

/// A leader's refusal as this node's clients hear it.
pub(super) fn refusal_of(refusal: &FarRefusal) -> Refusal {
    match refusal {
        FarRefusal::NotLeader => Refusal::LeaderChanged,
        FarRefusal::Overloaded => Refusal::Overloaded,
        FarRefusal::NoSpace => Refusal::Store(StoreError::NoSpace),
        FarRefusal::LeaseNotFound => Refusal::Store(StoreError::LeaseNotFound),
        FarRefusal::TooLarge => Refusal::TooLarge,
        FarRefusal::Member(_) | FarRefusal::Words(_) | FarRefusal::NotNow(_) | FarRefusal::Stopping => {
            Refusal::Stopping
        }
    }
}
