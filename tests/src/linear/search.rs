//! The search for an order, one key at a time.
//!
//! Invocations and answers stand in one list by time. What may come next is every invocation before the first
//! answer; an operation that is taken leaves the list, and comes back when the way turns out a dead end. A dead end
//! is remembered as the set of operations taken and the state they led to. Three things keep real histories short:
//! - an answer that changes nothing and fits is taken at once and for good: whatever follows fits behind it as well;
//! - writes whose revision is known can only be taken in the order of revisions;
//! - writes of unknown outcome are tried only where nothing else fits, and one for all that do the same.

use super::model::State;
use super::{Expected, Op, Operation, Outcome, Seen, Violation};
use std::collections::HashSet;
use std::fmt::Write;

/// A search that needs more than this has a history no test should make; it ends as a violation that says so.
const STEPS_MAX: u64 = 10_000_000;

/// Operations before the dead end that a report shows.
const REPORTED_MAX: usize = 12;

/// How the search of one key went.
pub(super) struct Told {
    pub(super) steps: u64,
    pub(super) unknown_happened: usize,
}

pub(super) fn check_key(history: &[Operation], places: &[usize], seen: &Seen) -> Result<Told, Violation> {
    let mut items = items(history, places, seen);
    let named: HashSet<i64> = items.iter().map(|item| item.revision).collect();
    for item in &mut items {
        let Op::Swap { expected: Expected::Revision(revision), .. } = item.operation.op else { continue };
        item.met_unnamed =
            !named.contains(&revision) && (item.operation.has_written() || item.was_seen_unanswered);
    }
    // Writes that nobody ever saw explain nothing, as every answer tells what it saw; but for a swap that met a
    // revision nobody named: right before such a one each can stand for one.
    let is_unseen = |item: &Item<'_>| item.deadline.is_none() && !matches!(item.operation.op, Op::Delete);
    let mut spares: Vec<u64> =
        items.iter().filter(|item| is_unseen(item)).map(|item| item.operation.began).collect();
    spares.sort_unstable();
    items.retain(|item| !is_unseen(item));
    let unknown_happened = items.iter().filter(|item| item.was_seen_unanswered).count();
    let mut search = Search::new(items, spares);
    search.run()?;
    Ok(Told { steps: search.steps, unknown_happened })
}

/// An operation that took effect, or may have.
#[derive(Clone)]
struct Item<'a> {
    place: usize,
    operation: &'a Operation,
    /// It took effect before this; none for what may never have.
    deadline: Option<u64>,
    /// Of its write, if known in whatever way; else 0.
    revision: i64,
    was_seen_unanswered: bool,
    /// It is a swap that took place on a revision which no other answer names.
    met_unnamed: bool,
}

fn items<'a>(history: &'a [Operation], places: &[usize], seen: &Seen) -> Vec<Item<'a>> {
    let mut items = Vec::with_capacity(places.len());
    for &place in places {
        let operation = &history[place];
        let sighting = operation.writes().and_then(|value| seen.get(&(operation.key, value)));
        let mut item = Item {
            place,
            operation,
            deadline: None,
            revision: 0,
            was_seen_unanswered: false,
            met_unnamed: false,
        };
        match (operation.outcome, operation.op) {
            // A serializable read may be old; `revisions` judges it.
            (_, Op::Peek) | (Outcome::Refused, _) | (Outcome::Unknown, Op::Get) => continue,
            (Outcome::Done { .. }, _) => {
                item.deadline = Some(operation.ended);
                item.revision = if operation.has_written() { operation.told() } else { 0 };
            }
            (Outcome::Unknown, Op::Put(_) | Op::Delete | Op::Swap { .. }) => {
                if let Some(sighting) = sighting {
                    // Somebody saw it: it happened, and before that answer was there.
                    item.deadline = Some(sighting.ended);
                    item.revision = sighting.revision;
                    item.was_seen_unanswered = true;
                }
            }
        }
        items.push(item);
    }
    items
}

/// A place in the list: item `i` begins at `2 * i` and ends at `2 * i + 1`; the last place is the list's head.
type Place = usize;

