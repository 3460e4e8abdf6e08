//! Where a connection comes from, and what that allows: only who has the node at hand, or proved who he is,
//! may change who belongs to the cluster.

use std::net::IpAddr;
use tonic::{Extensions, Status};

/// Where a connection comes from; stands in its requests' extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The local socket: the file's mode let it through.
    Local,
    /// A client port, with a certificate that the node's authority signed.
    Certified,
    /// A client port, without one.
    Plain(IpAddr),
}

/// Whether the request may change the cluster. One that does not say where it comes from may not.
///
/// # Errors
/// `PermissionDenied` with the reason and what to do.
pub(crate) fn may_change_cluster(extensions: &Extensions) -> Result<(), Status> {
    let from = match extensions.get::<Origin>() {
        Some(Origin::Local | Origin::Certified) => return Ok(()),
        // Listening on `::`, the node sees IPv4 clients by mapped addresses.
        Some(Origin::Plain(address)) if address.to_canonical().is_loopback() => return Ok(()),
        Some(Origin::Plain(address)) => format!("this call came from {}", address.to_canonical()),
        None => "this call came from nowhere known".to_owned(),
    };
    Err(Status::permission_denied(format!(
        "quorate: the cluster may be changed only on a member's own board (quorate --data-dir DIR …, or its \
         client port on 127.0.0.1) or with a client certificate (--trusted-ca-file on the node, --cert here); \
         {from} without one"
    )))
}

#[cfg(test)]
mod tests {
    use super::{Origin, may_change_cluster};
    use tonic::{Code, Extensions};

    #[test]
    fn only_who_is_at_hand_or_certified_may_change_the_cluster() {
        let table = [
            (Some(Origin::Local), true),
            (Some(Origin::Certified), true),
            (Some(Origin::Plain([127, 0, 0, 1].into())), true),
            (Some(Origin::Plain([127, 9, 9, 9].into())), true),
            (Some(Origin::Plain("::1".parse().unwrap())), true),
            (Some(Origin::Plain("::ffff:127.0.0.1".parse().unwrap())), true),
            (Some(Origin::Plain("::ffff:10.0.0.7".parse().unwrap())), false),
            (Some(Origin::Plain([10, 0, 0, 7].into())), false),
            (Some(Origin::Plain([0, 0, 0, 0].into())), false),
            (Some(Origin::Plain("fe80::1".parse().unwrap())), false),
            (None, false),
        ];
        for (origin, allowed) in table {
            let mut extensions = Extensions::new();
            if let Some(origin) = origin {
                extensions.insert(origin);
            }
            let answer = may_change_cluster(&extensions);
            assert_eq!(answer.is_ok(), allowed, "{origin:?}");
            if let Err(status) = answer {
                assert_eq!(status.code(), Code::PermissionDenied);
            }
        }
        let mut extensions = Extensions::new();
        extensions.insert(Origin::Plain("::ffff:10.0.0.7".parse().unwrap()));
        let status = may_change_cluster(&extensions).unwrap_err();
        assert!(status.message().contains("from 10.0.0.7 without"), "{status}");
    }
}
