//! What nodes say to each other, judged as it leaves them: nothing is promised that a power cut at this moment could
//! take back, and nobody says two things that exclude each other.

use crate::board::Slot;
use crate::queue::{Nanos, SECOND};
use crate::world::World;
use quorate_raft::{AppendAnswer, AppendEntries, Body, Envelope, HeartbeatAnswer, Message, Raft, Role};
use quorate_types::{Entry, Index, NodeId, Position, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nobody leads so long without a word of a quorum: two election timeouts of the slowest clock.
const ALONE_MAX: Nanos = 2 * SECOND;

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What stands before each entry ever sent, and what it is.
    parents: BTreeMap<Position, (Position, Arc<[u8]>)>,
    /// Newest index applied anywhere when a follower first asked to read, by its number for it.
    reads: BTreeMap<(NodeId, u64), Index>,
}

impl Said {
    /// A vote: whoever gave one in a term gives no other, whatever it went through.
    fn vote(&mut self, voter: NodeId, term: Term, vote: NodeId) -> Result<(), String> {
        let given = *self.votes.entry((voter, term)).or_insert(vote);
        if given == vote {
            return Ok(());
        }
        Err(format!("node {voter} voted twice in term {term}: for {given} and for {vote}"))
    }

    pub(crate) fn has_voted(&self, voter: NodeId, term: Term, vote: NodeId) -> bool {
        self.votes.get(&(voter, term)) == Some(&vote)
    }

    /// Log matching: an entry is what its position says, and so is what stands before it.
    fn entries(&mut self, previous: Position, entries: &[Entry]) -> Result<(), String> {
        let mut parent = previous;
        for entry in entries {
            let known =
                self.parents.entry(entry.position).or_insert_with(|| (parent, Arc::clone(&entry.payload)));
            let is_same = Arc::ptr_eq(&known.1, &entry.payload) || known.1 == entry.payload;
            if known.0 != parent || !is_same {
                return Err(format!("log matching: the entry at {} is not what it was", entry.position));
            }
            parent = entry.position;
        }
        Ok(())
    }
}

impl World {
    /// A message of a core leaves its board.
    pub(crate) fn judge_said(&mut self, slot: Slot, from: NodeId, envelope: &Envelope) {
        // What an older copy of a card says is false, and nobody may listen to it.
        if !self.boards[slot.0].is_restored
            && let Err(words) = self.is_sound(slot, from, envelope)
        {
            self.fail(words);
        }
    }

    fn is_sound(&mut self, slot: Slot, from: NodeId, envelope: &Envelope) -> Result<(), String> {
        let Envelope { to, message: Message { term, body, .. } } = envelope;
        let (to, term) = (*to, *term);
        match body {
            Body::VoteRequest(request) => {
                self.voted(slot, from, term, from)?;
                let is_durable = self.boards[slot.0].log.holds(request.last);
                let words = || {
                    format!("node {from} campaigns with a log up to {}, which is not durable", request.last)
                };
                is_durable.then_some(()).ok_or_else(words)
            }
            Body::VoteAnswer { granted: true } => self.voted(slot, from, term, to),
            Body::AppendAnswer(AppendAnswer::Taken { verified, persisted })
            | Body::HeartbeatAnswer(HeartbeatAnswer { verified, persisted, .. }) => {
                self.is_claim_true(slot, from, term, *persisted)?;
                self.is_verified(slot, to, term, *verified)
            }
            Body::AppendEntries(AppendEntries { previous, entries, .. }) => {
                self.ledger.elected(term, from)?;
                self.said.entries(*previous, entries)
            }
            Body::Heartbeat(_) | Body::CampaignNow => self.ledger.elected(term, from),
            Body::ReadRequest { number } => {
                self.said.reads.entry((from, *number)).or_insert(self.ledger.applied_max);
                Ok(())
            }
            Body::ReadAnswer { number, index: Some(index) } => {
                let floor = self.said.reads.get(&(to, *number)).copied().unwrap_or_default();
                let words =
                    || format!("node {from} lets {to} read at {index}: {floor} was applied when it asked");
                (*index >= floor).then_some(()).ok_or_else(words)
            }
            Body::PreVoteRequest(_)
            | Body::PreVoteAnswer { .. }
            | Body::VoteAnswer { granted: false }
            | Body::AppendAnswer(AppendAnswer::Rejected { .. } | AppendAnswer::Full)
            | Body::ReadAnswer { index: None, .. }
            | Body::StaleStart { .. } => Ok(()),
        }
    }

    fn voted(&mut self, slot: Slot, voter: NodeId, term: Term, vote: NodeId) -> Result<(), String> {
        self.said.vote(voter, term, vote)?;
        if self.boards[slot.0].log.keeps_vote(term, vote) {
            return Ok(());
        }
        Err(format!("node {voter} votes for {vote} in term {term}, and its card does not have it"))
    }

