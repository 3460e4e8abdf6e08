//! Standing alarms: the only thing beside the log's commands that changes what apply does (rule 15).

use crate::{Alarm, AlarmKind, Command, StoreError, Txn, TxnOperation};
use alloc::{collections::BTreeSet, vec::Vec};

/// The alarms that stand, ordered by node, then kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    standing: BTreeSet<Alarm>,
}

impl Alarms {
    pub(crate) fn list(&self) -> Vec<Alarm> {
        self.standing.iter().copied().collect()
    }

    /// Answers the alarm even if it stood already, as etcd does.
    pub(crate) fn raise(&mut self, alarm: Alarm) -> Vec<Alarm> {
        self.standing.insert(alarm);
        alloc::vec![alarm]
    }

    /// Answers the alarm only if it stood.
    pub(crate) fn clear(&mut self, alarm: Alarm) -> Vec<Alarm> {
        if self.standing.remove(&alarm) { alloc::vec![alarm] } else { Vec::new() }
    }

    /// Whether the standing alarms allow that command. For damage: nothing but the alarms themselves may
    /// change, and invites, by which a damaged node is replaced. For space: whatever does not grow the store.
    pub(crate) fn allow(&self, command: &Command) -> Result<(), StoreError> {
        if self.stands(AlarmKind::Corrupt) && changes_data(command) {
            return Err(StoreError::Corrupt);
        }
        if self.stands(AlarmKind::NoSpace) && grows(command) {
            return Err(StoreError::NoSpace);
        }
        Ok(())
    }

    fn stands(&self, kind: AlarmKind) -> bool {
        self.standing.iter().any(|alarm| alarm.kind == kind)
    }
}

fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => has_put(txn),
        Command::DeleteRange(_)
        | Command::Compact(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseExpire { .. }
        | Command::AlarmRaise { .. }
        | Command::AlarmClear { .. }
        | Command::InviteAdd { .. }
        | Command::InviteTake { .. }
        | Command::InviteRevoke { .. } => false,
    }
}

fn changes_data(command: &Command) -> bool {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact(_)
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke(_)
        | Command::LeaseExpire { .. } => true,
        Command::AlarmRaise { .. }
        | Command::AlarmClear { .. }
        | Command::InviteAdd { .. }
        | Command::InviteTake { .. }
        | Command::InviteRevoke { .. } => false,
    }
}

/// A put in either branch counts, whichever would run. Nested ones too, where etcd forgets to look.
fn has_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match operation {
        TxnOperation::Put(_) => true,
        TxnOperation::Txn(nested) => has_put(nested),
        TxnOperation::Range(_) | TxnOperation::DeleteRange(_) => false,
    })
}
