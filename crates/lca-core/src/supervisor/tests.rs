//! The supervisor's golden transcripts: `crates/lca-core/tests/supervisor/*`, prose between commands and what came out.
//! `UPDATE_GOLDENFILES=1 cargo test -p lca` writes them anew; every line that moves wants a reason.

use super::*;
use domain::{ModeControl, OnHang, Probe, ProbeKind, RestartPolicy, Signal};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;

struct Transcript {
    supervised: Supervised,
    settings: Box<Settings>,
    begun: bool,
    now: Micros,
}

#[derive(goldenscript::Command)]
enum Command {
    /// Changes the settings: `settings notify=false on-hang=report`.
    Settings(BTreeMap<String, String>),
    /// The agent starts: `boot`, `boot wanted=false`.
    Boot {
        #[arg(key, optional)]
        unwanted: bool,
    },
    /// The agent starts again and finds the process: `adopt 100 status=started mode=primary epoch=3`.
    Adopt {
        pid: u32,
        #[arg(key)]
        status: String,
        #[arg(key, optional)]
        primary: bool,
        #[arg(key, optional)]
        epoch: u64,
        #[arg(key, optional)]
        unwanted: bool,
    },
    /// The agent starts again and finds no process any more.
    Gone {
        #[arg(key)]
        status: String,
        #[arg(key, optional)]
        unwanted: bool,
    },
    Start(u64),
    Stop {
        ref_id: u64,
        #[arg(key, optional)]
        graceful: bool,
    },
    Mode {
        ref_id: u64,
        mode: String,
        epoch: u64,
    },
    Epoch(u64),
    Spawned(u32),
    SpawnFailed(String),
    Exited(i32),
    Signalled(i32),
    /// By this signal.
    Dying(i32),
    Notify(Vec<String>),
    Connected,
    Disconnected,
    Told {
        mode: String,
        epoch: u64,
        #[arg(key, optional)]
        ref_id: Option<u64>,
    },
    #[command(name = "command_ended")]
    Confirmed {
        ref_id: u64,
        #[arg(key, optional)]
        why: Option<String>,
    },
    Synced(bool),
    Suspending,
    Suspended,
    Probe {
        #[arg(key, optional)]
        why: Option<String>,
    },
    Stalled(String),
    Unconfigure,
    /// Time passes, deadline by deadline.
    Wait(String),
}

#[test]
fn transcripts() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervisor");
    let mut scripts: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "the transcripts are missing");
    for script in scripts {
        goldenscript::run(&mut Transcript::new(), &script)
            .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    }
}

impl Transcript {
    fn new() -> Self {
        let seconds = Duration::from_secs;
        let application = Application {
            host: HostName::new("host1").unwrap(),
            command: vec!["/bin/server".to_owned()],
            directory: None,
            environment: BTreeMap::new(),
            user: None,
            mode_control: ModeControl::Socket,
            autostart: true,
            restart: RestartPolicy { auto: true, delay: seconds(1), attempts: 3 },
            notify: true,
            start_limit: seconds(90),
            stop_limit: seconds(90),
            suspend_limit: seconds(10),
            watchdog: Some(seconds(1)),
            on_hang: OnHang::Restart,
            probe: None,
        };
        let pair = Some((PairName::new("sip").unwrap(), Redundancy::Warm));
        let settings = Box::new(Settings { application, pair });
        Self { supervised: fresh(&settings), settings, begun: false, now: Micros(0) }
    }

