//! An image on its way out: a connection of its own, so that its losses and its window are not the heartbeats'.

use super::{IMAGE_CHUNK_BYTES_MAX, ImageOffer, ImageSendError, ImageSource};
use crate::backoff::Backoff;
use crate::frame::Kind;
use crate::goodbye::Goodbye;
use crate::link::greet;
use crate::roster::Core;
use crate::slot::Slot;
use crate::stream::{StreamError, WORD_MAX, read_head, write_head};
use crate::tls::Purpose;
use quinn::{Connection, RecvStream, SendStream};
use quorate_types::NodeId;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Sends an image, dialling again and going on where a cut connection ended, as long as it gets on.
pub(crate) async fn send<S: ImageSource>(
    core: &Core,
    to: NodeId,
    offer: ImageOffer,
    mut source: S,
) -> Result<(), ImageSendError> {
    let slot = core.slot(to).ok_or(ImageSendError::NotAMember)?;
    if !slot.begin_image_out(offer.bytes) {
        return Err(ImageSendError::Busy);
    }
    let _counted = Counted(&slot);
    let mut backoff = Backoff::new(core.start.incarnation ^ to.0);
    let (mut furthest, mut tries) = (0, 0);
    loop {
        let mut transfer = Transfer { core, slot: &slot, offer, reached: 0 };
        let cut = match transfer.run(&mut source).await {
            Err(Stop::Cut(why)) => why,
            Err(Stop::Final(error)) => return Err(error),
            Ok(()) => return Ok(()),
        };
        tries = if transfer.reached > furthest { 0 } else { tries + 1 };
        furthest = furthest.max(transfer.reached);
        if tries == TRIES_MAX {
            return Err(ImageSendError::Unreachable(cut));
        }
        tracing::info!(peer = %to, bytes = furthest, why = cut, "an image was cut and goes on");
        sleep(backoff.next()).await;
        if !core.is_current(&slot) {
            return Err(ImageSendError::NotAMember);
        }
    }
}

/// Ends the progress shown, however the sending ends.
struct Counted<'a>(&'a Arc<Slot>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.end_image_out();
    }
}

/// Why a transfer did not get to its end.
enum Stop {
    /// The link: another one may go on.
    Cut(String),
    Final(ImageSendError),
}

impl From<StreamError> for Stop {
    fn from(error: StreamError) -> Stop {
        Stop::Cut(error.to_string())
    }
}

/// One connection's worth of an image.
struct Transfer<'a> {
    core: &'a Core,
    slot: &'a Arc<Slot>,
    offer: ImageOffer,
    /// Bytes the receiver has or was sent.
    reached: u64,
}

impl Transfer<'_> {
    async fn run<S: ImageSource>(&mut self, source: &mut S) -> Result<(), Stop> {
        let greeted = greet(self.core, self.slot, Purpose::Image, self.slot.candidates()).await;
        let (connection, send, receive, _) = greeted.map_err(|error| Stop::Cut(error.to_string()))?;
        let ended = self.exchange(&connection, send, receive, source).await;
        Goodbye::Done.say(&connection);
        ended
    }

    async fn exchange<S: ImageSource>(
        &mut self,
        connection: &Connection,
        mut send: SendStream,
        mut receive: RecvStream,
        source: &mut S,
    ) -> Result<(), Stop> {
        write_head(&mut send, Kind::ImageOffer, &self.offer).await?;
        let wanted: Option<u64> = read_head(&mut receive, Kind::ImageAnswer, BEGIN_MAX).await?;
        self.reached = wanted.ok_or(Stop::Final(ImageSendError::NotWanted))?;
        if self.reached > self.offer.bytes {
            return Err(Stop::Cut("it asks for bytes beyond the image's end".into()));
        }
        tokio::select! {
            sent = self.write(&mut send, source) => sent?,
            // Taken or not, the receiver may end it early; without this a full window would hide it.
            error = connection.closed() => return Err(StreamError::Lost(error).into()),
        }
        if send.finish().is_err() {
            return Err(StreamError::Ended.into());
        }
        let verdict: Result<(), String> = read_head(&mut receive, Kind::ImageVerdict, VERDICT_MAX).await?;
        verdict.map_err(|words| Stop::Final(ImageSendError::Rejected(words)))
    }

    async fn write<S: ImageSource>(&mut self, send: &mut SendStream, source: &mut S) -> Result<(), Stop> {
        while self.reached < self.offer.bytes {
            self.slot.note_image_out(self.reached);
            if !self.core.is_current(self.slot) {
                return Err(Stop::Final(ImageSendError::NotAMember));
            }
            let left = self.offer.bytes - self.reached;
            let bytes_max =
                usize::try_from(left).map_or(IMAGE_CHUNK_BYTES_MAX, |left| left.min(IMAGE_CHUNK_BYTES_MAX));
            let chunk = source.read(self.reached, bytes_max).await.and_then(|chunk| {
                let fits = !chunk.is_empty() && chunk.len() <= bytes_max;
                if fits { Ok(chunk) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            });
            let chunk = chunk.map_err(|error| Stop::Final(ImageSendError::Source(error)))?;
            sleep(self.core.pace_image(chunk.len())).await;
            self.reached += chunk.len() as u64;
            let taken = timeout(CHUNK_MAX, send.write_chunk(chunk)).await;
            taken.map_err(|_| Stop::Cut("the receiver takes no bytes".into()))?.map_err(StreamError::from)?;
        }
        self.slot.note_image_out(self.reached);
        Ok(())
    }
}

/// Connections in a row that brought the image no further before it is given up.
const TRIES_MAX: u32 = 6;

/// The receiver's hall may have to put an older part away first.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// The receiver's card may stand still for seconds; one that takes nothing for this long hangs, and the log kept for
/// it must not fill the sender's card meanwhile.
const CHUNK_MAX: Duration = Duration::from_secs(60);

/// From the last byte sent to the image synced and read: what is in flight is below 4 MiB, on a card of a megabyte a
/// second, and its checksum takes a pass over all of it.
const VERDICT_MAX: Duration = Duration::from_secs(300);

const _: () = assert!(WORD_MAX.as_millis() < BEGIN_MAX.as_millis());
