//! The world of one seed: boards, network, clients, faults, checkers, and the loop that moves time.

use crate::board::{Board, BoardClock, Slot};
use crate::card::Card;
use crate::client::Client;
use crate::faults::Faults;
use crate::leases::Leases;
use crate::ledger::Ledger;
use crate::net::{LINKS_EVERY, Net};
use crate::operator::Operator;
use crate::profile::Profile;
use crate::promises::Said;
use crate::queue::{Event, Life, MS, Nanos, Queue, US};
use crate::rng::{Rng, mix};
use crate::situation::Situations;
use crate::story::Story;
use crate::transfer::Transfer;
use crate::watchers::Watcher;
use quorate_tests::linear;
use quorate_types::{ClusterId, NodeId, PeerKey};
use quorated::inbox::Inbound;
use quorated::wal_worker::Appended;
use std::collections::BTreeMap;

/// Everything.
pub(crate) struct World {
    pub(crate) now: Nanos,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) cluster: ClusterId,
    pub(crate) boards: Vec<Board>,
    /// Which board each node lives on, the gone ones too.
    pub(crate) homes: BTreeMap<NodeId, Slot>,
    pub(crate) net: Net,
    pub(crate) transfers: BTreeMap<u64, Transfer>,
    pub(crate) transfer_last: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) leases: Leases,
    pub(crate) operator: Operator,
    pub(crate) faults: Faults,
    pub(crate) history: Vec<linear::Operation>,
    pub(crate) value_last: u64,
    pub(crate) stream_last: u64,
    pub(crate) ledger: Ledger,
    pub(crate) said: Said,
    pub(crate) situations: Situations,
    pub(crate) story: Story,
    /// The first thing a checker says ends the seed.
    pub(crate) broken: Option<String>,
    /// Folds in every event: two runs of one seed have the same.
    pub(crate) trace: u64,
    pub(crate) turn_count: u64,
    pub(crate) sent_count: u64,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<quorate_raft::Mutant>,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let profile = Profile::of(&mut rng);
        World::of(profile, rng)
    }

    /// A world in which nothing breaks by itself.
    #[cfg(test)]
    pub(crate) fn calm(seed: u64, boards: usize) -> World {
        World::of(Profile::calm(boards), Rng::new(seed))
    }

    fn of(profile: Profile, mut rng: Rng) -> World {
        let boards = (0..profile.boards).map(|slot| {
            let card = Card::new(profile.models[slot], rng.fork());
            let rate = 1_000_000 - profile.drift_ppm + rng.below(2 * profile.drift_ppm + 1);
            let clock = BoardClock::new(rng.below(1_000) * MS, rate);
            Board::blank(card, new_key(&mut rng), clock)
        });
        let boards: Vec<Board> = boards.collect();
        let clients = (0..profile.clients).map(|_| Client::new(rng.fork())).collect();
        let watchers = (0..profile.watchers).map(|_| Watcher::new(rng.fork())).collect();
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            cluster: ClusterId(rng.next().max(1)),
            leases: Leases::new(profile.lease_clients, &mut rng),
            operator: Operator::new(rng.fork()),
            faults: Faults::new(rng.fork()),
            rng: rng.fork(),
            profile,
            boards,
            homes: BTreeMap::new(),
            net: Net::new(),
            transfers: BTreeMap::new(),
            transfer_last: 0,
            clients,
            watchers,
            history: Vec::new(),
            value_last: 0,
            stream_last: 0,
            ledger: Ledger::default(),
            said: Said::default(),
            situations: Situations::default(),
            story: Story::default(),
            broken: None,
            trace: 0,
            turn_count: 0,
            sent_count: 0,
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        world.queue.push(LINKS_EVERY, Event::Links);
        world
    }

    /// Says a line of the story.
    pub(crate) fn tell(&mut self, line: impl AsRef<str>) {
        self.story.tell(self.now, line.as_ref());
    }

    /// A checker has found something: the first finding counts.
    pub(crate) fn fail(&mut self, words: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(words.into());
        }
    }

    /// Lets time pass until then, or until something is found.
    pub(crate) fn run_until(&mut self, end: Nanos) {
        while self.broken.is_none() && self.step(end) {}
        if self.broken.is_none() {
            self.now = end;
        }
    }

    /// The next event, if it comes before `end`.
    fn step(&mut self, end: Nanos) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        if at > end {
            self.queue.push(at, event);
            return false;
        }
        assert!(at >= self.now, "time does not go back");
        self.now = at;
        self.trace = mix(self.trace ^ at);
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(slot, life) => self.wake(slot, life),
            Event::WalDone(slot, life) => self.wal_done(slot, life),
            Event::Background(slot, life) => self.background(slot, life),
            Event::Fetched(slot, life) => self.fetched(slot, life),
            Event::Message { from, source, to, message } => self.message(from, source, to, message),
            Event::Stream { source, target } => self.stream(source, target),
            Event::Refused { slot, life, version } => {
                self.tell_life(slot, life, Inbound::NotMember(version));
            }
            Event::DialBack { slot, life, ticket, address } => self.dial_back(slot, life, ticket, &address),
            Event::Transfer(number) => self.transfer(number),
            Event::Start(slot) => self.start(slot),
            Event::Started(slot, life) => self.started(slot, life),
            Event::Links => self.look_after_links(),
            Event::Client(number) => self.client(number),
            Event::Lease(number) => self.lease(number),
            Event::Watcher(number) => self.watcher(number),
            Event::Operator => self.operate(),
            Event::Fault => self.fault(),
            Event::Heal(cure) => self.heal(cure),
        }
    }

    /// Something of the node's own reaches the driver of that life.
    pub(crate) fn tell_life(&mut self, slot: Slot, life: Life, inbound: Inbound) {
        let board = &self.boards[slot.0];
        if board.life == life
            && let Some(process) = &board.process
        {
            process.tell(inbound);
            self.wake_soon(slot);
        }
    }

    /// Something arrived: the driver's thread wakes up.
    pub(crate) fn wake_soon(&mut self, slot: Slot) {
        let latency = 5 * US + self.rng.below(60) * US;
        self.wake_at(slot, self.now + latency);
    }

    pub(crate) fn wake_at(&mut self, slot: Slot, at: Nanos) {
        let board = &mut self.boards[slot.0];
        if let Some(process) = board.process.as_mut()
            && at < process.wake_at
        {
            process.wake_at = at;
            self.queue.push(at, Event::Wake(slot, board.life));
        }
    }

    fn wake(&mut self, slot: Slot, life: Life) {
        let now = self.now;
        let board = &mut self.boards[slot.0];
        let Some(process) = board.process.as_mut() else { return };
        if board.life != life || process.wake_at != now {
            return;
        }
        process.wake_at = Nanos::MAX;
        if board.state != crate::board::State::Running {
            return;
        }
        if let Some(until) = board.held_until(now) {
            return self.wake_at(slot, until);
        }
        self.turn(slot);
    }

    /// One turn of a driver, and what follows from it.
    fn turn(&mut self, slot: Slot) {
        self.turn_count += 1;
        let now = self.now;
        let board = &mut self.boards[slot.0];
        board.clock.read(now);
        let Some(process) = board.process.as_mut() else { return };
        let mut arrived = Vec::new();
        process.arrivals.take(&mut arrived, core::time::Duration::ZERO);
        for inbound in &arrived {
            if let Inbound::Appended(Appended { number: Some(number), .. }) = inbound {
                board.log.told(*number);
            }
        }
        let is_busy = process.driver.turn(arrived.into_iter());
        let rest = process.driver.rest();
        self.after_turn(slot);
        if self.boards[slot.0].process.is_none() {
            return;
        }
        let rest = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
        let wait = if is_busy { 20 * US } else { self.boards[slot.0].clock.true_time(rest).max(20 * US) };
        self.wake_at(slot, now + wait);
    }

    pub(crate) fn after_turn(&mut self, slot: Slot) {
        self.carry(slot);
        self.pump_wal(slot);
        self.pump_jobs(slot);
        self.pump_fetches(slot);
        self.observe(slot);
        self.poll_clients(slot);
        self.end_if_ended(slot);
    }

    /// The board a node lives on, if that is still its card.
    pub(crate) fn slot_of(&self, node: NodeId) -> Option<Slot> {
        self.homes.get(&node).copied().filter(|slot| self.boards[slot.0].node == Some(node))
    }

    /// Boards whose nodes are at work.
    pub(crate) fn running(&self) -> Vec<Slot> {
        (0..self.boards.len()).map(Slot).filter(|slot| self.boards[slot.0].is_running()).collect()
    }

    /// Who leads in the newest term, as far as a running node says of itself.
    pub(crate) fn leader(&self) -> Option<Slot> {
        let leads = |slot: &Slot| {
            let process = self.boards[slot.0].process.as_ref()?;
            process.observed.leads.then_some((process.observed.term, *slot))
        };
        self.running().iter().filter_map(leads).max().map(|(_, slot)| slot)
    }
}

pub(crate) fn new_key(rng: &mut Rng) -> PeerKey {
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        part.copy_from_slice(&rng.next().to_le_bytes());
    }
    PeerKey(key)
}
