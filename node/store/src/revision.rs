//! Keys over time: what a key was at a revision, and how old states go away.
//!
//! History since compaction is the immutable view itself: a change is only ever appended, so a reader at
//! a revision needs no copy. Each key has its newest record (`head`), from which its older ones are linked,
//! and one state from before history (`base`). The sweep turns the one into the other, in slices; what a
//! read answers never depends on how far it got (rule 15), because nothing below the compacted revision
//! may be asked for.

use crate::history::{History, Record, Sequence, u64_of};
use crate::value::ValueChunk;
use crate::{Event, EventKind, KeyRange, KeyValue, StoreError, Value};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Bound;
use quorate_types::LeaseId;

/// Logical bytes of one change beside its value: the record, and what allocators add. The quota counts with it,
/// so it stays what it is even if a record takes less.
pub(crate) const RECORD_BYTES: u64 = 104;

/// Logical bytes of one key beside its name: its place in the map, and the allocation of its name.
pub(crate) const KEY_BYTES: u64 = 128;

/// Bytes that are copied while one record is worked off.
const COPY_BYTES: usize = 1_024;

/// A key's state from one change on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: Value,
}

impl Version {
    pub(crate) fn key_value(&self, key: &Arc<[u8]>) -> KeyValue {
        KeyValue {
            key: Arc::clone(key),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// What the map holds of a key. Invariant: one of both is there.
#[derive(Debug)]
pub(crate) struct KeyState {
    /// Its newest state among what was swept, unless that was a deletion.
    pub(crate) base: Option<Version>,
    /// Its newest record.
    pub(crate) head: Option<Sequence>,
}

/// A key's state at a revision, borrowed from wherever it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    pub(crate) value: &'a Value,
}

impl Found<'_> {
    pub(crate) fn key_value(&self, key: &Arc<[u8]>) -> KeyValue {
        KeyValue {
            key: Arc::clone(key),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// All keys with their history.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) keys: BTreeMap<Arc<[u8]>, KeyState>,
    pub(crate) history: History,
    /// Newest finished revision.
    pub(crate) revision: i64,
    /// Reads below it are refused; -1 before the first compaction, as etcd says it.
    pub(crate) compacted: i64,
    /// Records before this sequence have shadowed their key's base already (see `sweep`).
    shadowed: u64,
    /// Logical bytes: what the quota counts.
    pub(crate) bytes: u64,
    /// Where the values of new records go.
    pub(crate) chunk: ValueChunk,
}

impl Keyspace {
    pub(crate) fn new() -> Keyspace {
        Keyspace {
            keys: BTreeMap::new(),
            history: History::new(),
            revision: 1,
            compacted: -1,
            shadowed: 0,
            bytes: 0,
            chunk: ValueChunk::default(),
        }
    }

    /// The keys of a range with their states, in order; some may hold nothing at the revision asked for.
    pub(crate) fn visit<'a>(
        &'a self,
        range: &KeyRange,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a KeyState)> + use<'a> {
        let start = range.start();
        let end = match range {
            KeyRange::One(key) => Bound::Included(key.as_slice()),
            KeyRange::From(_) => Bound::Unbounded,
            // An inverted range is empty; the map would refuse it with a panic.
            KeyRange::Span { start, end } => Bound::Excluded(end.max(start).as_slice()),
        };
        self.keys.range::<[u8], _>((Bound::Included(start), end))
    }

    /// What that key was at a revision at or above the compacted one. A linear walk, newest first, as
    /// etcd's: reads now are one step, older ones take a step for each write since.
    pub(crate) fn at<'a>(&'a self, state: &'a KeyState, revision: i64) -> Option<Found<'a>> {
        let mut place =
            state.head.and_then(|head| self.history.get(head.get()).map(|record| (head.get(), record)));
        while let Some((sequence, record)) = place {
            if record.mod_revision <= revision {
                return found_in(record);
            }
            place = self.history.previous(sequence, record);
        }
        state.base.as_ref().map(|base| Found {
            create_revision: base.create_revision,
            mod_revision: base.mod_revision,
            version: base.version,
            lease: base.lease,
            value: &base.value,
        })
    }

    /// What that key is now, the changes of a running command included.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<Found<'_>> {
        self.keys.get(key).and_then(|state| self.at(state, i64::MAX))
    }

