//! How much of the newest segment a start reads: its log and a window behind it, not the zeros to the file's end.
//!
//! Recovery judges the end of the log by what lies behind it (rule 1). Whatever a write of this use can have left
//! there without damage to the card lies in reach of what is read here:
//!
//! - A batch is written behind the last one, which is synced; so at its torn end the card may hold any of its
//!   blocks, but its head stands where the log ends, or did not arrive.
//! - The first batch of a start ends within a window of the end of the log it goes on from
//!   (`TailPlace::goes_on`; else it opens a segment). So all of it is seen, even where that for which it left a gap
//!   is gone (readable to that start from memory, and never on the card).
//! - Of another batch, torn, the blocks that lie beyond a window of blocks that never arrived are not seen. They
//!   promised nothing. Each write that follows has a higher sequence in its tags (`TailPlace::open` leaves one out
//!   for them); it overwrites them, or they lie behind it and their lower sequence tells that they are
//!   remains (`Segment::rubble`).
//!
//! Damage is noticed as by reading everything if it leaves a trace: damaged blocks, and blocks of this use behind
//! them, move the window on. Where blocks that were synced read as never written, for a whole window from where
//! the log seems to end (a card that lost or brought back an erase unit), the probes beyond find the rest of the
//! log, which has no gap of that size: one block in each window up to the segment's end; the first in use has
//! all of it read. What a reading of all would find and this does not: such a loss with less than one window
//! of log behind it. The same loss with nothing behind it no reading of the segment can find.

use crate::disk::{Disk, DiskFile, read_all_at};
use crate::error::WalError;
use crate::format::{Tag, UNIT_BYTES};
use crate::segment::{Header, path_of};

/// Bytes behind the last block in use that a start reads, and from one probe to the next: 256 KiB of 16 MiB, which
/// an ordinary card reads in half the time of a flush. Smaller segments, as tests have, get a smaller one.
pub(crate) const fn window_bytes(segment_bytes: u64, block_bytes: u32) -> u64 {
    let (few_blocks, part) = (4 * block_bytes as u64, segment_bytes / 4);
    let window = if part < WINDOW_BYTES_MAX { part } else { WINDOW_BYTES_MAX };
    if window < few_blocks { few_blocks } else { window }
}

const WINDOW_BYTES_MAX: u64 = 256 * 1024;

/// First format whose starts keep to the window. Older segments are read whole.
pub(crate) const FORMAT_WINDOW: u16 = 3;

/// The bytes of a segment as far as the use its header names may have written; what was not read is zeros, as if it
/// had never been written.
pub(crate) fn load_written<D: Disk>(disk: &D, number: u32, header: &Header) -> Result<Vec<u8>, WalError> {
    let mut file = disk.open(&path_of(number))?;
    // Else each probe behind the log's end would bring all that lies between it and the next.
    file.read_scattered()?;
    let mut bytes = vec![0; usize::try_from(header.segment_bytes).expect("a segment is at most 1 GiB")];
    let window = window_bytes(header.segment_bytes, header.block_bytes);
    let window = usize::try_from(window).expect("a window is a part of a segment, or some blocks");
    let mut read = 0;
    let mut written = 0;
    loop {
        let target = bytes.len().min(written + window);
        if read == target {
            break;
        }
        let piece = &mut bytes[read..target];
        let filled = read_all_at(&mut file, read as u64, piece)?;
        let last = piece.chunks(UNIT_BYTES).rposition(|unit| !Tag::decode(unit).is_free(header.use_number));
        written = last.map_or(written, |unit| read + (unit + 1) * UNIT_BYTES);
        if filled < target - read {
            return Ok(bytes);
        }
        read = target;
    }
    let mut unit = [0; UNIT_BYTES];
    // Each at the end of its window: right behind what was read the system would read ahead.
    for at in (read + window - UNIT_BYTES..bytes.len()).step_by(window) {
        let filled = read_all_at(&mut file, at as u64, &mut unit)?;
        if !Tag::decode(&unit[..filled]).is_free(header.use_number) {
            read_all_at(&mut file, read as u64, &mut bytes[read..])?;
            break;
        }
    }
    Ok(bytes)
}
