//! The bytes on the card, described once: every offset is chained from the sizes before it, every number
//! is little-endian. A test prints the layout into `tests/golden/wal-layout.txt`.

/// Format of segments this release writes and the newest it reads. Format 1 is read too: see `format_1`. Format 2
/// has the same bytes; its starts did not keep to the window of `extent`.
pub const FORMAT: u16 = 3;

/// CRC-32C of some bytes. The one place to change if a board needs it faster.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

pub(crate) static CRC: crc::Crc<u32, crc::Table<16>> =
    crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);

/// What the kernel reads, writes and a card's tag speaks for. Blocks are whole units.
pub(crate) const UNIT_BYTES: usize = 4_096;

/// Each unit starts with a tag, so that each says whose it is: zero is virgin, a valid tag of an older
/// use is stale, of the current use ours, and anything else is damage.
pub(crate) const TAG_USE_AT: usize = 0;
pub(crate) const TAG_SEQUENCE_AT: usize = TAG_USE_AT + 8;
pub(crate) const TAG_CHECKSUM_AT: usize = TAG_SEQUENCE_AT + 4;
pub(crate) const TAG_BYTES: usize = TAG_CHECKSUM_AT + 4;
/// Set in a tag's sequence on the first unit of a batch. Clients choose payload bytes, never tags: a
/// value that looks like a batch head is no head.
pub(crate) const TAG_FIRST: u32 = 1 << 31;
/// What a unit carries after its tag.
pub(crate) const UNIT_PAYLOAD_BYTES: usize = UNIT_BYTES - TAG_BYTES;

/// The segment header opens unit 0: a prefix whose place never changes, so that any release can read the
/// format of any other, then a postcard body.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"quoratew";
pub(crate) const HEADER_MAGIC_AT: usize = 0;
pub(crate) const HEADER_FORMAT_AT: usize = HEADER_MAGIC_AT + 8;
pub(crate) const HEADER_RESERVED_AT: usize = HEADER_FORMAT_AT + 2;
pub(crate) const HEADER_BODY_BYTES_AT: usize = HEADER_RESERVED_AT + 2;
pub(crate) const HEADER_USE_AT: usize = HEADER_BODY_BYTES_AT + 4;
pub(crate) const HEADER_BODY_CHECKSUM_AT: usize = HEADER_USE_AT + 8;
pub(crate) const HEADER_CHECKSUM_AT: usize = HEADER_BODY_CHECKSUM_AT + 4;
pub(crate) const HEADER_BYTES: usize = HEADER_CHECKSUM_AT + 4;
/// Bound on the postcard body: a membership of some hundred nodes.
pub(crate) const HEADER_BODY_BYTES_MAX: usize = 64 * 1024;

/// A batch opens its first block with this head; the body of records follows.
pub(crate) const BATCH_MAGIC: u32 = 0x4854_4142;
pub(crate) const BATCH_MAGIC_AT: usize = 0;
pub(crate) const BATCH_FLAGS_AT: usize = BATCH_MAGIC_AT + 4;
pub(crate) const BATCH_USE_AT: usize = BATCH_FLAGS_AT + 4;
pub(crate) const BATCH_NUMBER_AT: usize = BATCH_USE_AT + 8;
pub(crate) const BATCH_SYNCED_AT: usize = BATCH_NUMBER_AT + 8;
pub(crate) const BATCH_PREVIOUS_AT: usize = BATCH_SYNCED_AT + 8;
pub(crate) const BATCH_RESUME_AT: usize = BATCH_PREVIOUS_AT + 4;
pub(crate) const BATCH_BODY_BYTES_AT: usize = BATCH_RESUME_AT + 4;
pub(crate) const BATCH_BODY_CHECKSUM_AT: usize = BATCH_BODY_BYTES_AT + 4;
pub(crate) const BATCH_ENTRY_COUNT_AT: usize = BATCH_BODY_CHECKSUM_AT + 4;
pub(crate) const BATCH_FIRST_TERM_AT: usize = BATCH_ENTRY_COUNT_AT + 4;
pub(crate) const BATCH_FIRST_INDEX_AT: usize = BATCH_FIRST_TERM_AT + 8;
pub(crate) const BATCH_LAST_TERM_AT: usize = BATCH_FIRST_INDEX_AT + 8;
pub(crate) const BATCH_LAST_INDEX_AT: usize = BATCH_LAST_TERM_AT + 8;
pub(crate) const BATCH_CHECKSUM_AT: usize = BATCH_LAST_INDEX_AT + 8;
pub(crate) const BATCH_HEAD_BYTES: usize = BATCH_CHECKSUM_AT + 4;
/// The batch holds a seal and nothing that was promised: losing it loses nothing.
pub(crate) const BATCH_FLAG_SEAL: u32 = 1;
/// The first batch of a start.
pub(crate) const BATCH_FLAG_START: u32 = 2;

