//! `cargo xtask test`: prepares the machine, builds the release binary, runs every test with its output visible,
//! and ends with one line over all of them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::again;
use crate::packages;
use crate::process::{cargo, search_path, shown};
use crate::python;
use crate::summary::Summary;

/// Runs the tests and prints the closing line; `arguments` take the place of `--workspace`.
///
/// # Errors
/// When the tests could not be started, for instance because programs are missing.
pub fn run(arguments: &[String]) -> Result<bool> {
    let (summary, elapsed) = run_tests(arguments)?;
    print_failures(&summary);
    println!("tests took {}", seconds(elapsed));
    println!("{summary}");
    Ok(summary.is_success())
}

/// Runs the tests; returns their sum and how long all of it took, building included.
///
/// # Errors
/// As `run`.
pub fn run_tests(arguments: &[String]) -> Result<(Summary, Duration)> {
    let began = Instant::now();
    packages::prepare()?;
    packages::warn_without_namespaces()?;
    let summary = match build_release()? {
        Some(binary) => cargo_test(arguments, binary)?,
        None => Summary::not_built("building the release binary: see the errors above"),
    };
    Ok((summary, began.elapsed()))
}

/// Says once more which tests failed and what they said: their own output has long scrolled away.
pub fn print_failures(summary: &Summary) {
    for line in summary.said() {
        println!("{line}");
    }
    for name in summary.failures() {
        println!("failed: {name}");
    }
    for name in summary.needed_two() {
        println!("failed once and then passed: {name}");
    }
}

/// A duration for people, in seconds.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Builds the product in the release profile and returns the path of the binary, or `None` when it does not build.
///
/// # Errors
/// When Cargo cannot be started or does not say where the binary is.
pub fn build_release() -> Result<Option<PathBuf>> {
    println!("building takeover (release)");
    let mut command = cargo();
    // Cargo says itself where the binary is: the target directory and the target triple can be configured anywhere.
    command.args(["build", "--release", "--package", "takeover", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo build")?;
    if !output.status.success() {
        return Ok(None);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let binary = messages.lines().filter_map(executable_named_takeover).next_back();
    binary.map(Some).context("cargo build did not say where the binary `takeover` is")
}

fn executable_named_takeover(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == "takeover";
    message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
}

fn cargo_test(arguments: &[String], binary: PathBuf) -> Result<Summary> {
    let tools = python::prepare()?.into_iter().map(|(name, path)| (name, OsString::from(path)));
    let environment: Vec<_> =
        tools.chain([("TAKEOVER_BIN", binary.into()), ("PATH", search_path()?)]).collect();

    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]);
    match arguments {
        [] => command.arg("--workspace"),
        chosen => command.args(chosen),
    };
    println!("{}", shown(&command));
    let mut summary = followed(command.envs(environment.clone()))?;
    again::failed(&mut summary, arguments, &environment)?;
    Ok(summary)
}

/// Runs tests, shows what they print and adds it up.
///
/// # Errors
/// When they cannot be started.
pub fn followed(command: &mut Command) -> Result<Summary> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let mut lines = BufReader::new(child.stdout.take().expect("standard output was asked to be piped"));

    let mut summary = Summary::default();
    let mut line = Vec::new();
    // By bytes: what a test prints need not be UTF-8.
    while lines.read_until(b'\n', &mut line).context("cannot read the output of a test")? > 0 {
        std::io::stdout().write_all(&line).context("cannot write to standard output")?;
        summary.line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    summary.end(child.wait().context("cannot wait for a test")?.success());
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_the_messages_of_cargo() {
        let library = r#"{"reason":"compiler-artifact","target":{"name":"takeover"},"executable":null}"#;
        let binary =
            r#"{"reason":"compiler-artifact","target":{"name":"takeover"},"executable":"/t/takeover"}"#;
        let other = r#"{"reason":"compiler-artifact","target":{"name":"build-script"},"executable":"/t/b"}"#;
        assert_eq!(executable_named_takeover(binary), Some(PathBuf::from("/t/takeover")));
        for message in [library, other, "not json", r#"{"reason":"build-finished","success":true}"#] {
            assert_eq!(executable_named_takeover(message), None, "{message}");
        }
    }
}
