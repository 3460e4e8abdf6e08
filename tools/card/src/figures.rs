//! What a card costs: the figures of a model, by name and one by one.
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bytes::{format_bytes, parse_bytes};

/// Above this a log-normal flush has no useful mean any more (σ 3: one in a hundred takes 1,000 × the median).
const FLUSH_SIGMA_MAX: f64 = 3.0;

/// What each kind of work costs on a card. All of it may be changed while the card runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Median of the log-normal time of a flush; zero: flushes cost nothing.
    pub flush_median: Duration,
    /// σ of the flush time's logarithm, 0 to 3.
    pub flush_sigma: f64,
    /// Bytes a second, for writes and reads alike; zero: no limit.
    pub bandwidth: u64,
    /// Extra time of a write that does not continue the last one.
    pub seek: Duration,
    /// How long the card collects garbage …
    pub pause: Duration,
    /// … after this many bytes written; zero: never.
    pub pause_every: u64,
}

/// The card models by name (shared figures of all measurements).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Model {
    /// A decent card: 40 ms flushes, 10 MB/s, half a second of pause every 8 MiB.
    Ordinary,
    /// A bad card: 120 ms flushes, 4 MB/s, 1.5 s of pause every 4 MiB.
    Bad,
    /// No cost at all: only counting and power cuts.
    Free,
}

impl Model {
    /// Every model, in the order of the documentation.
    pub const ALL: [Model; 3] = [Model::Ordinary, Model::Bad, Model::Free];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Model::Ordinary => "ordinary",
            Model::Bad => "bad",
            Model::Free => "free",
        }
    }

    /// What it costs.
    #[must_use]
    pub const fn figures(self) -> Figures {
        match self {
            Model::Ordinary => Figures {
                flush_median: Duration::from_millis(40),
                flush_sigma: 0.4,
                bandwidth: 10_000_000,
                seek: Duration::from_millis(1),
                pause: Duration::from_millis(500),
                pause_every: 8 << 20,
            },
            Model::Bad => Figures {
                flush_median: Duration::from_millis(120),
                flush_sigma: 0.6,
                bandwidth: 4_000_000,
                seek: Duration::from_millis(3),
                pause: Duration::from_millis(1500),
                pause_every: 4 << 20,
            },
            Model::Free => Figures {
                flush_median: Duration::ZERO,
                flush_sigma: 0.0,
                bandwidth: 0,
                seek: Duration::ZERO,
                pause: Duration::ZERO,
                pause_every: 0,
            },
        }
    }
}

impl std::str::FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Model, String> {
        Model::ALL
            .into_iter()
            .find(|model| model.name() == text)
            .ok_or_else(|| format!("no model `{text}`; there are ordinary, bad and free"))
    }
}

impl Figures {
    /// Changes one figure by its name on the command line (`flush-median`, `flush-sigma`, `bandwidth`, `seek`,
    /// `pause`, `pause-every`), or all of them by `model`.
    ///
    /// # Errors
    /// A sentence for a person when the name or the value is not understood; nothing is changed then.
    pub fn change(&mut self, name: &str, value: &str) -> Result<(), String> {
        let duration = || humantime::parse_duration(value).map_err(|error| format!("{name}: {error}"));
        match name {
            "model" => *self = value.parse::<Model>()?.figures(),
            "flush-median" => self.flush_median = duration()?,
            "flush-sigma" => self.flush_sigma = parse_sigma(value)?,
            "bandwidth" => self.bandwidth = parse_bytes(value)?,
            "seek" => self.seek = duration()?,
            "pause" => self.pause = duration()?,
            "pause-every" => self.pause_every = parse_bytes(value)?,
            _ => {
                return Err(format!(
                    "no figure `{name}`; there are model, flush-median, flush-sigma, bandwidth, seek, pause \
                     and pause-every"
                ));
            }
        }
        Ok(())
    }
}

fn parse_sigma(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(sigma) if (0.0..=FLUSH_SIGMA_MAX).contains(&sigma) => Ok(sigma),
        Ok(_) | Err(_) => Err(format!("flush-sigma: `{value}` is not a number from 0 to {FLUSH_SIGMA_MAX}")),
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "flush {} σ {}, {}/s, seek {}, pause {} every {}",
            humantime::format_duration(self.flush_median),
            self.flush_sigma,
            format_bytes(self.bandwidth),
            humantime::format_duration(self.seek),
            humantime::format_duration(self.pause),
            format_bytes(self.pause_every),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_change_one_by_one_and_by_model() {
        let mut figures = Model::Free.figures();
        figures.change("flush-median", "80ms").unwrap();
        figures.change("bandwidth", "10MB/s").unwrap();
        figures.change("pause-every", "8MiB").unwrap();
        figures.change("flush-sigma", "0.4").unwrap();
        assert_eq!(figures.flush_median, Duration::from_millis(80));
        assert_eq!((figures.bandwidth, figures.pause_every), (10_000_000, 8 << 20));
        figures.change("model", "bad").unwrap();
        assert_eq!(figures, Model::Bad.figures());
    }

    #[test]
    fn a_wrong_figure_changes_nothing() {
        let mut figures = Model::Ordinary.figures();
        for (name, value) in
            [("speed", "1"), ("flush-sigma", "NaN"), ("flush-sigma", "9"), ("seek", "soon"), ("model", "x")]
        {
            assert!(figures.change(name, value).is_err(), "{name}={value}");
        }
        assert_eq!(figures, Model::Ordinary.figures());
    }
}
