//! Random commands over few keys, few leases and small revisions, so that they meet.

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_store::{
    AlarmKind, Command, Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, Put, RangeRequest,
    SortOrder, SortTarget, Txn, TxnOperation,
};
use quorate_types::{LeaseId, NodeId, Revision};

/// What a run does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Apply(Command),
    Read(RangeRequest),
    Sweep(usize),
    ExportBegin,
    ExportNext(usize),
    Events { revision: i64, range: KeyRange, event_count_max: usize, visit_count_max: usize },
    Hash(i64),
}

pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![&b"a"[..], b"aa", b"ab", b"b", b"c", b"\0", b"\xff"]).prop_map(<[u8]>::to_vec)
}

pub(crate) fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::One),
        1 => key().prop_map(KeyRange::From),
        3 => (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![&b""[..], b"1", b"2", b"three"]).prop_map(<[u8]>::to_vec)
}

fn lease() -> impl Strategy<Value = LeaseId> {
    prop_oneof![12 => Just(LeaseId(0)), 4 => (1_i64..4).prop_map(LeaseId)]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 1 => -2_i64..2, 4 => 1_i64..30]
}

fn put() -> impl Strategy<Value = Put> {
    let rarely = || prop::bool::weighted(0.15);
    (key(), value(), lease(), any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| Put {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

pub(crate) fn range_request() -> impl Strategy<Value = RangeRequest> {
    let order = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let bound = || prop_oneof![6 => Just(0_i64), 1 => -1_i64..30];
    (
        (key_range(), -1_i64..4, revision(), order, target),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.2), bound(), bound(), bound(), bound()),
    )
        .prop_map(|((range, limit, revision, order, target), (keys_only, count_only, a, b, c, d))| {
            RangeRequest {
                range,
                limit,
                revision,
                order,
                target,
                keys_only,
                count_only,
                mod_revision_min: a,
                mod_revision_max: b,
                create_revision_min: c,
                create_revision_max: d,
            }
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    let operator = prop::sample::select(vec![
        CompareOperator::Equal,
        CompareOperator::Greater,
        CompareOperator::Less,
        CompareOperator::NotEqual,
    ]);
    let target = prop_oneof![
        (0_i64..3).prop_map(CompareTarget::Version),
        (0_i64..20).prop_map(CompareTarget::Create),
        (0_i64..20).prop_map(CompareTarget::Mod),
        value().prop_map(CompareTarget::Value),
        (0_i64..3).prop_map(CompareTarget::Lease),
    ];
    (key_range(), operator, target).prop_map(|(range, operator, target)| Compare { range, operator, target })
}

pub(crate) fn txn() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        3 => range_request().prop_map(TxnOperation::Range),
        4 => put().prop_map(TxnOperation::Put),
        2 => delete().prop_map(TxnOperation::DeleteRange),
    ];
    let operation = leaf.prop_recursive(2, 8, 3, |inner| {
        (vec(compare(), 0..2), vec(inner.clone(), 0..3), vec(inner, 0..3))
            .prop_map(|(compares, success, failure)| TxnOperation::Txn(Txn { compares, success, failure }))
    });
    (vec(compare(), 0..2), vec(operation.clone(), 0..4), vec(operation, 0..4))
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let kind = || prop::sample::select(vec![AlarmKind::NoSpace, AlarmKind::NoSpace, AlarmKind::Corrupt]);
    let node = || (1_u64..2).prop_map(NodeId);
    let lease = || (0_i64..4).prop_map(LeaseId);
    let ttl = prop::sample::select(vec![-1_i64, 0, 5, 5, 5, 9_000_000_000, 9_000_000_001]);
    prop_oneof![
        140 => put().prop_map(Command::Put),
        50 => delete().prop_map(Command::DeleteRange),
        100 => txn().prop_map(Command::Txn),
        40 => (-1_i64..30).prop_map(|revision| Command::Compact(Revision(revision))),
        60 => (lease(), ttl).prop_map(|(id, ttl_seconds)| Command::LeaseGrant { id, ttl_seconds }),
        10 => lease().prop_map(Command::LeaseRevoke),
        10 => (lease(), 1_u64..30).prop_map(|(id, granted)| Command::LeaseExpire { id, granted }),
        // Rarely, and gone soon: whatever is refused tests nothing else.
        4 => (node(), kind()).prop_map(|(node, kind)| Command::AlarmRaise { node, kind }),
        60 => (node(), kind()).prop_map(|(node, kind)| Command::AlarmClear { node, kind }),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let events = (1_i64..30, key_range(), 1_usize..6, 1_usize..12);
    prop_oneof![
        20 => command().prop_map(Step::Apply),
        6 => range_request().prop_map(Step::Read),
        5 => (0_usize..5).prop_map(Step::Sweep),
        1 => Just(Step::ExportBegin),
        4 => (1_usize..300).prop_map(Step::ExportNext),
        3 => events.prop_map(|(revision, range, event_count_max, visit_count_max)| {
            Step::Events { revision, range, event_count_max, visit_count_max }
        }),
        1 => (0_i64..30).prop_map(Step::Hash),
    ]
}
