//! The network between the boards: what the peer room's links do with it, and what the weather does to them.
//!
//! Messages of the core may be lost, doubled, delayed, reordered. What halls say goes over one stream a link: in
//! order, once or never; while the link is cut it waits, and when the link is given up it is lost.

use crate::board::Slot;
use crate::links::Sent;
use crate::queue::{Event, MS, Nanos, SECOND, US};
use crate::world::World;
use quorate_raft::{Body, Envelope, Message};
use quorate_types::{Index, NodeId, Start};
use quorated::forward::Forward;
use quorated::inbox::Inbound;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A link that carries nothing for so long is given up.
const IDLE_MAX: Nanos = 3 * SECOND;

/// Between two looks at the links.
pub(crate) const LINKS_EVERY: Nanos = 200 * MS;

/// A stranger is told again that it is one, at most this often: once a dial.
const REFUSED_EVERY: Nanos = SECOND;

/// Messages of halls that may wait on one link.
const STREAM_COUNT_MAX: usize = 4_096;

/// What the weather is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss_per_mille: u64,
    pub(crate) twice_per_mille: u64,
    pub(crate) delay_min: Nanos,
    pub(crate) delay_spread: Nanos,
    /// So many take ten times as long, and overtake nobody.
    pub(crate) late_per_mille: u64,
}

pub(crate) const FAIR: Weather = Weather {
    loss_per_mille: 0,
    twice_per_mille: 0,
    delay_min: 300 * US,
    delay_spread: 700 * US,
    late_per_mille: 0,
};

/// The links, and what is wrong with them.
pub(crate) struct Net {
    pub(crate) weather: Weather,
    /// Directions in which nothing passes.
    pub(crate) cuts: BTreeSet<(Slot, Slot)>,
    streams: BTreeMap<(Slot, Slot), Stream>,
    refused_at: BTreeMap<(Slot, Slot), Nanos>,
}

/// One link, as its sender sees it.
#[derive(Debug, Default)]
struct Stream {
    is_up: bool,
    /// The process at the other end is another one than this link was made with.
    is_void: bool,
    blocked_since: Option<Nanos>,
    waiting: VecDeque<(Nanos, Forward)>,
    due_last: Nanos,
}

impl Net {
    pub(crate) fn new() -> Net {
        Net { weather: FAIR, cuts: BTreeSet::new(), streams: BTreeMap::new(), refused_at: BTreeMap::new() }
    }

    /// A process is gone: its own links with it, and those to it are void without their senders' knowledge.
    pub(crate) fn process_gone(&mut self, slot: Slot) {
        for ((source, target), stream) in &mut self.streams {
            if *source == slot {
                *stream = Stream::default();
            } else if *target == slot {
                stream.is_void = true;
            }
        }
    }
}

impl World {
    /// How long a message takes.
    pub(crate) fn delay(&mut self) -> Nanos {
        let Weather { delay_min, delay_spread, late_per_mille, .. } = self.net.weather;
        let delay = delay_min + self.rng.below(delay_spread + 1);
        if self.rng.per_mille(late_per_mille) { delay * 10 } else { delay }
    }

    /// Whether a connection between the two would carry anything: it needs both ways, and both ends.
    pub(crate) fn is_passable(&self, source: Slot, target: Slot) -> bool {
        let is_there = |slot: Slot| self.boards[slot.0].is_running();
        !self.net.cuts.contains(&(source, target))
            && !self.net.cuts.contains(&(target, source))
            && is_there(source)
            && is_there(target)
    }

    /// Whether anything is cut at all.
    pub(crate) fn is_partitioned(&self) -> bool {
        !self.net.cuts.is_empty()
    }

    /// Carries what a driver sent in its turn.
    pub(crate) fn carry(&mut self, slot: Slot) {
        let board = &mut self.boards[slot.0];
        let Some(process) = &board.process else { return };
        let (from, life) = (process.identity.node, board.life);
        board.log.image = process.driver.image.newest.map_or(Index(0), |newest| newest.index);
        for sent in process.outbox.take() {
            match sent {
                Sent::Message(envelope) => {
                    self.judge_said(slot, from, &envelope);
                    self.promised(slot, &envelope.message.body);
                    self.carry_message(from, slot, envelope);
                }
                Sent::Forward(to, forward) => self.carry_forward(slot, to, forward),
                // Those who left are no longer known; links follow with the next look at them.
                Sent::Members => {}
                Sent::Image(to) => self.send_image(slot, to),
                Sent::DialBack { ticket, address } => {
                    let at = self.now + 2 * self.delay() + MS;
                    self.queue.push(at, Event::DialBack { slot, life, ticket, address });
                }
            }
        }
    }

