//! One state of the model: the three machines themselves, what is on its way between them, and a gate per host. Nothing here
//! chooses: `actions` lists what may happen next, `apply` does it.

use crate::gate::{Gate, GateWrite};
use domain::{Epoch, Member, Micros};
use lease::{Body, Machine, Seat};
use std::sync::Arc;

/// What every host's clock shows, again after each tick: machines that differ in nothing but what o'clock it is are one
/// state. Greater than any duration of the model.
pub const NOON: Micros = Micros(1_000);

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// In the order of `Seat::ALL`. Shared between states: most steps change one of the three.
    pub machines: [Arc<Machine>; 3],
    /// What each seat's clock shows.
    pub clocks: [Micros; 3],
    /// The hosts' gates.
    pub gates: [Gate; 2],
    /// What each agent's thread has decided and not yet carried out. It takes nothing in meanwhile (R6).
    pub undone: [Vec<Task>; 2],
    /// Writes that an unsafe agent left to another thread, which may do them in any order.
    pub strays: [Vec<GateWrite>; 2],
    /// What was sent and may yet arrive, once, more than once, or never. Sorted.
    pub flying: Vec<Packet>,
    /// What each agent was told by the SCS and has not yet obeyed.
    pub told: [Option<Told>; 2],
    /// Whether each agent knows that its peer's server failed.
    pub peer_failed: [bool; 2],
    /// How much of everything that is rare may still happen.
    pub left: Budget,
    /// Greatest epoch that each host ever held, since its agent last lost its memory.
    pub held: [Epoch; 2],
    /// A voter lost its memory.
    pub forgot: bool,
    /// What has happened; kept where a milestone asks for it only.
    pub story: Story,
    /// A rule about epochs that was broken.
    pub broken: Option<&'static str>,
}

/// Something to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Write to the gate.
    Write(GateWrite),
    /// Send.
    Send(Packet),
}

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Who sent it.
    pub from: Seat,
    /// Whom it is for.
    pub to: Seat,
    /// What it says.
    pub body: Body,
}

/// What an agent was told by the SCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// To be primary under this grant.
    Primary(Epoch),
    /// To be backup.
    Backup,
}

/// How often what is rare may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Changes of what is wanted, whoever's.
    pub orders: u8,
    /// Crashes.
    pub faults: u8,
    /// Changes of the settings.
    pub settings: u8,
}

/// What has happened on the way to a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Story {
    /// For a whole tick no gate was open.
    pub dark: bool,
    /// The agent of a host with an open gate crashed.
    pub crashed_open: bool,
    /// That agent's next run renewed the lease.
    pub readopted: bool,
}

impl World {
    /// The members whose gates are open.
    pub fn open(&self) -> impl Iterator<Item = Member> {
        MEMBERS.into_iter().filter(|member| self.is_open(*member))
    }

    /// Whether a member's gate is open now.
    #[must_use]
    pub fn is_open(&self, member: Member) -> bool {
        self.gates[index(member)].is_open(self.clock(Seat::Member(member)))
    }

    /// What a seat's clock shows.
    #[must_use]
    pub fn clock(&self, seat: Seat) -> Micros {
        self.clocks[seat.index()]
    }

    /// A seat's machine.
    #[must_use]
    pub fn machine(&self, seat: Seat) -> &Machine {
        &self.machines[seat.index()]
    }

    /// The smallest epoch of a member's own above everything that anybody knows of.
    #[must_use]
    pub fn next_grant(&self, member: Member) -> Epoch {
        let known = self.machines.iter().map(|machine| machine.seen().max(machine.granted()));
        known.max().unwrap_or_default().next_of(member)
    }

    /// Whether a seat's thread has something to carry out before it takes in anything else.
    #[must_use]
    pub fn is_busy(&self, seat: Seat) -> bool {
        match seat {
            Seat::Member(member) => !self.undone[index(member)].is_empty(),
            Seat::Scs => false,
        }
    }

    /// Puts a message on its way. One that is there already is not doubled: it may arrive twice as it is.
    pub fn send(&mut self, packet: Packet) {
        if let Err(place) = self.flying.binary_search(&packet) {
            self.flying.insert(place, packet);
        }
    }

    /// Lets true time pass: each clock advances by its own `steps`. Then all clocks are set back to [`NOON`], and all
    /// times with them, unless `keep_time`.
    pub fn tick(&mut self, steps: [u64; 3], keep_time: bool) {
        for (clock, step) in self.clocks.iter_mut().zip(steps) {
            clock.0 += step;
        }
        if !keep_time {
            self.set_back();
        }
    }

    /// Sets all clocks back to [`NOON`].
    pub fn set_back(&mut self) {
        let now = self.clocks;
        let by = now.map(|clock| clock.since(NOON));
        let hold = self.machines[0].timing().hold().max(self.machines[1].timing().hold());
        for machine in &mut self.machines {
            Arc::make_mut(machine).set_back(by, now);
        }
        for member in MEMBERS {
            let (now, by) = (now[index(member)], by[index(member)]);
            self.gates[index(member)].set_back(by, now);
            for write in &mut self.strays[index(member)] {
                write.set_back(by, now);
            }
            self.strays[index(member)].sort_unstable();
            self.strays[index(member)].dedup();
        }
        // An anchor older than a lease is of no use to anybody, however old it is.
        let anchor = |seat: Seat, at: Micros| at.max(now[seat.index()] - hold) - by[seat.index()];
        let set_back = |packet: &mut Packet| match &mut packet.body {
            Body::Ask { at, .. } => *at = anchor(packet.from, *at),
            Body::Promise { at, .. } => *at = anchor(packet.to, *at),
            Body::Reject { .. } | Body::Release { .. } => {}
        };
        for (member, tasks) in MEMBERS.into_iter().zip(&mut self.undone) {
            for task in tasks {
                match task {
                    Task::Write(write) => write.set_back(by[index(member)], now[index(member)]),
                    Task::Send(packet) => set_back(packet),
                }
            }
        }
        self.flying.iter_mut().for_each(set_back);
        self.flying.sort_unstable();
        self.flying.dedup();
        self.clocks = [NOON; 3];
    }
}

/// Both members of a pair.
pub const MEMBERS: [Member; 2] = [Member::First, Member::Second];

/// A member's place in an array.
#[must_use]
pub const fn index(member: Member) -> usize {
    Seat::Member(member).index()
}
