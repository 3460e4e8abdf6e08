//! The store against the plainest one there is, over thousands of random histories, with compaction, a sweep
//! in arbitrary slices, and images taken and loaded in between.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

mod generate;
mod oracle;

use generate::{Step, step};
use oracle::Oracle;
use proptest::prelude::*;
use quorate_store::{
    Command, EventsSince, Export, ImageLoader, KeyHash, KeyRange, RangeRequest, Store, StoreError,
};
use quorate_types::{ClusterTime, Index, LeaseId};
use std::collections::BTreeMap;

/// The store, one that never sweeps, and the oracle, all told the same.
struct Run {
    store: Store,
    lazy: Store,
    oracle: Oracle,
    index: u64,
    /// An export under way, its bytes so far, and what the oracle was when it began.
    export: Option<(Export, Vec<u8>, Oracle, u32)>,
    exports_finished: usize,
    /// Hashes taken when a revision was the newest, by compacted revision and revision.
    hashes: BTreeMap<(i64, i64), KeyHash>,
    hashes_again: usize,
}

impl Run {
    fn new() -> Run {
        let (store, lazy) = (Store::new(), Store::new());
        let mut run = Run {
            store,
            lazy,
            oracle: Oracle::new(),
            index: 0,
            export: None,
            exports_finished: 0,
            hashes: BTreeMap::new(),
            hashes_again: 0,
        };
        for id in (1..3).map(LeaseId) {
            run.apply(&Command::LeaseGrant { id, ttl_seconds: 60 });
        }
        run
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(command) => self.apply(command),
            Step::Read(request) => {
                let expected = self.oracle.range(request, self.oracle.revision);
                assert_eq!(self.store.range(request), expected);
            }
            Step::Sweep(count_max) => {
                self.store.sweep(*count_max);
            }
            Step::ExportBegin => {
                if self.export.is_none() {
                    let digest = self.store.digest();
                    self.export = Some((self.store.begin_export(), Vec::new(), self.oracle.clone(), digest));
                }
            }
            Step::ExportNext(bytes_max) => self.export_next(*bytes_max),
            Step::Events { revision, range, event_count_max, visit_count_max } => {
                self.events(*revision, range, *event_count_max, *visit_count_max);
            }
            Step::Hash(revision) => self.hash(*revision),
        }
    }

    fn apply(&mut self, command: &Command) {
        self.index += 1;
        let time = ClusterTime(self.index * 7 % 50);
        let expected = self.oracle.apply(self.index, command);
        let revision_before = self.store.revision().0;
        let applied = self.store.apply(Index(self.index), time, command);
        let lazily = self.lazy.apply(Index(self.index), time, command);
        assert_eq!(applied, lazily, "what apply does depends on the sweep");
        assert_eq!(applied.outcome, expected);
        assert_eq!(applied.revision.0, self.oracle.revision);
        let changed = self.oracle.revision > revision_before;
        let events = if changed { self.oracle.events_of(self.oracle.revision, &all()) } else { Vec::new() };
        assert_eq!(applied.events.map_or(Vec::new(), |events| events.to_vec()), events);
        let place = (self.oracle.compacted, self.oracle.revision);
        self.hashes.entry(place).or_insert_with(|| self.store.hash_kv(0).unwrap());
        assert_eq!(self.store.digest(), self.lazy.digest(), "the digest depends on the sweep");
    }

    fn events(&self, revision: i64, range: &KeyRange, event_count_max: usize, visit_count_max: usize) {
        let bytes_max = usize::MAX;
        let request = EventsSince { revision, range, event_count_max, bytes_max, visit_count_max };
        let page = self.store.events_since(&request);
        if revision < self.oracle.compacted {
            assert_eq!(page, Err(StoreError::Compacted));
            return;
        }
        let page = page.unwrap();
        assert!(page.revision_next > revision || revision > self.oracle.revision, "a page gets on");
        let last = page.revision_next.min(self.oracle.revision + 1);
        let expected: Vec<_> =
            (revision..last).flat_map(|revision| self.oracle.events_of(revision, range)).collect();
        assert_eq!(page.events, expected);
    }

    fn hash(&mut self, revision: i64) {
        let hash = self.store.hash_kv(revision);
        assert_eq!(hash, self.lazy.hash_kv(revision), "a hash depends on the sweep");
        if revision > self.oracle.revision {
            assert_eq!(hash, Err(StoreError::FutureRevision));
        } else if revision > 0 && revision < self.oracle.compacted {
            assert_eq!(hash, Err(StoreError::Compacted));
        } else {
            let mut hasher = self.store.begin_hash(revision).unwrap();
            let sliced = loop {
                if let Some(hash) = self.store.hash_next(&mut hasher, 1) {
                    break hash;
                }
            };
            assert_eq!(hash, Ok(sliced), "a hash depends on its slices");
            if let Some(then) = self.hashes.get(&(self.oracle.compacted, revision)) {
                assert_eq!(sliced, *then, "a hash depends on what came later");
                self.hashes_again += usize::from(revision < self.oracle.revision);
            }
        }
    }

    fn export_next(&mut self, bytes_max: usize) {
        let Some((mut export, mut bytes, oracle, digest)) = self.export.take() else { return };
        if self.store.export_next(&mut export, bytes_max, &mut bytes) {
            self.export = Some((export, bytes, oracle, digest));
            return;
        }
        assert_eq!(export.revision().0, oracle.revision);
        self.store.end_export(export);
        let mut loader = ImageLoader::new();
        for slice in bytes.chunks(bytes_max) {
            loader.push(slice).unwrap();
        }
        let loaded = loader.finish().unwrap();
        assert_eq!(loaded.digest(), digest);
        agree(&loaded, &oracle);
        assert_eq!(image_of(&loaded), bytes, "an image of what was loaded is the image");
        self.exports_finished += 1;
    }
}

