//! Is what clients saw explained by one order of their operations, in which each took effect at one moment between
//! its invocation and its answer? Wing and Gong's search as Lowe made it usable, one key at a time, with memory of
//! the dead ends; and beside it what etcd's revisions say, over all keys at once.
//!
//! Pure: no clock, no sockets, no threads. Times are whatever the caller counts on one clock; a simulator's ticks
//! are as good as nanoseconds.
//!
//! What a caller has to see to: one key's values are never written twice ([`check`] refuses a history in which they
//! are), deletes ask for the previous value, and a swap that fails reads the key in the same transaction. So every
//! answer that depends on the state tells the state, and writes of unknown outcome that nobody ever saw can be left out.

mod model;
mod revisions;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A key, by the caller's numbers.
pub type Key = u64;

/// A value, by the caller's numbers; no two writes of a key share one.
pub type Value = u64;

/// What one client asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who asked; only for the report.
    pub client: u64,
    /// Of which key.
    pub key: Key,
    /// When it was asked for.
    pub began: u64,
    /// When the answer was there, or the client gave up. What ends at the moment another begins overlaps it.
    pub ended: u64,
    /// What.
    pub op: Op,
    /// And then.
    pub outcome: Outcome,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A linearizable read.
    Get,
    /// A serializable read: it may be old, but must be what the key was at the revision it names.
    Peek,
    /// A write.
    Put(Value),
    /// A delete that asks for what was there.
    Delete,
    /// A write if the key is as expected, else a read.
    Swap {
        /// What the key has to be.
        expected: Expected,
        /// What it becomes.
        value: Value,
    },
}

/// What a swap compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No such key.
    Absent,
    /// The value.
    Value(Value),
    /// The `mod_revision`, above 0.
    Revision(i64),
}

/// A value as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The value.
    pub value: Value,
    /// Its `mod_revision`; 0 where that was not told.
    pub revision: i64,
}

/// What the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done {
        /// With this.
        answer: Answer,
        /// The header's revision, and so that of the write if it was one; 0 where that was not told.
        revision: i64,
    },
    /// It did not happen and never will.
    Refused,
    /// It may have happened, may happen at any later time, or never.
    Unknown,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What a read found.
    Got(Option<Held>),
    /// A put is done.
    Put,
    /// What a delete found; nothing was written if it found nothing.
    Deleted(Option<Held>),
    /// The key was as expected and has the new value.
    Swapped,
    /// It was not as expected, but this.
    Kept(Option<Held>),
}

/// What a check looked at, so that one that looked at nothing is not taken for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Operations of known outcome.
    pub answered: usize,
    /// Operations of unknown outcome.
    pub unknown: usize,
    /// Of those, writes whose value was seen later.
    pub unknown_happened: usize,
    /// Keys.
    pub keys: usize,
    /// Steps of the search, over all keys.
    pub steps: u64,
}

/// What breaks a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The operation that no order explains, by its place in the history; the nearest there is to a culprit.
    pub operation: usize,
    /// What is wrong, with the operations around it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "operation {}: {}", self.operation, self.text)
    }
}

impl std::error::Error for Violation {}

/// Checks a whole history, in any order.
///
/// # Errors
/// The first violation found, or that the search gave up (no order found within its bound on steps): both mean
/// that this history proves nothing good.
pub fn check(history: &[Operation]) -> Result<Checked, Violation> {
    let writers = writers(history)?;
    let seen = seen(history, &writers);
    revisions::check(history, &writers)?;
    let mut checked = Checked::default();
    let mut by_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (at, operation) in history.iter().enumerate() {
        match operation.outcome {
            Outcome::Done { .. } => checked.answered += 1,
            Outcome::Unknown => checked.unknown += 1,
            Outcome::Refused => {}
        }
        by_key.entry(operation.key).or_default().push(at);
    }
    checked.keys = by_key.len();
    for places in by_key.values() {
        let told = search::check_key(history, places, &seen)?;
        checked.steps += told.steps;
        checked.unknown_happened += told.unknown_happened;
    }
    Ok(checked)
}

/// Who writes which value.
type Writers = BTreeMap<(Key, Value), usize>;

/// Each value that an answer showed: its revision if told, and when the first such answer was there.
type Seen = BTreeMap<(Key, Value), Sighting>;

#[derive(Debug, Clone, Copy)]
struct Sighting {
    revision: i64,
    ended: u64,
}

