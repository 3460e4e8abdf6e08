//! Which membership may follow which (Raft thesis chapter 4).
//!
//! Learners and what is known of members change in one step. Voters change in two: a joint membership, in
//! which the old and the new set must both agree, then the new set alone, which the leader appends by itself
//! once the joint one is committed.

use crate::MembershipRefused;
use alloc::vec::Vec;
use quorate_types::{Membership, NodeId, limits};

/// Versions beyond this are nonsense: a peer must not bring the end of counting near.
const VERSION_MAX: u64 = u64::MAX >> 16;

/// Whether ids are ordered and unique, every member is in a set, every id in a set is a member, nobody both votes
/// and learns, and the version can be counted on from.
pub(crate) fn is_well_formed(membership: &Membership) -> bool {
    let Membership { members, voters, voters_outgoing, learners, version } = membership;
    let ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
    let is_ordered = |ids: &[NodeId]| ids.is_sorted_by(|a, b| a < b);
    let are_members = |set: &[NodeId]| set.iter().all(|id| ids.contains(id));
    let votes = |id: &NodeId| voters.contains(id) || voters_outgoing.contains(id);
    [&ids, voters, voters_outgoing, learners].into_iter().all(|set| is_ordered(set))
        && [voters, voters_outgoing, learners].into_iter().all(|set| are_members(set))
        && ids.iter().all(|id| votes(id) != learners.contains(id))
        && ids.len() <= limits::MEMBER_COUNT_MAX
        && !voters.is_empty()
        && *version <= VERSION_MAX
}

/// Whether a leader may append `next` while `current` is in force and committed.
///
/// # Errors
/// If not, why.
pub(crate) fn check_successor(current: &Membership, next: &Membership) -> Result<(), MembershipRefused> {
    if !current.voters_outgoing.is_empty() {
        return Err(MembershipRefused::ChangeInFlight);
    }
    if next.version.checked_sub(current.version).is_none_or(|step| step > 1) {
        return Err(MembershipRefused::Outdated);
    }
    if next.members.len() > limits::MEMBER_COUNT_MAX {
        return Err(MembershipRefused::TooManyMembers);
    }
    if crate::membership_log::encode_membership(next).len() > limits::MEMBERSHIP_BYTES_MAX {
        return Err(MembershipRefused::TooLarge);
    }
    if next.voters.is_empty() {
        return Err(MembershipRefused::NoVoters);
    }
    if !is_well_formed(next) {
        return Err(MembershipRefused::Malformed);
    }
    if (Membership { version: current.version, ..next.clone() }) == *current {
        return Err(MembershipRefused::Unchanged);
    }
    let is_joint = !next.voters_outgoing.is_empty();
    let is_voters_change = next.voters != current.voters;
    let is_legal = is_joint == is_voters_change && (!is_joint || next.voters_outgoing == current.voters);
    if is_legal { Ok(()) } else { Err(MembershipRefused::NotJoint) }
}

/// The joint membership by which `voters` become the voters. Those among them that learned before learn no
/// more; those that voted and do not appear leave with the joint membership.
#[must_use]
pub(crate) fn joint(current: &Membership, mut voters: Vec<NodeId>) -> Membership {
    assert!(current.voters_outgoing.is_empty(), "one change at a time");
    voters.sort_unstable();
    let learners = current.learners.iter().copied().filter(|id| !voters.contains(id)).collect();
    let version = current.version + 1;
    Membership {
        members: current.members.clone(),
        voters,
        voters_outgoing: current.voters.clone(),
        learners,
        version,
    }
}

