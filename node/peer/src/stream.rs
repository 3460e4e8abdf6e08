//! Frames on streams.

use crate::frame::{self, FrameError, HEADER_BYTES, Header, Kind, MessageHead};
use crate::goodbye::Goodbye;
use crate::wire::Hello;
use core::fmt;
use quinn::{Connection, ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use quorate_raft::Message;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Why an exchange ended.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The connection is gone.
    Lost(ConnectionError),
    /// The stream ended where it must not.
    Ended,
    /// Bytes that mean nothing.
    Malformed(FrameError),
    /// Longer silence than allowed.
    TooSlow,
}

impl StreamError {
    /// Ends the connection for it, where that is this end's to do.
    pub(crate) fn close(&self, connection: &Connection) {
        match self {
            StreamError::Lost(_) => {}
            StreamError::Malformed(error) => Goodbye::Malformed(error.to_string()).say(connection),
            StreamError::Ended | StreamError::TooSlow => Goodbye::Malformed(self.to_string()).say(connection),
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Lost(error) => match Goodbye::heard(error) {
                Some(goodbye) => f.write_str(&goodbye.words()),
                None => error.fmt(f),
            },
            StreamError::Ended => f.write_str("the stream ended in the middle"),
            StreamError::Malformed(error) => error.fmt(f),
            StreamError::TooSlow => f.write_str("it said nothing for too long"),
        }
    }
}

impl From<FrameError> for StreamError {
    fn from(error: FrameError) -> StreamError {
        StreamError::Malformed(error)
    }
}

impl From<ConnectionError> for StreamError {
    fn from(error: ConnectionError) -> StreamError {
        StreamError::Lost(error)
    }
}

impl From<ReadExactError> for StreamError {
    fn from(error: ReadExactError) -> StreamError {
        match error {
            ReadExactError::FinishedEarly(_) => StreamError::Ended,
            ReadExactError::ReadError(error) => error.into(),
        }
    }
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> StreamError {
        match error {
            ReadError::ConnectionLost(error) => StreamError::Lost(error),
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => StreamError::Ended,
        }
    }
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> StreamError {
        match error {
            WriteError::ConnectionLost(error) => StreamError::Lost(error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                StreamError::Ended
            }
        }
    }
}

/// What a lane brings.
#[derive(Debug)]
pub(crate) enum Arrived {
    Message(Message),
    Forward(Vec<u8>),
}

/// The next message or forward; none at the stream's orderly end.
pub(crate) async fn read_lane(stream: &mut RecvStream) -> Result<Option<Arrived>, StreamError> {
    let Some(header) = next_header(stream).await? else { return Ok(None) };
    match header.kind {
        Kind::Forward => {
            let mut bytes = vec![0; header.tail_bytes];
            stream.read_exact(&mut bytes).await?;
            Ok(Some(Arrived::Forward(bytes)))
        }
        Kind::Message => {
            let mut head = vec![0; header.head_bytes];
            stream.read_exact(&mut head).await?;
            read_message(stream, &head, header.tail_bytes)
                .await
                .map(|message| Some(Arrived::Message(message)))
        }
        Kind::Hello
        | Kind::Knock
        | Kind::KnockAnswer
        | Kind::AreYouThere
        | Kind::ImageOffer
        | Kind::ImageAnswer
        | Kind::ImageVerdict => Err(FrameError::Kind(header.kind as u8).into()),
    }
}

/// Payloads are read to where they stay: nothing is held twice.
async fn read_message(
    stream: &mut RecvStream,
    head: &[u8],
    tail_bytes: usize,
) -> Result<Message, StreamError> {
    let append = match MessageHead::decode(head, tail_bytes)? {
        MessageHead::Whole(message) => return Ok(message),
        MessageHead::Append(append) => append,
    };
    let mut payloads: Vec<Arc<[u8]>> = Vec::new();
    for bytes in append.payload_bytes() {
        let mut payload: Arc<[u8]> = std::iter::repeat_n(0, bytes).collect();
        stream.read_exact(Arc::get_mut(&mut payload).expect("nobody else has it yet")).await?;
        payloads.push(payload);
    }
    Ok(append.with_payloads(payloads))
}

/// The next frame, which must be of that kind, within that time.
pub(crate) async fn read_head<T: DeserializeOwned>(
    stream: &mut RecvStream,
    kind: Kind,
    within: Duration,
) -> Result<T, StreamError> {
    Ok(frame::decode_head(&read_kind(stream, kind, within).await?)?)
}

/// The hello a link begins with, of whatever version.
pub(crate) async fn read_hello(stream: &mut RecvStream) -> Result<Hello, StreamError> {
    Ok(frame::decode_open_head(&read_kind(stream, Kind::Hello, WORD_MAX).await?)?)
}

async fn read_kind(stream: &mut RecvStream, kind: Kind, within: Duration) -> Result<Vec<u8>, StreamError> {
    let (found, head) = read_raw_head(stream, within).await?;
    if found == kind { Ok(head) } else { Err(FrameError::Kind(found as u8).into()) }
}

/// The next frame without tail, of any kind, as bytes.
pub(crate) async fn read_raw_head(
    stream: &mut RecvStream,
    within: Duration,
) -> Result<(Kind, Vec<u8>), StreamError> {
    let reading = async {
        let header = next_header(stream).await?.ok_or(StreamError::Ended)?;
        if header.tail_bytes != 0 {
            return Err(FrameError::Kind(header.kind as u8).into());
        }
        let mut head = vec![0; header.head_bytes];
        stream.read_exact(&mut head).await?;
        Ok((header.kind, head))
    };
    timeout(within, reading).await.map_err(|_| StreamError::TooSlow)?
}

/// Writes one frame without tail; what is said here is bounded where it was made.
pub(crate) async fn write_head<T: Serialize>(
    stream: &mut SendStream,
    kind: Kind,
    head: &T,
) -> Result<(), StreamError> {
    let bytes = frame::encode_head(kind, head).ok_or(FrameError::TooLong)?;
    Ok(stream.write_all(&bytes).await?)
}

async fn next_header(stream: &mut RecvStream) -> Result<Option<Header>, StreamError> {
    let mut bytes = [0; HEADER_BYTES];
    match stream.read_exact(&mut bytes).await {
        Ok(()) => Ok(Some(Header::decode(&bytes)?)),
        Err(ReadExactError::FinishedEarly(0)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Longest silence in an exchange of a few bytes with a node that is there.
pub(crate) const WORD_MAX: Duration = Duration::from_secs(3);
