//! `cargo +nightly fuzz run message`: see [`sip_fuzz::message`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sip_fuzz::message(bytes));
