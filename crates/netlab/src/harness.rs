//! Runs test cases each in a laboratory of its own, from a test binary without libtest (`harness = false`), so that plain
//! `cargo test` works for root and for an ordinary user alike. It reads the arguments of libtest that matter and prints
//! like it.
//!
//! ```no_run
//! use netlab::{Lab, harness};
//!
//! fn a_cut_host_is_not_heard(lab: &mut Lab) {
//!     // assert!(...)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     harness::run(&netlab::cases![a_cut_host_is_not_heard])
//! }
//! ```
//! Each case is a process in namespaces of its own (see [`crate::enter`]): it cannot disturb another, and one that exceeds its
//! limit is killed with all that it started.

use crate::enclosure::{Launched, launch};
use crate::{Lab, LabError};
use nix::fcntl::OFlag;
use nix::sys::signal::SigSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a case may take unless it says otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Exit code of a case that panicked, as libtest's.
const PANICKED: u8 = 101;

/// A test case.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: fn(&mut Lab),
    limit: Duration,
}

impl Case {
    /// A case that fails by panicking.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(&mut Lab)) -> Self {
        Self { name, run, limit: LIMIT }
    }

    /// The same with another limit on its time.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// Cases by the names of their functions.
#[macro_export]
macro_rules! cases {
    ($($function:path),* $(,)?) => {
        [$($crate::harness::Case::new(stringify!($function), $function)),*]
    };
}

/// In what a case says when it fails: this must never be, however busy the machine is. `cargo xtask test` gives it no second try.
pub const FINAL: &str = "(must never be)";

/// Runs the cases that the command line selects, one after the other; to be called by `main`, with one thread.
#[must_use]
pub fn run(cases: &[Case]) -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    let selected: Vec<&Case> = cases.iter().filter(|case| arguments.selects(case.name)).collect();
    if arguments.list {
        for case in selected {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", selected.len());
    let started = Instant::now();
    let failures = selected.iter().filter(|case| !run_case(case, arguments.nocapture)).count();
    println!(
        "\ntest result: {}. {} passed; {failures} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failures == 0 { "ok" } else { "FAILED" },
        selected.len() - failures,
        cases.len() - selected.len(),
        started.elapsed().as_secs_f64(),
    );
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(PANICKED) }
}

/// Runs one and tells how it went.
fn run_case(case: &Case, nocapture: bool) -> bool {
    print!("test {} ... ", case.name);
    let started = Instant::now();
    let outcome = run_enclosed(case, nocapture);
    let took = started.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => println!("ok ({took:.2}s)"),
        Err(ref why) => println!("FAILED ({took:.2}s)\n---- {} ----\n{why}", case.name),
    }
    outcome.is_ok()
}

/// Why a case failed, for people, what it printed included.
fn run_enclosed(case: &Case, nocapture: bool) -> Result<(), String> {
    let mut output = captured_output().map_err(|error| chain(&error))?;
    match launch(&SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty())) {
        Ok(Launched::Inside) => {
            if !nocapture && let Err(error) = redirect_to(&output) {
                eprintln!("the output cannot be captured: {error}");
            }
            std::process::exit(run_inside(case));
        }
        Ok(Launched::Outside(guard)) => {
            let code = guard.wait(case.limit);
            if code.is_none() {
                guard.kill();
                let _ = guard.wait(Duration::from_secs(10));
            }
            let verdict = match code {
                Some(0) => return Ok(()),
                Some(PANICKED) => "it panicked".to_owned(),
                Some(code) if code > 128 => format!("it was ended by signal {}", code - 128),
                Some(code) => format!("it ended with exit code {code}"),
                None => format!("it was killed after {:?}", case.limit),
            };
            Err(format!("{}{verdict}", read_all(&mut output)))
        }
        Err(error) => Err(chain(&error)),
    }
}

fn run_inside(case: &Case) -> i32 {
    let work = || -> Result<(), LabError> {
        let mut lab = Lab::new()?;
        (case.run)(&mut lab);
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("{}", chain(&error));
            1
        }
        Err(_) => PANICKED.into(), // the panic hook has printed it
    }
}

/// A file without a name, in memory.
fn captured_output() -> io::Result<File> {
    let name = c"netlab-output";
    Ok(File::from(nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?))
}

fn redirect_to(output: &File) -> io::Result<()> {
    nix::unistd::dup2_stdout(output.as_fd())?;
    nix::unistd::dup2_stderr(output.as_fd())?;
    // Programs that it starts append as well, whatever they do with their own copies.
    nix::fcntl::fcntl(output, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(())
}

/// What was printed, where it can be read; long output loses its middle.
fn read_all(output: &mut File) -> String {
    const HALF: usize = 100_000;
    let mut bytes = Vec::new();
    let _ = output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut bytes));
    if bytes.len() > 2 * HALF {
        let end = bytes.split_off(bytes.len() - HALF);
        bytes.truncate(HALF);
        bytes.extend_from_slice(b"\n[...]\n");
        bytes.extend_from_slice(&end);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    nocapture: bool,
    /// Only ignored cases are wanted, of which there are none.
    ignored: bool,
}

impl Arguments {
    fn read(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut read = Self::default();
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--list" => read.list = true,
                "--exact" => read.exact = true,
                "--nocapture" | "--no-capture" | "--show-output" => read.nocapture = true,
                "--ignored" => read.ignored = true,
                "--skip" => read.skipped.push(given.next().ok_or("--skip wants a name")?),
                "--format" | "--test-threads" | "--color" => drop(given.next()), // there is one of each
                "--include-ignored" | "--quiet" | "-q" | "--test" => {}
                option if option.starts_with("--format=") || option.starts_with("--test-threads=") => {}
                option if option.starts_with('-') => {
                    return Err(format!(
                        "unknown option {option}; known are NAME, --exact, --skip NAME, --list and --nocapture"
                    ));
                }
                name => read.filters.push(name.to_owned()),
            }
        }
        Ok(read)
    }

    fn selects(&self, name: &str) -> bool {
        let hit = |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        let named = self.filters.is_empty() || self.filters.iter().any(hit);
        named && !self.skipped.iter().any(hit) && !self.ignored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Arguments, String> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn cases_are_selected_as_libtest_selects() {
        let selects = |line: &str, name: &str| arguments(line).unwrap().selects(name);
        assert!(selects("", "cut") && selects("cu", "cut") && selects("x cu --test-threads 1", "cut"));
        assert!(!selects("x", "cut") && !selects("--exact cu", "cut") && !selects("--skip cu", "cut"));
        assert!(!selects("--ignored --list", "cut"));
        assert!(arguments("--nonsense").is_err() && arguments("--skip").is_err());
    }
}
