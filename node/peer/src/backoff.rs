//! How long to wait before the next dial. Deterministic: a seed is given.

use std::time::Duration;

/// Doubles from 50 ms to 1 s, each a quarter more or less, so that nodes that lost each other at once do not
/// dial in step for ever.
#[derive(Debug)]
pub(crate) struct Backoff {
    step: Duration,
    state: u64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Backoff {
        Backoff { step: STEP_MIN, state: seed }
    }

    /// The wait before the next dial.
    pub(crate) fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(STEP_MAX);
        let quarters = u32::try_from(self.random() % 512).expect("below 512");
        step * 3 / 4 + step / 2 * quarters / 512
    }

    /// A dial led to a link that held: begin anew.
    pub(crate) const fn reset(&mut self) {
        self.step = STEP_MIN;
    }

    /// SplitMix64: enough to part nodes, and the same for the same seed.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

const STEP_MIN: Duration = Duration::from_millis(50);
const STEP_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_second_within_a_quarter() {
        let mut backoff = Backoff::new(7);
        for step in [50, 100, 200, 400, 800, 1_000, 1_000, 1_000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(wait >= step * 3 / 4 && wait <= step * 5 / 4, "{wait:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(63));
    }

    #[test]
    fn two_seeds_part() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
