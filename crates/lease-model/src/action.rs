//! What may happen next. Anything may happen at any time, late, or not at all: a stall, a cut link in one direction or both,
//! and a process that is gone are all nothing but steps that are not taken, and need no action of their own.

use crate::setup::{Breakage, Crash, Setup, Wants};
use crate::world::{MEMBERS, Packet, Told, World, index};
use domain::{Epoch, Member};
use lease::{Entitled, Seat, Want};

/// More messages than any step can leave on their way beyond those that may be.
const MOST_SENT: usize = 12;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// True time passes, and each clock advances by so much.
    Tick([u64; 3]),
    /// A machine's deadline is there, and its thread awake.
    Due(Seat),
    /// A message arrives. It stays on its way: it may arrive again.
    Deliver(Packet),
    /// Unsafe: the same, with what the clock showed before.
    DeliverByOldClock(Packet),
    /// There are too many messages: all are lost but these, a bit for each.
    LoseBut(u32),
    /// An agent's thread goes on: it writes to the gate, and sends what comes behind it.
    GoOn(Member),
    /// Unsafe: another thread does one of its writes, by its place.
    WriteLate(Member, usize),
    /// Somebody wants something else.
    Order(Order),
    /// A crash, and a new start.
    Crash(Seat, Crash),
    /// A seat is told of the other settings.
    Settings(Seat),
}

/// A change of what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// An agent wants this for its host.
    Want {
        /// The agent's member.
        member: Member,
        /// What it wants.
        want: Want,
        /// Its promise goes to the other along with a release.
        hand_over: bool,
    },
    /// The SCS entitles.
    Entitle(Entitled),
    /// The product: the SCS grants the role to a member, and tells both agents.
    Grant(Member),
    /// The product: an agent does what it was told.
    Obey(Member),
    /// The product: a server failed. The agent lets go, and hands over where there is no SCS to decide.
    Fail {
        /// Whose.
        member: Member,
        /// There is no SCS, as far as the agent knows.
        hand_over: bool,
    },
    /// The product: a server is a ready backup (again).
    Ready(Member),
    /// The product: an agent takes over alone, since its peer let go because its server failed.
    TakeOverAlone(Member),
}

impl Setup {
    /// Everything that may happen in a state.
    pub fn list(&self, world: &World, actions: &mut Vec<Action>) {
        if world.flying.len() > self.flying {
            let all = 1 << world.flying.len().min(MOST_SENT);
            let kept = (0..all).filter(|bits: &u32| bits.count_ones() as usize == self.flying);
            actions.extend(kept.map(Action::LoseBut));
            return;
        }
        for member in MEMBERS {
            if world.is_busy(Seat::Member(member)) {
                actions.push(Action::GoOn(member));
            }
            actions.extend((0..world.strays[index(member)].len()).map(|n| Action::WriteLate(member, n)));
        }
        for seat in self.seats().filter(|seat| !world.is_busy(*seat)) {
            if world.machine(seat).next_deadline().is_some_and(|at| at <= world.clock(seat)) {
                actions.push(Action::Due(seat));
            }
        }
        for packet in world.flying.iter().filter(|packet| !world.is_busy(packet.to)) {
            actions.push(Action::Deliver(*packet));
            if self.breaks(Breakage::ClockReadEarly) {
                actions.push(Action::DeliverByOldClock(*packet));
            }
        }
        self.list_orders(world, actions);
        self.list_faults(world, actions);
        self.list_ticks(actions);
    }

    fn seats(&self) -> impl Iterator<Item = Seat> {
        Seat::ALL.into_iter().filter(|seat| self.scs || *seat != Seat::Scs)
    }

