//! Clients that watch: what they are told must be the history of the cluster, each revision once and in order, or
//! the word that it is compacted; across leaders, nodes and images.

use crate::board::Slot;
use crate::queue::{Event, Life, MS, Nanos};
use crate::rng::Rng;
use crate::situation::Situation;
use crate::world::World;
use quorate_api::WatchCommand;
use quorate_store::{Event as Change, KeyRange};
use quorate_watch::{CancelReason, Delivery, StreamId, WatchRequest};
use quorated::inbox::Inbound;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A watching client.
pub(crate) struct Watcher {
    rng: Rng,
    stream: Option<Stream>,
    range: Option<KeyRange>,
    /// Everything below was told.
    next: i64,
    told: u64,
    moved: u64,
}

struct Stream {
    slot: Slot,
    life: Life,
    id: StreamId,
    deliveries: UnboundedReceiver<Delivery>,
    /// Bytes to be given back, and when.
    credit: Vec<(Nanos, usize)>,
}

impl Watcher {
    pub(crate) fn new(rng: Rng) -> Watcher {
        Watcher { rng, stream: None, range: None, next: 2, told: 0, moved: 0 }
    }
}

impl World {
    pub(crate) fn watcher(&mut self, number: usize) {
        let pause = self.watchers[number].rng.between_log(5, 400) * MS;
        self.queue.push(self.now + pause, Event::Watcher(number));
        let is_gone = self.watchers[number].stream.as_ref().is_none_or(|stream| {
            self.boards[stream.slot.0].life != stream.life || !self.boards[stream.slot.0].is_running()
        });
        if is_gone {
            return self.open_stream(number);
        }
        self.hear_watcher(number);
        self.give_credit(number);
        // A client that asks for a leader (`hasleader`) is sent away where there is none for long.
        let has_leader =
            self.watchers[number].stream.as_ref().is_none_or(|stream| self.has_leader(stream.slot));
        let is_sent_away = !has_leader && self.watchers[number].rng.per_mille(100);
        let moves_on = !self.faults.is_over && self.watchers[number].rng.per_mille(10);
        if is_sent_away || moves_on {
            self.close_stream(number);
        }
    }

    fn has_leader(&self, slot: Slot) -> bool {
        self.boards[slot.0].process.as_ref().is_some_and(|process| process.observed.leader.is_some())
    }

    fn open_stream(&mut self, number: usize) {
        let running: Vec<Slot> = self.running().into_iter().filter(|slot| self.has_leader(*slot)).collect();
        let keys = self.profile.keys;
        let watcher = &mut self.watchers[number];
        let Some(slot) = watcher.rng.pick(&running).copied() else { return };
        if watcher.range.is_none() {
            let key = watcher.rng.below(keys);
            let one = KeyRange::One(format!("key-{key}").into_bytes());
            watcher.range = Some(if watcher.rng.coin() { one } else { KeyRange::From(vec![0]) });
        }
        let request = WatchRequest {
            id: None,
            range: watcher.range.clone().expect("just set"),
            revision_start: watcher.next,
            prev_kv: false,
            progress_notify: false,
            no_put: false,
            no_delete: false,
            fragment: false,
        };
        self.stream_last += 1;
        let id = StreamId(self.stream_last);
        let board = &self.boards[slot.0];
        let Some(process) = &board.process else { return };
        let (sender, deliveries) = unbounded_channel();
        let commands = [WatchCommand::Create(request), WatchCommand::Progress];
        let inbounds = commands.map(|command| Inbound::Watch { stream: id, command });
        if process.inbox.offer(Inbound::WatchOpen { stream: id, deliveries: sender }).is_err() {
            return;
        }
        for inbound in inbounds {
            let _is_taken: bool = process.inbox.offer(inbound).is_ok();
        }
        let life = board.life;
        watcher.moved += 1;
        self.situations.reach_if(watcher.moved > 1, Situation::WatchMoved);
        watcher.stream = Some(Stream { slot, life, id, deliveries, credit: Vec::new() });
        self.wake_soon(slot);
    }

    fn close_stream(&mut self, number: usize) {
        let Some(stream) = self.watchers[number].stream.take() else { return };
        if let Some(process) = &self.boards[stream.slot.0].process {
            let _is_taken: bool = process.inbox.offer(Inbound::WatchClose(stream.id)).is_ok();
            self.wake_soon(stream.slot);
        }
    }

