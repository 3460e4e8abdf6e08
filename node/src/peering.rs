//! The peer room's two ends in the hall: what peers say goes into the inbox, what the driver says to them goes
//! out. Runs on the async worker; nothing here decides anything.

use crate::forward::{Forward, Joined, Joiner};
use crate::inbox::{Inbound, Inbox};
use crate::links::Links;
use crate::receiver::ImageReceiving;
use quorate_peer::{Hall, ImageOffer, ImageSink, JoinAnswer, JoinRefusal, JoinRequest, Peers, Refusal};
use quorate_raft::{Envelope, Message};
use quorate_types::{Identity, Index, Member, Membership, NodeId, Start};
use quorate_wal::RealDisk;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What peers say, into the inbox. A message without room is dropped: consensus sends again.
#[derive(Clone)]
pub struct PeerEar {
    /// Who this is.
    pub identity: Identity,
    /// The driver.
    pub inbox: Inbox,
    /// Where images go.
    pub receiving: ImageReceiving<RealDisk>,
}

impl Hall for PeerEar {
    fn message(&self, from: NodeId, message: Message) {
        let _is_heard: bool = self.inbox.hear(Inbound::Peer { from, message });
    }

    fn forward(&self, from: NodeId, bytes: Vec<u8>) {
        match Forward::decode(&bytes) {
            Some(forward) => {
                let _is_heard: bool = self.inbox.hear(Inbound::Forward { from, forward });
            }
            None => tracing::warn!(%from, "a peer says what this release does not understand"),
        }
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, JoinRefusal> {
        let joiner = Joiner {
            invite: request.invite_hash,
            member: Member {
                // The leader chooses it.
                id: NodeId(0),
                name: request.name,
                peer_addresses: request.peer_addresses,
                client_urls: request.client_urls,
                key: request.key,
                stays_learner: request.stays_learner,
            },
        };
        let (reply, answer) = oneshot::channel();
        if !self.inbox.hear(Inbound::Join { joiner, reply }) {
            return Err(JoinRefusal::NotNow("this node is overloaded or stopping".into()));
        }
        match answer.await {
            Ok(Ok(Joined { node, membership, index })) => {
                Ok(JoinAnswer { cluster: self.identity.cluster, node, membership, at: index })
            }
            Ok(Err(failure)) if failure.is_passing => Err(JoinRefusal::NotNow(failure.words)),
            Ok(Err(failure)) => Err(JoinRefusal::Other(failure.words)),
            Err(_) => Err(JoinRefusal::NotNow("this node is stopping".into())),
        }
    }

    async fn image_begins(&self, from: NodeId, offer: ImageOffer) -> Option<ImageSink> {
        self.receiving.begin(from, offer).await
    }

    fn greeted(&self, peer: NodeId, start: Start, earlier: Vec<Start>) {
        let _is_heard: bool = self.inbox.deliver(Inbound::Greeted { peer, start, earlier });
    }

    fn reachable(&self, peer: NodeId, is_up: bool) {
        let _is_heard: bool = self.inbox.deliver(Inbound::Reachable { peer, is_up });
    }

    fn refused(&self, by: NodeId, refusal: Refusal) {
        match refusal {
            Refusal::NotAMember { version, .. } => {
                let _is_heard: bool = self.inbox.hear(Inbound::NotMember(version));
            }
            Refusal::Words(words) => tracing::warn!(%by, words, "a member does not listen to this node"),
        }
    }
}

/// What the driver says, out to the peers.
pub struct QuicLinks {
    /// The room.
    pub peers: Peers,
    /// The card, to send images from.
    pub disk: RealDisk,
    /// The driver.
    pub inbox: Inbox,
    /// Where its tasks run.
    pub runtime: Handle,
}

impl Links for QuicLinks {
    fn send(&mut self, envelope: Envelope) {
        self.peers.send(envelope);
    }

    fn forward(&mut self, to: NodeId, forward: &Forward) -> bool {
        self.peers.forward(to, forward.encode())
    }

    fn set_members(&mut self, membership: &Membership) {
        // The version orders memberships as their index would, and a joining node knows it.
        self.peers.set_members(membership, Index(membership.version));
    }

    fn send_image(&mut self, to: NodeId) {
        let (peers, inbox, disk) = (self.peers.clone(), self.inbox.clone(), self.disk.clone());
        self.runtime.spawn(async move {
            let position = match crate::receiver::ImageSending::newest(&disk).await {
                Ok((offer, source)) => match peers.send_image(to, offer, source).await {
                    Ok(()) => Some(offer.position),
                    Err(error) => {
                        tracing::warn!(%to, %error, "an image was not sent");
                        None
                    }
                },
                Err(words) => {
                    tracing::warn!(%to, words, "the image to be sent cannot be read");
                    None
                }
            };
            let _is_heard: bool = inbox.deliver(Inbound::ImageSent { to, position });
        });
    }

    fn dial_back(&mut self, ticket: u64, joiner: &Member) {
        let (peers, inbox) = (self.peers.clone(), self.inbox.clone());
        let (addresses, key) = (joiner.peer_addresses.clone(), joiner.key);
        self.runtime.spawn(async move {
            let seen = peers.dial_back(&addresses, key).await.map(drop).map_err(|error| error.to_string());
            let _is_heard: bool = inbox.deliver(Inbound::DialledBack { ticket, seen });
        });
    }
}

/// The links of a node without a peer port: it is alone.
pub struct NoLinks {
    /// The driver.
    pub inbox: Inbox,
}

impl Links for NoLinks {
    fn send(&mut self, _envelope: Envelope) {}

    fn forward(&mut self, _to: NodeId, _forward: &Forward) -> bool {
        false
    }

    fn set_members(&mut self, _membership: &Membership) {}

    fn send_image(&mut self, to: NodeId) {
        let _is_heard: bool = self.inbox.deliver(Inbound::ImageSent { to, position: None });
    }

    fn dial_back(&mut self, ticket: u64, _joiner: &Member) {
        let seen = Err("this node has no peer port".to_owned());
        let _is_heard: bool = self.inbox.deliver(Inbound::DialledBack { ticket, seen });
    }
}
