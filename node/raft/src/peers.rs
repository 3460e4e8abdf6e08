//! Which life of each peer is the newest: cards that were copied or put back must not vote twice (rule 12).

use alloc::collections::BTreeMap;
use core::cmp::Ordering;
use quorate_types::{Membership, NodeId, Start};

/// Newest start seen of each peer.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    seen: BTreeMap<NodeId, Start>,
    changes: u64,
}

/// What a message's start says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// The first one heard of.
    First,
    /// The one known.
    Same,
    /// A newer one: what the peer had in memory is gone.
    Newer,
    /// An older one than known, or another with the same count.
    Stale {
        /// What is known.
        seen: Start,
    },
    /// A stranger, and no room to remember one.
    Unknown,
}

/// Most starts remembered: members of a lifetime. Ids are not used again, so only a peer that makes them up
/// gets here; then strangers are forgotten.
const SEEN_COUNT_MAX: usize = 256;

impl Peers {
    pub(crate) fn new(seen: BTreeMap<NodeId, Start>) -> Peers {
        Peers { seen, changes: 0 }
    }

    pub(crate) fn seen(&self) -> &BTreeMap<NodeId, Start> {
        &self.seen
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Compares with what was seen, and remembers.
    pub(crate) fn judge(&mut self, peer: NodeId, start: Start, membership: &Membership) -> Life {
        let life = match self.seen.get(&peer) {
            None if self.seen.len() < SEEN_COUNT_MAX => Life::First,
            None if membership.member(peer).is_some() => {
                self.seen.retain(|id, _| membership.member(*id).is_some());
                Life::First
            }
            None => Life::Unknown,
            Some(seen) if *seen == start => Life::Same,
            Some(seen) => match start.count.cmp(&seen.count) {
                Ordering::Greater => Life::Newer,
                Ordering::Less | Ordering::Equal => Life::Stale { seen: *seen },
            },
        };
        if matches!(life, Life::First | Life::Newer) {
            self.seen.insert(peer, start);
            self.changes += 1;
        }
        life
    }
}

/// Whether `seen` proves that a node living `own` stands on an older copy of its card.
pub(crate) fn is_stale(own: Start, seen: Start) -> bool {
    seen.count > own.count || (seen.count == own.count && seen.incarnation != own.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership_change::tests::membership;

    fn start(count: u64, incarnation: u64) -> Start {
        Start { count, incarnation }
    }

    #[test]
    fn lower_and_forked_starts_are_stale() {
        let mut peers = Peers::new(BTreeMap::new());
        let members = membership(&[1, 2], &[], &[]);
        let mut judge = |count, incarnation| peers.judge(NodeId(2), start(count, incarnation), &members);
        assert_eq!(judge(3, 7), Life::First);
        assert_eq!(judge(3, 7), Life::Same);
        assert_eq!(judge(3, 8), Life::Stale { seen: start(3, 7) });
        assert_eq!(judge(2, 7), Life::Stale { seen: start(3, 7) });
        assert_eq!(judge(4, 9), Life::Newer);
        assert_eq!(peers.changes(), 2);
        assert!(is_stale(start(3, 1), start(3, 2)) && is_stale(start(3, 1), start(4, 1)));
        assert!(!is_stale(start(3, 1), start(3, 1)) && !is_stale(start(3, 1), start(2, 9)));
    }

    #[test]
    fn made_up_names_do_not_fill_memory() {
        let mut peers = Peers::new(BTreeMap::new());
        let members = membership(&[1, 2], &[], &[]);
        for id in 100..2_000 {
            peers.judge(NodeId(id), start(1, 1), &members);
        }
        assert_eq!(peers.seen().len(), SEEN_COUNT_MAX);
        assert_eq!(peers.judge(NodeId(9_999), start(1, 1), &members), Life::Unknown);
        assert_eq!(peers.judge(NodeId(2), start(1, 1), &members), Life::First);
        assert_eq!(peers.seen().len(), 1);
    }
}
