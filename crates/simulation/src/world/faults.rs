//! Faults and orders as they strike, what ends each of them, and the day on which everything is made whole.

use super::{Delivery, Event, World};
use crate::message::Node;
use crate::network::Weather;
use crate::process::Said;
use crate::scenario::{Disk, Fault, Moment, Restart, When};
use crate::scs;
use domain::AppName;
use ha_core::OperatorOrder;
use lca_core::supervisor::Exit;

/// What waits for an agent to reach its gate.
#[derive(Debug, Clone, Copy)]
pub(super) enum AtGate {
    Stalls { for_us: u64 },
    Dies { restart: Restart, after_us: u64 },
}

/// What ends a fault.
#[derive(Debug, Clone)]
pub(super) enum Undo {
    Cut(Node, Node),
    Storm(Node, Node),
    DiskFails,
    Hang(AppName, u32),
    OutOfStep(AppName, u32),
    Refuses(AppName),
    Carrier(usize),
    ScriptsFail(usize),
}

impl World {
    /// A fault's time has come: it strikes, or lies in wait for its moment.
    pub(super) fn fault_is_due(&mut self, n: usize) {
        if self.healed {
            return;
        }
        match self.scenario.faults[n].when {
            When::At(_) => self.strike(n),
            When::Behind { nth, .. } => self.armed.push((n, nth)),
        }
    }

    /// A moment that a fault may be waiting for.
    pub(super) fn moment(&mut self, moment: Moment) {
        let mut due = Vec::new();
        let faults = &self.scenario.faults;
        self.armed.retain_mut(|(n, left)| {
            let When::Behind { moment: awaited, after_us, .. } = faults[*n].when else { return false };
            if awaited != moment {
                return true;
            }
            if *left > 0 {
                *left -= 1;
                return true;
            }
            due.push((*n, after_us));
            false
        });
        for (n, after_us) in due {
            if after_us == 0 {
                self.strike(n);
            } else {
                self.after(after_us, Event::Strike(n));
            }
        }
    }

