//! A story: commands to a cluster, one a line, and what everybody does then.

use super::{Cluster, Flight, membership, text, with_learner};
use quorate_raft::Ready;
use quorate_types::{Membership, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// The cluster, what the network and the cards do by themselves, and what was said since the last command.
#[derive(Debug, Default)]
pub struct Story {
    cluster: Cluster,
    out: String,
    stalled: BTreeSet<NodeId>,
    cut: BTreeSet<NodeId>,
    roles: BTreeMap<NodeId, String>,
    back_ups: BTreeMap<NodeId, (super::disk::Disk, u64)>,
}

type Words<'a> = std::str::SplitWhitespace<'a>;

impl Story {
    /// Does one command and answers with all that happened.
    pub fn command(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let command = words.next().expect("a command");
        match command {
            "cluster" => self.found(words),
            "tick" => self.tick(words),
            "idle" => self.idle(words),
            "campaign" => self.campaign(number(&mut words)),
            "settle" => self.settle(words),
            "deliver" => self.deliver(words),
            "sync" => {
                let id = number(&mut words);
                self.sync(id);
            }
            "lose" => self.lose(words),
            "cut" => self.cut.extend(words.map(id)),
            "heal" => self.cut.clear(),
            "stall" => self.stalled.extend(words.map(id)),
            "card" => {
                let at = number(&mut words);
                let ms = words.next().map(|ms| ms.parse().expect("milliseconds"));
                self.cluster.input(at, |raft| raft.card_takes(ms));
            }
            "unstall" => self.stalled.clear(),
            "crash" => {
                let id = number(&mut words);
                self.cluster.crash(id, words.next().map_or(0, |kept| kept.parse().expect("a number")));
                self.roles.remove(&id);
            }
            "start" => {
                let id = number(&mut words);
                self.cluster.start(id);
                self.look(id);
            }
            "image" => {
                let id = number(&mut words);
                self.cluster.make_image(id);
                self.cluster.nodes.get_mut(&id).expect("a node").disk.trim();
            }
            "send-images" => self.send_images(),
            "back-up" => {
                let id = number(&mut words);
                let node = &self.cluster.nodes[&id];
                self.back_ups.insert(id, (node.disk.clone(), node.starts));
            }
            "put-back" => {
                let id = number(&mut words);
                let (disk, starts) = self.back_ups[&id].clone();
                let node = self.cluster.nodes.get_mut(&id).expect("a node");
                (node.disk, node.starts) = (disk, starts);
                node.copies += 1;
            }
            "status" => self.status(),
            _ => self.ask(command, words),
        }
        if self.out.is_empty() {
            self.out.push_str("ok\n");
        }
        std::mem::take(&mut self.out)
    }

    /// What a client or an operator asks of a node.
    fn ask(&mut self, command: &str, mut words: Words<'_>) {
        let at = number(&mut words);
        let answer = match command {
            "propose" => {
                let payload = words.next().expect("a word to propose").as_bytes();
                self.cluster.input(at, |raft| {
                    raft.propose(Arc::from(payload)).map_err(|refused| refused.to_string()).err()
                })
            }
            "read" => {
                let read = words.next().expect("a read's number").parse().expect("a number");
                self.cluster.read(at, read);
                None
            }
            "transfer" => {
                let to = number(&mut words);
                self.cluster.input(at, |raft| raft.transfer(to).map_err(|refused| refused.to_string()).err())
            }
            "add" => {
                let new = number(&mut words);
                let known = self.cluster.raft(at).expect("it runs").membership_committed().clone();
                self.cluster.insert(new, known);
                self.cluster.start(new);
                self.change(at, |raft| Ok(with_learner(raft.membership(), new.0)))
            }
            "remove" => {
                let gone = number(&mut words);
                self.change(at, |raft| raft.removal(gone).map_err(|refused| refused.to_string()))
            }
            "promote" => {
                let new = number(&mut words);
                self.change(at, |raft| raft.promotion(new).map_err(|refused| refused.to_string()))
            }
            "voters" => {
                let voters: Vec<NodeId> = words.map(id).collect();
                self.change(at, |raft| Ok(joint(raft.membership(), voters)))
            }
            _ => panic!("no such command: {command}"),
        };
        if let Some(Some(refused)) = answer.or(Some(None)) {
            writeln!(self.out, "refused: {refused}").expect("memory is left");
        }
        self.look(at);
    }

    fn change(
        &mut self,
        at: NodeId,
        next: impl FnOnce(&quorate_raft::Raft) -> Result<Membership, String>,
    ) -> Option<Option<String>> {
        self.cluster.input(at, |raft| match next(raft) {
            Ok(next) => raft.propose_membership(next).err().map(|refused| refused.to_string()),
            Err(refused) => Some(refused),
        })
    }

    /// Voters, each an id; a count after `learners` says who learns. Everybody has been up for a while.
    fn found(&mut self, words: Words<'_>) {
        let ids: Vec<u64> = words.map(|word| word.parse().expect("an id")).collect();
        self.cluster = Cluster::new(7, &ids);
        for id in ids {
            self.cluster.start(NodeId(id));
            self.cluster.input(NodeId(id), |raft| raft.tick(60));
            self.look(NodeId(id));
        }
    }

    /// `tick 1 2 : 50` lets time pass for some, `tick 50` for all.
    fn tick(&mut self, words: Words<'_>) {
        let words: Vec<&str> = words.collect();
        let count = words.last().expect("a count").parse().expect("a count");
        let named: Vec<NodeId> =
            words.split(|word| *word == ":").next().into_iter().flatten().map(|word| id(word)).collect();
        let all: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        let ids = if words.contains(&":") { named } else { all };
        for id in ids {
            self.cluster.input(id, |raft| raft.tick(count));
            self.look(id);
        }
    }

    /// `idle 8` lets so many times 40 ticks pass for everybody, `idle 1 3 2` two times for nodes 1 and 3; what is
    /// said meanwhile arrives, and is told only if it is more than heartbeats.
    fn idle(&mut self, words: Words<'_>) {
        let mut words: Vec<&str> = words.collect();
        let count: u32 = words.pop().expect("a count").parse().expect("a number");
        for _ in 0..count * 4 {
            let before = std::mem::take(&mut self.out);
            let tick = if words.is_empty() { "10".to_owned() } else { format!("{} : 10", words.join(" ")) };
            self.tick(tick.split_whitespace());
            self.settle(words.join(" ").split_whitespace());
            let told: Vec<&str> = self
                .out
                .lines()
                .filter(|line| !line.contains(" heartbeat ") && !line.contains(" heard "))
                .collect();
            self.out = told.iter().fold(before, |out, line| out + line + "\n");
        }
    }

    /// Time passes for that node alone until it stands for election.
    fn campaign(&mut self, id: NodeId) {
        for _ in 0..100 {
            self.cluster.input(id, |raft| raft.tick(1));
            if self.cluster.raft(id).expect("it runs").role() != quorate_raft::Role::Follower {
                break;
            }
        }
        self.look(id);
    }

    /// Messages arrive and cards sync until nothing moves; among the named nodes, or all.
    fn settle(&mut self, words: Words<'_>) {
        let named: BTreeSet<NodeId> = words.map(id).collect();
        let takes_part = |id: &NodeId| named.is_empty() || named.contains(id);
        for _ in 0..100 {
            let cut = self.cut.clone();
            let arrives = |flight: &Flight| {
                takes_part(&flight.from)
                    && takes_part(&flight.to)
                    && !cut.contains(&flight.from)
                    && !cut.contains(&flight.to)
            };
            let (due, later): (Vec<Flight>, Vec<Flight>) =
                std::mem::take(&mut self.cluster.net).into_iter().partition(arrives);
            self.cluster.net = later;
            let mut moves = !due.is_empty();
            for flight in due {
                let to = flight.to;
                self.cluster.deliver(flight);
                self.look(to);
            }
            for id in self.cluster.nodes.keys().copied().collect::<Vec<_>>() {
                while takes_part(&id) && !self.stalled.contains(&id) && self.sync(id) {
                    moves = true;
                }
            }
            if !moves {
                return;
            }
        }
        panic!("it never ends");
    }

    /// `deliver 2` lets everything sent to a node arrive, `deliver 2 1` what that one sent.
    fn deliver(&mut self, mut words: Words<'_>) {
        let to = number(&mut words);
        let from = words.next().map(id);
        let arrives = |flight: &Flight| flight.to == to && from.is_none_or(|from| flight.from == from);
        let (due, later) = std::mem::take(&mut self.cluster.net).into_iter().partition(arrives);
        self.cluster.net = later;
        let due: Vec<Flight> = due;
        for flight in due {
            self.cluster.deliver(flight);
            self.look(to);
        }
    }

    /// Messages under way are lost: all, or those to the named nodes.
    fn lose(&mut self, words: Words<'_>) {
        let named: BTreeSet<NodeId> = words.map(id).collect();
        self.cluster.net.retain(|flight| !named.is_empty() && !named.contains(&flight.to));
    }

    fn sync(&mut self, id: NodeId) -> bool {
        let number = self.cluster.nodes[&id].disk.pending.front().map(|append| append.number.0);
        let is_synced = self.cluster.sync(id);
        if let Some(number) = number.filter(|_| is_synced) {
            writeln!(self.out, "{id} card has #{number}").expect("memory is left");
            self.look(id);
        }
        is_synced
    }

    fn send_images(&mut self) {
        for (from, wanted) in std::mem::take(&mut self.cluster.images) {
            self.cluster.send_image(from, wanted, true);
            let image = self.cluster.nodes[&from].disk.image.as_ref().expect("it was sent");
            let line = format!("{from} sends {} the image of {}", wanted.to, text::position(image.position));
            writeln!(self.out, "{line}").expect("memory is left");
            self.look(wanted.to);
            self.look(from);
        }
    }

    fn status(&mut self) {
        for (id, node) in &self.cluster.nodes {
            let Some(raft) = &node.raft else {
                writeln!(self.out, "{id} is down").expect("memory is left");
                continue;
            };
            let (last, members) = (text::position(raft.last()), text::membership(raft.membership()));
            let positions = format!(
                "committed {} applied {} persisted {} last {last}",
                raft.committed(),
                raft.applied(),
                raft.persisted()
            );
            let fate = match (raft.stale(), raft.is_removed()) {
                (Some(seen), _) => format!(", stale: start {} was seen", seen.count),
                (None, true) => ", removed".to_owned(),
                (None, false) => String::new(),
            };
            writeln!(self.out, "{id} {}, {positions}, {members}{fate}", text::role(raft))
                .expect("memory is left");
        }
    }

    /// Takes all that a node has to give and tells it.
    fn look(&mut self, id: NodeId) {
        while self.cluster.raft(id).is_some_and(quorate_raft::Raft::has_ready) {
            let role = self.cluster.raft(id).map(text::role).expect("it runs");
            if self.roles.insert(id, role.clone()).as_ref() != Some(&role) {
                writeln!(self.out, "{id} {role}").expect("memory is left");
            }
            if let Some(ready) = self.cluster.take(id) {
                self.tell(id, &ready);
            }
        }
    }

    fn tell(&mut self, id: NodeId, ready: &Ready) {
        let out = &mut self.out;
        for envelope in &ready.messages {
            writeln!(out, "{id}>{} {}", envelope.to, text::message(&envelope.message))
                .expect("memory is left");
        }
        if let Some(append) = &ready.append {
            writeln!(out, "{id} card gets {}", text::append(append)).expect("memory is left");
        }
        if !ready.committed.is_empty() {
            writeln!(out, "{id} applies {}", text::entries(&ready.committed)).expect("memory is left");
        }
        for read in &ready.reads {
            match read.outcome {
                Ok(index) => writeln!(out, "{id} read {} at {index}", read.id.0).expect("memory is left"),
                Err(refused) => {
                    writeln!(out, "{id} read {} refused: {refused:?}", read.id.0).expect("memory is left")
                }
            }
        }
        for fetch in &ready.fetches {
            writeln!(out, "{id} fetches ({}, {}] for {}", fetch.after, fetch.last, fetch.to)
                .expect("memory is left");
        }
        for image in &ready.images {
            writeln!(out, "{id} wants an image for {}", image.to).expect("memory is left");
        }
    }
}

fn id(word: &str) -> NodeId {
    NodeId(word.parse().expect("an id"))
}

fn number(words: &mut Words<'_>) -> NodeId {
    id(words.next().expect("an id"))
}

/// The joint membership towards these voters; who is new joins with it.
fn joint(current: &Membership, voters: Vec<NodeId>) -> Membership {
    let ids: Vec<u64> = voters.iter().map(|id| id.0).collect();
    let mut next = current.clone();
    for member in membership(&ids, &[]).members {
        if next.member(member.id).is_none() {
            next.members.push(member);
        }
    }
    next.members.sort_by_key(|member| member.id);
    next.learners.retain(|id| !voters.contains(id));
    next.voters_outgoing = std::mem::replace(&mut next.voters, voters);
    next
}
