//! etcd's boundaries, one by one. "Seen": tried on etcd 3.5.16.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use quorate_store::{
    AlarmKind, Applied, Command, Compare, CompareOperator, CompareTarget, DeleteRange, EventKind,
    EventsSince, KeyRange, LeaseChange, Outcome, Put, RangeOutcome, RangeRequest, SortOrder, SortTarget,
    Store, StoreError, Txn, TxnOperation,
};
use quorate_types::{ClusterTime, Index, LeaseId, NodeId, Revision, limits};

/// A store and the number of the next entry.
struct Node {
    store: Store,
    index: u64,
}

impl Node {
    fn new() -> Node {
        Node { store: Store::new(), index: 0 }
    }

    fn apply(&mut self, command: Command) -> Applied {
        self.index += 1;
        self.store.apply(Index(self.index), ClusterTime(self.index), &command)
    }

    fn put(&mut self, key: &str, value: &str) -> Applied {
        self.apply(Command::Put(put(key, value)))
    }

    fn delete(&mut self, range: KeyRange) -> Applied {
        self.apply(Command::DeleteRange(DeleteRange { range, prev_kv: true }))
    }

    fn compact(&mut self, revision: i64) -> Result<Outcome, StoreError> {
        self.apply(Command::Compact(Revision(revision))).outcome
    }

    fn grant(&mut self, id: i64, ttl_seconds: i64) -> Result<Outcome, StoreError> {
        self.apply(Command::LeaseGrant { id: LeaseId(id), ttl_seconds }).outcome
    }

    fn read(&self, request: RangeRequest) -> Result<RangeOutcome, StoreError> {
        self.store.range(&request)
    }

    /// The keys of a range at a revision.
    fn keys(&self, range: KeyRange, revision: i64) -> Result<Vec<String>, StoreError> {
        let outcome = self.read(RangeRequest { revision, ..RangeRequest::all(range) })?;
        Ok(outcome.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect())
    }

    fn events(&self, revision: i64) -> Result<Vec<(i64, EventKind, bool)>, StoreError> {
        let most = usize::MAX;
        let request = EventsSince {
            revision,
            range: &all(),
            event_count_max: most,
            bytes_max: most,
            visit_count_max: most,
        };
        let page = self.store.events_since(&request)?;
        Ok(page
            .events
            .iter()
            .map(|event| (event.revision().0, event.kind, event.prev_kv.is_some()))
            .collect())
    }
}

fn all() -> KeyRange {
    KeyRange::From(vec![0])
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(key.into())
}

fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::Span { start: start.into(), end: end.into() }
}

fn put(key: &str, value: &str) -> Put {
    Put { key: key.into(), value: value.into(), ..Put::default() }
}

fn now(range: KeyRange) -> RangeRequest {
    RangeRequest::all(range)
}

fn strings<const N: usize>(keys: [&str; N]) -> Result<Vec<String>, StoreError> {
    Ok(keys.map(String::from).to_vec())
}

#[test]
fn revisions_rise_only_with_changes() {
    let mut node = Node::new();
    assert_eq!(node.store.revision(), Revision(1));
    assert_eq!(node.put("a", "1").revision, Revision(2));
    let missed = node.delete(one("b"));
    assert_eq!((missed.revision, missed.events), (Revision(2), None));
    let read = Txn { success: vec![TxnOperation::Range(now(all()))], ..Txn::default() };
    assert_eq!(node.apply(Command::Txn(read)).revision, Revision(2));
    let writes = Txn {
        success: vec![TxnOperation::Put(put("b", "")), TxnOperation::Put(put("c", ""))],
        ..Txn::default()
    };
    let applied = node.apply(Command::Txn(writes));
    assert_eq!(applied.revision, Revision(3));
    let events = applied.events.unwrap();
    assert!(events.iter().all(|event| event.revision() == Revision(3)) && events.len() == 2);
}

