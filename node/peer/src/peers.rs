//! The handle the hall holds.

use crate::{DialError, Hall, ImageOffer, ImageSendError, ImageSource, NodeKey, PeerError, PeersStats};
use quorate_raft::Envelope;
use quorate_types::{Identity, Index, Membership, NodeId, PeerKey, Start};
use std::net::{SocketAddr, UdpSocket};

/// What the room needs to open.
#[derive(Debug)]
pub struct PeerConfig {
    /// This node's key.
    pub key: NodeKey,
    /// Bound to the peer port; used for dialling too.
    pub socket: UdpSocket,
    /// Who this node is.
    pub identity: Identity,
    /// Its life.
    pub start: Start,
}

/// The other nodes. A cheap handle; when the last one is dropped, links end.
#[derive(Debug, Clone)]
pub struct Peers {}

impl Peers {
    /// Opens the room: from here on peers are answered. Nobody is believed before `set_members`.
    ///
    /// # Errors
    /// The socket or the key does not do.
    ///
    /// # Panics
    /// Called outside a tokio runtime.
    pub fn open<H: Hall>(config: PeerConfig, hall: H) -> Result<Peers, PeerError> {
        drop((config, hall));
        Ok(Peers {})
    }

    /// Sends, or drops and counts. Never blocks.
    pub fn send(&self, envelope: Envelope) {
        drop(envelope);
    }

    /// Sends bytes to a peer's hall, at most `FORWARD_BYTES_MAX`. False: not taken, for the peer is down, its queue is full, or
    /// it is no member. True is no promise that it arrives.
    #[must_use]
    pub fn forward(&self, to: NodeId, bytes: Vec<u8>) -> bool {
        drop((to, bytes));
        false
    }

    /// Who is believed and dialled from here on. Links of those who are not in it end with the reason and `at`.
    pub fn set_members(&self, membership: &Membership, at: Index) {
        let _: (&Membership, Index) = (membership, at);
    }

    /// Sends an image on a connection of its own, going on where a cut one ended.
    ///
    /// # Errors
    /// See `ImageSendError`.
    pub async fn send_image<S: ImageSource>(
        &self,
        to: NodeId,
        offer: ImageOffer,
        source: S,
    ) -> Result<(), ImageSendError> {
        drop((to, offer, source));
        Err(ImageSendError::NotAMember)
    }

    /// Dials a joiner at what it advertises and sees it answer with that key. Gives the address that did.
    ///
    /// # Errors
    /// None did; what was tried.
    pub async fn dial_back(&self, addresses: &[String], key: PeerKey) -> Result<SocketAddr, DialError> {
        let _: (&[String], PeerKey) = (addresses, key);
        Err(DialError { tried: Vec::new() })
    }

    /// The room at this moment.
    #[must_use]
    pub fn stats(&self) -> PeersStats {
        PeersStats::default()
    }

    /// Ends all links, telling peers so, and waits until they were told.
    pub async fn close(&self) {}
}

/// Bytes of one forward at most: any entry, and what halls write around it.
pub const FORWARD_BYTES_MAX: usize = quorate_types::limits::ENTRY_BYTES_MAX + 64 * 1024;
