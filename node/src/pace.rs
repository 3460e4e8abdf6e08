//! How what is written in the background leaves the card to the log: in pieces, each synced, each followed by a
//! rest. Whoever waits for the log's sync waits for one piece at most.
//!
//! A piece is as large as the log's own syncs allow: it shall not take more than a few of the quickest of late.
//! The quickest, not the usual ones: those already hold what pieces cost, and would let the next be larger.

use crate::disk_health::DiskHealth;
use core::time::Duration;
use std::time::Instant;

/// What the pieces are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// An image, or zeros: nobody waits for it. A fifth of the time while the log is written.
    Own,
    /// An image that comes from a peer: this node's state. Half of the time while the log is written, all of it else.
    Received,
}

/// No put for this long is "nobody puts".
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Smallest piece: below, its flush costs more than its bytes on any card.
const PIECE_BYTES_MIN: u64 = 128 * 1024;

/// Largest piece while the log is written: 50 ms on a card of 10 MB/s.
const PIECE_BYTES_MAX: u64 = 512 * 1024;

/// A piece of a received image while nobody writes the log: flushes are then all it saves.
const PIECE_BYTES_ALONE: u64 = 2 * 1024 * 1024;

/// A piece shall not take longer than so many of the log's quickest syncs.
const PIECE_SYNCS_MAX: u32 = 3;

/// Longest rest, so that a card that paused does not stop an image for long.
const REST_MAX: Duration = Duration::from_secs(2);

/// Counts the bytes of a piece, and rests after it.
#[derive(Debug)]
pub(crate) struct Pace {
    work: Work,
    began: Instant,
    bytes: u64,
    piece_bytes: u64,
}

impl Pace {
    /// Nothing is written yet.
    pub(crate) fn start(work: Work) -> Pace {
        Pace { work, began: Instant::now(), bytes: 0, piece_bytes: PIECE_BYTES_MAX }
    }

    /// So much more is written; whether it is time for a sync and a rest.
    pub(crate) fn is_piece_full(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        self.bytes >= self.piece_bytes
    }

    /// The piece is synced: rests as long as the log needs it.
    pub(crate) fn rest(&mut self, health: &DiskHealth) {
        let took = self.began.elapsed();
        let is_alone =
            health.in_flight().is_none() && health.since_last_sync().is_none_or(|since| since > IDLE_AFTER);
        self.piece_bytes = self.next_piece(took, is_alone, health.sync_quick());
        std::thread::sleep(rest_after(self.work, took, is_alone));
        self.begin_next();
    }

    /// The piece is synced, and the next is due at once.
    pub(crate) fn begin_next(&mut self) {
        self.bytes = 0;
        self.began = Instant::now();
    }

    fn next_piece(&self, took: Duration, is_alone: bool, sync_quick: Duration) -> u64 {
        match self.work {
            Work::Received if is_alone => return PIECE_BYTES_ALONE,
            Work::Own | Work::Received => {}
        }
        let bound = sync_quick * PIECE_SYNCS_MAX;
        let next = if bound.is_zero() || took <= bound / 2 {
            self.piece_bytes.saturating_mul(2)
        } else if took > bound {
            self.piece_bytes / 2
        } else {
            self.piece_bytes
        };
        next.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }
}

fn rest_after(work: Work, took: Duration, is_alone: bool) -> Duration {
    let rest = match (work, is_alone) {
        (Work::Own, true) => took / 4,
        (Work::Own, false) => took * 4,
        (Work::Received, true) => Duration::ZERO,
        (Work::Received, false) => took,
    };
    rest.min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pieces_shrink_until_they_take_a_few_syncs_and_grow_again() {
        let mut pace = Pace::start(Work::Own);
        for expected in [256, 128, 128] {
            pace.piece_bytes = pace.next_piece(300 * MS, false, 30 * MS);
            assert_eq!(pace.piece_bytes, expected * 1024);
        }
        pace.piece_bytes = pace.next_piece(70 * MS, false, 30 * MS);
        assert_eq!(pace.piece_bytes, PIECE_BYTES_MIN, "as it should be");
        for expected in [256, 512, 512] {
            pace.piece_bytes = pace.next_piece(20 * MS, false, 30 * MS);
            assert_eq!(pace.piece_bytes, expected * 1024);
        }
        assert_eq!(
            pace.next_piece(900 * MS, false, Duration::ZERO),
            PIECE_BYTES_MAX,
            "nothing is known of the log"
        );
    }

    #[test]
    fn who_has_the_card_alone_rests_little() {
        assert_eq!(rest_after(Work::Own, 100 * MS, false), 400 * MS);
        assert_eq!(rest_after(Work::Own, 100 * MS, true), 25 * MS);
        assert_eq!(rest_after(Work::Received, 100 * MS, true), Duration::ZERO);
        assert_eq!(rest_after(Work::Own, 5_000 * MS, false), REST_MAX);
        let received = Pace::start(Work::Received);
        assert_eq!(received.next_piece(900 * MS, true, 30 * MS), PIECE_BYTES_ALONE);
        assert_eq!(received.next_piece(900 * MS, false, 30 * MS), PIECE_BYTES_MAX / 2);
    }
}
