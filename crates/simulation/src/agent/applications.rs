//! Applications in the agent's driver: what happens to their processes goes into their supervisors, and what those decide
//! is carried out.

use super::{Agent, Effect, Found, SETTLE_LIMIT};
use crate::due::Due;
use crate::process::{Said, Told};
use domain::{
    Answer, AnswerOutcome, AppName, AppReport, AppStatus, Epoch, Fact, Instruction, Micros, ModeControl,
    Order,
};
use lca_core::supervisor::{Action, Actions, Input, Notice, Saved, Settings, Supervised};

/// Inputs that wait until an application was looked for.
const MOST_WAITING: usize = 64;

/// An application of this host.
#[derive(Debug)]
pub(super) struct Controlled {
    pub(super) supervised: Supervised,
    pub(super) pid: Option<u32>,
    /// The application told its mode since the agent holds its process.
    mode_told: bool,
    pub(super) looked_for: bool,
    waiting: Vec<Input>,
    settle_by: Option<Micros>,
}

impl Controlled {
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        [self.supervised.next_deadline(), self.settle_by].into_iter().flatten().min()
    }
}

impl Agent {
    pub(super) fn configure_apps(&mut self, now: Micros) {
        let here: Vec<(AppName, Box<Settings>)> = self
            .cluster
            .applications
            .iter()
            .filter(|(_, application)| application.host == self.identity.host)
            .map(|(name, application)| {
                let pair = self.cluster.pair_of(name);
                let pair = pair.map(|(pair, settings)| (pair.clone(), settings.redundancy));
                (name.clone(), Box::new(Settings { application: application.clone(), pair }))
            })
            .collect();
        let gone: Vec<AppName> =
            self.apps.keys().filter(|name| !here.iter().any(|(here, _)| here == *name)).cloned().collect();
        for app in gone {
            self.step(&app, Input::Reconfigured(None), now);
        }
        for (name, settings) in here {
            if self.apps.contains_key(&name) {
                self.step(&name, Input::Reconfigured(Some(settings)), now);
                continue;
            }
            let controlled = Controlled {
                supervised: Supervised::new(&self.identity.host, &name, settings),
                pid: None,
                mode_told: false,
                looked_for: false,
                waiting: Vec::new(),
                settle_by: None,
            };
            self.apps.insert(name.clone(), Due::new(controlled));
            self.out.push_back(Effect::Find(name));
        }
    }

    /// It is known now what was left of an application.
    pub(super) fn found(&mut self, app: &AppName, found: Found, now: Micros) {
        let Some(controlled) = self.apps.get(app) else { return };
        let autostart = controlled.supervised.settings().application.autostart;
        let stopped = self.stopped.contains(app);
        let saved = self.last.remove(app).map(|saved| Saved { wanted: saved.wanted && !stopped, ..saved });
        let input = match (found, saved) {
            (Found::Alive(pid), saved) => {
                self.hold(app, pid, now);
                Input::Adopted { pid, saved: saved.unwrap_or_else(|| unknown(!stopped)) }
            }
            (Found::Gone, Some(saved)) => Input::FoundGone { saved },
            (Found::Never, Some(saved)) => {
                Input::FoundGone { saved: Saved { status: AppStatus::Stopped, ..saved } }
            }
            (Found::Gone | Found::Never, None) => Input::Booted { wanted: autostart && !stopped },
        };
        if let Some(controlled) = self.apps.get_mut(app) {
            controlled.looked_for = true;
            let waiting = std::mem::take(&mut controlled.waiting);
            self.step(app, input, now);
            for input in waiting {
                self.step(app, input, now);
            }
        }
        self.settle(now);
        self.catch_up(now);
    }

    pub(super) fn started(&mut self, app: &AppName, pid: u32, now: Micros) {
        self.hold(app, pid, now);
        self.step(app, Input::Spawned { pid }, now);
    }

