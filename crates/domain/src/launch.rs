//! Launches: what an agent is to run once, with what facts and limits, and what came of it.

use crate::{AppName, Epoch, EventId, InterfaceName, PairName, RefId, RunMode, ScriptName, VipAddress};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How much of a script's output is kept, bytes; of more, the beginning and the end.
pub const LAUNCH_OUTPUT_LIMIT: usize = 16 * 1024;

/// What a VIP control script is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VipVerb {
    /// Put the address on the interface and announce it.
    Enable,
    /// Remove the address.
    Disable,
}

impl fmt::Display for VipVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            VipVerb::Enable => "enable",
            VipVerb::Disable => "disable",
        })
    }
}

/// What to launch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum LaunchWhat {
    /// A VIP control script: the built-in one (no process) where `script` is none.
    VipControl {
        /// Enable or disable.
        verb: VipVerb,
        /// The VIP.
        vip: VipAddress,
        /// The interface on this host.
        interface: InterfaceName,
        /// The user's script; none is the built-in control.
        script: Option<ScriptName>,
    },
    /// Announce a VIP that is held (gratuitous ARP, unsolicited neighbour advertisement).
    Announce {
        /// The VIP.
        vip: VipAddress,
        /// The interface on this host.
        interface: InterfaceName,
    },
    /// Ask the network who has a VIP, from a host that does not hold it. The answers come as a
    /// [`VipSighting`](crate::VipSighting), just before the result.
    FindHolder {
        /// The VIP.
        vip: VipAddress,
        /// The interface on this host.
        interface: InterfaceName,
    },
    /// Any other script of the user's, run by an alarm reaction.
    Script {
        /// The script.
        script: ScriptName,
    },
}

impl fmt::Display for LaunchWhat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchWhat::VipControl { verb, vip, script: None, .. } => write!(f, "{verb} {}", vip.address),
            LaunchWhat::VipControl { verb, vip, script: Some(s), .. } => {
                write!(f, "{s} {verb} {}", vip.address)
            }
            LaunchWhat::Announce { vip, .. } => write!(f, "announce {}", vip.address),
            LaunchWhat::FindHolder { vip, .. } => write!(f, "find the holder of {}", vip.address),
            LaunchWhat::Script { script } => write!(f, "{script}"),
        }
    }
}

/// An order to an agent to run something once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Ties the result to this order. An agent that sees the same reference twice runs it once.
    pub ref_id: RefId,
    /// What to run.
    pub what: LaunchWhat,
    /// The pair it is for, if any (`TAKEOVER_PAIR`).
    pub pair: Option<PairName>,
    /// The application whose event led to it (`TAKEOVER_APPLICATION`).
    pub app: Option<AppName>,
    /// The mode of that application (`TAKEOVER_MODE`).
    pub mode: Option<RunMode>,
    /// The pair's epoch (`TAKEOVER_EPOCH`); an agent refuses a VIP launch below the greatest epoch it has seen.
    pub epoch: Epoch,
    /// The log event that led to it (`TAKEOVER_EVENT`).
    pub event: Option<EventId>,
    /// The Alarm Condition that led to it (`TAKEOVER_ALARM`).
    pub alarm: String,
    /// How long it may run.
    pub time_limit: Duration,
}

/// How a launch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum LaunchOutcome {
    /// Ran and succeeded (built in, or exit code 0).
    Succeeded,
    /// Ran and ended with this exit code.
    Exited {
        /// 1 to 255.
        code: i32,
    },
    /// Ended by a signal.
    Killed {
        /// The signal.
        signal: i32,
    },
    /// Ran over its time limit and was killed with all its children.
    TimedOut,
    /// Was not run, or the built-in control failed; the text says why.
    Failed {
        /// Why.
        why: String,
    },
    /// Refused because its epoch is older than one already seen.
    Stale {
        /// The greatest epoch seen.
        seen: Epoch,
    },
}

impl LaunchOutcome {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self, LaunchOutcome::Succeeded)
    }
}

impl fmt::Display for LaunchOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchOutcome::Succeeded => f.write_str("succeeded"),
            LaunchOutcome::Exited { code } => write!(f, "ended with exit code {code}"),
            LaunchOutcome::Killed { signal } => write!(f, "was ended by signal {signal}"),
            LaunchOutcome::TimedOut => f.write_str("ran over its time limit and was killed"),
            LaunchOutcome::Failed { why } => write!(f, "failed: {why}"),
            LaunchOutcome::Stale { seen } => write!(f, "refused: its epoch is older than {seen}"),
        }
    }
}

/// The result of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchResult {
    /// The launch.
    pub ref_id: RefId,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: LaunchOutcome,
    /// What it printed, standard output and error together, at most [`LAUNCH_OUTPUT_LIMIT`] bytes.
    #[serde(default)]
    pub output: String,
    /// How long it ran, microseconds.
    #[serde(default)]
    pub took_us: u64,
}