    pub(super) fn strike(&mut self, n: usize) {
        if self.healed {
            return;
        }
        self.counts.faults += 1;
        let fault = self.scenario.faults[n].fault.clone();
        self.say(|| format!("** {fault:?}"));
        if fault.forgets() {
            self.judge.something_is_forgotten();
        }
        match fault {
            Fault::Cut { from, to, both, for_us } => {
                self.cut(from, to, for_us);
                if both {
                    self.cut(to, from, for_us);
                }
            }
            Fault::Isolated { host, for_us } => {
                for other in 0..=self.hosts.len() {
                    let (one, other) = (Node::Host(host), Node::at(other));
                    if one != other {
                        self.cut(one, other, for_us);
                        self.cut(other, one, for_us);
                    }
                }
            }
            Fault::Storm { from, to, weather, for_us } => {
                for (from, to) in [(from, to), (to, from)] {
                    self.network.set_weather(from, to, weather);
                    self.after(for_us, Event::Undo(Undo::Storm(from, to)));
                }
            }
            Fault::AgentDies { host, restart, after_us } => self.agent_dies(host, restart, after_us),
            Fault::AgentStalls { host, for_us } => self.stall(Node::Host(host), for_us),
            Fault::AgentStallsAtGate { host, for_us } => {
                self.at_gate.insert(host, AtGate::Stalls { for_us });
            }
            Fault::AgentDiesAtGate { host, restart, after_us } => {
                self.at_gate.insert(host, AtGate::Dies { restart, after_us });
            }
            Fault::Reboot { host, after_us } => self.power_off(host, after_us),
            Fault::ScsDies { disk, after_us } => {
                if self.scs.is_some() {
                    self.end(Node::Scs, false);
                    self.after(after_us, Event::StartScs { run: self.scs_run, disk });
                }
            }
            Fault::ScsStalls { for_us } => self.stall(Node::Scs, for_us),
            Fault::DiskFails { for_us } => {
                self.disk_fails = true;
                self.after(for_us, Event::Undo(Undo::DiskFails));
            }
            Fault::Crash { app } => {
                if let Some(host) = self.host_of(&app) {
                    self.process_ends(host, &app, 0, Exit::Signal(11));
                }
            }
            Fault::Hang { app, for_us } => self.hang(&app, for_us),
            Fault::OutOfStep { app, for_us } => self.out_of_step(&app, for_us),
            Fault::Refuses { app, for_us } => {
                let Some(host) = self.host_of(&app) else { return };
                self.hosts[host].refusing.insert(app.clone());
                self.set_refuses(host, &app, true);
                self.after(for_us, Event::Undo(Undo::Refuses(app)));
            }
            Fault::Meddling { pair, host, present } => {
                let vips = self.cluster.pairs.get(&pair).map(|pair| pair.vips.clone()).unwrap_or_default();
                let name = self.names[host].clone();
                for vip in vips.iter().filter(|vip| vip.interfaces.contains_key(&name)) {
                    if self.hosts[host].powered {
                        self.set_address(host, vip.address, present, true);
                    }
                }
            }
            Fault::Carrier { host, for_us } => {
                self.set_carrier(host, false);
                self.after(for_us, Event::Undo(Undo::Carrier(host)));
            }
            Fault::ScriptsFail { host, for_us } => {
                self.hosts[host].scripts_fail = true;
                self.after(for_us, Event::Undo(Undo::ScriptsFail(host)));
            }
            Fault::SwitchOver { pair } => {
                self.order(OperatorOrder::SwitchOver { pair, to: None, plan: None, force: false })
            }
            Fault::Stop { app, graceful } => {
                self.stopped.insert(app.clone());
                self.order(OperatorOrder::Stop { app, graceful });
            }
            Fault::Start { app } => self.order(OperatorOrder::Start { app }),
            Fault::RestartOrdered { app } => {
                // It may be stopped when the world ends in between.
                self.stopped.insert(app.clone());
                self.order(OperatorOrder::Restart { app, graceful: false });
            }
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Cut(from, to) => self.heal_link(from, to),
            Undo::Storm(from, to) => self.network.set_weather(from, to, self.weather()),
            Undo::DiskFails => self.disk_fails = false,
            Undo::Hang(app, pid) => self.revive(&app, Some(pid)),
            Undo::OutOfStep(app, pid) => self.in_step(&app, Some(pid)),
            Undo::Refuses(app) => {
                if let Some(host) = self.host_of(&app) {
                    self.hosts[host].refusing.remove(&app);
                    self.set_refuses(host, &app, false);
                }
            }
            Undo::Carrier(host) => self.set_carrier(host, true),
            Undo::ScriptsFail(host) => self.hosts[host].scripts_fail = false,
        }
    }

    /// Everything that is broken is mended, and nothing more breaks.
    pub(crate) fn heal(&mut self) {
        self.say(|| "** everything is made whole".to_owned());
        self.healed = true;
        self.armed.clear();
        self.at_gate.clear();
        self.disk_fails = false;
        let machines = self.hosts.len() + 1;
        for (from, to) in (0..machines).flat_map(|from| (0..machines).map(move |to| (from, to))) {
            let (from, to) = (Node::at(from), Node::at(to));
            self.network.set_weather(from, to, Weather::FAIR);
            self.heal_link(from, to);
        }
        self.start_scs(self.scs_run, Disk::Kept);
        for host in 0..self.hosts.len() {
            self.power_on(host, self.hosts[host].boot);
            self.start_agent(host, self.hosts[host].run, Restart::WithMemory);
            self.set_carrier(host, true);
            self.hosts[host].scripts_fail = false;
            self.hosts[host].refusing.clear();
            for app in self.hosts[host].processes.keys().cloned().collect::<Vec<_>>() {
                self.revive(&app, None);
                self.set_refuses(host, &app, false);
                self.in_step(&app, None);
            }
        }
        for machine in 0..machines {
            self.resume(Node::at(machine));
        }
    }

    /// What an operator does who wants everything to run.
    pub(crate) fn order_what_was_stopped(&mut self) {
        let Some(scs) = &self.scs else { return };
        let view = scs.state().view(self.local(Node::Scs));
        for app in view.applications.into_iter().filter(|app| app.stop_ordered) {
            if !self.stopped.contains(&app.name) {
                let what =
                    format!("{}: {} counts as stopped by order, and nobody ordered it", self.now, app.name);
                self.judge.complain(what);
            }
            self.order(OperatorOrder::Start { app: app.name });
        }
        for pair in view.pairs.into_iter().filter(|pair| pair.frozen) {
            self.order(OperatorOrder::Acknowledge { pair: pair.name });
        }
    }

