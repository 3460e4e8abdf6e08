//! The handle the hall holds.

use crate::endpoint::Dialer;
use crate::error::{DialError, DialFailure, PeerError};
use crate::frame::Kind;
use crate::goodbye::Goodbye;
use crate::hall::Hall;
use crate::image::{self, ImageOffer, ImageSendError, ImageSource};
use crate::key::NodeKey;
use crate::link;
use crate::receive;
use crate::roster::Core;
use crate::slot::{Slot, canonical};
use crate::stats::PeersStats;
use crate::stream::{StreamError, WORD_MAX, read_head, write_head};
use crate::tls::Purpose;
use crate::wire::{AreYouThere, VERSION};
use quinn::Connection;
use quorate_raft::Envelope;
use quorate_types::{ClusterId, Identity, Index, Membership, NodeId, PeerKey, Start, limits};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::AbortHandle;
use tokio::time::timeout;

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
    /// Its starts before that on this card, oldest first; of more than `limits::EARLIER_STARTS_COUNT_MAX` the last.
    pub earlier: Vec<Start>,
}

/// The other nodes. A cheap handle; when the last one is dropped, links end.
#[derive(Debug, Clone)]
pub struct Peers {
    core: Arc<Core>,
    tasks: Arc<Tasks>,
}

impl Peers {
    /// Opens the room: from here on peers are answered. Nobody is believed before `set_members`.
    ///
    /// # Errors
    /// The socket or the key does not do.
    ///
    /// # Panics
    /// Called outside a tokio runtime.
    pub fn open<H: Hall>(config: PeerConfig, hall: H) -> Result<Peers, PeerError> {
        let dialer = Dialer::open(&config.key, config.socket)?;
        let port = dialer.endpoint.local_addr().map_err(PeerError::Socket)?.port();
        let mut earlier = config.earlier;
        earlier.drain(..earlier.len().saturating_sub(limits::EARLIER_STARTS_COUNT_MAX));
        let core = Core::new(config.identity, (config.start, earlier), config.key.public(), dialer, port);
        let core = Arc::new(core);
        let accept = tokio::spawn(receive::accept(Arc::clone(&core), hall.clone())).abort_handle();
        let keep = tokio::spawn(keep_links(Arc::clone(&core), hall)).abort_handle();
        let tasks = Arc::new(Tasks { core: Arc::clone(&core), handles: [accept, keep] });
        Ok(Peers { core, tasks })
    }

    /// Sends, or drops and counts. Never blocks; to who is no member, nothing happens.
    pub fn send(&self, envelope: Envelope) {
        self.core.send(envelope);
    }

    /// Sends bytes to a peer's hall, at most `FORWARD_BYTES_MAX`, in order. False: not taken, for the peer is
    /// down, its queue is full, or it is no member. True is no promise that it arrives.
    #[must_use]
    pub fn forward(&self, to: NodeId, bytes: Vec<u8>) -> bool {
        bytes.len() <= FORWARD_BYTES_MAX && self.core.slot(to).is_some_and(|slot| slot.push_forward(bytes))
    }

    /// Who is believed and dialled from here on. Links of those who are not in it end with the reason and `at`.
    pub fn set_members(&self, membership: &Membership, at: Index) {
        self.core.set_members(membership, at);
    }

    /// Sends an image on a connection of its own, at most 32 MiB a second over all images, going on where a cut
    /// one ended. Dropping the future cuts it.
    ///
    /// # Errors
    /// See `ImageSendError`.
    pub async fn send_image<S: ImageSource>(
        &self,
        to: NodeId,
        offer: ImageOffer,
        source: S,
    ) -> Result<(), ImageSendError> {
        image::send::send(&self.core, to, offer, source).await
    }

    /// Dials a joiner at what it advertises and sees it answer with that key. Gives the address that did.
    ///
    /// # Errors
    /// None did; what was tried.
    pub async fn dial_back(&self, addresses: &[String], key: PeerKey) -> Result<SocketAddr, DialError> {
        let connection = self.core.dialer.race(addresses, None, key, Purpose::Join).await?;
        let address = canonical(connection.remote_address());
        let answer = ask(&connection, self.core.identity.cluster).await;
        Goodbye::Done.say(&connection);
        match answer {
            Ok(()) => Ok(address),
            Err(error) => {
                Err(DialError { tried: vec![(address.to_string(), DialFailure::Refused(error.to_string()))] })
            }
        }
    }

    /// The room at this moment.
    #[must_use]
    pub fn stats(&self) -> PeersStats {
        let (membership_at, slots) = self.core.slots();
        PeersStats {
            membership_at,
            peers: slots.iter().map(|slot| slot.stats()).collect(),
            strangers_refused: self.core.strangers_refused.load(Ordering::Relaxed),
            knocks_refused: self.core.knocks_refused.load(Ordering::Relaxed),
            malformed: self.core.malformed.load(Ordering::Relaxed),
        }
    }

    /// Ends all links, telling peers so, and waits a moment until they heard it. The handle does nothing
    /// afterwards.
    pub async fn close(&self) {
        self.tasks.end();
        drop(timeout(WORD_MAX, self.core.dialer.endpoint.wait_idle()).await);
    }
}

/// Bytes of one forward at most: any entry, and what halls write around it.
pub const FORWARD_BYTES_MAX: usize = limits::ENTRY_BYTES_MAX + 64 * 1024;

async fn ask(connection: &Connection, cluster: ClusterId) -> Result<(), StreamError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    write_head(&mut send, Kind::AreYouThere, &AreYouThere { version: VERSION, cluster }).await?;
    let _: AreYouThere = read_head(&mut receive, Kind::AreYouThere, WORD_MAX).await?;
    Ok(())
}

/// The room's two standing tasks, ended with the last handle.
#[derive(Debug)]
struct Tasks {
    core: Arc<Core>,
    handles: [AbortHandle; 2],
}

impl Tasks {
    fn end(&self) {
        for handle in &self.handles {
            handle.abort();
        }
        self.core.dialer.endpoint.close(0_u32.into(), b"");
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end();
    }
}

/// One task for each member's outgoing link; ends what the membership no longer holds.
async fn keep_links<H: Hall>(core: Arc<Core>, hall: H) {
    let mut kept: BTreeMap<NodeId, Kept> = BTreeMap::new();
    loop {
        let (_, slots) = core.slots();
        kept.retain(|_, kept| {
            let stays = slots.iter().any(|slot| Arc::ptr_eq(slot, &kept.slot));
            if !stays {
                kept.dismiss(&hall, &core.not_a_member());
            }
            stays
        });
        for slot in slots {
            kept.entry(slot.id).or_insert_with(|| {
                let task = tokio::spawn(link::keep(Arc::clone(&core), Arc::clone(&slot), hall.clone()));
                Kept { slot, task: task.abort_handle() }
            });
        }
        core.changed.notified().await;
    }
}

struct Kept {
    slot: Arc<Slot>,
    task: AbortHandle,
}

impl Kept {
    /// It is no member any more: it is told so, on every connection.
    fn dismiss<H: Hall>(&self, hall: &H, goodbye: &Goodbye) {
        self.task.abort();
        for connection in self.slot.connections() {
            goodbye.say(&connection);
        }
        if self.slot.is_up() {
            hall.reachable(self.slot.id, false);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}
