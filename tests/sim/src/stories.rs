//! Stories of bugs the simulator found, each told so that it happens every time: calm worlds in which one thing goes
//! wrong. Rows in tests/REGRESSIONS.md name them.

mod cards;

use crate::board::Slot;
use crate::net::{FAIR, Weather};
use crate::queue::{MS, Nanos, SECOND};
use crate::world::World;
use quorate_api::Read;
use quorate_types::{Index, LeaseId, NodeId};
use quorated::forward::Change;
use quorated::inbox::{Inbound, Reply};

const FOUNDER: Slot = Slot(0);

/// So many boards with free cards, the first three in a cluster; nobody asks anything, nothing breaks.
fn calm(boards: usize) -> World {
    let mut world = World::calm(7, boards);
    world.form();
    assert_eq!(world.broken, None);
    assert_eq!(world.leader(), Some(FOUNDER));
    world
}

fn pass(world: &mut World, time: Nanos) {
    world.run_until(world.now + time);
    assert_eq!(world.broken, None);
}

fn join(world: &mut World, slot: Slot) {
    world.begin_join(slot);
    while world.operator.is_joining() {
        pass(world, 10 * MS);
        world.follow_join();
    }
}

fn change(world: &mut World, at: Slot, change: Change) {
    world.request_change(at, change);
    pass(world, 3 * SECOND);
    world.follow_change();
}

fn node(world: &World, slot: Slot) -> NodeId {
    world.boards[slot.0].node.expect("it has joined")
}

fn applied(world: &World, slot: Slot) -> Index {
    world.boards[slot.0].process.as_ref().expect("it runs").driver.store.applied()
}

/// A leader that joined after a node had fallen behind was a stranger to it: it was refused, and the node never
/// learned who belongs.
#[test]
fn who_missed_the_changes_still_listens_to_a_leader_that_joined_since() {
    let mut world = calm(5);
    let late = Slot(2);
    world.boards[late.0].stalled_until = world.now + 3_600 * SECOND;
    join(&mut world, Slot(3));
    join(&mut world, Slot(4));
    pass(&mut world, 6 * SECOND);
    let newcomer = node(&world, Slot(3));
    assert!(world.members().is_some_and(|members| members.voters.contains(&newcomer)));
    change(&mut world, FOUNDER, Change::Transfer(newcomer));
    assert_eq!(world.leader(), Some(Slot(3)));
    // Its card never had the changes.
    world.kill(late, "is killed");
    world.boards[late.0].stalled_until = world.now;
    world.start(late);
    pass(&mut world, 10 * SECOND);
    assert_eq!(applied(&world, late), applied(&world, Slot(3)));
}

/// A board that had joined and never came counted as near while the log was short, and took a voter's place.
#[test]
fn who_joined_and_never_came_takes_no_voters_place() {
    let mut world = calm(4);
    let ghost = Slot(3);
    world.boards[ghost.0].stalled_until = world.now + 3_600 * SECOND;
    join(&mut world, ghost);
    let leaves = node(&world, Slot(2));
    change(&mut world, FOUNDER, Change::Remove(leaves));
    let members = world.members().expect("somebody leads");
    assert!(!members.is_member(leaves) && members.is_learner(node(&world, ghost)), "{members:?}");
}

/// To a new leader everybody lived for 850 ms: it let a voter go, and the cluster waited for a dead one.
#[test]
fn a_new_leader_does_not_take_the_dead_for_living() {
    let mut world = calm(3);
    world.kill(Slot(2), "dies");
    pass(&mut world, 5 * SECOND);
    let next = node(&world, Slot(1));
    world.request_change(FOUNDER, Change::Transfer(next));
    while world.leader() != Some(Slot(1)) {
        pass(&mut world, MS);
    }
    // Its first entry is through, and the dead one could still have answered.
    pass(&mut world, 50 * MS);
    let leaves = node(&world, FOUNDER);
    world.request_change(Slot(1), Change::Remove(leaves));
    pass(&mut world, 3 * SECOND);
    assert!(world.members().is_some_and(|members| members.voters.contains(&leaves)), "it may not go");
}

/// How long a lease has left was answered within two timeouts, one after the other.
#[test]
fn a_question_and_the_read_after_it_have_one_timeout() {
    let mut world = calm(3);
    world.net.weather = Weather { delay_min: 200 * MS, delay_spread: 0, ..FAIR };
    pass(&mut world, 3 * SECOND);
    let asks = *world.running().iter().find(|slot| Some(**slot) != world.leader()).expect("a follower");
    let (reply, mut answer) = Reply::pair();
    let read = Read::Lease { id: LeaseId(5), keys: true };
    let process = world.boards[asks.0].process.as_ref().expect("it runs");
    assert!(process.inbox.offer(Inbound::Read { read, linearizable: true, reply }).is_ok());
    world.wake_soon(asks);
    // There and back, and a round of the leader's between: the answer is here, and what it names is being read.
    pass(&mut world, 1_150 * MS);
    for other in world.running() {
        world.net.cuts.extend([(asks, other), (other, asks)]);
    }
    pass(&mut world, 6_500 * MS);
    assert!(answer.try_recv().is_ok_and(|answer| answer.is_err()), "it was told that the time is over");
}
