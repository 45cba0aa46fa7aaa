//! The binary: arguments in, one part of the product started, exit code out. What a part does is in its own crate.

mod authority;
mod check;
mod control_server;
mod demo;
mod doctor;
#[cfg(test)]
mod documents;
mod guarantee;
mod man;
mod sip_user;
mod vip;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::process::ExitCode;

/// High availability for SIP servers by IP address takeover.
///
/// Two hosts with a SIP server each share a Virtual IP address. When a server, its host or its network fails, or when
/// you order it, the other server becomes primary and the address moves to it.
#[derive(Debug, Parser)]
#[command(name = "takeover", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "`takeover demo` shows it on this machine, with nothing to install and nothing left behind."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Operate(sci::command::Command),

    /// Show a takeover on this machine: hosts, network and servers are made for it and gone afterwards
    Demo(demo::Arguments),
    /// Check a cluster file or a host file: exit code 2 and a report where something is wrong
    Check(check::Arguments),
    /// Examine this host: what it can do for takeovers, what guarantee follows, what to do about the rest
    Doctor(doctor::Arguments),
    /// Run the Solution Control Server (SCS): decides, logs, raises alarms
    Scs(control_server::Arguments),
    /// Run the Local Control Agent (LCA) of this host: starts, stops and watches applications, moves VIPs
    Lca(check::AgentArguments),
    /// Run a SIP Server, normally started by an LCA
    SipServer(sip_server::Args),
    /// Enable, disable or look at a VIP on this host by hand, or as a VIP control script
    Vip(vip::Arguments),
    /// Make the certificates that the parts know each other by
    Ca(authority::Arguments),
    /// Print what the cluster file keeps of a SIP user's password
    SipUser(sip_user::Arguments),
    /// Print completions for a shell
    #[command(after_help = "Example: takeover completions bash > /etc/bash_completion.d/takeover")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages, one for each command
    #[command(after_help = "Example: takeover man /usr/local/share/man/man1")]
    Man(man::Arguments),
}

fn main() -> ExitCode {
    // Before anything else, and before any thread: the demo goes on in namespaces of its own.
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    let outcome = match arguments.command {
        Command::Operate(command) => return sci::command::run(command),
        Command::Check(arguments) => return check::run(&arguments),
        Command::Vip(arguments) => return vip::run(arguments),
        Command::Doctor(arguments) => {
            return doctor::run(&arguments).unwrap_or_else(|error| {
                eprintln!("takeover doctor: {error:#}");
                ExitCode::from(2)
            });
        }
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Scs(arguments) => control_server::run(&arguments),
        Command::Lca(arguments) => check::run_agent(&arguments),
        Command::SipServer(arguments) => {
            sip_server::Options::from_env(arguments).and_then(sip_server::run).map(|()| ExitCode::SUCCESS)
        }
        Command::Ca(arguments) => authority::run(&arguments),
        Command::SipUser(arguments) => sip_user::run(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "takeover", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(arguments) => man::run(&arguments, Arguments::command()).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        // The whole chain: what did not happen, and why.
        eprintln!("takeover: {error:#}");
        ExitCode::FAILURE
    })
}

/// Says what is wrong with the command line, or gives the help that was asked for.
fn explain(error: &clap::Error) -> ExitCode {
    // Where nobody reads, nobody is told.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(sci::command::usage_code(std::env::args().skip(1)))
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
