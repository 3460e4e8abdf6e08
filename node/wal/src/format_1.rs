//! What format 1 wrote otherwise: members had no key, and none was kept from voting.
//!
//! A log or an image of format 1 is read and never gone on with: the first batch of a start opens a segment of
//! the present format behind it.

use crate::segment::Header;
use crate::snapshot_file::ImageHead;
use quorate_types::{HardState, Identity, Member, Membership, NodeId, PeerKey, Position, Start};
use serde::Deserialize;

/// Its number, in segments and images alike.
pub(crate) const FORMAT_1: u16 = 1;

/// A member of format 1.
#[derive(Deserialize)]
struct Member1 {
    id: NodeId,
    name: String,
    peer_addresses: Vec<String>,
    client_urls: Vec<String>,
}

/// A membership of format 1.
#[derive(Deserialize)]
pub(crate) struct Membership1 {
    members: Vec<Member1>,
    voters: Vec<NodeId>,
    voters_outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// The head of an image of format 1.
#[derive(Deserialize)]
pub(crate) struct ImageHead1 {
    identity: Identity,
    position: Position,
    membership: Membership1,
    hard_state: HardState,
    start: Start,
    number: u64,
}

impl From<Member1> for Member {
    fn from(member: Member1) -> Member {
        let Member1 { id, name, peer_addresses, client_urls } = member;
        Member { id, name, peer_addresses, client_urls, key: PeerKey::default(), stays_learner: false }
    }
}

impl From<Membership1> for Membership {
    fn from(membership: Membership1) -> Membership {
        let Membership1 { members, voters, voters_outgoing, learners } = membership;
        Membership {
            members: members.into_iter().map(Member::from).collect(),
            voters,
            voters_outgoing,
            learners,
            version: 1,
        }
    }
}

impl From<ImageHead1> for ImageHead {
    fn from(head: ImageHead1) -> ImageHead {
        let ImageHead1 { identity, position, membership, hard_state, start, number } = head;
        ImageHead { identity, position, membership: membership.into(), hard_state, start, number }
    }
}

impl From<Header<Membership1>> for Header {
    fn from(header: Header<Membership1>) -> Header {
        Header {
            use_number: header.use_number,
            block_bytes: header.block_bytes,
            segment_bytes: header.segment_bytes,
            identity: header.identity,
            start: header.start,
            hard_state: header.hard_state,
            membership: header.membership.into(),
            base: header.base,
            previous: header.previous,
            first_batch: header.first_batch,
            created_by: header.created_by,
        }
    }
}
