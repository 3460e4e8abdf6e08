//! Taking a new node in, at the leader: is the invite good, does the node answer where it says it is, then
//! the invite is used up, then it becomes a learner. A wrong address or a dead board never touches the
//! membership.

use super::Driver;
use super::answer::Answerer;
use crate::forward::{FarAnswer, FarRefusal, Joined, Joiner};
use core::time::Duration;
use quorate_store::{Command, InviteTaken, Outcome, StoreError};
use quorate_types::limits::MEMBER_COUNT_MAX;
use quorate_types::{Member, Membership, NodeId, PeerKey};
use std::collections::BTreeMap;

/// Joins at once.
const JOIN_COUNT_MAX: usize = 4;

/// A join that is not through by then is given up: its token may be used again by the same node.
const JOIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Joins under way.
#[derive(Default)]
pub(super) struct Joins {
    running: BTreeMap<u64, Joining>,
    last: u64,
}

struct Joining {
    joiner: Joiner,
    answerer: Answerer,
    deadline: Duration,
    stage: Stage,
}

/// How far a join has come.
enum Stage {
    /// Its addresses are dialled.
    DiallingBack,
    /// The use of the invite is in the log, under that proposal's number.
    Taking(u64),
    /// The invite is used; its membership is to be proposed, or is.
    Adding,
}

impl Driver {
    pub(super) fn join(&mut self, joiner: Joiner, answerer: Answerer) {
        if let Some(joined) = self.joined(joiner.member.key) {
            return self.reply_question(answerer, Ok(FarAnswer::Joined(joined)));
        }
        if let Some(words) = self.join_refusal(&joiner) {
            return self.reply_question(answerer, Err(FarRefusal::Words(words)));
        }
        if self.work.joins.running.len() >= JOIN_COUNT_MAX {
            let words = "other nodes are joining right now";
            return self.reply_question(answerer, Err(FarRefusal::NotNow(words.into())));
        }
        self.work.joins.last += 1;
        let ticket = self.work.joins.last;
        tracing::info!(name = joiner.member.name, addresses = ?joiner.member.peer_addresses, "a node wants to join");
        self.links.dial_back(ticket, &joiner.member);
        let deadline = self.clock.now() + JOIN_TIMEOUT;
        let joining = Joining { joiner, answerer, deadline, stage: Stage::DiallingBack };
        self.work.joins.running.insert(ticket, joining);
    }

    /// Why a join is refused before anything is tried.
    fn join_refusal(&self, joiner: &Joiner) -> Option<String> {
        let invite = self.store.invites().find(|invite| invite.hash == joiner.invite);
        let words = match invite {
            None => "the cluster knows no such invite: it was revoked or is long over",
            Some(invite) if invite.used_by.is_some_and(|key| key != joiner.member.key) => {
                "the token was used by another node: make a new one with `quorate invite`"
            }
            Some(invite) if invite.used_by.is_none() && invite.expires <= self.clock.cluster_time() => {
                "the token's time is over: make a new one with `quorate invite`"
            }
            Some(_) if self.core.membership().members.len() >= MEMBER_COUNT_MAX => {
                "the cluster has as many members as it may have"
            }
            Some(_) => {
                return joiner
                    .member
                    .excess()
                    .map(|excess| format!("what the node says of itself: {excess}"));
            }
        };
        Some(words.to_owned())
    }

    /// What a member with that key was told when it joined.
    fn joined(&self, key: PeerKey) -> Option<Joined> {
        let membership = self.core.membership_committed();
        let member = membership.members.iter().find(|member| member.key == key)?;
        Some(Joined { node: member.id, membership: membership.clone(), index: self.store.applied() })
    }

