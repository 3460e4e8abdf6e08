//! Who votes: voters stay odd (rule 14).
//!
//! Two or four voters survive no more failures than one or three, and wait for one more card. So the second
//! node learns until a third has caught up, and both become voters in one joint change; a fourth stands by
//! for a fifth, or for a voter to leave. By hand it can be forced.

use crate::membership_change::joint;
use alloc::vec::Vec;
use core::fmt;
use quorate_types::{Membership, NodeId};

/// Voters beyond this are not made by themselves: each makes every write wait for more cards, and seven
/// survive three failures.
pub const VOTER_COUNT_AUTOMATIC_MAX: usize = 7;

/// Why a member cannot be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalRefused {
    /// No such member.
    NotMember,
    /// Another change has not ended yet.
    ChangeInFlight,
    /// It is the only voter, and nobody has caught up to take its place.
    LastVoter,
    /// Of those that would vote then, too few answer: the cluster would stop.
    NoQuorum {
        /// Voters after the removal.
        voters: Vec<NodeId>,
        /// Those of them that answer.
        live: Vec<NodeId>,
        /// How many must.
        needed: usize,
    },
}

/// Why a member is not made a voter by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromotionRefused {
    /// No such member.
    NotMember,
    /// It votes already.
    IsVoter,
    /// Another change has not ended yet.
    ChangeInFlight,
    /// Its log is too far behind: as a voter it would hold up every write.
    NotCaughtUp,
}

/// What a leader knows of its members when it decides.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Nodes that answered within an election timeout, the leader itself among them.
    pub live: &'a [NodeId],
    /// Learners that keep up with the log.
    pub caught_up: &'a [NodeId],
}

/// The membership that should be proposed by itself now, if any: ready to be proposed.
#[must_use]
pub fn automatic(membership: &Membership, caught_up: &[NodeId]) -> Option<Membership> {
    if !membership.voters_outgoing.is_empty() {
        return None;
    }
    let wanted = if membership.voters.len().is_multiple_of(2) { 1 } else { 2 };
    let chosen: Vec<NodeId> = standbys(membership, caught_up).take(wanted).collect();
    if chosen.len() < wanted || membership.voters.len() + wanted > VOTER_COUNT_AUTOMATIC_MAX {
        return None;
    }
    Some(joint(membership, [membership.voters.as_slice(), &chosen].concat()))
}

/// The membership by which `id` leaves: a learner at once, a voter through a joint change in which a caught-up
/// standby takes its place, if there is one.
///
/// # Errors
/// If it must not leave, why.
pub fn removal(
    membership: &Membership,
    id: NodeId,
    standing: Standing<'_>,
) -> Result<Membership, RemovalRefused> {
    if membership.member(id).is_none() {
        return Err(RemovalRefused::NotMember);
    }
    if !membership.voters_outgoing.is_empty() {
        return Err(RemovalRefused::ChangeInFlight);
    }
    if membership.is_learner(id) {
        let mut next = membership.clone();
        next.members.retain(|member| member.id != id);
        next.learners.retain(|learner| *learner != id);
        next.version += 1;
        return Ok(next);
    }
    let mut voters: Vec<NodeId> = membership.voters.iter().copied().filter(|voter| *voter != id).collect();
    voters.extend(standbys(membership, standing.caught_up).next());
    voters.sort_unstable();
    if voters.is_empty() {
        return Err(RemovalRefused::LastVoter);
    }
    let live: Vec<NodeId> = voters.iter().copied().filter(|voter| standing.live.contains(voter)).collect();
    let needed = voters.len() / 2 + 1;
    if live.len() < needed {
        return Err(RemovalRefused::NoQuorum { voters, live, needed });
    }
    Ok(joint(membership, voters))
}

/// The membership by which `id` votes, whatever that makes of the number; `stays_learner` ends with it.
///
/// # Errors
/// If it must not vote, why.
pub fn promotion(
    membership: &Membership,
    id: NodeId,
    standing: Standing<'_>,
) -> Result<Membership, PromotionRefused> {
    if membership.member(id).is_none() {
        return Err(PromotionRefused::NotMember);
    }
    if !membership.voters_outgoing.is_empty() {
        return Err(PromotionRefused::ChangeInFlight);
    }
    if membership.voters.contains(&id) {
        return Err(PromotionRefused::IsVoter);
    }
    if !standing.caught_up.contains(&id) {
        return Err(PromotionRefused::NotCaughtUp);
    }
    let mut next = joint(membership, [membership.voters.as_slice(), &[id]].concat());
    next.members.iter_mut().filter(|member| member.id == id).for_each(|member| member.stays_learner = false);
    Ok(next)
}

/// Learners that may vote, in the order of their ids.
fn standbys<'a>(membership: &'a Membership, caught_up: &'a [NodeId]) -> impl Iterator<Item = NodeId> + 'a {
    let stays = |id: NodeId| membership.member(id).is_none_or(|member| member.stays_learner);
    membership.learners.iter().copied().filter(move |id| caught_up.contains(id) && !stays(*id))
}

