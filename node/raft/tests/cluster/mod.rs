//! A cluster in one thread: cores, their cards, a network, and somebody who watches all of it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the harness")]

pub mod checker;
pub mod dice;
pub mod disk;
pub mod random;
pub mod slow;
pub mod story;
pub mod text;

use checker::Checker;
use disk::{Disk, Image};
use quorate_raft::{Config, Envelope, ImageWanted, Message, Raft, ReadId, Ready};
use quorate_types::{Entry, Index, Member, Membership, NodeId, PeerKey, Position, Start};
use std::collections::{BTreeMap, BTreeSet};

/// One node: its core while it runs, and its card.
#[derive(Debug)]
pub struct Node {
    pub raft: Option<Raft>,
    pub disk: Disk,
    pub starts: u64,
    /// How often a copy took the card's place.
    pub copies: u64,
    pub digest: u64,
    pub applied: Position,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Flight {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
    pub at: u64,
}

#[derive(Debug, Default)]
pub struct Cluster {
    pub nodes: BTreeMap<NodeId, Node>,
    pub net: Vec<Flight>,
    pub images: Vec<(NodeId, ImageWanted)>,
    /// Spans and images take a while; otherwise they come and go at once.
    pub slow: Option<slow::Slow>,
    pub checker: Checker,
    pub seed: u64,
    pub now: u64,
    pub links: Links,
    /// Spans read back from a card.
    pub fetched: u64,
    #[cfg(feature = "mutants")]
    pub mutant: Option<quorate_raft::Mutant>,
}

/// What links tell before messages: the life at the other end, and those before it.
#[derive(Debug, Default)]
pub struct Links {
    /// The starts before each incarnation of a node.
    lives: BTreeMap<(NodeId, u64), Vec<Start>>,
    /// Which incarnation knows which.
    told: BTreeSet<(NodeId, u64, NodeId, u64)>,
}

impl Cluster {
    /// `voters` of which every card knows the membership, not started yet.
    pub fn new(seed: u64, voters: &[u64]) -> Cluster {
        let membership = membership(voters, &[]);
        let mut cluster = Cluster { seed, ..Cluster::default() };
        for id in voters {
            cluster.insert(NodeId(*id), membership.clone());
        }
        cluster
    }

    /// A node with an empty card that knows this membership.
    pub fn insert(&mut self, id: NodeId, membership: Membership) {
        let disk = Disk { membership, ..Disk::default() };
        let node = Node { raft: None, disk, starts: 0, copies: 0, digest: 0, applied: Position::default() };
        assert!(self.nodes.insert(id, node).is_none(), "ids are used once");
    }

    /// Starts a node from its card.
    pub fn start(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        assert!(node.raft.is_none(), "it runs already");
        node.starts += 1;
        let incarnation = self.seed.wrapping_mul(31) ^ (node.copies << 48) ^ (id.0 << 32) ^ node.starts;
        let start = Start { count: node.starts, incarnation };
        let restored = node.disk.recover();
        self.links.lives.insert((id, incarnation), restored.earlier.clone());
        node.disk.starts.push(start);
        let image = node.disk.image.as_ref();
        node.digest = image.map_or(0, |image| image.digest);
        node.applied = image.map_or_else(Position::default, |image| image.position);
        // Recovery makes what it found durable before it counts.
        node.disk.base = restored.base;
        node.disk.entries.clone_from(&restored.entries);
        node.disk.hard_state = restored.hard_state;
        let raft = Raft::restore(Config { node: id, start, seed: self.seed ^ id.0 }, restored);
        #[cfg(feature = "mutants")]
        let raft = {
            let mut raft = raft;
            if let Some(mutant) = self.mutant {
                raft.mutate(mutant);
            }
            raft
        };
        node.raft = Some(raft);
    }

    /// Power goes; of what was on its way to the card `kept` appends made it.
    pub fn crash(&mut self, id: NodeId, kept: usize) {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        let raft = node.raft.take().expect("it runs");
        node.disk.seen = raft.seen().clone();
        node.disk.cut_power(kept);
        self.checker.stopped(id);
        self.images.retain(|(from, _)| *from != id);
    }

    pub fn raft(&self, id: NodeId) -> Option<&Raft> {
        self.nodes.get(&id)?.raft.as_ref()
    }

    /// Gives an input to a running node; what the node then does is not taken yet.
    pub fn input<R>(&mut self, id: NodeId, input: impl FnOnce(&mut Raft) -> R) -> Option<R> {
        let raft = self.nodes.get_mut(&id)?.raft.as_mut()?;
        let before = (raft.membership().clone(), raft.committed());
        let answer = input(raft);
        self.observe(id, Some(before));
        Some(answer)
    }

    pub fn read(&mut self, id: NodeId, read: u64) {
        if self.raft(id).is_some() {
            self.checker.read_asked(id, ReadId(read));
            self.input(id, |raft| raft.request_read(ReadId(read)));
        }
    }

