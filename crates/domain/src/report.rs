//! What agents report: application status, run mode, addresses, interfaces, figures of the host.

use crate::{AppName, HostName, InterfaceName, MacAddress, Member, Micros, VipAddress};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Per-pair number that grows with each grant of the primary role: the fencing token. Zero is "never granted".
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The smallest epoch above this one that is `member`'s own: even for the first member of a pair, odd for the
    /// second. So two members never share an epoch, whoever chose it.
    #[must_use]
    pub fn next_of(self, member: Member) -> Epoch {
        let next = self.0.saturating_add(1);
        let owned = match member {
            Member::First => next.is_multiple_of(2),
            Member::Second => !next.is_multiple_of(2),
        };
        Epoch(if owned { next } else { next.saturating_add(1) })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ties an instruction to its answer. Unique for the life of one SCS state, never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefId(pub u64);

impl fmt::Display for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Run mode of an application in a pair.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// Serves; its host has the VIPs.
    Primary,
    /// Stands by; silent on the VIPs.
    Backup,
    /// On its way out: finishes what is in hand.
    Exiting,
}

impl fmt::Display for RunMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RunMode::Primary => "primary",
            RunMode::Backup => "backup",
            RunMode::Exiting => "exiting",
        })
    }
}

/// Status of an application (domain.md, "Application status").
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AppStatus {
    /// Nobody who could know has said.
    Unknown,
    /// No process.
    Stopped,
    /// Asked to start, no process seen yet.
    StartPending,
    /// The process runs and has not said that it is ready.
    Initializing,
    /// Ready and able to provide service.
    Started,
    /// Runs and cannot provide service.
    ServiceUnavailable,
    /// Finishes what is in hand, refuses new work.
    Suspending,
    /// Has finished what was in hand.
    Suspended,
    /// Asked to stop, the process is still there.
    StopPending,
}

impl AppStatus {
    /// Whether there is a process that has become ready and was not told to end.
    #[must_use]
    pub fn is_up(self) -> bool {
        match self {
            AppStatus::Started
            | AppStatus::ServiceUnavailable
            | AppStatus::Suspending
            | AppStatus::Suspended => true,
            AppStatus::Unknown
            | AppStatus::Stopped
            | AppStatus::StartPending
            | AppStatus::Initializing
            | AppStatus::StopPending => false,
        }
    }
}

impl fmt::Display for AppStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            AppStatus::Unknown => "unknown",
            AppStatus::Stopped => "stopped",
            AppStatus::StartPending => "start-pending",
            AppStatus::Initializing => "initializing",
            AppStatus::Started => "started",
            AppStatus::ServiceUnavailable => "service-unavailable",
            AppStatus::Suspending => "suspending",
            AppStatus::Suspended => "suspended",
            AppStatus::StopPending => "stop-pending",
        })
    }
}

/// Why an application has the status that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An operator (or the SCS on an operator's behalf) ordered it.
    Ordered,
    /// The process ended by itself with this exit code.
    Exited(i32),
    /// A signal that LCA did not send ended the process.
    Killed(i32),
    /// The process ended by itself; how is not known, because another run of the agent had started it.
    Ended,
    /// It promised heartbeats and missed them.
    Hung,
    /// A probe failed as often as its limit allows; the text is the last failure.
    ProbeFailed(String),
    /// It did not become ready within its start-up limit.
    StartLimit,
    /// It did not end within its shutdown limit and was killed.
    StopLimit,
    /// It could not be started at all; the text says why.
    NotStarted(String),
    /// It failed so often that LCA gives up restarting it.
    GaveUp(u32),
}

impl Cause {
    /// Whether this is a failure, as opposed to something an operator ordered.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Cause::Ordered => false,
            Cause::Exited(_)
            | Cause::Killed(_)
            | Cause::Ended
            | Cause::Hung
            | Cause::ProbeFailed(_)
            | Cause::StartLimit
            | Cause::StopLimit
            | Cause::NotStarted(_)
            | Cause::GaveUp(_) => true,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Ordered => f.write_str("ordered"),
            Cause::Exited(code) => write!(f, "the process ended with exit code {code}"),
            Cause::Killed(signal) => write!(f, "the process was ended by signal {signal}"),
            Cause::Ended => f.write_str("the process ended"),
            Cause::Hung => f.write_str("the heartbeats that it promised stayed out"),
            Cause::ProbeFailed(why) => write!(f, "the probe failed: {why}"),
            Cause::StartLimit => f.write_str("not ready within the start-up limit"),
            Cause::StopLimit => f.write_str("did not end within the shutdown limit and was killed"),
            Cause::NotStarted(why) => write!(f, "could not be started: {why}"),
            Cause::GaveUp(times) => write!(f, "failed {times} times in a row, restarts given up"),
        }
    }
}

