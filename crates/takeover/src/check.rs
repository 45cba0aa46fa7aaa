//! `takeover check`, and starting the agent from its host file: files are read, checked and reported here.

use anyhow::bail;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code for a file with errors.
const ERRORS: u8 = 2;

/// Arguments of `takeover check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing wrong (there may be warnings), 2 something is wrong.
Examples:
  takeover check /etc/takeover/cluster.toml
  takeover check --host-file /etc/takeover/host.toml")]
pub struct Arguments {
    /// The file
    file: PathBuf,
    /// It is an agent's host file, not a cluster file
    #[arg(long)]
    host_file: bool,
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

/// Checks a file.
pub fn run(arguments: &Arguments) -> ExitCode {
    let (report, good) = if arguments.host_file {
        outcome(config::load_agent(&arguments.file))
    } else {
        outcome(config::load_cluster(&arguments.file))
    };
    if arguments.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("takeover: the report cannot be written as JSON: {error}"),
        }
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        eprint!("{}", report.render(colour));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::from(ERRORS) }
}

fn outcome<T>(checked: config::Checked<T>) -> (config::Report, bool) {
    match checked {
        Ok((_, report)) => (report, true),
        Err(report) => (*report, false),
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
    })?;
    Ok(ExitCode::SUCCESS)
}
