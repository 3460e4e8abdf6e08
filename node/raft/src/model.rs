//! Every order of events of a small world: three cores as they are, their cards, a network that delivers in
//! any order or never. Bounded in how often something is started, complete within the bounds.
//!
//! Time is taken out, on the side of more behaviour: any node may campaign at any moment and without a
//! pre-vote, nobody holds back a vote for having heard a leader, any leader may step down. Safety must not
//! depend on any of these.

use crate::role::RoleState;
use crate::{Append, Body, Config, Envelope, LogChange, Message, Raft, Restored};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::{format, sync::Arc, vec::Vec};
use core::hash::{Hash, Hasher};
use quorate_types::{Entry, HardState, Index, NodeId, Position, Start, Term};
use stateright::{Checker, Model, Property};
use std::collections::hash_map::DefaultHasher;

extern crate std;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

const OWN_CARD_LAST: &str = "a leader commits without its own card";
const APPLIED_FIRST: &str = "a follower applies before its own card";
const UNDURABLE_TERM: &str = "an answer in a term that is not durable";
const TRUNCATED: &str = "a log is truncated";
const SECOND_LEADER: &str = "a second leader commits";

/// The one moment at which everything happens.
const NOW: u64 = 10_000;

/// How often each thing may be started, and from where.
struct World {
    /// Node 1 leads term 1 at the beginning; nothing of its log is durable or sent yet.
    is_led: bool,
    /// Heartbeats and empty appends are sent; without them commit is heard with entries only.
    has_heartbeats: bool,
    campaigns: u8,
    crashes: u8,
    resignations: u8,
    proposals: u8,
}

#[derive(Debug, Clone)]
struct State {
    nodes: Vec<Node>,
    has_heartbeats: bool,
    /// Ordered by digest, so that two orders of sending are one state.
    net: Vec<(u64, NodeId, Envelope)>,
    left: [u8; 4],
    /// Who led each term, and what was committed by any leader, and in which term.
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<(Position, Term)>,
    broken: Option<&'static str>,
    seen: Seen,
}

/// Situations the model must reach to prove anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Seen {
    commit_without_own_card: bool,
    applied_before_own_card: bool,
    answered_in_undurable_term: bool,
    truncated: bool,
    second_leader_committed: bool,
}

#[derive(Debug, Clone)]
struct Node {
    raft: Raft,
    hard_state: HardState,
    entries: Vec<Entry>,
    committed: Index,
    pending: VecDeque<Append>,
    starts: u64,
    /// Of all the above, since each event changes one node only.
    digest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Campaign(usize),
    Crash(usize),
    Resign(usize),
    Propose(usize),
    Sync(usize),
    Deliver(usize),
}

impl Node {
    fn start(id: NodeId, hard_state: HardState, entries: Vec<Entry>, committed: Index, starts: u64) -> Node {
        let membership = crate::membership_change::tests::membership(&[1, 2, 3], &[], &[]);
        let start = Start { count: starts, incarnation: id.0 * 16 + starts };
        let restored =
            Restored { hard_state, entries: entries.clone(), membership, committed, ..Restored::default() };
        let raft = Raft::restore(Config { node: id, start, seed: id.0 }, restored);
        Node { raft, hard_state, entries, committed, pending: VecDeque::new(), starts, digest: 0 }
    }

    fn sync(&mut self) {
        let Some(append) = self.pending.pop_front() else { return };
        self.hard_state = append.hard_state.unwrap_or(self.hard_state);
        if let LogChange::Truncate { last, .. } = append.change {
            self.entries.truncate(usize::try_from(last.index.0).unwrap());
        }
        self.entries.extend(append.entries);
        self.committed = append.committed.max(self.committed);
        self.raft.ack_append(append.number);
    }

    fn last(&self) -> Index {
        Index(u64::try_from(self.entries.len()).unwrap())
    }

