//! The agent's state on the real-time thread, and what each message from the SCS or from the worker leads to.
//! Applications are in `applications`, launches in `orders`; when this is called is for `real_time`.

use crate::alone::is_own;
use crate::applications::Controlled;
use crate::gates::Gates;
use crate::keepers::Keepers;
use crate::lease_memory::LeaseMemory;
use crate::leases::LeaseBook;
use crate::links::Heard;
use crate::messages::{Job, News};
use crate::observer::{Answered, Observer};
use crate::peers::Peers;
use crate::real_time::Rights;
use crate::say::Say;
use crate::session::{Change, Session};
use crate::sip_servers::SipServers;
use crate::spawn::Found;
use crate::state_file::{Files, RunState};
use crate::vips::{Facts, Vips};
use crate::watchdog::Pulse;
use control_link::messages::{Fact, FromAgent, ToAgent};
use domain::{
    Answer, AnswerOutcome, AppName, AppStatus, Cluster, Epoch, HostFigures, HostName, Instruction, LogEvent,
    Micros, Order, PairName, VipAddress, events,
};
use lca_core::journal::Journal;
use lca_core::launches::Launches;
use lca_core::supervisor::{Actions, Input, Saved, Settings};
use mio::Registry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// How long an adopted application may take to tell its run mode before what was known of it last counts.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// What the agent was started with.
#[derive(Debug)]
pub struct Start {
    /// Its host.
    pub host: HostName,
    /// Where its files are.
    pub files: Files,
    /// The kernel's boot.
    pub boot_id: String,
    /// Its part of the cluster, as told last.
    pub cluster: Cluster,
    /// What its last run on this boot knew.
    pub last: RunState,
    /// Who was stopped by order.
    pub stopped: BTreeSet<AppName>,
    /// Whether the memory is locked.
    pub memory_locked: bool,
    /// What survived a crash of the leases' machines; none: there is no room for it.
    pub lease_memory: Option<LeaseMemory>,
    /// Where the watchdog looks.
    pub pulse: Arc<Pulse>,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) host: HostName,
    pub(crate) files: Files,
    pub(crate) say: Say,
    pub(crate) registry: Registry,
    pub(crate) jobs: Sender<Job>,
    pub(crate) session: Session,
    pub(crate) peers: Peers,
    pub(crate) heard: Heard,
    pub(crate) vips: Vips,
    pub(crate) observer: Observer,
    pub(crate) keepers: Keepers,
    pub(crate) book: LeaseBook,
    pub(crate) launches: Launches,
    pub(crate) sip_servers: SipServers,
    pub(crate) apps: BTreeMap<AppName, Controlled>,
    pub(crate) runs: BTreeMap<usize, AppName>,
    pub(crate) next_run: usize,
    pub(crate) stopped: BTreeSet<AppName>,
    /// Pairs whose VIPs were not looked at yet since the agent started.
    pub(crate) unsettled: BTreeSet<PairName>,
    /// To be carried out; kept to be used again.
    pub(crate) actions: Actions,
    /// Inputs that a step itself led to.
    pub(crate) inbox: VecDeque<(AppName, Input)>,
    pub(crate) facts: Facts,
    /// Launches that ended with what was observed, to be reported; kept to be used again.
    pub(crate) answered: Vec<Answered>,
    pub(crate) released: Vec<VipAddress>,
    boot_id: String,
    pub(crate) cluster: Cluster,
    last: BTreeMap<AppName, Saved>,
    journal: Journal,
    /// Something changed that the next run should know.
    pub(crate) dirty: bool,
    saving: bool,
    /// Whether the SCS has been told everything up to now, so that a new report may be sent at once and stays in order.
    up_to_date: bool,
    /// The newest configuration that came over this connection; 0: none did since the welcome.
    last_assigned: u64,
    /// Whether the connection has been logged.
    connection_logged: bool,
    terminated: bool,
    real_time: bool,
    memory_locked: bool,
    pulse: Arc<Pulse>,
    /// The greatest lateness of the real-time thread since the last figures.
    stall: Duration,
}

