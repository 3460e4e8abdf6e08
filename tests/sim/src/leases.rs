//! Clients of leases, and the two promises: a lease has its full time from each answered grant or keep-alive on,
//! counted by a clock that some node may have counted by; and it does not live for ever.

use crate::board::Slot;
use crate::queue::{Event, Life, MS, Nanos, SECOND};
use crate::rng::Rng;
use crate::situation::Situation;
use crate::world::World;
use quorate_api::{Answer as Told, Read, ReadOutcome, Refusal};
use quorate_store::{Command, Outcome, Put, StoreError};
use quorate_types::{LeaseId, Term};
use quorated::inbox::{Inbound, Reply};
use std::collections::BTreeMap;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

/// A clock shows whole milliseconds to leases, twice.
const ROUNDING: Nanos = 2 * MS;

/// All of it.
pub(crate) struct Leases {
    actors: Vec<Actor>,
    leases: BTreeMap<i64, Lease>,
    id_last: i64,
}

/// One client with at most one lease.
struct Actor {
    rng: Rng,
    lease: Option<i64>,
    rounds_left: u64,
    asked: Option<Asked>,
}

struct Asked {
    slot: Slot,
    life: Life,
    id: i64,
    term: Term,
    /// What every board's clock showed when it was asked.
    clocks: Vec<Nanos>,
    began: Nanos,
    /// What the board's clock showed after the turn that took it up.
    taken_at: Option<Nanos>,
    reply: Replies,
}

enum Replies {
    Grant(Receiver<Result<Told<Outcome>, Refusal>>),
    Put(Receiver<Result<Told<Outcome>, Refusal>>),
    Revoke(Receiver<Result<Told<Outcome>, Refusal>>),
    KeepAlive(Receiver<Result<Told<i64>, Refusal>>),
    Remaining(Receiver<Result<Told<ReadOutcome>, Refusal>>),
}

/// What is known of one lease.
struct Lease {
    ttl: Nanos,
    /// Clocks when the newest answered grant or keep-alive was asked.
    base: Option<Vec<Nanos>>,
    is_revoked: bool,
    has_ended: bool,
}

/// An answer, or why there is none.
enum Heard {
    Nothing,
    Fine,
    Seconds(i64),
    Left(Option<i64>),
    NotFound,
    Lost,
}

impl Leases {
    pub(crate) fn new(count: usize, rng: &mut Rng) -> Leases {
        let actor = |_| Actor { rng: rng.fork(), lease: None, rounds_left: 0, asked: None };
        Leases { actors: (0..count).map(actor).collect(), leases: BTreeMap::new(), id_last: 0 }
    }

    pub(crate) fn actor_count(&self) -> usize {
        self.actors.len()
    }
}

impl World {
    fn clocks(&self) -> Vec<Nanos> {
        self.boards.iter().map(|board| board.clock.shown_at(self.now)).collect()
    }

    /// A client of leases does its next thing.
    pub(crate) fn lease(&mut self, number: usize) {
        if self.faults.is_over || self.leases.actors[number].asked.is_some() {
            return;
        }
        let running = self.running();
        let actor = &mut self.leases.actors[number];
        let Some(slot) = actor.rng.pick(&running).copied() else {
            return self.queue.push(self.now + 500 * MS, Event::Lease(number));
        };
        if actor.rounds_left == 0 {
            actor.lease = None;
        }
        let clocks = self.clocks();
        let actor = &mut self.leases.actors[number];
        let board = &self.boards[slot.0];
        let Some(process) = &board.process else { return };
        let (id, inbound, reply) = match actor.lease {
            None => {
                self.leases.id_last += 1;
                let id = self.leases.id_last;
                let ttl = 2 + actor.rng.below(5);
                actor.rounds_left = actor.rng.below(25);
                let lease = Lease { ttl: ttl * SECOND, base: None, is_revoked: false, has_ended: false };
                self.leases.leases.insert(id, lease);
                let ttl_seconds = i64::try_from(ttl).expect("small");
                let (reply, answer) = Reply::pair();
                let command = Command::LeaseGrant { id: LeaseId(id), ttl_seconds };
                (id, Inbound::Propose { command, reply }, Replies::Grant(answer))
            }
            Some(id) => {
                actor.rounds_left -= 1;
                let (inbound, reply) = next_request(id, actor.rng.below(100));
                if matches!(reply, Replies::Revoke(_))
                    && let Some(lease) = self.leases.leases.get_mut(&id)
                {
                    lease.is_revoked = true;
                    actor.rounds_left = 0;
                }
                (id, inbound, reply)
            }
        };
        let (life, term) = (board.life, process.observed.term);
        let is_taken = process.inbox.offer(inbound).is_ok();
        if is_taken {
            actor.asked =
                Some(Asked { slot, life, id, term, clocks, began: self.now, taken_at: None, reply });
            self.wake_soon(slot);
        } else {
            self.queue.push(self.now + 500 * MS, Event::Lease(number));
        }
    }

