//! What stands in the heads of frames. The order of fields and variants is the format: append, never change.

use crate::bounded;
use quorate_raft::{AppendAnswer, Body, Card, Heartbeat, HeartbeatAnswer, Message, VoteRequest};
use quorate_types::{
    ClusterId, EntryKind, Index, Member, Membership, NodeId, PeerKey, Position, Start, Term, limits,
};
use serde::{Deserialize, Serialize};

/// First frame of a peer or image link, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// What the sender speaks; only equal versions talk.
    pub(crate) version: u16,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) start: Start,
    /// The port it listens at: with the address it was seen at, where it can be dialled.
    pub(crate) port: u16,
    /// The sender's starts before this one, oldest first: a copy of its card has others (protocol.md rule 12).
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::EARLIER_STARTS_COUNT_MAX }>")]
    pub(crate) earlier: Vec<Start>,
}

/// A message without its payloads, which stand behind the head in the order of `entries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireMessage {
    pub(crate) start: Start,
    pub(crate) term: Term,
    pub(crate) body: WireBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireBody {
    PreVoteRequest { last: Position, is_hand_over: bool },
    PreVoteAnswer { granted: bool },
    VoteRequest { last: Position, is_hand_over: bool },
    VoteAnswer { granted: bool },
    Heartbeat { committed: Index, round: u64 },
    HeartbeatAnswer { round: u64, verified: Index, persisted: Index, card: WireCard },
    AppendEntries(WireAppend),
    AppendTaken { verified: Index, persisted: Index },
    AppendRejected { previous: Index, hint: Position },
    AppendFull,
    ReadRequest { number: u64 },
    ReadAnswer { number: u64, index: Option<Index> },
    CampaignNow,
    StaleStart { seen: Start },
}

/// A `Card` as frames carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireCard {
    Unknown,
    Takes(u16),
    StandsStill,
}

impl From<Card> for WireCard {
    fn from(card: Card) -> WireCard {
        match card {
            Card::Unknown => WireCard::Unknown,
            Card::Takes(ms) => WireCard::Takes(ms),
            Card::StandsStill => WireCard::StandsStill,
        }
    }
}

impl From<WireCard> for Card {
    fn from(card: WireCard) -> Card {
        match card {
            WireCard::Unknown => Card::Unknown,
            WireCard::Takes(ms) => Card::Takes(ms),
            WireCard::StandsStill => Card::StandsStill,
        }
    }
}

/// Entries follow `previous` without a gap, so only their terms are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireAppend {
    pub(crate) previous: Position,
    pub(crate) committed: Index,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::BATCH_ENTRY_COUNT_MAX }>")]
    pub(crate) entries: Vec<WireEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireEntry {
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    pub(crate) bytes: u32,
}

impl WireMessage {
    /// The head of a message that is no append.
    pub(crate) fn plain(message: &Message) -> Option<WireMessage> {
        let body = match message.body {
            Body::PreVoteRequest(VoteRequest { last, is_hand_over }) => {
                WireBody::PreVoteRequest { last, is_hand_over }
            }
            Body::PreVoteAnswer { granted } => WireBody::PreVoteAnswer { granted },
            Body::VoteRequest(VoteRequest { last, is_hand_over }) => {
                WireBody::VoteRequest { last, is_hand_over }
            }
            Body::VoteAnswer { granted } => WireBody::VoteAnswer { granted },
            Body::Heartbeat(Heartbeat { committed, round }) => WireBody::Heartbeat { committed, round },
            Body::HeartbeatAnswer(HeartbeatAnswer { round, verified, persisted, card }) => {
                WireBody::HeartbeatAnswer { round, verified, persisted, card: card.into() }
            }
            Body::AppendAnswer(AppendAnswer::Taken { verified, persisted }) => {
                WireBody::AppendTaken { verified, persisted }
            }
            Body::AppendAnswer(AppendAnswer::Rejected { previous, hint }) => {
                WireBody::AppendRejected { previous, hint }
            }
            Body::AppendAnswer(AppendAnswer::Full) => WireBody::AppendFull,
            Body::ReadRequest { number } => WireBody::ReadRequest { number },
            Body::ReadAnswer { number, index } => WireBody::ReadAnswer { number, index },
            Body::CampaignNow => WireBody::CampaignNow,
            Body::StaleStart { seen } => WireBody::StaleStart { seen },
            Body::AppendEntries(_) => return None,
        };
        Some(WireMessage { start: message.start, term: message.term, body })
    }

