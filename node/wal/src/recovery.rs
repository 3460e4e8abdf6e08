//! Reads the folder back and says what it is worth. How much of it is read, and why that is enough: `extent`.

mod chain;
mod finish;
mod judge;
mod read;
mod survey;

use crate::Settings;
use crate::disk::Disk;
use crate::error::WalError;
use crate::segment::SegmentEnd;
use crate::snapshot_file::ImageHead;
use crate::start::Opener;
use chain::check_identity;
use judge::Ruling;
use quorate_types::{Entry, HardState, Identity, Index, Membership, Position, Start};
use survey::FileSeen;

/// What the log remembers, and the way to go on with it.
pub struct Recovered<D: Disk> {
    /// Who wrote it; `None` if the folder holds no log.
    pub identity: Option<Identity>,
    /// Newest term and vote; the term at least that of an image that leads the log.
    pub hard_state: HardState,
    /// Newest membership, of log and image; `None` if the folder holds no log.
    pub membership: Option<Membership>,
    /// Last position before the first of `entries`: the image's, or the start of the log.
    pub base: Position,
    /// The log after `base`.
    pub entries: Vec<Entry>,
    /// At least this much is committed; never beyond the last entry.
    pub commit_hint: Index,
    /// This start: one more than any seen.
    pub start: Start,
    /// Images this node counted so far.
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

/// Reads the log in `wal/`.
///
/// `expected` is who should have written it, if the caller knows; `image` the head of the newest durable
/// image, whichever node of the cluster made it; `incarnation` a random number for this start. Nothing is
/// written but the removal of half-made spares.
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
    let Some((newest, segment)) = recovery.find_newest()? else {
        return recovery.without_log(image, incarnation);
    };
    let chain = recovery.chain(newest)?;
    check_identity(&chain, expected, image)?;
    recovery.refuse_strangers(&chain)?;
    let read = recovery.read(chain, segment)?;
    recovery.finish(read, image, incarnation)
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

impl<D: Disk> Recovery<D> {
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
}

fn corrupt(file: String, offset: u64, after: Index, what: &'static str) -> WalError {
    WalError::Corrupt { file, offset, after, what }
}
