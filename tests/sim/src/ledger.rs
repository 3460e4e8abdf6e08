//! The checkers that look after every turn: what has been committed and applied anywhere, once and for all.
//!
//! Election safety, log matching, leader completeness, state machine safety, durable on a quorum, equal digests at
//! equal applied index; and the history of events that watchers are compared with.

use crate::board::Slot;
use crate::process::{Observed, Process};
use crate::situation::Situation;
use crate::world::World;
use quorate_raft::{Raft, Role, invariants};
use quorate_store::{Event, EventsSince, KeyRange, Store};
use quorate_types::{Index, NodeId, Position, Term};
use std::collections::BTreeMap;

/// Digests are compared at each index that this divides: hashing all keys each time is half of a seed's time.
const DIGEST_EVERY: u64 = 4;

/// What is known of the whole cluster.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<u64, Committed>,
    digests: BTreeMap<u64, (u32, NodeId)>,
    pub(crate) events: BTreeMap<i64, Vec<Event>>,
    pub(crate) applied_max: Index,
    /// Committed by some leader up to here.
    led_max: Index,
    pub(crate) revision_max: i64,
    pub(crate) compacted_max: i64,
}

/// A committed entry, and the lowest term of a node that said so.
#[derive(Debug, Clone, Copy)]
struct Committed {
    term: Term,
    known_in: Term,
}

