//! The SCS in the world: the real decision core and the real witness, with a driver around them that does what the loop in
//! `scs` does: sessions, silence, probes, acknowledgements, what must survive.

use crate::message::{Beat, ConnectionId, Datagram, FromAgent, Node, Segment, ToAgent};
use domain::{
    Answer, Cluster, Epoch, Fact, HostName, HostStatus, LogEvent, Micros, PeerReport, Profile, Report, events,
};
use ha_core::{Action, By, Durable, Input, Lost, OperatorOrder, OrderId, Record, State};
use lease::{Message, PairId, Why, Witness, Witnessed};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a new connection may take to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long acknowledgements of reports are gathered.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(20);
/// How often a lost host is probed.
const PROBE_LOST_EVERY: Duration = Duration::from_millis(250);
/// How late the loop may be before it counts as having slept.
const STALL: Duration = Duration::from_millis(50);
/// How long a measured clock difference counts at least.
const MINUTE: Duration = Duration::from_secs(60);
/// How long an answer to a probe counts.
const ANSWER_COUNTS: Duration = Duration::from_secs(1);
/// How soon behind a change the durable state is handed to the store.
const DURABLE_DELAY: Duration = Duration::from_millis(5);

/// What happens to the SCS.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// An agent's connection is established.
    Linked(ConnectionId),
    /// Something arrived over a connection.
    Segment(ConnectionId, Segment),
    /// A datagram arrived.
    Datagram(Datagram),
    /// An operator orders something.
    Ordered(OperatorOrder),
}

/// What the SCS does, in this order.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Send(ConnectionId, ToAgent),
    Close(ConnectionId),
    Datagram(Node, Datagram),
    Keep(Box<Durable>),
    /// For the transcript only.
    Say(String),
}

#[derive(Debug)]
struct Session {
    id: ConnectionId,
    begun: Micros,
    agent: Option<Agent>,
}

#[derive(Debug)]
struct Agent {
    number: usize,
    host: HostName,
    hello_at: Micros,
    silence: Duration,
    last_heard: Micros,
    /// What to add to the agent's clock to get ours: the smallest difference seen in this minute or the one before.
    offset: u64,
    newest_offset: u64,
    minute_ends: Micros,
    taken: u64,
    acknowledged: u64,
    heard_inventory: bool,
}

#[derive(Debug)]
struct Probe {
    every: Duration,
    since: Micros,
    next: Micros,
    answered: Option<Micros>,
}

/// The SCS.
#[derive(Debug)]
pub(crate) struct Scs {
    state: State,
    witness: Witness,
    hosts: Arc<[HostName]>,
    sessions: BTreeMap<ConnectionId, Session>,
    by_host: BTreeMap<usize, ConnectionId>,
    probes: BTreeMap<usize, Probe>,
    taken: BTreeMap<usize, (u64, u64)>,
    /// The core's own next deadline, worked out when it changes.
    core_deadline: Option<Micros>,
    acknowledge_due: Option<Micros>,
    durable_due: Option<Micros>,
    orders: u64,
    verbose: bool,
    out: VecDeque<Effect>,
}

impl Scs {
    pub(crate) fn start(
        cluster: &Arc<Cluster>,
        hosts: Arc<[HostName]>,
        durable: Durable,
        verbose: bool,
        now: Micros,
    ) -> Self {
        let state = State::new(Cluster::clone(cluster), durable, now);
        let mut witness = Witness::default();
        witness.configure(cluster, |pair| state.recorded(pair), now);
        let mut scs = Self {
            state,
            witness,
            hosts,
            sessions: BTreeMap::new(),
            by_host: BTreeMap::new(),
            probes: BTreeMap::new(),
            taken: BTreeMap::new(),
            core_deadline: None,
            acknowledge_due: None,
            durable_due: None,
            orders: 0,
            verbose,
            out: VecDeque::new(),
        };
        scs.feed(Input::EventReported { event: LogEvent::new(events::SCS_STARTED, now) }, now);
        scs
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn handle(&mut self, event: Event, now: Micros) {
        match event {
            Event::Linked(id) => {
                self.sessions.insert(id, Session { id, begun: now, agent: None });
            }
            Event::Segment(id, Segment::FromAgent(message)) => self.message(id, *message, now),
            Event::Segment(id, Segment::Closed) => self.lose(id, Lost::Closed, now),
            Event::Segment(_, Segment::ToAgent(_)) => unreachable!("nobody gives the SCS orders"),
            Event::Segment(_, Segment::Votes(_)) => unreachable!("peers vote with each other"),
            Event::Datagram(datagram) => self.datagram(datagram, now),
            Event::Ordered(order) => {
                self.orders += 1;
                let by = By { who: "operator".to_owned(), reason: String::new() };
                self.feed(Input::Ordered { id: OrderId(self.orders), order, by }, now);
            }
        }
    }

    pub(crate) fn effects(&mut self) -> &mut VecDeque<Effect> {
        &mut self.out
    }

    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        let sessions = self.sessions.values().map(|session| match &session.agent {
            None => session.begun + HELLO_LIMIT,
            Some(agent) if !self.probes.contains_key(&agent.number) => agent.last_heard + agent.silence / 2,
            Some(agent) => agent.last_heard + agent.silence,
        });
        sessions
            .chain(self.core_deadline)
            .chain(self.witness.next_deadline())
            .chain(self.probes.values().map(|probe| probe.next))
            .chain(self.acknowledge_due)
            .chain(self.durable_due)
            .min()
    }

