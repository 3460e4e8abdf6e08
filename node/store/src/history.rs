//! Every change since compaction, in order, in pages of fixed size.
//!
//! One growing vector would move hundreds of megabytes when it doubles and hold the driver for seconds;
//! a page is 44 KiB and moves never.

use crate::{KeyValue, Value, revision::Version};
use alloc::{collections::VecDeque, sync::Arc};
use core::num::NonZeroU64;
use quorate_types::LeaseId;

/// Records a page holds.
const PAGE_RECORDS: u64 = 512;

/// Place of a record in the history of one process: never reused, not stored, not comparable between nodes.
pub(crate) type Sequence = NonZeroU64;

/// One change of one key. 88 bytes; key bytes are shared with the map, value bytes lie in a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) key: Arc<[u8]>,
    /// Empty for a deletion.
    pub(crate) value: Value,
    pub(crate) mod_revision: i64,
    /// Zero for a deletion.
    pub(crate) create_revision: i64,
    /// Writes since creation; zero marks a deletion.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
    /// Order within its revision, from 0.
    pub(crate) sub: u32,
    /// How many records back this key's previous one stands; zero if there was none in history. What it
    /// points at may have been swept since: then the key's base is the state before.
    pub(crate) previous: u32,
}

const _: () = assert!(size_of::<Record>() <= 88, "what a revision costs beside its bytes is promised");

impl Record {
    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// The state the key has from this change on; none for a deletion.
    pub(crate) fn version(&self) -> Option<Version> {
        (!self.is_deletion()).then(|| Version {
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
            value: self.value.clone(),
        })
    }

    /// As an event shows it: a deletion has its key and revision only.
    pub(crate) fn key_value(&self) -> KeyValue {
        KeyValue {
            key: Arc::clone(&self.key),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// The records, oldest first. Invariant: revisions never fall; within one, `sub` rises.
#[derive(Debug)]
pub(crate) struct History {
    /// Full pages but for the last, and but for what was swept off the first.
    pages: VecDeque<VecDeque<Record>>,
    /// Sequence of the oldest record still here.
    first: u64,
    /// Sequence the next record gets.
    next: u64,
}

impl History {
    pub(crate) fn new() -> History {
        // Sequences start at a page's start and are never zero.
        History { pages: VecDeque::new(), first: PAGE_RECORDS, next: PAGE_RECORDS }
    }

    /// Sequence of the oldest record still here, or of the next one if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Sequence the next record will get.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Appends; `previous` is filled in from the key's newest record so far.
    pub(crate) fn push(&mut self, mut record: Record, head: Option<Sequence>) -> Sequence {
        record.previous = match head {
            Some(head) => u32::try_from(self.next - head.get()).expect("2^32 records exceed any memory"),
            None => 0,
        };
        if self.next.is_multiple_of(PAGE_RECORDS) {
            self.pages.push_back(VecDeque::with_capacity(usize_of(PAGE_RECORDS)));
        }
        let page = self.pages.back_mut().expect("a page stands for every sequence that does not start one");
        page.push_back(record);
        let sequence = self.next;
        self.next += 1;
        NonZeroU64::new(sequence).expect("sequences start above zero")
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Record> {
        let record = self.pages.front_mut()?.pop_front()?;
        self.first += 1;
        if self.first.is_multiple_of(PAGE_RECORDS) {
            let page = self.pages.pop_front();
            assert!(page.is_some_and(|page| page.is_empty()), "a page ends where its sequences end");
        }
        Some(record)
    }

    /// The record of that sequence, if it is still here.
    pub(crate) fn get(&self, sequence: u64) -> Option<&Record> {
        if sequence < self.first || sequence >= self.next {
            return None;
        }
        let page = sequence / PAGE_RECORDS - self.first / PAGE_RECORDS;
        let swept = if page == 0 { self.first % PAGE_RECORDS } else { 0 };
        self.pages.get(usize_of(page))?.get(usize_of(sequence % PAGE_RECORDS - swept))
    }

    /// The record of that key before `record`, if it is still here.
    pub(crate) fn previous(&self, sequence: u64, record: &Record) -> Option<(u64, &Record)> {
        if record.previous == 0 {
            return None;
        }
        let sequence = sequence.checked_sub(u64::from(record.previous))?;
        self.get(sequence).map(|record| (sequence, record))
    }

    /// Sequence of the first record at or after that revision; `next()` if there is none.
    pub(crate) fn first_at(&self, revision: i64) -> u64 {
        let (mut low, mut high) = (self.first, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.get(middle).expect("between first and next");
            if record.mod_revision < revision {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// For what stands in memory and is therefore smaller than its addresses.
pub(crate) fn usize_of(count: u64) -> usize {
    usize::try_from(count).expect("what is in memory can be counted")
}

/// Likewise, for the wire's signed counts.
pub(crate) fn i64_of(count: usize) -> i64 {
    i64::try_from(count).expect("what is in memory can be counted")
}

/// Likewise.
pub(crate) fn u64_of(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory can be counted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn record(revision: i64) -> Record {
        Record {
            key: Arc::from(&b"k"[..]),
            value: Value::default(),
            mod_revision: revision,
            create_revision: 1,
            version: 1,
            lease: LeaseId::NONE,
            sub: 0,
            previous: 0,
        }
    }

    #[test]
    fn pages_come_and_go_and_places_stay() {
        let mut history = History::new();
        let mut head = None;
        let mut expected: VecDeque<(u64, i64)> = VecDeque::new();
        for revision in 1..3_000_i64 {
            let sequence = history.push(record(revision), head);
            head = Some(sequence);
            expected.push_back((sequence.get(), revision));
            if revision % 3 != 0 {
                assert_eq!(history.pop().unwrap().mod_revision, expected.pop_front().unwrap().1);
            }
        }
        for (sequence, revision) in &expected {
            let found = history.get(*sequence).unwrap();
            assert_eq!(found.mod_revision, *revision);
            assert_eq!(history.first_at(*revision), *sequence);
            match history.previous(*sequence, found) {
                Some((before, record)) => {
                    assert_eq!((before + 1, record.mod_revision + 1), (*sequence, *revision))
                }
                None => assert_eq!(*sequence, history.first()),
            }
        }
        let rest: Vec<i64> =
            core::iter::from_fn(|| history.pop()).map(|record| record.mod_revision).collect();
        assert_eq!(rest.len(), expected.len());
        assert!(history.get(history.next()).is_none());
        assert_eq!(history.first(), history.next());
        let sequence = history.push(record(9_000), head);
        assert_eq!(history.get(sequence.get()).unwrap().mod_revision, 9_000);
        assert!(history.previous(sequence.get(), history.get(sequence.get()).unwrap()).is_none());
    }
}
