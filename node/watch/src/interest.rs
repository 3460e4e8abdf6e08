//! Who wants which keys, grouped: watchers that want the same see the same shared events, selected once.

use crate::slab::Slot;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use quorate_store::{Event, EventKind, KeyRange};

/// What of an event a watcher wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct View {
    pub(crate) prev_kv: bool,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
}

impl View {
    fn wants(self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    /// Leaves out of a page what is not wanted.
    pub(crate) fn apply(self, events: Vec<Event>) -> Vec<Event> {
        let mut events = events;
        events.retain(|event| self.wants(event));
        if !self.prev_kv {
            for event in &mut events {
                event.prev_kv = None;
            }
        }
        events
    }
}

/// Events as one group sees them.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) events: Arc<Vec<Event>>,
    pub(crate) bytes: usize,
}

impl Seen {
    pub(crate) fn new(events: Arc<Vec<Event>>) -> Seen {
        let bytes = events.iter().map(Event::bytes).sum();
        Seen { events, bytes }
    }
}

type Members = BTreeSet<Slot>;

/// The groups of the watchers that are up to date. Single keys are looked up; ranges are walked, each
/// distinct one once: clients have tens of them, however many watchers.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    singles: BTreeMap<Vec<u8>, BTreeMap<View, Members>>,
    ranges: BTreeMap<(KeyRange, View), Members>,
}

impl Interests {
    pub(crate) fn insert(&mut self, range: &KeyRange, view: View, slot: Slot) {
        let members = match range {
            KeyRange::One(key) => self.singles.entry(key.clone()).or_default().entry(view).or_default(),
            KeyRange::From(_) | KeyRange::Span { .. } => {
                self.ranges.entry((range.clone(), view)).or_default()
            }
        };
        assert!(members.insert(slot), "a watcher is up to date once");
    }

    pub(crate) fn remove(&mut self, range: &KeyRange, view: View, slot: Slot) {
        match range {
            KeyRange::One(key) => {
                if let Some(views) = self.singles.get_mut(key) {
                    views.get_mut(&view).map(|members| members.remove(&slot));
                    views.retain(|_, members| !members.is_empty());
                    if views.is_empty() {
                        self.singles.remove(key);
                    }
                }
            }
            KeyRange::From(_) | KeyRange::Span { .. } => {
                let place = (range.clone(), view);
                if let Some(members) = self.ranges.get_mut(&place) {
                    members.remove(&slot);
                    if members.is_empty() {
                        self.ranges.remove(&place);
                    }
                }
            }
        }
    }

    /// Calls `tell` once for each group that wants some of the events of one revision.
    pub(crate) fn select(&self, events: &Arc<Vec<Event>>, mut tell: impl FnMut(&Members, &Seen)) {
        let mut selection = Selection::new(events);
        for ((range, view), members) in &self.ranges {
            if let Some(seen) = selection.select(*view, |event| range.contains(&event.kv.key)) {
                tell(members, &seen);
            }
        }
        if self.singles.is_empty() {
            return;
        }
        let mut told: BTreeSet<&[u8]> = BTreeSet::new();
        for event in events.iter() {
            let key: &[u8] = &event.kv.key;
            // A revision may change a key more than once; its watchers see that together.
            if let Some(views) = self.singles.get(key)
                && told.insert(key)
            {
                for (view, members) in views {
                    if let Some(seen) = selection.select(*view, |event| *event.kv.key == *key) {
                        tell(members, &seen);
                    }
                }
            }
        }
    }
}

/// The events of one revision, and the two forms most groups want.
struct Selection<'a> {
    events: &'a Arc<Vec<Event>>,
    whole: Seen,
    /// All of them without the states before; made when first wanted.
    stripped: Option<Seen>,
}

impl<'a> Selection<'a> {
    fn new(events: &'a Arc<Vec<Event>>) -> Selection<'a> {
        Selection { events, whole: Seen::new(Arc::clone(events)), stripped: None }
    }

    fn select(&mut self, view: View, lies_within: impl Fn(&Event) -> bool) -> Option<Seen> {
        let wanted = |event: &Event| view.wants(event) && lies_within(event);
        let count = self.events.iter().filter(|event| wanted(event)).count();
        if count == 0 {
            return None;
        }
        if count == self.events.len() {
            return Some(self.all(view.prev_kv));
        }
        let selected = self.events.iter().filter(|event| wanted(event)).cloned().collect();
        Some(Seen::new(Arc::new(View { no_put: false, no_delete: false, ..view }.apply(selected))))
    }

    fn all(&mut self, prev_kv: bool) -> Seen {
        if prev_kv || self.events.iter().all(|event| event.prev_kv.is_none()) {
            return self.whole.clone();
        }
        let events = self.events;
        let strip = || {
            let view = View { prev_kv: false, no_put: false, no_delete: false };
            Seen::new(Arc::new(view.apply(events.to_vec())))
        };
        self.stripped.get_or_insert_with(strip).clone()
    }
}
