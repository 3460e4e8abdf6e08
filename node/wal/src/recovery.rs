//! Reads the folder back and says what it is worth: a decision table, one row per finding.

use crate::disk::{Disk, DiskFile, read_all_at};
use crate::error::WalError;
use crate::format::{FORMAT, Tag, UNIT_BYTES};
use crate::pool::Pool;
use crate::record::Record;
use crate::replay::{Fault, Replay};
use crate::scan::{ScanEnd, scan};
use crate::segment::{Header, HeaderFound, HeaderSeen, Probe, Rubble, Segment, SegmentEnd, load, path_of};
use crate::snapshot_file::ImageHead;
use crate::start::{Opener, TailPlace};
use crate::trim::Live;
use crate::{DiskErrorKind, Settings};
use quorate_types::{Entry, HardState, Identity, Index, Membership, Position, Start};
use std::collections::VecDeque;

/// What the log remembers, and the way to go on with it.
pub struct Recovered<D: Disk> {
    /// Who wrote it; `None` if the folder holds no log.
    pub identity: Option<Identity>,
    /// Newest term and vote.
    pub hard_state: HardState,
    /// Newest membership; `None` if the folder holds no log.
    pub membership: Option<Membership>,
    /// Last position before the first of `entries`: the image's, or the start of the log.
    pub base: Position,
    /// The log after `base`.
    pub entries: Vec<Entry>,
    /// At least this much is committed; never beyond the last entry.
    pub commit_hint: Index,
    /// This start: one more than any seen.
    pub start: Start,
    /// Images counted so far.
    pub image_number: u64,
    /// What the end of the log is worth.
    pub tail: Tail,
    /// What was found and done, a line each, for the log.
    pub report: Vec<String>,
    /// Goes on from here. Nothing above counts as persisted before `begin` has returned (rule 2).
    pub opener: Opener<D>,
}

/// The end of the log (rule 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// It ends with a whole batch, or there is none.
    Clean,
    /// A write did not reach the card whole: it was never acknowledged, nothing is lost.
    Torn {
        /// The file.
        file: String,
        /// Byte in it where that write began.
        offset: u64,
    },
    /// The last write is there and cannot be read. It may have been acknowledged: a single node loses it,
    /// a node of a cluster must learn from the others before it votes.
    PossiblyAcknowledged {
        /// The file.
        file: String,
        /// Byte in it where that write began.
        offset: u64,
        /// First index that may be lost.
        first: Index,
    },
}

/// Everything recovery can come upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The last batch is whole and nothing follows.
    End,
    /// Something that is no whole batch follows the last one. `beyond`: so does a batch that was written
    /// only after it was synced. `lost`: a part of it never reached the card.
    Unreadable { beyond: bool, lost: bool },
    /// A segment breaks off before the place where a later one says it ends.
    CutShort,
    /// A segment the log needs is not there.
    SegmentMissing,
    /// An entry or a header does not follow what comes before it.
    IndexJump,
    /// The image's position is in the log.
    ImageInLog,
    /// The log ends before the image (rule 5).
    ImageAhead,
    /// The log has another term at the image's index: its entries there were never committed.
    ImageOtherTerm,
    /// Another cluster or node wrote a file.
    OtherIdentity,
    /// Two lives of this node that exclude each other (rule 12).
    OtherStart,
    /// A newer release wrote a file.
    NewerFormat,
}

/// What recovery does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    Clean,
    Torn,
    PossiblyAcknowledged,
    /// The log's base becomes the image's position; its later entries stay.
    KeepAfterImage,
    /// The same, and no entry stays.
    ResetToImage,
    Corrupt,
    Gap,
    Foreign,
    OlderIncarnation,
    NewerFormat,
}

/// The decision table.
pub(crate) const fn judge(finding: Finding) -> Ruling {
    match finding {
        Finding::End => Ruling::Clean,
        Finding::Unreadable { beyond: true, lost: true | false } | Finding::CutShort => Ruling::Corrupt,
        Finding::Unreadable { beyond: false, lost: true } => Ruling::Torn,
        Finding::Unreadable { beyond: false, lost: false } => Ruling::PossiblyAcknowledged,
        Finding::SegmentMissing | Finding::IndexJump => Ruling::Gap,
        Finding::ImageInLog => Ruling::KeepAfterImage,
        Finding::ImageAhead | Finding::ImageOtherTerm => Ruling::ResetToImage,
        Finding::OtherIdentity => Ruling::Foreign,
        Finding::OtherStart => Ruling::OlderIncarnation,
        Finding::NewerFormat => Ruling::NewerFormat,
    }
}

