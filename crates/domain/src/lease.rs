//! What agents report of their pairs' leases.

use crate::{Epoch, Micros, PairName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a pair's lease stands at one of its two hosts; only the newest report matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// The pair.
    pub pair: PairName,
    /// The epoch under which this host holds the lease; none: it does not.
    pub held: Option<Epoch>,
    /// How much of it was left when this was said, microseconds.
    #[serde(default)]
    pub left_us: u64,
    /// How many other voters confirm the holder: with 2 any single loss is survived.
    #[serde(default)]
    pub backing: u8,
    /// What enforces it here.
    #[serde(default)]
    pub gate: GateReport,
}

/// What enforces a lease on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "gate")]
pub enum GateReport {
    /// The kernel: it closes by itself, whatever becomes of the agent.
    Kernel,
    /// The agent alone, which removes the address when the lease ends; a stopped agent does not.
    Agent {
        /// Why the kernel does not.
        why: String,
    },
    /// Not told.
    #[default]
    Unknown,
}

impl fmt::Display for GateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GateReport::Kernel => f.write_str("gate in the kernel"),
            GateReport::Agent { why } => write!(f, "no gate ({why})"),
            GateReport::Unknown => f.write_str("gate not known"),
        }
    }
}

/// A role that an agent took without an SCS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// The pair.
    pub pair: PairName,
    /// Who was made primary.
    pub app: crate::AppName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// When the failure was known to that agent, on its clock.
    pub at: Micros,
    /// Why, one sentence.
    pub why: String,
}
