//! The first batch of a start: nothing recovered counts before it is on the card (rule 2).

use crate::Settings;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::extent::window_bytes;
use crate::format::{BATCH_FLAG_START, BATCH_HEAD_BYTES, FORMAT, blocks_of};
use crate::pool::Pool;
use crate::record::Record;
use crate::segment::{SegmentEnd, path_of};
use crate::trim::Live;
use crate::writer::{Link, Open, Tip, Writer, encode_body};
use quorate_types::{HardState, Identity, Membership, Position, Start};
use std::collections::VecDeque;

/// The way from a recovered log to one that is written.
pub struct Opener<D: Disk> {
    pub(crate) disk: D,
    pub(crate) settings: Settings,
    pub(crate) start: Start,
    pub(crate) live: VecDeque<Live>,
    pub(crate) pool: Pool,
    /// Files not to be used again before the first batch of this start is on the card.
    pub(crate) held_back: Vec<u32>,
    /// Newer segments were begun and are void: to go on in the older one would leave them the newest.
    pub(crate) has_void: bool,
    /// Hard state recovered.
    pub(crate) hard_state: HardState,
    pub(crate) next_use: u64,
    pub(crate) next_batch: u64,
    pub(crate) tail: Option<TailPlace>,
    /// Last position before the records of the last batch.
    pub(crate) before: Position,
    /// Last position of the log.
    pub(crate) last: Position,
    /// The image's position, if the log has to begin anew after it.
    pub(crate) reset: Option<Position>,
}

/// The end of the newest segment.
pub(crate) struct TailPlace {
    pub(crate) number: u32,
    /// Format of the segment: one that is not today's is not gone on with, for no segment has two.
    pub(crate) format: u16,
    pub(crate) use_number: u64,
    pub(crate) block_bytes: u32,
    pub(crate) block_count: u32,
    /// First block nothing was written to.
    pub(crate) fresh_block: u32,
    pub(crate) sequence: u32,
    /// Where the log before the last batch ends, and the checksum it ends with.
    pub(crate) resume_block: u32,
    pub(crate) previous: u32,
    /// Whether nothing but the last batch is in this segment: then its header is as unproven as that.
    pub(crate) is_first: bool,
    pub(crate) header_previous: Option<SegmentEnd>,
    /// The last batch.
    pub(crate) records: Vec<Record>,
}

impl<D: Disk> Opener<D> {
    /// Writes and syncs the first batch of this start: start, hard state, membership, and once more the
    /// records of the last batch, which alone may never have been synced. It goes to fresh blocks; what it
    /// replaces is left as it is and marked void by it. In a new segment, or far behind the log's end, a seal follows.
    ///
    /// # Errors
    /// What the disk says, or `TooLarge` for a membership no segment header holds.
    pub fn begin(
        self,
        identity: Identity,
        membership: Membership,
        hard_state: HardState,
    ) -> Result<Writer<D>, WalError> {
        assert!(hard_state.term >= self.hard_state.term, "a term never falls");
        let tip = Tip { identity, start: self.start, hard_state, membership, last: self.before };
        let mut records = tip.restated();
        if let Some(tail) = &self.tail {
            records.extend(tail.records.iter().filter(|record| is_copied(record)).cloned());
        }
        records.extend(self.reset.map(|position| Record::Reset { position }));
        let body_bytes = encode_body(&records).len();
        let Opener { disk, settings, mut live, pool, held_back: mut given_up, .. } = self;
        let mut current = None;
        given_up.sort_unstable();
        given_up.dedup();
        let mut seals = true;
        let link = match self.tail {
            Some(tail) if !self.has_void && !tail.is_first && tail.goes_on(body_bytes) => {
                let link = Link::Resume { block: tail.resume_block, checksum: tail.previous };
                current = Some(tail.open(&disk)?);
                seals = tail.is_far(body_bytes);
                link
            }
            Some(tail) if tail.is_first => {
                live.pop_back();
                Link::Segment { previous: tail.header_previous }
            }
            Some(tail) => {
                let TailPlace { use_number, resume_block: block, previous: checksum, .. } = tail;
                let end = SegmentEnd { use_number, block, checksum };
                if let Some(newest) = live.back_mut() {
                    newest.end = Some(end);
                }
                Link::Segment { previous: Some(end) }
            }
            None => Link::Segment { previous: None },
        };
        let mut writer = Writer::assemble(disk, settings, tip, live, pool);
        writer.resume(current, self.next_use, self.next_batch);
        writer.write_linked(&records, BATCH_FLAG_START, link)?;
        writer.sync()?;
        if seals {
            // A second batch proves the first, and in a new segment the header with it: the next start can go on
            // behind them. Without it each start of a crash loop would take another file.
            writer.seal()?;
        }
        assert_eq!(
            writer.last(),
            self.reset.unwrap_or(self.last),
            "the copy of the last batch ends where it ended"
        );
        for number in given_up {
            writer.release_unless_live(number);
        }
        Ok(writer)
    }
}

impl TailPlace {
    /// Whether the first batch of a start may stand in this segment: if it ends within a window of where the log
    /// that it goes on from ends. The next start then sees all of it, even if what lies between is gone
    /// (see `extent`).
    fn goes_on(&self, body_bytes: usize) -> bool {
        let end = self.fresh_block + self.blocks_of(body_bytes);
        self.format == FORMAT
            && end <= self.block_count
            && self.reach_bytes(body_bytes) <= window_bytes(self.segment_bytes(), self.block_bytes)
    }

    /// Whether it stands so far away that a few more starts of a crash loop would have to take another file.
    fn is_far(&self, body_bytes: usize) -> bool {
        self.reach_bytes(body_bytes) > window_bytes(self.segment_bytes(), self.block_bytes) / 2
    }

    /// Bytes from the end of the log that a start's first batch goes on from to that batch's end.
    fn reach_bytes(&self, body_bytes: usize) -> u64 {
        let end = self.fresh_block + self.blocks_of(body_bytes);
        u64::from(end.saturating_sub(self.resume_block)) * u64::from(self.block_bytes)
    }

    fn blocks_of(&self, body_bytes: usize) -> u32 {
        u32::try_from(blocks_of(BATCH_HEAD_BYTES + body_bytes, self.block_bytes))
            .expect("a batch is bounded by BATCH_BYTES_MAX and some records")
    }

    fn segment_bytes(&self) -> u64 {
        u64::from(self.block_count) * u64::from(self.block_bytes)
    }

    fn open<D: Disk>(&self, disk: &D) -> Result<Open<D::File>, WalError> {
        let file = disk.open(&path_of(self.number))?;
        Ok(Open {
            filled_bytes: file.bytes()?,
            file,
            number: self.number,
            use_number: self.use_number,
            block_bytes: self.block_bytes,
            block_count: self.block_count,
            next_block: self.fresh_block,
            // A batch that was torn beyond what was seen has the one between.
            sequence: self.sequence + 2,
            checksum: self.previous,
        })
    }
}

/// Whether a start writes that record of the last batch again; the others it states anew.
fn is_copied(record: &Record) -> bool {
    match record {
        Record::Entry(_)
        | Record::CommitHint(_)
        | Record::Truncate { .. }
        | Record::Reset { .. }
        | Record::ImageMark { .. } => true,
        Record::HardState(_) | Record::Start(_) | Record::Membership(_) | Record::Seal => false,
    }
}
