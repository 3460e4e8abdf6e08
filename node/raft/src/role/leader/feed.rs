//! How entries reach the peers: from memory, from the log on the card, or in an image.

use crate::log::weight;
use crate::{AppendEntries, Body, Fetch, ImageWanted, Raft};
use alloc::vec::Vec;
use quorate_types::{Entry, Index, NodeId, Position, limits};

impl Raft {
    /// Everything there is to send: reads' round, appends as far as they may be in flight, and to those that
    /// get none the news that more is committed: other nodes answer their clients from it.
    pub(crate) fn feed_peers(&mut self) {
        self.begin_read_round();
        let peers: Vec<NodeId> =
            self.leading().map(|leader| leader.progress.keys().copied().collect()).unwrap_or_default();
        for peer in peers {
            while self.feed(peer) {}
            self.push_commit(peer);
        }
        self.tell_transfer(false);
    }

    /// A span that `Ready.fetches` asked for; `after` stands right before it. What is no span counts as not found;
    /// one that is not wanted any more is forgotten: another may be on its way.
    pub fn fetched(&mut self, to: NodeId, after: Position, entries: Vec<Entry>) {
        let last = self.log.last().index;
        let wanted = self.ends_fetch(to, after.index);
        if wanted {
            let entries: Vec<Entry> =
                entries.into_iter().take_while(|entry| entry.position.index <= last).collect();
            if is_span(after, &entries) {
                self.send_append(to, after, entries);
            } else {
                self.want_image(to);
            }
        }
        self.end_input();
    }

    /// The card no longer has the span asked for, after that index.
    pub fn fetch_failed(&mut self, to: NodeId, after: Index) {
        if self.ends_fetch(to, after) {
            self.want_image(to);
        }
        self.end_input();
    }

    /// Whether that answers a fetch under way, of a span still wanted.
    fn ends_fetch(&mut self, to: NodeId, after: Index) -> bool {
        let peer = self.leading().and_then(|leader| leader.progress.get_mut(&to));
        peer.is_some_and(|peer| peer.end_fetch(after))
    }

    /// That peer has been sent the image of that position, all of it.
    ///
    /// # Panics
    /// If the position is beyond what is applied here: no such image can be.
    pub fn image_sent(&mut self, to: NodeId, position: Position) {
        assert!(position.index <= self.committed, "an image holds what is committed");
        let now = self.now;
        let peer = self.leading().and_then(|leader| leader.progress.get_mut(&to));
        if let Some(peer) = peer.filter(|peer| peer.waits_for_image()) {
            peer.image_sent(position, now);
        }
        self.end_input();
    }

    /// That peer could not be sent an image; it is asked for again if the peer still needs it.
    pub fn image_failed(&mut self, to: NodeId) {
        let now = self.now;
        let peer = self.leading().and_then(|leader| leader.progress.get_mut(&to));
        if let Some(peer) = peer.filter(|peer| peer.waits_for_image()) {
            peer.image_failed(now);
        }
        self.end_input();
    }

    /// Sends the next append to that peer, or asks the card for it; whether there may be another.
    fn feed(&mut self, to: NodeId) -> bool {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let Some(peer) = self.leading().and_then(|leader| leader.progress.get_mut(&to)) else { return false };
        let Some(after) = peer.wants(last) else { return false };
        if after < base {
            // What memory no longer holds is applied and durable here, so it stands on the card or in an image.
            peer.fetch(after);
            let fetch = Fetch { to, after, last: base, bytes_max: limits::APPEND_BYTES_MAX };
            self.outbox.fetches.push(fetch);
            return false;
        }
        let entries = self.log.span(after, last, limits::APPEND_BYTES_MAX, usize::MAX);
        let term = self.log.term_at(after).expect("memory has the term of what it follows");
        self.send_append(to, Position { term, index: after }, entries);
        true
    }

    /// Tells that peer that more is committed, by an empty append behind those on their way.
    fn push_commit(&mut self, to: NodeId) {
        let committed = self.committed;
        let Some(peer) = self.leading().and_then(|leader| leader.progress.get(&to)) else { return };
        let Some(after) = peer.wants_commit(committed) else { return };
        if let Some(term) = self.log.term_at(after) {
            self.send_append(to, Position { term, index: after }, Vec::new());
        }
    }

    fn send_append(&mut self, to: NodeId, previous: Position, entries: Vec<Entry>) {
        let (committed, now) = (self.committed, self.now);
        let bytes = entries.iter().map(weight).sum();
        let last: Index = entries.last().map_or(previous.index, |entry| entry.position.index);
        let Some(peer) = self.leading().and_then(|leader| leader.progress.get_mut(&to)) else { return };
        peer.sent(last, bytes, committed, now);
        self.send(to, Body::AppendEntries(AppendEntries { previous, entries, committed }));
    }

    fn want_image(&mut self, to: NodeId) {
        let Some(leader) = self.leading() else { return };
        let Some(peer) = leader.progress.get_mut(&to) else { return };
        if !peer.is_member() {
            // Whoever refuses its link tells it, too, that it was removed: that is not worth all of the state.
            leader.progress.remove(&to);
            return;
        }
        let at_least = peer.want_image();
        self.outbox.images.push(ImageWanted { to, at_least });
    }
}

/// Whether entries follow `after` without a gap, and there are any.
fn is_span(after: Position, entries: &[Entry]) -> bool {
    let mut last = after;
    let follows = |entry: &Entry| {
        let is_next = entry.position.index.0.checked_sub(1) == Some(last.index.0);
        let is_in_order = is_next && entry.position.term >= last.term;
        last = entry.position;
        is_in_order
    };
    !entries.is_empty() && entries.iter().all(follows)
}
