//! Weather and cuts.

use super::Cure;
use crate::board::Slot;
use crate::net::{FAIR, Weather};
use crate::queue::{Event, MS, Nanos, US};
use crate::situation::Situation;
use crate::world::World;

impl World {
    pub(super) fn change_weather(&mut self) {
        let rng = &mut self.faults.rng;
        let weather = Weather {
            loss_per_mille: rng.between_log(1, 400) - 1,
            twice_per_mille: *rng.pick(&[0, 20, 200]).expect("a list"),
            delay_min: rng.between_log(100, 50_000) * US,
            delay_spread: rng.between_log(100, 300_000) * US,
            late_per_mille: *rng.pick(&[0, 10, 100]).expect("a list"),
        };
        let time = rng.between_log(200, 10_000) * MS;
        self.set_weather(weather, time);
    }

    pub(super) fn set_weather(&mut self, weather: Weather, time: Nanos) {
        self.faults.weather_number += 1;
        let number = self.faults.weather_number;
        self.net.weather = weather;
        self.queue.push(self.now + time, Event::Heal(Cure::Weather(number)));
        self.tell(format!(
            "weather for {} ms: {} ‰ lost, {} ‰ twice, {} to {} us, {} ‰ late",
            time / MS,
            weather.loss_per_mille,
            weather.twice_per_mille,
            weather.delay_min / US,
            (weather.delay_min + weather.delay_spread) / US,
            weather.late_per_mille
        ));
    }

    pub(super) fn fair_weather(&mut self) {
        self.net.weather = FAIR;
    }

    pub(super) fn cut_network(&mut self, slot: Slot) {
        let on: Vec<Slot> =
            (0..self.boards.len()).map(Slot).filter(|slot| self.boards[slot.0].node.is_some()).collect();
        let others: Vec<Slot> = (0..self.boards.len()).map(Slot).filter(|other| *other != slot).collect();
        let Some(other) = self.faults.rng.pick(&others).copied() else { return };
        let leads = self.leader() == Some(slot);
        let mut pairs = Vec::new();
        let words = match self.faults.rng.below(6) {
            0 => {
                pairs.push((slot, other));
                self.situations.reach(Situation::OneWayCut);
                format!("nothing passes from {slot} to {other}")
            }
            1 => {
                pairs.extend(others.iter().map(|other| (*other, slot)));
                self.situations.reach(Situation::OneWayCut);
                format!("{slot} hears nobody")
            }
            2 => {
                pairs.extend([(slot, other), (other, slot)]);
                format!("the link between {slot} and {other} is cut")
            }
            3 => {
                pairs.extend(others.iter().flat_map(|other| [(*other, slot), (slot, *other)]));
                self.situations.reach_if(leads && on.len() >= 3, Situation::LeaderOfMinority);
                format!("{slot} is alone")
            }
            _ => {
                let side = self.side(slot, &others);
                for one in &side {
                    for other in on.iter().filter(|other| !side.contains(other)) {
                        pairs.extend([(*one, *other), (*other, *one)]);
                    }
                }
                self.situations
                    .reach_if(side.len() * 2 == on.len() && on.len() >= 4, Situation::SplitInHalves);
                let is_minority = leads && side.len() * 2 < on.len();
                self.situations.reach_if(is_minority, Situation::LeaderOfMinority);
                format!("{side:?} are cut off from the others")
            }
        };
        let time = self.faults.rng.between_log(50, 12_000) * MS;
        self.net.cuts.extend(pairs.iter().copied());
        self.queue.push(self.now + time, Event::Heal(Cure::Cut(pairs)));
        self.tell(format!("{words} for {} ms", time / MS));
    }

    /// One side of a cut: that board and some of the others.
    fn side(&mut self, slot: Slot, others: &[Slot]) -> Vec<Slot> {
        let mut side = vec![slot];
        side.extend(others.iter().copied().filter(|_| self.faults.rng.per_mille(400)));
        side
    }
}
