//! What the own card has, and what is on its way there. Nothing counts before its ack.
//!
//! Appends are acknowledged in order. A truncation lowers what appends on their way will cover, so an ack
//! that comes late never covers entries that replaced the ones it was for.

use crate::log::Log;
use crate::{Append, AppendNumber, LogChange};
use heapless::Deque;
use quorate_types::{HardState, Index, Membership, Position, Term, limits};

/// Durable state and the queue of appends before it.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    hard_state: HardState,
    persisted: Index,
    /// Handed out, in the order of the queue.
    handed_hard_state: HardState,
    handed: Index,
    /// To be handed out with the next append.
    change: LogChange,
    membership: Option<Membership>,
    in_flight: Deque<InFlight, APPENDS_IN_FLIGHT_MAX>,
    newest: AppendNumber,
}

/// What an ack will prove.
#[derive(Debug, Clone)]
struct InFlight {
    number: AppendNumber,
    last: Index,
    hard_state: HardState,
    since: u64,
}

/// Appends on their way to the card; more work waits and goes in one.
const APPENDS_IN_FLIGHT_MAX: usize = 32;

impl Durable {
    pub(crate) fn new(hard_state: HardState, last: Index) -> Durable {
        Durable {
            hard_state,
            persisted: last,
            handed_hard_state: hard_state,
            handed: last,
            change: LogChange::None,
            membership: None,
            in_flight: Deque::new(),
            newest: AppendNumber(0),
        }
    }

    /// Durable term and vote.
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Durable up to here, of the log as it stands.
    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    /// What may be claimed to a leader of `term`: nothing, while that term is not durable (rule 9).
    pub(crate) fn claim(&self, term: Term) -> Index {
        if self.hard_state.term == term { self.persisted } else { Index(0) }
    }