    fn hold(&mut self, app: &AppName, pid: u32, now: Micros) {
        if let Some(controlled) = self.apps.get_mut(app) {
            controlled.pid = Some(pid);
            controlled.mode_told = false;
            controlled.settle_by = Some(now + SETTLE_LIMIT);
            self.out.push_back(Effect::Watch(app.clone(), pid));
            self.out.push_back(Effect::Tell(app.clone(), Told::Hello));
        }
    }

    pub(super) fn said(&mut self, app: &AppName, pid: u32, said: Said, now: Micros) {
        // A late word of a process that is gone says nothing about the one that is there now.
        let Some(controlled) = self.apps.get_mut(app).filter(|c| c.pid == Some(pid)) else { return };
        let input = match said {
            Said::Ready => {
                self.out.push_back(Effect::Tell(app.clone(), Told::Hello));
                Input::Notified(Notice { ready: true, ..Notice::default() })
            }
            Said::Alive => Input::Notified(Notice { alive: true, ..Notice::default() }),
            Said::Connected => Input::ModeSocket { connected: true },
            Said::Mode { ref_id, mode, epoch } => {
                controlled.mode_told = true;
                Input::ModeTold { ref_id, mode, epoch }
            }
            Said::Synced(synced) => Input::Synced(synced),
            Said::Suspending => Input::SuspendingTold,
            Said::Suspended => Input::SuspendedTold,
            Said::Exited(exit) => {
                self.step(app, Input::Exited(exit), now);
                // It may have been spawned anew by the same step, but not be there yet.
                if let Some(controlled) = self.apps.get_mut(app).filter(|c| c.pid == Some(pid)) {
                    controlled.pid = None;
                }
                return self.settle(now);
            }
        };
        self.step(app, input, now);
        self.settle(now);
    }

    pub(super) fn instructed(&mut self, instruction: Instruction, now: Micros) {
        let Instruction { ref_id, app, order } = instruction;
        if !self.apps.contains_key(&app) {
            let why = format!("this host has no application {app}");
            let answer = Answer { ref_id, outcome: AnswerOutcome::Refused { why } };
            return self.report(Fact::Answer(answer), now);
        }
        let input = match order {
            Order::SetRunMode { mode, epoch } => {
                self.leases.decided_by_scs(&app);
                Input::RunModeOrdered { ref_id, mode, epoch }
            }
            Order::Start => {
                self.stopped.remove(&app);
                self.out.push_back(Effect::KeepStopped(self.stopped.clone()));
                Input::StartOrdered { ref_id }
            }
            Order::Stop { graceful } => {
                self.stopped.insert(app.clone());
                self.out.push_back(Effect::KeepStopped(self.stopped.clone()));
                Input::StopOrdered { ref_id, graceful }
            }
        };
        self.dirty = true;
        self.step(&app, input, now);
    }

