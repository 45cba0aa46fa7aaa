//! `cargo +nightly fuzz run calls`: see [`sip_fuzz::calls`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip_fuzz::calls(bytes));
