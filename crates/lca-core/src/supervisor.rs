//! What the agent decides about one application: when it is started, stopped, killed, restarted, and what is told about
//! it. A pure state machine: inputs and the time go in, actions come out; processes, sockets and clocks are elsewhere.

mod health;
mod life;
mod modes;
mod restart;
#[cfg(test)]
mod tests;

use crate::keeper::Server;
use domain::{
    Answer, AnswerOutcome, AppName, AppReport, AppStatus, Application, Cause, Epoch, EventId, HostName,
    LogEvent, Micros, PairName, Redundancy, RefId, RunMode,
};
use modes::Modes;
use restart::Backoff;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Longest `text` of a report, bytes.
const MAX_TEXT: usize = 1_024;
/// A change of `STATUS=` alone is told at most this often.
const TEXT_PACE: Duration = Duration::from_secs(1);

/// What happened to an application.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The agent starts and there is no process; `wanted` says whether there should be one.
    Booted {
        /// Start it.
        wanted: bool,
    },
    /// The agent starts again and the process that it had started before still lives.
    Adopted {
        /// Its process id.
        pid: u32,
        /// What the agent's last run knew.
        saved: Saved,
    },
    /// The agent starts again and the process ended while no agent was there.
    FoundGone {
        /// What the agent's last run knew.
        saved: Saved,
    },
    /// The SCS orders a start.
    StartOrdered {
        /// To answer to.
        ref_id: RefId,
    },
    /// The SCS orders a stop.
    StopOrdered {
        /// To answer to.
        ref_id: RefId,
        /// Let it finish what is in hand first.
        graceful: bool,
    },
    /// The SCS orders a run mode.
    RunModeOrdered {
        /// To answer to.
        ref_id: RefId,
        /// The mode.
        mode: RunMode,
        /// The pair's epoch.
        epoch: Epoch,
    },
    /// A message showed an epoch of the pair (a launch does).
    EpochSeen(Epoch),
    /// The configuration changed; `None`: the application is no longer part of it.
    Reconfigured(Option<Box<Settings>>),
    /// The process runs.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// The process could not be made.
    SpawnFailed {
        /// Why.
        why: String,
    },
    /// The process is dying; [`Input::Exited`] follows when the kernel is done with it.
    Dying(Exit),
    /// The process ended.
    Exited(Exit),
    /// A datagram came on the notify socket.
    Notified(Notice),
    /// The mode socket is connected, or no longer.
    ModeSocket {
        /// Connected.
        connected: bool,
    },
    /// The application told its run mode.
    ModeTold {
        /// The instruction it answers, if any.
        ref_id: Option<RefId>,
        /// The mode.
        mode: RunMode,
        /// The epoch of the instruction that led to it.
        epoch: Epoch,
    },
    /// The mode command ended.
    ModeCommandEnded {
        /// The instruction it was run for.
        ref_id: RefId,
        /// Exit code 0, or what went wrong.
        result: Result<(), String>,
    },
    /// The application told whether it has what it needs to take over.
    Synced(bool),
    /// The application began its graceful stop.
    SuspendingTold,
    /// The application has nothing in hand any more.
    SuspendedTold,
    /// A probe ended.
    Probed(Result<(), String>),
    /// The agent itself was late by this much; no limit that it watches may count that time.
    Stalled(Duration),
    /// Time passed.
    TimePassed,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Not known: it is not the agent's child.
    Unknown,
}

impl Exit {
    /// What became of a process that nobody told to end.
    fn by_itself(self) -> Cause {
        match self {
            Exit::Code(code) => Cause::Exited(code),
            Exit::Signal(signal) => Cause::Killed(signal),
            Exit::Unknown => Cause::Ended,
        }
    }
}

