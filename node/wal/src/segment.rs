//! One segment: its header, and how its batches are read back and judged (rules 1 and 2).

use crate::batch::BatchHead;
use crate::disk::{Disk, read_all_at};
use crate::error::WalError;
use crate::format::{
    BATCH_FLAG_SEAL, BATCH_HEAD_BYTES, FORMAT, HEADER_BODY_BYTES_AT, HEADER_BODY_BYTES_MAX,
    HEADER_BODY_CHECKSUM_AT, HEADER_BYTES, HEADER_CHECKSUM_AT, HEADER_FORMAT_AT, HEADER_MAGIC,
    HEADER_MAGIC_AT, HEADER_USE_AT, TAG_BYTES, Tag, UNIT_BYTES, UnitWriter, blocks_of, crc32c, gather,
    get_u16, get_u32, get_u64, put, units_of,
};
use crate::format_1::{FORMAT_1, Membership1};
use crate::record::Record;
use quorate_types::{HardState, Identity, Membership, Position, Start};
use serde::{Deserialize, Serialize};

/// Where a segment file stands below the data folder. Its number is a name, not an order: the order is
/// the use number's, so that giving a file a new use touches no directory.
pub(crate) fn path_of(number: u32) -> String {
    format!("wal/segment-{number:04}")
}

/// What a segment says about itself: enough to stand alone once all older ones are gone (rule 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header<M = Membership> {
    /// Rises with each use of any file, never used twice.
    pub(crate) use_number: u64,
    pub(crate) block_bytes: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    pub(crate) hard_state: HardState,
    pub(crate) membership: M,
    /// Last position of the log before this segment's first batch.
    pub(crate) base: Position,
    /// Where the log before this segment ends; none in a cluster's first segment.
    pub(crate) previous: Option<SegmentEnd>,
    /// Number of the first batch.
    pub(crate) first_batch: u64,
    /// Release that wrote it, for people.
    pub(crate) created_by: String,
}

/// The end of a segment's part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentEnd {
    pub(crate) use_number: u64,
    /// First block behind.
    pub(crate) block: u32,
    /// Checksum of the last batch.
    pub(crate) checksum: u32,
}

impl Header {
    /// Appends the header's blocks; answers the checksum its first batch follows.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let body = postcard::to_allocvec(self).expect("plain values always encode into a growing vector");
        let mut prefix = [0; HEADER_BYTES];
        put(&mut prefix, HEADER_MAGIC_AT, &HEADER_MAGIC);
        put(&mut prefix, HEADER_FORMAT_AT, &FORMAT.to_le_bytes());
        let body_bytes = u32::try_from(body.len()).expect("header_bytes is checked before");
        put(&mut prefix, HEADER_BODY_BYTES_AT, &body_bytes.to_le_bytes());
        put(&mut prefix, HEADER_USE_AT, &self.use_number.to_le_bytes());
        put(&mut prefix, HEADER_BODY_CHECKSUM_AT, &crc32c(&body).to_le_bytes());
        let checksum = crc32c(&prefix[..HEADER_CHECKSUM_AT]);
        put(&mut prefix, HEADER_CHECKSUM_AT, &checksum.to_le_bytes());
        let mut units = UnitWriter::new(out, self.use_number, 0);
        units.put(&prefix);
        units.put(&body);
        units.finish(self.block_bytes);
        checksum
    }

    /// Payload bytes `encode` will put into blocks.
    pub(crate) fn payload_bytes(&self) -> usize {
        HEADER_BYTES
            + postcard::to_allocvec(self).expect("plain values always encode into a growing vector").len()
    }
}

/// What stands where a header should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderSeen {
    /// Nothing was ever written there.
    Virgin,
    /// A header.
    Valid(Box<HeaderFound>),
    /// A header of a format this release does not know.
    Newer(u16),
    /// Something, and no header.
    Unreadable,
}

/// A header that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderFound {
    pub(crate) header: Header,
    /// Format of the segment.
    pub(crate) format: u16,
    /// Blocks it takes.
    pub(crate) blocks: u32,
    /// What the first batch follows.
    pub(crate) checksum: u32,
}

impl HeaderSeen {
    /// Reads the header at the start of a segment's bytes (all of it, or at least its first units).
    pub(crate) fn decode(segment: &[u8]) -> HeaderSeen {
        let tag = Tag::decode(segment);
        let Some(prefix) = gather(segment, 0, 0, HEADER_BYTES) else { return HeaderSeen::Virgin };
        if tag == Tag::Virgin && prefix.iter().all(|byte| *byte == 0) {
            return HeaderSeen::Virgin;
        }
        if prefix[..HEADER_FORMAT_AT] != HEADER_MAGIC
            || get_u32(&prefix, HEADER_CHECKSUM_AT) != crc32c(&prefix[..HEADER_CHECKSUM_AT])
        {
            return HeaderSeen::Unreadable;
        }
        let format = get_u16(&prefix, HEADER_FORMAT_AT);
        if format > FORMAT {
            return HeaderSeen::Newer(format);
        }
        HeaderSeen::decode_body(segment, &prefix, format).unwrap_or(HeaderSeen::Unreadable)
    }

