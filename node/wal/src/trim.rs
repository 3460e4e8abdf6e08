//! Which segments are still needed: one rule, used when the log is read and when it is trimmed.

use crate::record::Record;
use crate::segment::SegmentEnd;
use quorate_types::Index;
use std::collections::VecDeque;

/// A segment that holds a part of the log. The newest one is being written.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) number: u32,
    pub(crate) use_number: u64,
    /// Last index of the log before it.
    pub(crate) base: Index,
    /// Lowest index its truncations cut the log down to; a reset leaves nothing.
    pub(crate) lowest: Index,
    /// Where its part of the log ends; none while it is being written.
    pub(crate) end: Option<SegmentEnd>,
    /// Bytes of its blocks in use.
    pub(crate) bytes: u64,
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
