//! Every watcher of this node, what each was told, and what its stream may still be told.
//!
//! A watcher is *synced* (in a group of `Interests`, told as events are published) or *lagging* (it has a
//! cursor and reads history in turns, see `catch_up`). It starts lagging if it asks for the past, and falls
//! back when its stream does not take what it was told: then nothing more is queued for it, and history,
//! which is there anyway, is its buffer.

use crate::interest::{Interests, Seen, View};
use crate::slab::{Slab, Slot};
use crate::{CancelReason, Delivery, StreamId, WatchId, WatchRequest};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};
use quorate_store::{Event, KeyRange, Store};
use quorate_types::{Revision, limits};

/// The watchers of this node.
#[derive(Debug)]
pub struct Hub {
    pub(crate) streams: Slab<Stream>,
    names: BTreeMap<StreamId, Slot>,
    pub(crate) watchers: Slab<Watcher>,
    pub(crate) interests: Interests,
    /// Lagging watchers whose stream has credit, as far as known, in the order of their turns. Each lagging
    /// watcher stands here or in its stream's `waiting`, once.
    pub(crate) turns: VecDeque<Slot>,
    /// Streams that wait for a progress answer.
    progress_wanted: BTreeSet<Slot>,
    outbox: Vec<(StreamId, Delivery)>,
    /// Newest revision published: synced watchers were told everything up to it.
    pub(crate) revision: i64,
}

/// One client stream.
#[derive(Debug)]
pub(crate) struct Stream {
    name: StreamId,
    watchers: BTreeMap<WatchId, Slot>,
    /// Next id to try for a client that brings none.
    id_next: i64,
    /// Bytes told and not given back yet.
    bytes_out: usize,
    /// Its lagging watchers, wherever they wait.
    lagging_count: usize,
    /// Lagging watchers that wait for credit.
    waiting: Vec<Slot>,
    /// Watchers that asked for a start to come, by it. One that was reached meanwhile may still stand here.
    starts_to_come: BTreeSet<(i64, Slot)>,
}

impl Stream {
    /// Whether a client waits for a start beyond this revision: to be told of less would take it back.
    fn awaits_start(&mut self, revision: i64) -> bool {
        let awaits = self.starts_to_come.last().is_some_and(|(start, _)| *start > revision);
        if !awaits {
            self.starts_to_come.clear();
        }
        awaits
    }

    pub(crate) fn has_credit(&self) -> bool {
        self.bytes_out < limits::WATCH_STREAM_BYTES_MAX
    }
}

/// One registration.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) stream: Slot,
    id: WatchId,
    pub(crate) range: KeyRange,
    pub(crate) view: View,
    pub(crate) place: Place,
    progress_notify: bool,
    fragment: bool,
    /// Told something since the last round of progress.
    told: bool,
}

/// Where a watcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Told everything published; wants what comes from this revision on.
    Synced { from: i64 },
    /// Told everything below this revision.
    Lagging { next: i64 },
}

impl Hub {
    /// A hub over a store of that revision.
    #[must_use]
    pub fn new(revision: Revision) -> Hub {
        Hub {
            streams: Slab::new(),
            names: BTreeMap::new(),
            watchers: Slab::new(),
            interests: Interests::default(),
            turns: VecDeque::new(),
            progress_wanted: BTreeSet::new(),
            outbox: Vec::new(),
            revision: revision.0,
        }
    }

    /// A client opened a stream.
    ///
    /// # Panics
    /// If the caller names two streams alike.
    pub fn open(&mut self, name: StreamId) {
        let slot = self.streams.insert(Stream {
            name,
            watchers: BTreeMap::new(),
            id_next: 0,
            bytes_out: 0,
            lagging_count: 0,
            waiting: Vec::new(),
            starts_to_come: BTreeSet::new(),
        });
        let before = self.names.insert(name, slot);
        assert!(before.is_none(), "stream ids are never reused");
    }

    /// A stream is gone; its watchers end without a word.
    pub fn close(&mut self, name: StreamId) {
        let Some(slot) = self.names.remove(&name) else { return };
        let stream = self.streams.remove(slot).expect("a name stands for a stream");
        self.progress_wanted.remove(&slot);
        self.turns.retain(|turn| self.watchers.get(*turn).is_some_and(|watcher| watcher.stream != slot));
        for watcher in stream.watchers.into_values() {
            let watcher = self.watchers.remove(watcher).map(|removed| (watcher, removed));
            if let Some((place, Watcher { place: Place::Synced { .. }, range, view, .. })) = watcher {
                self.interests.remove(&range, view, place);
            }
        }
    }

