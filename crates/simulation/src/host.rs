//! A host as its kernel has it: addresses, the gate, processes, files that outlive the agent and files that outlive the
//! boot. It stands still for nobody: whatever happens to the agent, this goes on.

use crate::agent::Agent;
use crate::clock::{Clock, TrueTime};
use crate::process::Process;
use domain::{AppName, Cluster, Epoch, HostName, LaunchOutcome, Micros, PairName, RefId, VipAddress};
use lca_core::supervisor::Saved;
use lease::{Memory, PairId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The kernel's gate for one pair's VIPs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) epoch: Epoch,
    pub(crate) until: Micros,
    /// Refuses every epoch below.
    pub(crate) fence: Epoch,
}

impl Gate {
    /// Whether packets pass at `now`, the host's clock.
    pub(crate) fn is_open(&self, now: Micros) -> bool {
        self.epoch >= self.fence && self.epoch > Epoch(0) && now < self.until
    }

    pub(crate) fn open(&mut self, epoch: Epoch, until: Micros) {
        (self.epoch, self.until) = (epoch, until);
    }

    pub(crate) fn close(&mut self, epoch: Epoch) {
        self.fence = self.fence.max(Epoch(epoch.0.saturating_add(1)));
    }
}

/// What the agent's last run wrote down (`run.json`); lost with a reboot.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunState {
    pub(crate) apps: BTreeMap<AppName, Saved>,
    pub(crate) launches: Vec<(RefId, LaunchOutcome)>,
}

/// Files in /run, and memory mapped there.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunFiles {
    pub(crate) state: RunState,
    pub(crate) leases: BTreeMap<PairId, Memory>,
}

/// Files on the host's disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskFiles {
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) stopped: BTreeSet<AppName>,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: HostName,
    pub(crate) powered: bool,
    /// Counts its boots.
    pub(crate) boot: u64,
    pub(crate) clock: Clock,
    pub(crate) ppm: i64,
    pub(crate) carrier: bool,
    pub(crate) addresses: BTreeSet<VipAddress>,
    pub(crate) gates: BTreeMap<PairName, Gate>,
    pub(crate) processes: BTreeMap<AppName, Process>,
    /// When the last word arrives on each application's socket, there and back: sockets keep their order.
    pub(crate) sockets: BTreeMap<AppName, [TrueTime; 2]>,
    /// Applications that refuse primary mode, whoever starts them.
    pub(crate) refusing: BTreeSet<AppName>,
    pub(crate) scripts_fail: bool,
    pub(crate) run_files: RunFiles,
    pub(crate) disk_files: DiskFiles,
    pub(crate) agent: Option<Box<Agent>>,
    /// Counts the runs of the agent: what was meant for an earlier one reaches nobody.
    pub(crate) run: u64,
    next_pid: u32,
}

impl Host {
    pub(crate) fn new(name: HostName, ppm: i64, uptime: Micros) -> Self {
        Self {
            name,
            powered: true,
            boot: 1,
            clock: Clock::new(TrueTime(0), uptime, ppm),
            ppm,
            carrier: true,
            addresses: BTreeSet::new(),
            gates: BTreeMap::new(),
            processes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            refusing: BTreeSet::new(),
            scripts_fail: false,
            run_files: RunFiles::default(),
            disk_files: DiskFiles::default(),
            agent: None,
            run: 0,
            next_pid: 100,
        }
    }

    /// Everything that needs power is gone.
    pub(crate) fn power_off(&mut self) {
        self.powered = false;
        self.agent = None;
        self.run += 1;
        self.addresses.clear();
        self.gates.clear();
        self.processes.clear();
        self.run_files = RunFiles::default();
    }

    /// Its clock begins anew.
    pub(crate) fn power_on(&mut self, now: TrueTime) {
        self.powered = true;
        self.boot += 1;
        self.carrier = true;
        // Some seconds go by before an agent can read a clock.
        self.clock = Clock::new(now, Micros(3_000_000), self.ppm);
    }

    /// When something arrives on an application's socket (0: there, 1: back) that would take until `at` alone.
    pub(crate) fn on_socket(&mut self, app: &AppName, way: usize, at: TrueTime) -> TrueTime {
        let last = &mut self.sockets.entry(app.clone()).or_default()[way];
        *last = at.max(*last);
        *last
    }

    pub(crate) fn new_pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    pub(crate) fn gate(&self, pair: &PairName) -> Gate {
        self.gates.get(pair).copied().unwrap_or_default()
    }
}
