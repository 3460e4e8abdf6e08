//! Watch streams: the same wishes and changes to both servers, the same events told, watcher by watcher.

use crate::Pair;
use crate::ask::{Question, Told, ask};
use crate::generate::Generator;
use crate::known::{self, Version};
use crate::situations::Situations;
use crate::transcript::Stream;
use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_tests::client::Client;
use std::time::{Duration, Instant};

pub(crate) const SEED_COUNT: u64 = 8;
const STEP_COUNT: usize = 100;

/// How long the servers may take to become equal before they count as different.
const LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(2);
/// etcd brings lagging watchers up every 100 ms, and asks a second time for nothing.
const ASK_AGAIN: Duration = Duration::from_millis(30);
/// By then etcd's watchers are synced, where it does not tell: 3.4 never does, 3.5 no more on a stream that
/// had a watcher lost to compaction. It keeps that one as a dead weight, whose id also stays taken and
/// whose cancel is answered a second time; ours is gone, so nothing is asked of such an id.
const CATCH_UP: Duration = Duration::from_millis(400);

const LINES_SHOWN: usize = 30;
const LINE_CHARACTERS_SHOWN: usize = 300;

/// A watcher of a key nobody writes: a stream without watchers is not told of progress.
const SENTINEL: i64 = 1_000;

/// Runs all seeds over one pair, each on streams of its own.
pub(crate) async fn compare(pair: Pair, seeds: &[u64], complete: bool) {
    let mut situations = Situations::default();
    let mut compacted = 0;
    for &seed in seeds {
        let (node, etcd) = pair.clients().await;
        let mut run = Run::new(seed, node, etcd, compacted).await;
        for _ in 0..STEP_COUNT {
            run.step(&mut situations).await;
        }
        run.settle().await;
        for stream in [&run.node_stream, &run.etcd_stream] {
            for situation in stream.situations() {
                situations.met(situation);
            }
        }
        compacted = run.generator.compacted();
    }
    if complete {
        situations.require(REQUIRED);
    }
}

struct Run {
    seed: u64,
    version: Version,
    node: Client,
    etcd: Client,
    node_stream: Stream,
    etcd_stream: Stream,
    generator: Generator,
    /// Some watcher may still be reading history, or be told that it is compacted.
    lagging: bool,
    /// The latest start a watcher was created with: while it is to come, newer etcds and ours tell nothing of
    /// progress, older ones do.
    start_max: i64,
    /// Some watcher was created below what is kept.
    may_lose: bool,
    created: usize,
    done: Vec<String>,
}

impl Run {
    async fn new(seed: u64, node: Client, mut etcd: Client, compacted: i64) -> Run {
        let version = Version::of(&mut etcd).await;
        let any = pb::RangeRequest { key: Bytes::from_static(b"a"), ..Default::default() };
        let revision = ask(&mut etcd, &Question::Range(any)).await.revision().unwrap();
        let node_stream = Stream::open(&node, true).await;
        let etcd_stream = Stream::open(&etcd, false).await;
        let generator = Generator::new(seed, revision, compacted);
        let (lagging, start_max, may_lose, created, done) = (false, 0, false, 0, Vec::new());
        let mut run = Run {
            seed,
            version,
            node,
            etcd,
            node_stream,
            etcd_stream,
            generator,
            lagging,
            start_max,
            may_lose,
            created,
            done,
        };
        let key = Bytes::from_static(b"sentinel");
        run.create(pb::WatchCreateRequest { key, watch_id: SENTINEL, ..Default::default() }).await;
        run
    }

    async fn step(&mut self, situations: &mut Situations) {
        match self.generator.below(100) {
            0..55 => self.change(situations).await,
            55..80 => {
                let create = self.watch_request(situations);
                if create.watch_id != 0 {
                    // Whether its namesake is gone must be the same on both.
                    self.settle().await;
                }
                if !self.etcd_stream.lost().contains(&create.watch_id) {
                    self.create(create).await;
                }
            }
            80..88 => self.cancel(situations).await,
            88..93 => self.compact(situations).await,
            93..95 => self.large_change().await,
            _ => self.settle().await,
        }
    }

