//! Benchmarks. They print figures and ratios against a baseline of the same run, and never fail because of them: what a
//! figure is worth depends on the machine. `cargo xtask bench NAME` runs one beside a fresh release binary.

mod api;
mod bare;
mod both;
mod busy;
mod false_takeovers;
mod floor;
mod keepalived;
mod ours;
mod phases;
mod renewal;
mod report;
mod resources;
mod sample;
mod servers;
mod silence;
mod sip;
mod takeover;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Benchmarks of Takeover.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// How long nobody answers on the VIP: server killed, switchover, host cut; beside the floor and keepalived
    Takeover(takeover::Arguments),
    /// A host falls silent, cut off or with its agent stopped: without an answer, and with two hosts answering
    Silence(silence::Arguments),
    /// Takeovers without a reason, on a machine with no processor to spare
    FalseTakeovers(false_takeovers::Arguments),
    /// What leases cost while nothing happens: processor time of agents and SCS, by number of pairs
    Renewal(renewal::Arguments),
    /// What calls and registrations cost, beside Kamailio; memory and takeovers with thousands of calls
    Sip(sip::Arguments),
    /// How long the API's answers take while roles move, and what asking costs the takeovers
    Api(api::Arguments),
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    FloorHolder { server: u32, peer: SocketAddr },
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    FloorStandby { listen: SocketAddr },
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    TellByFile { server: u32, file: PathBuf },
    /// (A part of other benchmarks, which start it themselves)
    #[command(hide = true)]
    Busy,
    /// (A part of the benchmark `renewal`, which starts it itself)
    #[command(hide = true)]
    RenewalFloor { every_ms: u64, answers: floor::Answers, ask: Vec<SocketAddr> },
    /// (A part of the benchmark `renewal`, which starts it itself)
    #[command(hide = true)]
    RenewalEcho { listen: SocketAddr },
    /// (A part of the benchmark `api`, which starts it itself)
    #[command(hide = true)]
    ApiLoad(api::LoadArguments),
}

fn main() -> ExitCode {
    match run(&Arguments::parse().benchmark) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(benchmark: &Benchmark) -> anyhow::Result<ExitCode> {
    let (vip, on) = bare::address()?;
    match benchmark {
        Benchmark::Takeover(arguments) => return in_a_lab(|| takeover::run(arguments)),
        Benchmark::Silence(arguments) => return in_a_lab(|| silence::run(arguments)),
        Benchmark::FalseTakeovers(arguments) => return in_a_lab(|| false_takeovers::run(arguments)),
        Benchmark::Renewal(arguments) => return in_a_lab(|| renewal::run(arguments)),
        Benchmark::Sip(arguments) => return in_a_lab(|| sip::run(arguments)),
        Benchmark::Api(arguments) => return in_a_lab(|| api::run(arguments)),
        Benchmark::FloorHolder { server, peer } => floor::hold(*server, *peer, &vip, &on)?,
        Benchmark::FloorStandby { listen } => floor::stand_by(*listen, &vip, &on)?,
        Benchmark::TellByFile { server, file } => floor::tell_by_file(*server, file)?,
        Benchmark::Busy => busy::spin(),
        Benchmark::RenewalFloor { every_ms, answers, ask } => {
            floor::renew(Duration::from_millis(*every_ms), *answers, ask)?;
        }
        Benchmark::RenewalEcho { listen } => floor::echo(*listen)?,
        Benchmark::ApiLoad(arguments) => api::run_load(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a benchmark in namespaces of its own; to be called before there are any threads.
fn in_a_lab(benchmark: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    if let netlab::Place::Outside(code) = netlab::enter()? {
        return Ok(ExitCode::from(code));
    }
    benchmark()?;
    Ok(ExitCode::SUCCESS)
}

/// The binary under test: named, or built beside this program.
fn binary(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("takeover");
    let binary = named.unwrap_or(&beside);
    binary.canonicalize().with_context(|| {
        format!("there is no binary {}: run `cargo build --release` first", binary.display())
    })
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores, Linux {}, load {load} at the end", kernel.trim())
}
