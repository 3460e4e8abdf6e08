//! Heartbeats on their way out: datagrams on a connection of their own.
//!
//! Datagrams overtake streams, and still wait where the connection's congestion window is full: after a pause
//! of a radio in which entries filled it, until a probe gets through, which comes after up to twice the pause.
//! A pause of 300 ms became silence of 580 ms, next to the election timeout. On a connection of their own
//! nothing stands before them. Until it is there, and where it cannot be, they go on the link.

use crate::link::{greet, write_lane};
use crate::queue::Lane;
use crate::roster::Core;
use crate::slot::Slot;
use crate::stream::StreamError;
use crate::tls::Purpose;
use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Writes heartbeats and their answers until the link ends.
pub(crate) async fn write(core: &Arc<Core>, slot: &Arc<Slot>, link: &Connection) -> StreamError {
    let mut own: Option<Connection> = None;
    let mut dials = JoinSet::new();
    let mut next_dial = Instant::now();
    loop {
        let chunks = tokio::select! {
            chunks = next(slot) => chunks,
            Some(dialled) = dials.join_next() => {
                own = dialled.ok().flatten();
                continue;
            }
        };
        let frame = Bytes::from(chunks.concat());
        if let Some(connection) = &own {
            match connection.send_datagram(frame.clone()) {
                Ok(()) => continue,
                Err(_) => own = None,
            }
        }
        if dials.is_empty() && Instant::now() >= next_dial {
            next_dial = Instant::now() + DIAL_PAUSE;
            let (core, slot) = (Arc::clone(core), Arc::clone(slot));
            // Where the link leads, by the same way.
            let place = (Vec::new(), Some(link.remote_address()));
            dials.spawn(
                async move { greet(&core, &slot, Purpose::Beat, place).await.ok().map(|(own, ..)| own) },
            );
        }
        match link.send_datagram(frame) {
            Ok(()) => {}
            Err(SendDatagramError::ConnectionLost(error)) => return error.into(),
            // The path takes no datagrams: a stream before all others.
            Err(
                SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled,
            ) => return write_lane(slot, link, Lane::Beat, 3, Some(chunks)).await,
        }
    }
}

async fn next(slot: &Slot) -> Vec<Bytes> {
    loop {
        if let Some(chunks) = slot.next(Lane::Beat) {
            return chunks;
        }
        slot.rung(Lane::Beat).await;
    }
}

/// From one dial to the next: the link does meanwhile.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
