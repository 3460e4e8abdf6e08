//! What a member may send on a stream or as a datagram.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_peer::fuzz::frames(bytes));