#[test]
fn a_key_counts_its_writes_since_creation() {
    let mut node = Node::new();
    node.put("a", "1");
    node.put("a", "2");
    let kv = node.read(now(one("a"))).unwrap().kvs[0].clone();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &*kv.value), (2, 3, 2, &b"2"[..]));
    node.delete(one("a"));
    node.put("a", "3");
    let kv = node.read(now(one("a"))).unwrap().kvs[0].clone();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1), "a new generation");
}

#[test]
fn compaction_has_etcds_boundaries_seen() {
    let mut node = Node::new();
    assert_eq!(node.store.compacted(), Revision(-1));
    assert_eq!(node.compact(-1), Err(StoreError::Compacted));
    assert_eq!(node.compact(0), Ok(Outcome::Compact), "once, on a fresh store");
    assert_eq!(node.compact(0), Err(StoreError::Compacted));
    for value in ["1", "2", "3", "4"] {
        node.put("a", value);
    }
    assert_eq!(node.compact(6), Err(StoreError::FutureRevision));
    assert_eq!(node.compact(3), Ok(Outcome::Compact));
    assert_eq!(node.compact(3), Err(StoreError::Compacted));
    // In force at once, and no different after the sweep.
    for _ in 0..2 {
        assert_eq!(node.keys(all(), 2), Err(StoreError::Compacted));
        assert_eq!(node.keys(all(), 3), strings(["a"]));
        assert_eq!(node.keys(all(), 6), Err(StoreError::FutureRevision));
        assert_eq!(node.events(2), Err(StoreError::Compacted));
        let put = EventKind::Put;
        assert_eq!(node.events(3), Ok(vec![(3, put, false), (4, put, true), (5, put, true)]));
        assert_eq!(node.store.hash_kv(2), Err(StoreError::Compacted));
        assert_eq!(node.store.hash_kv(3).unwrap().compact_revision, 3);
        assert_eq!(node.store.hash_kv(6), Err(StoreError::FutureRevision));
        while node.store.sweep(1) {}
    }
    assert_eq!(node.compact(5), Ok(Outcome::Compact), "at the revision now");
}

#[test]
fn a_deletion_at_the_compacted_revision_stays_for_watchers_until_the_next_one() {
    let mut node = Node::new();
    node.put("a", "1");
    node.delete(one("a"));
    node.put("b", "1");
    node.compact(3).unwrap();
    while node.store.sweep(10) {}
    assert_eq!(node.events(3), Ok(vec![(3, EventKind::Delete, false), (4, EventKind::Put, false)]));
    assert_eq!(node.keys(all(), 3), strings([]));
    assert_eq!(node.store.key_count(), 2);
    node.compact(4).unwrap();
    while node.store.sweep(10) {}
    assert_eq!(node.store.key_count(), 1, "nothing is left of it");
}

#[test]
fn the_sweep_gives_the_memory_back_and_no_more() {
    let mut node = Node::new();
    node.put("a", "first");
    let alone = node.store.bytes_total();
    for _ in 0..100 {
        node.put("a", "other");
        node.put("gone", "for good");
        node.delete(one("gone"));
    }
    node.put("a", "first");
    let full = node.store.bytes_total();
    let revision = node.store.revision().0;
    node.compact(revision).unwrap();
    assert_eq!(node.store.bytes_total(), full, "the sweep does the work");
    assert!(node.store.sweep(50));
    assert!(node.store.bytes_total() < full);
    while node.store.sweep(50) {}
    assert_eq!(node.store.bytes_total(), alone);
}

#[test]
fn nothing_is_swept_while_an_export_lives() {
    let mut node = Node::new();
    node.put("a", "1");
    node.put("a", "2");
    let export = node.store.begin_export();
    node.compact(3).unwrap();
    let held = node.store.bytes_total();
    assert!(!node.store.sweep(10) && node.store.is_held());
    assert_eq!(node.store.bytes_total(), held);
    drop(export);
    while node.store.sweep(10) {}
    assert!(node.store.bytes_total() < held);
}

