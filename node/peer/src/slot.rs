//! One other member: what waits for it, where it is, which connections there are. Locks here are held for a few
//! instructions, never across an await, and never while a connection is asked or told something: it has a lock
//! of its own, held while packets are made, and the driver comes through here.

use crate::frame;
use crate::goodbye::Goodbye;
use crate::queue::{Lane, Queue};
use crate::stats::{ImageProgress, PeerStats};
use crate::tls::Purpose;
use crate::wire::Hello;
use bytes::Bytes;
use quinn::Connection;
use quorate_raft::{Body, Message};
use quorate_types::{Member, NodeId, PeerKey, Start};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

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
    beats_in: Option<Connection>,
    /// Where the last heartbeat came from, if not from the link.
    answer_way: Option<Connection>,
    image_out: Option<ImageProgress>,
    dials_failed: u64,
    last_failure: Option<String>,
    last_end: Option<String>,
}

impl Link {
    fn beside(&mut self, purpose: Purpose) -> &mut Option<Connection> {
        if purpose == Purpose::Image { &mut self.image_in } else { &mut self.beats_in }
    }
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
            if let Some(chunks) = self.encode(&message) {
                return Some(chunks);
            }
        }
    }

    /// The next heartbeat, or the next answer to one and the way it goes.
    pub(crate) fn next_beat(&self) -> Option<Beat> {
        loop {
            let message = lock(&self.queue).pop_beat()?;
            let is_answer = matches!(message.body, Body::HeartbeatAnswer(_));
            let way = if is_answer { lock(&self.link).answer_way.clone() } else { None };
            if let Some(chunks) = self.encode(&message) {
                return Some(Beat { frame: chunks.concat().into(), is_answer, way });
            }
        }
    }

    fn encode(&self, message: &Message) -> Option<Vec<Bytes>> {
        let chunks = frame::encode_message(message);
        if chunks.is_some() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.unsendable.fetch_add(1, Ordering::Relaxed);
            tracing::error!(peer = %self.id, "an append with a gap or an entry beyond the bound is not sent");
        }
        chunks
    }

    /// Waits for something new on that lane.
    pub(crate) async fn rung(&self, lane: Lane) {
        self.bells[lane as usize].notified().await;
    }
}

/// A heartbeat or an answer to one, on its way out.
pub(crate) struct Beat {
    pub(crate) frame: Bytes,
    pub(crate) is_answer: bool,
    /// The peer's connection of heartbeats, for an answer to one that came on it.
    pub(crate) way: Option<Connection>,
}

/// The links.
impl Slot {
    pub(crate) fn new(member: &Member) -> Slot {
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

    pub(crate) fn set_addresses(&self, addresses: &[String]) {
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

    /// The peer has a connection of that purpose beside its link. Gives the one it takes the place of.
    pub(crate) fn set_beside(&self, purpose: Purpose, connection: &Connection) -> Option<Connection> {
        lock(&self.link).beside(purpose).replace(connection.clone())
    }

    /// A heartbeat came: on that connection of its own, or on the link. What answers it goes the same way.
    pub(crate) fn heard_beat(&self, way: Option<&Connection>) {
        let mut link = lock(&self.link);
        let id = |connection: &Connection| connection.stable_id();
        if link.answer_way.as_ref().map(id) != way.map(id) {
            link.answer_way = way.cloned();
        }
    }

    /// It ended, if it is that one.
    pub(crate) fn clear_beside(&self, purpose: Purpose, connection: &Connection) {
        let mut link = lock(&self.link);
        if link.answer_way.as_ref().is_some_and(|current| current.stable_id() == connection.stable_id()) {
            link.answer_way = None;
        }
        let place = link.beside(purpose);
        if place.as_ref().is_some_and(|current| current.stable_id() == connection.stable_id()) {
            *place = None;
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
        [outgoing, incoming, link.image_in.clone(), link.beats_in.clone()].into_iter().flatten().collect()
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

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A holder that panics has taken the process with it (panic = "abort"), but for tests.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
