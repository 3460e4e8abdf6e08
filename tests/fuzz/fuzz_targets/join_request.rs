//! What a stranger may say at the join door, and what a joiner may be told.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_peer::fuzz::join_request(bytes));
