//! What a majority says; during a joint change, what both majorities say.

use alloc::vec::Vec;
use quorate_types::{Index, Membership, NodeId};

/// Whether `agrees` holds for a quorum. Nobody is no quorum.
pub(crate) fn agrees(membership: &Membership, agrees: impl Fn(NodeId) -> bool) -> bool {
    let is_majority = |voters: &[NodeId]| voters.iter().filter(|id| agrees(**id)).count() > voters.len() / 2;
    let outgoing = &membership.voters_outgoing;
    is_majority(&membership.voters) && (outgoing.is_empty() || is_majority(outgoing))
}

/// The highest index a quorum has reached.
pub(crate) fn reached(membership: &Membership, index_of: impl Fn(NodeId) -> Index) -> Index {
    let majority = |voters: &[NodeId]| {
        let mut indexes: Vec<Index> = voters.iter().map(|id| index_of(*id)).collect();
        indexes.sort_unstable();
        // Of n, the one that n/2 others are at or below and n/2 (rounded up) with it at or above.
        indexes.len().checked_sub(1).map_or(Index(0), |most| indexes[most / 2])
    };
    let reached = majority(&membership.voters);
    if membership.voters_outgoing.is_empty() {
        return reached;
    }
    reached.min(majority(&membership.voters_outgoing))
}

/// Whether that node's vote counts.
pub(crate) fn is_voter(membership: &Membership, node: NodeId) -> bool {
    membership.voters.contains(&node) || membership.voters_outgoing.contains(&node)
}

/// Whether that node alone is a quorum.
pub(crate) fn is_alone(membership: &Membership, node: NodeId) -> bool {
    membership.voters == [node] && membership.voters_outgoing.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn membership(voters: &[u64], outgoing: &[u64]) -> Membership {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect();
        Membership { voters: ids(voters), voters_outgoing: ids(outgoing), ..Membership::default() }
    }

    /// A second, dumb definition: an index is reached if a quorum has it.
    #[test]
    fn reached_is_the_highest_index_a_quorum_agrees_on() {
        let sets: [(&[u64], &[u64]); 6] = [
            (&[1], &[]),
            (&[1, 2], &[]),
            (&[1, 2, 3], &[]),
            (&[1, 2, 3, 4], &[]),
            (&[1, 2, 3], &[3, 4]),
            (&[4], &[1, 2, 3]),
        ];
        for (voters, outgoing) in sets {
            let membership = membership(voters, outgoing);
            for code in 0..256_u64 {
                let index_of = |node: NodeId| Index(code >> (2 * (node.0 - 1)) & 3);
                let dumb = (0..4).rev().find(|at| agrees(&membership, |node| index_of(node) >= Index(*at)));
                assert_eq!(Some(reached(&membership, index_of).0), dumb, "{voters:?} {outgoing:?} {code}");
            }
        }
    }

    #[test]
    fn nobody_is_no_quorum() {
        assert!(!agrees(&Membership::default(), |_| true));
        assert_eq!(reached(&Membership::default(), |_| Index(9)), Index(0));
    }

    #[test]
    fn half_is_no_majority_and_both_sets_must_agree() {
        assert!(!agrees(&membership(&[1, 2], &[]), |node| node == NodeId(1)));
        assert!(!agrees(&membership(&[1], &[2]), |node| node == NodeId(1)));
        assert!(is_alone(&membership(&[1], &[]), NodeId(1)));
        assert!(!is_alone(&membership(&[1], &[2]), NodeId(1)));
        assert_eq!(vec![true, false], [2, 3].map(|id| is_voter(&membership(&[1], &[2]), NodeId(id))));
    }
}
