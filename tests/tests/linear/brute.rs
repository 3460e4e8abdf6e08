//! Small histories of anything, and all orders of them.

use quorate_tests::linear::{Answer, Expected, Held, Op, Operation, Outcome};
use rand::Rng;
use rand::rngs::SmallRng;

/// A few overlapping operations on one key; answers are drawn, so that most shapes of right and wrong come up.
pub(crate) fn random(random: &mut SmallRng) -> Vec<Operation> {
    let count = random.random_range(2..=6);
    let values: Vec<u64> = (1..=count).collect();
    let mut history = Vec::new();
    for client in 0..count {
        let began = random.random_range(0..10);
        let op = match random.random_range(0..10) {
            0..3 => Op::Get,
            3..6 => Op::Put(client + 1),
            6..8 => Op::Delete,
            _ => Op::Swap { expected: expected(&values, random), value: client + 1 },
        };
        let outcome = match random.random_range(0..10) {
            0..2 => Outcome::Unknown,
            2 if random.random_bool(0.3) => Outcome::Refused,
            _ => Outcome::Done { answer: answer(op, &values, random), revision: 0 },
        };
        let ended = began + random.random_range(0..6);
        history.push(Operation { client, key: 0, began, ended, op, outcome });
    }
    history
}

fn expected(values: &[u64], random: &mut SmallRng) -> Expected {
    match random.random_range(0..3) {
        0 => Expected::Absent,
        _ => Expected::Value(values[random.random_range(0..values.len())]),
    }
}

fn held(values: &[u64], random: &mut SmallRng) -> Option<Held> {
    random.random_bool(0.6).then(|| Held { value: values[random.random_range(0..values.len())], revision: 0 })
}

fn answer(op: Op, values: &[u64], random: &mut SmallRng) -> Answer {
    match op {
        Op::Get | Op::Peek => Answer::Got(held(values, random)),
        Op::Put(_) => Answer::Put,
        Op::Delete => Answer::Deleted(held(values, random)),
        Op::Swap { .. } if random.random_bool(0.5) => Answer::Swapped,
        Op::Swap { .. } => Answer::Kept(held(values, random)),
    }
}

/// Whether any order of the answered operations and any of the unknown ones explains all answers.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let left: Vec<&Operation> =
        history.iter().filter(|operation| operation.outcome != Outcome::Refused).collect();
    follow(&left, None)
}

fn follow(left: &[&Operation], state: Option<u64>) -> bool {
    let is_answered = |operation: &&Operation| matches!(operation.outcome, Outcome::Done { .. });
    if !left.iter().any(is_answered) {
        return true;
    }
    let first_end = left.iter().filter(|operation| is_answered(operation)).map(|operation| operation.ended);
    let first_end = first_end.min().unwrap();
    (0..left.len()).any(|at| {
        let operation = left[at];
        let mut rest = left.to_vec();
        rest.remove(at);
        operation.began <= first_end && after(operation, state).is_some_and(|state| follow(&rest, state))
    })
}

/// The state after it, if it can take effect with its answer.
fn after(operation: &Operation, state: Option<u64>) -> Option<Option<u64>> {
    let shows = |held: Option<Held>| held.map(|held| held.value) == state;
    let meets = |expected| match expected {
        Expected::Absent => state.is_none(),
        Expected::Value(value) => state == Some(value),
        Expected::Revision(_) => unreachable!("not drawn here"),
    };
    match (operation.op, operation.outcome) {
        (Op::Put(value), Outcome::Unknown | Outcome::Done { .. }) => Some(Some(value)),
        (Op::Delete, Outcome::Unknown) => Some(None),
        (Op::Swap { expected, value }, Outcome::Unknown) => {
            Some(if meets(expected) { Some(value) } else { state })
        }
        (Op::Get | Op::Peek, Outcome::Unknown) => Some(state),
        (_, Outcome::Refused) => None,
        (op, Outcome::Done { answer, .. }) => match (op, answer) {
            (Op::Get, Answer::Got(held)) => shows(held).then_some(state),
            (Op::Delete, Answer::Deleted(held)) => shows(held).then_some(None),
            (Op::Swap { expected, value }, Answer::Swapped) => meets(expected).then_some(Some(value)),
            (Op::Swap { expected, .. }, Answer::Kept(held)) => {
                (!meets(expected) && shows(held)).then_some(state)
            }
            (_, _) => None,
        },
    }
}
