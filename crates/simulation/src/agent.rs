//! The agent in the world: the real cores (supervisors, journal, launches, leases) with a driver around them that does what
//! the driver in `lca` does, step for step, but hands out its deeds as values. Those are carried out one by one by the
//! world, which may stop the agent between any two of them, or end it there.

mod applications;
mod launches;
mod leases;
mod links;
mod vips;

use crate::due::Due;
use crate::host::{DiskFiles, Gate, RunFiles, RunState};
use crate::message::{ConnectionId, Datagram, FromAgent, Node, Segment, ToAgent};
use crate::process::{Said, Told};
use applications::Controlled;
use domain::{
    AppName, Cluster, Epoch, Fact, HostName, Launch, LaunchResult, LogEvent, MacAddress, Micros, PairName,
    RefId, TakenOver, VipAddress, VipSighting, events,
};
use lca_core::journal::Journal;
use lca_core::launches::Launches;
use lca_core::supervisor::{Input, Saved};
use lease::{Memory, PairId};
use leases::Leases;
use links::Links;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use vips::Vips;

/// What happens to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The worker found out what is there of an application.
    Found(AppName, Found),
    /// The worker made a process.
    Started(AppName, u32),
    /// The process of this id said something, or ended.
    Said(AppName, u32, Said),
    /// A script ended.
    ScriptEnded(LaunchResult),
    /// The state is written.
    Saved,
    /// A connection is there.
    Linked(Node, ConnectionId),
    /// There will be none.
    NotLinked(Node),
    /// Something arrived over a connection.
    Segment(ConnectionId, Segment),
    /// A datagram arrived.
    Datagram(Datagram),
    /// The answers to an inquiry for a VIP's holder are in.
    Sighted(RefId, VipSighting),
    /// The kernel says that an address came or went.
    AddressChanged(VipAddress),
    /// The kernel says that the interface has carrier, or has none.
    Carrier(bool),
}

/// The Ethernet address of a host's interface.
pub(crate) fn mac_of(host: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, u8::try_from(host).expect("few hosts")])
}

/// What is there of an application when the agent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its process.
    Alive(u32),
    /// A process that ended.
    Gone,
    /// No trace.
    Never,
}

/// What an agent does, in this order.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Send(ConnectionId, FromAgent),
    SendVotes(ConnectionId, Vec<lease::Message>),
    Close(ConnectionId),
    Datagram(Node, Datagram),
    /// Dial after a pause, which chance may shorten by half.
    Dial(Node, Duration),
    Find(AppName),
    Spawn(AppName),
    /// From now on it hears of the end of this process; also where that has come already.
    Watch(AppName, u32),
    Terminate(AppName),
    Kill(AppName),
    Tell(AppName, Told),
    Script(Box<Launch>),
    Save(Box<RunState>),
    KeepStopped(BTreeSet<AppName>),
    KeepCluster(Arc<Cluster>),
    Address(VipAddress, bool),
    OpenGate {
        pair: PairName,
        epoch: Epoch,
        until: Micros,
    },
    CloseGate {
        pair: PairName,
        epoch: Epoch,
    },
}

/// What it finds in its kernel.
pub(crate) struct Kernel<'a> {
    pub(crate) addresses: &'a BTreeSet<VipAddress>,
    pub(crate) gates: &'a BTreeMap<PairName, Gate>,
    pub(crate) carrier: bool,
}

/// Who it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) number: usize,
    pub(crate) host: HostName,
    pub(crate) boot: u64,
    /// Hosts in the order of their numbers.
    pub(crate) hosts: Arc<[HostName]>,
    /// The numbers of the hosts with which it shares a pair.
    pub(crate) peers: Vec<usize>,
    /// Everything, to look up where the other member of a pair is.
    pub(crate) whole: Arc<Cluster>,
}

/// How long an adopted application may take to tell its run mode before what was known of it last counts.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// Lateness that is nobody's fault.
const SLACK: Duration = Duration::from_millis(5);

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    identity: Identity,
    cluster: Arc<Cluster>,
    apps: BTreeMap<AppName, Due<Controlled>>,
    last: BTreeMap<AppName, Saved>,
    launches: Launches,
    journal: Journal,
    links: Due<Links>,
    vips: Due<Vips>,
    leases: Due<Leases>,
    stopped: BTreeSet<AppName>,
    /// Pairs whose VIPs were not looked at yet since the agent started.
    unsettled: BTreeSet<PairName>,
    inbox: VecDeque<(AppName, Input)>,
    /// Roles taken without an SCS, to be told to one.
    taken: BTreeMap<PairName, TakenOver>,
    facts: Vec<Fact>,
    released: Vec<VipAddress>,
    dirty: bool,
    saving: bool,
    /// Whether the SCS has been told everything up to now.
    up_to_date: bool,
    out: VecDeque<Effect>,
}