    /// The message, if it is no append.
    pub(crate) fn into_plain(self) -> Result<Message, WireAppend> {
        let body = match self.body {
            WireBody::PreVoteRequest { last, is_hand_over } => {
                Body::PreVoteRequest(VoteRequest { last, is_hand_over })
            }
            WireBody::PreVoteAnswer { granted } => Body::PreVoteAnswer { granted },
            WireBody::VoteRequest { last, is_hand_over } => {
                Body::VoteRequest(VoteRequest { last, is_hand_over })
            }
            WireBody::VoteAnswer { granted } => Body::VoteAnswer { granted },
            WireBody::Heartbeat { committed, round } => Body::Heartbeat(Heartbeat { committed, round }),
            WireBody::HeartbeatAnswer { round, verified, persisted, card } => {
                let card = card.into();
                Body::HeartbeatAnswer(HeartbeatAnswer { round, verified, persisted, card })
            }
            WireBody::AppendEntries(append) => return Err(append),
            WireBody::AppendTaken { verified, persisted } => {
                Body::AppendAnswer(AppendAnswer::Taken { verified, persisted })
            }
            WireBody::AppendRejected { previous, hint } => {
                Body::AppendAnswer(AppendAnswer::Rejected { previous, hint })
            }
            WireBody::AppendFull => Body::AppendAnswer(AppendAnswer::Full),
            WireBody::ReadRequest { number } => Body::ReadRequest { number },
            WireBody::ReadAnswer { number, index } => Body::ReadAnswer { number, index },
            WireBody::CampaignNow => Body::CampaignNow,
            WireBody::StaleStart { seen } => Body::StaleStart { seen },
        };
        Ok(Message { start: self.start, term: self.term, body })
    }
}

/// What a joiner says of itself; its proof covers these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireKnock {
    pub(crate) version: u16,
    pub(crate) cluster: ClusterId,
    pub(crate) name: String,
    #[serde(deserialize_with = "bounded::list::<_, _, ADDRESS_COUNT_MAX>")]
    pub(crate) peer_addresses: Vec<String>,
    #[serde(deserialize_with = "bounded::list::<_, _, ADDRESS_COUNT_MAX>")]
    pub(crate) client_urls: Vec<String>,
    pub(crate) stays_learner: bool,
}

/// What a joiner is told when it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireWelcome {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) at: Index,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::MEMBER_COUNT_MAX }>")]
    members: Vec<WireMember>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::MEMBER_COUNT_MAX }>")]
    voters: Vec<NodeId>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::MEMBER_COUNT_MAX }>")]
    voters_outgoing: Vec<NodeId>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::MEMBER_COUNT_MAX }>")]
    learners: Vec<NodeId>,
    version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireMember {
    id: NodeId,
    name: String,
    #[serde(deserialize_with = "bounded::list::<_, _, ADDRESS_COUNT_MAX>")]
    peer_addresses: Vec<String>,
    #[serde(deserialize_with = "bounded::list::<_, _, ADDRESS_COUNT_MAX>")]
    client_urls: Vec<String>,
    key: PeerKey,
    stays_learner: bool,
}

impl WireWelcome {
    pub(crate) fn new(cluster: ClusterId, node: NodeId, at: Index, membership: &Membership) -> WireWelcome {
        WireWelcome {
            cluster,
            node,
            at,
            members: membership.members.iter().map(WireMember::new).collect(),
            voters: membership.voters.clone(),
            voters_outgoing: membership.voters_outgoing.clone(),
            learners: membership.learners.clone(),
            version: membership.version,
        }
    }

    pub(crate) fn into_membership(self) -> Membership {
        Membership {
            members: self.members.into_iter().map(WireMember::into_member).collect(),
            voters: self.voters,
            voters_outgoing: self.voters_outgoing,
            learners: self.learners,
            version: self.version,
        }
    }
}

impl WireMember {
    fn new(member: &Member) -> WireMember {
        WireMember {
            id: member.id,
            name: member.name.clone(),
            peer_addresses: member.peer_addresses.clone(),
            client_urls: member.client_urls.clone(),
            key: member.key,
            stays_learner: member.stays_learner,
        }
    }

    fn into_member(self) -> Member {
        Member {
            id: self.id,
            name: self.name,
            peer_addresses: self.peer_addresses,
            client_urls: self.client_urls,
            key: self.key,
            stays_learner: self.stays_learner,
        }
    }
}

/// Asks a joiner whether it is there, and for that cluster; the answer is the same frame back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AreYouThere {
    pub(crate) version: u16,
    pub(crate) cluster: ClusterId,
}

/// What this release speaks between nodes.
pub(crate) const VERSION: u16 = 2;

/// Addresses of one kind a member may have.
pub(crate) const ADDRESS_COUNT_MAX: usize = 8;
