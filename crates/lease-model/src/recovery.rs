//! Whether service comes back once faults end: from any state, when everybody is awake, every message arrives at once, and
//! one member is granted the role. A state from which it does not is one in which the machines are stuck.

use crate::action::Action;
use crate::setup::Setup;
use crate::world::World;
use domain::Member;
use lease::{Entitled, Machine, Seat, Want, Why};
use std::sync::Arc;

/// More messages in a tick than any calm network carries: they answer each other without end.
const MOST_STEPS: usize = 1_000;

impl Setup {
    /// Whether, from this state, each of the members can be given the role by the SCS, and by itself without one.
    #[must_use]
    pub fn comes_back(&self, world: &World) -> bool {
        let ways = [Member::First, Member::Second].into_iter().flat_map(|member| {
            let without = self.without_scs();
            let with = self.scs.then_some(self);
            let outcome = move |setup: &Setup| setup.serves_again(world, member);
            [with.map(outcome), Some(outcome(&without))]
        });
        ways.flatten().all(|served| served)
    }

    fn without_scs(&self) -> Self {
        Self { scs: false, ..self.clone() }
    }

    /// Grants the role to a member, and waits for as long as promises and quarantines can last.
    fn serves_again(&self, world: &World, member: Member) -> bool {
        let mut world = world.clone();
        if !self.scs {
            world.flying.retain(|packet| packet.to != Seat::Scs);
        }
        // Everybody has the same settings in the end.
        if let Some(other) = self.other_timing
            && world.machines.iter().any(|machine| machine.timing() == other)
        {
            world.machines.iter_mut().for_each(|machine| Arc::make_mut(machine).set_timing(other));
        }
        // What was decided before is carried out, and what is on its way arrives, before anybody wants anything else.
        if !self.quiet(&mut world, None) {
            return false;
        }
        let granted = world.next_grant(member);
        let only = Entitled::Only { member, granted };
        if self.scs {
            self.input(&mut world, Seat::Scs, &mut |_| (), |machine, now, out| {
                machine.entitle(only, now, out)
            });
        }
        for (member, want) in [(member, Want::Hold { granted }), (member.other(), Want::Standby)] {
            self.input(&mut world, Seat::Member(member), &mut |_| (), |machine, now, out| {
                machine.want(want, Why::Ordered, false, now, out);
            });
        }
        let slowest = self.a_tick().into_iter().min().unwrap_or(1);
        let promise = u64::try_from(self.longest_promise().as_micros()).unwrap_or(u64::MAX) / slowest + 1;
        (0..2 * promise + 3).all(|_| self.calm(&mut world))
            && (0..promise).all(|_| self.calm(&mut world) && world.is_open(member))
    }

    /// A tick in which everything goes as it should. False: the messages answer each other without end.
    pub fn calm(&self, world: &mut World) -> bool {
        if !self.quiet(world, None) {
            return false;
        }
        world.tick(self.a_tick(), self.keep_time);
        self.quiet(world, None)
    }

    /// Everything that is due is done, and everything that is on its way arrives, but to and from one seat, perhaps. False:
    /// as above.
    pub(crate) fn quiet(&self, world: &mut World, cut_off: Option<Seat>) -> bool {
        for _ in 0..MOST_STEPS {
            world.flying.retain(|packet| Some(packet.from) != cut_off && Some(packet.to) != cut_off);
            let busy = [Member::First, Member::Second].into_iter().find(|m| world.is_busy(Seat::Member(*m)));
            if let Some(member) = busy {
                *world = self.after(world, Action::GoOn(member), &mut |_| ());
            } else if let Some(packet) = world.flying.first().copied() {
                world.flying.remove(0);
                *world = self.after(world, Action::Deliver(packet), &mut |_| ());
            } else if let Some(seat) = self.due(world) {
                self.input(world, seat, &mut |_| (), Machine::time_passed);
            } else {
                return true;
            }
        }
        false
    }

    fn due(&self, world: &World) -> Option<Seat> {
        let awake = Seat::ALL.into_iter().filter(|seat| self.scs || *seat != Seat::Scs);
        awake
            .into_iter()
            .find(|seat| world.machine(*seat).next_deadline().is_some_and(|at| at <= world.clock(*seat)))
    }
}
