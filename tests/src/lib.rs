//! What the proofs share: real programs in folders of their own, and clients that speak to them.
//!
//! Way in:   a test's wish (a node, an etcd, a client).   Way out: a server that answers; its last lines if not.
//! May touch: processes it started, loopback, temporary folders.  Must not: end anything else, by name or at large.
//! Always:   what a test started is gone when it ends; in CI a test that cannot run fails.
#![deny(unsafe_code)]

pub mod client;
pub mod cluster;
pub mod crash;
pub mod field;
pub mod gap;
pub mod history;
pub mod keeper;
pub mod linear;
pub mod net;
pub mod pressure;
pub mod process;
pub mod program;
pub mod resident;
pub mod server;
pub mod skip;
pub mod suites;
pub mod thief;
pub mod trial;