impl Agent {
    /// An agent as it starts, with what its last run left.
    pub(crate) fn start(
        identity: Identity,
        run: &RunFiles,
        disk: &DiskFiles,
        kernel: &Kernel<'_>,
        now: Micros,
    ) -> Self {
        let mut launches = Launches::default();
        launches.restore(run.state.launches.clone());
        let mut agent = Self {
            cluster: Arc::default(),
            apps: BTreeMap::new(),
            last: run.state.apps.clone(),
            launches,
            journal: Journal::new(now.0),
            links: Due::new(Links::default()),
            vips: Due::new(Vips::new(kernel.carrier, mac_of(identity.number))),
            leases: Due::new(Leases::new(run.leases.clone(), kernel.gates)),
            stopped: disk.stopped.clone(),
            unsettled: BTreeSet::new(),
            inbox: VecDeque::new(),
            taken: BTreeMap::new(),
            facts: Vec::new(),
            released: Vec::new(),
            dirty: false,
            saving: false,
            up_to_date: false,
            out: VecDeque::new(),
            identity,
        };
        if let Some(cluster) = disk.cluster.clone() {
            agent.configure(cluster, kernel.addresses, now);
        }
        agent.dial_everybody();
        agent
    }

    /// One thing that happened, `here` being the addresses that the kernel has now.
    pub(crate) fn handle(&mut self, event: Event, here: &BTreeSet<VipAddress>, now: Micros) {
        match event {
            Event::Found(app, found) => self.found(&app, found, now),
            Event::Started(app, pid) => self.started(&app, pid, now),
            Event::Said(app, pid, said) => self.said(&app, pid, said, now),
            Event::ScriptEnded(result) => self.script_ended(result, now),
            Event::Saved => self.saving = false,
            Event::Linked(node, id) => self.linked(node, id, now),
            Event::NotLinked(node) => self.not_linked(node),
            Event::Segment(id, Segment::ToAgent(message)) => self.message(id, *message, here, now),
            Event::Segment(id, Segment::Closed) => self.closed(id, now),
            Event::Segment(id, Segment::Votes(votes)) => self.votes_of_peer(id, &votes, now),
            Event::Segment(_, Segment::FromAgent(_)) => unreachable!("agents report to the SCS alone"),
            Event::Datagram(datagram) => self.datagram(datagram, now),
            Event::Sighted(ref_id, sighting) => self.sighted(ref_id, sighting, now),
            Event::AddressChanged(address) => {
                self.vips.look_at(address, here, now, &mut self.facts, &mut self.out);
                self.report_facts(now);
            }
            Event::Carrier(up) => {
                self.vips.carrier(up, &self.identity.host, now, &mut self.facts);
                self.report_facts(now);
            }
        }
        self.finish(now);
    }

    /// Does what is due.
    pub(crate) fn time_passed(&mut self, here: &BTreeSet<VipAddress>, now: Micros) {
        self.links_time_passed(now);
        self.apps_time_passed(now);
        self.vips.time_passed(here, now, &mut self.facts, &mut self.out);
        self.report_facts(now);
        self.leases_time_passed(now);
        self.finish(now);
    }

    /// The agent was late by this much: nobody else is to blame for that time.
    pub(crate) fn stalled(&mut self, late: Duration, now: Micros) {
        if late <= SLACK {
            return;
        }
        if late > 2 * self.profile().heartbeat() {
            let event = LogEvent::new(events::AGENT_STALLED, now).on(&self.identity.host);
            self.report(Fact::Log(event.because(format_args!("for {} ms", late.as_millis()))), now);
        }
        self.links.grant(late);
        let all: Vec<AppName> = self.apps.keys().cloned().collect();
        for app in all {
            self.step(&app, Input::Stalled(late), now);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        let apps = self.apps.values().filter_map(|app| app.at(Controlled::next_deadline));
        let parts = [
            self.links.at(Links::next_deadline),
            self.vips.at(Vips::next_deadline),
            self.leases.at(Leases::next_deadline),
        ];
        apps.chain(parts.into_iter().flatten()).min()
    }

    /// What is due when, in words.
    pub(crate) fn deadlines(&self) -> String {
        format!(
            "links {:?}, VIPs {:?}, leases {:?}, applications {:?}",
            self.links.next_deadline(),
            self.vips.next_deadline(),
            self.leases.next_deadline(),
            self.apps.values().filter_map(|app| app.next_deadline()).min()
        )
    }

    /// What it does now, oldest first. What it does not get to do because it is ended is not done.
    pub(crate) fn effects(&mut self) -> &mut VecDeque<Effect> {
        &mut self.out
    }

    /// What it writes into shared memory before it does anything.
    pub(crate) fn remember(&mut self, memory: &mut BTreeMap<PairId, Memory>) {
        if self.leases.has_changed() {
            self.leases.remember(memory);
        }
    }

    /// Reports that the SCS has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.journal.iter().count()
    }