/// What the application said by sd_notify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `WATCHDOG=1`.
    pub alive: bool,
    /// `WATCHDOG=trigger`: the application itself says that it is broken.
    pub broken: bool,
    /// `WATCHDOG_USEC=`.
    pub watchdog: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`.
    pub extend: Option<Duration>,
    /// `STATUS=`.
    pub text: Option<String>,
    /// `MAINPID=`, already checked by the driver.
    pub main_pid: Option<u32>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the process.
    Spawn,
    /// SIGTERM to the main process.
    Terminate,
    /// SIGKILL to every process of the application.
    KillAll,
    /// Remove the VIPs of its pair that the agent holds; the report behind it names them.
    ReleaseVips,
    /// Begin or end probing.
    Probe {
        /// Begin.
        on: bool,
    },
    /// Pass a run mode on by the configured way.
    TellMode {
        /// To be answered.
        ref_id: RefId,
        /// The mode.
        mode: RunMode,
        /// The epoch.
        epoch: Epoch,
    },
    /// Ask for a graceful stop.
    TellSuspend,
    /// Report to the SCS.
    Report(Box<AppReport>),
    /// Answer the SCS.
    Answer(Answer),
    /// Log an event.
    Log(Box<LogEvent>),
    /// The application is gone and no longer configured: drop it.
    Forget,
}

/// What is configured for an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// As in the cluster file.
    pub application: Application,
    /// The pair it is a member of.
    pub pair: Option<(PairName, Redundancy)>,
}

/// What must be known again after the agent's own restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Whether it is wanted to run.
    pub wanted: bool,
    /// Last status.
    pub status: AppStatus,
    /// Last confirmed mode.
    pub mode: Option<RunMode>,
    /// The epoch of that mode.
    pub epoch: Epoch,
    /// The greatest epoch seen for its pair.
    pub greatest: Epoch,
    /// Whether it has promised heartbeats.
    pub promised: bool,
    /// Whether it has what it needs to take over.
    pub synced: bool,
    /// Restarts since it was started by order.
    pub restarts: u32,
}

/// One application under supervision.
///
/// ```text
///            Spawn            Spawned           READY=1 / first good probe / at once
///  Stopped ─────────> Starting ─────> Initializing ─────────────────────> Started <───┐ good
///   ^   ^                │                 │ start limit                 │   │ bad    │ probe
///   │   │   SpawnFailed  │                 v            watchdog, probes │   v        │
///   │   └────────────────┘     ┌──────> Killing <──────────────────────┤  Unavailable┘
///   │                          │           ^  (SIGKILL)    on_hang      │   (on_hang = report)
///   │                          │           │ stop limit    = restart    │
///   │ Exited, from every state │           │                            │ stop ordered, graceful
///   │ with a process           │       Stopping <── Suspending <── SuspendAsked
///   └──────────────────────────┘       (SIGTERM)  SuspendedTold   │
///     then, where it is wanted:            ^       SuspendingTold │ suspend limit
///     back-off, Spawn, or given up         └──────────────────────┘
/// ```
///
/// `wanted` (what an operator or the configuration asks for) and `phase` (what is known) are two things: every end of a
/// process compares them anew. A run mode counts only when the application confirmed it.
#[derive(Debug)]
pub struct Supervised {
    host: HostName,
    app: AppName,
    settings: Box<Settings>,
    wanted: bool,
    removed: bool,
    phase: Phase,
    cause: Option<Cause>,
    pid: Option<u32>,
    text: String,
    text_due: Option<Micros>,
    text_told: Micros,
    restarts: u32,
    backoff: Backoff,
    modes: Modes,
    promised: bool,
    /// The process is of an earlier run of the agent, and may have said `READY=1` to nobody.
    unheard: bool,
    watchdog: Option<Duration>,
    watchdog_due: Option<Micros>,
    failures: u32,
    told: Option<Box<AppReport>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// No process.
    Stopped { restart_at: Option<Micros> },
    /// The worker makes the process.
    Starting,
    /// Not ready yet.
    Initializing { limit: Micros },
    /// Ready and able.
    Started,
    /// Runs and cannot provide service.
    Unavailable,
    /// Was asked to begin its graceful stop and has not said that it did.
    SuspendAsked { limit: Micros },
    /// Finishes what is in hand. Without a limit: calls may take hours, an operator can stop it hard.
    Suspending,
    /// SIGTERM was sent, or it said `STOPPING=1` by itself (then it is not ordered).
    Stopping { limit: Micros, ordered: bool },
    /// The kernel takes it apart: what is told of it is that it has ended.
    Dying,
    /// SIGKILL was sent. Without a limit: there is nothing stronger.
    Killing { ordered: bool },
}

/// Actions in the order in which they are to be carried out.
pub type Actions = VecDeque<Action>;