impl Agent {
    /// The agent as it starts: nothing is looked at or begun before [`Agent::begin`].
    #[must_use]
    pub fn new(
        start: Start,
        registry: Registry,
        jobs: Sender<Job>,
        (session, peers): (Session, Peers),
        say: Say,
        now: Micros,
    ) -> Self {
        let mut launches = Launches::default();
        launches.restore(start.last.launches);
        Self {
            vips: Vips::open(&start.host, &say, start.last.vips_put_back),
            observer: Observer::open(&say),
            keepers: Keepers::new(&start.host, start.lease_memory, Gates::open(&say)),
            book: LeaseBook::default(),
            host: start.host,
            files: start.files,
            say,
            registry,
            jobs,
            session,
            peers,
            heard: Heard::default(),
            launches,
            sip_servers: SipServers::default(),
            apps: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            stopped: start.stopped,
            unsettled: BTreeSet::new(),
            actions: Actions::new(),
            inbox: VecDeque::new(),
            facts: Facts::new(),
            answered: Vec::new(),
            released: Vec::new(),
            boot_id: start.boot_id,
            cluster: start.cluster,
            last: start.last.apps,
            // No run of the agent repeats the numbers of an earlier one on the same boot: it cannot have written more
            // than one report per microsecond.
            journal: Journal::new(now.0),
            dirty: false,
            saving: false,
            up_to_date: false,
            last_assigned: 0,
            connection_logged: false,
            terminated: false,
            real_time: false,
            memory_locked: start.memory_locked,
            pulse: start.pulse,
            stall: Duration::ZERO,
        }
    }

    /// Takes up work, with the cluster as it was told last: also without an SCS.
    pub fn begin(&mut self, rights: Rights, now: Micros) {
        match rights {
            Rights::Given => self.real_time = true,
            Rights::NotWanted => {}
            Rights::Refused => {
                let why = "SCHED_FIFO is not allowed, CAP_SYS_NICE is needed";
                self.say.warning(format_args!("no real-time scheduling: {why}"));
                let event = LogEvent::new(events::AGENT_LIMITED, now).on(&self.host).because(why);
                self.report(Fact::Log(event), now);
            }
        }
        let cluster = std::mem::take(&mut self.cluster);
        self.configure(cluster, now);
        self.keepers.gates().forget_the_rest();
    }

    /// Whether the agent is to end.
    #[must_use]
    pub fn terminated(&self) -> bool {
        self.terminated
    }

    /// When [`Agent::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let apps = self.apps.values().filter_map(Controlled::next_deadline).min();
        let (vips, observer) = (self.vips.next_deadline(), self.observer.next_deadline());
        let (session, peers) = (self.session.next_deadline(), self.peers.next_deadline());
        [session, peers, vips, observer, apps, self.lease_deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Micros) {
        self.apps_time_passed(now);
        // Before the links: a vote takes the heartbeat along, which then need not go by itself. Before the VIPs: after a
        // stall, nothing is announced by a lease that has run out.
        self.leases_time_passed(now);
        let change = self.session.time_passed(now);
        self.changed(change, now);
        self.peers_time_passed(now);
        if self.vips.next_deadline().is_some_and(|due| due <= now) {
            self.vips.time_passed(now, &mut self.facts);
            self.report_facts(now);
        }
        if self.observer.next_deadline().is_some_and(|due| due <= now) {
            self.observer.time_passed(&self.vips, now, &mut self.facts, &mut self.answered);
            self.report_observed(now);
        }
        self.flush_votes(now);
    }

    /// The loop was late by this much: nobody else is to blame for that time.
    pub fn stalled(&mut self, late: Duration, now: Micros) {
        self.stall = self.stall.max(late);
        let heartbeat = self.session.heartbeat().unwrap_or(Duration::from_millis(100));
        if late > 2 * heartbeat {
            let event = LogEvent::new(events::AGENT_STALLED, now).on(&self.host);
            let event =
                event.because(format_args!("for {} ms", late.as_millis())).with("stall_us", late.as_micros());
            self.report(Fact::Log(event), now);
        }
        self.session.grant(late);
        self.peers.grant(late);
        self.step_all(&Input::Stalled(late), now);
    }

