//! What programs do, carried out one deed at a time: between any two, the program may be stopped or ended.

use super::faults::AtGate;
use super::{Event, World};
use crate::agent::{self, Found};
use crate::message::{Node, Segment};
use crate::process::Said;
use crate::scenario::{Breakage, Moment};
use crate::{agent::Effect, scs};
use domain::{Epoch, LaunchWhat, Micros, PairName, VipAddress};
use lca_core::supervisor::Exit;
use lease::{Body, Timing};
use std::time::Duration;

impl World {
    pub(super) fn carry_out(&mut self, node: Node) {
        match node {
            Node::Scs => self.carry_out_scs(),
            Node::Host(host) => self.carry_out_agent(host),
        }
    }

    fn carry_out_scs(&mut self) {
        while let Some(effect) = self.scs.as_mut().and_then(|scs| scs.effects().pop_front()) {
            match effect {
                scs::Effect::Send(id, message) => {
                    if matches!(message, crate::message::ToAgent::Launch(_)) {
                        self.moment(Moment::Launched);
                    }
                    self.send_segment(id, Node::Scs, Segment::ToAgent(Box::new(message)));
                }
                scs::Effect::Close(id) => self.close(id, Node::Scs),
                scs::Effect::Datagram(to, datagram) => self.send_datagram(Node::Scs, to, datagram),
                scs::Effect::Keep(durable) => {
                    let (takes, run) = (self.random.between(500..=20_000), self.scs_run);
                    self.after(takes, Event::Stored { run, durable });
                }
                scs::Effect::Say(line) => self.say(|| format!("scs: {line}")),
            }
            if self.desks[Node::Scs.index()].stalled {
                return;
            }
        }
    }

    fn carry_out_agent(&mut self, host: usize) {
        // What must survive a crash is in memory that does, before anything is done.
        let h = &mut self.hosts[host];
        if let Some(agent) = &mut h.agent {
            agent.remember(&mut h.run_files.leases);
        }
        while !self.desks[Node::Host(host).index()].stalled {
            let Some(agent) = &mut self.hosts[host].agent else { return };
            let at_gate =
                matches!(agent.effects().front(), Some(Effect::OpenGate { .. } | Effect::CloseGate { .. }));
            if at_gate && let Some(what) = self.at_gate.remove(&host) {
                match what {
                    AtGate::Stalls { for_us } => self.stall(Node::Host(host), for_us),
                    AtGate::Dies { restart, after_us } => self.agent_dies(host, restart, after_us),
                }
                return;
            }
            let Some(effect) = agent.effects().pop_front() else { return };
            self.agent_does(host, effect);
        }
    }

