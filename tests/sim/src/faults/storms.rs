//! Faults that come together, as they do where promises are broken: a leader falls while cards still hold what it
//! sent, and whoever has just promised something loses power.

use super::Cure;
use crate::board::Slot;
use crate::net::Weather;
use crate::queue::{Event, MS, Nanos, US};
use crate::situation::Situation;
use crate::world::World;
use quorate_raft::{AppendAnswer, Body, HeartbeatAnswer};
use quorate_types::Index;

/// What comes later in an episode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// The leader goes: cut off, killed or paused.
    Fall(Slot),
    /// Power is lost right after the next promise.
    Doom(Slot),
    /// Power is lost now.
    Power(Slot),
    /// Whoever leads reaches only one other, and then falls; so many times more.
    Topple(u64),
}

/// Whether that promises something that must outlive the board's memory.
fn is_promise(body: &Body) -> bool {
    match body {
        Body::VoteRequest(_) | Body::VoteAnswer { granted: true } => true,
        Body::AppendAnswer(AppendAnswer::Taken { persisted, .. })
        | Body::HeartbeatAnswer(HeartbeatAnswer { persisted, .. }) => *persisted > Index(0),
        Body::PreVoteRequest(_)
        | Body::PreVoteAnswer { .. }
        | Body::VoteAnswer { granted: false }
        | Body::Heartbeat(_)
        | Body::AppendEntries(_)
        | Body::AppendAnswer(AppendAnswer::Rejected { .. } | AppendAnswer::Full)
        | Body::ReadRequest { .. }
        | Body::ReadAnswer { .. }
        | Body::CampaignNow
        | Body::StaleStart { .. } => false,
    }
}

impl World {
    fn later(&mut self, least: Nanos, most: Nanos, step: Step) {
        let at = self.now + self.faults.rng.between_log(least, most);
        self.queue.push(at, Event::Heal(Cure::Step(step)));
    }

    /// Messages take as long as elections do, some far longer, and many come twice.
    pub(super) fn gale(&mut self) {
        let rng = &mut self.faults.rng;
        let weather = Weather {
            loss_per_mille: rng.between_log(1, 200) - 1,
            twice_per_mille: *rng.pick(&[20, 200, 500]).expect("a list"),
            delay_min: rng.between_log(100, 100_000) * US,
            delay_spread: rng.between_log(100_000, 900_000) * US,
            late_per_mille: *rng.pick(&[10, 100]).expect("a list"),
        };
        let time = rng.between_log(300, 3_000) * MS;
        self.set_weather(weather, time);
    }

    /// Cards stand still with appends on their way, and then the leader falls.
    pub(super) fn depose(&mut self) {
        let Some(leader) = self.leader() else { return };
        for slot in self.running() {
            let per_mille = if slot == leader { 600 } else { 400 };
            if self.faults.rng.per_mille(per_mille) {
                let time = self.faults.rng.between_log(200, 4_000) * MS;
                let board = &mut self.boards[slot.0];
                board.stalled_until = board.stalled_until.max(self.now + time);
                self.tell(format!("{slot}: its card stands still for {} ms", time / MS));
                if self.faults.rng.per_mille(300) {
                    self.later(20 * MS, 2_000 * MS, Step::Doom(slot));
                }
            }
        }
        self.later(2 * MS, 200 * MS, Step::Fall(leader));
    }

    pub(super) fn step_of_storm(&mut self, step: Step) {
        if self.faults.is_over {
            return;
        }
        match step {
            Step::Fall(slot) => self.fall(slot),
            Step::Doom(slot) => {
                let board = &mut self.boards[slot.0];
                board.is_doomed = board.process.is_some();
            }
            Step::Power(slot) => {
                if self.boards[slot.0].process.is_some() {
                    self.situations.reach(Situation::PowerAfterPromise);
                    self.cut_power(slot);
                    self.start_later(slot, 20 * MS, 1_500 * MS);
                }
            }
            Step::Topple(rounds) => self.topple(rounds),
        }
    }

    fn fall(&mut self, slot: Slot) {
        if !self.boards[slot.0].is_running() {
            return;
        }
        match self.faults.rng.below(5) {
            0 => self.cut_power(slot),
            1 => self.kill(slot, "is killed"),
            2 => return self.pause_for(slot, 900, 2_500),
            side => {
                let friend = if side == 3 { None } else { self.friend_of(slot) };
                let time = self.faults.rng.between_log(800, 2_500) * MS;
                return self.leave_only(slot, friend, time);
            }
        }
        self.start_later(slot, 20 * MS, 1_500 * MS);
    }

    /// Figure 8 of the Raft paper, again and again: what a leader appends reaches few, another leads, the first
    /// comes back.
    fn topple(&mut self, rounds: u64) {
        if let Some(leader) = self.leader() {
            let friend = self.friend_of(leader);
            let time = self.faults.rng.between_log(30, 400) * MS;
            self.leave_only(leader, friend, time);
            self.later(5 * MS, 400 * MS, Step::Fall(leader));
        }
        if rounds > 0 {
            self.later(300 * MS, 1_500 * MS, Step::Topple(rounds - 1));
        }
    }

    /// One other board that may stay in touch: none where the two would be a quorum.
    fn friend_of(&mut self, slot: Slot) -> Option<Slot> {
        let others: Vec<Slot> = self.running().into_iter().filter(|other| *other != slot).collect();
        self.faults.rng.pick(&others).copied().filter(|_| others.len() >= 4)
    }

    /// That board, and its friend if it has one, hear nobody else.
    fn leave_only(&mut self, slot: Slot, friend: Option<Slot>, time: Nanos) {
        let side: Vec<Slot> = [slot].into_iter().chain(friend).collect();
        let mut pairs = Vec::new();
        for one in &side {
            let others = (0..self.boards.len()).map(Slot).filter(|other| !side.contains(other));
            pairs.extend(others.flat_map(|other| [(*one, other), (other, *one)]));
        }
        let is_minority = self.leader() == Some(slot) && side.len() * 2 < self.boards.len();
        self.situations.reach_if(is_minority, Situation::LeaderOfMinority);
        self.net.cuts.extend(pairs.iter().copied());
        self.queue.push(self.now + time, Event::Heal(Cure::Cut(pairs)));
        self.tell(format!("{side:?} are cut off from the others for {} ms", time / MS));
    }

    /// A promise has left that board: if it is doomed, that was the last.
    pub(crate) fn promised(&mut self, slot: Slot, body: &Body) {
        let board = &mut self.boards[slot.0];
        if board.is_doomed && is_promise(body) {
            board.is_doomed = false;
            let at = self.now + self.faults.rng.between(0, 3_000) * US;
            self.queue.push(at, Event::Heal(Cure::Step(Step::Power(slot))));
        }
    }
}
