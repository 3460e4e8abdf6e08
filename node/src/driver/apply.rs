//! Committed entries into the store, and what follows from each.

use super::Driver;
use crate::background::Job;
use quorate_api::Refusal;
use quorate_store::{AlarmKind, Applied, Command, LeaseClock, Outcome, Stamped, decode};
use quorate_types::{Entry, EntryKind};

impl Driver {
    /// Applies what recovery found, before anybody can ask.
    pub(super) fn replay(&mut self) {
        let ready = self.core.take_ready();
        assert!(ready.append.is_empty(), "recovery made everything durable already");
        for entry in ready.committed {
            self.pending.entered(entry.payload.len());
            self.apply(&entry);
        }
        // Every lease has its full time after a start: nobody could renew while the node was down.
        self.leases = LeaseClock::start(self.store.leases(), self.clock.cluster_time());
        // Recovery held the log a second time.
        drop(self.background.send(Job::GiveBackMemory));
        self.publish_status();
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        self.applied_term = entry.position.term;
        match entry.kind {
            EntryKind::Noop | EntryKind::Membership => self.store.advance(entry.position.index),
            EntryKind::Command => {
                // Recovery decoded every entry it found, and what came since was encoded here.
                let stamped = decode(&entry.payload).expect("an entry in the log decodes");
                self.pending.applied(entry.payload.len());
                self.apply_command(entry, &stamped);
            }
        }
    }

    fn apply_command(&mut self, entry: &Entry, stamped: &Stamped) {
        let Stamped { id, time, command } = stamped;
        let is_own = id.node == self.identity.node && id.incarnation == self.incarnation;
        if is_own {
            self.growth_unapplied = self.growth_unapplied.saturating_sub(command.growth_bytes());
        }
        let Applied { outcome, events, lease, .. } = self.store.apply(entry.position.index, *time, command);
        if let Some(events) = events {
            self.hub.publish(&events);
        }
        if let Some(change) = lease {
            self.lease_changed(change);
        }
        self.follow(command, &outcome);
        if !is_own {
            return;
        }
        let answer = outcome.map(|outcome| self.answer(outcome)).map_err(Refusal::Store);
        match answer {
            Ok(answer) if answer.value == Outcome::Compact => {
                if let Some(reply) = self.pending.take(id.number) {
                    self.sweeping.push((reply, answer));
                }
            }
            answer => self.pending.resolve(id.number, answer),
        }
    }

    /// What is not replicated follows what is: counters, and what the driver knows to be under way.
    fn follow(&mut self, command: &Command, outcome: &Result<Outcome, quorate_store::StoreError>) {
        match command {
            Command::Put(_) => self.metrics.puts.inc(),
            Command::DeleteRange(_) => self.metrics.deletes.inc(),
            Command::Txn(_) => self.metrics.txns.inc(),
            Command::LeaseGrant { .. } => self.metrics.leases_granted.inc(),
            Command::LeaseRevoke(_) => self.metrics.leases_revoked.inc(),
            Command::LeaseExpire { id, .. } => {
                self.expiry_applied(*id);
                u64::from(*outcome == Ok(Outcome::LeaseExpire { ended: true }))
            }
            Command::AlarmRaise { kind: AlarmKind::NoSpace, .. } => {
                self.is_raising_alarm = false;
                0
            }
            Command::AlarmRaise { kind: AlarmKind::Corrupt, .. }
            | Command::AlarmClear { .. }
            | Command::Compact(_) => 0,
        };
        if *outcome == Ok(Outcome::LeaseExpire { ended: true }) {
            self.metrics.leases_expired.inc();
        }
    }
}
