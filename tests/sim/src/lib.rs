//! The simulator: the whole cluster in one thread, from one seed, in virtual time.
//!
//! Way in:   a seed.                                   Way out: a report, or what a checker found and how to see it again.
//! May touch: its own memory, standard output.         Must not: clock, disk, network, threads, any other chance.
//! Always:   one seed, one run, event for event; the parts are the hall's own, and nothing is answered, lost or
//!           delayed that a real board, card or network could not answer, lose or delay.
#![forbid(unsafe_code)]

mod board;
mod card;
mod card_log;
mod client;
mod faults;
mod leases;
mod ledger;
mod links;
mod net;
mod operator;
mod power;
mod process;
mod profile;
mod promises;
mod queue;
pub mod report;
mod rng;
mod seed;
mod situation;
mod storage;
#[cfg(test)]
mod stories;
mod story;
mod transfer;
mod watchers;
mod world;

pub use seed::{Failure, Options, Report, run};
pub use situation::{Situation, Situations};