/// Reads the log in `wal/`.
///
/// `expected` is who should have written it, if the caller knows; `image` the head of the newest durable
/// image; `incarnation` a random number for this start. Nothing is written but the removal of half-made
/// spares.
///
/// # Errors
/// Each refusing row of the decision table, or what the disk says.
pub fn recover<D: Disk>(
    disk: D,
    settings: Settings,
    expected: Option<Identity>,
    image: Option<&ImageHead>,
    incarnation: u64,
) -> Result<Recovered<D>, WalError> {
    settings.check();
    let mut recovery = Recovery {
        disk,
        settings,
        image_index: image.map_or(Index(0), |image| image.position.index),
        files: Vec::new(),
        report: Vec::new(),
        tail: Tail::Clean,
        proven: None,
        held_back: Vec::new(),
        has_void: false,
        use_max: 0,
        number_max: 0,
    };
    recovery.survey()?;
    let newest = recovery.find_newest()?;
    let Some(newest) = newest else {
        return recovery.without_log(image, incarnation);
    };
    let chain = recovery.chain(newest)?;
    check_identity(&chain, expected, image)?;
    recovery.refuse_strangers(&chain)?;
    let read = recovery.read(chain)?;
    recovery.finish(read, image, incarnation)
}

/// A segment file as `survey` found it.
struct FileSeen {
    number: u32,
    bytes: u64,
    header: HeaderSeen,
    /// Newest use number in its tags, where it is not the header's.
    other_use: Option<u64>,
}

struct Recovery<D: Disk> {
    disk: D,
    settings: Settings,
    image_index: Index,
    files: Vec<FileSeen>,
    report: Vec<String>,
    tail: Tail,
    /// Where a void segment's header says that the segment before it was synced up to.
    proven: Option<SegmentEnd>,
    /// Files that may hold acknowledged bytes though the log does not reach them: not to be used again
    /// before this start has its own first batch on the card.
    held_back: Vec<u32>,
    has_void: bool,
    use_max: u64,
    number_max: u64,
}

/// What was read from the segments that are needed.
struct Read {
    replay: Replay,
    identity: Identity,
    live: VecDeque<Live>,
    tail: TailPlace,
    /// Last position before the records of the last batch.
    before: Position,
}

impl FileSeen {
    /// The newest use of this file.
    fn use_number(&self) -> Option<u64> {
        match &self.header {
            HeaderSeen::Valid(found) => Some(self.other_use.unwrap_or(0).max(found.header.use_number)),
            HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => self.other_use,
        }
    }

    /// Its header, unless a newer use has overwritten blocks behind it.
    fn valid(&self) -> Option<&HeaderFound> {
        match &self.header {
            HeaderSeen::Valid(found) if self.other_use.is_none() => Some(found),
            HeaderSeen::Valid(_) | HeaderSeen::Virgin | HeaderSeen::Newer(_) | HeaderSeen::Unreadable => None,
        }
    }
}

/// What `survey` reads of a file whose header holds: the header, and enough of the first batch to see
/// whether a newer use had begun to overwrite it.
const SURVEY_BYTES: usize = 128 * 1024;
const _: () = assert!(SURVEY_BYTES > crate::format::HEADER_BODY_BYTES_MAX + 2 * UNIT_BYTES);

impl<D: Disk> Recovery<D> {
    /// Looks at every file; removes half-made spares.
    fn survey(&mut self) -> Result<(), WalError> {
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

    fn look(&mut self, number: u32) -> Result<FileSeen, WalError> {
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
            return Err(self.corrupt(path, 0, Index(0), what));
        }
        Ok(FileSeen { number, bytes, header, other_use })
    }

