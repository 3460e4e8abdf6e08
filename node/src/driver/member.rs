//! Changes of who belongs, at the leader: proposed here, answered once they are in force and committed.

use super::Driver;
use super::answer::Answerer;
use crate::forward::{Change, FarAnswer, FarMemberRefusal, FarRefusal};
use core::time::Duration;
use quorate_raft::promotion::{self, PromotionRefused, RemovalRefused, Standing};
use quorate_raft::{MembershipRefused, PeerProgress, TransferRefused};
use quorate_types::{Member, Membership, NodeId};

/// A change that is not through by then is no longer answered; whoever asked has given up before.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Entries a standby may lack and still take a removed voter's place at once.
const NEAR_ENTRY_COUNT: u64 = 1_000;

/// A change under way: one at a time.
pub(super) struct Changing {
    goal: Goal,
    answerer: Answerer,
    deadline: Duration,
}

/// What ends a change.
enum Goal {
    /// That node is no member any more.
    Gone(NodeId),
    /// That node votes.
    Voter(NodeId),
    /// The members know it so.
    Described(Member),
    /// That node leads.
    Leads(NodeId),
}

impl Goal {
    fn is_reached(&self, membership: &Membership, leader: Option<NodeId>) -> bool {
        match self {
            Goal::Gone(id) => !membership.is_member(*id) && !membership.is_joint(),
            Goal::Voter(id) => membership.is_voter(*id) && !membership.is_joint(),
            Goal::Described(member) => membership.member(member.id) == Some(member),
            Goal::Leads(id) => leader == Some(*id),
        }
    }
}

impl Driver {
    /// A question to this node as the leader.
    pub(super) fn change_members(&mut self, change: Change, answerer: Answerer) {
        let begun = match change {
            _ if self.work.changing.is_some() => Err(FarMemberRefusal::ChangeUnderWay.into()),
            Change::Transfer(id) => self.begin_transfer(id),
            Change::Remove(id) => self.begin_removal(id),
            Change::Promote(id) => self.begin_promotion(id),
            Change::Describe(member) => self.begin_description(member),
        };
        match begun {
            Ok(goal) => {
                let deadline = self.clock.now() + CHANGE_TIMEOUT;
                self.work.changing = Some(Changing { goal, answerer, deadline });
            }
            Err(refusal) => self.reply_question(answerer, Err(refusal)),
        }
    }

    fn begin_removal(&mut self, id: NodeId) -> Result<Goal, FarRefusal> {
        // A standby that is as far as the others now takes the place, though a new leader has not watched it for long.
        // One that never answered counts as active at first, and as near while the log is short: it must have some of
        // the log, or a board that joined and never came would vote.
        let (live, _) = self.standing();
        let last = self.core.last().index.0;
        let is_near = |peer: &PeerProgress| {
            let has_some = peer.persisted.0 > 0;
            peer.is_active && has_some && last - peer.persisted.0.min(last) <= NEAR_ENTRY_COUNT
        };
        let caught_up: Vec<NodeId> = self.core.progress().filter(is_near).map(|peer| peer.node).collect();
        let standing = Standing { live: &live, caught_up: &caught_up };
        let next = promotion::removal(self.core.membership(), id, standing);
        let next = next.map_err(|refused| removal_refusal(&refused))?;
        self.propose_members(next)?;
        tracing::info!(node = %id, "removing a member");
        Ok(Goal::Gone(id))
    }

    fn begin_promotion(&mut self, id: NodeId) -> Result<Goal, FarRefusal> {
        let (live, caught_up) = self.standing();
        let standing = Standing { live: &live, caught_up: &caught_up };
        let next = promotion::promotion(self.core.membership(), id, standing).map_err(promotion_refusal)?;
        self.propose_members(next)?;
        tracing::info!(node = %id, "promoting a member by hand");
        Ok(Goal::Voter(id))
    }

    fn begin_description(&mut self, member: Member) -> Result<Goal, FarRefusal> {
        if let Some(excess) = member.excess() {
            return Err(FarRefusal::Words(excess.into()));
        }
        let mut next = self.core.membership().clone();
        let known = next.members.iter_mut().find(|known| known.id == member.id);
        let known = known.ok_or(FarMemberRefusal::NotFound)?;
        // Its key is what its id means to the others; only a node without one may say what it is.
        let key = if known.key == Default::default() { member.key } else { known.key };
        *known = Member { key, ..member };
        let member = known.clone();
        self.propose_members(next)?;
        tracing::info!(node = %member.id, addresses = ?member.peer_addresses, "a member is known differently now");
        Ok(Goal::Described(member))
    }

