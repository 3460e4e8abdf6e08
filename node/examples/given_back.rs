//! What a node's state keeps resident once compaction took its history, round after round.
//!
//! `cargo run --release --example given_back -p quorated`

use quorate_store::{Applied, Command, KeyRange, Put, RangeRequest, Stamped, Store, decode, encode};
use quorate_types::{ClusterTime, Index, NodeId, ProposalId, Revision, limits};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

const KEYS: u64 = 10_000;
const REVISIONS: u64 = 160_000;
const VALUE_BYTES: usize = 256;

/// Entries the log keeps in memory, each in an allocation of its own, as `limits::LOG_RETAINED_BYTES_MAX` allows.
const LOG_ENTRIES: usize = 3_000;

/// Answers and events that clients have not taken yet.
const APPLIED_KEPT: usize = 64;

/// Revisions that stay where compaction stays behind the newest revision.
const REVISIONS_KEPT: u64 = 20_000;

fn main() {
    // As the driver: a thread of its own, so an arena of its own.
    let driver = std::thread::spawn(|| {
        let mut node = Node::default();
        println!("resident before: {:.1} MiB", mib(resident()));
        for round in 1..=3 {
            node.round(round, 0);
        }
        node.round(4, REVISIONS_KEPT);
        node.round(5, 0);
    });
    driver.join().expect("the driver ends");
}

/// What the driver has besides the store, as far as it allocates in between.
#[derive(Default)]
struct Node {
    store: Store,
    index: u64,
    random: u64,
    log: VecDeque<Arc<[u8]>>,
    applied: VecDeque<Applied>,
}

impl Node {
    fn round(&mut self, round: u64, kept: u64) {
        let start = Instant::now();
        for _ in 0..REVISIONS {
            self.put();
        }
        let put = start.elapsed() / u32::try_from(REVISIONS).expect("small");
        let full = resident();
        let logical = self.store.bytes_total();

        let revision = Revision(self.store.revision().0 - i64::try_from(kept).expect("small"));
        self.apply(Command::Compact(revision));
        self.applied.clear();
        let mut slices = Vec::new();
        loop {
            let start = Instant::now();
            let more = self.store.sweep(limits::SWEEP_REVISION_COUNT);
            slices.push(start.elapsed());
            if !more {
                break;
            }
        }
        slices.sort_unstable();
        let swept = resident();
        let start = Instant::now();
        quorate_board::give_back_memory();
        let trim = start.elapsed();
        println!(
            "round {round}: put {put:.2?}, {:.1} MiB resident ({:.1} logical); compacted {kept} behind: slice {:.0?} \
             (longest {:.0?}), {:.1} MiB, given back in {trim:.1?}: {:.1} MiB ({:.1} logical)",
            mib(full),
            mib(logical),
            slices.get(slices.len() / 2).copied().unwrap_or_default(),
            slices.last().copied().unwrap_or_default(),
            mib(swept),
            mib(resident()),
            mib(self.store.bytes_total()),
        );
        let all = RangeRequest::all(KeyRange::From(vec![0]));
        assert_eq!(
            self.store.range(&all).map(|outcome| outcome.count),
            Ok(i64::try_from(KEYS).expect("small"))
        );
    }

    fn put(&mut self) {
        let key = self.random() % KEYS;
        let key = format!("/registry/thing/{key:08}").into();
        self.apply(Command::Put(Put { key, value: vec![1; VALUE_BYTES], ..Put::default() }));
    }

    /// As the driver applies: what the log holds is decoded first.
    fn apply(&mut self, command: Command) {
        self.index += 1;
        let payload: Arc<[u8]> = encode(&self.stamped(command)).into();
        let Stamped { time, command, .. } = decode(&payload).expect("it was just encoded");
        self.log.push_back(payload);
        if self.log.len() > LOG_ENTRIES {
            self.log.pop_front();
        }
        self.applied.push_back(self.store.apply(Index(self.index), time, &command));
        if self.applied.len() > APPLIED_KEPT {
            self.applied.pop_front();
        }
    }

    fn stamped(&self, command: Command) -> Stamped {
        let id = ProposalId { node: NodeId(1), incarnation: 1, number: self.index };
        Stamped { id, time: ClusterTime(self.index), command }
    }

    /// Xorshift: the same keys in every run.
    fn random(&mut self) -> u64 {
        let mut state = self.random.max(1);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random = state;
        state
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

fn mib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1_024.0
}
