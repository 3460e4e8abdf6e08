//! Clients of keys: each waits for its answer, thinks, and asks again, at this node or another. What they asked
//! and saw is the history that the checker of linearizability judges.

mod words;

use crate::board::Slot;
use crate::queue::{Event, Life, MS, Nanos, SECOND};
use crate::rng::Rng;
use crate::situation::Situation;
use crate::world::World;
use quorate_api::{Answer as Told, ReadOutcome, Refusal};
use quorate_store::{Command, Outcome as StoreOutcome};
use quorate_tests::linear::{Answer, Expected, Held, Op, Operation, Outcome};
use quorate_types::{Revision, Term};
use quorated::inbox::{Inbound, Reply};
use std::collections::BTreeMap;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

/// By its node's clock a request is answered within the hall's timeout, and a housekeeping or two.
const ANSWERED_WITHIN: Nanos = 8 * SECOND;

/// One client.
pub(crate) struct Client {
    pub(crate) rng: Rng,
    slot: Option<Slot>,
    asked: Option<Asked>,
    /// What it saw of each key last.
    known: BTreeMap<u64, Option<Held>>,
    revision: i64,
}

/// A request under way.
struct Asked {
    key: u64,
    op: Op,
    began: Nanos,
    /// What the board's clock showed after the turn that took it up.
    taken_at: Option<Nanos>,
    term: Term,
    had_leader: bool,
    slot: Slot,
    life: Life,
    gives_up_at: Nanos,
    reply: Replies,
}

enum Replies {
    Write(Receiver<Result<Told<StoreOutcome>, Refusal>>),
    Read(Receiver<Result<Told<ReadOutcome>, Refusal>>),
}

/// What came of a look at a request.
enum Heard {
    Nothing,
    Answer(Answer, i64, u64),
    Refused,
    Lost,
}

impl Client {
    pub(crate) fn new(rng: Rng) -> Client {
        Client { rng, slot: None, asked: None, known: BTreeMap::new(), revision: 0 }
    }
}

impl World {
    /// A client does its next thing.
    pub(crate) fn client(&mut self, number: usize) {
        if self.clients[number].asked.is_some() || self.faults.is_over {
            return;
        }
        let running = self.running();
        let client = &mut self.clients[number];
        let is_gone = client.slot.is_none_or(|slot| !running.contains(&slot));
        if is_gone || client.rng.per_mille(60) {
            client.slot = client.rng.pick(&running).copied();
        }
        let Some(slot) = client.slot else {
            return self.queue.push(self.now + 200 * MS, Event::Client(number));
        };
        if client.rng.per_mille(15) && client.revision > 3 {
            let revision = client.revision - i64::try_from(client.rng.below(3)).expect("small");
            self.compact(slot, revision);
        }
        self.ask(number, slot);
    }

    fn compact(&mut self, slot: Slot, revision: i64) {
        let Some(process) = &self.boards[slot.0].process else { return };
        let (reply, _nobody_waits) = Reply::pair();
        let command = Command::Compact(Revision(revision));
        if process.inbox.offer(Inbound::Propose { command, reply }).is_ok() {
            self.situations.reach(Situation::Compacted);
            self.wake_soon(slot);
        }
    }

    fn ask(&mut self, number: usize, slot: Slot) {
        let now = self.now;
        let (key, op) = self.choose(number);
        let value_bytes = self.profile.value_bytes;
        let board = &self.boards[slot.0];
        let life = board.life;
        let Some(process) = &board.process else { return };
        let (inbound, reply) = match words::request(key, &op, value_bytes) {
            words::Request::Write(command) => {
                let (reply, answer) = Reply::pair();
                (Inbound::Propose { command, reply }, Replies::Write(answer))
            }
            words::Request::Read(read, linearizable) => {
                let (reply, answer) = Reply::pair();
                (Inbound::Read { read, linearizable, reply }, Replies::Read(answer))
            }
        };
        let seen = &process.observed;
        let (term, had_leader) = (seen.term, seen.leader.is_some());
        let is_taken = process.inbox.offer(inbound).is_ok();
        let rng = &mut self.clients[number].rng;
        let patience = if rng.per_mille(100) { rng.between(300, 3_000) * MS } else { 60 * SECOND };
        let gives_up_at = now + patience;
        let asked =
            Asked { key, op, began: now, taken_at: None, term, had_leader, slot, life, gives_up_at, reply };
        if is_taken {
            self.clients[number].asked = Some(asked);
            self.wake_soon(slot);
        } else {
            self.record(number, &asked, Outcome::Refused);
            self.think(number);
        }
    }

    fn choose(&mut self, number: usize) -> (u64, Op) {
        self.value_last += 1;
        let value = self.value_last;
        let client = &mut self.clients[number];
        let key = client.rng.below(self.profile.keys);
        let op = match client.rng.below(100) {
            0..35 => Op::Put(value),
            35..60 => Op::Get,
            60..68 => Op::Peek,
            68..78 => Op::Delete,
            _ => {
                let expected = match client.known.get(&key) {
                    Some(Some(held)) if client.rng.coin() => Expected::Value(held.value),
                    Some(Some(held)) if held.revision > 0 => Expected::Revision(held.revision),
                    Some(_) | None => Expected::Absent,
                };
                Op::Swap { expected, value }
            }
        };
        (key, op)
    }

    /// Looks whether anything was answered to who asked at that board.
    pub(crate) fn poll_clients(&mut self, slot: Slot) {
        for number in 0..self.clients.len() {
            self.poll_client(number, slot);
        }
        self.poll_leases(slot);
    }

