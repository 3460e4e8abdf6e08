//! The store, and what each command does to it.

use crate::alarm::Alarms;
use crate::history::{Record, i64_of};
use crate::invite::{InviteView, Invites};
use crate::lease::{LeaseChange, Leases};
use crate::revision::{EventsPage, EventsSince, Keyspace};
use crate::txn::{self, Chosen};
use crate::{
    Alarm, Command, DeleteRange, Event, KeyValue, LeaseView, Outcome, Put, RangeOutcome, RangeRequest,
    StoreError, Txn, TxnOperation, range,
};
use alloc::{sync::Arc, vec::Vec};
use quorate_types::{ClusterTime, Index, LeaseId, Revision};

/// The replicated state of one node.
#[derive(Debug)]
pub struct Store {
    pub(crate) keyspace: Keyspace,
    pub(crate) leases: Leases,
    pub(crate) alarms: Alarms,
    pub(crate) invites: Invites,
    /// Newest time a command was stamped with.
    pub(crate) time: ClusterTime,
    /// Index of the last entry applied.
    pub(crate) applied: Index,
    /// Shared with every export: while one lives, nothing is swept.
    pub(crate) hold: Arc<()>,
}

/// What applying one command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The client's answer.
    pub outcome: Result<Outcome, StoreError>,
    /// The store's revision afterwards.
    pub revision: Revision,
    /// The changes, all of that revision; none if no key changed.
    pub events: Option<Arc<Vec<Event>>>,
    /// What happened to a lease, for the leader's `LeaseClock`.
    pub lease: Option<LeaseChange>,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// The empty store, before the first entry.
    #[must_use]
    pub fn new() -> Store {
        Store {
            keyspace: Keyspace::new(),
            leases: Leases::default(),
            alarms: Alarms::default(),
            invites: Invites::default(),
            time: ClusterTime::default(),
            applied: Index::default(),
            hold: Arc::new(()),
        }
    }

    /// Applies the entry at `index`, which must lie beyond all applied ones. Whatever the command says, the
    /// same on every node.
    ///
    /// # Panics
    /// If the caller applies an entry twice or out of order.
    pub fn apply(&mut self, index: Index, time: ClusterTime, command: &Command) -> Applied {
        self.advance(index);
        self.time = self.time.max(time);
        let mut change = Change {
            revision: self.keyspace.revision + 1,
            keyspace: &mut self.keyspace,
            leases: &mut self.leases,
            events: Vec::new(),
            lease: None,
        };
        let outcome = self.alarms.allow(command).and_then(|()| match command {
            Command::AlarmRaise { node, kind } => {
                Ok(Outcome::Alarms(self.alarms.raise(Alarm { node: *node, kind: *kind })))
            }
            Command::AlarmClear { node, kind } => {
                Ok(Outcome::Alarms(self.alarms.clear(Alarm { node: *node, kind: *kind })))
            }
            Command::InviteAdd { hash, ttl_ms } => {
                let expires = self.time.plus_ms(*ttl_ms);
                let expires = self.invites.add(*hash, expires, self.time)?;
                Ok(Outcome::InviteAdd { expires })
            }
            Command::InviteTake { hash, key } => {
                Ok(Outcome::InviteTake(self.invites.take(hash, *key, self.time)))
            }
            Command::InviteRevoke { hash } => {
                Ok(Outcome::InviteRevoke { revoked: self.invites.revoke(hash) })
            }
            Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compact(_)
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke(_)
            | Command::LeaseExpire { .. } => change.command(index, command),
        });
        let (events, lease) = (change.events, change.lease);
        assert!(outcome.is_ok() || (events.is_empty() && lease.is_none()), "what is refused changes nothing");
        if !events.is_empty() {
            self.keyspace.revision += 1;
        }
        Applied {
            outcome,
            revision: self.revision(),
            events: (!events.is_empty()).then(|| Arc::new(events)),
            lease,
        }
    }

    /// An entry at `index` was applied that is not the store's business: a new leader's first, a membership.
    ///
    /// # Panics
    /// If the caller applies an entry twice or out of order.
    pub fn advance(&mut self, index: Index) {
        assert!(index > self.applied, "entries are applied once and in order");
        self.applied = index;
    }

    /// Reads keys.
    ///
    /// # Errors
    /// `FutureRevision`, `Compacted`.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeOutcome, StoreError> {
        range::range(&self.keyspace, request, self.keyspace.revision)
    }

    /// Whether that transaction changes nothing, whichever way it goes.
    #[must_use]
    pub fn is_read_only(transaction: &Txn) -> bool {
        txn::is_read_only(transaction)
    }

    /// Answers a transaction that changes nothing.
    ///
    /// # Errors
    /// `FutureRevision`, `Compacted`.
    ///
    /// # Panics
    /// If it is not read-only.
    pub fn txn_read(&self, transaction: &Txn) -> Result<Outcome, StoreError> {
        assert!(txn::is_read_only(transaction), "writes go through the log");
        let chosen = txn::choose(&self.keyspace, transaction);
        txn::check(&self.keyspace, &self.leases, &chosen)?;
        Ok(self.read_chosen(&chosen))
    }

    fn read_chosen(&self, chosen: &Chosen<'_>) -> Outcome {
        let mut nested = chosen.nested.iter();
        let mut outcomes = Vec::with_capacity(chosen.operations.len());
        for operation in chosen.operations {
            match operation {
                TxnOperation::Range(request) => {
                    outcomes.push(Outcome::Range(self.range(request).expect("its revision was checked")));
                }
                TxnOperation::Txn(_) => {
                    outcomes.push(
                        self.read_chosen(nested.next().expect("each nested transaction was chosen for")),
                    );
                }
                TxnOperation::Put(_) | TxnOperation::DeleteRange(_) => unreachable!("read-only was asserted"),
            }
        }
        Outcome::Txn { succeeded: chosen.succeeded, outcomes }
    }

    /// Changes of a range from a revision on, whole revisions, for a watcher that catches up.
    ///
    /// # Errors
    /// `Compacted` if the revision is below the compacted one.
    pub fn events_since(&self, request: &EventsSince<'_>) -> Result<EventsPage, StoreError> {
        if request.revision < self.keyspace.compacted {
            return Err(StoreError::Compacted);
        }
        Ok(self.keyspace.events_since(request))
    }

    /// One lease, with the keys bound to it if asked for.
    #[must_use]
    pub fn lease(&self, id: LeaseId, with_keys: bool) -> Option<LeaseView> {
        self.leases.view(id, with_keys)
    }

    /// All leases, ordered by id, without their keys.
    pub fn leases(&self) -> impl Iterator<Item = LeaseView> + '_ {
        self.leases.views()
    }

    /// Standing alarms, ordered by node, then kind.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.list()
    }

    /// Standing invites, used and expired ones among them, ordered by hash.
    pub fn invites(&self) -> impl Iterator<Item = InviteView> + '_ {
        self.invites.views()
    }

    /// The store's revision; 1 when nothing was ever written.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.keyspace.revision)
    }

    /// Below it reads are refused; -1 before the first compaction, as etcd's HashKV tells it.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        Revision(self.keyspace.compacted)
    }

    /// Index of the last entry applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Newest time a command was stamped with.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// Logical bytes held: keys, values, history and what each costs beside its bytes. What the quota is
    /// compared with; falls as the sweep goes, so it is not the same on every node.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.keyspace.bytes + self.leases.bytes
    }

    /// Keys with a state or a history.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keyspace.keys.len()
    }

    /// Frees what compaction released, at most that many changes, fewer where much is copied; answers whether there is more to do. Does
    /// nothing while an export or a digest is under way.
    pub fn sweep(&mut self, count_max: usize) -> bool {
        if self.is_held() { false } else { self.keyspace.sweep(count_max) }
    }

    /// Whether compaction released what still stands, be it held or not.
    #[must_use]
    pub fn is_sweep_due(&self) -> bool {
        self.keyspace.is_sweep_due()
    }

    /// Whether an export or a digest holds the sweep.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.hold) > 1
    }
}

