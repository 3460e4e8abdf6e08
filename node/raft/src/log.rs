//! The log's tail in memory: everything above what is applied and durable here, and some more for peers a
//! little behind.

use alloc::{collections::VecDeque, vec::Vec};
use quorate_types::{Entry, Index, Position, Term};

/// Contiguous entries after `base`; terms never fall along them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    base: Position,
    /// Bytes of all entries up to `base`, as `Stored::total` counts.
    base_total: u64,
    entries: VecDeque<Stored>,
}

/// An entry, and the bytes of all entries up to and with it: spans are weighed by one subtraction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    entry: Entry,
    total: u64,
}

/// What an entry costs beside its payload, in memory and on the wire.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

impl Log {
    /// The log of which `base` is the last position before `entries`.
    ///
    /// # Panics
    /// If the entries do not follow: recovery has checked that.
    pub(crate) fn new(base: Position, entries: Vec<Entry>) -> Log {
        let mut log = Log { base, base_total: 0, entries: VecDeque::new() };
        for entry in entries {
            log.push(entry);
        }
        log
    }

    /// Adds an entry at the end.
    ///
    /// # Panics
    /// If it does not follow; callers have checked what peers said.
    pub(crate) fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.position.index, last.index.next(), "entries are contiguous");
        assert!(entry.position.term >= last.term, "terms never fall along the log");
        let total = self.total(last.index) + weight(&entry);
        self.entries.push_back(Stored { entry, total });
    }

    /// Drops every entry after `last`.
    ///
    /// # Panics
    /// If `last` is below the base: what is applied cannot be dropped.
    pub(crate) fn truncate(&mut self, last: Index) {
        assert!(last >= self.base.index, "only what is not applied can be truncated");
        self.entries.truncate(self.offset(last));
    }

    /// Drops all; the log goes on after `position`.
    pub(crate) fn reset(&mut self, position: Position) {
        self.base_total = self.total(self.last().index);
        self.base = position;
        self.entries.clear();
    }

    /// Forgets entries at or below `upto`, but for the newest `bytes_max` of them.
    pub(crate) fn release(&mut self, upto: Index, bytes_max: usize) {
        let keep_total = self.total(upto.min(self.last().index)).saturating_sub(widen(bytes_max));
        while let Some(front) = self.entries.front() {
            if front.total > keep_total || front.entry.position.index > upto {
                break;
            }
            self.base = front.entry.position;
            self.base_total = front.total;
            self.entries.pop_front();
        }
    }

    /// What stands right before the entries in memory.
    pub(crate) fn base(&self) -> Position {
        self.base
    }

    /// The log's end.
    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |stored| stored.entry.position)
    }

    /// Term of what stands at that index, from `base` on.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.position.term)
    }

    /// Whether exactly that stands there.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The entry at that index, if memory holds it.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|stored| &stored.entry)
    }

    /// Entries after `after`, up to `upto`, as many as fit: at least one, if there is one.
    ///
    /// # Panics
    /// If memory no longer holds what follows `after`.
    pub(crate) fn span(&self, after: Index, upto: Index, bytes_max: usize, count_max: usize) -> Vec<Entry> {
        assert!(after >= self.base.index, "the span is in memory");
        let before = self.total(after);
        let start = self.offset(after);
        let fits = |(taken, stored): &(usize, &Stored)| {
            let in_span = stored.entry.position.index <= upto && *taken < count_max;
            in_span && (*taken == 0 || stored.total - before <= widen(bytes_max))
        };
        let rest = self.entries.range(start.min(self.entries.len())..);
        rest.enumerate().take_while(fits).map(|(_, stored)| stored.entry.clone()).collect()
    }

    /// Bytes of the entries after `after`, in memory.
    pub(crate) fn bytes_after(&self, after: Index) -> u64 {
        self.total(self.last().index) - self.total(after.clamp(self.base.index, self.last().index))
    }

    /// The last position that can match a log which has `other` at its index: no entry beyond it can. Terms
    /// never fall, so entries here of a later term than `other`'s cannot be there.
    pub(crate) fn meeting_point(&self, other: Position) -> Position {
        let mut index = other.index.min(self.last().index).max(self.base.index);
        while index > self.base.index && self.term_at(index).is_some_and(|term| term > other.term) {
            index = Index(index.0 - 1);
        }
        let term = self.term_at(index).expect("between base and last every index has a term");
        Position { term, index }
    }

    /// Entries in memory, oldest first.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().map(|stored| &stored.entry)
    }

    fn total(&self, index: Index) -> u64 {
        let offset = self.offset(index);
        offset.checked_sub(1).map_or(self.base_total, |at| self.entries[at].total)
    }

    /// How many entries in memory stand at or below that index.
    fn offset(&self, index: Index) -> usize {
        let offset = index.0.saturating_sub(self.base.index.0);
        usize::try_from(offset).unwrap_or(usize::MAX).min(self.entries.len())
    }
}