    /// The newest segment whose first batch holds. Newer ones are void: header and first batch are one
    /// write, and were either torn or cannot be read.
    fn find_newest(&mut self) -> Result<Option<usize>, WalError> {
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

    fn opens(&self, at: usize) -> Result<bool, WalError> {
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

    fn judge_opening(&mut self, at: usize) -> Result<(), WalError> {
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
            if let Probe::Batch(crate::segment::Found { head, .. }) | Probe::Head(head) = segment.probe(block)
            {
                self.number_max = self.number_max.max(head.number);
            }
        }
        // Header and first batch carry sequences 0 and 1; a later one was written after their sync.
        let batch_lost = file.valid().is_some_and(|found| segment.is_free(found.blocks));
        let lost = rubble.lost_any || batch_lost;
        let finding = Finding::Unreadable { beyond: rubble.sequence_max >= 2, lost };
        let ruling = judge(finding);
        if ruling == Ruling::Corrupt {
            return Err(self.corrupt(
                path,
                0,
                Index(0),
                "its header cannot be read, and batches behind it can",
            ));
        }
        if ruling == Ruling::PossiblyAcknowledged {
            self.held_back.push(number);
        }
        self.has_void = true;
        self.proven = previous.or(self.proven);
        self.end_with(ruling, path, 0, Index(0));
        Ok(())
    }

    /// Remembers the worst that was said about the end of the log.
    fn end_with(&mut self, ruling: Ruling, file: String, offset: u64, first: Index) {
        if ruling == Ruling::PossiblyAcknowledged {
            self.report.push(format!(
                "{file}: the last write, at byte {offset}, cannot be read and may have been acknowledged"
            ));
            if !matches!(self.tail, Tail::PossiblyAcknowledged { .. }) {
                self.tail = Tail::PossiblyAcknowledged { file, offset, first };
            }
        } else if ruling == Ruling::Torn {
            self.report.push(format!(
                "{file}: a write at byte {offset} never reached the card whole; it was never acknowledged"
            ));
            if self.tail == Tail::Clean {
                self.tail = Tail::Torn { file, offset };
            }
        }
    }

    fn segment(&self, at: usize) -> Result<Segment, WalError> {
        let file = &self.files[at];
        let found = file.valid().expect("only files with a header are read as segments");
        let bytes = load(&self.disk, file.number, found.header.segment_bytes)?;
        Ok(Segment::new(file.number, found, bytes))
    }

    /// The segments needed, oldest first: back from the newest to the first that began at or before the
    /// image (the rule of `trim::released`).
    fn chain(&self, newest: usize) -> Result<VecDeque<(usize, Header)>, WalError> {
        let mut chain = VecDeque::new();
        let mut at = newest;
        loop {
            let found = self.files[at].valid().expect("each link was found by its header");
            let header = found.header.clone();
            let (base, previous) = (header.base.index, header.previous);
            chain.push_front((at, header));
            if base <= self.image_index {
                return Ok(chain);
            }
            let gap = self.gap_or_foreign(chain.front().map(|(_, header)| header.identity));
            let Some(previous) = previous else {
                return Err(WalError::Gap {
                    after: self.image_index,
                    what: "no image covers what was trimmed",
                });
            };
            let found = self.files.iter().position(|file| file.use_number() == Some(previous.use_number));
            at = match found {
                Some(found) if self.files[found].valid().is_some() => found,
                Some(found) => {
                    let path = path_of(self.files[found].number);
                    let what = "the header of a segment that is needed cannot be read";
                    return Err(self.corrupt(path, 0, self.image_index, what));
                }
                None => return Err(gap),
            };
            let rising = chain.front().is_some_and(|(_, later)| later.use_number > previous.use_number);
            if !rising {
                return Err(gap);
            }
        }
    }

    /// A segment that is needed is not there: perhaps because the newest one belongs elsewhere.
    fn gap_or_foreign(&self, newest: Option<Identity>) -> WalError {
        for file in &self.files {
            if let (Some(HeaderFound { header, .. }), Some(newest)) = (file.valid(), newest)
                && header.identity != newest
            {
                return WalError::Foreign {
                    file: path_of(file.number),
                    expected: newest,
                    found: header.identity,
                };
            }
        }
        assert_eq!(judge(Finding::SegmentMissing), Ruling::Gap, "the table says so");
        WalError::Gap { after: self.image_index, what: "the segment before it is not there" }
    }

    /// A file of another node is no spare of this one, and which of the two logs is meant is not for this
    /// program to guess: the newer one would win, and the other be written over.
    fn refuse_strangers(&self, chain: &VecDeque<(usize, Header)>) -> Result<(), WalError> {
        let Some(expected) = chain.back().map(|(_, header)| header.identity) else { return Ok(()) };
        for file in &self.files {
            if let Some(HeaderFound { header, .. }) = file.valid()
                && header.identity != expected
            {
                assert_eq!(judge(Finding::OtherIdentity), Ruling::Foreign, "the table says so");
                return Err(WalError::Foreign {
                    file: path_of(file.number),
                    expected,
                    found: header.identity,
                });
            }
        }
        Ok(())
    }

    fn read(&mut self, chain: VecDeque<(usize, Header)>) -> Result<Read, WalError> {
        let (_, oldest) = chain.front().expect("a chain has the newest segment");
        let mut replay = Replay::from_header(oldest);
        let identity = oldest.identity;
        let mut live = VecDeque::new();
        for step in 0..chain.len() {
            let (at, header) = &chain[step];
            let end = chain.get(step + 1).and_then(|(_, later)| later.previous);
            let segment = self.segment(*at)?;
            let path = path_of(segment.number);
            replay.enter(header).map_err(|fault| of_fault(fault, &path, replay.last().index))?;
            let mut lowest = Index(u64::MAX);
            let mut apply = |records: Vec<Record>| {
                lowest = lowest.min(lowest_of(&records));
                let after = replay.last().index;
                replay.apply(records).map_err(|fault| of_fault(fault, &path, after))
            };
            let scanned = scan(&segment, end, &mut apply)?;
            self.number_max = self.number_max.max(scanned.number_max);
            if !scanned.complete {
                assert_eq!(judge(Finding::CutShort), Ruling::Corrupt, "the table says so");
                if let Some(held) = scanned.held {
                    apply(held.records)?;
                }
                let what = "a batch that was acknowledged cannot be read";
                return Err(self.corrupt(path, segment.offset(scanned.block), replay.last().index, what));
            }
            live.push_back(Live {
                number: segment.number,
                use_number: segment.use_number,
                base: header.base.index,
                lowest,
                end,
                bytes: segment.offset(scanned.block),
            });
            if step + 1 == chain.len() {
                let (tail, before) = self.read_tail(&segment, header, scanned, &mut replay, &mut live)?;
                return Ok(Read { replay, identity, live, tail, before });
            }
        }
        unreachable!("the loop returns at the newest segment")
    }

    /// Judges the end of the newest segment, and applies its last batch.
    fn read_tail(
        &mut self,
        segment: &Segment,
        header: &Header,
        scanned: ScanEnd,
        replay: &mut Replay,
        live: &mut VecDeque<Live>,
    ) -> Result<(TailPlace, Position), WalError> {
        let path = path_of(segment.number);
        let rubble = segment.rubble(scanned.block);
        let offset = segment.offset(scanned.block);
        let before = replay.last();
        let held = scanned.held.expect("find_newest saw the first batch hold");
        let records = held.records;
        if let Some(newest) = live.back_mut() {
            newest.lowest = newest.lowest.min(lowest_of(&records));
        }
        replay.apply(records.clone()).map_err(|fault| of_fault(fault, &path, before.index))?;
        let proven_beyond = self
            .proven
            .is_some_and(|proven| proven.use_number == segment.use_number && proven.block > scanned.block);
        let finding = if rubble.begun || proven_beyond {
            Finding::Unreadable { beyond: scanned.beyond || proven_beyond, lost: rubble.lost }
        } else {
            Finding::End
        };
        let last = replay.last().index;
        let ruling = judge(finding);
        if ruling == Ruling::Corrupt {
            return Err(self.corrupt(path, offset, last, "a batch that was acknowledged cannot be read"));
        }
        self.end_with(ruling, path, offset, last.next());
        if let Tail::PossiblyAcknowledged { first, .. } = &mut self.tail {
            *first = last.next();
        }
        let is_first = held.head.resume_block == segment.first_block;
        if is_first {
            self.hold_back_before(header.previous);
        }
        let Rubble { fresh_block, sequence_max, .. } = rubble;
        let place = TailPlace {
            number: segment.number,
            format: segment.format,
            use_number: segment.use_number,
            block_bytes: segment.block_bytes,
            block_count: u32::try_from(header.segment_bytes / u64::from(segment.block_bytes))
                .expect("a segment is at most 1 GiB"),
            fresh_block,
            sequence: sequence_max.max(held.sequence),
            resume_block: held.head.resume_block,
            previous: held.head.previous,
            is_first,
            header_previous: header.previous,
            records,
        };
        Ok((place, before))
    }

    /// The newest segment holds one write, which may be readable and not durable, its header with it. The
    /// log that is on the card then ends in the segment it goes on from, which is proven, or in one that
    /// an earlier start began since: none of their files may be used before this start has made itself
    /// durable (rule 4).
    fn hold_back_before(&mut self, mut previous: Option<SegmentEnd>) {
        let proven_use = previous.map_or(0, |end| end.use_number);
        let newer =
            self.files.iter().filter(|file| file.use_number().is_some_and(|number| number > proven_use));
        self.held_back.extend(newer.map(|file| file.number));
        while let Some(end) = previous {
            let found = self.files.iter().find(|file| file.use_number() == Some(end.use_number));
            let Some((number, HeaderFound { header, .. })) =
                found.and_then(|file| Some((file.number, file.valid()?)))
            else {
                return;
            };
            let is_oldest = header.base.index <= self.image_index;
            previous = header.previous.filter(|earlier| !is_oldest && earlier.use_number < end.use_number);
            self.held_back.push(number);
        }
    }

    fn finish(
        mut self,
        read: Read,
        image: Option<&ImageHead>,
        incarnation: u64,
    ) -> Result<Recovered<D>, WalError> {
        let Read { mut replay, identity, live, tail, before } = read;
        let mut reset = None;
        if let Some(image) = image {
            let known = replay.start;
            let found = image.start;
            if found.count > known.count
                || (found.count == known.count && found.incarnation != known.incarnation)
            {
                assert_eq!(judge(Finding::OtherStart), Ruling::OlderIncarnation, "the table says so");
                let file = path_of(tail.number);
                return Err(WalError::OlderIncarnation { file, known: found, found: known });
            }
            reset = self.meet_image(&mut replay, image.position);
        }
        let start = Start { count: replay.start.count + 1, incarnation };
        let last = replay.last();
        let first = replay.base.index.next();
        self.report.push(format!(
            "log of {identity}: entries {first} to {}, {} segments, start {}",
            last.index,
            live.len(),
            start.count
        ));
        let commit_hint = replay.commit_hint.max(replay.base.index).min(last.index);
        let pool = self.pool(&live)?;
        Ok(Recovered {
            identity: Some(identity),
            hard_state: replay.hard_state,
            membership: Some(replay.membership),
            base: replay.base,
            entries: replay.entries,
            commit_hint,
            start,
            image_number: replay.image_number,
            tail: self.tail,
            report: self.report,
            opener: Opener {
                disk: self.disk,
                settings: self.settings,
                start,
                live,
                pool,
                held_back: self.held_back,
                has_void: self.has_void,
                hard_state: replay.hard_state,
                next_use: next_use(self.use_max, incarnation),
                next_batch: self.number_max + 1,
                tail: Some(tail),
                before,
                last,
                reset,
            },
        })
    }

    /// Sets the base to the image's position; answers the reset that has to be recorded, if any.
    fn meet_image(&mut self, replay: &mut Replay, position: Position) -> Option<Position> {
        let finding = match replay.position_at(position.index) {
            Some(known) if known == position => Finding::ImageInLog,
            Some(_) => Finding::ImageOtherTerm,
            None => Finding::ImageAhead,
        };
        if judge(finding) == Ruling::KeepAfterImage {
            let covered = usize::try_from(position.index.0 - replay.base.index.0)
                .expect("entries in memory are counted by usize");
            replay.entries.drain(..covered);
            replay.base = position;
            return None;
        }
        self.report.push(format!("the image at {position} leads the log, which goes on after it"));
        replay.entries.clear();
        replay.base = position;
        Some(position)
    }

    /// No segment holds a batch: a new folder, or one whose founding was cut.
    fn without_log(mut self, image: Option<&ImageHead>, incarnation: u64) -> Result<Recovered<D>, WalError> {
        if let Some(image) = image {
            assert_eq!(judge(Finding::SegmentMissing), Ruling::Gap, "the table says so");
            let what = "there is an image and no log: terms and votes are lost with it";
            return Err(WalError::Gap { after: image.position.index, what });
        }
        self.report.push("the folder holds no log".to_owned());
        let start = Start { count: 1, incarnation };
        let pool = self.pool(&VecDeque::new())?;
        Ok(Recovered {
            identity: None,
            hard_state: HardState::default(),
            membership: None,
            base: Position::default(),
            entries: Vec::new(),
            commit_hint: Index(0),
            start,
            image_number: 0,
            tail: self.tail,
            report: self.report,
            opener: Opener {
                disk: self.disk,
                settings: self.settings,
                start,
                live: VecDeque::new(),
                pool,
                held_back: self.held_back,
                has_void: self.has_void,
                hard_state: HardState::default(),
                next_use: next_use(self.use_max, incarnation),
                next_batch: self.number_max + 1,
                tail: None,
                before: Position::default(),
                last: Position::default(),
                reset: None,
            },
        })
    }

    /// All files the log does not need, for their next use; longer ones are removed.
    fn pool(&mut self, live: &VecDeque<Live>) -> Result<Pool, WalError> {
        let next_number = self.files.iter().map(|file| file.number).max().unwrap_or(0) + 1;
        let mut pool = Pool::new(next_number, self.settings.pool_count);
        let mut removed = false;
        for file in &self.files {
            let needed = live.iter().any(|segment| segment.number == file.number);
            if needed || self.held_back.contains(&file.number) {
                continue;
            }
            if file.bytes <= self.settings.segment_bytes {
                pool.release(file.number);
                continue;
            }
            match self.disk.remove(&path_of(file.number)) {
                Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error.into()),
                Ok(()) | Err(_) => removed = true,
            }
        }
        if removed {
            self.disk.sync_dir("wal")?;
        }
        Ok(pool)
    }

