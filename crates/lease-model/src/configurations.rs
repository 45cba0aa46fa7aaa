//! The configurations that are explored: the machine under its rules, which must hold, and each rule broken on purpose,
//! which must show.

use crate::setup::{Breakage, Crash, Milestone, Setup, Start, Wants, timing};
use crate::world::Budget;
use domain::{Epoch, Member};
use lease::Seat;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// What is explored to its end within a minute, all together.
    Small,
    /// What takes a quarter of an hour of processor time.
    Long,
}

/// Every crash.
const EVERYBODY: &[Crash] = &[Crash::Agent, Crash::AgentForgets, Crash::Host, Crash::Scs];
/// The agents' and their hosts'.
const AGENTS: &[Crash] = &[Crash::Agent, Crash::AgentForgets, Crash::Host];

const SECOND: Seat = Seat::Member(Member::Second);

/// A lease of two renewals, clocks that agree, First holding and Second standing by, and nothing that happens.
fn base(name: &'static str) -> Setup {
    Setup {
        name,
        timing: timing(1, 2, 2),
        other_timing: None,
        speeds: [&[1]; 3],
        start: Start::Settled,
        wants: Wants::AsTheProduct,
        scs: true,
        budget: budget(0, 0),
        crashes: &[],
        flying: 1,
        steps: None,
        max_epoch: Epoch(7),
        milestones: &[],
        recovery_of_one_in: None,
        breakage: None,
        keep_time: false,
    }
}

/// The same in which Second does not stand by, and nothing is ordered but grants.
fn quiet(name: &'static str) -> Setup {
    Setup { wants: Wants::Granted, start: Start::Alone, ..base(name) }
}

/// The same with clocks that advance by 2 or 3 units a tick, each as it likes: a fifth off either way. By R2 a promise is
/// one and a half times as long as a lease, rounded up.
fn drifting(name: &'static str) -> Setup {
    Setup { timing: timing(2, 5, 8), speeds: [&[2, 3]; 3], ..quiet(name) }
}

/// A host that was restarted, and agents that go by grants of long ago.
fn restarted(name: &'static str) -> Setup {
    Setup {
        start: Start::Restarted,
        wants: Wants::ByFirstGrants,
        budget: budget(2, 0),
        flying: 2,
        ..base(name)
    }
}

/// First is backed by one voter alone, and the members ask by grants of long ago.
fn backed_by(voter: Seat, name: &'static str) -> Setup {
    Setup {
        start: Start::BackedBy(voter),
        wants: Wants::ByFirstGrants,
        budget: budget(2, 1),
        steps: Some(12),
        ..base(name)
    }
}

/// First let go and one voter was not yet told, and the members ask by grants of long ago.
fn let_go(name: &'static str) -> Setup {
    Setup {
        start: Start::LetGo(Seat::Scs),
        wants: Wants::ByFirstGrants,
        budget: budget(2, 0),
        flying: 2,
        steps: Some(14),
        ..base(name)
    }
}

fn budget(orders: u8, faults: u8) -> Budget {
    Budget { orders, faults, settings: 0 }
}

/// What must hold.
#[must_use]
pub fn safe(bounds: Bounds) -> Vec<Setup> {
    match bounds {
        Bounds::Small => small(),
        Bounds::Long => long(),
    }
}

fn small() -> Vec<Setup> {
    vec![
        Setup { flying: 2, recovery_of_one_in: Some(64), ..base("renewals") },
        Setup { wants: Wants::Anything, budget: budget(1, 0), ..base("anything is wanted") },
        Setup { scs: false, budget: budget(2, 0), recovery_of_one_in: Some(64), ..base("no SCS") },
        Setup { scs: false, budget: budget(1, 1), crashes: AGENTS, ..base("no SCS, an agent crashes") },
        Setup {
            budget: budget(0, 1),
            crashes: EVERYBODY,
            recovery_of_one_in: Some(1),
            ..quiet("one crashes")
        },
        Setup {
            // A voter's clock twice as fast as the holder's: a promise is twice as long as a lease.
            timing: timing(1, 2, 4),
            speeds: [&[1], &[2], &[2]],
            budget: budget(1, 0),
            ..quiet("a grant, voters' clocks twice as fast")
        },
        Setup { flying: 1, ..restarted("old grants after a restart") },
        let_go("a release is late"),
        Setup {
            budget: Budget { orders: 1, faults: 0, settings: 3 },
            other_timing: Some(timing(1, 3, 3)),
            steps: Some(14),
            ..backed_by(Seat::Scs, "backed by the SCS alone, longer leases")
        },
        Setup { crashes: AGENTS, ..backed_by(Seat::Scs, "backed by the SCS alone, an agent crashes") },
        Setup { crashes: &[Crash::Scs], ..backed_by(SECOND, "backed by the peer alone, the SCS crashes") },
    ]
}

