//! Reads. Linearizable ones wait for an index that the leader has confirmed with a quorum after they came
//! (Raft thesis 6.4), then read here; the others read at once.

use super::answer::Answerer;
use super::{Driver, REQUEST_TIMEOUT, ReadReply};
use crate::inbox::Reply;
use core::time::Duration;
use quorate_api::{LeaseAnswer, Read, ReadOutcome, Refusal};
use quorate_raft::{ReadDone, ReadId, ReadRefused};
use quorate_store::InviteView;
use quorate_types::limits::INBOX_COUNT_MAX;
use quorate_types::{ClusterTime, Index, LeaseId};
use std::collections::{BTreeMap, BTreeSet};

/// Reads under way.
#[derive(Default)]
pub(super) struct Reads {
    waiting: BTreeMap<ReadId, Waiting>,
    /// To be asked (again) once there is a leader.
    unasked: BTreeSet<ReadId>,
    /// Refused in this turn: asked again in the next.
    refused: BTreeSet<ReadId>,
    /// Confirmed, and waiting for this node to apply that far.
    confirmed: BTreeSet<(Index, ReadId)>,
    last: u64,
}

struct Waiting {
    purpose: Purpose,
    deadline: Duration,
}

/// What a confirmed index is for.
pub(super) enum Purpose {
    /// A client's read.
    Client {
        /// What.
        read: Read,
        /// What the leader said beforehand, for a lease.
        remaining_ms: Option<u64>,
        /// Who waits.
        reply: ReadReply,
    },
    /// The invites that stand.
    Invites(Reply<(Vec<InviteView>, ClusterTime)>),
    /// The leader's answer to a keep-alive.
    KeepAlive(LeaseId, Answerer),
    /// The leader's answer to how long a lease has left.
    Remaining(LeaseId, Answerer),
}

impl Reads {
    fn insert(&mut self, purpose: Purpose, deadline: Duration) {
        self.last += 1;
        let id = ReadId(self.last);
        self.waiting.insert(id, Waiting { purpose, deadline });
        self.unasked.insert(id);
    }

    /// What was refused before may be asked for again.
    pub(super) fn refused_may_ask(&mut self) {
        self.unasked.append(&mut self.refused);
    }

    fn take(&mut self, id: ReadId) -> Option<Purpose> {
        self.unasked.remove(&id);
        self.refused.remove(&id);
        self.waiting.remove(&id).map(|waiting| waiting.purpose)
    }
}

impl Driver {
    pub(super) fn read(&mut self, read: Read, linearizable: bool, reply: ReadReply) {
        if let Some(refusal) = self.refusal() {
            return reply.send(Err(refusal));
        }
        // Only the leader counts a lease's time.
        if let Read::Lease { id, keys } = read {
            self.ask_remaining(id, keys, reply);
        } else if linearizable {
            self.read_confirmed(Purpose::Client { read, remaining_ms: None, reply });
        } else {
            self.read_here(read, None, reply);
        }
    }

    /// Goes on once an index is confirmed and applied.
    pub(super) fn read_confirmed(&mut self, purpose: Purpose) {
        self.read_confirmed_until(purpose, self.clock.now() + REQUEST_TIMEOUT);
    }

    /// The same for who has waited already: its time does not begin anew.
    pub(super) fn read_confirmed_until(&mut self, purpose: Purpose, deadline: Duration) {
        if self.work.reads.waiting.len() >= INBOX_COUNT_MAX {
            return self.refuse_read(purpose, Refusal::Overloaded);
        }
        self.work.reads.insert(purpose, deadline);
    }

    /// Asks for the reads that wait for a leader, if there is one.
    pub(super) fn read_again(&mut self) {
        if self.core.leader().is_some() {
            for id in core::mem::take(&mut self.work.reads.unasked) {
                self.core.request_read(id);
            }
        }
    }

    pub(super) fn read_done(&mut self, done: ReadDone) {
        let ReadDone { id, outcome } = done;
        let Some(waiting) = self.work.reads.waiting.get(&id) else { return };
        match outcome {
            Ok(index) => {
                self.work.reads.confirmed.insert((index, id));
            }
            Err(ReadRefused::Overloaded) => {
                if let Some(purpose) = self.work.reads.take(id) {
                    self.refuse_read(purpose, Refusal::Overloaded);
                }
            }
            // Nothing happened: a client's read is asked for again; who asked as the leader is told.
            Err(ReadRefused::NoLeader | ReadRefused::LeaderChanged) => match waiting.purpose {
                Purpose::Client { .. } | Purpose::Invites(_) => {
                    self.work.reads.refused.insert(id);
                }
                Purpose::KeepAlive(..) | Purpose::Remaining(..) => {
                    if let Some(purpose) = self.work.reads.take(id) {
                        self.refuse_read(purpose, Refusal::LeaderChanged);
                    }
                }
            },
        }
    }

