//! When what sweeps freed is given back to the system.

use core::time::Duration;

/// Bytes freed that are worth a walk over the heap at once, when the sweep is through.
const AT_ONCE_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// Bytes freed by small sweeps that are worth it a while later.
const LATER_BYTES_MIN: u64 = 1024 * 1024;

/// How long after the last slice of a sweep. Until then answers, deliveries and the log's tail that held
/// memory at the sweep's end have gone too, so one walk follows every walk done at once.
const LATER_AFTER: Duration = Duration::from_secs(10);

/// What was freed and not given back.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    /// Logical bytes freed since the last walk.
    bytes: u64,
    /// When a slice last freed some.
    freed_at: Duration,
    /// The last walk was done at once: another follows.
    is_to_follow: bool,
}

impl GiveBack {
    /// A slice of a sweep freed that much; whether the sweep is through, and the walk is worth it at once.
    pub(super) fn freed(&mut self, bytes: u64, is_through: bool, now: Duration) -> bool {
        if bytes > 0 {
            self.bytes += bytes;
            self.freed_at = now;
        }
        let is_due = is_through && self.bytes >= AT_ONCE_BYTES_MIN;
        if is_due {
            *self = GiveBack { bytes: 0, is_to_follow: true, ..*self };
        }
        is_due
    }

    /// Now and then: whether it is time for what was not worth it at once, or came free only afterwards.
    pub(super) fn is_due_later(&mut self, now: Duration) -> bool {
        let is_worth = self.is_to_follow || self.bytes >= LATER_BYTES_MIN;
        let is_due = is_worth && now >= self.freed_at + LATER_AFTER;
        if is_due {
            *self = GiveBack::default();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_large_sweep_is_given_back_at_its_end_and_once_more() {
        let mut give_back = GiveBack::default();
        assert!(!give_back.freed(20 * MIB, false, at(1)), "the sweep is not through");
        assert!(!give_back.is_due_later(at(10)));
        assert!(give_back.freed(0, true, at(2)));
        assert!(!give_back.freed(0, true, at(3)), "once");
        assert!(!give_back.is_due_later(at(10)));
        assert!(give_back.is_due_later(at(11)));
        assert!(!give_back.is_due_later(at(60)), "once");
    }

    #[test]
    fn a_trickle_is_given_back_when_it_has_ended_or_became_much() {
        let mut give_back = GiveBack::default();
        assert!(!give_back.freed(MIB - 1, true, at(1)));
        assert!(!give_back.is_due_later(at(100)), "too little");
        assert!(!give_back.freed(1, true, at(200)));
        assert!(!give_back.is_due_later(at(209)));
        assert!(give_back.is_due_later(at(210)));
        for second in 300..307 {
            assert!(!give_back.freed(MIB, true, at(second)) && !give_back.is_due_later(at(second)));
        }
        assert!(give_back.freed(MIB, true, at(307)), "they add up");
    }
}
