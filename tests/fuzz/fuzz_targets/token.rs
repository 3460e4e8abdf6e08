//! What a person may type.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_peer::fuzz::token(bytes));
