//! The core thread: one loop that reads agents' links and heartbeats, feeds the decision core, and carries out what it
//! says before it does anything else. It never blocks and never waits for the disk, the API or an agent.

use crate::clock::Clock;
use crate::handle::{Handle, Request};
use crate::host_probes::HostProbes;
use crate::inputs::input_of;
use crate::observer::{Observer, Told};
use crate::outbox::Outbox;
use crate::questions::{Page, Questions};
use crate::refusals::Refusals;
use crate::sessions::{Agent, Session};
use crate::silence::PROBE_LOST_EVERY;
use crate::stalls::{Slews, Stalls};
use crate::store::{Health, Store};
use control_link::messages::{FromAgent, Hello, LEASES_SINCE, Pace, ToAgent, Welcome, negotiate};
use control_link::{Link, LinkError, Received};
use domain::{AppName, HostName, LogEvent, Micros, PairName, PeerReport, VipAddress, events};
use ha_core::{Action, Input, Lost, State};
use lease::{Message, Witness, Witnessed};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tokio::sync::oneshot::Sender;

/// The waker of the poll.
pub(crate) const WAKER: Token = Token(0);
/// First token of the datagram sockets.
const DATAGRAMS: usize = 1;
/// How long acknowledgements of reports are gathered.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(20);

/// What other threads hand to the core thread.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An agent's connection is established.
    Linked(Box<Link>),
    /// Somebody was refused.
    Refused(SocketAddr, String),
    /// The store changed its state.
    Store(Health),
    /// The observer has something to tell.
    Observed(Told),
    /// Write down what must survive and end.
    Stop,
}

pub(crate) struct CoreLoop {
    poll: Poll,
    pub(crate) clock: Clock,
    pub(crate) state: State,
    pub(crate) sessions: BTreeMap<Token, Session>,
    pub(crate) by_host: BTreeMap<HostName, Token>,
    pub(crate) by_session: BTreeMap<u64, Token>,
    pub(crate) datagrams: Vec<UdpSocket>,
    /// Lease messages as they came, each with the connection; kept to be used again.
    pub(crate) votes: Vec<(Token, Message)>,
    /// The SCS's votes.
    pub(crate) witness: Witness,
    /// What they lead to; kept to be used again.
    pub(crate) witnessed: Vec<Witnessed>,
    /// Connections for which an answer to a heartbeat or a vote waits.
    pub(crate) unsent: BTreeSet<Token>,
    pub(crate) probes: HostProbes,
    pub(crate) probe_port: u16,
    pub(crate) outbox: Outbox,
    incoming: Receiver<Incoming>,
    requests: Receiver<Request>,
    next_token: usize,
    /// Nobody has been silent for long enough before, whoever is heard meanwhile: until then sessions are not gone through.
    pub(crate) look_at_sessions: Option<Micros>,
    /// Links with more to read than they had a turn for: the poll does not announce that again.
    unread: BTreeSet<Token>,
    refusals: Refusals,
    stalls: Stalls,
    slews: Slews,
    /// The core's own next deadline, worked out when it changes.
    core_deadline: Option<Micros>,
    /// The last report taken from each host's agent, with the boot it was of: what is sent again is not news.
    pub(crate) taken: BTreeMap<HostName, (String, u64)>,
    acknowledge_due: Option<Micros>,
    release: &'static str,
    random: SystemRandom,
    pub(crate) questions: Questions,
    pub(crate) observer: Observer,
    /// Inquiries that the observer did not take.
    pub(crate) unasked: Vec<VipAddress>,
}

/// What the core thread needs to begin.
pub(crate) struct Parts {
    pub poll: Poll,
    pub clock: Clock,
    pub state: State,
    pub datagrams: Vec<UdpSocket>,
    pub probe_port: u16,
    pub store: Store,
    pub observer: Observer,
    pub handle: Handle,
    pub incoming: Receiver<Incoming>,
    pub requests: Receiver<Request>,
    pub release: &'static str,
}

