//! Numbers from a seed: splitmix64, enough to keep timeouts apart.

/// A stream of numbers fixed by its seed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range has a beginning and an end");
        low + self.next() % (high - low + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_differ() {
        let mut random = Random::new(7);
        let numbers: [u64; 64] = core::array::from_fn(|_| random.between(60, 85));
        assert!(numbers.iter().all(|number| (60..=85).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
