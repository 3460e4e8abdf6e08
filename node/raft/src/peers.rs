//! Which life of each peer is the newest: cards that were copied or put back must not vote twice (rule 12).

use alloc::collections::{BTreeMap, VecDeque};
use quorate_types::{Membership, NodeId, Start};

/// Newest start seen of each peer.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    seen: BTreeMap<NodeId, Start>,
    /// Lives that counted themselves beyond what is seen, on a card that forked before: their messages do not say
    /// so again.
    forked: VecDeque<(NodeId, Start)>,
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
    /// An older one than known, another with the same count, or one whose card forked below.
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

/// Forked lives remembered, the newest: a few for each member, each of which ends as soon as it is told.
const FORKED_COUNT_MAX: usize = 64;

impl Peers {
    pub(crate) fn new(seen: BTreeMap<NodeId, Start>) -> Peers {
        Peers { seen, forked: VecDeque::new(), changes: 0 }
    }

    pub(crate) fn seen(&self) -> &BTreeMap<NodeId, Start> {
        &self.seen
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Compares with what was seen, and remembers. `earlier` are the starts before it on the same card, as far as
    /// they are told: each start of an older copy counts it up, until it is past what was seen of the newer one.
    pub(crate) fn judge(
        &mut self,
        peer: NodeId,
        start: Start,
        earlier: &[Start],
        membership: &Membership,
    ) -> Life {
        let life = match self.seen.get(&peer) {
            None if self.seen.len() < SEEN_COUNT_MAX => Life::First,
            None if membership.member(peer).is_some() => {
                self.seen.retain(|id, _| membership.member(*id).is_some());
                Life::First
            }
            None => Life::Unknown,
            Some(seen) if *seen == start => Life::Same,
            Some(seen) if self.forked.contains(&(peer, start)) => Life::Stale { seen: *seen },
            Some(seen) if is_stale(start, earlier, *seen) => {
                if self.forked.len() == FORKED_COUNT_MAX {
                    self.forked.pop_front();
                }
                self.forked.push_back((peer, start));
                Life::Stale { seen: *seen }
            }
            Some(_) => Life::Newer,
        };
        if matches!(life, Life::First | Life::Newer) {
            self.seen.insert(peer, start);
            self.changes += 1;
        }
        life
    }
}

/// Whether `seen` proves that a node living `own`, and `earlier` before that, stands on an older copy of its card:
/// a later life, or one with the count of a life of this card that was another.
pub(crate) fn is_stale(own: Start, earlier: &[Start], seen: Start) -> bool {
    let mut lives = earlier.iter().chain([&own]);
    seen.count > own.count
        || lives.any(|life| life.count == seen.count && life.incarnation != seen.incarnation)
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
        let mut judge = |count, incarnation| peers.judge(NodeId(2), start(count, incarnation), &[], &members);
        assert_eq!(judge(3, 7), Life::First);
        assert_eq!(judge(3, 7), Life::Same);
        assert_eq!(judge(3, 8), Life::Stale { seen: start(3, 7) });
        assert_eq!(judge(2, 7), Life::Stale { seen: start(3, 7) });
        assert_eq!(judge(4, 9), Life::Newer);
        assert_eq!(peers.changes(), 2);
        let is_stale = |own, seen| is_stale(own, &[], seen);
        assert!(is_stale(start(3, 1), start(3, 2)) && is_stale(start(3, 1), start(4, 1)));
        assert!(!is_stale(start(3, 1), start(3, 1)) && !is_stale(start(3, 1), start(2, 9)));
    }

    #[test]
    fn a_copy_that_counted_itself_up_is_known_by_its_past() {
        let members = membership(&[1, 2], &[], &[]);
        let mut peers = Peers::new([(NodeId(2), start(3, 7))].into());
        let past = [start(3, 8), start(2, 6)];
        let stale = Life::Stale { seen: start(3, 7) };
        assert_eq!(peers.judge(NodeId(2), start(5, 9), &past, &members), stale);
        assert_eq!(peers.judge(NodeId(2), start(5, 9), &[], &members), stale, "its messages tell no past");
        assert_eq!(peers.judge(NodeId(2), start(3, 7), &[], &members), Life::Same);
        assert_eq!(peers.judge(NodeId(2), start(6, 1), &[start(3, 7), start(2, 6)], &members), Life::Newer);
        assert!(is_stale(start(5, 9), &past, start(3, 7)) && !is_stale(start(5, 9), &past, start(3, 8)));
    }

    #[test]
    fn made_up_names_do_not_fill_memory() {
        let mut peers = Peers::new(BTreeMap::new());
        let members = membership(&[1, 2], &[], &[]);
        for id in 100..2_000 {
            peers.judge(NodeId(id), start(1, 1), &[], &members);
        }
        assert_eq!(peers.seen().len(), SEEN_COUNT_MAX);
        assert_eq!(peers.judge(NodeId(9_999), start(1, 1), &[], &members), Life::Unknown);
        assert_eq!(peers.judge(NodeId(2), start(1, 1), &[], &members), Life::First);
        assert_eq!(peers.seen().len(), 1);
    }
}
