//! What is on its way to one peer: bounded in bytes and in number.

use heapless::Deque;
use quorate_types::{Index, limits};

/// Appends on their way: last index and bytes of each, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    appends: Deque<(Index, u64), APPENDS_IN_FLIGHT_MAX>,
    bytes: u64,
}

/// Appends to one peer without an answer; many small ones must not cost more than few large ones.
const APPENDS_IN_FLIGHT_MAX: usize = 128;

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        let bytes_max = u64::try_from(limits::APPEND_IN_FLIGHT_BYTES_MAX).expect("fits");
        self.bytes < bytes_max && !self.appends.is_full()
    }

    pub(super) fn push(&mut self, last: Index, bytes: u64) {
        self.bytes += bytes;
        self.appends.push_back((last, bytes)).expect("room was asked for before sending");
    }

    pub(super) fn release(&mut self, verified: Index) {
        while let Some((_, bytes)) = self.appends.front().copied().filter(|(last, _)| *last <= verified) {
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}
