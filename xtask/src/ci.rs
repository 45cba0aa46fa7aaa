//! `cargo xtask ci`: what a change must pass. Every phase runs even when one before it failed, each is timed, and
//! the last lines say which failed and how the tests ended.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{cargo, find_program, root, succeeds};
use crate::summary::Summary;
use crate::{deny, suite, tidy};

/// How one phase ended.
struct Phase {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs all phases; `Ok(false)` when one failed.
///
/// # Errors
/// When the tests cannot be started at all (missing programs).
pub fn run() -> Result<bool> {
    headline("test");
    let (summary, took) = suite::run_tests(&[])?;
    let mut phases = vec![Phase { name: "test", passed: summary.is_success(), took }];
    phases.push(phase("fmt", || succeeds(cargo().args(["fmt", "--all", "--", "--check"]))));
    phases.push(phase("clippy", || {
        succeeds(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--keep-going",
            "--",
            "-D",
            "warnings",
        ]))
    }));
    phases.push(phase("shellcheck", shellcheck));
    phases.push(phase("tidy", tidy::run));
    phases.push(phase("deny", deny::run));
    phases.push(phase("doc", || {
        succeeds(
            cargo()
                .args(["doc", "--workspace", "--no-deps", "--keep-going"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    }));
    report(&phases, &summary);
    Ok(phases.iter().all(|phase| phase.passed))
}

/// A phase that cannot be started has failed; the others still run.
fn phase(name: &'static str, work: impl FnOnce() -> Result<bool>) -> Phase {
    headline(name);
    let began = Instant::now();
    let passed = work().unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        false
    });
    Phase { name, passed, took: began.elapsed() }
}

fn headline(name: &str) {
    println!("\n==== {name}");
}

fn shellcheck() -> Result<bool> {
    let scripts = tidy::shell_scripts()?;
    println!("{} scripts", scripts.len());
    if scripts.is_empty() {
        return Ok(true);
    }
    let program = find_program("shellcheck").unwrap_or_else(|| "shellcheck".into());
    succeeds(Command::new(program).current_dir(root()).args(scripts))
}

fn report(phases: &[Phase], summary: &Summary) {
    println!("\n==== result");
    for Phase { name, passed, took } in phases {
        println!("{:<6} {name:<12} {:>10}", if *passed { "ok" } else { "FAILED" }, suite::seconds(*took));
    }
    suite::print_failures(summary);
    println!("{summary}");
}