    /// Registers a watcher, or refuses it; either is told at once, in the order of the calls. One that wants
    /// the past gets it by `catch_up`.
    pub fn create(&mut self, name: StreamId, request: WatchRequest, store: &Store) {
        let Some(&slot) = self.names.get(&name) else { return };
        let revision = Revision(self.revision);
        let id = match self.choose_id(slot, &request) {
            Ok(id) => id,
            Err(reason) => {
                self.outbox.push((name, Delivery::Canceled { id: WatchId::ALL, revision, reason }));
                return;
            }
        };
        self.outbox.push((name, Delivery::Created { id, revision }));
        let compacted = store.compacted();
        let start = request.revision_start;
        if start != 0 && start < compacted.0 {
            let reason = CancelReason::Compacted(compacted);
            self.outbox.push((name, Delivery::Canceled { id, revision, reason }));
            return;
        }
        let is_past = start != 0 && start <= self.revision;
        let place = if is_past {
            Place::Lagging { next: start }
        } else {
            Place::Synced { from: start.max(self.revision + 1) }
        };
        self.insert(slot, id, request, place);
    }

    fn insert(&mut self, stream: Slot, id: WatchId, request: WatchRequest, place: Place) {
        let view = View { prev_kv: request.prev_kv, no_put: request.no_put, no_delete: request.no_delete };
        let range = request.range.clone();
        let slot = self.watchers.insert(Watcher {
            stream,
            id,
            range: request.range,
            view,
            place,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            told: false,
        });
        let stream = self.streams.get_mut(stream).expect("the caller looked it up");
        stream.watchers.insert(id, slot);
        match place {
            Place::Synced { from } => {
                if request.revision_start == from {
                    stream.starts_to_come.insert((from, slot));
                }
                self.interests.insert(&range, view, slot);
            }
            Place::Lagging { .. } => {
                stream.lagging_count += 1;
                self.turns.push_back(slot);
            }
        }
    }

    fn choose_id(&mut self, stream: Slot, request: &WatchRequest) -> Result<WatchId, CancelReason> {
        let stream = self.streams.get_mut(stream).expect("the caller looked it up");
        if request.revision_start < 0 {
            return Err(CancelReason::Compacted(Revision(0)));
        }
        if let KeyRange::Span { start, end } = &request.range
            && start >= end
        {
            return Err(CancelReason::EmptyRange);
        }
        if stream.watchers.len() >= limits::WATCH_STREAM_WATCHER_COUNT_MAX {
            return Err(CancelReason::TooMany);
        }
        match request.id {
            Some(id) if id != WatchId(0) => {
                // -1 speaks of the whole stream: nobody's own.
                let is_taken = id == WatchId::ALL || stream.watchers.contains_key(&id);
                if is_taken { Err(CancelReason::DuplicateId) } else { Ok(id) }
            }
            Some(_) | None => {
                while stream.watchers.contains_key(&WatchId(stream.id_next)) {
                    stream.id_next += 1;
                }
                let id = WatchId(stream.id_next);
                stream.id_next += 1;
                Ok(id)
            }
        }
    }

    /// Ends a watcher at its client's wish. One that does not exist is not answered, as etcd does.
    pub fn cancel(&mut self, name: StreamId, id: WatchId) {
        let Some(&stream) = self.names.get(&name) else { return };
        let slot = self.streams.get(stream).and_then(|stream| stream.watchers.get(&id)).copied();
        if let Some(slot) = slot {
            self.end(slot, CancelReason::Requested);
            self.tell_progress(stream);
        }
    }

    /// Removes a watcher and tells its stream.
    pub(crate) fn end(&mut self, slot: Slot, reason: CancelReason) {
        let watcher = self.watchers.remove(slot).expect("the caller looked it up");
        let stream = self.streams.get_mut(watcher.stream).expect("a watcher's stream outlives it");
        stream.watchers.remove(&watcher.id);
        match watcher.place {
            Place::Synced { from } => {
                stream.starts_to_come.remove(&(from, slot));
                self.interests.remove(&watcher.range, watcher.view, slot);
            }
            Place::Lagging { .. } => {
                stream.lagging_count -= 1;
                stream.waiting.retain(|waiting| *waiting != slot);
                self.turns.retain(|turn| *turn != slot);
            }
        }
        let revision = Revision(self.revision);
        self.outbox.push((stream.name, Delivery::Canceled { id: watcher.id, revision, reason }));
    }

    /// The client asks how far its watchers are. Answered as soon as all of them are synced, which may be
    /// later; asking twice meanwhile changes nothing. A stream without watchers is not answered, as seen with
    /// etcd 3.5.16. While one waits for a start to come nobody is: told the revision of today, its client would
    /// go back behind the one it named (etcd withholds it since 3.5.22).
    pub fn progress(&mut self, name: StreamId) {
        let Some(&slot) = self.names.get(&name) else { return };
        self.progress_wanted.insert(slot);
        self.tell_progress(slot);
    }