    /// Looks whether anything was answered to who asked at that board.
    pub(crate) fn poll_leases(&mut self, slot: Slot) {
        for number in 0..self.leases.actors.len() {
            let Some(asked) = self.leases.actors[number].asked.as_mut() else { continue };
            if asked.slot != slot {
                continue;
            }
            let heard = asked.look();
            if matches!(heard, Heard::Nothing) {
                let board = &self.boards[slot.0];
                let shown = board.clock.shown_at(self.now);
                let waited = shown - *asked.taken_at.get_or_insert(shown);
                if board.life == asked.life && board.is_running() && waited > 8 * SECOND {
                    let since = asked.began / MS;
                    self.fail(format!("{slot} has not answered a client of leases since {since} ms"));
                }
                continue;
            }
            let asked = self.leases.actors[number].asked.take().expect("it was just looked at");
            if let Err(words) = self.heard_of_lease(number, &asked, heard) {
                return self.fail(words);
            }
            let actor = &mut self.leases.actors[number];
            let ttl = self.leases.leases.get(&asked.id).map_or(SECOND, |lease| lease.ttl);
            // Mostly in good time, sometimes as the lease ends.
            let pause = if actor.rng.per_mille(850) {
                actor.rng.below(ttl / 3)
            } else {
                ttl - 300 * MS + actor.rng.below(500 * MS)
            };
            self.queue.push(self.now + pause + MS, Event::Lease(number));
        }
    }

    fn heard_of_lease(&mut self, number: usize, asked: &Asked, heard: Heard) -> Result<(), String> {
        let is_guaranteed = self.is_guaranteed(asked.id);
        let term_now = self.boards[asked.slot.0].process.as_ref().map(|process| process.observed.term);
        let Some(lease) = self.leases.leases.get_mut(&asked.id) else { return Ok(()) };
        let actor = &mut self.leases.actors[number];
        match heard {
            Heard::Nothing => {}
            Heard::Fine => {
                if matches!(asked.reply, Replies::Grant(_)) {
                    lease.base = Some(asked.clocks.clone());
                    actor.lease = Some(asked.id);
                }
            }
            Heard::Seconds(seconds) => {
                if u64::try_from(seconds).unwrap_or(0) * SECOND != lease.ttl {
                    return Err(format!("a keep-alive of lease {} was answered with {seconds} s", asked.id));
                }
                let moved = term_now.is_some_and(|term| term > asked.term);
                self.situations.reach_if(moved, Situation::LeaseKept);
                // What was asked later counts, even if it was answered earlier.
                if lease.base.as_ref().is_none_or(|base| base[asked.slot.0] <= asked.clocks[asked.slot.0]) {
                    lease.base = Some(asked.clocks.clone());
                }
            }
            Heard::Left(Some(left)) => {
                if left < 0 || u64::try_from(left).unwrap_or(0) * SECOND > lease.ttl {
                    return Err(format!("lease {} has {left} s left of {} ms", asked.id, lease.ttl / MS));
                }
            }
            Heard::Left(None) | Heard::NotFound => {
                if is_guaranteed {
                    return Err(format!("lease {} is said not to exist within its time", asked.id));
                }
                let is_late = matches!(asked.reply, Replies::KeepAlive(_)) && !lease.is_revoked;
                self.situations.reach_if(is_late, Situation::KeepAliveTooLate);
                actor.rounds_left = 0;
            }
            Heard::Lost => {
                if actor.lease.is_none() {
                    actor.rounds_left = 0;
                }
            }
        }
        Ok(())
    }

