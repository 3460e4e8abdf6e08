//! One client: asks, notes, asks again.

use super::{Plan, Timeline, is_refusal};
use crate::client::{Client, revision};
use crate::linear::{Answer, Expected, Held, Key, Op, Operation, Outcome, Value};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::mvccpb::KeyValue;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Status;

/// Rest of a client whose member does not answer well, so that a dead one costs little.
const REST_AFTER_ERROR: Duration = Duration::from_millis(50);

/// All keys of a load begin so.
pub(super) const PREFIX: &str = "h/";

struct Worker {
    timeline: Arc<Timeline>,
    client: Client,
    number: u64,
    sequence: u64,
    random: SmallRng,
    plan: Plan,
    /// The revision of each key as this client saw it last; 0 where it found none.
    known: BTreeMap<Key, i64>,
}

pub(super) async fn run(timeline: Arc<Timeline>, endpoint: String, number: u64, plan: Plan) {
    let mut worker = Worker {
        client: Client::lazy(&endpoint).expect("a URL"),
        random: SmallRng::seed_from_u64(plan.seed << 16 ^ number),
        known: BTreeMap::new(),
        sequence: 0,
        timeline,
        number,
        plan,
    };
    while !worker.timeline.ending.load(Ordering::Relaxed) {
        worker.ask_one().await;
    }
}

impl Worker {
    async fn ask_one(&mut self) {
        let key = self.random.random_range(0..self.plan.keys);
        let op = self.draw(key);
        let began = self.timeline.now();
        let answer = tokio::time::timeout(self.plan.patience, ask(&mut self.client, key, op)).await;
        let ended = self.timeline.now();
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client lost patience")));
        let outcome = match &answer {
            Ok((answer, revision)) => Outcome::Done { answer: *answer, revision: *revision },
            Err(status) if is_refusal(status) => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        };
        self.learn(key, outcome);
        self.note(Operation { client: self.number, key, began, ended, op, outcome }, answer.err());
        let rest = if matches!(outcome, Outcome::Done { .. }) { self.plan.rest } else { REST_AFTER_ERROR };
        tokio::time::sleep(rest).await;
    }

    fn draw(&mut self, key: Key) -> Op {
        self.sequence += 1;
        let value = self.number << 32 | self.sequence;
        match self.random.random_range(0..100) {
            0..35 => Op::Get,
            35..45 => Op::Peek,
            45..68 => Op::Put(value),
            68..75 => Op::Delete,
            _ => match self.known.get(&key) {
                Some(0) | None => Op::Swap { expected: Expected::Absent, value },
                Some(&revision) => Op::Swap { expected: Expected::Revision(revision), value },
            },
        }
    }

    fn learn(&mut self, key: Key, outcome: Outcome) {
        let Outcome::Done { answer, revision } = outcome else { return };
        let known = match answer {
            Answer::Got(held) | Answer::Kept(held) => held.map_or(0, |held| held.revision),
            Answer::Put | Answer::Swapped => revision,
            Answer::Deleted(_) => 0,
        };
        self.known.insert(key, known);
    }

    fn note(&self, operation: Operation, error: Option<Status>) {
        let Operation { ended, outcome, .. } = operation;
        let mut noted = self.timeline.noted();
        if let Some(status) = error {
            let taken = if outcome == Outcome::Refused { "refused" } else { "unknown" };
            let text = format!("{taken}: {:?} {:?}", status.code(), status.message());
            *noted.errors.entry(text).or_default() += 1;
        }
        if let Outcome::Done { answer: Answer::Put | Answer::Swapped | Answer::Deleted(Some(_)), .. } =
            outcome
        {
            noted.writes.push(ended);
            self.timeline.written.fetch_add(1, Ordering::Relaxed);
        }
        noted.operations.push(operation);
    }
}

fn key_text(key: Key) -> bytes::Bytes {
    format!("{PREFIX}{key}").into()
}

fn value_text(value: Value) -> bytes::Bytes {
    value.to_string().into()
}

/// A value that is none of ours is one that nobody wrote.
pub(super) fn value_of(text: &[u8]) -> Value {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(Value::MAX)
}

pub(super) fn key_of(text: &[u8]) -> Option<Key> {
    std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

fn held(kvs: &[KeyValue]) -> Option<Held> {
    kvs.first().map(|kv| Held { value: value_of(&kv.value), revision: kv.mod_revision })
}

async fn ask(client: &mut Client, key: Key, op: Op) -> Result<(Answer, i64), Status> {
    let put = |value| pb::PutRequest { key: key_text(key), value: value_text(value), ..Default::default() };
    let range = |serializable| pb::RangeRequest { key: key_text(key), serializable, ..Default::default() };
    match op {
        Op::Get | Op::Peek => {
            let answer = client.kv.range(range(op == Op::Peek)).await?.into_inner();
            Ok((Answer::Got(held(&answer.kvs)), revision(answer.header)))
        }
        Op::Put(value) => {
            let answer = client.kv.put(put(value)).await?.into_inner();
            Ok((Answer::Put, revision(answer.header)))
        }
        Op::Delete => {
            let delete = pb::DeleteRangeRequest { key: key_text(key), prev_kv: true, ..Default::default() };
            let answer = client.kv.delete_range(delete).await?.into_inner();
            Ok((Answer::Deleted(held(&answer.prev_kvs)), revision(answer.header)))
        }
        Op::Swap { expected, value } => {
            let txn = pb::TxnRequest {
                compare: vec![compare(key, expected)],
                success: vec![request_op(pb::request_op::Request::RequestPut(put(value)))],
                failure: vec![request_op(pb::request_op::Request::RequestRange(range(false)))],
            };
            let answer = client.kv.txn(txn).await?.into_inner();
            let revision = revision(answer.header);
            if answer.succeeded {
                return Ok((Answer::Swapped, revision));
            }
            Ok((Answer::Kept(read_in(&answer.responses)?), revision))
        }
    }
}

fn compare(key: Key, expected: Expected) -> pb::Compare {
    let (target, union) = match expected {
        Expected::Absent => (pb::compare::CompareTarget::Mod, pb::compare::TargetUnion::ModRevision(0)),
        Expected::Revision(at) => {
            (pb::compare::CompareTarget::Mod, pb::compare::TargetUnion::ModRevision(at))
        }
        Expected::Value(value) => {
            (pb::compare::CompareTarget::Value, pb::compare::TargetUnion::Value(value_text(value)))
        }
    };
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: target.into(),
        key: key_text(key),
        target_union: Some(union),
        ..Default::default()
    }
}

fn request_op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// What the read in a transaction's second branch found.
fn read_in(responses: &[pb::ResponseOp]) -> Result<Option<Held>, Status> {
    match responses.first().and_then(|response| response.response.as_ref()) {
        Some(pb::response_op::Response::ResponseRange(range)) => Ok(held(&range.kvs)),
        // An answer that breaks the protocol says nothing about the outcome.
        _ => Err(Status::internal("the second branch was not answered by a read")),
    }
}