    /// Time never passes here: every moment is the same.
    fn stop_clocks(&mut self) {
        let raft = &mut self.raft;
        raft.now = NOW;
        raft.silent_until = 0;
        raft.election_at = 2 * NOW;
        raft.random = crate::random::Random::new(0);
        match &mut raft.role {
            RoleState::Follower(follower) => follower.heard_at = 0,
            RoleState::PreCandidate(campaign) | RoleState::Candidate(campaign) => {
                campaign.resend_at = 2 * NOW
            }
            RoleState::Leader(leader) => leader.progress.values_mut().for_each(|peer| peer.heard(NOW)),
        }
    }
}

impl Hash for Node {
    /// All that decides what it will do.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let raft = &self.raft;
        (raft.hard_state.term, raft.hard_state.vote, raft.vote_owed).hash(state);
        (raft.committed, raft.following.verified, raft.following.committed, raft.following.claimed)
            .hash(state);
        format!("{:?}{:?}", raft.durable, raft.seen()).hash(state);
        raft.log.entries().for_each(|entry| (entry.position, entry.payload.len()).hash(state));
        (raft.log.last(), raft.leader(), self.starts, self.pending.len()).hash(state);
        match &raft.role {
            RoleState::Follower(_) => 0_u8.hash(state),
            RoleState::PreCandidate(campaign) | RoleState::Candidate(campaign) => {
                format!("{campaign:?}").hash(state);
            }
            RoleState::Leader(leader) => {
                for (id, peer) in &leader.progress {
                    format!("{id:?}{peer:?}").hash(state);
                }
            }
        }
        (self.hard_state.term, self.hard_state.vote, self.committed).hash(state);
        self.entries.iter().for_each(|entry| entry.position.hash(state));
        for append in &self.pending {
            append.entries.iter().for_each(|entry| entry.position.hash(state));
            let term = append.hard_state.map(|hard_state| (hard_state.term, hard_state.vote));
            (append.committed, term, append.change != LogChange::None).hash(state);
        }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nodes.iter().for_each(|node| node.digest.hash(state));
        self.net.iter().for_each(|(digest, ..)| digest.hash(state));
        (&self.left, &self.leaders, &self.committed, self.broken, self.seen).hash(state);
    }
}

impl PartialEq for State {
    /// As far as the model tells states apart.
    fn eq(&self, other: &State) -> bool {
        digest_of(self) == digest_of(other)
    }
}

fn digest_of(what: &impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    what.hash(&mut digest);
    digest.finish()
}

impl State {
    /// Takes all that a node has to give, and looks at what it became.
    fn settle(&mut self, at: usize) {
        while self.nodes[at].raft.has_ready() {
            let node = &mut self.nodes[at];
            let ready = node.raft.take_ready();
            node.pending.extend(ready.append);
            let applied = node.raft.applied();
            self.seen.applied_before_own_card |=
                applied > node.last() && node.raft.role() == crate::Role::Follower;
            let from = NODES[at];
            let durable = node.hard_state.term;
            for envelope in ready.messages {
                self.watch_message(from, durable, &envelope);
                let digest = digest_of(&format!("{from:?}{envelope:?}"));
                // What refuses or says nothing moves nothing: left out to keep the world small.
                let is_empty = match &envelope.message.body {
                    Body::VoteAnswer { granted } => !granted,
                    Body::Heartbeat(_) | Body::HeartbeatAnswer(_) => !self.has_heartbeats,
                    Body::AppendEntries(append) => append.entries.is_empty() && !self.has_heartbeats,
                    Body::PreVoteRequest(_)
                    | Body::PreVoteAnswer { .. }
                    | Body::VoteRequest(_)
                    | Body::AppendAnswer(_)
                    | Body::ReadRequest { .. }
                    | Body::ReadAnswer { .. }
                    | Body::CampaignNow
                    | Body::StaleStart { .. } => false,
                };
                if !is_empty {
                    self.net.push((digest, from, envelope));
                }
            }
        }
        self.net.sort_by_key(|(digest, ..)| *digest);
        self.net.dedup_by_key(|(digest, ..)| *digest);
        let node = &mut self.nodes[at];
        node.stop_clocks();
        node.digest = digest_of(node);
        self.watch(at);
    }

