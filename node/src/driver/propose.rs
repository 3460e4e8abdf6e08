//! Commands on their way into the log.

use super::{Driver, REQUEST_TIMEOUT};
use crate::pending::OutcomeReply;
use crate::wal_worker::WalRequest;
use quorate_api::Refusal;
use quorate_store::{Alarm, AlarmKind, Command, Stamped, StoreError, encode};
use quorate_types::limits::{BATCH_BYTES_MAX, SWEEP_REVISION_COUNT};
use quorate_types::{Entry, EntryKind, Index, ProposalId, Revision};
use std::sync::Arc;

/// Bytes of entries handed to the wal thread in one message: half a batch, so that two always fit.
const APPEND_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;

impl Driver {
    /// Takes a client's command, or refuses it before anything entered the log.
    pub(super) fn propose(&mut self, command: Command, reply: OutcomeReply) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        let growth = command.growth_bytes();
        if growth > 0 && !self.has_space(growth) {
            self.raise_space_alarm();
            return reply.send(Err(Refusal::Store(StoreError::NoSpace)));
        }
        let bytes = usize::try_from(growth).unwrap_or(usize::MAX);
        if !self.pending.has_room(bytes) {
            self.metrics.failed.inc();
            return reply.send(Err(Refusal::Overloaded));
        }
        let number = self.pending.register(reply, bytes, self.clock.now() + REQUEST_TIMEOUT);
        self.append(number, command);
    }

    /// Takes a command of the node's own.
    pub(super) fn propose_own(&mut self, command: Command) {
        let number = self.pending.number_own();
        self.append(number, command);
    }

    pub(super) fn compact_by_itself(&mut self, revision: Revision) {
        if revision > self.store.compacted() && self.refusal().is_none() {
            tracing::info!(%revision, "compacting by itself");
            self.propose_own(Command::Compact(revision));
        }
    }

    fn append(&mut self, number: u64, command: Command) {
        self.growth_unapplied += command.growth_bytes();
        let id = ProposalId { node: self.identity.node, incarnation: self.incarnation, number };
        let stamped = Stamped { id, time: self.clock.cluster_time(), command };
        let payload: Arc<[u8]> = encode(&stamped).into();
        self.pending.entered(payload.len());
        self.core.propose(EntryKind::Command, payload);
    }

    /// Whether the quota has room for that much growth, counting what is under way. Checked before
    /// proposing, never in apply (protocol.md rule 15). What compaction already gave up counts as free: if
    /// the sweep has not come by, it comes by now, and if an image or a snapshot holds it, that one
    /// has to begin again.
    fn has_space(&mut self, growth: u64) -> bool {
        loop {
            if self.store.bytes_total() + self.growth_unapplied + growth <= self.quota_bytes {
                return true;
            }
            if !self.store.is_sweep_due() {
                return false;
            }
            if self.store.is_held() {
                tracing::info!("space is short: exports begin again, so that compacted space is free now");
                self.exports.clear();
                self.hashing.clear();
            }
            self.sweep_slice(SWEEP_REVISION_COUNT);
        }
    }

    fn raise_space_alarm(&mut self) {
        let node = self.identity.node;
        let stands = self.store.alarms().contains(&Alarm { node, kind: AlarmKind::NoSpace });
        if !stands && !self.is_raising_alarm {
            tracing::warn!(
                quota_bytes = self.quota_bytes,
                "the quota is used up: writes that grow are refused until space is free and the alarm disarmed; \
                 delete keys, compact, then `etcdctl alarm disarm`"
            );
            self.is_raising_alarm = true;
            self.propose_own(Command::AlarmRaise { node, kind: AlarmKind::NoSpace });
        }
    }

    /// Hands what consensus has ready to the wal thread and to the store.
    pub(super) fn advance(&mut self) {
        let ready = self.core.take_ready();
        self.hand_to_wal(ready.append, ready.commit_hint);
        for entry in ready.committed {
            self.apply(&entry);
        }
    }

    fn hand_to_wal(&self, append: Vec<Entry>, commit_hint: Index) {
        let mut part = Vec::new();
        let mut bytes = 0;
        for entry in append {
            if bytes + entry.payload.len() > APPEND_BYTES_MAX && !part.is_empty() {
                self.send_to_wal(core::mem::take(&mut part), commit_hint);
                bytes = 0;
            }
            bytes += entry.payload.len();
            part.push(entry);
        }
        if !part.is_empty() {
            self.send_to_wal(part, commit_hint);
        }
    }

    fn send_to_wal(&self, entries: Vec<Entry>, commit_hint: Index) {
        // A wal thread that has ended said why through the inbox; the driver stops when it reads that.
        drop(self.wal.send(WalRequest::Append { entries, commit_hint }));
    }
}
