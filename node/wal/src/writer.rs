//! Puts batches on the card: one write and one sync each, in order, until the first failure.

use crate::Settings;
use crate::batch::{Batch, BatchHead, span_of};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::error::WalError;
use crate::format::{
    BATCH_FLAG_SEAL, BATCH_HEAD_BYTES, HEADER_BODY_BYTES_MAX, HEADER_BYTES, UNIT_PAYLOAD_BYTES, UnitWriter,
    blocks_of, crc32c,
};
use crate::pool::{Pool, Spare, SpareOrder, fill_with_zeros};
use crate::reader::Reader;
use crate::record::Record;
use crate::recovery::lowest_of;
use crate::segment::{Header, SegmentEnd, path_of};
use crate::trim::{self, Live};
use quorate_types::{HardState, Identity, Index, Membership, Position, Start, limits};
use std::collections::VecDeque;

/// The log, open for writing.
pub struct Writer<D: Disk> {
    disk: D,
    settings: Settings,
    tip: Tip,
    current: Option<Open<D::File>>,
    live: VecDeque<Live>,
    pool: Pool,
    pending: Option<Synced>,
    buffer: Vec<u8>,
    next_use: u64,
    next_batch: u64,
    sealed: bool,
    latched: Option<WalError>,
    bytes_written: u64,
    sync_count: u64,
    /// Bytes of zeros written ahead of the log.
    bytes_filled: u64,
}

/// What a sync made durable: everything written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Number of the batch, counted through the life of the log.
    pub batch: u64,
    /// The log's last position, durable here. Its index may fall after a truncation (rule 3).
    pub last: Position,
    /// Term and vote, durable here.
    pub hard_state: HardState,
}

impl<D: Disk> Writer<D> {
    /// Writes a batch behind the last one; answers the bytes it took on the card. Durable after `sync`.
    ///
    /// # Errors
    /// What the disk said, now or at the first failure: final.
    ///
    /// # Panics
    /// If the batch before is not synced, or an entry's index does not follow the last one.
    pub fn write(&mut self, batch: &Batch) -> Result<u64, WalError> {
        assert!(!batch.is_empty(), "a batch has records");
        assert!(
            batch.entry_count() <= limits::BATCH_ENTRY_COUNT_MAX
                && batch.payload_bytes() <= limits::BATCH_BYTES_MAX
        );
        self.write_linked(batch.records(), 0, Link::Next)
    }

    /// Makes the batch written last survive power loss.
    ///
    /// # Errors
    /// What the disk said, now or at the first failure: final, the batch is never acknowledged.
    ///
    /// # Panics
    /// If no batch was written since the last sync.
    pub fn sync(&mut self) -> Result<Synced, WalError> {
        self.refuse_if_latched()?;
        let synced = self.pending.expect("a batch was written before");
        let current = self.current.as_mut().expect("a batch was written to it");
        let result = current.file.sync_data();
        self.latch(result.map_err(WalError::from))?;
        self.pending = None;
        self.sync_count += 1;
        Ok(synced)
    }

    /// Has the card complete one sync with nothing new to write: tells whether it still answers.
    ///
    /// # Errors
    /// As `sync`: what the disk says is final here too.
    ///
    /// # Panics
    /// If a batch is not synced.
    pub fn probe(&mut self) -> Result<(), WalError> {
        self.refuse_if_latched()?;
        assert!(self.pending.is_none(), "a probe comes between a sync and the next write");
        if let Some(current) = self.current.as_mut() {
            let result = current.file.sync_data();
            self.latch(result.map_err(WalError::from))?;
            self.sync_count += 1;
        }
        Ok(())
    }

