//! Unary requests: every answer and every refusal compared.

use crate::Pair;
use crate::ask::{Question, Told, ask};
use crate::generate::{Generator, LEASES};
use crate::known::{self, Version};
use crate::situations::Situations;
use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::Client;
use std::collections::VecDeque;

pub(crate) const SEED_COUNT: u64 = 40;
const STEP_COUNT: usize = 500;
const STEPS_SHOWN: usize = 12;

/// Runs all seeds over one pair; between two of them the store is emptied and compacted.
pub(crate) async fn compare(mut pair: Pair, seeds: &[u64], complete: bool) {
    let mut situations = Situations::default();
    let (mut compacted, mut node_client, mut etcd_client) = (0, None, None);
    for &seed in seeds {
        let (node, etcd) = match (node_client.take(), etcd_client.take()) {
            (Some(node), Some(etcd)) => (node, etcd),
            _ => pair.clients().await,
        };
        let mut run = Run::new(seed, node, etcd, compacted).await;
        for step in 0..STEP_COUNT {
            let question = run.generator.question();
            run.step(&question, &mut situations).await;
            // Our answers have to survive: the comparison goes on after a kill.
            if seed % 5 == 0 && step == STEP_COUNT / 2 {
                pair.node.kill();
                pair.node.restart();
                run.node = Client::connect(&pair.node.endpoint()).await.unwrap();
                situations.met("killed and started again");
            }
        }
        compacted = run.clean(&mut situations).await;
        (node_client, etcd_client) = (Some(run.node), Some(run.etcd));
    }
    if complete {
        situations.require(REQUIRED);
    }
}

struct Run {
    seed: u64,
    step: usize,
    node: Client,
    etcd: Client,
    version: Version,
    generator: Generator,
    last: VecDeque<String>,
}

impl Run {
    async fn new(seed: u64, node: Client, mut etcd: Client, compacted: i64) -> Run {
        let version = Version::of(&mut etcd).await;
        let everything = pb::RangeRequest { key: Bytes::from_static(b"a"), ..Default::default() };
        let revision = ask(&mut etcd, &Question::Range(everything)).await.revision().unwrap();
        let generator = Generator::new(seed, revision, compacted);
        Run { seed, step: 0, node, etcd, version, generator, last: VecDeque::new() }
    }

    /// Asks both and compares.
    async fn step(&mut self, question: &Question, situations: &mut Situations) {
        self.step += 1;
        let (node, etcd) = tokio::join!(ask(&mut self.node, question), ask(&mut self.etcd, question));
        let shown = short(&format!("{question:?}\n      -> {etcd:?}"));
        if node != etcd && !known::is_known(self.version, question, &node, &etcd) {
            let last: Vec<_> = self.last.iter().map(String::as_str).collect();
            panic!(
                "QUORATE_SEED={} step {}, beside {:?}\nasked: {question:?}\nnode: {node:?}\netcd: {etcd:?}\n\
                 before that:\n{}",
                self.seed,
                self.step,
                self.version,
                last.join("\n"),
            );
        }
        self.last.push_back(shown);
        if self.last.len() > STEPS_SHOWN {
            self.last.pop_front();
        }
        meet(situations, question, &node);
        self.generator.learn(question, &etcd);
    }

    /// Compares every revision still kept, then leaves an empty store without history. Gives the compacted
    /// revision.
    async fn clean(&mut self, situations: &mut Situations) -> i64 {
        for alarm in [1, 2] {
            let disarm = pb::AlarmRequest { action: 2, member_id: 42, alarm };
            self.step(&Question::Alarm(disarm), situations).await;
        }
        let all = || (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        for revision in self.generator.compacted().max(1)..=self.generator.revision() {
            let (key, range_end) = all();
            let range = pb::RangeRequest { key, range_end, revision, ..Default::default() };
            self.step(&Question::Range(range), situations).await;
        }
        for id in LEASES {
            self.step(&Question::TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true }), situations).await;
            self.step(&Question::Revoke(pb::LeaseRevokeRequest { id }), situations).await;
        }
        let (key, range_end) = all();
        let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
        self.step(&Question::DeleteRange(delete), situations).await;
        let revision = self.generator.revision();
        self.step(&Question::Compact(pb::CompactionRequest { revision, physical: true }), situations).await;
        assert_eq!(self.generator.compacted().max(revision), revision);
        revision
    }
}