    fn decode_body(segment: &[u8], prefix: &[u8], format: u16) -> Option<HeaderSeen> {
        let body_bytes = get_u32(prefix, HEADER_BODY_BYTES_AT) as usize;
        if body_bytes > HEADER_BODY_BYTES_MAX {
            return None;
        }
        let body = gather(segment, 0, HEADER_BYTES, body_bytes)?;
        if crc32c(&body) != get_u32(prefix, HEADER_BODY_CHECKSUM_AT) {
            return None;
        }
        let header = if format == FORMAT_1 {
            postcard::from_bytes::<Header<Membership1>>(&body).ok()?.into()
        } else {
            postcard::from_bytes::<Header>(&body).ok()?
        };
        let whole_blocks = header.block_bytes != 0
            && (header.block_bytes as usize).is_multiple_of(UNIT_BYTES)
            && header.segment_bytes.is_multiple_of(u64::from(header.block_bytes))
            && header.segment_bytes <= 1 << 30;
        if header.use_number != get_u64(prefix, HEADER_USE_AT) || !whole_blocks {
            return None;
        }
        let blocks = u32::try_from(blocks_of(HEADER_BYTES + body_bytes, header.block_bytes)).ok()?;
        let checksum = get_u32(prefix, HEADER_CHECKSUM_AT);
        Some(HeaderSeen::Valid(Box::new(HeaderFound { header, format, blocks, checksum })))
    }
}

/// A segment in memory, to be read back.
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) format: u16,
    pub(crate) use_number: u64,
    pub(crate) block_bytes: u32,
    /// First block behind the header.
    pub(crate) first_block: u32,
    /// Checksum of the header.
    pub(crate) header_checksum: u32,
    pub(crate) first_batch: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The whole file. Its end may miss after a power cut, as its length was never synced: that reads as
/// zeros, as it will once the file is longer.
pub(crate) fn load<D: Disk>(disk: &D, number: u32, segment_bytes: u64) -> Result<Vec<u8>, WalError> {
    let mut file = disk.open(&path_of(number))?;
    let mut bytes = vec![0; usize::try_from(segment_bytes).expect("a segment is at most 1 GiB")];
    read_all_at(&mut file, 0, &mut bytes)?;
    Ok(bytes)
}

/// A batch read back whole.
pub(crate) struct Found {
    pub(crate) block: u32,
    pub(crate) head: BatchHead,
    pub(crate) checksum: u32,
    pub(crate) sequence: u32,
    /// First block behind it.
    pub(crate) end_block: u32,
    pub(crate) records: Vec<Record>,
}

/// The records of the batch whose first unit stands at byte `at`, if its body is there and holds.
pub(crate) fn records_of(bytes: &[u8], at: usize, head: &BatchHead, format: u16) -> Option<Vec<Record>> {
    let body = gather(bytes, at, BATCH_HEAD_BYTES, head.body_bytes as usize)?;
    if crc32c(&body) != head.body_checksum {
        return None;
    }
    Record::decode_all(&body, format)
}

/// What stands at a block.
pub(crate) enum Probe {
    Batch(Found),
    /// A head that holds, with a body that does not.
    Head(BatchHead),
    Nothing,
}

impl Segment {
    /// A segment with that header, and all its bytes.
    pub(crate) fn new(number: u32, found: &HeaderFound, bytes: Vec<u8>) -> Segment {
        let HeaderFound { header, format, blocks, checksum } = found;
        Segment {
            number,
            format: *format,
            use_number: header.use_number,
            block_bytes: header.block_bytes,
            first_block: *blocks,
            header_checksum: *checksum,
            first_batch: header.first_batch,
            bytes,
        }
    }

    pub(crate) fn block_count(&self) -> u32 {
        u32::try_from(self.bytes.len().div_ceil(self.block_bytes as usize))
            .expect("a segment is at most 1 GiB")
    }

    /// Byte of a block.
    pub(crate) fn offset(&self, block: u32) -> u64 {
        u64::from(block) * u64::from(self.block_bytes)
    }

    fn units_per_block(&self) -> usize {
        self.block_bytes as usize / UNIT_BYTES
    }

    fn unit_count(&self) -> usize {
        self.bytes.len().div_ceil(UNIT_BYTES)
    }

    fn tag(&self, unit: usize) -> Tag {
        self.bytes.get(unit * UNIT_BYTES..).map_or(Tag::Virgin, Tag::decode)
    }

    /// The head at a block, and the sequence its tag gives it.
    fn head(&self, block: u32) -> Option<(BatchHead, u32, u32)> {
        let unit = block as usize * self.units_per_block();
        let Tag::Of { use_number, sequence, first: true } = self.tag(unit) else { return None };
        let at = unit * UNIT_BYTES + TAG_BYTES;
        let (head, checksum) = BatchHead::decode(self.bytes.get(at..)?)?;
        (use_number == self.use_number && head.use_number == self.use_number && head.resume_block <= block)
            .then_some((head, checksum, sequence))
    }

