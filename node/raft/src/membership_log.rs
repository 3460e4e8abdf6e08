//! Which membership is in force: the newest in the log, committed or not; undone when truncated (rule 11).
//!
//! Versions rise along the log. The committed one may be ahead of it: a node that joins is told who belongs
//! before it has the log, and what it then reads of the past is not in force.

use alloc::{collections::VecDeque, sync::Arc};
use quorate_types::{Entry, EntryKind, Index, Membership};

/// The newest committed membership, and those after it in the log.
#[derive(Debug, Clone)]
pub(crate) struct MembershipLog {
    committed: Membership,
    changes: VecDeque<(Index, Membership)>,
}

impl MembershipLog {
    pub(crate) fn new(committed: Membership) -> MembershipLog {
        MembershipLog { committed, changes: VecDeque::new() }
    }

    /// The newest in the log.
    pub(crate) fn in_force(&self) -> &Membership {
        let newest = self.changes.back().map(|(_, membership)| membership);
        newest.filter(|newest| newest.version > self.committed.version).unwrap_or(&self.committed)
    }

    /// The newest known to be committed.
    pub(crate) fn committed(&self) -> &Membership {
        &self.committed
    }

    /// Indexes of memberships not known to be committed.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = Index> {
        self.changes.iter().map(|(index, _)| *index)
    }

    /// Whether these may stand in the log from `first` on: their versions rise, after those below.
    pub(crate) fn may_follow(&self, first: Index, next: &[(Index, Membership)]) -> bool {
        let before = self.changes.iter().rfind(|(index, _)| *index < first);
        let new = next.iter().filter(|(index, _)| *index >= first);
        before.into_iter().chain(new).map(|(_, membership)| membership.version).is_sorted_by(|a, b| a < b)
    }

    /// One was appended.
    pub(crate) fn push(&mut self, index: Index, membership: Membership) {
        assert!(self.changes.back().is_none_or(|(newest, _)| *newest < index), "memberships come in order");
        self.changes.push_back((index, membership));
    }

    /// The log ends at `last` now.
    pub(crate) fn truncate(&mut self, last: Index) {
        while self.changes.back().is_some_and(|(index, _)| *index > last) {
            self.changes.pop_back();
        }
    }

    /// Committed up to there: the newest membership that became so.
    pub(crate) fn commit(&mut self, committed: Index) -> Option<&Membership> {
        let mut is_newer = false;
        while self.changes.front().is_some_and(|(index, _)| *index <= committed) {
            let (_, membership) = self.changes.pop_front().expect("there is a front");
            if membership.version > self.committed.version {
                self.committed = membership;
                is_newer = true;
            }
        }
        is_newer.then_some(&self.committed)
    }

    /// An image up to `position` brought its membership; what the log has after it stays in force.
    pub(crate) fn install(&mut self, position: Index, membership: Membership) {
        while self.changes.front().is_some_and(|(index, _)| *index <= position) {
            self.changes.pop_front();
        }
        if membership.version >= self.committed.version {
            self.committed = membership;
        }
    }
}

/// The payload of an entry of kind Membership.
///
/// # Panics
/// Never: memory is the only thing an encoding into it could lack.
#[must_use]
pub fn encode_membership(membership: &Membership) -> Arc<[u8]> {
    let bytes = postcard::to_allocvec(membership).expect("a membership is encoded into memory");
    Arc::from(bytes)
}

/// The membership that an entry of that kind carries; none if its bytes are no well-formed one, or if it is
/// of another kind.
#[must_use]
pub fn decode_membership(entry: &Entry) -> Option<Membership> {
    if entry.kind != EntryKind::Membership {
        return None;
    }
    let (membership, rest) = postcard::take_from_bytes::<Membership>(&entry.payload).ok()?;
    let is_whole = rest.is_empty() && crate::membership_change::is_well_formed(&membership);
    is_whole.then_some(membership)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership_change::tests::{membership, version};
    use quorate_types::{Position, Term};

    #[test]
    fn what_was_truncated_is_no_longer_in_force() {
        let mut log = MembershipLog::new(membership(&[1], &[], &[]));
        let second = version(2, membership(&[1], &[], &[2]));
        log.push(Index(4), second.clone());
        log.push(Index(6), version(3, membership(&[1, 2], &[1], &[])));
        assert_eq!(log.commit(Index(5)), Some(&second));
        assert_eq!(log.commit(Index(5)), None);
        log.truncate(Index(5));
        assert_eq!(log.in_force(), &second);
    }

    #[test]
    fn an_image_replaces_what_it_covers_and_no_more() {
        let mut log = MembershipLog::new(membership(&[1], &[], &[]));
        let [third, fourth] =
            [version(3, membership(&[1], &[], &[3])), version(4, membership(&[1], &[], &[2, 3]))];
        log.push(Index(4), version(2, membership(&[1], &[], &[2])));
        log.push(Index(9), fourth.clone());
        log.install(Index(8), third.clone());
        assert_eq!(log.committed(), &third);
        assert_eq!(log.in_force(), &fourth);
    }

    #[test]
    fn the_past_is_not_in_force_for_who_was_told_the_present() {
        let told = version(3, membership(&[1], &[], &[2]));
        let mut log = MembershipLog::new(told.clone());
        log.push(Index(1), version(2, membership(&[1], &[], &[])));
        assert_eq!(log.in_force(), &told);
        assert_eq!(log.commit(Index(1)), None);
        log.push(Index(2), told.clone());
        log.push(Index(3), version(4, membership(&[1, 2], &[1], &[])));
        assert_eq!(log.in_force().version, 4);
        log.truncate(Index(2));
        assert_eq!(log.in_force(), &told);
    }

    #[test]
    fn bytes_that_are_no_membership_are_none() {
        let position = Position { term: Term(1), index: Index(1) };
        let good = encode_membership(&membership(&[1, 2], &[1], &[3]));
        let entry = |payload| Entry { position, kind: EntryKind::Membership, payload };
        assert_eq!(decode_membership(&entry(good.clone())), Some(membership(&[1, 2], &[1], &[3])));
        for end in 0..good.len() {
            assert_eq!(decode_membership(&entry(Arc::from(&good[..end]))), None);
        }
        assert_eq!(decode_membership(&entry(encode_membership(&membership(&[2, 1], &[], &[])))), None);
    }
}
