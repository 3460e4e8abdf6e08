//! Reads the log back on another thread, while the writer goes on (rule 6).

use crate::batch::BatchHead;
use crate::disk::{Disk, read_all_at};
use crate::error::WalError;
use crate::format::{BATCH_HEAD_BYTES, TAG_BYTES, Tag, UNIT_BYTES, blocks_of};
use crate::record::Record;
use crate::scan::scan;
use crate::segment::{Found, HeaderSeen, Segment, load, path_of, records_of};
use crate::trim::{Live, Run};
use crate::{DiskError, DiskErrorKind};
use quorate_types::{Entry, Index, Position};
use std::collections::VecDeque;

/// The log as far as it was synced when the writer was asked. Making one copies no log and no index: it may be
/// made anew for each question. A segment that is trimmed and used again meanwhile is noticed by its use
/// number, and answers `Trimmed`.
pub struct Reader<D: Disk> {
    disk: D,
    segment_bytes: u64,
    segments: VecDeque<Live>,
}

/// A part of the log, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Index and term the entries follow.
    pub after: Position,
    /// The entries, in order, the first at the index that follows `after`.
    pub entries: Vec<Entry>,
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D, segment_bytes: u64, segments: VecDeque<Live>) -> Reader<D> {
        Reader { disk, segment_bytes, segments }
    }

    /// Entries of `(after, last]`, in order from the one that follows `after`: as many as are synced and fit
    /// `bytes_max` of payload, at least one if there is one; with the term at `after`. Reads about what it
    /// answers, in pieces of 64 KiB or one batch, never a whole segment.
    ///
    /// # Errors
    /// `Trimmed` if the span begins before the log, `Beyond` if `after` itself is not in it yet or no more,
    /// `Corrupt` if a batch cannot be read, or what the disk says.
    pub fn fetch(&self, after: Index, last: Index, bytes_max: usize) -> Result<Fetched, WalError> {
        let runs: Vec<(&Live, Run)> = self
            .segments
            .iter()
            .flat_map(|live| live.runs.as_slice().iter().map(move |run| (live, *run)))
            .collect();
        // The rule of `trim::released`: all that lies after `after` was written to that run or later.
        let Some(from) = runs.iter().rposition(|(_, run)| run.before.index <= after) else {
            return Err(match runs.first() {
                Some(_) => WalError::Trimmed { first: after.next() },
                None => WalError::Beyond { index: after },
            });
        };
        let mut part = Part { after, last, position: None, is_before_reset: false, entries: Vec::new() };
        let mut open: Option<(u32, D::File)> = None;
        for (at, (live, run)) in runs.iter().enumerate().skip(from) {
            // What later batches cut off is not worth reading: only entries that still stand are taken.
            let uncut = runs[at + 1..].iter().map(|(_, later)| later.lowest).min().unwrap_or(Index(u64::MAX));
            if run.before.index >= uncut && run.lowest >= uncut {
                continue;
            }
            if open.as_ref().is_none_or(|(number, _)| *number != live.number) {
                let file = self.disk.open(&path_of(live.number)).map_err(|error| gone(error, after))?;
                open = Some((live.number, file));
            }
            let (_, file) = open.as_mut().expect("opened just now");
            let records = self.read(live, run, file, after)?;
            part.take(run.before, records, uncut);
            let bytes: usize = part.entries.iter().map(|entry| entry.payload.len()).sum();
            let reached = part.entries.last().map_or(after, |entry| entry.position.index);
            let is_enough = bytes >= bytes_max && !part.entries.is_empty();
            if is_enough || (reached >= last && part.position.is_some()) {
                break;
            }
        }
        part.fetched(bytes_max)
    }

    /// Reads everything that was synced and compares all checksums; answers how many segments were read. For a
    /// scrub: one segment is in memory at a time.
    ///
    /// # Errors
    /// As `fetch`, for the first segment that cannot be read.
    pub fn verify(&self) -> Result<usize, WalError> {
        for live in &self.segments {
            self.verify_segment(live)?;
        }
        Ok(self.segments.len())
    }

    fn read(
        &self,
        live: &Live,
        run: &Run,
        file: &mut D::File,
        after: Index,
    ) -> Result<Vec<Record>, WalError> {
        let offset = u64::from(run.block) * u64::from(live.block_bytes);
        let bytes = u64::from(run.end_block - run.block) * u64::from(live.block_bytes);
        let mut bytes = vec![0; usize::try_from(bytes).expect("a segment is at most 1 GiB")];
        read_all_at(file, offset, &mut bytes)?;
        match decode_run(live, &bytes) {
            Some(records) => Ok(records),
            None => Err(self.unreadable(live, offset, run.before.index, after)),
        }
    }

    fn verify_segment(&self, live: &Live) -> Result<(), WalError> {
        let after = live.base;
        let bytes = load(&self.disk, live.number, self.segment_bytes.max(live.bytes));
        let bytes = match bytes {
            Err(WalError::Disk(error)) => return Err(gone(error, after)),
            read => read?,
        };
        let HeaderSeen::Valid(found) = HeaderSeen::decode(&bytes) else {
            return Err(self.unreadable(live, 0, after, after));
        };
        let segment = Segment::new(live.number, &found, bytes);
        let mut reached = after;
        let mut apply = |found: Found| {
            reached = found.head.span.map_or(reached, |(_, last, _)| last.index);
            Ok(())
        };
        let scanned = scan(&segment, live.end, &mut apply)?;
        if scanned.complete && found.header.use_number == live.use_number {
            return Ok(());
        }
        Err(self.unreadable(live, segment.offset(scanned.block), reached, after))
    }

    /// Damage, unless the writer has begun to use the file again since.
    fn unreadable(&self, live: &Live, offset: u64, reached: Index, after: Index) -> WalError {
        let found = match self.use_number(live.number) {
            Ok(found) => found,
            Err(error) => return gone(error, after),
        };
        // Without a number its header is what cannot be read.
        if found.is_some_and(|found| found != live.use_number) {
            return WalError::Trimmed { first: after.next() };
        }
        let what = "a batch that was acknowledged cannot be read";
        WalError::Corrupt { file: path_of(live.number), offset, after: reached, what }
    }

    fn use_number(&self, number: u32) -> Result<Option<u64>, DiskError> {
        let mut file = self.disk.open(&path_of(number))?;
        let mut start = vec![0; 32 * UNIT_BYTES];
        let filled = read_all_at(&mut file, 0, &mut start)?;
        start.truncate(filled);
        Ok(match HeaderSeen::decode(&start) {
            HeaderSeen::Valid(found) => Some(found.header.use_number),
            HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => None,
        })
    }
}

