//! Flags, environment and file in; `Config` out: parsed once, correct by type afterwards.

mod address;
mod settings;

pub use address::{Listen, parse_listen};
pub use settings::{ConfigError, Settings};

use crate::auto_compact::AutoCompact;
use quorate_api::TlsFiles;
use quorate_peer::Token;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the node runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name for people.
    pub name: String,
    /// Its folder.
    pub data_dir: PathBuf,
    /// Where clients reach it.
    pub listen_client: Vec<Listen>,
    /// Where only metrics and health are served, without TLS.
    pub listen_metrics: Vec<Listen>,
    /// What it tells clients to dial.
    pub advertise_client: Vec<String>,
    /// Where peers reach this node; none takes the default port on all addresses, if it is free.
    pub listen_peer: Option<SocketAddr>,
    /// What it tells peers to dial; empty derives it from where it listens.
    pub advertise_peer: Vec<String>,
    /// Whether an empty folder may become a new cluster.
    pub new_cluster: bool,
    /// The token with which an empty folder joins a cluster.
    pub join: Option<Token>,
    /// Never becomes a voter by itself.
    pub stays_learner: bool,
    /// TLS for clients.
    pub tls: Option<TlsFiles>,
    /// Quota in logical bytes; none takes a quarter of the memory.
    pub quota_bytes: Option<u64>,
    /// Compaction by itself.
    pub auto_compact: AutoCompact,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines: a `tracing` filter.
    pub log_filter: String,
}