impl Ledger {
    pub(crate) fn election_count(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// At most one leader a term.
    pub(crate) fn elected(&mut self, term: Term, node: NodeId) -> Result<(), String> {
        match self.leaders.insert(term, node) {
            Some(other) if other != node => {
                Err(format!("election safety: both {other} and {node} lead in term {term}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What was committed in a lower term is in a leader's log.
    fn is_complete(&self, core: &Raft) -> Result<(), String> {
        let base = core.base().index;
        for (index, known) in self.committed.range(base.0 + 1..) {
            if known.known_in < core.term() && core.position_of(Index(*index)) != Some(known.term) {
                return Err(format!(
                    "leader completeness: {} leads in term {} without the entry of term {} at {index}, which was \
                     committed in term {}",
                    core.node(),
                    core.term(),
                    known.term,
                    known.known_in
                ));
            }
        }
        Ok(())
    }

    /// A node says that this is committed; whether it is the first to.
    fn commit(&mut self, node: NodeId, term_now: Term, at: Position) -> Result<bool, String> {
        let Some(known) = self.committed.get_mut(&at.index.0) else {
            self.committed.insert(at.index.0, Committed { term: at.term, known_in: term_now });
            return Ok(true);
        };
        known.known_in = known.known_in.min(term_now);
        if known.term == at.term {
            return Ok(false);
        }
        Err(format!(
            "state machine safety: node {node} has an entry of term {} committed at {}, others one of term {}",
            at.term, at.index, known.term
        ))
    }

    /// Only a leader decides what is committed; of older terms nothing but with an entry of its own (Raft thesis
    /// 3.6.2).
    fn decided(&mut self, core: &Raft, before: &Observed, now: &Observed) -> Result<(), String> {
        let (node, committed) = (core.node(), now.committed);
        let term = core.position_of(committed).filter(|_| committed > before.committed);
        if let Some(term) = term.filter(|term| *term != now.term)
            && before.leads
            && now.leads
            && before.term == now.term
        {
            return Err(format!(
                "node {node} leads in term {}, and committed up to {committed} of {term}",
                now.term
            ));
        }
        if before.leads || now.leads {
            self.led_max = self.led_max.max(committed);
        } else if committed > self.led_max {
            return Err(format!("node {node} has {committed} committed, leaders only {}", self.led_max));
        }
        Ok(())
    }

    /// A node's state is at that revision now: what it went through is what all go through.
    fn applied(&mut self, node: NodeId, store: &Store, after: i64) -> Result<(), String> {
        self.compacted_max = self.compacted_max.max(store.compacted().0);
        let request = EventsSince {
            revision: after.max(store.compacted().0) + 1,
            range: &KeyRange::From(Vec::new()),
            event_count_max: usize::MAX,
            bytes_max: usize::MAX,
            visit_count_max: usize::MAX,
        };
        let Ok(page) = store.events_since(&request) else { return Ok(()) };
        let mut found: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for mut event in page.events {
            event.prev_kv = None;
            found.entry(event.revision().0).or_default().push(event);
        }
        for (revision, events) in found {
            if let Some(known) = self.events.get(&revision) {
                if *known != events {
                    return Err(format!(
                        "state machine safety: at revision {revision} node {node} applied {events:?}, others {known:?}"
                    ));
                }
                continue;
            }
            if self.revision_max != 0 && revision != self.revision_max + 1 {
                return Err(format!(
                    "node {node} has revision {revision}, and nobody had {}",
                    self.revision_max + 1
                ));
            }
            self.revision_max = revision;
            self.events.insert(revision, events);
        }
        Ok(())
    }

    /// Equal digests at equal applied index.
    pub(crate) fn digest(&mut self, node: NodeId, store: &Store) -> Result<(), String> {
        let (index, digest) = (store.applied(), store.digest());
        let (known, other) = *self.digests.entry(index.0).or_insert((digest, node));
        if known == digest {
            return Ok(());
        }
        Err(format!(
            "at index {index} the state of node {node} is {digest:08x}, that of {other} was {known:08x}"
        ))
    }

    /// Two logs that agree at one index agree below it.
    pub(crate) fn do_logs_match(one: &Raft, other: &Raft) -> Result<(), String> {
        let base = one.base().index.max(other.base().index);
        let mut index = one.last().index.min(other.last().index);
        let mut agree = false;
        while index > base {
            let same = one.position_of(index) == other.position_of(index);
            if agree && !same {
                let (one, other) = (one.node(), other.node());
                return Err(format!("log matching: {one} and {other} agree above {index} and not there"));
            }
            agree |= same;
            index = Index(index.0 - 1);
        }
        Ok(())
    }
}

impl Observed {
    fn of(process: &Process) -> Observed {
        let core = &process.driver.core;
        Observed {
            term: core.term(),
            leads: core.role() == Role::Leader,
            leader: core.leader(),
            committed: core.committed(),
            applied: process.driver.store.applied(),
            revision: process.driver.store.revision().0,
            persisted: core.persisted(),
            last: core.last(),
            is_joint: core.membership().is_joint(),
            is_removed: core.is_removed(),
            voters: core.membership().voters.clone(),
            voters_outgoing: core.membership().voters_outgoing.clone(),
            card_hand_overs: core.card_hand_overs(),
            image: process.driver.image.newest.map_or(Index(0), |newest| newest.index),
        }
    }
}

impl World {
    /// Looks at a process after its turn.
    pub(crate) fn observe(&mut self, slot: Slot) {
        let Some(process) = self.boards[slot.0].process.as_mut() else { return };
        invariants::check(&process.driver.core);
        let now = Observed::of(process);
        let before = core::mem::replace(&mut process.observed, now.clone());
        if now.leads && !(before.leads && before.term == now.term) {
            process.led_since = self.now;
        }
        let needs_others = now.voters.len() >= 2;
        if core::mem::take(&mut process.has_heard) || !needs_others {
            process.term_heard = now.term;
        }
        // Pre-vote: whoever hears nobody ends the campaign it was in, and begins no other. So a node that was cut off
        // deposes nobody when it comes back.
        if now.term.0 > process.term_heard.0 + 1 {
            let heard = process.term_heard;
            return self
                .fail(format!("{slot} heard nobody since term {heard}, and is in term {} now", now.term));
        }
        if let Err(words) = self.judge(slot, &before, &now) {
            return self.fail(words);
        }
        self.note(slot, &before, &now);
        if now.applied > self.ledger.applied_max {
            self.ledger.applied_max = now.applied;
            self.look_at_leases(slot);
        }
    }

    fn judge(&mut self, slot: Slot, before: &Observed, now: &Observed) -> Result<(), String> {
        let process = self.boards[slot.0].process.as_ref().expect("the caller saw it");
        let (core, node) = (&process.driver.core, process.identity.node);
        if now.leads && !(before.leads && before.term == now.term) {
            self.ledger.elected(now.term, node)?;
            self.ledger.is_complete(core)?;
            let agreed = |seen: &Observed| {
                self.is_elected(slot, &seen.voters) && self.is_elected(slot, &seen.voters_outgoing)
            };
            if !agreed(now) && !agreed(before) {
                return Err(format!("node {node} leads in term {}, and no quorum voted for it", now.term));
            }
        }
        if now.leads && !self.hears_quorum(slot) {
            return Err(format!("node {node} leads on in term {}, and hears no quorum", now.term));
        }
        self.ledger.decided(core, before, now)?;
        let from = before.committed.max(core.base().index);
        for index in from.0 + 1..=now.committed.0 {
            let Some(term) = core.position_of(Index(index)) else { continue };
            let at = Position { term, index: Index(index) };
            let is_first = self.ledger.commit(node, now.term, at)?;
            self.situations.reach_if(is_first && term < now.term, Situation::OlderTermCommitted);
            if is_first && now.leads {
                let boards = &self.boards;
                let has = |voter: &NodeId| {
                    let home = self.homes.get(voter).map(|home| &boards[home.0]);
                    home.is_none_or(|board| board.node != Some(*voter) || board.has_durable(at))
                };
                let holds = |voters: &[NodeId]| {
                    voters.is_empty() || voters.iter().filter(|voter| has(voter)).count() > voters.len() / 2
                };
                let agreed = |seen: &Observed| holds(&seen.voters) && holds(&seen.voters_outgoing);
                if !agreed(now) && !agreed(before) {
                    return Err(format!(
                        "node {node} committed {index} of term {term}, and no quorum of cards has it"
                    ));
                }
            }
        }
        if now.applied > before.applied {
            let store = &process.driver.store;
            self.ledger.applied(node, store, before.revision)?;
            if now.applied.0.is_multiple_of(DIGEST_EVERY) {
                self.ledger.digest(node, store)?;
            }
        }
        Ok(())
    }

    /// What was reached, and what the story tells of.
    fn note(&mut self, slot: Slot, before: &Observed, now: &Observed) {
        let reached = &mut self.situations;
        let is_stalled = self.boards.iter().any(|board| board.stalled_until > self.now);
        let is_elected = now.leads && (!before.leads || before.term != now.term);
        reached.reach_if(is_elected && is_stalled, Situation::ElectionUnderStall);
        reached.reach_if(now.leads && now.committed > now.persisted, Situation::CommitAheadOfOwnCard);
        reached.reach_if(!now.leads && now.applied > now.persisted, Situation::ApplyAheadOfOwnCard);
        reached.reach_if(now.card_hand_overs > before.card_hand_overs, Situation::CardHandOver);
        reached.reach_if(before.is_joint && !now.is_joint && now.leads, Situation::JointChange);
        reached.reach_if(now.is_removed && !before.is_removed, Situation::RemovedTold);
        reached.reach_if(now.is_removed && before.leads, Situation::RemovedLeader);
        reached.reach_if(now.voters.len() >= 5 && before.voters.len() < 5, Situation::FiveVoters);
        let is_installed = now.image > before.image && before.applied < now.image && before.term != Term(0);
        reached.reach_if(is_installed, Situation::ImageInstalled);
        if is_elected {
            self.tell(format!("{slot} leads in term {}", now.term));
        } else if before.leads && !now.leads {
            self.tell(format!("{slot} leads no more, term {}", now.term));
        }
        if is_installed {
            self.tell(format!("{slot} goes on from an image at {}", now.image));
        }
        if (&now.voters, &now.voters_outgoing) != (&before.voters, &before.voters_outgoing) {
            let names = |nodes: &[NodeId]| -> String {
                nodes
                    .iter()
                    .map(|node| self.homes.get(node).map_or("?".into(), |slot| format!("{slot} ")))
                    .collect()
            };
            let line = format!("{slot}: voters {}out {}", names(&now.voters), names(&now.voters_outgoing));
            self.tell(line);
        }
        if now.is_removed && !before.is_removed {
            self.tell(format!("{slot} learns that it was removed"));
        }
    }
}