    fn begin_transfer(&mut self, id: NodeId) -> Result<Goal, FarRefusal> {
        match self.core.transfer(id) {
            Ok(()) | Err(TransferRefused::IsLeader) => Ok(Goal::Leads(id)),
            Err(TransferRefused::NotVoter | TransferRefused::NotActive) => {
                Err(FarMemberRefusal::BadTransferee.into())
            }
            Err(TransferRefused::HandingOver) => Err(FarMemberRefusal::ChangeUnderWay.into()),
            Err(TransferRefused::NotLeader { .. }) => Err(FarRefusal::NotLeader),
        }
    }

    pub(super) fn propose_members(&mut self, next: Membership) -> Result<(), FarRefusal> {
        match self.core.propose_membership(next) {
            Ok(_) => Ok(()),
            Err(MembershipRefused::NotLeader { .. } | MembershipRefused::HandingOver) => {
                Err(FarRefusal::NotLeader)
            }
            Err(
                MembershipRefused::NotReady | MembershipRefused::ChangeInFlight | MembershipRefused::Outdated,
            ) => Err(FarMemberRefusal::ChangeUnderWay.into()),
            Err(
                refused @ (MembershipRefused::Malformed
                | MembershipRefused::NoVoters
                | MembershipRefused::TooManyMembers
                | MembershipRefused::TooLarge
                | MembershipRefused::NotJoint
                | MembershipRefused::Unchanged),
            ) => Err(FarRefusal::Words(refused.to_string())),
        }
    }

    /// Who answers, and which learners keep up, as the leader knows.
    fn standing(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        // To a new leader everybody counts as active until an election timeout has passed: only an answer shows
        // that somebody lives.
        let has_answered = |peer: &PeerProgress| peer.is_active && peer.verified.0 > 0;
        let live = self.core.progress().filter(has_answered).map(|peer| peer.node);
        let live = live.chain([self.identity.node]).collect();
        let caught_up = self.core.progress().filter(|peer| peer.is_caught_up).map(|peer| peer.node);
        (live, caught_up.collect())
    }

    /// Answers the change under way once it is through, or too old.
    pub(super) fn follow_change(&mut self) {
        let Some(changing) = self.work.changing.take() else { return };
        let membership = self.core.membership_committed();
        if changing.goal.is_reached(membership, self.core.leader()) {
            let answer = FarAnswer::Changed(membership.clone());
            self.reply_question(changing.answerer, Ok(answer));
        } else if self.clock.now() >= changing.deadline {
            self.reply_question(changing.answerer, Err(FarRefusal::NotLeader));
        } else {
            self.work.changing = Some(changing);
        }
    }

    /// Leadership is gone. A change's outcome is the next leader's; a hand-over is what was asked for.
    pub(super) fn change_lost(&mut self) {
        let Some(changing) = self.work.changing.take() else { return };
        if matches!(changing.goal, Goal::Leads(_)) {
            self.work.changing = Some(changing);
        } else {
            self.reply_question(changing.answerer, Err(FarRefusal::NotLeader));
        }
    }

    /// The voter that would take over best: it answers, and its card has most of the log.
    pub(super) fn successor(&self) -> Option<NodeId> {
        let membership = self.core.membership();
        let others = self.core.progress().filter(|peer| peer.is_active && membership.is_voter(peer.node));
        others.max_by_key(|peer| (peer.persisted, peer.verified)).map(|peer| peer.node)
    }
}

impl From<FarMemberRefusal> for FarRefusal {
    fn from(refusal: FarMemberRefusal) -> FarRefusal {
        FarRefusal::Member(refusal)
    }
}

fn removal_refusal(refused: &RemovalRefused) -> FarRefusal {
    match refused {
        RemovalRefused::NotMember => FarMemberRefusal::NotFound.into(),
        RemovalRefused::ChangeInFlight => FarMemberRefusal::ChangeUnderWay.into(),
        RemovalRefused::NoQuorum { .. } | RemovalRefused::LastVoter => {
            FarMemberRefusal::WouldLoseQuorum(refused.to_string()).into()
        }
    }
}

fn promotion_refusal(refused: PromotionRefused) -> FarRefusal {
    match refused {
        PromotionRefused::NotMember => FarMemberRefusal::NotFound.into(),
        PromotionRefused::ChangeInFlight => FarMemberRefusal::ChangeUnderWay.into(),
        PromotionRefused::IsVoter => FarMemberRefusal::NotLearner.into(),
        PromotionRefused::NotCaughtUp => FarMemberRefusal::LearnerNotReady.into(),
    }
}
