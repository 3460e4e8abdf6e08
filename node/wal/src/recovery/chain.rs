//! Which segments the log goes through, and whose they are.

use super::judge::{Finding, Ruling, judge};
use super::{Recovery, corrupt};
use crate::disk::Disk;
use crate::error::WalError;
use crate::segment::{Header, HeaderFound, path_of};
use crate::snapshot_file::ImageHead;
use quorate_types::Identity;
use std::collections::VecDeque;

impl<D: Disk> Recovery<D> {
    /// The segments needed, oldest first: back from the newest to the first that began at or before the
    /// image (the rule of `trim::released`).
    pub(super) fn chain(&self, newest: usize) -> Result<VecDeque<(usize, Header)>, WalError> {
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
                    return Err(corrupt(path, 0, self.image_index, what));
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
    pub(super) fn gap_or_foreign(&self, newest: Option<Identity>) -> WalError {
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
    pub(super) fn refuse_strangers(&self, chain: &VecDeque<(usize, Header)>) -> Result<(), WalError> {
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
}

/// All headers and the caller must name the same node. The image may come from another one of the cluster: what is
/// in it was committed, whoever wrote it down.
pub(super) fn check_identity(
    chain: &VecDeque<(usize, Header)>,
    expected: Option<Identity>,
    image: Option<&ImageHead>,
) -> Result<(), WalError> {
    let newest = chain.back().map(|(_, header)| header.identity);
    let Some(expected) = expected.or(newest) else { return Ok(()) };
    let in_log = chain.iter().map(|(_, header)| header.identity).find(|found| *found != expected);
    let in_image = image.map(|image| image.identity).filter(|identity| identity.cluster != expected.cluster);
    let strange = in_log.map(|found| ("wal", found)).or(in_image.map(|found| ("image", found)));
    let Some((file, found)) = strange else { return Ok(()) };
    assert_eq!(judge(Finding::OtherIdentity), Ruling::Foreign, "the table says so");
    Err(WalError::Foreign { file: file.to_owned(), expected, found })
}
