//! Run modes: what was instructed, what the application confirmed, and the epoch that fences old instructions off.

use super::{Action, Actions, Saved, Settings, Supervised};
use domain::{AnswerOutcome, Epoch, Micros, ModeControl, Redundancy, RefId, RunMode};
use std::time::Duration;

/// How long an application may take to confirm a run mode by its socket.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than its own limit a mode command may take until its end is known here.
const COMMAND_SLACK: Duration = Duration::from_secs(2);

/// What is known and what is asked.
#[derive(Debug)]
pub(super) struct Modes {
    /// Confirmed by the application.
    pub(super) current: Option<RunMode>,
    /// The epoch of the instruction that led to `current`.
    pub(super) epoch: Epoch,
    /// The greatest epoch seen for the pair, by whatever message.
    pub(super) greatest: Epoch,
    /// Whether it has what it needs to take over.
    pub(super) synced: bool,
    /// Whether the mode socket is connected.
    pub(super) connected: bool,
    outstanding: Option<Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    ref_id: RefId,
    mode: RunMode,
    epoch: Epoch,
    limit: Micros,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            current: None,
            epoch: Epoch(0),
            greatest: Epoch(0),
            synced: true,
            connected: false,
            outstanding: None,
        }
    }
}

impl Modes {
    pub(super) fn saw(&mut self, epoch: Epoch) {
        self.greatest = self.greatest.max(epoch);
    }

    pub(super) fn process_started(&mut self, settings: &Settings) {
        self.current = settings.first_mode();
        self.epoch = Epoch(0);
        self.connected = false;
        let copies = settings.pair.as_ref().is_some_and(|(_, kind)| *kind == Redundancy::Hot);
        // One that keeps a live copy says so itself; any other needs nothing.
        self.synced = !(copies && settings.speaks());
    }

    pub(super) fn process_gone(&mut self) {
        self.current = None;
        self.epoch = Epoch(0);
        self.synced = true;
        self.connected = false;
    }

    pub(super) fn resume(&mut self, saved: &Saved) {
        self.current = saved.mode;
        self.epoch = saved.epoch;
        self.greatest = self.greatest.max(saved.greatest).max(saved.epoch);
        self.synced = saved.synced;
    }

    /// The newest grant by which it is primary, or was told to be.
    pub(super) fn primary(&self) -> Option<Epoch> {
        let is = (self.current == Some(RunMode::Primary)).then_some(self.epoch);
        let told = self.outstanding.as_ref().filter(|o| o.mode == RunMode::Primary).map(|o| o.epoch);
        is.max(told)
    }

    /// Whether it is a backup. Whether it has what the primary has is asked where a change is planned; what the agent does
    /// by itself follows a failure, and then whatever it has is more than nothing.
    pub(super) fn stands_by(&self) -> bool {
        self.current == Some(RunMode::Backup)
    }

    pub(super) fn limit(&self) -> Option<Micros> {
        self.outstanding.as_ref().map(|o| o.limit)
    }

    pub(super) fn grant(&mut self, time: Duration) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.limit += time;
        }
    }
}

impl Supervised {
    pub(super) fn run_mode_ordered(
        &mut self,
        ref_id: RefId,
        mode: RunMode,
        epoch: Epoch,
        now: Micros,
        out: &mut Actions,
    ) {
        let refused = |why: String| AnswerOutcome::Refused { why };
        if epoch < self.modes.greatest {
            return self.answer(ref_id, AnswerOutcome::Stale { seen: self.modes.greatest }, out);
        }
        self.modes.greatest = epoch;
        if self.settings.pair.is_none() {
            return self.answer(ref_id, refused("it is not a member of a pair".to_owned()), out);
        }
        if !self.takes_modes() {
            return self.answer(ref_id, refused(format!("it is {}", self.status())), out);
        }
        if self.modes.outstanding.as_ref().is_some_and(|o| o.ref_id == ref_id) {
            return;
        }
        self.refuse_outstanding(&format!("superseded by {ref_id}"), out);
        if self.modes.current == Some(mode) && self.modes.epoch == epoch {
            return self.answer(ref_id, AnswerOutcome::Done, out);
        }
        let tell = Action::TellMode { ref_id, mode, epoch };
        let limit = match &self.settings.application.mode_control {
            ModeControl::Socket => CONFIRM_LIMIT,
            ModeControl::Command { time_limit, .. } => *time_limit + COMMAND_SLACK,
            ModeControl::Signal { .. } => {
                out.push_back(tell);
                return self.confirmed(ref_id, mode, epoch, out);
            }
            ModeControl::None => return self.confirmed(ref_id, mode, epoch, out),
        };
        if self.modes.connected || !self.settings.speaks() {
            out.push_back(tell);
        }
        self.modes.outstanding = Some(Outstanding { ref_id, mode, epoch, limit: now + limit });
    }