    fn poll_client(&mut self, number: usize, slot: Slot) {
        let now = self.now;
        let client = &mut self.clients[number];
        let Some(asked) = client.asked.as_mut().filter(|asked| asked.slot == slot) else { return };
        let heard = asked.look();
        let outcome = match heard {
            Heard::Nothing if now >= asked.gives_up_at => Outcome::Unknown,
            Heard::Nothing => {
                let board = &self.boards[slot.0];
                let shown = board.clock.shown_at(now);
                let waited = shown - *asked.taken_at.get_or_insert(shown);
                if board.life == asked.life && board.is_running() && waited > ANSWERED_WITHIN {
                    let line = format!(
                        "{slot} has not answered for {} ms: {:?} of key {}",
                        waited / MS,
                        asked.op,
                        asked.key
                    );
                    self.fail(line);
                }
                return;
            }
            Heard::Answer(answer, revision, term) => {
                let outlived = term > asked.term.0 && asked.had_leader;
                let situation = match asked.op {
                    Op::Get => Situation::ReadAcrossLeaders,
                    Op::Peek | Op::Put(_) | Op::Delete | Op::Swap { .. } => Situation::ProposedAgain,
                };
                let counts = outlived && asked.op != Op::Peek;
                self.situations.reach_if(counts, situation);
                self.situations.reach_if(matches!(answer, Answer::Kept(_)), Situation::SwapKept);
                Outcome::Done { answer, revision }
            }
            Heard::Refused => Outcome::Refused,
            Heard::Lost => Outcome::Unknown,
        };
        let asked = self.clients[number].asked.take().expect("it was just looked at");
        self.record(number, &asked, outcome);
        self.think(number);
    }

    fn record(&mut self, number: usize, asked: &Asked, outcome: Outcome) {
        let client = &mut self.clients[number];
        match outcome {
            Outcome::Done { answer, revision } => {
                client.revision = client.revision.max(revision);
                client.known.insert(asked.key, words::known(&asked.op, answer, revision));
            }
            Outcome::Unknown | Outcome::Refused => {
                // It asks elsewhere next.
                client.slot = None;
            }
        }
        let is_write = !matches!(asked.op, Op::Get | Op::Peek);
        self.situations.reach_if(is_write && outcome == Outcome::Unknown, Situation::OutcomeUnknown);
        if !is_write && outcome == Outcome::Unknown {
            return;
        }
        self.history.push(Operation {
            client: u64::try_from(number).expect("a handful"),
            key: asked.key,
            began: asked.began,
            ended: self.now,
            op: asked.op,
            outcome,
        });
    }

    fn think(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let pause = 1 + client.rng.below(2 * self.profile.think);
        self.queue.push(self.now + pause, Event::Client(number));
    }

    /// Requests still open are of unknown outcome.
    pub(crate) fn close_history(&mut self) {
        for number in 0..self.clients.len() {
            if let Some(asked) = self.clients[number].asked.take() {
                self.record(number, &asked, Outcome::Unknown);
            }
        }
    }

    /// Whether a request waits for its answer.
    pub(crate) fn is_asking(&self) -> bool {
        self.clients.iter().any(|client| client.asked.is_some())
    }
}

impl Asked {
    fn look(&mut self) -> Heard {
        match &mut self.reply {
            Replies::Write(receiver) => match receiver.try_recv() {
                Ok(Ok(told)) => {
                    let answer = words::written(&self.op, &told.value);
                    Heard::Answer(answer, told.revision.0, told.term)
                }
                Ok(Err(refusal)) => refused(refusal),
                Err(TryRecvError::Empty) => Heard::Nothing,
                Err(TryRecvError::Closed) => Heard::Lost,
            },
            Replies::Read(receiver) => match receiver.try_recv() {
                Ok(Ok(told)) => {
                    let answer = Answer::Got(words::read(&told.value));
                    Heard::Answer(answer, told.revision.0, told.term)
                }
                Ok(Err(refusal)) => refused(refusal),
                Err(TryRecvError::Empty) => Heard::Nothing,
                Err(TryRecvError::Closed) => Heard::Lost,
            },
        }
    }
}

/// What a refusal says of the outcome, as etcd's clients must take it.
fn refused(refusal: Refusal) -> Heard {
    match refusal {
        Refusal::Store(_) | Refusal::Overloaded | Refusal::TooLarge => Heard::Refused,
        Refusal::NoLeader
        | Refusal::LeaderChanged
        | Refusal::TimedOut
        | Refusal::Stopping
        | Refusal::Removed
        | Refusal::Unsupported(_) => Heard::Lost,
    }
}

/// A write of the end's own, whose answer is looked at again and again.
pub(crate) struct Written {
    reply: Receiver<Result<Told<StoreOutcome>, Refusal>>,
    answer: Option<bool>,
}

impl From<Receiver<Result<Told<StoreOutcome>, Refusal>>> for Written {
    fn from(reply: Receiver<Result<Told<StoreOutcome>, Refusal>>) -> Written {
        Written { reply, answer: None }
    }
}

impl Written {
    fn look(&mut self) {
        if self.answer.is_none() {
            self.answer = match self.reply.try_recv() {
                Ok(answer) => Some(answer.is_ok()),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Closed) => Some(false),
            };
        }
    }

    /// It was refused, or its node is gone.
    pub(crate) fn has_failed(&mut self) -> bool {
        self.look();
        self.answer == Some(false)
    }

    /// It was done.
    pub(crate) fn is_done(&self) -> bool {
        self.answer == Some(true)
    }
}
