//! Stories of sick cards: what the guard does, and what it leaves alone.

use super::{FOUNDER, calm, pass};
use crate::board::Slot;
use crate::card::{BAD, QUICK};
use crate::queue::{MS, Nanos, SECOND};
use crate::world::World;
use quorate_api::{Answer, Refusal};
use quorate_store::{Command, Outcome, Put};
use quorated::inbox::{Inbound, Reply};
use tokio::sync::oneshot;

/// A put at that node.
fn put(world: &mut World, at: Slot) -> oneshot::Receiver<Result<Answer<Outcome>, Refusal>> {
    let (reply, answer) = Reply::pair();
    let put = Put { key: b"key".to_vec(), value: b"value".to_vec(), ..Put::default() };
    let process = world.boards[at.0].process.as_ref().expect("it runs");
    assert!(process.inbox.offer(Inbound::Propose { command: Command::Put(put), reply }).is_ok());
    world.wake_soon(at);
    answer
}

/// Puts one after the other at that node, for so long; how many, and how long the slowest took.
fn put_for(world: &mut World, at: Slot, time: Nanos) -> (u64, Nanos) {
    let end = world.now + time;
    let (mut done, mut longest) = (0, 0);
    while world.now < end {
        let begun = world.now;
        let mut answer = put(world, at);
        loop {
            pass(world, MS);
            assert!(world.now - begun < 10 * SECOND, "no answer");
            if let Ok(outcome) = answer.try_recv() {
                assert!(outcome.is_ok(), "{outcome:?}");
                break;
            }
        }
        done += 1;
        longest = longest.max(world.now - begun);
        pass(world, 10 * MS);
    }
    (done, longest)
}

fn card_hand_overs(world: &World) -> u64 {
    let processes = world.boards.iter().filter_map(|board| board.process.as_ref());
    processes.map(|process| process.driver.core.card_hand_overs()).sum()
}

/// The leader's card stands still for ten seconds: its followers' cards carry on, it hands over once, nobody waits.
#[test]
fn a_leader_whose_card_stands_still_hands_over_once_and_nobody_waits() {
    for asks in [FOUNDER, Slot(1)] {
        let mut world = calm(3);
        world.boards[FOUNDER.0].stalled_until = world.now + 10 * SECOND;
        let (done, longest) = put_for(&mut world, asks, 2 * SECOND);
        assert!(done > 50 && longest < 100 * MS, "{done}, {longest}");
        assert_eq!(world.leader(), Some(FOUNDER), "a pause is no reason to move");
        let (_, longest) = put_for(&mut world, asks, 28 * SECOND);
        assert!(longest < 300 * MS, "{longest}");
        assert_eq!(card_hand_overs(&world), 1);
        assert_ne!(world.leader(), Some(FOUNDER));
    }
}

/// A leader whose card is far slower than its followers' leaves the lead, once; cards that are slow alike move nobody.
#[test]
fn a_slow_card_does_not_lead_where_a_better_one_can() {
    for (models, moves) in [([BAD, QUICK, QUICK], 1), ([BAD, BAD, BAD], 0), ([QUICK, BAD, BAD], 0)] {
        let mut world = calm(3);
        for (board, model) in world.boards.iter().zip(models) {
            board.card.set_model(model);
        }
        let (done, _) = put_for(&mut world, Slot(2), 60 * SECOND);
        assert!(done > 50, "{done}");
        assert_eq!(card_hand_overs(&world), moves, "{models:?}");
        assert_eq!(world.leader() != Some(FOUNDER), moves > 0);
    }
}

/// Most cards stand still: writes wait or fail, the leader stays, and all goes on by itself.
#[test]
fn with_most_cards_standing_still_the_leader_stays_and_all_resumes() {
    let mut world = calm(3);
    for slot in [FOUNDER, Slot(2)] {
        world.boards[slot.0].stalled_until = world.now + 20 * SECOND;
    }
    let mut answer = put(&mut world, Slot(1));
    pass(&mut world, 8 * SECOND);
    assert!(answer.try_recv().is_ok_and(|outcome| outcome.is_err()), "its outcome is not known");
    assert_eq!((world.leader(), card_hand_overs(&world)), (Some(FOUNDER), 0));
    pass(&mut world, 13 * SECOND);
    let (_, longest) = put_for(&mut world, Slot(1), SECOND);
    assert!(longest < 100 * MS, "{longest}");
}
