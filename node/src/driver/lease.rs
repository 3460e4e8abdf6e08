//! Whose time is over, and who kept it alive. Only the leader counts.

use super::Driver;
use super::answer::Answerer;
use super::read::Purpose;
use crate::forward::{FarAnswer, FarRefusal};
use quorate_raft::Role;
use quorate_store::{AlarmKind, Command, LeaseChange, Renewal};
use quorate_types::LeaseId;

/// Expiries proposed in one look: etcd ends at most 1,000 leases a second; so does this.
const EXPIRY_COUNT_MAX: usize = 100;

impl Driver {
    /// Proposes the end of leases whose time is over. Until it is applied their keep-alives wait.
    pub(super) fn expire_leases(&mut self) {
        // While a node is marked as damaged the store refuses expiries too: proposing them would only fill the log.
        let is_corrupt = self.store.alarms().iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
        let counts = self.core.role() == Role::Leader && self.work.leases_run;
        if !counts || self.refusal().is_some() || is_corrupt {
            return;
        }
        for (id, granted) in self.work.leases.expired(self.clock.cluster_time(), EXPIRY_COUNT_MAX) {
            if self.propose_own(Command::LeaseExpire { id, granted }).is_none() {
                // No room, or leadership is on its way out: counted as expired again at the next look.
                self.work.leases.retry(id, granted);
            }
        }
    }

    /// A keep-alive at the leader. The lease has its full time from now on; the client hears of it after a
    /// round with the quorum that begins now, which shows that no other leader has ended it (rule 16).
    pub(super) fn keep_alive(&mut self, id: LeaseId, answerer: Answerer) {
        match self.work.leases.renew(id, self.clock.cluster_time()) {
            Renewal::Expiring => self.work.expiring.entry(id).or_default().push(answerer),
            // A lease that is unknown may stand in the log before the index the round confirms.
            Renewal::Renewed { .. } | Renewal::Unknown => {
                self.read_confirmed(Purpose::KeepAlive(id, answerer))
            }
        }
    }

    pub(super) fn keep_alive_confirmed(&mut self, id: LeaseId, answerer: Answerer) {
        if self.core.role() != Role::Leader {
            return self.reply_question(answerer, Err(FarRefusal::NotLeader));
        }
        match self.work.leases.renew(id, self.clock.cluster_time()) {
            Renewal::Renewed { ttl_seconds } => {
                self.reply_question(answerer, Ok(FarAnswer::Renewed { ttl_seconds }));
            }
            Renewal::Expiring => self.work.expiring.entry(id).or_default().push(answerer),
            Renewal::Unknown => self.reply_question(answerer, Err(FarRefusal::LeaseNotFound)),
        }
    }

    pub(super) fn remaining_confirmed(&mut self, id: LeaseId, answerer: Answerer) {
        let remaining = self.work.leases.remaining_ms(id, self.clock.cluster_time());
        self.reply_question(answerer, Ok(FarAnswer::Remaining(remaining)));
    }

    /// Follows what applying did to a lease, then answers whoever waited for its expiry.
    pub(super) fn lease_changed(&mut self, change: LeaseChange) {
        self.work.leases.note(change, self.clock.cluster_time());
        let id = match change {
            LeaseChange::Granted { id, .. } | LeaseChange::Ended { id } => id,
        };
        self.answer_waiting(id);
    }

    /// An expiry was applied. If it was void (the lease was granted anew since), the lease runs on.
    pub(super) fn expiry_applied(&mut self, id: LeaseId, granted: u64) {
        self.work.leases.retry(id, granted);
        self.answer_waiting(id);
    }

    fn answer_waiting(&mut self, id: LeaseId) {
        for answerer in self.work.expiring.remove(&id).unwrap_or_default() {
            self.keep_alive(id, answerer);
        }
    }

    /// The leases count anew: who waited for an expiry that an earlier leadership proposed asks again.
    pub(super) fn keep_alives_again(&mut self) {
        for id in self.work.expiring.keys().copied().collect::<Vec<LeaseId>>() {
            self.answer_waiting(id);
        }
    }

    /// Leadership is gone: who waits here is sent to the next leader, and the leases run nowhere.
    pub(super) fn leases_lost(&mut self) {
        self.work.leases_run = false;
        for (_, answerers) in core::mem::take(&mut self.work.expiring) {
            for answerer in answerers {
                self.reply_question(answerer, Err(FarRefusal::NotLeader));
            }
        }
    }
}
