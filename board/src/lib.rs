//! The hardware and the system beneath the node.
//!
//! Way in:   plain calls.                              Way out: plain answers.
//! May touch: the system; `hw.rs` alone may be unsafe. Must not: know anything of the node.
//! Always:   each unsafe operation stands alone, with the reason why it is sound; what is read of /proc and
//!           /sys is judged by functions that take it as text.

mod hw;
pub mod storage;

pub use hw::{IoPriority, give_back_memory, set_io_priority};