    /// A change of keys, its answer compared as well.
    async fn change(&mut self, situations: &mut Situations) {
        let question = loop {
            let question = self.generator.question();
            let is_change = matches!(
                question,
                Question::Put(_)
                    | Question::DeleteRange(_)
                    | Question::Txn(_)
                    | Question::Grant(_)
                    | Question::Revoke(_)
            );
            if is_change {
                break question;
            }
        };
        if let (Question::Revoke(_), Told::Revoke(_)) = (&question, self.ask(&question).await) {
            situations.met("a lease revoked");
        }
    }

    async fn ask(&mut self, question: &Question) -> Told {
        let (node, etcd) = tokio::join!(ask(&mut self.node, question), ask(&mut self.etcd, question));
        self.done.push(format!("{question:?} -> {:?}", etcd.revision()));
        if node != etcd && !known::is_known(self.version, question, &node, &etcd) {
            self.fail(&format!("asked: {question:?}\nnode: {node:?}\netcd: {etcd:?}"));
        }
        self.generator.learn(question, &etcd);
        node
    }

    /// Two values that make the events of one revision longer than a message may be.
    async fn large_change(&mut self) {
        let value = Bytes::from(vec![b'v'; 700_000]);
        let put = |key: &'static [u8]| {
            let put =
                pb::PutRequest { key: Bytes::from_static(key), value: value.clone(), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let txn = pb::TxnRequest { success: vec![put(b"a"), put(b"b")], ..Default::default() };
        for _ in 0..2 {
            self.ask(&Question::Txn(txn.clone())).await;
        }
        let (key, range_end) = (Bytes::from_static(b"a"), Bytes::from_static(b"c"));
        self.ask(&Question::DeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: false })).await;
    }

    /// Nobody may lag when it happens: how far they got is each server's own matter.
    async fn compact(&mut self, situations: &mut Situations) {
        self.settle().await;
        let kept = self.generator.revision() - self.generator.compacted();
        if kept > 3 {
            let revision = self.generator.compacted() + 1 + self.generator.below(kept);
            self.ask(&Question::Compact(pb::CompactionRequest { revision, physical: false })).await;
            situations.met("compacted");
        }
    }

    fn watch_request(&mut self, situations: &mut Situations) -> pb::WatchCreateRequest {
        let (key, range_end) = self.generator.span();
        let (now, compacted) = (self.generator.revision(), self.generator.compacted());
        let (start, name) = match self.generator.below(12) {
            0..5 => (0, "start: now"),
            5..7 => (compacted + 1 + self.generator.below((now - compacted).max(1)), "start: past"),
            7 => (now + 1, "start: next"),
            8 => (now + 2 + self.generator.below(6), "start: future"),
            // etcd 3.4 forgets a deletion at the compacted revision itself; from 3.5.16 on it is told.
            9 if self.version == Version::V3_4 => (compacted + 1, "start: edge of what is kept"),
            9 => (self.generator.pick(&[compacted, compacted + 1]), "start: edge of what is kept"),
            10 => ((compacted - self.generator.below(3)).max(1), "start: compacted"),
            // Not a negative one: before 3.5.24 it is taken and breaks the stream (etcd pull request 20693);
            // we refuse it as later etcds do.
            _ => (1, "start: the first"),
        };
        situations.met(name);
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: start,
            progress_notify: self.generator.chance(30),
            filters: self.generator.pick(&[
                vec![],
                vec![],
                vec![],
                vec![0],
                vec![1],
                vec![0, 1],
                vec![1, 1],
                vec![9],
            ]),
            prev_kv: self.generator.chance(50),
            watch_id: if start >= compacted && self.generator.chance(25) {
                self.generator.pick(&[1, 2, 3, 9])
            } else {
                0
            },
            fragment: self.generator.chance(30),
        }
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) {
        self.lagging |= create.start_revision != 0;
        self.start_max = self.start_max.max(create.start_revision);
        self.may_lose |= create.start_revision != 0 && create.start_revision < self.generator.compacted();
        self.done.push(format!("{create:?}"));
        let request = pb::watch_request::RequestUnion::CreateRequest(create);
        self.send(request).await;
        self.created += 1;
        let began = Instant::now();
        while self.node_stream.created() < self.created || self.etcd_stream.created() < self.created {
            self.not_for_ever(began, "a create request is not answered");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Cancels a watcher that is, was, or never was.
    async fn cancel(&mut self, situations: &mut Situations) {
        self.settle().await;
        let watch_id = self.generator.below(12);
        if self.etcd_stream.lost().contains(&watch_id) {
            return;
        }
        let live = self.etcd_stream.is_live(watch_id);
        situations.met(if live { "cancel: live" } else { "cancel: nobody" });
        self.done.push(format!("cancel {watch_id}"));
        let cancel = pb::WatchCancelRequest { watch_id };
        self.send(pb::watch_request::RequestUnion::CancelRequest(cancel)).await;
        let began = Instant::now();
        while live && (self.node_stream.is_live(watch_id) || self.etcd_stream.is_live(watch_id)) {
            self.not_for_ever(began, "a cancel request is not answered");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn send(&mut self, request: pb::watch_request::RequestUnion) {
        self.node_stream.send(request.clone()).await;
        self.etcd_stream.send(request).await;
    }

    /// Waits until every watcher of both was told everything, and compares all they were told.
    async fn settle(&mut self) {
        let began = Instant::now();
        let revision = self.generator.revision();
        let node_tells = revision >= self.start_max;
        let etcd_tells = node_tells && self.version == Version::V3_5 && !self.may_lose;
        for (name, stream, told) in
            [("node", &self.node_stream, node_tells), ("etcd", &self.etcd_stream, etcd_tells)]
        {
            while stream.progress() < revision && told {
                let progress = pb::WatchProgressRequest {};
                stream.send(pb::watch_request::RequestUnion::ProgressRequest(progress)).await;
                let asked = Instant::now();
                while stream.progress() < revision && asked.elapsed() < ASK_AGAIN {
                    tokio::time::sleep(POLL).await;
                }
                self.not_for_ever(
                    began,
                    &format!("{name} is not told of progress to {revision}: {}", stream.progress()),
                );
            }
        }
        if self.lagging && !etcd_tells {
            tokio::time::sleep(CATCH_UP).await;
        }
        self.lagging = false;
        while let Some(difference) = self.node_stream.difference(&self.etcd_stream) {
            self.not_for_ever(began, &difference);
            tokio::time::sleep(POLL).await;
        }
    }

    fn not_for_ever(&self, began: Instant, what: &str) {
        if began.elapsed() > LIMIT {
            self.fail(what);
        }
    }

    fn fail(&self, what: &str) -> ! {
        let shown = |line: &String| line.chars().take(LINE_CHARACTERS_SHOWN).collect::<String>();
        let last: Vec<_> = self.done.iter().rev().take(LINES_SHOWN).rev().map(shown).collect();
        panic!(
            "QUORATE_SEED={} beside {:?}: {what}\ndone before:\n{}",
            self.seed,
            self.version,
            last.join("\n")
        );
    }
}

const REQUIRED: &[&str] = &[
    "a lease revoked",
    "cancel: live",
    "cancel: nobody",
    "compacted",
    "start: compacted",
    "start: edge of what is kept",
    "start: future",
    "start: next",
    "start: now",
    "start: past",
    "start: the first",
    "told: a delete",
    "told: a delete with prev_kv",
    "told: a fragment",
    "told: a put",
    "told: a put with prev_kv",
    "told: created false canceled true compacted false because \"\"",
    "told: created false canceled true compacted true because \"\"",
    "told: created true canceled false compacted false because \"\"",
    "told: created true canceled true compacted false because \"mvcc: duplicate watch ID provided on the WatchStream\"",
    "told: created true canceled true compacted false because \"mvcc: watcher range is empty\"",
];