    pub(super) fn dialled_back(&mut self, ticket: u64, seen: Result<(), String>) {
        let Some(joining) = self.work.joins.running.get(&ticket) else { return };
        if let Err(words) = seen {
            let words = format!(
                "the leader did not reach this node at what it advertises: {words}. Nothing was changed; check \
                 --advertise-peer, and whether UDP is blocked"
            );
            return self.end_join(ticket, Err(FarRefusal::Words(words)));
        }
        let command = Command::InviteTake { hash: joining.joiner.invite, key: joining.joiner.member.key };
        let number = self.propose_own(command);
        match number {
            Some(number) => self.set_stage(ticket, Stage::Taking(number)),
            None => self.end_join(ticket, Err(FarRefusal::NotLeader)),
        }
    }

    fn set_stage(&mut self, ticket: u64, stage: Stage) {
        if let Some(joining) = self.work.joins.running.get_mut(&ticket) {
            joining.stage = stage;
        }
    }

    /// A proposal of this node was applied: maybe a join waited for it.
    pub(super) fn join_applied(&mut self, number: u64, outcome: &Result<Outcome, StoreError>) {
        let waits = |joining: &Joining| matches!(joining.stage, Stage::Taking(taking) if taking == number);
        let found = self.work.joins.running.iter().find(|(_, joining)| waits(joining));
        let Some(ticket) = found.map(|(ticket, _)| *ticket) else { return };
        match outcome {
            Ok(Outcome::InviteTake(InviteTaken::Taken)) => self.set_stage(ticket, Stage::Adding),
            Ok(_) | Err(_) => {
                let words = "the token is used up or over: make a new one with `quorate invite`";
                self.end_join(ticket, Err(FarRefusal::Words(words.into())));
            }
        }
    }

    /// Proposes the memberships that wait, and answers those that are through.
    pub(super) fn follow_joins(&mut self) {
        let adding = |(ticket, joining): (&u64, &Joining)| {
            matches!(joining.stage, Stage::Adding).then_some((*ticket, joining.joiner.member.clone()))
        };
        let adding: Vec<(u64, Member)> = self.work.joins.running.iter().filter_map(adding).collect();
        for (ticket, member) in adding {
            if let Some(joined) = self.joined(member.key) {
                tracing::info!(node = %joined.node, name = member.name, "a node has joined as a learner");
                self.end_join(ticket, Ok(FarAnswer::Joined(joined)));
            } else if !self.core.membership().members.iter().any(|known| known.key == member.key) {
                // Refused while another change is under way: looked at again until the deadline.
                let next = self.with_learner(member);
                drop(self.propose_members(next));
            }
        }
    }

    fn with_learner(&self, member: Member) -> Membership {
        let membership = self.core.membership();
        let id = self.new_id(membership, member.key);
        membership.clone().with_learner(Member { id, ..member })
    }

    /// An id for a new member: the head of its key, which is as random as any; moved on while it is taken.
    fn new_id(&self, membership: &Membership, key: PeerKey) -> NodeId {
        let mut head = [0; 8];
        head.copy_from_slice(&key.0[..8]);
        let mut id = u64::from_le_bytes(head).max(1);
        while membership.is_member(NodeId(id)) {
            id = id.wrapping_add(1).max(1);
        }
        NodeId(id)
    }

    pub(super) fn expire_joins(&mut self, now: Duration) {
        let overdue: Vec<u64> = self
            .work
            .joins
            .running
            .iter()
            .filter(|(_, join)| join.deadline <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in overdue {
            let words = "the cluster could not commit the new member in time: has it a quorum?";
            self.end_join(ticket, Err(FarRefusal::NotNow(words.into())));
        }
    }

    fn end_join(&mut self, ticket: u64, answer: Result<FarAnswer, FarRefusal>) {
        if let Some(joining) = self.work.joins.running.remove(&ticket) {
            self.reply_question(joining.answerer, answer);
        }
    }

    /// Leadership is gone: the joining node tries again.
    pub(super) fn joins_lost(&mut self) {
        for ticket in self.work.joins.running.keys().copied().collect::<Vec<u64>>() {
            self.end_join(ticket, Err(FarRefusal::NotLeader));
        }
    }
}