    /// Answers a stream's progress request if there is one and it may be answered.
    pub(crate) fn tell_progress(&mut self, slot: Slot) {
        if !self.progress_wanted.contains(&slot) {
            return;
        }
        let stream = self.streams.get_mut(slot).expect("closing a stream forgets its wish");
        if stream.watchers.is_empty() {
            self.progress_wanted.remove(&slot);
            return;
        }
        if stream.lagging_count > 0 || !stream.has_credit() || stream.awaits_start(self.revision) {
            return;
        }
        let delivery = Delivery::Progress { id: WatchId::ALL, revision: Revision(self.revision) };
        self.outbox.push((stream.name, delivery));
        self.progress_wanted.remove(&slot);
    }

    /// A round of periodic progress: tells each watcher that asked for it, is synced, does not wait for a start
    /// to come, and was told nothing since the last round. How often is the hall's matter (etcd: every ten minutes).
    pub fn notify_progress(&mut self) {
        let mut due = Vec::new();
        for (slot, watcher) in self.watchers.iter() {
            if watcher.progress_notify {
                due.push(slot);
            }
        }
        for slot in due {
            let watcher = self.watchers.get_mut(slot).expect("just seen");
            let was_told = core::mem::replace(&mut watcher.told, false);
            let stream = self.streams.get(watcher.stream).expect("a watcher's stream outlives it");
            let is_due = match watcher.place {
                Place::Synced { from } => {
                    from <= self.revision || !stream.starts_to_come.contains(&(from, slot))
                }
                Place::Lagging { .. } => false,
            };
            if !was_told && is_due && stream.has_credit() {
                let delivery = Delivery::Progress { id: watcher.id, revision: Revision(self.revision) };
                self.outbox.push((stream.name, delivery));
            }
        }
    }

    /// Tells the changes of one revision, as applied; in order, each revision once.
    ///
    /// # Panics
    /// If revisions do not rise.
    pub fn publish(&mut self, events: &Arc<Vec<Event>>) {
        let Some(revision) = events.first().map(|event| event.revision().0) else { return };
        assert!(revision > self.revision, "revisions are published in order");
        self.revision = revision;
        let mut fallen = Vec::new();
        let (watchers, streams, outbox) = (&mut self.watchers, &mut self.streams, &mut self.outbox);
        self.interests.select(events, |members, seen| {
            for slot in members {
                let watcher = watchers.get_mut(*slot).expect("a group's members exist");
                if matches!(watcher.place, Place::Synced { from } if revision < from) {
                    continue;
                }
                let stream = streams.get_mut(watcher.stream).expect("a watcher's stream outlives it");
                if stream.has_credit() {
                    deliver(watcher, stream, outbox, seen, revision);
                } else {
                    fallen.push(*slot);
                }
            }
        });
        for slot in fallen {
            self.fall_back(slot, revision);
        }
        for slot in self.progress_wanted.iter().copied().collect::<Vec<_>>() {
            self.tell_progress(slot);
        }
    }

    /// A synced watcher begins to lag: it was told everything below `next`.
    fn fall_back(&mut self, slot: Slot, next: i64) {
        let watcher = self.watchers.get_mut(slot).expect("the caller looked it up");
        let Place::Synced { from } = watcher.place else { unreachable!("only who was synced can fall back") };
        watcher.place = Place::Lagging { next };
        self.interests.remove(&watcher.range, watcher.view, slot);
        let stream = self.streams.get_mut(watcher.stream).expect("a watcher's stream outlives it");
        stream.starts_to_come.remove(&(from, slot));
        stream.lagging_count += 1;
        if stream.has_credit() {
            self.turns.push_back(slot);
        } else {
            stream.waiting.push(slot);
        }
    }

    /// A lagging watcher is through with history: from here on it is told as events are published.
    pub(crate) fn catch_on(&mut self, slot: Slot, from: i64) {
        let watcher = self.watchers.get_mut(slot).expect("the caller looked it up");
        assert!(matches!(watcher.place, Place::Lagging { .. }), "only who lagged can catch on");
        watcher.place = Place::Synced { from };
        self.interests.insert(&watcher.range, watcher.view, slot);
        let stream = watcher.stream;
        self.streams.get_mut(stream).expect("a watcher's stream outlives it").lagging_count -= 1;
        self.tell_progress(stream);
    }

    /// A lagging watcher's turn came and its stream takes nothing: it waits for credit.
    pub(crate) fn wait(&mut self, slot: Slot) {
        let watcher = self.watchers.get(slot).expect("the caller looked it up");
        self.streams.get_mut(watcher.stream).expect("a watcher's stream outlives it").waiting.push(slot);
    }

