//! Who is believed, and what is known of each: shared by the handle and the room's tasks. Locks here are held
//! for a few instructions, never across an await, and never while a connection is asked or told something: it
//! has a lock of its own, held while packets are made, and the driver comes through here.

use crate::endpoint::Dialer;
use crate::frame;
use crate::goodbye::Goodbye;
use crate::pace::Pacer;
use crate::queue::{Lane, Queue};
use crate::stats::ImageProgress;
use crate::stats::PeerStats;
use crate::wire::{Hello, VERSION};
use bytes::Bytes;
use quinn::Connection;
use quorate_raft::{Envelope, Message};
use quorate_types::{Identity, Index, Member, Membership, NodeId, PeerKey, Start};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// The room's shared state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
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
    pub(crate) fn new(identity: Identity, start: Start, key: PeerKey, dialer: Dialer, port: u16) -> Core {
        Core {
            identity,
            start,
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

/// One other member.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: NodeId,
    pub(crate) key: PeerKey,
    /// Rung when a dial may do better now than when it was begun.
    pub(crate) wake: Notify,
    pub(crate) received: AtomicU64,
    queue: Mutex<Queue>,
    bells: [Notify; 4],
    sent: AtomicU64,
    unsendable: AtomicU64,
    forwards_refused: AtomicU64,
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    addresses: Vec<String>,
    outgoing: Option<(Connection, Start)>,
    incoming: Option<(Connection, u16)>,
    learned: Option<SocketAddr>,
    image_in: Option<Connection>,
    image_out: Option<ImageProgress>,
    dials_failed: u64,
    last_failure: Option<String>,
    last_end: Option<String>,
}

/// Sending.
impl Slot {
    pub(crate) fn push(&self, message: Message) {
        let lane = lock(&self.queue).push(message);
        self.bells[lane as usize].notify_one();
    }

    pub(crate) fn push_forward(&self, bytes: Vec<u8>) -> bool {
        let is_taken = lock(&self.queue).push_forward(bytes);
        if is_taken {
            self.bells[Lane::Forward as usize].notify_one();
        } else {
            self.forwards_refused.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    /// The next thing of that lane as bytes for its stream.
    pub(crate) fn next(&self, lane: Lane) -> Option<Vec<Bytes>> {
        loop {
            let message = match lane {
                Lane::Forward => {
                    let bytes = lock(&self.queue).pop_forward()?;
                    self.sent.fetch_add(1, Ordering::Relaxed);
                    let header = frame::forward_header(bytes.len()).expect("checked when it was taken");
                    return Some(vec![Bytes::copy_from_slice(&header), Bytes::from(bytes)]);
                }
                Lane::Beat => lock(&self.queue).pop_beat()?,
                Lane::Urgent => lock(&self.queue).pop_urgent()?,
                Lane::Append => lock(&self.queue).pop_append()?,
            };
            if let Some(chunks) = frame::encode_message(&message) {
                self.sent.fetch_add(1, Ordering::Relaxed);
                return Some(chunks);
            }
            self.unsendable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(peer = %self.id, "an append with a gap or an entry beyond the bound is not sent");
        }
    }

    /// Waits for something new on that lane.
    pub(crate) async fn rung(&self, lane: Lane) {
        self.bells[lane as usize].notified().await;
    }
}

/// The links.
impl Slot {
    fn new(member: &Member) -> Slot {
        let link = Link { addresses: member.peer_addresses.clone(), ..Link::default() };
        Slot {
            id: member.id,
            key: member.key,
            wake: Notify::new(),
            received: AtomicU64::new(0),
            queue: Mutex::default(),
            bells: Default::default(),
            sent: AtomicU64::new(0),
            unsendable: AtomicU64::new(0),
            forwards_refused: AtomicU64::new(0),
            link: Mutex::new(link),
        }
    }

    fn set_addresses(&self, addresses: &[String]) {
        let mut link = lock(&self.link);
        if link.addresses != addresses {
            addresses.clone_into(&mut link.addresses);
            self.wake.notify_one();
        }
    }

    /// Where to dial: what it advertises, and where its own link comes from right now, or came from last.
    pub(crate) fn candidates(&self) -> (Vec<String>, Option<SocketAddr>) {
        let incoming = lock(&self.link).incoming.clone();
        let seen = incoming.map(|(incoming, port)| listening_at(&incoming, port));
        let mut link = lock(&self.link);
        link.learned = seen.or(link.learned);
        // What it advertises is dialled anyway: not twice.
        let learned = link.learned.filter(|learned| !link.addresses.contains(&learned.to_string()));
        (link.addresses.clone(), learned)
    }

    /// The outgoing link is up, to that life of the peer.
    pub(crate) fn set_outgoing(&self, connection: &Connection, start: Start) {
        lock(&self.queue).set_up(true);
        let mut link = lock(&self.link);
        link.outgoing = Some((connection.clone(), start));
        link.dials_failed = 0;
        link.last_failure = None;
    }

    /// The outgoing link ended; why, for people.
    pub(crate) fn clear_outgoing(&self, why: String) {
        lock(&self.queue).set_up(false);
        let mut link = lock(&self.link);
        link.outgoing = None;
        link.last_end = Some(why);
    }

    pub(crate) fn note_failure(&self, words: String) {
        let mut link = lock(&self.link);
        link.dials_failed += 1;
        link.last_failure = Some(words);
    }

    /// The peer's own link is up. Gives the one it takes the place of. A dial of ours is begun anew, for now it
    /// is known where the peer is; and if our link leads to a life of it that is over, that link ends.
    pub(crate) fn set_incoming(&self, connection: &Connection, hello: &Hello) -> Option<Connection> {
        let seen = listening_at(connection, hello.port);
        let mut link = lock(&self.link);
        link.learned = Some(seen);
        let older = link.incoming.replace((connection.clone(), hello.port));
        let outgoing = link.outgoing.clone();
        drop(link);
        match outgoing {
            Some((outgoing, start)) if start != hello.start => Goodbye::Superseded.say(&outgoing),
            Some(_) => {}
            None => self.wake.notify_one(),
        }
        older.map(|(older, _)| older)
    }

    /// The peer's own link ended, if it is that one.
    pub(crate) fn clear_incoming(&self, connection: &Connection) {
        let mut link = lock(&self.link);
        if link.incoming.as_ref().is_some_and(|(current, _)| current.stable_id() == connection.stable_id()) {
            link.incoming = None;
        }
    }

    /// An image comes in on that connection. Gives the one it takes the place of.
    pub(crate) fn set_image_in(&self, connection: &Connection) -> Option<Connection> {
        lock(&self.link).image_in.replace(connection.clone())
    }

    pub(crate) fn clear_image_in(&self, connection: &Connection) {
        let mut link = lock(&self.link);
        if link.image_in.as_ref().is_some_and(|current| current.stable_id() == connection.stable_id()) {
            link.image_in = None;
        }
    }

    /// Begins to count an image out; false if one is on its way already.
    pub(crate) fn begin_image_out(&self, total_bytes: u64) -> bool {
        let mut link = lock(&self.link);
        let is_free = link.image_out.is_none();
        if is_free {
            link.image_out = Some(ImageProgress { sent_bytes: 0, total_bytes });
        }
        is_free
    }

    pub(crate) fn note_image_out(&self, sent_bytes: u64) {
        if let Some(progress) = &mut lock(&self.link).image_out {
            progress.sent_bytes = sent_bytes;
        }
    }

    pub(crate) fn end_image_out(&self) {
        lock(&self.link).image_out = None;
    }

    /// All connections with it, to be ended when it is no member any more.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        let link = lock(&self.link);
        let outgoing = link.outgoing.as_ref().map(|(connection, _)| connection.clone());
        let incoming = link.incoming.as_ref().map(|(connection, _)| connection.clone());
        [outgoing, incoming, link.image_in.clone()].into_iter().flatten().collect()
    }

    pub(crate) fn is_up(&self) -> bool {
        lock(&self.link).outgoing.is_some()
    }

    pub(crate) fn stats(&self) -> PeerStats {
        let (dropped, queued_count, queued_bytes) = {
            let queue = lock(&self.queue);
            (queue.dropped(), queue.count(), queue.bytes())
        };
        let link = lock(&self.link);
        let outgoing = link.outgoing.as_ref().map(|(connection, _)| connection.clone());
        let stats = PeerStats {
            node: self.id,
            is_up: outgoing.is_some(),
            is_heard: link.incoming.is_some(),
            address: None,
            round_trip: None,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped: dropped + self.unsendable.load(Ordering::Relaxed),
            forwards_refused: self.forwards_refused.load(Ordering::Relaxed),
            queued_count,
            queued_bytes,
            dials_failed: link.dials_failed,
            last_failure: link.last_failure.clone(),
            last_end: link.last_end.clone(),
            image: link.image_out,
        };
        drop(link);
        PeerStats {
            address: outgoing.as_ref().map(|connection| canonical(connection.remote_address())),
            round_trip: outgoing.as_ref().map(Connection::rtt),
            ..stats
        }
    }
}

/// IPv4 seen through an IPv6 socket, as people write it.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn listening_at(connection: &Connection, port: u16) -> SocketAddr {
    let mut address = canonical(connection.remote_address());
    address.set_port(port);
    address
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A holder that panics has taken the process with it (panic = "abort"), but for tests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Knocks and dial backs at once, and per second after the first few.
const KNOCKS_AT_ONCE_MAX: usize = 8;
const KNOCKS_PER_SECOND: u64 = 5;

/// All images out together: a quarter of a gigabit link, and more than any card takes.
const IMAGE_BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;
