//! Who this node is and whom it believes: shared by the handle and the room's tasks.

use crate::endpoint::Dialer;
use crate::goodbye::Goodbye;
use crate::pace::Pacer;
use crate::slot::{Slot, lock};
use crate::stream::StreamError;
use crate::wire::{Hello, VERSION};
use quorate_raft::Envelope;
use quorate_types::{Identity, Index, Membership, NodeId, PeerKey, Start};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The room's shared state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    /// This node's starts before that, oldest first.
    pub(crate) earlier: Vec<Start>,
    pub(crate) key: PeerKey,
    pub(crate) port: u16,
    pub(crate) dialer: Dialer,
    /// Rung when the roster changed.
    pub(crate) changed: Notify,
    pub(crate) knocks: Semaphore,
    pub(crate) knock_pace: Mutex<Pacer>,
    pub(crate) strangers_refused: AtomicU64,
    pub(crate) knocks_refused: AtomicU64,
    pub(crate) malformed: AtomicU64,
    image_pace: Mutex<Pacer>,
    begun: Instant,
    roster: Mutex<Roster>,
}

#[derive(Debug, Default)]
struct Roster {
    at: Index,
    version: u64,
    slots: BTreeMap<NodeId, Arc<Slot>>,
}

impl Core {
    /// `lives` are this node's start and those before it.
    pub(crate) fn new(
        identity: Identity,
        (start, earlier): (Start, Vec<Start>),
        key: PeerKey,
        dialer: Dialer,
        port: u16,
    ) -> Core {
        Core {
            identity,
            start,
            earlier,
            key,
            port,
            dialer,
            changed: Notify::new(),
            knocks: Semaphore::new(KNOCKS_AT_ONCE_MAX),
            knock_pace: Mutex::new(Pacer::new(KNOCKS_PER_SECOND, Duration::from_secs(4))),
            strangers_refused: AtomicU64::new(0),
            knocks_refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            image_pace: Mutex::new(Pacer::new(IMAGE_BYTES_PER_SECOND, Duration::ZERO)),
            begun: Instant::now(),
            roster: Mutex::default(),
        }
    }

    /// What this node says first on a link, and answers.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            cluster: self.identity.cluster,
            node: self.identity.node,
            start: self.start,
            port: self.port,
            earlier: self.earlier.clone(),
        }
    }

    /// Whether that hello is one of that node of this cluster; if not, the reason for people.
    pub(crate) fn check(&self, hello: &Hello, node: NodeId) -> Result<(), String> {
        if hello.version != VERSION {
            return Err(format!("protocol version {} there, {VERSION} here", hello.version));
        }
        if hello.cluster != self.identity.cluster {
            return Err(format!(
                "node of cluster {}, this is cluster {}",
                hello.cluster, self.identity.cluster
            ));
        }
        if hello.node != node {
            return Err(format!("it says it is node {}, its key is node {node}'s", hello.node));
        }
        Ok(())
    }

    /// Takes over a membership. Slots of members who stay, with their key, stay.
    pub(crate) fn set_members(&self, membership: &Membership, at: Index) {
        let mut roster = lock(&self.roster);
        roster.at = at;
        roster.version = membership.version;
        let mut before = std::mem::take(&mut roster.slots);
        for member in membership.members.iter().filter(|member| member.id != self.identity.node) {
            let slot = match before.remove(&member.id) {
                Some(slot) if slot.key == member.key => {
                    slot.set_addresses(&member.peer_addresses);
                    slot
                }
                Some(_) | None => Arc::new(Slot::new(member)),
            };
            roster.slots.insert(member.id, slot);
        }
        drop(roster);
        self.changed.notify_one();
    }

    /// The membership's index, and who is in it beside this node.
    pub(crate) fn slots(&self) -> (Index, Vec<Arc<Slot>>) {
        let roster = lock(&self.roster);
        (roster.at, roster.slots.values().map(Arc::clone).collect())
    }

    pub(crate) fn slot(&self, node: NodeId) -> Option<Arc<Slot>> {
        lock(&self.roster).slots.get(&node).map(Arc::clone)
    }

    /// Whose key that is, if it is a member's.
    pub(crate) fn slot_of_key(&self, key: PeerKey) -> Option<Arc<Slot>> {
        lock(&self.roster).slots.values().find(|slot| slot.key == key).map(Arc::clone)
    }

    /// What a stranger is told: which membership does not know it.
    pub(crate) fn not_a_member(&self) -> Goodbye {
        let roster = lock(&self.roster);
        Goodbye::NotAMember(roster.at, roster.version)
    }

    /// Whether that slot is still the member's.
    pub(crate) fn is_current(&self, slot: &Arc<Slot>) -> bool {
        self.slot(slot.id).is_some_and(|current| Arc::ptr_eq(&current, slot))
    }

    /// A member's connection ended; counted and told if by what it said.
    pub(crate) fn note_end(&self, slot: &Slot, ended: &StreamError) {
        if matches!(ended, StreamError::Malformed(_) | StreamError::TooSlow) {
            self.malformed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer = %slot.id, why = %ended, "a peer's connection is ended");
        }
    }

    pub(crate) fn send(&self, envelope: Envelope) {
        if let Some(slot) = self.slot(envelope.to) {
            slot.push(envelope.message);
        }
    }

    /// How long to wait before so many bytes of an image may go: all images out share the rate.
    pub(crate) fn pace_image(&self, bytes: usize) -> Duration {
        lock(&self.image_pace).take(self.begun.elapsed(), bytes as u64)
    }

    /// Whether one more knock may be listened to now.
    pub(crate) fn may_knock(&self) -> bool {
        lock(&self.knock_pace).take_now(self.begun.elapsed(), 1)
    }
}

/// Knocks and dial backs at once, and per second after the first few.
const KNOCKS_AT_ONCE_MAX: usize = 8;
const KNOCKS_PER_SECOND: u64 = 5;

/// All images out together: a quarter of a gigabit link, and more than any card takes.
const IMAGE_BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;
