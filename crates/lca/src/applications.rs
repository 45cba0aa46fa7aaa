//! The applications on the real-time thread: what happens to their processes goes into their supervisors, and what those
//! decide is carried out here.

use crate::agent::{Agent, SETTLE_LIMIT};
use crate::controlled::{Drained, Kind, Process};
use crate::messages::Job;
use crate::real_time::FIRST_PROCESS;
use crate::scripts::Script;
use crate::spawn::Running;
use control_link::messages::{Fact, FromApplication, ToApplication};
use domain::{AppName, AppReport, Epoch, LogEvent, Micros, ModeControl, PairName, RefId, RunMode, Signal};
use lca_core::supervisor::{Action, Input, Settings, Supervised};

/// Inputs that wait until an application was looked for, which takes a millisecond.
const MOST_WAITING: usize = 64;

/// An application of this host.
#[derive(Debug)]
pub struct Controlled {
    /// What is decided about it.
    pub supervised: Supervised,
    /// Its process, while there is one.
    pub process: Option<Process>,
    /// Whether it is known what the agent's last run left.
    pub looked_for: bool,
    /// What happened before that: it is judged afterwards, since an order must not be undone by what is found.
    waiting: Vec<Input>,
    /// Until when its run mode may stay unheard before its VIPs are looked at.
    settle_by: Option<Micros>,
    /// Numbers the times that probing began.
    probe_run: u64,
}

impl Controlled {
    /// When [`Agent::apps_time_passed`] is due for it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let attempt = self.process.as_ref().and_then(Process::next_attempt);
        [self.supervised.next_deadline(), attempt, self.settle_by].into_iter().flatten().min()
    }
}

impl Agent {
    /// Takes an application into care; what there is of it is found out first.
    pub(crate) fn look_for(&mut self, name: AppName, settings: Box<Settings>) {
        let supervised = Supervised::new(&self.host, &name, settings.clone());
        self.give(Job::Find(name.clone(), settings));
        let controlled = Controlled {
            supervised,
            process: None,
            looked_for: false,
            waiting: Vec::new(),
            settle_by: None,
            probe_run: 0,
        };
        self.apps.insert(name, controlled);
    }

    /// It is known now what was left of an application: first that, then what happened meanwhile.
    pub(crate) fn looked_for(&mut self, app: &AppName, found: Input, now: Micros) {
        let Some(controlled) = self.apps.get_mut(app) else { return };
        controlled.looked_for = true;
        let waiting = std::mem::take(&mut controlled.waiting);
        self.step(app, found, now);
        for input in waiting {
            self.step(app, input, now);
        }
        self.settle(now);
        self.catch_up(now);
    }

    /// Takes a process that was adopted. False: it cannot be watched.
    pub(crate) fn hold(&mut self, app: &AppName, running: Running, now: Micros) -> bool {
        let run = self.next_run;
        self.next_run += 1;
        let mode_path = self.files.mode_socket(app);
        let Some(controlled) = self.apps.get_mut(app) else { return false };
        let speaks = controlled.supervised.settings().speaks();
        controlled.settle_by = Some(now + SETTLE_LIMIT);
        match Process::watch(running, mode_path, speaks, (FIRST_PROCESS, run), &self.registry, now) {
            Ok(process) => {
                controlled.process = Some(process);
                self.runs.insert(run, app.clone());
                true
            }
            Err(e) => {
                self.say.error(format_args!("application {app} cannot be watched: {e}"));
                false
            }
        }
    }

    /// The worker made a process, or could not.
    pub(crate) fn started(&mut self, app: &AppName, started: Result<Running, String>, now: Micros) {
        let input = match started {
            Ok(running) => {
                let pid = running.pid;
                if !self.hold(app, running, now) {
                    return self.step(
                        app,
                        Input::SpawnFailed { why: "it cannot be watched".to_owned() },
                        now,
                    );
                }
                Input::Spawned { pid }
            }
            Err(why) => Input::SpawnFailed { why },
        };
        self.step(app, input, now);
    }

    pub(crate) fn probed(&mut self, app: &AppName, run: u64, result: Result<(), String>, now: Micros) {
        // A late result of a process that is gone says nothing about the one that is there now.
        if self.apps.get(app).is_some_and(|controlled| controlled.probe_run == run) {
            self.step(app, Input::Probed(result), now);
        }
    }

