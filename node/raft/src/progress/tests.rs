//! One peer's progress, step by step.

use super::*;
use quorate_types::limits;

fn streaming(last: u64) -> Progress {
    let mut progress = Progress::new(Index(last), 0);
    progress.taken(Index(last), Index(last), 0);
    progress
}

#[test]
fn one_append_at_a_time_while_probing() {
    let mut progress = Progress::new(Index(5), 0);
    assert_eq!(progress.wants(Index(9)), Some(Index(4)));
    progress.sent(Index(9), 500, Index(0), 0);
    assert_eq!(progress.wants(Index(9)), None);
    progress.rejected(Index(4), Index(2), false);
    assert_eq!(progress.wants(Index(9)), Some(Index(2)));
    progress.sent(Index(9), 500, Index(0), 0);
    progress.taken(Index(9), Index(0), 1);
    assert_eq!(progress.wants(Index(9)), None);
    assert_eq!(progress.wants(Index(10)), Some(Index(9)));
}

#[test]
fn probing_goes_back_whatever_the_peer_says_and_not_below_what_is_verified() {
    let mut progress = Progress::new(Index(5), 0);
    progress.rejected(Index(4), Index(99), false);
    assert_eq!(progress.next(), Index(4));
    progress.rejected(Index(4), Index(0), false);
    assert_eq!(progress.next(), Index(4), "an old refusal says nothing");
    let mut progress = streaming(7);
    progress.sent(Index(9), 10, Index(0), 0);
    progress.rejected(Index(9), Index(0), false);
    assert_eq!(progress.next(), Index(8));
}

#[test]
fn bytes_in_flight_are_bounded() {
    let mut progress = streaming(1);
    let half = u64::try_from(limits::APPEND_IN_FLIGHT_BYTES_MAX / 2).unwrap();
    progress.sent(Index(2), half, Index(0), 0);
    progress.sent(Index(3), half, Index(0), 0);
    assert_eq!(progress.wants(Index(9)), None);
    progress.claims(Index(2), Index(0), 1);
    assert_eq!(progress.wants(Index(9)), Some(Index(3)));
}

#[test]
fn what_brings_no_answer_goes_again_ever_more_slowly() {
    let mut progress = streaming(1);
    progress.sent(Index(4), 10, Index(0), 10);
    progress.maintain(10 + RESEND_TICKS_MIN);
    assert_eq!(progress.wants(Index(4)), None, "a peer that is not heard is not sent to again");
    progress.heard(12);
    progress.maintain(9 + RESEND_TICKS_MIN);
    assert_eq!(progress.wants(Index(4)), None);
    progress.maintain(10 + RESEND_TICKS_MIN);
    assert_eq!(progress.wants(Index(4)), Some(Index(1)));
    progress.sent(Index(4), 10, Index(0), 50);
    progress.heard(60);
    progress.maintain(50 + RESEND_TICKS_MIN);
    assert_eq!(progress.wants(Index(4)), None);
    progress.maintain(50 + 2 * RESEND_TICKS_MIN);
    assert_eq!(progress.wants(Index(4)), Some(Index(1)));
}

#[test]
fn a_peer_on_an_image_streams_once_it_stands_on_it() {
    let mut progress = Progress::new(Index(5), 0);
    progress.fetch(Index(4));
    assert_eq!(progress.wants(Index(9)), None);
    assert!(!progress.end_fetch(Index(3)), "nobody asked for that");
    assert!(progress.end_fetch(Index(4)) && !progress.end_fetch(Index(4)));
    assert_eq!(progress.want_image(), Index(5));
    let position = Position { index: Index(8), ..Position::default() };
    progress.image_sent(position, 0);
    assert_eq!(progress.wants(Index(9)), None);
    progress.claims(Index(8), Index(8), 5);
    assert_eq!(progress.wants(Index(9)), Some(Index(8)));
}

#[test]
fn what_a_peer_has_meanwhile_is_not_sent_to_it_from_the_card() {
    let mut progress = Progress::new(Index(5), 0);
    progress.fetch(Index(4));
    progress.claims(Index(6), Index(0), 1);
    assert_eq!(progress.next(), Index(7), "sending goes on after what is verified");
    assert!(!progress.end_fetch(Index(4)));
    assert_eq!(progress.wants(Index(9)), Some(Index(6)));
}

#[test]
fn a_restarted_peer_keeps_what_its_card_had() {
    let mut progress = streaming(7);
    progress.claims(Index(9), Index(8), 0);
    progress.restarted(Index(20));
    assert_eq!((progress.verified(), progress.wants(Index(20))), (Index(8), Some(Index(8))));
}

#[test]
fn a_peer_that_left_is_told_so_once() {
    let mut progress = streaming(7);
    progress.leave(Index(9), 1_000);
    progress.told(Index(8), 1);
    progress.told(Index(9), 2);
    progress.claims(Index(9), Index(9), 0);
    progress.answered(1);
    assert!(!progress.is_gone(5));
    progress.answered(2);
    assert!(progress.is_gone(5));
}

#[test]
fn probing_what_memory_does_not_hold_goes_back_in_doubling_steps() {
    let mut progress = Progress::new(Index(5_000), 0);
    progress.rejected(Index(4_999), Index(1_000), false);
    let mut next = [0; 4];
    for next in &mut next {
        let previous = Index(progress.next().0 - 1);
        progress.rejected(previous, Index(1_000), true);
        *next = progress.next().0;
    }
    assert_eq!(next, [1_000, 998, 994, 986]);
    progress.rejected(Index(985), Index(3), true);
    progress.rejected(Index(3), Index(3), true);
    assert_eq!(progress.next(), Index(1), "to the beginning, and no further");
}
