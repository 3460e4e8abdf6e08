//! Consensus of one: the shape of the core that a quorum needs, with the quorum being this node.
//!
//! It takes proposals and acknowledgements and hands back one typed `Ready`, in which the durable work
//! is a type of its own (`Append`) with its own acknowledgement. Nothing is committed before its
//! acknowledgement came; the log's tail lives here, in memory, until it is applied.

use quorate_types::{Entry, EntryKind, HardState, Index, NodeId, Position, Term};
use std::collections::VecDeque;
use std::sync::Arc;

/// The core's state: a leader by its own vote since its start.
#[derive(Debug)]
pub struct Solo {
    hard_state: HardState,
    last: Index,
    persisted: Index,
    committed: Index,
    applied: Index,
    /// Entries above `applied`.
    tail: VecDeque<Entry>,
    /// Entries above what the last `Ready` handed to the log.
    unsent: usize,
}

/// What the hall must do now.
#[derive(Debug, Default)]
pub struct Ready {
    /// Entries to make durable, in order; empty if there is nothing new.
    pub append: Vec<Entry>,
    /// A commit hint worth writing beside them.
    pub commit_hint: Index,
    /// Entries to apply, in order.
    pub committed: Vec<Entry>,
}

/// That the log is durable up to a position. Acknowledgements are ordered by (leader's term, index):
/// the index alone may fall once there are other leaders (protocol.md rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendAck {
    /// Term of the leader whose append it was.
    pub term: Term,
    /// Last index made durable.
    pub index: Index,
}

impl Solo {
    /// Takes over from what recovery made durable: `hard_state` is this start's own term and vote, the
    /// recovered entries above `applied` are `tail`, all of them committed, since the quorum is this node.
    ///
    /// # Panics
    /// If the tail does not follow `applied`; recovery has checked that.
    #[must_use]
    pub fn restore(hard_state: HardState, node: NodeId, applied: Index, tail: Vec<Entry>) -> Solo {
        assert_eq!(hard_state.vote, Some(node), "a node leads alone only by its own vote");
        for (entry, index) in tail.iter().zip(applied.next().0..) {
            assert_eq!(entry.position.index, Index(index), "the tail is contiguous");
        }
        let last = tail.last().map_or(applied, |entry| entry.position.index);
        Solo { hard_state, last, persisted: last, committed: last, applied, tail: tail.into(), unsent: 0 }
    }

    /// Appends a payload to the log's tail; answers where it stands.
    pub fn propose(&mut self, kind: EntryKind, payload: Arc<[u8]>) -> Position {
        self.last = self.last.next();
        let position = Position { term: self.hard_state.term, index: self.last };
        self.tail.push_back(Entry { position, kind, payload });
        self.unsent += 1;
        position
    }

    /// What there is to do since the last call.
    #[must_use]
    pub fn take_ready(&mut self) -> Ready {
        let unsent_start = self.tail.len() - self.unsent;
        let append: Vec<Entry> = self.tail.range(unsent_start..).cloned().collect();
        self.unsent = 0;
        let mut committed = Vec::new();
        while self.applied < self.committed {
            let entry = self.tail.pop_front().expect("what is committed and not applied is in the tail");
            assert_eq!(entry.position.index, self.applied.next(), "applied in order, without a gap");
            self.applied = entry.position.index;
            committed.push(entry);
        }
        Ready { append, commit_hint: self.committed, committed }
    }

    /// The log is durable up to there: on a quorum of one, that commits it.
    ///
    /// # Panics
    /// If an acknowledgement goes back or names what was never appended.
    pub fn ack_append(&mut self, ack: AppendAck) {
        assert_eq!(ack.term, self.hard_state.term, "alone, every append is of the own term");
        assert!(ack.index >= self.persisted, "the mark never goes back");
        assert!(ack.index <= self.last, "only what was appended can be durable");
        self.persisted = ack.index;
        self.committed = ack.index;
    }

    /// Term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Last index committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Last index applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solo() -> Solo {
        let hard_state = HardState { term: Term(3), vote: Some(NodeId(7)) };
        Solo::restore(hard_state, NodeId(7), Index(10), Vec::new())
    }

    #[test]
    fn nothing_is_committed_before_it_is_durable() {
        let mut solo = solo();
        let position = solo.propose(EntryKind::Command, Arc::from(&b"a"[..]));
        assert_eq!(position, Position { term: Term(3), index: Index(11) });
        let ready = solo.take_ready();
        assert_eq!(ready.append.len(), 1);
        assert!(ready.committed.is_empty());
        assert!(solo.take_ready().append.is_empty(), "each entry is handed out once");
        solo.ack_append(AppendAck { term: Term(3), index: Index(11) });
        let ready = solo.take_ready();
        assert_eq!(ready.committed.len(), 1);
        assert_eq!(solo.applied(), Index(11));
    }

    #[test]
    #[should_panic(expected = "the mark never goes back")]
    fn a_mark_that_goes_back_stops_the_node() {
        let mut solo = solo();
        solo.ack_append(AppendAck { term: Term(3), index: Index(9) });
    }

    #[test]
    fn a_recovered_tail_is_committed_and_applied_first() {
        let entry = Entry {
            position: Position { term: Term(2), index: Index(11) },
            kind: EntryKind::Command,
            payload: Arc::from(&b"x"[..]),
        };
        let hard_state = HardState { term: Term(3), vote: Some(NodeId(7)) };
        let mut solo = Solo::restore(hard_state, NodeId(7), Index(10), vec![entry.clone()]);
        let ready = solo.take_ready();
        assert!(ready.append.is_empty());
        assert_eq!(ready.committed, vec![entry]);
    }
}
