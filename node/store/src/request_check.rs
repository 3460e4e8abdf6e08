//! What a request must look like before it may become a command: etcd's checks at its gRPC door.
//!
//! Pure, and by the api's hand only: apply does not repeat them, for the log was written by nodes that did.

use crate::{DeleteRange, KeyRange, Put, RangeRequest, StoreError, Txn, TxnOperation};
use alloc::collections::{BTreeMap, BTreeSet};
use quorate_types::limits::TXN_OPERATIONS_MAX;

/// Checks a read.
///
/// # Errors
/// `EmptyKey`.
pub fn check_range(request: &RangeRequest) -> Result<(), StoreError> {
    check_key(request.range.start())
}

/// Checks a put.
///
/// # Errors
/// `EmptyKey`, `ValueProvided`, `LeaseProvided`.
pub fn check_put(put: &Put) -> Result<(), StoreError> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(StoreError::ValueProvided);
    }
    if put.ignore_lease && put.lease.is_some() {
        return Err(StoreError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// `EmptyKey`.
pub fn check_delete(delete: &DeleteRange) -> Result<(), StoreError> {
    check_key(delete.range.start())
}

/// Checks a transaction with all it holds. Each level may have as many operations as the levels above left
/// of the bound, which bounds the nesting too.
///
/// # Errors
/// `TooManyOperations`, `DuplicateKey`, and what its operations' own checks say.
pub fn check_txn(txn: &Txn) -> Result<(), StoreError> {
    check_operations(txn, TXN_OPERATIONS_MAX)?;
    // Only after the counts, so that the work is bounded.
    check_overlaps(&txn.success)?;
    check_overlaps(&txn.failure)?;
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() { Err(StoreError::EmptyKey) } else { Ok(()) }
}

fn check_operations(txn: &Txn, count_max: usize) -> Result<(), StoreError> {
    let count = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    let Some(count_left) = count_max.checked_sub(count) else { return Err(StoreError::TooManyOperations) };
    for compare in &txn.compares {
        check_key(compare.range.start())?;
    }
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            TxnOperation::Range(request) => check_range(request)?,
            TxnOperation::Put(put) => check_put(put)?,
            TxnOperation::DeleteRange(delete) => check_delete(delete)?,
            TxnOperation::Txn(nested) => check_operations(nested, count_left)?,
        }
    }
    Ok(())
}

/// What one branch writes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

impl<'a> Written<'a> {
    /// Takes in the puts of a transaction within; the keys in `allowed` may be there already.
    fn add_puts(
        &mut self,
        puts: &BTreeSet<&'a [u8]>,
        allowed: &BTreeSet<&'a [u8]>,
    ) -> Result<(), StoreError> {
        for key in puts {
            if (self.puts.contains(key) && !allowed.contains(key)) || self.deletes.contains(key) {
                return Err(StoreError::DuplicateKey);
            }
            self.puts.insert(key);
        }
        Ok(())
    }
}

/// No key may be put twice, nor put and deleted, in one branch with all it holds. The order of steps is
/// etcd's, and decides: a deletion in a later transaction within does not clash with a put in an earlier one.
fn check_overlaps(operations: &[TxnOperation]) -> Result<Written<'_>, StoreError> {
    let mut written = Written::default();
    for operation in operations {
        if let TxnOperation::DeleteRange(delete) = operation {
            written.deletes.insert(&delete.range);
        }
    }
    for operation in operations {
        if let TxnOperation::Txn(nested) = operation {
            let success = check_overlaps(&nested.success)?;
            let failure = check_overlaps(&nested.failure)?;
            written.add_puts(&success.puts, &BTreeSet::new())?;
            // Only one of both branches runs: what the other puts is no clash.
            written.add_puts(&failure.puts, &success.puts)?;
            written.deletes.union(success.deletes);
            written.deletes.union(failure.deletes);
        }
    }
    for operation in operations {
        if let TxnOperation::Put(put) = operation
            && (written.deletes.contains(&put.key) || !written.puts.insert(&put.key))
        {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok(written)
}

/// A union of key intervals: start → end, not touching each other.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], End<'a>>,
}

/// Where an interval ends: before that key, or right after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End<'a> {
    key: &'a [u8],
    including: bool,
}

impl<'a> Intervals<'a> {
    fn insert(&mut self, range: &'a KeyRange) {
        match range {
            KeyRange::One(key) => self.insert_interval(key, End { key, including: true }),
            // etcd's check takes the wire's end `\0` for the key of that name, and so for an empty interval:
            // such a deletion clashes with no put. Seen with 3.5.16.
            KeyRange::From(_) => {}
            KeyRange::Span { start, end } => self.insert_interval(start, End { key: end, including: false }),
        }
    }

    fn insert_interval(&mut self, start: &'a [u8], end: End<'a>) {
        if end <= (End { key: start, including: false }) {
            return;
        }
        let (mut start, mut end) = (start, end);
        // The one that begins before and reaches here, then all that begin within.
        if let Some((&start_before, &end_before)) = self.ends.range(..=start).next_back()
            && end_before >= (End { key: start, including: false })
        {
            start = start_before;
            end = end.max(end_before);
        }
        while let Some((&start_within, &end_within)) = self.ends.range(start..).next()
            && (End { key: start_within, including: false }) <= end
        {
            self.ends.remove(start_within);
            end = end.max(end_within);
        }
        self.ends.insert(start, end);
    }

    fn union(&mut self, other: Intervals<'a>) {
        for (start, end) in other.ends {
            self.insert_interval(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.ends.range(..=key).next_back().is_some_and(|(_, end)| *end > (End { key, including: false }))
    }
}
