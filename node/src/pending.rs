//! Proposals waiting for their outcome: the only reply registry of the node.

use crate::inbox::Reply;
use quorate_api::{Answer, Refusal};
use quorate_store::Outcome;
use quorate_types::limits::{PENDING_BYTES_MAX, PENDING_COUNT_MAX};
use std::collections::BTreeMap;
use std::time::Instant;

/// Who waits for a proposal.
pub type OutcomeReply = Reply<Answer<Outcome>>;

/// One waiting proposal.
#[derive(Debug)]
struct Waiting {
    reply: OutcomeReply,
    deadline: Instant,
    bytes: usize,
}

/// The registry; bounded in count and bytes. Numbers rise, so the oldest stands first.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    number_last: u64,
    /// Payload bytes that are in the log and not yet applied, answered or not: a proposal that timed
    /// out still occupies the tail, so it still counts against the bound.
    bytes_unapplied: usize,
}

impl Pending {
    /// Whether one more proposal of that size may wait. If not, the client is told at once, so that the
    /// latency of what was accepted stays bounded.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < PENDING_COUNT_MAX && self.bytes_unapplied + bytes <= PENDING_BYTES_MAX
    }

    /// Registers a proposal; answers its number within this start of the node.
    pub fn register(&mut self, reply: OutcomeReply, bytes: usize, deadline: Instant) -> u64 {
        self.number_last += 1;
        self.bytes += bytes;
        let waiting = Waiting { reply, deadline, bytes };
        assert!(self.waiting.insert(self.number_last, waiting).is_none(), "proposal numbers only rise");
        self.number_last
    }

    /// A number for a proposal nobody waits for (the node's own: expiry, alarm, compaction).
    pub fn number_own(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    /// Payload bytes that entered the log.
    pub fn entered(&mut self, bytes: usize) {
        self.bytes_unapplied += bytes;
    }

    /// Payload bytes that left the tail by being applied.
    pub fn applied(&mut self, bytes: usize) {
        assert!(self.bytes_unapplied >= bytes, "applied what never entered");
        self.bytes_unapplied -= bytes;
    }

    /// Answers the proposal of that number, if somebody still waits.
    pub fn resolve(&mut self, number: u64, answer: Result<Answer<Outcome>, Refusal>) {
        if let Some(waiting) = self.take(number) {
            waiting.send(answer);
        }
    }

    /// Takes the reply out, to be answered later.
    pub fn take(&mut self, number: u64) -> Option<OutcomeReply> {
        let waiting = self.waiting.remove(&number)?;
        self.bytes -= waiting.bytes;
        Some(waiting.reply)
    }

    /// Answers `TimedOut` to whoever waited beyond the deadline. The outcome may still come to pass:
    /// that is what etcd's text says too.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while let Some(oldest) = self.waiting.first_entry() {
            if oldest.get().deadline > now {
                break;
            }
            let number = *oldest.key();
            self.resolve(number, Err(Refusal::TimedOut));
            count += 1;
        }
        count
    }

    /// Answers everybody with that refusal: the node stops, or its card failed.
    pub fn refuse_all(&mut self, refusal: Refusal) {
        while let Some((_, waiting)) = self.waiting.pop_first() {
            waiting.reply.send(Err(refusal));
        }
        self.bytes = 0;
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Reply;
    use quorate_types::Revision;
    use std::time::Duration;

    fn answer() -> Answer<Outcome> {
        Answer { revision: Revision(2), term: 1, value: Outcome::Compact }
    }

    #[test]
    fn each_proposal_is_answered_once() {
        let mut pending = Pending::default();
        let (reply, mut receiver) = Reply::pair();
        let number = pending.register(reply, 10, Instant::now());
        pending.resolve(number, Ok(answer()));
        pending.resolve(number, Err(Refusal::TimedOut));
        assert_eq!(receiver.try_recv().unwrap(), Ok(answer()));
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn only_the_overdue_time_out() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let (early, mut early_receiver) = Reply::pair();
        let (late, mut late_receiver) = Reply::pair();
        pending.register(early, 1, now);
        pending.register(late, 1, now + Duration::from_secs(7));
        assert_eq!(pending.expire(now), 1);
        assert_eq!(early_receiver.try_recv().unwrap(), Err(Refusal::TimedOut));
        assert!(late_receiver.try_recv().is_err());
    }

    #[test]
    fn what_timed_out_still_fills_the_tail() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let (reply, _receiver) = Reply::pair();
        pending.register(reply, PENDING_BYTES_MAX, now);
        pending.entered(PENDING_BYTES_MAX);
        pending.expire(now);
        assert!(!pending.has_room(1));
        pending.applied(PENDING_BYTES_MAX);
        assert!(pending.has_room(1));
    }
}
