//! One key as a state machine: what it is, and what an operation makes of it.

use super::{Answer, Expected, Held, Op, Operation, Outcome, Value};

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) value: Option<Value>,
    /// The revision of its last change if that is `exact`, else one that lies below it.
    pub(super) revision: i64,
    exact: bool,
}

impl State {
    /// Never written.
    pub(super) const FIRST: State = State { value: None, revision: 0, exact: true };

    /// After an operation that took effect now with this outcome; none if it cannot have. `revision` is that of a
    /// write whose own client was not told.
    pub(super) fn after(self, operation: &Operation, revision: i64) -> Option<State> {
        match operation.outcome {
            Outcome::Done { answer, revision } => self.after_answer(operation.op, answer, revision),
            // It never takes effect.
            Outcome::Refused => None,
            Outcome::Unknown => match operation.op {
                Op::Put(value) => self.written(Some(value), revision),
                // Where nothing is, deleting is nothing: there is no need to try it.
                Op::Delete => self.value.and_then(|_| self.written(None, revision)),
                Op::Swap { expected, value } => self.expecting(expected)?.written(Some(value), revision),
                Op::Get | Op::Peek => None,
            },
        }
    }

    /// After a swap that met what a write nobody saw had made of the key right before it; none if that has too low a
    /// revision.
    pub(super) fn after_unseen(self, swap: &Operation, revision: i64) -> Option<State> {
        let Op::Swap { expected: Expected::Revision(met), value } = swap.op else { return None };
        self.written(None, met)?.written(Some(value), revision)
    }

    fn after_answer(self, op: Op, answer: Answer, revision: i64) -> Option<State> {
        match (op, answer) {
            (Op::Get, Answer::Got(held)) => self.seen(held)?.at(revision),
            (Op::Put(value), Answer::Put) => self.written(Some(value), revision),
            (Op::Delete, Answer::Deleted(Some(held))) => self.seen(Some(held))?.written(None, revision),
            (Op::Delete, Answer::Deleted(None)) => self.seen(None)?.at(revision),
            (Op::Swap { expected, value }, Answer::Swapped) => {
                self.expecting(expected)?.written(Some(value), revision)
            }
            (Op::Swap { expected, .. }, Answer::Kept(held)) => {
                let state = self.seen(held)?;
                // Known exactly, and as expected: then it had to be swapped.
                if state.is_surely(expected) { None } else { state.at(revision) }
            }
            (_, Answer::Got(_) | Answer::Put | Answer::Deleted(_) | Answer::Swapped | Answer::Kept(_)) => {
                None
            }
        }
    }

    fn written(self, value: Option<Value>, revision: i64) -> Option<State> {
        match revision {
            0 => Some(State { value, revision: self.revision, exact: false }),
            _ if revision > self.revision => Some(State { value, revision, exact: true }),
            _ => None,
        }
    }

    /// The header of an answer that changed nothing names at least the revision of what it saw.
    fn at(self, revision: i64) -> Option<State> {
        (revision == 0 || revision >= self.revision).then_some(self)
    }

    fn seen(self, held: Option<Held>) -> Option<State> {
        match (self.value, held) {
            (None, None) => Some(self),
            (Some(value), Some(held)) if value == held.value => match held.revision {
                0 => Some(self),
                told if self.exact => (told == self.revision).then_some(self),
                told => (told > self.revision).then_some(State { revision: told, exact: true, ..self }),
            },
            (Some(_), Some(_) | None) | (None, Some(_)) => None,
        }
    }

    fn expecting(self, expected: Expected) -> Option<State> {
        match expected {
            Expected::Absent => self.seen(None),
            Expected::Value(value) => self.seen(Some(Held { value, revision: 0 })),
            Expected::Revision(revision) => {
                let value = self.value?;
                self.seen(Some(Held { value, revision }))
            }
        }
    }

    fn is_surely(self, expected: Expected) -> bool {
        match expected {
            Expected::Absent => self.value.is_none(),
            Expected::Value(value) => self.value == Some(value),
            Expected::Revision(revision) => self.value.is_some() && self.exact && self.revision == revision,
        }
    }
}
