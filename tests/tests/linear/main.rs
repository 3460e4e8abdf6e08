//! The checker checked: histories known to be right and known to be wrong, every small history against trying all
//! orders, and large right ones that are spoilt in one place.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod brute;
mod generate;
mod known;

use generate::{Plan, Spoiling, history, spoil};
use quorate_tests::linear::{Operation, Outcome, check};
use rand::SeedableRng;
use rand::rngs::SmallRng;

#[test]
fn every_small_history_is_judged_as_by_trying_all_orders() {
    const HISTORIES: u64 = 30_000;
    let mut right = 0;
    for seed in 0..HISTORIES {
        let history = brute::random(&mut SmallRng::seed_from_u64(seed));
        let is_right = brute::is_linearizable(&history);
        let found = check(&history);
        assert_eq!(found.is_ok(), is_right, "seed {seed}: {found:?}\n{}", lines(&history));
        right += u64::from(is_right);
    }
    println!("{right} of {HISTORIES} are right");
    // A generator that only makes one kind compares nothing.
    assert!(right > HISTORIES / 10 && right < HISTORIES * 9 / 10, "{right}");
}

fn lines(history: &[Operation]) -> String {
    history.iter().map(|operation| format!("{operation}\n")).collect()
}

#[test]
fn right_histories_pass_and_spoilt_ones_do_not() {
    const HISTORIES: u64 = 300;
    let mut spoilt = [0_u64; Spoiling::ALL.len()];
    for seed in 0..HISTORIES {
        let mut random = SmallRng::seed_from_u64(seed);
        let plan = Plan {
            operations: 400,
            clients: 1 + seed % 9,
            keys: 1 + seed % 3,
            tells_revisions: seed % 2 == 0,
            unknown_per_hundred: [0, 5, 25][usize::try_from(seed % 3).unwrap()],
        };
        let right = history(plan, &mut random);
        let checked = check(&right).unwrap_or_else(|error| panic!("seed {seed}, {plan:?}: {error}"));
        assert!(checked.answered > 200);
        for (number, spoiling) in Spoiling::ALL.into_iter().enumerate() {
            let Some(wrong) = spoil(&right, spoiling, &mut random) else { continue };
            assert!(check(&wrong).is_err(), "seed {seed}, {plan:?}: {spoiling:?} is not seen");
            spoilt[number] += 1;
        }
    }
    println!("spoilt {spoilt:?}");
    assert!(spoilt.iter().all(|count| *count > HISTORIES / 4), "{spoilt:?}");
}

#[test]
fn a_hundred_thousand_operations_take_seconds() {
    for tells_revisions in [true, false] {
        let plan =
            Plan { operations: 100_000, clients: 12, keys: 5, tells_revisions, unknown_per_hundred: 2 };
        let mut random = SmallRng::seed_from_u64(7);
        let right = history(plan, &mut random);
        let began = std::time::Instant::now();
        let checked = check(&right).unwrap();
        println!("{checked:?} in {:?}", began.elapsed());
        assert!(checked.unknown_happened > 100, "{checked:?}");
        // What a right history takes is in proportion to it; twenty times is a search gone astray.
        assert!(checked.steps < 20 * 100_000, "{checked:?}");
        let wrong = spoil(&right, Spoiling::StaleRead, &mut random).unwrap();
        let began = std::time::Instant::now();
        let violation = check(&wrong).unwrap_err();
        println!("{violation}\nin {:?}", began.elapsed());
    }
}

#[test]
fn the_report_names_the_answer_that_nothing_explains() {
    let mut random = SmallRng::seed_from_u64(3);
    let plan =
        Plan { operations: 2_000, clients: 4, keys: 1, tells_revisions: false, unknown_per_hundred: 0 };
    let right = history(plan, &mut random);
    let wrong = spoil(&right, Spoiling::StaleRead, &mut random).unwrap();
    let culprit = right.iter().zip(&wrong).position(|(before, after)| before != after).unwrap();
    let violation = check(&wrong).unwrap_err();
    assert_eq!(violation.operation, culprit, "{violation}");
    assert!(matches!(wrong[culprit].outcome, Outcome::Done { .. }));
    assert!(violation.text.contains(&wrong[culprit].to_string()), "{violation}");
}
