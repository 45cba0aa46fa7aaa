//! The world: machines, network and time. Takes the next event, gives it to whom it belongs, and carries out what comes of
//! it, until nothing more can happen or the judge has seen enough.

mod deeds;
mod faults;
mod processes;
mod traffic;

use crate::agent::{self, Agent, Identity, Kernel};
use crate::clock::{Clock, TrueTime};
use crate::host::Host;
use crate::judge::Judge;
use crate::message::{ConnectionId, Datagram, Node, Segment};
use crate::network::Network;
use crate::random::Random;
use crate::scenario::{Breakage, Disk, Moment, Restart, Scenario, Timed, When, host_names};
use crate::scs::{self, Scs};
use domain::{AppName, Cluster, HostName, Launch, Micros};
use ha_core::Durable;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What an attempt to connect may take before it is given up.
const DIAL_LIMIT_US: u64 = 2_000_000;
/// What waits for a machine that stands still is bounded, as its sockets' buffers are.
const MOST_WAITING: usize = 4_096;

/// Something that will happen.
#[derive(Debug, Clone)]
enum Event {
    /// A program that stood still goes on.
    Resume(Node, u64),
    Datagram {
        from: Node,
        to: Node,
        datagram: Datagram,
    },
    Segment(ConnectionId, usize),
    /// An attempt to connect comes to its end: done, refused, or given up.
    Dial {
        host: usize,
        run: u64,
        to: Node,
    },
    Dialled {
        host: usize,
        run: u64,
        to: Node,
        reached: bool,
    },
    /// News for an agent from its own worker.
    News {
        host: usize,
        run: u64,
        news: agent::Event,
    },
    Process {
        host: usize,
        app: AppName,
        pid: u32,
        does: processes::Does,
    },
    ScriptEnds {
        host: usize,
        boot: u64,
        run: u64,
        launch: Box<Launch>,
    },
    Inquired {
        host: usize,
        run: u64,
        launch: Box<Launch>,
    },
    StateSaved {
        host: usize,
        boot: u64,
        run: u64,
        state: Box<crate::host::RunState>,
    },
    Stored {
        run: u64,
        durable: Box<Durable>,
    },
    StartAgent {
        host: usize,
        run: u64,
        restart: Restart,
    },
    PowerOn {
        host: usize,
        boot: u64,
    },
    StartScs {
        run: u64,
        disk: Disk,
    },
    Fault(usize),
    Strike(usize),
    Undo(faults::Undo),
}

/// When something happens, and among what happens then, in the order in which it was brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: TrueTime,
    number: u64,
}

/// What will happen: turns in a heap, which moves them about, and the events, which are larger, where they are.
#[derive(Debug, Default)]
struct Queue {
    turns: BinaryHeap<Reverse<(Turn, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
}

impl Queue {
    fn push(&mut self, turn: Turn, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.turns.push(Reverse((turn, place)));
    }

    fn first(&self) -> Option<Turn> {
        self.turns.peek().map(|Reverse((turn, _))| *turn)
    }

    fn pop(&mut self) -> Option<Event> {
        let Reverse((_, place)) = self.turns.pop()?;
        self.free.push(place);
        self.events[place].take()
    }
}

/// Where a machine's program stands.
#[derive(Debug, Default)]
struct Desk {
    /// It stands still; what comes waits.
    stalled: bool,
    waiting: VecDeque<Delivery>,
    /// When its program has something to do by itself.
    wake: Option<Turn>,
}

/// What reaches a program.
#[derive(Debug, Clone)]
enum Delivery {
    Agent(agent::Event),
    Scs(scs::Event),
}

/// What the world counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Faults and orders that came.
    pub faults: u64,
    /// Microseconds of true time.
    pub time_us: u64,
    /// Times that service came to another host.
    pub takeovers: u64,
    /// Datagrams lost.
    pub lost: u64,
    /// Datagrams doubled.
    pub doubled: u64,
}

