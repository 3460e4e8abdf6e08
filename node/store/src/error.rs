//! What the store refuses. Every variant is the client's to mend; none changes state.

use core::fmt;

/// Why a command or a read was refused. The texts clients see are etcd's and stand in the api.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The revision is below what compaction kept.
    Compacted,
    /// The revision is above the store's.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// No such lease.
    LeaseNotFound,
    /// A lease of that id stands already.
    LeaseExists,
    /// Time to live beyond `limits::LEASE_TTL_SECONDS_MAX`.
    LeaseTtlTooLarge,
    /// The alarm for space stands and the command would grow the store.
    NoSpace,
    /// The alarm for damage stands.
    Corrupt,
    /// `limits::INVITE_COUNT_MAX` invites stand, and none is over.
    TooManyInvites,
    /// A request without a key.
    EmptyKey,
    /// `ignore_value` together with a value.
    ValueProvided,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// More than `limits::TXN_OPERATIONS_MAX` operations.
    TooManyOperations,
    /// Two puts of one key, or a put within a deleted range, in one transaction.
    DuplicateKey,
    /// A sort order or target the request's number does not name.
    InvalidSortOption,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            StoreError::Compacted => "the revision has been compacted",
            StoreError::FutureRevision => "the revision is still to come",
            StoreError::KeyNotFound => "the key does not exist",
            StoreError::LeaseNotFound => "the lease does not exist",
            StoreError::LeaseExists => "the lease exists already",
            StoreError::LeaseTtlTooLarge => "the lease's time to live is too large",
            StoreError::NoSpace => "the quota is used up",
            StoreError::Corrupt => "the store is marked as damaged",
            StoreError::TooManyInvites => "too many invites stand; revoke one",
            StoreError::EmptyKey => "the key is empty",
            StoreError::ValueProvided => "a value was given beside ignore_value",
            StoreError::LeaseProvided => "a lease was given beside ignore_lease",
            StoreError::TooManyOperations => "the transaction has too many operations",
            StoreError::DuplicateKey => "the transaction changes a key twice",
            StoreError::InvalidSortOption => "the sort order or target is unknown",
        };
        f.write_str(text)
    }
}

impl core::error::Error for StoreError {}
