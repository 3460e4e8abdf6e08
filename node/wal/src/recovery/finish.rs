//! Meets what was read with the image, and hands over.

use super::judge::{Finding, Ruling, judge};
use super::read::Read;
use super::{Recovered, Recovery};
use crate::DiskErrorKind;
use crate::disk::Disk;
use crate::error::WalError;
use crate::pool::Pool;
use crate::replay::Replay;
use crate::segment::path_of;
use crate::snapshot_file::ImageHead;
use crate::start::{Opener, TailPlace};
use crate::trim::Live;
use quorate_types::{HardState, Index, Position, Start};
use std::collections::VecDeque;

impl<D: Disk> Recovery<D> {
    pub(super) fn finish(
        mut self,
        read: Read,
        image: Option<&ImageHead>,
        incarnation: u64,
    ) -> Result<Recovered<D>, WalError> {
        let Read { mut replay, identity, live, tail, before } = read;
        let mut reset = None;
        if let Some(image) = image {
            if image.identity.node == identity.node {
                refuse_older(&replay, image, &tail)?;
                replay.image_number = replay.image_number.max(image.number);
            }
            reset = self.meet_image(&mut replay, image.position);
            if image.membership.version > replay.membership.version {
                replay.membership = image.membership.clone();
            }
            if reset.is_some() && image.position.term > replay.hard_state.term {
                // Its entries were committed in that term. A vote in it would have made the term durable here.
                replay.hard_state = HardState { term: image.position.term, vote: None };
            }
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
    pub(super) fn meet_image(&mut self, replay: &mut Replay, position: Position) -> Option<Position> {
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
    pub(super) fn without_log(
        mut self,
        image: Option<&ImageHead>,
        incarnation: u64,
    ) -> Result<Recovered<D>, WalError> {
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
    pub(super) fn pool(&mut self, live: &VecDeque<Live>) -> Result<Pool, WalError> {
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
}

/// An image that a later life of this node made, or another one, shows that the log is an older copy of itself.
fn refuse_older(replay: &Replay, image: &ImageHead, tail: &TailPlace) -> Result<(), WalError> {
    let (known, found) = (replay.start, image.start);
    if found.count > known.count || (found.count == known.count && found.incarnation != known.incarnation) {
        assert_eq!(judge(Finding::OtherStart), Ruling::OlderIncarnation, "the table says so");
        let file = path_of(tail.number);
        return Err(WalError::OlderIncarnation { file, known: found, found: known });
    }
    Ok(())
}

/// A use number above all seen. A rotation that was cut may have left a unit deep in a file that no
/// survey reads: the step differs between starts so that its number does not come again.
fn next_use(use_max: u64, incarnation: u64) -> u64 {
    use_max + 1 + incarnation % 256
}