fn short(text: &str) -> String {
    const CHARACTERS_MAX: usize = 1_500;
    text.chars().take(CHARACTERS_MAX).collect()
}

/// Notes what this exchange was about.
fn meet(situations: &mut Situations, question: &Question, told: &Told) {
    let name = kind(question);
    match told {
        Told::Refused(code, text) => situations.met(format!("{name}: {code:?} {text}")),
        Told::Range(answer) => {
            situations.met("range: answered");
            let Question::Range(asked) = question else { return };
            meet_range(situations, asked, answer);
        }
        Told::Put(answer) => {
            situations.met(if answer.prev_kv.is_some() { "put: prev_kv" } else { "put: answered" });
            let Question::Put(asked) = question else { return };
            for (name, holds) in [
                ("put: ignored value", asked.ignore_value),
                ("put: ignored lease", asked.ignore_lease),
                ("put: lease", asked.lease != 0),
            ] {
                if holds {
                    situations.met(name);
                }
            }
        }
        Told::DeleteRange(answer) => situations.met(match (answer.deleted, answer.prev_kvs.len()) {
            (0, _) => "delete_range: nothing there",
            (1, 0) => "delete_range: one",
            (_, 0) => "delete_range: several",
            _ => "delete_range: prev_kvs",
        }),
        Told::Txn(answer) => meet_txn(situations, answer, 0),
        Told::TimeToLive(answer) => situations.met(match (answer.ttl, answer.keys.len()) {
            (..=0, _) => "time_to_live: no such lease",
            (_, 0) => "time_to_live: without keys",
            _ => "time_to_live: with keys",
        }),
        Told::Leases(answer) => {
            situations.met(if answer.leases.len() > 1 { "leases: several" } else { "leases: few" });
        }
        Told::Alarm(answer) => {
            situations.met(if answer.alarms.is_empty() { "alarm: none" } else { "alarm: some" });
        }
        Told::Compact(_) | Told::Grant(_) | Told::Revoke(_) | Told::HashKv(_) | Told::MemberCount(_) => {
            situations.met(format!("{name}: answered"));
        }
    }
}

fn meet_range(situations: &mut Situations, asked: &pb::RangeRequest, answer: &pb::RangeResponse) {
    let some = !answer.kvs.is_empty();
    if some && (asked.sort_order, asked.sort_target) != (0, 0) {
        situations.met(format!("range: order {} target {}", asked.sort_order, asked.sort_target));
    }
    let now = answer.header.unwrap().revision;
    for (name, holds) in [
        ("range: more", answer.more),
        ("range: sorted and more", answer.more && asked.sort_order != 0),
        ("range: old revision", some && asked.revision > 0 && asked.revision < now),
        ("range: keys only", some && asked.keys_only),
        ("range: count only", asked.count_only && answer.count > 0),
        ("range: min mod", some && asked.min_mod_revision > 0),
        ("range: max mod", some && asked.max_mod_revision > 0),
        ("range: min create", some && asked.min_create_revision > 0),
        ("range: max create", some && asked.max_create_revision > 0),
        ("range: filtered away", answer.count > 0 && !some && !asked.count_only),
        ("range: negative limit", some && asked.limit < 0),
        ("range: serializable", asked.serializable),
    ] {
        if holds {
            situations.met(name);
        }
    }
}

fn meet_txn(situations: &mut Situations, answer: &pb::TxnResponse, depth: usize) {
    use pb::response_op::Response;
    situations.met(format!("txn depth {depth}: {}", if answer.succeeded { "success" } else { "failure" }));
    for response in &answer.responses {
        match response.response.as_ref().unwrap() {
            Response::ResponseRange(_) => situations.met("txn: range"),
            Response::ResponsePut(_) => situations.met("txn: put"),
            Response::ResponseDeleteRange(_) => situations.met("txn: delete_range"),
            Response::ResponseTxn(nested) => meet_txn(situations, nested, depth + 1),
        }
    }
}

fn kind(question: &Question) -> &'static str {
    match question {
        Question::Range(_) => "range",
        Question::Put(_) => "put",
        Question::DeleteRange(_) => "delete_range",
        Question::Txn(_) => "txn",
        Question::Compact(_) => "compact",
        Question::Grant(_) => "grant",
        Question::Revoke(_) => "revoke",
        Question::TimeToLive(_) => "time_to_live",
        Question::Leases => "leases",
        Question::Alarm(_) => "alarm",
        Question::HashKv(_) => "hash_kv",
        Question::MemberCount => "member_list",
    }
}

