//! The hardware and the system beneath the node.
//!
//! Way in:   plain calls.                              Way out: plain answers.
//! May touch: the system; `hw.rs` alone may be unsafe. Must not: know anything of the node.
//! Always:   each unsafe operation stands alone, with the reason why it is sound.

mod hw;

pub use hw::give_back_memory;
