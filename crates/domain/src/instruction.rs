//! Instructions to an agent about one application, and the answers to them.

use crate::{AppName, Epoch, RefId, RunMode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An instruction to an agent. Carrying it out twice must do no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Ties the answer to it.
    pub ref_id: RefId,
    /// About which application.
    pub app: AppName,
    /// What to do.
    pub order: Order,
}

/// What to do with an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub enum Order {
    /// Put it into a run mode.
    SetRunMode {
        /// The mode.
        mode: RunMode,
        /// The pair's epoch; an agent refuses one below the greatest it has seen for the pair.
        epoch: Epoch,
    },
    /// Start it; it comes up in backup mode.
    Start,
    /// Stop it.
    Stop {
        /// Let it finish what is in hand first.
        graceful: bool,
    },
}

/// Answer to an instruction (launches answer with their result).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The instruction.
    pub ref_id: RefId,
    /// What became of it.
    pub outcome: AnswerOutcome,
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum AnswerOutcome {
    /// Carried out; for a run mode: the application confirmed it.
    Done,
    /// Not carried out; sending it again is no use before something changed.
    Refused {
        /// Why.
        why: String,
    },
    /// Not carried out: its epoch is older than one that the host has seen. An SCS that has lost its state learns from
    /// it what it granted before.
    Stale {
        /// The greatest epoch seen for the pair.
        seen: Epoch,
    },
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::SetRunMode { mode, epoch } => write!(f, "go into {mode} mode, epoch {epoch}"),
            Order::Start => f.write_str("start"),
            Order::Stop { graceful: true } => f.write_str("stop gracefully"),
            Order::Stop { graceful: false } => f.write_str("stop"),
        }
    }
}
