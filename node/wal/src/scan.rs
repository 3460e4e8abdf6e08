//! Reads the batches of one segment in order, across the cuts that restarts recorded.

use crate::batch::BatchHead;
use crate::error::WalError;
use crate::format::BATCH_FLAG_START;
use crate::record::Record;
use crate::segment::{Found, Probe, Segment, SegmentEnd};

/// Where a scan stopped.
pub(crate) struct ScanEnd {
    /// First block behind the last whole batch.
    pub(crate) block: u32,
    /// Checksum the next batch would follow.
    pub(crate) checksum: u32,
    /// The last batch, not yet applied: only it may be unsynced, and only it can be void (rule 2).
    pub(crate) held: Option<Found>,
    /// A batch that was acknowledged, or written after one that was, lies behind: what misses is damage.
    pub(crate) beyond: bool,
    /// Highest batch number seen in any head that holds.
    pub(crate) number_max: u64,
    /// Whether the stated end was reached; without one, always.
    pub(crate) complete: bool,
}

/// Reads a segment up to `end`, or as far as it goes if nobody says where it ends. Each batch's records
/// are handed to `apply` once no later batch can void them.
pub(crate) fn scan(
    segment: &Segment,
    end: Option<SegmentEnd>,
    apply: &mut dyn FnMut(Vec<Record>) -> Result<(), WalError>,
) -> Result<ScanEnd, WalError> {
    let mut at = ScanEnd {
        block: segment.first_block,
        checksum: segment.header_checksum,
        held: None,
        beyond: false,
        number_max: segment.first_batch.saturating_sub(1),
        complete: end.is_none(),
    };
    loop {
        if end.is_some_and(|end| end.block == at.block && end.checksum == at.checksum) {
            if let Some(held) = at.held.take() {
                apply(held.records)?;
            }
            at.complete = true;
            return Ok(at);
        }
        match step(segment, &mut at) {
            Step::Next(found) => {
                if let Some(held) = at.held.take() {
                    apply(held.records)?;
                }
                at.take(found);
            }
            Step::Cut(found) => at.take(found),
            Step::End => return Ok(at),
        }
    }
}

impl ScanEnd {
    fn take(&mut self, found: Found) {
        self.block = found.end_block;
        self.checksum = found.checksum;
        self.number_max = found.head.number;
        self.held = Some(found);
    }

    /// Whether that head belongs to the first batch of a start, which says where the log before it ends:
    /// before the last batch, whose place it takes, or behind it, if what it replaced is not on the card.
    fn cut_by(&self, head: &BatchHead) -> Option<Cut> {
        let goes_on = |block, checksum| head.resume_block == block && head.previous == checksum;
        if head.flags & BATCH_FLAG_START == 0 || head.number <= self.number_held() {
            return None;
        }
        if goes_on(self.block, self.checksum) {
            return Some(Cut::Behind);
        }
        let held = self.held.as_ref()?;
        goes_on(held.head.resume_block, held.head.previous).then_some(Cut::Instead)
    }

    fn number_held(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.head.number)
    }
}

/// What a start's first batch does to the last batch before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Behind,
    Instead,
}

enum Step {
    /// The batch that follows.
    Next(Found),
    /// A batch in place of the last one.
    Cut(Found),
    End,
}

fn step(segment: &Segment, at: &mut ScanEnd) -> Step {
    let number = at.number_max;
    for block in at.block..segment.block_count() {
        let (head, found) = match segment.probe(block) {
            Probe::Batch(found) => (found.head, Some(found)),
            Probe::Head(head) => (head, None),
            Probe::Nothing => continue,
        };
        let follows = block == at.block
            && head.resume_block == block
            && head.previous == at.checksum
            && head.number == number + 1;
        let cut = at.cut_by(&head);
        match (found, cut) {
            (Some(found), _) if follows => return Step::Next(found),
            (Some(found), Some(Cut::Behind)) if !at.beyond => return Step::Next(found),
            (Some(found), Some(Cut::Instead)) if !at.beyond => return Step::Cut(found),
            // The batch that failed, or one of a start that failed: neither proves that another was synced.
            (_, Some(_)) => {}
            (_, None) if follows => {}
            // A head is written only after the batch before it was synced (rule 1).
            (_, None) => at.beyond |= head.number > number,
        }
        at.number_max = at.number_max.max(head.number);
    }
    Step::End
}
