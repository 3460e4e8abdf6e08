//! A board: its card, its clock, and the process that runs on it or does not.

use crate::card::Card;
use crate::card_log::CardLog;
use crate::process::Process;
use crate::queue::{Life, MS, Nanos};
use quorate_types::{Membership, NodeId, PeerKey, Position, Start};
use quorated::recover::Founding;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which board: its place on the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(pub(crate) usize);

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// A board.
pub(crate) struct Board {
    pub(crate) card: Card,
    /// Of the node that lives on this card; new with each new card.
    pub(crate) key: PeerKey,
    pub(crate) node: Option<NodeId>,
    /// What it was told when it joined, until its log has begun.
    pub(crate) founding: Option<Founding>,
    pub(crate) clock: BoardClock,
    pub(crate) state: State,
    pub(crate) life: Life,
    pub(crate) process: Option<Box<Process>>,
    /// Stopped by a signal until then.
    pub(crate) paused_until: Nanos,
    /// The card answers nothing until then.
    pub(crate) stalled_until: Nanos,
    /// The card is at work until then.
    pub(crate) busy_until: Nanos,
    /// The log on the card cannot be read back until then.
    pub(crate) unreadable_until: Nanos,
    /// Starts of others that this card has on record.
    pub(crate) seen_durable: BTreeMap<NodeId, Start>,
    /// The start it ran as last.
    pub(crate) start_last: Option<Start>,
    /// What the card has of the log, as far as a process has been told.
    pub(crate) log: CardLog,
    /// A copy of the card as it was at some stop.
    pub(crate) copy: Option<CardCopy>,
    /// Its power goes right after its next promise.
    pub(crate) is_doomed: bool,
    /// An older copy of the card lies in it.
    pub(crate) is_restored: bool,
}

/// A card that was copied while its board was off.
pub(crate) struct CardCopy {
    pub(crate) card: Card,
    pub(crate) node: NodeId,
    /// The start that had run by then.
    pub(crate) start: Option<Start>,
    /// The members as that node knew them.
    pub(crate) members: Membership,
}

/// What a board does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// An empty card; it belongs to no cluster.
    Blank,
    /// Off; will be switched on.
    Off,
    /// Reads its card.
    Starting,
    /// At work.
    Running,
    /// Refused for good, as an older copy; only a new card helps.
    Refused,
}

/// A board's monotonic clock, which no other board shares.
#[derive(Debug)]
pub(crate) struct BoardClock {
    pub(crate) nanoseconds: Arc<AtomicU64>,
    read_at: Nanos,
    /// A million is right.
    rate_ppm: u64,
}

impl BoardClock {
    pub(crate) fn new(offset: Nanos, rate_ppm: u64) -> BoardClock {
        BoardClock { nanoseconds: Arc::new(AtomicU64::new(offset)), read_at: 0, rate_ppm }
    }

    /// Brings it up to that true time; what it shows.
    pub(crate) fn read(&mut self, now: Nanos) -> Nanos {
        let shown = self.shown_at(now);
        self.nanoseconds.store(shown, Ordering::Relaxed);
        self.read_at = now;
        shown
    }

    /// What it shows at that true time, not before it was last read.
    pub(crate) fn shown_at(&self, now: Nanos) -> Nanos {
        let since = u128::from(now.saturating_sub(self.read_at)) * u128::from(self.rate_ppm) / 1_000_000;
        self.nanoseconds.load(Ordering::Relaxed) + u64::try_from(since).expect("a run lasts minutes")
    }

    /// How long truly passes while it counts that much; rounded up, so that it has then.
    pub(crate) fn true_time(&self, counted: Nanos) -> Nanos {
        let truly = (u128::from(counted) * 1_000_000).div_ceil(u128::from(self.rate_ppm)) + 1;
        u64::try_from(truly).expect("a run lasts minutes")
    }

    pub(crate) fn set_rate(&mut self, now: Nanos, rate_ppm: u64) {
        self.read(now);
        self.rate_ppm = rate_ppm;
    }

    pub(crate) fn jump(&mut self, now: Nanos, by: Nanos) {
        let shown = self.read(now);
        self.nanoseconds.store(shown + by, Ordering::Relaxed);
    }
}

impl Board {
    pub(crate) fn blank(card: Card, key: PeerKey, clock: BoardClock) -> Board {
        Board {
            card,
            key,
            node: None,
            founding: None,
            clock,
            state: State::Blank,
            life: Life(0),
            process: None,
            paused_until: 0,
            stalled_until: 0,
            busy_until: 0,
            unreadable_until: 0,
            seen_durable: BTreeMap::new(),
            start_last: None,
            log: CardLog::default(),
            copy: None,
            is_doomed: false,
            is_restored: false,
        }
    }

    /// Whether that entry is on this card, whatever happens to the board now. What an older copy has is anybody's
    /// guess.
    pub(crate) fn has_durable(&self, at: Position) -> bool {
        self.is_restored || self.log.holds(at)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running && self.process.is_some()
    }

    /// Until when work that is done on the card now takes, if it needs that long.
    pub(crate) fn card_done(&mut self, now: Nanos, demand: Nanos) -> Nanos {
        let begin = now.max(self.busy_until).max(self.stalled_until);
        self.busy_until = begin + demand;
        self.busy_until
    }

    /// Whether this life's event at that time must wait, and until when: the process stands still.
    pub(crate) fn held_until(&self, now: Nanos) -> Option<Nanos> {
        (self.paused_until > now).then_some(self.paused_until)
    }

    /// Whether an answer of the card must wait, and until when.
    pub(crate) fn card_held_until(&self, now: Nanos) -> Option<Nanos> {
        let until = self.paused_until.max(self.stalled_until);
        (until > now).then_some(until + MS / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_fast_never_waits_too_short() {
        let mut clock = BoardClock::new(5, 1_100_000);
        assert_eq!(clock.read(1_000), 5 + 1_100);
        let wait = clock.true_time(10 * MS);
        assert!(clock.shown_at(1_000 + wait) >= 5 + 1_100 + 10 * MS);
        clock.set_rate(1_000, 900_000);
        clock.jump(2_000, 7);
        assert_eq!(clock.read(2_000), 5 + 1_100 + 900 + 7);
    }
}
