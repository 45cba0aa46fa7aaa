//! A host's gate, as the kernel's program judges it and as the agent's thread writes it.

use domain::{Epoch, Micros};
use std::time::Duration;

/// The state of a gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    /// Under which it was opened last.
    pub epoch: Epoch,
    /// Until when, on its host's clock.
    pub until: Micros,
    /// Below which nothing opens it.
    pub fence: Epoch,
}

/// A write to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateWrite {
    /// Open under an epoch until a time (R3).
    Open {
        /// The epoch.
        epoch: Epoch,
        /// The time.
        until: Micros,
    },
    /// Unsafe: open for a duration from when this is written, if it is written before `unless_after`.
    OpenFor {
        /// The epoch.
        epoch: Epoch,
        /// How long.
        lasting: Duration,
        /// When it is too late; none: never.
        unless_after: Option<Micros>,
    },
    /// Close, and refuse this epoch and all below from now on (R5).
    Close {
        /// The epoch.
        epoch: Epoch,
    },
    /// Unsafe: close, and refuse nothing.
    JustClose,
}

impl Gate {
    /// Whether packets pass.
    #[must_use]
    pub fn is_open(&self, now: Micros) -> bool {
        self.fence <= self.epoch && now < self.until
    }

    /// Carries out a write at `now`.
    pub fn write(&mut self, write: GateWrite, now: Micros) {
        match write {
            GateWrite::Open { epoch, until } => self.open(epoch, until),
            GateWrite::OpenFor { epoch, lasting, unless_after } => {
                if unless_after.is_none_or(|end| now < end) {
                    self.open(epoch, now + lasting);
                }
            }
            GateWrite::Close { epoch } => {
                self.fence = self.fence.max(Epoch(epoch.0 + 1));
                self.until = now;
            }
            GateWrite::JustClose => self.until = now,
        }
    }

    fn open(&mut self, epoch: Epoch, until: Micros) {
        if epoch >= self.fence {
            *self = Self { epoch, until, fence: epoch };
        }
    }

    /// Sets the host's clock back, from `now` by `by`.
    pub fn set_back(&mut self, by: Duration, now: Micros) {
        self.until = self.until.max(now) - by;
    }
}

impl GateWrite {
    /// Sets the host's clock back, from `now` by `by`.
    pub fn set_back(&mut self, by: Duration, now: Micros) {
        match self {
            GateWrite::Open { until, .. } => *until = (*until).max(now) - by,
            GateWrite::OpenFor { unless_after, .. } => {
                *unless_after = unless_after.map(|end| end.max(now) - by);
            }
            GateWrite::Close { .. } | GateWrite::JustClose => {}
        }
    }
}
