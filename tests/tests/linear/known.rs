//! Histories written by hand: what must pass, what must not.

use quorate_tests::linear::{Answer, Expected, Held, Op, Operation, Outcome, check};

/// `(began, ended, op, outcome)` of one key, each by a client of its own.
fn judge(rows: &[(u64, u64, Op, Outcome)]) -> Result<(), String> {
    let rows = rows.iter().zip(0..);
    let history: Vec<Operation> = rows
        .map(|(&(began, ended, op, outcome), client)| Operation { client, key: 7, began, ended, op, outcome })
        .collect();
    check(&history).map(|_| ()).map_err(|violation| violation.to_string())
}

fn right(rows: &[(u64, u64, Op, Outcome)]) {
    judge(rows).unwrap_or_else(|violation| panic!("{violation}"));
}

fn wrong(rows: &[(u64, u64, Op, Outcome)], why: &str) {
    let violation = judge(rows).expect_err(why);
    assert!(violation.contains(why), "{violation}");
}

const NOTHING_EXPLAINS: &str = "no order explains this answer";
const UNKNOWN: Outcome = Outcome::Unknown;

fn put() -> Outcome {
    Outcome::Done { answer: Answer::Put, revision: 0 }
}

fn put_at(revision: i64) -> Outcome {
    Outcome::Done { answer: Answer::Put, revision }
}

fn got(value: u64) -> Outcome {
    Outcome::Done { answer: Answer::Got(Some(Held { value, revision: 0 })), revision: 0 }
}

fn got_at(value: u64, mod_revision: i64, revision: i64) -> Outcome {
    Outcome::Done { answer: Answer::Got(Some(Held { value, revision: mod_revision })), revision }
}

fn none() -> Outcome {
    Outcome::Done { answer: Answer::Got(None), revision: 0 }
}

fn deleted(value: u64) -> Outcome {
    Outcome::Done { answer: Answer::Deleted(Some(Held { value, revision: 0 })), revision: 0 }
}

fn swapped() -> Outcome {
    Outcome::Done { answer: Answer::Swapped, revision: 0 }
}

fn kept(value: u64) -> Outcome {
    Outcome::Done { answer: Answer::Kept(Some(Held { value, revision: 0 })), revision: 0 }
}

fn swap(expected: u64, value: u64) -> Op {
    Op::Swap { expected: Expected::Value(expected), value }
}

fn create(value: u64) -> Op {
    Op::Swap { expected: Expected::Absent, value }
}

#[test]
fn one_after_the_other() {
    right(&[]);
    right(&[(0, 1, Op::Get, none()), (2, 3, Op::Put(1), put()), (4, 5, Op::Get, got(1))]);
    right(&[(0, 1, Op::Put(1), put()), (2, 3, Op::Delete, deleted(1)), (4, 5, Op::Get, none())]);
    right(&[(0, 1, create(1), swapped()), (2, 3, swap(1, 2), swapped()), (4, 5, swap(1, 3), kept(2))]);
}

#[test]
fn what_overlaps_may_come_in_any_order() {
    right(&[(0, 9, Op::Put(1), put()), (1, 2, Op::Get, none()), (3, 4, Op::Get, got(1))]);
    right(&[(0, 9, Op::Put(1), put()), (0, 9, Op::Put(2), put()), (10, 11, Op::Get, got(1))]);
    // What ends at the moment another begins overlaps it.
    right(&[(0, 3, Op::Put(1), put()), (3, 4, Op::Get, none())]);
}

#[test]
fn a_stale_read() {
    wrong(&[(0, 1, Op::Put(1), put()), (2, 3, Op::Get, none())], NOTHING_EXPLAINS);
    wrong(&[(0, 1, Op::Put(1), put()), (2, 3, Op::Put(2), put()), (4, 5, Op::Get, got(1))], NOTHING_EXPLAINS);
    // Once one has seen the new value, nobody sees the old one.
    wrong(
        &[
            (0, 1, Op::Put(1), put()),
            (2, 20, Op::Put(2), put()),
            (3, 4, Op::Get, got(2)),
            (5, 6, Op::Get, got(1)),
        ],
        NOTHING_EXPLAINS,
    );
}

