//! etcd's checks of a request, one by one; those marked were seen on 3.5.16.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use proptest::prelude::*;
use quorate_store::request_check::{check_delete, check_put, check_range, check_txn};
use quorate_store::{
    Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, Put, RangeRequest, StoreError, Txn,
    TxnOperation,
};
use quorate_types::LeaseId;

fn put(key: &str) -> TxnOperation {
    TxnOperation::Put(Put { key: key.into(), ..Put::default() })
}

fn delete(range: KeyRange) -> TxnOperation {
    TxnOperation::DeleteRange(DeleteRange { range, prev_kv: false })
}

fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::Span { start: start.into(), end: end.into() }
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(key.into())
}

fn then(success: Vec<TxnOperation>) -> Txn {
    Txn { success, ..Txn::default() }
}

fn within(success: Vec<TxnOperation>, failure: Vec<TxnOperation>) -> TxnOperation {
    TxnOperation::Txn(Txn { success, failure, ..Txn::default() })
}

const DUPLICATE: Result<(), StoreError> = Err(StoreError::DuplicateKey);

#[test]
fn keys_are_not_empty() {
    let empty = Err(StoreError::EmptyKey);
    assert_eq!(check_range(&RangeRequest::all(KeyRange::One(vec![]))), empty);
    assert_eq!(check_put(&Put::default()), empty);
    assert_eq!(check_delete(&DeleteRange { range: KeyRange::From(vec![]), prev_kv: false }), empty);
    assert_eq!(check_txn(&then(vec![within(vec![], vec![put("")])])), empty);
    let target = CompareTarget::Version(0);
    let compare = Compare { range: KeyRange::One(vec![]), operator: CompareOperator::Equal, target };
    assert_eq!(check_txn(&Txn { compares: vec![compare], ..Txn::default() }), empty);
}

#[test]
fn what_is_kept_is_not_given() {
    let base = Put { key: b"k".to_vec(), value: b"v".to_vec(), lease: LeaseId(1), ..Put::default() };
    assert_eq!(check_put(&base), Ok(()));
    assert_eq!(check_put(&Put { ignore_value: true, ..base.clone() }), Err(StoreError::ValueProvided));
    assert_eq!(check_put(&Put { ignore_lease: true, ..base.clone() }), Err(StoreError::LeaseProvided));
    let kept = Put { ignore_value: true, ignore_lease: true, value: vec![], lease: LeaseId(0), ..base };
    assert_eq!(check_put(&kept), Ok(()));
}

#[test]
fn operations_are_counted_by_the_longest_list_and_down_the_levels() {
    let reads = |count| vec![TxnOperation::Range(RangeRequest::all(KeyRange::One(b"k".to_vec()))); count];
    let too_many = Err(StoreError::TooManyOperations);
    assert_eq!(check_txn(&Txn { success: reads(128), failure: reads(128), ..Txn::default() }), Ok(()));
    assert_eq!(check_txn(&then(reads(129))), too_many);
    let mut success = reads(27);
    success.push(within(reads(100), vec![]));
    assert_eq!(check_txn(&then(success.clone())), Ok(()), "28 here, 100 there");
    success.push(TxnOperation::Range(RangeRequest::all(KeyRange::One(b"k".to_vec()))));
    assert_eq!(check_txn(&then(success)), too_many, "29 here leave 99");
}

#[test]
fn a_key_is_written_once_in_a_branch() {
    assert_eq!(check_txn(&then(vec![put("a"), put("a")])), DUPLICATE);
    assert_eq!(
        check_txn(&Txn { success: vec![put("a")], failure: vec![put("a")], ..Txn::default() }),
        Ok(())
    );
    assert_eq!(
        check_txn(&then(vec![delete(one("a")), delete(span("a", "c"))])),
        Ok(()),
        "deletions may overlap"
    );
    assert_eq!(check_txn(&then(vec![put("c"), delete(span("a", "z"))])), DUPLICATE, "seen");
    assert_eq!(check_txn(&then(vec![delete(one("a")), put("a")])), DUPLICATE);
    assert_eq!(check_txn(&then(vec![delete(span("a", "b")), put("b")])), Ok(()), "the end is not within");
    assert_eq!(check_txn(&then(vec![delete(KeyRange::From(b"a".to_vec())), put("b")])), Ok(()), "seen");
    assert_eq!(check_txn(&then(vec![delete(span("z", "a")), put("b")])), Ok(()), "inverted is empty");
}

#[test]
fn a_key_is_written_once_in_a_branch_with_all_it_holds() {
    let only = |operation| within(vec![operation], vec![]);
    assert_eq!(check_txn(&then(vec![put("a"), only(put("a"))])), DUPLICATE);
    assert_eq!(check_txn(&then(vec![only(put("a")), only(put("a"))])), DUPLICATE);
    assert_eq!(
        check_txn(&then(vec![within(vec![put("a")], vec![put("a")])])),
        Ok(()),
        "only one of both runs"
    );
    assert_eq!(check_txn(&then(vec![only(put("b")), within(vec![put("a")], vec![put("b")])])), DUPLICATE);
    assert_eq!(check_txn(&then(vec![delete(one("a")), only(put("a"))])), DUPLICATE);
    assert_eq!(check_txn(&then(vec![put("a"), only(delete(one("a")))])), DUPLICATE);
    assert_eq!(check_txn(&then(vec![only(delete(one("a"))), only(put("a"))])), DUPLICATE);
    assert_eq!(
        check_txn(&then(vec![only(put("a")), only(delete(one("a")))])),
        Ok(()),
        "etcd's order of steps"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many overlapping deletions are one set of intervals, whatever their order.
    #[test]
    fn deletions_are_a_union(
        ranges in prop::collection::vec((0_u8..12, prop::option::of(0_u8..12)), 0..12),
        key in 0_u8..12,
    ) {
        let ranges: Vec<KeyRange> = ranges
            .into_iter()
            .map(|(start, end)| match end {
                Some(end) => KeyRange::Span { start: vec![b'a' + start], end: vec![b'a' + end] },
                None => KeyRange::One(vec![b'a' + start]),
            })
            .collect();
        let key = vec![b'a' + key];
        let clashes = ranges.iter().any(|range| range.contains(&key));
        let mut operations: Vec<TxnOperation> = ranges.into_iter().map(delete).collect();
        operations.push(TxnOperation::Put(Put { key, ..Put::default() }));
        let expected = if clashes { DUPLICATE } else { Ok(()) };
        prop_assert_eq!(check_txn(&then(operations)), expected);
    }
}
