//! The event loop: which sockets are ready, whose turn it is, what is due. The mode socket goes first in every round,
//! and a round does a bounded amount of work, so an instruction waits for a few dozen requests at most.

use crate::agent::Agent;
use crate::manager::Manager;
use crate::mode::{Instructed, RunState};
use crate::options::{ModeSource, Options};
use crate::say::Say;
use crate::transport::{Letter, Probe, Transports};
use anyhow::Context;
use control_link::lifeline::Lifeline;
use control_link::messages::{FromApplication, ToApplication};
use domain::{Epoch, Micros, RefId, RunMode};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sip_proto::b2bua::Flow;
use sip_proto::{Arrival, Duty, Limits, Reply, Settings, UserAgentServer, parse};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Instructions that are read in one round: more than the kernel keeps for us, so that after a stall the last one holds
/// before anything is answered.
const INSTRUCTIONS_PER_ROUND: usize = 1_024;
/// Agents that are accepted in one round.
const AGENTS_PER_ROUND: usize = 16;
/// Addresses-of-record whose bindings end in one round.
const EXPIRIES_PER_ROUND: usize = 256;
/// Most events taken from the kernel in one round.
const EVENTS_PER_ROUND: usize = 1_024;

const SIGNALS: Token = Token(0);
const MODE_LISTENER: Token = Token(1);
const AGENT: Token = Token(2);
const PROBE: Token = Token(3);
/// All tokens from here on are the transports'.
const TRANSPORTS: usize = 16;

/// What happened since the start; for the status sentence.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    /// Requests answered.
    pub(crate) answered: u64,
    /// Of these: with 400, malformed.
    pub(crate) malformed: u64,
    /// Messages that get no answer: ACK, responses, no Via.
    pub(crate) unanswered: u64,
    /// Datagrams and stretches of a stream that are no SIP.
    pub(crate) not_sip: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, reply: Reply) {
        match reply {
            Reply::Answer { status, .. } => {
                self.answered += 1;
                self.malformed += u64::from(status == 400);
            }
            Reply::None(_) => self.unanswered += 1,
        }
    }
}

/// The SIP Server.
pub(crate) struct Server {
    say: Say,
    poll: Poll,
    signals: SignalFd,
    agent: Agent,
    state: RunState,
    manager: Manager,
    lifeline: Lifeline,
    uas: UserAgentServer,
    probe: Option<Probe>,
    transports: Transports,
    counters: Counters,
    answers: Vec<(Flow, Vec<u8>)>,
}

impl Server {
    /// Binds everything and says that it is ready.
    pub(crate) fn start(options: Options) -> anyhow::Result<Self> {
        options.check()?;
        let say = Say::new(options.name.clone());
        let signals = block_signals().context("cannot take over signals")?;
        let poll = Poll::new().context("cannot make an event loop")?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;

        let probe = options.probe_listen.map(|address| Probe::bind(address, registry, PROBE)).transpose()?;
        let registry_of_their_own = registry.try_clone()?;
        let mut transports =
            Transports::bind(&options.interfaces(), None, registry_of_their_own, TRANSPORTS)?;
        let (agent, state) = match &options.mode {
            ModeSource::Standalone => (Agent::default(), RunState::STANDALONE),
            ModeSource::Socket(path) => {
                let agent = Agent::listen(path, registry, MODE_LISTENER)
                    .with_context(|| format!("cannot listen for the agent at {}", path.display()))?;
                (agent, RunState::BACKUP)
            }
        };
        if state.duty().is_some() {
            transports.speak();
        }
        let settings = Settings {
            server: format!("Takeover/{} ({})", env!("CARGO_PKG_VERSION"), options.name),
            domains: options.all_domains(),
            limits: Limits::default(),
            calls: false,
        };
        let mut server = Self {
            say,
            poll,
            signals,
            agent,
            state,
            lifeline: Lifeline::default(),
            manager: Manager::new(options.notify_socket, options.watchdog),
            uas: UserAgentServer::new(settings),
            probe,
            transports,
            counters: Counters::default(),
            answers: Vec::new(),
        };
        let now = now();
        server.manager.ready(server.status(), now);
        server.say.note(format_args!("ready in {} mode", server.state.mode()));
        Ok(server)
    }