    fn list_orders(&self, world: &World, actions: &mut Vec<Action>) {
        let mut orders = Vec::new();
        match self.wants {
            Wants::Anything if world.left.orders > 0 => {
                self.list_anything(world, &mut orders);
            }
            Wants::ByFirstGrants if world.left.orders > 0 => {
                for member in MEMBERS.into_iter().filter(|member| !world.is_busy(Seat::Member(*member))) {
                    let granted = Epoch(1).next_of(member);
                    let wants =
                        [(Want::Nothing, false), (Want::Nothing, true), (Want::Hold { granted }, false)];
                    let before = world.machine(Seat::Member(member)).wanted();
                    let new = wants.into_iter().filter(|(want, _)| *want != before);
                    orders.extend(new.map(|(want, hand_over)| Order::Want { member, want, hand_over }));
                }
            }
            Wants::Anything | Wants::ByFirstGrants => {}
            Wants::AsTheProduct | Wants::Granted => self.list_as_the_product(world, &mut orders),
        }
        actions.extend(orders.into_iter().map(Action::Order));
    }

    fn list_anything(&self, world: &World, orders: &mut Vec<Order>) {
        for member in MEMBERS.into_iter().filter(|member| !world.is_busy(Seat::Member(*member))) {
            let machine = world.machine(Seat::Member(member));
            let mut order = |want, hand_over| {
                if want != machine.wanted() || hand_over {
                    orders.push(Order::Want { member, want, hand_over });
                }
            };
            let mut grants = [world.next_grant(member), machine.next_grant(), Epoch(0).next_of(member)];
            grants.sort_unstable();
            for (place, granted) in grants.into_iter().enumerate() {
                if place == 0 || grants[place - 1] != granted {
                    order(Want::Hold { granted }, false);
                }
            }
            let lets_go = matches!(machine.wanted(), Want::Hold { .. }) || machine.held().is_some();
            order(Want::Standby, false);
            order(Want::Nothing, false);
            if lets_go {
                order(Want::Nothing, true);
            }
        }
        if self.scs {
            orders.push(Order::Entitle(Entitled::Anyone));
            orders.extend(
                MEMBERS.map(|member| {
                    Order::Entitle(Entitled::Only { member, granted: world.next_grant(member) })
                }),
            );
        }
    }

    fn list_as_the_product(&self, world: &World, orders: &mut Vec<Order>) {
        for member in MEMBERS {
            let machine = world.machine(Seat::Member(member));
            if self.scs && world.left.orders > 0 {
                orders.push(Order::Grant(member));
            }
            if world.is_busy(Seat::Member(member)) {
                continue;
            }
            if world.told[index(member)].is_some() {
                orders.push(Order::Obey(member));
            }
            if self.wants == Wants::Granted {
                continue;
            }
            if world.left.orders > 0 && machine.wanted() != Want::Nothing {
                orders.extend([false, true].map(|hand_over| Order::Fail { member, hand_over }));
            }
            match machine.wanted() {
                Want::Nothing => orders.push(Order::Ready(member)),
                Want::Standby if world.peer_failed[index(member)] => {
                    orders.push(Order::TakeOverAlone(member))
                }
                Want::Standby | Want::Hold { .. } => {}
            }
        }
    }

    fn list_faults(&self, world: &World, actions: &mut Vec<Action>) {
        if world.left.faults > 0 {
            for crash in self.crashes {
                match crash {
                    Crash::Agent | Crash::AgentForgets | Crash::Host => {
                        actions.extend(MEMBERS.map(|member| Action::Crash(Seat::Member(member), *crash)));
                    }
                    Crash::Scs => actions.push(Action::Crash(Seat::Scs, *crash)),
                }
            }
        }
        if let (Some(other), 1..) = (self.other_timing, world.left.settings) {
            let untold = self.seats().filter(|seat| world.machine(*seat).timing() != other);
            actions.extend(untold.filter(|seat| !world.is_busy(*seat)).map(Action::Settings));
        }
    }

    fn list_ticks(&self, actions: &mut Vec<Action>) {
        let [first, second, scs] = self.speeds;
        for first in first {
            for second in second {
                for scs in scs {
                    actions.push(Action::Tick([*first, *second, *scs]));
                }
            }
        }
    }
}

/// What the agents are told when the role goes to a member.
#[must_use]
pub fn told(member: Member, to: Member, granted: Epoch) -> Told {
    if member == to { Told::Primary(granted) } else { Told::Backup }
}
