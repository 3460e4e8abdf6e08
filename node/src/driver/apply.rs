//! Committed entries into the store, and what follows from each.

use super::{Driver, DriverEnd};
use quorate_api::Refusal;
use quorate_raft::Role;
use quorate_store::{AlarmKind, Applied, Command, LeaseClock, Outcome, Stamped, decode};
use quorate_types::{Entry, EntryKind, Position};

impl Driver {
    pub(super) fn apply(&mut self, entry: &Entry) {
        if entry.position.term > self.applied_term {
            self.begin_term(entry.position);
        }
        match entry.kind {
            EntryKind::Noop | EntryKind::Membership => self.store.advance(entry.position.index),
            EntryKind::Command => match decode(&entry.payload) {
                Ok(stamped) => self.apply_command(entry, &stamped),
                Err(error) => {
                    let words = format!(
                        "entry {} of the log does not decode: {error}. A newer release leads this cluster: start that \
                         release here",
                        entry.position.index
                    );
                    self.fail(&words, DriverEnd::BadData);
                }
            },
        }
    }

    /// The first entry of a term: what was given to older leaders and is not applied never will be.
    fn begin_term(&mut self, position: Position) {
        self.applied_term = position.term;
        self.work.pending.take_back_before(position.term);
        if self.core.role() == Role::Leader && self.core.term() == position.term {
            // From here on this leader counts: all stamps before it are applied, so its clock stands right, and every
            // lease has its full time, for nobody knows what the last leader promised.
            self.work.leases = LeaseClock::start(self.store.leases(), self.clock.cluster_time());
            self.work.leases_run = true;
            self.keep_alives_again();
        }
    }

    fn apply_command(&mut self, entry: &Entry, stamped: &Stamped) {
        let Stamped { id, time, command } = stamped;
        self.clock.raise(*time);
        if self.core.role() == Role::Leader && entry.position.term == self.core.term() {
            self.work.growth_unapplied = self.work.growth_unapplied.saturating_sub(command.growth_bytes());
        }
        let Applied { outcome, events, lease, .. } = self.store.apply(entry.position.index, *time, command);
        if let Some(events) = events {
            self.work.hub.publish(&events);
        }
        if let Some(change) = lease {
            self.lease_changed(change);
        }
        self.follow(command, &outcome);
        if id.node != self.identity.node || id.incarnation != self.incarnation {
            return;
        }
        self.work.pending.applied(id.number, self.clock.now());
        self.join_applied(id.number, &outcome);
        let answer = outcome.map(|outcome| self.answer(outcome)).map_err(Refusal::Store);
        match answer {
            Ok(answer) if answer.value == Outcome::Compact => {
                if let Some(reply) = self.work.pending.take(id.number) {
                    self.work.sweeping.push((reply, answer));
                }
            }
            answer => self.work.pending.resolve(id.number, answer),
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
            Command::LeaseExpire { id, granted } => {
                self.expiry_applied(*id, *granted);
                u64::from(*outcome == Ok(Outcome::LeaseExpire { ended: true }))
            }
            Command::AlarmRaise { kind: AlarmKind::NoSpace, .. } => {
                self.work.is_raising_alarm = false;
                0
            }
            Command::AlarmRaise { kind: AlarmKind::Corrupt, .. }
            | Command::AlarmClear { .. }
            | Command::Compact(_)
            | Command::InviteAdd { .. }
            | Command::InviteTake { .. }
            | Command::InviteRevoke { .. } => 0,
        };
        if *outcome == Ok(Outcome::LeaseExpire { ended: true }) {
            self.metrics.leases_expired.inc();
        }
    }
}