    fn carry_message(&mut self, from: NodeId, source: Slot, envelope: Envelope) {
        let Envelope { to, message } = envelope;
        self.sent_count += 1;
        let Some(target) = self.slot_of(to) else { return };
        if self.net.cuts.contains(&(source, target)) || self.rng.per_mille(self.net.weather.loss_per_mille) {
            return;
        }
        if self.rng.per_mille(self.net.weather.twice_per_mille) {
            let at = self.now + 2 * self.delay();
            self.queue.push(at, Event::Message { from, source, to, message: message.clone() });
        }
        let at = self.now + self.delay();
        self.queue.push(at, Event::Message { from, source, to, message });
    }

    pub(crate) fn message(&mut self, from: NodeId, source: Slot, to: NodeId, message: Message) {
        let Some(target) = self.slot_of(to) else { return };
        let board = &self.boards[target.0];
        // What arrives while the process stands still waits in the socket.
        if let Some(until) = board.held_until(self.now) {
            return self.queue.push(until, Event::Message { from, source, to, message });
        }
        let Some(process) = board.process.as_ref().filter(|_| board.is_running()) else { return };
        let is_known = process.outbox.knows(from);
        if self.story.tells_messages {
            let heard = if is_known { "" } else { " (a stranger)" };
            self.tell(format!("{source} to {target}{heard}: {}", brief(&message)));
        }
        let Some(process) = self.boards[target.0].process.as_mut() else { return };
        if !is_known {
            let version = process.outbox.roster_version();
            // An answer to a node that is gone reaches nobody.
            if self.boards[source.0].node == Some(from) {
                self.refuse_stranger(source, target, version);
            }
            return;
        }
        if !self.greet(source, from, target, message.start) {
            return;
        }
        let Some(process) = self.boards[target.0].process.as_mut() else { return };
        let is_heard = process.inbox.hear(Inbound::Peer { from, message });
        process.has_heard |= is_heard;
        if is_heard {
            process.heard.insert(from, self.now);
        }
        self.wake_soon(target);
    }

    /// A link begins with a hello: what comes over it is of that life of the speaker. False if there is no link that
    /// could carry this, for the speaker is gone or a hello does not get through.
    fn greet(&mut self, source: Slot, from: NodeId, target: Slot, start: Start) -> bool {
        let is_open = self.is_passable(source, target);
        let speaker = self.boards[source.0].process.as_ref().filter(|speaker| speaker.start == start);
        let earlier = speaker.map(|speaker| speaker.earlier.clone());
        let Some(hearer) = self.boards[target.0].process.as_mut() else { return false };
        if hearer.greeted.get(&from) == Some(&start) {
            return true;
        }
        let Some(earlier) = earlier.filter(|_| is_open) else { return false };
        hearer.greeted.insert(from, start);
        hearer.tell(Inbound::Greeted { peer: from, start, earlier });
        true
    }

    /// Both ends of a new link say hello.
    fn greet_both(&mut self, source: Slot, target: Slot) {
        for (speaker, hearer) in [(source, target), (target, source)] {
            let Some(process) = &self.boards[speaker.0].process else { return };
            let (from, start) = (process.identity.node, process.start);
            self.greet(speaker, from, hearer, start);
            self.wake_soon(hearer);
        }
    }

    /// The member does not know who speaks, and says so.
    fn refuse_stranger(&mut self, stranger: Slot, member: Slot, version: u64) {
        let told = self.net.refused_at.get(&(stranger, member)).copied().unwrap_or(0);
        if self.is_passable(member, stranger) && (told == 0 || self.now > told + REFUSED_EVERY) {
            self.net.refused_at.insert((stranger, member), self.now);
            let life = self.boards[stranger.0].life;
            let at = self.now + self.delay();
            self.queue.push(at, Event::Refused { slot: stranger, life, version });
        }
    }

