//! What a run of the model explores: who begins how, what may happen how often, and which rule is broken on purpose.

use crate::action::Action;
use crate::world::{Budget, MEMBERS, NOON, Story, World};
use domain::{Epoch, Member};
use lease::{Entitled, Machine, Seat, Timing, Want, Why};
use std::sync::Arc;
use std::time::Duration;

/// A configuration of the model.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its name.
    pub name: &'static str,
    /// The durations, microseconds of the hosts' clocks.
    pub timing: Timing,
    /// Other durations, which seats may be told of one after the other.
    pub other_timing: Option<Timing>,
    /// By how much each seat's clock may advance in a tick of true time: any of these, each tick anew.
    pub speeds: [&'static [u64]; 3],
    /// How it begins.
    pub start: Start,
    /// What is wanted of the agents.
    pub wants: Wants,
    /// Whether the SCS takes part at all.
    pub scs: bool,
    /// How often what is rare may happen.
    pub budget: Budget,
    /// Which crashes there are.
    pub crashes: &'static [Crash],
    /// Most messages that are on their way at a time; what is beyond is lost, whichever it is.
    pub flying: usize,
    /// Most steps on the way to a state; none: any number.
    pub steps: Option<usize>,
    /// Greatest epoch that is explored.
    pub max_epoch: Epoch,
    /// What must be seen to be possible.
    pub milestones: &'static [Milestone],
    /// Look from one in so many states whether service comes back when faults end.
    pub recovery_of_one_in: Option<u64>,
    /// The rule that is broken on purpose, if any. Only [`crate::model::ONE_HOLDER`] is looked at then.
    pub breakage: Option<Breakage>,
    /// Let clocks run on instead of setting them back after each tick: then nothing is explored to the end, but it is
    /// the plain model, which the other can be compared with.
    pub keep_time: bool,
}

/// How it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Everybody has been up for longer than a quarantine; nobody holds and nothing is wanted.
    Fresh,
    /// First holds under epoch 2, confirmed by both others; Second stands by.
    Settled,
    /// First holds under epoch 2, confirmed by both others; Second does not stand by.
    Alone,
    /// First holds under epoch 2, confirmed by one other voter alone; the third's vote is free.
    BackedBy(Seat),
    /// The same, and First let go. The other voter was not yet told.
    LetGo(Seat),
    /// First held under epoch 2 and let go; before Second was told, First's host was restarted, a quarantine ago.
    Restarted,
}

/// What is wanted of the agents, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Anything at any time, and the SCS promises to anybody: safety must not depend on who asks for what.
    Anything,
    /// What the product asks for: a role that the SCS granted, or that is taken over alone after the peer let go.
    AsTheProduct,
    /// Of that, only the SCS's grants.
    Granted,
    /// To hold by each member's very first grant, or nothing: agents that do not know what happened since.
    ByFirstGrants,
}

/// A crash, and what is left after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Crash {
    /// An agent; its memory is left.
    Agent,
    /// An agent; its memory is lost, its host's gate is not.
    AgentForgets,
    /// A host: memory and gate are gone.
    Host,
    /// The SCS: it keeps the greatest epoch that it saw, and nothing else.
    Scs,
}

/// Something that must be possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// First let go, and Second took over.
    TakeOver,
    /// The same without a tick in which nobody answers.
    SeamlessTakeOver,
    /// Second took over, and First holds again.
    FailBack,
    /// Somebody holds.
    Service,
    /// An agent crashed while its gate was open, and its next run renewed the lease before it ended.
    ReAdoption,
}

/// A rule of the design that is broken on purpose, to see that it is needed and that the model would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// R1: a lease is anchored when the promise arrives.
    AnchoredAtArrival,
    /// One's own promise alone makes a lease.
    OneVoteIsEnough,
    /// R4: a voter that lost its memory promises and asks at once.
    NoQuarantine,
    /// R4: a voter that crashes a second time in its quarantine begins without one.
    QuarantineForgotten,
    /// R4: neither the agents' epochs nor the SCS's survive a loss of memory, and what an agent sent before it is still
    /// delivered (its link to the others is not a new one, with new keys).
    EpochsForgotten,
    /// R5: the voters are told before the gate is closed.
    ToldBeforeClosed,
    /// R5, R6: the gate is closed without a fence, while another thread may still have an older write to do.
    NoFence,
    /// R6 alone: another thread writes to the gate, late and in any order; but there is a fence.
    GateWrittenLate,
    /// R2: a promise lasts as long as a lease.
    NoDriftMargin,
    /// R2: a promise is longer by half of what the clocks may differ.
    HalfDriftMargin,
    /// R3: the gate is told how long, not until when.
    RelativeWrite,
    /// R3: the same, unless the lease is over when it is told.
    ConditionalWrite,
    /// The clock is read before the message is taken in, and the thread stalls between the two.
    ClockReadEarly,
}