#[test]
fn a_lost_update() {
    // Two swaps from one value.
    wrong(
        &[(0, 1, Op::Put(1), put()), (2, 9, swap(1, 2), swapped()), (2, 9, swap(1, 3), swapped())],
        NOTHING_EXPLAINS,
    );
    // Two creations of one key.
    wrong(&[(0, 9, create(1), swapped()), (0, 9, create(2), swapped())], NOTHING_EXPLAINS);
    // An acknowledged write that nobody finds.
    wrong(
        &[(0, 1, Op::Put(1), put()), (2, 3, Op::Put(2), put()), (4, 5, swap(2, 3), kept(1))],
        NOTHING_EXPLAINS,
    );
}

#[test]
fn a_swap_that_had_to_take_place() {
    wrong(&[(0, 1, Op::Put(1), put()), (2, 3, swap(1, 2), kept(1))], NOTHING_EXPLAINS);
}

#[test]
fn a_value_that_was_never_written() {
    wrong(&[(0, 1, Op::Get, got(9))], "a value that nobody ever wrote");
    wrong(&[(0, 1, Op::Put(1), Outcome::Refused), (2, 3, Op::Get, got(1))], "whose write was refused");
    wrong(
        &[(0, 1, Op::Put(1), put()), (2, 3, swap(5, 2), kept(1)), (4, 5, Op::Get, got(2))],
        "whose swap did not happen",
    );
    // Seen before it was asked for.
    wrong(&[(0, 1, Op::Get, got(1)), (2, 3, Op::Put(1), put())], NOTHING_EXPLAINS);
    wrong(&[(0, 1, Op::Get, got(1)), (2, 3, Op::Put(1), UNKNOWN)], NOTHING_EXPLAINS);
}

#[test]
fn an_unknown_write_may_appear_late_or_never() {
    let write = (0, 1, Op::Put(1), UNKNOWN);
    right(&[write, (2, 3, Op::Get, none()), (50, 51, Op::Get, none())]);
    right(&[write, (2, 3, Op::Get, none()), (50, 51, Op::Get, got(1))]);
    right(&[write, (2, 3, Op::Put(2), put()), (4, 5, Op::Get, got(2)), (50, 51, Op::Get, got(1))]);
    right(&[(0, 1, create(1), UNKNOWN), (2, 3, create(2), kept(1))]);
}

#[test]
fn an_unknown_write_that_appears_stays_and_appears_once() {
    let write = (0, 1, Op::Put(1), UNKNOWN);
    wrong(&[write, (2, 3, Op::Get, got(1)), (4, 5, Op::Get, none())], NOTHING_EXPLAINS);
    wrong(
        &[
            write,
            (2, 3, Op::Get, got(1)),
            (4, 5, Op::Put(2), put()),
            (6, 7, Op::Get, got(2)),
            (8, 9, Op::Get, got(1)),
        ],
        NOTHING_EXPLAINS,
    );
    // A double write: once before the delete, and once more behind it.
    wrong(
        &[write, (2, 3, Op::Delete, deleted(1)), (4, 5, Op::Get, none()), (6, 7, Op::Get, got(1))],
        NOTHING_EXPLAINS,
    );
}

#[test]
fn an_unknown_delete_explains_one_loss() {
    let delete = (2, 3, Op::Delete, UNKNOWN);
    let write = (0, 1, Op::Put(1), put());
    right(&[write, delete, (4, 5, Op::Get, got(1)), (6, 7, Op::Get, none())]);
    right(&[write, delete, (4, 5, Op::Get, got(1))]);
    let twice = [write, (4, 5, Op::Get, none()), (6, 7, Op::Put(2), put()), (8, 9, Op::Get, none())];
    wrong(&[&twice[..], &[delete]].concat(), NOTHING_EXPLAINS);
    right(&[&twice[..], &[delete, (2, 3, Op::Delete, UNKNOWN)]].concat());
}