    fn hear_watcher(&mut self, number: usize) {
        let mut found = Vec::new();
        if let Some(stream) = self.watchers[number].stream.as_mut() {
            while let Ok(delivery) = stream.deliveries.try_recv() {
                found.push(delivery);
            }
        }
        for delivery in found {
            if let Err(words) = self.judge_delivery(number, delivery) {
                return self.fail(format!("watcher {number}: {words}"));
            }
        }
    }

    fn judge_delivery(&mut self, number: usize, delivery: Delivery) -> Result<(), String> {
        let now = self.now;
        let watcher = &mut self.watchers[number];
        match delivery {
            Delivery::Created { .. } => Ok(()),
            Delivery::Events { events, bytes, .. } => {
                let Some(last) = events.last().map(|event| event.revision().0) else { return Ok(()) };
                let expected = expected(&self.ledger.events, watcher, last);
                if !events.iter().eq(expected.iter().copied()) {
                    return Err(format!(
                        "told {} events up to revision {last} from {} on, the history has {}:\n told {:?}\n history \
                         {:?}",
                        events.len(),
                        watcher.next,
                        expected.len(),
                        events.iter().map(brief).collect::<Vec<_>>(),
                        expected.iter().map(|event| brief(event)).collect::<Vec<_>>(),
                    ));
                }
                watcher.next = last + 1;
                watcher.told += 1;
                let slow = if watcher.rng.per_mille(100) { 3_000 } else { 5 };
                let at = now + watcher.rng.below(slow) * MS;
                if let Some(stream) = watcher.stream.as_mut() {
                    stream.credit.push((at, bytes));
                }
                Ok(())
            }
            Delivery::Progress { revision, .. } => {
                if let Some(missed) = expected(&self.ledger.events, watcher, revision.0).first() {
                    return Err(format!(
                        "progress to revision {revision:?}, and it was never told of {}",
                        brief(missed)
                    ));
                }
                watcher.next = watcher.next.max(revision.0 + 1);
                Ok(())
            }
            Delivery::Canceled { reason: CancelReason::Compacted(revision), .. } => {
                if revision.0 <= watcher.next || revision.0 > self.ledger.compacted_max {
                    let asked = watcher.next;
                    return Err(format!("told that {asked} is compacted, by revision {revision:?}"));
                }
                watcher.next = revision.0 + 1;
                self.situations.reach(Situation::WatchCompacted);
                self.close_stream(number);
                Ok(())
            }
            Delivery::Canceled { reason, .. } => Err(format!("canceled: {reason:?}")),
        }
    }

    fn give_credit(&mut self, number: usize) {
        let now = self.now;
        let Some(stream) = self.watchers[number].stream.as_mut() else { return };
        let due: usize = stream.credit.iter().filter(|(at, _)| *at <= now).map(|(_, bytes)| bytes).sum();
        stream.credit.retain(|(at, _)| *at > now);
        let (slot, id) = (stream.slot, stream.id);
        if due > 0
            && let Some(process) = &self.boards[slot.0].process
        {
            let command = WatchCommand::Credit(due);
            let _is_taken: bool = process.inbox.offer(Inbound::Watch { stream: id, command }).is_ok();
            self.wake_soon(slot);
        }
    }

    /// Of every watcher, whether it was told all there is.
    pub(crate) fn watchers_behind(&self) -> Option<String> {
        let last = self.ledger.revision_max;
        self.watchers.iter().enumerate().find_map(|(number, watcher)| {
            let missed = *expected(&self.ledger.events, watcher, last).first()?;
            Some(format!("watcher {number} was never told of {}", brief(missed)))
        })
    }

    pub(crate) fn told_count(&self) -> u64 {
        self.watchers.iter().map(|watcher| watcher.told).sum()
    }
}

/// The changes a watcher is yet to be told, up to that revision.
fn expected<'a>(
    events: &'a std::collections::BTreeMap<i64, Vec<Change>>,
    watcher: &Watcher,
    last: i64,
) -> Vec<&'a Change> {
    let Some(range) = &watcher.range else { return Vec::new() };
    if last < watcher.next {
        return Vec::new();
    }
    let wanted = events.range(watcher.next..=last).flat_map(|(_, events)| events);
    wanted.filter(|event| range.contains(&event.kv.key)).collect()
}

fn brief(change: &Change) -> String {
    let key = String::from_utf8_lossy(&change.kv.key);
    format!("{:?} {key} at {}", change.kind, change.kv.mod_revision)
}