/// What follows a committed joint membership.
#[must_use]
pub(crate) fn after_joint(joint: &Membership) -> Membership {
    assert!(!joint.voters_outgoing.is_empty(), "only a joint membership is left");
    let stays = |id: NodeId| joint.voters.contains(&id) || joint.learners.contains(&id);
    Membership {
        members: joint.members.iter().filter(|member| stays(member.id)).cloned().collect(),
        voters: joint.voters.clone(),
        voters_outgoing: Vec::new(),
        learners: joint.learners.clone(),
        version: joint.version + 1,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::string::String;
    use quorate_types::{Member, PeerKey};

    /// Members are whoever is in a set.
    pub(crate) fn membership(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        let mut all: Vec<u64> = [voters, outgoing, learners].concat();
        all.sort_unstable();
        all.dedup();
        let member = |id: &u64| Member {
            id: NodeId(*id),
            name: String::new(),
            peer_addresses: Vec::new(),
            client_urls: Vec::new(),
            key: PeerKey::default(),
            stays_learner: false,
        };
        Membership {
            members: all.iter().map(member).collect(),
            voters: ids(voters),
            voters_outgoing: ids(outgoing),
            learners: ids(learners),
            version: 1,
        }
    }

    /// The same, as the cluster's so many-th.
    pub(crate) fn version(version: u64, membership: Membership) -> Membership {
        Membership { version, ..membership }
    }

    #[test]
    fn voters_change_through_a_joint_membership_only() {
        let current = membership(&[1, 2, 3], &[], &[4]);
        let check = |next| check_successor(&current, &next);
        assert_eq!(check(membership(&[1, 2, 4], &[1, 2, 3], &[])), Ok(()));
        assert_eq!(check(membership(&[1, 2, 4], &[], &[])), Err(MembershipRefused::NotJoint));
        assert_eq!(check(membership(&[1, 2, 4], &[1, 2], &[])), Err(MembershipRefused::NotJoint));
        assert_eq!(check(membership(&[1, 2, 3], &[1, 2, 3], &[])), Err(MembershipRefused::NotJoint));
        assert_eq!(check(membership(&[1, 2, 3], &[], &[4, 5])), Ok(()));
        assert_eq!(check(membership(&[1, 2, 3], &[], &[])), Ok(()));
        assert_eq!(check(current.clone()), Err(MembershipRefused::Unchanged));
        assert_eq!(check(membership(&[], &[1, 2, 3], &[])), Err(MembershipRefused::NoVoters));
        assert_eq!(check(membership(&[1, 2, 3], &[], &[3])), Err(MembershipRefused::Malformed));
        let many: Vec<u64> = (4..40).collect();
        assert_eq!(check(membership(&[1, 2, 3], &[], &many)), Err(MembershipRefused::TooManyMembers));
    }

    #[test]
    fn what_was_made_from_another_membership_is_outdated() {
        let current = version(5, membership(&[1, 2, 3], &[], &[]));
        let check = |made_as| check_successor(&current, &version(made_as, membership(&[1, 2, 3], &[], &[4])));
        assert_eq!(
            [4, 5, 6, 7].map(check),
            [Err(MembershipRefused::Outdated), Ok(()), Ok(()), Err(MembershipRefused::Outdated)]
        );
    }

    #[test]
    fn nothing_follows_a_joint_membership_but_its_end() {
        let joint_now = membership(&[1, 2, 4], &[1, 2, 3], &[5]);
        let next = membership(&[1, 2, 4], &[], &[5]);
        assert_eq!(check_successor(&joint_now, &next), Err(MembershipRefused::ChangeInFlight));
        assert_eq!(after_joint(&joint_now), version(2, next));
        let current = membership(&[1, 2, 3], &[], &[4, 5]);
        assert_eq!(joint(&current, [4, 2, 1].map(NodeId).into()), version(2, joint_now));
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_not_well_formed() {
        assert!(is_well_formed(&membership(&[1, 2], &[2, 3], &[4])));
        assert!(is_well_formed(&version(VERSION_MAX, membership(&[1], &[], &[]))));
        assert!(!is_well_formed(&version(VERSION_MAX + 1, membership(&[1], &[], &[]))));
        assert!(!is_well_formed(&membership(&[2, 1], &[], &[])));
        assert!(!is_well_formed(&membership(&[1], &[2], &[2])));
        assert!(!is_well_formed(&membership(&[], &[], &[2])));
        let mut stranger = membership(&[1], &[], &[2]);
        stranger.learners.clear();
        assert!(!is_well_formed(&stranger), "a member in no set");
        stranger.members.clear();
        assert!(!is_well_formed(&stranger), "a voter that is no member");
    }
}
