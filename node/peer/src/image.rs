//! Images in transit: what is offered, where it comes from, where it goes.

pub(crate) mod receive;
pub(crate) mod send;

use bytes::Bytes;
use core::fmt;
use quorate_types::Position;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// Which image is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOffer {
    /// The last entry it holds.
    pub position: Position,
    /// Its length.
    pub bytes: u64,
    /// Names its bytes, a checksum or a random number kept with the file: a part is gone on with only if this
    /// is the same.
    pub id: u64,
}

/// Where an image's bytes come from: the hall reads its file.
pub trait ImageSource: Send + 'static {
    /// Bytes from `offset` on, at least one and at most `bytes_max` (256 KiB). Asked for in order; `offset`
    /// jumps only where a cut transfer goes on.
    fn read(&mut self, offset: u64, bytes_max: usize) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// The room's end of an incoming image.
#[derive(Debug)]
pub struct ImageSink {
    pub(crate) offset: u64,
    pub(crate) chunks: mpsc::Sender<Bytes>,
    pub(crate) verdict: oneshot::Receiver<Result<(), String>>,
}

impl ImageSink {
    /// A way for an image of which the hall has the first `offset` bytes: the room's end and the hall's.
    #[must_use]
    pub fn open(offset: u64) -> (ImageSink, ImageIntake) {
        let (chunks, intake) = mpsc::channel(IMAGE_CHUNKS_WAITING_MAX);
        let (say, verdict) = oneshot::channel();
        (ImageSink { offset, chunks, verdict }, ImageIntake { chunks: intake, verdict: say })
    }
}

/// The hall's end of an incoming image. Dropped before `finish`, it cuts the transfer.
#[derive(Debug)]
pub struct ImageIntake {
    chunks: mpsc::Receiver<Bytes>,
    verdict: oneshot::Sender<Result<(), String>>,
}

impl ImageIntake {
    /// The next bytes, at most 256 KiB; none when all were given or the transfer was cut: the hall counts.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    /// As `next`, for a thread that writes a file.
    ///
    /// # Panics
    /// Called on the async worker.
    pub fn next_blocking(&mut self) -> Option<Bytes> {
        self.chunks.blocking_recv()
    }

    /// Tells the sender what became of the whole image: taken, or why not. After a cut nobody hears it.
    pub fn finish(self, verdict: Result<(), String>) {
        // The sender may be gone: then it asks again with the same offer.
        drop(self.verdict.send(verdict));
    }
}

/// Why an image was not sent.
#[derive(Debug)]
pub enum ImageSendError {
    /// No such member.
    NotAMember,
    /// Another image is on its way to it.
    Busy,
    /// It was not reached, or the link broke too often without getting on; the last reason.
    Unreachable(String),
    /// It does not want this image now.
    NotWanted,
    /// It has all bytes and could not take them; its words.
    Rejected(String),
    /// The source failed.
    Source(io::Error),
}

impl fmt::Display for ImageSendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageSendError::NotAMember => f.write_str("the image's receiver is no member"),
            ImageSendError::Busy => f.write_str("another image is on its way to that member"),
            ImageSendError::Unreachable(why) => write!(f, "the image's receiver is not reached: {why}"),
            ImageSendError::NotWanted => f.write_str("the receiver does not want the image"),
            ImageSendError::Rejected(why) => write!(f, "the receiver could not take the image: {why}"),
            ImageSendError::Source(error) => write!(f, "the image could not be read: {error}"),
        }
    }
}

impl core::error::Error for ImageSendError {}

/// Bytes of one chunk at most: what one read of the file and one turn of the pacer carries.
pub const IMAGE_CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Chunks between the room and the hall: with the link's windows far below the 8 MiB an image may cost.
const IMAGE_CHUNKS_WAITING_MAX: usize = 8;