    /// Up to here handed out.
    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    /// Since when the oldest append waits.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        self.in_flight.front().map(|append| append.since)
    }

    /// A membership was committed: the card learns it with the next append.
    pub(crate) fn record_membership(&mut self, membership: Membership) {
        self.membership = Some(membership);
    }

    /// The log now ends at `last`; a leader of `leader_term` has others after it.
    pub(crate) fn truncated(&mut self, last: Position, leader_term: Term) {
        self.truncated_keeping_acks(last, leader_term);
        for append in self.in_flight.iter_mut() {
            append.last = append.last.min(last.index);
        }
    }

    /// `truncated` as it must not be: what is on its way keeps its claim.
    pub(crate) fn truncated_keeping_acks(&mut self, last: Position, leader_term: Term) {
        self.persisted = self.persisted.min(last.index);
        if last.index < self.handed {
            assert!(!matches!(self.change, LogChange::Reset { position } if last.index < position.index));
            if !matches!(self.change, LogChange::Reset { .. }) {
                self.change = LogChange::Truncate { last, leader_term };
            }
            self.handed = last.index;
        }
    }

    /// An image that is durable stands for everything up to `position`; entries before and after are void.
    pub(crate) fn reset(&mut self, position: Position) {
        for append in self.in_flight.iter_mut() {
            append.last = append.last.min(position.index);
        }
        self.persisted = position.index;
        self.handed = position.index;
        self.change = LogChange::Reset { position };
    }

    /// Whether there is work to hand out, and room for it.
    pub(crate) fn has_append(&self, hard_state: HardState, last: Index) -> bool {
        let has_work = self.handed_hard_state != hard_state
            || self.handed < last
            || self.change != LogChange::None
            || self.membership.is_some();
        has_work && !self.in_flight.is_full()
    }

    /// The next append, if there is work and room for it. `committed` goes along as far as the append reaches:
    /// a hint must never be on the card before what it speaks of.
    pub(crate) fn take(
        &mut self,
        log: &Log,
        hard_state: HardState,
        committed: Index,
        now: u64,
    ) -> Option<Append> {
        if !self.has_append(hard_state, log.last().index) {
            return None;
        }
        let entries =
            log.span(self.handed, log.last().index, limits::BATCH_BYTES_MAX, limits::BATCH_ENTRY_COUNT_MAX);
        self.handed = entries.last().map_or(self.handed, |entry| entry.position.index);
        self.newest = AppendNumber(self.newest.0 + 1);
        let changed = (self.handed_hard_state != hard_state).then_some(hard_state);
        self.handed_hard_state = hard_state;
        let append = InFlight { number: self.newest, last: self.handed, hard_state, since: now };
        self.in_flight.push_back(append).expect("room was asked for above");
        Some(Append {
            number: self.newest,
            hard_state: changed,
            membership: self.membership.take(),
            change: core::mem::take(&mut self.change),
            entries,
            committed: committed.min(self.handed),
        })
    }

    /// That append and all before it are durable.
    ///
    /// # Panics
    /// If it was never handed out, or acknowledged before.
    pub(crate) fn ack(&mut self, number: AppendNumber) {
        assert!(number <= self.newest, "only what was handed out can be durable");
        assert!(
            self.in_flight.front().is_some_and(|append| append.number <= number),
            "each append is acknowledged once, in order"
        );
        while self.in_flight.front().is_some_and(|append| append.number <= number) {
            let append = self.in_flight.pop_front().expect("there is a front");
            self.hard_state = append.hard_state;
            self.persisted = self.persisted.max(append.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use quorate_types::{Entry, EntryKind};

    fn at(index: u64, term: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn push(log: &mut Log, index: u64, term: u64) {
        log.push(Entry { position: at(index, term), kind: EntryKind::Command, payload: Arc::from([]) });
    }

    fn term(term: u64) -> HardState {
        HardState { term: Term(term), vote: None }
    }

    #[test]
    fn a_late_ack_after_a_truncation_does_not_cover_what_came_instead() {
        let mut log = Log::new(Position::default(), Vec::new());
        let mut durable = Durable::new(term(1), Index(0));
        (1..=3).for_each(|index| push(&mut log, index, 1));
        let first = durable.take(&log, term(1), Index(0), 0).expect("three entries");
        log.truncate(Index(1));
        durable.truncated(at(1, 1), Term(2));
        (2..=3).for_each(|index| push(&mut log, index, 2));
        let second = durable.take(&log, term(2), Index(0), 0).expect("a truncation and two entries");
        assert_eq!(second.change, LogChange::Truncate { last: at(1, 1), leader_term: Term(2) });
        durable.ack(first.number);
        assert_eq!((durable.persisted(), durable.claim(Term(2))), (Index(1), Index(0)));
        durable.ack(second.number);
        assert_eq!(durable.claim(Term(2)), Index(3));
    }

    #[test]
    fn what_was_not_handed_out_is_dropped_without_a_word() {
        let mut log = Log::new(Position::default(), Vec::new());
        let mut durable = Durable::new(term(1), Index(0));
        push(&mut log, 1, 1);
        log.truncate(Index(0));
        durable.truncated(at(0, 0), Term(2));
        assert!(durable.take(&log, term(1), Index(0), 0).is_none());
    }

    #[test]
    fn a_reset_is_durable_at_once_and_swallows_a_truncation() {
        let mut log = Log::new(Position::default(), Vec::new());
        let mut durable = Durable::new(term(1), Index(0));
        (1..=5).for_each(|index| push(&mut log, index, 1));
        let first = durable.take(&log, term(1), Index(0), 0).expect("five entries");
        durable.truncated(at(3, 1), Term(2));
        log.reset(at(4, 2));
        durable.reset(at(4, 2));
        push(&mut log, 5, 2);
        let second = durable.take(&log, term(2), Index(5), 0).expect("a reset");
        assert_eq!(second.change, LogChange::Reset { position: at(4, 2) });
        durable.ack(first.number);
        assert_eq!(durable.persisted(), Index(4));
        durable.ack(second.number);
        assert_eq!(durable.persisted(), Index(5));
    }

    #[test]
    #[should_panic(expected = "acknowledged once")]
    fn an_ack_out_of_the_blue_stops_the_node() {
        Durable::new(term(1), Index(0)).ack(AppendNumber(0));
    }
}
