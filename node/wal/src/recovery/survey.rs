//! Looks at every file, and finds the newest segment that counts.

use super::judge::{Finding, Ruling, judge};
use super::{Recovery, corrupt};
use crate::disk::{Disk, DiskFile, read_all_at};
use crate::error::WalError;
use crate::extent::{FORMAT_WINDOW, load_written};
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

/// What `survey` reads of each file: a common header, and enough of the first batch to see whether a newer use had
/// begun to overwrite it.
const SURVEY_BYTES: usize = 4 * UNIT_BYTES;

/// What it reads if that is no whole header: as much as the longest takes, and as much behind it.
const SURVEY_BYTES_MAX: usize = 128 * 1024;
const _: () = assert!(SURVEY_BYTES_MAX > HEADER_BODY_BYTES_MAX + SURVEY_BYTES);

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
        file.read_scattered()?;
        let bytes = file.bytes()?;
        let mut start = Vec::new();
        let mut header = HeaderSeen::Virgin;
        for bytes_max in [SURVEY_BYTES, SURVEY_BYTES_MAX] {
            start = vec![0; bytes_max.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
            let filled = read_all_at(&mut file, 0, &mut start)?;
            start.truncate(filled);
            header = HeaderSeen::decode(&start);
            let is_enough = match &header {
                HeaderSeen::Valid(found) => {
                    let header_bytes = found.blocks as usize * found.header.block_bytes as usize;
                    header_bytes + 2 * UNIT_BYTES <= bytes_max
                }
                HeaderSeen::Virgin | HeaderSeen::Newer(_) => true,
                HeaderSeen::Unreadable => false,
            };
            if is_enough {
                break;
            }
        }
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
    pub(super) fn find_newest(&mut self) -> Result<Option<(usize, Segment)>, WalError> {
        for at in (0..self.files.len()).rev() {
            if self.files[at].use_number().is_none() {
                break;
            }
            // What a failed sync left in memory, clean and not on the card, is read from the card if it can be. What
            // was never synced is neither lost nor durable yet: the first batch of this start, with its copy of it, is.
            self.disk.open(&path_of(self.files[at].number))?.forget_cache()?;
            if let Some(segment) = self.opens(at)? {
                return Ok(Some((at, segment)));
            }
            self.judge_opening(at)?;
        }
        Ok(None)
    }

    /// The segment, if it has a header and its first batch holds.
    fn opens(&self, at: usize) -> Result<Option<Segment>, WalError> {
        let file = &self.files[at];
        let Some(found) = file.valid() else { return Ok(None) };
        let bytes = if found.format < FORMAT_WINDOW {
            load(&self.disk, file.number, found.header.segment_bytes)?
        } else {
            load_written(&self.disk, file.number, &found.header)?
        };
        let segment = Segment::new(file.number, found, bytes);
        let opens = match segment.probe(segment.first_block) {
            Probe::Batch(found) => {
                found.head.number == segment.first_batch && found.head.previous == segment.header_checksum
            }
            Probe::Head(_) | Probe::Nothing => false,
        };
        Ok(opens.then_some(segment))
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
        let rubble = segment.rubble(0, 0);
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