#[test]
fn a_swap_by_a_revision_nobody_named_can_have_met_an_unknown_write() {
    let swap = Op::Swap { expected: Expected::Revision(7), value: 3 };
    let swapped_at = Outcome::Done { answer: Answer::Swapped, revision: 9 };
    let write = (0, 1, Op::Put(1), put_at(5));
    right(&[write, (2, 3, Op::Put(2), UNKNOWN), (4, 5, swap, swapped_at)]);
    wrong(&[write, (4, 5, swap, swapped_at)], NOTHING_EXPLAINS);
}

#[test]
fn revisions_go_up_in_real_time() {
    wrong(&[(0, 1, Op::Put(1), put_at(5)), (2, 3, Op::Put(2), put_at(4))], "an older revision");
    wrong(&[(0, 9, Op::Put(1), put_at(5)), (0, 9, Op::Put(2), put_at(5))], "two writes of one revision");
    wrong(
        &[(0, 1, Op::Put(1), put_at(5)), (2, 3, Op::Get, got_at(1, 5, 4))],
        "an older revision than was told before",
    );
    // Over keys, too: one counter for all.
    let history = [
        Operation { client: 0, key: 1, began: 0, ended: 1, op: Op::Put(1), outcome: put_at(5) },
        Operation { client: 0, key: 2, began: 2, ended: 3, op: Op::Put(1), outcome: put_at(4) },
    ];
    assert!(check(&history).is_err());
    // Overlapping: either may be first.
    right(&[
        (0, 9, Op::Put(1), put_at(5)),
        (0, 9, Op::Put(2), put_at(4)),
        (10, 11, Op::Get, got_at(1, 5, 5)),
    ]);
    wrong(
        &[(0, 9, Op::Put(1), put_at(5)), (0, 9, Op::Put(2), put_at(4)), (10, 11, Op::Get, got_at(2, 4, 5))],
        "does not show a change",
    );
}

#[test]
fn a_value_keeps_its_revision() {
    wrong(
        &[(0, 1, Op::Put(1), put_at(5)), (2, 3, Op::Get, got_at(1, 6, 6))],
        "another revision than its writer was told",
    );
    wrong(
        &[(0, 1, Op::Put(1), UNKNOWN), (2, 3, Op::Get, got_at(1, 6, 9)), (4, 5, Op::Get, got_at(1, 7, 9))],
        "one value at two revisions",
    );
    wrong(
        &[(0, 1, Op::Put(1), UNKNOWN), (2, 3, Op::Get, got_at(1, 6, 5))],
        "what came after the revision it names",
    );
}

#[test]
fn a_serializable_read_may_be_old_but_not_torn() {
    let writes = [(0, 1, Op::Put(1), put_at(5)), (2, 3, Op::Put(2), put_at(6))];
    let peek = |outcome| [&writes[..], &[(4, 5, Op::Peek, outcome)]].concat();
    right(&peek(got_at(1, 5, 5)));
    right(&peek(got_at(2, 6, 6)));
    right(&peek(Outcome::Done { answer: Answer::Got(None), revision: 1 }));
    wrong(&peek(got_at(1, 5, 6)), "does not show a change");
    wrong(&peek(got_at(9, 5, 5)), "nobody ever wrote");
    // What it showed had been decided: a linearizable read behind it goes not below.
    let unknown = (0, 1, Op::Put(1), UNKNOWN);
    wrong(
        &[
            unknown,
            (2, 3, Op::Peek, got_at(1, 5, 5)),
            (4, 5, Op::Get, Outcome::Done { answer: Answer::Got(None), revision: 4 }),
        ],
        "an older revision",
    );
}

#[test]
fn a_history_that_cannot_be_checked_is_refused() {
    wrong(&[(0, 1, Op::Put(1), put()), (2, 3, Op::Put(1), put())], "is also written by operation");
}
