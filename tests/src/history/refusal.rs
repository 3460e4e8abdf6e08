//! Which errors mean that nothing happened, and which leave it open: by etcd's codes and texts.

use tonic::{Code, Status};

/// Unavailable can mean anything; these are said before anything is proposed.
const UNAVAILABLE_REFUSALS: [&str; 2] =
    ["etcdserver: no leader", "etcdserver: rpc not supported for learner"];

/// What the transport says when it never got as far as a connection.
const NO_CONNECTION: [&str; 2] = ["tcp connect error", "error trying to connect"];

/// Whether a request that ended so has surely not been carried out, and never will be. What is not listed is open:
/// taking an open outcome for a refusal would blame a server for nothing, the other way only blinds the judge a little.
#[must_use]
pub fn is_refusal(status: &Status) -> bool {
    match status.code() {
        // Checked before proposing, or when applied, in which case nothing was changed.
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unimplemented => true,
        Code::Unavailable => {
            UNAVAILABLE_REFUSALS.contains(&status.message())
                || NO_CONNECTION.iter().any(|text| status.message().contains(text))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_not_a_refusal() {
        for text in [
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: request timed out, possibly due to connection lost",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            "transport is closing",
            "",
        ] {
            assert!(!is_refusal(&Status::unavailable(text)), "{text}");
        }
        assert!(!is_refusal(&Status::unknown("h2 protocol error: error reading a body from connection")));
        assert!(!is_refusal(&Status::cancelled("Timeout expired")));
        assert!(!is_refusal(&Status::deadline_exceeded("context deadline exceeded")));
    }

    #[test]
    fn what_was_never_proposed_is() {
        assert!(is_refusal(&Status::unavailable("etcdserver: no leader")));
        assert!(is_refusal(&Status::resource_exhausted("etcdserver: too many requests")));
        assert!(is_refusal(&Status::invalid_argument("etcdserver: key is not provided")));
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refusal() {
        let port = crate::server::free_port();
        let mut client = crate::client::Client::lazy(&format!("http://127.0.0.1:{port}")).unwrap();
        let status = client.put("k", "v").await.unwrap_err();
        assert!(is_refusal(&status), "{status:?}");
    }
}
