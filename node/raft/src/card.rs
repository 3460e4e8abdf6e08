//! How the members' cards do, and what follows from it for who leads (protocol.md rule 7).
//!
//! A leader's heartbeats need no card, so a leader whose card has died would lead on for ever, and nothing be
//! committed there that its followers' cards do not carry (hashicorp/raft #503 and #614: zombie leaders). Each
//! node says in its answers to heartbeats how its card does. A leader hands over when its own stands still, or
//! is much slower for long, and a voter with a healthier one has kept up. A sick card lengthens the own election
//! timeout; it never forbids to stand.
//!
//! Leadership does not wander: the heir is healthier by a factor, so it has no such cause to hand back; cards
//! that are slow alike move nobody; and who could not hand over waits ever longer before it tries again. Nobody
//! hands over where no quorum of cards is left to elect the heir: a leader without one still answers reads.

use crate::progress::Progress;
use crate::role::RoleState;
use crate::role::leader::CLOSE_ENTRY_COUNT;
use crate::timing::{
    ELECTION_TICKS_MAX, GUARD_TICKS_MAX, GUARD_TICKS_MIN, SICK_TICKS, SLOW_TICKS, STANDSTILL_TICKS, TICK_MS,
};
use crate::transfer::Transfer;
use crate::{Raft, quorum};
use alloc::collections::BTreeMap;
use quorate_types::{Membership, NodeId};

/// How a node's card does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Card {
    /// Too little was written lately to tell.
    #[default]
    Unknown,
    /// What is written is durable after that many milliseconds: the median of late.
    Takes(u16),
    /// There is work, and none of it has become durable for `timing::STANDSTILL_TICKS`.
    StandsStill,
}

/// A leader's card is much slower if it takes this many times as long as the heir's.
const SLOW_FACTOR: u16 = 4;

/// Below this every card is fast: 4 × 20 ms is no reason to move.
const FAST_MS: u16 = 20;

/// A card that takes no longer than this does not lengthen the election timeout: most cards, most of the time.
const ORDINARY_MS: u16 = 100;

impl Card {
    /// Less is healthier. A card nobody knows is better than one that stands still.
    fn sickness(self) -> u16 {
        match self {
            Card::Takes(ms) => ms.min(u16::MAX - 2),
            Card::Unknown => u16::MAX - 1,
            Card::StandsStill => u16::MAX,
        }
    }

    fn is_much_slower_than(self, other: Card) -> bool {
        match (self, other) {
            (Card::Takes(own), Card::Takes(others)) => own / SLOW_FACTOR >= others.max(FAST_MS),
            (Card::Unknown | Card::Takes(_) | Card::StandsStill, _) => false,
        }
    }

    /// Ticks by which it lengthens the own election timeout: the vote has to become durable first, and a
    /// healthier one shall stand before.
    pub(crate) fn campaign_delay(self) -> u64 {
        match self {
            Card::Unknown => 0,
            Card::Takes(ms) => (u64::from(ms.saturating_sub(ORDINARY_MS)) / TICK_MS).min(ELECTION_TICKS_MAX),
            Card::StandsStill => ELECTION_TICKS_MAX,
        }
    }
}

/// What a leader remembers about its own card.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Since when somebody's was much better.
    slow_since: Option<u64>,
    /// No hand-over before then.
    not_before: u64,
    pause: u64,
}

impl Guard {
    pub(crate) fn new(now: u64) -> Guard {
        Guard { slow_since: None, not_before: now, pause: GUARD_TICKS_MIN }
    }

    /// Whether the heir, the healthiest that has kept up, should lead instead of a card like `own`.
    fn judges(&mut self, own: Card, own_waits: u64, heir: Card, now: u64) -> bool {
        let is_slower = own.is_much_slower_than(heir);
        self.slow_since = self.slow_since.filter(|_| is_slower).or(is_slower.then_some(now));
        let is_slow_for_long = self.slow_since.is_some_and(|since| now - since >= SLOW_TICKS);
        let is_sick = own_waits >= SICK_TICKS && heir != Card::StandsStill;
        (is_sick || is_slow_for_long) && now >= self.not_before
    }

    /// A hand-over begins: if it comes to nothing, the next has to wait.
    fn begins(&mut self, now: u64) {
        self.not_before = now + self.pause;
        self.pause = (2 * self.pause).min(GUARD_TICKS_MAX);
    }
}

impl Raft {
    /// What is written here is durable after that many milliseconds, as the median of late; nothing, if too
    /// little was written to tell. The hall measures it; whether the card stands still is seen here, by appends
    /// that wait for their acks.
    pub fn card_takes(&mut self, ms: Option<u16>) {
        self.card_takes = ms;
    }

    /// How the own card does.
    #[must_use]
    pub fn card(&self) -> Card {
        match self.card_takes {
            _ if self.append_waits() >= STANDSTILL_TICKS => Card::StandsStill,
            Some(ms) => Card::Takes(ms),
            None => Card::Unknown,
        }
    }

    /// Hand-overs begun because of the own card, since the start.
    #[must_use]
    pub fn card_hand_overs(&self) -> u64 {
        self.card_hand_overs
    }

