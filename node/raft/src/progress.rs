//! What a leader knows of one peer, and how it feeds it.
//!
//! All transitions of `Flow` stand here: Probe finds where the logs meet, one append at a time; Stream sends
//! ahead, as many bytes as may be in flight; Image waits for the hall. An append that brought no answer while
//! the peer was heard goes again from what was verified, ever more slowly.

use crate::timing::{
    CAUGHT_UP_TICKS, ELECTION_TICKS_MAX, IMAGE_INSTALL_TICKS, RESEND_TICKS_MAX, RESEND_TICKS_MIN,
};
use crate::{Card, PeerProgress, PeerState};
use alloc::boxed::Box;
use quorate_types::{Index, NodeId, Position};
use window::Window;

mod window;

/// One peer, in this leader's term.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    verified: Index,
    persisted: Index,
    /// The next entry to send.
    next: Index,
    flow: Flow,
    /// Entries to go back from the next refused probe, while neither side's terms tell where the logs meet.
    step_back: u64,
    /// What follows this index was asked from the card.
    fetching: Option<Index>,
    heard_at: u64,
    /// Newest heartbeat round answered.
    round: u64,
    /// Newest commit index it was sent in an append.
    committed_sent: Index,
    resend_ticks: u64,
    caught_up_since: Option<u64>,
    card: Card,
    farewell: Option<Farewell>,
}

/// How entries go to it.
#[derive(Debug, Clone)]
enum Flow {
    Probe { sent_at: Option<u64> },
    Stream { window: Box<Window>, moved_at: u64 },
    Image { sent: Option<Sent> },
}

/// An image was sent up to `index`; the peer may take until then to stand on it.
#[derive(Debug, Clone, Copy)]
struct Sent {
    index: Index,
    until: u64,
}

/// A peer that is no member any more, and is to hear so.
#[derive(Debug, Clone, Copy)]
struct Farewell {
    /// The membership without it.
    index: Index,
    /// The first heartbeat round that told it that this is committed.
    told_in: Option<u64>,
    until: u64,
}

impl Progress {
    /// A peer of which nothing is known but that it may hold what stands before `next`.
    pub(crate) fn new(next: Index, now: u64) -> Progress {
        assert!(next > Index(0), "the first entry stands at 1");
        Progress {
            verified: Index(0),
            persisted: Index(0),
            next,
            flow: Flow::Probe { sent_at: None },
            step_back: 1,
            fetching: None,
            heard_at: now,
            round: 0,
            committed_sent: Index(0),
            resend_ticks: RESEND_TICKS_MIN,
            caught_up_since: None,
            card: Card::Unknown,
            farewell: None,
        }
    }

    /// The index after which an append should go out now.
    pub(crate) fn wants(&self, last: Index) -> Option<Index> {
        let has_room = match &self.flow {
            Flow::Probe { sent_at } => sent_at.is_none(),
            Flow::Stream { window, .. } => self.next <= last && window.has_room(),
            Flow::Image { .. } => false,
        };
        (has_room && self.fetching.is_none()).then_some(Index(self.next.0 - 1))
    }

    /// Whether it should hear, by an empty append, that more is committed; and after which index.
    pub(crate) fn wants_commit(&self, committed: Index) -> Option<Index> {
        let is_stream = matches!(self.flow, Flow::Stream { .. });
        (is_stream && self.committed_sent < committed).then_some(Index(self.next.0 - 1))
    }

    /// An append of entries up to `last`, weighing `bytes`, goes out.
    pub(crate) fn sent(&mut self, last: Index, bytes: u64, committed: Index, now: u64) {
        assert!(last.next() >= self.next, "what is sent follows what was");
        let is_empty = last.next() == self.next;
        match &mut self.flow {
            Flow::Probe { sent_at } => *sent_at = Some(now),
            Flow::Stream { .. } if is_empty => {}
            Flow::Stream { window, moved_at } => {
                if window.is_empty() {
                    *moved_at = now;
                }
                window.push(last, bytes);
                self.next = last.next();
            }
            Flow::Image { .. } => unreachable!("nothing is sent beside an image"),
        }
        self.committed_sent = self.committed_sent.max(committed);
    }

