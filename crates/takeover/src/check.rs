//! `takeover check`, and starting the agent from its host file: files are read, checked and reported here.

use crate::guarantee::Guarantee;
use anyhow::bail;
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `takeover check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Of a cluster file without errors it also shows, pair by pair, how long leases and promises last and what follows: how
long service may be away. --stall says whether a lease survives the longest stall of its hosts, which `takeover doctor`
measures and `takeover hosts` shows.
Exit codes: 0 nothing wrong (there may be warnings), 2 something is wrong.
Examples:
  takeover check /etc/takeover/cluster.toml
  takeover check /etc/takeover/cluster.toml --stall 14ms
  takeover check --host-file /etc/takeover/host.toml")]
pub struct Arguments {
    /// The file
    file: PathBuf,
    /// It is an agent's host file, not a cluster file
    #[arg(long)]
    host_file: bool,
    /// Longest stall of the hosts, for example 14ms: warn where a lease would not survive it
    #[arg(long, value_name = "TIME", value_parser = domain::parse_duration, conflicts_with = "host_file")]
    stall: Option<Duration>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `takeover lca`.
#[derive(Debug, Args)]
#[command(after_help = "\
SIGTERM ends the agent and leaves applications and VIPs as they are; the next agent takes them over.
Example: takeover lca --config /etc/takeover/host.toml")]
pub struct AgentArguments {
    /// The host file
    #[arg(long, default_value = "/etc/takeover/host.toml", value_name = "FILE")]
    config: PathBuf,
}

/// What is said of a file.
#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    report: config::Report,
    /// What follows from the profiles of its pairs, where it is a cluster file that can be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pairs: Vec<Guarantee>,
}

/// Checks a file.
pub fn run(arguments: &Arguments) -> ExitCode {
    let checked = if arguments.host_file {
        checked(config::load_agent(&arguments.file), |_| Vec::new())
    } else {
        let guarantees = |cluster: &_| Guarantee::of_all(cluster, arguments.stall);
        checked(config::load_cluster(&arguments.file), guarantees)
    };
    if arguments.json {
        match serde_json::to_string_pretty(&checked) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("takeover: the report cannot be written as JSON: {error}"),
        }
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        eprint!("{}", checked.report.render(colour));
        for pair in &checked.pairs {
            print!("\n{pair}");
        }
    }
    ExitCode::from(checked.report.exit_code())
}

fn checked<T>(outcome: config::Checked<T>, pairs: impl FnOnce(&T) -> Vec<Guarantee>) -> Checked {
    match outcome {
        Ok((value, report)) => Checked { report, pairs: pairs(&value) },
        Err(report) => Checked { report: *report, pairs: Vec::new() },
    }
}

/// The value of a file that must be good to go on; warnings are printed.
///
/// # Errors
/// The report, where the file is not good.
pub fn require<T>(checked: config::Checked<T>) -> anyhow::Result<T> {
    match checked {
        Ok((value, report)) => {
            if !report.diagnostics.is_empty() {
                eprint!("{}", report.render(false));
            }
            Ok(value)
        }
        Err(report) => bail!("the configuration cannot be used\n{}", report.render(false)),
    }
}

/// Runs the agent.
pub fn run_agent(arguments: &AgentArguments) -> anyhow::Result<ExitCode> {
    let file = require(config::load_agent(&arguments.config))?;
    lca::run(lca::Options {
        host: file.host,
        scs: file.scs,
        certificate: file.certificate,
        key: file.key,
        ca: file.ca,
        state_directory: file.state_directory,
        run_directory: file.run_directory,
        real_time: file.real_time,
        cgroup: file.cgroup,
        watchdog: file.watchdog,
    })?;
    Ok(ExitCode::SUCCESS)
}
