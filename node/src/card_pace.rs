//! How long what is written takes to become durable, of late: what consensus is told of the own card.
//!
//! Measured where the driver stands, by its clock: from handing an append to the wal thread until its
//! acknowledgement. So it holds what a sync really costs those who wait for it, queueing and all, and it is the
//! same in the simulator.

use core::time::Duration;
use quorate_raft::AppendNumber;
use std::collections::VecDeque;

/// The median of so many appends.
const SAMPLE_COUNT: usize = 32;

/// Of fewer nothing is said.
const SAMPLE_COUNT_MIN: usize = 8;

/// What is older says nothing of the card as it is.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(120);

/// If as many are as young as that, they count alone, and if none is, nothing is said: a burst that the card took its
/// time for, with little or nothing written after it, is no slow card. Half of the time after which consensus calls a
/// card slow for long.
const RECENT_AGE_MAX: Duration = Duration::from_secs(5);
const RECENT_COUNT_MIN: usize = 3;

/// The appends under way, and how long the last ones took.
#[derive(Debug, Default)]
pub(crate) struct CardPace {
    /// Bounded by what consensus hands out at once.
    under_way: VecDeque<(AppendNumber, Duration)>,
    /// When each was done, and how long it took.
    done: VecDeque<(Duration, Duration)>,
}

impl CardPace {
    /// An append goes to the card.
    pub(crate) fn begins(&mut self, number: AppendNumber, now: Duration) {
        self.under_way.push_back((number, now));
    }

    /// It, and all before it, are durable.
    pub(crate) fn ends(&mut self, number: AppendNumber, now: Duration) {
        while let Some((begun, since)) = self.under_way.front().copied()
            && begun <= number
        {
            self.under_way.pop_front();
            // One sync may end several: the one that waited for nothing but it came last.
            if begun == number {
                self.done.truncate(SAMPLE_COUNT - 1);
                self.done.push_front((now, now.saturating_sub(since)));
            }
        }
    }

    /// The median in milliseconds, rounded up; nothing, if too little was written of late.
    pub(crate) fn typical_ms(&self, now: Duration) -> Option<u16> {
        let count_within =
            |age: Duration| self.done.iter().take_while(|(at, _)| now.saturating_sub(*at) <= age).count();
        let (recent, known) = (count_within(RECENT_AGE_MAX), count_within(SAMPLE_AGE_MAX));
        if recent == 0 || known < SAMPLE_COUNT_MIN {
            return None;
        }
        let count = if recent >= RECENT_COUNT_MIN { recent } else { known };
        let mut took: Vec<Duration> = self.done.iter().take(count).map(|(_, took)| *took).collect();
        took.sort_unstable();
        let median = took.get(took.len() / 2)?;
        Some(u16::try_from(median.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::TICK_MS;
    use quorate_raft::timing::SLOW_TICKS;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_median_of_the_last_ones_is_said_and_forgotten() {
        let mut pace = CardPace::default();
        let mut now = Duration::ZERO;
        let mut append = |pace: &mut CardPace, number: u64, took: Duration| {
            pace.begins(AppendNumber(number), now);
            now += took;
            pace.ends(AppendNumber(number), now);
            now
        };
        for number in 1..SAMPLE_COUNT_MIN {
            let now = append(&mut pace, u64::try_from(number).expect("small"), 40 * MS);
            assert_eq!(pace.typical_ms(now), None);
        }
        let now = append(&mut pace, 100, 3_000 * MS);
        assert_eq!(pace.typical_ms(now), Some(40), "one pause says nothing");
        assert_eq!(pace.typical_ms(now + SAMPLE_AGE_MAX), None, "what is old is forgotten");
        let last = (0..40).map(|number| append(&mut pace, 200 + number, 400 * MS)).last();
        assert_eq!(pace.typical_ms(last.expect("forty")), Some(400), "the newest count");
        assert!(pace.under_way.is_empty() && pace.done.len() == SAMPLE_COUNT);
    }

    #[test]
    fn a_slow_burst_is_no_slow_card() {
        const { assert!(2 * RECENT_AGE_MAX.as_secs() * 1_000 <= SLOW_TICKS * TICK_MS) };
        let mut pace = CardPace::default();
        let mut append = |at: Duration, took: Duration| {
            let number = AppendNumber(u64::try_from(at.as_micros()).expect("small"));
            pace.begins(number, at);
            pace.ends(number, at + took);
            pace.typical_ms(at + took)
        };
        let burst = (0..SAMPLE_COUNT)
            .map(|number| append(200 * MS * u32::try_from(number).expect("small"), 200 * MS));
        assert_eq!(burst.last().expect("some"), Some(200));
        // After it a put now and then, on a card that is quick: four in five seconds, then one in three.
        let rare: Vec<_> = (0..4).map(|number| append(8_000 * MS + 1_200 * MS * number, 40 * MS)).collect();
        assert_eq!(rare.last(), Some(&Some(40)), "{rare:?}");
        assert_eq!(pace.typical_ms(17_000 * MS), None, "nothing is written, so nothing is slow");
        // So slow that there are not even three in five seconds: what is known counts.
        let mut slow = CardPace::default();
        for number in 0..10 {
            slow.begins(AppendNumber(number), 2_900 * MS * u32::try_from(number).expect("small"));
            slow.ends(AppendNumber(number), 2_900 * MS * u32::try_from(number + 1).expect("small"));
        }
        assert_eq!(slow.typical_ms(29_000 * MS), Some(2_900));
    }

    #[test]
    fn of_several_that_one_sync_ends_the_last_counts() {
        let mut pace = CardPace::default();
        for round in 0..10 {
            let at = round * 100 * MS;
            pace.begins(AppendNumber(u64::from(round) * 2 + 1), at);
            pace.begins(AppendNumber(u64::from(round) * 2 + 2), at + 50 * MS);
            pace.ends(AppendNumber(u64::from(round) * 2 + 2), at + 60 * MS);
        }
        assert_eq!(pace.typical_ms(1_000 * MS), Some(10));
    }
}
