//! `takeover vip`: the built-in VIP control as a program, for hands and as a VIP control script.

use clap::{Args, ValueEnum};
use domain::VipVerb;
use std::num::NonZeroU32;
use std::process::ExitCode;
use vip_control::Validity;
use vip_control::command::{self, Order, Verb};

/// Arguments of `takeover vip`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without VIP and INTERFACE they are taken from TAKEOVER_VIP and TAKEOVER_INTERFACE, as an LCA sets them for a VIP control
script. Enabling what is enabled and disabling what is disabled succeeds. What is enabled stays, whatever becomes of the agent
and of its lease, unless --valid-for says otherwise; enabling it again begins that time anew.
Exit codes: 0 done (status: enabled), 1 failed, 2 the command line is wrong, 3 status: disabled.
Examples:
  takeover vip enable 192.0.2.100/24 eth0
  takeover vip enable 192.0.2.100/24 eth0 --valid-for 30
  takeover vip status 2001:db8::100/64 eth0")]
pub struct Arguments {
    /// What to do
    #[arg(value_enum)]
    verb: VerbName,
    /// The VIP with its prefix length
    vip: Option<String>,
    /// The interface
    interface: Option<String>,
    /// With enable: how long the kernel keeps the address unless it is enabled again
    #[arg(long, value_name = "SECONDS")]
    valid_for: Option<NonZeroU32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VerbName {
    /// Put the address on the interface and announce it
    Enable,
    /// Remove the address
    Disable,
    /// Say whether it is there
    Status,
}

/// Runs it.
pub fn run(arguments: Arguments) -> ExitCode {
    let verb = match arguments.verb {
        VerbName::Enable => Verb::Control(VipVerb::Enable),
        VerbName::Disable => Verb::Control(VipVerb::Disable),
        VerbName::Status => Verb::Status,
    };
    let environment = |name: &str| std::env::var(name).ok();
    match Order::new(verb, arguments.vip.as_deref(), arguments.interface.as_deref(), environment) {
        Ok(order) => {
            let valid = arguments.valid_for.map_or(Validity::Permanent, Validity::Seconds);
            let outcome = command::run(order.valid_for(valid));
            println!("{outcome}");
            ExitCode::from(outcome.exit_code())
        }
        Err(error) => {
            eprintln!("takeover vip: {error}");
            ExitCode::from(2)
        }
    }
}
