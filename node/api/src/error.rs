//! Refusals as etcd's clients know them: a code and an exact text. Clients compare the texts.
//!
//! Source of every text and code: etcd 3.5, `api/v3rpc/rpctypes/error.go`.

use crate::Refusal;
use quorate_store::StoreError;
use quorate_types::limits;
use tonic::{Code, Status};

/// The status a refused call ends with.
pub(crate) fn status_of(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Store(error) => status_of_store(error),
        Refusal::TooLarge => request_too_large(),
        Refusal::Overloaded => Status::resource_exhausted("etcdserver: too many requests"),
        Refusal::NoLeader => no_leader(),
        Refusal::LeaderChanged => Status::unavailable("etcdserver: leader changed"),
        Refusal::TimedOut => Status::unavailable("etcdserver: request timed out"),
        Refusal::Stopping => stopped(),
        // Unavailable: clients turn to the next endpoint, as they do when etcd's removed member is gone.
        Refusal::Removed => Status::unavailable(REMOVED_TEXT),
        Refusal::Unsupported(what) => Status::unimplemented(what),
    }
}

/// The status of what the store refused.
pub(crate) fn status_of_store(error: StoreError) -> Status {
    let (code, text) = match error {
        StoreError::Compacted => (Code::OutOfRange, COMPACTED_TEXT),
        StoreError::FutureRevision => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
        }
        StoreError::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
        StoreError::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
        StoreError::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        StoreError::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
        StoreError::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        StoreError::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
        StoreError::TooManyInvites => {
            (Code::ResourceExhausted, "quorate: too many invites stand; revoke one")
        }
        StoreError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
        StoreError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
        StoreError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
        StoreError::TooManyOperations => {
            (Code::InvalidArgument, "etcdserver: too many operations in txn request")
        }
        StoreError::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        StoreError::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
    };
    Status::new(code, text)
}

/// What a removed node says wherever it is asked.
pub(crate) const REMOVED_TEXT: &str = "quorate: this node was removed from its cluster; ask another member";

/// What a watcher refused for a compacted start is told, and every read below the compacted revision.
pub(crate) const COMPACTED_TEXT: &str = "etcdserver: mvcc: required revision has been compacted";

pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

pub(crate) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

pub(crate) fn request_too_large() -> Status {
    Status::invalid_argument("etcdserver: request is too large")
}

pub(crate) fn member_not_found() -> Status {
    Status::not_found("etcdserver: member not found")
}

/// An answer that does not fit its question: a fault of the node, told instead of a panic.
pub(crate) fn answer_mismatch() -> Status {
    Status::internal("quorate: the node answered another question")
}

/// The gRPC library's own refusals in the words of etcd's library, where clients may look at them:
/// a message over the limit is told by another code there.
pub(crate) fn in_etcd_words(status: Status) -> Status {
    let oversized = status.code() == Code::OutOfRange
        && status.message().starts_with("Error, decoded message length too large");
    if !oversized {
        return status;
    }
    let bytes = status.message().split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap_or(0);
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({bytes} vs. {MESSAGE_BYTES_MAX})"
    ))
}

/// Most bytes of one message a client may send; one more byte is refused before it is decoded.
pub(crate) const MESSAGE_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX + limits::REQUEST_OVERHEAD_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::{MESSAGE_BYTES_MAX, in_etcd_words};
    use tonic::{Code, Status};

    #[test]
    fn an_oversized_message_is_told_as_grpc_go_tells_it() {
        let library = Status::out_of_range(format!(
            "Error, decoded message length too large: found 2097200 bytes, the limit is: {MESSAGE_BYTES_MAX} bytes"
        ));
        let told = in_etcd_words(library);
        assert_eq!(told.code(), Code::ResourceExhausted);
        assert_eq!(told.message(), "grpc: received message larger than max (2097200 vs. 2097152)");
        let other = in_etcd_words(Status::out_of_range("something else"));
        assert_eq!(other.code(), Code::OutOfRange);
    }
}
