//! Whose time is over, and who kept it alive.

use super::Driver;
use crate::inbox::Reply;
use quorate_api::{Answer, Refusal};
use quorate_store::{AlarmKind, Command, LeaseChange, Renewal, StoreError};
use quorate_types::LeaseId;

/// Expiries proposed in one tick: etcd ends at most 1,000 leases a second; so does this.
const EXPIRY_COUNT_MAX: usize = 100;

impl Driver {
    /// Proposes the end of leases whose time is over. Until it is applied their keep-alives wait.
    pub(super) fn expire_leases(&mut self) {
        // While a node is marked as damaged the store refuses expiries too: proposing them would only fill the log.
        let is_corrupt = self.store.alarms().iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
        if self.refusal().is_some() || is_corrupt {
            return;
        }
        for (id, granted) in self.leases.expired(self.clock.cluster_time(), EXPIRY_COUNT_MAX) {
            self.propose_own(Command::LeaseExpire { id, granted });
        }
    }

    /// A keep-alive needs no disk: alone, this node is the quorum it has to hear from.
    pub(super) fn keep_alive(&mut self, id: LeaseId, reply: Reply<Answer<i64>>) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        match self.leases.renew(id, self.clock.cluster_time()) {
            Renewal::Renewed { ttl_seconds } => reply.send(Ok(self.answer(ttl_seconds))),
            Renewal::Expiring => self.expiring.entry(id).or_default().push(reply),
            Renewal::Unknown => reply.send(Err(Refusal::Store(StoreError::LeaseNotFound))),
        }
    }

    /// Follows what applying did to a lease, then answers whoever waited for its expiry.
    pub(super) fn lease_changed(&mut self, change: LeaseChange) {
        self.leases.note(change, self.clock.cluster_time());
        let id = match change {
            LeaseChange::Granted { id, .. } | LeaseChange::Ended { id } => id,
        };
        self.answer_waiting(id);
    }

    /// An expiry was applied. If it was void (the lease was granted anew since), the lease runs on.
    pub(super) fn expiry_applied(&mut self, id: LeaseId) {
        self.leases.retry(id);
        self.answer_waiting(id);
    }

    fn answer_waiting(&mut self, id: LeaseId) {
        for reply in self.expiring.remove(&id).unwrap_or_default() {
            self.keep_alive(id, reply);
        }
    }
}