    /// Whether that lease must be there now: no clock has counted its time since it was last promised.
    fn is_guaranteed(&self, id: i64) -> bool {
        let Some(lease) = self.leases.leases.get(&id) else { return false };
        let Some(base) = lease.base.as_ref().filter(|_| !lease.is_revoked) else { return false };
        let counted = self.clocks().iter().zip(base).map(|(now, base)| now - base).max().unwrap_or(0);
        counted + ROUNDING < lease.ttl
    }

    /// A node has applied what nobody had before: leases that are gone now have ended in it.
    pub(crate) fn look_at_leases(&mut self, slot: Slot) {
        let Some(process) = &self.boards[slot.0].process else { return };
        let store = &process.driver.store;
        let is_gone = |(id, lease): (&i64, &Lease)| {
            let is_gone =
                lease.base.is_some() && !lease.has_ended && store.lease(LeaseId(*id), false).is_none();
            is_gone.then_some(*id)
        };
        let gone: Vec<i64> = self.leases.leases.iter().filter_map(is_gone).collect();
        for id in gone {
            let is_early = self.is_guaranteed(id);
            let lease = self.leases.leases.get_mut(&id).expect("it was just found");
            lease.has_ended = true;
            let is_expired = !lease.is_revoked;
            self.situations.reach_if(is_expired, Situation::LeaseExpired);
            if is_early {
                let clocks = self.clocks();
                let lease = &self.leases.leases[&id];
                let base = lease.base.clone().unwrap_or_default();
                let counted: Vec<Nanos> =
                    clocks.iter().zip(&base).map(|(now, base)| (now - base) / MS).collect();
                let ttl = lease.ttl / MS;
                self.fail(format!(
                    "lease {id} of {ttl} ms ended early: since it was promised the boards' clocks counted {counted:?} \
                     ms"
                ));
            }
        }
    }

    /// Leases that should have ended by now, as that board has them.
    pub(crate) fn leases_left(&self, slot: Slot) -> usize {
        let store = self.boards[slot.0].process.as_ref().map(|process| process.driver.store.leases().count());
        store.unwrap_or(0)
    }
}

fn next_request(id: i64, chance: u64) -> (Inbound, Replies) {
    match chance {
        0..60 => {
            let (reply, answer) = Reply::pair();
            (Inbound::LeaseKeepAlive { id: LeaseId(id), reply }, Replies::KeepAlive(answer))
        }
        60..80 => {
            let (reply, answer) = Reply::pair();
            let read = Read::Lease { id: LeaseId(id), keys: true };
            (Inbound::Read { read, linearizable: true, reply }, Replies::Remaining(answer))
        }
        80..97 => {
            let (reply, answer) = Reply::pair();
            let key = format!("lease-{id}").into_bytes();
            let put = Put { key, value: b"held".to_vec(), lease: LeaseId(id), ..Put::default() };
            (Inbound::Propose { command: Command::Put(put), reply }, Replies::Put(answer))
        }
        _ => {
            let (reply, answer) = Reply::pair();
            let command = Command::LeaseRevoke(LeaseId(id));
            (Inbound::Propose { command, reply }, Replies::Revoke(answer))
        }
    }
}

impl Asked {
    fn look(&mut self) -> Heard {
        match &mut self.reply {
            Replies::Grant(reply) | Replies::Put(reply) | Replies::Revoke(reply) => {
                heard(reply, |_| Heard::Fine)
            }
            Replies::KeepAlive(reply) => heard(reply, |seconds| Heard::Seconds(*seconds)),
            Replies::Remaining(reply) => heard(reply, |outcome| match outcome {
                ReadOutcome::Lease(lease) => Heard::Left(lease.as_ref().map(|lease| lease.remaining_seconds)),
                ReadOutcome::Range(_)
                | ReadOutcome::Txn(_)
                | ReadOutcome::Leases(_)
                | ReadOutcome::Alarms(_)
                | ReadOutcome::HashKv { .. } => panic!("a lease read was answered with {outcome:?}"),
            }),
        }
    }
}

fn heard<T>(reply: &mut Receiver<Result<Told<T>, Refusal>>, fine: impl Fn(&T) -> Heard) -> Heard {
    match reply.try_recv() {
        Ok(Ok(told)) => fine(&told.value),
        Ok(Err(Refusal::Store(StoreError::LeaseNotFound))) => Heard::NotFound,
        Ok(Err(_)) | Err(TryRecvError::Closed) => Heard::Lost,
        Err(TryRecvError::Empty) => Heard::Nothing,
    }
}
