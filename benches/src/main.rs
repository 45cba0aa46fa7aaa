//! Benchmarks. They print figures and ratios against a baseline of the same run, and never fail because of them: what a
//! figure is worth depends on the machine. `cargo xtask bench NAME` runs one beside a fresh release binary.

mod bare;
mod floor;
mod keepalived;
mod ours;
mod phases;
mod report;
mod resources;
mod sample;
mod servers;
mod takeover;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    FloorHolder { server: u32, peer: SocketAddr },
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    FloorStandby { listen: SocketAddr },
    /// (A part of the benchmark `takeover`, which starts it itself)
    #[command(hide = true)]
    TellByFile { server: u32, file: PathBuf },
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
        Benchmark::Takeover(arguments) => {
            // Before any thread: what follows happens in namespaces of its own.
            if let netlab::Place::Outside(code) = netlab::enter()? {
                return Ok(ExitCode::from(code));
            }
            takeover::run(arguments)?;
        }
        Benchmark::FloorHolder { server, peer } => floor::hold(*server, *peer, &vip, &on)?,
        Benchmark::FloorStandby { listen } => floor::stand_by(*listen, &vip, &on)?,
        Benchmark::TellByFile { server, file } => floor::tell_by_file(*server, file)?,
    }
    Ok(ExitCode::SUCCESS)
}
