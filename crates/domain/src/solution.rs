//! Solutions: what an operator starts and stops as one, in an order.

use crate::AppName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An ordered set of applications. An application belongs to one solution at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Solution {
    /// Its applications, in the order in which they are started; they are stopped in the opposite one.
    pub applications: Vec<AppName>,
}

/// How a solution is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SolutionStatus {
    /// Nobody who could know has said.
    #[default]
    Unknown,
    /// None of its applications runs, and none has failed.
    Stopped,
    /// On its way up or down, or something in it failed.
    Pending,
    /// All of it gives service. A pair does with one member.
    Started,
}

impl fmt::Display for SolutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SolutionStatus::Unknown => "unknown",
            SolutionStatus::Stopped => "stopped",
            SolutionStatus::Pending => "pending",
            SolutionStatus::Started => "started",
        })
    }
}