// Tag and head lie in one sector, which a card writes whole: a unit that shows its tag after a power cut
// shows its head too.
const _: () = assert!(TAG_BYTES + BATCH_HEAD_BYTES <= quorate_types::limits::SECTOR_BYTES);
const _: () = assert!(TAG_BYTES + HEADER_BYTES <= quorate_types::limits::SECTOR_BYTES);

/// Who wrote a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Never written since the file was zero-filled.
    Virgin,
    /// Written under that use number.
    Of { use_number: u64, sequence: u32, first: bool },
    /// Neither.
    Damaged,
}

impl Tag {
    pub(crate) fn encode(use_number: u64, sequence: u32, first: bool) -> [u8; TAG_BYTES] {
        assert!(sequence < TAG_FIRST, "a segment holds fewer batches than that");
        let mut tag = [0; TAG_BYTES];
        put(&mut tag, TAG_USE_AT, &use_number.to_le_bytes());
        put(&mut tag, TAG_SEQUENCE_AT, &(sequence | if first { TAG_FIRST } else { 0 }).to_le_bytes());
        let checksum = crc32c(&tag[..TAG_CHECKSUM_AT]);
        put(&mut tag, TAG_CHECKSUM_AT, &checksum.to_le_bytes());
        tag
    }

    /// Whether that use never wrote the unit, as far as one can tell.
    pub(crate) fn is_free(self, by_use: u64) -> bool {
        match self {
            Tag::Virgin => true,
            Tag::Of { use_number, .. } => use_number < by_use,
            Tag::Damaged => false,
        }
    }

    /// The tag of the unit these bytes start; fewer bytes than a tag read as virgin, as a file's end does.
    pub(crate) fn decode(unit: &[u8]) -> Tag {
        let Some(tag) = unit.get(..TAG_BYTES) else { return Tag::Virgin };
        if tag.iter().all(|byte| *byte == 0) {
            return Tag::Virgin;
        }
        if get_u32(tag, TAG_CHECKSUM_AT) != crc32c(&tag[..TAG_CHECKSUM_AT]) {
            return Tag::Damaged;
        }
        let sequence = get_u32(tag, TAG_SEQUENCE_AT);
        Tag::Of {
            use_number: get_u64(tag, TAG_USE_AT),
            sequence: sequence & !TAG_FIRST,
            first: sequence & TAG_FIRST != 0,
        }
    }
}

/// Puts a payload into units: a tag in front of each, zeros behind the last up to whole blocks, so that
/// the kernel never has to read the card to write a part of a page.
pub(crate) struct UnitWriter<'a> {
    out: &'a mut Vec<u8>,
    use_number: u64,
    sequence: u32,
    first: bool,
}

impl<'a> UnitWriter<'a> {
    /// Goes on at the end of `out`, which stands at a unit's start.
    pub(crate) fn new(out: &'a mut Vec<u8>, use_number: u64, sequence: u32) -> UnitWriter<'a> {
        assert!(out.len().is_multiple_of(UNIT_BYTES), "a batch starts on a block of its own");
        UnitWriter { out, use_number, sequence, first: true }
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.tag();
            let room = UNIT_BYTES - self.out.len() % UNIT_BYTES;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.out.extend_from_slice(now);
            bytes = later;
        }
    }

    pub(crate) fn finish(mut self, block_bytes: u32) {
        let block_bytes = block_bytes as usize;
        while !self.out.len().is_multiple_of(block_bytes) {
            self.tag();
            let filled = self.out.len().next_multiple_of(UNIT_BYTES);
            self.out.resize(filled, 0);
        }
    }

    fn tag(&mut self) {
        if self.out.len().is_multiple_of(UNIT_BYTES) {
            self.out.extend_from_slice(&Tag::encode(self.use_number, self.sequence, self.first));
            self.first = false;
        }
    }
}

/// Units a payload takes.
pub(crate) fn units_of(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(UNIT_PAYLOAD_BYTES)
}

/// Blocks a payload takes.
pub(crate) fn blocks_of(payload_bytes: usize, block_bytes: u32) -> usize {
    units_of(payload_bytes).div_ceil(block_bytes as usize / UNIT_BYTES)
}

/// `bytes` of payload from `skip` on, out of the units from byte `at` of a segment; `None` if the segment
/// ends before.
pub(crate) fn gather(segment: &[u8], at: usize, skip: usize, bytes: usize) -> Option<Vec<u8>> {
    let end = at.checked_add(units_of(skip.checked_add(bytes)?) * UNIT_BYTES)?;
    let units = segment.get(at..end)?;
    let mut payload = Vec::with_capacity(bytes);
    let mut skip = skip;
    for unit in units.chunks(UNIT_BYTES) {
        let part = &unit[TAG_BYTES..];
        let from = skip.min(part.len());
        skip -= from;
        let take = (part.len() - from).min(bytes - payload.len());
        payload.extend_from_slice(&part[from..from + take]);
    }
    (payload.len() == bytes).then_some(payload)
}

