//! How long a card takes: the models of slow-cards.md section 4, in microseconds.

use crate::queue::{MS, Nanos, US};
use crate::rng::Rng;

/// One kind of card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    flush_median_us: u64,
    sigma_milli: i64,
    /// Zero: no time at all.
    bytes_per_ms: u64,
    seek_us: u64,
    pause_ms: u64,
    pause_after_bytes: u64,
}

pub(crate) const FREE: Model = Model {
    name: "free",
    flush_median_us: 50,
    sigma_milli: 100,
    bytes_per_ms: 0,
    seek_us: 0,
    pause_ms: 0,
    pause_after_bytes: u64::MAX,
};

pub(crate) const QUICK: Model = Model {
    name: "quick",
    flush_median_us: 5_000,
    sigma_milli: 300,
    bytes_per_ms: 40_000,
    seek_us: 100,
    pause_ms: 0,
    pause_after_bytes: u64::MAX,
};

pub(crate) const ORDINARY: Model = Model {
    name: "ordinary",
    flush_median_us: 40_000,
    sigma_milli: 400,
    bytes_per_ms: 10_000,
    seek_us: 1_000,
    pause_ms: 500,
    pause_after_bytes: 8 << 20,
};

pub(crate) const BAD: Model = Model {
    name: "bad",
    flush_median_us: 120_000,
    sigma_milli: 600,
    bytes_per_ms: 4_000,
    seek_us: 3_000,
    pause_ms: 1_500,
    pause_after_bytes: 4 << 20,
};

/// A card's work since it was last asked how long that took.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) model: Model,
    rng: Rng,
    demand: Nanos,
    since_pause_bytes: u64,
    last_end: (usize, u64),
}

impl Meter {
    pub(crate) fn new(model: Model, rng: Rng) -> Meter {
        Meter { model, rng, demand: 0, since_pause_bytes: 0, last_end: (usize::MAX, 0) }
    }

    pub(crate) fn wrote(&mut self, inode: usize, offset: u64, bytes: u64) {
        if let Some(milli) = (bytes * 1_000).checked_div(self.model.bytes_per_ms) {
            self.demand += milli * US;
        }
        if self.last_end != (inode, offset) {
            self.demand += self.model.seek_us * US;
        }
        self.last_end = (inode, offset + bytes);
        self.since_pause_bytes += bytes;
        if self.since_pause_bytes >= self.model.pause_after_bytes {
            self.since_pause_bytes = 0;
            self.demand += self.model.pause_ms * MS;
        }
    }

    pub(crate) fn flushed(&mut self) {
        self.demand += self.flush();
    }

    /// How long one flush takes.
    pub(crate) fn flush(&mut self) -> Nanos {
        self.rng.log_normal(self.model.flush_median_us, self.model.sigma_milli) * US
    }

    /// What was asked of the card since the last call takes so long.
    pub(crate) fn take_demand(&mut self) -> Nanos {
        core::mem::take(&mut self.demand)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.rng.coin()
    }
}
