//! A step is taken: the machine gets its input, and its outputs are carried out as the agent's thread would, or, where a
//! rule is broken on purpose, as it must not.

use crate::action::{Action, Order, told};
use crate::gate::GateWrite;
use crate::setup::{Breakage, Crash, Setup};
use crate::world::{MEMBERS, Packet, Task, Told, World, index};
use domain::{Epoch, Member, Micros};
use lease::{Body, Entitled, Kind, Machine, Memory, Output, Seat, Want, Why};
use std::sync::Arc;
use std::time::Duration;

/// What a step led to, for a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A machine decided this.
    Decided(Seat, Output),
    /// A gate was written to.
    Wrote(Member, GateWrite),
    /// A message went out.
    Sent(Packet),
}

/// Takes notes.
pub type Notes<'a> = &'a mut dyn FnMut(Note);

impl Setup {
    /// The state after a step.
    #[must_use]
    pub fn after(&self, world: &World, action: Action, notes: Notes<'_>) -> World {
        let mut next = world.clone();
        self.apply(&mut next, action, notes);
        next
    }

    fn apply(&self, world: &mut World, action: Action, notes: Notes<'_>) {
        match action {
            Action::Tick(steps) => {
                world.story.dark |= self.tells_stories() && world.open().next().is_none();
                world.tick(steps, self.keep_time);
            }
            Action::Due(seat) => self.input(world, seat, notes, Machine::time_passed),
            Action::Deliver(packet) => self.deliver(world, packet, world.clock(packet.to), notes),
            Action::DeliverByOldClock(packet) => {
                let clock = world.clock(packet.to) - self.timing.hold();
                self.deliver(world, packet, clock, notes);
            }
            Action::LoseBut(kept) => {
                let mut bits = (0..).map(|place| kept >> place & 1 == 1);
                world.flying.retain(|_| bits.next() == Some(true));
            }
            Action::GoOn(member) => self.go_on(world, member, notes),
            Action::WriteLate(member, place) => {
                let write = world.strays[index(member)].remove(place);
                self.write(world, member, write, notes);
            }
            Action::Order(order) => self.order(world, order, notes),
            Action::Crash(seat, crash) => {
                world.left.faults -= 1;
                self.crash(world, seat, crash, notes);
            }
            Action::Settings(seat) => {
                world.left.settings -= 1;
                if let Some(other) = self.other_timing {
                    Arc::make_mut(&mut world.machines[seat.index()]).set_timing(other);
                }
            }
        }
    }

    /// Gives a machine an input, and does what it wants done.
    pub fn input(
        &self,
        world: &mut World,
        seat: Seat,
        notes: Notes<'_>,
        input: impl FnOnce(&mut Machine, Micros, &mut Vec<Output>),
    ) {
        self.input_at(world, seat, world.clock(seat), notes, input);
    }

    fn input_at(
        &self,
        world: &mut World,
        seat: Seat,
        now: Micros,
        notes: Notes<'_>,
        input: impl FnOnce(&mut Machine, Micros, &mut Vec<Output>),
    ) {
        let mut out = Vec::new();
        input(Arc::make_mut(&mut world.machines[seat.index()]), now, &mut out);
        if self.breaks(Breakage::OneVoteIsEnough) {
            vote_twice(world, seat, now, &mut out);
        }
        self.follow(world, seat, out, notes);
    }

    fn deliver(&self, world: &mut World, packet: Packet, now: Micros, notes: Notes<'_>) {
        let Packet { from, to, mut body } = packet;
        if let (Body::Promise { at, .. }, true) = (&mut body, self.breaks(Breakage::AnchoredAtArrival)) {
            *at = now;
        }
        self.input_at(world, to, now, notes, |machine, now, out| machine.hear(from, body, now, out));
    }

    fn order(&self, world: &mut World, order: Order, notes: Notes<'_>) {
        match order {
            Order::Want { .. } | Order::Entitle(_) | Order::Grant(_) | Order::Fail { .. } => {
                world.left.orders -= 1;
            }
            Order::Obey(_) | Order::Ready(_) | Order::TakeOverAlone(_) => {}
        }
        match order {
            Order::Want { member, want, hand_over } => self.want(world, member, want, hand_over, notes),
            Order::Entitle(entitled) => {
                self.input(world, Seat::Scs, notes, |machine, now, out| machine.entitle(entitled, now, out));
            }
            Order::Grant(to) => {
                let granted = world.next_grant(to);
                let only = Entitled::Only { member: to, granted };
                self.input(world, Seat::Scs, notes, |machine, now, out| machine.entitle(only, now, out));
                world.told = MEMBERS.map(|member| Some(told(member, to, granted)));
            }
            Order::Obey(member) => match world.told[index(member)].take() {
                Some(Told::Primary(granted)) => {
                    self.want(world, member, Want::Hold { granted }, false, notes)
                }
                Some(Told::Backup) => self.want(world, member, Want::Standby, false, notes),
                None => {}
            },
            Order::Fail { member, hand_over } => self.want(world, member, Want::Nothing, hand_over, notes),
            Order::Ready(member) => self.want(world, member, Want::Standby, false, notes),
            Order::TakeOverAlone(member) => {
                world.peer_failed[index(member)] = false;
                let granted = world.machine(Seat::Member(member)).next_grant();
                self.want(world, member, Want::Hold { granted }, false, notes);
            }
        }
    }

