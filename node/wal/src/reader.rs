//! Reads segments that are no longer written, on another thread, while the writer goes on (rule 6).

use crate::disk::{Disk, read_all_at};
use crate::error::WalError;
use crate::format::UNIT_BYTES;
use crate::record::Record;
use crate::scan::scan;
use crate::segment::{HeaderSeen, Segment, load, path_of};
use crate::trim::{Live, released};
use quorate_types::{Entry, Index};
use std::collections::VecDeque;

/// The sealed segments as they stood when the writer was asked. A segment that is trimmed and used again
/// meanwhile is noticed by its use number, and answers `Trimmed`.
pub struct Reader<D: Disk> {
    disk: D,
    segment_bytes: u64,
    segments: VecDeque<Live>,
    /// The segment being written has cut the log down to this index.
    cut: Index,
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D, segment_bytes: u64, segments: VecDeque<Live>, cut: Index) -> Reader<D> {
        Reader { disk, segment_bytes, segments, cut }
    }

    /// Entries of `(after, last]`, in order from the one that follows `after`: as many as are in sealed
    /// segments and fit `bytes_max` of payload, at least one if there is one. One segment is in memory at
    /// a time, and the entries of the span.
    ///
    /// # Errors
    /// `Trimmed` if the span begins before the log, `Corrupt` if a batch cannot be read, or what the disk
    /// says.
    pub fn fetch(&self, after: Index, last: Index, bytes_max: usize) -> Result<Vec<Entry>, WalError> {
        let from = released(&self.segments, after);
        if self.segments.get(from).is_none_or(|oldest| oldest.base > after) {
            return Err(WalError::Trimmed { first: after.next() });
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (at, live) in self.segments.iter().enumerate().skip(from) {
            self.read(live, after, last, &mut entries)?;
            // What later segments cut off is not known before they are read, unless they cut nothing.
            let uncut =
                self.segments.iter().skip(at + 1).map(|later| later.lowest).fold(self.cut, Index::min);
            entries.retain(|entry| at + 1 < self.segments.len() || entry.position.index <= self.cut);
            let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
            let reached = entries.last().map_or(after, |entry| entry.position.index);
            if uncut >= reached && (bytes >= bytes_max || reached == last) {
                break;
            }
        }
        if entries.first().is_some_and(|entry| entry.position.index != after.next()) {
            return Err(WalError::Trimmed { first: after.next() });
        }
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            bytes += entry.payload.len();
            bytes <= bytes_max
        });
        let count = fits.count().max(1);
        entries.truncate(count);
        Ok(entries)
    }

    /// Reads every sealed segment and compares all checksums; answers how many were read. For a scrub.
    ///
    /// # Errors
    /// As `fetch`, for the first segment that cannot be read.
    pub fn verify(&self) -> Result<usize, WalError> {
        for live in &self.segments {
            self.read(live, live.base, Index(0), &mut Vec::new())?;
        }
        Ok(self.segments.len())
    }

    fn read(&self, live: &Live, after: Index, last: Index, entries: &mut Vec<Entry>) -> Result<(), WalError> {
        let path = path_of(live.number);
        let bytes = load(&self.disk, live.number, self.segment_bytes.max(live.bytes))?;
        let trimmed = WalError::Trimmed { first: after.next() };
        let found = match HeaderSeen::decode(&bytes) {
            HeaderSeen::Valid(found) => found,
            HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => {
                let what = "its header cannot be read";
                return Err(WalError::Corrupt { file: path, offset: 0, after: live.base, what });
            }
        };
        if found.header.use_number != live.use_number {
            return Err(trimmed);
        }
        let segment = Segment::new(live.number, &found, bytes);
        let mut reached = found.header.base.index;
        let mut apply = |records: Vec<Record>| {
            for record in records {
                match record {
                    Record::Entry(entry) => {
                        reached = entry.position.index;
                        if reached > after && reached <= last {
                            entries.push(entry);
                        }
                    }
                    Record::Truncate { last: position, .. } => {
                        reached = position.index;
                        entries.retain(|entry| entry.position.index <= reached);
                    }
                    Record::Reset { position } => {
                        reached = position.index;
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
            Ok(())
        };
        let scanned = scan(&segment, live.end, &mut apply)?;
        if scanned.complete {
            return Ok(());
        }
        let offset = segment.offset(scanned.block);
        // The writer may have begun to use the file again since the header was read.
        if self.use_number(live.number)? != Some(live.use_number) {
            return Err(trimmed);
        }
        Err(WalError::Corrupt {
            file: path,
            offset,
            after: reached,
            what: "a batch that was acknowledged cannot be read",
        })
    }

    fn use_number(&self, number: u32) -> Result<Option<u64>, WalError> {
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