    fn carry_forward(&mut self, source: Slot, to: NodeId, forward: Forward) {
        let Some(target) = self.slot_of(to) else { return };
        let delay = self.delay();
        let stream = self.net.streams.entry((source, target)).or_default();
        if !stream.is_up || stream.is_void || stream.waiting.len() >= STREAM_COUNT_MAX {
            return;
        }
        stream.due_last = stream.due_last.max(self.now + delay);
        stream.waiting.push_back((stream.due_last, forward));
        self.queue.push(stream.due_last, Event::Stream { source, target });
    }

    /// Hands over what has arrived on a link, in order.
    pub(crate) fn stream(&mut self, source: Slot, target: Slot) {
        if !self.is_passable(source, target) {
            // Sent again when the link carries again, or lost with it.
            return;
        }
        if let Some(until) = self.boards[target.0].held_until(self.now) {
            return self.queue.push(until, Event::Stream { source, target });
        }
        let (Some(sender), Some(receiver)) = (&self.boards[source.0].process, &self.boards[target.0].process)
        else {
            return;
        };
        let (from, knows) = (sender.identity.node, receiver.outbox.knows(sender.identity.node));
        let Some(stream) = self.net.streams.get_mut(&(source, target)) else { return };
        if stream.is_void || !knows {
            return;
        }
        let mut is_heard = false;
        while let Some((_, forward)) = stream.waiting.pop_front_if(|(due, _)| *due <= self.now) {
            if self.story.tells_messages {
                self.story.tell(self.now, &format!("{source} to {target}: {forward:?}"));
            }
            is_heard |= receiver.inbox.hear(Inbound::Forward { from, forward });
        }
        if is_heard {
            self.wake_soon(target);
        }
    }

    /// Looks after every link: up again where it can be, given up where nothing passed for long.
    pub(crate) fn look_after_links(&mut self) {
        let slots: Vec<Slot> = (0..self.boards.len()).map(Slot).collect();
        for source in &slots {
            for target in slots.iter().filter(|target| *target != source) {
                self.look_after_link(*source, *target);
            }
        }
        self.queue.push(self.now + LINKS_EVERY, Event::Links);
    }

    fn look_after_link(&mut self, source: Slot, target: Slot) {
        let is_open =
            self.is_passable(source, target) && self.boards[source.0].held_until(self.now).is_none();
        let (board, peer) = (&self.boards[source.0], &self.boards[target.0]);
        let (Some(process), Some(node)) = (&board.process, peer.node) else { return };
        let is_wanted = process.outbox.knows(node);
        let is_known = peer.process.as_ref().is_some_and(|other| other.outbox.knows(process.identity.node));
        let stream = self.net.streams.entry((source, target)).or_default();
        let carries = is_open && !stream.is_void && is_known;
        if stream.is_up && is_wanted {
            if carries {
                if stream.blocked_since.take().is_some() {
                    self.queue.push(self.now, Event::Stream { source, target });
                }
                return;
            }
            let since = *stream.blocked_since.get_or_insert(self.now);
            if self.now - since < IDLE_MAX {
                return;
            }
        }
        let was_up = stream.is_up;
        *stream = Stream { is_up: is_open && is_known && is_wanted, ..Stream::default() };
        let is_up = stream.is_up;
        if is_up != was_up && self.story.tells_messages {
            self.story.tell(self.now, &format!("the link from {source} to {target} is up: {is_up}"));
        }
        if is_up || was_up {
            process.outbox.set_up(node, is_up);
            process.tell(Inbound::Reachable { peer: node, is_up });
        }
        if is_open && is_wanted && !is_known {
            let version = peer.process.as_ref().map_or(0, |other| other.outbox.roster_version());
            self.refuse_stranger(source, target, version);
        }
        if is_up {
            self.greet_both(source, target);
        }
        if is_up || was_up {
            self.wake_soon(source);
        }
    }
}

/// A message in a line.
fn brief(message: &Message) -> String {
    let body = if let Body::AppendEntries(append) = &message.body {
        let count = append.entries.len();
        format!("append after {} {count} entries, committed {}", append.previous, append.committed)
    } else {
        format!("{:?}", message.body)
    };
    format!("start {} term {} {body}", message.start.count, message.term)
}
