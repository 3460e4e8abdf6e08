use super::*;
use proptest::prelude::*;
use quorate_raft::{AppendAnswer, AppendEntries, Card, Heartbeat, HeartbeatAnswer};
use quorate_types::{Entry, EntryKind, Index, Position, Start, Term};

fn message(body: Body) -> Message {
    Message { start: Start { count: 1, incarnation: 1 }, term: Term(1), body }
}

fn heartbeat(round: u64) -> Message {
    message(Body::Heartbeat(Heartbeat { committed: Index(0), round }))
}

fn heartbeat_answer(round: u64) -> Message {
    message(Body::HeartbeatAnswer(HeartbeatAnswer {
        round,
        verified: Index(0),
        persisted: Index(0),
        card: Card::Unknown,
    }))
}

fn read(number: u64) -> Message {
    message(Body::ReadRequest { number })
}

fn append(bytes: usize) -> Message {
    let position = Position { term: Term(1), index: Index(1) };
    let entry = Entry { position, kind: EntryKind::Command, payload: vec![0; bytes].into() };
    let previous = Position::default();
    message(Body::AppendEntries(AppendEntries { previous, entries: vec![entry], committed: Index(0) }))
}

fn up() -> Queue {
    let mut queue = Queue::default();
    queue.set_up(true);
    queue
}

#[test]
fn a_newer_heartbeat_takes_the_olders_place() {
    let mut queue = up();
    for round in 0..100 {
        assert_eq!(queue.push(heartbeat(round)), Lane::Beat);
        assert_eq!(queue.push(heartbeat_answer(round)), Lane::Beat);
    }
    assert_eq!(queue.count(), 2);
    assert_eq!(queue.pop_beat(), Some(heartbeat(99)));
    assert_eq!(queue.pop_beat(), Some(heartbeat_answer(99)));
    assert_eq!(queue.pop_beat(), None);
    assert_eq!(queue.dropped(), 0, "what is replaced is not lost");
}

#[test]
fn each_message_has_its_lane() {
    let mut queue = up();
    assert_eq!(queue.push(read(1)), Lane::Urgent);
    assert_eq!(queue.push(message(Body::AppendAnswer(AppendAnswer::Full))), Lane::Urgent);
    assert_eq!(queue.push(message(Body::CampaignNow)), Lane::Urgent);
    assert_eq!(queue.push(append(1)), Lane::Append);
    assert_eq!(queue.pop_urgent(), Some(read(1)));
    assert_eq!(queue.pop_append(), Some(append(1)));
}

#[test]
fn of_urgent_messages_the_newest_stay() {
    let mut queue = up();
    let count = URGENT_COUNT_MAX as u64;
    for number in 0..count + 10 {
        queue.push(read(number));
    }
    assert_eq!(queue.dropped(), 10);
    assert_eq!(queue.pop_urgent(), Some(read(10)));
    queue.set_up(false);
    assert_eq!(queue.count(), URGENT_DOWN_COUNT_MAX);
    assert_eq!(queue.pop_urgent(), Some(read(count + 10 - URGENT_DOWN_COUNT_MAX as u64)));
}

#[test]
fn appends_are_bounded_in_bytes_and_the_largest_entry_still_goes() {
    let mut queue = up();
    queue.push(append(limits::ENTRY_BYTES_MAX));
    for _ in 0..100 {
        queue.push(append(limits::APPEND_BYTES_MAX));
    }
    assert!(queue.bytes() <= limits::APPEND_IN_FLIGHT_BYTES_MAX);
    let waiting = queue.count();
    assert_eq!(queue.dropped(), 101 - waiting as u64);
    while queue.pop_append().is_some() {}
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn what_is_down_is_sent_no_entries_and_takes_no_forwards() {
    let mut queue = Queue::default();
    queue.push(append(10));
    assert!(!queue.push_forward(vec![1]));
    assert_eq!((queue.count(), queue.dropped()), (0, 1));
    queue.set_up(true);
    queue.push(append(10));
    assert!(queue.push_forward(vec![1]));
    assert_eq!((queue.count(), queue.bytes()), (2, 11));
    queue.set_up(false);
    assert_eq!((queue.count(), queue.bytes(), queue.dropped()), (0, 0, 3));
}

#[test]
fn forwards_are_bounded_and_one_that_is_larger_goes_alone() {
    let mut queue = up();
    assert!(queue.push_forward(vec![0; FORWARD_QUEUE_BYTES_MAX + 1]));
    assert!(!queue.push_forward(vec![0]));
    assert!(queue.pop_forward().is_some());
    let taken = (0..FORWARD_COUNT_MAX + 10).filter(|_| queue.push_forward(vec![0; 10])).count();
    assert_eq!(taken, FORWARD_COUNT_MAX);
    assert_eq!(queue.bytes(), 10 * FORWARD_COUNT_MAX);
}

proptest! {
    #[test]
    fn bounds_hold_whatever_comes(steps in prop::collection::vec((0_u8..9, 0_usize..600_000), 0..400)) {
        let mut queue = Queue::default();
        for (step, bytes) in steps {
            match step {
                0 => queue.set_up(bytes % 4 != 0),
                1 => drop(queue.push(heartbeat(1))),
                2 => drop(queue.push(read(1))),
                3 | 4 => drop(queue.push(append(bytes))),
                5 => drop(queue.push_forward(vec![0; bytes])),
                6 => drop(queue.pop_append()),
                7 => drop(queue.pop_forward()),
                _ => drop(queue.pop_urgent()),
            }
            let bytes_max = limits::APPEND_IN_FLIGHT_BYTES_MAX + FORWARD_QUEUE_BYTES_MAX;
            prop_assert!(queue.bytes() <= bytes_max);
            let counted: usize = queue.appends.iter().map(payload_bytes).sum::<usize>()
                + queue.forwards.iter().map(Vec::len).sum::<usize>();
            prop_assert_eq!(queue.bytes(), counted);
        }
    }
}