impl Supervised {
    /// An application of which nothing is known yet.
    #[must_use]
    pub fn new(host: &HostName, app: &AppName, settings: Box<Settings>) -> Self {
        Self {
            host: host.clone(),
            app: app.clone(),
            modes: Modes::default(),
            wanted: false,
            removed: false,
            phase: Phase::Stopped { restart_at: None },
            cause: None,
            pid: None,
            text: String::new(),
            text_due: None,
            text_told: Micros(0),
            restarts: 0,
            backoff: Backoff::default(),
            promised: false,
            unheard: false,
            watchdog: None,
            watchdog_due: None,
            failures: 0,
            told: None,
            settings,
        }
    }

    /// Takes in what happened and appends what is to be done to `out`.
    pub fn step(&mut self, input: Input, now: Micros, out: &mut Actions) {
        match input {
            Input::Booted { wanted } => self.booted(wanted, now, out),
            Input::Adopted { pid, saved } => self.adopted(pid, saved, now, out),
            Input::FoundGone { saved } => self.found_gone(saved, now, out),
            Input::StartOrdered { ref_id } => self.start_ordered(ref_id, now, out),
            Input::StopOrdered { ref_id, graceful } => self.stop_ordered(ref_id, graceful, now, out),
            Input::RunModeOrdered { ref_id, mode, epoch } => {
                self.run_mode_ordered(ref_id, mode, epoch, now, out)
            }
            Input::EpochSeen(epoch) => self.modes.saw(epoch),
            Input::Reconfigured(Some(settings)) => self.reconfigured(settings, now, out),
            Input::Reconfigured(None) => self.unconfigured(now, out),
            Input::Spawned { pid } => self.spawned(pid, now, out),
            Input::SpawnFailed { why } => self.spawn_failed(why, now, out),
            Input::Dying(exit) => self.dying(exit, now, out),
            Input::Exited(exit) => self.exited(exit, now, out),
            Input::Notified(notice) => self.notified(notice, now, out),
            Input::ModeSocket { connected } => self.mode_socket(connected, out),
            Input::ModeTold { ref_id, mode, epoch } => self.mode_told(ref_id, mode, epoch, now, out),
            Input::ModeCommandEnded { ref_id, result } => self.mode_command_ended(ref_id, result, out),
            Input::Synced(synced) => self.modes.synced = synced,
            Input::SuspendingTold => self.suspending_told(),
            Input::SuspendedTold => self.suspended_told(now, out),
            Input::Probed(result) => self.probed(result, now, out),
            Input::Stalled(time) => self.grant(time),
            Input::TimePassed => self.time_passed(now, out),
        }
        self.tell(out);
    }