    /// Serves until a signal ends it.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        loop {
            match self.poll.poll(&mut events, self.time_to_wait(now())) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result.context("the event loop failed")?,
            }
            let now = now();
            for event in &events {
                match event.token() {
                    SIGNALS if self.signalled()? => {
                        self.manager.stopping();
                        self.say.note(format_args!("stopping"));
                        return Ok(());
                    }
                    SIGNALS => {}
                    MODE_LISTENER => self.accept_agents(now),
                    AGENT => self.hear_agent(now),
                    PROBE => self.probe.iter_mut().for_each(Probe::mark_ready),
                    token => self.transports.mark_ready(token),
                }
            }
            self.serve(now);
            self.answer_probes(now);
            self.do_what_is_due(now);
        }
    }

    fn time_to_wait(&self, now: Micros) -> Option<Duration> {
        if self.transports.has_more() || self.probe.as_ref().is_some_and(Probe::is_ready) {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.manager.next_deadline(),
            self.uas.registrar().next_deadline(),
            self.transports.next_deadline(),
        ];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    fn signalled(&mut self) -> anyhow::Result<bool> {
        Ok(self.signals.read_signal().context("cannot read signals")?.is_some())
    }

    // ---- the agent

    fn accept_agents(&mut self, now: Micros) {
        for _ in 0..AGENTS_PER_ROUND {
            if !self.agent.accept(self.poll.registry(), AGENT, &self.say) {
                return;
            }
            // What it cannot know; then what it has already said.
            self.tell_agent(&self.run_mode(None));
            self.tell_agent(&self.synced());
            self.manager.ready(self.status(), now);
            self.hear_agent(now);
        }
    }

    fn hear_agent(&mut self, now: Micros) {
        for _ in 0..INSTRUCTIONS_PER_ROUND {
            let Some((message, along)) = self.agent.hear(&self.say) else { return };
            match message {
                ToApplication::SetRunMode { ref_id, mode, epoch } => self.instruct(ref_id, mode, epoch, now),
                ToApplication::Suspend => self.suspend(now),
                ToApplication::Reconfigure => {}
                ToApplication::Lifeline => self.hold(along),
            }
        }
        // One that sends so many at once is none of ours; its successor starts afresh.
        self.say.note(format_args!("the agent sends too much"));
        self.agent.forget();
    }

    /// Takes a run mode: silence or service first, then the answer, then the rest.
    fn instruct(&mut self, ref_id: RefId, mode: RunMode, epoch: Epoch, now: Micros) {
        let before = self.state;
        let instructed = self.state.instruct(mode, epoch);
        match self.state.duty() {
            Some(_) => self.transports.speak(),
            None => self.transports.silence(),
        }
        self.tell_agent(&self.run_mode(Some(ref_id)));
        match instructed {
            Instructed::Changed => {
                self.say.note(format_args!("{} mode, epoch {epoch}; before: {}", mode, before.mode()));
                self.manager.status(self.status(), now);
            }
            Instructed::Same => {}
            Instructed::Stale => self.say.note(format_args!(
                "{mode} mode for epoch {epoch} was refused: epoch {} holds",
                before.epoch()
            )),
        }
    }

    /// Begins a graceful stop. Every request is answered before the next one is read and there are no calls, so
    /// nothing is in hand.
    fn suspend(&mut self, now: Micros) {
        self.tell_agent(&FromApplication::Suspending);
        self.state.suspend();
        self.tell_agent(&FromApplication::Suspended);
        self.say.note(format_args!("suspended"));
        self.manager.status(self.status(), now);
    }

    /// Lets the agent know of this process's end sooner.
    fn hold(&mut self, lifeline: Option<OwnedFd>) {
        let held = lifeline.map(|lifeline| self.lifeline.hold(lifeline.as_fd()));
        if let Some(Err(e)) = held {
            self.say.note(format_args!("the agent's lifeline cannot be held: {e}"));
        }
    }

    fn run_mode(&self, ref_id: Option<RefId>) -> FromApplication {
        FromApplication::RunMode { ref_id, mode: self.state.mode(), epoch: self.state.epoch() }
    }

    /// There is no replication yet, so there is nothing that a backup could lack.
    fn synced(&self) -> FromApplication {
        FromApplication::Synced { synced: true, standby: None }
    }

    fn tell_agent(&mut self, message: &FromApplication) {
        self.agent.tell(message, &self.say);
    }

    // ---- SIP

    fn serve(&mut self, now: Micros) {
        let (uas, counters, answers) = (&mut self.uas, &mut self.counters, &mut self.answers);
        let duty = self.state.duty();
        self.transports.receive(now, |flow, bytes, framing| {
            let (Ok(message), Some(duty)) = (parse(bytes, framing), duty) else {
                counters.not_sip += 1;
                return;
            };
            let mut answer = Vec::new();
            let reply = uas.answer(&message, Arrival { source: flow.peer, now, duty }, &mut answer);
            counters.count(reply);
            if let Reply::Answer { to, .. } = reply {
                let peer = match framing {
                    sip_proto::Framing::Datagram => to,
                    sip_proto::Framing::Stream => flow.peer,
                };
                answers.push((Flow { peer, ..flow }, answer));
            }
        });
        let letters = self.answers.iter().map(|(flow, bytes)| Letter { flow: *flow, bytes, ticket: None });
        self.transports.send(letters, now);
        self.answers.clear();
        self.transports.take_unsent();
    }

    fn answer_probes(&mut self, now: Micros) {
        let Some(probe) = &mut self.probe else { return };
        let (uas, counters) = (&mut self.uas, &mut self.counters);
        probe.answer(|source, bytes, answer| {
            let Ok(message) = parse(bytes, sip_proto::Framing::Datagram) else {
                counters.not_sip += 1;
                return None;
            };
            let reply = uas.answer(&message, Arrival { source, now, duty: Duty::Probe, flow: None }, answer);
            counters.count(reply);
            match reply {
                Reply::Answer { to, .. } => Some(to),
                Reply::None(_) => None,
            }
        });
    }

    // ---- time

    fn do_what_is_due(&mut self, now: Micros) {
        self.manager.heartbeat(now);
        self.uas.registrar_mut().due(now, EXPIRIES_PER_ROUND);
        self.transports.sweep(now);
        if self.manager.status_is_due(now) {
            self.manager.status(self.status(), now);
        }
    }

    fn status(&self) -> String {
        let Counters { answered, malformed, unanswered, not_sip } = self.counters;
        let moved = self.transports.counters();
        format!(
            "{} mode, epoch {}; {} registered, {} connections; {answered} answered ({malformed} malformed), \
             {unanswered} unanswered, {not_sip} not SIP, {} unsent, {} dropped as backup",
            self.state.mode(),
            self.state.epoch(),
            self.uas.registrar().len(),
            self.transports.connections(),
            moved.unsent,
            moved.silenced,
        )
    }
}

/// CLOCK_BOOTTIME: registrations end also while the machine is suspended.
fn now() -> Micros {
    let boottime =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("every Linux has this clock");
    let duration = Duration::from(boottime);
    Micros(0) + duration
}

/// Has SIGTERM and SIGINT read from a descriptor instead of ending the process.
fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}