/// What an agent knows of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// The application.
    pub app: AppName,
    /// Its status.
    pub status: AppStatus,
    /// The run mode that the application itself confirmed last; none where it has none (no process, or not in a pair).
    pub mode: Option<RunMode>,
    /// The epoch of the instruction that led to `mode`.
    #[serde(default)]
    pub epoch: Epoch,
    /// Whether a backup has what it needs to take over at once (always true for one that needs nothing).
    #[serde(default = "yes")]
    pub synced: bool,
    /// Process id, where there is a process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Why, where the status is not the ordinary one.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// What the application says of itself (`STATUS=` of sd_notify), at most 1,024 bytes.
    #[serde(default)]
    pub text: String,
    /// Restarts by LCA since an operator started it.
    #[serde(default)]
    pub restarts: u32,
    /// VIPs that the agent removed in the same breath, because their primary failed.
    #[serde(default)]
    pub released: Vec<VipAddress>,
}

fn yes() -> bool {
    true
}

/// Whether a host has an address now, as its kernel tells (netlink), whoever put it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipReport {
    /// The VIP.
    pub vip: VipAddress,
    /// The interface it is on, or would be on.
    pub interface: InterfaceName,
    /// Whether the address is there.
    pub present: bool,
    /// Why it changed, in a few words: "built-in control", "removed by another tool", "put back", "found at start".
    #[serde(default)]
    pub why: String,
}

/// State of an interface that carries VIPs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// The interface.
    pub interface: InterfaceName,
    /// Carrier there and interface up (`IFF_UP` and `IFF_LOWER_UP`).
    pub up: bool,
    /// Its Ethernet address, by which others see it; none where it has none, or there is no such interface.
    #[serde(default)]
    pub mac: Option<MacAddress>,
}

/// Whether an agent hears the agent of another host with which it shares a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The other host.
    pub host: HostName,
    /// Whether its agent is heard.
    pub heard: bool,
}

/// What SCS knows of a host (domain.md, "Host status").
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HostStatus {
    /// Its agent is connected.
    Up,
    /// The host answers, its agent does not.
    AgentDown,
    /// Nothing answers.
    Unreachable,
    /// Not heard of since the SCS started.
    Unknown,
}

impl fmt::Display for HostStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HostStatus::Up => "up",
            HostStatus::AgentDown => "agent-down",
            HostStatus::Unreachable => "unreachable",
            HostStatus::Unknown => "unknown",
        })
    }
}

/// Figures of a host and of its agent, sent every few seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct HostFigures {
    /// Share of all cores that was busy since the last figures, 0.0 to 1.0.
    pub cpu: f64,
    /// Memory in all, bytes.
    pub memory_total: u64,
    /// Memory that programs can still have (`MemAvailable`), bytes.
    pub memory_available: u64,
    /// Load average over one minute.
    pub load1: f64,
    /// Resident memory of the agent, bytes.
    pub agent_resident: u64,
    /// Longest lateness of the agent's real-time thread since the last figures, microseconds.
    pub longest_stall_us: u64,
    /// Whether the real-time thread has SCHED_FIFO.
    pub real_time: bool,
    /// Whether the agent's memory is locked.
    pub memory_locked: bool,
    /// How much faster than its oscillator the host's clock ran since the last figures, parts per million: what a time
    /// daemon makes of it (CLOCK_MONOTONIC against CLOCK_MONOTONIC_RAW).
    #[serde(default)]
    pub clock_ppm: i64,
    /// Seconds after which a watchdog device resets the host when the agent hangs; 0: none is armed.
    pub watchdog_s: u32,
    /// VIPs put back after another tool removed them, since the agent started.
    pub vips_put_back: u64,
    /// When the figures were taken, the agent's clock.
    pub at: Micros,
}
