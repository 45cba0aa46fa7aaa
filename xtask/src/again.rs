//! A failed test's second try, at the end of the run: a machine that is shared stands still for half a second now and then, and
//! what that does to a story's times is no fault of ours. The first try is shown whole, and the closing lines name each test that
//! needed a second one. What must never be (see [`FINAL`]) has none, and neither have many failures at once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::Value;

use crate::process::{cargo, output};
use crate::suite::followed;
use crate::summary::Summary;

/// What `netlab::harness::FINAL` is: a test that says so when it fails has seen what no stall of the machine explains.
pub const FINAL: &str = "(must never be)";

/// More failures than this are no accident.
const MOST: usize = 6;

/// A test binary, and the directory of its package, in which Cargo would run it.
struct Binary {
    file: PathBuf,
    package: PathBuf,
}

/// Tries the failed tests of `summary` again, by `arguments` as `cargo test` had them, and writes into it how that went.
///
/// # Errors
/// A program cannot be started.
pub fn failed(summary: &mut Summary, arguments: &[String], environment: &[(&str, OsString)]) -> Result<()> {
    let names: Vec<String> = summary.worth_another_try().map(str::to_owned).collect();
    if names.is_empty() || names.len() < summary.failures().len() || names.len() > MOST {
        return Ok(());
    }
    let binaries = binaries(arguments, environment)?;
    for name in names {
        println!("\n==== tried again: {name}");
        let homes = binaries.iter().filter(|binary| has(binary, &name, environment));
        let tries = homes.map(|binary| followed(test(binary, &name).envs(environment.iter().cloned())));
        // A name that two binaries have must pass in both; one that none has (a documentation example) stays failed.
        let outcomes = tries.collect::<Result<Vec<_>>>()?;
        if !outcomes.is_empty() && outcomes.iter().all(Summary::is_success) {
            summary.passed_again(&name);
        }
    }
    Ok(())
}

/// All test binaries, which were built a moment ago.
fn binaries(arguments: &[String], environment: &[(&str, OsString)]) -> Result<Vec<Binary>> {
    let chosen: Vec<&String> = arguments.iter().take_while(|argument| *argument != "--").collect();
    let mut command = cargo();
    command.args(["test", "--no-run", "--quiet", "--message-format=json"]).envs(environment.iter().cloned());
    match chosen.as_slice() {
        [] => command.arg("--workspace"),
        chosen => command.args(chosen),
    };
    Ok(output(&mut command)?.lines().filter_map(test_binary).collect())
}

fn test_binary(message: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(message).ok()?;
    let file = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let package = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Binary { file: file.into(), package: package.into() })
}

fn has(binary: &Binary, name: &str, environment: &[(&str, OsString)]) -> bool {
    let mut command = test(binary, name);
    let listed = command.arg("--list").envs(environment.iter().cloned()).stderr(Stdio::null()).output();
    listed.is_ok_and(|listed| {
        String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.strip_suffix(": test") == Some(name))
    })
}

fn test(binary: &Binary, name: &str) -> Command {
    let mut command = Command::new(&binary.file);
    command.args([name, "--exact"]).current_dir(&binary.package).env("CARGO_MANIFEST_DIR", &binary.package);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_among_the_messages_of_cargo() {
        let tests =
            r#"{"executable":"/t/api-1","profile":{"test":true},"manifest_path":"/p/crates/sci/Cargo.toml"}"#;
        let program =
            r#"{"executable":"/t/takeover","profile":{"test":false},"manifest_path":"/p/Cargo.toml"}"#;
        let binary = test_binary(tests).expect("a test binary");
        assert_eq!((binary.file, binary.package), ("/t/api-1".into(), "/p/crates/sci".into()));
        for other in [program, "not json", r#"{"reason":"build-finished","success":true}"#] {
            assert!(test_binary(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_laboratory() {
        let harness = include_str!("../../crates/netlab/src/harness.rs");
        assert!(harness.contains(&format!("pub const FINAL: &str = {FINAL:?};")));
    }

    #[test]
    fn a_test_that_passes_now_has_passed_and_one_that_is_unknown_has_not() {
        let mut summary = Summary::default();
        let lines = "running 2 tests\ntest summary::tests::nothing_run_is_not_a_success ... FAILED\n\
                     test a_test_that_nobody_has ... FAILED\n\
                     test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        lines.lines().for_each(|line| summary.line(line));
        summary.end(false);
        let this = Binary { file: std::env::current_exe().expect("our name"), package: ".".into() };
        let names: Vec<String> = summary.worth_another_try().map(str::to_owned).collect();
        for name in names.iter().filter(|name| has(&this, name, &[])) {
            // What it prints must not be shown: whoever counts this run's tests would count it.
            if test(&this, name).output().expect("it starts").status.success() {
                summary.passed_again(name);
            }
        }
        assert_eq!(summary.failures(), ["a_test_that_nobody_has"]);
        assert_eq!(summary.to_string(), "1 passed, 1 failed, 0 skipped");
        assert_eq!(summary.needed_two(), ["summary::tests::nothing_run_is_not_a_success"]);
    }
}