    pub(super) fn apps_time_passed(&mut self, now: Micros) {
        let due: Vec<AppName> = self
            .apps
            .iter()
            .filter(|(_, controlled)| controlled.at(Controlled::next_deadline).is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for app in due {
            if self.apps.get(&app).is_some_and(|c| c.supervised.next_deadline().is_some_and(|at| at <= now)) {
                self.step(&app, Input::TimePassed, now);
            }
            if self.apps.get_mut(&app).and_then(|c| c.settle_by.take_if(|at| *at <= now)).is_some() {
                self.settle(now);
            }
        }
    }

    /// One input for one supervisor, and all that follows.
    pub(super) fn step(&mut self, app: &AppName, input: Input, now: Micros) {
        self.inbox.push_back((app.clone(), input));
        self.step_inbox(now);
    }

    /// What waits for supervisors; a step may lead to others.
    pub(super) fn step_inbox(&mut self, now: Micros) {
        while let Some((app, input)) = self.inbox.pop_front() {
            let Some(controlled) = self.apps.get_mut(&app) else { continue };
            if !controlled.looked_for {
                if controlled.waiting.len() < MOST_WAITING {
                    controlled.waiting.push(input);
                }
                continue;
            }
            let mut actions = Actions::new();
            controlled.supervised.step(input, now, &mut actions);
            // The gate first: it closes every VIP at once, whoever put it there.
            self.see_to_lease(&app, now);
            for action in actions {
                self.carry_out(&app, action, now);
            }
            self.released.clear();
            self.report_facts(now);
            self.see_to_lease(&app, now);
        }
    }

    fn carry_out(&mut self, app: &AppName, action: Action, now: Micros) {
        match action {
            Action::Spawn => self.out.push_back(Effect::Spawn(app.clone())),
            Action::Terminate => self.out.push_back(Effect::Terminate(app.clone())),
            Action::KillAll => self.out.push_back(Effect::Kill(app.clone())),
            Action::ReleaseVips => {
                let pair = self.apps.get(app).and_then(|c| c.supervised.settings().pair.clone());
                if let Some((pair, _)) = pair {
                    let identity = &self.identity;
                    let (released, facts) = (&mut self.released, &mut self.facts);
                    self.vips.release(&pair, &identity.host, now, released, facts, &mut self.out);
                }
            }
            // No application of the world has a probe.
            Action::Probe { .. } => {}
            Action::TellMode { ref_id, mode, epoch } => {
                let control = self.apps.get(app).map(|c| &c.supervised.settings().application.mode_control);
                if control == Some(&ModeControl::Socket) {
                    self.out.push_back(Effect::Tell(app.clone(), Told::Mode { ref_id, mode, epoch }));
                }
            }
            Action::TellSuspend => self.out.push_back(Effect::Tell(app.clone(), Told::Suspend)),
            Action::Report(report) => {
                let released = std::mem::take(&mut self.released);
                if report.mode == Some(domain::RunMode::Primary) {
                    self.leases.tend_soon(now);
                }
                self.report(Fact::App(AppReport { released, ..*report }), now);
                self.report_facts(now);
                self.dirty = true;
            }
            Action::Answer(answer) => self.report(Fact::Answer(answer), now),
            Action::Log(event) => self.report(Fact::Log(*event), now),
            Action::Forget => {
                self.apps.remove(app);
                self.stopped.remove(app);
                self.dirty = true;
            }
        }
    }

    /// Looks at the VIPs of pairs that have not been looked at yet, as soon as it is known what runs here.
    pub(super) fn settle(&mut self, now: Micros) {
        for pair in std::mem::take(&mut self.unsettled) {
            let member = self.apps.values().find(|controlled| {
                controlled.supervised.settings().pair.as_ref().is_some_and(|(name, _)| *name == pair)
            });
            let known = member.is_none_or(|controlled| {
                controlled.looked_for
                    && (controlled.pid.is_none()
                        || controlled.mode_told
                        || !controlled.supervised.settings().speaks()
                        || controlled.settle_by.is_none())
            });
            if !known {
                self.unsettled.insert(pair);
                continue;
            }
            let primary = member
                .filter(|controlled| controlled.supervised.is_primary())
                .map(|controlled| controlled.supervised.greatest_epoch());
            self.vips.settle(&pair, primary, &self.identity.host, now, &mut self.facts, &mut self.out);
            self.leases.tend_soon(now);
        }
        self.report_facts(now);
    }

    /// The application of this host that belongs to a pair.
    pub(super) fn member_of(&self, pair: &domain::PairName) -> Option<&AppName> {
        self.apps
            .iter()
            .find(|(_, c)| c.supervised.settings().pair.as_ref().is_some_and(|(name, _)| name == pair))
            .map(|(name, _)| name)
    }
}

/// What is known of a process of which only its file tells.
fn unknown(wanted: bool) -> Saved {
    Saved {
        wanted,
        status: AppStatus::Initializing,
        mode: None,
        epoch: Epoch(0),
        greatest: Epoch(0),
        promised: false,
        synced: false,
        restarts: 0,
    }
}