    /// A leader whose card is sick hands over to the healthiest voter that has kept up.
    pub(crate) fn guard_card(&mut self) {
        let (own, waits, now, committed) = (self.card(), self.append_waits(), self.now, self.committed);
        let close = self.log.last().index.0.saturating_sub(CLOSE_ENTRY_COUNT);
        let Raft { role: RoleState::Leader(leader), memberships, node, .. } = self else { return };
        if leader.transfer.is_some() || committed < leader.first {
            return;
        }
        let is_close = |peer: &Progress| peer.verified().0 >= close;
        let membership = memberships.in_force();
        let Some((heir, card)) = healthiest(membership, &leader.progress, now, is_close) else { return };
        if !leader.guard.judges(own, waits, card, now)
            || !can_elect(membership, *node, own, &leader.progress, now)
        {
            return;
        }
        leader.guard.begins(now);
        leader.transfer = Some(Transfer::new(heir, now));
        self.card_hand_overs += 1;
        self.tell_transfer(false);
    }
}

/// The voter with the healthiest card among those that answer and have kept up; of equals the one that is
/// furthest.
fn healthiest(
    membership: &Membership,
    progress: &BTreeMap<NodeId, Progress>,
    now: u64,
    is_close: impl Fn(&Progress) -> bool,
) -> Option<(NodeId, Card)> {
    let heirs = progress
        .iter()
        .filter(|(id, peer)| membership.voters.contains(id) && can_write(peer, now) && is_close(peer));
    let best = heirs.min_by_key(|(_, peer)| (peer.card().sickness(), core::cmp::Reverse(peer.persisted())));
    best.map(|(id, peer)| (*id, peer.card()))
}

/// Whether enough cards are left that votes, and what the heir will append, can become durable.
fn can_elect(
    membership: &Membership,
    own_id: NodeId,
    own: Card,
    progress: &BTreeMap<NodeId, Progress>,
    now: u64,
) -> bool {
    quorum::agrees(membership, |id| {
        if id == own_id {
            own != Card::StandsStill
        } else {
            progress.get(&id).is_some_and(|peer| can_write(peer, now))
        }
    })
}

/// Whether the peer answers, and its card moves.
fn can_write(peer: &Progress, now: u64) -> bool {
    peer.is_active(now) && peer.card() != Card::StandsStill
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Card = Card::Takes(400);
    const FINE: Card = Card::Takes(40);

    #[test]
    fn who_is_slow_for_long_beside_a_healthy_one_goes() {
        let mut guard = Guard::new(0);
        assert!(!guard.judges(SLOW, 0, FINE, 10));
        assert!(!guard.judges(SLOW, 0, FINE, 10 + SLOW_TICKS - 1));
        assert!(guard.judges(SLOW, 0, FINE, 10 + SLOW_TICKS));
        // A moment of equality begins the count anew.
        assert!(!guard.judges(FINE, 0, FINE, 11 + SLOW_TICKS));
        assert!(!guard.judges(SLOW, 0, FINE, 12 + SLOW_TICKS));
    }

    #[test]
    fn cards_that_are_slow_alike_move_nobody() {
        let mut guard = Guard::new(0);
        for (own, heir) in [
            (SLOW, SLOW),
            (SLOW, Card::Takes(101)),
            (Card::Takes(79), Card::Takes(1)),
            (FINE, SLOW),
            (SLOW, Card::Unknown),
            (Card::Unknown, FINE),
        ] {
            assert!(
                !guard.judges(own, 0, heir, 0) && !guard.judges(own, 0, heir, 10 * SLOW_TICKS),
                "{own:?} {heir:?}"
            );
        }
    }

    #[test]
    fn a_card_that_stands_still_goes_at_once_and_what_failed_is_tried_ever_more_rarely() {
        let mut guard = Guard::new(0);
        let still = Card::StandsStill;
        assert!(!guard.judges(still, SICK_TICKS - 1, Card::Unknown, 0));
        assert!(guard.judges(still, SICK_TICKS, Card::Unknown, 0));
        assert!(!guard.judges(still, SICK_TICKS, still, 0));
        let mut now = 0;
        for pause in [GUARD_TICKS_MIN, 2 * GUARD_TICKS_MIN, 4 * GUARD_TICKS_MIN] {
            guard.begins(now);
            assert!(!guard.judges(still, SICK_TICKS, FINE, now + pause - 1));
            assert!(guard.judges(still, SICK_TICKS, FINE, now + pause));
            now += pause;
        }
        (0..10).for_each(|_| guard.begins(now));
        assert!(guard.judges(still, SICK_TICKS, FINE, now + GUARD_TICKS_MAX));
    }

    #[test]
    fn slow_cards_wait_before_they_stand() {
        assert_eq!(Card::Unknown.campaign_delay(), 0);
        assert_eq!(FINE.campaign_delay(), 0);
        assert_eq!(SLOW.campaign_delay(), 30);
        assert_eq!(Card::Takes(u16::MAX).campaign_delay(), ELECTION_TICKS_MAX);
        assert_eq!(Card::StandsStill.campaign_delay(), ELECTION_TICKS_MAX);
    }
}
