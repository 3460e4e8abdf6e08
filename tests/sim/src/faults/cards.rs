//! Cards that stand still, are slow, or are older copies.

use super::Cure;
use crate::board::{Slot, State};
use crate::card::{BAD, ORDINARY};
use crate::queue::{Event, MS, SECOND};
use crate::world::World;
use quorate_types::{NodeId, Start};

impl World {
    pub(super) fn stall(&mut self, slot: Slot) {
        let time = self.faults.rng.between_log(10, 30_000) * MS;
        let board = &mut self.boards[slot.0];
        board.stalled_until = board.stalled_until.max(self.now + time);
        self.tell(format!("{slot}: its card stands still for {} ms", time / MS));
    }

    pub(super) fn slow_card(&mut self, slot: Slot) {
        let model = if self.faults.rng.coin() { BAD } else { ORDINARY };
        self.boards[slot.0].card.set_model(model);
        let time = self.faults.rng.between_log(500, 15_000) * MS;
        self.queue.push(self.now + time, Event::Heal(Cure::Card(slot)));
        self.tell(format!("{slot}: its card is as slow as a {} one for {} ms", model.name, time / MS));
    }

    /// Copies the card of a board that goes off, or puts an older copy back where that must be noticed.
    pub(super) fn old_card(&mut self, slot: Slot) {
        let board = &self.boards[slot.0];
        if board.is_restored {
            return;
        }
        if board.copy.is_some() {
            if self.may_put_back(slot) {
                self.put_back(slot);
            }
            return;
        }
        self.kill(slot, "goes off, and its card is copied");
        let board = &mut self.boards[slot.0];
        if let Some(node) = board.node {
            board.copy = Some((board.card.copy(), board.start_last, node));
        }
        self.start_later(slot, 20 * MS, 2 * SECOND);
    }

    /// Whether every other member has a later start of it on its card than the copy knows, and the others are a
    /// quorum without it: what nobody saw, nobody can refuse.
    fn may_put_back(&self, slot: Slot) -> bool {
        let board = &self.boards[slot.0];
        let (Some((_, copied, node)), Some(start), Some(members)) =
            (&board.copy, board.start_last, self.members())
        else {
            return false;
        };
        let is_later = |seen: &Start| copied.is_none_or(|copied| seen.count > copied.count) && *seen == start;
        let others = members.members.iter().filter(|member| member.id != *node);
        let all_saw = others.clone().all(|member| {
            let home = self.slot_of(member.id).map(|home| &self.boards[home.0]);
            home.is_some_and(|home| home.seen_durable.get(node).is_some_and(is_later))
        });
        let is_sound = |voter: &&NodeId| {
            let home = self.slot_of(**voter).map(|home| &self.boards[home.0]);
            *voter != node && home.is_some_and(|home| home.state != State::Refused && !home.is_restored)
        };
        let has_quorum =
            |voters: &[NodeId]| voters.is_empty() || voters.iter().filter(is_sound).count() > voters.len() / 2;
        let is_settled = !members.is_joint() && !self.operator.is_joining();
        board.node == Some(*node) && all_saw && is_settled && has_quorum(&members.voters)
    }

    fn put_back(&mut self, slot: Slot) {
        self.kill(slot, "goes off, and the copy of its card is put in");
        let board = &mut self.boards[slot.0];
        let Some((card, _, _)) = board.copy.take() else { return };
        board.card = card;
        board.is_restored = true;
        self.start_later(slot, 20 * MS, 2 * SECOND);
    }
}
