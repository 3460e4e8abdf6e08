//! Proposals waiting for their outcome: the only reply registry of the node.
//!
//! A proposal is given to a leader in that leader's term. It is answered when its entry is applied here.
//! Once an entry of a newer term is applied here, a proposal of an older term that was not applied can
//! never be: it is given to the new leader, once more, under the same id. Nothing else is sent twice.

use crate::drain::Drain;
use crate::inbox::Reply;
use core::time::Duration;
use quorate_api::{Answer, Refusal};
use quorate_store::Outcome;
use quorate_types::limits::{PENDING_BYTES_MAX, PENDING_COUNT_MAX};
use quorate_types::{ClusterTime, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who waits for a proposal.
pub type OutcomeReply = Reply<Answer<Outcome>>;

/// A command on its way, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its bytes for the log, stamped.
    pub payload: Arc<[u8]>,
    /// The stamp in them.
    pub stamp: ClusterTime,
    /// Logical bytes it may add to the store.
    pub growth: u64,
}

/// One waiting proposal.
#[derive(Debug)]
struct Waiting {
    reply: OutcomeReply,
    deadline: Duration,
    proposal: Proposal,
    /// Term of the leader it was given to; none while it waits for one.
    given: Option<Term>,
}

/// The registry; bounded in count and bytes. Numbers rise, so the oldest stands first.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: BTreeMap<u64, Waiting>,
    /// Those that wait for a leader.
    ungiven: BTreeSet<u64>,
    bytes: usize,
    number_last: u64,
    drain: Drain,
}

