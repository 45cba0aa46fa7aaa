//! The life of the process: started, ready, stopped by order, ended by itself.

use super::restart::Next;
use super::{Action, Actions, Exit, Phase, Saved, Settings, Supervised};
use domain::{AnswerOutcome, AppStatus, Cause, Micros, ModeControl, RefId, RunMode, events};
use std::time::Duration;

impl Supervised {
    pub(super) fn booted(&mut self, wanted: bool, now: Micros, out: &mut Actions) {
        self.wanted = wanted;
        if wanted {
            self.spawn(out);
        } else if self.settings.application.autostart {
            // Not started although it is to start by itself: an operator stopped it.
            self.cause = Some(Cause::Ordered);
        }
        self.text_told = now;
    }

    pub(super) fn adopted(&mut self, pid: u32, saved: Saved, now: Micros, out: &mut Actions) {
        let detail = format!("found running as process {pid}");
        let status = saved.status;
        self.resume(saved);
        self.pid = Some(pid);
        let application = &self.settings.application;
        self.phase = match status {
            AppStatus::Unknown | AppStatus::Stopped | AppStatus::StartPending | AppStatus::Initializing => {
                Phase::Initializing { limit: now + application.start_limit }
            }
            AppStatus::Started | AppStatus::ServiceUnavailable => Phase::Started,
            AppStatus::Suspending => Phase::Suspending,
            AppStatus::Suspended | AppStatus::StopPending => {
                out.push_back(Action::Terminate);
                self.cause = (!self.wanted).then_some(Cause::Ordered);
                Phase::Stopping { limit: now + application.stop_limit, ordered: !self.wanted }
            }
        };
        if self.phase == Phase::Started {
            self.backoff.ready(now);
            self.arm_watchdog(now);
        }
        self.unheard = matches!(self.phase, Phase::Initializing { .. });
        out.push_back(Action::Probe { on: true });
        self.tell(out);
        self.log(events::APP_START_DETECTED, Some(&detail), now, out);
        if !self.wanted
            && self.phase.has_process()
            && !matches!(self.phase, Phase::Stopping { .. } | Phase::Suspending)
        {
            self.terminate(now, out);
        }
    }

    pub(super) fn found_gone(&mut self, saved: Saved, now: Micros, out: &mut Actions) {
        let status = saved.status;
        self.resume(saved);
        // Its last phase, so that the end is judged as if it had been seen: a stop that was under way is no failure.
        self.phase = match status {
            AppStatus::Stopped | AppStatus::StartPending | AppStatus::Unknown => {
                self.modes.process_gone();
                return self.booted(self.wanted, now, out);
            }
            AppStatus::Suspending => Phase::Suspending,
            AppStatus::Suspended | AppStatus::StopPending => {
                Phase::Stopping { limit: now, ordered: !self.wanted }
            }
            AppStatus::Initializing | AppStatus::Started | AppStatus::ServiceUnavailable => Phase::Started,
        };
        self.exited(Exit::Unknown, now, out);
    }

    pub(super) fn start_ordered(&mut self, ref_id: RefId, now: Micros, out: &mut Actions) {
        self.wanted = true;
        match self.phase {
            Phase::Stopped { .. } => {
                self.backoff.reset();
                self.restarts = 0;
                self.spawn(out);
            }
            // Runs, or will: a process that is on its way out is followed by a new one.
            Phase::Starting
            | Phase::Initializing { .. }
            | Phase::Started
            | Phase::Unavailable
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => {}
            Phase::SuspendAsked { .. } | Phase::Suspending => self.terminate(now, out),
        }
        self.answer(ref_id, AnswerOutcome::Done, out);
    }

