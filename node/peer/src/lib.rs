//! The other nodes: authenticated links over QUIC, joining, images in transit.
//!
//! Way in:   envelopes for members, images to send.   Way out: messages with a proven sender, by `Hall`.
//! May touch: UDP sockets, the key it is given.        Must not: disk, store, log; it moves, it does not judge.
//! Always:   a stranger is refused; every queue and window is bounded; what a peer says never panics.
#![forbid(unsafe_code)]
