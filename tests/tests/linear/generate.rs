//! Large histories of a store that keeps its word, and ways to spoil one so that it surely does not any more.

use quorate_tests::linear::{Answer, Expected, Held, Op, Operation, Outcome};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) operations: usize,
    pub(crate) clients: u64,
    pub(crate) keys: u64,
    pub(crate) tells_revisions: bool,
    pub(crate) unknown_per_hundred: u32,
}

/// When an operation takes effect, beside it.
struct Planned {
    moment: u64,
    operation: Operation,
}

/// Closed-loop clients of a store that does each operation at one moment between its ends; answers are lost, and
/// what became of those happens then, much later, or never.
pub(crate) fn history(plan: Plan, random: &mut SmallRng) -> Vec<Operation> {
    let mut planned = Vec::new();
    let mut free_at: Vec<u64> = (0..plan.clients).collect();
    for number in 0..plan.operations {
        let client = random.random_range(0..plan.clients);
        let free = &mut free_at[usize::try_from(client).unwrap()];
        let began = *free + random.random_range(1..20);
        let mut ended = began + random.random_range(1..60);
        *free = ended;
        let mut moment = random.random_range(began..=ended);
        let op = op(u64::try_from(number).unwrap() + 1, random);
        let is_unknown = random.random_range(0..100) < plan.unknown_per_hundred;
        let outcome = if is_unknown { Outcome::Unknown } else { Outcome::Refused };
        if is_unknown {
            moment = match random.random_range(0..3) {
                0 => moment,
                1 => began + random.random_range(0..5_000),
                _ => u64::MAX,
            };
            ended = ended.min(began + 30);
        }
        let key = random.random_range(0..plan.keys);
        planned.push(Planned { moment, operation: Operation { client, key, began, ended, op, outcome } });
    }
    planned.sort_by_key(|planned| planned.moment);
    let mut store = Store::default();
    for planned in planned.iter_mut().filter(|planned| planned.moment < u64::MAX) {
        let done = store.apply(&mut planned.operation, plan.tells_revisions, random);
        if planned.operation.outcome == Outcome::Refused {
            planned.operation.outcome = done;
        }
    }
    let mut history: Vec<Operation> = planned.into_iter().map(|planned| planned.operation).collect();
    history.sort_by_key(|operation| (operation.client, operation.began));
    history
}

fn op(number: u64, random: &mut SmallRng) -> Op {
    match random.random_range(0..100) {
        0..45 => Op::Get,
        45..70 => Op::Put(number),
        70..78 => Op::Delete,
        // What it expects is set when it is done.
        _ => Op::Swap { expected: Expected::Absent, value: number },
    }
}

#[derive(Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<u64, Held>,
}

impl Store {
    fn apply(&mut self, operation: &mut Operation, tells: bool, random: &mut SmallRng) -> Outcome {
        let now = self.keys.get(&operation.key).copied();
        let shown = now.map(|held| Held { revision: if tells { held.revision } else { 0 }, ..held });
        let answer = match &mut operation.op {
            Op::Get | Op::Peek => Answer::Got(shown),
            Op::Put(value) => {
                self.write(operation.key, *value);
                Answer::Put
            }
            Op::Delete => {
                self.revision += i64::from(self.keys.remove(&operation.key).is_some());
                Answer::Deleted(shown)
            }
            Op::Swap { expected, value } => {
                *expected = match now {
                    Some(held) if tells && random.random_bool(0.5) => Expected::Revision(held.revision),
                    Some(held) => Expected::Value(held.value),
                    None => Expected::Absent,
                };
                if random.random_bool(0.3) {
                    *expected = Expected::Value(u64::MAX);
                    Answer::Kept(shown)
                } else {
                    let value = *value;
                    self.write(operation.key, value);
                    Answer::Swapped
                }
            }
        };
        Outcome::Done { answer, revision: if tells { self.revision } else { 0 } }
    }