    pub(crate) fn probe(&self, block: u32) -> Probe {
        let Some((head, checksum, sequence)) = self.head(block) else { return Probe::Nothing };
        self.body(block, &head, checksum, sequence).map_or(Probe::Head(head), Probe::Batch)
    }

    fn body(&self, block: u32, head: &BatchHead, checksum: u32, sequence: u32) -> Option<Found> {
        let at = block as usize * self.block_bytes as usize;
        let records = records_of(&self.bytes, at, head, self.format)?;
        let bytes = BATCH_HEAD_BYTES + head.body_bytes as usize;
        let blocks = u32::try_from(blocks_of(bytes, self.block_bytes)).ok()?;
        Some(Found { block, head: *head, checksum, sequence, end_block: block + blocks, records })
    }

    /// Whether this use never wrote to the first unit of a block, as far as one can tell.
    pub(crate) fn is_free(&self, block: u32) -> bool {
        self.is_free_unit(block as usize * self.units_per_block(), 0)
    }

    /// Whether nothing with that sequence or a later one stands in the unit. What a use left there before is as
    /// good as nothing: later writes have higher sequences, so it is a remain of a write that was never
    /// acknowledged (see `extent`).
    fn is_free_unit(&self, unit: usize, sequence_min: u32) -> bool {
        let tag = self.tag(unit);
        let is_remain = matches!(tag, Tag::Of { use_number, sequence, .. }
            if use_number == self.use_number && sequence < sequence_min);
        is_remain || tag.is_free(self.use_number)
    }

    /// What the units from `block` on say about writes that did not become whole batches: those with that
    /// sequence or a later one.
    pub(crate) fn rubble(&self, block: u32, sequence_min: u32) -> Rubble {
        let first_unit = block as usize * self.units_per_block();
        let mut rubble =
            Rubble { fresh_block: block, sequence_max: 0, begun: false, lost: true, lost_any: false };
        let mut piece = Piece::default();
        let mut holes = false;
        for unit in first_unit..self.unit_count() {
            if self.is_free_unit(unit, sequence_min) {
                holes = true;
                continue;
            }
            let ours = match self.tag(unit) {
                Tag::Of { use_number, sequence, first } if use_number == self.use_number => {
                    Some((sequence, first))
                }
                // A newer use, or nonsense: not written by this use, and not free either.
                Tag::Virgin | Tag::Of { .. } | Tag::Damaged => None,
            };
            rubble.begun = true;
            let block = u32::try_from(unit / self.units_per_block()).expect("a segment is at most 1 GiB");
            rubble.fresh_block = block + 1;
            if let Some((sequence, first)) = ours {
                rubble.sequence_max = rubble.sequence_max.max(sequence);
                if piece.sequence.is_some_and(|of_piece| of_piece != sequence) {
                    rubble.count(self.is_lost(&piece, sequence_min));
                    piece = Piece::default();
                    // A hole before a piece's first unit is not its own. The piece before shows its end
                    // by its head, or is known to be lost for want of it.
                    holes &= !first;
                }
                piece.sequence = Some(sequence);
                if first {
                    piece.head_block = Some(block);
                }
            }
            piece.holes |= holes;
            holes = false;
        }
        rubble.count(self.is_lost(&piece, sequence_min));
        rubble
    }

    /// Whether a piece of a write promised nothing: some unit of it never reached the card, so its sync
    /// never returned; or it was only a seal.
    fn is_lost(&self, piece: &Piece, sequence_min: u32) -> bool {
        let Some((block, (head, _, _))) = piece.head_block.and_then(|block| Some((block, self.head(block)?)))
        else {
            return piece.holes;
        };
        let from = block as usize * self.units_per_block();
        let blocks = blocks_of(BATCH_HEAD_BYTES + head.body_bytes as usize, self.block_bytes);
        let units = blocks * self.units_per_block();
        debug_assert!(units >= units_of(BATCH_HEAD_BYTES));
        piece.holes
            || head.flags & BATCH_FLAG_SEAL != 0
            || (from..from + units).any(|unit| self.is_free_unit(unit, sequence_min))
    }
}

/// What lies behind the last whole batch.
pub(crate) struct Rubble {
    /// First block that nothing was written to under this use, as far as one can tell.
    pub(crate) fresh_block: u32,
    /// Highest sequence in the tags there.
    pub(crate) sequence_max: u32,
    /// Whether anything was written there at all.
    pub(crate) begun: bool,
    /// Whether each write there provably never reached the card whole, so was never acknowledged.
    pub(crate) lost: bool,
    /// Whether one of them did not.
    pub(crate) lost_any: bool,
}

impl Rubble {
    fn count(&mut self, lost: bool) {
        self.lost &= lost;
        self.lost_any |= lost;
    }
}

/// Units of one write.
#[derive(Default)]
struct Piece {
    sequence: Option<u32>,
    head_block: Option<u32>,
    holes: bool,
}