#[test]
fn put_keeps_value_or_lease_of_a_key_that_exists() {
    let mut node = Node::new();
    node.grant(7, 10).unwrap();
    let keep_value = |key: &str| Put { ignore_value: true, ..put(key, "") };
    let keep_lease = |key: &str| Put { ignore_lease: true, ..put(key, "new") };
    assert_eq!(node.apply(Command::Put(keep_value("a"))).outcome, Err(StoreError::KeyNotFound));
    assert_eq!(node.apply(Command::Put(keep_lease("a"))).outcome, Err(StoreError::KeyNotFound));
    node.apply(Command::Put(Put { lease: LeaseId(7), ..put("a", "old") })).outcome.unwrap();
    node.apply(Command::Put(keep_lease("a"))).outcome.unwrap();
    let kv = node.read(now(one("a"))).unwrap().kvs[0].clone();
    assert_eq!((kv.lease, &*kv.value), (LeaseId(7), &b"new"[..]));
    node.apply(Command::Put(keep_value("a"))).outcome.unwrap();
    let kv = node.read(now(one("a"))).unwrap().kvs[0].clone();
    assert_eq!((kv.lease, &*kv.value), (LeaseId::NONE, &b"new"[..]), "the lease was not kept");
    assert!(node.store.lease(LeaseId(7), true).unwrap().keys.is_empty());
    let absent = Put { lease: LeaseId(8), ignore_value: true, ..put("none", "") };
    assert_eq!(node.apply(Command::Put(absent)).outcome, Err(StoreError::LeaseNotFound), "said first");
}

#[test]
fn events_carry_the_state_before_unless_created() {
    let mut node = Node::new();
    assert_eq!(node.put("a", "1").events.unwrap()[0].prev_kv, None);
    let events = node.put("a", "2").events.unwrap();
    assert_eq!(&*events[0].prev_kv.as_ref().unwrap().value, b"1");
    let events = node.delete(one("a")).events.unwrap();
    let event = &events[0];
    assert_eq!(&*event.prev_kv.as_ref().unwrap().value, b"2");
    let kv = &event.kv;
    assert_eq!((kv.mod_revision, kv.create_revision, kv.version, kv.value.len()), (4, 0, 0, 0));
}

#[test]
fn ranges_take_the_wires_forms() {
    let mut node = Node::new();
    for key in ["a", "b", "c", "\0"] {
        node.put(key, key);
    }
    assert_eq!(node.keys(KeyRange::from_wire(b"b".to_vec(), vec![]), 0), strings(["b"]));
    assert_eq!(node.keys(KeyRange::from_wire(b"b".to_vec(), vec![0]), 0), strings(["b", "c"]));
    assert_eq!(node.keys(KeyRange::from_wire(vec![0], vec![0]), 0), strings(["\0", "a", "b", "c"]));
    assert_eq!(node.keys(span("a", "c"), 0), strings(["a", "b"]));
    assert_eq!(node.keys(span("b", "b"), 0), strings([]));
    assert_eq!(node.keys(span("c", "a"), 0), strings([]), "inverted is empty");
    assert_eq!(
        node.delete(span("c", "a")).outcome,
        Ok(Outcome::DeleteRange { deleted: 0, prev_kvs: vec![] })
    );
}

#[test]
fn limit_count_and_more_are_etcds() {
    let mut node = Node::new();
    for key in ["d", "c", "b", "a"] {
        node.put(key, key);
    }
    let limited = node.read(RangeRequest { limit: 2, ..now(all()) }).unwrap();
    assert_eq!((limited.kvs.len(), limited.more, limited.count), (2, true, 4));
    let exact = node.read(RangeRequest { limit: 4, ..now(all()) }).unwrap();
    assert_eq!((exact.kvs.len(), exact.more, exact.count), (4, false, 4));
    let filtered = node.read(RangeRequest { limit: 1, mod_revision_min: 4, ..now(all()) }).unwrap();
    assert_eq!((filtered.kvs.len(), filtered.more, filtered.count), (1, true, 4), "count knows no filter");
    let counted = node.read(RangeRequest { limit: 1, count_only: true, ..now(all()) }).unwrap();
    assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 4));
    let keys_only = node.read(RangeRequest { keys_only: true, ..now(all()) }).unwrap();
    assert!(keys_only.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1));
    // The limit cuts by key first, then what is left is sorted by the target: a quirk worth keeping.
    let by_creation = RangeRequest { limit: 2, target: SortTarget::Create, ..now(all()) };
    let kvs = node.read(by_creation.clone()).unwrap().kvs;
    assert_eq!(kvs.iter().map(|kv| kv.key[0]).collect::<Vec<_>>(), b"cb");
    let ordered = RangeRequest { order: SortOrder::Ascend, ..by_creation };
    let kvs = node.read(ordered).unwrap().kvs;
    assert_eq!(kvs.iter().map(|kv| kv.key[0]).collect::<Vec<_>>(), b"dc");
}