    fn write(&mut self, key: u64, value: u64) {
        self.revision += 1;
        self.keys.insert(key, Held { value, revision: self.revision });
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Spoiling {
    /// A read shows a value that was overwritten before the read began.
    StaleRead,
    /// A write that was seen is said to have been refused.
    RefusedButSeen,
    /// A read shows a value that nobody writes.
    Invented,
    /// A swap takes place although what it expected was overwritten before it began.
    LostUpdate,
    /// A value that a read showed is gone in the next one, and in the one after that it is back.
    Vanished,
    /// A read shows nothing although no delete is anywhere near.
    Lost,
}

impl Spoiling {
    pub(crate) const ALL: [Spoiling; 6] = [
        Spoiling::StaleRead,
        Spoiling::RefusedButSeen,
        Spoiling::Invented,
        Spoiling::LostUpdate,
        Spoiling::Vanished,
        Spoiling::Lost,
    ];
}

/// The same history, wrong in one place; none if it offers no such place.
pub(crate) fn spoil(
    right: &[Operation],
    spoiling: Spoiling,
    random: &mut SmallRng,
) -> Option<Vec<Operation>> {
    let mut wrong = right.to_vec();
    for _ in 0..2_000 {
        let at = random.random_range(0..right.len());
        let (operation, Outcome::Done { answer, revision }) = (&right[at], right[at].outcome) else {
            continue;
        };
        let spoilt = match (spoiling, operation.op, answer) {
            (Spoiling::StaleRead, Op::Get, Answer::Got(_)) => {
                overwritten_before(right, operation).map(|held| Answer::Got(Some(held)))
            }
            (Spoiling::Invented, Op::Get, Answer::Got(_)) => {
                Some(Answer::Got(Some(Held { value: u64::MAX - 1, revision: 0 })))
            }
            (Spoiling::LostUpdate, Op::Swap { .. }, Answer::Kept(_)) => {
                let held = overwritten_before(right, operation);
                if let (Some(held), Op::Swap { expected, .. }) = (held, &mut wrong[at].op) {
                    *expected = Expected::Value(held.value);
                }
                held.map(|_| Answer::Swapped)
            }
            (Spoiling::Lost, Op::Get, Answer::Got(Some(_))) => {
                let is_deleted = |other: &Operation| other.key == operation.key && other.op == Op::Delete;
                let after = answered_put_before(right, operation)?;
                let is_near = right.iter().any(|other| {
                    is_deleted(other)
                        && (other.outcome == Outcome::Unknown || other.ended >= after.began)
                        && other.began <= operation.ended
                });
                (!is_near).then_some(Answer::Got(None))
            }
            (Spoiling::RefusedButSeen, Op::Put(value), Answer::Put) => {
                if right.iter().any(|other| shows(other) == Some((operation.key, value))) {
                    wrong[at].outcome = Outcome::Refused;
                    return Some(wrong);
                }
                None
            }
            (Spoiling::Vanished, Op::Get, Answer::Got(Some(held))) => {
                between(right, operation, held).map(|other| {
                    wrong[other].outcome = Outcome::Done { answer: Answer::Got(None), revision };
                    answer
                })
            }
            (_, _, _) => None,
        };
        if let Some(answer) = spoilt {
            // A swap keeps the revision it was told as its own: a new one, as a write's has to be, is not known here.
            let revision = if answer == Answer::Swapped { 0 } else { revision };
            wrong[at].outcome = Outcome::Done { answer, revision };
            return Some(wrong);
        }
        wrong[at] = right[at].clone();
    }
    None
}

fn shows(operation: &Operation) -> Option<(u64, u64)> {
    match operation.outcome {
        Outcome::Done { answer: Answer::Got(held) | Answer::Kept(held) | Answer::Deleted(held), .. } => {
            held.map(|held| (operation.key, held.value))
        }
        Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => None,
    }
}

fn is_answered_put(operation: &Operation, key: u64) -> bool {
    operation.key == key && matches!(operation.outcome, Outcome::Done { answer: Answer::Put, .. })
}

/// The value of an answered put that ended before another began that ended before this operation began.
fn overwritten_before(history: &[Operation], operation: &Operation) -> Option<Held> {
    let later = history
        .iter()
        .filter(|other| is_answered_put(other, operation.key) && other.ended < operation.began)
        .max_by_key(|other| other.began)?;
    let earlier = history
        .iter()
        .filter(|other| is_answered_put(other, operation.key) && other.ended < later.began)
        .max_by_key(|other| other.ended)?;
    match earlier.op {
        Op::Put(value) => Some(Held { value, revision: 0 }),
        Op::Get | Op::Peek | Op::Delete | Op::Swap { .. } => None,
    }
}

fn answered_put_before<'a>(history: &'a [Operation], operation: &Operation) -> Option<&'a Operation> {
    let before = |other: &&Operation| is_answered_put(other, operation.key) && other.ended < operation.began;
    history.iter().filter(before).max_by_key(|other| other.ended)
}

/// A read between this one and another, after it, that shows the same value.
fn between(history: &[Operation], first: &Operation, held: Held) -> Option<usize> {
    let reads = |other: &&Operation| other.op == Op::Get && other.key == first.key;
    let last = history
        .iter()
        .filter(reads)
        .filter(|other| shows(other) == Some((first.key, held.value)) && other.began > first.ended)
        .max_by_key(|other| other.began)?;
    history.iter().position(|other| {
        other.op == Op::Get
            && other.key == first.key
            && matches!(other.outcome, Outcome::Done { .. })
            && other.began > first.ended
            && other.ended < last.began
    })
}