struct Search<'a> {
    items: Vec<Item<'a>>,
    /// A number for each item; sets of items are told apart by the exclusive or of theirs.
    marks: Vec<u128>,
    next: Vec<Place>,
    previous: Vec<Place>,
    /// Items that need not be taken, by when they began.
    loose: Vec<usize>,
    is_taken: Vec<bool>,
    /// Writes of known revision, in that order, and how many of them are taken.
    ranked: Vec<usize>,
    ranked_taken: usize,
    /// When writes that nobody saw began, and how many of them were needed.
    spares: Vec<u64>,
    spares_taken: usize,
    set: u128,
    state: State,
    way: Vec<Step>,
    dead_ends: HashSet<(u128, State)>,
    steps: u64,
    deepest: Option<DeadEnd>,
}

/// One item taken.
struct Step {
    item: usize,
    before: State,
    /// Where to look on if this turns out a dead end.
    resume: Resume,
    is_ranked: bool,
    /// Whether one of the writes that nobody saw stands before it.
    is_spared: bool,
}

#[derive(Debug, Clone, Copy)]
enum Resume {
    /// With the list, behind this item.
    List,
    /// With the loose ones, from this one of them on; whether a delete was among those before.
    Loose(usize, bool),
    /// Nowhere: no other choice can do better.
    Nowhere,
}

struct DeadEnd {
    depth: usize,
    blocked: usize,
    state: State,
    last: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(items: Vec<Item<'a>>, spares: Vec<u64>) -> Search<'a> {
        let head = items.len() * 2;
        let mut places: Vec<(u64, bool, Place)> = Vec::with_capacity(head);
        let mut loose = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.deadline {
                Some(deadline) => {
                    places.push((item.operation.began, false, index * 2));
                    places.push((deadline.max(item.operation.began), true, index * 2 + 1));
                }
                None => loose.push(index),
            }
        }
        // At one moment beginnings come first: what touches overlaps.
        places.sort_unstable();
        loose.sort_by_key(|&index| items[index].operation.began);
        let (mut next, mut previous) = (vec![head; head + 1], vec![head; head + 1]);
        let mut last = head;
        for &(_, _, place) in &places {
            next[last] = place;
            previous[place] = last;
            last = place;
        }
        previous[head] = last;
        let mut ranked: Vec<usize> = (0..items.len())
            .filter(|&index| items[index].revision != 0 && items[index].deadline.is_some())
            .collect();
        ranked.sort_by_key(|&index| items[index].revision);
        let mut seed = 0x51_u64;
        Search {
            marks: items.iter().map(|_| mark(&mut seed)).collect(),
            is_taken: vec![false; items.len()],
            next,
            previous,
            loose,
            ranked,
            ranked_taken: 0,
            spares,
            spares_taken: 0,
            set: 0,
            state: State::FIRST,
            way: Vec::with_capacity(items.len()),
            dead_ends: HashSet::new(),
            steps: 0,
            deepest: None,
            items,
        }
    }

    fn head(&self) -> Place {
        self.items.len() * 2
    }

