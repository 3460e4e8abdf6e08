//! Consensus, sans-IO: who leads, what is committed, who belongs.
//!
//! Way in:   ticks, messages, proposals, acks.         Way out: one `Ready`, taken after each turn.
//! May touch: its own memory.                          Must not: clock, randomness, disk, network, payloads.
//! Always:   same inputs, same outputs; nothing that claims durability leaves before its append's ack;
//!           what is committed is never taken back (see `invariants`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod message;
mod raft;
mod ready;
mod refused;
mod status;
pub mod timing;

pub use config::{Config, Restored};
pub use message::{
    AppendAnswer, AppendEntries, Body, Envelope, Heartbeat, HeartbeatAnswer, Message, VoteRequest,
};
pub use raft::Raft;
pub use ready::{Append, AppendNumber, Fetch, ImageWanted, LogChange, ReadDone, ReadId, ReadRefused, Ready};
pub use refused::{MembershipRefused, ProposeRefused, TransferRefused};
pub use status::{PeerProgress, PeerState, Role};
pub use timing::TICK_MS;