    /// Messages of the SCS.
    pub fn listen(&mut self, messages: &mut Vec<ToAgent>, now: Micros) {
        for message in messages.drain(..) {
            match message {
                ToAgent::Welcome(welcome) => match self.session.welcomed(&welcome, &self.registry, now) {
                    Ok(()) => self.welcomed(welcome.cluster, now),
                    Err(why) => self.say.warning(format_args!("{why}")),
                },
                ToAgent::Goodbye { why } => {
                    let change = self.session.lose(&format!("the SCS says goodbye: {why}"), now);
                    self.changed(change, now);
                }
                ToAgent::Assign { cluster, number, pace } => {
                    self.say.notice(format_args!("the configuration changed"));
                    self.assigned(*cluster, now);
                    if let Some(pace) = pace {
                        self.session.set_pace(pace, now);
                    }
                    self.last_assigned = number;
                    // All of it, once what is new has been looked for.
                    self.up_to_date = false;
                    self.catch_up(now);
                }
                ToAgent::Instruct(instruction) => self.instructed(instruction, now),
                ToAgent::Launch(launch) => self.launch_ordered(launch, now),
                ToAgent::Fetch { number, app, path } => self.fetch(number, &app, path, now),
                ToAgent::Acknowledge { seq } => self.journal.acknowledge(seq),
            }
        }
    }

    /// News of the worker.
    pub fn hear(&mut self, news: News, now: Micros) {
        match news {
            News::Found(app, found) => self.found(&app, found, now),
            News::Started(app, started) => self.started(&app, started, now),
            News::Probed { app, run, result } => self.probed(&app, run, result, now),
            News::ModeCommandEnded(app, ref_id, result) => {
                self.step(&app, Input::ModeCommandEnded { ref_id, result }, now);
            }
            News::ScriptEnded(result) => self.script_ended(result, now),
            News::Saved => self.saving = false,
            News::SipSettingsKept(app, changed) => self.sip_settings_kept(&app, changed),
            News::Fetched(number, page) => self.fetched(number, page, now),
            News::Figures(figures) => self.figures(*figures, now),
            News::Linked(link) => self.session.linked(link, &self.registry, now),
            News::PeerLinked(link) => self.peer_linked(link, now),
            News::PeerSocket(socket) => self.peers.take_socket(socket, &self.registry),
            News::Terminate => self.terminated = true,
        }
    }

    /// What netlink tells. True: there is more.
    pub fn watch_network(&mut self, now: Micros) -> bool {
        let keepers = &self.keepers;
        self.vips.hold_only(|pair| keepers.holds(pair, now));
        let more = self.vips.watch(now, &mut self.facts);
        self.report_facts(now);
        if self.vips.take_disturbed() {
            self.look_at_gates(now);
            self.carriers_changed(now);
        }
        more
    }

    /// Who else answers for our VIPs.
    pub fn hear_duplicates(&mut self, now: Micros) {
        let keepers = &self.keepers;
        self.vips.hold_only(|pair| keepers.holds(pair, now));
        self.vips.hear_duplicates(now, &mut self.facts);
        self.report_facts(now);
    }

    /// The agent's part of the cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Something changed on the connection.
    pub fn changed(&mut self, change: Change, now: Micros) {
        match change {
            Change::None => {}
            Change::Lost(why) => {
                self.up_to_date = false;
                self.observer.disconnected();
                let event = LogEvent::new(events::CONNECTION_LOST, now).on(&self.host);
                self.report(Fact::Log(event.because(format_args!("SCS: {why}"))), now);
                self.scs_reached(false, now);
            }
        }
    }

    /// Numbers a fact, keeps it until it is acknowledged, and sends it if it is its turn.
    pub(crate) fn report(&mut self, fact: Fact, now: Micros) {
        let own = match &fact {
            Fact::Answer(answer) => is_own(answer.ref_id),
            Fact::LaunchEnded(result) => is_own(result.ref_id),
            Fact::App(_)
            | Fact::Vip(_)
            | Fact::VipSighted(_)
            | Fact::Interface(_)
            | Fact::Peer(_)
            | Fact::LeaseLetGo { .. }
            | Fact::Log(_) => false,
        };
        // The agent's own order: nobody waits for its answer.
        if own {
            return;
        }
        let dropped = self.journal.push(now, fact);
        if dropped > 0 {
            self.say
                .warning(format_args!("{dropped} reports are dropped: the SCS has been away for too long"));
        }
        if self.up_to_date
            && let Some(report) = self.journal.last()
        {
            let change = self.session.send(&FromAgent::Report(report.clone()), now);
            self.changed(change, now);
        }
    }

