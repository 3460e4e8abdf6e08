//! The plainest store there is: a list of all changes ever made, and linear scans. Never forgets; compaction
//! is one number.

use quorate_store::{
    Alarm, AlarmKind, Command, Compare, CompareOperator, CompareTarget, DeleteRange, Event, EventKind,
    KeyRange, KeyValue, Outcome, Put, RangeOutcome, RangeRequest, SortOrder, SortTarget, StoreError, Txn,
    TxnOperation, Value,
};
use quorate_types::{LeaseId, limits};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    /// The key with its figures; a deletion has none but the revision.
    pub(crate) kv: KeyValue,
    pub(crate) is_deletion: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    pub(crate) changes: Vec<Change>,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// Time to live and index of the grant.
    pub(crate) leases: BTreeMap<LeaseId, (i64, u64)>,
    pub(crate) alarms: BTreeSet<Alarm>,
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        let (leases, alarms) = (BTreeMap::new(), BTreeSet::new());
        Oracle { changes: Vec::new(), revision: 1, compacted: -1, leases, alarms }
    }

    pub(crate) fn at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let last =
            self.changes.iter().rev().find(|change| *change.kv.key == *key && change.revision <= revision)?;
        (!last.is_deletion).then(|| last.kv.clone())
    }

    /// All keys of the range alive at the revision, in order.
    pub(crate) fn alive(&self, range: &KeyRange, revision: i64) -> Vec<KeyValue> {
        let keys: BTreeSet<&[u8]> = self.changes.iter().map(|change| &*change.kv.key).collect();
        keys.into_iter().filter(|key| range.contains(key)).filter_map(|key| self.at(key, revision)).collect()
    }

    pub(crate) fn lease_keys(&self, id: LeaseId) -> Vec<KeyValue> {
        let all = KeyRange::From(vec![0]);
        self.alive(&all, i64::MAX).into_iter().filter(|kv| kv.lease == id).collect()
    }

    pub(crate) fn events_of(&self, revision: i64, range: &KeyRange) -> Vec<Event> {
        let changes = self
            .changes
            .iter()
            .filter(|change| change.revision == revision && range.contains(&change.kv.key));
        changes
            .map(|change| {
                let kind = if change.is_deletion { EventKind::Delete } else { EventKind::Put };
                let is_created = change.kv.create_revision == revision;
                let prev_kv = if is_created || revision - 1 < self.compacted {
                    None
                } else {
                    self.at(&change.kv.key, revision - 1)
                };
                Event { kind, kv: change.kv.clone(), prev_kv }
            })
            .collect()
    }

    pub(crate) fn range(&self, request: &RangeRequest, current: i64) -> Result<RangeOutcome, StoreError> {
        if request.revision > current {
            return Err(StoreError::FutureRevision);
        }
        let revision = if request.revision > 0 { request.revision } else { current };
        if revision < self.compacted {
            return Err(StoreError::Compacted);
        }
        let mut kvs = self.alive(&request.range, revision);
        let count = i64::try_from(kvs.len()).unwrap();
        if request.count_only {
            return Ok(RangeOutcome { kvs: Vec::new(), more: false, count });
        }
        let filters = [
            request.mod_revision_min,
            request.mod_revision_max,
            request.create_revision_min,
            request.create_revision_max,
        ];
        let limit = usize::try_from(request.limit).unwrap_or(0);
        if limit > 0 && request.order == SortOrder::None && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        let figure = |kv: &KeyValue| match request.target {
            SortTarget::Key | SortTarget::Value => 0,
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision,
            SortTarget::Mod => kv.mod_revision,
        };
        let bytes = |kv: &KeyValue| match request.target {
            SortTarget::Key => kv.key.to_vec(),
            SortTarget::Value => kv.value.to_vec(),
            SortTarget::Version | SortTarget::Create | SortTarget::Mod => Vec::new(),
        };
        kvs.sort_by(|a, b| {
            let order: Ordering = (figure(a), bytes(a)).cmp(&(figure(b), bytes(b)));
            if request.order == SortOrder::Descend { order.reverse() } else { order }
        });
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Value::default());
        }
        Ok(RangeOutcome { kvs, more, count })
    }

    pub(crate) fn apply(&mut self, index: u64, command: &Command) -> Result<Outcome, StoreError> {
        let changes_before = self.changes.len();
        let outcome = self.command(index, command);
        if self.changes.len() > changes_before {
            self.revision += 1;
        }
        outcome
    }

    fn command(&mut self, index: u64, command: &Command) -> Result<Outcome, StoreError> {
        let has = |kind| self.alarms.iter().any(|alarm| alarm.kind == kind);
        let is_alarm = matches!(command, Command::AlarmRaise { .. } | Command::AlarmClear { .. });
        if has(AlarmKind::Corrupt) && !is_alarm {
            return Err(StoreError::Corrupt);
        }
        if has(AlarmKind::NoSpace) && command.growth_bytes() > 0 {
            return Err(StoreError::NoSpace);
        }
        match command {
            Command::InviteAdd { .. } | Command::InviteTake { .. } | Command::InviteRevoke { .. } => {
                unreachable!("invites touch no key: tests/invites.rs has a list of its own")
            }
            Command::Put(put) => {
                if put.lease.0 != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(StoreError::LeaseNotFound);
                }
                if (put.ignore_value || put.ignore_lease) && self.at(&put.key, i64::MAX).is_none() {
                    return Err(StoreError::KeyNotFound);
                }
                Ok(self.put(put))
            }
            Command::DeleteRange(delete) => Ok(self.delete(delete)),
            Command::Txn(txn) => {
                let path = self.paths(txn);
                self.check(txn, &mut path.iter(), true)?;
                self.check(txn, &mut path.iter(), false)?;
                let begin = self.revision;
                Ok(self.txn(txn, &mut path.iter(), begin))
            }
            Command::Compact(revision) => {
                if revision.0 <= self.compacted {
                    return Err(StoreError::Compacted);
                }
                if revision.0 > self.revision {
                    return Err(StoreError::FutureRevision);
                }
                self.compacted = revision.0;
                Ok(Outcome::Compact)
            }
            Command::LeaseGrant { id, ttl_seconds } => self.grant(*id, *ttl_seconds, index),
            Command::LeaseRevoke(id) => {
                if self.end(*id) {
                    Ok(Outcome::LeaseRevoke)
                } else {
                    Err(StoreError::LeaseNotFound)
                }
            }
            Command::LeaseExpire { id, granted } => {
                let is_same = self.leases.get(id).is_some_and(|lease| lease.1 == *granted);
                Ok(Outcome::LeaseExpire { ended: is_same && self.end(*id) })
            }
            Command::AlarmRaise { node, kind } => {
                let alarm = Alarm { node: *node, kind: *kind };
                self.alarms.insert(alarm);
                Ok(Outcome::Alarms(vec![alarm]))
            }
            Command::AlarmClear { node, kind } => {
                let alarm = Alarm { node: *node, kind: *kind };
                Ok(Outcome::Alarms(if self.alarms.remove(&alarm) { vec![alarm] } else { vec![] }))
            }
        }
    }

    fn put(&mut self, put: &Put) -> Outcome {
        let before = self.at(&put.key, i64::MAX);
        let revision = self.revision + 1;
        let old = before.as_ref();
        let kv = KeyValue {
            key: put.key.as_slice().into(),
            value: match old {
                Some(old) if put.ignore_value => old.value.clone(),
                _ => put.value.as_slice().into(),
            },
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
            lease: if put.ignore_lease { old.map_or(LeaseId(0), |old| old.lease) } else { put.lease },
        };
        self.changes.push(Change { revision, kv, is_deletion: false });
        Outcome::Put { prev_kv: before.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRange) -> Outcome {
        let doomed = self.alive(&delete.range, i64::MAX);
        doomed.iter().for_each(|kv| self.bury(kv));
        let deleted = i64::try_from(doomed.len()).unwrap();
        Outcome::DeleteRange { deleted, prev_kvs: if delete.prev_kv { doomed } else { vec![] } }
    }

    fn bury(&mut self, kv: &KeyValue) {
        let revision = self.revision + 1;
        let kv = KeyValue {
            key: kv.key.clone(),
            value: Value::default(),
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            lease: LeaseId(0),
        };
        self.changes.push(Change { revision, kv, is_deletion: true });
    }

    fn grant(&mut self, id: LeaseId, ttl_seconds: i64, index: u64) -> Result<Outcome, StoreError> {
        if id.0 == 0 {
            return Err(StoreError::LeaseNotFound);
        }
        if ttl_seconds > limits::LEASE_TTL_SECONDS_MAX {
            return Err(StoreError::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(StoreError::LeaseExists);
        }
        let ttl_seconds = ttl_seconds.max(limits::LEASE_TTL_SECONDS_MIN);
        self.leases.insert(id, (ttl_seconds, index));
        Ok(Outcome::LeaseGrant { id, ttl_seconds })
    }

    fn end(&mut self, id: LeaseId) -> bool {
        if self.leases.remove(&id).is_none() {
            return false;
        }
        let doomed = self.lease_keys(id);
        doomed.iter().for_each(|kv| self.bury(kv));
        true
    }

    /// Which way each transaction goes, in the order they are met.
    fn paths(&self, txn: &Txn) -> Vec<bool> {
        let way = txn.compares.iter().all(|compare| self.holds(compare));
        let mut path = vec![way];
        for operation in if way { &txn.success } else { &txn.failure } {
            if let TxnOperation::Txn(nested) = operation {
                path.extend(self.paths(nested));
            }
        }
        path
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.alive(&compare.range, self.revision);
        let against = |kv: Option<&KeyValue>| {
            let number = |figure: fn(&KeyValue) -> i64| kv.map_or(0, figure);
            let order = match &compare.target {
                CompareTarget::Version(given) => number(|kv| kv.version).cmp(given),
                CompareTarget::Create(given) => number(|kv| kv.create_revision).cmp(given),
                CompareTarget::Mod(given) => number(|kv| kv.mod_revision).cmp(given),
                CompareTarget::Lease(given) => number(|kv| kv.lease.0).cmp(given),
                CompareTarget::Value(given) => match kv {
                    None => return false,
                    Some(kv) => kv.value.to_vec().cmp(given),
                },
            };
            match compare.operator {
                CompareOperator::Equal => order.is_eq(),
                CompareOperator::NotEqual => order.is_ne(),
                CompareOperator::Greater => order.is_gt(),
                CompareOperator::Less => order.is_lt(),
            }
        };
        if kvs.is_empty() { against(None) } else { kvs.iter().all(|kv| against(Some(kv))) }
    }

    fn check(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>, puts: bool) -> Result<(), StoreError> {
        for operation in if *path.next().unwrap() { &txn.success } else { &txn.failure } {
            match operation {
                TxnOperation::Txn(nested) => self.check(nested, path, puts)?,
                TxnOperation::Put(put) if puts => {
                    if (put.ignore_value || put.ignore_lease) && self.at(&put.key, i64::MAX).is_none() {
                        return Err(StoreError::KeyNotFound);
                    }
                    if put.lease.0 != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(StoreError::LeaseNotFound);
                    }
                }
                TxnOperation::Range(request) if !puts && request.revision != 0 => {
                    if request.revision > self.revision {
                        return Err(StoreError::FutureRevision);
                    }
                    if request.revision < self.compacted {
                        return Err(StoreError::Compacted);
                    }
                }
                TxnOperation::Put(_) | TxnOperation::Range(_) | TxnOperation::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>, begin: i64) -> Outcome {
        let succeeded = *path.next().unwrap();
        let mut outcomes = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            outcomes.push(match operation {
                TxnOperation::Put(put) => self.put(put),
                TxnOperation::DeleteRange(delete) => self.delete(delete),
                TxnOperation::Txn(nested) => self.txn(nested, path, begin),
                TxnOperation::Range(request) => {
                    let newest = self.changes.last().map_or(begin, |change| change.revision).max(begin);
                    Outcome::Range(self.range(request, newest).unwrap())
                }
            });
        }
        Outcome::Txn { succeeded, outcomes }
    }
}
