//! A pretend world around the decision core: hosts with agents, applications and addresses, a network that can be cut,
//! messages that are on their way. No mocks: agents here follow the same rules as real ones, time and failure are inputs.

use domain::*;
use ha_core::{
    Action, By, Durable, IncidentId, Input, Lost, OperatorOrder, OrderId, OrderOutcome, Record, State, run,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Messages and deadlines that one quiet period may take; more is a loop.
const LIVELOCK: usize = 20_000;

/// How long after its start the SCS takes the silence of a host that it has never heard of for an answer.
const PROBED_AFTER: Duration = Duration::from_secs(5);

/// The pretend world.
pub struct World {
    pub core: State,
    pub now: Micros,
    pub hosts: BTreeMap<HostName, SimHost>,
    /// On their way to agents, oldest first.
    pub to_agents: VecDeque<(HostName, ToAgent)>,
    /// On their way to the SCS, oldest first.
    pub to_scs: VecDeque<(HostName, Input)>,
    /// VIPs that the SCS asks its own network about.
    scs_asks: VecDeque<VipAddress>,
    /// What happened, as lines for people.
    pub lines: Vec<String>,
    pub outcomes: Vec<(OrderId, OrderOutcome)>,
    orders: u64,
    /// The network lets no answer about a VIP through.
    pub mute: bool,
    /// A machine of nobody's answers for every VIP.
    pub stranger: bool,
    steps_seen: BTreeMap<IncidentId, usize>,
    greatest_epoch: BTreeMap<PairName, Epoch>,
    owners: BTreeMap<(PairName, Epoch), AppName>,
    cluster: Cluster,
    sent: BTreeSet<RefId>,
    /// When the SCS will have probed the hosts that it has not heard of since its start.
    probed_at: Option<Micros>,
    pub violations: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    Assign,
    Instruct(Instruction),
    Launch(Launch),
}

/// A host with its agent.
#[derive(Debug, Default)]
pub struct SimHost {
    /// Whether the network lets messages through.
    pub cut: bool,
    /// Whether the SCS counts it as connected.
    pub linked: bool,
    /// When the SCS will notice that it is silent.
    pub silent_at: Option<Micros>,
    pub agent_down: bool,
    pub apps: BTreeMap<AppName, SimApp>,
    pub vips: BTreeSet<VipAddress>,
    pub no_carrier: bool,
    pub scripts_fail: bool,
    pub enabling_fails: bool,
    /// Its agent is of before there were leases: it ends its link over a message that it does not know.
    pub old_release: bool,
    /// Its agent cannot ask the network.
    pub inquiries_fail: bool,
    greatest: Epoch,
    taken: Option<TakenOver>,
}

/// An application with what its agent knows of it.
#[derive(Debug, Clone)]
pub struct SimApp {
    pub status: AppStatus,
    pub mode: Option<RunMode>,
    pub epoch: Epoch,
    pub cause: Option<Cause>,
    pub synced: bool,
    /// It does not take instructions.
    pub deaf: bool,
    /// It refuses to be primary.
    pub refuses: bool,
}

impl SimApp {
    fn running() -> Self {
        Self {
            status: AppStatus::Started,
            mode: Some(RunMode::Backup),
            epoch: Epoch(0),
            cause: None,
            synced: true,
            deaf: false,
            refuses: false,
        }
    }
}

pub fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

pub fn pair(name: &str) -> PairName {
    PairName::new(name).unwrap()
}

impl World {
    /// The cluster of this file, everything running in backup mode, nobody connected yet.
    pub fn new(toml: &str) -> Self {
        let (cluster, _) =
            config::parse_cluster("cluster.toml", toml).unwrap_or_else(|r| panic!("{}", r.render(false)));
        let now = Micros(1_000_000);
        let mut hosts = BTreeMap::<HostName, SimHost>::new();
        for name in cluster.hosts.keys() {
            hosts.insert(name.clone(), SimHost::default());
        }
        for (name, application) in &cluster.applications {
            let mut sim = SimApp::running();
            if !application.autostart {
                (sim.status, sim.mode) = (AppStatus::Stopped, None);
            }
            hosts.get_mut(&application.host).unwrap().apps.insert(name.clone(), sim);
        }
        Self {
            core: State::new(cluster.clone(), Durable::default(), now),
            now,
            hosts,
            to_agents: VecDeque::new(),
            to_scs: VecDeque::new(),
            scs_asks: VecDeque::new(),
            lines: Vec::new(),
            outcomes: Vec::new(),
            orders: 0,
            mute: false,
            stranger: false,
            steps_seen: BTreeMap::new(),
            greatest_epoch: BTreeMap::new(),
            owners: BTreeMap::new(),
            cluster,
            sent: BTreeSet::new(),
            probed_at: Some(now + PROBED_AFTER),
            violations: Vec::new(),
        }
    }

    /// All hosts connect and everything comes to rest.
    pub fn start(&mut self) {
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.connect(&name);
        }
        self.rest();
    }

    // ---- what the world does to the SCS ----

    /// One input to the core; its actions become messages on their way.
    pub fn feed(&mut self, input: Input) {
        self.say_input(&input);
        let actions = run(&mut self.core, input, self.now);
        for action in actions {
            self.say_action(&action);
            match action {
                Action::Instruct(host, instruction) => {
                    self.to_agents.push_back((host, ToAgent::Instruct(instruction)))
                }
                Action::Launch(host, launch) => {
                    self.check_let_go(&host, &launch);
                    self.to_agents.push_back((host, ToAgent::Launch(launch)));
                }
                Action::Answer(id, outcome) => self.outcomes.push((id, outcome)),
                Action::Assign(host) => self.to_agents.push_back((host, ToAgent::Assign)),
                Action::FindHolder(vip) => self.scs_asks.push_back(vip),
                Action::Log(_) | Action::Record(_) | Action::Remember => {}
            }
        }
        self.check_epochs();
    }

    /// Epochs only grow, and one belongs to one member.
    fn check_epochs(&mut self) {
        for view in self.core.view(self.now).pairs {
            let greatest = self.greatest_epoch.entry(view.name.clone()).or_default();
            if view.epoch < *greatest {
                self.violations
                    .push(format!("{}: epoch went back from {greatest} to {}", view.name, view.epoch));
            }
            *greatest = view.epoch;
            if let Some(wanted) = view.wanted_primary {
                let owner =
                    self.owners.entry((view.name.clone(), view.epoch)).or_insert_with(|| wanted.clone());
                if *owner != wanted {
                    self.violations.push(format!(
                        "{}: epoch {} is owned by {owner} and {wanted}",
                        view.name, view.epoch
                    ));
                }
            }
        }
    }

    pub fn order(&mut self, order: OperatorOrder, who: &str, reason: &str) -> OrderId {
        self.orders += 1;
        let id = OrderId(self.orders);
        self.feed(Input::Ordered { id, order, by: By { who: who.to_owned(), reason: reason.to_owned() } });
        id
    }

    /// The agent of `name` connects and tells what it knows.
    pub fn connect(&mut self, name: &HostName) {
        let sim = self.hosts.get_mut(name).unwrap();
        if sim.cut || sim.agent_down || sim.linked {
            return;
        }
        sim.linked = true;
        sim.silent_at = None;
        // What was on its way over the connection before is lost with it.
        self.to_agents.retain(|(to, _)| to != name);
        self.to_scs.retain(|(from, _)| from != name);
        let finds_holders = !self.hosts[name].old_release;
        self.feed(Input::AgentConnected { host: name.clone(), release: "1".to_owned(), finds_holders });
        self.assigned(name);
        if let Some(taken) = self.hosts[name].taken.clone() {
            self.to_scs.push_back((name.clone(), Input::TookOver { host: name.clone(), taken }));
        }
        let inventory = self.inventory(name);
        self.to_scs.push_back((name.clone(), inventory));
    }

    /// The agent of `name` has its part of the configuration: VIPs that are not in it are removed.
    fn assigned(&mut self, name: &HostName) {
        let part = self.core.cluster().part_of(name);
        let known: BTreeSet<_> = part.pairs.values().flat_map(|p| &p.vips).map(|vip| vip.address).collect();
        self.hosts.get_mut(name).unwrap().vips.retain(|vip| known.contains(vip));
    }

    /// The SCS is started anew with another configuration of the same hosts.
    pub fn restart_scs_with_file(&mut self, toml: &str) {
        let (cluster, _) =
            config::parse_cluster("cluster.toml", toml).unwrap_or_else(|r| panic!("{}", r.render(false)));
        let durable = self.core.durable();
        self.cluster = cluster;
        self.restart_scs_with(durable);
    }

    /// On which hosts a VIP is, whatever anybody has been told of it.
    pub fn places(&self, vip: VipAddress) -> Vec<HostName> {
        let has = |(name, sim): (&HostName, &SimHost)| sim.vips.contains(&vip).then(|| name.clone());
        self.hosts.iter().filter_map(has).collect()
    }

    fn inventory(&self, name: &HostName) -> Input {
        let sim = &self.hosts[name];
        let apps = sim.apps.keys().map(|app| self.report_of(name, app)).collect();
        let mut vips = Vec::new();
        let mut interfaces = BTreeMap::new();
        for vip in self.cluster.pairs.values().flat_map(|p| &p.vips) {
            if let Some(interface) = vip.interfaces.get(name) {
                let present = sim.vips.contains(&vip.address);
                vips.push(VipReport {
                    vip: vip.address,
                    interface: interface.clone(),
                    present,
                    why: String::new(),
                });
                interfaces.insert(interface.clone(), !sim.no_carrier);
            }
        }
        let interfaces = interfaces
            .into_iter()
            .map(|(interface, up)| InterfaceReport { interface, up, mac: Some(self.mac(name)) })
            .collect();
        Input::InventoryReported { host: name.clone(), apps, vips, interfaces }
    }

    fn report_of(&self, on: &HostName, name: &AppName) -> AppReport {
        let sim = &self.hosts[on].apps[name];
        AppReport {
            app: name.clone(),
            status: sim.status,
            mode: sim.mode,
            epoch: sim.epoch,
            synced: sim.synced,
            pid: None,
            cause: sim.cause.clone(),
            text: String::new(),
            restarts: 0,
            released: Vec::new(),
        }
    }

    fn tell(&mut self, from: &HostName, input: Input) {
        // What an agent says while nobody listens is in its inventory later.
        if self.hosts[from].linked && !self.hosts[from].cut {
            self.to_scs.push_back((from.clone(), input));
        }
    }

    fn tell_app(&mut self, on: &HostName, name: &AppName, released: Vec<VipAddress>) {
        let mut report = self.report_of(on, name);
        report.released = released;
        self.tell(on, Input::AppReported { host: on.clone(), at: self.now, report });
    }

    // ---- what happens in the world ----

    pub fn host_of(&self, name: &AppName) -> HostName {
        self.cluster.host_of(name).unwrap().clone()
    }

    fn sim(&mut self, name: &AppName) -> &mut SimApp {
        let host = self.host_of(name);
        self.hosts.get_mut(&host).unwrap().apps.get_mut(name).unwrap()
    }

    /// The process dies; its agent removes the VIPs in the same breath (built-in control) and reports.
    pub fn kill(&mut self, name: &AppName) {
        let on = self.host_of(name);
        if self.sim(name).status == AppStatus::Stopped {
            return;
        }
        let was_primary = self.sim(name).mode == Some(RunMode::Primary);
        let sim = self.sim(name);
        (sim.status, sim.mode, sim.cause, sim.deaf) =
            (AppStatus::Stopped, None, Some(Cause::Killed(9)), false);
        if self.hosts[&on].agent_down {
            return;
        }
        let mut released = Vec::new();
        if was_primary && let Some((_, p)) = self.cluster.pair_of(name) {
            let built_in = p.vips.iter().filter(|v| v.control == VipControl::BuiltIn);
            released = built_in.map(|v| v.address).collect();
        }
        for vip in &released {
            self.hosts.get_mut(&on).unwrap().vips.remove(vip);
        }
        self.tell_app(&on, name, released);
    }

    /// The agent restarts the application: it comes back in backup mode.
    pub fn restart(&mut self, name: &AppName) {
        let on = self.host_of(name);
        if self.sim(name).status != AppStatus::Stopped || self.sim(name).cause == Some(Cause::Ordered) {
            return;
        }
        if self.hosts[&on].agent_down {
            return;
        }
        *self.sim(name) = SimApp::running();
        self.tell_app(&on, name, Vec::new());
    }

    pub fn cut(&mut self, name: &HostName) {
        let now = self.now;
        let sim = self.hosts.get_mut(name).unwrap();
        if !sim.cut {
            sim.cut = true;
            sim.silent_at = sim.linked.then_some(now + Profile::Normal.silence());
        }
        self.to_agents.retain(|(to, _)| to != name);
        self.to_scs.retain(|(from, _)| from != name);
    }

    /// The network is whole again; the agent reconnects.
    pub fn heal(&mut self, name: &HostName) {
        let sim = self.hosts.get_mut(name).unwrap();
        if !sim.cut {
            return;
        }
        sim.cut = false;
        sim.linked = false;
        if sim.silent_at.take().is_some() {
            // Healed before the SCS noticed: the old connection is replaced.
            self.feed(Input::AgentLost { host: name.clone(), how: Lost::Closed, answers: true });
        }
        self.connect(name);
    }

    /// The agent dies: its host's kernel closes the link. Applications and addresses stay.
    pub fn kill_agent(&mut self, name: &HostName) {
        let sim = self.hosts.get_mut(name).unwrap();
        if sim.agent_down {
            return;
        }
        sim.agent_down = true;
        let was_linked = std::mem::take(&mut sim.linked);
        let cut = sim.cut;
        self.to_agents.retain(|(to, _)| to != name);
        self.to_scs.retain(|(from, _)| from != name);
        if was_linked && !cut {
            self.feed(Input::AgentLost { host: name.clone(), how: Lost::Closed, answers: true });
        }
    }

    /// The agent is back: it adopts what runs, and removes VIPs of pairs that have no primary here.
    pub fn restart_agent(&mut self, name: &HostName) {
        if !self.hosts[name].agent_down {
            return;
        }
        let cluster = self.cluster.clone();
        let sim = self.hosts.get_mut(name).unwrap();
        sim.agent_down = false;
        for p in cluster.pairs.values() {
            let primary_here =
                |m: &AppName| sim.apps.get(m).is_some_and(|a| a.mode == Some(RunMode::Primary));
            if !p.members.iter().any(primary_here) {
                for vip in &p.vips {
                    sim.vips.remove(&vip.address);
                }
            }
        }
        self.connect(name);
    }

    /// The SCS dies and comes back with what it had kept.
    pub fn restart_scs(&mut self) {
        let durable = self.core.durable();
        self.restart_scs_with(durable);
    }

    /// The SCS dies before it could keep anything, and comes back.
    pub fn restart_scs_forgetful(&mut self) {
        // What it grants now it cannot know to be granted already.
        self.owners.clear();
        self.steps_seen.clear();
        self.greatest_epoch.clear();
        self.restart_scs_with(Durable::default());
    }

    fn restart_scs_with(&mut self, durable: Durable) {
        self.core = State::new(self.cluster.clone(), durable, self.now);
        self.probed_at = Some(self.now + PROBED_AFTER);
        self.to_agents.clear();
        self.to_scs.clear();
        self.lines.push("-- the SCS restarts".to_owned());
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            let sim = self.hosts.get_mut(&name).unwrap();
            sim.linked = false;
            sim.silent_at = None;
            self.connect(&name);
        }
    }

    pub fn peer(&mut self, name: &HostName, peer: &HostName, heard: bool) {
        let peer = peer.clone();
        self.tell(name, Input::PeerReported { host: name.clone(), at: self.now, peer, heard });
    }

    /// The server of a member failed where the SCS does not see it, and the member's lease was let go.
    pub fn let_go(&mut self, name: &AppName, epoch: Epoch) {
        let on = self.host_of(name);
        *self.sim(name) = SimApp { status: AppStatus::Stopped, mode: None, ..self.sim(name).clone() };
        self.hosts.get_mut(&on).unwrap().vips.clear();
        let pair = self.cluster.pair_of(name).unwrap().0.clone();
        self.feed(Input::LeaseLetGo { pair, app: name.clone(), epoch });
    }

    /// What an agent logs about its lease.
    pub fn lease_event(&mut self, name: &HostName, id: EventId) {
        let event = LogEvent::new(id, self.now).on(name).because("sip").with("pair", "sip");
        self.tell(name, Input::EventReported { event });
    }

    /// How an agent tells that its lease stands.
    pub fn tell_lease(&mut self, name: &HostName, held: Option<Epoch>) {
        let gate = GateReport::Kernel;
        let lease = LeaseReport { pair: pair("sip"), held, left_us: 0, backing: 2, gate };
        self.tell(name, Input::LeasesReported { host: name.clone(), leases: vec![lease] });
    }

    /// An agent made its server primary while no SCS was there; it tells when it connects.
    pub fn took_over(&mut self, name: &AppName, epoch: Epoch) {
        let on = self.host_of(name);
        let (pair, config) = self.cluster.pair_of(name).unwrap();
        let (pair, vips): (_, Vec<_>) = (pair.clone(), config.vips.iter().map(|vip| vip.address).collect());
        let sim = self.sim(name);
        (sim.mode, sim.epoch) = (Some(RunMode::Primary), epoch);
        let sim = self.hosts.get_mut(&on).unwrap();
        sim.greatest = epoch;
        sim.vips.extend(vips);
        sim.taken = Some(TakenOver {
            pair,
            app: name.clone(),
            epoch,
            at: self.now,
            why: "the other member failed".to_owned(),
        });
    }

    /// The periodic look of an agent at the network.
    pub fn look(&mut self, name: &HostName) {
        let vips: Vec<VipAddress> =
            self.cluster.pairs.values().flat_map(|pair| &pair.vips).map(|vip| vip.address).collect();
        for vip in vips {
            let holders = self.who_answers(name, vip);
            let interface = InterfaceName::new("eth0").unwrap();
            let sighting = VipSighting { vip, interface, asked: self.now, holders };
            self.tell(name, Input::VipSighted { host: name.clone(), at: self.now, sighting });
        }
    }

    pub fn set_carrier(&mut self, name: &HostName, up: bool) {
        self.hosts.get_mut(name).unwrap().no_carrier = !up;
        let interface = InterfaceName::new("eth0").unwrap();
        let report = InterfaceReport { interface, up, mac: Some(self.mac(name)) };
        self.tell(name, Input::InterfaceReported { host: name.clone(), at: self.now, report });
    }

    pub fn set_vip(&mut self, name: &HostName, vip: VipAddress, present: bool) {
        let sim = self.hosts.get_mut(name).unwrap();
        let changed = if present { sim.vips.insert(vip) } else { sim.vips.remove(&vip) };
        if changed {
            let interface = InterfaceName::new("eth0").unwrap();
            let report = VipReport { vip, interface, present, why: String::new() };
            self.tell(name, Input::VipReported { host: name.clone(), at: self.now, report });
        }
    }

    pub fn set_app(&mut self, name: &AppName, change: impl FnOnce(&mut SimApp)) {
        let on = self.host_of(name);
        change(self.sim(name));
        self.tell_app(&on, name, Vec::new());
    }

    pub fn sim_mut(&mut self, name: &AppName) -> &mut SimApp {
        self.sim(name)
    }

    // ---- messages and time ----

    /// Delivers the oldest message in one direction. False: there was none.
    pub fn deliver_to_agent(&mut self) -> bool {
        let Some((to, message)) = self.to_agents.pop_front() else { return false };
        self.now += Duration::from_micros(100);
        let sim = &self.hosts[&to];
        if sim.cut || sim.agent_down || !sim.linked {
            return true;
        }
        match message {
            ToAgent::Assign => {
                self.assigned(&to);
                let inventory = self.inventory(&to);
                self.to_scs.push_back((to, inventory));
            }
            ToAgent::Instruct(instruction) => self.agent_instructed(&to, instruction),
            ToAgent::Launch(launch) => self.agent_launches(&to, launch),
        }
        true
    }

    pub fn deliver_to_scs(&mut self) -> bool {
        let Some((_, input)) = self.to_scs.pop_front() else { return false };
        self.now += Duration::from_micros(100);
        self.feed(input);
        true
    }

    /// The SCS's machine is in the subnet of the VIP.
    pub fn scs_sees(&mut self) {
        let vips = self.cluster.pairs.values().flat_map(|pair| &pair.vips).map(|vip| vip.address);
        self.feed(Input::ScsSees { vips: vips.collect() });
    }

    fn scs_asks_one(&mut self) -> bool {
        let Some(vip) = self.scs_asks.pop_front() else { return false };
        let sighting = VipSighting {
            vip,
            interface: "eth0".parse().unwrap(),
            asked: self.now,
            holders: self.answering(None, vip),
        };
        self.feed(Input::ScsSighted { vip, at: self.now, sighting: Ok(sighting) });
        true
    }

    /// Delivers everything until nothing is on its way.
    pub fn quiet(&mut self) {
        for _ in 0..LIVELOCK {
            // Its inquiries take longer than anything else.
            let any = self.deliver_to_agent() | self.deliver_to_scs() || self.scs_asks_one();
            if !any {
                return self.check_quiet();
            }
        }
        panic!("messages without end:\n{}", self.lines.join("\n"));
    }

    /// Lets `time` pass; everything that is due happens at its time.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..LIVELOCK {
            self.quiet();
            let next = self.next_event().filter(|at| *at <= end);
            let Some(at) = next else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(at);
            self.time_passes();
        }
        panic!("deadlines without end:\n{}", self.lines.join("\n"));
    }

    pub fn next_event(&self) -> Option<Micros> {
        let silent = self.hosts.values().filter_map(|h| h.silent_at).chain(self.probed_at);
        silent.chain(self.core.next_deadline()).min()
    }

    pub fn time_passes(&mut self) {
        if self.probed_at.is_some_and(|at| at <= self.now) {
            self.probed_at = None;
            let unheard: Vec<_> =
                self.hosts.iter().filter(|(_, h)| !h.linked).map(|(n, h)| (n.clone(), !h.cut)).collect();
            for (host, answers) in unheard {
                self.feed(Input::HostProbed { host, answers });
            }
        }
        let silent: Vec<_> =
            self.hosts.iter().filter(|(_, h)| h.silent_at.is_some_and(|at| at <= self.now)).collect();
        for name in silent.into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let sim = self.hosts.get_mut(&name).unwrap();
            sim.silent_at = None;
            sim.linked = false;
            self.feed(Input::AgentLost { host: name, how: Lost::Silent, answers: false });
        }
        if self.core.next_deadline().is_some_and(|at| at <= self.now) {
            self.feed(Input::TimePassed);
        }
    }

    /// Long enough for every retry and every patience to end.
    pub fn rest(&mut self) {
        self.advance(Duration::from_secs(8));
    }

    // ---- what agents do ----

    fn agent_instructed(&mut self, on: &HostName, instruction: Instruction) {
        let Instruction { ref_id, app: name, order } = instruction;
        self.lines.push(format!("   {on}: {name}: {order}"));
        let refuse = |why: &str| AnswerOutcome::Refused { why: why.to_owned() };
        let greatest = self.hosts[on].greatest;
        let sim = self.hosts.get_mut(on).unwrap().apps.get_mut(&name).unwrap();
        if sim.deaf {
            return;
        }
        let outcome = match order {
            Order::SetRunMode { epoch, .. } if epoch < greatest => AnswerOutcome::Stale { seen: greatest },
            Order::SetRunMode { .. } if sim.status == AppStatus::Stopped => refuse("not running"),
            Order::SetRunMode { mode: RunMode::Primary, .. } if sim.refuses => refuse("license missing"),
            Order::SetRunMode { mode, epoch } => {
                (sim.mode, sim.epoch) = (Some(mode), epoch);
                self.hosts.get_mut(on).unwrap().greatest = epoch;
                AnswerOutcome::Done
            }
            Order::Start => {
                if sim.status == AppStatus::Stopped {
                    (sim.status, sim.cause) = (AppStatus::StartPending, None);
                    self.tell_app(on, &name, Vec::new());
                    *self.sim(&name) = SimApp::running();
                }
                AnswerOutcome::Done
            }
            Order::Stop { .. } => {
                (sim.status, sim.mode, sim.cause) = (AppStatus::Stopped, None, Some(Cause::Ordered));
                AnswerOutcome::Done
            }
        };
        if outcome == AnswerOutcome::Done {
            self.tell_app(on, &name, Vec::new());
        }
        let answer = Answer { ref_id, outcome };
        self.tell(on, Input::Answered { host: on.clone(), at: self.now, answer });
    }

    fn agent_launches(&mut self, on: &HostName, launch: Launch) {
        self.lines.push(format!("   {on}: {}, epoch {}", launch.what, launch.epoch));
        let fails = self.hosts[on].scripts_fail;
        let outcome = match &launch.what {
            LaunchWhat::VipControl { script: Some(_), .. } | LaunchWhat::Script { .. } if fails => {
                LaunchOutcome::Exited { code: 1 }
            }
            LaunchWhat::VipControl { verb: VipVerb::Enable, .. } if self.hosts[on].enabling_fails => {
                LaunchOutcome::Failed { why: "no such interface".to_owned() }
            }
            LaunchWhat::VipControl { verb: VipVerb::Enable, vip, .. } => {
                if launch.epoch < self.hosts[on].greatest {
                    LaunchOutcome::Stale { seen: self.hosts[on].greatest }
                } else {
                    let vip = *vip;
                    self.hosts.get_mut(on).unwrap().greatest = launch.epoch;
                    self.set_vip(on, vip, true);
                    LaunchOutcome::Succeeded
                }
            }
            LaunchWhat::VipControl { verb: VipVerb::Disable, vip, .. } => {
                let vip = *vip;
                self.set_vip(on, vip, false);
                LaunchOutcome::Succeeded
            }
            LaunchWhat::FindHolder { .. } if self.hosts[on].old_release => {
                self.violations.push(format!("the agent on {on} does not know this launch: {launch:?}"));
                return;
            }
            LaunchWhat::FindHolder { .. } if self.hosts[on].inquiries_fail => {
                LaunchOutcome::Failed { why: "no raw socket".to_owned() }
            }
            LaunchWhat::FindHolder { vip, interface } => {
                let sighting = VipSighting {
                    vip: *vip,
                    interface: interface.clone(),
                    asked: self.now,
                    holders: self.who_answers(on, *vip),
                };
                self.tell(on, Input::VipSighted { host: on.clone(), at: self.now, sighting });
                LaunchOutcome::Succeeded
            }
            LaunchWhat::Announce { .. } | LaunchWhat::Script { .. } => LaunchOutcome::Succeeded,
        };
        let result = LaunchResult { ref_id: launch.ref_id, outcome, output: String::new(), took_us: 100 };
        self.tell(on, Input::LaunchEnded { host: on.clone(), at: self.now, result });
    }

    fn mac(&self, host: &HostName) -> MacAddress {
        let number = self.hosts.keys().position(|name| name == host).unwrap();
        MacAddress([2, 0, 0, 0, 0, u8::try_from(number).unwrap()])
    }

    /// Who answers for a VIP when `observer` asks the network.
    fn who_answers(&self, observer: &HostName, vip: VipAddress) -> Vec<SeenHolder> {
        let connected = |host: &SimHost| !host.cut && !host.no_carrier;
        if connected(&self.hosts[observer]) { self.answering(Some(observer), vip) } else { Vec::new() }
    }

    fn answering(&self, observer: Option<&HostName>, vip: VipAddress) -> Vec<SeenHolder> {
        let connected = |host: &SimHost| !host.cut && !host.no_carrier;
        let others = self.hosts.iter().filter(|(name, host)| Some(*name) != observer && connected(host));
        let holders = others.filter(|(_, host)| host.vips.contains(&vip) && !self.mute);
        let stranger = self.stranger.then_some(MacAddress([2, 0, 0, 0, 0, 0xff]));
        let macs = holders.map(|(name, _)| self.mac(name)).chain(stranger);
        macs.map(|mac| SeenHolder { mac, at: self.now }).collect()
    }

    // ---- what must hold ----

    fn in_sight(&self, name: &HostName) -> bool {
        let sim = &self.hosts[name];
        !sim.cut && !sim.agent_down && sim.linked
    }

    /// "Enable" never goes out before the other side, if it can be reached, is known to have let go.
    fn check_let_go(&mut self, on: &HostName, launch: &Launch) {
        let LaunchWhat::VipControl { verb: VipVerb::Enable, vip, .. } = &launch.what else { return };
        let view = self.core.view(self.now);
        let places =
            view.pairs.iter().flat_map(|p| &p.vips).filter(|v| v.address == *vip).flat_map(|v| &v.places);
        let up = |host: &HostName| view.hosts.iter().any(|h| h.name == *host && h.status == HostStatus::Up);
        for place in places.filter(|p| p.host != *on && up(&p.host)) {
            // A second sending of what went out when all was well is no new decision.
            let first = self.sent.insert(launch.ref_id);
            if place.enabled != Some(false) && first {
                self.violations
                    .push(format!("{} enabled on {on}, {} has {:?}", vip.address, place.host, place.enabled));
            }
        }
    }

    /// In a quiet moment, among hosts in sight: at most one primary and one holder of each VIP.
    fn check_quiet(&mut self) {
        let mut found = Vec::new();
        for (name, p) in &self.cluster.pairs {
            let in_sight = |m: &&AppName| self.in_sight(&self.cluster.applications[*m].host);
            let mode = |m: &AppName| {
                let sim = &self.hosts[&self.cluster.applications[m].host].apps[m];
                if sim.deaf { None } else { sim.mode }
            };
            let primaries =
                p.members.iter().filter(in_sight).filter(|m| mode(m) == Some(RunMode::Primary)).count();
            // An instruction to one that was deaf is on its way again soon: not quiet yet.
            if primaries > 1 && self.core.unanswered() == 0 {
                found.push(format!("{name} has {primaries} primaries in a quiet moment"));
            }
            for vip in &p.vips {
                let holds = |m: &&AppName| {
                    self.hosts[&self.cluster.applications[*m].host].vips.contains(&vip.address)
                };
                let holders = p.members.iter().filter(in_sight).filter(holds).count();
                // What the safety net is still waiting to put right is not quiet yet.
                if holders > 1 && self.core.next_deadline().is_none() {
                    found.push(format!("{} has {holders} holders in a quiet moment", vip.address.address));
                }
            }
        }
        self.violations.extend(found);
    }

    /// Everything is made whole; afterwards each pair must have exactly one primary, and its VIPs in the same place.
    pub fn heal_all(&mut self) {
        for name in self.hosts.keys().cloned().collect::<Vec<_>>() {
            self.hosts.get_mut(&name).unwrap().scripts_fail = false;
            self.restart_agent(&name);
            self.heal(&name);
            self.connect(&name);
            if self.hosts[&name].no_carrier {
                self.set_carrier(&name, true);
            }
        }
        self.rest();
        let stopped: Vec<_> =
            self.core.view(self.now).applications.into_iter().filter(|a| a.stop_ordered).collect();
        for view in stopped {
            self.order(OperatorOrder::Start { app: view.name }, "healer", "");
        }
        for name in self.cluster.applications.keys().cloned().collect::<Vec<_>>() {
            let sim = self.sim_mut(&name);
            (sim.deaf, sim.refuses) = (false, false);
            self.restart(&name);
            if self.sim(&name).status == AppStatus::ServiceUnavailable || !self.sim(&name).synced {
                self.set_app(&name, |a| (a.status, a.synced, a.cause) = (AppStatus::Started, true, None));
            }
        }
        self.rest();
        for view in self.core.view(self.now).pairs {
            self.order(OperatorOrder::Acknowledge { pair: view.name }, "healer", "");
        }
        self.advance(Duration::from_secs(60));
    }

    pub fn check_whole(&mut self) {
        for (name, p) in self.cluster.pairs.clone() {
            let of = |m: &AppName| self.hosts[&self.cluster.applications[m].host].apps[m].mode;
            let primaries: Vec<_> =
                p.members.iter().filter(|m| of(m) == Some(RunMode::Primary)).cloned().collect();
            let [primary] = &primaries[..] else {
                self.violations.push(format!("{name} has primaries {primaries:?} after everything healed"));
                continue;
            };
            for vip in &p.vips {
                for member in &p.members {
                    let host = &self.cluster.applications[member].host;
                    let has = self.hosts[host].vips.contains(&vip.address);
                    if has != (member == primary) {
                        self.violations.push(format!(
                            "{primary} is primary, and {host} {} {} after everything healed",
                            if has { "has" } else { "has not" },
                            vip.address.address
                        ));
                    }
                }
            }
            let view = self.core.view(self.now).pairs.into_iter().find(|v| v.name == name).unwrap();
            if view.incident.is_some() {
                self.violations.push(format!("{name} has an incident that never ends: {:?}", view.incident));
            }
        }
        let waiting = self.core.unanswered();
        if waiting > 0 {
            self.violations
                .push(format!("{waiting} instructions or launches are answered by nothing for ever"));
        }
    }

    // ---- lines for people ----

    fn say_input(&mut self, input: &Input) {
        let line = match input {
            Input::AgentConnected { host, .. } => format!("<- {host}: connected"),
            Input::InventoryReported { host, apps, vips, .. } => {
                let apps: Vec<_> = apps.iter().map(brief_app).collect();
                let vips: Vec<_> =
                    vips.iter().filter(|v| v.present).map(|v| v.vip.address.to_string()).collect();
                let vips = if vips.is_empty() { "no VIP".to_owned() } else { vips.join(", ") };
                format!("<- {host}: inventory: {}; {vips}", apps.join(", "))
            }
            Input::AgentLost { host, how, .. } => format!("<- {host}: lost, {how:?}"),
            Input::HostProbed { host, answers } => format!("<- {host}: probe: answers {answers}"),
            Input::AppReported { host, report, .. } => {
                let released = if report.released.is_empty() { "" } else { ", VIPs released" };
                format!("<- {host}: {}{released}", brief_app(report))
            }
            Input::VipReported { host, report, .. } => {
                format!(
                    "<- {host}: {} {}",
                    report.vip.address,
                    if report.present { "enabled" } else { "disabled" }
                )
            }
            Input::VipSighted { host, sighting, .. } => format!("<- {host}: {sighting}"),
            Input::ScsSees { .. } => "<- the SCS is in the subnet of the VIP".to_owned(),
            Input::ScsSighted { sighting: Ok(sighting), .. } => format!("<- the SCS itself: {sighting}"),
            Input::ScsSighted { vip, sighting: Err(why), .. } => format!("<- the SCS itself: {vip}: {why}"),
            Input::InterfaceReported { host, report, .. } => {
                format!(
                    "<- {host}: {} {}",
                    report.interface,
                    if report.up { "has carrier" } else { "has no carrier" }
                )
            }
            Input::Answered { host, answer, .. } => match &answer.outcome {
                AnswerOutcome::Done => return,
                AnswerOutcome::Stale { seen } => format!("<- {host}: refused: older than epoch {seen}"),
                AnswerOutcome::Refused { why } => format!("<- {host}: refused: {why}"),
            },
            Input::LaunchEnded { host, result, .. } => {
                if result.outcome.succeeded() {
                    return;
                }
                format!("<- {host}: launch {}", result.outcome)
            }
            Input::EventReported { event } => format!("<- event {}", event.id),
            Input::PeerReported { host, peer, heard, .. } => {
                format!("<- {host}: {} the agent on {peer}", if *heard { "hears" } else { "does not hear" })
            }
            Input::LeasesReported { host, .. } => format!("<- {host}: leases"),
            Input::StandbyReported { host, app, standby } => format!("<- {host}: {app}: {standby}"),
            Input::LeaseLetGo { pair, app, epoch } => {
                format!("<- voter: {app} let go of the lease on {pair}, epoch {epoch}: failed")
            }
            Input::EpochSeen { pair, epoch } => format!("<- voter: epoch {epoch} of {pair} was seen"),
            Input::TookOver { host, taken } => {
                format!("<- {host}: took over: {}, epoch {}: {}", taken.app, taken.epoch, taken.why)
            }
            Input::Ordered { order, by, .. } => format!("<- {} orders: {}", by.who, brief_order(order)),
            Input::ClusterApplied { .. } => "<- a new configuration".to_owned(),
            Input::TimePassed => return,
            Input::Logged { .. } | Input::LaunchRequested { .. } => {
                unreachable!("the inbox is drained by run")
            }
        };
        self.lines.push(line);
    }

    fn say_action(&mut self, action: &Action) {
        match action {
            Action::Record(Record::Incident(incident)) => {
                let seen = self.steps_seen.entry(incident.id).or_default();
                for step in &incident.steps[*seen..] {
                    let number = step.number.map_or("   ".to_owned(), |n| format!("({n})"));
                    self.lines.push(format!("{number} {}", step.text));
                }
                *seen = incident.steps.len();
                if incident.ended.is_some() {
                    self.lines.push(format!(
                        "== incident {}: {}: {}",
                        incident.id.0, incident.kind, incident.outcome
                    ));
                }
            }
            Action::Log(event) if event.level <= Level::Standard => {
                self.lines.push(format!("log {} {}", event.id, event.text));
            }
            Action::Answer(_, OrderOutcome::Accepted { text, .. }) => {
                self.lines.push(format!("answer: {text}"))
            }
            Action::Answer(_, OrderOutcome::Refused { why, .. }) => {
                self.lines.push(format!("refused: {why}"))
            }
            Action::Log(_)
            | Action::Record(_)
            | Action::Instruct(..)
            | Action::Launch(..)
            | Action::Remember => {}
            Action::FindHolder(vip) => {
                self.lines.push(format!("   SCS: find the holder of {}", vip.address));
            }
            Action::Assign(host) => self.lines.push(format!("   {host}: its part of the configuration")),
        }
    }
}

fn brief_app(report: &AppReport) -> String {
    let mode = report.mode.map(|m| format!(" {m}")).unwrap_or_default();
    let cause = report.cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    format!("{} {}{mode}{cause}", report.app, report.status)
}

fn brief_order(order: &OperatorOrder) -> String {
    match order {
        OperatorOrder::SwitchOver { pair, .. } => format!("switch {pair} over"),
        OperatorOrder::Start { app } => format!("start {app}"),
        OperatorOrder::Stop { app, graceful: true } => format!("stop {app} gracefully"),
        OperatorOrder::Stop { app, .. } => format!("stop {app}"),
        OperatorOrder::Restart { app, .. } => format!("restart {app}"),
        OperatorOrder::Acknowledge { pair } => format!("acknowledge {pair}"),
        OperatorOrder::Maintain { pair, .. } => format!("maintenance of {pair}"),
        OperatorOrder::EndMaintenance { pair } => format!("end the maintenance of {pair}"),
        OperatorOrder::ScheduleDrill { pair, .. } => format!("drill of {pair}"),
        OperatorOrder::RemoveDrill { pair, number } => format!("no drill {number} of {pair}"),
        OperatorOrder::ClearAlarm { number } => format!("clear alarm {number}"),
    }
}