fn compare(range: KeyRange, operator: CompareOperator, target: CompareTarget) -> Txn {
    Txn { compares: vec![Compare { range, operator, target }], ..Txn::default() }
}

fn succeeded(node: &mut Node, txn: Txn) -> bool {
    let Outcome::Txn { succeeded, .. } = node.apply(Command::Txn(txn)).outcome.unwrap() else {
        panic!("a transaction was applied")
    };
    succeeded
}

#[test]
fn compares_of_what_is_missing_and_of_ranges() {
    use CompareOperator::{Equal, Greater, NotEqual};
    use CompareTarget::{Create, Mod, Value, Version};
    let mut node = Node::new();
    assert!(succeeded(&mut node, compare(one("a"), Equal, Create(0))));
    assert!(!succeeded(&mut node, compare(one("a"), Equal, Value(vec![]))), "no value is not an empty one");
    assert!(!succeeded(&mut node, compare(one("a"), NotEqual, Value(b"x".to_vec()))));
    node.put("a", "1");
    node.put("b", "1");
    assert!(succeeded(&mut node, compare(span("a", "c"), Equal, Value(b"1".to_vec()))));
    assert!(succeeded(&mut node, compare(span("a", "c"), Greater, Version(0))));
    assert!(!succeeded(&mut node, compare(span("a", "c"), Equal, Mod(3))), "it must hold for each");
    assert!(succeeded(&mut node, compare(span("x", "z"), Equal, Mod(0))));
}

#[test]
fn a_transaction_sees_its_own_writes_and_compares_before_them() {
    let mut node = Node::new();
    let inner = Txn {
        compares: vec![Compare {
            range: one("a"),
            operator: CompareOperator::Equal,
            target: CompareTarget::Version(0),
        }],
        success: vec![TxnOperation::Put(put("inner", "yes"))],
        failure: vec![TxnOperation::Put(put("inner", "no"))],
    };
    let txn = Txn {
        success: vec![
            TxnOperation::Range(now(all())),
            TxnOperation::Put(put("a", "1")),
            TxnOperation::Range(now(all())),
            TxnOperation::Txn(inner),
            TxnOperation::Range(RangeRequest { revision: 1, ..now(all()) }),
        ],
        ..Txn::default()
    };
    let applied = node.apply(Command::Txn(txn));
    let Outcome::Txn { outcomes, .. } = applied.outcome.unwrap() else { panic!("a transaction was applied") };
    let counts = |outcome: &Outcome| {
        let Outcome::Range(range) = outcome else { panic!("a read was asked for") };
        range.count
    };
    assert_eq!((counts(&outcomes[0]), counts(&outcomes[2]), counts(&outcomes[4])), (0, 1, 0));
    assert_eq!(&*node.read(now(one("inner"))).unwrap().kvs[0].value, b"yes");
}

#[test]
fn a_transaction_that_cannot_be_whole_is_nothing() {
    let mut node = Node::new();
    node.put("a", "1");
    node.put("a", "2");
    node.compact(3).unwrap();
    let with = |last: TxnOperation| {
        let inner = Txn { success: vec![last], ..Txn::default() };
        Command::Txn(Txn {
            success: vec![TxnOperation::Put(put("b", "")), TxnOperation::Txn(inner)],
            ..Txn::default()
        })
    };
    let at = |revision| TxnOperation::Range(RangeRequest { revision, ..now(all()) });
    let cases = [
        (with(TxnOperation::Put(Put { lease: LeaseId(9), ..put("c", "") })), StoreError::LeaseNotFound),
        (with(TxnOperation::Put(Put { ignore_value: true, ..put("c", "") })), StoreError::KeyNotFound),
        (with(at(2)), StoreError::Compacted),
        (with(at(-1)), StoreError::Compacted),
        (with(at(4)), StoreError::FutureRevision),
    ];
    for (command, error) in cases {
        let applied = node.apply(command);
        assert_eq!((applied.outcome, applied.revision, applied.events), (Err(error), Revision(3), None));
    }
    assert_eq!(node.keys(all(), 0), strings(["a"]));
}

