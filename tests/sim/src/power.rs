//! Boards on and off: starts, kills, power cuts, ends.

use crate::board::{Slot, State};
use crate::card::Card;
use crate::card_log::CardLog;
use crate::process::{begin, slot_at};
use crate::queue::{Event, Life, MS, Nanos, SECOND};
use crate::situation::Situation;
use crate::world::{World, new_key};
use quorate_types::Start;
use quorated::driver::DriverEnd;
use quorated::inbox::Inbound;
use quorated::recover::{RecoverError, look};
use quorated::starts::write_stale;

impl World {
    /// Switches a board on: reads its card, as a start does.
    pub(crate) fn start(&mut self, slot: Slot) {
        let (incarnation, seed) = (self.rng.next(), self.rng.next());
        let now = self.now;
        let board = &mut self.boards[slot.0];
        if board.state != State::Off {
            return;
        }
        if board.stalled_until > now {
            let until = board.stalled_until;
            return self.queue.push(until, Event::Start(slot));
        }
        board.life = Life(board.life.0 + 1);
        board.state = State::Starting;
        board.clock.read(now);
        board.busy_until = now;
        match begin(slot.0, board, incarnation, seed) {
            Ok(begun) => {
                let process = begun.process;
                let node = process.identity.node;
                let (start, last) = (process.start.count, process.driver.core.last());
                board.node = Some(node);
                board.start_last = Some(process.start);
                let survived = board.log.has_survived_in(&process.driver.core);
                let is_whole = survived.is_ok() || board.is_restored;
                board.log = CardLog::recovered(&process.driver.core);
                board.process = Some(process);
                let life = board.life;
                self.homes.insert(node, slot);
                let done = self.card_time(slot) + 50 * MS;
                self.queue.push(done, Event::Started(slot, life));
                let warning = begun.warning.map(|words| format!("; {words}")).unwrap_or_default();
                self.tell(format!(
                    "{slot} starts as node {node}, start {start}, log ends at {last}{warning}"
                ));
                if let Err(words) = survived
                    && !is_whole
                {
                    self.fail(format!("{slot} forgot what was durable: {words}"));
                }
                #[cfg(feature = "mutants")]
                self.mutate(slot);
            }
            Err(error) => self.fail(format!("{slot} cannot start from its card: {error}")),
        }
    }

    #[cfg(feature = "mutants")]
    fn mutate(&mut self, slot: Slot) {
        if let (Some(mutant), Some(process)) = (self.mutant, self.boards[slot.0].process.as_mut()) {
            process.driver.core.mutate(mutant);
        }
    }

    /// The start is through: the driver begins.
    pub(crate) fn started(&mut self, slot: Slot, life: Life) {
        let now = self.now;
        let board = &mut self.boards[slot.0];
        if board.life != life {
            return;
        }
        if let Some(until) = board.card_held_until(now) {
            return self.queue.push(until, Event::Started(slot, life));
        }
        board.clock.read(now);
        let Some(process) = board.process.as_mut() else { return };
        board.state = State::Running;
        process.driver.begin();
        self.after_turn(slot);
        self.wake_soon(slot);
    }

    /// The process is gone, without a word; what it had written stays in the page cache.
    pub(crate) fn kill(&mut self, slot: Slot, why: &str) {
        self.note_crash(slot);
        let board = &mut self.boards[slot.0];
        let was = board.state;
        let Some(process) = board.process.take() else { return };
        // With it go the replies that its clients wait for.
        drop(process);
        board.life = Life(board.life.0 + 1);
        board.state = State::Off;
        board.paused_until = 0;
        board.is_doomed = false;
        // A card that was about to refuse has had its chance: a start reads and writes it whole.
        board.card.fail_next_sync(false);
        self.net.process_gone(slot);
        self.poll_clients(slot);
        self.tell(format!("{slot} {why} ({was:?})"));
    }

