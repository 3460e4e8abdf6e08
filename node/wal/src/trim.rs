//! Which segments are still needed: one rule, used when the log is read and when it is trimmed. And where in
//! them a part of the log stands.

use crate::record::Record;
use crate::segment::SegmentEnd;
use quorate_types::{Index, Position};
use std::collections::VecDeque;
use std::sync::Arc;

/// A segment that holds a part of the log. The newest one is being written.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) number: u32,
    pub(crate) use_number: u64,
    pub(crate) format: u16,
    pub(crate) block_bytes: u32,
    /// Last index of the log before it.
    pub(crate) base: Index,
    /// Where its part of the log ends; none while it is being written.
    pub(crate) end: Option<SegmentEnd>,
    /// Bytes of its blocks in use.
    pub(crate) bytes: u64,
    /// Where its batches stand: those that are synced.
    pub(crate) runs: Runs,
}

/// Batches that follow each other in the log and on the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Last position of the log before them.
    pub(crate) before: Position,
    /// Lowest index they cut the log down to; a reset leaves nothing.
    pub(crate) lowest: Index,
    pub(crate) block: u32,
    /// First block behind them.
    pub(crate) end_block: u32,
}

/// A segment's runs, in the log's order. Sharing them with a reader costs nothing; they take some 10 KiB for
/// 16 MiB of log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs(Arc<Vec<Run>>);

impl Runs {
    /// Takes the next batch in: into the last run if it lies behind it and that is not long enough.
    pub(crate) fn push(&mut self, batch: Run, block_bytes: u32) {
        let runs = Arc::make_mut(&mut self.0);
        if let Some(last) = runs.last_mut()
            && last.end_block == batch.block
            && (last.end_block - last.block).saturating_mul(block_bytes) < RUN_BYTES
        {
            last.end_block = batch.end_block;
            last.lowest = last.lowest.min(batch.lowest);
            return;
        }
        runs.push(batch);
    }

    pub(crate) fn as_slice(&self) -> &[Run] {
        &self.0
    }
}

/// How many of the oldest segments nobody needs once an image of everything up to `index` is durable.
///
/// Going back from the newest, the first that began at or before the image has all that lies after it:
/// when it was begun the log ended there, so every later entry was written to it or to a newer one.
pub(crate) fn released(live: &VecDeque<Live>, index: Index) -> usize {
    live.iter().rposition(|segment| segment.base <= index).unwrap_or(0)
}

/// Bytes in segments that hold anything after `index`.
pub(crate) fn bytes_since(live: &VecDeque<Live>, index: Index) -> u64 {
    live.iter().skip(released(live, index)).map(|segment| segment.bytes).sum()
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

/// What a reader reads at once: a fourth of what a follower is sent at a time.
const RUN_BYTES: u32 = 64 * 1024;
