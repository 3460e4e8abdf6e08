//! The clients: etcd v3 over gRPC, HTTP health and metrics on the same port.
//!
//! Way in:   client connections, the local socket.     Way out: calls on a `Backend`.
//! May touch: sockets, TLS.                            Must not: log, wal, driver; it asks, it does not decide.
//! Always:   a request is checked here once; codes and texts are etcd's; nothing a client says panics.
#![forbid(unsafe_code)]

mod admin;
mod auth;
mod authority;
mod backend;
mod cluster;
mod connection;
mod convert;
mod error;
mod health;
mod http;
mod kv;
mod lease;
mod life;
mod maintenance;
mod members;
mod metrics;
mod origin;
mod server;
mod service;
mod tls;
mod watch;

pub use backend::{
    Answer, Backend, CardState, Invite, InviteRequest, InviteView, LeaseAnswer, MemberChange, MemberRefusal,
    NodeStatus, PeerStatus, Read, ReadOutcome, Refusal, WatchCommand, WatchSession,
};
pub use metrics::ApiMetrics;
pub use quorate_proto::local::bind as bind_local;
pub use server::{CONNECTION_COUNT_MAX, ClientListener, Listeners, STOP_TIME_MAX, serve};
pub use tls::{Tls, TlsError, TlsFiles};

/// The etcd release whose API this is, as `Status` and `/version` tell it. Kubernetes asks for 3.5.13 or
/// later for watch progress, kubeadm for 3.5.24.
pub const API_VERSION: &str = "3.5.24";

/// What `/version` tells as the level all members have.
pub const CLUSTER_VERSION: &str = "3.5.0";
