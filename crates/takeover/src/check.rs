//! `takeover check`, and starting the agent from its host file: files are read, checked and reported here.

use crate::doctor::RUN_DIRECTORY;
use crate::guarantee::Guarantee;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where an agent's host file is.
const HOST_FILE: &str = "/etc/takeover/host.toml";

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
    #[arg(long, global = true, default_value = HOST_FILE, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    deed: Option<AgentDeed>,
}

/// What `takeover lca` does beside running the agent.
#[derive(Debug, Subcommand)]
enum AgentDeed {
    /// Take the gate of this host's VIPs down, for good: this host leaves the installation
    #[command(after_help = "\
The gate outlives the agent on purpose: a VIP of a host whose agent is gone stays closed there until the next boot. This
removes its two filters from each interface, so that whatever has the address answers again. Other filters stay, and so does
the clsact qdisc.
It refuses while an agent runs (stop it first: its next look would put the gate up again), and while a VIP is still on an
interface, since this host would answer for it whoever holds the lease. Root's rights are needed, in the host's own network
namespace. A gate that is gone is no error.
Exit codes: 0 there is no gate any more, 1 it was not removed.
Example:
  systemctl disable --now takeover-lca && sleep 12 && takeover lca remove-gate")]
    RemoveGate {
        /// Also while a VIP is on an interface, or where it cannot be read which VIPs there are
        #[arg(long)]
        force: bool,
    },
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

/// Runs the agent, or what else is to be done for it.
pub fn run_agent(arguments: &AgentArguments) -> anyhow::Result<ExitCode> {
    if let Some(AgentDeed::RemoveGate { force }) = arguments.deed {
        return remove_gate(arguments, force);
    }
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

/// Takes the gate down. The host file may be gone already: then the agent's lock is where it is by default.
fn remove_gate(arguments: &AgentArguments, force: bool) -> anyhow::Result<ExitCode> {
    let by_default = arguments.config == Path::new(HOST_FILE) && !arguments.config.try_exists()?;
    let run_directory = if by_default {
        PathBuf::from(RUN_DIRECTORY)
    } else {
        require(config::load_agent(&arguments.config))?.run_directory
    };
    let interfaces = lca::remove_gate(&run_directory, force).context("the gate was not removed")?;
    if interfaces.is_empty() {
        println!("there is no gate on this host");
    }
    for interface in interfaces {
        println!("the gate on {interface} is removed: VIPs pass");
    }
    Ok(ExitCode::SUCCESS)
}