    /// Writes and syncs a batch that says that all before it is synced, so that damage to the last batch
    /// shows as damage. For an idle moment and a clean stop; does nothing if nothing was written since.
    ///
    /// # Errors
    /// As `write` and `sync`.
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.refuse_if_latched()?;
        if !self.sealed {
            self.write_linked(&[Record::Seal], BATCH_FLAG_SEAL, Link::Next)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Whether a seal is the last thing written.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Everything up to `image` is in a durable image: segments that hold nothing later are used again.
    /// Costs nothing on the card, but for surplus files, which are removed. Answers how many were released.
    ///
    /// # Errors
    /// What the disk says: final.
    ///
    /// # Panics
    /// If a batch is not synced: the newest header must be on the card before an older one goes (rule 4).
    pub fn trim(&mut self, image: Position) -> Result<usize, WalError> {
        self.refuse_if_latched()?;
        assert!(self.pending.is_none(), "trim comes between a sync and the next write");
        let count = trim::released(&self.live, image.index);
        let released: Vec<u32> = self.live.drain(..count).map(|segment| segment.number).collect();
        let mut removed = false;
        for number in released {
            removed |= self.retire(number);
        }
        if removed {
            let result = self.disk.sync_dir("wal").map_err(WalError::from);
            self.latch(result)?;
        }
        Ok(count)
    }

    /// A new file to be zero-filled by a `Preparer`, if there are too few. One at a time: the answer is
    /// `give_spare` or `give_up_spare`.
    pub fn wants_spare(&mut self) -> Option<SpareOrder> {
        self.pool.order(self.live.len(), self.settings.segment_bytes)
    }

    /// How many segment files to keep, in use or ready: follows what lies between two images. Files beyond twice
    /// that are removed when they are let go.
    pub fn set_pool_count(&mut self, count: usize) {
        self.settings.pool_count = count;
        self.pool.set_count(count);
    }

    /// The file ordered is ready.
    ///
    /// # Panics
    /// If it was not ordered here.
    pub fn give_spare(&mut self, spare: &Spare) {
        self.pool.give(spare);
    }

    /// The file ordered will not come: the disk is full, or the preparer failed.
    pub fn give_up_spare(&mut self) {
        self.pool.give_up();
    }

    /// A reader of the segments that are no longer written, as they stand now, for another thread.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        let cut = self.live.back().map_or(Index(u64::MAX), |newest| newest.lowest);
        let sealed = self.live.iter().filter(|segment| segment.end.is_some()).cloned().collect();
        Reader::new(self.disk.clone(), self.settings.segment_bytes, sealed, cut)
    }

    /// The log's last position, written but perhaps not synced.
    #[must_use]
    pub fn last(&self) -> Position {
        self.tip.last
    }

    /// This start.
    #[must_use]
    pub fn start(&self) -> Start {
        self.tip.start
    }

    /// Bytes of all segments in use: what a restart reads.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes in segments that hold anything after `position`: what the next image would let go, and what
    /// decides when it is due. Whole segments are counted.
    #[must_use]
    pub fn bytes_since(&self, position: Position) -> u64 {
        trim::bytes_since(&self.live, position.index)
    }

    /// Bytes written by this writer, padding and headers included.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Zeros written ahead of the log into segments that were not prepared; each byte of a file once.
    #[must_use]
    pub fn bytes_filled(&self) -> u64 {
        self.bytes_filled
    }

    /// Syncs of batches by this writer.
    #[must_use]
    pub fn sync_count(&self) -> u64 {
        self.sync_count
    }

    /// Segment files in use and ready.
    #[must_use]
    pub fn segment_counts(&self) -> (usize, usize) {
        (self.live.len(), self.pool.free_count())
    }

    /// The error that ended this log, if one did.
    #[must_use]
    pub fn latched(&self) -> Option<&WalError> {
        self.latched.as_ref()
    }

    pub(crate) fn assemble(
        disk: D,
        settings: Settings,
        tip: Tip,
        live: VecDeque<Live>,
        pool: Pool,
    ) -> Writer<D> {
        Writer {
            disk,
            settings,
            tip,
            current: None,
            live,
            pool,
            pending: None,
            buffer: Vec::new(),
            next_use: 0,
            next_batch: 0,
            sealed: false,
            latched: None,
            bytes_written: 0,
            sync_count: 0,
            bytes_filled: 0,
        }
    }

    /// Where the first batch goes.
    pub(crate) fn resume(&mut self, current: Option<Open<D::File>>, next_use: u64, next_batch: u64) {
        self.current = current;
        self.next_use = next_use;
        self.next_batch = next_batch;
    }

    /// A file that was held back can be used again, unless the log goes through it.
    pub(crate) fn release_unless_live(&mut self, number: u32) {
        if self.live.iter().all(|segment| segment.number != number) {
            self.retire(number);
        }
    }

    /// Lets a file go: it is used again, or removed if a burst made it beyond twice the pool. True if removed; a
    /// name that stays after a power cut is found at the next start.
    fn retire(&mut self, number: u32) -> bool {
        if self.live.len() + self.pool.free_count() < 2 * self.settings.pool_count {
            self.pool.release(number);
            return false;
        }
        self.disk.remove(&path_of(number)).is_ok()
    }

    pub(crate) fn write_linked(
        &mut self,
        records: &[Record],
        flags: u32,
        link: Link,
    ) -> Result<u64, WalError> {
        self.refuse_if_latched()?;
        assert!(self.pending.is_none(), "a batch is written after the one before is synced (rule 1)");
        let result = self.place(records, flags, link);
        self.latch(result)
    }

