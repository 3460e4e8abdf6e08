//! What the core gives: the ready, and what can be seen from outside.

use crate::mutant::mutated;
use crate::role::RoleState;
use crate::{PeerProgress, Raft, Ready, Role, promotion};
use alloc::{collections::BTreeMap, vec::Vec};
use quorate_types::{HardState, Index, Membership, NodeId, Position, Start, Term, limits};

/// Entries applied in one turn, so that the driver is never held long.
const APPLY_COUNT_MAX: usize = 1_024;

impl Raft {
    /// All there is to do since the last call, as far as it fits into one turn; `has_ready` tells whether more
    /// is left.
    #[must_use]
    pub fn take_ready(&mut self) -> Ready {
        self.outbox.is_dirty = false;
        match &self.role {
            RoleState::Leader(_) => self.feed_peers(),
            RoleState::Follower(_) => self.ask_leader(),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {}
        }
        let mut append = self.durable.take(&self.log, self.hard_state, self.committed, self.now);
        if mutated!(self, VoteNotWritten)
            && let Some(hard_state) = append.as_mut().and_then(|append| append.hard_state.as_mut())
        {
            hard_state.vote = None;
        }
        let committed = self.log.span(self.applied, self.committed, limits::BATCH_BYTES_MAX, APPLY_COUNT_MAX);
        self.applied = committed.last().map_or(self.applied, |entry| entry.position.index);
        self.log.release(self.applied.min(self.durable.persisted()), limits::LOG_RETAINED_BYTES_MAX);
        #[cfg(debug_assertions)]
        crate::invariants::check(self);
        Ready {
            messages: core::mem::take(&mut self.outbox.messages),
            append,
            committed,
            reads: core::mem::take(&mut self.outbox.reads),
            fetches: core::mem::take(&mut self.outbox.fetches),
            images: core::mem::take(&mut self.outbox.images),
        }
    }

    /// Whether `take_ready` may hand out anything.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.outbox.is_dirty
            || self.applied < self.committed
            || self.durable.has_append(self.hard_state, self.log.last().index)
    }

    /// What this node does in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.role {
            RoleState::Follower(_) => Role::Follower,
            RoleState::PreCandidate(_) => Role::PreCandidate,
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// Who leads, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Follower(follower) => follower.leader,
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
            RoleState::Leader(_) => Some(self.node),
        }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Newest term seen; maybe not durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote; maybe not durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Known to be committed up to here.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Handed out in `Ready.committed`, or covered by an image, up to here.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// On this node's card up to here.
    #[must_use]
    pub fn persisted(&self) -> Index {
        self.durable.persisted()
    }

    /// Ticks for which the oldest append has waited for its ack; zero if none is under way.
    #[must_use]
    pub fn append_waits(&self) -> u64 {
        self.durable.waits_since().map_or(0, |since| self.now - since)
    }

    /// End of the log in memory.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// What stands right before the entries that memory holds.
    #[must_use]
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// Term of the entry at that index, if memory still holds it.
    #[must_use]
    pub fn position_of(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The membership in force: the newest in the log.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.memberships.in_force()
    }

    /// The newest membership known to be committed.
    #[must_use]
    pub fn membership_committed(&self) -> &Membership {
        self.memberships.committed()
    }

    /// Whether this node was a member once, and the committed membership has no place for it any more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.was_member && self.memberships.committed().member(self.node).is_none()
    }

    /// How far each peer is; nothing on a node that does not lead. A removed peer is here until it has heard
    /// that it is removed: the hall keeps its link as long.
    pub fn progress(&self) -> impl Iterator<Item = PeerProgress> + '_ {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        let peers = leader.into_iter().flat_map(|leader| &leader.progress);
        peers.map(|(node, progress)| progress.describe(*node, self.now))
    }

    /// Newest start seen of each peer, to be given to the next `restore`.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<NodeId, Start> {
        self.peers.seen()
    }

    /// Rises by one with each change of `seen`.
    #[must_use]
    pub fn seen_changes(&self) -> u64 {
        self.peers.changes()
    }

    /// A newer start of this node, or another with the same count, that a peer has seen: this card is an
    /// older copy. The node takes no part any more.
    #[must_use]
    pub fn stale(&self) -> Option<Start> {
        self.stale
    }

    /// Messages ignored because they could not be true, or came from a stale life.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The membership by which `id` leaves, for `propose_membership`.
    ///
    /// # Errors
    /// If it must not leave, why; meaningful on the leader only, who knows which members live.
    pub fn removal(&self, id: NodeId) -> Result<Membership, promotion::RemovalRefused> {
        let (live, caught_up) = self.standing();
        let standing = promotion::Standing { live: &live, caught_up: &caught_up };
        promotion::removal(self.memberships.in_force(), id, standing)
    }

    /// The membership by which `id` becomes a voter by hand, for `propose_membership`.
    ///
    /// # Errors
    /// If it must not vote, why; meaningful on the leader only, who knows which members have caught up.
    pub fn promotion(&self, id: NodeId) -> Result<Membership, promotion::PromotionRefused> {
        let (live, caught_up) = self.standing();
        let standing = promotion::Standing { live: &live, caught_up: &caught_up };
        promotion::promotion(self.memberships.in_force(), id, standing)
    }

    /// Breaks a rule from here on.
    #[cfg(feature = "mutants")]
    pub fn mutate(&mut self, mutant: crate::Mutant) {
        self.mutant = Some(mutant);
    }

    /// Who answers, and which learners have caught up.
    pub(crate) fn standing(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let live = self.progress().filter(|peer| peer.is_active).map(|peer| peer.node);
        let learners = &self.memberships.in_force().learners;
        let caught_up = self.progress().filter(|peer| peer.is_caught_up && learners.contains(&peer.node));
        (core::iter::once(self.node).chain(live).collect(), caught_up.map(|peer| peer.node).collect())
    }
}