    /// What is due when, in words.
    pub(crate) fn deadlines(&self) -> String {
        format!(
            "scs: core {:?}, witness {:?}, probes {:?}, acknowledge {:?}, durable {:?}",
            self.core_deadline,
            self.witness.next_deadline(),
            self.probes.values().map(|probe| probe.next).min(),
            self.acknowledge_due,
            self.durable_due
        )
    }

    /// A loop that slept cannot tell who was silent meanwhile.
    pub(crate) fn stalled(&mut self, late: Duration, now: Micros) {
        for agent in self.sessions.values_mut().filter_map(|session| session.agent.as_mut()) {
            if late >= STALL.min(agent.silence / 4) {
                agent.last_heard = now;
            }
        }
        if late < STALL {
            return;
        }
        for probe in self.probes.values_mut() {
            probe.since = now;
            probe.answered = probe.answered.map(|_| now);
        }
        let event = LogEvent::new(events::AGENT_STALLED, now).because("SCS");
        self.feed(Input::EventReported { event }, now);
    }

    /// Does what is due.
    pub(crate) fn time_passed(&mut self, now: Micros) {
        let mut lost = Vec::new();
        let mut suspicious = Vec::new();
        for session in self.sessions.values() {
            match &session.agent {
                None if now >= session.begun + HELLO_LIMIT => lost.push(session.id),
                None => {}
                Some(agent) if !agent.heard_inventory && now >= session.begun + HELLO_LIMIT => {
                    lost.push(session.id);
                }
                Some(agent) if now >= agent.last_heard + agent.silence => lost.push(session.id),
                Some(agent) if now >= agent.last_heard + agent.silence / 2 => {
                    suspicious.push((agent.number, (agent.silence / 6).max(Duration::from_millis(5))));
                }
                Some(agent) => {
                    self.probes.remove(&agent.number);
                }
            }
        }
        for id in lost {
            self.lose(id, Lost::Silent, now);
        }
        for (host, every) in suspicious {
            self.probe(host, every, now);
        }
        for host in 0..self.hosts.len() {
            if !self.by_host.contains_key(&host) && !self.probes.contains_key(&host) {
                self.probe(host, PROBE_LOST_EVERY, now);
            }
        }
        for (host, probe) in self.probes.iter_mut().filter(|(_, probe)| probe.next <= now) {
            probe.next = now + probe.every;
            self.out.push_back(Effect::Datagram(Node::Host(*host), Datagram::Probe));
        }
        self.verdicts(now);
        if self.core_deadline.is_some_and(|at| at <= now) {
            self.feed(Input::TimePassed, now);
        }
        if self.witness.next_deadline().is_some_and(|at| at <= now) {
            let mut witnessed = Vec::new();
            self.witness.time_passed(now, &mut witnessed);
            self.witnessed(witnessed, now);
        }
        self.acknowledge(now);
        if self.durable_due.is_some_and(|at| at <= now) {
            self.durable_due = None;
            self.out.push_back(Effect::Keep(Box::new(self.state.durable())));
        }
    }