    pub(super) fn stop_ordered(&mut self, ref_id: RefId, graceful: bool, now: Micros, out: &mut Actions) {
        self.wanted = false;
        match self.phase {
            Phase::Stopped { .. } => {
                self.phase = Phase::Stopped { restart_at: None };
                self.cause = Some(Cause::Ordered);
            }
            // `spawned` sees that it is no longer wanted.
            Phase::Starting => {}
            Phase::Started if graceful && self.can_suspend() => {
                out.push_back(Action::TellSuspend);
                self.phase = Phase::SuspendAsked { limit: now + self.settings.application.suspend_limit };
            }
            Phase::SuspendAsked { .. } | Phase::Suspending if graceful => {}
            Phase::Initializing { .. }
            | Phase::Started
            | Phase::Unavailable
            | Phase::SuspendAsked { .. }
            | Phase::Suspending => self.terminate(now, out),
            Phase::Stopping { limit, .. } => self.phase = Phase::Stopping { limit, ordered: true },
            // It is being killed for a failure; that it is stopped now by order too changes only what follows.
            Phase::Dying | Phase::Killing { .. } => {}
        }
        self.answer(ref_id, AnswerOutcome::Done, out);
    }

    pub(super) fn reconfigured(&mut self, settings: Box<Settings>, now: Micros, out: &mut Actions) {
        let probe_changed = self.settings.application.probe != settings.application.probe;
        let returned = std::mem::take(&mut self.removed);
        self.settings = settings;
        if self.settings.application.watchdog.is_none() {
            self.watchdog_due = None;
        } else if self.promised && self.phase == Phase::Started {
            self.arm_watchdog(now);
        }
        if probe_changed && self.phase.has_process() {
            self.failures = 0;
            out.push_back(Action::Probe { on: false });
            out.push_back(Action::Probe { on: true });
        }
        if returned && self.settings.application.autostart {
            self.wanted = true;
            if matches!(self.phase, Phase::Stopped { .. }) {
                self.spawn(out);
            }
        }
    }

    pub(super) fn unconfigured(&mut self, now: Micros, out: &mut Actions) {
        self.wanted = false;
        self.removed = true;
        match self.phase {
            Phase::Stopped { .. } => {
                self.phase = Phase::Stopped { restart_at: None };
                out.push_back(Action::Forget);
            }
            Phase::Starting | Phase::Stopping { .. } | Phase::Dying | Phase::Killing { .. } => {}
            Phase::Initializing { .. }
            | Phase::Started
            | Phase::Unavailable
            | Phase::SuspendAsked { .. }
            | Phase::Suspending => self.terminate(now, out),
        }
    }

    pub(super) fn spawned(&mut self, pid: u32, now: Micros, out: &mut Actions) {
        assert!(self.phase == Phase::Starting, "a process is made only in phase Starting");
        self.pid = Some(pid);
        self.cause = None;
        self.promised = false;
        self.unheard = false;
        self.watchdog = None;
        self.failures = 0;
        self.modes.process_started(&self.settings);
        self.phase = Phase::Initializing { limit: now + self.settings.application.start_limit };
        self.tell(out);
        self.log(events::APP_STARTED, Some(&format!("process {pid}")), now, out);
        if !self.wanted {
            return self.terminate(now, out);
        }
        out.push_back(Action::Probe { on: true });
        if !self.settings.application.notify && !self.settings.probes_readiness() {
            self.ready(now, out);
        }
    }

    pub(super) fn spawn_failed(&mut self, why: String, now: Micros, out: &mut Actions) {
        self.after_failure(Cause::NotStarted(why), false, now, out);
        if self.removed {
            out.push_back(Action::Forget);
        }
    }

    /// Its service ends now, and that is told as its end. What follows on an end waits until the kernel is done with it: a new
    /// process could not have its sockets yet.
    pub(super) fn dying(&mut self, exit: Exit, now: Micros, out: &mut Actions) {
        match self.phase {
            Phase::Initializing { .. } | Phase::Started | Phase::Unavailable => {}
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::SuspendAsked { .. }
            | Phase::Suspending
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => return,
        }
        let cause = exit.by_itself();
        let detail = cause.to_string();
        self.cause = Some(cause);
        if self.settings.pair.is_some() {
            out.push_back(Action::ReleaseVips);
        }
        self.pid = None;
        self.watchdog_due = None;
        self.modes.process_gone();
        self.text.clear();
        self.phase = Phase::Dying;
        self.tell(out);
        self.log(events::APP_TERMINATED, Some(&detail), now, out);
    }