    /// Answers what waited for entries that are applied now.
    pub(super) fn read_applied(&mut self) {
        let applied = self.store.applied();
        while let Some((index, id)) = self.work.reads.confirmed.first().copied() {
            if index > applied {
                break;
            }
            self.work.reads.confirmed.pop_first();
            match self.work.reads.take(id) {
                Some(Purpose::Client { read, remaining_ms, reply }) => {
                    self.read_here(read, remaining_ms, reply)
                }
                Some(Purpose::Invites(reply)) => {
                    reply.send(Ok((self.store.invites().collect(), self.clock.cluster_time())));
                }
                Some(Purpose::KeepAlive(lease, answerer)) => self.keep_alive_confirmed(lease, answerer),
                Some(Purpose::Remaining(lease, answerer)) => self.remaining_confirmed(lease, answerer),
                // Timed out meanwhile.
                None => {}
            }
        }
    }

    /// Answers `TimedOut` to reads beyond their deadline; how many there were.
    pub(super) fn expire_reads(&mut self, now: Duration) -> usize {
        let overdue = |(id, waiting): (&ReadId, &Waiting)| (waiting.deadline <= now).then_some(*id);
        let ids: Vec<ReadId> = self.work.reads.waiting.iter().filter_map(overdue).collect();
        for id in &ids {
            if let Some(purpose) = self.work.reads.take(*id) {
                self.refuse_read(purpose, Refusal::TimedOut);
            }
        }
        ids.len()
    }

    /// Answers all reads with that refusal.
    pub(super) fn refuse_reads(&mut self, refusal: Refusal) {
        for id in self.work.reads.waiting.keys().copied().collect::<Vec<ReadId>>() {
            if let Some(purpose) = self.work.reads.take(id) {
                self.refuse_read(purpose, refusal);
            }
        }
    }

    fn refuse_read(&mut self, purpose: Purpose, refusal: Refusal) {
        match purpose {
            Purpose::Client { reply, .. } => reply.send(Err(refusal)),
            Purpose::Invites(reply) => reply.send(Err(refusal)),
            Purpose::KeepAlive(_, answerer) | Purpose::Remaining(_, answerer) => {
                self.refuse_question(answerer, refusal);
            }
        }
    }

    fn read_here(&mut self, read: Read, remaining_ms: Option<u64>, reply: ReadReply) {
        let outcome = match read {
            Read::Range(request) => {
                self.metrics.ranges.inc();
                self.store.range(&request).map(ReadOutcome::Range)
            }
            Read::Txn(txn) => self.store.txn_read(&txn).map(ReadOutcome::Txn),
            Read::Lease { id, keys } => Ok(ReadOutcome::Lease(self.lease_answer(id, keys, remaining_ms))),
            Read::Leases => Ok(ReadOutcome::Leases(self.leases_by_end())),
            Read::Alarms => Ok(ReadOutcome::Alarms(self.store.alarms())),
            Read::HashKv(revision) => return self.hash_begin(revision, reply),
        };
        reply.send(outcome.map(|outcome| self.answer(outcome)).map_err(Refusal::Store));
    }

    /// In etcd's order: the one that ends next comes first, as far as this node knows.
    fn leases_by_end(&self) -> Vec<LeaseId> {
        let mut ids: Vec<LeaseId> = self.store.leases().map(|lease| lease.id).collect();
        let now = self.clock.cluster_time();
        ids.sort_by_cached_key(|id| self.work.leases.remaining_ms(*id, now));
        ids
    }

    fn lease_answer(&self, id: LeaseId, keys: bool, remaining_ms: Option<u64>) -> Option<LeaseAnswer> {
        let lease = self.store.lease(id, keys)?;
        // etcd cuts the fraction off.
        let remaining_seconds = i64::try_from(remaining_ms.unwrap_or(0) / 1_000).unwrap_or(i64::MAX);
        Some(LeaseAnswer { lease, remaining_seconds })
    }
}
