//! When each request of an open loop is meant to start.

use crate::random::Random;
use std::time::Duration;

/// How the starts of an open loop are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Arrival {
    /// One every 1/rate seconds.
    #[default]
    Uniform,
    /// Independent of each other, as many unconnected users are: gaps are exponential.
    Poisson,
}

/// Offsets from the start of a run, rising, without end. The same seed gives the same schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    rate: f64,
    arrival: Arrival,
    random: Random,
    number: u64,
    elapsed_seconds: f64,
}

impl Schedule {
    /// `rate` in starts per second; must be positive and finite, which the command line checks.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn new(rate: f64, arrival: Arrival, seed: u64) -> Schedule {
        assert!(rate.is_finite() && rate > 0.0, "a rate is positive: {rate}");
        Schedule { rate, arrival, random: Random::new(seed), number: 0, elapsed_seconds: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let seconds = match self.arrival {
            // From the number, not by adding: a million gaps must not add up a million roundings.
            Arrival::Uniform => self.number as f64 / self.rate,
            Arrival::Poisson => {
                self.elapsed_seconds -= self.random.next_unit().ln() / self.rate;
                self.elapsed_seconds
            }
        };
        self.number += 1;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_starts_are_evenly_spaced_and_do_not_drift() {
        let mut schedule = Schedule::new(7.0, Arrival::Uniform, 0);
        assert_eq!(schedule.next(), Some(Duration::ZERO));
        let last = schedule.nth(7_000_000 - 1).unwrap();
        assert!(last.abs_diff(Duration::from_secs(1_000_000)) < Duration::from_micros(1), "{last:?}");
    }

    #[test]
    fn poisson_starts_have_the_rate_and_the_spread_of_their_kind() {
        let starts: Vec<f64> =
            Schedule::new(100.0, Arrival::Poisson, 42).take(50_000).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential: the standard deviation equals the mean.
        assert!((mean * 100.0 - 1.0).abs() < 0.03, "mean gap {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "deviation {}", variance.sqrt());
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let of = |seed| Schedule::new(10.0, Arrival::Poisson, seed).take(100).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
