//! Values of history lie in chunks: what compaction leaves must not hold one.

use bytes::Bytes;
use quorate_store::{Command, EventsSince, ImageLoader, KeyRange, Outcome, Put, RangeRequest, Store};
use quorate_types::{ClusterTime, Index, Revision};

/// More than two chunks of values.
const REVISIONS: i64 = 3_000;

const VALUE_BYTES: usize = 256;

fn apply(store: &mut Store, command: Command) -> Outcome {
    let index = Index(store.applied().0 + 1);
    store.apply(index, ClusterTime(0), &command).outcome.expect("it is allowed")
}

/// Of the last digit that many bytes, under one of a hundred keys: 97 of them are written again and again.
fn put(store: &mut Store, count: i64) {
    let number = if count < 100 { count } else { count % 97 };
    let digit = u8::try_from(count % 10).expect("a digit");
    apply(store, Command::Put(Put { key: key(number), value: vec![digit; VALUE_BYTES], ..Put::default() }));
}

fn key(number: i64) -> Vec<u8> {
    format!("{number:02}").into()
}

fn compact(store: &mut Store, revision: i64, slice: usize) {
    apply(store, Command::Compact(Revision(revision)));
    while store.sweep(slice) {}
}

fn values(store: &Store) -> Vec<Bytes> {
    let outcome = store.range(&RangeRequest::all(KeyRange::From(vec![0]))).expect("now");
    outcome.kvs.into_iter().map(|kv| kv.value.into()).collect()
}

/// A piece of the oldest chunk there is.
fn oldest(store: &Store, revision: i64) -> Bytes {
    let range = KeyRange::From(vec![0]);
    let request =
        EventsSince { revision, range: &range, event_count_max: 1, bytes_max: 1, visit_count_max: 1 };
    let page = store.events_since(&request).expect("it is not compacted");
    page.events.into_iter().next().expect("something happened").kv.value.into()
}

fn filled() -> Store {
    let mut store = Store::new();
    for count in 0..REVISIONS {
        put(&mut store, count);
    }
    store
}

#[test]
fn a_chunk_goes_with_its_history_and_the_values_stay() {
    for behind in [0, 1, 50, 150] {
        for slice in [1, 7, 5_000] {
            let mut store = filled();
            let before = values(&store);
            let piece = oldest(&store, 0);
            assert!(!piece.is_unique(), "the chunk is shared by what lies in it");
            let revision = store.revision().0 - behind;
            compact(&mut store, revision, slice);
            assert_eq!(values(&store), before);
            drop(before);
            assert!(piece.is_unique(), "{behind} behind, {slice} at once: something of the chunk is held");
            assert_eq!(piece, vec![0; VALUE_BYTES], "who holds a piece still reads it");
        }
    }
}

#[test]
fn a_value_put_again_holds_the_newest_chunk_only() {
    let mut store = filled();
    // Written once, at the beginning.
    let again = Put { key: key(98), ignore_value: true, ..Put::default() };
    apply(&mut store, Command::Put(again));
    let piece = oldest(&store, 0);
    // It stays a record of history: the revision of compaction is its own.
    let revision = store.revision().0;
    compact(&mut store, revision, 100);
    assert!(piece.is_unique(), "the new record holds the old chunk");
    let read = store.range(&RangeRequest::all(KeyRange::One(key(98)))).expect("now");
    assert_eq!(*read.kvs[0].value, [8; VALUE_BYTES]);
}

#[test]
fn a_value_that_only_the_newest_revision_replaces_outlives_its_chunk() {
    let mut store = filled();
    let before = values(&store);
    let piece = oldest(&store, 0);
    // Written at the beginning and now: compaction one behind keeps both states.
    apply(&mut store, Command::Put(Put { key: key(98), value: b"new".to_vec(), ..Put::default() }));
    let revision = store.revision().0 - 1;
    compact(&mut store, revision, 100);
    let then = RangeRequest { revision, ..RangeRequest::all(KeyRange::From(vec![0])) };
    let outcome = store.range(&then).expect("it is the compacted revision");
    assert!(outcome.kvs.iter().map(|kv| &*kv.value).eq(before.iter().map(|value| &**value)));
    drop(before);
    assert!(piece.is_unique(), "the state before the newest revision holds the chunk");
}

#[test]
fn history_from_an_image_lies_in_chunks_too() {
    let mut store = filled();
    compact(&mut store, 1_000, 100);
    let mut export = store.begin_export();
    let mut image = Vec::new();
    while store.export_next(&mut export, usize::MAX, &mut image) {}
    store.end_export(export);
    let mut loader = ImageLoader::new();
    loader.push(&image).expect("what was just written");
    let mut loaded = loader.finish().expect("it is whole");
    assert_eq!((loaded.digest(), loaded.bytes_total()), (store.digest(), store.bytes_total()));

    let piece = oldest(&loaded, 1_000);
    assert!(!piece.is_unique());
    let revision = loaded.revision().0;
    compact(&mut loaded, revision, 100);
    compact(&mut store, revision, 100);
    assert!(piece.is_unique());
    assert_eq!((loaded.digest(), loaded.bytes_total()), (store.digest(), store.bytes_total()));
}

#[test]
fn large_and_empty_values_are_kept_as_they_are() {
    let mut store = Store::new();
    let sizes = [0, 1, 16_000, 17_000, 300_000];
    for round in 0..2 {
        for (number, size) in (0..).zip(sizes) {
            let value = vec![1 + round; size];
            apply(&mut store, Command::Put(Put { key: key(number), value, ..Put::default() }));
        }
    }
    let check = |store: &Store| {
        for (value, size) in values(store).iter().zip(sizes) {
            assert_eq!(*value, vec![2; size]);
        }
    };
    check(&store);
    let revision = store.revision().0;
    compact(&mut store, revision, 2);
    check(&store);
}
