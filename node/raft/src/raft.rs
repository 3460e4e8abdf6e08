//! The core: one node's part in the quorum.

use crate::{
    AppendNumber, Config, MembershipRefused, Message, PeerProgress, ProposeRefused, ReadId, Ready, Restored,
    Role, TransferRefused,
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use quorate_types::{Entry, HardState, Index, Membership, NodeId, Position, Start, Term};

/// One node's consensus. Inputs first, then `take_ready`, after each turn.
#[derive(Debug, Clone)]
pub struct Raft {
    config: Config,
    restored: Restored,
}

impl Raft {
    /// Goes on from what recovery made durable. A node that is the only voter campaigns at once.
    #[must_use]
    pub fn restore(config: Config, restored: Restored) -> Raft {
        Raft { config, restored }
    }

    /// So many ticks of `TICK_MS` have passed.
    pub fn tick(&mut self, _count: u32) {}

    /// Nothing happens by itself before so many ticks have passed; at least 1.
    #[must_use]
    pub fn ticks_until_due(&self) -> u32 {
        1
    }

    /// A peer said something; `from` is what its link proved.
    pub fn step(&mut self, _from: NodeId, _message: Message) {}

    /// Appends a command, on the leader.
    ///
    /// # Errors
    /// If it was not appended, why.
    pub fn propose(&mut self, _payload: Arc<[u8]>) -> Result<Position, ProposeRefused> {
        Err(ProposeRefused::NotLeader { leader: None })
    }

    /// Appends a membership, on the leader: in force at once.
    ///
    /// # Errors
    /// If it was not appended, why.
    pub fn propose_membership(&mut self, _next: Membership) -> Result<Position, MembershipRefused> {
        Err(MembershipRefused::NotLeader { leader: None })
    }

    /// Asks from where on a read here is linearizable; answered once in `Ready.reads`.
    pub fn request_read(&mut self, _id: ReadId) {}

    /// That append, and all before it, are durable.
    pub fn ack_append(&mut self, _number: AppendNumber) {}

    /// Begins to hand leadership to that voter.
    ///
    /// # Errors
    /// If that is not begun, why.
    pub fn transfer(&mut self, _to: NodeId) -> Result<(), TransferRefused> {
        Err(TransferRefused::NotLeader { leader: None })
    }

    /// A span that `Ready.fetches` asked for; `after` stands right before it.
    pub fn fetched(&mut self, _to: NodeId, _after: Position, _entries: Vec<Entry>) {}

    /// The card no longer has that span.
    pub fn fetch_failed(&mut self, _to: NodeId) {}

    /// That peer has been sent the image of that position.
    pub fn image_sent(&mut self, _to: NodeId, _position: Position) {}

    /// That peer could not be sent an image.
    pub fn image_failed(&mut self, _to: NodeId) {}

    /// A received image is durable and is to become this node's state; whether it does.
    pub fn install_image(&mut self, _position: Position, _membership: Membership) -> bool {
        false
    }

    /// All there is to do since the last call.
    #[must_use]
    pub fn take_ready(&mut self) -> Ready {
        Ready::default()
    }

    /// Whether `take_ready` would hand out anything.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        false
    }

    /// What this node does in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Follower
    }

    /// Who leads, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        None
    }

    /// Newest term seen; maybe not durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.restored.hard_state.term
    }

    /// Term and vote; maybe not durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.restored.hard_state
    }

    /// Known to be committed up to here.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.restored.committed
    }

    /// Handed out in `Ready.committed` up to here.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.restored.applied
    }

    /// On this node's card up to here.
    #[must_use]
    pub fn persisted(&self) -> Index {
        self.restored.applied
    }

    /// End of the log in memory.
    #[must_use]
    pub fn last(&self) -> Position {
        self.restored.base
    }

    /// Term of the entry at that index, if memory still holds it.
    #[must_use]
    pub fn position_of(&self, _index: Index) -> Option<Term> {
        None
    }

    /// The membership in force: the newest in the log.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.restored.membership
    }

    /// The newest membership known to be committed.
    #[must_use]
    pub fn membership_committed(&self) -> &Membership {
        &self.restored.membership
    }

    /// Whether this node was a member once, and the committed membership has no place for it any more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        false
    }

    /// How far each peer is; nothing on a node that does not lead.
    pub fn progress(&self) -> impl Iterator<Item = PeerProgress> + '_ {
        core::iter::empty()
    }

    /// Newest start seen of each peer, to be given to the next `restore`.
    #[must_use]
    pub fn seen(&self) -> &BTreeMap<NodeId, Start> {
        &self.restored.seen
    }

    /// Rises by one with each change of `seen`.
    #[must_use]
    pub fn seen_changes(&self) -> u64 {
        0
    }

    /// A newer start of this node, or another with the same count, that a peer has seen: this card is an
    /// older copy. The node takes no part any more.
    #[must_use]
    pub fn stale(&self) -> Option<Start> {
        None
    }

    /// Messages ignored because they could not be true.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        u64::from(self.config.seed == 0 && self.config.node.0 == 0)
    }
}
