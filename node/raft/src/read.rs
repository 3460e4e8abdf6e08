//! Linearizable reads (Raft thesis 6.4): the leader's commit index, once a round with the quorum that began
//! later shows that it still led. No lease (rule 10). Every read is answered once.

use crate::ReadId;
use crate::timing::{READ_RESEND_TICKS, READ_TICKS};
use alloc::vec::Vec;
use heapless::Deque;
use quorate_types::{Index, NodeId};

/// Reads of this node's clients that may wait at once.
pub(crate) const READ_COUNT_MAX: usize = 16_384;

/// Reads of other nodes that may wait at a leader; each stands for a batch.
const PEER_READ_COUNT_MAX: usize = 1_024;

/// Batches of a follower on their way to its leader.
const BATCHES_MAX: usize = 32;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// This node's hall.
    Local(ReadId),
    /// A follower, under its number.
    Peer(NodeId, u64),
}

/// A leader's reads: those of the round under way, and those for the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaderReads {
    waiting: Vec<Reader>,
    round: Option<Round>,
    local_count: usize,
}

/// Reads that are answered once a quorum has answered this round.
#[derive(Debug, Clone)]
struct Round {
    number: u64,
    index: Index,
    readers: Vec<Reader>,
}

impl LeaderReads {
    /// Takes a read; false if too many wait. A follower asks again for what it has no answer to: that waits already.
    pub(crate) fn ask(&mut self, reader: Reader) -> bool {
        let in_round = self.round.iter().flat_map(|round| &round.readers);
        let is_peer = matches!(reader, Reader::Peer(..));
        if is_peer && in_round.chain(&self.waiting).any(|waiting| *waiting == reader) {
            return true;
        }
        let peers = self.waiting.len() + self.round.as_ref().map_or(0, |round| round.readers.len());
        let has_room = match reader {
            Reader::Local(_) => self.local_count < READ_COUNT_MAX,
            Reader::Peer(..) => peers - self.local_count < PEER_READ_COUNT_MAX,
        };
        if has_room {
            self.local_count += usize::from(matches!(reader, Reader::Local(_)));
            self.waiting.push(reader);
        }
        has_room
    }

    /// Whether a round should begin.
    pub(crate) fn wants_round(&self) -> bool {
        self.round.is_none() && !self.waiting.is_empty()
    }

    /// Round `number` begins, with `index` committed.
    pub(crate) fn begin(&mut self, number: u64, index: Index) {
        assert!(self.round.is_none(), "one round at a time");
        self.round = Some(Round { number, index, readers: core::mem::take(&mut self.waiting) });
    }

    /// Ends the round under way if `is_answered` by a quorum: the readers, and their index.
    pub(crate) fn end(&mut self, is_answered: impl Fn(u64) -> bool) -> Option<(Index, Vec<Reader>)> {
        let round = self.round.take_if(|round| is_answered(round.number))?;
        self.local_count -= round.readers.iter().filter(|reader| matches!(reader, Reader::Local(_))).count();
        Some((round.index, round.readers))
    }

    /// All that wait, as leadership ends.
    pub(crate) fn drain(&mut self) -> Vec<Reader> {
        self.local_count = 0;
        let mut readers = self.round.take().map_or_else(Vec::new, |round| round.readers);
        readers.append(&mut self.waiting);
        readers
    }

    pub(crate) fn is_consistent(&self) -> bool {
        let in_round = self.round.iter().flat_map(|round| &round.readers);
        let local = in_round.chain(&self.waiting).filter(|reader| matches!(reader, Reader::Local(_)));
        local.count() == self.local_count
    }
}

/// A follower's reads, in batches under numbers that no other life of this node uses.
#[derive(Debug, Clone)]
pub(crate) struct FollowerReads {
    number: u64,
    open: Vec<ReadId>,
    batches: Deque<Batch, BATCHES_MAX>,
    count: usize,
}

#[derive(Debug, Clone)]
struct Batch {
    number: u64,
    ids: Vec<ReadId>,
    until: u64,
    resend_at: u64,
}

impl FollowerReads {
    /// `salt` sets this life's numbers apart: an answer to an earlier life must not be taken for a new one.
    pub(crate) fn new(salt: u64) -> FollowerReads {
        FollowerReads { number: salt, open: Vec::new(), batches: Deque::new(), count: 0 }
    }

    /// Takes a read; false if too many wait.
    pub(crate) fn ask(&mut self, id: ReadId) -> bool {
        let has_room = self.count < READ_COUNT_MAX;
        if has_room {
            self.count += 1;
            self.open.push(id);
        }
        has_room
    }

    /// Whether a batch waits to be sent, and may be.
    pub(crate) fn wants_batch(&self) -> bool {
        !self.open.is_empty() && !self.batches.is_full()
    }

