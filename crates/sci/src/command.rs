//! The operator's verbs on the command line. Arguments and exit codes are here, what a verb does in `show` and
//! `order`, what it prints in [`crate::render`].

mod access;
mod calls;
mod configuration;
mod drill;
mod foresee;
mod freeze;
mod history;
mod maintenance;
mod monitor;
mod order;
mod out;
mod show;
mod solutions;
mod time;
mod watch;

use crate::client::{Client, ClientError, Credentials, Target, TargetError};
use crate::health::Verdict;
use clap::{Args, Subcommand};
use domain::{AppName, EventId, HostName, Level, Micros, PairName, parse_duration};
use out::Out;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What every verb's help ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or it failed
  2  the command line is wrong
  3  the SCS cannot be reached
  4  `status --check`: something is in trouble";

/// The operator's verbs, to be flattened into the program's own.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show pairs with their modes and VIPs, hosts, active alarms
    #[command(after_long_help = help("
  takeover status
  takeover status --watch          again every second, until Ctrl-C
  takeover status --check          for monitoring: exit code 4 when something is in trouble
  takeover status --json | jq -r '.pairs[] | [.name, .primary] | @tsv'"))]
    Status(Status),
    /// Exchange the modes of a pair, planned
    #[command(after_long_help = help("
  takeover switchover sip                            to the member that is not primary
  takeover switchover sip --to sip1 --reason \"kernel update of host2\"
  takeover switchover sip --plan                     only show pre-checks and steps
  takeover switchover sip --yes --json               for scripts: no question, the incident as JSON"))]
    Switchover(Switchover),
    /// Start an application
    #[command(after_long_help = help("
  takeover start sip1"))]
    Start(Start),
    /// Stop an application; never a failure: nothing is restarted, nothing fails over
    #[command(after_long_help = help("
  takeover stop sip2 --graceful --reason maintenance
  To have the other member take over first: takeover switchover PAIR"))]
    Stop(Stop),
    /// Stop and start an application
    #[command(after_long_help = help("
  takeover restart sip2 --graceful"))]
    Restart(Stop),
    /// Acknowledge a pair that was frozen because it flapped: it fails over by itself again
    #[command(after_long_help = help("
  takeover acknowledge sip --reason \"bad cable replaced\""))]
    Acknowledge(freeze::Thaw),
    /// Freeze a pair: nobody takes over and nothing goes back by itself, until somebody unfreezes it
    #[command(after_long_help = help("
  takeover freeze sip --reason \"the backup's data are in doubt\"
  A planned switchover stays possible. To work on a pair and keep failover: takeover maintenance PAIR"))]
    Freeze(freeze::Freeze),
    /// Unfreeze a pair that was frozen by hand: it fails over by itself again
    #[command(after_long_help = help("
  takeover unfreeze sip --reason \"checked\""))]
    Unfreeze(freeze::Thaw),
    /// Say that somebody works on a pair for a while: no failback by itself, failovers are not counted
    #[command(after_long_help = help("
  takeover maintenance sip --for 2h --reason \"new cables\"
  takeover maintenance sip --end"))]
    Maintenance(maintenance::Maintenance),
    /// List drills, schedule or remove one: a switchover that is practised, where nothing speaks against it then
    #[command(after_long_help = help("
  takeover drill
  takeover drill add sip --at \"sun 03:00\" --every 7d --back --reason \"weekly practice\"
  takeover drill remove sip 1"))]
    Drill(drill::Drill),
    /// List solutions, show, start or stop one: an ordered set of applications
    #[command(after_long_help = help("
  takeover solutions
  takeover solutions show office
  takeover solutions stop office --graceful --reason \"new disks\"
  takeover solutions start office"))]
    Solutions(solutions::Solutions),
    /// List alarms, or clear one
    #[command(after_long_help = help("
  takeover alarms                  the active ones
  takeover alarms --history        those that ended, too
  takeover alarms clear 17 --reason \"known, being repaired\""))]
    Alarms(Alarms),
    /// Show the log, or follow it
    #[command(after_long_help = help("
  takeover log --since 10m
  takeover log --follow --app sip1
  takeover log --id 00-05150 --since 2026-01-31 --until '2026-02-01 12:00'
  takeover log --level alarm --limit 1000 --json"))]
    Log(Log),
    /// List role changes, or show one with its numbered steps and their times
    #[command(after_long_help = help("
  takeover incidents --pair sip
  takeover incidents show 7
  takeover incidents show 7 --report           one page to send to others
  takeover incidents show 7 --report --html > incident-7.html"))]
    Incidents(Incidents),
    /// List the calls of SIP Servers, show one, or its messages as a ladder
    #[command(after_long_help = help("
  takeover calls
  takeover calls --app sip2                the copy that the backup keeps
  takeover calls show 2-1f3a
  takeover calls trace 'a84b4c76e66710@pc33.example.com'"))]
    Calls(Calls),
    /// Show the configuration in force; check, apply, reload or roll back one without a restart
    #[command(after_long_help = help("
  takeover config                                what is in force, and whether the file was edited since
  takeover config plan new.toml                  what it would change, and what follows; changes nothing
  takeover config apply new.toml --reason \"a third trunk\"
  takeover config reload                         the file on the SCS's host was edited there
  takeover config history
  takeover config rollback 7"))]
    Config(configuration::Configuration),
    /// List users of the web console, add one, change or remove one
    #[command(after_long_help = help("
  takeover users
  takeover users add ann --role operator         prints a link by which ann sets her password
  takeover users link ann                        another link: ann has forgotten it
  takeover users disable ann --reason \"has left\""))]
    Users(access::Users),
    /// List tokens of programs, make or remove one
    #[command(after_long_help = help("
  takeover tokens
  takeover tokens add nagios --role viewer --days 365
  takeover tokens add drill --role operator --pair sip --days 30
  takeover tokens remove 3"))]
    Tokens(access::Tokens),
    /// Show who ordered what, refused attempts too; or check that nobody has changed the record
    #[command(after_long_help = help("
  takeover audit --limit 50
  takeover audit verify
  takeover audit verify --database /backup/takeover.db"))]
    Audit(access::Audit),
    /// Show hosts with their figures
    #[command(after_long_help = help("
  takeover hosts"))]
    Hosts(Hosts),
    /// Watch everything on the full screen, and switch over from there
    #[command(after_long_help = help("
  takeover watch"))]
    Watch(watch::Watch),
    /// Show how long takeovers took, beside what the profile promises
    #[command(after_long_help = help("
  takeover times
  takeover times --pair sip"))]
    Times(history::Times),
    /// Show what would happen if something failed now: server, host, agent, link, SCS
    #[command(after_long_help = help("
  takeover what-if sip"))]
    WhatIf(foresee::WhatIf),
    /// Check a pair, or everything, as a plugin of Nagios, Icinga and others: one line, exit code 0 to 3
    #[command(after_long_help = plugin_help("
  takeover check-health
  takeover check-health sip --timeout 5s"))]
    CheckHealth(CheckHealth),
}