/// What an entry counts for in every bound in bytes.
pub(crate) fn weight(entry: &Entry) -> u64 {
    widen(entry.payload.len()) + ENTRY_OVERHEAD_BYTES
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("no machine has more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{sync::Arc, vec};
    use quorate_types::EntryKind;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        let position = Position { term: Term(term), index: Index(index) };
        Entry { position, kind: EntryKind::Command, payload: Arc::from(vec![0; bytes]) }
    }

    fn log(terms: &[u64]) -> Log {
        let entries = terms.iter().zip(1..).map(|(term, index)| entry(index, *term, 36));
        Log::new(Position::default(), entries.collect())
    }

    fn at(index: u64, term: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    #[test]
    fn spans_hold_one_entry_at_least_and_bytes_at_most() {
        let log = log(&[1, 1, 2, 2]);
        let count = |after, upto, bytes| log.span(Index(after), Index(upto), bytes, 100).len();
        assert_eq!(count(0, 9, 1), 1);
        assert_eq!(count(0, 9, 200), 2);
        assert_eq!(count(1, 3, 1_000), 2);
        assert_eq!(count(4, 9, 1_000), 0);
        assert_eq!(log.bytes_after(Index(1)), 300);
    }

    #[test]
    fn released_entries_leave_their_position_behind() {
        let mut log = log(&[1, 1, 2, 2]);
        log.release(Index(3), 100);
        assert_eq!(log.base(), at(2, 1));
        assert!(log.holds(at(2, 1)) && log.entry(Index(2)).is_none());
        log.release(Index(4), 0);
        assert_eq!((log.base(), log.last()), (at(4, 2), at(4, 2)));
        log.push(entry(5, 3, 0));
        assert_eq!(log.bytes_after(Index(4)), 64);
    }

    #[test]
    fn the_meeting_point_skips_terms_that_cannot_be_there() {
        let log = log(&[1, 1, 4, 4, 4]);
        assert_eq!(log.meeting_point(at(9, 9)), at(5, 4));
        assert_eq!(log.meeting_point(at(4, 3)), at(2, 1));
        assert_eq!(log.meeting_point(at(1, 0)), Position::default());
        assert_eq!(log.meeting_point(at(u64::MAX, u64::MAX)), at(5, 4));
    }

    #[test]
    fn a_reset_log_goes_on_after_its_position() {
        let mut log = log(&[1, 1]);
        log.truncate(Index(1));
        log.reset(at(10, 3));
        assert_eq!(log.last(), at(10, 3));
        assert_eq!(log.term_at(Index(1)), None);
        log.push(entry(11, 3, 0));
        assert_eq!(log.span(Index(10), Index(11), 0, 9).len(), 1);
    }

    #[test]
    #[should_panic(expected = "terms never fall")]
    fn terms_that_fall_stop_the_node() {
        log(&[2, 1]);
    }
}
