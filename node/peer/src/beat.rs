//! Heartbeats on their way out: datagrams on a connection of their own.
//!
//! Datagrams overtake streams, and still wait where the connection's congestion window is full: after a pause
//! of a radio in which entries filled it, until a probe gets through, which comes after up to twice the pause.
//! A pause of 300 ms became silence of 580 ms, next to the election timeout. On a connection of their own
//! nothing stands before them. Until it is there, and where it cannot be, they go on the link.
//!
//! An answer goes back the way the heartbeat came, so that QUIC's acknowledgement rides with it: of what an idle
//! cluster does, most is packets and the wake-ups they cost. After a heartbeat that came on the peer's link, it
//! goes on the own one.

use crate::hall::Hall;
use crate::link::{greet, write_lane};
use crate::queue::Lane;
use crate::receive::read_datagrams;
use crate::roster::Core;
use crate::slot::{Beat, Slot};
use crate::stream::StreamError;
use crate::tls::Purpose;
use crate::wire::Hello;
use quinn::{Connection, SendDatagramError};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Writes heartbeats and their answers until the link ends; reads the answers to its own.
pub(crate) async fn write<H: Hall>(
    core: &Arc<Core>,
    slot: &Arc<Slot>,
    hall: &H,
    link: &Connection,
) -> StreamError {
    let mut own: Option<Connection> = None;
    let mut dials: JoinSet<Option<(Connection, Hello)>> = JoinSet::new();
    let mut next_dial = Instant::now();
    loop {
        let Beat { frame, is_answer, way } = tokio::select! {
            beat = next(slot) => beat,
            Some(dialled) = dials.join_next() => {
                own = dialled.ok().flatten().map(|(connection, hello)| {
                    hall.greeted(slot.id, hello.start, hello.earlier);
                    connection
                });
                continue;
            }
            () = hear(core, slot, hall, own.as_ref()) => {
                own = None;
                continue;
            }
        };
        if let Some(connection) = way.as_ref().or(own.as_ref()) {
            match connection.send_datagram(frame.clone()) {
                Ok(()) => continue,
                Err(_) if way.is_some() => {}
                Err(_) => own = None,
            }
        }
        if !is_answer && own.is_none() && dials.is_empty() && Instant::now() >= next_dial {
            next_dial = Instant::now() + DIAL_PAUSE;
            let (core, slot) = (Arc::clone(core), Arc::clone(slot));
            // Where the link leads, by the same way.
            let place = (Vec::new(), Some(link.remote_address()));
            dials.spawn(async move {
                let dialled = greet(&core, &slot, Purpose::Beat, place).await;
                dialled.ok().map(|(own, _, _, hello)| (own, hello))
            });
        }
        match link.send_datagram(frame.clone()) {
            Ok(()) => {}
            Err(SendDatagramError::ConnectionLost(error)) => return error.into(),
            // The path takes no datagrams: a stream before all others.
            Err(
                SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled,
            ) => return write_lane(slot, link, Lane::Beat, 3, Some(vec![frame])).await,
        }
    }
}

async fn next(slot: &Slot) -> Beat {
    loop {
        if let Some(beat) = slot.next_beat() {
            return beat;
        }
        slot.rung(Lane::Beat).await;
    }
}

/// Hands over the answers that come back on that connection, until it ends.
async fn hear<H: Hall>(core: &Core, slot: &Slot, hall: &H, own: Option<&Connection>) {
    let Some(connection) = own else { return pending().await };
    let ended = read_datagrams(slot, hall, connection, None).await;
    core.note_end(slot, &ended);
    ended.close(connection);
}

/// From one dial to the next: the link does meanwhile.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
