//! An image is installed over a store that is behind, while clients watch: each gets every event, or is told that
//! they are compacted (protocol.md rule 17).

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use quorate_store::{Command, ImageLoader, KeyRange, Put, Store};
use quorate_types::{ClusterTime, Index, Revision};
use quorate_watch::{CancelReason, Delivery, Hub, StreamId, WatchId, WatchRequest};

const STREAM: StreamId = StreamId(1);

fn put(store: &mut Store, hub: Option<&mut Hub>) {
    let index = Index(store.applied().0 + 1);
    let put = Put { key: format!("{index}").into_bytes(), value: vec![1; 10], ..Put::default() };
    let applied = store.apply(index, ClusterTime(index.0), &Command::Put(put));
    if let Some(hub) = hub {
        hub.publish(&applied.events.unwrap());
    }
}

fn watch(revision_start: i64) -> WatchRequest {
    WatchRequest {
        id: None,
        range: KeyRange::From(vec![0]),
        revision_start,
        prev_kv: false,
        progress_notify: false,
        no_put: false,
        no_delete: false,
        fragment: false,
    }
}

fn image_of(store: &Store) -> Vec<u8> {
    let (mut export, mut bytes) = (store.begin_export(), Vec::new());
    while store.export_next(&mut export, 1 << 16, &mut bytes) {}
    bytes
}

/// What each watcher was told: revisions in order, and how it ended.
fn told(hub: &mut Hub) -> Vec<(Vec<i64>, Option<CancelReason>)> {
    let mut told = vec![(Vec::new(), None); 4];
    for (name, delivery) in hub.take_deliveries().collect::<Vec<_>>() {
        assert_eq!(name, STREAM);
        match delivery {
            Delivery::Events { id: WatchId(id), events, bytes, .. } => {
                let revisions = events.iter().map(|event| event.revision().0);
                told[usize::try_from(id).unwrap()].0.extend(revisions);
                hub.credit(name, bytes);
            }
            Delivery::Canceled { id: WatchId(id), reason, .. } => {
                told[usize::try_from(id).unwrap()].1 = Some(reason);
            }
            Delivery::Created { .. } => {}
            Delivery::Progress { .. } => panic!("nobody asked"),
        }
    }
    told
}

/// The follower stands at revision 11, the leader at 41; the leader compacted at `compacted`.
fn install(compacted: Option<i64>) -> Vec<(Vec<i64>, Option<CancelReason>)> {
    let (mut leader, mut follower) = (Store::new(), Store::new());
    let mut hub = Hub::new(follower.revision());
    hub.open(STREAM);
    for _ in 0..5 {
        put(&mut leader, None);
        put(&mut follower, Some(&mut hub));
    }
    // Synced; at the beginning of history, without a turn yet; from within the image; from beyond it.
    for revision_start in [0, 2, 30, 50] {
        hub.create(STREAM, watch(revision_start), &follower);
    }
    for _ in 0..5 {
        put(&mut leader, None);
        put(&mut follower, Some(&mut hub));
    }
    for _ in 0..30 {
        put(&mut leader, None);
    }
    if let Some(revision) = compacted {
        let index = Index(leader.applied().0 + 1);
        leader.apply(index, ClusterTime(99), &Command::Compact(Revision(revision))).outcome.unwrap();
        while leader.sweep(7) {}
    }
    // It is loaded on another thread, beside the store that lives on, and swapped in at once; the old one goes to
    // a thread too, for letting go of many keys takes long.
    let bytes = image_of(&leader);
    let loading = std::thread::spawn(move || {
        let mut loader = ImageLoader::new();
        bytes.chunks(1_000).for_each(|piece| loader.push(piece).unwrap());
        loader.finish().unwrap()
    });
    let old = core::mem::replace(&mut follower, loading.join().unwrap());
    hub.restart(&follower);
    std::thread::spawn(move || drop(old)).join().unwrap();
    assert_eq!((follower.applied(), follower.digest()), (leader.applied(), leader.digest()));
    while hub.catch_up(&follower, 3) {}
    // Life goes on, up to the start that was to come.
    for _ in 0..12 {
        put(&mut follower, Some(&mut hub));
    }
    while hub.catch_up(&follower, 3) {}
    assert_eq!(hub.watcher_counts().1, 0, "nobody lags for ever");
    told(&mut hub)
}

fn all(revisions: core::ops::RangeInclusive<i64>) -> (Vec<i64>, Option<CancelReason>) {
    (revisions.collect(), None)
}

#[test]
fn every_watcher_gets_every_event() {
    let told = install(None);
    assert_eq!(told, [all(7..=53), all(2..=53), all(30..=53), all(50..=53)]);
}

#[test]
fn who_needs_what_is_compacted_is_told_so() {
    // The synced one was told up to 11 and needs 12: just still there. The one at the beginning is not served.
    let (synced, lost) =
        (all(7..=53), |told: &[i64]| (told.to_vec(), Some(CancelReason::Compacted(Revision(12)))));
    assert_eq!(install(Some(12)), [synced, lost(&[]), all(30..=53), all(50..=53)]);
    let lost = |told: Vec<i64>| (told, Some(CancelReason::Compacted(Revision(31))));
    assert_eq!(install(Some(31)), [lost((7..=11).collect()), lost(vec![]), lost(vec![]), all(50..=53)]);
}
