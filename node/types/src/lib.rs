//! The words: ids, positions, entries, membership, time, limits.
//!
//! Way in:   nothing.                                  Way out: plain values every room shares.
//! May touch: nothing.                                 Must not: anything else.
//! Always:   a value here carries no behaviour beyond its own arithmetic; bounds live in `limits`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entry;
mod id;
pub mod limits;
mod membership;
mod position;
mod time;

pub use entry::{Entry, EntryKind};
pub use id::{ClusterId, Identity, LeaseId, NodeId, ProposalId, Start};
pub use membership::{Member, Membership, PeerKey};
pub use position::{HardState, Index, Position, Term};
pub use time::{ClusterTime, Revision};
