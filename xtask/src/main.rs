//! `cargo xtask`: everything a developer or a CI machine runs on this repository, as a program instead of a pile
//! of scripts. This file reads the arguments; each command has its module. It needs no more than Cargo and, for
//! the end-to-end tests, the Debian packages named in `packages.rs`.

mod again;
mod ci;
mod deny;
mod packages;
mod process;
mod python;
mod suite;
mod summary;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use process::cargo;

const HELP: &str = "\
cargo xtask COMMAND

  test [ARGS]         Build the release binary, then run every test: unit, transcripts, integration, end to end in
                      network namespaces, documentation examples. Installs the Debian packages that the tests need
                      when it may. ARGS go to `cargo test` in place of `--workspace`, for example `test -p e2e`.
                      The last line reads `N passed, M failed, K skipped`.
  ci                  What CI runs: test, then formatting, clippy, shellcheck, tidy, cargo-deny, documentation.
                      Goes through all of them even when one fails, so that one run shows everything.
  tidy                The rules of CONTRIBUTING.md that a program can check. A second or two.
  seeds N             The decision core against N seeded long histories, in the release profile; `test` runs a few
                      thousand, a million is a night's work for a spare machine. A failure prints its seed.
  exhaustive LENGTH   The decision core against every history of up to LENGTH inputs, in the release profile; each step
                      up takes many times longer.
  simulate [ARGS]     The whole installation in one simulated world under seeded faults, in the release profile, on all
                      cores: `--seeds N` runs N histories (`--from S` from seed S on), `--seed S` one. A history that
                      fails is made small and told line by line. `--broken HOW` breaks a rule of the lease on purpose.
  model [ARGS]        The lease's machine in every situation of a small world, each of its rules broken in turn, and walks
                      at random, in the release profile, on all cores; prints states, depth and time. `--long` goes to
                      forty million states of each of eighteen worlds: a quarter of an hour of processor time, 6 GB of memory.
                      `--states N` is content with N of each, `--walks N` walks further, a word chooses worlds by name.
  bench [NAME] [ARGS] Run the benchmark NAME of the `benches` package, for example `bench takeover`.
  prepare             Only install (or name) the packages that `test` needs.

Inner loop: `cargo quick` runs the tests of the pure crates in seconds.

Exit codes: 0 all is well, 1 something failed, 2 could not start (wrong arguments, missing programs).";

/// Exit code for what kept a command from starting, as opposed to a check that failed.
const CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Runs one command: `Ok(false)` is a check that failed and has already said so, `Err` is what kept it from starting.
fn run(arguments: &[String]) -> Result<bool> {
    let Some((command, rest)) = arguments.split_first() else { bail!("which command?\n\n{HELP}") };
    if rest.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h") {
        println!("{HELP}");
        return Ok(true);
    }
    match command.as_str() {
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(true)
        }
        "test" => suite::run(rest),
        "ci" => no_arguments(command, rest).and_then(|()| ci::run()),
        "tidy" => no_arguments(command, rest).and_then(|()| tidy::run()),
        "prepare" => no_arguments(command, rest).and_then(|()| packages::prepare()).map(|()| true),
        "seeds" => core_run("TAKEOVER_SEEDS", number(command, rest)?),
        "exhaustive" => core_run("TAKEOVER_LENGTH", number(command, rest)?),
        "simulate" => simulate(rest),
        "model" => model(rest),
        "bench" => bench(rest),
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

/// Runs the tests of the decision core in the release profile, lengthened through `variable`.
fn core_run(variable: &str, value: u64) -> Result<bool> {
    println!("{variable}={value} cargo test --release --package ha-core");
    let mut command = cargo();
    command.args(["test", "--release", "--package", "ha-core"]).env(variable, value.to_string());
    process::succeeds(&mut command)
}

/// Runs the simulation, which reads the arguments itself.
fn simulate(arguments: &[String]) -> Result<bool> {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", "simulation", "--"]).args(arguments);
    process::succeeds(&mut command)
}

/// Runs the model checker of the lease, which reads the arguments itself.
fn model(arguments: &[String]) -> Result<bool> {
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", "lease-model", "--"]).args(arguments);
    process::succeeds(&mut command)
}

/// Runs the benches package beside a fresh release binary; without a name it lists what there is.
fn bench(arguments: &[String]) -> Result<bool> {
    let Some(binary) = suite::build_release()? else { return Ok(false) };
    let mut command = cargo();
    command.args(["run", "--release", "--package", "benches", "--"]).args(arguments);
    process::succeeds(command.env("TAKEOVER_BIN", binary).env("PATH", process::search_path()?))
}

fn no_arguments(command: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => bail!("`{command}` takes no arguments, found `{extra}`"),
    }
}

fn number(command: &str, rest: &[String]) -> Result<u64> {
    let [text] = rest else { bail!("`{command}` takes one number, for example `cargo xtask {command} 5`") };
    text.replace('_', "").parse().with_context(|| format!("`{command}` takes a number, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn wrong_arguments_are_told_apart_from_failures() {
        for line in ["", "tset", "ci fast", "tidy x", "seeds", "seeds many", "seeds 1 2", "exhaustive -3"] {
            assert!(run(&arguments(line)).is_err(), "`{line}` must not start anything");
        }
    }

    #[test]
    fn help_is_given_in_every_spelling_and_never_starts_the_command() {
        for line in ["help", "--help", "-h", "test --help", "ci -h", "seeds --help"] {
            assert!(run(&arguments(line)).expect("help"), "`{line}`");
        }
    }

    #[test]
    fn numbers_may_be_written_readably() {
        assert_eq!(number("seeds", &arguments("1_000_000")).expect("a number"), 1_000_000);
    }
}
