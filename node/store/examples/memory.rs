//! What a revision costs, and how long the longest stop of the driver is at 256 MiB of data.
//!
//! `cargo run --release --example memory -p quorate-store`

use quorate_store::{Command, ImageLoader, KeyRange, Put, RangeRequest, Store};
use quorate_types::{ClusterTime, Index, Revision, limits};
use std::time::{Duration, Instant};

/// How long something done often took. On a machine with other work the longest is mostly theirs: the
/// thousandth longest tells more.
#[derive(Default)]
struct Clock {
    took: Vec<Duration>,
}

impl Clock {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = work();
        self.took.push(start.elapsed());
        answer
    }

    fn print(&mut self, what: &str) {
        self.took.sort_unstable();
        let count = self.took.len();
        let at =
            |share: usize| self.took.get((count * share / 1_000).min(count - 1)).copied().unwrap_or_default();
        let (median, rare, longest) = (at(500), at(999), at(1_000));
        println!(
            "  {what:<28} {count:>8} times: median {median:>9.1?}, p99.9 {rare:>9.1?}, longest {longest:>9.1?}"
        );
    }
}

fn main() {
    per_revision();
    for (value_bytes, revisions, keys) in [(4_096, 65_536, 10_000), (256, 1_048_576, 200_000)] {
        stops(value_bytes, revisions, keys);
    }
}

fn put(store: &mut Store, index: u64, key: u64, value_bytes: usize) {
    let put = Put {
        key: format!("/registry/thing/{key:08}").into(),
        value: vec![1; value_bytes],
        ..Put::default()
    };
    store.apply(Index(index), ClusterTime(index), &Command::Put(put));
}

/// Revisions of each store that is weighed.
const REVISIONS: u64 = 50_000;

fn per_revision() {
    println!("resident bytes of each revision beside its value, over 200 keys:");
    // Kept until the end: memory given back would be taken again unseen.
    let mut stores = Vec::new();
    for value_bytes in [0_usize, 100, 256, 1_000, 4_096] {
        let before = resident();
        let mut store = Store::new();
        let revisions = REVISIONS;
        for index in 1..=revisions {
            put(&mut store, index, index % 200, value_bytes);
        }
        let grown = resident().saturating_sub(before);
        let each = grown / revisions - u64::try_from(value_bytes).expect("small");
        println!(
            "  values of {value_bytes:>5} bytes: {each:>4} (logical bytes say {})",
            logical(&store, value_bytes)
        );
        stores.push(store);
    }
}

fn logical(store: &Store, value_bytes: usize) -> u64 {
    store.bytes_total() / REVISIONS - u64::try_from(value_bytes).expect("small")
}

fn stops(value_bytes: usize, revisions: u64, keys: u64) {
    println!("{revisions} revisions of {value_bytes} bytes over {keys} keys:");
    let mut store = Store::new();
    let mut apply = Clock::default();
    for index in 1..=revisions {
        apply.time(|| put(&mut store, index, index % keys, value_bytes));
    }
    apply.print("apply of a put");
    println!("  logical {} MiB, resident {} MiB", store.bytes_total() >> 20, resident() >> 20);

    let mut hash = Clock::default();
    let mut hasher = store.begin_hash(0).expect("now");
    while hash.time(|| store.hash_next(&mut hasher, limits::EXPORT_SLICE_BYTES)).is_none() {}
    drop(hasher);
    hash.print("slice of a checksum");

    let (mut begin, mut slice) = (Clock::default(), Clock::default());
    let mut export = begin.time(|| store.begin_export());
    let mut loader = ImageLoader::new();
    let (mut bytes, mut frames) = (Vec::new(), 0);
    loop {
        bytes.clear();
        let more = slice.time(|| store.export_next(&mut export, limits::EXPORT_SLICE_BYTES, &mut bytes));
        loader.push(&bytes).expect("what was just written");
        frames += bytes.len();
        if !more {
            break;
        }
    }
    store.end_export(export);
    begin.print("begin of an export");
    slice.print("slice of an export");
    println!("  image {} MiB", frames >> 20);
    drop(loader);

    let mut scan = Clock::default();
    scan.time(|| {
        store.range(&RangeRequest { count_only: true, ..RangeRequest::all(KeyRange::From(vec![0])) })
    })
    .expect("now");
    scan.print("count of all keys");

    let (mut compact, mut sweep) = (Clock::default(), Clock::default());
    let newest = Command::Compact(Revision(store.revision().0));
    compact.time(|| store.apply(Index(revisions + 1), ClusterTime(0), &newest));
    while sweep.time(|| store.sweep(limits::SWEEP_REVISION_COUNT)) {}
    compact.print("compaction");
    sweep.print("slice of its sweep");
    println!("  logical {} MiB after it", store.bytes_total() >> 20);
    let mut exported = Clock::default();
    let mut export = store.begin_export();
    while exported.time(|| {
        let mut bytes = Vec::with_capacity(limits::EXPORT_SLICE_BYTES);
        store.export_next(&mut export, limits::EXPORT_SLICE_BYTES, &mut bytes)
    }) {}
    exported.print("slice of an export of bases");
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}