    /// What that key was at the revision.
    pub(crate) fn key_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let (key, state) = self.keys.get_key_value(key)?;
        self.at(state, revision).map(|found| found.key_value(key))
    }

    /// Writes a key; the caller keeps `revision` and `sub` rising.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        value: Value,
        lease: LeaseId,
        revision: i64,
        sub: u32,
    ) -> Record {
        let before = self.newest(key).map(|found| (found.create_revision, found.version));
        let (create_revision, version) = before.unwrap_or((revision, 0));
        let key = match self.keys.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(key),
        };
        let version = version + 1;
        let record =
            Record { key, value, mod_revision: revision, create_revision, version, lease, sub, previous: 0 };
        self.append(record.clone());
        record
    }

    /// Deletes a key that exists.
    pub(crate) fn delete(&mut self, key: Arc<[u8]>, revision: i64, sub: u32) -> Record {
        let record = Record {
            key,
            value: Value::default(),
            mod_revision: revision,
            create_revision: 0,
            version: 0,
            lease: LeaseId::NONE,
            sub,
            previous: 0,
        };
        self.append(record.clone());
        record
    }

    /// Appends a record, whose key may be new.
    pub(crate) fn append(&mut self, record: Record) {
        self.bytes += RECORD_BYTES + u64_of(record.value.len());
        if let Some(state) = self.keys.get_mut(&record.key) {
            state.head = Some(self.history.push(record, state.head));
            return;
        }
        let key = Arc::clone(&record.key);
        self.bytes += KEY_BYTES + u64_of(key.len());
        let head = Some(self.history.push(record, None));
        self.keys.insert(key, KeyState { base: None, head });
    }

    /// Puts a swept state back, from an image. The key must be new.
    pub(crate) fn insert_base(&mut self, key: Arc<[u8]>, base: Version) {
        self.bytes += KEY_BYTES + u64_of(key.len()) + u64_of(base.value.len());
        let before = self.keys.insert(key, KeyState { base: Some(base), head: None });
        assert!(before.is_none(), "the image's keys are checked to rise");
    }

    /// Forgets what only revisions below this one see; in force at once, the memory comes back by `sweep`.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted);
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision);
        }
        self.compacted = revision;
        Ok(())
    }

    /// Works off at most that many records below the compacted revision, fewer where values have to be copied
    /// out of their chunk; answers whether any are left.
    ///
    /// Records *at* the compacted revision stay: a watch from there must see them, deletions too. They make
    /// their keys' bases redundant, which is the sweep's second half.
    pub(crate) fn sweep(&mut self, count_max: usize) -> bool {
        if !self.is_sweep_due() {
            return false;
        }
        let shadow_end = self.history.first_at(self.compacted + 1);
        let mut left = count_max;
        while left > 0 {
            left -= 1;
            let first = self.history.first();
            if self.history.get(first).is_some_and(|record| record.mod_revision < self.compacted) {
                let record = self.history.pop().expect("it was just seen");
                left = left.saturating_sub(self.settle(first, record, shadow_end) / COPY_BYTES);
            } else if !self.shadow_next() {
                return false;
            }
        }
        self.is_sweep_due()
    }

    /// Whether compaction released what still stands.
    pub(crate) fn is_sweep_due(&self) -> bool {
        let first = self.history.first();
        self.history.get(first).is_some_and(|record| record.mod_revision < self.compacted)
            || self.shadow_target().is_some()
    }

    /// Makes a swept record its key's base, and answers how many bytes were copied for that. A state that this
    /// very sweep still replaces or shadows, because its key has a newer record before `shadow_end`, may
    /// stay where it is: once the sweep is through, no base holds a chunk.
    fn settle(&mut self, sequence: u64, record: Record, shadow_end: u64) -> usize {
        let state = self.keys.get_mut(&record.key).expect("a key stays as long as history speaks of it");
        self.bytes -= RECORD_BYTES;
        if let Some(old) = state.base.take() {
            self.bytes -= u64_of(old.value.len());
        }
        if state.head.is_some_and(|head| head.get() == sequence) {
            state.head = None;
        }
        if record.is_deletion() {
            if state.head.is_none() {
                self.bytes -= KEY_BYTES + u64_of(record.key.len());
                self.keys.remove(&record.key);
            }
            return 0;
        }
        let mut base = record.version().expect("it is no deletion");
        let is_passing = state.head.is_some_and(|head| head.get() < shadow_end);
        let copied = if is_passing { 0 } else { base.value.leave_chunk() };
        state.base = Some(base);
        copied
    }

    /// The next record at the compacted revision whose key's base was not looked at yet.
    fn shadow_target(&self) -> Option<u64> {
        let sequence = self.shadowed.max(self.history.first());
        let record = self.history.get(sequence)?;
        (record.mod_revision == self.compacted).then_some(sequence)
    }

    fn shadow_next(&mut self) -> bool {
        let Some(sequence) = self.shadow_target() else { return false };
        self.shadowed = sequence + 1;
        let record = self.history.get(sequence).expect("it was just seen");
        let state = self.keys.get_mut(&record.key).expect("a key stays as long as history speaks of it");
        if let Some(old) = state.base.take() {
            self.bytes -= u64_of(old.value.len());
        }
        true
    }

    /// The event of a record just appended, with the state before its revision unless the key was created by
    /// it. That state cannot be compacted yet: compaction ends at the newest finished revision.
    pub(crate) fn event(&self, record: &Record) -> Event {
        let kind = if record.is_deletion() { EventKind::Delete } else { EventKind::Put };
        let created = record.create_revision == record.mod_revision;
        let prev_kv = if created { None } else { self.key_at(&record.key, record.mod_revision - 1) };
        Event { kind, kv: record.key_value(), prev_kv }
    }

    /// Likewise for a record deep in history: walks from there, not from the key's newest, and leaves out a
    /// state that is compacted.
    fn event_at(&self, sequence: u64, record: &Record) -> Event {
        let kind = if record.is_deletion() { EventKind::Delete } else { EventKind::Put };
        let mut event = Event { kind, kv: record.key_value(), prev_kv: None };
        let before = record.mod_revision - 1;
        if record.create_revision == record.mod_revision || before < self.compacted {
            return event;
        }
        let mut place = self.history.previous(sequence, record);
        while let Some((sequence, older)) = place {
            if older.mod_revision <= before {
                event.prev_kv = found_in(older).map(|found| found.key_value(&record.key));
                return event;
            }
            place = self.history.previous(sequence, older);
        }
        let base = self.keys.get(&record.key).and_then(|state| state.base.as_ref());
        event.prev_kv = base.map(|base| base.key_value(&record.key));
        event
    }

    /// See `Store::events_since`.
    pub(crate) fn events_since(&self, request: &EventsSince<'_>) -> EventsPage {
        let mut page = EventsPage { events: Vec::new(), revision_next: request.revision, visit_count: 0 };
        let mut sequence = self.history.first_at(request.revision);
        let mut bytes = 0;
        let mut current = request.revision;
        while let Some(record) = self.history.get(sequence) {
            if record.mod_revision != current {
                current = record.mod_revision;
                let is_full = page.events.len() >= request.event_count_max || bytes >= request.bytes_max;
                if is_full || page.visit_count >= request.visit_count_max {
                    page.revision_next = current;
                    return page;
                }
            }
            page.visit_count += 1;
            if request.range.contains(&record.key) {
                let event = self.event_at(sequence, record);
                bytes += event.bytes();
                page.events.push(event);
            }
            sequence += 1;
        }
        page.revision_next = request.revision.max(self.revision + 1);
        page
    }
}

/// What a catching-up watcher asks of history.
#[derive(Debug, Clone, Copy)]
pub struct EventsSince<'a> {
    /// First revision of interest, at or above the compacted one.
    pub revision: i64,
    /// Which keys.
    pub range: &'a KeyRange,
    /// Stop at the end of the revision in which that many were found.
    pub event_count_max: usize,
    /// Stop at the end of the revision in which the events reached that many bytes.
    pub bytes_max: usize,
    /// Stop at the end of the revision in which that many changes were looked at.
    pub visit_count_max: usize,
}

/// Whole revisions of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsPage {
    /// The changes, in order.
    pub events: Vec<Event>,
    /// Where to go on: everything of the range below it is in this page. Above the store's revision when
    /// history is through.
    pub revision_next: i64,
    /// How many changes were looked at.
    pub visit_count: usize,
}

fn found_in(record: &Record) -> Option<Found<'_>> {
    (!record.is_deletion()).then_some(Found {
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        lease: record.lease,
        value: &record.value,
    })
}