    fn input(&self, command: &Command) -> Result<Input, Box<dyn Error>> {
        Ok(match command {
            Command::Boot { unwanted } => Input::Booted { wanted: !unwanted },
            Command::Adopt { pid, status, primary, epoch, unwanted } => {
                let mode = if *primary { RunMode::Primary } else { RunMode::Backup };
                Input::Adopted { pid: *pid, saved: saved(status, Some(mode), *epoch, !unwanted)? }
            }
            Command::Gone { status, unwanted } => {
                Input::FoundGone { saved: saved(status, None, 0, !unwanted)? }
            }
            Command::Start(ref_id) => Input::StartOrdered { ref_id: RefId(*ref_id) },
            Command::Stop { ref_id, graceful } => {
                Input::StopOrdered { ref_id: RefId(*ref_id), graceful: *graceful }
            }
            Command::Mode { ref_id, mode, epoch } => {
                Input::RunModeOrdered { ref_id: RefId(*ref_id), mode: mode_of(mode)?, epoch: Epoch(*epoch) }
            }
            Command::Epoch(epoch) => Input::EpochSeen(Epoch(*epoch)),
            Command::Spawned(pid) => Input::Spawned { pid: *pid },
            Command::SpawnFailed(why) => Input::SpawnFailed { why: why.clone() },
            Command::Exited(code) => Input::Exited(Exit::Code(*code)),
            Command::Signalled(signal) => Input::Exited(Exit::Signal(*signal)),
            Command::Dying(signal) => Input::Dying(Exit::Signal(*signal)),
            Command::Notify(lines) => Input::Notified(notice(lines)?),
            Command::Connected => Input::ModeSocket { connected: true },
            Command::Disconnected => Input::ModeSocket { connected: false },
            Command::Told { mode, epoch, ref_id } => {
                Input::ModeTold { ref_id: ref_id.map(RefId), mode: mode_of(mode)?, epoch: Epoch(*epoch) }
            }
            Command::Confirmed { ref_id, why } => {
                Input::ModeCommandEnded { ref_id: RefId(*ref_id), result: why.clone().map_or(Ok(()), Err) }
            }
            Command::Synced(synced) => Input::Synced(*synced),
            Command::Suspending => Input::SuspendingTold,
            Command::Suspended => Input::SuspendedTold,
            Command::Probe { why } => Input::Probed(why.clone().map_or(Ok(()), Err)),
            Command::Stalled(time) => Input::Stalled(domain::parse_duration(time)?),
            Command::Unconfigure => Input::Reconfigured(None),
            Command::Settings(_) => Input::Reconfigured(Some(self.settings.clone())),
            Command::Wait(_) => Input::TimePassed,
        })
    }

    fn configure(&mut self, changes: &BTreeMap<String, String>) -> Result<(), Box<dyn Error>> {
        let application = &mut self.settings.application;
        for (name, value) in changes {
            let duration = || domain::parse_duration(value);
            match name.as_str() {
                "notify" => application.notify = value.parse()?,
                "autostart" => application.autostart = value.parse()?,
                "restart" => application.restart.auto = value.parse()?,
                "attempts" => application.restart.attempts = value.parse()?,
                "start-limit" => application.start_limit = duration()?,
                "watchdog" => application.watchdog = if value == "none" { None } else { Some(duration()?) },
                "on-hang" if value == "report" => application.on_hang = OnHang::Report,
                "probe-failures" => {
                    let kind = ProbeKind::Tcp { target: "127.0.0.1:5060".parse()? };
                    let every = Duration::from_secs(1);
                    application.probe = Some(Probe { kind, every, timeout: every, failures: value.parse()? });
                }
                "mode-control" => {
                    application.mode_control = match value.as_str() {
                        "socket" => ModeControl::Socket,
                        "none" => ModeControl::None,
                        "signal" => ModeControl::Signal { primary: Signal::Usr1, backup: Signal::Usr2 },
                        "command" => ModeControl::Command {
                            command: vec!["/bin/mode".to_owned()],
                            time_limit: Duration::from_secs(5),
                        },
                        other => return Err(format!("no mode control {other}").into()),
                    }
                }
                "hot" => self.settings.pair = Some((PairName::new("sip")?, Redundancy::Hot)),
                other => return Err(format!("no setting {other}={value}").into()),
            }
        }
        Ok(())
    }

    fn step(&mut self, input: Input, text: &mut String) {
        let mut out = Actions::new();
        self.supervised.step(input, self.now, &mut out);
        assert!(
            self.supervised.next_deadline().is_none_or(|at| at > self.now || text_alone(&self.supervised))
        );
        for action in out {
            writeln!(text, "{} {}", clock(self.now), show(&action)).unwrap();
        }
    }
}

impl goldenscript::Runner for Transcript {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        match command {
            Command::Settings(changes) => {
                self.configure(changes)?;
                if !self.begun {
                    self.supervised = fresh(&self.settings);
                    return Ok(text);
                }
                self.step(Input::Reconfigured(Some(self.settings.clone())), &mut text);
            }
            Command::Wait(time) => {
                let end = self.now + domain::parse_duration(time)?;
                for _ in 0..100 {
                    let Some(due) = self.supervised.next_deadline().filter(|due| *due <= end) else { break };
                    self.now = self.now.max(due);
                    self.step(Input::TimePassed, &mut text);
                }
                self.now = end;
                assert!(
                    self.supervised.next_deadline().is_none_or(|due| due > end),
                    "a deadline that never ends"
                );
            }
            other => {
                self.begun = true;
                let input = self.input(other)?;
                self.step(input, &mut text);
            }
        }
        Ok(text)
    }
}