    /// When [`Input::TimePassed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        [self.phase.limit(), self.watchdog_due, self.text_due, self.modes.limit()].into_iter().flatten().min()
    }

    /// What is to be known again after the agent's own restart.
    #[must_use]
    pub fn saved(&self) -> Saved {
        Saved {
            wanted: self.wanted,
            status: self.status(),
            mode: self.modes.current,
            epoch: self.modes.epoch,
            greatest: self.modes.greatest,
            promised: self.promised,
            synced: self.modes.synced,
            restarts: self.restarts,
        }
    }

    /// The report as it stands.
    #[must_use]
    pub fn report(&self) -> AppReport {
        AppReport {
            app: self.app.clone(),
            status: self.status(),
            mode: self.modes.current,
            epoch: self.modes.epoch,
            synced: self.modes.synced,
            pid: self.pid,
            cause: self.cause.clone(),
            text: self.text.clone(),
            restarts: self.restarts,
            released: Vec::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether it is no longer configured and only waits for its process to end.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Whether it confirmed that it is primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.modes.current == Some(RunMode::Primary)
    }

    /// What it is to the lease on its pair's VIPs.
    #[must_use]
    pub fn server(&self) -> Server {
        let by_order = !self.wanted || self.cause == Some(Cause::Ordered);
        match self.phase {
            Phase::Stopped { .. } | Phase::Starting | Phase::Dying | Phase::Killing { .. } => {
                Server::Absent { by_order }
            }
            Phase::Unavailable => match self.modes.primary() {
                Some(granted) => Server::Broken { granted },
                None => Server::Absent { by_order },
            },
            Phase::Initializing { .. }
            | Phase::Started
            | Phase::SuspendAsked { .. }
            | Phase::Suspending
            | Phase::Stopping { .. } => match self.modes.primary() {
                Some(granted) => Server::Primary { granted },
                None if self.phase == Phase::Started && self.modes.stands_by() => Server::Ready,
                None => Server::Absent { by_order },
            },
        }
    }

    /// The greatest epoch seen for its pair.
    #[must_use]
    pub fn greatest_epoch(&self) -> Epoch {
        self.modes.greatest
    }

    fn status(&self) -> AppStatus {
        match self.phase {
            Phase::Stopped { .. } => AppStatus::Stopped,
            Phase::Starting => AppStatus::StartPending,
            Phase::Initializing { .. } => AppStatus::Initializing,
            Phase::Started => AppStatus::Started,
            Phase::Unavailable => AppStatus::ServiceUnavailable,
            // Asked is not reported: until it answers it serves as before.
            Phase::SuspendAsked { .. } => AppStatus::Started,
            Phase::Suspending => AppStatus::Suspending,
            Phase::Stopping { .. } => AppStatus::StopPending,
            Phase::Dying => AppStatus::Stopped,
            Phase::Killing { .. } if matches!(self.cause, Some(Cause::Hung | Cause::ProbeFailed(_))) => {
                AppStatus::ServiceUnavailable
            }
            Phase::Killing { .. } => AppStatus::StopPending,
        }
    }

    /// Reports what changed, if anything did. Called before an answer or a log event, so that the SCS reads the
    /// change first; a change of the text alone is paced.
    fn tell(&mut self, out: &mut Actions) {
        let report = self.report();
        if let Some(told) = &self.told {
            if **told == report {
                return;
            }
            let text_alone = AppReport { text: told.text.clone(), ..report.clone() } == **told;
            if text_alone && self.text_due.is_some() {
                return;
            }
        }
        self.text_due = None;
        self.told = Some(Box::new(report.clone()));
        out.push_back(Action::Report(Box::new(report)));
    }

    fn log(&self, id: EventId, detail: Option<&str>, now: Micros, out: &mut Actions) {
        let event = LogEvent::new(id, now).on(&self.host).of(&self.app);
        let event = match detail {
            Some(detail) => event.because(detail),
            None => event,
        };
        let event = match &self.settings.pair {
            Some((pair, _)) => event.with("pair", pair),
            None => event,
        };
        out.push_back(Action::Log(Box::new(event)));
    }

    fn answer(&mut self, ref_id: RefId, outcome: AnswerOutcome, out: &mut Actions) {
        self.tell(out);
        out.push_back(Action::Answer(Answer { ref_id, outcome }));
    }

    fn set_text(&mut self, mut text: String, now: Micros) {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        if text != self.text {
            self.text = text;
            self.text_due = Some(now.max(self.text_told + TEXT_PACE));
        }
    }

    fn time_passed(&mut self, now: Micros, out: &mut Actions) {
        if self.text_due.is_some_and(|due| due <= now) {
            self.text_due = None;
            self.text_told = now;
        }
        self.modes_time_passed(now, out);
        if self.watchdog_due.is_some_and(|due| due <= now) {
            self.hung(now, out);
        }
        if self.phase.limit().is_some_and(|limit| limit <= now) {
            self.limit_reached(now, out);
        }
    }

    /// Moves every limit by the time for which the agent itself was late.
    fn grant(&mut self, time: Duration) {
        match &mut self.phase {
            Phase::Initializing { limit } | Phase::SuspendAsked { limit } | Phase::Stopping { limit, .. } => {
                *limit += time;
            }
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::Started
            | Phase::Unavailable
            | Phase::Suspending
            | Phase::Dying
            | Phase::Killing { .. } => {}
        }
        if let Some(due) = &mut self.watchdog_due {
            *due += time;
        }
        self.modes.grant(time);
        // A probe may have failed only because the agent did not look at its answer in time.
        if self.settings.application.probe.as_ref().is_some_and(|probe| time >= probe.timeout) {
            self.failures = 0;
        }
    }
}

impl Phase {
    fn limit(&self) -> Option<Micros> {
        match self {
            Phase::Stopped { restart_at } => *restart_at,
            Phase::Initializing { limit } | Phase::SuspendAsked { limit } | Phase::Stopping { limit, .. } => {
                Some(*limit)
            }
            Phase::Starting
            | Phase::Started
            | Phase::Unavailable
            | Phase::Suspending
            | Phase::Dying
            | Phase::Killing { .. } => None,
        }
    }

    fn has_process(&self) -> bool {
        match self {
            Phase::Stopped { .. } | Phase::Starting => false,
            Phase::Initializing { .. }
            | Phase::Started
            | Phase::Unavailable
            | Phase::SuspendAsked { .. }
            | Phase::Suspending
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => true,
        }
    }
}
