//! The card's one queue: when the work that arrives now will be done. No clock of its own: times are given, as
//! durations since the card was started.
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::figures::Figures;

/// The kernel sends the next request a little after the last one's answer, although it had been waiting. Work that
/// arrives this soon after the card became free counts as having waited, so that sleeping a bit too long in each of
/// a thousand requests does not add up.
const HANDOVER: Duration = Duration::from_micros(250);

/// No single flush is longer, whatever the random source says.
const FLUSH_LONGEST: Duration = Duration::from_secs(600);

/// One piece of work, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read this many bytes.
    Read(u64),
    /// Write `length` bytes at `offset`.
    Write {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Make everything written durable.
    Flush,
}

/// Where the time of accepted work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// When it is done, if no stall comes in between.
    pub(crate) done_at: Duration,
    /// Garbage-collection pauses it set off; they delay what comes after it.
    pub(crate) pauses: u64,
    /// The work alone, without waiting.
    pub(crate) cost: Duration,
}

/// When the card is busy, and until when.
pub(crate) struct Queue {
    figures: Figures,
    random: StdRng,
    /// The card is busy until here.
    free_at: Duration,
    /// Nothing moves before.
    stalled_until: Duration,
    /// Where a write that costs no seek would start.
    next_offset: Option<u64>,
    /// Bytes still to be written until the next pause.
    until_pause: u64,
}

impl Queue {
    pub(crate) fn new(figures: Figures, seed: u64) -> Queue {
        let mut queue = Queue {
            figures,
            random: StdRng::seed_from_u64(seed),
            free_at: Duration::ZERO,
            stalled_until: Duration::ZERO,
            next_offset: None,
            until_pause: 0,
        };
        queue.draw_pause();
        queue
    }

    /// Each card stands at a place of its own between two pauses: three cards of a cluster do not pause together.
    fn draw_pause(&mut self) {
        self.until_pause = match self.figures.pause_every {
            0 => 0,
            every => self.random.random_range(1..=every),
        };
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures
    }

    /// New figures for the work that arrives from now on.
    pub(crate) fn set_figures(&mut self, figures: Figures) {
        let moved = figures.pause_every != self.figures.pause_every;
        self.figures = figures;
        if moved {
            self.draw_pause();
        }
    }

    /// Takes work that arrived at `arrived`, behind everything taken before.
    pub(crate) fn accept(&mut self, arrived: Duration, work: Work) -> Accepted {
        let waited = arrived <= self.free_at.saturating_add(HANDOVER);
        let start = if waited { self.free_at } else { arrived }.max(self.stalled_until);
        let (cost, pauses) = match work {
            Work::Read(length) => (self.transfer(length), 0),
            Work::Write { offset, length } => {
                let seek = if self.next_offset == Some(offset) { Duration::ZERO } else { self.figures.seek };
                self.next_offset = offset.checked_add(length);
                (seek + self.transfer(length), self.count_pauses(length))
            }
            Work::Flush => (self.flush_time(), 0),
        };
        let done_at = start.saturating_add(cost);
        let paused = self.figures.pause.saturating_mul(u32::try_from(pauses).unwrap_or(u32::MAX));
        self.free_at = done_at.saturating_add(paused);
        Accepted { done_at, pauses, cost }
    }

    /// Stops the card for `length` from `now`. What is in progress is done later by the time answered here; a stall
    /// within a stall lengthens it only by what lies beyond.
    pub(crate) fn stall(&mut self, now: Duration, length: Duration) -> Duration {
        let from = self.stalled_until.max(now);
        let until = self.stalled_until.max(now.saturating_add(length));
        let later = until.saturating_sub(from);
        self.stalled_until = until;
        if self.free_at > now {
            self.free_at = self.free_at.saturating_add(later);
        }
        later
    }

    /// Forgets stalls and work in progress: the card is idle from `now`.
    pub(crate) fn restart(&mut self, now: Duration) {
        self.free_at = now;
        self.stalled_until = now;
        self.next_offset = None;
    }