    /// Reports what was collected, in order.
    pub(crate) fn report_facts(&mut self, now: Micros) {
        let mut facts = std::mem::take(&mut self.facts);
        for fact in facts.drain(..) {
            self.report(fact, now);
        }
        self.facts = facts;
    }

    /// Gives the worker a job; false where it is not taken because too much waits already.
    pub(crate) fn give(&self, job: Job) -> bool {
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.say.error(format_args!("the worker has too much to do; a job is left undone"));
                false
            }
            // The worker ends only when the agent does.
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Has the state written if it changed; one write at a time, so that a slow disk does not pile them up.
    pub fn save(&mut self) {
        if self.dirty && !self.saving {
            self.saving = self.give(Job::Save(Box::new(self.run_state()), self.stopped.clone()));
            self.dirty = !self.saving;
        }
    }

    /// The last thing before the end: whatever changed is written.
    pub fn save_for_good(&mut self) {
        self.give(Job::Save(Box::new(self.run_state()), self.stopped.clone()));
    }

    fn run_state(&self) -> RunState {
        // Of one that was not looked for yet, what the last run knew still counts: its supervisor knows nothing.
        let saved = |(name, app): (&AppName, &Controlled)| {
            let saved =
                if app.looked_for { Some(app.supervised.saved()) } else { self.last.get(name).cloned() };
            Some((name.clone(), saved?))
        };
        let apps = self.apps.iter().filter_map(saved).collect();
        RunState {
            boot_id: self.boot_id.clone(),
            apps,
            launches: self.launches.newest(100).collect(),
            vips_put_back: self.vips.put_back(),
        }
    }

    fn welcomed(&mut self, cluster: Cluster, now: Micros) {
        self.last_assigned = 0;
        self.connection_logged = false;
        self.assigned(cluster, now);
        self.scs_reached(true, now);
        self.observer.connected(now);
        self.catch_up(now);
    }

    /// Tells the SCS, once it is connected, what is here and what it has missed. Not before it is known what was left of
    /// every application by an earlier run of the agent: one that was not looked for yet is not a stopped one.
    pub(crate) fn catch_up(&mut self, now: Micros) {
        let looked_for = self.apps.values().all(|app| app.looked_for);
        if !looked_for || self.up_to_date || !self.session.is_up() {
            return;
        }
        self.send_inventory(now);
        // What happened while there was no connection, and what may have been on its way when it was lost.
        let mut change = Change::None;
        for report in self.journal.iter() {
            change = self.session.send(&FromAgent::Report(report.clone()), now);
            if change != Change::None {
                break;
            }
        }
        self.changed(change, now);
        self.up_to_date = self.session.is_up();
        self.send_copies(now);
        if !std::mem::replace(&mut self.connection_logged, true) {
            self.report(Fact::Log(LogEvent::new(events::CONNECTED, now).on(&self.host).because("SCS")), now);
        }
    }

    fn assigned(&mut self, cluster: Cluster, now: Micros) {
        if cluster != self.cluster {
            self.give(Job::SaveCluster(Box::new(cluster.clone())));
            self.configure(cluster, now);
        }
    }

    /// Tells the SCS anew what is here, where it was told before.
    pub(crate) fn tell_again(&mut self, now: Micros) {
        if self.up_to_date {
            self.send_inventory(now);
        }
    }

    fn send_inventory(&mut self, now: Micros) {
        let inventory = FromAgent::Inventory {
            apps: self.apps.values().map(|app| app.supervised.report()).collect(),
            vips: self.vips.reports(),
            interfaces: self.vips.interfaces(),
            taken_over: self.book.taken(),
            peers: self.peers.reports(),
            assigned: self.last_assigned,
        };
        let change = self.session.send(&inventory, now);
        self.changed(change, now);
    }

