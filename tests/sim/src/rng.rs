//! The one source of chance: small, ours, the same on every machine and with every release of any crate.

/// SplitMix64: each draw is a hash of a counter, so a generator is one number and forks are independent.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(mix(seed ^ 0x5157_4f52_4154_4521))
    }

    /// Another generator, whose draws do not depend on how many are drawn here later.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is far below anything a simulation could show.
        self.next() % bound
    }

    /// From `low` up to and with `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Spread over orders of magnitude: as often near `low` as near `high`.
    pub(crate) fn between_log(&mut self, low: u64, high: u64) -> u64 {
        let octaves = u64::from((high / low.max(1)).max(1).ilog2()) + 1;
        let floor = low << self.below(octaves);
        self.between(floor, floor * 2).clamp(low, high)
    }

    pub(crate) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(from.len()).expect("what is in memory can be counted");
        if count == 0 {
            return None;
        }
        from.get(usize::try_from(self.below(count)).expect("below a length"))
    }

    /// A number from the standard normal distribution in thousandths, near enough: a sum of twelve.
    pub(crate) fn normal_milli(&mut self) -> i64 {
        let sum: u64 = (0..12).map(|_| self.below(1_000)).sum();
        i64::try_from(sum).expect("below 12,000") - 5_994
    }

    /// Log-normal around `median` with that sigma in thousandths, by a table of powers: no floating point,
    /// which machines may round differently.
    pub(crate) fn log_normal(&mut self, median: u64, sigma_milli: i64) -> u64 {
        let exponent = self.normal_milli() * sigma_milli / 1_000;
        // e^(x/1000) = 2^(x/693); the fraction of the power in sixteenths.
        let sixteenths = exponent * 16 / 693;
        let (octave, part) = (sixteenths.div_euclid(16), sixteenths.rem_euclid(16));
        let scaled = median * POWERS[usize::try_from(part).expect("below 16")] / 1_000;
        let shift = u32::try_from(octave.unsigned_abs()).unwrap_or(0).min(10);
        if octave >= 0 { scaled << shift } else { scaled >> shift }
    }
}

/// 2^(n/16) in thousandths.
const POWERS: [u64; 16] =
    [1000, 1044, 1091, 1139, 1189, 1242, 1297, 1354, 1414, 1477, 1542, 1611, 1682, 1756, 1834, 1915];

/// Hashes a number.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_bounds_and_use_them() {
        let mut rng = Rng::new(1);
        let drawn: Vec<u64> = (0..2_000).map(|_| rng.between_log(10, 30_000)).collect();
        assert!(drawn.iter().all(|drawn| (10..=30_000).contains(drawn)));
        assert!(drawn.iter().any(|drawn| *drawn < 100) && drawn.iter().any(|drawn| *drawn > 10_000));
        assert_eq!(Rng::new(7).next(), Rng::new(7).next());
        assert_ne!(Rng::new(7).next(), Rng::new(8).next());
    }

    #[test]
    fn the_log_normal_has_its_median_and_its_spread() {
        let mut rng = Rng::new(2);
        let mut drawn: Vec<u64> = (0..10_001).map(|_| rng.log_normal(40_000, 400)).collect();
        drawn.sort_unstable();
        assert!((38_500..41_500).contains(&drawn[5_000]), "median {}", drawn[5_000]);
        // One sigma above the middle: e^0.4 = 1.49.
        assert!((57_000..62_500).contains(&drawn[8_413]), "one sigma {}", drawn[8_413]);
    }
}