impl Pending {
    /// Whether one more proposal of that size may wait. If not, the client is told at once, so that the
    /// latency of what was accepted stays bounded.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < PENDING_COUNT_MAX
            && self.bytes + bytes <= PENDING_BYTES_MAX
            && !self.drain.is_too_slow()
    }

    /// Looks how fast the queue gets shorter; to be called several times a second.
    pub fn sample(&mut self, now: Duration) {
        self.drain.sample(now);
    }

    /// One was applied, and will be answered: it has left the queue by doing what it was to do.
    pub fn applied(&mut self, number: u64, now: Duration) {
        if let Some(waiting) = self.waiting.get(&number) {
            self.drain.applied(waiting.proposal.payload.len(), now);
        }
    }

    /// The next proposal's number within this start of the node.
    pub fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    /// Registers a proposal under a number from `next_number`; it waits to be given to a leader.
    pub fn register(&mut self, number: u64, reply: OutcomeReply, proposal: Proposal, deadline: Duration) {
        self.bytes += proposal.payload.len();
        self.drain.entered(proposal.payload.len());
        let waiting = Waiting { reply, deadline, proposal, given: None };
        assert!(self.waiting.insert(number, waiting).is_none(), "proposal numbers only rise");
        self.ungiven.insert(number);
    }

    /// The oldest proposal that waits for a leader.
    #[must_use]
    pub fn first_ungiven(&self) -> Option<(u64, Proposal)> {
        let number = *self.ungiven.first()?;
        let waiting = self.waiting.get(&number).expect("what waits for a leader waits");
        Some((number, waiting.proposal.clone()))
    }

    /// It was given to the leader of that term.
    pub fn give(&mut self, number: u64, term: Term) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.given = Some(term);
            self.ungiven.remove(&number);
        }
    }

    /// It is certain that the leader of `term` did not append it: it waits for a leader again.
    pub fn take_back(&mut self, number: u64, term: Term) {
        if let Some(waiting) = self.waiting.get_mut(&number)
            && waiting.given == Some(term)
        {
            waiting.given = None;
            self.ungiven.insert(number);
        }
    }

    /// The leader of `term` will not append it. If another leader has it meanwhile, that says nothing.
    pub fn refuse(&mut self, number: u64, term: Term, refusal: Refusal) {
        if self.waiting.get(&number).is_some_and(|waiting| waiting.given == Some(term)) {
            self.resolve(number, Err(refusal));
        }
    }

    /// An entry of `term` was applied: what was given to older leaders and is not applied is dead.
    pub fn take_back_before(&mut self, term: Term) {
        for (number, waiting) in &mut self.waiting {
            if waiting.given.is_some_and(|given| given < term) {
                waiting.given = None;
                self.ungiven.insert(*number);
            }
        }
    }

    /// An image went over entries unseen: nobody knows which of the proposals given to a leader are in it.
    pub fn forget_given(&mut self) {
        let given: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.given.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in given {
            self.resolve(number, Err(Refusal::TimedOut));
        }
    }

    /// Answers the proposal of that number, if somebody still waits.
    pub fn resolve(&mut self, number: u64, answer: Result<Answer<Outcome>, Refusal>) {
        if let Some(reply) = self.take(number) {
            reply.send(answer);
        }
    }

    /// Takes the reply out, to be answered later.
    pub fn take(&mut self, number: u64) -> Option<OutcomeReply> {
        let waiting = self.waiting.remove(&number)?;
        self.ungiven.remove(&number);
        self.bytes -= waiting.proposal.payload.len();
        self.drain.left(waiting.proposal.payload.len());
        Some(waiting.reply)
    }

    /// Answers `TimedOut` to whoever waited beyond the deadline. The outcome may still come to pass:
    /// that is what etcd's text says too.
    pub fn expire(&mut self, now: Duration) -> usize {
        let mut count = 0;
        while let Some((number, oldest)) = self.waiting.first_key_value() {
            if oldest.deadline > now {
                break;
            }
            let number = *number;
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
        self.ungiven.clear();
        self.bytes = 0;
        self.drain = Drain::default();
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
    use quorate_types::Revision;
    use tokio::sync::oneshot::Receiver;

    type Heard = Receiver<Result<Answer<Outcome>, Refusal>>;

    fn answer() -> Answer<Outcome> {
        Answer { revision: Revision(2), term: 1, value: Outcome::Compact }
    }

    fn register(pending: &mut Pending, deadline_ms: u64) -> (u64, Heard) {
        let (reply, receiver) = Reply::pair();
        let number = pending.next_number();
        let proposal = Proposal { payload: Arc::from(&b"payload"[..]), stamp: ClusterTime(1), growth: 0 };
        pending.register(number, reply, proposal, Duration::from_millis(deadline_ms));
        (number, receiver)
    }

    #[test]
    fn each_proposal_is_answered_once() {
        let mut pending = Pending::default();
        let (number, mut heard) = register(&mut pending, 10);
        pending.resolve(number, Ok(answer()));
        pending.resolve(number, Err(Refusal::TimedOut));
        assert_eq!(heard.try_recv().unwrap(), Ok(answer()));
        assert_eq!(pending.count(), 0);
    }

    #[test]
    fn only_the_overdue_time_out() {
        let mut pending = Pending::default();
        let (_, mut early) = register(&mut pending, 10);
        let (_, mut late) = register(&mut pending, 7_000);
        assert_eq!(pending.expire(Duration::from_millis(10)), 1);
        assert_eq!(early.try_recv().unwrap(), Err(Refusal::TimedOut));
        assert!(late.try_recv().is_err());
    }

    #[test]
    fn only_what_is_dead_is_given_twice() {
        let mut pending = Pending::default();
        let (first, _first_heard) = register(&mut pending, 10);
        let (second, _second_heard) = register(&mut pending, 10);
        pending.give(first, Term(3));
        pending.give(second, Term(4));
        assert_eq!(pending.first_ungiven(), None);
        pending.take_back_before(Term(4));
        assert_eq!(pending.first_ungiven().map(|(number, _)| number), Some(first));
        pending.give(first, Term(4));
        pending.take_back(first, Term(3));
        assert_eq!(pending.first_ungiven(), None, "an old leader's answer says nothing of the new one");
        pending.take_back(first, Term(4));
        assert_eq!(pending.first_ungiven().map(|(number, _)| number), Some(first));
    }

    #[test]
    fn a_refusal_of_an_older_leader_says_nothing() {
        let mut pending = Pending::default();
        let (number, mut heard) = register(&mut pending, 10);
        pending.give(number, Term(3));
        pending.take_back_before(Term(4));
        pending.give(number, Term(4));
        pending.refuse(number, Term(3), Refusal::Overloaded);
        assert!(heard.try_recv().is_err(), "the leader of term 4 may have appended it");
        pending.refuse(number, Term(4), Refusal::Overloaded);
        assert_eq!(heard.try_recv().unwrap(), Err(Refusal::Overloaded));
    }

    #[test]
    fn an_image_over_a_proposal_makes_its_outcome_unknown() {
        let mut pending = Pending::default();
        let (given, mut given_heard) = register(&mut pending, 10);
        let (_, mut ungiven_heard) = register(&mut pending, 10);
        pending.give(given, Term(1));
        pending.forget_given();
        assert_eq!(given_heard.try_recv().unwrap(), Err(Refusal::TimedOut));
        assert!(ungiven_heard.try_recv().is_err(), "what no leader has can still be given to one");
    }

    /// Ten times what the cluster can do was taken in, and most of it timed out after seven seconds.
    #[test]
    fn what_would_wait_too_long_is_not_taken() {
        let mut pending = Pending::default();
        let mut heard = Vec::new();
        let mut now = Duration::ZERO;
        let mut refused = 0;
        for _ in 0..500 {
            for _ in 0..10 {
                let (reply, receiver) = Reply::pair();
                let payload: Arc<[u8]> = Arc::from(vec![7; 10_000]);
                if !pending.has_room(payload.len()) {
                    refused += 1;
                    continue;
                }
                let number = pending.next_number();
                let proposal = Proposal { payload, stamp: ClusterTime(1), growth: 0 };
                pending.register(number, reply, proposal, Duration::from_secs(1_000));
                heard.push(receiver);
            }
            let oldest = *pending.waiting.first_key_value().expect("some wait").0;
            pending.applied(oldest, now);
            pending.resolve(oldest, Ok(answer()));
            pending.sample(now);
            now += Duration::from_millis(10);
        }
        assert!(pending.count() < 320 && refused > 3_000, "{} wait, {refused} refused", pending.count());
    }

    #[test]
    fn the_bound_is_in_bytes_too() {
        let mut pending = Pending::default();
        assert!(!pending.has_room(PENDING_BYTES_MAX + 1));
        let (_, _heard) = register(&mut pending, 10);
        assert!(!pending.has_room(PENDING_BYTES_MAX));
    }
}
