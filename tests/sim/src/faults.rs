//! What goes wrong: faults in episodes, each with its cure.

mod cards;
mod network;
mod storms;

use crate::board::Slot;
use crate::queue::{Event, MS, SECOND};
use crate::rng::Rng;
use crate::situation::Situation;
use crate::world::World;
use quorated::inbox::Inbound;
pub(crate) use storms::Step;

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Messages lost, doubled, late, out of order.
    Weather,
    /// Directions, links or groups cut.
    Cut,
    /// kill -9: the page cache stays.
    Kill,
    /// Power lost on one board.
    Power,
    /// Power lost on all.
    SitePower,
    /// SIGSTOP, and later SIGCONT: the clock goes on.
    Pause,
    /// The card answers nothing for a while.
    Stall,
    /// The card becomes another, slower one for a while.
    SlowCard,
    /// The card refuses a sync.
    SyncFails,
    /// The log cannot be read back for a while.
    Unreadable,
    /// The clock jumps ahead, or changes its pace.
    Clock,
    /// SIGTERM: it hands over and stops.
    Stop,
    /// A card is copied, and later put back.
    OldCard,
    /// Messages take as long as elections.
    Gale,
    /// Cards stand still, and then the leader falls.
    Depose,
    /// Leaders that reach only one other fall, one after the other.
    Topple,
    /// Power lost right after a promise.
    Doom,
}

impl Kind {
    pub(crate) const ALL: [Kind; 17] = [
        Kind::Weather,
        Kind::Cut,
        Kind::Kill,
        Kind::Power,
        Kind::SitePower,
        Kind::Pause,
        Kind::Stall,
        Kind::SlowCard,
        Kind::SyncFails,
        Kind::Unreadable,
        Kind::Clock,
        Kind::Stop,
        Kind::OldCard,
        Kind::Gale,
        Kind::Depose,
        Kind::Topple,
        Kind::Doom,
    ];
}

/// What ends a fault.
#[derive(Debug, Clone)]
pub(crate) enum Cure {
    Weather(u64),
    Cut(Vec<(Slot, Slot)>),
    Resume(Slot, bool),
    Card(Slot),
    Step(Step),
}

/// The faults of a seed.
pub(crate) struct Faults {
    pub(crate) rng: Rng,
    /// No more of them: all is well from here on.
    pub(crate) is_over: bool,
    weather_number: u64,
}

impl Faults {
    pub(crate) fn new(rng: Rng) -> Faults {
        Faults { rng, is_over: false, weather_number: 0 }
    }
}

impl World {
    /// The next fault.
    pub(crate) fn fault(&mut self) {
        if self.faults.is_over {
            return;
        }
        let pause = MS + self.faults.rng.below(2 * self.profile.fault_every);
        self.queue.push(self.now + pause, Event::Fault);
        let Some(kind) = self.faults.rng.pick(&self.profile.faults).copied() else { return };
        let Some(slot) = self.victim() else { return };
        match kind {
            Kind::Weather => self.change_weather(),
            Kind::Cut => self.cut_network(slot),
            Kind::Kill => {
                self.kill(slot, "is killed");
                self.start_later(slot, 20 * MS, 8 * SECOND);
            }
            Kind::Power => {
                self.cut_power(slot);
                self.start_later(slot, 20 * MS, 8 * SECOND);
            }
            Kind::SitePower => self.cut_site_power(),
            Kind::Pause => self.pause_for(slot, 50, 6_000),
            Kind::Stall => self.stall(slot),
            Kind::SlowCard => self.slow_card(slot),
            Kind::SyncFails => {
                self.boards[slot.0].card.fail_next_sync(true);
                self.situations.reach(Situation::SyncFailed);
                self.tell(format!("{slot}: its card will refuse the next sync"));
            }
            Kind::Unreadable => {
                let until = self.now + self.faults.rng.between_log(500, 10_000) * MS;
                self.boards[slot.0].unreadable_until = until;
                self.tell(format!("{slot}: the log cannot be read back until {} ms", until / MS));
            }
            Kind::Clock => self.disturb_clock(slot),
            Kind::Stop => self.stop(slot),
            Kind::OldCard => self.old_card(slot),
            Kind::Gale => self.gale(),
            Kind::Depose => self.depose(),
            Kind::Topple => {
                let rounds = self.faults.rng.between(2, 6);
                self.step_of_storm(Step::Topple(rounds));
            }
            Kind::Doom => self.step_of_storm(Step::Doom(slot)),
        }
    }

