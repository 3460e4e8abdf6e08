//! Consensus, sans-IO: who leads, what is committed, who belongs.
//!
//! Way in:   ticks, messages, proposals, acks.         Way out: one `Ready`, taken after each turn.
//! May touch: its own memory.                          Must not: clock, randomness, disk, network, payloads.
//! Always:   same inputs, same outputs; nothing that claims durability leaves before its append's ack;
//!           what is committed is never taken back (see `invariants`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod card;
mod config;
mod durable;
pub mod invariants;
mod log;
mod membership_change;
mod membership_log;
mod message;
#[cfg(test)]
mod model;
mod mutant;
mod outputs;
mod peers;
mod progress;
pub mod promotion;
mod quorum;
mod raft;
mod random;
mod read;
mod ready;
mod refused;
mod role;
mod status;
pub mod timing;
mod transfer;

pub use card::Card;
pub use config::{Config, Restored};
pub use membership_log::{decode_membership, encode_membership};
pub use message::{
    AppendAnswer, AppendEntries, Body, Envelope, Heartbeat, HeartbeatAnswer, Message, VoteRequest,
};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use raft::Raft;
pub use ready::{Append, AppendNumber, Fetch, ImageWanted, LogChange, ReadDone, ReadId, ReadRefused, Ready};
pub use refused::{MembershipRefused, ProposeRefused, TransferRefused};
pub use status::{PeerProgress, PeerState, Role};
pub use timing::TICK_MS;
