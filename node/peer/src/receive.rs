//! Who comes in: handshakes counted, keys looked up, messages handed to the hall.

use crate::endpoint::HANDSHAKE_MAX;
use crate::frame::{self, Kind};
use crate::goodbye::Goodbye;
use crate::hall::Hall;
use crate::roster::Core;
use crate::slot::Slot;
use crate::stream::{Arrived, StreamError, WORD_MAX, read_hello, read_lane, write_head};
use crate::tls::{Purpose, proven_key};
use crate::wire::Hello;
use crate::{image, join, window};
use quinn::{Connection, Incoming, RecvStream, SendStream};
use quorate_raft::Body;
use quorate_types::PeerKey;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Takes connections until the endpoint closes; what they became ends with this task.
pub(crate) async fn accept<H: Hall>(core: Arc<Core>, hall: H) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut served = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = core.dialer.endpoint.accept() => incoming,
            Some(_) = served.join_next() => continue,
        };
        let Some(incoming) = incoming else { return };
        if let Some((incoming, permit)) = admit(incoming, &handshakes) {
            let (core, hall) = (Arc::clone(&core), hall.clone());
            served.spawn(async move { serve(&core, &hall, incoming, permit).await });
        }
    }
}

/// Bounds handshakes, which cost a signature each: under load an address must first prove that it is one,
/// and beyond the bound it is told to come later.
pub(crate) fn admit(
    incoming: Incoming,
    handshakes: &Arc<Semaphore>,
) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let Ok(permit) = Arc::clone(handshakes).try_acquire_owned() else {
        incoming.refuse();
        return None;
    };
    if handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
        // It comes again with the proof, or not at all.
        drop(incoming.retry());
        return None;
    }
    Some((incoming, permit))
}

/// The handshake, and who proved to be there for what.
pub(crate) async fn shake_hands(incoming: Incoming) -> Option<(Connection, PeerKey, Purpose)> {
    let connection = timeout(HANDSHAKE_MAX, incoming.accept().ok()?).await.ok()?.ok()?;
    let (key, purpose) = (proven_key(&connection)?, Purpose::of(&connection)?);
    Some((connection, key, purpose))
}

async fn serve<H: Hall>(core: &Arc<Core>, hall: &H, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let shaken = shake_hands(incoming).await;
    drop(permit);
    let Some((connection, key, purpose)) = shaken else { return };
    if purpose == Purpose::Join {
        return join::answer::serve(core, hall, &connection, key).await;
    }
    let Some(slot) = core.slot_of_key(key) else {
        core.strangers_refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%key, address = %connection.remote_address(), "a stranger is refused");
        return core.not_a_member().say(&connection);
    };
    let greeted = answer_hello(core, &slot, &connection).await;
    let ended = match greeted {
        Ok((send, receive, hello)) => {
            window::trust(&connection);
            hall.greeted(slot.id, hello.start, hello.earlier.clone());
            match purpose {
                Purpose::Image => image::receive::serve(&slot, hall, &connection, send, receive).await,
                Purpose::Beat => serve_beats(&slot, hall, &connection).await,
                Purpose::Peer | Purpose::Join => serve_peer(core, &slot, hall, &connection, &hello).await,
            }
        }
        Err(error) => error,
    };
    core.note_end(&slot, &ended);
    ended.close(&connection);
}

/// Reads the hello and answers it, or ends the connection with the reason.
async fn answer_hello(
    core: &Core,
    slot: &Slot,
    connection: &Connection,
) -> Result<(SendStream, RecvStream, Hello), StreamError> {
    let greeting = async {
        let (mut send, mut receive) = connection.accept_bi().await?;
        let hello = read_hello(&mut receive).await?;
        if let Err(words) = core.check(&hello, slot.id) {
            tracing::warn!(peer = %slot.id, why = words, "a peer is refused");
            Goodbye::Mismatch(words).say(connection);
            return Err(StreamError::Lost(quinn::ConnectionError::LocallyClosed));
        }
        write_head(&mut send, Kind::Hello, &core.hello()).await?;
        Ok((send, receive, hello))
    };
    timeout(WORD_MAX, greeting).await.map_err(|_| StreamError::TooSlow)?
}

/// Hands over what the peer says until the link ends.
async fn serve_peer<H: Hall>(
    core: &Core,
    slot: &Arc<Slot>,
    hall: &H,
    connection: &Connection,
    hello: &Hello,
) -> StreamError {
    if let Some(older) = slot.set_incoming(connection, hello) {
        Goodbye::Superseded.say(&older);
    }
    // It may have been removed between the look-up and here: then nobody else ends this link.
    if !core.is_current(slot) {
        core.not_a_member().say(connection);
    }
    let ended = tokio::select! {
        error = read_datagrams(slot, hall, connection, None) => error,
        error = read_stream(slot, hall, connection) => error,
        error = read_stream(slot, hall, connection) => error,
        error = read_stream(slot, hall, connection) => error,
        error = read_stream(slot, hall, connection) => error,
    };
    slot.clear_incoming(connection);
    ended
}

/// Hands over heartbeats; one such connection for each peer.
async fn serve_beats<H: Hall>(slot: &Slot, hall: &H, connection: &Connection) -> StreamError {
    if let Some(older) = slot.set_beside(Purpose::Beat, connection) {
        Goodbye::Superseded.say(&older);
    }
    let ended = read_datagrams(slot, hall, connection, Some(connection)).await;
    slot.clear_beside(Purpose::Beat, connection);
    ended
}

/// Hands over what comes in datagrams until the connection ends; heartbeats are answered that way.
pub(crate) async fn read_datagrams<H: Hall>(
    slot: &Slot,
    hall: &H,
    connection: &Connection,
    way: Option<&Connection>,
) -> StreamError {
    loop {
        let frame = match connection.read_datagram().await {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        match frame::decode_datagram(&frame) {
            Ok(message) => hand_over(slot, hall, Arrived::Message(message), way),
            Err(error) => return error.into(),
        }
    }
}

/// One of the peer's streams; which lane it is makes no difference here.
async fn read_stream<H: Hall>(slot: &Slot, hall: &H, connection: &Connection) -> StreamError {
    let mut stream = match connection.accept_uni().await {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    loop {
        match read_lane(&mut stream).await {
            Ok(Some(arrived)) => hand_over(slot, hall, arrived, None),
            // The peer never ends one while the link lives.
            Ok(None) => return StreamError::Ended,
            Err(error) => return error,
        }
    }
}

fn hand_over<H: Hall>(slot: &Slot, hall: &H, arrived: Arrived, way: Option<&Connection>) {
    slot.received.fetch_add(1, Ordering::Relaxed);
    match arrived {
        Arrived::Message(message) => {
            if matches!(message.body, Body::Heartbeat(_)) {
                slot.heard_beat(way);
            }
            hall.message(slot.id, message);
        }
        Arrived::Forward(bytes) => hall.forward(slot.id, bytes),
    }
}

/// Handshakes at once: more than a cluster's members after a power cut, each a few milliseconds of a slow core.
pub(crate) const HANDSHAKES_MAX: usize = 32;
