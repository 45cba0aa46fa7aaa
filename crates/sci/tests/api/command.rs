//! The verbs with their exit codes.

use crate::world::{LIMIT, World, app};
use clap::{CommandFactory, Parser};
use sci::command::{Command, run_kept, usage_code};
use scs::store::IncidentFilter;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "takeover")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What it says is shown where the test fails.
pub fn takeover(arguments: &str, scs: &str) -> ExitCode {
    let words = ["takeover"].into_iter().chain(arguments.split(' ')).chain(["--scs", scs]);
    let (code, said) = run_kept(Cli::try_parse_from(words).unwrap().command);
    println!("$ takeover {arguments}\n{said}");
    code
}

#[test]
fn the_arguments_hold_together_and_the_help_teaches() {
    Cli::command().debug_assert();
    for verb in Cli::command().get_subcommands_mut() {
        let help = verb.render_long_help().to_string();
        assert!(help.contains("Examples:\n  takeover ") && help.contains("Exit codes:"), "{help}");
        assert!(help.contains("TAKEOVER_SCS"), "{help}");
    }
    for good in ["alarms clear 5 --json", "incidents show 7", "alarms --history --scs unix:/x", "status -h"] {
        let words = ["takeover"].into_iter().chain(good.split(' '));
        let refused = Cli::try_parse_from(words).err().filter(clap::Error::use_stderr);
        assert!(refused.is_none(), "{good}: {}", refused.unwrap());
    }
    for bad in [
        "switchover",
        "switchover a/b",
        "log --level loud",
        "log --since yesterday",
        "alarms clear x",
        "status --check --watch",
        "switchover sip --wait 5",
    ] {
        let words = ["takeover"].into_iter().chain(bad.split(' '));
        let error = Cli::try_parse_from(words).expect_err(bad);
        assert_eq!(error.exit_code(), 2, "{bad}");
    }
}

#[test]
fn a_plugin_whose_command_line_is_wrong_knows_nothing() {
    let code = |line: &str| usage_code(line.split(' ').map(str::to_owned));
    assert_eq!((code("check-health --tiemout 5s"), code("status --chekc")), (3, 2));
}

#[test]
fn a_plugin_gives_up_in_time() {
    let silent = tempfile::tempdir().unwrap();
    let socket = silent.path().join("scs.sock");
    // It is connected to, and never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let scs = format!("unix:{}", socket.display());
    let begun = std::time::Instant::now();
    assert_eq!(takeover("check-health --timeout 100ms", &scs), ExitCode::from(3));
    assert!(begun.elapsed() < LIMIT, "far below the limit of an answer");
}

#[test]
fn exit_codes_are_as_documented() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    let done = ExitCode::from(0);
    for looking in [
        "status",
        "status --json",
        "hosts",
        "hosts --json",
        "log",
        "log --json --limit 3",
        "log --since 10m --level standard --app sip1 --text primary",
        "alarms",
        "alarms --history --json",
        "incidents",
        "incidents --pair sip --json",
        "incidents show 1",
        "incidents show 1 --json",
        "switchover sip --plan",
        "switchover sip --plan --json",
    ] {
        assert_eq!(takeover(looking, &scs), done, "{looking}");
    }
    assert_eq!(takeover("switchover sip --yes --reason drill", &scs), done);
    assert!(world.handle.store().flush(LIMIT));
    let incidents = world.handle.store().incidents(&IncidentFilter::default()).unwrap();
    assert!(
        incidents.len() == 2 && incidents.iter().all(|i| i.ended.is_some()),
        "the verb waits for the end"
    );
    let primary = |name: &'static str| move |view: &ha_core::View| view.pairs[0].primary == Some(app(name));
    // The view follows the incident's end, at which the verb ends, by a moment.
    world.until("sip2 is primary", primary("sip2"));
    assert_eq!(takeover("switchover sip --to sip1 --yes --json", &scs), done);
    world.until("sip1 is primary", primary("sip1"));
    assert_eq!(takeover("stop sip2 --yes --graceful", &scs), done);
    world.until("sip2 is stopped", |view| !view.pairs[0].trouble.is_empty());

    let refused = ExitCode::from(1);
    assert_eq!(takeover("switchover sip --yes", &scs), refused, "sip2 is stopped");
    assert_eq!(takeover("switchover sip --plan", &scs), refused);
    assert_eq!(takeover("start sip9", &scs), refused);
    assert_eq!(takeover("acknowledge sip", &scs), refused);
    assert_eq!(takeover("alarms clear 999", &scs), refused);
    assert_eq!(takeover("incidents show 999 --json", &scs), refused);

    assert_eq!(takeover("status --check", &scs), ExitCode::from(4), "the backup is stopped");
    assert_ne!(takeover("check-health sip", &scs), done, "the backup is stopped");
    assert_eq!(takeover("check-health pbx --json", &scs), ExitCode::from(3), "no such pair");
    assert_eq!(takeover("check-health", "unix:/nonexistent/scs.sock"), ExitCode::from(3));
    assert_eq!(takeover("check-health", "scs1:7401"), ExitCode::from(3), "not an address: it cannot be said");
    assert_eq!(takeover("switchover sip --to sip9 --yes", &scs), ExitCode::from(2), "no such member");
    assert_eq!(takeover("status", "scs1:7401"), ExitCode::from(2), "not an address");
    assert_eq!(takeover("status", "unix:/nonexistent/scs.sock"), ExitCode::from(3));
    assert_eq!(takeover("start sip2", &scs), done);
}
