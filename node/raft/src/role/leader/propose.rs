//! What a leader appends, and what it is asked to do.

use crate::membership_change::check_successor;
use crate::membership_log::encode_membership;
use crate::role::RoleState;
use crate::transfer::Transfer;
use crate::{MembershipRefused, ProposeRefused, Raft, TransferRefused};
use alloc::sync::Arc;
use quorate_types::{Entry, EntryKind, Membership, NodeId, Position, limits};

impl Raft {
    /// Appends a command, on the leader. It is in force once it comes back in `Ready.committed`.
    ///
    /// # Errors
    /// If it was not appended, why.
    ///
    /// # Panics
    /// If the payload is larger than an entry may be.
    pub fn propose(&mut self, payload: Arc<[u8]>) -> Result<Position, ProposeRefused> {
        assert!(payload.len() <= limits::ENTRY_BYTES_MAX, "a proposal fits into an entry");
        let leader = self.leader();
        let Some(leading) = self.leading() else { return Err(ProposeRefused::NotLeader { leader }) };
        if leading.transfer.is_some() {
            return Err(ProposeRefused::HandingOver);
        }
        let bytes_max = u64::try_from(limits::UNPERSISTED_BYTES_MAX).expect("fits");
        if self.log.bytes_after(self.durable.persisted().min(self.committed)) > bytes_max {
            return Err(ProposeRefused::Full);
        }
        let position = self.append_entry(EntryKind::Command, payload);
        self.end_input();
        Ok(position)
    }

    /// Appends a membership, on the leader: in force at once. Voters change through a joint membership, which
    /// this leader, or the next, leaves by itself. Its version is set here.
    ///
    /// # Errors
    /// If it was not appended, why.
    pub fn propose_membership(&mut self, next: Membership) -> Result<Position, MembershipRefused> {
        self.check_change()?;
        check_successor(self.memberships.in_force(), &next)?;
        let position = self.append_membership(next);
        self.end_input();
        Ok(position)
    }

    /// Begins to hand leadership to that voter. Proposals are refused until it leads, or until an election
    /// timeout has passed.
    ///
    /// # Errors
    /// If that is not begun, why.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), TransferRefused> {
        let (now, leader) = (self.now, self.leader());
        let is_voter = self.memberships.in_force().voters.contains(&to);
        let is_self = to == self.node;
        let Some(leading) = self.leading() else { return Err(TransferRefused::NotLeader { leader }) };
        if is_self {
            return Err(TransferRefused::IsLeader);
        }
        if leading.transfer.is_some() {
            return Err(TransferRefused::HandingOver);
        }
        let peer = leading.progress.get(&to).filter(|_| is_voter).ok_or(TransferRefused::NotVoter)?;
        if !peer.is_active(now) {
            return Err(TransferRefused::NotActive);
        }
        leading.transfer = Some(Transfer::new(to, now));
        self.tell_transfer(false);
        self.end_input();
        Ok(())
    }

    /// Whether a membership may be appended now.
    ///
    /// # Errors
    /// If not, why.
    pub(crate) fn check_change(&self) -> Result<(), MembershipRefused> {
        let leader = self.leader();
        let RoleState::Leader(leading) = &self.role else {
            return Err(MembershipRefused::NotLeader { leader });
        };
        if leading.transfer.is_some() {
            return Err(MembershipRefused::HandingOver);
        }
        let is_joint = !self.memberships.in_force().voters_outgoing.is_empty();
        if is_joint || self.memberships.in_flight().next().is_some() {
            return Err(MembershipRefused::ChangeInFlight);
        }
        if self.committed < leading.first {
            return Err(MembershipRefused::NotReady);
        }
        Ok(())
    }

    /// A new leader's first entry.
    pub(crate) fn append_noop(&mut self) {
        self.append_entry(EntryKind::Noop, Arc::from([]));
    }

    /// Appends a membership that may follow, as the next version; it is in force at once.
    pub(crate) fn append_membership(&mut self, mut next: Membership) -> Position {
        next.version = self.memberships.in_force().version + 1;
        let position = self.append_entry(EntryKind::Membership, encode_membership(&next));
        self.memberships.push(position.index, next);
        let Raft { role, memberships, node, now, .. } = self;
        if let RoleState::Leader(leader) = role {
            leader.sync_members(memberships.in_force(), *node, position.index, *now);
        }
        position
    }

    fn append_entry(&mut self, kind: EntryKind, payload: Arc<[u8]>) -> Position {
        let position = self.next_position();
        self.log.push(Entry { position, kind, payload });
        position
    }
}