    fn transfer(&self, length: u64) -> Duration {
        match u128::from(self.figures.bandwidth) {
            0 => Duration::ZERO,
            rate => {
                let nanos = u128::from(length) * 1_000_000_000 / rate;
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }

    fn count_pauses(&mut self, length: u64) -> u64 {
        let every = self.figures.pause_every;
        if every == 0 || length < self.until_pause {
            self.until_pause = self.until_pause.saturating_sub(length);
            return 0;
        }
        let beyond = length - self.until_pause;
        self.until_pause = every - beyond % every;
        1 + beyond / every
    }

    fn flush_time(&mut self) -> Duration {
        let median = self.figures.flush_median.as_secs_f64();
        if median == 0.0 {
            return Duration::ZERO;
        }
        let law = LogNormal::new(median.ln(), self.figures.flush_sigma)
            .expect("sigma is finite: it is checked where figures come in");
        let seconds = law.sample(&mut self.random);
        Duration::try_from_secs_f64(seconds).unwrap_or(FLUSH_LONGEST).min(FLUSH_LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Model;

    const MS: Duration = Duration::from_millis(1);

    fn flat() -> Figures {
        Figures {
            flush_median: 40 * MS,
            flush_sigma: 0.0,
            bandwidth: 1_000_000,
            seek: 3 * MS,
            ..Model::Free.figures()
        }
    }

    fn near(one: Duration, other: Duration) -> bool {
        one.abs_diff(other) < Duration::from_micros(1)
    }

    #[test]
    fn everything_waits_in_one_queue() {
        let mut queue = Queue::new(flat(), 1);
        let first = queue.accept(10 * MS, Work::Write { offset: 0, length: 2000 });
        assert_eq!(first.done_at, 15 * MS, "seek 3 ms, 2 ms for 2,000 bytes");
        let next = queue.accept(10 * MS, Work::Write { offset: 2000, length: 1000 });
        assert_eq!(next.done_at, 16 * MS, "continues the last one: no seek");
        let flush = queue.accept(11 * MS, Work::Flush);
        assert!(near(flush.done_at, 56 * MS), "{flush:?}");
        assert!(near(queue.accept(12 * MS, Work::Read(1000)).done_at, 57 * MS));
        assert_eq!(
            queue.accept(100 * MS, Work::Write { offset: 2000, length: 1000 }).done_at,
            104 * MS,
            "idle in between, and a seek back"
        );
    }

    #[test]
    fn a_pause_follows_every_so_many_bytes_and_delays_what_comes_after() {
        let figures = Figures { pause: 500 * MS, pause_every: 10_000, ..Model::Free.figures() };
        let mut queue = Queue::new(figures, 7);
        let mut pauses = 0;
        let mut now = Duration::ZERO;
        for block in 0..100u64 {
            let write = queue.accept(now, Work::Write { offset: block * 1000, length: 1000 });
            assert_eq!(write.done_at, now, "a free write is done at once; the pause is for the next");
            pauses += write.pauses;
            now += 500 * MS * u32::try_from(write.pauses).unwrap();
        }
        assert_eq!(pauses, 10);
        assert_eq!(
            queue.accept(now, Work::Write { offset: 0, length: 45_000 }).pauses,
            4 + u64::from(queue.until_pause > 5_000)
        );
    }

    #[test]
    fn cards_pause_at_places_of_their_own() {
        let places: std::collections::BTreeSet<u64> =
            (0..5).map(|seed| Queue::new(Model::Ordinary.figures(), seed).until_pause).collect();
        assert_eq!(places.len(), 5);
        assert!(places.iter().all(|place| (1..=8 << 20).contains(place)));
    }

    #[test]
    fn a_stall_delays_what_is_in_progress_and_what_comes() {
        let mut queue = Queue::new(flat(), 1);
        assert!(near(queue.accept(Duration::ZERO, Work::Flush).done_at, 40 * MS));
        assert_eq!(queue.stall(10 * MS, 100 * MS), 100 * MS);
        assert_eq!(queue.stall(60 * MS, 20 * MS), Duration::ZERO, "inside the first");
        assert_eq!(queue.stall(60 * MS, 100 * MS), 50 * MS, "only what lies beyond it");
        assert!(near(queue.accept(61 * MS, Work::Flush).done_at, 230 * MS));
    }

    #[test]
    fn an_idle_card_that_is_stalled_starts_nothing() {
        let mut queue = Queue::new(flat(), 1);
        queue.stall(10 * MS, 100 * MS);
        assert!(near(queue.accept(20 * MS, Work::Flush).done_at, 150 * MS));
    }

    #[test]
    fn flushes_are_log_normal() {
        let mut queue = Queue::new(Model::Ordinary.figures(), 3);
        let mut times: Vec<Duration> = (0..20_001).map(|_| queue.flush_time()).collect();
        times.sort();
        let close = |index: usize, wanted: f64| (times[index].as_secs_f64() / wanted - 1.0).abs() < 0.05;
        assert!(close(10_000, 0.040), "median {:?}", times[10_000]);
        assert!(close(19_801, 0.040 * (0.4 * 2.326f64).exp()), "p99 {:?}", times[19_801]);
        assert!(close(200, 0.040 * (-0.4 * 2.326f64).exp()), "p1 {:?}", times[200]);
    }

    #[test]
    fn the_same_seed_is_the_same_card() {
        let run = |seed| {
            let mut queue = Queue::new(Model::Bad.figures(), seed);
            (0..50u64)
                .map(|n| {
                    queue.accept(
                        Duration::ZERO,
                        if n % 2 == 0 {
                            Work::Flush
                        } else {
                            Work::Write { offset: n << 20, length: 1 << 20 }
                        },
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