    fn corrupt(&self, file: String, offset: u64, after: Index, what: &'static str) -> WalError {
        WalError::Corrupt { file, offset, after, what }
    }
}

/// All headers, the image and the caller must name the same node.
fn check_identity(
    chain: &VecDeque<(usize, Header)>,
    expected: Option<Identity>,
    image: Option<&ImageHead>,
) -> Result<(), WalError> {
    let newest = chain.back().map(|(_, header)| header.identity);
    let image_identity = image.map(|image| image.identity);
    let Some(expected) = expected.or(image_identity).or(newest) else { return Ok(()) };
    let strange = chain
        .iter()
        .map(|(_, header)| header.identity)
        .chain(image_identity)
        .find(|found| *found != expected);
    let Some(found) = strange else { return Ok(()) };
    assert_eq!(judge(Finding::OtherIdentity), Ruling::Foreign, "the table says so");
    let file = if image_identity == Some(found) { "image" } else { "wal" };
    Err(WalError::Foreign { file: file.to_owned(), expected, found })
}

fn of_fault(fault: Fault, path: &str, after: Index) -> WalError {
    match fault {
        Fault::Jump => {
            assert_eq!(judge(Finding::IndexJump), Ruling::Gap, "the table says so");
            WalError::Gap { after, what: "the next entry does not follow it" }
        }
        Fault::OlderStart { known, found } => {
            assert_eq!(judge(Finding::OtherStart), Ruling::OlderIncarnation, "the table says so");
            WalError::OlderIncarnation { file: path.to_owned(), known, found }
        }
    }
}

