//! Looks at every file, and finds the newest segment that counts.

use super::judge::{Finding, Ruling, judge};
use super::{Recovery, corrupt};
use crate::disk::{Disk, DiskFile, read_all_at};
use crate::error::WalError;
use crate::format::{FORMAT, HEADER_BODY_BYTES_MAX, Tag, UNIT_BYTES};
use crate::segment::{Found, HeaderFound, HeaderSeen, Probe, Segment, load, path_of};
use quorate_types::Index;

/// A segment file as `survey` found it.
pub(super) struct FileSeen {
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) header: HeaderSeen,
    /// Newest use number in its tags, where it is not the header's.
    pub(super) other_use: Option<u64>,
}

impl FileSeen {
    /// The newest use of this file.
    pub(super) fn use_number(&self) -> Option<u64> {
        match &self.header {
            HeaderSeen::Valid(found) => Some(self.other_use.unwrap_or(0).max(found.header.use_number)),
            HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => self.other_use,
        }
    }

    /// Its header, unless a newer use has overwritten blocks behind it.
    pub(super) fn valid(&self) -> Option<&HeaderFound> {
        match &self.header {
            HeaderSeen::Valid(found) if self.other_use.is_none() => Some(found),
            HeaderSeen::Valid(_) | HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => None,
        }
    }
}

/// What `survey` reads of a file whose header holds: the header, and enough of the first batch to see
/// whether a newer use had begun to overwrite it.
const SURVEY_BYTES: usize = 128 * 1024;
const _: () = assert!(SURVEY_BYTES > HEADER_BODY_BYTES_MAX + 2 * UNIT_BYTES);

impl<D: Disk> Recovery<D> {
    /// Looks at every file; removes half-made spares.
    pub(super) fn survey(&mut self) -> Result<(), WalError> {
        for name in self.disk.list("wal")? {
            if name.starts_with("spare-") && name.ends_with(".tmp") {
                self.disk.remove(&format!("wal/{name}"))?;
                continue;
            }
            let Some(number) = name.strip_prefix("segment-").and_then(|number| number.parse().ok()) else {
                self.report.push(format!("wal/{name} is none of the log's files and is left alone"));
                continue;
            };
            let seen = self.look(number)?;
            self.use_max = self.use_max.max(seen.use_number().unwrap_or(0));
            self.files.push(seen);
        }
        // A name that an earlier life made or moved may be readable and not durable.
        self.disk.sync_dir("wal")?;
        // By use; the number decides between files that were never used.
        self.files.sort_by_key(|file| (file.use_number(), file.number));
        Ok(())
    }

    pub(super) fn look(&mut self, number: u32) -> Result<FileSeen, WalError> {
        let path = path_of(number);
        let mut file = self.disk.open(&path)?;
        let bytes = file.bytes()?;
        let mut start = vec![0; SURVEY_BYTES.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
        let filled = read_all_at(&mut file, 0, &mut start)?;
        start.truncate(filled);
        let header = HeaderSeen::decode(&start);
        let header_use = match &header {
            HeaderSeen::Newer(found) => {
                assert_eq!(judge(Finding::NewerFormat), Ruling::NewerFormat, "the table says so");
                return Err(WalError::NewerFormat { file: path, found: *found, known: FORMAT });
            }
            HeaderSeen::Valid(found) => found.header.use_number,
            HeaderSeen::Virgin => 0,
            HeaderSeen::Unreadable => {
                // Nothing in it says which tags to expect: all of them are read.
                start = load(&self.disk, number, bytes.min(1 << 30))?;
                0
            }
        };
        let other_use = start
            .chunks(UNIT_BYTES)
            .filter_map(|unit| match Tag::decode(unit) {
                Tag::Of { use_number, .. } => Some(use_number),
                Tag::Virgin | Tag::Damaged => None,
            })
            .filter(|use_number| *use_number > header_use)
            .max();
        if header == HeaderSeen::Unreadable && other_use.is_none() {
            let what = "neither its header nor any block of it can be read";
            return Err(corrupt(path, 0, Index(0), what));
        }
        Ok(FileSeen { number, bytes, header, other_use })
    }

    /// The newest segment whose first batch holds. Newer ones are void: header and first batch are one
    /// write, and were either torn or cannot be read.
    pub(super) fn find_newest(&mut self) -> Result<Option<usize>, WalError> {
        for at in (0..self.files.len()).rev() {
            if self.files[at].use_number().is_none() {
                break;
            }
            // What an earlier process left unsynced is synced, and read from the card if it can be.
            let mut file = self.disk.open(&path_of(self.files[at].number))?;
            file.sync_data()?;
            file.forget_cache()?;
            drop(file);
            if self.opens(at)? {
                return Ok(Some(at));
            }
            self.judge_opening(at)?;
        }
        Ok(None)
    }

    pub(super) fn opens(&self, at: usize) -> Result<bool, WalError> {
        if self.files[at].valid().is_none() {
            return Ok(false);
        }
        let segment = self.segment(at)?;
        Ok(match segment.probe(segment.first_block) {
            Probe::Batch(found) => {
                found.head.number == segment.first_batch && found.head.previous == segment.header_checksum
            }
            Probe::Head(_) | Probe::Nothing => false,
        })
    }

    pub(super) fn judge_opening(&mut self, at: usize) -> Result<(), WalError> {
        let file = &self.files[at];
        let path = path_of(file.number);
        let number = file.number;
        let use_number = file.use_number().expect("find_newest stops at files without a use");
        let valid = file.valid().map(|found| {
            (found.format, found.header.block_bytes, found.header.segment_bytes, found.header.previous)
        });
        let (format, block_bytes, segment_bytes, previous) =
            valid.unwrap_or((FORMAT, self.settings.block_bytes, file.bytes.min(1 << 30), None));
        let bytes = load(&self.disk, number, segment_bytes)?;
        let segment = Segment {
            number,
            format,
            use_number,
            block_bytes,
            first_block: 0,
            header_checksum: 0,
            first_batch: 0,
            bytes,
        };
        let rubble = segment.rubble(0);
        for block in 0..segment.block_count() {
            if let Probe::Batch(Found { head, .. }) | Probe::Head(head) = segment.probe(block) {
                self.number_max = self.number_max.max(head.number);
            }
        }
        // Header and first batch carry sequences 0 and 1; a later one was written after their sync.
        let batch_lost = file.valid().is_some_and(|found| segment.is_free(found.blocks));
        let lost = rubble.lost_any || batch_lost;
        let finding = Finding::Unreadable { beyond: rubble.sequence_max >= 2, lost };
        let ruling = judge(finding);
        if ruling == Ruling::Corrupt {
            return Err(corrupt(path, 0, Index(0), "its header cannot be read, and batches behind it can"));
        }
        if ruling == Ruling::PossiblyAcknowledged {
            self.held_back.push(number);
        }
        self.has_void = true;
        self.proven = previous.or(self.proven);
        self.end_with(ruling, path, 0, Index(0));
        Ok(())
    }
}