/// Every one of them is met several times in the default run, by the fixed seeds.
const REQUIRED: &[&str] = &[
    "alarm: none",
    "alarm: some",
    "compact: DataLoss etcdserver: corrupt cluster",
    "compact: OutOfRange etcdserver: mvcc: required revision has been compacted",
    "compact: OutOfRange etcdserver: mvcc: required revision is a future revision",
    "compact: answered",
    "delete_range: nothing there",
    "delete_range: one",
    "delete_range: prev_kvs",
    "delete_range: several",
    "grant: DataLoss etcdserver: corrupt cluster",
    "grant: FailedPrecondition etcdserver: lease already exists",
    "grant: OutOfRange etcdserver: too large lease TTL",
    "grant: ResourceExhausted etcdserver: mvcc: database space exceeded",
    "grant: answered",
    "hash_kv: OutOfRange etcdserver: mvcc: required revision has been compacted",
    "hash_kv: OutOfRange etcdserver: mvcc: required revision is a future revision",
    "hash_kv: answered",
    "killed and started again",
    "leases: few",
    "leases: several",
    "member_list: answered",
    "put: DataLoss etcdserver: corrupt cluster",
    "put: InvalidArgument etcdserver: key is not provided",
    "put: InvalidArgument etcdserver: key not found",
    "put: InvalidArgument etcdserver: lease is provided",
    "put: InvalidArgument etcdserver: request is too large",
    "put: InvalidArgument etcdserver: value is provided",
    "put: NotFound etcdserver: requested lease not found",
    "put: ResourceExhausted etcdserver: mvcc: database space exceeded",
    "put: answered",
    "put: ignored lease",
    "put: ignored value",
    "put: lease",
    "put: prev_kv",
    "range: InvalidArgument etcdserver: invalid sort option",
    "range: InvalidArgument etcdserver: key is not provided",
    "range: OutOfRange etcdserver: mvcc: required revision has been compacted",
    "range: OutOfRange etcdserver: mvcc: required revision is a future revision",
    "range: answered",
    "range: count only",
    "range: filtered away",
    "range: keys only",
    "range: max create",
    "range: max mod",
    "range: min create",
    "range: min mod",
    "range: more",
    "range: negative limit",
    "range: old revision",
    "range: order 0 target 1",
    "range: order 0 target 2",
    "range: order 0 target 3",
    "range: order 0 target 4",
    "range: order 1 target 0",
    "range: order 1 target 1",
    "range: order 1 target 2",
    "range: order 1 target 3",
    "range: order 1 target 4",
    "range: order 2 target 0",
    "range: order 2 target 1",
    "range: order 2 target 2",
    "range: order 2 target 3",
    "range: order 2 target 4",
    "range: serializable",
    "range: sorted and more",
    "revoke: DataLoss etcdserver: corrupt cluster",
    "revoke: NotFound etcdserver: requested lease not found",
    "revoke: answered",
    "time_to_live: no such lease",
    "time_to_live: with keys",
    "time_to_live: without keys",
    "txn depth 0: failure",
    "txn depth 0: success",
    "txn depth 1: failure",
    "txn depth 1: success",
    "txn depth 2: failure",
    "txn depth 2: success",
    "txn: DataLoss etcdserver: corrupt cluster",
    "txn: InvalidArgument etcdserver: duplicate key given in txn request",
    "txn: InvalidArgument etcdserver: key is not provided",
    "txn: InvalidArgument etcdserver: key not found",
    "txn: InvalidArgument etcdserver: lease is provided",
    "txn: InvalidArgument etcdserver: request is too large",
    "txn: InvalidArgument etcdserver: too many operations in txn request",
    "txn: InvalidArgument etcdserver: value is provided",
    "txn: NotFound etcdserver: requested lease not found",
    "txn: OutOfRange etcdserver: mvcc: required revision has been compacted",
    "txn: OutOfRange etcdserver: mvcc: required revision is a future revision",
    "txn: ResourceExhausted etcdserver: mvcc: database space exceeded",
    "txn: delete_range",
    "txn: put",
    "txn: range",
];
