//! How fast images go out and how often strangers may knock. Deterministic: time is handed in.

use std::time::Duration;

/// Spreads work evenly: so much of it per second, and no more saved up than `burst`.
#[derive(Debug)]
pub(crate) struct Pacer {
    per_second: u64,
    burst: Duration,
    /// When what was let through so far is paid for; time counts from any fixed moment.
    paid_until: Duration,
}

impl Pacer {
    pub(crate) const fn new(per_second: u64, burst: Duration) -> Pacer {
        Pacer { per_second, burst, paid_until: Duration::ZERO }
    }

    /// Takes `amount` and tells how long to wait before using it.
    pub(crate) fn take(&mut self, now: Duration, amount: u64) -> Duration {
        let wait = self.wait(now);
        self.pay(now, amount);
        wait
    }

    /// Takes `amount` if it may be used now.
    pub(crate) fn take_now(&mut self, now: Duration, amount: u64) -> bool {
        let is_due = self.wait(now).is_zero();
        if is_due {
            self.pay(now, amount);
        }
        is_due
    }

    fn wait(&self, now: Duration) -> Duration {
        self.paid_until.saturating_sub(now + self.burst)
    }

    fn pay(&mut self, now: Duration, amount: u64) {
        let nanos = amount.saturating_mul(1_000_000_000) / self.per_second;
        self.paid_until = self.paid_until.max(now).saturating_add(Duration::from_nanos(nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_the_rate() {
        let mut pacer = Pacer::new(1_000, Duration::ZERO);
        let mut now = Duration::from_secs(100);
        let begun = now;
        for _ in 0..50 {
            now += pacer.take(now, 100);
        }
        // The first goes at once, so fifty take the time of forty-nine.
        assert_eq!(now - begun, Duration::from_millis(4_900));
    }

    #[test]
    fn idle_time_is_not_saved_beyond_the_burst() {
        let mut pacer = Pacer::new(10, Duration::from_secs(1));
        let now = Duration::from_secs(1_000);
        let taken = (0..100).filter(|_| pacer.take_now(now, 1)).count();
        assert_eq!(taken, 11);
        assert!(!pacer.take_now(now + Duration::from_millis(99), 1));
        assert!(pacer.take_now(now + Duration::from_millis(100), 1));
    }
}