    /// One input to the core, and everything that follows from it: orders first.
    fn feed(&mut self, input: Input, now: Micros) {
        let is_order = |action: &Action| matches!(action, Action::Instruct(..) | Action::Launch(..));
        let actions = ha_core::run(&mut self.state, input, now);
        self.core_deadline = self.state.next_deadline();
        // Whom the witness may promise to is settled before the order that needs the promise goes out.
        self.entitle(now);
        let (orders, records): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_order);
        for action in orders.into_iter().chain(records) {
            match action {
                Action::Instruct(host, instruction) => self.send(&host, ToAgent::Instruct(instruction)),
                Action::Launch(host, launch) => self.send(&host, ToAgent::Launch(launch)),
                Action::Assign(_) => unreachable!("no VIP moves to another pair"),
                Action::FindHolder(_) => unreachable!("it is in no VIP's subnet"),
                Action::Remember => {
                    self.durable_due.get_or_insert(now + DURABLE_DELAY);
                }
                Action::Log(event) => self.say(|| format!("log {} {}", event.id, event.text)),
                Action::Answer(_, outcome) => self.say(|| format!("answer {outcome:?}")),
                Action::Record(Record::Incident(incident)) => self.say(|| {
                    let last = incident.steps.last().map(|step| step.text.as_str()).unwrap_or_default();
                    let state = if incident.ended.is_some() { "ended" } else { "open" };
                    format!("incident {} {}, {state}: {last}", incident.id.0, incident.kind)
                }),
                Action::Record(Record::AlarmActive(_) | Record::AlarmEnded { .. }) => {}
            }
        }
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.verbose {
            self.out.push_back(Effect::Say(line()));
        }
    }

    /// Tells the voters what the core has decided: before its instructions go out.
    fn entitle(&mut self, now: Micros) {
        let mut witnessed = Vec::new();
        for pair in self.state.take_settled() {
            self.witness.entitle(&pair, self.state.entitled(&pair), now, &mut witnessed);
        }
        self.witnessed(witnessed, now);
    }

    /// Sends votes; what was learnt goes to the core.
    fn witnessed(&mut self, witnessed: Vec<Witnessed>, now: Micros) {
        for what in witnessed {
            match what {
                Witnessed::Vote(member, message) => self.vote(member, message),
                Witnessed::Released { pair, by, epoch, why: Why::Failed } => {
                    let Some(pair) = self.witness.pair(pair).cloned() else { continue };
                    let Some(settings) = self.state.cluster().pairs.get(&pair) else { continue };
                    let app = settings.app(by).clone();
                    self.feed(Input::LeaseLetGo { pair, app, epoch }, now);
                }
                // By order, or because the other member has a newer grant: the core knows.
                Witnessed::Released { why: Why::Ordered | Why::Outdated, .. } => {}
            }
        }
    }

    /// An epoch that voters know of and the core does not: its next grant is to be above it.
    fn learn_epoch(&mut self, id: PairId, now: Micros) {
        let Some(pair) = self.witness.pair(id) else { return };
        let epoch = self.witness.machine(pair).map_or(Epoch(0), lease::Machine::seen);
        if epoch > self.state.greatest_epoch(pair) {
            let pair = pair.clone();
            self.feed(Input::EpochSeen { pair, epoch }, now);
        }
    }

    fn vote(&mut self, member: domain::Member, message: Message) {
        let host = self.witness.host(message.pair, member);
        let number = host.and_then(|host| self.hosts.iter().position(|known| known == host));
        let Some((number, of)) = number.and_then(|n| Some((n, *self.by_host.get(&n)?))) else { return };
        let sealed = Datagram::Sealed { of, beat: None, lease: vec![message] };
        self.out.push_back(Effect::Datagram(Node::Host(number), sealed));
    }

    fn send(&mut self, host: &HostName, message: ToAgent) {
        let number = self.hosts.iter().position(|known| known == host);
        if let Some(id) = number.and_then(|number| self.by_host.get(&number)) {
            self.out.push_back(Effect::Send(*id, message));
        }
    }

    fn message(&mut self, id: ConnectionId, message: FromAgent, now: Micros) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match (message, session.agent.as_mut()) {
            (FromAgent::Hello { host, boot, at }, None) => self.hello(id, host, boot, at, now),
            (FromAgent::Hello { .. }, Some(_)) | (_, None) => self.lose(id, Lost::Closed, now),
            (FromAgent::Leases(leases), Some(agent)) => {
                let host = agent.host.clone();
                self.feed(Input::LeasesReported { host, leases }, now);
            }
            (FromAgent::Votes(votes), Some(agent)) => {
                let host = agent.host.clone();
                self.heard_votes(&host, &votes, now);
            }
            (FromAgent::Inventory { apps, vips, interfaces, mut taken_over, peers }, Some(agent)) => {
                agent.heard_inventory = true;
                agent.last_heard = now;
                let host = agent.host.clone();
                for taken in &mut taken_over {
                    taken.at = agent.on_our_clock(taken.at, now);
                }
                for PeerReport { host: peer, heard } in peers {
                    self.feed(Input::PeerReported { host: host.clone(), at: now, peer, heard }, now);
                }
                for taken in taken_over {
                    self.feed(Input::TookOver { host: host.clone(), taken }, now);
                }
                self.feed(Input::InventoryReported { host, apps, vips, interfaces }, now);
            }
            (FromAgent::Report(report), Some(agent)) => {
                self.acknowledge_due.get_or_insert(now + ACKNOWLEDGE_EVERY);
                if report.seq <= agent.taken {
                    return;
                }
                agent.taken = report.seq;
                if let Some(taken) = self.taken.get_mut(&agent.number) {
                    taken.1 = report.seq;
                }
                if let Some(input) = input_of(agent, report, now) {
                    self.feed(input, now);
                }
            }
        }
    }

    fn hello(&mut self, id: ConnectionId, number: usize, boot: u64, at: Micros, now: Micros) {
        let host = self.hosts[number].clone();
        let part = Arc::new(self.state.cluster().part_of(&host));
        self.out.push_back(Effect::Send(id, ToAgent::Welcome { cluster: part }));
        let known = self.taken.get(&number).filter(|(known, _)| *known == boot);
        let taken = known.map_or(0, |(_, seq)| *seq);
        self.taken.insert(number, (boot, taken));
        let profile: Profile = self.state.cluster().profile_of(&host);
        let agent = Agent {
            number,
            host: host.clone(),
            hello_at: at,
            silence: profile.silence(),
            last_heard: now,
            offset: now.0.wrapping_sub(at.0),
            newest_offset: now.0.wrapping_sub(at.0),
            minute_ends: now + MINUTE,
            taken,
            acknowledged: 0,
            heard_inventory: false,
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.agent = Some(agent);
        }
        // The same agent again, before its old link was seen to be dead: the new one counts.
        if let Some(old) = self.by_host.insert(number, id) {
            self.sessions.remove(&old);
            self.out.push_back(Effect::Close(old));
        }
        self.probes.remove(&number);
        let input = Input::AgentConnected { host, release: "1".to_owned(), finds_holders: true };
        self.feed(input, now);
    }

    fn lose(&mut self, id: ConnectionId, how: Lost, now: Micros) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.out.push_back(Effect::Close(id));
        let Some(agent) = session.agent.filter(|agent| self.by_host.get(&agent.number) == Some(&id)) else {
            return;
        };
        self.by_host.remove(&agent.number);
        let since = now - agent.silence / 2;
        let answered = self.probes.get(&agent.number).and_then(|probe| probe.answered);
        let answers = answered.is_some_and(|at| at >= since);
        self.probe(agent.number, PROBE_LOST_EVERY, now);
        self.feed(Input::AgentLost { host: agent.host, how, answers }, now);
    }

    fn probe(&mut self, host: usize, every: Duration, now: Micros) {
        let fresh = Probe { every, since: now, next: now, answered: None };
        self.probes.entry(host).or_insert(fresh).every = every;
    }

    fn datagram(&mut self, datagram: Datagram, now: Micros) {
        match datagram {
            Datagram::Probe => unreachable!("agents probe nobody"),
            Datagram::ProbeAnswer { host } => {
                if let Some(probe) = self.probes.get_mut(&host) {
                    probe.answered = Some(now);
                }
            }
            Datagram::Sealed { of, beat, lease } => {
                let Some(agent) = self.sessions.get_mut(&of).and_then(|session| session.agent.as_mut())
                else {
                    return;
                };
                agent.last_heard = now;
                let (number, host) = (agent.number, agent.host.clone());
                if let Some(Beat { at }) = beat {
                    agent.compare_clocks(at, now);
                    let answer = Datagram::Sealed { of, beat: Some(Beat { at: now }), lease: Vec::new() };
                    self.out.push_back(Effect::Datagram(Node::Host(number), answer));
                }
                if !lease.is_empty() {
                    self.heard_votes(&host, &lease, now);
                }
            }
        }
    }

    fn heard_votes(&mut self, host: &HostName, votes: &[Message], now: Micros) {
        let mut witnessed = Vec::new();
        for vote in votes {
            self.witness.hear(host, vote, now, &mut witnessed);
            self.learn_epoch(vote.pair, now);
        }
        self.witnessed(witnessed, now);
    }

    fn verdicts(&mut self, now: Micros) {
        let verdict = |probe: &Probe| match probe.answered {
            Some(at) if now.since(at) < ANSWER_COUNTS => Some(true),
            Some(_) => Some(false),
            None => (now.since(probe.since) >= ANSWER_COUNTS).then_some(false),
        };
        let verdicts: Vec<_> = self
            .probes
            .iter()
            .filter(|(host, _)| !self.by_host.contains_key(host))
            .filter_map(|(host, probe)| Some((self.hosts[*host].clone(), verdict(probe)?)))
            .collect();
        let grace_ends = self.state.started_at() + self.state.cluster().scs.boot_grace;
        for (host, answers) in verdicts {
            let said = match self.state.host_status(&host) {
                Some(HostStatus::AgentDown) => Some(true),
                Some(HostStatus::Unreachable) => Some(false),
                Some(HostStatus::Unknown) if !answers && now < grace_ends => continue,
                Some(HostStatus::Unknown) => None,
                Some(HostStatus::Up) | None => continue,
            };
            if said != Some(answers) {
                self.feed(Input::HostProbed { host, answers }, now);
            }
        }
    }

    fn acknowledge(&mut self, now: Micros) {
        if self.acknowledge_due.is_none_or(|at| at > now) {
            return;
        }
        self.acknowledge_due = None;
        for session in self.sessions.values_mut() {
            if let Some(agent) = session.agent.as_mut().filter(|agent| agent.acknowledged < agent.taken) {
                agent.acknowledged = agent.taken;
                self.out.push_back(Effect::Send(session.id, ToAgent::Acknowledge { seq: agent.taken }));
            }
        }
    }
}