fn long() -> Vec<Setup> {
    let crash = |name, crashes| Setup {
        budget: budget(1, 1),
        crashes,
        recovery_of_one_in: Some(4096),
        ..quiet(name)
    };
    vec![
        Setup { flying: 3, recovery_of_one_in: Some(4096), ..base("renewals, 3 messages") },
        Setup { wants: Wants::Anything, budget: budget(2, 0), ..base("anything is wanted, twice") },
        Setup {
            wants: Wants::Anything,
            budget: budget(1, 0),
            flying: 2,
            ..base("anything is wanted, 2 messages")
        },
        Setup { scs: false, budget: budget(3, 0), flying: 2, ..base("no SCS, 3 orders, 2 messages") },
        Setup {
            scs: false,
            budget: budget(2, 1),
            crashes: AGENTS,
            ..base("no SCS, 2 orders, an agent crashes")
        },
        Setup { budget: budget(1, 0), flying: 2, ..quiet("a grant, 2 messages") },
        crash("a grant, an agent crashes", &[Crash::Agent]),
        crash("a grant, an agent forgets", &[Crash::AgentForgets]),
        crash("a grant, a host is restarted", &[Crash::Host]),
        crash("a grant, the SCS crashes", &[Crash::Scs]),
        Setup { budget: budget(0, 2), crashes: EVERYBODY, ..base("two crash") },
        Setup { budget: budget(1, 0), ..drifting("a grant, clocks as they like") },
        Setup {
            budget: budget(1, 0),
            breakage: Some(Breakage::GateWrittenLate),
            ..quiet("a grant, the gate is written late")
        },
        Setup {
            budget: Budget { orders: 1, faults: 0, settings: 3 },
            other_timing: Some(timing(1, 3, 3)),
            ..quiet("a grant, longer leases")
        },
        restarted("old grants after a restart, 2 messages"),
        Setup { steps: Some(20), ..let_go("a release is late, 20 steps") },
        Setup {
            steps: Some(16),
            crashes: EVERYBODY,
            ..backed_by(Seat::Scs, "backed by the SCS alone, one crashes")
        },
        Setup {
            steps: Some(16),
            crashes: EVERYBODY,
            ..backed_by(SECOND, "backed by the peer alone, one crashes")
        },
    ]
}

/// What is walked through at random: everything at once, up to twenty crashes and a hundred orders, six messages on their
/// way, clocks as they like.
#[must_use]
pub fn walked() -> Vec<Setup> {
    let wild = |name| Setup {
        start: Start::Settled,
        budget: Budget { orders: 100, faults: 20, settings: 3 },
        other_timing: Some(timing(2, 8, 12)),
        crashes: EVERYBODY,
        flying: 6,
        max_epoch: Epoch(u64::MAX),
        ..drifting(name)
    };
    vec![
        Setup { wants: Wants::Anything, ..wild("anything is wanted, at random") },
        Setup { wants: Wants::AsTheProduct, ..wild("as the product wants, at random") },
        Setup { wants: Wants::AsTheProduct, scs: false, ..wild("no SCS, at random") },
    ]
}

/// What must be possible.
#[must_use]
pub fn possible(bounds: Bounds) -> Vec<Setup> {
    let moves = &[Milestone::TakeOver, Milestone::SeamlessTakeOver, Milestone::FailBack];
    let (orders, by_scs) = match bounds {
        Bounds::Small => (1, &moves[..2]),
        Bounds::Long => (2, &moves[..]),
    };
    vec![
        Setup {
            wants: Wants::Granted,
            budget: budget(orders, 0),
            milestones: by_scs,
            ..base("the role moves, by the SCS")
        },
        Setup { scs: false, budget: budget(2, 0), milestones: moves, ..base("the role moves, no SCS") },
        Setup {
            scs: false,
            start: Start::Fresh,
            wants: Wants::ByFirstGrants,
            budget: budget(1, 0),
            milestones: &[Milestone::Service],
            ..base("service begins, no SCS")
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
    let drift = |name| Setup { budget: budget(1, 0), ..drifting(name) };
    let scs_crashes = |name, times| Setup { budget: budget(1, times), crashes: &[Crash::Scs], ..quiet(name) };
    vec![
        breaking(Breakage::AnchoredAtArrival, grant("anchored at arrival")),
        breaking(Breakage::OneVoteIsEnough, grant("one vote is enough")),
        breaking(Breakage::NoQuarantine, scs_crashes("no quarantine", 1)),
        breaking(Breakage::QuarantineForgotten, scs_crashes("a quarantine is forgotten", 2)),
        breaking(Breakage::EpochsForgotten, restarted("epochs are forgotten")),
        breaking(Breakage::ToldBeforeClosed, alone("told before closed")),
        breaking(Breakage::NoFence, alone("no fence, and a late write")),
        breaking(Breakage::NoDriftMargin, drift("no drift margin")),
        breaking(Breakage::HalfDriftMargin, drift("half the drift margin")),
        breaking(Breakage::RelativeWrite, grant("a relative write")),
        breaking(Breakage::ConditionalWrite, grant("a merely conditional write")),
        breaking(Breakage::ClockReadEarly, grant("the clock is read early")),
    ]
}