pub(crate) fn put(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn get_u16(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(from[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn get_u32(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(from[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn get_u64(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(from[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    /// The layout as the constants have it. To accept a change: QUORATE_GOLDEN=write, and a new format number.
    #[test]
    fn the_layout_is_the_one_in_the_golden_file() {
        let mut text = format!("WAL format {FORMAT}, numbers little-endian, checksums CRC-32C\n");
        let mut part = |title: &str, bytes: usize, fields: &[(usize, &str)]| {
            writeln!(text, "\n{title}, {bytes} bytes").unwrap();
            for (at, (offset, name)) in fields.iter().enumerate() {
                let end = fields.get(at + 1).map_or(bytes, |next| next.0);
                writeln!(text, "{offset:>6} {:>5}  {name}", end - offset).unwrap();
            }
        };
        let segment = usize::try_from(quorate_types::limits::SEGMENT_BYTES).unwrap();
        part(
            "segment",
            segment,
            &[(0, "header, whole blocks"), (UNIT_BYTES, "batches, each on blocks of its own")],
        );
        part(
            "unit",
            UNIT_BYTES,
            &[(0, "tag"), (TAG_BYTES, "payload of header or batch, zeros behind its end")],
        );
        let tag = [
            (TAG_USE_AT, "use number; a tag of zeros is virgin"),
            (TAG_SEQUENCE_AT, "batch in the segment, the header is 0; highest bit: first unit of a batch"),
            (TAG_CHECKSUM_AT, "checksum of the bytes before"),
        ];
        part("unit tag", TAG_BYTES, &tag);
        let header = [
            (HEADER_MAGIC_AT, "\"quoratew\""),
            (HEADER_FORMAT_AT, "format"),
            (HEADER_RESERVED_AT, "zero"),
            (HEADER_BODY_BYTES_AT, "bytes of the body"),
            (HEADER_USE_AT, "use number"),
            (HEADER_BODY_CHECKSUM_AT, "checksum of the body"),
            (HEADER_CHECKSUM_AT, "checksum of the bytes before"),
        ];
        part("segment header", HEADER_BYTES, &header);
        let head = [
            (BATCH_MAGIC_AT, "\"BATH\""),
            (BATCH_FLAGS_AT, "flags: 1 seal, 2 first of a start"),
            (BATCH_USE_AT, "use number"),
            (BATCH_NUMBER_AT, "batch number, counted through the life of the log"),
            (BATCH_SYNCED_AT, "last batch known to be synced"),
            (BATCH_PREVIOUS_AT, "checksum of the batch (or header) the log goes on from"),
            (BATCH_RESUME_AT, "block where the log before this batch ends"),
            (BATCH_BODY_BYTES_AT, "bytes of the body"),
            (BATCH_BODY_CHECKSUM_AT, "checksum of the body"),
            (BATCH_ENTRY_COUNT_AT, "entries"),
            (BATCH_FIRST_TERM_AT, "term of the first entry"),
            (BATCH_FIRST_INDEX_AT, "index of the first entry"),
            (BATCH_LAST_TERM_AT, "term of the last entry"),
            (BATCH_LAST_INDEX_AT, "index of the last entry"),
            (BATCH_CHECKSUM_AT, "checksum of the bytes before"),
        ];
        part("batch head", BATCH_HEAD_BYTES, &head);
        text.push_str(&crate::record::tests::examples());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/wal-layout.txt");
        if std::env::var_os("QUORATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(BATCH_MAGIC.to_le_bytes(), *b"BATH");
    }

    #[test]
    fn a_payload_is_gathered_as_it_was_put() {
        for bytes in [0, 1, 4_079, 4_080, 4_081, 9_000, 40_000] {
            let payload: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 253).unwrap()).collect();
            for block_bytes in [4_096, 16_384] {
                let mut out = Vec::new();
                let mut units = UnitWriter::new(&mut out, 5, 3);
                units.put(&payload);
                units.finish(block_bytes);
                assert_eq!(out.len(), blocks_of(bytes, block_bytes) * block_bytes as usize);
                for (number, unit) in out.chunks(UNIT_BYTES).enumerate() {
                    assert_eq!(Tag::decode(unit), Tag::Of { use_number: 5, sequence: 3, first: number == 0 });
                }
                for skip in [0, 7, 4_080, 5_000] {
                    if skip <= bytes {
                        assert_eq!(gather(&out, 0, skip, bytes - skip).unwrap(), payload[skip..]);
                    }
                }
                assert_eq!(gather(&out, 0, 0, out.len() + 1), None);
            }
        }
    }
}
