//! A pretend SIP server: a process that becomes ready, obeys run modes, shows signs of life, hangs, crashes. Follows the
//! conversation of `docs/agents.md`: sd_notify and the mode socket.

use domain::{Epoch, RefId, RunMode};
use lca_core::supervisor::Exit;

/// What an application says, or what its kernel says of it, to the agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// `READY=1`.
    Ready,
    /// `WATCHDOG=1`.
    Alive,
    /// The agent's connection to the mode socket is there.
    Connected,
    /// A run mode, on the mode socket.
    Mode { ref_id: Option<RefId>, mode: RunMode, epoch: Epoch },
    /// Whether it has what it needs to take over.
    Synced(bool),
    /// Its graceful stop began.
    Suspending,
    /// It has nothing in hand any more.
    Suspended,
    /// The process ended.
    Exited(Exit),
}

/// What the agent tells an application on the mode socket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Told {
    /// To take a run mode.
    Mode { ref_id: RefId, mode: RunMode, epoch: Epoch },
    /// To finish what is in hand.
    Suspend,
    /// Nothing: the agent has connected, and is told how things are.
    Hello,
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// It listens on its mode socket and serves.
    pub(crate) ready: bool,
    /// It does nothing at all.
    pub(crate) hung: bool,
    /// It refuses primary mode.
    pub(crate) refuses: bool,
    pub(crate) synced: bool,
    pub(crate) mode: RunMode,
    pub(crate) epoch: Epoch,
    /// Told while it hung.
    waiting: Vec<Told>,
}

impl Process {
    pub(crate) fn new(pid: u32, refuses: bool) -> Self {
        Self {
            pid,
            ready: false,
            hung: false,
            refuses,
            synced: true,
            mode: RunMode::Backup,
            epoch: Epoch(0),
            waiting: Vec::new(),
        }
    }

    /// Whether it answers callers.
    pub(crate) fn serves(&self) -> bool {
        self.ready && !self.hung && self.mode == RunMode::Primary
    }

    /// Takes in what it is told; what it says to that.
    pub(crate) fn told(&mut self, told: Told) -> Vec<Said> {
        if self.hung {
            self.waiting.push(told);
            return Vec::new();
        }
        match told {
            Told::Mode { ref_id, mode, epoch } => {
                if epoch >= self.epoch && !(self.refuses && mode == RunMode::Primary) {
                    (self.mode, self.epoch) = (mode, epoch);
                }
                vec![Said::Mode { ref_id: Some(ref_id), mode: self.mode, epoch: self.epoch }]
            }
            Told::Suspend => vec![Said::Suspending, Said::Suspended],
            Told::Hello => vec![
                Said::Mode { ref_id: None, mode: self.mode, epoch: self.epoch },
                Said::Synced(self.synced),
            ],
        }
    }

    /// It goes on where it hung.
    pub(crate) fn revive(&mut self) -> Vec<Said> {
        self.hung = false;
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().flat_map(|told| self.told(told)).collect()
    }
}
