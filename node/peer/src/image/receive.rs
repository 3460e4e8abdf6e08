//! An image on its way in: chunk by chunk to the hall, as fast as its card takes them.

use super::{IMAGE_CHUNK_BYTES_MAX, ImageOffer, ImageSink};
use crate::frame::Kind;
use crate::goodbye::Goodbye;
use crate::hall::Hall;
use crate::slot::Slot;
use crate::stream::{StreamError, WORD_MAX, read_head, write_head};
use crate::tls::Purpose;
use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::timeout;

/// Takes one image. A newer connection for one takes its place: the sender knows when a link is dead, and then
/// the hall has both for a moment; the older sink ends by itself.
pub(crate) async fn serve<H: Hall>(
    slot: &Slot,
    hall: &H,
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
) -> StreamError {
    if let Some(older) = slot.set_beside(Purpose::Image, connection) {
        Goodbye::Superseded.say(&older);
    }
    let ended = tokio::select! {
        taken = take(slot, hall, &mut send, &mut receive) => taken,
        error = connection.closed() => Err(error.into()),
    };
    if ended.is_ok() {
        // The sender ends the connection when it has read the verdict.
        drop(timeout(WORD_MAX, connection.closed()).await);
    }
    slot.clear_beside(Purpose::Image, connection);
    Goodbye::Done.say(connection);
    ended.err().unwrap_or(StreamError::Lost(ConnectionError::LocallyClosed))
}

async fn take<H: Hall>(
    slot: &Slot,
    hall: &H,
    send: &mut SendStream,
    receive: &mut RecvStream,
) -> Result<(), StreamError> {
    let offer: ImageOffer = read_head(receive, Kind::ImageOffer, WORD_MAX).await?;
    let sink = hall.image_begins(slot.id, offer).await.filter(|sink| sink.offset <= offer.bytes);
    let wanted: Option<u64> = sink.as_ref().map(|sink| sink.offset);
    write_head(send, Kind::ImageAnswer, &wanted).await?;
    let Some(sink) = sink else { return finish(send) };
    let ImageSink { offset, chunks, verdict } = sink;
    let mut left = offer.bytes - offset;
    while left > 0 {
        let length =
            usize::try_from(left).map_or(IMAGE_CHUNK_BYTES_MAX, |left| left.min(IMAGE_CHUNK_BYTES_MAX));
        let mut chunk = vec![0; length];
        receive.read_exact(&mut chunk).await?;
        left -= length as u64;
        if chunks.send(Bytes::from(chunk)).await.is_err() {
            return Err(StreamError::Ended);
        }
    }
    drop(chunks);
    let verdict = verdict.await.map_err(|_| StreamError::Ended)?;
    write_head(send, Kind::ImageVerdict, &verdict.map_err(cut)).await?;
    finish(send)
}

fn finish(send: &mut SendStream) -> Result<(), StreamError> {
    send.finish().map_err(|_| StreamError::Ended)
}

/// Words of a bounded length.
fn cut(mut words: String) -> String {
    let end = (0..=WORDS_BYTES_MAX.min(words.len())).rev().find(|&end| words.is_char_boundary(end));
    words.truncate(end.unwrap_or(0));
    words
}

const WORDS_BYTES_MAX: usize = 1_024;