    /// A descriptor of a process is ready. True: there is more.
    pub fn process_ready(&mut self, run: usize, kind: Kind, now: Micros) -> bool {
        let Some(app) = self.runs.get(&run).cloned() else { return false };
        match kind {
            Kind::Main => {
                self.main_ended(&app, now);
                false
            }
            Kind::Dying => {
                let process = self.apps.get_mut(&app).and_then(|controlled| controlled.process.as_mut());
                if let Some(exit) = process.and_then(|process| process.dying(&self.registry)) {
                    self.step(&app, Input::Dying(exit), now);
                }
                false
            }
            Kind::Leader => {
                if let Some(process) = self.process(&app) {
                    process.reap_leader();
                }
                false
            }
            Kind::Notify => self.notices(&app, now),
            Kind::Mode => self.mode_messages(&app, now),
        }
    }

    pub(crate) fn apps_time_passed(&mut self, now: Micros) {
        // Indexed by hand: names are cloned for those alone that have something to do.
        let due: Vec<AppName> = self
            .apps
            .iter()
            .filter(|(_, controlled)| controlled.next_deadline().is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for app in due {
            self.connect_mode(&app, now, false);
            if self.apps.get(&app).is_some_and(|c| c.supervised.next_deadline().is_some_and(|at| at <= now)) {
                self.step(&app, Input::TimePassed, now);
            }
            let settled = self.apps.get_mut(&app).and_then(|c| c.settle_by.take_if(|at| *at <= now));
            if settled.is_some() {
                self.settle(now);
            }
        }
    }

    pub(crate) fn step_all(&mut self, input: &Input, now: Micros) {
        let all: Vec<AppName> = self.apps.keys().cloned().collect();
        for app in all {
            self.step(&app, input.clone(), now);
        }
    }

    /// One input for one supervisor, and all that follows.
    pub(crate) fn step(&mut self, app: &AppName, input: Input, now: Micros) {
        self.step_once(app, input, now);
        // What could not be begun comes back as an input, after everything that was decided before it.
        while let Some((app, input)) = self.inbox.pop_front() {
            self.step_once(&app, input, now);
        }
    }

    fn step_once(&mut self, app: &AppName, input: Input, now: Micros) {
        let Some(controlled) = self.apps.get_mut(app) else { return };
        if !controlled.looked_for {
            // What does not fit is an instruction, most likely, and comes again.
            if controlled.waiting.len() < MOST_WAITING {
                controlled.waiting.push(input);
            }
            return;
        }
        let mut actions = std::mem::take(&mut self.actions);
        controlled.supervised.step(input, now, &mut actions);
        while let Some(action) = actions.pop_front() {
            self.carry_out(app, action, now);
        }
        self.actions = actions;
        self.released.clear();
        self.report_facts(now);
        self.keep(app, now);
    }

    fn carry_out(&mut self, app: &AppName, action: Action, now: Micros) {
        match action {
            Action::Spawn => self.spawn(app),
            Action::Terminate => {
                if let Some(process) = self.process(app) {
                    process.signal(libc::SIGTERM);
                }
            }
            Action::KillAll => {
                let process = self.process(app);
                if let Some(process) = process {
                    process.kill_all();
                }
                let gone = process.is_none_or(Process::has_ended);
                self.give(if gone { Job::Clear(app.clone()) } else { Job::Kill(app.clone()) });
            }
            Action::ReleaseVips => {
                // The gate first, and the voters are told, in the same breath.
                self.keep(app, now);
                let pair = self.apps.get(app).and_then(|c| c.supervised.settings().pair.as_ref());
                if let Some((pair, _)) = pair {
                    self.vips.release(pair, now, &mut self.released, &mut self.facts);
                }
            }
            Action::Probe { on } => self.probe(app, on),
            Action::TellMode { ref_id, mode, epoch } => self.tell_mode(app, ref_id, mode, epoch),
            Action::TellSuspend => {
                if let Some(process) = self.process(app) {
                    // Untold, it does not say that it suspends, and is stopped hard after its limit.
                    let _ = process.tell(&ToApplication::Suspend);
                }
            }
            Action::Report(report) => {
                let released = std::mem::take(&mut self.released);
                if report.mode == Some(RunMode::Primary) {
                    self.tend_soon(now);
                }
                self.report(Fact::App(AppReport { released, ..*report }), now);
                self.report_facts(now);
                self.dirty = true;
            }
            Action::Answer(answer) => self.report(Fact::Answer(answer), now),
            Action::Log(event) => {
                self.say.info(format_args!("application {app}: {}", event.text));
                self.report(Fact::Log(*event), now);
            }
            Action::Forget => {
                self.let_go(app);
                self.apps.remove(app);
                self.stopped.remove(app);
                self.dirty = true;
            }
        }
    }

    fn spawn(&mut self, app: &AppName) {
        let Some(controlled) = self.apps.get(app) else { return };
        let settings = Box::new(controlled.supervised.settings().clone());
        if !self.give(Job::Start(app.clone(), settings)) {
            let why = "the agent has too much to do".to_owned();
            self.inbox.push_back((app.clone(), Input::SpawnFailed { why }));
        }
    }

    fn tell_mode(&mut self, app: &AppName, ref_id: RefId, mode: RunMode, epoch: Epoch) {
        let Some(controlled) = self.apps.get(app) else { return };
        let Some(process) = &controlled.process else { return };
        match &controlled.supervised.settings().application.mode_control {
            ModeControl::Socket => {
                // A full or broken socket: unconfirmed in time, which is answered.
                if let Err(e) = process.tell(&ToApplication::SetRunMode { ref_id, mode, epoch }) {
                    self.say.warning(format_args!("application {app} cannot be told to be {mode}: {e}"));
                }
            }
            ModeControl::Command { command, time_limit } => {
                let mut command = command.clone();
                command.extend([mode.to_string(), epoch.to_string()]);
                let environment = self.mode_facts(app, &controlled.supervised, mode, epoch);
                let script = Script { command, environment, time_limit: *time_limit };
                if !self.give(Job::ModeCommand(app.clone(), ref_id, script)) {
                    let result = Err("the agent has too much to do".to_owned());
                    self.inbox.push_back((app.clone(), Input::ModeCommandEnded { ref_id, result }));
                }
            }
            ModeControl::Signal { primary, backup } => match mode {
                RunMode::Primary => process.signal(number(*primary)),
                RunMode::Backup => process.signal(number(*backup)),
                // There is no signal for it; SIGTERM will follow.
                RunMode::Exiting => {}
            },
            ModeControl::None => {}
        }
    }

    fn mode_facts(
        &self,
        app: &AppName,
        supervised: &Supervised,
        mode: RunMode,
        epoch: Epoch,
    ) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("TAKEOVER_APPLICATION", app.to_string()),
            ("TAKEOVER_HOST", self.host.to_string()),
            ("TAKEOVER_MODE", mode.to_string()),
            ("TAKEOVER_EPOCH", epoch.to_string()),
        ];
        facts
            .extend(supervised.settings().pair.as_ref().map(|(pair, _)| ("TAKEOVER_PAIR", pair.to_string())));
        facts
    }

    fn probe(&mut self, app: &AppName, on: bool) {
        let Some(controlled) = self.apps.get_mut(app) else { return };
        controlled.probe_run += 1;
        let probe = controlled.supervised.settings().application.probe.clone().filter(|_| on);
        let run = controlled.probe_run;
        self.give(Job::Probe { app: app.clone(), run, probe });
    }

    fn main_ended(&mut self, app: &AppName, now: Micros) {
        let process = self.apps.get_mut(app).and_then(|controlled| controlled.process.as_mut());
        let Some(exit) = process.and_then(Process::ended) else { return };
        // The process is held until the supervisor has had its group killed: until then the group's id is its own.
        self.step(app, Input::Exited(exit), now);
        self.let_go(app);
        self.settle(now);
    }

    fn let_go(&mut self, app: &AppName) {
        if let Some(process) = self.apps.get_mut(app).and_then(|controlled| controlled.process.take()) {
            self.runs.remove(&process.run());
            process.release(&self.registry);
        }
    }

    fn notices(&mut self, app: &AppName, now: Micros) -> bool {
        let Some(process) = self.process(app) else { return false };
        let mut notices = Vec::new();
        let more = process.read_notices(&mut notices);
        for notice in notices {
            if let Some(pid) = notice.main_pid {
                self.follow(app, pid);
            }
            let ready = notice.ready;
            self.step(app, Input::Notified(notice), now);
            if ready {
                self.connect_mode(app, now, true);
            }
        }
        more
    }

    fn follow(&mut self, app: &AppName, pid: u32) {
        let registry = &self.registry;
        let process = self.apps.get_mut(app).and_then(|controlled| controlled.process.as_mut());
        match process.map(|process| process.follow(pid, registry)) {
            Some(Ok(())) => {
                self.give(Job::KeepProcess(app.clone(), pid));
            }
            Some(Err(e)) => self.say.warning(format_args!("application {app}: main process {pid}: {e}")),
            None => {}
        }
    }

    fn connect_mode(&mut self, app: &AppName, now: Micros, soon: bool) {
        let registry = &self.registry;
        let process = self.apps.get_mut(app).and_then(|controlled| controlled.process.as_mut());
        if process.is_some_and(|process| process.connect(now, soon, registry)) {
            self.step(app, Input::ModeSocket { connected: true }, now);
            self.tell_to_reconfigure(app);
            // What it sent right after it accepted may be there before the poll watched.
            self.mode_messages(app, now);
        }
    }

    fn mode_messages(&mut self, app: &AppName, now: Micros) -> bool {
        let process = self.apps.get_mut(app).and_then(|controlled| controlled.process.as_mut());
        let Some(process) = process else { return false };
        let mut messages = Vec::new();
        let drained = process.read_mode(now, &mut messages);
        for message in messages {
            self.application_said(app, message, now);
        }
        match drained {
            Drained::All => false,
            Drained::More => true,
            Drained::Closed => {
                self.step(app, Input::ModeSocket { connected: false }, now);
                false
            }
        }
    }

    fn application_said(&mut self, app: &AppName, message: FromApplication, now: Micros) {
        let input = match message {
            FromApplication::RunMode { ref_id, mode, epoch } => {
                if let Some(process) = self.apps.get_mut(app).and_then(|c| c.process.as_mut()) {
                    process.mode_told = true;
                }
                Input::ModeTold { ref_id, mode, epoch }
            }
            FromApplication::Synced { synced, standby } => {
                if let Some(standby) = standby {
                    self.copy_told(app, standby, now);
                }
                Input::Synced(synced)
            }
            FromApplication::Suspending => Input::SuspendingTold,
            FromApplication::Suspended => Input::SuspendedTold,
            FromApplication::Log { event } => {
                // Whose it is, is not for the application to say, nor when it was heard of.
                let event =
                    LogEvent { host: Some(self.host.clone()), app: Some(app.clone()), at: now, ..event };
                return self.report(Fact::Log(event), now);
            }
        };
        self.step(app, input, now);
        self.settle(now);
    }

    /// Looks at the VIPs of pairs that have not been looked at yet, as soon as it is known what runs here.
    pub(crate) fn settle(&mut self, now: Micros) {
        if self.unsettled.is_empty() {
            return;
        }
        let unsettled = std::mem::take(&mut self.unsettled);
        for pair in unsettled {
            let member = self.member_of_pair(&pair);
            let known = member.is_none_or(|controlled| {
                controlled.looked_for
                    && controlled.process.as_ref().is_none_or(|process| {
                        process.mode_told
                            || !controlled.supervised.settings().speaks()
                            || controlled.settle_by.is_none()
                    })
            });
            if !known {
                self.unsettled.insert(pair);
                continue;
            }
            let primary = member
                .filter(|controlled| controlled.supervised.is_primary())
                .map(|controlled| controlled.supervised.greatest_epoch());
            self.vips.settle(&pair, primary, now, &mut self.facts);
            if primary.is_some() && !self.keepers.holds(&pair, now) {
                self.withdraw(&pair, now);
            }
            self.tend_soon(now);
        }
        self.report_facts(now);
    }

    /// This host's member of a pair.
    pub(crate) fn member_of_pair(&self, pair: &PairName) -> Option<&Controlled> {
        let of_pair = |member: &&Controlled| {
            member.supervised.settings().pair.as_ref().is_some_and(|(name, _)| name == pair)
        };
        self.apps.values().find(of_pair)
    }

    pub(crate) fn process(&self, app: &AppName) -> Option<&Process> {
        self.apps.get(app)?.process.as_ref()
    }
}

fn number(signal: Signal) -> libc::c_int {
    match signal {
        Signal::Hup => libc::SIGHUP,
        Signal::Usr1 => libc::SIGUSR1,
        Signal::Usr2 => libc::SIGUSR2,
    }
}