    pub(super) fn exited(&mut self, exit: Exit, now: Micros, out: &mut Actions) {
        let by_itself = exit.by_itself();
        let (cause, ordered) = match self.phase {
            Phase::Stopped { .. } | Phase::Starting => return,
            Phase::Initializing { .. } | Phase::Started | Phase::Unavailable => (by_itself, false),
            Phase::SuspendAsked { .. } | Phase::Suspending => (Cause::Ordered, true),
            Phase::Stopping { ordered: true, .. } => (Cause::Ordered, true),
            Phase::Stopping { ordered: false, .. } => (self.cause.clone().unwrap_or(by_itself), false),
            // What it was dying of may be known better now.
            Phase::Dying => {
                (self.cause.clone().filter(|cause| *cause != Cause::Ended).unwrap_or(by_itself), false)
            }
            Phase::Killing { ordered } => (self.cause.clone().unwrap_or(by_itself), ordered),
        };
        let told = self.phase == Phase::Dying;
        // First what ends the service of a dead primary, then everything else.
        if self.settings.pair.is_some() && !told {
            out.push_back(Action::ReleaseVips);
        }
        self.pid = None;
        self.watchdog_due = None;
        self.modes.process_gone();
        self.text.clear();
        if ordered {
            self.after_stop(cause, now, out)
        } else {
            self.after_failure(cause, told, now, out)
        }
        out.push_back(Action::KillAll);
        out.push_back(Action::Probe { on: false });
        self.refuse_outstanding("the process ended", out);
        if self.removed {
            out.push_back(Action::Forget);
        } else if ordered && self.wanted {
            // A start was ordered while it stopped.
            self.spawn(out);
        }
    }

    fn after_stop(&mut self, cause: Cause, now: Micros, out: &mut Actions) {
        self.backoff.reset();
        self.restarts = 0;
        self.phase = Phase::Stopped { restart_at: None };
        let detail = cause.to_string();
        self.cause = Some(cause);
        self.tell(out);
        self.log(events::APP_STOP_DETECTED, Some(&detail), now, out);
    }

    /// `told`: its end was logged before.
    fn after_failure(&mut self, cause: Cause, told: bool, now: Micros, out: &mut Actions) {
        let detail = cause.to_string();
        let application = &self.settings.application;
        let next = if self.wanted {
            self.backoff.failed(application.restart, application.start_limit, now)
        } else {
            Next::Nothing
        };
        let (restart_at, cause) = match next {
            Next::RestartAt(at) => (Some(at), cause),
            Next::Nothing => (None, cause),
            Next::GivenUp(times) => (None, Cause::GaveUp(times)),
        };
        self.phase = Phase::Stopped { restart_at };
        self.cause = Some(cause);
        self.tell(out);
        if !told {
            self.log(events::APP_TERMINATED, Some(&detail), now, out);
        }
        if let Next::GivenUp(times) = next {
            self.log(events::RESTARTS_GIVEN_UP, Some(&format!("after {times} restarts")), now, out);
        }
    }

    /// It said that it is ready, or its first probe succeeded, or nothing of the kind is asked of it.
    pub(super) fn ready(&mut self, now: Micros, out: &mut Actions) {
        if !matches!(self.phase, Phase::Initializing { .. }) {
            return;
        }
        self.phase = Phase::Started;
        self.backoff.ready(now);
        self.arm_watchdog(now);
        self.tell(out);
        self.log(events::APP_INITIALIZED, None, now, out);
    }

    pub(super) fn suspending_told(&mut self) {
        if matches!(self.phase, Phase::SuspendAsked { .. }) {
            self.phase = Phase::Suspending;
        }
    }

    pub(super) fn suspended_told(&mut self, now: Micros, out: &mut Actions) {
        if matches!(self.phase, Phase::SuspendAsked { .. } | Phase::Suspending) {
            let mut report = self.report();
            report.status = AppStatus::Suspended;
            out.push_back(Action::Report(Box::new(report)));
            self.terminate(now, out);
        }
    }