impl fmt::Display for RemovalRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemovalRefused::NotMember => f.write_str("no such member"),
            RemovalRefused::ChangeInFlight => f.write_str("another membership change has not ended yet"),
            RemovalRefused::LastVoter => f.write_str("it is the only voter, and no other node has caught up"),
            RemovalRefused::NoQuorum { voters, live, needed } => write!(
                f,
                "of the {} voters left only {} answer, {needed} must: the cluster would stop",
                voters.len(),
                live.len(),
            ),
        }
    }
}

impl fmt::Display for PromotionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PromotionRefused::NotMember => "no such member",
            PromotionRefused::IsVoter => "it votes already",
            PromotionRefused::ChangeInFlight => "another membership change has not ended yet",
            PromotionRefused::NotCaughtUp => "its log is too far behind",
        })
    }
}

impl core::error::Error for RemovalRefused {}
impl core::error::Error for PromotionRefused {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership_change::{check_successor, tests::membership, tests::version};
    use alloc::vec;

    fn ids(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn automatic_voters(voters: &[u64], learners: &[u64], caught_up: &[u64]) -> Option<Vec<u64>> {
        let current = membership(voters, &[], learners);
        let next = automatic(&current, &ids(caught_up))?;
        assert_eq!(check_successor(&current, &next), Ok(()));
        Some(next.voters.iter().map(|id| id.0).collect())
    }

    #[test]
    fn voters_stay_odd() {
        assert_eq!(automatic_voters(&[1], &[2], &[2]), None, "the second waits for the third");
        assert_eq!(automatic_voters(&[1], &[2, 3], &[2]), None, "which must have caught up");
        assert_eq!(automatic_voters(&[1], &[2, 3], &[2, 3]), Some(vec![1, 2, 3]));
        assert_eq!(automatic_voters(&[1, 2, 3], &[4], &[4]), None, "the fourth stands by");
        assert_eq!(automatic_voters(&[1, 2, 3], &[4, 5, 6], &[4, 6]), Some(vec![1, 2, 3, 4, 6]));
        assert_eq!(
            automatic_voters(&[1, 3], &[4, 5], &[4, 5]),
            Some(vec![1, 3, 4]),
            "an even number is mended"
        );
        assert_eq!(automatic_voters(&[1, 2, 3, 4, 5, 6, 7], &[8, 9], &[8, 9]), None);
        assert_eq!(
            automatic(&membership(&[1, 2], &[1], &[3, 4]), &ids(&[3, 4])),
            None,
            "one change at a time"
        );
    }

    #[test]
    fn who_stays_a_learner_is_promoted_by_hand_only() {
        let mut current = membership(&[1], &[], &[2, 3]);
        current.members[1].stays_learner = true;
        assert_eq!(automatic(&current, &ids(&[2, 3])), None);
        let (live, caught_up) = (ids(&[1, 2, 3]), ids(&[2]));
        let standing = Standing { live: &live, caught_up: &caught_up };
        let next = promotion(&current, NodeId(2), standing).expect("by hand");
        assert_eq!((next.voters, next.learners), (ids(&[1, 2]), ids(&[3])));
        assert_eq!(promotion(&current, NodeId(3), standing), Err(PromotionRefused::NotCaughtUp));
        assert_eq!(promotion(&current, NodeId(1), standing), Err(PromotionRefused::IsVoter));
        assert_eq!(promotion(&current, NodeId(9), standing), Err(PromotionRefused::NotMember));
    }

    #[test]
    fn a_standby_takes_the_place_of_a_voter_that_leaves() {
        let current = membership(&[1, 2, 3], &[], &[4]);
        let live = ids(&[1, 2, 4]);
        let caught_up = ids(&[4]);
        let next =
            removal(&current, NodeId(3), Standing { live: &live, caught_up: &caught_up }).expect("legal");
        assert_eq!(check_successor(&current, &next), Ok(()));
        assert_eq!((&next.voters, &next.voters_outgoing), (&ids(&[1, 2, 4]), &ids(&[1, 2, 3])));
        let next = removal(&current, NodeId(3), Standing { live: &live, caught_up: &[] }).expect("legal");
        assert_eq!(next.voters, ids(&[1, 2]), "without a standby one fewer votes");
        let next =
            removal(&current, NodeId(4), Standing { live: &live, caught_up: &caught_up }).expect("legal");
        assert_eq!(next, version(2, membership(&[1, 2, 3], &[], &[])));
    }

    #[test]
    fn a_removal_that_would_stop_the_cluster_is_refused() {
        let current = membership(&[1, 2, 3], &[], &[]);
        let live = ids(&[1, 3]);
        let refused = removal(&current, NodeId(3), Standing { live: &live, caught_up: &[] });
        let expected = RemovalRefused::NoQuorum { voters: ids(&[1, 2]), live: ids(&[1]), needed: 2 };
        assert_eq!(refused, Err(expected));
        let alone = membership(&[1], &[], &[2]);
        let refused = removal(&alone, NodeId(1), Standing { live: &live, caught_up: &[] });
        assert_eq!(refused, Err(RemovalRefused::LastVoter));
        assert_eq!(
            removal(&alone, NodeId(7), Standing { live: &live, caught_up: &[] }),
            Err(RemovalRefused::NotMember)
        );
    }
}