impl Breakage {
    /// The durations under this breakage.
    #[must_use]
    pub fn timing(self, timing: Timing) -> Timing {
        let (hold, promise) = (timing.hold(), timing.promise());
        let promise = match self {
            Breakage::NoDriftMargin => hold,
            Breakage::HalfDriftMargin => hold + (promise - hold) / 2,
            Breakage::AnchoredAtArrival
            | Breakage::OneVoteIsEnough
            | Breakage::NoQuarantine
            | Breakage::QuarantineForgotten
            | Breakage::EpochsForgotten
            | Breakage::ToldBeforeClosed
            | Breakage::NoFence
            | Breakage::GateWrittenLate
            | Breakage::RelativeWrite
            | Breakage::ConditionalWrite
            | Breakage::ClockReadEarly => promise,
        };
        Timing::unchecked(timing.every(), hold, promise)
    }
}

impl Setup {
    /// The durations that are in force.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.breakage.map_or(self.timing, |breakage| breakage.timing(self.timing))
    }

    /// Whether a rule is broken on purpose.
    #[must_use]
    pub fn breaks(&self, breakage: Breakage) -> bool {
        self.breakage == Some(breakage)
    }

    /// A tick like any other.
    #[must_use]
    pub fn a_tick(&self) -> [u64; 3] {
        self.speeds.map(|speeds| speeds[0])
    }

    /// Longest that a promise can last.
    #[must_use]
    pub fn longest_promise(&self) -> Duration {
        let promise = self.timing().promise();
        self.other_timing.map_or(promise, |other| other.promise().max(promise))
    }

    /// The state in which it begins.
    #[must_use]
    pub fn beginning(&self) -> World {
        let timing = self.timing();
        // Their quarantine is just over.
        let long_ago = NOON - timing.promise();
        let none = Budget { orders: 0, faults: 0, settings: 0 };
        let mut world = World {
            machines: Seat::ALL.map(|seat| Arc::new(Machine::new(seat, timing, Epoch(0), long_ago))),
            clocks: [NOON; 3],
            gates: Default::default(),
            undone: Default::default(),
            strays: Default::default(),
            flying: Vec::new(),
            told: [None; 2],
            peer_failed: [false; 2],
            left: none,
            held: [Epoch(0); 2],
            forgot: false,
            story: Story::default(),
            broken: None,
        };
        world.set_back();
        match self.start {
            Start::Fresh => {}
            // By the rules: what is broken begins from something that happens.
            Start::Settled | Start::Alone | Start::BackedBy(_) | Start::LetGo(_) | Start::Restarted => {
                Setup { breakage: None, ..self.clone() }.settle(&mut world);
                match self.start {
                    Start::LetGo(voter) => self.let_go(&mut world, voter),
                    Start::Restarted => self.restart(&mut world),
                    Start::Fresh | Start::Settled | Start::Alone | Start::BackedBy(_) => {}
                }
            }
        }
        world.left = self.budget;
        world
    }

    /// Time passes in which First hears from one of the others only, until the third's promise has run out.
    fn lose_the_third(&self, world: &mut World, voter: Seat) {
        let first = Seat::Member(Member::First);
        let third = Seat::ALL.into_iter().find(|seat| *seat != first && *seat != voter);
        while third.is_some_and(|third| world.machine(third).promised_to().is_some()) {
            *world = self.after(world, Action::Tick(self.a_tick()), &mut |_| ());
            assert!(self.quiet(world, third), "it settles");
        }
    }

    /// First lets go; what it tells one voter is still on its way, the rest is lost.
    fn let_go(&self, world: &mut World, told: Seat) {
        self.input(world, Seat::Member(Member::First), &mut |_| (), |machine, now, out| {
            machine.want(Want::Nothing, Why::Failed, false, now, out);
        });
        *world = self.after(world, Action::GoOn(Member::First), &mut |_| ());
        world.flying.retain(|packet| packet.to == told);
    }

    /// First lets go, and its host is restarted.
    fn restart(&self, world: &mut World) {
        self.let_go(world, Seat::Member(Member::Second));
        world.left.faults = 1;
        let crash = Action::Crash(Seat::Member(Member::First), Crash::Host);
        *world = self.after(world, crash, &mut |_| ());
        for _ in 0..self.timing().promise().as_micros() {
            *world = self.after(world, Action::Tick(self.a_tick()), &mut |_| ());
        }
    }

    /// First is granted the role and wins the lease; Second stands by.
    fn settle(&self, world: &mut World) {
        let granted = Epoch(0).next_of(Member::First);
        let only = Entitled::Only { member: Member::First, granted };
        self.input(world, Seat::Scs, &mut |_| (), |machine, now, out| machine.entitle(only, now, out));
        let second = if self.start == Start::Settled { Want::Standby } else { Want::Nothing };
        for (member, want) in MEMBERS.into_iter().zip([Want::Hold { granted }, second]) {
            self.input(world, Seat::Member(member), &mut |_| (), |machine, now, out| {
                machine.want(want, Why::Ordered, false, now, out);
            });
        }
        for _ in 0..3 {
            assert!(self.calm(world), "it settles");
        }
        if let Start::BackedBy(voter) | Start::LetGo(voter) = self.start {
            self.lose_the_third(world, voter);
        }
        world.flying.clear();
        assert!(world.open().eq([Member::First]), "First holds: {world:?}");
    }
}

/// Durations from numbers of microseconds.
#[must_use]
pub fn timing(every: u64, hold: u64, promise: u64) -> Timing {
    let us = Duration::from_micros;
    Timing::unchecked(us(every), us(hold), us(promise))
}
