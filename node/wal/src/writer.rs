//! Puts batches on the card: one write and one sync each, in order, until the first failure.

mod place;
mod tip;

pub(crate) use place::{Link, Open, encode_body};
pub(crate) use tip::Tip;

use crate::Settings;
use crate::batch::Batch;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::BATCH_FLAG_SEAL;
use crate::pool::{Pool, Spare, SpareOrder};
use crate::reader::Reader;
use crate::record::Record;
use crate::segment::{SegmentEnd, path_of};
use crate::trim::{self, Live, Run};
use quorate_types::{HardState, Position, Start, limits};
use std::collections::VecDeque;

/// The log, open for writing.
pub struct Writer<D: Disk> {
    disk: D,
    settings: Settings,
    tip: Tip,
    current: Option<Open<D::File>>,
    live: VecDeque<Live>,
    pool: Pool,
    pending: Option<Pending>,
    /// Where the newest segment ends, as far as it is synced.
    synced_end: Option<SegmentEnd>,
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

/// A batch that is written and not synced.
#[derive(Debug, Clone, Copy)]
struct Pending {
    synced: Synced,
    run: Run,
    end: SegmentEnd,
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
        let Pending { synced, run, end } = self.pending.expect("a batch was written before");
        let current = self.current.as_mut().expect("a batch was written to it");
        let result = current.file.sync_data();
        self.latch(result.map_err(WalError::from))?;
        self.pending = None;
        self.synced_end = Some(end);
        let newest = self.live.back_mut().expect("the current segment is the newest");
        newest.runs.push(run, newest.block_bytes);
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

    /// A reader of the log as far as it is synced now, for another thread. Costs a few allocations, no card.
    #[must_use]
    pub fn reader(&self) -> Reader<D> {
        let mut segments = self.live.clone();
        if let Some(newest) = segments.back_mut().filter(|newest| newest.end.is_none()) {
            newest.end = self.synced_end.filter(|end| end.use_number == newest.use_number);
            if newest.end.is_none() {
                // The batch that opens it is not synced yet.
                segments.pop_back();
            }
        }
        Reader::new(self.disk.clone(), self.settings.segment_bytes, segments)
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
            synced_end: None,
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
