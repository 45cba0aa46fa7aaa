//! A way through the model as people read it: one numbered step per line, with the tick, and below it what came of it.

use crate::action::{Action, Order};
use crate::apply::Note;
use crate::gate::GateWrite;
use crate::setup::{Crash, Setup};
use crate::world::{MEMBERS, Packet, World, index};
use domain::{Member, Micros};
use lease::{Body, Entitled, Kind, Output, Seat, Want};
use std::fmt::Write;

/// The steps from a configuration's beginning.
#[must_use]
pub fn transcript(setup: &Setup, steps: &[Action]) -> String {
    // Told with clocks that run on, so that times can be compared.
    let mut told = Teller { text: String::new(), elapsed: [0; 3] };
    let mut world = setup.beginning();
    let mut tick = 0;
    for (number, action) in (1..).zip(steps) {
        let line = told.action(&world, *action);
        let _ = writeln!(told.text, "    {number:>3}  tick {tick:<3} {line}");
        let mut notes = Vec::new();
        world = setup.after(&world, *action, &mut |note| notes.push(note));
        for note in notes {
            if let Some(line) = told.note(note) {
                let _ = writeln!(told.text, "                   {line}");
            }
        }
        if let Action::Tick(steps) = action {
            tick += 1;
            if !setup.keep_time {
                told.elapsed.iter_mut().zip(steps).for_each(|(elapsed, step)| *elapsed += step);
            }
        }
        let line = told.gates(&world);
        let _ = writeln!(told.text, "                   {line}");
    }
    told.text
}

struct Teller {
    text: String,
    /// What the clocks were set back by.
    elapsed: [u64; 3],
}

impl Teller {
    fn action(&self, world: &World, action: Action) -> String {
        match action {
            Action::Tick(steps) => format!("time passes; the clocks advance by {steps:?}"),
            Action::Due(seat) => format!("{seat}: a deadline"),
            Action::Deliver(packet) => format!("{} hears {}", packet.to, self.packet(packet)),
            Action::DeliverByOldClock(packet) => {
                format!("{} hears, by what its clock showed long before, {}", packet.to, self.packet(packet))
            }
            Action::LoseBut(kept) => {
                let lost = (0..).zip(&world.flying).filter(|(place, _)| kept >> place & 1 == 0);
                let lost: Vec<_> = lost.map(|(_, packet)| self.packet(*packet)).collect();
                format!("lost: {}", lost.join("; "))
            }
            Action::GoOn(member) => format!("{}: goes on", Seat::Member(member)),
            Action::WriteLate(member, place) => {
                format!(
                    "{}: a late write, {:?}",
                    Seat::Member(member),
                    world.strays[index(member)].get(place)
                )
            }
            Action::Order(order) => self.order(order),
            Action::Crash(seat, crash) => match crash {
                Crash::Agent => format!("{seat}: crashes and begins anew, with its memory"),
                Crash::AgentForgets => format!("{seat}: crashes and begins anew, without memory"),
                Crash::Host => format!("{seat}: its host is restarted"),
                Crash::Scs => format!("{seat}: crashes and begins anew"),
            },
            Action::Settings(seat) => format!("{seat}: is told of other durations"),
        }
    }

    fn order(&self, order: Order) -> String {
        let name = Seat::Member;
        match order {
            Order::Want { member, want, hand_over } => {
                let handing = if hand_over { ", handing over" } else { "" };
                match want {
                    Want::Nothing => format!("{}: wants nothing{handing}", name(member)),
                    Want::Standby => format!("{}: wants to stand by", name(member)),
                    Want::Hold { granted } => format!("{}: wants to hold, by grant {granted}", name(member)),
                }
            }
            Order::Entitle(Entitled::Anyone) => "scs: entitles anyone".to_owned(),
            Order::Entitle(Entitled::Only { member, granted }) => {
                format!("scs: entitles {}, by grant {granted}", name(member))
            }
            Order::Grant(member) => format!("scs: grants the role to {}", name(member)),
            Order::Obey(member) => format!("{}: does what the SCS told it", name(member)),
            Order::Fail { member, hand_over } => {
                let handing = if hand_over { ", handing over" } else { "" };
                format!("{}: its server failed{handing}", name(member))
            }
            Order::Ready(member) => format!("{}: its server is a ready backup", name(member)),
            Order::TakeOverAlone(member) => format!("{}: takes over without the SCS", name(member)),
        }
    }

    fn packet(&self, packet: Packet) -> String {
        let Packet { from, to, body } = packet;
        let what = match body {
            Body::Ask { epoch, at, kind: Kind::Standby, .. } => {
                format!("asks to stand by under {epoch}, at {}", self.time(from, at))
            }
            Body::Ask { epoch, at, kind: Kind::Hold { granted }, .. } => {
                format!("asks to hold under {epoch} by grant {granted}, at {}", self.time(from, at))
            }
            Body::Promise { epoch, at } => format!("promises {epoch}, asked at {}", self.time(to, at)),
            Body::Reject { seen, granted, why } => {
                format!("refuses ({why:?}), having seen {seen} and the grant {granted}")
            }
            Body::Release { epoch, why } => format!("lets go of {epoch} ({why})"),
        };
        format!("{from} -> {to}: {what}")
    }

    fn note(&self, note: Note) -> Option<String> {
        match note {
            Note::Sent(packet) => Some(format!("sent: {}", self.packet(packet))),
            Note::Wrote(member, write) => {
                let seat = Seat::Member(member);
                Some(match write {
                    GateWrite::Open { epoch, until } => {
                        format!("{seat}'s gate: open under {epoch} until {}", self.time(seat, until))
                    }
                    GateWrite::OpenFor { epoch, lasting, .. } => {
                        format!("{seat}'s gate: open under {epoch} for {}", lasting.as_micros())
                    }
                    GateWrite::Close { epoch } => format!("{seat}'s gate: closed, {epoch} fenced off"),
                    GateWrite::JustClose => format!("{seat}'s gate: closed"),
                })
            }
            Note::Decided(seat, output) => match output {
                Output::Open { epoch, until } => {
                    Some(format!("{seat} decides to open under {epoch} until {}", self.time(seat, until)))
                }
                Output::Close { epoch } => Some(format!("{seat} decides to close {epoch}")),
                Output::Lost { epoch } => Some(format!("{seat} has lost {epoch}")),
                Output::Outdated { granted } => Some(format!("{seat} is outdated by the grant {granted}")),
                Output::Released { by, epoch, .. } => {
                    Some(format!("{seat} learns that {} let go of {epoch}", Seat::Member(by)))
                }
                Output::Send(..) => None,
            },
        }
    }

    fn gates(&self, world: &World) -> String {
        let gate = |member: Member| {
            let seat = Seat::Member(member);
            let gate = world.gates[index(member)];
            match world.is_open(member) {
                true => format!("{seat} OPEN under {} until {}", gate.epoch, self.time(seat, gate.until)),
                false => format!("{seat} closed"),
            }
        };
        let clocks = Seat::ALL.map(|seat| self.time(seat, world.clock(seat)));
        format!("[{}; {}; clocks {}]", gate(MEMBERS[0]), gate(MEMBERS[1]), clocks.join(" "))
    }

    /// A time on a seat's clock, as if it had never been set back. Times long past are only known to be long past.
    fn time(&self, seat: Seat, at: Micros) -> String {
        let at = at.0 + self.elapsed[seat.index()];
        match at.checked_sub(crate::world::NOON.0) {
            Some(since) => since.to_string(),
            None => format!("-{}", crate::world::NOON.0 - at),
        }
    }
}
