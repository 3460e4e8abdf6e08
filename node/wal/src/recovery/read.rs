//! Reads the segments that are needed, and judges the end of the newest one.

use super::judge::{Finding, Ruling, judge};
use super::{Recovery, Tail, corrupt};
use crate::disk::Disk;
use crate::error::WalError;
use crate::replay::{Fault, Replay};
use crate::scan::{ScanEnd, scan};
use crate::segment::{Found, Header, HeaderFound, Rubble, Segment, SegmentEnd, load, path_of};
use crate::start::TailPlace;
use crate::trim::{Live, Run, Runs, lowest_of};
use quorate_types::{Identity, Index, Position};
use std::collections::VecDeque;

/// What was read from the segments that are needed.
pub(super) struct Read {
    pub(super) replay: Replay,
    pub(super) identity: Identity,
    pub(super) live: VecDeque<Live>,
    pub(super) tail: TailPlace,
    /// Last position before the records of the last batch.
    pub(super) before: Position,
}

impl<D: Disk> Recovery<D> {
    /// Reads the chain, whose last segment is read already.
    pub(super) fn read(
        &mut self,
        chain: VecDeque<(usize, Header)>,
        newest: Segment,
    ) -> Result<Read, WalError> {
        let (_, oldest) = chain.front().expect("a chain has the newest segment");
        let mut replay = Replay::from_header(oldest);
        let identity = oldest.identity;
        let mut live = VecDeque::new();
        let mut newest = Some(newest);
        for step in 0..chain.len() {
            let (at, header) = &chain[step];
            let end = chain.get(step + 1).and_then(|(_, later)| later.previous);
            let segment = match end {
                Some(end) => self.segment_up_to(*at, end)?,
                None => newest.take().expect("only the newest segment has nobody that says where it ends"),
            };
            let path = path_of(segment.number);
            replay.enter(header).map_err(|fault| of_fault(fault, &path, replay.last().index))?;
            let mut runs = Runs::default();
            let mut apply = |found: Found| {
                let Found { block, end_block, records, .. } = found;
                let before = replay.last();
                let run = Run { before, lowest: lowest_of(&records), block, end_block };
                runs.push(run, segment.block_bytes);
                replay.apply(records).map_err(|fault| of_fault(fault, &path, before.index))
            };
            let scanned = scan(&segment, end, &mut apply)?;
            self.number_max = self.number_max.max(scanned.number_max);
            if !scanned.complete {
                assert_eq!(judge(Finding::CutShort), Ruling::Corrupt, "the table says so");
                if let Some(held) = scanned.held {
                    apply(held)?;
                }
                let what = "a batch that was acknowledged cannot be read";
                return Err(corrupt(path, segment.offset(scanned.block), replay.last().index, what));
            }
            live.push_back(Live {
                number: segment.number,
                use_number: segment.use_number,
                format: segment.format,
                block_bytes: segment.block_bytes,
                base: header.base.index,
                end,
                bytes: segment.offset(scanned.block),
                runs,
            });
            if step + 1 == chain.len() {
                let (tail, before) = self.read_tail(&segment, header, scanned, &mut replay)?;
                return Ok(Read { replay, identity, live, tail, before });
            }
        }
        unreachable!("the loop returns at the newest segment")
    }

    /// A segment that a later one goes on from, as far as that says. What lies behind is void.
    fn segment_up_to(&self, at: usize, end: SegmentEnd) -> Result<Segment, WalError> {
        let file = &self.files[at];
        let found = file.valid().expect("the chain was made of headers");
        let HeaderFound { header, .. } = found;
        let bytes = (u64::from(end.block) * u64::from(header.block_bytes)).min(header.segment_bytes);
        Ok(Segment::new(file.number, found, load(&self.disk, file.number, bytes)?))
    }

    /// Judges the end of the newest segment, and applies its last batch.
    pub(super) fn read_tail(
        &mut self,
        segment: &Segment,
        header: &Header,
        scanned: ScanEnd,
        replay: &mut Replay,
    ) -> Result<(TailPlace, Position), WalError> {
        let path = path_of(segment.number);

        let offset = segment.offset(scanned.block);
        let before = replay.last();
        let held = scanned.held.expect("find_newest saw the first batch hold");
        let rubble = segment.rubble(scanned.block, held.sequence + 1);
        let records = held.records;
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
            return Err(corrupt(path, offset, last, "a batch that was acknowledged cannot be read"));
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
    pub(super) fn hold_back_before(&mut self, mut previous: Option<SegmentEnd>) {
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