#[test]
fn a_key_kept_in_a_transaction_that_deleted_it_is_written_anew() {
    // etcd's check lets this through and its apply panics; here it is a put without a state before.
    let mut node = Node::new();
    node.put("a", "1");
    let nested = |operation| TxnOperation::Txn(Txn { success: vec![operation], ..Txn::default() });
    let delete = DeleteRange { range: all(), prev_kv: false };
    let keep = Put { ignore_value: true, ..put("a", "") };
    let txn = Txn {
        success: vec![nested(TxnOperation::DeleteRange(delete)), nested(TxnOperation::Put(keep))],
        ..Txn::default()
    };
    let events = node.apply(Command::Txn(txn)).events.unwrap();
    assert_eq!(
        events.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::Delete, EventKind::Put]
    );
    assert!(node.read(now(one("a"))).unwrap().kvs[0].value.is_empty());
}

#[test]
fn leases_are_granted_once_and_within_bounds() {
    let mut node = Node::new();
    let granted = |id, ttl_seconds| Ok(Outcome::LeaseGrant { id: LeaseId(id), ttl_seconds });
    assert_eq!(node.grant(1, 0), granted(1, limits::LEASE_TTL_SECONDS_MIN));
    assert_eq!(node.grant(1, 60), Err(StoreError::LeaseExists));
    let most = limits::LEASE_TTL_SECONDS_MAX;
    assert_eq!(node.grant(2, most), granted(2, most));
    assert_eq!(node.grant(3, most + 1), Err(StoreError::LeaseTtlTooLarge));
    assert_eq!(node.grant(0, 5), Err(StoreError::LeaseNotFound));
    let revoked = node.apply(Command::LeaseRevoke(LeaseId(9)));
    assert_eq!(revoked.outcome, Err(StoreError::LeaseNotFound));
    assert_eq!(node.store.leases().map(|lease| lease.id.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_lease_ends_with_its_keys_at_one_revision() {
    let mut node = Node::new();
    node.grant(1, 60).unwrap();
    for key in ["c", "a", "b"] {
        node.apply(Command::Put(Put { lease: LeaseId(1), ..put(key, "") })).outcome.unwrap();
    }
    node.put("b", "free again");
    let applied = node.apply(Command::LeaseRevoke(LeaseId(1)));
    assert_eq!(applied.lease, Some(LeaseChange::Ended { id: LeaseId(1) }));
    let events = applied.events.unwrap();
    let deleted: Vec<_> = events.iter().map(|event| (event.kv.key[0], event.revision().0)).collect();
    assert_eq!(deleted, [(b'a', 6), (b'c', 6)], "in key order, and not what was put without it since");
    assert!(node.store.lease(LeaseId(1), true).is_none());
    node.grant(2, 60).unwrap();
    let idle = node.apply(Command::LeaseRevoke(LeaseId(2)));
    assert_eq!((idle.revision, idle.events), (Revision(6), None), "a lease without keys changes none");
}

#[test]
fn an_expiry_is_void_for_a_lease_granted_anew() {
    let mut node = Node::new();
    node.grant(1, 60).unwrap();
    let granted = node.store.lease(LeaseId(1), false).unwrap().granted;
    node.apply(Command::LeaseRevoke(LeaseId(1)));
    node.grant(1, 60).unwrap();
    let late = node.apply(Command::LeaseExpire { id: LeaseId(1), granted });
    assert_eq!((late.outcome, late.lease), (Ok(Outcome::LeaseExpire { ended: false }), None));
    let granted = node.store.lease(LeaseId(1), false).unwrap().granted;
    let due = node.apply(Command::LeaseExpire { id: LeaseId(1), granted });
    assert_eq!(due.outcome, Ok(Outcome::LeaseExpire { ended: true }));
}

#[test]
fn without_space_only_what_grows_is_refused() {
    let mut node = Node::new();
    node.grant(1, 60).unwrap();
    node.put("a", "1");
    node.put("b", "1");
    let alarm = (NodeId(5), AlarmKind::NoSpace);
    node.apply(Command::AlarmRaise { node: alarm.0, kind: alarm.1 });
    assert_eq!(node.put("a", "2").outcome, Err(StoreError::NoSpace));
    assert_eq!(node.grant(2, 60), Err(StoreError::NoSpace));
    let growing = Txn { failure: vec![TxnOperation::Put(put("c", ""))], ..Txn::default() };
    assert_eq!(
        node.apply(Command::Txn(growing)).outcome,
        Err(StoreError::NoSpace),
        "whichever branch would run"
    );
    let freeing = Txn {
        success: vec![TxnOperation::DeleteRange(DeleteRange { range: one("a"), prev_kv: false })],
        ..Txn::default()
    };
    assert!(node.apply(Command::Txn(freeing)).outcome.is_ok());
    assert!(node.delete(one("b")).outcome.is_ok());
    assert!(node.compact(4).is_ok());
    assert!(node.apply(Command::LeaseRevoke(LeaseId(1))).outcome.is_ok());
    let cleared = node.apply(Command::AlarmClear { node: NodeId(6), kind: alarm.1 });
    assert_eq!(cleared.outcome, Ok(Outcome::Alarms(vec![])), "another node's is not ours");
    node.apply(Command::AlarmClear { node: alarm.0, kind: alarm.1 });
    assert!(node.put("a", "2").outcome.is_ok());
}

#[test]
fn damaged_the_store_only_answers_reads_and_alarms() {
    let mut node = Node::new();
    node.put("a", "1");
    let (id, kind) = (NodeId(5), AlarmKind::Corrupt);
    node.apply(Command::AlarmRaise { node: id, kind });
    assert_eq!(node.put("a", "2").outcome, Err(StoreError::Corrupt));
    assert_eq!(node.delete(all()).outcome, Err(StoreError::Corrupt));
    assert_eq!(node.compact(2), Err(StoreError::Corrupt));
    assert_eq!(node.keys(all(), 0), strings(["a"]));
    assert!(node.apply(Command::AlarmClear { node: id, kind }).outcome.is_ok());
    assert!(node.delete(all()).outcome.is_ok());
}

#[test]
fn time_never_falls_and_entries_come_once() {
    let mut store = Store::new();
    store.apply(Index(3), ClusterTime(500), &Command::Put(put("a", "")));
    store.apply(Index(7), ClusterTime(400), &Command::Put(put("a", "")));
    assert_eq!((store.time(), store.applied()), (ClusterTime(500), Index(7)));
    let again = std::panic::catch_unwind(move || {
        let mut store = store;
        store.advance(Index(7));
    });
    assert!(again.is_err());
}

#[test]
fn growth_covers_what_a_command_adds() {
    let mut node = Node::new();
    node.grant(1, 60).unwrap();
    let commands = [
        Command::Put(Put { lease: LeaseId(1), ..put("key", "value") }),
        Command::Put(put("key", "a longer value")),
        Command::LeaseGrant { id: LeaseId(2), ttl_seconds: 5 },
        Command::Txn(Txn {
            success: vec![TxnOperation::Put(put("x", "1")), TxnOperation::Put(put("y", "2"))],
            failure: vec![TxnOperation::Put(put("x", "1"))],
            ..Txn::default()
        }),
    ];
    for command in commands {
        let (before, growth) = (node.store.bytes_total(), command.growth_bytes());
        node.apply(command).outcome.unwrap();
        let grown = node.store.bytes_total() - before;
        assert!(grown > 0 && grown <= growth, "grew by {grown}, foretold {growth}");
    }
    assert_eq!(Command::Compact(Revision(5)).growth_bytes(), 0);
}