    /// Takes a configuration. What runs goes on running; what is new is looked for and then started, what is no longer
    /// there is stopped.
    fn configure(&mut self, cluster: Cluster, now: Micros) {
        self.pulse.outlast(&cluster);
        self.cluster = cluster;
        // Before a server is started that wants its file.
        self.configure_sip_servers();
        let here: Vec<(AppName, Settings)> = self
            .cluster
            .applications
            .iter()
            .filter(|(_, application)| application.host == self.host)
            .map(|(name, application)| {
                let pair =
                    self.cluster.pair_of(name).map(|(pair, settings)| (pair.clone(), settings.redundancy));
                (name.clone(), Settings { application: application.clone(), pair })
            })
            .collect();
        let gone: Vec<AppName> =
            self.apps.keys().filter(|name| !here.iter().any(|(here, _)| here == *name)).cloned().collect();
        for app in gone {
            self.step(&app, Input::Reconfigured(None), now);
        }
        for (name, settings) in here {
            match self.apps.get(&name) {
                Some(known) if *known.supervised.settings() == settings && !known.supervised.is_removed() => {
                }
                Some(_) => self.step(&name, Input::Reconfigured(Some(Box::new(settings))), now),
                None => self.look_for(name, Box::new(settings)),
            }
        }
        let new_pairs = self.vips.configure(&self.cluster, now, &mut self.facts);
        self.unsettled.extend(new_pairs);
        self.configure_peers(now);
        self.configure_leases(now);
        self.observer.configure(&self.vips, now, &mut self.answered);
        self.report_observed(now);
        self.settle(now);
        self.dirty = true;
    }

    /// What is there of an application is known now.
    fn found(&mut self, app: &AppName, found: Result<Found, String>, now: Micros) {
        let Some(controlled) = self.apps.get(app) else { return };
        let autostart = controlled.supervised.settings().application.autostart;
        // An order to stop is on file before it is in the run state.
        let stopped = self.stopped.contains(app);
        let saved = self.last.remove(app).map(|saved| Saved { wanted: saved.wanted && !stopped, ..saved });
        let input = match (found, saved) {
            (Ok(Found::Alive(running)), saved) => {
                let pid = running.pid;
                if self.hold(app, running, now) {
                    Input::Adopted { pid, saved: saved.unwrap_or_else(|| unknown(!stopped)) }
                } else {
                    Input::Booted { wanted: false }
                }
            }
            (Ok(Found::Gone), Some(saved)) => Input::FoundGone { saved },
            // The run state is newer than the process: it had ended before, or was about to be made.
            (Ok(Found::Never), Some(saved)) => {
                Input::FoundGone { saved: Saved { status: AppStatus::Stopped, ..saved } }
            }
            (Ok(Found::Gone | Found::Never), None) => Input::Booted { wanted: autostart && !stopped },
            (Err(why), _) => {
                self.say.error(format_args!("application {app}: {why}"));
                Input::Booted { wanted: autostart && !stopped }
            }
        };
        self.looked_for(app, input, now);
    }

    fn instructed(&mut self, instruction: Instruction, now: Micros) {
        let Instruction { ref_id, app, order } = instruction;
        if !self.apps.contains_key(&app) {
            let why = format!("this host has no application {app}");
            let answer = Answer { ref_id, outcome: AnswerOutcome::Refused { why } };
            return self.report(Fact::Answer(answer), now);
        }
        let input = match order {
            Order::SetRunMode { mode, epoch } => {
                self.decided_by_scs(&app);
                Input::RunModeOrdered { ref_id, mode, epoch }
            }
            Order::Start => {
                self.stopped.remove(&app);
                Input::StartOrdered { ref_id }
            }
            Order::Stop { graceful } => {
                self.stopped.insert(app.clone());
                Input::StopOrdered { ref_id, graceful }
            }
        };
        self.dirty = true;
        self.step(&app, input, now);
    }

    fn figures(&mut self, figures: HostFigures, now: Micros) {
        let stall = std::mem::take(&mut self.stall);
        let figures = HostFigures {
            longest_stall_us: u64::try_from(stall.as_micros()).unwrap_or(u64::MAX),
            real_time: self.real_time,
            memory_locked: self.memory_locked,
            watchdog_s: self.pulse.armed_s(),
            vips_put_back: self.vips.put_back(),
            at: now,
            ..figures
        };
        let change = self.session.send(&FromAgent::Figures(figures), now);
        self.changed(change, now);
        self.send_copies(now);
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
