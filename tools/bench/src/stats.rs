//! Latencies: quantiles without keeping every sample, and a histogram to look at.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Longest latency told apart; longer ones count as this. One hour, in microseconds.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

/// Latencies in microseconds, to three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// The quantiles everybody asks for, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many samples.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Shortest.
    pub min_ms: f64,
    /// Half of the samples are not longer.
    pub p50_ms: f64,
    /// 90 % are not longer.
    pub p90_ms: f64,
    /// 99 % are not longer.
    pub p99_ms: f64,
    /// 99.9 % are not longer.
    pub p999_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

/// One line of the text histogram: samples from `from_us` up to, not including, `to_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Lower bound in microseconds, included.
    pub from_us: u64,
    /// Upper bound in microseconds, excluded.
    pub to_us: u64,
    /// Samples between.
    pub count: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram =
            Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3).expect("the bounds are constants and valid");
        Latencies { histogram }
    }
}

impl Latencies {
    /// One more sample.
    pub fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(microseconds.max(1));
    }

    /// All samples of another.
    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// How many samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The usual quantiles; nothing if there is no sample.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        if self.histogram.is_empty() {
            return None;
        }
        let at = |quantile| to_ms(self.histogram.value_at_quantile(quantile));
        Some(Quantiles {
            count: self.histogram.len(),
            mean_ms: self.histogram.mean() / 1_000.0,
            min_ms: to_ms(self.histogram.min()),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: to_ms(self.histogram.max()),
        })
    }

    /// Samples by steps of 1, 2, 5, 10, …, from the first step that holds one to the last.
    #[must_use]
    pub fn bars(&self) -> Vec<Bar> {
        let mut bars: Vec<Bar> = Vec::new();
        let mut samples = self.histogram.iter_recorded().peekable();
        let mut bounds = bounds().peekable();
        while let (Some(from_us), Some(to_us)) = (bounds.next(), bounds.peek().copied()) {
            let mut count = 0;
            while let Some(sample) = samples.next_if(|sample| sample.value_iterated_to() < to_us) {
                count += sample.count_since_last_iteration();
            }
            if count > 0 || !bars.is_empty() {
                bars.push(Bar { from_us, to_us, count });
            }
            if samples.peek().is_none() {
                break;
            }
        }
        bars
    }
}

/// 1, 2, 5, 10, 20, 50, … microseconds, past the longest latency.
fn bounds() -> impl Iterator<Item = u64> {
    (0..11).flat_map(|power| [1, 2, 5].map(|step| step * 10u64.pow(power)))
}

fn to_ms(microseconds: u64) -> f64 {
    microseconds as f64 / 1_000.0
}

/// A duration for people: three digits and the unit that fits.
#[must_use]
pub fn print_ms(milliseconds: f64) -> String {
    if milliseconds >= 10_000.0 {
        format!("{:.1} s", milliseconds / 1_000.0)
    } else if milliseconds >= 100.0 {
        format!("{milliseconds:.0} ms")
    } else if milliseconds >= 1.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{:.0} µs", milliseconds * 1_000.0)
    }
}

/// The bars as text, the longest 40 wide, each with its share of all.
#[must_use]
pub fn print_bars(bars: &[Bar]) -> String {
    const WIDTH: u64 = 40;
    let longest = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let total = bars.iter().map(|bar| bar.count).sum::<u64>().max(1);
    let mut text = String::new();
    for bar in bars {
        let length = usize::try_from((bar.count * WIDTH).div_ceil(longest)).unwrap_or(0);
        let line = format!(
            "{:>8} – {:<8} {:>9} {:>5.1} %  {}",
            print_ms(to_ms(bar.from_us)),
            print_ms(to_ms(bar.to_us)),
            bar.count,
            bar.count as f64 * 100.0 / total as f64,
            "█".repeat(length)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(milliseconds: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        for ms in milliseconds {
            latencies.record(Duration::from_millis(ms));
        }
        latencies
    }

    #[test]
    fn quantiles_of_a_known_row() {
        let quantiles = of(1..=1_000).quantiles().unwrap();
        assert_eq!(quantiles.count, 1_000);
        for (seen, wanted) in [
            (quantiles.min_ms, 1.0),
            (quantiles.p50_ms, 500.0),
            (quantiles.p90_ms, 900.0),
            (quantiles.p99_ms, 990.0),
            (quantiles.p999_ms, 999.0),
            (quantiles.max_ms, 1_000.0),
            (quantiles.mean_ms, 500.5),
        ] {
            assert!((seen / wanted - 1.0).abs() < 0.002, "{seen} for {wanted}");
        }
        assert_eq!(Latencies::default().quantiles(), None);
    }

    #[test]
    fn bars_hold_every_sample_once() {
        let bars = of(1..=1_000).bars();
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 1_000);
        // hdrhistogram keeps three digits: a sample on a bound may stand one step up, never two.
        assert!(bars.windows(2).all(|pair| pair[0].to_us == pair[1].from_us));
        assert_eq!(bars.first().unwrap().from_us, 1_000);
        assert!(Latencies::default().bars().is_empty());
    }

    #[test]
    fn gaps_between_bars_show_as_empty_lines() {
        let bars = of([1, 1, 1, 30]).bars();
        let counts: Vec<u64> = bars.iter().map(|bar| bar.count).collect();
        assert_eq!(counts, [3, 0, 0, 0, 1]);
        let text = print_bars(&bars);
        assert_eq!(text.lines().count(), 5);
        assert!(text.lines().next().unwrap().ends_with(&"█".repeat(40)), "{text}");
    }

    #[test]
    fn what_lasts_longer_than_an_hour_counts_as_one() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        let longest = latencies.quantiles().unwrap().max_ms;
        assert!((longest / 3_600_000.0 - 1.0).abs() < 0.002, "{longest}");
    }

    #[test]
    fn merging_adds_up() {
        let mut one = of([1, 2]);
        one.add(&of([3]));
        assert_eq!(one.count(), 3);
    }
}