impl Agent {
    /// A point on the agent's clock, on ours; never in the future.
    fn on_our_clock(&self, at: Micros, now: Micros) -> Micros {
        Micros(at.0.wrapping_add(self.offset)).min(now)
    }

    fn compare_clocks(&mut self, theirs: Micros, now: Micros) {
        let offset = now.0.wrapping_sub(theirs.0);
        let smaller =
            |one: u64, other: u64| if one.wrapping_sub(other).cast_signed() < 0 { one } else { other };
        if now >= self.minute_ends {
            self.offset = self.newest_offset;
            self.newest_offset = offset;
            self.minute_ends = now + MINUTE;
        }
        self.newest_offset = smaller(offset, self.newest_offset);
        self.offset = smaller(offset, self.offset);
    }
}

/// A report as an input of the core; none where it is not news.
fn input_of(agent: &Agent, report: Report, now: Micros) -> Option<Input> {
    let Report { at, fact, .. } = report;
    let host = agent.host.clone();
    let is_news = agent.heard_inventory && at >= agent.hello_at;
    let ours = |at: Micros| agent.on_our_clock(at, now);
    let at = ours(at);
    match fact {
        Fact::App(report) => is_news.then_some(Input::AppReported { host, at, report }),
        Fact::Vip(report) => is_news.then_some(Input::VipReported { host, at, report }),
        Fact::Interface(report) => is_news.then_some(Input::InterfaceReported { host, at, report }),
        Fact::Answer(answer) => Some(answered(host, at, answer)),
        Fact::LaunchEnded(result) => Some(Input::LaunchEnded { host, at, result }),
        Fact::Peer(PeerReport { host: peer, heard }) => {
            is_news.then_some(Input::PeerReported { host, at, peer, heard })
        }
        Fact::LeaseLetGo { pair, app, epoch } => Some(Input::LeaseLetGo { pair, app, epoch }),
        Fact::VipSighted(mut sighting) => {
            sighting.asked = ours(sighting.asked);
            for holder in &mut sighting.holders {
                holder.at = ours(holder.at);
            }
            Some(Input::VipSighted { host, at, sighting })
        }
        Fact::Log(mut event) => {
            event.at = ours(event.at);
            event.host = Some(host);
            Some(Input::EventReported { event })
        }
    }
}

fn answered(host: HostName, at: Micros, answer: Answer) -> Input {
    Input::Answered { host, at, answer }
}