/// A file that is not there any more was trimmed.
fn gone(error: DiskError, after: Index) -> WalError {
    if error.kind == DiskErrorKind::NotFound {
        WalError::Trimmed { first: after.next() }
    } else {
        WalError::Disk(error)
    }
}

/// The records of batches that lie one behind the other and fill these bytes; `None` if one does not hold.
fn decode_run(live: &Live, bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Tag::Of { use_number, first: true, .. } = Tag::decode(&bytes[at..]) else { return None };
        let (head, _) = BatchHead::decode(&bytes[at + TAG_BYTES..])?;
        if use_number != live.use_number || head.use_number != live.use_number {
            return None;
        }
        records.extend(records_of(bytes, at, &head, live.format)?);
        let blocks = blocks_of(BATCH_HEAD_BYTES + head.body_bytes as usize, live.block_bytes);
        at += blocks * live.block_bytes as usize;
    }
    Some(records)
}

/// What was gathered so far of a span.
struct Part {
    after: Index,
    last: Index,
    position: Option<Position>,
    /// An image was installed beyond `after`.
    is_before_reset: bool,
    entries: Vec<Entry>,
}

impl Part {
    /// Takes what a run adds to the log and no later one cuts off again: what lies at or below `uncut`.
    fn take(&mut self, before: Position, records: Vec<Record>, uncut: Index) {
        let mut position = (before.index == self.after).then_some(before);
        let mut entries: Vec<Entry> = Vec::new();
        for record in records {
            match record {
                Record::Entry(entry) if entry.position.index == self.after => position = Some(entry.position),
                Record::Entry(entry) => {
                    if entry.position.index > self.after && entry.position.index <= self.last.min(uncut) {
                        entries.push(entry);
                    }
                }
                Record::Truncate { last, leader_term: _ } => {
                    if last.index <= self.after {
                        position = (last.index == self.after).then_some(last);
                    }
                    entries.retain(|entry| entry.position.index <= last.index);
                }
                Record::Reset { position: image } => {
                    position = (image.index == self.after).then_some(image);
                    self.is_before_reset = image.index > self.after;
                    entries.clear();
                }
                Record::HardState(_)
                | Record::CommitHint(_)
                | Record::ImageMark { .. }
                | Record::Start(_)
                | Record::Membership(_)
                | Record::Seal => {}
            }
        }
        self.position = position.filter(|_| self.after <= uncut).or(self.position);
        self.entries.extend(entries);
    }

    fn fetched(self, bytes_max: usize) -> Result<Fetched, WalError> {
        let Part { after, last: _, position, is_before_reset, mut entries } = self;
        let Some(position) = position else {
            return Err(if is_before_reset {
                WalError::Trimmed { first: after.next() }
            } else {
                WalError::Beyond { index: after }
            });
        };
        let mut bytes = 0_usize;
        let mut next = after;
        let fits = entries.iter().take_while(|entry| {
            bytes = bytes.saturating_add(entry.payload.len());
            next = next.next();
            entry.position.index == next && (bytes <= bytes_max || entry.position.index == after.next())
        });
        let count = fits.count();
        entries.truncate(count);
        Ok(Fetched { after: position, entries })
    }
}