    fn run(&mut self) -> Result<(), Violation> {
        let mut place = self.next[self.head()];
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Err(self.report("the search gave up here, without an answer"));
            }
            if place == self.head() {
                // Every answered operation is behind us: the list ends only with an answer.
                return Ok(());
            }
            let item = place / 2;
            if place.is_multiple_of(2) {
                place = if self.take(item, Resume::List) { self.next[self.head()] } else { self.next[place] };
            } else if self.take_loose(item, 0, false) {
                place = self.next[self.head()];
            } else {
                self.note_dead_end(item);
                place = match self.go_back() {
                    Some(place) => place,
                    None => return Err(self.report("no order explains this answer")),
                };
            }
        }
    }

    /// Takes an item now, if it fits and does not lead to a known dead end.
    fn take(&mut self, item: usize, resume: Resume) -> bool {
        let Item { operation, revision, deadline, met_unnamed, .. } = self.items[item];
        let is_ranked = revision != 0 && deadline.is_some();
        if is_ranked && self.ranked[self.ranked_taken] != item {
            return false;
        }
        let mut after = self.state.after(operation, revision);
        let spare = self.spares.get(self.spares_taken).filter(|&&began| Some(began) <= deadline);
        let is_spared = after.is_none() && met_unnamed && spare.is_some();
        if is_spared {
            after = self.state.after_unseen(operation, revision);
        }
        let Some(after) = after else { return false };
        let set = self.set ^ self.marks[item];
        let changes = after != self.state;
        if changes && !self.dead_ends.insert((set, after)) {
            return false;
        }
        let resume = if changes || operation.has_written() { resume } else { Resume::Nowhere };
        self.way.push(Step { item, before: self.state, resume, is_ranked, is_spared });
        (self.set, self.state) = (set, after);
        self.is_taken[item] = true;
        self.ranked_taken += usize::from(is_ranked);
        self.spares_taken += usize::from(is_spared);
        if deadline.is_some() {
            self.lift(item);
        }
        true
    }

    /// Takes the first of the loose items, from `first` on, that may come before the answer of `blocked`.
    fn take_loose(&mut self, blocked: usize, first: usize, mut tried_delete: bool) -> bool {
        let Some(limit) = self.items[blocked].deadline else { return false };
        for position in first..self.loose.len() {
            let item = self.loose[position];
            let operation = self.items[item].operation;
            if operation.began > limit {
                break;
            }
            if self.is_taken[item] {
                continue;
            }
            // All deletes do the same, and none of them has to be taken: the oldest stands for the others.
            if matches!(operation.op, Op::Delete) && std::mem::replace(&mut tried_delete, true) {
                continue;
            }
            if self.take(item, Resume::Loose(position + 1, tried_delete)) {
                return true;
            }
        }
        false
    }

    /// Undoes steps until one of them had another choice, and gives where to look on.
    fn go_back(&mut self) -> Option<Place> {
        loop {
            let Step { item, before, resume, is_ranked, is_spared } = self.way.pop()?;
            self.set ^= self.marks[item];
            self.state = before;
            self.is_taken[item] = false;
            self.ranked_taken -= usize::from(is_ranked);
            self.spares_taken -= usize::from(is_spared);
            if self.items[item].deadline.is_some() {
                self.unlift(item);
            }
            match resume {
                Resume::Nowhere => {}
                Resume::List => return Some(self.next[item * 2]),
                Resume::Loose(position, tried_delete) => {
                    // The answer it stood before: the first one in the list.
                    let mut place = self.next[self.head()];
                    while place.is_multiple_of(2) {
                        place = self.next[place];
                    }
                    if self.take_loose(place / 2, position, tried_delete) {
                        return Some(self.next[self.head()]);
                    }
                }
            }
        }
    }

    fn lift(&mut self, item: usize) {
        for place in [item * 2, item * 2 + 1] {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Exactly against `lift`: a place still knows where it stood.
    fn unlift(&mut self, item: usize) {
        for place in [item * 2 + 1, item * 2] {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = place;
            self.previous[next] = place;
        }
    }

    fn note_dead_end(&mut self, blocked: usize) {
        if self.deepest.as_ref().is_none_or(|deepest| deepest.depth < self.way.len()) {
            let last = self.way.iter().rev().take(REPORTED_MAX).map(|step| step.item).collect();
            self.deepest = Some(DeadEnd { depth: self.way.len(), blocked, state: self.state, last });
        }
    }

    fn report(&self, what: &str) -> Violation {
        let Some(DeadEnd { depth, blocked, state, last }) = &self.deepest else {
            return Violation { operation: self.items[0].place, text: what.to_owned() };
        };
        let Item { operation, place, .. } = self.items[*blocked];
        let mut text = format!(
            "{what}: {operation}\n  the key is {state:?} after {depth} operations, of which the last:"
        );
        for &item in last.iter().rev() {
            write!(text, "\n    {}", self.items[item].operation).expect("a string takes everything");
        }
        text.push_str("\n  beside it, not taken:");
        let is_beside = |item: &&Item<'_>| {
            let deadline = item.deadline.unwrap_or(u64::MAX);
            item.place != place && item.operation.began <= operation.ended && deadline >= operation.began
        };
        let taken: HashSet<usize> = last.iter().map(|&item| self.items[item].place).collect();
        let beside = self.items.iter().filter(is_beside).filter(|item| !taken.contains(&item.place));
        for item in beside.take(REPORTED_MAX) {
            write!(text, "\n    {}", item.operation).expect("a string takes everything");
        }
        Violation { operation: place, text }
    }
}

/// The next of a fixed row of numbers without pattern (splitmix64, twice).
fn mark(seed: &mut u64) -> u128 {
    let mut half = || {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    half() << 64 | half()
}