fn all() -> KeyRange {
    KeyRange::From(vec![0])
}

fn image_of(store: &Store) -> Vec<u8> {
    let (mut export, mut bytes) = (store.begin_export(), Vec::new());
    while store.export_next(&mut export, 1, &mut bytes) {}
    bytes
}

/// Everything there is to ask, asked.
fn agree(store: &Store, oracle: &Oracle) {
    assert_eq!((store.revision().0, store.compacted().0), (oracle.revision, oracle.compacted));
    for revision in oracle.compacted.max(1)..=oracle.revision {
        let request = RangeRequest { revision, ..RangeRequest::all(all()) };
        assert_eq!(store.range(&request), oracle.range(&request, oracle.revision));
    }
    for id in (0..4).map(LeaseId) {
        let lease = store.lease(id, true);
        let found = lease.as_ref().map(|lease| (lease.ttl_seconds, lease.granted));
        assert_eq!(found, oracle.leases.get(&id).copied());
        let keys: Vec<_> = lease.map_or(Vec::new(), |lease| lease.keys);
        if id.is_some() {
            assert_eq!(keys, oracle.lease_keys(id).into_iter().map(|kv| kv.key).collect::<Vec<_>>());
        }
    }
    assert_eq!(store.alarms(), oracle.alarms.iter().copied().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_plain_one(steps in prop::collection::vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        agree(&run.store, &run.oracle);
        agree(&run.lazy, &run.oracle);
        while run.export.is_some() {
            run.step(&Step::ExportNext(100));
        }
        while run.store.sweep(3) {}
        agree(&run.store, &run.oracle);
        let reloaded = reload(&image_of(&run.store));
        assert_eq!(reloaded.bytes_total(), run.store.bytes_total());
        assert_eq!(reloaded.digest(), run.lazy.digest());
        let live: u64 = run.oracle.alive(&all(), i64::MAX).iter().map(|kv| u64::try_from(kv.bytes()).unwrap()).sum();
        assert!(run.store.bytes_total() >= live);
    }
}

fn reload(bytes: &[u8]) -> Store {
    let mut loader = ImageLoader::new();
    loader.push(bytes).unwrap();
    loader.finish().unwrap()
}

/// The generator reaches what the property speaks of.
#[test]
fn the_generator_meets_its_cases() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut exports, mut compactions, mut swept, mut nested_changes) = (0, 0, 0, 0);
    let mut hashes_again = 0;
    for _ in 0..300 {
        let steps = prop::collection::vec(step(), 140..150).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new();
        for step in &steps {
            let bytes_before = run.store.bytes_total();
            let compacted_before = run.store.compacted();
            let revision_before = run.store.revision();
            run.step(step);
            compactions += usize::from(run.store.compacted() > compacted_before);
            swept += usize::from(run.store.bytes_total() < bytes_before && matches!(step, Step::Sweep(_)));
            let is_txn = matches!(step, Step::Apply(Command::Txn(_)));
            nested_changes += usize::from(is_txn && run.store.revision() > revision_before);
        }
        exports += run.exports_finished;
        hashes_again += run.hashes_again;
    }
    assert!(
        exports > 300 && compactions > 300 && swept > 300 && nested_changes > 800 && hashes_again > 50,
        "exports {exports}, compactions {compactions}, sweeps {swept}, transactions that change {nested_changes}, \
        hashes taken again {hashes_again}"
    );
}
