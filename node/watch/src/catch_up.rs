//! Lagging watchers read history in turns, so that neither one of them nor all together hold the driver.

use crate::CancelReason;
use crate::hub::{Hub, Place};
use crate::slab::Slot;
use quorate_store::{EventsSince, Store};

/// Events of one turn: small enough that a thousand lagging watchers each get on within a second.
const TURN_EVENT_COUNT: usize = 256;

/// Bytes of one turn, and so of one delivery beyond its last revision: half of what a stream may hold.
const TURN_BYTES: usize = 512 * 1024;

/// Changes looked at for each event a call may hand out: a range with few changes costs the walk.
const VISITS_PER_EVENT: usize = 8;

impl Hub {
    /// Gives lagging watchers their turns until about that many events were handed out, or eight times as
    /// many changes looked at. Answers whether some could go on at once.
    pub fn catch_up(&mut self, store: &Store, event_count_max: usize) -> bool {
        let mut events_left = event_count_max;
        let mut visits_left = event_count_max.saturating_mul(VISITS_PER_EVENT);
        // A watcher that goes to the back is not served twice in one call unless all others were.
        while events_left > 0 && visits_left > 0 {
            let Some(slot) = self.turns.pop_front() else { return false };
            let (events, visits) = self.take_turn(store, slot, events_left, visits_left);
            events_left = events_left.saturating_sub(events);
            visits_left = visits_left.saturating_sub(visits);
        }
        !self.turns.is_empty()
    }

    /// Answers how many events were handed out and about how many changes looked at.
    fn take_turn(
        &mut self,
        store: &Store,
        slot: Slot,
        event_count: usize,
        visit_count: usize,
    ) -> (usize, usize) {
        let watcher = self.watchers.get(slot).expect("who is gone has no turn");
        let Place::Lagging { next } = watcher.place else { unreachable!("only who lags has a turn") };
        let stream = watcher.stream;
        if !self.streams.get(stream).is_some_and(|stream| stream.has_credit()) {
            self.wait(slot);
            return (0, 1);
        }
        let visit_count_max = visit_count.min(TURN_EVENT_COUNT * VISITS_PER_EVENT);
        let request = EventsSince {
            revision: next,
            range: &watcher.range,
            event_count_max: event_count.min(TURN_EVENT_COUNT),
            bytes_max: TURN_BYTES,
            visit_count_max,
        };
        let Ok(page) = store.events_since(&request) else {
            self.end(slot, CancelReason::Compacted(store.compacted()));
            self.tell_progress(stream);
            return (0, 1);
        };
        let view = watcher.view;
        let is_through = page.revision_next > self.revision;
        let (count, revision_next) = (page.events.len(), page.revision_next);
        let events = view.apply(page.events);
        if !events.is_empty() {
            self.tell(slot, events);
        }
        if is_through {
            self.catch_on(slot, revision_next);
        } else {
            let watcher = self.watchers.get_mut(slot).expect("it was just told");
            watcher.place = Place::Lagging { next: revision_next };
            self.turns.push_back(slot);
        }
        (count, page.visit_count.max(1))
    }
}
