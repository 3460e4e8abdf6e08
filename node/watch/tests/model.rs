//! The hub under random clients: each watcher must see exactly the changes it asked for, in order, once, a
//! revision never cut in two, and no progress before its time.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use proptest::prelude::*;
use quorate_store::{
    Command, DeleteRange, Event, EventKind, ImageLoader, KeyRange, Put, Store, Txn, TxnOperation,
};
use quorate_types::{ClusterTime, Index, LeaseId, Revision, limits};
use quorate_watch::{CancelReason, Delivery, Hub, StreamId, WatchId, WatchRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const STREAMS: u64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Change(Command),
    /// Revisions that come by an image, never published; its node had compacted up to that many before its last.
    Install(Vec<Command>, Option<i64>),
    Create(u64, WatchRequest),
    Cancel(u64, i64),
    Progress(u64),
    /// Gives back that share (of 4) of what a stream was told.
    Credit(u64, usize),
    CatchUp(usize),
    Notify,
    Compact(i64),
    Reopen(u64),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![&b"a"[..], b"b", b"ba", b"c"]).prop_map(<[u8]>::to_vec)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        2 => key().prop_map(KeyRange::One),
        1 => key().prop_map(KeyRange::From),
        2 => (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
    ]
}

fn change() -> impl Strategy<Value = Command> {
    let put = || {
        (key(), prop::sample::select(vec![1_usize, 2, 400_000])).prop_map(|(key, length)| Put {
            key,
            value: vec![b'v'; length],
            ..Put::default()
        })
    };
    let delete = || range().prop_map(|range| DeleteRange { range, prev_kv: false });
    let operation =
        prop_oneof![put().prop_map(TxnOperation::Put), delete().prop_map(TxnOperation::DeleteRange)];
    prop_oneof![
        4 => put().prop_map(Command::Put),
        1 => delete().prop_map(Command::DeleteRange),
        2 => prop::collection::vec(operation, 1..4)
            .prop_map(|success| Command::Txn(Txn { success, ..Txn::default() })),
    ]
}