    /// A limit of the phase is reached.
    pub(super) fn limit_reached(&mut self, now: Micros, out: &mut Actions) {
        match self.phase {
            Phase::Stopped { restart_at } => {
                assert!(restart_at.is_some(), "a stopped application without a restart has no limit");
                self.restarts = self.restarts.saturating_add(1);
                self.spawn(out);
            }
            Phase::Initializing { .. } => {
                self.cause = Some(Cause::StartLimit);
                self.kill(!self.wanted, out);
                self.log(events::START_LIMIT_OVERRUN, None, now, out);
            }
            Phase::SuspendAsked { .. } => {
                self.terminate(now, out);
                self.log(events::SUSPEND_IGNORED, None, now, out);
            }
            Phase::Stopping { ordered, .. } => {
                self.cause = Some(Cause::StopLimit);
                self.kill(ordered, out);
                self.log(events::STOP_LIMIT_OVERRUN, None, now, out);
            }
            Phase::Starting
            | Phase::Started
            | Phase::Unavailable
            | Phase::Suspending
            | Phase::Dying
            | Phase::Killing { .. } => {
                unreachable!("these phases have no limit")
            }
        }
    }

    pub(super) fn extend_limit(&mut self, by: Duration, now: Micros) {
        match &mut self.phase {
            Phase::Initializing { limit } | Phase::SuspendAsked { limit } | Phase::Stopping { limit, .. } => {
                *limit = (*limit).max(now + by);
            }
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::Started
            | Phase::Unavailable
            | Phase::Suspending
            | Phase::Dying
            | Phase::Killing { .. } => {}
        }
    }

    /// It said by itself that it is about to end.
    pub(super) fn stopping_told(&mut self, now: Micros) {
        let limit = now + self.settings.application.stop_limit;
        match self.phase {
            Phase::Initializing { .. } | Phase::Started | Phase::Unavailable => {
                self.phase = Phase::Stopping { limit, ordered: false };
                self.watchdog_due = None;
            }
            Phase::SuspendAsked { .. } | Phase::Suspending => {
                self.phase = Phase::Stopping { limit, ordered: true };
                self.watchdog_due = None;
            }
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => {}
        }
    }

    fn terminate(&mut self, now: Micros, out: &mut Actions) {
        self.phase = Phase::Stopping { limit: now + self.settings.application.stop_limit, ordered: true };
        self.cause = Some(Cause::Ordered);
        self.watchdog_due = None;
        out.push_back(Action::Terminate);
        self.tell(out);
    }

    pub(super) fn kill(&mut self, ordered: bool, out: &mut Actions) {
        self.phase = Phase::Killing { ordered };
        self.watchdog_due = None;
        out.push_back(Action::KillAll);
        self.tell(out);
    }

    fn spawn(&mut self, out: &mut Actions) {
        self.phase = Phase::Starting;
        self.cause = None;
        out.push_back(Action::Spawn);
        self.tell(out);
    }

    fn can_suspend(&self) -> bool {
        self.settings.speaks() && self.modes.connected
    }

    fn resume(&mut self, saved: Saved) {
        self.wanted = saved.wanted;
        self.promised = saved.promised;
        self.restarts = saved.restarts;
        self.modes.resume(&saved);
    }
}

impl Settings {
    /// Whether it is ready when its probe first succeeds.
    pub(super) fn probes_readiness(&self) -> bool {
        use domain::ProbeKind::{Command, Http, Process, SipOptions, Tcp};
        match self.application.probe.as_ref().map(|probe| &probe.kind) {
            None | Some(Process) => false,
            Some(Tcp { .. } | Http { .. } | SipOptions { .. } | Command { .. }) => true,
        }
    }

    /// Whether it is spoken to over the mode socket.
    #[must_use]
    pub fn speaks(&self) -> bool {
        match self.application.mode_control {
            ModeControl::Socket => self.pair.is_some(),
            ModeControl::Command { .. } | ModeControl::Signal { .. } | ModeControl::None => false,
        }
    }

    /// The mode in which it comes up, as far as that is known without it saying so: unknown is backup.
    pub(super) fn first_mode(&self) -> Option<RunMode> {
        (self.pair.is_some() && !self.speaks()).then_some(RunMode::Backup)
    }
}
