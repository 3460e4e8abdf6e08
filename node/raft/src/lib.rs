//! Consensus, sans-IO: who leads, what is committed, who belongs.
//!
//! Way in:   ticks, messages, proposals, acks.         Way out: one `Ready`, taken after each turn.
//! May touch: its own memory.                          Must not: clock, randomness, disk, network, payloads.
//! Always:   same inputs, same outputs; nothing that claims durability leaves before its append's ack;
//!           what is committed is never taken back (see `invariants`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod message;
mod ready;

pub use message::{
    AppendAnswer, AppendEntries, Body, Envelope, Heartbeat, HeartbeatAnswer, Message, VoteRequest,
};
pub use ready::{Append, AppendNumber, Fetch, ImageWanted, LogChange, ReadDone, ReadId, ReadRefused, Ready};

/// Ticks are this many milliseconds; the hall makes them, nothing here measures time.
pub const TICK_MS: u64 = 10;