pub(crate) struct World {
    scenario: Scenario,
    cluster: Arc<Cluster>,
    names: Arc<[HostName]>,
    pub(crate) now: TrueTime,
    queue: Queue,
    numbers: u64,
    pub(crate) hosts: Vec<Host>,
    desks: Vec<Desk>,
    pub(crate) scs: Option<Box<Scs>>,
    scs_clock: Clock,
    scs_run: u64,
    /// What the SCS's store has, and had some time before.
    disk: Durable,
    disk_before: Durable,
    disk_fails: bool,
    network: Network,
    random: Random,
    /// Faults that wait for a moment, with how many more of it.
    armed: Vec<(usize, u32)>,
    at_gate: BTreeMap<usize, faults::AtGate>,
    /// What an operator has ever stopped.
    pub(crate) stopped: BTreeSet<AppName>,
    /// Everything is whole again, and stays so.
    healed: bool,
    pub(crate) judge: Judge,
    lines: Option<Vec<String>>,
    counts: Counts,
}

impl World {
    /// The world as it begins: machines up, programs about to start. `verbose`: it writes down what happens.
    pub(crate) fn new(scenario: &Scenario, verbose: bool) -> Self {
        let cluster = Arc::new(scenario.layout.cluster());
        let names: Arc<[HostName]> = host_names(&cluster).into();
        let mut random = Random::new(scenario.seed, 2);
        let margin = if scenario.breakage == Some(Breakage::WildClocks) { 150 } else { 1 };
        let clock = |machine: usize| margin * scenario.drift_ppm.get(machine).copied().unwrap_or(0);
        let hosts: Vec<Host> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let uptime = Micros(10_000_000 + random.below(1_000_000_000));
                Host::new(name.clone(), clock(n), uptime)
            })
            .collect();
        let network = Network::new(names.len() + 1, scenario.weather, Random::new(scenario.seed, 3));
        let mut world = Self {
            judge: Judge::new(scenario, &cluster),
            scs_clock: Clock::new(TrueTime(0), Micros(1_700_000_000_000_000), clock(names.len())),
            desks: (0..=names.len()).map(|_| Desk::default()).collect(),
            scenario: scenario.clone(),
            cluster,
            names,
            now: TrueTime(0),
            queue: Queue::default(),
            numbers: 0,
            hosts,
            scs: None,
            scs_run: 0,
            disk: Durable::default(),
            disk_before: Durable::default(),
            disk_fails: false,
            network,
            random,
            armed: Vec::new(),
            at_gate: BTreeMap::new(),
            stopped: BTreeSet::new(),
            healed: false,
            lines: verbose.then(Vec::new),
            counts: Counts::default(),
        };
        let at = TrueTime(world.random.below(200_000));
        world.at(at, Event::StartScs { run: 0, disk: Disk::Kept });
        for host in 0..world.hosts.len() {
            let at = TrueTime(world.random.below(200_000));
            world.at(at, Event::StartAgent { host, run: 0, restart: Restart::WithMemory });
        }
        for (n, Timed { when, .. }) in scenario.faults.iter().enumerate() {
            let (When::At(at) | When::Behind { from: at, .. }) = when;
            world.at(TrueTime(*at), Event::Fault(n));
        }
        world
    }

    /// Lets the world go on until `end`. False: it does not come to an end of what happens at one time.
    pub(crate) fn run_until(&mut self, end: TrueTime, most_events: u64) -> bool {
        loop {
            let wakes = self.desks.iter().enumerate().filter_map(|(n, desk)| Some((desk.wake?, n)));
            let wake = wakes.min();
            let event = self.queue.first().filter(|event| wake.is_none_or(|(wake, _)| *event < wake));
            let Some(turn) = event.or(wake.map(|(wake, _)| wake)) else { break };
            if turn.at > end || self.judge.has_seen_enough() {
                break;
            }
            if self.counts.events >= most_events {
                return false;
            }
            self.now = turn.at;
            self.counts.events += 1;
            match (event, wake) {
                (None, Some((_, n))) => self.wake(Node::at(n)),
                (Some(_), _) | (None, None) => {
                    if let Some(event) = self.queue.pop() {
                        self.happen(event);
                    }
                }
            }
            self.judge.look(&self.hosts, self.now);
        }
        self.now = self.now.max(end);
        self.judge.look_again(&self.hosts, self.now);
        true
    }

    /// Which programs have something to do at once, again and again, in words.
    pub(crate) fn busy(&self) -> String {
        let late = |node: &Node| self.next_deadline(*node).is_some_and(|at| at <= self.local(*node));
        let nodes = (0..=self.hosts.len()).map(Node::at).filter(late);
        let texts = nodes.map(|node| match (node, &self.scs) {
            (Node::Scs, Some(scs)) => scs.deadlines(),
            (Node::Scs, None) => node.to_string(),
            (Node::Host(n), _) => match &self.hosts[n].agent {
                Some(agent) => format!("{node}: {}", agent.deadlines()),
                None => node.to_string(),
            },
        });
        texts.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            time_us: self.now.0,
            takeovers: self.judge.takeovers(),
            lost: self.network.lost,
            doubled: self.network.doubled,
            ..self.counts
        }
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn at(&mut self, at: TrueTime, event: Event) {
        let turn = self.turn(at.max(self.now));
        self.queue.push(turn, event);
    }

    fn turn(&mut self, at: TrueTime) -> Turn {
        self.numbers += 1;
        Turn { at, number: self.numbers }
    }

    fn after(&mut self, us: u64, event: Event) {
        self.at(self.now + us, event);
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now}  {}", line()));
        }
    }

    fn broken(&self, how: Breakage) -> bool {
        self.scenario.breakage == Some(how)
    }

    /// What the SCS's clock shows.
    pub(crate) fn scs_time(&self) -> Micros {
        self.local(Node::Scs)
    }

    fn local(&self, node: Node) -> Micros {
        match node {
            Node::Scs => self.scs_clock.at(self.now),
            Node::Host(host) => self.hosts[host].clock.at(self.now),
        }
    }

    /// Whether a machine answers at all.
    fn powered(&self, node: Node) -> bool {
        match node {
            Node::Scs => true,
            Node::Host(host) => self.hosts[host].powered,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Resume(node, run) => {
                if self.run_of(node) == run {
                    self.resume(node);
                }
            }
            Event::Datagram { from, to, datagram } => self.datagram_arrives(from, to, datagram),
            Event::Segment(id, end) => self.segment_arrives(id, end),
            Event::Dial { host, run, to } => self.dial(host, run, to),
            Event::Dialled { host, run, to, reached } => self.dialled(host, run, to, reached),
            Event::News { host, run, news } => {
                if self.hosts[host].run == run {
                    self.deliver(Node::Host(host), Delivery::Agent(news));
                }
            }
            Event::Process { host, app, pid, does } => self.process_does(host, &app, pid, does),
            Event::ScriptEnds { host, boot, run, launch } => self.script_ends(host, boot, run, &launch),
            Event::Inquired { host, run, launch } => self.inquired(host, run, &launch),
            Event::StateSaved { host, boot, run, state } => {
                if self.hosts[host].boot == boot && self.hosts[host].powered {
                    self.hosts[host].run_files.state = *state;
                    self.after(0, Event::News { host, run, news: agent::Event::Saved });
                }
            }
            Event::Stored { run, durable } => self.stored(run, *durable),
            Event::StartAgent { host, run, restart } => self.start_agent(host, run, restart),
            Event::PowerOn { host, boot } => self.power_on(host, boot),
            Event::StartScs { run, disk } => self.start_scs(run, disk),
            Event::Fault(n) => self.fault_is_due(n),
            Event::Strike(n) => self.strike(n),
            Event::Undo(undo) => self.undo(undo),
        }
    }

    // ---- programs ----

    fn run_of(&self, node: Node) -> u64 {
        match node {
            Node::Scs => self.scs_run,
            Node::Host(host) => self.hosts[host].run,
        }
    }

    fn is_running(&self, node: Node) -> bool {
        match node {
            Node::Scs => self.scs.is_some(),
            Node::Host(host) => self.hosts[host].agent.is_some(),
        }
    }

    fn next_deadline(&self, node: Node) -> Option<Micros> {
        match node {
            Node::Scs => self.scs.as_ref()?.next_deadline(),
            Node::Host(host) => self.hosts[host].agent.as_ref()?.next_deadline(),
        }
    }

    fn wake(&mut self, node: Node) {
        let desk = &mut self.desks[node.index()];
        desk.wake = None;
        if !desk.stalled {
            self.time_passed(node);
        }
    }

    fn deliver(&mut self, node: Node, delivery: Delivery) {
        if !self.is_running(node) {
            return;
        }
        let desk = &mut self.desks[node.index()];
        if desk.stalled {
            if desk.waiting.len() < MOST_WAITING {
                desk.waiting.push_back(delivery);
            }
            return;
        }
        self.handle(node, delivery);
        self.time_passed(node);
    }

    fn handle(&mut self, node: Node, delivery: Delivery) {
        let now = self.local(node);
        match (node, delivery) {
            (Node::Scs, Delivery::Scs(event)) => {
                if let Some(scs) = &mut self.scs {
                    scs.handle(event, now);
                }
            }
            (Node::Host(host), Delivery::Agent(event)) => {
                let host = &mut self.hosts[host];
                if let Some(agent) = &mut host.agent {
                    agent.handle(event, &host.addresses, now);
                }
            }
            (Node::Scs, Delivery::Agent(_)) | (Node::Host(_), Delivery::Scs(_)) => {
                unreachable!("a delivery is made out to its program")
            }
        }
        self.carry_out(node);
    }

    /// A round of a program: what is due is done, and it is woken when the next is.
    fn time_passed(&mut self, node: Node) {
        let now = self.local(node);
        let mut deadline = self.next_deadline(node);
        if deadline.is_some_and(|at| at <= now) && !self.desks[node.index()].stalled {
            match node {
                Node::Scs => {
                    if let Some(scs) = &mut self.scs {
                        scs.time_passed(now);
                    }
                }
                Node::Host(host) => {
                    let host = &mut self.hosts[host];
                    if let Some(agent) = &mut host.agent {
                        agent.time_passed(&host.addresses, now);
                    }
                }
            }
            self.carry_out(node);
            deadline = self.next_deadline(node);
        }
        let Some(deadline) = deadline else { return };
        let clock = match node {
            Node::Scs => &self.scs_clock,
            Node::Host(host) => &self.hosts[host].clock,
        };
        // Timers are a little late.
        let at = clock.reaches(deadline).max(self.now + 1);
        if self.desks[node.index()].wake.is_none_or(|wake| wake.at != at) {
            self.desks[node.index()].wake = Some(self.turn(at));
        }
    }

    /// A program stands still for a time.
    fn stall(&mut self, node: Node, for_us: u64) {
        if self.is_running(node) && !self.healed {
            self.desks[node.index()].stalled = true;
            let run = self.run_of(node);
            self.after(for_us, Event::Resume(node, run));
            self.say(|| format!("{node} stands still for {for_us} us"));
        }
    }

    fn resume(&mut self, node: Node) {
        if !std::mem::take(&mut self.desks[node.index()].stalled) {
            return;
        }
        self.say(|| format!("{node} goes on"));
        // First what it was about to do when it was stopped.
        self.carry_out(node);
        let now = self.local(node);
        let late = self.next_deadline(node).map_or(Duration::ZERO, |at| now.since(at));
        match node {
            Node::Scs => {
                if let Some(scs) = &mut self.scs {
                    scs.stalled(late, now);
                }
            }
            Node::Host(host) => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.stalled(late, now);
                }
            }
        }
        self.carry_out(node);
        while !self.desks[node.index()].stalled {
            let Some(delivery) = self.desks[node.index()].waiting.pop_front() else { break };
            self.handle(node, delivery);
        }
        self.time_passed(node);
    }

    /// A program ends, and its kernel closes its connections, unless there is no kernel any more.
    fn end(&mut self, node: Node, kernel_too: bool) {
        self.desks[node.index()] = Desk::default();
        for id in self.network.connections_of(node) {
            if !kernel_too {
                self.send_segment(id, node, Segment::Closed);
            }
            self.network.close(id, node);
        }
        match node {
            Node::Scs => {
                self.scs = None;
                self.scs_run += 1;
            }
            Node::Host(host) => {
                self.hosts[host].agent = None;
                self.hosts[host].run += 1;
                self.at_gate.remove(&host);
            }
        }
    }

    fn start_agent(&mut self, host: usize, run: u64, restart: Restart) {
        let node = Node::Host(host);
        if self.hosts[host].run != run || self.hosts[host].agent.is_some() || !self.hosts[host].powered {
            return;
        }
        self.hosts[host].run += 1;
        self.desks[node.index()] = Desk::default();
        if restart == Restart::WithoutMemory {
            self.hosts[host].run_files.leases.clear();
            self.hosts[host].run_files.state.apps.clear();
        }
        if self.broken(Breakage::QuarantineForgotten) && self.hosts[host].run_files.leases.is_empty() {
            let pairs = self.cluster.pairs.keys().map(lease::PairId::of);
            self.hosts[host].run_files.leases = pairs.map(|id| (id, lease::Memory::default())).collect();
        }
        self.say(|| format!("{node} starts its agent, {restart:?}"));
        let now = self.local(node);
        let identity = Identity {
            number: host,
            host: self.names[host].clone(),
            boot: self.hosts[host].boot,
            hosts: Arc::clone(&self.names),
            peers: self.peers_of(host),
            whole: Arc::clone(&self.cluster),
        };
        let h = &mut self.hosts[host];
        let kernel = Kernel { addresses: &h.addresses, gates: &h.gates, carrier: h.carrier };
        let agent = Agent::start(identity, &h.run_files, &h.disk_files, &kernel, now);
        h.agent = Some(Box::new(agent));
        self.carry_out(node);
        self.time_passed(node);
    }

    /// The hosts that share a pair with this one.
    fn peers_of(&self, host: usize) -> Vec<usize> {
        let is_on = |pair: &domain::Pair, n: usize| {
            pair.members.iter().any(|app| self.cluster.host_of(app) == Some(&self.names[n]))
        };
        let shares =
            |n: &usize| *n != host && self.cluster.pairs.values().any(|p| is_on(p, host) && is_on(p, *n));
        (0..self.names.len()).filter(shares).collect()
    }

    fn start_scs(&mut self, run: u64, disk: Disk) {
        if self.scs_run != run || self.scs.is_some() {
            return;
        }
        self.scs_run += 1;
        self.desks[Node::Scs.index()] = Desk::default();
        match disk {
            Disk::Kept => {}
            Disk::Old => self.disk = self.disk_before.clone(),
            Disk::Lost => self.disk = Durable::default(),
        }
        self.say(|| format!("the SCS starts, disk {disk:?}"));
        let now = self.local(Node::Scs);
        let (names, durable) = (Arc::clone(&self.names), self.disk.clone());
        self.scs = Some(Box::new(Scs::start(&self.cluster, names, durable, self.lines.is_some(), now)));
        self.carry_out(Node::Scs);
        self.time_passed(Node::Scs);
    }

    fn stored(&mut self, run: u64, durable: Durable) {
        if self.scs_run != run || self.disk_fails {
            return;
        }
        // Now and then what is there becomes what was there some time ago.
        if self.random.below(4) == 0 {
            self.disk_before = std::mem::take(&mut self.disk);
        }
        self.disk = durable;
        self.moment(Moment::Kept);
    }
}
