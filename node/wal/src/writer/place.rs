//! Where a batch goes: behind the last one, or into a new segment, onto zeros that are on the card already.

use super::{Pending, Synced, Writer};
use crate::Settings;
use crate::batch::{BatchHead, span_of};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::WalError;
use crate::format::{
    BATCH_FLAG_SEAL, BATCH_HEAD_BYTES, FORMAT, HEADER_BODY_BYTES_MAX, HEADER_BYTES, UNIT_PAYLOAD_BYTES,
    UnitWriter, blocks_of, crc32c,
};
use crate::pool::fill_with_zeros;
use crate::record::Record;
use crate::segment::{Header, SegmentEnd, path_of};
use crate::trim::{Live, Run, Runs, lowest_of};
use quorate_types::Position;

impl<D: Disk> Writer<D> {
    pub(super) fn place(&mut self, records: &[Record], flags: u32, link: Link) -> Result<u64, WalError> {
        let body = encode_body(records);
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.clear();
        let mut link = link;
        if let (Link::Next, Some(current)) = (&link, &self.current)
            && !current.takes(body.len(), self.pool.free_count() > 0)
        {
            let previous = Some(current.end());
            if let Some(newest) = self.live.back_mut() {
                newest.end = previous;
            }
            link = Link::Segment { previous };
        }
        let base = self.tip.last;
        self.tip.follow(records);
        if let Link::Segment { previous } = link {
            self.open_segment(base, previous, body.len(), &mut buffer)?;
        }
        self.fill_ahead(buffer.len(), body.len())?;
        let current = self.current.as_mut().expect("opened above, or open from before");
        let (resume_block, checksum) = match link {
            Link::Resume { block, checksum } => (block, checksum),
            Link::Next | Link::Segment { .. } => {
                (current.next_block + current.blocks_in(&buffer), current.checksum)
            }
        };
        let head = BatchHead {
            flags,
            use_number: current.use_number,
            number: self.next_batch,
            synced: self.next_batch - 1,
            previous: checksum,
            resume_block,
            body_bytes: u32::try_from(body.len()).expect("it fits a segment"),
            body_checksum: crc32c(&body),
            span: span_of(records),
        };
        current.checksum = head.put(&body, current.sequence, current.block_bytes, &mut buffer);
        let blocks = u32::try_from(blocks_of(BATCH_HEAD_BYTES + body.len(), current.block_bytes))
            .expect("a segment is at most 1 GiB");
        let offset = u64::from(current.next_block) * u64::from(current.block_bytes);
        write_all_at(&mut current.file, &path_of(current.number), offset, &buffer)?;
        current.next_block += current.blocks_in(&buffer);
        let block = current.next_block - blocks;
        current.sequence += 1;
        let newest = self.live.back_mut().expect("the current segment is the newest");
        newest.bytes = u64::from(current.next_block) * u64::from(current.block_bytes);
        let bytes = buffer.len() as u64;
        self.bytes_written += bytes;
        self.sealed = flags & BATCH_FLAG_SEAL != 0;
        let synced = Synced { batch: self.next_batch, last: self.tip.last, hard_state: self.tip.hard_state };
        let run = Run { before: base, lowest: lowest_of(records), block, end_block: current.next_block };
        self.pending = Some(Pending { synced, run, end: current.end() });
        self.next_batch += 1;
        // One long batch must not cost its memory for ever.
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.buffer = buffer;
        Ok(bytes)
    }

