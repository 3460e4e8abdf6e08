//! What stands at an index.

use crate::Position;
use alloc::sync::Arc;
use serde::{Deserialize, Serialize};

/// What an entry's payload is, as far as consensus must know (protocol.md rule 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A new leader's first entry; no payload.
    Noop,
    /// A command for the store; opaque to the log.
    Command,
    /// A new membership, in force when appended; the payload is a postcard `Membership`.
    Membership,
}

/// One entry of the log. Cloning shares the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Term and index.
    pub position: Position,
    /// What the payload is.
    pub kind: EntryKind,
    /// Opaque bytes, at most `limits::ENTRY_BYTES_MAX`.
    pub payload: Arc<[u8]>,
}
