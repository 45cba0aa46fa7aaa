//! Signs of life: sd_notify, heartbeats that were promised, probes from outside.

use super::{Action, Actions, Notice, Phase, Supervised};
use domain::{Cause, Micros, OnHang, events};
use std::time::Duration;

/// Bounds of what an application may ask for with `WATCHDOG_USEC=`.
const WATCHDOG_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3_600));
/// Longest extension of a limit that one `EXTEND_TIMEOUT_USEC=` is given.
const LONGEST_EXTENSION: Duration = Duration::from_secs(3_600);

impl Supervised {
    pub(super) fn notified(&mut self, notice: Notice, now: Micros, out: &mut Actions) {
        if !self.phase.has_process() {
            return;
        }
        if let Some(pid) = notice.main_pid {
            self.pid = Some(pid);
        }
        if let Some(text) = notice.text {
            self.set_text(text, now);
        }
        if let Some(by) = notice.extend {
            self.extend_limit(by.min(LONGEST_EXTENSION), now);
        }
        if let Some(limit) = notice.watchdog {
            self.watchdog = Some(limit.clamp(WATCHDOG_BOUNDS.0, WATCHDOG_BOUNDS.1));
        }
        if notice.alive || notice.reloading || notice.watchdog.is_some() {
            self.promised |= notice.alive;
            self.arm_watchdog(now);
        }
        if notice.ready {
            self.promised |= self.settings.application.watchdog.is_some();
            self.ready(now, out);
        }
        if notice.stopping {
            self.stopping_told(now);
        }
        if notice.broken {
            self.hung(now, out);
        } else if notice.alive && self.phase == Phase::Unavailable && self.cause == Some(Cause::Hung) {
            self.able_again(now, out);
        }
    }

    /// Silence counts from now. Only one that is ready and has promised heartbeats is waited for: by `WATCHDOG=1`, or
    /// by `READY=1` where it was told in `WATCHDOG_USEC` that they are expected, as with systemd.
    pub(super) fn arm_watchdog(&mut self, now: Micros) {
        let waits = match self.phase {
            Phase::Started | Phase::Unavailable | Phase::SuspendAsked { .. } | Phase::Suspending => true,
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::Initializing { .. }
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => false,
        };
        let Some(limit) = self.settings.application.watchdog else { return };
        if waits && self.promised {
            self.watchdog_due = Some(now + self.watchdog.unwrap_or(limit));
        }
    }

    pub(super) fn hung(&mut self, now: Micros, out: &mut Actions) {
        self.watchdog_due = None;
        self.unable(Cause::Hung, now, out);
    }

    pub(super) fn probed(&mut self, result: Result<(), String>, now: Micros, out: &mut Actions) {
        let Some(probe) = &self.settings.application.probe else { return };
        let allowed = probe.failures;
        match result {
            Ok(()) => {
                self.failures = 0;
                if matches!(self.phase, Phase::Initializing { .. }) && !self.settings.application.notify {
                    self.ready(now, out);
                } else if self.phase == Phase::Unavailable
                    && matches!(self.cause, Some(Cause::ProbeFailed(_)))
                {
                    self.able_again(now, out);
                }
            }
            // Before it is ready the start-up limit is what counts, and on its way out the shutdown limit.
            Err(why) if self.phase == Phase::Started => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= allowed {
                    self.unable(Cause::ProbeFailed(why), now, out);
                }
            }
            Err(_) => {}
        }
    }

    fn unable(&mut self, cause: Cause, now: Micros, out: &mut Actions) {
        let detail = cause.to_string();
        let ordered = match self.phase {
            Phase::Started => false,
            Phase::Unavailable if self.cause.as_ref() == Some(&cause) => return,
            Phase::Unavailable => false,
            Phase::SuspendAsked { .. } | Phase::Suspending => true,
            Phase::Stopped { .. }
            | Phase::Starting
            | Phase::Initializing { .. }
            | Phase::Stopping { .. }
            | Phase::Dying
            | Phase::Killing { .. } => return,
        };
        self.cause = Some(cause);
        match self.settings.application.on_hang {
            OnHang::Restart => {
                if self.settings.pair.is_some() {
                    out.push_back(Action::ReleaseVips);
                }
                self.kill(ordered, out);
            }
            OnHang::Report if ordered => return,
            OnHang::Report => self.phase = Phase::Unavailable,
        }
        self.tell(out);
        self.log(events::APP_NOT_ABLE, Some(&detail), now, out);
    }

    fn able_again(&mut self, now: Micros, out: &mut Actions) {
        self.phase = Phase::Started;
        self.cause = None;
        self.tell(out);
        self.log(events::APP_ABLE, None, now, out);
    }
}
