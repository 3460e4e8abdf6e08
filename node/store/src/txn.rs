//! Transactions: compare, check, then apply.
//!
//! All compares, nested ones too, see the state before the transaction, so the branches are chosen first.
//! What can fail is checked next, along the chosen branches only, so that applying cannot.

use crate::lease::Leases;
use crate::revision::{Found, Keyspace};
use crate::{Compare, CompareOperator, CompareTarget, Put, RangeRequest, StoreError, Txn, TxnOperation};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// The branch of a transaction that runs, and those of the transactions within it, in order.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) succeeded: bool,
    pub(crate) operations: &'a [TxnOperation],
    pub(crate) nested: Vec<Chosen<'a>>,
}

/// Whether a transaction, whichever way it goes, changes nothing.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|operation| match operation {
        TxnOperation::Range(_) => true,
        TxnOperation::Txn(nested) => is_read_only(nested),
        TxnOperation::Put(_) | TxnOperation::DeleteRange(_) => false,
    })
}

/// Evaluates every compare on the way.
pub(crate) fn choose<'a>(keyspace: &Keyspace, txn: &'a Txn) -> Chosen<'a> {
    let succeeded = txn.compares.iter().all(|compare| holds(keyspace, compare));
    let operations = if succeeded { txn.success.as_slice() } else { txn.failure.as_slice() };
    let nested = operations
        .iter()
        .filter_map(|operation| match operation {
            TxnOperation::Txn(nested) => Some(choose(keyspace, nested)),
            TxnOperation::Range(_) | TxnOperation::Put(_) | TxnOperation::DeleteRange(_) => None,
        })
        .collect();
    Chosen { succeeded, operations, nested }
}

/// Refuses what could fail while applying: all puts first, then all reads, as etcd orders its answers.
pub(crate) fn check(keyspace: &Keyspace, leases: &Leases, chosen: &Chosen<'_>) -> Result<(), StoreError> {
    check_operations(chosen, &|operation| match operation {
        TxnOperation::Put(put) => check_put(keyspace, leases, put),
        TxnOperation::Range(_) | TxnOperation::DeleteRange(_) | TxnOperation::Txn(_) => Ok(()),
    })?;
    check_operations(chosen, &|operation| match operation {
        TxnOperation::Range(request) => check_range(keyspace, request),
        TxnOperation::Put(_) | TxnOperation::DeleteRange(_) | TxnOperation::Txn(_) => Ok(()),
    })
}

fn check_operations(
    chosen: &Chosen<'_>,
    check: &dyn Fn(&TxnOperation) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut nested = chosen.nested.iter();
    for operation in chosen.operations {
        if matches!(operation, TxnOperation::Txn(_)) {
            check_operations(nested.next().expect("each nested transaction was chosen for"), check)?;
        } else {
            check(operation)?;
        }
    }
    Ok(())
}

fn check_put(keyspace: &Keyspace, leases: &Leases, put: &Put) -> Result<(), StoreError> {
    if (put.ignore_value || put.ignore_lease) && keyspace.newest(&put.key).is_none() {
        return Err(StoreError::KeyNotFound);
    }
    if put.lease.is_some() && !leases.contains(put.lease) {
        return Err(StoreError::LeaseNotFound);
    }
    Ok(())
}

/// Stricter than a read of its own: only zero is now, and a negative revision is a compacted one.
fn check_range(keyspace: &Keyspace, request: &RangeRequest) -> Result<(), StoreError> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > keyspace.revision {
        Err(StoreError::FutureRevision)
    } else if request.revision < keyspace.compacted {
        Err(StoreError::Compacted)
    } else {
        Ok(())
    }
}

/// Over several keys it must hold for each; without any, numbers compare as zero and a value never holds.
fn holds(keyspace: &Keyspace, compare: &Compare) -> bool {
    let mut found_some = false;
    for (_, state) in keyspace.visit(&compare.range) {
        if let Some(found) = keyspace.at(state, keyspace.revision) {
            found_some = true;
            if !holds_for(compare, Some(&found)) {
                return false;
            }
        }
    }
    found_some || holds_for(compare, None)
}

fn holds_for(compare: &Compare, found: Option<&Found<'_>>) -> bool {
    let number = |figure: fn(&Found<'_>) -> i64, given: i64| found.map_or(0, figure).cmp(&given);
    let ordering = match &compare.target {
        CompareTarget::Version(given) => number(|found| found.version, *given),
        CompareTarget::Create(given) => number(|found| found.create_revision, *given),
        CompareTarget::Mod(given) => number(|found| found.mod_revision, *given),
        CompareTarget::Lease(given) => number(|found| found.lease.0, *given),
        CompareTarget::Value(given) => match found {
            Some(found) => (**found.value).cmp(given.as_slice()),
            None => return false,
        },
    };
    match compare.operator {
        CompareOperator::Equal => ordering == Ordering::Equal,
        CompareOperator::NotEqual => ordering != Ordering::Equal,
        CompareOperator::Greater => ordering == Ordering::Greater,
        CompareOperator::Less => ordering == Ordering::Less,
    }
}