    fn want(&self, world: &mut World, member: Member, want: Want, hand_over: bool, notes: Notes<'_>) {
        let why = if want == Want::Nothing { Why::Failed } else { Why::Ordered };
        self.input(world, Seat::Member(member), notes, |machine, now, out| {
            machine.want(want, why, hand_over, now, out);
        });
    }

    /// Takes what a machine wants done. Up to the next write to the gate it is as good as done: a message that leaves
    /// later is a message that takes longer. The write, and what comes behind it, waits for the thread to go on.
    fn follow(&self, world: &mut World, seat: Seat, out: Vec<Output>, notes: Notes<'_>) {
        let mut tasks = Vec::new();
        for output in out {
            notes(Note::Decided(seat, output));
            match (output, seat) {
                (Output::Send(to, body), _) => tasks.push(Task::Send(Packet { from: seat, to, body })),
                (Output::Open { epoch, until }, Seat::Member(member)) => {
                    self.watch_epochs(world, member, epoch, until);
                    tasks.push(Task::Write(self.opening(world, member, epoch, until)));
                }
                (Output::Close { epoch }, Seat::Member(_)) => {
                    let just_close = self.breaks(Breakage::NoFence);
                    let close = if just_close { GateWrite::JustClose } else { GateWrite::Close { epoch } };
                    tasks.push(Task::Write(close));
                }
                (Output::Released { by, why, .. }, Seat::Member(member)) if by != member => {
                    world.peer_failed[index(member)] = why == Why::Failed;
                }
                (Output::Lost { .. } | Output::Outdated { .. } | Output::Released { .. }, _) => {}
                (Output::Open { .. } | Output::Close { .. }, Seat::Scs) => {
                    world.broken = Some("the SCS holds nothing");
                }
            }
        }
        if self.breaks(Breakage::ToldBeforeClosed) {
            tasks.sort_by_key(|task| matches!(task, Task::Write(_)));
        }
        match seat {
            Seat::Member(member) => {
                world.undone[index(member)].extend(tasks);
                self.work(world, member, notes);
            }
            Seat::Scs => {
                for task in tasks {
                    if let Task::Send(packet) = task {
                        self.send(world, packet, notes);
                    }
                }
            }
        }
    }

    /// Does what an agent's thread has to do, up to the next write to its gate.
    fn work(&self, world: &mut World, member: Member, notes: Notes<'_>) {
        let late = self.breaks(Breakage::GateWrittenLate) || self.breaks(Breakage::NoFence);
        while let Some(task) = world.undone[index(member)].first().copied() {
            match task {
                Task::Send(packet) => self.send(world, packet, notes),
                Task::Write(write @ (GateWrite::Close { .. } | GateWrite::JustClose)) if late => {
                    self.write(world, member, write, notes);
                }
                Task::Write(write) if late => {
                    let strays = &mut world.strays[index(member)];
                    strays.push(write);
                    strays.sort_unstable();
                }
                Task::Write(_) => return,
            }
            world.undone[index(member)].remove(0);
        }
    }

    fn go_on(&self, world: &mut World, member: Member, notes: Notes<'_>) {
        if let Task::Write(write) = world.undone[index(member)].remove(0) {
            self.write(world, member, write, notes);
        }
        self.work(world, member, notes);
    }

    fn send(&self, world: &mut World, packet: Packet, notes: Notes<'_>) {
        if self.scs || packet.to != Seat::Scs {
            notes(Note::Sent(packet));
            world.send(packet);
        }
    }

    fn write(&self, world: &mut World, member: Member, write: GateWrite, notes: Notes<'_>) {
        notes(Note::Wrote(member, write));
        let now = world.clock(Seat::Member(member));
        let gate = &mut world.gates[index(member)];
        let before = *gate;
        gate.write(write, now);
        let renewed = before.is_open(now) && gate.until > before.until;
        if world.story.crashed_open && renewed && !world.story.dark {
            world.story.readopted = true;
        }
    }

    /// The write that opens the gate.
    fn opening(&self, world: &World, member: Member, epoch: Epoch, until: Micros) -> GateWrite {
        let lasting = until.since(world.clock(Seat::Member(member)));
        if self.breaks(Breakage::RelativeWrite) {
            GateWrite::OpenFor { epoch, lasting, unless_after: None }
        } else if self.breaks(Breakage::ConditionalWrite) {
            GateWrite::OpenFor { epoch, lasting, unless_after: Some(until) }
        } else {
            GateWrite::Open { epoch, until }
        }
    }

