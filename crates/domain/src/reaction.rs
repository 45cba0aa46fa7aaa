//! Alarm Reactions: what is done when an alarm is raised, or ends.

use crate::{AppName, HostName, PairName, ScriptName, SolutionName};
use serde::{Deserialize, Serialize};

/// An Alarm Reaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Reaction {
    /// Disables the pair's VIPs on the host of the other member than the one whose event it was.
    DisableVipOnOther {
        /// The pair.
        pair: PairName,
    },
    /// Enables the pair's VIPs on the host of the member whose event it was.
    EnableVip {
        /// The pair.
        pair: PairName,
    },
    /// Disables the pair's VIPs on the host of the member whose event it was.
    DisableVip {
        /// The pair.
        pair: PairName,
    },
    /// Launches a script on a host.
    Launch {
        /// The script.
        script: ScriptName,
        /// Where; none: on the host that the event is about.
        host: Option<HostName>,
    },
    /// Starts an application.
    Start {
        /// The application.
        app: AppName,
    },
    /// Stops an application.
    Stop {
        /// The application.
        app: AppName,
    },
    /// Restarts an application.
    Restart {
        /// The application.
        app: AppName,
    },
    /// Switches a pair over.
    SwitchOver {
        /// The pair.
        pair: PairName,
    },
    /// Starts the applications of a solution, in their order.
    StartSolution {
        /// The solution.
        solution: SolutionName,
    },
    /// Stops them, in the opposite order.
    StopSolution {
        /// The solution.
        solution: SolutionName,
    },
}