    /// Closes the open batch: the number to ask the leader under.
    pub(crate) fn close_batch(&mut self, now: u64) -> u64 {
        self.number = self.number.wrapping_add(1);
        let ids = core::mem::take(&mut self.open);
        let batch =
            Batch { number: self.number, ids, until: now + READ_TICKS, resend_at: now + READ_RESEND_TICKS };
        self.batches.push_back(batch).expect("room was asked for before");
        self.number
    }

    /// Numbers to ask for again.
    pub(crate) fn resend(&mut self, now: u64) -> Vec<u64> {
        let due = self.batches.iter_mut().filter(|batch| batch.resend_at <= now);
        due.map(|batch| {
            batch.resend_at = now + READ_RESEND_TICKS;
            batch.number
        })
        .collect()
    }

    /// The leader answered: the reads under that number, none if it is not known any more.
    pub(crate) fn answered(&mut self, number: u64) -> Vec<ReadId> {
        let mut found = Vec::new();
        for _ in 0..self.batches.len() {
            let batch = self.batches.pop_front().expect("as many as there are");
            if batch.number == number {
                found = batch.ids;
            } else {
                self.batches.push_back(batch).expect("its own place is free");
            }
        }
        self.count -= found.len();
        found
    }

    /// Reads that waited too long.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<ReadId> {
        let mut ids = Vec::new();
        while self.batches.front().is_some_and(|batch| batch.until <= now) {
            ids.extend(self.batches.pop_front().expect("there is a front").ids);
        }
        self.count -= ids.len();
        ids
    }

    /// All that wait, as the leader is lost.
    pub(crate) fn drain(&mut self) -> Vec<ReadId> {
        self.count = 0;
        let mut ids = Vec::new();
        while let Some(batch) = self.batches.pop_front() {
            ids.extend(batch.ids);
        }
        ids.append(&mut self.open);
        ids
    }

    /// When something is due next.
    pub(crate) fn due(&self) -> Option<u64> {
        self.batches.iter().map(|batch| batch.resend_at.min(batch.until)).min()
    }

    /// Whether the count is what is held.
    pub(crate) fn is_consistent(&self) -> bool {
        self.open.len() + self.batches.iter().map(|batch| batch.ids.len()).sum::<usize>() == self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn reads_that_come_during_a_round_wait_for_the_next() {
        let mut reads = LeaderReads::default();
        assert!(reads.ask(Reader::Local(ReadId(1))));
        reads.begin(7, Index(3));
        assert!(reads.ask(Reader::Peer(NodeId(2), 9)) && !reads.wants_round());
        assert!(reads.end(|round| round < 7).is_none());
        assert_eq!(reads.end(|round| round == 7), Some((Index(3), vec![Reader::Local(ReadId(1))])));
        assert!(reads.wants_round() && reads.is_consistent());
        assert_eq!(reads.drain(), vec![Reader::Peer(NodeId(2), 9)]);
    }

    #[test]
    fn a_batch_asked_for_again_waits_once() {
        let mut reads = LeaderReads::default();
        let reader = Reader::Peer(NodeId(2), 9);
        assert!(reads.ask(reader) && reads.ask(reader));
        reads.begin(1, Index(3));
        assert!(reads.ask(reader) && !reads.wants_round());
        assert_eq!(reads.end(|_| true), Some((Index(3), vec![reader])));
    }

    #[test]
    fn reads_are_bounded_for_clients_and_peers_apart() {
        let mut reads = LeaderReads::default();
        assert!((0..1_024).all(|number| reads.ask(Reader::Peer(NodeId(2), number))));
        assert!(!reads.ask(Reader::Peer(NodeId(2), 1_024)));
        assert!(reads.ask(Reader::Local(ReadId(1))));
        let mut reads = FollowerReads::new(0);
        assert!((0..16_384).all(|id| reads.ask(ReadId(id))));
        assert!(!reads.ask(ReadId(1)));
        assert_eq!(reads.drain().len(), 16_384);
        assert!(reads.is_consistent() && reads.count == 0);
    }

    #[test]
    fn each_read_of_a_follower_ends_once() {
        let mut reads = FollowerReads::new(u64::MAX);
        reads.ask(ReadId(1));
        let first = reads.close_batch(0);
        reads.ask(ReadId(2));
        let second = reads.close_batch(5);
        reads.ask(ReadId(3));
        let third = reads.close_batch(6);
        assert_eq!(reads.resend(READ_RESEND_TICKS), vec![first]);
        assert_eq!(reads.answered(second), vec![ReadId(2)]);
        assert_eq!(reads.answered(second), vec![]);
        assert_eq!(reads.expire(READ_TICKS), vec![ReadId(1)]);
        assert_eq!(reads.answered(third), vec![ReadId(3)]);
        assert!(reads.is_consistent() && reads.count == 0 && reads.due().is_none());
    }
}