    /// It said something.
    pub(crate) fn heard(&mut self, now: u64) {
        self.heard_at = now;
    }

    /// It answered that heartbeat round.
    pub(crate) fn answered(&mut self, round: u64) {
        self.round = self.round.max(round);
    }

    /// What it claims to hold, checked to be within the leader's log.
    pub(crate) fn claims(&mut self, verified: Index, persisted: Index, now: u64) {
        assert!(persisted <= verified, "checked where it came in");
        self.persisted = self.persisted.max(persisted);
        if verified > self.verified {
            self.verified = verified;
            self.resend_ticks = RESEND_TICKS_MIN;
            if let Flow::Stream { window, moved_at } = &mut self.flow {
                window.release(verified);
                *moved_at = now;
            }
            // A span being fetched that it has meanwhile is of no use any more: `end_fetch` sees that.
            self.next = self.next.max(verified.next());
        }
        if let Flow::Image { sent: Some(sent) } = &self.flow
            && self.verified >= sent.index
        {
            self.stream(now);
        }
    }

    /// An append was taken: where the logs meet is known.
    pub(crate) fn taken(&mut self, verified: Index, persisted: Index, now: u64) {
        self.claims(verified, persisted, now);
        if matches!(self.flow, Flow::Probe { .. }) {
            self.stream(now);
        }
    }

    /// It has something else, or nothing, at `previous`; `meeting` is the last index that may match. `is_blind` if
    /// memory holds the term of neither: then each probe costs a span read from the card, so that it goes back
    /// twice as far as the one before.
    pub(crate) fn rejected(&mut self, previous: Index, meeting: Index, is_blind: bool) {
        let is_news = match &self.flow {
            Flow::Probe { .. } => previous.next() == self.next && previous > self.verified,
            Flow::Stream { .. } => previous > self.verified,
            Flow::Image { .. } => false,
        };
        if is_news {
            // Strictly back: whatever the peer says, probing ends.
            let step = if is_blind { self.step_back } else { 1 };
            let meeting = meeting.min(Index(previous.0.saturating_sub(step))).max(self.verified);
            self.probe(meeting.next());
            self.step_back = if is_blind { step.saturating_mul(2) } else { 1 };
        }
    }

    /// It cannot hold more before its card has taken some: the same again, later.
    pub(crate) fn full(&mut self, now: u64) {
        if matches!(self.flow, Flow::Probe { .. } | Flow::Stream { .. }) {
            self.probe(self.verified.next());
            self.flow = Flow::Probe { sent_at: Some(now) };
        }
    }

    /// It started anew: its memory is gone, its card is not.
    pub(crate) fn restarted(&mut self, last: Index) {
        self.verified = self.persisted;
        self.resend_ticks = RESEND_TICKS_MIN;
        self.caught_up_since = None;
        self.card = Card::Unknown;
        self.probe(if self.persisted == Index(0) { last.next() } else { self.persisted.next() });
    }

    /// Each heartbeat: sends again what seems lost.
    pub(crate) fn maintain(&mut self, now: u64) {
        let resend_ticks = self.resend_ticks;
        let is_lost = |at: u64| self.heard_at > at && now - at >= resend_ticks;
        let (is_lost, next) = match &self.flow {
            Flow::Probe { sent_at } => (sent_at.is_some_and(is_lost), self.next),
            Flow::Stream { window, moved_at } => {
                (!window.is_empty() && is_lost(*moved_at), self.verified.next())
            }
            Flow::Image { sent } => (sent.is_some_and(|sent| now >= sent.until), self.next),
        };
        if is_lost && self.fetching.is_none() {
            self.resend_ticks = (resend_ticks * 2).min(RESEND_TICKS_MAX);
            self.probe(next);
        }
    }

    /// What follows `after` is no longer in memory: it was asked from the card.
    pub(crate) fn fetch(&mut self, after: Index) {
        assert!(self.fetching.is_none(), "one fetch at a time");
        self.fetching = Some(after);
    }

    /// The card answered what follows `after`: whether that was asked for last, and is still wanted.
    pub(crate) fn end_fetch(&mut self, after: Index) -> bool {
        let is_asked = self.fetching == Some(after);
        if is_asked {
            self.fetching = None;
        }
        is_asked && after.next() == self.next && !matches!(self.flow, Flow::Image { .. })
    }

