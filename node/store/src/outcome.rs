//! What applying or reading answers.

use crate::{AlarmKind, InviteTaken, Value};
use alloc::{sync::Arc, vec::Vec};
use quorate_types::{ClusterTime, LeaseId, NodeId, Revision};

/// One key at one revision. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Arc<[u8]>,
    /// Its value; empty for `keys_only` and for a deletion.
    pub value: Value,
    /// Revision of the put that created it.
    pub create_revision: i64,
    /// Revision of its last write.
    pub mod_revision: i64,
    /// Writes since creation, the first is 1.
    pub version: i64,
    /// Its lease or none.
    pub lease: LeaseId,
}

/// What a range read answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeOutcome {
    /// The keys, in the order asked for, within the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left some out.
    pub more: bool,
    /// Keys in the range at that revision, whatever the limit and the filters.
    pub count: i64,
}

/// What applying one command answers. The store's revision afterwards travels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A put, with the key's state before if asked for and there was one.
    Put {
        /// State before.
        prev_kv: Option<KeyValue>,
    },
    /// A deletion.
    DeleteRange {
        /// How many keys.
        deleted: i64,
        /// Their states before, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// A range within a transaction.
    Range(RangeOutcome),
    /// A transaction.
    Txn {
        /// Which branch.
        succeeded: bool,
        /// An outcome for each operation of it.
        outcomes: Vec<Outcome>,
    },
    /// Compaction is in force; space is free once the sweep is through.
    Compact,
    /// A lease was made.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Its time to live in seconds.
        ttl_seconds: i64,
    },
    /// A lease has ended.
    LeaseRevoke,
    /// An expiry was applied, or was void.
    LeaseExpire {
        /// Whether the lease ended by it.
        ended: bool,
    },
    /// The alarms that were raised or cleared by the command.
    Alarms(Vec<Alarm>),
    /// An invite stands.
    InviteAdd {
        /// Until when it lets somebody in.
        expires: ClusterTime,
    },
    /// What became of an invite that was shown.
    InviteTake(InviteTaken),
    /// An invite was taken back.
    InviteRevoke {
        /// Whether it stood.
        revoked: bool,
    },
}

/// One standing alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Whose.
    pub node: NodeId,
    /// Which.
    pub kind: AlarmKind,
}

/// A lease as the replicated state knows it; how much of its time is left only the leader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Time to live as granted, in seconds.
    pub ttl_seconds: i64,
    /// Log index of the grant: tells this lease from an earlier one of the same id (rule 16).
    pub granted: u64,
    /// Keys bound to it, ordered; only filled when asked for.
    pub keys: Vec<Arc<[u8]>>,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key was deleted; `kv` then has only the key and, as `mod_revision`, the deletion's revision.
    Delete,
}

/// What an event's figures take on the wire, with those of the state before.
const EVENT_BYTES: usize = 64;

/// One change of one key. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after it.
    pub kv: KeyValue,
    /// The key before it, unless it was created or that state is compacted.
    pub prev_kv: Option<KeyValue>,
}

impl KeyValue {
    /// Bytes of key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Event {
    /// Bytes it keeps alive or puts on a wire, about: keys, values and figures.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EVENT_BYTES + self.kv.bytes() + self.prev_kv.as_ref().map_or(0, KeyValue::bytes)
    }

    /// Revision of the change.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        Revision(self.kv.mod_revision)
    }
}