fn help(examples: &str) -> String {
    format!("Examples:{examples}\n\n{EXIT_CODES}")
}

fn plugin_help(examples: &str) -> String {
    format!(
        "Examples:{examples}\n\nExit codes:
  0  OK
  1  WARNING: service is there, and the next fault may need what is missing
  2  CRITICAL: callers notice, or will at the next fault
  3  UNKNOWN: the SCS cannot be asked, or the command line is wrong"
    )
}

/// Heading of the options that say where the SCS is.
const CONNECTION: &str = "Connection";

/// Where the SCS is and how to answer.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Print JSON, the API's own
    #[arg(long)]
    pub json: bool,
    /// The SCS: unix:PATH or https://HOST:PORT
    #[arg(long, env = "TAKEOVER_SCS", default_value_t = Target::default().to_string())]
    #[arg(help_heading = CONNECTION, hide_env_values = true)]
    pub scs: String,
    /// Certificate of an operator, for https://
    #[arg(
        long,
        env = "TAKEOVER_CERTIFICATE",
        value_name = "FILE",
        help_heading = CONNECTION,
        hide_env_values = true
    )]
    pub certificate: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        env = "TAKEOVER_KEY",
        value_name = "FILE",
        help_heading = CONNECTION,
        hide_env_values = true
    )]
    pub key: Option<PathBuf>,
    /// File with a token, for an SCS's web port; in place of certificate and key
    #[arg(
        long,
        env = "TAKEOVER_TOKEN_FILE",
        value_name = "FILE",
        help_heading = CONNECTION,
        conflicts_with_all = ["certificate", "key"],
        hide_env_values = true
    )]
    pub token_file: Option<PathBuf>,
    /// Certificate of the cluster's CA
    #[arg(
        long,
        env = "TAKEOVER_CA",
        value_name = "FILE",
        help_heading = CONNECTION,
        hide_env_values = true
    )]
    pub ca: Option<PathBuf>,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Again every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// End with exit code 4 when a pair is in trouble, a host is not up or an alarm is active
    #[arg(long, conflicts_with = "watch")]
    pub check: bool,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `switchover`.
