//! What must hold over all nodes at once, whatever happened.

use super::disk::Disk;
use quorate_raft::{AppendAnswer, Body, Envelope, HeartbeatAnswer, Raft, ReadId, Role};
use quorate_types::{Entry, Index, Membership, NodeId, Position, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sees everything, and stops the test at the first thing that must not be.
#[derive(Debug, Default)]
pub struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What was ever applied anywhere, by index.
    applied: Vec<Entry>,
    /// What stands before each entry ever appended: with it, logs match.
    parents: BTreeMap<Position, (Position, Arc<[u8]>)>,
    /// In which term each index was first known to be committed.
    commit_terms: Vec<Term>,
    /// Reads under way, and the newest index applied anywhere when they were asked for.
    reads: BTreeMap<(NodeId, ReadId), Index>,
    pub reads_answered: u64,
    pub reads_refused: u64,
}

impl Checker {
    /// Called after each input of a node, with the membership and the commit index of before, and every card.
    pub fn observe<'a>(
        &mut self,
        raft: &Raft,
        before: Option<(Membership, Index)>,
        disks: impl Fn(NodeId) -> Option<&'a Disk>,
    ) {
        if raft.role() != Role::Leader {
            return;
        }
        let leader = *self.leaders.entry(raft.term()).or_insert(raft.node());
        assert_eq!(leader, raft.node(), "election safety: two leaders in term {}", raft.term());
        self.check_completeness(raft);
        let first = u64::try_from(self.commit_terms.len()).expect("64 bits are enough") + 1;
        if before.as_ref().is_some_and(|(_, committed)| raft.committed() > *committed) {
            let term = raft.position_of(raft.committed());
            assert!(
                term.is_none_or(|term| term == raft.term()),
                "an entry of an older term is committed by count"
            );
        }
        for index in (first..=raft.committed().0).map(Index) {
            self.commit_terms.push(raft.term());
            if let Some(term) = raft.position_of(index) {
                let deciding = before.as_ref().map_or(raft.membership(), |(membership, _)| membership);
                check_durable(deciding, Position { term, index }, &disks);
            }
        }
    }

    /// Leader completeness: what was committed in an earlier term is in this leader's log.
    fn check_completeness(&self, raft: &Raft) {
        for (entry, commit_term) in self.applied.iter().zip(&self.commit_terms).rev().take(8) {
            let Position { term, index } = entry.position;
            if *commit_term < raft.term() && index >= raft.base().index {
                assert_eq!(
                    raft.position_of(index),
                    Some(term),
                    "leader completeness: index {index} of term {term}"
                );
            }
        }
    }

    /// A message leaves a node whose card is `disk`.
    pub fn sends(&mut self, from: NodeId, envelope: &Envelope, disk: &Disk) {
        let term = envelope.message.term;
        let vote = match &envelope.message.body {
            Body::VoteRequest(_) => from,
            Body::VoteAnswer { granted: true } => envelope.to,
            Body::AppendEntries(append) => {
                self.appends(append.previous, &append.entries);
                return;
            }
            Body::AppendAnswer(AppendAnswer::Taken { persisted, .. })
            | Body::HeartbeatAnswer(HeartbeatAnswer { persisted, .. }) => {
                check_claim(from, term, *persisted, disk);
                return;
            }
            Body::PreVoteRequest(_)
            | Body::PreVoteAnswer { .. }
            | Body::VoteAnswer { granted: false }
            | Body::Heartbeat(_)
            | Body::AppendAnswer(AppendAnswer::Rejected { .. } | AppendAnswer::Full)
            | Body::ReadRequest { .. }
            | Body::ReadAnswer { .. }
            | Body::CampaignNow
            | Body::StaleStart { .. } => return,
        };
        let given = *self.votes.entry((from, term)).or_insert(vote);
        assert_eq!(given, vote, "node {from} voted twice in term {term}");
        let durable = disk.hard_state;
        assert!(
            durable.term >= term,
            "node {from} voted in term {term} with only term {} durable",
            durable.term
        );
        assert!(
            durable.term > term || durable.vote == Some(vote),
            "node {from} voted for {vote} in term {term}, and its card has {:?}",
            durable.vote
        );
    }

    /// Log matching: an entry is what its position says, and so is what stands before it.
    fn appends(&mut self, previous: Position, entries: &[Entry]) {
        let mut parent = previous;
        for entry in entries {
            let known = self.parents.entry(entry.position).or_insert_with(|| (parent, entry.payload.clone()));
            assert_eq!((known.0, &known.1), (parent, &entry.payload), "log matching at {}", entry.position);
            parent = entry.position;
        }
    }

    /// State machine safety: every node applies the same at each index.
    pub fn applies(&mut self, node: NodeId, entry: &Entry) {
        let at = usize::try_from(entry.position.index.0 - 1).expect("64 bits are enough");
        match self.applied.get(at) {
            Some(known) => {
                assert!(known == entry, "node {node} applies something else at {}", entry.position)
            }
            None => {
                assert_eq!(at, self.applied.len(), "node {node} applies ahead of everybody, with a gap");
                self.applied.push(entry.clone());
            }
        }
    }

    /// Applied anywhere: what a client may have been told.
    pub fn newest(&self) -> Index {
        Index(u64::try_from(self.applied.len()).expect("64 bits are enough"))
    }

    pub fn read_asked(&mut self, node: NodeId, id: ReadId) {
        let floor = self.newest();
        assert!(self.reads.insert((node, id), floor).is_none(), "test gives each read an id of its own");
    }

    pub fn read_done(&mut self, node: NodeId, id: ReadId, outcome: Option<Index>) {
        let floor = self.reads.remove(&(node, id)).expect("each read is answered once");
        match outcome {
            Some(index) => {
                assert!(index >= floor, "a read at {index} misses what was applied at {floor} before it");
                self.reads_answered += 1;
            }
            None => self.reads_refused += 1,
        }
    }

    /// A node stopped: its reads die with it.
    pub fn stopped(&mut self, node: NodeId) {
        self.reads.retain(|(of, _), _| *of != node);
    }

    pub fn open_reads(&self) -> usize {
        self.reads.len()
    }
}

/// What is claimed to be durable is, and so is the term in which it is claimed (rule 9).
fn check_claim(from: NodeId, term: Term, persisted: Index, disk: &Disk) {
    if persisted > Index(0) {
        assert!(
            disk.hard_state.term >= term,
            "node {from} claims index {persisted} in a term that is not durable"
        );
        let image = disk.image.as_ref().map_or(Index(0), |image| image.position.index);
        assert!(persisted <= disk.last().index.max(image), "node {from} claims what its card does not have");
    }
}

/// What a leader commits is on a quorum of cards at that moment.
fn check_durable<'a>(
    membership: &Membership,
    position: Position,
    disks: &impl Fn(NodeId) -> Option<&'a Disk>,
) {
    let holds = |id: &NodeId| disks(*id).is_some_and(|disk| disk.holds(position));
    let is_majority = |voters: &[NodeId]| voters.iter().filter(|id| holds(id)).count() > voters.len() / 2;
    assert!(is_majority(&membership.voters), "{position} is committed but not on a quorum of cards");
    let outgoing = &membership.voters_outgoing;
    assert!(
        outgoing.is_empty() || is_majority(outgoing),
        "{position} is not on a quorum of the old voters' cards"
    );
}
