//! The hall: opens the rooms in order, starts the workers, moves things between them.
//!
//! Way in:   settings, client sessions through `Node`. Way out: answers, an exit code.
//! May touch: threads, queues, the clock.              Must not: decide what a protocol decides.
//! Always:   one queue into the driver; each proposal is answered exactly once; nothing is answered
//!           before it is durable; no worker on the way of a put waits for a log line.
#![forbid(unsafe_code)]

pub mod assembly;
pub mod auto_compact;
pub mod background;
mod card_pace;
pub mod clock;
pub mod config;
pub mod disk_health;
mod drain;
pub mod driver;
pub mod fetcher;
pub mod forward;
pub mod inbox;
pub mod links;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod node;
mod pace;
pub mod peer_port;
pub mod peering;
pub mod pending;
pub mod receiver;
pub mod recover;
pub mod run;
pub mod starts;
pub mod status;
pub mod wal_worker;
pub mod wear;
