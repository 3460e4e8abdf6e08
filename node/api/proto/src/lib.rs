//! The words of the client wire: etcd v3 messages and services and our own, client and server side.
//!
//! Way in:   bytes from a client or a server.          Way out: typed messages, service traits, clients.
//! May touch: the local socket (`local`).              Must not: mean anything; it only spells.
//! Always:   `src/generated` is what `proto/*.proto` say; `tests/regenerate.rs` compares and rewrites.
//!
//! Every `bytes` field is a [`bytes::Bytes`], so that an answer can carry a stored value without copying
//! it ([`shared_bytes`]).

use bytes::Bytes;
use std::sync::Arc;

pub mod local;

/// `etcdserverpb`: the services KV, Watch, Lease, Cluster, Maintenance and Auth with their messages.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/rpc.proto, which carries the comments"
)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// `mvccpb`: keys and events.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/kv.proto, which carries the comments"
)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// `authpb`: permissions.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/auth.proto, which carries the comments"
)]
pub mod authpb {
    include!("generated/authpb.rs");
}

/// `grpc.health.v1`: the health check of every gRPC server.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/health.proto, which carries the comments"
)]
pub mod health {
    include!("generated/grpc.health.v1.rs");
}

/// `quorate`: our own administration service, `Admin`, with its messages.
#[allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/quorate.proto, which carries the comments"
)]
pub mod quorate {
    include!("generated/quorate.rs");
}

/// Shared bytes as a message field: no copy, one small allocation.
#[must_use]
pub fn shared_bytes(bytes: Arc<[u8]>) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(Shared(bytes)) }
}

/// What `Bytes` needs to hold an `Arc<[u8]>`: `AsRef<[u8]>` on a sized type.
struct Shared(Arc<[u8]>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