/// A text that is to be told at once is the only deadline that may be due when a step ends.
fn text_alone(supervised: &Supervised) -> bool {
    supervised.text_due.is_some() && supervised.text_due == supervised.next_deadline()
}

fn fresh(settings: &Settings) -> Supervised {
    Supervised::new(
        &HostName::new("host1").unwrap(),
        &AppName::new("sip1").unwrap(),
        Box::new(settings.clone()),
    )
}

fn saved(status: &str, mode: Option<RunMode>, epoch: u64, wanted: bool) -> Result<Saved, Box<dyn Error>> {
    let all = [
        AppStatus::Stopped,
        AppStatus::StartPending,
        AppStatus::Initializing,
        AppStatus::Started,
        AppStatus::ServiceUnavailable,
        AppStatus::Suspending,
        AppStatus::Suspended,
        AppStatus::StopPending,
    ];
    let status = all.into_iter().find(|s| s.to_string() == status).ok_or("no such status")?;
    let epoch = Epoch(epoch);
    Ok(Saved { wanted, status, mode, epoch, greatest: epoch, promised: true, synced: true, restarts: 0 })
}

fn mode_of(text: &str) -> Result<RunMode, Box<dyn Error>> {
    [RunMode::Primary, RunMode::Backup, RunMode::Exiting]
        .into_iter()
        .find(|mode| mode.to_string() == text)
        .ok_or_else(|| "no such mode".into())
}

fn notice(lines: &[String]) -> Result<Notice, Box<dyn Error>> {
    let mut notice = Notice::default();
    for line in lines {
        match line.split_once(':') {
            None if line == "ready" => notice.ready = true,
            None if line == "alive" => notice.alive = true,
            None if line == "broken" => notice.broken = true,
            None if line == "stopping" => notice.stopping = true,
            None if line == "reloading" => notice.reloading = true,
            Some(("text", text)) => notice.text = Some(text.to_owned()),
            Some(("extend", time)) => notice.extend = Some(domain::parse_duration(time)?),
            Some(("watchdog", time)) => notice.watchdog = Some(domain::parse_duration(time)?),
            _ => return Err(format!("no notice {line}").into()),
        }
    }
    Ok(notice)
}

fn clock(at: Micros) -> String {
    format!("{:>3}.{:03}", at.0 / 1_000_000, at.0 / 1_000 % 1_000)
}

fn show(action: &Action) -> String {
    match action {
        Action::Spawn => "SPAWN".to_owned(),
        Action::Terminate => "SIGTERM".to_owned(),
        Action::KillAll => "SIGKILL to all".to_owned(),
        Action::ReleaseVips => "release VIPs".to_owned(),
        Action::Probe { on } => format!("probing {}", if *on { "begins" } else { "ends" }),
        Action::TellMode { ref_id, mode, epoch } => format!("tell {ref_id} {mode} epoch {epoch}"),
        Action::TellSuspend => "tell suspend".to_owned(),
        Action::Report(report) => {
            let mut text = format!("report {}", report.status);
            match report.mode {
                Some(mode) => write!(text, " {mode} epoch {}", report.epoch).unwrap(),
                None => text.push_str(" no mode"),
            }
            if !report.synced {
                text.push_str(" not synced");
            }
            if let Some(pid) = report.pid {
                write!(text, " pid {pid}").unwrap();
            }
            if report.restarts > 0 {
                write!(text, " restarts {}", report.restarts).unwrap();
            }
            if let Some(cause) = &report.cause {
                write!(text, " ({cause})").unwrap();
            }
            if !report.text.is_empty() {
                write!(text, " {:?}", report.text).unwrap();
            }
            text
        }
        Action::Answer(Answer { ref_id, outcome: AnswerOutcome::Done }) => format!("answer {ref_id} done"),
        Action::Answer(Answer { ref_id, outcome: AnswerOutcome::Refused { why } }) => {
            format!("answer {ref_id} refused: {why}")
        }
        Action::Answer(Answer { ref_id, outcome: AnswerOutcome::Stale { seen } }) => {
            format!("answer {ref_id} refused: its epoch is older than {seen}")
        }
        Action::Log(event) => format!("log {} {}", event.id, event.text),
        Action::Forget => "forget".to_owned(),
    }
}