    /// Node 1 becomes leader by the votes of all, durably.
    fn elect_first(&mut self) {
        self.nodes[0].raft.become_candidate(false);
        for at in [0, 0, 1, 2, 0] {
            self.settle(at);
            self.nodes[at].sync();
            self.settle(at);
            for (digest, from, envelope) in core::mem::take(&mut self.net) {
                let to = NODES.iter().position(|id| *id == envelope.to).expect("one of three");
                let is_vote = matches!(envelope.message.body, Body::VoteRequest(_) | Body::VoteAnswer { .. });
                if is_vote {
                    self.nodes[to].raft.step(from, envelope.message);
                    self.settle(to);
                } else {
                    self.net.push((digest, from, envelope));
                }
            }
        }
        assert_eq!(self.nodes[0].raft.role(), crate::Role::Leader);
    }

    fn watch_message(&mut self, from: NodeId, durable: Term, envelope: &Envelope) {
        let Message { term, body, .. } = &envelope.message;
        if let Body::HeartbeatAnswer(answer) = body
            && durable < *term
        {
            self.seen.answered_in_undurable_term = true;
            if answer.persisted > Index(0) {
                self.broken = Some("durability claimed in a term that is not durable");
            }
        }
        if matches!(body, Body::VoteAnswer { granted: true }) && durable < *term {
            self.broken = Some("a vote before it is durable");
        }
        assert!(from != envelope.to);
    }

