//! The checker's operations as the store's commands, and the store's outcomes as the checker's answers.

use quorate_api::{Read, ReadOutcome};
use quorate_store::{
    Command, Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, KeyValue, Outcome, Put,
    RangeRequest, Txn, TxnOperation,
};
use quorate_tests::linear::{Answer, Expected, Held, Op};

/// What to ask the node.
pub(super) enum Request {
    Write(Command),
    /// Linearizable or not.
    Read(Read, bool),
}

pub(super) fn request(key: u64, op: &Op, value_bytes: usize) -> Request {
    match *op {
        Op::Get | Op::Peek => Request::Read(Read::Range(range(key)), *op == Op::Get),
        Op::Put(value) => Request::Write(Command::Put(put(key, value, value_bytes))),
        Op::Delete => {
            let range = KeyRange::One(name(key));
            Request::Write(Command::DeleteRange(DeleteRange { range, prev_kv: true }))
        }
        Op::Swap { expected, value } => Request::Write(Command::Txn(Txn {
            compares: vec![compare(key, expected, value_bytes)],
            success: vec![TxnOperation::Put(put(key, value, value_bytes))],
            failure: vec![TxnOperation::Range(range(key))],
        })),
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

fn range(key: u64) -> RangeRequest {
    RangeRequest::all(KeyRange::One(name(key)))
}

fn put(key: u64, value: u64, value_bytes: usize) -> Put {
    Put { key: name(key), value: bytes(value, value_bytes), ..Put::default() }
}

/// A number, and zeros up to the size wanted.
fn bytes(value: u64, value_bytes: usize) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.resize(bytes.len().max(value_bytes), 0);
    bytes
}

fn compare(key: u64, expected: Expected, value_bytes: usize) -> Compare {
    let target = match expected {
        Expected::Absent => CompareTarget::Create(0),
        Expected::Value(value) => CompareTarget::Value(bytes(value, value_bytes)),
        Expected::Revision(revision) => CompareTarget::Mod(revision),
    };
    Compare { range: KeyRange::One(name(key)), operator: CompareOperator::Equal, target }
}

fn held(kv: &KeyValue) -> Held {
    let digits: Vec<u8> = kv.value.iter().copied().take_while(u8::is_ascii_digit).collect();
    let value = String::from_utf8_lossy(&digits).parse().unwrap_or(0);
    Held { value, revision: kv.mod_revision }
}

/// What a read found.
pub(super) fn read(outcome: &ReadOutcome) -> Option<Held> {
    match outcome {
        ReadOutcome::Range(range) => range.kvs.first().map(held),
        ReadOutcome::Txn(_)
        | ReadOutcome::Lease(_)
        | ReadOutcome::Leases(_)
        | ReadOutcome::Alarms(_)
        | ReadOutcome::HashKv { .. } => panic!("a range read was answered with {outcome:?}"),
    }
}

/// What a write's answer says.
pub(super) fn written(op: &Op, outcome: &Outcome) -> Answer {
    match (op, outcome) {
        (Op::Put(_), Outcome::Put { .. }) => Answer::Put,
        (Op::Delete, Outcome::DeleteRange { prev_kvs, .. }) => Answer::Deleted(prev_kvs.first().map(held)),
        (Op::Swap { .. }, Outcome::Txn { succeeded: true, .. }) => Answer::Swapped,
        (Op::Swap { .. }, Outcome::Txn { succeeded: false, outcomes }) => match outcomes.as_slice() {
            [Outcome::Range(range)] => Answer::Kept(range.kvs.first().map(held)),
            other => panic!("a swap that kept was answered with {other:?}"),
        },
        (op, outcome) => panic!("{op:?} was answered with {outcome:?}"),
    }
}

/// What a client knows of a key after an answer.
pub(super) fn known(op: &Op, answer: Answer, revision: i64) -> Option<Held> {
    match (answer, op) {
        (Answer::Got(held) | Answer::Kept(held), _) => held,
        (Answer::Put | Answer::Swapped, Op::Put(value) | Op::Swap { value, .. }) => {
            Some(Held { value: *value, revision })
        }
        (Answer::Put | Answer::Swapped | Answer::Deleted(_), _) => None,
    }
}
