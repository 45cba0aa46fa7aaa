//! The run mode: what holds now, and which instructions change it. Plain values, no I/O.

use domain::{Epoch, RunMode};
use sip_proto::Duty;

/// The run mode with the epoch that it was given for.
///
/// ```text
///            SetRunMode primary           SetRunMode exiting, or Suspend
///   backup ----------------------> primary ------------------------------> primary or exiting, refusing
///      ^  (silent on the VIP)         | (serves)                               | (503 to everything)
///      +------------------------------+----------------------------------------+
///            SetRunMode backup: connections are closed, then silence
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunState {
    mode: RunMode,
    epoch: Epoch,
    /// A graceful stop has begun; only the end of the process ends it.
    suspended: bool,
}

/// What an instruction led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructed {
    /// The mode is another one now.
    Changed,
    /// The mode was that already; the epoch may have grown.
    Same,
    /// The epoch is older than the one that holds: nothing changed.
    Stale,
}

impl RunState {
    /// What an unknown run mode counts as.
    pub(crate) const BACKUP: RunState = RunState { mode: RunMode::Backup, epoch: Epoch(0), suspended: false };
    /// Without an agent.
    pub(crate) const STANDALONE: RunState =
        RunState { mode: RunMode::Primary, epoch: Epoch(0), suspended: false };

    pub(crate) fn mode(self) -> RunMode {
        self.mode
    }

    pub(crate) fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Takes a run mode. One with a lower epoch was overtaken by another, and is refused.
    pub(crate) fn instruct(&mut self, mode: RunMode, epoch: Epoch) -> Instructed {
        if epoch < self.epoch {
            return Instructed::Stale;
        }
        let changed = mode != self.mode;
        self.mode = mode;
        self.epoch = epoch;
        if changed { Instructed::Changed } else { Instructed::Same }
    }

    /// Begins a graceful stop.
    pub(crate) fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Whether a graceful stop has begun.
    pub(crate) fn is_suspended(self) -> bool {
        self.suspended
    }

    /// What to do with requests to the VIP; none: be silent.
    pub(crate) fn duty(self) -> Option<Duty> {
        match self.mode {
            RunMode::Backup => None,
            RunMode::Exiting => Some(Duty::Refuse),
            RunMode::Primary if self.suspended => Some(Duty::Refuse),
            RunMode::Primary => Some(Duty::Serve),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_never_goes_back() {
        let mut state = RunState::BACKUP;
        assert_eq!(state.duty(), None);
        assert_eq!(state.instruct(RunMode::Primary, Epoch(5)), Instructed::Changed);
        assert_eq!(state.instruct(RunMode::Backup, Epoch(4)), Instructed::Stale);
        assert_eq!((state.duty(), state.epoch()), (Some(Duty::Serve), Epoch(5)));
        assert_eq!(state.instruct(RunMode::Primary, Epoch(6)), Instructed::Same);
        assert_eq!(state.epoch(), Epoch(6));
        assert_eq!(state.instruct(RunMode::Backup, Epoch(6)), Instructed::Changed);
        assert_eq!(state.duty(), None);
    }

    #[test]
    fn a_graceful_stop_refuses_and_does_not_end() {
        let mut state = RunState::STANDALONE;
        state.suspend();
        assert_eq!(state.duty(), Some(Duty::Refuse));
        state.instruct(RunMode::Backup, Epoch(1));
        assert_eq!(state.duty(), None, "a suspended backup stays silent");
        state.instruct(RunMode::Primary, Epoch(2));
        assert_eq!(state.duty(), Some(Duty::Refuse));
        state.instruct(RunMode::Exiting, Epoch(2));
        assert_eq!(state.duty(), Some(Duty::Refuse));
    }
}