    fn watch(&mut self, at: usize) {
        let raft = &self.nodes[at].raft;
        let leads = raft.role() == crate::Role::Leader;
        if leads && *self.leaders.entry(raft.term()).or_insert(NODES[at]) != NODES[at] {
            self.broken = Some("two leaders in a term");
        }
        for index in 1..=raft.committed().0 {
            let Some(term) = raft.position_of(Index(index)) else { continue };
            let position = Position { term, index: Index(index) };
            match self.committed.get(usize::try_from(index - 1).unwrap()) {
                Some((known, _)) if *known != position => {
                    self.broken = Some("two entries committed at one index")
                }
                Some(_) => {}
                None => self.committed.push((position, raft.term())),
            }
        }
        if leads {
            let lacks =
                |(position, term): &&(Position, Term)| *term < raft.term() && !raft.log.holds(*position);
            if self.committed.iter().any(|committed| lacks(&committed)) {
                self.broken = Some("a leader lacks what was committed before");
            }
            let held = |position: &Position| {
                let on_card = |node: &&Node| node.entries.iter().any(|entry| entry.position == *position);
                self.nodes.iter().filter(on_card).count() >= 2
            };
            if !self.committed.iter().all(|(position, _)| held(position)) {
                self.broken = Some("committed without a quorum of cards");
            }
            self.seen.commit_without_own_card |= raft.committed() > raft.persisted();
            self.seen.second_leader_committed |= self.leaders.len() > 1 && raft.committed() > Index(1);
        }
        self.seen.truncated |= self.nodes[at].pending.iter().any(|append| append.change != LogChange::None);
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let start = |id: &NodeId| Node::start(*id, HardState::default(), Vec::new(), Index(0), 1);
        let mut state = State {
            has_heartbeats: self.has_heartbeats,
            nodes: NODES.iter().map(start).collect(),
            net: Vec::new(),
            left: [self.campaigns, self.crashes, self.resignations, self.proposals],
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            broken: None,
            seen: Seen::default(),
        };
        (0..3).for_each(|at| state.settle(at));
        if self.is_led {
            state.elect_first();
        }
        alloc::vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let [campaigns, crashes, resignations, proposals] = state.left;
        for (at, node) in state.nodes.iter().enumerate() {
            let leads = node.raft.role() == crate::Role::Leader;
            // The first to campaign may be called the first node, or the second beside a leader: they are alike.
            let is_first = campaigns == self.campaigns;
            if campaigns > 0 && !leads && (!is_first || at == 0 || (self.is_led && at == 1)) {
                actions.push(Action::Campaign(at));
            }
            // Without a second election the two that follow are alike.
            let is_alike = at == 2 && campaigns == 0 && !self.is_led;
            if crashes > 0 && !node.pending.is_empty() && !is_alike {
                actions.push(Action::Crash(at));
            }
            if leads && resignations > 0 {
                actions.push(Action::Resign(at));
            }
            if leads && proposals > 0 {
                actions.push(Action::Propose(at));
            }
            if !node.pending.is_empty() {
                actions.push(Action::Sync(at));
            }
        }
        actions.extend((0..state.net.len()).map(Action::Deliver));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let at = match action {
            Action::Campaign(at) => {
                state.left[0] -= 1;
                let raft = &mut state.nodes[at].raft;
                let is_undecided =
                    matches!(raft.role, RoleState::Candidate(_)) && !raft.is_own_vote_durable();
                if is_undecided {
                    return None;
                }
                raft.become_candidate(false);
                raft.end_input();
                at
            }
            Action::Crash(at) => {
                state.left[1] -= 1;
                let Node { hard_state, entries, committed, starts, .. } = state.nodes[at].clone();
                state.nodes[at] = Node::start(NODES[at], hard_state, entries, committed, starts + 1);
                at
            }
            Action::Resign(at) => {
                state.left[2] -= 1;
                let raft = &mut state.nodes[at].raft;
                raft.become_follower(raft.hard_state.term, None);
                raft.end_input();
                at
            }
            Action::Propose(at) => {
                state.left[3] -= 1;
                state.nodes[at].raft.propose(Arc::from([7])).ok()?;
                at
            }
            Action::Sync(at) => {
                state.nodes[at].sync();
                at
            }
            Action::Deliver(which) => {
                let (_, from, envelope) = state.net.remove(which);
                let at = NODES.iter().position(|id| *id == envelope.to).expect("one of three");
                state.nodes[at].raft.step(from, envelope.message);
                at
            }
        };
        state.settle(at);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        alloc::vec![
            Property::always("safe", |_, state: &State| state.broken.is_none()),
            Property::sometimes(OWN_CARD_LAST, |_, state: &State| { state.seen.commit_without_own_card }),
            Property::sometimes(APPLIED_FIRST, |_, state: &State| { state.seen.applied_before_own_card }),
            Property::sometimes(TRUNCATED, |_, state: &State| state.seen.truncated),
            Property::sometimes(SECOND_LEADER, |_, state: &State| state.seen.second_leader_committed),
            Property::sometimes(UNDURABLE_TERM, |_, state: &State| { state.seen.answered_in_undurable_term }),
        ]
    }
}

fn explore(world: World, seen: &[&str]) {
    let checker = world.checker().threads(2).spawn_dfs().join();
    let discoveries = checker.discoveries();
    if let Some(path) = discoveries.get("safe") {
        panic!("{:?} after {:?}", path.last_state().broken, path.clone().into_actions());
    }
    std::println!("{} states", checker.unique_state_count());
    for situation in seen {
        assert!(discoveries.contains_key(situation), "never reached: {situation}");
    }
}

#[test]
fn one_election_and_a_crash_in_every_order() {
    let world = World {
        is_led: false,
        has_heartbeats: true,
        campaigns: 1,
        crashes: 1,
        resignations: 0,
        proposals: 0,
    };
    explore(world, &[OWN_CARD_LAST, APPLIED_FIRST, UNDURABLE_TERM]);
}

#[test]
fn a_second_leader_and_a_crash_in_every_order() {
    let world = World {
        is_led: true,
        has_heartbeats: false,
        campaigns: 1,
        crashes: 1,
        resignations: 0,
        proposals: 0,
    };
    explore(world, &[OWN_CARD_LAST, TRUNCATED, SECOND_LEADER]);
}