    /// It is behind the log: the hall must send an image, at or beyond which index.
    pub(crate) fn want_image(&mut self) -> Index {
        self.fetching = None;
        self.flow = Flow::Image { sent: None };
        self.next
    }

    /// Whether it waits for the hall to send an image.
    pub(crate) fn waits_for_image(&self) -> bool {
        matches!(self.flow, Flow::Image { sent: None })
    }

    /// It was sent the image of `position`.
    pub(crate) fn image_sent(&mut self, position: Position, now: u64) {
        self.next = position.index.max(self.verified).next();
        self.flow =
            Flow::Image { sent: Some(Sent { index: position.index, until: now + IMAGE_INSTALL_TICKS }) };
        self.claims(self.verified, self.persisted, now);
    }

    /// It could not be sent one: probing finds out whether it still needs it.
    pub(crate) fn image_failed(&mut self, now: u64) {
        self.flow = Flow::Probe { sent_at: Some(now) };
    }

    /// Judges, each heartbeat, whether it keeps up.
    pub(crate) fn judge_lag(&mut self, is_close: bool, now: u64) {
        let keeps_up = is_close && self.is_active(now);
        self.caught_up_since = if keeps_up { self.caught_up_since.or(Some(now)) } else { None };
    }

    /// It is no member from `index` on; it is told until then at most.
    pub(crate) fn leave(&mut self, index: Index, until: u64) {
        self.farewell = self.farewell.or(Some(Farewell { index, told_in: None, until }));
    }

    /// It is a member again.
    pub(crate) fn stay(&mut self) {
        self.farewell = None;
    }

    /// A heartbeat of that round told it that `committed` is.
    pub(crate) fn told(&mut self, committed: Index, round: u64) {
        if let Some(farewell) = &mut self.farewell
            && committed >= farewell.index
        {
            farewell.told_in = farewell.told_in.or(Some(round));
        }
    }

    /// Whether it left, and knows or will never know.
    pub(crate) fn is_gone(&self, now: u64) -> bool {
        self.farewell.is_some_and(|farewell| {
            let knows = farewell.told_in.is_some_and(|round| self.round >= round);
            (knows && self.verified >= farewell.index) || now >= farewell.until
        })
    }

    pub(crate) fn verified(&self) -> Index {
        self.verified
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    /// How its card does, as it says.
    pub(crate) fn card(&self) -> Card {
        self.card
    }

    pub(crate) fn shows_card(&mut self, card: Card) {
        self.card = card;
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    pub(crate) fn next(&self) -> Index {
        self.next
    }

    pub(crate) fn is_member(&self) -> bool {
        self.farewell.is_none()
    }

    /// Answered within an election timeout.
    pub(crate) fn is_active(&self, now: u64) -> bool {
        now - self.heard_at <= ELECTION_TICKS_MAX
    }

    pub(crate) fn is_caught_up(&self, now: u64) -> bool {
        self.caught_up_since.is_some_and(|since| now - since >= CAUGHT_UP_TICKS)
    }

    pub(crate) fn describe(&self, node: NodeId, now: u64) -> PeerProgress {
        let state = match &self.flow {
            Flow::Image { .. } => PeerState::Image,
            Flow::Probe { .. } | Flow::Stream { .. } if self.fetching.is_some() => PeerState::Fetch,
            Flow::Probe { .. } => PeerState::Probe,
            Flow::Stream { .. } => PeerState::Stream,
        };
        PeerProgress {
            node,
            verified: self.verified,
            persisted: self.persisted,
            is_active: self.is_active(now),
            is_caught_up: self.is_caught_up(now),
            card: self.card,
            state,
        }
    }

    fn probe(&mut self, next: Index) {
        self.next = next;
        self.fetching = None;
        self.flow = Flow::Probe { sent_at: None };
    }

    fn stream(&mut self, now: u64) {
        self.next = self.verified.next();
        self.step_back = 1;
        self.fetching = None;
        self.flow = Flow::Stream { window: Box::default(), moved_at: now };
    }
}

#[cfg(test)]
mod tests;