#[derive(Debug, Clone, Args)]
pub struct Switchover {
    /// The pair
    pub pair: PairName,
    /// The new primary; the member that is not primary unless given
    #[arg(long, value_name = "APP")]
    pub to: Option<AppName>,
    /// Why, for the log and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Only show what would be done and whether it may; exit code 1 when a check fails
    #[arg(long)]
    pub plan: bool,
    /// Also where the backup of a hot pair is not synchronized: what it lacks is lost
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// How long to wait for the end
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub struct Start {
    /// The application
    pub app: AppName,
    /// Why, for the log and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `stop` and `restart`.
#[derive(Debug, Clone, Args)]
pub struct Stop {
    /// The application
    pub app: AppName,
    /// Let it finish what is in hand first
    #[arg(long)]
    pub graceful: bool,
    /// Why, for the log and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `alarms`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Alarms {
    /// Those that ended, too
    #[arg(long)]
    pub history: bool,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Clear one.
    #[command(subcommand)]
    pub verb: Option<AlarmVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `alarms`.
#[derive(Debug, Clone, Subcommand)]
pub enum AlarmVerb {
    /// Clear an active alarm
    Clear {
        /// Its number
        number: u64,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
        reason: String,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// Arguments of `log`.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Go on with what is logged from now on, until Ctrl-C; with --json one event per line
    #[arg(long, short)]
    pub follow: bool,
    /// This level and what is more severe: alarm, standard, interaction, trace
    #[arg(long, value_parser = time::parse_level)]
    pub level: Option<Level>,
    /// About this host
    #[arg(long)]
    pub host: Option<HostName>,
    /// About this application
    #[arg(long)]
    pub app: Option<AppName>,
    /// With this id, for example 00-05150 or 00-5150
    #[arg(long)]
    pub id: Option<EventId>,
    /// With this in the text
    #[arg(long)]
    pub text: Option<String>,
    /// Not before: '2026-01-31 12:00', 2026-01-31T12:00:00Z, 12:00, or how long ago: 10m
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub since: Option<Micros>,
    /// Before; as --since
    #[arg(long, value_name = "TIME", value_parser = time::parse_time, conflicts_with = "follow")]
    pub until: Option<Micros>,
    /// At most this many, the newest; up to 10,000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `incidents`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Incidents {
    /// Of this pair
    #[arg(long)]
    pub pair: Option<PairName>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Show one.
    #[command(subcommand)]
    pub verb: Option<IncidentVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `incidents`.
#[derive(Debug, Clone, Subcommand)]
pub enum IncidentVerb {
    /// Show one: who, what, when to the microsecond, why
    Show {
        /// Its number
        id: u64,
        /// As one page to send to others: what happened, who saw what when, how long it took
        #[arg(long, conflicts_with = "json")]
        report: bool,
        /// The page as HTML that needs nothing but itself
        #[arg(long, requires = "report")]
        html: bool,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// Arguments of `calls`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Calls {
    /// Of this pair; all that show their calls unless given
    #[arg(long)]
    pub pair: Option<PairName>,
    /// As this member has them; the primary unless given
    #[arg(long, value_name = "APP")]
    pub app: Option<AppName>,
    /// At most this many of each pair
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub limit: u32,
    /// Show one.
    #[command(subcommand)]
    pub verb: Option<CallVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `calls`.
#[derive(Debug, Clone, Subcommand)]
pub enum CallVerb {
    /// Show one call
    Show {
        /// Its key, or its Call-ID on the caller's side
        call: String,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Show the messages of a call as a ladder, also for some time after it ended
    Trace {
        /// Its key, or its Call-ID on the caller's side
        call: String,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

/// Arguments of `hosts`.
#[derive(Debug, Clone, Args)]
pub struct Hosts {
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `check-health`.
#[derive(Debug, Clone, Args)]
pub struct CheckHealth {
    /// The pair; everything unless given
    pub pair: Option<PairName>,
    /// How long the SCS may take to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done,
    Refused,
    Usage,
    Unreachable,
    Trouble,
    /// What a plugin found.
    Health(Verdict),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Trouble => 4,
            Exit::Health(verdict) => verdict as u8,
        }
    }
}

/// Why a verb did not end as it should.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("cannot read or write the terminal")]
    Io(#[from] io::Error),
    #[error("not done: not confirmed")]
    NotConfirmed,
    #[error("this needs a terminal; `takeover status --watch` and `takeover log --follow` do not")]
    NoTerminal,
    #[error("the SCS did not answer within {0:?}")]
    Late(Duration),
    #[error("no pair shows its calls: give one of SIP Servers an `http-port` in [pairs.NAME.sip]")]
    NoCalls,
    #[error("the file cannot be used\n{0}")]
    File(String),
    #[error(transparent)]
    Store(#[from] scs::store::QueryError),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Failure::Client(ClientError::Unreachable { .. } | ClientError::Broken { .. })
            | Failure::Late(_) => Exit::Unreachable,
            // A bad name or a filter that makes no sense is a mistake on the command line, wherever it is noticed.
            Failure::Client(ClientError::Problem(problem)) if matches!(problem.status, 400 | 422) => {
                Exit::Usage
            }
            Failure::File(_) => Exit::Usage,
            Failure::Client(ClientError::Problem(_))
            | Failure::Io(_)
            | Failure::NotConfirmed
            | Failure::NoTerminal
            | Failure::NoCalls
            | Failure::Store(_) => Exit::Refused,
            Failure::Target(_) => Exit::Usage,
        }
    }

    /// Whoever read our output has seen enough: `takeover log | head`.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit code of a command line that is wrong, given its words behind the program's name. A plugin says with it that it
/// knows nothing: 2 would be an alert.
#[must_use]
pub fn usage_code(mut words: impl Iterator<Item = String>) -> u8 {
    let is_plugin = words.next().is_some_and(|verb| verb == "check-health");
    if is_plugin { Exit::Health(Verdict::Unknown).code() } else { Exit::Usage.code() }
}

/// Carries out a verb, speaking on standard output and, where it fails, on standard error.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    let out = Out::new(command.options().json);
    ExitCode::from(end(command, &out).code())
}

/// The same, for a program that wants to have what is said instead of having it printed: results and failures in their order.
#[must_use]
pub fn run_kept(command: Command) -> (ExitCode, String) {
    let out = Out::keeping(command.options().json);
    let exit = end(command, &out);
    (ExitCode::from(exit.code()), out.into_kept())
}

/// Carries a verb out and tells why it failed.
fn end(command: Command, out: &Out) -> Exit {
    let is_plugin = matches!(command, Command::CheckHealth(_));
    match run_to_end(command, out) {
        Ok(exit) => exit,
        Err(failure) if is_plugin => monitor::cannot_say(&failure, out),
        Err(failure) if failure.is_broken_pipe() => Exit::Done,
        Err(failure) => {
            out.fail(&failure);
            failure.exit()
        }
    }
}

fn run_to_end(command: Command, out: &Out) -> Result<Exit, Failure> {
    let options = command.options();
    let credentials = Credentials {
        certificate: options.certificate.as_deref(),
        key: options.key.as_deref(),
        ca: options.ca.as_deref(),
        token_file: options.token_file.as_deref(),
    };
    if let Command::Audit(args) = &command
        && let Some(exit) = access::verify_file(args, out)?
    {
        return Ok(exit);
    }
    let client = Client::new(Target::parse(&options.scs, credentials)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Status(args) => show::status(&client, &args, out).await,
            Command::Hosts(_) => show::hosts(&client, out).await,
            Command::Watch(_) => watch::watch(&client, &out.look).await,
            Command::Times(args) => history::times(&client, args, out).await,
            Command::WhatIf(args) => foresee::what_if(&client, &args, out).await,
            Command::CheckHealth(args) => monitor::check(&client, &args, out).await,
            Command::Log(args) => show::log(&client, args, out).await,
            Command::Alarms(args) => match args.verb {
                Some(AlarmVerb::Clear { number, reason, .. }) => {
                    order::clear_alarm(&client, number, reason, out).await
                }
                None => show::alarms(&client, args.history, args.limit, out).await,
            },
            Command::Incidents(args) => match args.verb {
                Some(IncidentVerb::Show { id, report: true, html, .. }) => {
                    history::report(&client, id, html, out).await
                }
                Some(IncidentVerb::Show { id, .. }) => show::incident(&client, id, out).await,
                None => show::incidents(&client, args.pair, args.limit, out).await,
            },
            Command::Config(args) => configuration::run(&client, args, out).await,
            Command::Users(args) => access::users(&client, args, out).await,
            Command::Tokens(args) => access::tokens(&client, args, out).await,
            Command::Audit(args) => access::audit(&client, args, out).await,
            Command::Calls(args) => calls::run(&client, &args, out).await,
            Command::Switchover(args) => order::switch_over(&client, args, out).await,
            Command::Start(args) => order::start(&client, args, out).await,
            Command::Stop(args) => order::stop(&client, args, "stop", out).await,
            Command::Restart(args) => order::stop(&client, args, "restart", out).await,
            Command::Maintenance(args) => maintenance::run(&client, args, out).await,
            Command::Drill(args) => drill::run(&client, args, out).await,
            Command::Solutions(args) => solutions::run(&client, args, out).await,
            Command::Acknowledge(args) => freeze::thaw(&client, args, "acknowledge", out).await,
            Command::Freeze(args) => freeze::freeze(&client, args, out).await,
            Command::Unfreeze(args) => freeze::thaw(&client, args, "unfreeze", out).await,
        }
    })
}

impl Command {
    fn options(&self) -> &Options {
        match self {
            Command::Status(args) => &args.options,
            Command::Switchover(args) => &args.options,
            Command::Start(args) => &args.options,
            Command::Stop(args) | Command::Restart(args) => &args.options,
            Command::Acknowledge(args) | Command::Unfreeze(args) => &args.options,
            Command::Freeze(args) => &args.options,
            Command::Maintenance(args) => &args.options,
            Command::Drill(args) => args.options(),
            Command::Solutions(args) => args.options(),
            Command::Alarms(Alarms { verb: Some(AlarmVerb::Clear { options, .. }), .. }) => options,
            Command::Alarms(args) => &args.options,
            Command::Log(args) => &args.options,
            Command::Incidents(Incidents { verb: Some(IncidentVerb::Show { options, .. }), .. }) => options,
            Command::Incidents(args) => &args.options,
            Command::Calls(Calls {
                verb: Some(CallVerb::Show { options, .. } | CallVerb::Trace { options, .. }),
                ..
            }) => options,
            Command::Calls(args) => &args.options,
            Command::Config(args) => args.options(),
            Command::Users(args) => args.options(),
            Command::Tokens(args) => args.options(),
            Command::Audit(args) => args.options(),
            Command::Hosts(args) => &args.options,
            Command::Watch(args) => &args.options,
            Command::Times(args) => &args.options,
            Command::WhatIf(args) => &args.options,
            Command::CheckHealth(args) => &args.options,
        }
    }
}