    /// How many other voters confirm the lease of a pair; none: there is none.
    pub(crate) fn backing(&self, pair: &PairName, now: Micros) -> Option<usize> {
        self.leases.backing(pair, now)
    }

    fn profile(&self) -> domain::Profile {
        self.cluster.profile_of(&self.identity.host)
    }

    fn message(&mut self, id: ConnectionId, message: ToAgent, here: &BTreeSet<VipAddress>, now: Micros) {
        if !self.links.heard_from_scs(id, now) {
            return;
        }
        match message {
            ToAgent::Welcome { cluster } => {
                self.links.welcomed(now);
                if *cluster != *self.cluster {
                    self.out.push_back(Effect::KeepCluster(Arc::clone(&cluster)));
                    self.configure(cluster, here, now);
                }
                self.catch_up(now);
            }
            ToAgent::Instruct(instruction) => self.instructed(instruction, now),
            ToAgent::Launch(launch) => self.launch_ordered(Box::new(launch), now),
            ToAgent::Acknowledge { seq } => self.journal.acknowledge(seq),
        }
    }

    /// Numbers a fact, keeps it until it is acknowledged, and sends it if it is its turn.
    fn report(&mut self, fact: Fact, now: Micros) {
        self.journal.push(now, fact);
        if self.up_to_date
            && let (Some(id), Some(report)) = (self.links.scs_up(), self.journal.last())
        {
            self.out.push_back(Effect::Send(id, FromAgent::Report(report.clone())));
        }
    }

    fn report_facts(&mut self, now: Micros) {
        for fact in std::mem::take(&mut self.facts) {
            self.report(fact, now);
        }
    }

    /// Tells the SCS, once it is connected, what is here and what it has missed. Not before it is known what was left of
    /// every application by an earlier run.
    fn catch_up(&mut self, now: Micros) {
        let looked_for = self.apps.values().all(|app| app.looked_for);
        let Some(id) = self.links.scs_up().filter(|_| looked_for && !self.up_to_date) else { return };
        self.send_inventory(id);
        for report in self.journal.iter() {
            self.out.push_back(Effect::Send(id, FromAgent::Report(report.clone())));
        }
        self.up_to_date = true;
        self.leases.tell_soon(now);
        let event = LogEvent::new(events::CONNECTED, now).on(&self.identity.host).because("SCS");
        self.report(Fact::Log(event), now);
    }

    /// Tells the SCS anew what is here, where it was told before.
    fn tell_again(&mut self) {
        if let Some(id) = self.links.scs_up().filter(|_| self.up_to_date) {
            self.send_inventory(id);
        }
    }

    fn send_inventory(&mut self, id: ConnectionId) {
        let inventory = FromAgent::Inventory {
            apps: self.apps.values().map(|app| app.supervised.report()).collect(),
            vips: self.vips.reports(),
            interfaces: self.vips.interfaces(),
            taken_over: self.taken.values().cloned().collect(),
            peers: self.peer_reports(),
        };
        self.out.push_back(Effect::Send(id, inventory));
    }

    fn scs_lost(&mut self, now: Micros) {
        self.up_to_date = false;
        let event = LogEvent::new(events::CONNECTION_LOST, now).on(&self.identity.host).because("SCS");
        self.report(Fact::Log(event), now);
    }

    /// Takes a configuration. What is new is looked for, what is no longer there is stopped.
    fn configure(&mut self, cluster: Arc<Cluster>, here: &BTreeSet<VipAddress>, now: Micros) {
        self.cluster = cluster;
        self.configure_apps(now);
        let new = self.vips.configure(&self.cluster, &self.identity.host, here);
        self.unsettled.extend(new);
        self.configure_leases(now);
        self.settle(now);
        self.dirty = true;
    }

    /// At the end of every round: leases follow what applications became, and what changed is written.
    fn finish(&mut self, now: Micros) {
        self.see_to_links(now);
        self.step_inbox(now);
        if self.dirty && !self.saving {
            // Of one that was not looked for yet, what the last run knew still counts.
            let saved = |(name, app): (&AppName, &Due<Controlled>)| {
                let saved =
                    if app.looked_for { Some(app.supervised.saved()) } else { self.last.get(name).cloned() };
                Some((name.clone(), saved?))
            };
            let state = RunState {
                apps: self.apps.iter().filter_map(saved).collect(),
                launches: self.launches.newest(100).collect(),
            };
            self.out.push_back(Effect::Save(Box::new(state)));
            (self.dirty, self.saving) = (false, true);
        }
    }
}
