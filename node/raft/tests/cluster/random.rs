//! One random history: everything that can go wrong, from one seed; then it ends, and the cluster must work.

use super::dice::{Dice, Reached};
use super::{Cluster, with_learner};
use quorate_raft::timing::ELECTION_TICKS_MAX;
use quorate_raft::{ProposeRefused, Raft, Role};
use quorate_types::{NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod faults;
mod heal;

/// How bad it gets; drawn from the seed.
#[derive(Debug)]
struct Weather {
    loss: u64,
    delay: u64,
    disk_delay: u64,
    stall: u64,
    crash: u64,
    cut: u64,
    change: u64,
    propose: u64,
    /// Long payloads fill the memory for the log, and the card is read for who is behind.
    payload_bytes: usize,
}

pub struct History {
    pub cluster: Cluster,
    pub reached: Reached,
    dice: Dice,
    weather: Weather,
    /// Messages that do not get through.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// A node nobody hears and who hears nobody, and its term when that began.
    alone: Option<(NodeId, Term)>,
    /// Ticks for which that node has led nobody.
    alone_led_ticks: u64,
    /// Stopped processes: time they will be told of when they go on.
    paused: BTreeMap<NodeId, u32>,
    next_id: u64,
    /// Who was proposed as a learner and starts once that is committed: what it is told of members stands later in
    /// the log than its own log reaches.
    joining: Option<NodeId>,
    /// Every node is read from in each step.
    is_read_always: bool,
    numbers: u64,
}

const STEPS: u64 = 500;

/// Plays the history of a seed.
pub fn play(seed: u64, prepare: impl FnOnce(&mut Cluster)) -> Reached {
    let mut history = History::new(seed, prepare);
    for _ in 0..STEPS {
        history.step();
    }
    history.heal();
    history.reached
}

impl History {
    pub fn new(seed: u64, prepare: impl FnOnce(&mut Cluster)) -> History {
        let mut dice = Dice::new(seed);
        let voters: &[u64] = [&[1, 2, 3][..], &[1, 2, 3, 4, 5], &[1], &[1, 2, 3]]
            [usize::try_from(dice.roll(4)).expect("64 bits are enough")];
        let weather = Weather {
            loss: [0, 50, 10][usize::try_from(dice.roll(3)).expect("64 bits are enough")],
            delay: 1 + dice.roll(12),
            disk_delay: 1 + dice.roll(10),
            stall: 30 + dice.roll(200),
            crash: 30 + dice.roll(200),
            cut: 30 + dice.roll(150),
            change: 20 + dice.roll(200),
            propose: 2 + dice.roll(6),
            payload_bytes: [8, 8, 8, 8, 8, 8, 400_000, 1_500_000]
                [usize::try_from(dice.roll(8)).expect("below 8")],
        };
        let mut cluster = Cluster::new(seed, voters);
        cluster.slow = Some(super::slow::Slow::default());
        prepare(&mut cluster);
        for id in voters {
            cluster.start(NodeId(*id));
        }
        let is_read_always = dice.one_in(4);
        History {
            cluster,
            reached: Reached::default(),
            is_read_always,
            joining: None,
            dice,
            weather,
            cuts: BTreeSet::new(),
            alone: None,
            alone_led_ticks: 0,
            paused: BTreeMap::new(),
            next_id: 10,
            numbers: 0,
        }
    }

    fn step(&mut self) {
        self.pass_time();
        self.deliver();
        self.disks();
        self.images();
        self.join();
        self.clients();
        self.faults();
        self.changes();
        self.drain();
    }

    fn ids(&self) -> Vec<NodeId> {
        self.cluster.nodes.keys().copied().collect()
    }

    fn running(&self) -> Vec<NodeId> {
        let awake = self.cluster.nodes.iter().filter(|(_, node)| node.raft.is_some());
        awake.map(|(id, _)| *id).filter(|id| !self.paused.contains_key(id)).collect()
    }

    fn pass_time(&mut self) {
        let count = u32::try_from(1 + self.dice.roll(4)).expect("64 bits are enough");
        self.cluster.now += u64::from(count);
        for id in self.ids() {
            match self.paused.get_mut(&id) {
                Some(slept) => *slept += count,
                None => {
                    self.cluster.input(id, |raft| raft.tick(count));
                }
            }
        }
        if let Some((id, term)) = self.alone
            && let Some(raft) = self.cluster.raft(id)
        {
            let is_alone = raft.membership().voters == [id];
            assert!(raft.term() == term || is_alone, "node {id} raised its term while nobody heard it");
            let leads_nobody = raft.role() == Role::Leader && !is_alone && !self.paused.contains_key(&id);
            self.alone_led_ticks = if leads_nobody { self.alone_led_ticks + u64::from(count) } else { 0 };
            assert!(self.alone_led_ticks <= 2 * ELECTION_TICKS_MAX, "node {id} leads on and nobody hears it");
        } else {
            self.alone_led_ticks = 0;
        }
    }

    fn deliver(&mut self) {
        let now = self.cluster.now;
        let (due, later) =
            std::mem::take(&mut self.cluster.net).into_iter().partition(|flight| flight.at <= now);
        self.cluster.net = later;
        let mut due: Vec<super::Flight> = due;
        while !due.is_empty() {
            let at = usize::try_from(self.dice.roll(u64::try_from(due.len()).expect("64 bits are enough")))
                .expect("64 bits are enough");
            let mut flight = due.swap_remove(at);
            let is_cut = self.cuts.contains(&(flight.from, flight.to));
            let is_lost = self.weather.loss > 0 && self.dice.one_in(self.weather.loss);
            if is_cut || is_lost {
                continue;
            }
            if self.paused.contains_key(&flight.to) || self.weather.loss > 0 && self.dice.one_in(20) {
                // Late, or twice.
                flight.at = now + self.dice.roll(60);
                self.cluster.net.push(flight.clone());
                if self.paused.contains_key(&flight.to) {
                    continue;
                }
            }
            self.cluster.deliver(flight);
        }
    }

    fn disks(&mut self) {
        let now = self.cluster.now;
        for id in self.running() {
            let node = self.cluster.nodes.get_mut(&id).expect("it runs");
            if node.disk.pending.is_empty() || node.disk.ready_at > now {
                continue;
            }
            let is_stalled = self.dice.one_in(self.weather.stall);
            let delay =
                if is_stalled { 100 + self.dice.roll(300) } else { self.dice.roll(self.weather.disk_delay) };
            node.disk.ready_at = now + delay;
            if is_stalled {
                self.reached.count("stall");
                continue;
            }
            for _ in 0..=self.dice.roll(3) {
                self.cluster.sync(id);
            }
        }
    }

    fn images(&mut self) {
        for (from, wanted) in std::mem::take(&mut self.cluster.images) {
            if !self.dice.one_in(3) || self.cluster.raft(from).is_none() {
                self.cluster.images.push((from, wanted));
            } else if self.dice.one_in(4) {
                self.reached.count("image failed");
                self.cluster.input(from, |raft| raft.image_failed(wanted.to));
            } else {
                self.reached.count("image sent");
                self.cluster.begin_image(from, wanted);
            }
        }
        let slow = self.cluster.slow.as_ref().expect("things take a while");
        let (fetches, images, answers) = (slow.fetch_count(), slow.images_to(), slow.answer_count());
        for _ in 0..fetches {
            if self.dice.one_in(4) {
                self.cluster.end_fetch();
            }
        }
        for (at, to) in images.into_iter().enumerate().rev() {
            let is_reached =
                !self.paused.contains_key(&to) && self.alone.is_none_or(|(alone, _)| alone != to);
            if self.dice.one_in(12) && is_reached {
                self.cluster.end_image(at);
            }
        }
        for at in (0..answers).rev() {
            if self.dice.one_in(6) {
                self.cluster.answer_image(at);
            }
        }
    }

    /// Who was taken in as a learner starts.
    fn join(&mut self) {
        let Some(id) = self.joining else { return };
        let knows = |raft: &&Raft| raft.membership_committed().member(id).is_some();
        let running = self.cluster.nodes.values().filter_map(|node| node.raft.as_ref());
        let known = running.filter(knows).max_by_key(|raft| raft.membership_committed().version);
        if let Some(known) = known.map(|raft| raft.membership_committed().clone())
            && self.dice.one_in(10)
        {
            self.joining = None;
            self.cluster.insert(id, known);
            self.cluster.start(id);
            if let Some((alone, _)) = self.alone {
                self.cuts.extend([(id, alone), (alone, id)]);
            }
            self.reached.count("learner added");
        }
    }

    fn clients(&mut self) {
        let running = self.running();
        let Some(id) = self.dice.pick(&running) else { return };
        self.numbers += 1;
        if self.dice.one_in(self.weather.propose) {
            let leader = self.cluster.leader().filter(|leader| running.contains(leader));
            let target = leader.filter(|_| !self.dice.one_in(4)).unwrap_or(id);
            let mut bytes = vec![0; self.weather.payload_bytes];
            bytes[..8].copy_from_slice(&self.numbers.to_le_bytes());
            let is_taken = self.cluster.input(target, |raft| raft.propose(Arc::from(bytes)));
            match is_taken {
                Some(Ok(_)) => self.reached.count("proposed"),
                Some(Err(ProposeRefused::Full)) => self.reached.count("leader full"),
                Some(Err(ProposeRefused::NotLeader { .. } | ProposeRefused::HandingOver)) | None => {}
            }
        }
        if self.dice.one_in(3) {
            self.cluster.read(id, self.numbers);
        }
        if self.is_read_always {
            for id in running {
                self.numbers += 1;
                self.cluster.read(id, self.numbers);
            }
            self.reached.count("read always");
        }
    }

    fn changes(&mut self) {
        if self.dice.one_in(80)
            && let Some(id) = self.dice.pick(&self.running())
            && self.cluster.make_image(id).is_some()
        {
            self.cluster.nodes.get_mut(&id).expect("it runs").disk.trim();
        }
        if !self.dice.one_in(self.weather.change) {
            return;
        }
        let running = self.running();
        let leads = |raft: &Raft| raft.role() == Role::Leader;
        let leaders: Vec<NodeId> =
            running.into_iter().filter(|id| self.cluster.raft(*id).is_some_and(leads)).collect();
        let Some(leader) = self.dice.pick(&leaders) else { return };
        let ids = self.ids();
        let target = self.dice.pick(&ids).expect("there are nodes");
        match self.dice.roll(5) {
            0 | 1 if self.next_id < 14 => self.add_learner(leader),
            2 => self.propose_membership(leader, "removal", |raft| raft.removal(target).ok()),
            3 => self.propose_membership(leader, "swap", |raft| swap(raft, target)),
            _ => {
                if self.cluster.input(leader, |raft| raft.transfer(target).is_ok()) == Some(true) {
                    self.reached.count("transfer");
                }
            }
        }
    }

    fn add_learner(&mut self, leader: NodeId) {
        let id = self.next_id;
        let added = self.joining.is_none().then(|| {
            self.cluster.input(leader, |raft| {
                let next = with_learner(raft.membership(), id);
                raft.propose_membership(next).is_ok()
            })
        });
        if added == Some(Some(true)) {
            self.next_id += 1;
            self.joining = Some(NodeId(id));
        }
    }

    fn propose_membership(
        &mut self,
        leader: NodeId,
        what: &'static str,
        next: impl FnOnce(&Raft) -> Option<quorate_types::Membership>,
    ) {
        let is_proposed = self
            .cluster
            .input(leader, |raft| next(raft).is_some_and(|next| raft.propose_membership(next).is_ok()));
        if is_proposed == Some(true) {
            self.reached.count(what);
        }
    }

    fn drain(&mut self) {
        let now = self.cluster.now;
        for id in self.running() {
            let before = self.cluster.net.len();
            let leader_before =
                self.cluster.raft(id).map(|raft| (raft.role(), raft.persisted(), raft.applied()));
            self.cluster.drain(id);
            let says_full = |flight: &super::Flight| {
                matches!(
                    flight.message.body,
                    quorate_raft::Body::AppendAnswer(quorate_raft::AppendAnswer::Full)
                )
            };
            if self.cluster.net[before..].iter().any(says_full) {
                self.reached.count("follower full");
            }
            let delay = self.weather.delay;
            for flight in &mut self.cluster.net[before..] {
                flight.at = now + self.dice.roll(delay);
            }
            if let Some((role, persisted, _)) = leader_before
                && self.cluster.raft(id).is_some_and(|raft| raft.applied() > persisted)
            {
                let is_leader = role == Role::Leader;
                self.reached.count(if is_leader { "leader applied first" } else { "follower applied first" });
            }
        }
    }
}

/// Voters without `target`, or with it: any joint change, not only those that keep voters odd.
fn swap(raft: &Raft, target: NodeId) -> Option<quorate_types::Membership> {
    let mut next = raft.membership().clone();
    if !next.voters_outgoing.is_empty() {
        return None;
    }
    next.voters_outgoing = next.voters.clone();
    if next.learners.contains(&target) {
        next.learners.retain(|id| *id != target);
        next.voters.push(target);
        next.voters.sort_unstable();
    } else {
        next.voters.retain(|id| *id != target);
    }
    (!next.voters.is_empty()).then_some(next)
}
