//! The link this node sends on: dialled, kept, dialled again.

use crate::backoff::Backoff;
use crate::beat;
use crate::error::DialError;
use crate::frame::Kind;
use crate::goodbye::Goodbye;
use crate::hall::{Hall, Refusal};
use crate::queue::Lane;
use crate::roster::Core;
use crate::slot::Slot;
use crate::stream::{StreamError, read_hello, write_head};
use crate::tls::Purpose;
use crate::wire::Hello;
use bytes::Bytes;
use core::fmt;
use quinn::{Connection, RecvStream, SendStream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Keeps the link to one member up until the task is ended.
pub(crate) async fn keep<H: Hall>(core: Arc<Core>, slot: Arc<Slot>, hall: H) {
    let mut backoff = Backoff::new(core.start.incarnation ^ slot.id.0);
    loop {
        // What is learned during a dial makes it begin anew: it may hang on an address that is no more.
        let dialled = tokio::select! {
            dialled = dial(&core, &slot) => dialled,
            () = slot.wake.notified() => continue,
        };
        let refusal = match dialled {
            Ok((connection, hello)) => {
                slot.set_outgoing(&connection, hello.start);
                hall.greeted(slot.id, hello.start, hello.earlier);
                hall.reachable(slot.id, true);
                tracing::info!(peer = %slot.id, address = %connection.remote_address(), "peer link is up");
                let begun = Instant::now();
                let end = carry(&core, &slot, &hall, &connection).await;
                end.close(&connection);
                slot.clear_outgoing(end.to_string());
                hall.reachable(slot.id, false);
                tracing::info!(peer = %slot.id, why = %end, "peer link ended");
                // Two nodes with one key take each other's place for ever: that may not spin.
                if begun.elapsed() > HELD_MIN {
                    backoff.reset();
                }
                refusal(&end)
            }
            Err(failure) => {
                tracing::debug!(peer = %slot.id, why = %failure, "peer not reached");
                slot.note_failure(failure.to_string());
                failure.refusal()
            }
        };
        if let Some(refusal) = refusal {
            hall.refused(slot.id, refusal);
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = slot.wake.notified() => backoff.reset(),
        }
    }
}

/// A connection to a member for that purpose at one of those places, with hellos exchanged, and the stream they went over.
pub(crate) async fn greet(
    core: &Core,
    slot: &Slot,
    purpose: Purpose,
    (names, learned): (Vec<String>, Option<SocketAddr>),
) -> Result<(Connection, SendStream, RecvStream, Hello), LinkError> {
    let connection = core.dialer.race(&names, learned, slot.key, purpose).await.map_err(LinkError::Dial)?;
    let greeting = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        write_head(&mut send, Kind::Hello, &core.hello()).await?;
        // TLS lets a client believe that it is in before the server has looked at its key: only the answer tells.
        let hello = read_hello(&mut receive).await?;
        Ok((send, receive, hello))
    };
    match greeting.await {
        Ok((send, receive, hello)) => match core.check(&hello, slot.id) {
            Ok(()) => Ok((connection, send, receive, hello)),
            Err(words) => {
                Goodbye::Mismatch(words.clone()).say(&connection);
                Err(LinkError::Mismatch(words))
            }
        },
        Err(error) => {
            StreamError::close(&error, &connection);
            Err(LinkError::Stream(error))
        }
    }
}

/// Why there is no link.
#[derive(Debug)]
pub(crate) enum LinkError {
    Dial(DialError),
    Stream(StreamError),
    Mismatch(String),
}

impl LinkError {
    fn refusal(&self) -> Option<Refusal> {
        match self {
            LinkError::Stream(error) => refusal(error),
            LinkError::Mismatch(words) => Some(Refusal::Words(words.clone())),
            LinkError::Dial(_) => None,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Dial(error) => error.fmt(f),
            LinkError::Stream(error) => error.fmt(f),
            LinkError::Mismatch(words) => f.write_str(words),
        }
    }
}

async fn dial(core: &Core, slot: &Slot) -> Result<(Connection, Hello), LinkError> {
    let (connection, _, _, hello) = greet(core, slot, Purpose::Peer, slot.candidates()).await?;
    Ok((connection, hello))
}

fn refusal(error: &StreamError) -> Option<Refusal> {
    match error {
        StreamError::Lost(error) => Goodbye::heard(error)?.refusal(),
        StreamError::Ended | StreamError::Malformed(_) | StreamError::TooSlow => None,
    }
}

/// Writes what waits until the link ends.
async fn carry<H: Hall>(
    core: &Arc<Core>,
    slot: &Arc<Slot>,
    hall: &H,
    connection: &Connection,
) -> StreamError {
    tokio::select! {
        error = connection.closed() => StreamError::Lost(error),
        error = beat::write(core, slot, hall, connection) => error,
        error = write_lane(slot, connection, Lane::Urgent, 2, None) => error,
        error = write_lane(slot, connection, Lane::Forward, 1, None) => error,
        error = write_lane(slot, connection, Lane::Append, 0, None) => error,
    }
}

/// Writes what waits on that lane, after what `first` holds, to a stream of its own.
pub(crate) async fn write_lane(
    slot: &Slot,
    connection: &Connection,
    lane: Lane,
    priority: i32,
    mut first: Option<Vec<Bytes>>,
) -> StreamError {
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    if stream.set_priority(priority).is_err() {
        return StreamError::Ended;
    }
    loop {
        while let Some(mut chunks) = first.take().or_else(|| slot.next(lane)) {
            if let Err(error) = stream.write_all_chunks(&mut chunks).await {
                return error.into();
            }
        }
        slot.rung(lane).await;
    }
}

/// A link that held so long was a good one: the next dial is soon.
const HELD_MIN: Duration = Duration::from_secs(1);