    /// What is claimed to be durable is, and so is the term in which it is claimed (protocol.md rule 9).
    fn is_claim_true(&self, slot: Slot, from: NodeId, term: Term, persisted: Index) -> Result<(), String> {
        let board = &self.boards[slot.0];
        if persisted == Index(0) {
            return Ok(());
        }
        if board.log.term() < term {
            return Err(format!("node {from} claims index {persisted} in term {term}, which is not durable"));
        }
        let own = board.process.as_ref().map(|process| &process.driver.core);
        // As the claim meant it, unless the node is in another term by now.
        let meant = own.filter(|core| core.term() == term).and_then(|core| core.position_of(persisted));
        let has_it = match meant {
            Some(term) => board.log.holds(Position { term, index: persisted }),
            None => board.log.reaches(persisted),
        };
        if has_it {
            return Ok(());
        }
        Err(format!("node {from} claims index {persisted} in term {term}, and its card does not have it"))
    }

    /// What a follower says matches its leader's log does.
    fn is_verified(&self, slot: Slot, to: NodeId, term: Term, verified: Index) -> Result<(), String> {
        let core = |slot: Slot| -> Option<&Raft> {
            let core = &self.boards[slot.0].process.as_ref()?.driver.core;
            (core.term() == term).then_some(core)
        };
        let leader = self.slot_of(to).and_then(core).filter(|leader| leader.role() == Role::Leader);
        let (Some(own), Some(leader)) = (core(slot), leader) else { return Ok(()) };
        let (Some(own_term), Some(leader_term)) = (own.position_of(verified), leader.position_of(verified))
        else {
            return Ok(());
        };
        if own_term == leader_term {
            return Ok(());
        }
        Err(format!("node {} verified index {verified} against {to}, and they differ there", own.node()))
    }

    /// A quorum of votes was given to who leads.
    pub(crate) fn is_elected(&self, slot: Slot, voters: &[NodeId]) -> bool {
        let Some(process) = &self.boards[slot.0].process else { return true };
        let core = &process.driver.core;
        let gave = |voter: &NodeId| {
            // Who is alone asks nobody, itself neither.
            self.said.has_voted(*voter, core.term(), core.node())
                || *voter == core.node() && core.hard_state().vote == Some(core.node())
        };
        voters.is_empty() || voters.iter().filter(|voter| gave(voter)).count() > voters.len() / 2
    }

    /// Who leads hears a quorum, or leads no more (check-quorum): a leader that was cut off must not hold its clients.
    pub(crate) fn hears_quorum(&self, slot: Slot) -> bool {
        let Some(process) = &self.boards[slot.0].process else { return true };
        let since = process.led_since.max(self.boards[slot.0].paused_until);
        let hears = |voter: &NodeId| {
            let heard = process.heard.get(voter).copied().unwrap_or(0).max(since);
            *voter == process.identity.node || self.now.saturating_sub(heard) <= ALONE_MAX
        };
        let agrees = |voters: &[NodeId]| {
            voters.is_empty() || voters.iter().filter(|voter| hears(voter)).count() > voters.len() / 2
        };
        agrees(&process.observed.voters) && agrees(&process.observed.voters_outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::EntryKind;

    #[test]
    fn a_vote_is_given_once_a_term() {
        let mut said = Said::default();
        assert_eq!(said.vote(NodeId(1), Term(3), NodeId(2)), Ok(()));
        assert_eq!(said.vote(NodeId(1), Term(3), NodeId(2)), Ok(()));
        assert_eq!(said.vote(NodeId(1), Term(4), NodeId(3)), Ok(()));
        assert!(said.vote(NodeId(1), Term(3), NodeId(3)).is_err());
        assert!(
            said.has_voted(NodeId(1), Term(4), NodeId(3)) && !said.has_voted(NodeId(1), Term(4), NodeId(2))
        );
    }

    #[test]
    fn an_entry_stays_what_it_was_and_where() {
        let at = |index, term| Position { term: Term(term), index: Index(index) };
        let entry = |position, payload: &[u8]| Entry {
            position,
            kind: EntryKind::Command,
            payload: Arc::from(payload),
        };
        let mut said = Said::default();
        assert_eq!(said.entries(at(1, 1), &[entry(at(2, 1), b"a"), entry(at(3, 2), b"b")]), Ok(()));
        assert_eq!(said.entries(at(2, 1), &[entry(at(3, 2), b"b")]), Ok(()));
        assert!(said.entries(at(2, 1), &[entry(at(3, 2), b"c")]).is_err(), "another payload");
        assert!(said.entries(at(2, 2), &[entry(at(3, 2), b"b")]).is_err(), "another entry before it");
    }
}