    pub(super) fn mode_socket(&mut self, connected: bool, out: &mut Actions) {
        let was = std::mem::replace(&mut self.modes.connected, connected);
        if connected
            && !was
            && let Some(o) = &self.modes.outstanding
        {
            out.push_back(Action::TellMode { ref_id: o.ref_id, mode: o.mode, epoch: o.epoch });
        }
    }

    pub(super) fn mode_told(
        &mut self,
        ref_id: Option<RefId>,
        mode: RunMode,
        epoch: Epoch,
        now: Micros,
        out: &mut Actions,
    ) {
        if self.settings.pair.is_none() || !self.phase.has_process() {
            return;
        }
        // `READY=1` is not said twice: while no agent was there it was said to nobody. Who talks here takes orders.
        if std::mem::take(&mut self.unheard) {
            self.ready(now, out);
        }
        self.modes.current = Some(mode);
        self.modes.epoch = epoch;
        self.modes.saw(epoch);
        let Some(outstanding) = &self.modes.outstanding else { return };
        let ref_id_asked = outstanding.ref_id;
        if outstanding.mode == mode && outstanding.epoch == epoch {
            self.modes.outstanding = None;
            self.answer(ref_id_asked, AnswerOutcome::Done, out);
        } else if ref_id == Some(ref_id_asked) {
            self.refuse_outstanding(&format!("the application stays in {mode} mode, epoch {epoch}"), out);
        }
    }

    pub(super) fn mode_command_ended(
        &mut self,
        ref_id: RefId,
        result: Result<(), String>,
        out: &mut Actions,
    ) {
        let Some(outstanding) = self.modes.outstanding.take_if(|o| o.ref_id == ref_id) else { return };
        match result {
            Ok(()) => self.confirmed(ref_id, outstanding.mode, outstanding.epoch, out),
            Err(why) => {
                self.answer(ref_id, AnswerOutcome::Refused { why: format!("mode command: {why}") }, out)
            }
        }
    }

    pub(super) fn modes_time_passed(&mut self, now: Micros, out: &mut Actions) {
        if self.modes.limit().is_some_and(|limit| limit <= now) {
            let why = if self.modes.connected || !self.settings.speaks() {
                "the application did not confirm it in time"
            } else {
                "the application does not listen on its mode socket"
            };
            self.refuse_outstanding(why, out);
        }
    }

    pub(super) fn refuse_outstanding(&mut self, why: &str, out: &mut Actions) {
        if let Some(outstanding) = self.modes.outstanding.take() {
            self.answer(outstanding.ref_id, AnswerOutcome::Refused { why: why.to_owned() }, out);
        }
    }

    fn confirmed(&mut self, ref_id: RefId, mode: RunMode, epoch: Epoch, out: &mut Actions) {
        self.modes.current = Some(mode);
        self.modes.epoch = epoch;
        self.answer(ref_id, AnswerOutcome::Done, out);
    }

    /// Whether there is a process that can be told a run mode.
    fn takes_modes(&self) -> bool {
        use super::Phase::{
            Dying, Initializing, Killing, Started, Starting, Stopped, Stopping, SuspendAsked, Suspending,
            Unavailable,
        };
        match self.phase {
            Initializing { .. } | Started | Unavailable | SuspendAsked { .. } | Suspending => true,
            Stopped { .. } | Starting | Stopping { .. } | Dying | Killing { .. } => false,
        }
    }
}
