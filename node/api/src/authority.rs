//! What clients say as `:authority`, made readable.
//!
//! etcd's clients name there what they were configured with: etcdctl 3.4 a whole URL
//! (`http://127.0.0.1:2379`, in calls to one named member), clientv3 3.5.0 its list
//! (`#initially=[...]`). Neither is an authority by RFC 3986, so the HTTP/2 library resets the stream
//! before it is seen here; grpc-go, which etcd stands on, takes any text. As nothing here asks who a
//! client thinks it speaks to, every authority is overwritten on its way in with letters of the same
//! length on the wire: no frame changes its size.

mod fields;

use fields::{Fields, Malformed};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose client's authorities are overwritten as they are read. HTTP/1 passes untouched,
/// as does everything written.
#[derive(Debug)]
pub(crate) struct Overwritten<S> {
    stream: S,
    walker: Walker,
}

impl<S> Overwritten<S> {
    pub(crate) fn new(stream: S) -> Overwritten<S> {
        Overwritten { stream, walker: Walker::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overwritten<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(read) = buffer.filled_mut().get_mut(before..) {
            self.walker.walk(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overwritten<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Follows the frames of one client (RFC 9113), however the bytes are cut into reads.
#[derive(Debug)]
struct Walker {
    place: Place,
    /// A header block has begun and not ended: only CONTINUATION may follow.
    in_block: bool,
    fields: Fields,
}

/// Where in the client's bytes the next one stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of [`PREFACE`] are behind.
    Preface(usize),
    /// In a frame's head, of which `filled` bytes are there.
    Head { head: [u8; HEAD_BYTES], filled: usize },
    /// At the byte that counts the padding.
    PadLength { part: BlockPart, prioritized: bool },
    /// In a priority, which nobody heeds.
    Priority { part: BlockPart, left: usize },
    /// In the header fields.
    Fields(BlockPart),
    /// In bytes of no interest.
    Skip { left: usize },
    /// Not HTTP/2, or malformed: the HTTP library judges what comes, untouched.
    Off,
}

/// What one HEADERS or CONTINUATION frame holds of a header block.
#[derive(Debug, Clone, Copy)]
struct BlockPart {
    /// Bytes of fields to come.
    left: usize,
    /// Bytes of padding behind them.
    padding: usize,
    /// The block ends with this frame.
    last: bool,
}

impl Walker {
    fn new() -> Walker {
        Walker { place: Place::Preface(0), in_block: false, fields: Fields::new() }
    }

    /// Takes what was read next, and overwrites the authorities in it.
    fn walk(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match self.step(bytes) {
                Ok((place, taken)) => {
                    self.place = place;
                    bytes = bytes.get_mut(taken..).unwrap_or_default();
                }
                Err(Malformed) => {
                    self.place = Place::Off;
                    return;
                }
            }
        }
    }

    /// Takes at least one of `bytes`, which are not empty: where that leads, and how many were taken.
    fn step(&mut self, bytes: &mut [u8]) -> Result<(Place, usize), Malformed> {
        match self.place {
            Place::Preface(seen) => {
                let rest = PREFACE.get(seen..).unwrap_or_default();
                let taken = rest.len().min(bytes.len());
                if rest.get(..taken) != bytes.get(..taken) {
                    return Err(Malformed);
                }
                let whole = taken == rest.len();
                Ok((if whole { Place::frame() } else { Place::Preface(seen + taken) }, taken))
            }
            Place::Head { mut head, filled } => {
                let missing = head.get_mut(filled..).unwrap_or_default();
                let taken = missing.len().min(bytes.len());
                for (to, from) in missing.iter_mut().zip(bytes.iter()) {
                    *to = *from;
                }
                let filled = filled + taken;
                let place =
                    if filled < HEAD_BYTES { Place::Head { head, filled } } else { self.payload(head)? };
                Ok((place, taken))
            }
            Place::PadLength { part, prioritized } => {
                let padding = usize::from(bytes.first().copied().unwrap_or_default());
                let left = part.left.checked_sub(padding).ok_or(Malformed)?;
                Ok((self.after_pad_length(BlockPart { left, padding, ..part }, prioritized)?, 1))
            }
            Place::Priority { part, left } => {
                let taken = left.min(bytes.len());
                let left = left - taken;
                let place = if left > 0 { Place::Priority { part, left } } else { self.fields_or_end(part)? };
                Ok((place, taken))
            }
            Place::Fields(part) => {
                let taken = part.left.min(bytes.len());
                self.fields.walk(bytes.get_mut(..taken).unwrap_or_default())?;
                Ok((self.fields_or_end(BlockPart { left: part.left - taken, ..part })?, taken))
            }
            Place::Skip { left } => {
                let taken = left.min(bytes.len());
                Ok((Place::skip(left - taken), taken))
            }
            Place::Off => Ok((Place::Off, bytes.len())),
        }
    }

    /// What stands behind a frame's head.
    fn payload(&mut self, head: [u8; HEAD_BYTES]) -> Result<Place, Malformed> {
        let [high, middle, low, kind, flags, ..] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let part = BlockPart { left: length, padding: 0, last: flags & FLAG_END_HEADERS != 0 };
        match (kind, self.in_block) {
            (KIND_HEADERS, false) => {
                self.in_block = true;
                let prioritized = flags & FLAG_PRIORITY != 0;
                if flags & FLAG_PADDED == 0 {
                    return self.after_pad_length(part, prioritized);
                }
                let left = part.left.checked_sub(1).ok_or(Malformed)?;
                Ok(Place::PadLength { part: BlockPart { left, ..part }, prioritized })
            }
            (KIND_CONTINUATION, true) => self.fields_or_end(part),
            // A promise would be a header block too, but clients make none.
            (KIND_CONTINUATION | KIND_PUSH_PROMISE, false) | (_, true) => Err(Malformed),
            (_, false) => Ok(Place::skip(length)),
        }
    }

    fn after_pad_length(&mut self, part: BlockPart, prioritized: bool) -> Result<Place, Malformed> {
        if !prioritized {
            return self.fields_or_end(part);
        }
        let left = part.left.checked_sub(PRIORITY_BYTES).ok_or(Malformed)?;
        Ok(Place::Priority { part: BlockPart { left, ..part }, left: PRIORITY_BYTES })
    }

    fn fields_or_end(&mut self, part: BlockPart) -> Result<Place, Malformed> {
        if part.left > 0 {
            return Ok(Place::Fields(part));
        }
        if part.last {
            if !self.fields.are_whole() {
                return Err(Malformed);
            }
            self.in_block = false;
        }
        Ok(Place::skip(part.padding))
    }
}

impl Place {
    /// Before a frame.
    fn frame() -> Place {
        Place::Head { head: [0; HEAD_BYTES], filled: 0 }
    }

    fn skip(left: usize) -> Place {
        if left == 0 { Place::frame() } else { Place::Skip { left } }
    }
}

/// What a client says first who speaks HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, kind, flags and stream (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;

const KIND_HEADERS: u8 = 1;
const KIND_PUSH_PROMISE: u8 = 5;
const KIND_CONTINUATION: u8 = 9;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

#[cfg(test)]
mod tests;