    /// Tells a lagging watcher what its turn found.
    pub(crate) fn tell(&mut self, slot: Slot, events: Vec<Event>) {
        let watcher = self.watchers.get_mut(slot).expect("the caller looked it up");
        let stream = self.streams.get_mut(watcher.stream).expect("a watcher's stream outlives it");
        let revision = events.last().map_or(self.revision, |event| self.revision.max(event.revision().0));
        deliver(watcher, stream, &mut self.outbox, &Seen::new(Arc::new(events)), revision);
    }

    /// A client's connection took that many bytes of events.
    pub fn credit(&mut self, name: StreamId, bytes: usize) {
        let Some(&slot) = self.names.get(&name) else { return };
        let stream = self.streams.get_mut(slot).expect("a name stands for a stream");
        stream.bytes_out = stream.bytes_out.saturating_sub(bytes);
        if stream.has_credit() {
            self.turns.extend(stream.waiting.drain(..));
            self.tell_progress(slot);
        }
    }

    /// The store was replaced by one from an image, at or beyond what was published: every watcher reads on
    /// from history, or is told that it is compacted.
    pub fn restart(&mut self, store: &Store) {
        let synced: Vec<(Slot, i64)> = self
            .watchers
            .iter()
            .filter_map(|(slot, watcher)| match watcher.place {
                Place::Synced { from } => Some((slot, from.max(self.revision + 1))),
                Place::Lagging { .. } => None,
            })
            .collect();
        self.revision = self.revision.max(store.revision().0);
        for (slot, next) in synced {
            if next <= self.revision {
                self.fall_back(slot, next);
            }
        }
    }

    /// What is to be told, in order; each stream's api task turns its part into responses.
    pub fn take_deliveries(&mut self) -> impl Iterator<Item = (StreamId, Delivery)> + use<> {
        core::mem::take(&mut self.outbox).into_iter()
    }

    /// Whether something is to be told.
    #[must_use]
    pub fn has_deliveries(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Watchers, all and lagging ones.
    #[must_use]
    pub fn watcher_counts(&self) -> (usize, usize) {
        let streams = self.streams.iter().map(|(_, stream)| stream);
        streams.fold((0, 0), |(all, lagging), stream| {
            (all + stream.watchers.len(), lagging + stream.lagging_count)
        })
    }

    /// Open streams.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.names.len()
    }
}

fn deliver(
    watcher: &mut Watcher,
    stream: &mut Stream,
    outbox: &mut Vec<(StreamId, Delivery)>,
    seen: &Seen,
    revision: i64,
) {
    watcher.told = true;
    stream.bytes_out = stream.bytes_out.saturating_add(seen.bytes);
    outbox.push((
        stream.name,
        Delivery::Events {
            id: watcher.id,
            revision: Revision(revision),
            events: Arc::clone(&seen.events),
            bytes: seen.bytes,
            fragment: watcher.fragment,
        },
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_store::{Command, Put};
    use quorate_types::{ClusterTime, Index};

    /// A client that registers and cancels for ever must not grow anything, nor get others' turns.
    #[test]
    fn who_comes_and_goes_leaves_nothing_behind() {
        let mut store = Store::new();
        let mut hub = Hub::new(store.revision());
        let name = StreamId(1);
        hub.open(name);
        for index in 1..=3 {
            let put = Put { key: b"k".to_vec(), value: alloc::vec![0; 600_000], ..Put::default() };
            let applied = store.apply(Index(index), ClusterTime(0), &Command::Put(put));
            hub.publish(&applied.events.unwrap());
        }
        let past = WatchRequest {
            id: None,
            range: KeyRange::One(b"k".to_vec()),
            revision_start: 2,
            prev_kv: false,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            fragment: false,
        };
        // The first takes all of the stream's credit.
        hub.create(name, past.clone(), &store);
        while hub.catch_up(&store, 10) {}
        for id in 1..100 {
            hub.create(name, past.clone(), &store);
            if id % 2 == 0 {
                assert!(!hub.catch_up(&store, 10));
            }
            hub.cancel(name, WatchId(id));
        }
        let stream = hub.streams.iter().next().unwrap().1;
        assert!(!stream.has_credit());
        assert_eq!((stream.waiting.len(), stream.lagging_count, stream.watchers.len()), (1, 1, 1));
        assert_eq!(hub.watchers.iter().count(), 1);
        hub.credit(name, usize::MAX);
        for id in 100..200 {
            hub.create(name, past.clone(), &store);
            hub.cancel(name, WatchId(id));
        }
        assert_eq!(hub.turns.len(), 1);
        hub.create(name, past, &store);
        assert_eq!(hub.turns.len(), 2);
        while hub.catch_up(&store, 10) {
            hub.credit(name, usize::MAX);
        }
        hub.credit(name, usize::MAX);
        while hub.catch_up(&store, 10) {
            hub.credit(name, usize::MAX);
        }
        assert!(hub.turns.is_empty());
        assert_eq!(hub.watcher_counts(), (2, 0));
    }
}