/// Lowest index that some records cut the log down to.
pub(crate) fn lowest_of(records: &[Record]) -> Index {
    let mut lowest = Index(u64::MAX);
    for record in records {
        if let Record::Truncate { last, .. } = record {
            lowest = lowest.min(last.index);
        }
        if let Record::Reset { .. } = record {
            lowest = Index(0);
        }
    }
    lowest
}

/// A use number above all seen. A rotation that was cut may have left a unit deep in a file that no
/// survey reads: the step differs between starts so that its number does not come again.
fn next_use(use_max: u64, incarnation: u64) -> u64 {
    use_max + 1 + incarnation % 256
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row; `tests/table.rs` has a folder for each.
    #[test]
    fn the_decision_table() {
        let unreadable = |beyond, lost| Finding::Unreadable { beyond, lost };
        let rows = [
            (Finding::End, Ruling::Clean),
            (unreadable(false, true), Ruling::Torn),
            (unreadable(false, false), Ruling::PossiblyAcknowledged),
            (unreadable(true, false), Ruling::Corrupt),
            (unreadable(true, true), Ruling::Corrupt),
            (Finding::CutShort, Ruling::Corrupt),
            (Finding::SegmentMissing, Ruling::Gap),
            (Finding::IndexJump, Ruling::Gap),
            (Finding::ImageInLog, Ruling::KeepAfterImage),
            (Finding::ImageAhead, Ruling::ResetToImage),
            (Finding::ImageOtherTerm, Ruling::ResetToImage),
            (Finding::OtherIdentity, Ruling::Foreign),
            (Finding::OtherStart, Ruling::OlderIncarnation),
            (Finding::NewerFormat, Ruling::NewerFormat),
        ];
        for (finding, ruling) in rows {
            assert_eq!(judge(finding), ruling, "{finding:?}");
        }
    }
}