    /// A running board; the leader more often than others.
    fn victim(&mut self) -> Option<Slot> {
        let running = self.running();
        let leader = self.leader().filter(|_| self.faults.rng.per_mille(350));
        leader.or_else(|| self.faults.rng.pick(&running).copied())
    }

    fn cut_site_power(&mut self) {
        // As rare as it is bad.
        if !self.faults.rng.per_mille(300) {
            return;
        }
        self.situations.reach(Situation::SiteCut);
        for slot in (0..self.boards.len()).map(Slot) {
            if self.boards[slot.0].process.is_some() {
                self.cut_power(slot);
                self.start_later(slot, 500 * MS, 3 * SECOND);
            }
        }
    }

    fn pause_for(&mut self, slot: Slot, ms_least: u64, ms_most: u64) {
        let time = self.faults.rng.between_log(ms_least, ms_most) * MS;
        let leads = self.leader() == Some(slot);
        let until = self.now + time;
        self.boards[slot.0].paused_until = until;
        self.queue.push(until, Event::Heal(Cure::Resume(slot, leads)));
        self.tell(format!("{slot} is stopped by a signal for {} ms", time / MS));
    }

    fn disturb_clock(&mut self, slot: Slot) {
        let now = self.now;
        let rng = &mut self.faults.rng;
        let line = if rng.coin() {
            let by = rng.between_log(1, 5_000) * MS;
            self.boards[slot.0].clock.jump(now, by);
            self.situations.reach(Situation::ClockJump);
            self.wake_soon(slot);
            format!("{slot}: its clock jumps by {} ms", by / MS)
        } else {
            let drift = self.profile.drift_ppm.max(10_000);
            let rate = 1_000_000 - drift + rng.below(2 * drift + 1);
            self.boards[slot.0].clock.set_rate(now, rate);
            format!("{slot}: its clock runs at {rate} ppm")
        };
        self.tell(line);
    }

    fn stop(&mut self, slot: Slot) {
        let leads = self.leader() == Some(slot);
        self.situations.reach_if(leads, Situation::StoppedLeader);
        if let Some(process) = &self.boards[slot.0].process {
            process.tell(Inbound::Stop);
            self.tell(format!("{slot} is asked to stop"));
            self.wake_soon(slot);
        }
    }

    /// A fault's time is over.
    pub(crate) fn heal(&mut self, cure: Cure) {
        match cure {
            Cure::Weather(number) => {
                if number == self.faults.weather_number {
                    self.fair_weather();
                }
            }
            Cure::Cut(pairs) => {
                for pair in &pairs {
                    self.net.cuts.remove(pair);
                }
                self.tell("a cut is healed");
            }
            Cure::Resume(slot, led) => {
                let is_on = self.boards[slot.0].process.is_some();
                self.situations.reach_if(led && is_on, Situation::LeaderPaused);
                self.wake_soon(slot);
            }
            Cure::Step(step) => self.step_of_storm(step),
            Cure::Card(slot) => {
                let model = self.profile.models[slot.0];
                self.boards[slot.0].card.set_model(model);
                self.tell(format!("{slot} has its {} card again", model.name));
            }
        }
    }

    /// All faults end now: the network is whole, the cards answer, whoever is off is switched on.
    pub(crate) fn end_faults(&mut self) {
        self.faults.is_over = true;
        self.net.cuts.clear();
        self.fair_weather();
        for slot in (0..self.boards.len()).map(Slot) {
            let now = self.now;
            let model = self.profile.models[slot.0];
            let board = &mut self.boards[slot.0];
            board.paused_until = board.paused_until.min(now);
            board.stalled_until = board.stalled_until.min(now);
            board.unreadable_until = 0;
            board.is_doomed = false;
            board.card.set_model(model);
            self.queue.push(now + MS, Event::Start(slot));
            self.wake_soon(slot);
        }
        self.tell("all faults end");
    }
}
