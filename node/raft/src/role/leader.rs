//! Leading: the log goes out, claims of durability come back, a quorum of them commits.

use crate::card::Guard;
use crate::progress::Progress;
use crate::read::LeaderReads;
use crate::timing::{FAREWELL_TICKS, HEARTBEAT_TICKS};
use crate::transfer::Transfer;
use alloc::collections::BTreeMap;
use quorate_types::{Index, Membership, NodeId};

mod feed;
mod lead;
mod propose;

pub(crate) use lead::CLOSE_ENTRY_COUNT;

/// What a leader knows beside its log. All of it ends with its term.
#[derive(Debug, Clone)]
pub(crate) struct Leader {
    /// Every other member, and those that left and have not heard so yet.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) reads: LeaderReads,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) guard: Guard,
    /// Newest heartbeat round.
    pub(crate) round: u64,
    /// The next round begins then, at the latest.
    heartbeat_at: u64,
    /// When peers are looked after next. Apart from the heartbeat, which every read's round moves: a leader that
    /// is read from all the time would look after nobody.
    upkeep_at: u64,
    /// Its own first entry: once that is committed, it knows what is (Raft thesis 6.4).
    pub(crate) first: Index,
}

impl Leader {
    /// A new leader whose first entry will stand at `first`.
    pub(crate) fn new(first: Index, now: u64) -> Leader {
        Leader {
            progress: BTreeMap::new(),
            reads: LeaderReads::default(),
            transfer: None,
            guard: Guard::new(now),
            round: 0,
            heartbeat_at: now,
            upkeep_at: now,
            first,
        }
    }

    /// Peers are the members of the newest membership, which stands at `index`, and those that just left.
    pub(crate) fn sync_members(&mut self, membership: &Membership, own: NodeId, index: Index, now: u64) {
        for member in membership.members.iter().filter(|member| member.id != own) {
            let peer = self.progress.entry(member.id).or_insert_with(|| Progress::new(index, now));
            peer.stay();
        }
        for (_, peer) in self.progress.iter_mut().filter(|(id, _)| membership.member(**id).is_none()) {
            peer.leave(index, now + FAREWELL_TICKS);
        }
        let is_voter = |id| crate::quorum::is_voter(membership, id);
        self.transfer = self.transfer.take().filter(|transfer| is_voter(transfer.to));
    }

    /// When something is due next; nothing, for a leader without peers.
    pub(crate) fn due(&self) -> Option<u64> {
        let tended = self.heartbeat_at.min(self.upkeep_at);
        let heartbeat = (!self.progress.is_empty()).then_some(tended);
        heartbeat.into_iter().chain(self.transfer.as_ref().map(Transfer::until)).min()
    }

    /// Counts a new round that begins now.
    fn next_round(&mut self, now: u64) -> u64 {
        self.round += 1;
        self.heartbeat_at = now + HEARTBEAT_TICKS;
        self.round
    }
}
