//! What happens when: one heap of events, in the order of virtual time, ties in the order they were put in.

use crate::board::Slot;
use quorate_raft::Message;
use quorate_types::NodeId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual time since the seed's beginning.
pub(crate) type Nanos = u64;

pub(crate) const US: Nanos = 1_000;
pub(crate) const MS: Nanos = 1_000 * US;
pub(crate) const SECOND: Nanos = 1_000 * MS;

/// Counts the lives of a board's process: what was meant for one never reaches the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Life(pub(crate) u64);

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The driver of a board wakes up.
    Wake(Slot, Life),
    /// The wal thread's write and sync are through.
    WalDone(Slot, Life),
    /// The background thread goes on.
    Background(Slot, Life),
    /// The fetcher has read what it was asked for.
    Fetched(Slot, Life),
    /// A message of one core to another arrives.
    Message { from: NodeId, source: Slot, to: NodeId, message: Message },
    /// What two halls say to each other may arrive.
    Stream { source: Slot, target: Slot },
    /// A node hears that a member does not know it.
    Refused { slot: Slot, life: Life, version: u64 },
    /// The leader dials a joining board back.
    DialBack { slot: Slot, life: Life, ticket: u64, address: String },
    /// An image on its way goes on.
    Transfer(u64),
    /// A board is switched on.
    Start(Slot),
    /// A board's start has read and written its card.
    Started(Slot, Life),
    /// Links are looked after.
    Links,
    /// A client does its next thing.
    Client(usize),
    /// A client of leases does its next thing.
    Lease(usize),
    /// A watching client looks.
    Watcher(usize),
    /// Somebody looks after members and images.
    Operator,
    /// The next fault.
    Fault,
    /// A fault's time is over.
    Heal(crate::faults::Cure),
}

/// The heap.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

struct Entry {
    at: Nanos,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Queue {
    pub(crate) fn push(&mut self, at: Nanos, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Entry { at, number: self.count, event }));
    }

    pub(crate) fn pop(&mut self) -> Option<(Nanos, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
