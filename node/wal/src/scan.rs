//! Reads the batches of one segment in order, across the cuts that restarts recorded.

use crate::batch::BatchHead;
use crate::error::WalError;
use crate::format::BATCH_FLAG_START;
use crate::segment::{Found, Probe, Segment, SegmentEnd};

/// Where a scan stopped.
pub(crate) struct ScanEnd {
    /// First block behind the last whole batch.
    pub(crate) block: u32,
    /// Checksum the next batch would follow.
    pub(crate) checksum: u32,
    /// The last batch, not yet applied: only it may be unsynced (rule 2).
    pub(crate) held: Option<Found>,
    /// A batch that was acknowledged, or written after one that was, lies behind: what misses is damage.
    pub(crate) beyond: bool,
    /// Highest batch number seen in any head that holds.
    pub(crate) number_max: u64,
    /// Whether the stated end was reached; without one, always.
    pub(crate) complete: bool,
}

/// Reads a segment up to `end`, or as far as it goes if nobody says where it ends. Each batch
/// is handed to `apply` once the next one is found; the last one only if `end` confirms it.
///
/// The first batch of a start says where the log before it ends. What lies between there and itself is
/// void, whether it can be read or not: a page that a failed write left in memory may have been readable
/// to one start and not to the next.
pub(crate) fn scan(
    segment: &Segment,
    end: Option<SegmentEnd>,
    apply: &mut dyn FnMut(Found) -> Result<(), WalError>,
) -> Result<ScanEnd, WalError> {
    let mut starts = starts_of(segment);
    let mut at = ScanEnd {
        block: segment.first_block,
        checksum: segment.header_checksum,
        held: None,
        beyond: false,
        number_max: segment.first_batch.saturating_sub(1),
        complete: end.is_none(),
    };
    loop {
        let is_end = end.is_some_and(|end| end.block == at.block && end.checksum == at.checksum);
        let found = if is_end { None } else { at.next(segment, &mut starts) };
        let Some(found) = found else {
            at.complete |= is_end;
            if is_end && let Some(held) = at.held.take() {
                apply(held)?;
            }
            if !is_end {
                at.look_beyond(segment);
            }
            return Ok(at);
        };
        at.block = found.end_block;
        at.checksum = found.checksum;
        at.number_max = found.head.number;
        if let Some(held) = at.held.replace(found) {
            apply(held)?;
        }
    }
}

/// The whole first batches of starts, with their blocks.
fn starts_of(segment: &Segment) -> Vec<(u32, Found)> {
    let start = |block| match segment.probe(block) {
        Probe::Batch(found) if found.head.flags & BATCH_FLAG_START != 0 => Some((block, found)),
        Probe::Batch(_) | Probe::Head(_) | Probe::Nothing => None,
    };
    (segment.first_block..segment.block_count()).filter_map(start).collect()
}

impl ScanEnd {
    /// The batch that follows: the last start that goes on from here, or else what stands here.
    fn next(&self, segment: &Segment, starts: &mut Vec<(u32, Found)>) -> Option<Found> {
        let goes_on = |head: &BatchHead| head.resume_block == self.block && head.previous == self.checksum;
        let start = starts.iter().rposition(|(block, found)| {
            *block >= self.block && goes_on(&found.head) && found.head.number > self.number_max
        });
        if let Some(at) = start {
            return Some(starts.remove(at).1);
        }
        match segment.probe(self.block) {
            Probe::Batch(found) if goes_on(&found.head) && found.head.number == self.number_max + 1 => {
                Some(found)
            }
            Probe::Batch(_) | Probe::Head(_) | Probe::Nothing => None,
        }
    }

    /// Whether anything behind the end proves that the batch missing there was synced: a head is written
    /// only after that. The batch itself, and starts that failed to go on from here, prove nothing.
    fn look_beyond(&mut self, segment: &Segment) {
        let number = self.number_max;
        for block in self.block..segment.block_count() {
            let head = match segment.probe(block) {
                Probe::Batch(found) => found.head,
                Probe::Head(head) => head,
                Probe::Nothing => continue,
            };
            let missing = block == self.block && head.resume_block == block && head.previous == self.checksum;
            self.beyond |= head.number > number && !missing && !self.is_failed_start(&head);
            self.number_max = self.number_max.max(head.number);
        }
    }

    fn is_failed_start(&self, head: &BatchHead) -> bool {
        let goes_on = |block, checksum| head.resume_block == block && head.previous == checksum;
        head.flags & BATCH_FLAG_START != 0
            && (goes_on(self.block, self.checksum)
                || self.held.as_ref().is_some_and(|held| goes_on(held.head.resume_block, held.head.previous)))
    }
}