impl CoreLoop {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let mut datagrams = parts.datagrams;
        for (n, socket) in datagrams.iter_mut().enumerate() {
            parts.poll.registry().register(socket, Token(DATAGRAMS + n), Interest::READABLE)?;
        }
        let core_deadline = parts.state.next_deadline();
        let mut witness = Witness::default();
        let record = |pair: &PairName| parts.state.recorded(pair);
        witness.configure(parts.state.cluster(), record, parts.clock.now());
        Ok(Self {
            poll: parts.poll,
            clock: parts.clock,
            state: parts.state,
            sessions: BTreeMap::new(),
            by_host: BTreeMap::new(),
            by_session: BTreeMap::new(),
            next_token: DATAGRAMS + datagrams.len(),
            look_at_sessions: Some(Micros(0)),
            unread: BTreeSet::new(),
            refusals: Refusals::default(),
            stalls: Stalls::default(),
            slews: Slews::default(),
            core_deadline,
            taken: BTreeMap::new(),
            votes: Vec::new(),
            witness,
            witnessed: Vec::new(),
            unsent: BTreeSet::new(),
            datagrams,
            probes: HostProbes::default(),
            probe_port: parts.probe_port,
            outbox: Outbox::new(parts.store, parts.handle),
            incoming: parts.incoming,
            requests: parts.requests,
            acknowledge_due: None,
            release: parts.release,
            random: SystemRandom::new(),
            questions: Questions::default(),
            observer: parts.observer,
            unasked: Vec::new(),
        })
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let now = self.clock.now();
        self.feed(Input::EventReported { event: LogEvent::new(events::SCS_STARTED, now) }, now);
        self.watch_vips();
        let mut poll_events = Events::with_capacity(1_024);
        let mut last_round = now;
        loop {
            let before = self.clock.now();
            let deadline = self.next_deadline(before);
            let waiting = !self.unread.is_empty();
            let timeout = if waiting { Some(Duration::ZERO) } else { deadline.map(|at| at.since(before)) };
            if let Err(e) = self.poll.poll(&mut poll_events, timeout)
                && e.kind() != io::ErrorKind::Interrupted
            {
                eprintln!("takeover scs: poll failed: {e}");
            }
            let now = self.clock.now();
            // What was due before the last round was due at once, and is no older than that.
            let due = if waiting { None } else { deadline.map(|at| at.max(last_round)) };
            self.forgive_if_stalled(due, now);
            last_round = now;
            let mut woken = false;
            for event in &poll_events {
                match event.token() {
                    WAKER => woken = true,
                    Token(n) if n < DATAGRAMS + self.datagrams.len() => self.read_datagrams(n - DATAGRAMS),
                    token => self.link_event(token, event.is_readable(), event.is_writable()),
                }
            }
            for token in std::mem::take(&mut self.unread) {
                self.link_event(token, true, false);
            }
            if woken && !self.take_incoming() {
                break;
            }
            self.take_requests();
            self.do_what_is_due();
        }
        let now = self.clock.now();
        self.feed(Input::EventReported { event: LogEvent::new(events::SCS_STOPPED, now) }, now);
        self.outbox.keep(&self.state);
    }

    /// One input to the core, and everything that follows from it.
    pub(crate) fn feed(&mut self, input: Input, now: Micros) {
        let actions = ha_core::run(&mut self.state, input, now);
        self.carry_out(actions, now);
    }

    /// What the core wants done.
    pub(crate) fn carry_out(&mut self, actions: Vec<Action>, now: Micros) {
        let is_order = |action: &Action| match action {
            Action::Assign(_) | Action::Instruct(..) | Action::Launch(..) => true,
            Action::FindHolder(_)
            | Action::Log(_)
            | Action::Record(_)
            | Action::Answer(..)
            | Action::Remember => false,
        };
        // Orders first: each of the others wakes another thread, which callers need not wait for.
        let (orders, records): (Vec<_>, Vec<_>) = actions.into_iter().partition(is_order);
        self.entitle(now);
        for action in orders.into_iter().chain(records) {
            match action {
                Action::Instruct(host, instruction) => self.send(&host, &ToAgent::Instruct(instruction)),
                Action::Launch(host, launch) => self.send(&host, &ToAgent::Launch(Box::new(launch))),
                Action::Assign(host) => self.assign(&host, now),
                Action::FindHolder(vip) => self.find_holder(vip),
                Action::Log(event) => self.outbox.log(event),
                Action::Record(record) => self.outbox.record(record),
                Action::Answer(id, outcome) => self.outbox.answer(id, outcome),
                Action::Remember => self.outbox.remember(now),
            }
        }
        self.core_deadline = self.state.next_deadline();
        self.outbox.changed(now);
    }

    pub(crate) fn send(&mut self, host: &HostName, message: &ToAgent) {
        let Some(token) = self.by_host.get(host).copied() else { return };
        let Some(session) = self.sessions.get_mut(&token) else { return };
        match session.link.send(message) {
            Ok(()) => {}
            Err(e @ (LinkError::TooLarge { .. } | LinkError::Unencodable(_))) => {
                eprintln!("takeover scs: a message to {host} could not be sent: {e}");
            }
            // The core must not learn of it in the middle of its own actions: reading the dead link will tell.
            Err(_) => {
                let _ = session.link.source().shutdown(std::net::Shutdown::Both);
            }
        }
    }

    fn take_incoming(&mut self) -> bool {
        while let Ok(incoming) = self.incoming.try_recv() {
            let now = self.clock.now();
            match incoming {
                Incoming::Linked(link) => self.adopt(*link, now),
                Incoming::Refused(address, why) => self.tell_refusal(&format!("{address}: {why}"), now),
                Incoming::Store(health) => {
                    let event = match health {
                        Health::Failed { reason, waiting } => {
                            LogEvent::new(events::STORE_FAILED, now).because(reason).with("waiting", waiting)
                        }
                        Health::Back { lasted, dropped } => LogEvent::new(events::STORE_BACK, now)
                            .because(format!("after {} s", lasted.as_secs()))
                            .with("dropped", dropped),
                        Health::Renewed { moved_to, reason, durable_saved } => {
                            LogEvent::new(events::STORE_FAILED, now)
                                .because(format!(
                                    "{reason}; begun anew, the damaged file is {}",
                                    moved_to.display()
                                ))
                                .with("state_saved", durable_saved)
                        }
                    };
                    self.feed(Input::EventReported { event }, now);
                }
                Incoming::Observed(told) => self.observed(told, now),
                Incoming::Stop => return false,
            }
        }
        true
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            let now = self.clock.now();
            match request {
                Request::Order { order, by, outcome } => {
                    let id = self.outbox.expect(outcome);
                    self.feed(Input::Ordered { id, order, by }, now);
                }
                Request::PlanSwitchover { pair, to, plan } => {
                    let _ = plan.send(self.state.plan_switchover(&pair, to.as_ref(), now));
                }
                Request::CopyPair { pair, copy } => {
                    let _ = copy.send(self.state.part_for(&pair).map(|part| (Box::new(part), now)));
                }
                Request::Fetch { app, path, page } => self.fetch(app, path, page),
                Request::Apply { cluster, what, done } => {
                    self.apply(*cluster, what, now);
                    // Whoever asks next sees what was applied.
                    self.outbox.handle().publish_view(self.state.view(now));
                    let _ = done.send(());
                }
            }
        }
    }

    fn fetch(&mut self, app: AppName, path: String, asker: Sender<Page>) {
        let Some(host) = self.state.cluster().host_of(&app).cloned() else {
            let _ = asker.send(Err(format!("there is no application {app}")));
            return;
        };
        let agent = self.by_host.get(&host).and_then(|token| self.sessions.get(token)?.agent.as_ref());
        let why = match agent {
            None => format!("the agent on {host} is not connected"),
            Some(agent) if !agent.knows_pages => format!("the agent on {host} is of an older release"),
            Some(_) => {
                if let Some(number) = self.questions.ask(&host, asker) {
                    self.send(&host, &ToAgent::Fetch { number, app, path });
                }
                return;
            }
        };
        let _ = asker.send(Err(why));
    }

    fn adopt(&mut self, link: Link, now: Micros) {
        let token = self.token();
        let mut session = Session { link, begun: now, agent: None };
        self.look_at_sessions = self.look_at_sessions.into_iter().chain([session.look_at(now)]).min();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(e) = self.poll.registry().register(session.link.source(), token, interest) {
            eprintln!("takeover scs: a connection could not be watched: {e}");
            return;
        }
        self.sessions.insert(token, session);
        // What arrived with the handshake is there already; the poll does not announce it again.
        self.link_event(token, true, false);
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn link_event(&mut self, token: Token, readable: bool, writable: bool) {
        let now = self.clock.now();
        if self.probes.finish(token, now) {
            return;
        }
        if writable && let Some(session) = self.sessions.get_mut(&token) {
            // A link that cannot be written cannot be read either: that road tells.
            let _ = session.link.flush();
        }
        if !readable {
            return;
        }
        let Some(session) = self.sessions.get_mut(&token) else { return };
        let mut messages: Vec<FromAgent> = Vec::new();
        let received = session.link.receive(&mut messages);
        let now = self.clock.now();
        for message in messages {
            if let Err(why) = self.message(token, message, now) {
                return self.refuse(token, &why, now);
            }
        }
        match received {
            Ok(Received::All) => {}
            // Others have a turn first: one that talks without end must not silence the rest.
            Ok(Received::More) => {
                self.unread.insert(token);
            }
            Err(e @ (LinkError::Malformed { .. } | LinkError::TooLarge { .. })) => {
                self.refuse(token, &e.to_string(), now);
            }
            Err(_) => self.lose(token, Lost::Closed, now),
        }
    }

    /// One message of an agent. The error is why its link is closed.
    fn message(&mut self, token: Token, message: FromAgent, now: Micros) -> Result<(), String> {
        message.validate()?;
        let Some(session) = self.sessions.get_mut(&token) else { return Ok(()) };
        match (message, session.agent.as_mut()) {
            (FromAgent::Hello(hello), None) => self.hello(token, hello, now),
            (FromAgent::Hello(_), Some(_)) => Err("it said hello twice".to_owned()),
            (_, None) => Err("its first message was no hello".to_owned()),
            (
                FromAgent::Inventory { apps, vips, interfaces, peers, mut taken_over, assigned },
                Some(agent),
            ) => {
                let host = agent.host.clone();
                let up_to_date = assigned > 0 && assigned == agent.assigned;
                agent.heard_inventory = true;
                agent.last_heard = now;
                for taken in &mut taken_over {
                    taken.at = agent.on_our_clock(taken.at, now);
                }
                // What the inventory leads to is decided with these in mind.
                for PeerReport { host: peer, heard } in peers {
                    self.feed(Input::PeerReported { host: host.clone(), at: now, peer, heard }, now);
                }
                for taken in taken_over {
                    self.feed(Input::TookOver { host: host.clone(), taken }, now);
                }
                if up_to_date {
                    self.feed(Input::Assigned { host: host.clone() }, now);
                }
                self.feed(Input::InventoryReported { host, apps, vips, interfaces }, now);
                Ok(())
            }
            (FromAgent::Leases { leases }, Some(agent)) => {
                let host = agent.host.clone();
                self.feed(Input::LeasesReported { host, leases }, now);
                Ok(())
            }
            (FromAgent::Standby { app, standby }, Some(agent)) => {
                let host = agent.host.clone();
                self.feed(Input::StandbyReported { host, app, standby }, now);
                Ok(())
            }
            (FromAgent::Fetched { number, page }, Some(agent)) => {
                self.questions.answered(&agent.host, number, page);
                Ok(())
            }
            (FromAgent::Lease { messages }, Some(_)) => {
                self.votes.extend(messages.into_iter().map(|message| (token, message)));
                self.count_votes();
                self.send_datagrams();
                Ok(())
            }
            (FromAgent::Report(report), Some(agent)) => {
                self.acknowledge_due.get_or_insert(now + ACKNOWLEDGE_EVERY);
                // Sent again after a reconnect, and taken before it.
                if report.seq <= agent.taken {
                    return Ok(());
                }
                agent.taken = report.seq;
                if let Some(taken) = self.taken.get_mut(&agent.host) {
                    taken.1 = report.seq;
                }
                if let Some(input) = input_of(agent, report, self.state.cluster(), now) {
                    self.feed(input, now);
                }
                Ok(())
            }
            (FromAgent::Figures(figures), Some(agent)) => {
                let strained = self.stalls.event(&agent.host, &figures, self.state.cluster(), now);
                let slewed = self.slews.event(&agent.host, &figures, now);
                self.outbox.handle().publish_figures(&agent.host, now, figures);
                for event in strained.into_iter().chain(slewed) {
                    self.feed(Input::EventReported { event }, now);
                }
                Ok(())
            }
        }
    }

    fn hello(&mut self, token: Token, hello: Hello, now: Micros) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&token) else { return Ok(()) };
        let protocol = negotiate(hello.protocol)?;
        if session.link.peer().name != hello.host.as_str() {
            return Err(format!(
                "it says that it is {}, its certificate says {}",
                hello.host,
                session.link.peer().name
            ));
        }
        let cluster = self.state.cluster();
        if !cluster.hosts.contains_key(&hello.host) {
            return Err(format!("host {} is not in the cluster file", hello.host));
        }
        let mut id = [0; 8];
        self.random.fill(&mut id).map_err(|_| "the system gives no random numbers".to_owned())?;
        let session_id = u64::from_be_bytes(id);
        let seal = session.link.seal(session_id).map_err(|e| e.to_string())?;
        let profile = cluster.profile_of(&hello.host);
        let pace = Pace::from(profile);
        let welcome = Welcome {
            protocol,
            release: self.release.to_owned(),
            session: session_id,
            cluster: cluster.part_of(&hello.host),
            heartbeat_ms: pace.heartbeat_ms,
            silence_ms: pace.silence_ms,
        };
        session.link.send(&ToAgent::Welcome(Box::new(welcome))).map_err(|e| e.to_string())?;
        let mut agent = Agent::new(&hello, seal, profile, now);
        let known = self.taken.get(&hello.host).filter(|(boot, _)| *boot == hello.boot_id);
        agent.taken = known.map_or(0, |(_, seq)| *seq);
        self.taken.insert(hello.host.clone(), (hello.boot_id.clone(), agent.taken));
        session.agent = Some(agent);
        if let Some(certificate) = session.link.certificate() {
            self.outbox.handle().publish_certificate(&hello.host, certificate);
        }
        self.look_at_sessions = self.look_at_sessions.into_iter().chain([session.look_at(now)]).min();
        self.by_session.insert(session_id, token);
        // The same agent again, before its old link was seen to be dead: the new one counts.
        if let Some(old) = self.by_host.insert(hello.host.clone(), token) {
            self.forget_session(old);
        }
        self.probes.end(&hello.host);
        let drift = (hello.release != self.release).then(|| {
            let text = format!("{} on {}, {} here", hello.release, hello.host, self.release);
            LogEvent::new(events::RELEASE_DRIFT, now).because(text).on(&hello.host)
        });
        let finds_holders = protocol >= LEASES_SINCE;
        self.feed(Input::AgentConnected { host: hello.host, release: hello.release, finds_holders }, now);
        // Behind "host operates in normal condition", which clears the alarm of the drift before.
        if let Some(event) = drift {
            self.feed(Input::EventReported { event }, now);
        }
        Ok(())
    }

    /// Tells a peer why it is refused, logs it and closes its link.
    fn refuse(&mut self, token: Token, why: &str, now: Micros) {
        if let Some(session) = self.sessions.get_mut(&token) {
            let (peer, address) = (session.link.peer().name.clone(), session.link.peer_address());
            let _ = session.link.send(&ToAgent::Goodbye { why: why.to_owned() });
            let event =
                LogEvent::new(events::PEER_REFUSED, now).because(format!("{peer} at {address}: {why}"));
            self.feed(Input::EventReported { event }, now);
        }
        self.lose(token, Lost::Closed, now);
    }

    /// Logs a refusal, unless there are so many that the log would hold nothing else.
    fn tell_refusal(&mut self, text: &str, now: Micros) {
        if let Some(event) = self.refusals.event(text, now) {
            self.feed(Input::EventReported { event }, now);
        }
    }

    pub(crate) fn lose(&mut self, token: Token, how: Lost, now: Micros) {
        let Some(agent) = self.forget_session(token) else { return };
        if self.by_host.get(&agent.host) != Some(&token) {
            return;
        }
        self.by_host.remove(&agent.host);
        self.questions.lost(&agent.host);
        let answers = self.probes.answered_since(&agent.host, now - agent.silence / 2);
        self.probe(&agent.host, PROBE_LOST_EVERY, now);
        self.feed(Input::AgentLost { host: agent.host, how, answers }, now);
    }

    pub(crate) fn forget_session(&mut self, token: Token) -> Option<Agent> {
        let mut session = self.sessions.remove(&token)?;
        let _ = self.poll.registry().deregister(session.link.source());
        let agent = session.agent?;
        self.by_session.remove(&agent.session());
        if agent.malformed > 0 {
            eprintln!(
                "takeover scs: {} lease messages of {} were none of this release",
                agent.malformed, agent.host
            );
        }
        Some(agent)
    }

    fn do_what_is_due(&mut self) {
        // What arrived while this round was busy was not silence.
        for socket in 0..self.datagrams.len() {
            self.read_datagrams(socket);
        }
        let now = self.clock.now();
        if self.look_at_sessions.is_some_and(|at| at <= now) {
            self.look_for_silence(now);
        }
        let mut next_token = self.next_token;
        self.probes.attempt(
            self.poll.registry(),
            || {
                next_token += 1;
                Token(next_token)
            },
            now,
        );
        self.next_token = next_token;
        for (host, answers) in self.probes.verdicts(now) {
            // While its agent is connected a probe only prepares the verdict for when it is lost.
            if !self.by_host.contains_key(&host) {
                self.host_verdict(host, answers, now);
            }
        }
        if self.core_deadline.is_some_and(|at| at <= now) {
            self.feed(Input::TimePassed, now);
        }
        self.votes_time_passed(now);
        self.answer_unasked(now);
        self.acknowledge(now);
        self.outbox.work(&self.state, now);
    }

    fn acknowledge(&mut self, now: Micros) {
        if self.acknowledge_due.is_none_or(|at| at > now) {
            return;
        }
        self.acknowledge_due = None;
        for session in self.sessions.values_mut() {
            if let Some(agent) = session.agent.as_mut().filter(|a| a.acknowledged < a.taken) {
                agent.acknowledged = agent.taken;
                // A dead link is found when it is read.
                let _ = session.link.send(&ToAgent::Acknowledge { seq: agent.taken });
            }
        }
    }

    fn next_deadline(&self, now: Micros) -> Option<Micros> {
        let unheard = self.boot_grace_ends();
        self.look_at_sessions
            .into_iter()
            .chain(self.core_deadline)
            .chain(self.witness.next_deadline())
            .chain(self.probes.next_deadline())
            .chain(self.outbox.next_deadline())
            .chain(self.acknowledge_due)
            .chain((unheard > now).then_some(unheard))
            .min()
    }
}
