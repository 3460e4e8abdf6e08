//! What changes state, as it stands in the log; and what asks for it.

use crate::InviteHash;
use crate::history::u64_of;
use crate::lease::{LEASE_BYTES, LEASE_KEY_BYTES};
use crate::revision::{KEY_BYTES, RECORD_BYTES};
use alloc::vec::Vec;
use quorate_types::{ClusterTime, LeaseId, NodeId, PeerKey, ProposalId, Revision};
use serde::{Deserialize, Serialize};

/// A command on its way through the log: who proposed it and when, by the leader's cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Whose proposal this is; the node that waits for it answers its client.
    pub id: ProposalId,
    /// The leader's time; apply takes max(own, this).
    pub time: ClusterTime,
    /// What to do.
    pub command: Command,
}

/// What changes the replicated state. Variants are only ever appended: the log outlives releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Write one key.
    Put(Put),
    /// Delete keys; they stay readable at older revisions until compaction.
    DeleteRange(DeleteRange),
    /// Compare, then one of two branches, at one revision.
    Txn(Txn),
    /// Forget what only revisions below this one see.
    Compact(Revision),
    /// Make a lease. The id was chosen before the command entered the log.
    LeaseGrant {
        /// Its id, positive.
        id: LeaseId,
        /// Time to live in seconds.
        ttl_seconds: i64,
    },
    /// End a lease and delete its keys, because a client said so.
    LeaseRevoke(LeaseId),
    /// End a lease because its time is over. Void if the lease was granted anew since (rule 16).
    LeaseExpire {
        /// Its id.
        id: LeaseId,
        /// `LeaseView::granted` of the lease the expiry saw.
        granted: u64,
    },
    /// Raise an alarm of a node; growing writes are refused while one for space stands.
    AlarmRaise {
        /// Whose alarm.
        node: NodeId,
        /// Which.
        kind: AlarmKind,
    },
    /// Take an alarm back.
    AlarmClear {
        /// Whose alarm.
        node: NodeId,
        /// Which.
        kind: AlarmKind,
    },
    /// Let one node in that shows the secret behind this hash. An invite that stands already stays as it is.
    InviteAdd {
        /// Of the public key that the secret makes.
        hash: InviteHash,
        /// For how long, in milliseconds of cluster time from when this is applied.
        ttl_ms: u64,
    },
    /// A node showed the secret: the invite is its own from now on, or it is refused.
    InviteTake {
        /// Which invite.
        hash: InviteHash,
        /// Who came.
        key: PeerKey,
    },
    /// Take an invite back, used or not.
    InviteRevoke {
        /// Which invite.
        hash: InviteHash,
    },
}

impl Command {
    /// Logical bytes the command may add to the store, at most: what the hall holds against the quota before
    /// it proposes (rule 15). Zero for what never grows it, and for invites, which are bounded in number.
    #[must_use]
    pub fn growth_bytes(&self) -> u64 {
        match self {
            Command::Put(put) => put.growth_bytes(),
            Command::Txn(txn) => txn.growth_bytes(),
            Command::LeaseGrant { .. } => LEASE_BYTES,
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseExpire { .. }
            | Command::AlarmRaise { .. }
            | Command::AlarmClear { .. }
            | Command::InviteAdd { .. }
            | Command::InviteTake { .. }
            | Command::InviteRevoke { .. } => 0,
        }
    }
}

/// etcd's alarms, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The quota is used up (1).
    NoSpace,
    /// Data was found damaged (2).
    Corrupt,
}

/// etcd's PutRequest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Put {
    /// Not empty.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// Empty when `ignore_value`.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// Lease the key is bound to, or none.
    pub lease: LeaseId,
    /// Answer with what was there before.
    pub prev_kv: bool,
    /// Keep the value; the key must exist.
    pub ignore_value: bool,
    /// Keep the lease; the key must exist.
    pub ignore_lease: bool,
}

impl Put {
    fn growth_bytes(&self) -> u64 {
        let tie = if self.lease.is_some() { LEASE_KEY_BYTES } else { 0 };
        KEY_BYTES + RECORD_BYTES + tie + u64_of(self.key.len()) + u64_of(self.value.len())
    }
}