    /// Takes a ready file, or makes one here and now, and puts its header into the buffer: header and first
    /// batch are one write, and touch no metadata in a file that was zero-filled or used before.
    fn open_segment(
        &mut self,
        base: Position,
        previous: Option<SegmentEnd>,
        body_bytes: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), WalError> {
        let Settings { segment_bytes, block_bytes, .. } = self.settings;
        let header = Header {
            use_number: self.next_use,
            block_bytes,
            segment_bytes,
            identity: self.tip.identity,
            start: self.tip.start,
            hard_state: self.tip.hard_state,
            membership: self.tip.membership.clone(),
            base,
            previous,
            first_batch: self.next_batch,
            created_by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let header_bytes = header.payload_bytes();
        let blocks =
            blocks_of(header_bytes, block_bytes) + blocks_of(BATCH_HEAD_BYTES + body_bytes, block_bytes);
        let bytes = blocks as u64 * u64::from(block_bytes);
        if header_bytes > HEADER_BYTES + HEADER_BODY_BYTES_MAX || bytes > segment_bytes {
            let bytes_max = if bytes > segment_bytes { segment_bytes } else { HEADER_BODY_BYTES_MAX as u64 };
            return Err(WalError::TooLarge { bytes: bytes.max(header_bytes as u64), bytes_max });
        }
        let (file, number) = match self.pool.take() {
            Some(number) => (self.disk.open(&path_of(number))?, number),
            None => {
                let number = self.pool.name();
                (self.disk.create(&path_of(number))?, number)
            }
        };
        let filled_bytes = file.bytes()?;
        let checksum = header.encode(buffer);
        self.current = Some(Open {
            file,
            number,
            use_number: self.next_use,
            block_bytes,
            block_count: u32::try_from(segment_bytes / u64::from(block_bytes))
                .expect("a segment is at most 1 GiB"),
            filled_bytes,
            next_block: 0,
            sequence: 1,
            checksum,
        });
        self.live.push_back(Live {
            number,
            use_number: self.next_use,
            format: FORMAT,
            block_bytes,
            base: base.index,
            end: None,
            bytes: 0,
            runs: Runs::default(),
        });
        self.next_use += 1;
        Ok(())
    }

    /// Sees to it that the next batch meets zeros already on the card, so that its sync is one flush.
    /// A file prepared or used before has them; another is filled a step at a time, ahead of the log, once in
    /// its life. Its name is durable before anything in it counts.
    fn fill_ahead(&mut self, header_bytes: usize, body_bytes: usize) -> Result<(), WalError> {
        let segment_bytes = self.settings.segment_bytes;
        let current = self.current.as_mut().expect("the batch has a segment");
        let end = current.end_bytes(header_bytes, body_bytes);
        if end <= current.filled_bytes {
            return Ok(());
        }
        let is_new = current.filled_bytes == 0;
        let step = current.filled_bytes.clamp(segment_bytes / FILL_PART_MIN, segment_bytes / FILL_PART_MAX);
        let target = (current.filled_bytes + step).max(end).min(segment_bytes.max(end));
        let bytes = target - current.filled_bytes;
        fill_with_zeros(&mut current.file, &path_of(current.number), current.filled_bytes, bytes)?;
        current.file.sync_data()?;
        current.filled_bytes = target;
        if is_new {
            self.disk.sync_dir("wal")?;
        }
        self.bytes_filled += bytes;
        self.sync_count += 1;
        Ok(())
    }
}

/// Least part of a segment that is filled ahead where it was not prepared: 256 KiB of 16 MiB, what a card of
/// 10 MB/s writes within the time of one flush.
const FILL_PART_MIN: u64 = 64;

/// Most: 1 MiB of 16 MiB. A put waits for it.
const FILL_PART_MAX: u64 = 16;

/// How a batch is tied to the log before it.
pub(crate) enum Link {
    /// It follows the last batch, in this segment if there is room.
    Next,
    /// First of a start: it stands in place of the last batch.
    Resume { block: u32, checksum: u32 },
    /// It opens a segment.
    Segment { previous: Option<SegmentEnd> },
}

/// The segment being written.
pub(crate) struct Open<F> {
    pub(crate) file: F,
    pub(crate) number: u32,
    pub(crate) use_number: u64,
    pub(crate) block_bytes: u32,
    pub(crate) block_count: u32,
    /// How far the file holds zeros or older blocks: its length.
    pub(crate) filled_bytes: u64,
    pub(crate) next_block: u32,
    pub(crate) sequence: u32,
    /// Of the last batch, or of the header.
    pub(crate) checksum: u32,
}

impl<F> Open<F> {
    /// Byte behind a batch of that body, with a header of that many bytes in front of it or none.
    fn end_bytes(&self, header_bytes: usize, body_bytes: usize) -> u64 {
        let blocks = blocks_of(BATCH_HEAD_BYTES + body_bytes, self.block_bytes) as u64;
        (u64::from(self.next_block) + blocks) * u64::from(self.block_bytes) + header_bytes as u64
    }

    /// Whether the log goes on here with a batch of that body: there is room for it, and zeros wait for it unless
    /// no prepared file does either.
    fn takes(&self, body_bytes: usize, has_spare: bool) -> bool {
        let end = self.end_bytes(0, body_bytes);
        let room = u64::from(self.block_count) * u64::from(self.block_bytes);
        end <= room && (end <= self.filled_bytes || !has_spare)
    }

    fn end(&self) -> SegmentEnd {
        SegmentEnd { use_number: self.use_number, block: self.next_block, checksum: self.checksum }
    }

    fn blocks_in(&self, buffer: &[u8]) -> u32 {
        u32::try_from(buffer.len() / self.block_bytes as usize).expect("a segment is at most 1 GiB")
    }
}

impl BatchHead {
    /// Appends head and body in whole blocks; answers the checksum the next batch follows.
    pub(crate) fn put(&self, body: &[u8], sequence: u32, block_bytes: u32, out: &mut Vec<u8>) -> u32 {
        out.reserve((BATCH_HEAD_BYTES + body.len()).div_ceil(UNIT_PAYLOAD_BYTES) * UNIT_PAYLOAD_BYTES);
        let (head, checksum) = self.encode();
        let mut units = UnitWriter::new(out, self.use_number, sequence);
        units.put(&head);
        units.put(body);
        units.finish(block_bytes);
        checksum
    }
}

pub(crate) fn encode_body(records: &[Record]) -> Vec<u8> {
    let payload_bytes = records
        .iter()
        .map(
            |record| {
                if let Record::Entry(entry) = record { entry.payload.len() + RECORD_HEAD_BYTES } else { 0 }
            },
        )
        .sum();
    records.iter().fold(Vec::with_capacity(payload_bytes), |body, record| record.encode(body))
}

/// Most an entry's postcard head takes.
const RECORD_HEAD_BYTES: usize = 32;
/// Memory the writer keeps between batches.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;
