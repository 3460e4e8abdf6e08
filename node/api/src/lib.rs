//! The clients: etcd v3 over gRPC, HTTP health and metrics on the same port.
//!
//! Way in:   client connections.                       Way out: calls on a `Backend`.
//! May touch: sockets, TLS.                            Must not: log, wal, driver; it asks, it does not decide.
//! Always:   a request is checked here once; codes and texts are etcd's; nothing a client says panics.
#![forbid(unsafe_code)]

mod backend;

pub use backend::{
    Answer, Backend, LeaseAnswer, NodeStatus, Read, ReadOutcome, Refusal, WatchCommand, WatchSession,
};
