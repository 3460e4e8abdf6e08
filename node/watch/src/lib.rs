//! Who wants to know: the watchers of this node. Local, not replicated.
//!
//! Way in:   WatchRequest, events as applied, credit.  Way out: Delivery for a stream.
//! May touch: memory, bounded per stream; the store, to read. Must not: sockets, threads, clock.
//! Always:   revisions rise per watcher; all events of one revision stand in one delivery; progress is
//!           only told once everything up to it was handed out; a slow stream holds nobody.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod catch_up;
mod hub;
mod interest;
mod slab;
mod watcher;

pub use hub::Hub;
pub use watcher::{CancelReason, Delivery, StreamId, WatchId, WatchRequest};
