//! Reads, with etcd's order of steps: fetch, filter, sort, cut. Its quirks are kept: a limit without an
//! order cuts by key *before* it sorts by another target, and `count` knows no filter.

use crate::history::i64_of;
use crate::revision::Keyspace;
use crate::{KeyValue, RangeOutcome, RangeRequest, SortOrder, SortTarget, StoreError, Value};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Reads as of `current`: the newest revision the reader may see, a running command's included.
pub(crate) fn range(
    keyspace: &Keyspace,
    request: &RangeRequest,
    current: i64,
) -> Result<RangeOutcome, StoreError> {
    let revision = revision_of(keyspace, request.revision, current)?;
    let mut outcome = fetch(keyspace, request, revision);
    if request.count_only {
        return Ok(outcome);
    }
    outcome.kvs.retain(|kv| passes(request, kv));
    sort(request, &mut outcome.kvs);
    if let Some(limit) = limit_of(request)
        && outcome.kvs.len() > limit
    {
        outcome.kvs.truncate(limit);
        outcome.more = true;
    }
    if request.keys_only && !outcome.kvs.is_empty() {
        for kv in &mut outcome.kvs {
            kv.value = Value::default();
        }
    }
    Ok(outcome)
}

fn revision_of(keyspace: &Keyspace, asked: i64, current: i64) -> Result<i64, StoreError> {
    if asked > current {
        return Err(StoreError::FutureRevision);
    }
    let revision = if asked <= 0 { current } else { asked };
    if revision < keyspace.compacted {
        return Err(StoreError::Compacted);
    }
    Ok(revision)
}

fn fetch(keyspace: &Keyspace, request: &RangeRequest, revision: i64) -> RangeOutcome {
    let found = keyspace
        .visit(&request.range)
        .filter_map(|(key, state)| keyspace.at(state, revision).map(|found| (key, found)));
    if request.count_only {
        return RangeOutcome { kvs: Vec::new(), more: false, count: i64_of(found.count()) };
    }
    let everything = request.order != SortOrder::None || is_filtered(request);
    // One more than asked for tells whether there is more.
    let fetch_max = match limit_of(request) {
        Some(limit) if !everything => limit.saturating_add(1),
        Some(_) | None => usize::MAX,
    };
    let mut kvs = Vec::new();
    let mut count = 0;
    for (key, found) in found {
        count += 1;
        if kvs.len() < fetch_max {
            kvs.push(found.key_value(key));
        }
    }
    RangeOutcome { kvs, more: false, count }
}

/// The limit, if there is one; one beyond the address space is none.
fn limit_of(request: &RangeRequest) -> Option<usize> {
    if request.limit > 0 { usize::try_from(request.limit).ok() } else { None }
}

fn is_filtered(request: &RangeRequest) -> bool {
    request.mod_revision_min != 0
        || request.mod_revision_max != 0
        || request.create_revision_min != 0
        || request.create_revision_max != 0
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    within(kv.mod_revision, request.mod_revision_min, request.mod_revision_max)
        && within(kv.create_revision, request.create_revision_min, request.create_revision_max)
}

/// Only zero is no bound: a negative upper bound leaves nothing, as in etcd.
fn within(revision: i64, revision_min: i64, revision_max: i64) -> bool {
    (revision_min == 0 || revision >= revision_min) && (revision_max == 0 || revision <= revision_max)
}

fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let order: fn(&KeyValue, &KeyValue) -> Ordering = match request.target {
        SortTarget::Key => |a, b| a.key.cmp(&b.key),
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match (request.order, request.target) {
        // They are in that order already.
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
        (SortOrder::None | SortOrder::Ascend, _) => kvs.sort_by(order),
        (SortOrder::Descend, _) => kvs.sort_by(|a, b| order(b, a)),
    }
}
