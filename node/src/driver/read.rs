//! Reads: alone, this node's applied state is the newest there is, so all of them are linearizable.

use super::{Driver, ReadReply};
use quorate_api::{LeaseAnswer, Read, ReadOutcome, Refusal};
use quorate_types::LeaseId;

impl Driver {
    pub(super) fn read(&mut self, read: Read, reply: ReadReply) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        let outcome = match read {
            Read::Range(request) => {
                self.metrics.ranges.inc();
                self.store.range(&request).map(ReadOutcome::Range)
            }
            Read::Txn(txn) => self.store.txn_read(&txn).map(ReadOutcome::Txn),
            Read::Lease { id, keys } => Ok(ReadOutcome::Lease(self.lease_answer(id, keys))),
            Read::Leases => Ok(ReadOutcome::Leases(self.leases_by_end())),
            Read::Alarms => Ok(ReadOutcome::Alarms(self.store.alarms())),
            Read::HashKv(revision) => return self.hash_begin(revision, reply),
        };
        reply.send(outcome.map(|outcome| self.answer(outcome)).map_err(Refusal::Store));
    }

    /// In etcd's order: the one that ends next comes first.
    fn leases_by_end(&self) -> Vec<LeaseId> {
        let mut ids: Vec<LeaseId> = self.store.leases().map(|lease| lease.id).collect();
        let now = self.clock.cluster_time();
        ids.sort_by_cached_key(|id| self.leases.remaining_ms(*id, now));
        ids
    }

    fn lease_answer(&self, id: LeaseId, keys: bool) -> Option<LeaseAnswer> {
        let lease = self.store.lease(id, keys)?;
        let remaining_ms = self.leases.remaining_ms(id, self.clock.cluster_time()).unwrap_or(0);
        // etcd cuts the fraction off.
        let remaining_seconds = i64::try_from(remaining_ms / 1_000).unwrap_or(i64::MAX);
        Some(LeaseAnswer { lease, remaining_seconds })
    }
}
