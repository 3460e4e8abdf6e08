//! How fast waiting proposals are answered, and so how long one more would wait.
//!
//! A bound in bytes is no bound in time: 32 MiB are two seconds of one card and a minute of another. What would wait
//! too long is refused at once ("too many requests"), while whoever asked can still do something about it, and
//! what was accepted is answered in time.
//!
//! The rate is that of the time in which something moved: a pause of all cards, or a change of leaders, is no reason
//! to refuse what will go through when it is over. A short queue is never too long, whatever the rate: at rest the rate is
//! that of the clients, and says nothing of what the cluster could do.

use core::time::Duration;
use std::collections::VecDeque;

/// Longest wait that is promised, as far as can be told.
const WAIT_MAX: Duration = Duration::from_millis(2_500);

/// The rate is that of so long.
const WINDOW: Duration = Duration::from_secs(3);

/// Of less nothing is told.
const WINDOW_MIN: Duration = Duration::from_millis(300);

/// So much may always wait: a second of the slowest card, or thousands of small puts.
const ALWAYS_BYTES: u64 = 1024 * 1024;

/// What a proposal costs beside its payload, on its way and on the card.
const PROPOSAL_BYTES: u64 = 128;

/// What waits, and what was answered since the queue ran dry last.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    waiting: u64,
    answered: u64,
    answered_at: Duration,
    /// When, and what was answered until then; the oldest stands first. Empty while nothing waits.
    samples: VecDeque<(Duration, u64)>,
}

fn weight(payload_bytes: usize) -> u64 {
    u64::try_from(payload_bytes).unwrap_or(u64::MAX).saturating_add(PROPOSAL_BYTES)
}

impl Drain {
    /// One more waits.
    pub(crate) fn entered(&mut self, payload_bytes: usize) {
        self.waiting += weight(payload_bytes);
    }

    /// One waits no more, whatever became of it.
    pub(crate) fn left(&mut self, payload_bytes: usize) {
        self.waiting -= weight(payload_bytes);
    }

    /// One that waits was applied.
    pub(crate) fn applied(&mut self, payload_bytes: usize, now: Duration) {
        self.answered += weight(payload_bytes);
        self.answered_at = now;
    }

    /// To be called several times a second.
    pub(crate) fn sample(&mut self, now: Duration) {
        if self.waiting == 0 {
            self.samples.clear();
            return;
        }
        self.samples.push_back((now, self.answered));
        // One of before the window stays, so that a long standstill does not take all that is known.
        while self.samples.get(1).is_some_and(|(at, _)| self.answered_at.saturating_sub(*at) > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Whether one more would wait too long.
    pub(crate) fn is_too_slow(&self) -> bool {
        let Some((since, answered)) = self.samples.front().copied() else { return false };
        let moved = self.answered_at.saturating_sub(since);
        if self.waiting <= ALWAYS_BYTES || moved < WINDOW_MIN {
            return false;
        }
        // waiting / (answered / moved) > WAIT_MAX
        let waiting = u128::from(self.waiting) * moved.as_millis();
        waiting > u128::from(self.answered - answered) * WAIT_MAX.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const KIB_64: usize = 64 * 1024;

    /// Sixteen of 64 KiB a second are answered, and the queue never runs dry, for so many seconds.
    fn busy(seconds: u64, waiting: usize) -> (Drain, Duration) {
        let mut drain = Drain::default();
        (0..waiting).for_each(|_| drain.entered(KIB_64));
        let mut now = Duration::ZERO;
        for _ in 0..seconds * 16 {
            drain.sample(now);
            now += 62 * MS;
            drain.entered(KIB_64);
            drain.applied(KIB_64, now);
            drain.left(KIB_64);
        }
        (drain, now)
    }

    #[test]
    fn what_would_wait_too_long_is_told() {
        assert!(!busy(5, 38).0.is_too_slow(), "2.4 s");
        assert!(busy(5, 43).0.is_too_slow(), "2.7 s");
        assert!(!busy(0, 500).0.is_too_slow(), "nothing is known");
    }

    #[test]
    fn a_queue_that_ran_dry_tells_nothing() {
        let (mut drain, now) = busy(5, 43);
        (0..43).for_each(|_| drain.left(KIB_64));
        drain.sample(now);
        (0..500).for_each(|_| drain.entered(KIB_64));
        assert!(!drain.is_too_slow());
    }

    #[test]
    fn a_pause_does_not_lower_the_rate() {
        let (mut drain, now) = busy(5, 30);
        for step in 0..100 {
            drain.sample(now + step * 100 * MS);
        }
        assert!(!drain.is_too_slow());
        (0..13).for_each(|_| drain.entered(KIB_64));
        assert!(drain.is_too_slow(), "what waits shall still be answered in time when it is over");
    }

    #[test]
    fn small_ones_that_come_slowly_are_never_too_many() {
        let mut drain = Drain::default();
        let mut now = Duration::ZERO;
        for _ in 0..500 {
            drain.sample(now);
            drain.entered(256);
            drain.entered(256);
            now += 20 * MS;
            drain.applied(256, now);
            drain.left(256);
        }
        assert!(!drain.is_too_slow());
    }
}