/// One command being applied: what it may touch, and what it did so far.
struct Change<'a> {
    /// The revision its changes get.
    revision: i64,
    keyspace: &'a mut Keyspace,
    leases: &'a mut Leases,
    /// Its changes so far, in order.
    events: Vec<Event>,
    lease: Option<LeaseChange>,
}

impl Change<'_> {
    fn command(&mut self, index: Index, command: &Command) -> Result<Outcome, StoreError> {
        match command {
            Command::Put(put) => self.put_alone(put),
            Command::DeleteRange(delete) => Ok(self.delete_range(delete)),
            Command::Txn(transaction) => self.txn(transaction),
            Command::Compact(revision) => self.keyspace.compact(revision.0).map(|()| Outcome::Compact),
            Command::LeaseGrant { id, ttl_seconds } => self.lease_grant(index, *id, *ttl_seconds),
            Command::LeaseRevoke(id) => {
                if self.lease_end(*id) {
                    Ok(Outcome::LeaseRevoke)
                } else {
                    Err(StoreError::LeaseNotFound)
                }
            }
            Command::LeaseExpire { id, granted } => {
                let ended = self.leases.granted(*id) == Some(*granted) && self.lease_end(*id);
                Ok(Outcome::LeaseExpire { ended })
            }
            Command::AlarmRaise { .. }
            | Command::AlarmClear { .. }
            | Command::InviteAdd { .. }
            | Command::InviteTake { .. }
            | Command::InviteRevoke { .. } => {
                unreachable!("alarms and invites are applied beside the keys")
            }
        }
    }

    fn put_alone(&mut self, put: &Put) -> Result<Outcome, StoreError> {
        if put.lease.is_some() && !self.leases.contains(put.lease) {
            return Err(StoreError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.keyspace.newest(&put.key).is_none() {
            return Err(StoreError::KeyNotFound);
        }
        Ok(self.put(put))
    }

    /// Its lease, and the key for `ignore_…`, were checked. Only a deletion earlier in the same transaction
    /// can have taken the key since; then the put is as one without a state before.
    fn put(&mut self, put: &Put) -> Outcome {
        let before = self.keyspace.key_at(&put.key, self.revision);
        let lease_before = before.as_ref().map_or(LeaseId::NONE, |kv| kv.lease);
        let value = match &before {
            Some(kv) if put.ignore_value => self.keyspace.chunk.put_again(&kv.value),
            Some(_) | None => self.keyspace.chunk.put(&put.value),
        };
        let lease = if put.ignore_lease { lease_before } else { put.lease };
        let sub = self.sub();
        let record = self.keyspace.put(&put.key, value, lease, self.revision, sub);
        self.leases.retie(&record.key, lease_before, lease);
        self.tell(&record);
        Outcome::Put { prev_kv: if put.prev_kv { before } else { None } }
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> Outcome {
        let doomed: Vec<KeyValue> = self
            .keyspace
            .visit(&delete.range)
            .filter_map(|(key, state)| {
                self.keyspace.at(state, self.revision).map(|found| found.key_value(key))
            })
            .collect();
        for kv in &doomed {
            self.delete(&kv.key, kv.lease);
        }
        let deleted = i64_of(doomed.len());
        Outcome::DeleteRange { deleted, prev_kvs: if delete.prev_kv { doomed } else { Vec::new() } }
    }

    fn delete(&mut self, key: &Arc<[u8]>, lease: LeaseId) {
        let sub = self.sub();
        let record = self.keyspace.delete(Arc::clone(key), self.revision, sub);
        self.leases.retie(key, lease, LeaseId::NONE);
        self.tell(&record);
    }

    fn txn(&mut self, transaction: &Txn) -> Result<Outcome, StoreError> {
        let chosen = txn::choose(self.keyspace, transaction);
        txn::check(self.keyspace, self.leases, &chosen)?;
        Ok(self.run(&chosen))
    }

    fn run(&mut self, chosen: &Chosen<'_>) -> Outcome {
        let mut nested = chosen.nested.iter();
        let mut outcomes = Vec::with_capacity(chosen.operations.len());
        for operation in chosen.operations {
            outcomes.push(match operation {
                TxnOperation::Range(request) => {
                    // As of its own revision: it sees what the command wrote so far.
                    let outcome = range::range(self.keyspace, request, self.revision);
                    Outcome::Range(outcome.expect("its revision was checked"))
                }
                TxnOperation::Put(put) => self.put(put),
                TxnOperation::DeleteRange(delete) => self.delete_range(delete),
                TxnOperation::Txn(_) => {
                    self.run(nested.next().expect("each nested transaction was chosen for"))
                }
            });
        }
        Outcome::Txn { succeeded: chosen.succeeded, outcomes }
    }

    fn lease_grant(&mut self, index: Index, id: LeaseId, ttl_seconds: i64) -> Result<Outcome, StoreError> {
        let ttl_seconds = self.leases.grant(id, ttl_seconds, index.0)?;
        self.lease = Some(LeaseChange::Granted { id, ttl_seconds, granted: index.0 });
        Ok(Outcome::LeaseGrant { id, ttl_seconds })
    }

    /// Ends a lease and deletes its keys, in their order, as one revision.
    fn lease_end(&mut self, id: LeaseId) -> bool {
        let Some(keys) = self.leases.remove(id) else { return false };
        for key in &keys {
            self.delete(key, LeaseId::NONE);
        }
        self.lease = Some(LeaseChange::Ended { id });
        true
    }

    fn sub(&self) -> u32 {
        u32::try_from(self.events.len()).expect("2^32 changes exceed any memory")
    }

    fn tell(&mut self, record: &Record) {
        self.events.push(self.keyspace.event(record));
    }
}