/// Keys as etcd's `key` and `range_end` name them.
///
/// Wire rule: no end is the one key; end `\0` is every key from `key` on (`key` `\0` too: all);
/// else `[key, end)`. An end at or below the start is an empty range, not an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyRange {
    /// Exactly this key.
    One(#[serde(with = "serde_bytes")] Vec<u8>),
    /// From this key to the last.
    From(#[serde(with = "serde_bytes")] Vec<u8>),
    /// From `start` up to but without `end`.
    Span {
        /// First key.
        #[serde(with = "serde_bytes")]
        start: Vec<u8>,
        /// First key beyond.
        #[serde(with = "serde_bytes")]
        end: Vec<u8>,
    },
}

impl KeyRange {
    /// Reads the wire's pair.
    #[must_use]
    pub fn from_wire(key: Vec<u8>, range_end: Vec<u8>) -> KeyRange {
        match range_end.as_slice() {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            _ => KeyRange::Span { start: key, end: range_end },
        }
    }

    /// The first key it can hold.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        match self {
            KeyRange::One(key) | KeyRange::From(key) | KeyRange::Span { start: key, .. } => key,
        }
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one.as_slice(),
            KeyRange::From(start) => key >= start.as_slice(),
            KeyRange::Span { start, end } => key >= start.as_slice() && key < end.as_slice(),
        }
    }
}

/// etcd's DeleteRangeRequest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with what was deleted.
    pub prev_kv: bool,
}

/// etcd's TxnRequest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `success`.
    pub compares: Vec<Compare>,
    /// Done if they do.
    pub success: Vec<TxnOperation>,
    /// Done if one does not.
    pub failure: Vec<TxnOperation>,
}

impl Txn {
    /// Of the branch that would grow it more. Deletions are not counted, though each leaves a record: they
    /// must always work.
    fn growth_bytes(&self) -> u64 {
        let branch = |operations: &[TxnOperation]| -> u64 {
            operations
                .iter()
                .map(|operation| match operation {
                    TxnOperation::Put(put) => put.growth_bytes(),
                    TxnOperation::Txn(nested) => nested.growth_bytes(),
                    TxnOperation::Range(_) | TxnOperation::DeleteRange(_) => 0,
                })
                .sum()
        };
        branch(&self.success).max(branch(&self.failure))
    }
}

/// One operation of a transaction's branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOperation {
    /// Read.
    Range(RangeRequest),
    /// Write.
    Put(Put),
    /// Delete.
    DeleteRange(DeleteRange),
    /// A transaction within.
    Txn(Txn),
}

/// One compare. Over a range it must hold for each key there; a missing single key compares as
/// zero in every number, and any compare of its *value* fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// How.
    pub operator: CompareOperator,
    /// What against what.
    pub target: CompareTarget,
}

/// etcd's CompareResult.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOperator {
    /// Key's figure = given.
    Equal,
    /// Key's figure > given.
    Greater,
    /// Key's figure < given.
    Less,
    /// Key's figure != given.
    NotEqual,
}

/// etcd's CompareTarget with the figure given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// Writes since creation.
    Version(i64),
    /// Revision of creation.
    Create(i64),
    /// Revision of the last write.
    Mod(i64),
    /// The bytes.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The lease.
    Lease(i64),
}

/// etcd's RangeRequest without `serializable`, which is the hall's matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Most keys to answer with; zero or less is all.
    pub limit: i64,
    /// At which revision; zero or less is now.
    pub revision: i64,
    /// How to sort.
    pub order: SortOrder,
    /// By what.
    pub target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only the number of keys.
    pub count_only: bool,
    /// Only keys last written at or after this revision; zero is no bound. Likewise the others.
    pub mod_revision_min: i64,
    /// Only keys last written at or before.
    pub mod_revision_max: i64,
    /// Only keys created at or after.
    pub create_revision_min: i64,
    /// Only keys created at or before.
    pub create_revision_max: i64,
}

impl RangeRequest {
    /// A plain read of that range now.
    #[must_use]
    pub fn all(range: KeyRange) -> RangeRequest {
        RangeRequest {
            range,
            limit: 0,
            revision: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            mod_revision_min: 0,
            mod_revision_max: 0,
            create_revision_min: 0,
            create_revision_max: 0,
        }
    }
}

/// etcd's SortOrder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    /// By key, ascending, unless the target is another: then ascending by that, as etcd does.
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// etcd's SortTarget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    /// By key.
    Key,
    /// By version.
    Version,
    /// By create revision.
    Create,
    /// By mod revision.
    Mod,
    /// By value.
    Value,
}