    /// Takes one Ready and does what can be done at once; messages go to `net`, appends wait on the card.
    pub fn take(&mut self, id: NodeId) -> Option<Ready> {
        let node = self.nodes.get_mut(&id)?;
        let ready = node.raft.as_mut()?.take_ready();
        for envelope in &ready.messages {
            self.checker.sends(id, envelope, &node.disk);
            let Envelope { to, message } = envelope.clone();
            self.net.push(Flight { from: id, to, message, at: self.now });
        }
        node.disk.pending.extend(ready.append.clone());
        for entry in &ready.committed {
            assert_eq!(entry.position.index, node.applied.index.next(), "applied in order, each once");
            self.checker.applies(id, entry);
            node.applied = entry.position;
            node.digest = digest(node.digest, entry);
        }
        for read in &ready.reads {
            self.checker.read_done(id, read.id, read.outcome.ok());
        }
        for fetch in &ready.fetches {
            let found = node.disk.read(fetch.after, fetch.last);
            if let Some(slow) = &mut self.slow {
                slow.begin_fetch((id, node.starts), *fetch, found);
                continue;
            }
            let raft = node.raft.as_mut().expect("it runs");
            match found {
                Some((after, entries)) => {
                    self.fetched += 1;
                    raft.fetched(fetch.to, after, entries);
                }
                None => raft.fetch_failed(fetch.to, fetch.after),
            }
        }
        self.images.extend(ready.images.iter().map(|wanted| (id, *wanted)));
        self.observe(id, None);
        Some(ready)
    }

    /// Takes everything a node has to give.
    pub fn drain(&mut self, id: NodeId) {
        while self.raft(id).is_some_and(Raft::has_ready) {
            self.take(id);
        }
    }

    /// The card of a node has its oldest append.
    pub fn sync(&mut self, id: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.raft.is_some()) else { return false };
        let Some(number) = node.disk.sync_one() else { return false };
        self.input(id, |raft| raft.ack_append(number));
        true
    }

    /// A message arrives, if its receiver runs.
    pub fn deliver(&mut self, flight: Flight) {
        self.greet(flight.to, flight.from, flight.message.start);
        self.input(flight.to, |raft| raft.step(flight.from, flight.message));
    }

    /// The link over which a message comes tells first who lives at its other end, if it is a new one.
    fn greet(&mut self, to: NodeId, from: NodeId, start: Start) {
        let Some(node) = self.nodes.get(&to).filter(|node| node.raft.is_some()) else { return };
        let own = node.disk.starts.last().map_or(0, |own| own.incarnation);
        if self.links.told.insert((to, own, from, start.incarnation)) {
            let earlier = self.links.lives.get(&(from, start.incarnation)).cloned().unwrap_or_default();
            self.input(to, |raft| raft.heard_start(from, start, &earlier));
        }
    }

    /// A node keeps an image of what it applied, and forgets the log below it.
    pub fn make_image(&mut self, id: NodeId) -> Option<Image> {
        let node = self.nodes.get_mut(&id)?;
        let raft = node.raft.as_ref()?;
        if node.applied.index == Index(0) {
            return None;
        }
        let membership = raft.membership_committed().clone();
        let image = Image { position: node.applied, membership, digest: node.digest };
        node.disk.keep_image(image.clone());
        Some(image)
    }

    /// An image goes to a peer, all at once; whether it arrived.
    pub fn send_image(&mut self, from: NodeId, wanted: ImageWanted, arrives: bool) {
        let kept =
            self.nodes[&from].disk.image.clone().filter(|image| image.position.index >= wanted.at_least);
        let image =
            kept.or_else(|| self.make_image(from)).filter(|_| arrives && self.raft(wanted.to).is_some());
        let Some(image) = image else {
            self.input(from, |raft| raft.image_failed(wanted.to));
            return;
        };
        let receiver = self.nodes.get_mut(&wanted.to).expect("it runs");
        let raft = receiver.raft.as_mut().expect("it runs");
        if raft.install_image(image.position, image.membership.clone()) {
            receiver.disk.keep_image(image.clone());
            receiver.digest = image.digest;
            receiver.applied = image.position;
        }
        self.observe(wanted.to, None);
        self.input(from, |raft| raft.image_sent(wanted.to, image.position));
    }

    /// Who leads in the newest term, if somebody does.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |raft: &&Raft| raft.role() == quorate_raft::Role::Leader;
        let running = self.nodes.values().filter_map(|node| node.raft.as_ref());
        running.filter(leads).max_by_key(|raft| raft.term()).map(Raft::node)
    }

    /// `before` the input that membership decided on what it committed, and so much was committed.
    fn observe(&mut self, id: NodeId, before: Option<(Membership, Index)>) {
        let Cluster { nodes, checker, .. } = self;
        if let Some(raft) = nodes.get(&id).and_then(|node| node.raft.as_ref()) {
            checker.observe(raft, before, |id| nodes.get(&id).map(|node| &node.disk));
        }
    }
}

/// A digest of everything applied so far; of long payloads only the beginning, which no two share.
fn digest(before: u64, entry: &Entry) -> u64 {
    entry.payload.iter().take(16).fold(before.wrapping_mul(31) ^ entry.position.index.0, |digest, byte| {
        digest.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    })
}

pub fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        peer_addresses: Vec::new(),
        client_urls: Vec::new(),
        key: PeerKey::default(),
        stays_learner: false,
    }
}

/// A first membership.
pub fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
    let mut members: Vec<Member> = voters.iter().chain(learners).map(|id| member(*id)).collect();
    members.sort_by_key(|member| member.id);
    Membership {
        members,
        voters: ids(voters),
        voters_outgoing: Vec::new(),
        learners: ids(learners),
        version: 1,
    }
}

/// The same with one more learner.
pub fn with_learner(membership: &Membership, id: u64) -> Membership {
    let mut next = membership.clone();
    next.members.push(member(id));
    next.members.sort_by_key(|member| member.id);
    next.learners.push(NodeId(id));
    next.learners.sort_unstable();
    next
}