    /// What makes a crash interesting.
    fn note_crash(&mut self, slot: Slot) {
        let Some(process) = &self.boards[slot.0].process else { return };
        let seen = &process.observed;
        let is_learner = process.driver.core.membership().is_learner(process.identity.node);
        self.situations.reach_if(seen.leads, Situation::LeaderCrash);
        self.situations.reach_if(seen.applied > seen.persisted, Situation::CrashAheadOfOwnCard);
        self.situations.reach_if(seen.is_joint, Situation::JointCrash);
        self.situations.reach_if(is_learner, Situation::LearnerKilled);
    }

    /// The power goes: the process, and of what was not synced some.
    pub(crate) fn cut_power(&mut self, slot: Slot) {
        self.kill(slot, "loses power");
        let mut rng = self.rng.fork();
        self.boards[slot.0].card.power_cut(&mut rng);
        self.situations.reach(Situation::SectorsLost);
    }

    /// The driver may have ended by itself.
    pub(crate) fn end_if_ended(&mut self, slot: Slot) {
        let Some(end) = self.boards[slot.0].process.as_ref().and_then(|process| process.driver.end()) else {
            return;
        };
        match end {
            DriverEnd::Stopped => {
                self.kill(slot, "has stopped");
                self.start_later(slot, 10 * MS, 2 * SECOND);
            }
            DriverEnd::CardFailed => {
                self.kill(slot, "ends: its card failed");
                self.start_later(slot, 100 * MS, 3 * SECOND);
            }
            DriverEnd::BadData => self.fail(format!("{slot} ends: its data is bad")),
            DriverEnd::OlderCopy(seen) => self.ended_as_older_copy(slot, seen),
        }
    }

    /// The process notes it on the card, and no later start goes on from there.
    fn ended_as_older_copy(&mut self, slot: Slot, seen: Start) {
        if !self.boards[slot.0].is_restored {
            return self.fail(format!("{slot} was refused as an older copy, and its card was never copied"));
        }
        self.situations.reach(Situation::StaleRefused);
        self.kill(slot, "ends: its card is an older copy");
        let board = &mut self.boards[slot.0];
        board.state = State::Refused;
        let again = write_stale(&board.card, seen).map_err(RecoverError::Wal);
        let again = again.and_then(|()| look(board.card.clone(), 1).map(|_| ()));
        if !matches!(again, Err(RecoverError::OlderCopy { count }) if count == seen.count) {
            self.fail(format!("{slot} was refused as an older copy, and would start again"));
        }
    }

    pub(crate) fn start_later(&mut self, slot: Slot, least: Nanos, most: Nanos) {
        let at = self.now + self.rng.between_log(least, most);
        self.queue.push(at, Event::Start(slot));
    }

    /// A new card with nothing on it, and so a node nobody knows.
    pub(crate) fn wipe(&mut self, slot: Slot) {
        self.kill(slot, "gets an empty card");
        let card = Card::new(self.profile.models[slot.0], self.rng.fork());
        let key = new_key(&mut self.rng);
        let board = &mut self.boards[slot.0];
        (board.card, board.key, board.node, board.founding) = (card, key, None, None);
        (board.copy, board.is_restored, board.start_last) = (None, false, None);
        board.log = CardLog::default();
        board.seen_durable.clear();
        board.state = State::Blank;
        board.life = Life(board.life.0 + 1);
    }

    /// The leader dials a joining board back at the address it claims.
    pub(crate) fn dial_back(&mut self, slot: Slot, life: Life, ticket: u64, address: &str) {
        let target = slot_at(address).map(Slot).filter(|target| target.0 < self.boards.len());
        let is_seen = target.is_some_and(|target| {
            !self.net.cuts.contains(&(slot, target)) && !self.net.cuts.contains(&(target, slot))
        });
        let seen = if is_seen { Ok(()) } else { Err("nothing answers there".to_owned()) };
        self.tell_life(slot, life, Inbound::DialledBack { ticket, seen });
    }
}
