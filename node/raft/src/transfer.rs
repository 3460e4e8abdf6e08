//! Handing leadership over (Raft thesis 3.10): the target catches up, then is told to campaign at once.
//! Meanwhile nothing is proposed here, so that it can catch up; after an election timeout all is as before.

use crate::timing::TRANSFER_TICKS;
use quorate_types::NodeId;

/// A hand-over under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Who shall lead.
    pub(crate) to: NodeId,
    until: u64,
    /// It was told to campaign at this time.
    told_at: Option<u64>,
}

impl Transfer {
    pub(crate) fn new(to: NodeId, now: u64) -> Transfer {
        Transfer { to, until: now + TRANSFER_TICKS, told_at: None }
    }

    /// Whether to tell the target now: when it has caught up, and again each heartbeat, as the word may be lost.
    pub(crate) fn tells(&mut self, is_caught_up: bool, is_heartbeat: bool, now: u64) -> bool {
        let is_due = self.told_at.is_none() || is_heartbeat;
        if is_caught_up && is_due {
            self.told_at = Some(now);
        }
        is_caught_up && is_due
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        now >= self.until
    }

    pub(crate) fn until(&self) -> u64 {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_told_when_it_has_caught_up_and_again_each_heartbeat() {
        let mut transfer = Transfer::new(NodeId(2), 100);
        assert!(!transfer.tells(false, true, 100));
        assert!(transfer.tells(true, false, 101));
        assert!(!transfer.tells(true, false, 102));
        assert!(transfer.tells(true, true, 110));
        assert!(!transfer.is_over(100 + TRANSFER_TICKS - 1) && transfer.is_over(100 + TRANSFER_TICKS));
    }
}
