//! Cards that stand still, are slow, or are older copies.

use super::Cure;
use crate::board::{CardCopy, Slot, State};
use crate::card::{BAD, ORDINARY};
use crate::process::Process;
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
        let Some(process) = &board.process else { return };
        let (node, members) = (process.identity.node, process.driver.core.membership().clone());
        self.kill(slot, "goes off, and its card is copied");
        let board = &mut self.boards[slot.0];
        board.copy = Some(CardCopy { card: board.card.copy(), node, start: board.start_last, members });
        self.start_later(slot, 20 * MS, 2 * SECOND);
    }

    /// Whether an older copy must be noticed: it needs the vote of others, every other member of now and of then
    /// has a later start of it on its card, and the members are a quorum without it. What nobody saw, nobody can
    /// refuse; and who was alone when its card was copied asks nobody.
    fn may_put_back(&self, slot: Slot) -> bool {
        let board = &self.boards[slot.0];
        let (Some(copy), Some(start), Some(members)) = (&board.copy, board.start_last, self.members()) else {
            return false;
        };
        let node = copy.node;
        let is_later = |seen: &Start| copy.start != Some(start) && *seen == start;
        let saw = |id: NodeId| {
            let home = self.slot_of(id).map(|home| &self.boards[home.0]);
            // Whose card is gone says nothing any more.
            id == node || home.is_none_or(|home| home.seen_durable.get(&node).is_some_and(is_later))
        };
        let all_saw = [&members, &copy.members].iter().all(|all| all.members.iter().all(|one| saw(one.id)));
        let is_sound = |voter: &&NodeId| {
            let home = self.slot_of(**voter).map(|home| &self.boards[home.0]);
            **voter != node && home.is_some_and(|home| home.state != State::Refused)
        };
        let has_quorum = |voters: &[NodeId]| {
            voters.is_empty() || voters.iter().filter(is_sound).count() > voters.len() / 2
        };
        // No other membership stands in any log: it could leave the copy's vote needed.
        let is_agreed = |process: &Process| *process.driver.core.membership() == members;
        let all_agree = members.members.iter().all(|member| {
            let home = self.slot_of(member.id).and_then(|home| self.boards[home.0].process.as_ref());
            home.is_some_and(|process| is_agreed(process))
        });
        let is_settled = all_agree && !members.is_joint() && !self.operator.is_busy();
        let is_only_one = !self.boards.iter().any(|board| board.is_restored);
        let needs_others = copy.members.voters.len() >= 2;
        board.node == Some(node)
            && all_saw
            && is_settled
            && needs_others
            && is_only_one
            && has_quorum(&members.voters)
    }

    fn put_back(&mut self, slot: Slot) {
        self.kill(slot, "goes off, and the copy of its card is put in");
        let board = &mut self.boards[slot.0];
        let Some(copy) = board.copy.take() else { return };
        board.card = copy.card;
        board.is_restored = true;
        self.start_later(slot, 20 * MS, 2 * SECOND);
    }
}
