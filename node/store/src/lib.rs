//! The replicated state: keys with their history, leases, alarms, invites. Same log, same state, on every node.
//!
//! Way in:   Command (decoded from an entry), Read.    Way out: Outcome, Events, export slices.
//! May touch: memory, within the quota the hall keeps. Must not: clock, log, watchers, random order.
//! Always:   one more revision per command that changes a key; apply reads no local setting (rule 15);
//!           nothing at or above the compacted revision is lost.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod alarm;
mod apply;
mod codec;
mod command;
mod digest;
mod error;
mod history;
mod image;
mod image_load;
mod invite;
mod lease;
mod outcome;
mod range;
pub mod request_check;
mod revision;
mod txn;
mod value;

pub use apply::{Applied, Store};
pub use codec::{COMMAND_FORMAT, DecodeError, decode, encode};

pub use command::{
    AlarmKind, Command, Compare, CompareOperator, CompareTarget, DeleteRange, KeyRange, Put, RangeRequest,
    SortOrder, SortTarget, Stamped, Txn, TxnOperation,
};
pub use digest::{Hasher, KeyHash};
pub use error::StoreError;
pub use image::{Export, IMAGE_FORMAT};
pub use image_load::{ImageError, ImageLoader};
pub use invite::{InviteHash, InviteTaken, InviteView};
pub use lease::{LeaseChange, LeaseClock, Renewal};
pub use outcome::{Alarm, Event, EventKind, KeyValue, LeaseView, Outcome, RangeOutcome};
pub use revision::{EventsPage, EventsSince};
pub use value::Value;