    fn weather(&self) -> Weather {
        if self.healed { Weather::FAIR } else { self.scenario.weather }
    }

    fn order(&mut self, order: OperatorOrder) {
        self.say(|| format!("an operator orders: {order:?}"));
        self.deliver(Node::Scs, Delivery::Scs(scs::Event::Ordered(order)));
    }

    fn cut(&mut self, from: Node, to: Node, for_us: u64) {
        self.network.set_cut((from, to), true, self.now);
        self.after(for_us, Event::Undo(Undo::Cut(from, to)));
    }

    fn heal_link(&mut self, from: Node, to: Node) {
        for (id, end, at) in self.network.set_cut((from, to), false, self.now) {
            self.at(at, Event::Segment(id, end));
        }
    }

    pub(super) fn agent_dies(&mut self, host: usize, restart: Restart, after_us: u64) {
        if self.hosts[host].agent.is_none() {
            return;
        }
        self.say(|| format!("the agent on {} dies", Node::Host(host)));
        self.end(Node::Host(host), false);
        self.after(after_us, Event::StartAgent { host, run: self.hosts[host].run, restart });
    }

    fn power_off(&mut self, host: usize, after_us: u64) {
        if !self.hosts[host].powered {
            return;
        }
        self.network.power_off(Node::Host(host));
        self.end(Node::Host(host), true);
        self.hosts[host].power_off();
        self.judge.something_changed();
        self.after(after_us, Event::PowerOn { host, boot: self.hosts[host].boot });
    }

    pub(super) fn power_on(&mut self, host: usize, boot: u64) {
        if self.hosts[host].powered || self.hosts[host].boot != boot {
            return;
        }
        self.hosts[host].power_on(self.now);
        let run = self.hosts[host].run;
        let takes = self.random.between(1_000..=300_000);
        self.after(takes, Event::StartAgent { host, run, restart: Restart::WithMemory });
    }

    fn hang(&mut self, app: &AppName, for_us: u64) {
        let Some(host) = self.host_of(app) else { return };
        let Some(process) = self.hosts[host].processes.get_mut(app) else { return };
        process.hung = true;
        let pid = process.pid;
        self.judge.something_changed();
        self.after(for_us, Event::Undo(Undo::Hang(app.clone(), pid)));
    }

    fn revive(&mut self, app: &AppName, only: Option<u32>) {
        let Some(host) = self.host_of(app) else { return };
        self.change_process(host, app, |process| match only {
            Some(pid) if pid != process.pid => Vec::new(),
            Some(_) | None if process.hung => process.revive(),
            Some(_) | None => Vec::new(),
        });
    }

    fn out_of_step(&mut self, app: &AppName, for_us: u64) {
        let Some(host) = self.host_of(app) else { return };
        let Some(pid) = self.hosts[host].processes.get(app).filter(|p| p.ready).map(|p| p.pid) else {
            return;
        };
        self.change_process(host, app, |process| {
            process.synced = false;
            if process.hung { Vec::new() } else { vec![Said::Synced(false)] }
        });
        self.after(for_us, Event::Undo(Undo::OutOfStep(app.clone(), pid)));
    }

    fn in_step(&mut self, app: &AppName, only: Option<u32>) {
        let Some(host) = self.host_of(app) else { return };
        self.change_process(host, app, |process| {
            if !process.ready || process.synced || only.is_some_and(|pid| pid != process.pid) {
                return Vec::new();
            }
            process.synced = true;
            if process.hung { Vec::new() } else { vec![Said::Synced(true)] }
        });
    }

    fn set_refuses(&mut self, host: usize, app: &AppName, refuses: bool) {
        self.change_process(host, app, |process| {
            process.refuses = refuses;
            Vec::new()
        });
    }

    fn set_carrier(&mut self, host: usize, up: bool) {
        let h = &mut self.hosts[host];
        if !h.powered || std::mem::replace(&mut h.carrier, up) == up {
            return;
        }
        self.judge.something_changed();
        self.say(|| format!("{} {} carrier", Node::Host(host), if up { "has" } else { "has no" }));
        let news = crate::agent::Event::Carrier(up);
        self.after(50, Event::News { host, run: self.hosts[host].run, news });
    }
}