    /// Epochs grow at a holder, and over all holders as long as every voter remembers.
    fn watch_epochs(&self, world: &mut World, member: Member, epoch: Epoch, until: Micros) {
        let now = world.clock(Seat::Member(member));
        let [mine, theirs] = [world.held[index(member)], world.held[index(member.other())]];
        if epoch < mine {
            world.broken = Some("a holder's epoch went down");
        } else if epoch < theirs && until > now && !world.forgot {
            world.broken = Some("an older epoch was held after a newer one");
        }
        world.held[index(member)] = epoch;
    }

    fn crash(&self, world: &mut World, seat: Seat, crash: Crash, notes: Notes<'_>) {
        let now = world.clock(seat);
        let in_quarantine = quarantine(world.machine(seat));
        let mut out = Vec::new();
        if let Seat::Member(member) = seat {
            world.story.crashed_open |=
                self.tells_stories() && crash == Crash::Agent && world.is_open(member);
            (world.undone[index(member)], world.strays[index(member)]) = (Vec::new(), Vec::new());
            world.peer_failed[index(member)] = false;
            // The next run finds the server as it is, unless the whole host was restarted.
            world.told[index(member)] = match world.machine(seat).wanted() {
                Want::Hold { granted } if crash != Crash::Host => Some(Told::Primary(granted)),
                Want::Hold { .. } | Want::Standby | Want::Nothing => None,
            };
        }
        world.forgot |= matches!(crash, Crash::AgentForgets | Crash::Host);
        let machine = match (crash, seat) {
            (Crash::Agent, Seat::Member(member)) => {
                let bytes = world.machine(seat).memory().to_bytes();
                let memory = match Memory::from_bytes(&bytes) {
                    Some(_) if in_quarantine && self.breaks(Breakage::QuarantineForgotten) => {
                        Memory::default()
                    }
                    Some(memory) => memory,
                    None => unreachable!("what was written whole can be read"),
                };
                Machine::resume(member, world.machine(seat).timing(), &memory, now, &mut out)
            }
            (Crash::AgentForgets | Crash::Host, Seat::Member(member)) => {
                world.held[index(member)] = Epoch(0);
                if crash == Crash::Host {
                    world.gates[index(member)] = Default::default();
                    world.gates[index(member)].until = now;
                }
                // A new run has new links, with new keys: what the old one sent is not understood any more.
                if !self.breaks(Breakage::EpochsForgotten) {
                    world.flying.retain(|packet| packet.from != seat && packet.to != seat);
                }
                // What its gate refuses tells what was held here.
                let fence = world.gates[index(member)].fence;
                let mut machine = self.without_memory(world, seat, Epoch(0), in_quarantine);
                if fence > Epoch(0) && !self.breaks(Breakage::EpochsForgotten) {
                    machine.fenced_off(Epoch(fence.0 - 1));
                }
                machine
            }
            (Crash::Scs, Seat::Scs) => {
                let forgets = self.breaks(Breakage::EpochsForgotten);
                let seen = if forgets { Epoch(0) } else { world.machine(seat).seen() };
                self.without_memory(world, seat, seen, in_quarantine)
            }
            (Crash::Agent | Crash::AgentForgets | Crash::Host, Seat::Scs) | (Crash::Scs, Seat::Member(_)) => {
                unreachable!("nobody's crash")
            }
        };
        world.machines[seat.index()] = Arc::new(machine);
        self.follow(world, seat, out, notes);
    }

    fn without_memory(&self, world: &World, seat: Seat, seen: Epoch, in_quarantine: bool) -> Machine {
        let timing = world.machine(seat).timing();
        let forgotten = in_quarantine && self.breaks(Breakage::QuarantineForgotten);
        let skipped = self.breaks(Breakage::NoQuarantine) || forgotten;
        let now = world.clock(seat);
        let begun = if skipped { now - timing.promise() } else { now };
        // The settings may have been others when the last promises were given.
        let promised = if skipped { Duration::ZERO } else { self.longest_promise() };
        Machine::new(seat, timing, seen, begun).quiet_for(promised, begun)
    }

    fn tells_stories(&self) -> bool {
        !self.milestones.is_empty()
    }
}

/// Unsafe: an agent counts its own promise as if the SCS had given one too.
fn vote_twice(world: &mut World, seat: Seat, now: Micros, out: &mut Vec<Output>) {
    let asked = out.iter().find_map(|output| match output {
        Output::Send(Seat::Scs, Body::Ask { epoch, at, kind: Kind::Hold { .. }, .. }) => Some((*epoch, *at)),
        _ => None,
    });
    let machine = Arc::make_mut(&mut world.machines[seat.index()]);
    let own = machine.promised_to().map(|(to, ..)| Seat::Member(to)) == Some(seat);
    if let (Some((epoch, at)), true) = (asked, own) {
        machine.hear(Seat::Scs, Body::Promise { epoch, at }, now, out);
    }
}

/// Whether a machine is in its quarantine: the first word of its memory is the time at which that ends.
fn quarantine(machine: &Machine) -> bool {
    machine.memory().to_bytes()[..8] != [u8::MAX; 8]
}
