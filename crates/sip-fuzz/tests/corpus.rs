//! Every file that the fuzzer has found and kept, and mutations of it, through the functions that the fuzzer calls.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use sip_fuzz::{Random, calls, changes_of, message, mutate, stream, told_of};
use sip_proto::MAX_MESSAGE;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The files for one of the functions, by name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} files in {}", files.len(), directory.display());
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// Each file as it is, and then so many mutations.
fn try_all(name: &str, function: fn(&[u8]), mutations: usize) {
    let files = corpus(name);
    for (file, bytes) in &files {
        let result = catch_unwind(|| function(bytes));
        assert!(result.is_ok(), "{}", file.display());
    }
    let seed = 0x7a6b_5c4d;
    let mut random = Random(seed);
    for round in 0..mutations {
        let (file, bytes) = &files[round % files.len()];
        let bytes = mutate(bytes, &mut random);
        let result = catch_unwind(AssertUnwindSafe(|| function(&bytes)));
        assert!(
            result.is_ok(),
            "seed {seed:#x}, round {round}, from {}: {}",
            file.display(),
            bytes.escape_ascii()
        );
    }
}

#[test]
fn messages_do_no_harm() {
    try_all("message", message, 20_000);
}

#[test]
fn phones_do_no_harm() {
    try_all("calls", calls, 2_000);
}

#[test]
fn a_primary_does_its_backup_no_harm() {
    try_all("stream", stream, 4_000);
}

#[test]
fn every_beginning_of_every_message_does_no_harm() {
    for (_, bytes) in corpus("message") {
        // Of the short ones; mutations cut the long ones, too.
        for length in 0..bytes.len().min(600) {
            message(&bytes[..length]);
        }
    }
}

/// Streams that a primary would tell, to begin with: `RECORD=1` writes them from the files of calls.
#[test]
fn a_true_stream_is_taken() {
    for (file, script) in corpus("calls") {
        let changes = changes_of(&script);
        let told = told_of(&changes);
        stream(&told);
        if std::env::var_os("RECORD").is_some() && !changes.is_empty() {
            let name = format!("true-{}", file.file_name().unwrap().to_str().unwrap());
            std::fs::write(file.parent().unwrap().with_file_name("stream").join(name), told).unwrap();
        }
    }
}

/// Shapes that make a careless parser take quadratic time. With that, each would take far longer than the limit; as it
/// is, all of them together take a few milliseconds (more in a debug build).
#[test]
#[allow(clippy::disallowed_methods, reason = "this test is about time")]
fn time_is_linear_in_the_length() {
    let head =
        "REGISTER sip:a SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:a@b>;tag=1\r\ni: x\r\nCSeq: 1 REGISTER\r\n";
    let fill = |before: &str, piece: &str, after: &str| {
        let room = MAX_MESSAGE - head.len() - before.len() - after.len() - 32;
        format!("{head}{before}{}{after}\r\n", piece.repeat(room / piece.len()))
    };
    let shapes = [
        fill("t: <sip:a@b>\r\nm: ", "<sip:a@b>,", "<sip:a@b>\r\n"),
        fill("t: <sip:a@b>\r\nm: ", "a,", "a\r\n"),
        fill("t: <sip:a@b>\r\nm: <sip:a@b", ";a", ">\r\n"),
        fill("t: <sip:a@b>", ";a", "\r\n"),
        fill("t: \"", "\\\"", "\r\n"),
        fill("t: ", "a ", "<sip:a@b>\r\n"),
        fill("t: <sip:a@b>\r\nZ:", "\r\n ", "\r\n"),
        fill("t: <sip:a@b>\r\nv: SIP/2.0/UDP h", ";rport", "\r\n"),
        fill("t: <sip:a@b>\r\nRequire: ", "a,", "\r\n"),
        fill("t: <sip:a@b>\r\n", "m:*\r\n", ""),
        fill("t: <sip:a@b>\r\n", "\r", "\r\n"),
        fill("t: sip:", "%41", "@b\r\n"),
        fill("t: sip:a@b?", "&", "\r\n"),
    ];
    let began = Instant::now();
    for shape in &shapes {
        assert!(shape.len() <= MAX_MESSAGE);
        message(shape.as_bytes());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