fn request() -> impl Strategy<Value = WatchRequest> {
    let id = prop_oneof![8 => Just(None), 1 => (-1_i64..4).prop_map(|id| Some(WatchId(id)))];
    let revision = prop_oneof![3 => Just(0_i64), 6 => 1_i64..40, 1 => Just(-1_i64)];
    let rarely = || prop::bool::weighted(0.2);
    (id, range(), revision, any::<bool>(), any::<bool>(), rarely(), rarely()).prop_map(
        |(id, range, revision_start, prev_kv, progress_notify, no_put, no_delete)| WatchRequest {
            id,
            range,
            revision_start,
            prev_kv,
            progress_notify,
            no_put,
            no_delete,
            fragment: false,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0_u64..STREAMS;
    prop_oneof![
        20 => change().prop_map(Step::Change),
        1 => (prop::collection::vec(change(), 0..4), prop::option::of(0_i64..6))
            .prop_map(|(commands, kept)| Step::Install(commands, kept)),
        8 => (stream(), request()).prop_map(|(stream, request)| Step::Create(stream, request)),
        2 => (stream(), -1_i64..6).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        4 => stream().prop_map(Step::Progress),
        5 => (stream(), 1_usize..5).prop_map(|(stream, share)| Step::Credit(stream, share)),
        6 => (1_usize..6).prop_map(Step::CatchUp),
        1 => Just(Step::Notify),
        2 => (1_i64..40).prop_map(Step::Compact),
        1 => stream().prop_map(Step::Reopen),
    ]
}

/// One watcher as its client knows it.
#[derive(Debug)]
struct Client {
    request: WatchRequest,
    /// Everything wanted below this revision was told.
    next: i64,
}

impl Client {
    fn wants(&self, event: &Event) -> bool {
        let is_filtered = match event.kind {
            EventKind::Put => self.request.no_put,
            EventKind::Delete => self.request.no_delete,
        };
        !is_filtered && self.request.range.contains(&event.kv.key)
    }
}

/// What happened, to see that the generator reaches it.
#[derive(Debug, Default)]
struct Reached {
    fallen: usize,
    caught_up: usize,
    compacted: usize,
    progress_at_once: usize,
    progress_later: usize,
    progress_of_one: usize,
    fallen_by_image: usize,
    short_of_image: usize,
}

struct Run {
    store: Store,
    hub: Hub,
    index: u64,
    /// All changes of all revisions.
    log: BTreeMap<i64, Arc<Vec<Event>>>,
    /// Newest revision published or installed.
    revision: i64,
    names: Vec<StreamId>,
    /// Requests not answered yet, in order.
    asked: BTreeMap<StreamId, Vec<WatchRequest>>,
    clients: BTreeMap<(StreamId, WatchId), Client>,
    bytes_out: BTreeMap<StreamId, usize>,
    progress_wanted: BTreeSet<StreamId>,
    reached: Reached,
}

impl Run {
    fn new() -> Run {
        let store = Store::new();
        let mut hub = Hub::new(store.revision());
        let names: Vec<StreamId> = (0..STREAMS).map(StreamId).collect();
        names.iter().for_each(|name| hub.open(*name));
        Run {
            store,
            hub,
            index: 0,
            log: BTreeMap::new(),
            revision: 1,
            names,
            asked: BTreeMap::new(),
            clients: BTreeMap::new(),
            bytes_out: BTreeMap::new(),
            progress_wanted: BTreeSet::new(),
            reached: Reached::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        let lagging_before = self.hub.watcher_counts().1;
        match step {
            Step::Change(command) => {
                if let Some(events) = self.apply(command) {
                    self.hub.publish(&events);
                    self.reached.fallen += self.hub.watcher_counts().1 - lagging_before;
                }
                self.revision = self.store.revision().0;
            }
            Step::Install(commands, kept) => self.install(commands, *kept),
            Step::Create(stream, request) => {
                let name = self.name(*stream);
                self.asked.entry(name).or_default().push(request.clone());
                self.hub.create(name, request.clone(), &self.store);
            }
            Step::Cancel(stream, id) => self.hub.cancel(self.name(*stream), WatchId(*id)),
            Step::Progress(stream) => self.progress(self.name(*stream)),
            Step::Credit(stream, share) => {
                let name = self.name(*stream);
                let bytes = self.bytes_out.get(&name).copied().unwrap_or(0) * share / 4;
                *self.bytes_out.entry(name).or_default() -= bytes;
                self.hub.credit(name, bytes);
            }
            Step::CatchUp(event_count_max) => {
                self.hub.catch_up(&self.store, *event_count_max);
                self.reached.caught_up += lagging_before.saturating_sub(self.hub.watcher_counts().1);
            }
            Step::Notify => self.hub.notify_progress(),
            Step::Compact(revision) => {
                self.apply(&Command::Compact(Revision(*revision)));
                self.store.sweep(3);
            }
            Step::Reopen(stream) => self.reopen(*stream),
        }
        self.receive();
        assert_eq!(
            self.hub.watcher_counts().0,
            self.clients.len(),
            "the hub knows the watchers its clients know"
        );
    }

    fn name(&self, stream: u64) -> StreamId {
        self.names[usize::try_from(stream).unwrap()]
    }

    fn apply(&mut self, command: &Command) -> Option<Arc<Vec<Event>>> {
        self.index += 1;
        let applied = self.store.apply(Index(self.index), ClusterTime(0), command);
        let events = applied.events?;
        self.log.insert(applied.revision.0, Arc::clone(&events));
        Some(events)
    }

    fn install(&mut self, commands: &[Command], kept: Option<i64>) {
        let synced_before = self.hub.watcher_counts().0 - self.hub.watcher_counts().1;
        commands.iter().for_each(|command| drop(self.apply(command)));
        if let Some(kept) = kept {
            self.apply(&Command::Compact(Revision(self.store.revision().0 - kept)));
            while self.store.sweep(10) {}
        }
        let (mut export, mut bytes) = (self.store.begin_export(), Vec::new());
        while self.store.export_next(&mut export, 1 << 20, &mut bytes) {}
        let mut loader = ImageLoader::new();
        loader.push(&bytes).unwrap();
        self.store = loader.finish().unwrap();
        self.revision = self.store.revision().0;
        self.hub.restart(&self.store);
        let (all, lagging) = self.hub.watcher_counts();
        self.reached.fallen_by_image += synced_before - (all - lagging);
        let compacted = self.store.compacted().0;
        let is_short = |client: &&Client| client.next < compacted;
        self.reached.short_of_image += self.clients.values().filter(is_short).count();
    }

    fn progress(&mut self, name: StreamId) {
        if self.clients.keys().any(|(stream, _)| *stream == name) {
            self.progress_wanted.insert(name);
        }
        self.hub.progress(name);
        let answered = self.receive();
        self.reached.progress_at_once += answered;
    }

    fn reopen(&mut self, stream: u64) {
        let old = self.name(stream);
        let new = StreamId(old.0 + STREAMS);
        self.hub.close(old);
        self.hub.open(new);
        self.names[usize::try_from(stream).unwrap()] = new;
        self.clients.retain(|(name, _), _| *name != old);
        self.bytes_out.remove(&old);
        self.progress_wanted.remove(&old);
    }

    /// Answers how many progress requests were answered.
    fn receive(&mut self) -> usize {
        let before = self.progress_wanted.len();
        for (name, delivery) in self.hub.take_deliveries() {
            assert!(self.names.contains(&name), "a stream that is gone is told nothing");
            self.deliver(name, delivery);
        }
        // A stream that lost its last watcher has no answer coming.
        let clients = &self.clients;
        let mut abandoned = 0;
        self.progress_wanted.retain(|name| {
            let is_alone = !clients.keys().any(|(stream, _)| stream == name);
            abandoned += usize::from(is_alone);
            !is_alone
        });
        before - self.progress_wanted.len() - abandoned
    }

    fn deliver(&mut self, name: StreamId, delivery: Delivery) {
        match delivery {
            Delivery::Created { id, revision } => {
                let request = self.asked.get_mut(&name).unwrap().remove(0);
                assert_eq!(revision.0, self.revision);
                let next = if request.revision_start == 0 { revision.0 + 1 } else { request.revision_start };
                let before = self.clients.insert((name, id), Client { request, next });
                assert!(before.is_none() && id != WatchId::ALL);
            }
            Delivery::Canceled { id: WatchId::ALL, reason, .. } => {
                let request = self.asked.get_mut(&name).unwrap().remove(0);
                self.refused(name, &request, reason);
            }
            Delivery::Canceled { id, reason, .. } => {
                let client = self.clients.remove(&(name, id)).expect("only who was created ends");
                if let CancelReason::Compacted(compacted) = reason {
                    assert_eq!(compacted, self.store.compacted());
                    assert!(client.next < compacted.0, "nothing it wanted was lost");
                    self.reached.compacted += 1;
                }
            }
            Delivery::Events { id, revision, events, bytes, .. } => {
                let bytes_out = self.bytes_out.entry(name).or_default();
                assert!(*bytes_out < limits::WATCH_STREAM_BYTES_MAX, "told without credit");
                *bytes_out += bytes;
                assert!(bytes >= events.iter().map(|event| event.kv.bytes()).sum());
                self.told(name, id, revision.0, &events);
            }
            Delivery::Progress { id: WatchId::ALL, revision } => {
                assert!(self.progress_wanted.remove(&name), "progress nobody asked for");
                let ids: Vec<WatchId> =
                    self.clients.keys().filter(|key| key.0 == name).map(|key| key.1).collect();
                for id in ids {
                    assert!(!self.is_ahead(name, id), "progress while a start is to come");
                    self.progressed(name, id, revision.0);
                }
                self.reached.progress_later += 1;
            }
            Delivery::Progress { id, revision } => {
                assert!(self.clients[&(name, id)].request.progress_notify);
                assert!(!self.is_ahead(name, id), "progress before its start");
                self.progressed(name, id, revision.0);
                self.reached.progress_of_one += 1;
            }
        }
    }

    fn refused(&self, name: StreamId, request: &WatchRequest, reason: CancelReason) {
        match reason {
            CancelReason::Compacted(revision) => {
                assert!(request.revision_start < 0 && revision == Revision(0));
            }
            CancelReason::DuplicateId => {
                let id = request.id.unwrap();
                assert!(id == WatchId::ALL || self.clients.contains_key(&(name, id)));
            }
            CancelReason::EmptyRange => {
                let KeyRange::Span { start, end } = &request.range else {
                    panic!("only a span can be empty")
                };
                assert!(start >= end);
            }
            CancelReason::Requested | CancelReason::TooMany => panic!("{reason:?} is no reason here"),
        }
    }

    fn told(&mut self, name: StreamId, id: WatchId, revision: i64, events: &[Event]) {
        let compacted = self.store.compacted().0;
        let client = self.clients.get_mut(&(name, id)).expect("only who was created is told");
        let last = events.last().unwrap().revision().0;
        assert!(revision >= last && last >= client.next);
        let log = &self.log;
        let expected: Vec<&Event> = log
            .range(client.next..=last)
            .flat_map(|(_, events)| events.iter())
            .filter(|event| client.wants(event))
            .collect();
        assert_eq!(events.len(), expected.len(), "whole revisions, nothing left out, nothing twice");
        for (event, expected) in events.iter().zip(expected) {
            assert_eq!((event.kind, &event.kv), (expected.kind, &expected.kv));
            let prev_kv = if client.request.prev_kv { expected.prev_kv.as_ref() } else { None };
            let is_lost = event.prev_kv.is_none() && event.revision().0 - 1 < compacted;
            assert!(event.prev_kv.as_ref() == prev_kv || is_lost);
        }
        client.next = last + 1;
    }

    /// Whether its client named a start that is still to come.
    fn is_ahead(&self, name: StreamId, id: WatchId) -> bool {
        self.clients[&(name, id)].request.revision_start > self.revision
    }

    fn progressed(&mut self, name: StreamId, id: WatchId, revision: i64) {
        assert_eq!(revision, self.revision);
        let client = self.clients.get(&(name, id)).unwrap();
        let missed = (client.next <= revision)
            .then(|| self.log.range(client.next..=revision).flat_map(|(_, events)| events.iter()))
            .into_iter()
            .flatten()
            .find(|event| client.wants(event));
        assert_eq!(missed, None, "progress before an event");
    }

    /// Every client reads on: everybody must get everything.
    fn settle(&mut self) {
        loop {
            for name in self.names.clone() {
                let bytes = self.bytes_out.insert(name, 0).unwrap_or(0);
                self.hub.credit(name, bytes);
            }
            let more = self.hub.catch_up(&self.store, 3);
            self.receive();
            if !more && self.bytes_out.values().all(|bytes| *bytes == 0) {
                break;
            }
        }
        assert_eq!(self.hub.watcher_counts(), (self.clients.len(), 0));
        for name in &self.progress_wanted {
            let mut ids = self.clients.keys().filter(|key| key.0 == *name).map(|key| key.1);
            assert!(
                ids.any(|id| self.is_ahead(*name, id)),
                "every request for progress is answered in the end, but for a start that is to come"
            );
        }
        for (name, id) in self.clients.keys().copied().collect::<Vec<_>>() {
            self.progressed(name, id, self.revision);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_what_it_asked_for(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.settle();
    }
}

#[test]
fn the_generator_meets_its_cases() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut all = Reached::default();
    for _ in 0..60 {
        let steps = prop::collection::vec(step(), 110..120).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new();
        steps.iter().for_each(|step| run.step(step));
        all.fallen += run.reached.fallen;
        all.caught_up += run.reached.caught_up;
        all.compacted += run.reached.compacted;
        all.progress_at_once += run.reached.progress_at_once;
        all.progress_later += run.reached.progress_later - run.reached.progress_at_once;
        all.progress_of_one += run.reached.progress_of_one;
        all.fallen_by_image += run.reached.fallen_by_image;
        all.short_of_image += run.reached.short_of_image;
    }
    let least = [all.fallen, all.caught_up, all.compacted, all.progress_at_once, all.progress_later];
    let by_image = [all.fallen_by_image, all.short_of_image];
    assert!(by_image.iter().all(|count| *count >= 10), "{all:?}");
    assert!(least.iter().all(|count| *count >= 10) && all.progress_of_one > 10, "{all:?}");
}

fn watch(range: KeyRange) -> WatchRequest {
    WatchRequest {
        id: None,
        range,
        revision_start: 0,
        prev_kv: false,
        progress_notify: false,
        no_put: false,
        no_delete: false,
        fragment: false,
    }
}

fn put(run: &mut Run, key: &str, length: usize) -> Arc<Vec<Event>> {
    let put = Put { key: key.into(), value: vec![0; length], lease: LeaseId::NONE, ..Put::default() };
    let events = run.apply(&Command::Put(put)).unwrap();
    run.hub.publish(&events);
    events
}

fn all() -> KeyRange {
    KeyRange::From(vec![0])
}

#[test]
fn ids_count_on_past_those_in_use_and_are_not_given_twice() {
    let mut run = Run::new();
    let own = |id| WatchRequest { id: Some(WatchId(id)), ..watch(all()) };
    let name = StreamId(0);
    for request in [watch(all()), own(1), watch(all()), own(1)] {
        run.hub.create(name, request, &run.store);
    }
    run.hub.cancel(name, WatchId(0));
    run.hub.cancel(name, WatchId(0));
    run.hub.create(name, own(0), &run.store);
    let told: Vec<_> = run.hub.take_deliveries().map(|(_, delivery)| delivery).collect();
    let revision = Revision(1);
    let created = |id| Delivery::Created { id: WatchId(id), revision };
    let canceled = |id, reason| Delivery::Canceled { id: WatchId(id), revision, reason };
    let expected = [
        created(0),
        created(1),
        created(2),
        canceled(-1, CancelReason::DuplicateId),
        canceled(0, CancelReason::Requested),
        created(3),
    ];
    assert_eq!(told, expected);
}

#[test]
fn watchers_of_the_same_share_what_they_are_told() {
    let mut run = Run::new();
    for _ in 0..1_000 {
        run.hub.create(StreamId(0), watch(all()), &run.store);
    }
    put(&mut run, "a", 10);
    drop(run.hub.take_deliveries());
    let events = put(&mut run, "a", 10);
    let shared: Vec<Arc<Vec<Event>>> = run
        .hub
        .take_deliveries()
        .map(|(_, delivery)| match delivery {
            Delivery::Events { events, .. } => events,
            Delivery::Created { .. } | Delivery::Canceled { .. } | Delivery::Progress { .. } => {
                panic!("{delivery:?}")
            }
        })
        .collect();
    assert_eq!(shared.len(), 1_000);
    assert!(shared.iter().all(|events| Arc::ptr_eq(events, &shared[0])));
    assert!(events[0].prev_kv.is_some() && shared[0][0].prev_kv.is_none(), "stripped once for all");
}

#[test]
fn a_stream_that_takes_nothing_holds_a_bounded_share() {
    let mut run = Run::new();
    run.hub.create(StreamId(0), watch(all()), &run.store);
    run.hub.create(StreamId(1), watch(all()), &run.store);
    let length = 100_000;
    let mut told = [0_usize; 2];
    for _ in 0..100 {
        put(&mut run, "a", length);
        for (name, delivery) in run.hub.take_deliveries() {
            if let Delivery::Events { bytes, .. } = delivery {
                told[usize::try_from(name.0).unwrap()] += bytes;
                if name == StreamId(1) {
                    run.hub.credit(name, bytes);
                }
            }
        }
        assert!(!run.hub.catch_up(&run.store, 100), "who waits for credit asks for no turn");
    }
    assert!(told[0] < limits::WATCH_STREAM_BYTES_MAX + 2 * length);
    assert!(told[1] >= 100 * length);
}

#[test]
fn streams_and_ranges_have_their_bounds() {
    let mut run = Run::new();
    let name = StreamId(0);
    let span = |start: &str, end: &str| KeyRange::Span { start: start.into(), end: end.into() };
    let refused = |run: &mut Run| match run.hub.take_deliveries().last() {
        Some((_, Delivery::Canceled { id: WatchId::ALL, reason, .. })) => Some(reason),
        Some(_) | None => None,
    };
    run.hub.create(name, watch(span("b", "a")), &run.store);
    assert_eq!(refused(&mut run), Some(CancelReason::EmptyRange));
    run.hub.create(name, watch(span("a", "a")), &run.store);
    assert_eq!(refused(&mut run), Some(CancelReason::EmptyRange));
    for _ in 0..limits::WATCH_STREAM_WATCHER_COUNT_MAX {
        run.hub.create(name, watch(all()), &run.store);
    }
    assert_eq!(refused(&mut run), None);
    run.hub.create(name, watch(all()), &run.store);
    assert_eq!(refused(&mut run), Some(CancelReason::TooMany));
    run.hub.close(name);
    assert_eq!(run.hub.watcher_counts(), (0, 0));
    put(&mut run, "a", 1);
    assert!(!run.hub.has_deliveries());
}

#[test]
fn a_start_below_the_compacted_revision_is_created_and_canceled() {
    let mut run = Run::new();
    for _ in 0..4 {
        put(&mut run, "a", 1);
    }
    run.apply(&Command::Compact(Revision(4)));
    for (start, is_refused) in [(3, true), (4, false), (5, false), (9, false)] {
        let request = WatchRequest { revision_start: start, ..watch(all()) };
        run.hub.create(StreamId(0), request, &run.store);
        let told: Vec<_> = run.hub.take_deliveries().map(|(_, delivery)| delivery).collect();
        assert!(matches!(told[0], Delivery::Created { .. }));
        let canceled = matches!(
            told.get(1),
            Some(Delivery::Canceled { reason: CancelReason::Compacted(Revision(4)), .. })
        );
        assert_eq!(canceled, is_refused, "from {start}");
    }
}
