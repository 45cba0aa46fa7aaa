//! `cargo +nightly fuzz run stream`: see [`sip_fuzz::stream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip_fuzz::stream(bytes));
