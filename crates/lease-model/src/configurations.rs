//! The configurations that are explored: the machine under its rules, which must hold, and each rule broken on purpose,
//! which must show.

use crate::setup::{Breakage, Crash, Milestone, Setup, Start, Wants, timing};
use crate::world::Budget;
use domain::Epoch;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// What is explored to its end within a minute, all together.
    Small,
    /// What takes the better part of an hour.
    Long,
}

/// Every agent's crash.
const AGENTS: &[Crash] = &[Crash::Agent, Crash::AgentForgets, Crash::Host];
/// Everybody's.
const EVERYBODY: &[Crash] = &[Crash::Agent, Crash::AgentForgets, Crash::Host, Crash::Scs];

/// A lease of two renewals, clocks that agree, First holding, and nothing that happens.
fn base(name: &'static str) -> Setup {
    Setup {
        name,
        timing: timing(1, 2, 2),
        other_timing: None,
        speeds: &[1],
        start: Start::Settled,
        wants: Wants::AsTheProduct,
        scs: true,
        budget: Budget { orders: 0, faults: 0, settings: 0 },
        crashes: &[],
        flying: 1,
        max_epoch: Epoch(7),
        milestones: &[],
        recovery_of_one_in: None,
        breakage: None,
        keep_time: false,
    }
}

/// Clocks that differ by up to a fifth of their rate either way: 4 to 6 units a tick. R2: 10 * 6 / 4 = 15.
fn drifting(name: &'static str) -> Setup {
    Setup { timing: timing(5, 10, 15), speeds: &[4, 6], ..base(name) }
}

/// The same in which nothing happens but grants.
fn quiet(name: &'static str) -> Setup {
    Setup { wants: Wants::Granted, start: Start::Alone, ..base(name) }
}

fn quiet_drifting(name: &'static str) -> Setup {
    Setup { wants: Wants::Granted, start: Start::Alone, ..drifting(name) }
}

fn budget(orders: u8, faults: u8) -> Budget {
    Budget { orders, faults, settings: 0 }
}

/// What must hold.
#[must_use]
pub fn safe(bounds: Bounds) -> Vec<Setup> {
    match bounds { Bounds::Small => small(), Bounds::Long => small() }
}

fn small() -> Vec<Setup> {
    vec![
        Setup { flying: 2, recovery_of_one_in: Some(64), ..base("renewals") },
        Setup { wants: Wants::Anything, budget: budget(1, 0), ..base("anything is wanted") },
        Setup { scs: false, budget: budget(2, 0), ..base("without an SCS") },
        Setup { scs: false, budget: budget(1, 1), crashes: AGENTS, ..base("without an SCS, an agent crashes") },
        Setup { budget: budget(0, 1), crashes: EVERYBODY, ..quiet("one crashes") },
        Setup { budget: budget(1, 1), crashes: EVERYBODY, ..quiet("a grant, and one crashes") },
        Setup { budget: budget(1, 0), ..quiet_drifting("a grant, and clocks differ") },
        Setup { budget: budget(1, 0), breakage: Some(Breakage::GateWrittenLate), ..quiet("a grant, and the gate is written late") },
        Setup {
            budget: Budget { orders: 0, faults: 0, settings: 2 },
            other_timing: Some(timing(1, 3, 3)), ..quiet("longer leases")
        },
    ]
}

fn long() -> Vec<Setup> { vec![] }

/// What must be possible.
#[must_use]
pub fn possible() -> Vec<Setup> {
    vec![
        Setup {
            budget: budget(2, 0),
            wants: Wants::Granted,
            milestones: &[Milestone::TakeOver, Milestone::SeamlessTakeOver, Milestone::FailBack],
            ..base("take-over and fail-back by the SCS")
        },
        Setup {
            scs: false,
            budget: budget(2, 0),
            milestones: &[Milestone::TakeOver, Milestone::SeamlessTakeOver, Milestone::FailBack],
            ..base("take-over and fail-back without an SCS")
        },
        Setup {
            budget: budget(0, 1),
            crashes: &[Crash::Agent],
            milestones: &[Milestone::ReAdoption],
            ..base("an agent that crashed goes on")
        },
    ]
}

/// What must not hold, each with its rule.
#[must_use]
pub fn broken() -> Vec<Setup> {
    let breaking = |breakage, setup: Setup| Setup { breakage: Some(breakage), ..setup };
    let grant = |name| Setup { budget: budget(1, 0), ..quiet(name) };
    let alone = |name| Setup { scs: false, budget: budget(1, 0), flying: 2, ..base(name) };
    let drift = |name| Setup { budget: budget(1, 0), ..quiet_drifting(name) };
    let scs_crashes = |name, times| Setup { budget: budget(1, times), crashes: &[Crash::Scs], ..quiet(name) };
    let forgetful = Setup {
        start: Start::Restarted,
        budget: budget(2, 0),
        flying: 2,
        wants: Wants::ByFirstGrants,
        ..quiet("epochs are forgotten")
    };
    vec![
        breaking(Breakage::AnchoredAtArrival, grant("anchored at arrival")),
        breaking(Breakage::OneVoteIsEnough, grant("one vote is enough")),
        breaking(Breakage::NoQuarantine, scs_crashes("no quarantine", 1)),
        breaking(Breakage::QuarantineForgotten, scs_crashes("a quarantine is forgotten", 2)),
        breaking(Breakage::EpochsForgotten, forgetful),
        breaking(Breakage::ToldBeforeClosed, alone("told before closed")),
        breaking(Breakage::NoFence, alone("no fence, and a late write")),
        breaking(Breakage::NoDriftMargin, drift("no drift margin")),
        breaking(Breakage::HalfDriftMargin, drift("half the drift margin")),
        breaking(Breakage::RelativeWrite, grant("a relative write")),
        breaking(Breakage::ConditionalWrite, grant("a merely conditional write")),
        breaking(Breakage::ClockReadEarly, grant("the clock is read early")),
    ]
}