    fn agent_does(&mut self, host: usize, effect: Effect) {
        let node = Node::Host(host);
        match effect {
            Effect::Send(id, message) => {
                self.send_segment(id, node, Segment::FromAgent(Box::new(message)));
            }
            Effect::SendVotes(id, votes) => self.send_segment(id, node, Segment::Votes(votes)),
            Effect::Close(id) => self.close(id, node),
            Effect::Datagram(to, datagram) => {
                if let crate::message::Datagram::Sealed { lease, .. } = &datagram
                    && lease.iter().any(|vote| matches!(vote.body, Body::Release { .. }))
                {
                    self.moment(Moment::Released);
                }
                self.send_datagram(node, to, datagram);
            }
            Effect::Dial(to, pause) => self.dial_after(host, to, pause),
            Effect::Find(app) => {
                let (run, takes) = (self.hosts[host].run, self.random.between(100..=3_000));
                let found = match self.hosts[host].processes.get(&app) {
                    Some(process) => Found::Alive(process.pid),
                    None if self.hosts[host].run_files.state.apps.contains_key(&app) => Found::Gone,
                    None => Found::Never,
                };
                self.after(takes, Event::News { host, run, news: agent::Event::Found(app, found) });
            }
            Effect::Spawn(app) => self.spawn(host, &app),
            Effect::Watch(app, pid) => {
                if self.hosts[host].processes.get(&app).is_none_or(|process| process.pid != pid) {
                    self.says(host, &app, pid, Said::Exited(Exit::Unknown));
                }
            }
            Effect::Terminate(app) => {
                // One that hangs does not hear it.
                if self.hosts[host].processes.get(&app).is_some_and(|process| !process.hung) {
                    let takes = self.random.between(300..=60_000);
                    self.process_ends(host, &app, takes, Exit::Code(0));
                }
            }
            Effect::Kill(app) => self.process_ends(host, &app, 100, Exit::Signal(9)),
            Effect::Tell(app, told) => self.tell_process(host, &app, told),
            Effect::Script(launch) => match launch.what {
                LaunchWhat::FindHolder { .. } => self.inquire(host, launch),
                LaunchWhat::VipControl { .. } | LaunchWhat::Announce { .. } | LaunchWhat::Script { .. } => {
                    self.run_script(host, launch);
                }
            },
            Effect::Save(state) => {
                let (boot, run) = (self.hosts[host].boot, self.hosts[host].run);
                let takes = self.random.between(200..=10_000);
                self.after(takes, Event::StateSaved { host, boot, run, state });
            }
            Effect::KeepStopped(stopped) => self.hosts[host].disk_files.stopped = stopped,
            Effect::KeepCluster(cluster) => self.hosts[host].disk_files.cluster = Some(cluster),
            Effect::Address(address, present) => self.set_address(host, address, present, false),
            Effect::OpenGate { pair, epoch, until } => self.open_gate(host, pair, epoch, until),
            Effect::CloseGate { pair, epoch } => self.close_gate(host, pair, epoch),
        }
    }

    fn close(&mut self, id: crate::message::ConnectionId, node: Node) {
        self.send_segment(id, node, Segment::Closed);
        self.network.close(id, node);
    }

    fn dial_after(&mut self, host: usize, to: Node, pause: Duration) {
        let pause = u64::try_from(pause.as_micros()).expect("a short pause");
        let after = pause / 2 + self.random.between(0..=pause / 2);
        let run = self.hosts[host].run;
        self.after(after, Event::Dial { host, run, to });
    }

    fn open_gate(&mut self, host: usize, pair: PairName, epoch: Epoch, until: Micros) {
        let node = Node::Host(host);
        let now = self.local(node);
        let until = if self.broken(Breakage::RelativeDeadline) {
            self.cluster.pairs.get(&pair).map_or(until, |p| now + Timing::from(p.profile).hold())
        } else {
            until
        };
        let gate = self.hosts[host].gates.entry(pair.clone()).or_default();
        let was_open = gate.is_open(now);
        gate.open(epoch, until);
        if !was_open {
            self.say(|| format!("{node} opens the gate of {pair}, epoch {epoch}, until {until}"));
        }
        self.judge.gate_opened(&self.hosts[host], host, &pair, epoch, self.now);
        if !was_open {
            self.moment(Moment::GateOpens);
        }
    }

    fn close_gate(&mut self, host: usize, pair: PairName, epoch: Epoch) {
        let node = Node::Host(host);
        self.say(|| format!("{node} closes the gate of {pair}, epoch {epoch}"));
        if !self.broken(Breakage::ReleasedBeforeClosed) {
            self.hosts[host].gates.entry(pair).or_default().close(epoch);
        }
        self.judge.something_changed();
        self.moment(Moment::GateCloses);
    }

    /// An address comes or goes; the agent hears of it from its kernel where it was not its own doing.
    pub(super) fn set_address(&mut self, host: usize, address: VipAddress, present: bool, by_another: bool) {
        let addresses = &mut self.hosts[host].addresses;
        let changed = if present { addresses.insert(address) } else { addresses.remove(&address) };
        if !changed {
            return;
        }
        let node = Node::Host(host);
        self.say(|| format!("{node} {} {address}", if present { "has" } else { "has no more" }));
        self.judge.something_changed();
        if by_another {
            let run = self.hosts[host].run;
            self.after(20, Event::News { host, run, news: agent::Event::AddressChanged(address) });
        }
    }
}
