//! What one write and one sync carry, and its head on the card.

use crate::format::{
    BATCH_BODY_BYTES_AT, BATCH_BODY_CHECKSUM_AT, BATCH_CHECKSUM_AT, BATCH_ENTRY_COUNT_AT,
    BATCH_FIRST_INDEX_AT, BATCH_FIRST_TERM_AT, BATCH_FLAGS_AT, BATCH_HEAD_BYTES, BATCH_LAST_INDEX_AT,
    BATCH_LAST_TERM_AT, BATCH_MAGIC, BATCH_MAGIC_AT, BATCH_NUMBER_AT, BATCH_PREVIOUS_AT, BATCH_RESUME_AT,
    BATCH_SYNCED_AT, BATCH_USE_AT, crc32c, get_u32, get_u64, put,
};
use crate::record::Record;
use quorate_types::limits::{BATCH_BYTES_MAX, BATCH_ENTRY_COUNT_MAX};
use quorate_types::{Entry, Index, Position, Term};

/// Records of one write and one sync, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    records: Vec<Record>,
    payload_bytes: usize,
    entry_count: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Appends a record.
    ///
    /// # Panics
    /// If it is an entry that `has_room` refuses: the bounds of `limits` are the caller's to keep.
    pub fn push(&mut self, record: Record) {
        if let Record::Entry(entry) = &record {
            assert!(
                self.has_room(entry.payload.len()),
                "batch is bounded by BATCH_BYTES_MAX and BATCH_ENTRY_COUNT_MAX"
            );
            self.payload_bytes += entry.payload.len();
            self.entry_count += 1;
        }
        self.records.push(record);
    }

    /// Whether an entry of that many payload bytes still fits `BATCH_BYTES_MAX` and `BATCH_ENTRY_COUNT_MAX`.
    #[must_use]
    pub fn has_room(&self, payload_bytes: usize) -> bool {
        self.entry_count < BATCH_ENTRY_COUNT_MAX
            && self.payload_bytes.saturating_add(payload_bytes) <= BATCH_BYTES_MAX
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Payload bytes of the entries in it.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Entries in it.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.payload_bytes = 0;
        self.entry_count = 0;
    }
}

/// First and last entry of some records, and how many there are.
pub(crate) fn span_of(records: &[Record]) -> Option<(Position, Position, u32)> {
    let mut span: Option<(Position, Position, u32)> = None;
    for record in records {
        if let Record::Entry(Entry { position, .. }) = record {
            span = Some(match span {
                None => (*position, *position, 1),
                Some((first, _, count)) => (first, *position, count + 1),
            });
        }
    }
    span
}

/// A batch's head: enough to tell torn from corrupt without its body (rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) flags: u32,
    pub(crate) use_number: u64,
    /// Counts through the life of the log.
    pub(crate) number: u64,
    /// Last batch known to be synced when this one was written.
    pub(crate) synced: u64,
    /// Checksum of the batch the log goes on from; of the segment header for its first batch.
    pub(crate) previous: u32,
    /// Block where the log before this batch ends: its own, or an earlier one after a cut.
    pub(crate) resume_block: u32,
    pub(crate) body_bytes: u32,
    pub(crate) body_checksum: u32,
    /// First and last entry, and how many entries there are.
    pub(crate) span: Option<(Position, Position, u32)>,
}

impl BatchHead {
    /// The bytes, and the checksum which names this batch to the next.
    pub(crate) fn encode(&self) -> ([u8; BATCH_HEAD_BYTES], u32) {
        let mut bytes = [0; BATCH_HEAD_BYTES];
        let (first, last, count) = self.span.unwrap_or_default();
        put(&mut bytes, BATCH_MAGIC_AT, &BATCH_MAGIC.to_le_bytes());
        put(&mut bytes, BATCH_FLAGS_AT, &self.flags.to_le_bytes());
        put(&mut bytes, BATCH_USE_AT, &self.use_number.to_le_bytes());
        put(&mut bytes, BATCH_NUMBER_AT, &self.number.to_le_bytes());
        put(&mut bytes, BATCH_SYNCED_AT, &self.synced.to_le_bytes());
        put(&mut bytes, BATCH_PREVIOUS_AT, &self.previous.to_le_bytes());
        put(&mut bytes, BATCH_RESUME_AT, &self.resume_block.to_le_bytes());
        put(&mut bytes, BATCH_BODY_BYTES_AT, &self.body_bytes.to_le_bytes());
        put(&mut bytes, BATCH_BODY_CHECKSUM_AT, &self.body_checksum.to_le_bytes());
        put(&mut bytes, BATCH_ENTRY_COUNT_AT, &count.to_le_bytes());
        put(&mut bytes, BATCH_FIRST_TERM_AT, &first.term.0.to_le_bytes());
        put(&mut bytes, BATCH_FIRST_INDEX_AT, &first.index.0.to_le_bytes());
        put(&mut bytes, BATCH_LAST_TERM_AT, &last.term.0.to_le_bytes());
        put(&mut bytes, BATCH_LAST_INDEX_AT, &last.index.0.to_le_bytes());
        let checksum = crc32c(&bytes[..BATCH_CHECKSUM_AT]);
        put(&mut bytes, BATCH_CHECKSUM_AT, &checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// The head and its checksum, if these bytes are one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(BatchHead, u32)> {
        let bytes = bytes.get(..BATCH_HEAD_BYTES)?;
        let checksum = get_u32(bytes, BATCH_CHECKSUM_AT);
        if get_u32(bytes, BATCH_MAGIC_AT) != BATCH_MAGIC || crc32c(&bytes[..BATCH_CHECKSUM_AT]) != checksum {
            return None;
        }
        let position = |term_at, index_at| Position {
            term: Term(get_u64(bytes, term_at)),
            index: Index(get_u64(bytes, index_at)),
        };
        let count = get_u32(bytes, BATCH_ENTRY_COUNT_AT);
        let first = position(BATCH_FIRST_TERM_AT, BATCH_FIRST_INDEX_AT);
        let last = position(BATCH_LAST_TERM_AT, BATCH_LAST_INDEX_AT);
        let head = BatchHead {
            flags: get_u32(bytes, BATCH_FLAGS_AT),
            use_number: get_u64(bytes, BATCH_USE_AT),
            number: get_u64(bytes, BATCH_NUMBER_AT),
            synced: get_u64(bytes, BATCH_SYNCED_AT),
            previous: get_u32(bytes, BATCH_PREVIOUS_AT),
            resume_block: get_u32(bytes, BATCH_RESUME_AT),
            body_bytes: get_u32(bytes, BATCH_BODY_BYTES_AT),
            body_checksum: get_u32(bytes, BATCH_BODY_CHECKSUM_AT),
            span: (count > 0).then_some((first, last, count)),
        };
        Some((head, checksum))
    }
}