impl Operation {
    /// The value it writes if it takes effect.
    #[must_use]
    pub fn writes(&self) -> Option<Value> {
        match self.op {
            Op::Put(value) | Op::Swap { value, .. } => Some(value),
            Op::Get | Op::Peek | Op::Delete => None,
        }
    }

    /// What its answer says was there; none if it says nothing, and none inside if nothing was there.
    fn found(&self) -> Option<Option<Held>> {
        let Outcome::Done { answer, .. } = self.outcome else { return None };
        match (answer, self.op) {
            (Answer::Got(held) | Answer::Deleted(held) | Answer::Kept(held), _) => Some(held),
            (Answer::Swapped, Op::Swap { expected: Expected::Absent, .. }) => Some(None),
            (Answer::Swapped, Op::Swap { expected: Expected::Value(value), .. }) => {
                Some(Some(Held { value, revision: 0 }))
            }
            (Answer::Swapped | Answer::Put, _) => None,
        }
    }

    /// Whether its answer says that it changed the key.
    fn has_written(&self) -> bool {
        let Outcome::Done { answer, .. } = self.outcome else { return false };
        match answer {
            Answer::Put | Answer::Swapped | Answer::Deleted(Some(_)) => true,
            Answer::Got(_) | Answer::Kept(_) | Answer::Deleted(None) => false,
        }
    }

    /// The revision at which it changed the key, if it is known to have.
    #[must_use]
    pub fn written_at(&self) -> Option<i64> {
        self.has_written().then_some(self.told())
    }

    /// The revision its answer tells; 0 if none.
    fn told(&self) -> i64 {
        match self.outcome {
            Outcome::Done { revision, .. } => revision,
            Outcome::Refused | Outcome::Unknown => 0,
        }
    }
}

fn writers(history: &[Operation]) -> Result<Writers, Violation> {
    let mut writers = Writers::new();
    for (at, operation) in history.iter().enumerate() {
        let Some(value) = operation.writes() else { continue };
        if let Some(other) = writers.insert((operation.key, value), at) {
            let text = format!(
                "value {value} of key {} is also written by operation {other}: such a history cannot be checked",
                operation.key
            );
            return Err(Violation { operation: at, text });
        }
    }
    Ok(writers)
}

fn seen(history: &[Operation], writers: &Writers) -> Seen {
    let mut seen = Seen::new();
    for operation in history {
        let Some(Some(held)) = operation.found() else { continue };
        let (mut value, mut sighting) =
            (held.value, Sighting { revision: held.revision, ended: operation.ended });
        // Whoever sees what a swap wrote has also seen what that swap expected, and so on.
        while note(&mut seen, (operation.key, value), sighting) {
            let Some(&writer) = writers.get(&(operation.key, value)) else { break };
            let Op::Swap { expected: Expected::Value(before), .. } = history[writer].op else { break };
            (value, sighting) = (before, Sighting { revision: 0, ended: sighting.ended });
        }
    }
    seen
}

/// Whether that was the first sight of it, or an earlier one.
fn note(seen: &mut Seen, what: (Key, Value), sighting: Sighting) -> bool {
    let Some(known) = seen.get_mut(&what) else {
        seen.insert(what, sighting);
        return true;
    };
    let is_earlier = sighting.ended < known.ended;
    known.ended = known.ended.min(sighting.ended);
    if known.revision == 0 {
        known.revision = sighting.revision;
    }
    is_earlier
}

/// Keys a history touches.
#[must_use]
pub fn keys(history: &[Operation]) -> BTreeSet<Key> {
    history.iter().map(|operation| operation.key).collect()
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, key, began, ended, op, .. } = self;
        write!(out, "[{began}..{ended}] client {client}: ")?;
        match op {
            Op::Get => write!(out, "get {key}")?,
            Op::Peek => write!(out, "peek {key}")?,
            Op::Put(value) => write!(out, "put {key} := {value}")?,
            Op::Delete => write!(out, "delete {key}")?,
            Op::Swap { expected, value } => write!(out, "swap {key}: {expected:?} -> {value}")?,
        }
        match self.outcome {
            Outcome::Done { answer, revision } => write!(out, " = {answer:?} at {revision}"),
            Outcome::Refused => write!(out, " = refused"),
            Outcome::Unknown => write!(out, " = unknown"),
        }
    }
}
