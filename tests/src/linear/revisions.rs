//! What etcd's revisions promise, over all keys: one counter, one more for each write, never back in real time; a
//! value keeps its revision; an answer shows what was there at the revision it names.
//!
//! Cheap and strong where revisions are told, and independent of the search.

use super::{Answer, Expected, Key, Op, Operation, Outcome, Violation, Writers};
use std::collections::BTreeMap;
use std::ops::Bound;

pub(super) fn check(history: &[Operation], writers: &Writers) -> Result<(), Violation> {
    one_write_each(history)?;
    never_back(history)?;
    let changes = changes(history);
    for (place, operation) in history.iter().enumerate() {
        named_by_its_writer(history, writers, place, operation)?;
        of_one_moment(history, &changes, place, operation)?;
    }
    values_keep_their_revision(history)
}

fn broken<T>(history: &[Operation], place: usize, why: &str, other: Option<usize>) -> Result<T, Violation> {
    let mut text = format!("{why}: {}", history[place]);
    if let Some(other) = other {
        text += &format!("\n  against operation {other}: {}", history[other]);
    }
    Err(Violation { operation: place, text })
}

fn one_write_each(history: &[Operation]) -> Result<(), Violation> {
    let mut written: BTreeMap<i64, usize> = BTreeMap::new();
    for (place, operation) in history.iter().enumerate() {
        if operation.has_written()
            && operation.told() != 0
            && let Some(other) = written.insert(operation.told(), place)
        {
            return broken(history, place, "two writes of one revision", Some(other));
        }
    }
    Ok(())
}

/// What began after an answer was there names no older revision than that; and a newer one if it wrote.
fn never_back(history: &[Operation]) -> Result<(), Violation> {
    let told = |place: &usize| history[*place].told() != 0;
    let is_in_order = |place: &usize| told(place) && history[*place].op != Op::Peek;
    let mut beginnings: Vec<usize> = (0..history.len()).filter(is_in_order).collect();
    // What a serializable read showed had been decided, so its answer counts for those that come later.
    let mut ends: Vec<usize> = (0..history.len()).filter(told).collect();
    beginnings.sort_by_key(|&place| history[place].began);
    ends.sort_by_key(|&place| history[place].ended);
    let (mut newest, mut ended) = (None::<usize>, ends.into_iter().peekable());
    for place in beginnings {
        while let Some(end) = ended.next_if(|&end| history[end].ended < history[place].began) {
            if newest.is_none_or(|newest| history[newest].told() < history[end].told()) {
                newest = Some(end);
            }
        }
        let Some(newest) = newest else { continue };
        let (before, now) = (history[newest].told(), history[place].told());
        if now < before {
            return broken(history, place, "an older revision than was told before", Some(newest));
        }
        if now == before && history[place].has_written() {
            return broken(history, place, "a write at a revision that was told before it", Some(newest));
        }
    }
    Ok(())
}

/// Changes of known revision, by key and revision.
type Changes = BTreeMap<(Key, i64), usize>;

fn changes(history: &[Operation]) -> Changes {
    let written = history.iter().enumerate().filter(|(_, operation)| operation.has_written());
    let told = written.filter(|(_, operation)| operation.told() != 0);
    told.map(|(place, operation)| ((operation.key, operation.told()), place)).collect()
}

/// What was seen was written by somebody, was not refused, and has the revision its writer was told.
fn named_by_its_writer(
    history: &[Operation],
    writers: &Writers,
    place: usize,
    operation: &Operation,
) -> Result<(), Violation> {
    let Some(Some(held)) = operation.found() else { return Ok(()) };
    let Some(&writer) = writers.get(&(operation.key, held.value)) else {
        return broken(history, place, "a value that nobody ever wrote", None);
    };
    match history[writer].outcome {
        Outcome::Refused => broken(history, place, "a value whose write was refused", Some(writer)),
        Outcome::Done { answer: Answer::Kept(_), .. } => {
            broken(history, place, "a value whose swap did not happen", Some(writer))
        }
        Outcome::Done { revision, .. }
            if revision != 0 && held.revision != 0 && revision != held.revision =>
        {
            broken(history, place, "a value at another revision than its writer was told", Some(writer))
        }
        Outcome::Done { .. } | Outcome::Unknown => Ok(()),
    }
}

/// An answer shows the newest change up to the revision it names, and a write meets the newest below its own.
fn of_one_moment(
    history: &[Operation],
    changes: &Changes,
    place: usize,
    operation: &Operation,
) -> Result<(), Violation> {
    let (told, key) = (operation.told(), operation.key);
    let shown = match (operation.found(), operation.op) {
        (Some(Some(held)), _) => held.revision,
        (None, Op::Swap { expected: Expected::Revision(revision), .. }) if operation.has_written() => {
            revision
        }
        // That nothing is there can be the work of a delete whose client was not told: the search judges it.
        (Some(None) | None, _) => return Ok(()),
    };
    if told == 0 || shown == 0 {
        return Ok(());
    }
    let until = if operation.has_written() { told - 1 } else { told };
    if shown > until {
        return broken(history, place, "it shows what came after the revision it names", None);
    }
    match changes.range((Bound::Excluded((key, shown)), Bound::Included((key, until)))).next() {
        Some((_, &other)) => {
            broken(history, place, "it does not show a change before the revision it names", Some(other))
        }
        None => Ok(()),
    }
}

fn values_keep_their_revision(history: &[Operation]) -> Result<(), Violation> {
    let mut first: BTreeMap<_, usize> = BTreeMap::new();
    for (place, operation) in history.iter().enumerate() {
        let Some(Some(held)) = operation.found() else { continue };
        if held.revision == 0 {
            continue;
        }
        let other = *first.entry((operation.key, held.value)).or_insert(place);
        let seen_before = history[other].found().flatten().map_or(0, |held| held.revision);
        if seen_before != held.revision {
            return broken(history, place, "one value at two revisions", Some(other));
        }
    }
    Ok(())
}