    fn place(&mut self, records: &[Record], flags: u32, link: Link) -> Result<u64, WalError> {
        let body = encode_body(records);
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.clear();
        let mut link = link;
        if let (Link::Next, Some(current)) = (&link, &self.current)
            && (!current.has_room(body.len())
                || (!current.is_filled(body.len()) && self.pool.free_count() > 0))
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
        let batch_bytes = blocks_of(BATCH_HEAD_BYTES + body.len(), self.settings.block_bytes) as u64;
        let batch_bytes = usize::try_from(batch_bytes * u64::from(self.settings.block_bytes))
            .expect("bounded by a segment");
        self.fill_ahead(buffer.len() + batch_bytes)?;
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
            body_bytes: u32::try_from(body.len()).expect("has_room bounds it by a segment"),
            body_checksum: crc32c(&body),
            span: span_of(records),
        };
        current.checksum = head.put(&body, current.sequence, current.block_bytes, &mut buffer);
        let offset = u64::from(current.next_block) * u64::from(current.block_bytes);
        write_all_at(&mut current.file, &path_of(current.number), offset, &buffer)?;
        current.next_block += current.blocks_in(&buffer);
        current.sequence += 1;
        let newest = self.live.back_mut().expect("the current segment is the newest");
        newest.bytes = u64::from(current.next_block) * u64::from(current.block_bytes);
        newest.lowest = newest.lowest.min(lowest_of(records));
        let bytes = buffer.len() as u64;
        self.bytes_written += bytes;
        self.sealed = flags & BATCH_FLAG_SEAL != 0;
        self.pending =
            Some(Synced { batch: self.next_batch, last: self.tip.last, hard_state: self.tip.hard_state });
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
            base: base.index,
            lowest: Index(u64::MAX),
            end: None,
            bytes: 0,
        });
        self.next_use += 1;
        Ok(())
    }

    /// Sees to it that the batch in `buffer` meets zeros already on the card, so that its sync is one flush.
    /// A file prepared or used before has them; another is filled a step at a time, ahead of the log, once in
    /// its life. Its name is durable before anything in it counts.
    fn fill_ahead(&mut self, batch_bytes: usize) -> Result<(), WalError> {
        let segment_bytes = self.settings.segment_bytes;
        let current = self.current.as_mut().expect("the batch has a segment");
        let end = u64::from(current.next_block) * u64::from(current.block_bytes) + batch_bytes as u64;
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

    fn refuse_if_latched(&self) -> Result<(), WalError> {
        self.latched.clone().map_or(Ok(()), Err)
    }

    fn latch<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(error) = &result {
            self.latched.get_or_insert_with(|| error.clone());
        }
        result
    }
}

/// Least part of a segment that is filled ahead where it was not prepared: 256 KiB of 16 MiB, what a card of
/// 10 MB/s writes within the time of one flush.
const FILL_PART_MIN: u64 = 64;

/// Most: 1 MiB of 16 MiB. A put waits for it.
const FILL_PART_MAX: u64 = 16;

/// What the log says at its very end: the facts a new segment's header needs.
pub(crate) struct Tip {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    pub(crate) last: Position,
}

impl Tip {
    /// Goes on with some records.
    fn follow(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Entry(entry) => {
                    let Position { term, index } = entry.position;
                    assert_eq!(index, self.last.index.next(), "an entry follows the last one");
                    assert!(term >= self.last.term, "terms never fall along the log");
                    self.last = entry.position;
                }
                Record::HardState(hard_state) => {
                    assert!(hard_state.term >= self.hard_state.term, "a term never falls");
                    self.hard_state = *hard_state;
                }
                Record::Truncate { last, leader_term: _ } => {
                    assert!(*last <= self.last, "a truncation does not lengthen the log");
                    self.last = *last;
                }
                Record::Reset { position } => self.last = *position,
                Record::Membership(membership) => self.membership = membership.clone(),
                Record::CommitHint(_) | Record::ImageMark { .. } | Record::Start(_) | Record::Seal => {}
            }
        }
    }

    /// What each start says first.
    pub(crate) fn restated(&self) -> Vec<Record> {
        vec![
            Record::Start(self.start),
            Record::HardState(self.hard_state),
            Record::Membership(self.membership.clone()),
        ]
    }
}

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
    fn has_room(&self, body_bytes: usize) -> bool {
        let blocks = blocks_of(BATCH_HEAD_BYTES + body_bytes, self.block_bytes) as u64;
        u64::from(self.next_block) + blocks <= u64::from(self.block_count)
    }

    /// Whether the batch meets zeros. If not, and a prepared file waits, the log goes on there instead.
    fn is_filled(&self, body_bytes: usize) -> bool {
        let blocks = blocks_of(BATCH_HEAD_BYTES + body_bytes, self.block_bytes) as u64;
        (u64::from(self.next_block) + blocks) * u64::from(self.block_bytes) <= self.filled_bytes
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
