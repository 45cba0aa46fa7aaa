//! The event loop: which sockets are ready, whose turn it is, what is due. The mode socket goes first in every round,
//! and a round does a bounded amount of work, so an instruction waits for a few dozen requests at most.
//!
//! ```text
//!   mode socket ──> run mode ─┐
//!   other member ──> changes ─┤               ┌─> 1. changes, to the other member
//!   VIPs ──> messages ────────┼─> sip_core ───┼─> 2. messages, to the VIPs' transports
//!   beside ──> places, HTTP ──┤               ├─> 3. questions, to the thread beside
//!   time ──> what is due ─────┘               └─> 4. notices, to the agent; records, to the disk
//! ```
//!
//! Changes leave before messages, so that nobody has ever heard of what the backup has not been told.

mod modes;
mod serving;
mod settings;
mod shown;

use crate::agent::Agent;
use crate::beside::Beside;
use crate::cdr::CdrFile;
use crate::log::Log;
use crate::manager::Manager;
use crate::mode::RunState;
use crate::options::{ModeSource, Options};
use crate::say::Say;
use crate::settings::Loaded;
use crate::sync::{Replication, Tokens};
use crate::transport::{Probe, Transports};
use anyhow::Context;
use control_link::lifeline::Lifeline;
use domain::{Epoch, Micros};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustls::pki_types::ServerName;
use sip_core::{Cursor, Outputs, SipCore};
use sip_proto::UserAgentServer;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Most events taken from the kernel in one round.
const EVENTS_PER_ROUND: usize = 1_024;
/// How often what others write is looked after: the file of call records, the figures for the agent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const SIGNALS: Token = Token(0);
const MODE_LISTENER: Token = Token(1);
const AGENT: Token = Token(2);
const PROBE: Token = Token(3);
const BESIDE: Token = Token(4);
/// The replication's.
const MET: Token = Token(5);
const LINK: Token = Token(6);
/// All tokens from here on are the transports'.
const TRANSPORTS: usize = 1_024;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signalled {
    Nothing,
    End,
    Reload,
}

/// The SIP Server.
pub(crate) struct Server {
    say: Say,
    log: Log,
    /// Records of calls for the log; none: none go there.
    call_log: Option<Log>,
    poll: Poll,
    signals: SignalFd,
    agent: Agent,
    state: RunState,
    /// Whether the agent was told that nothing is in hand any more, in a graceful stop.
    suspended_told: bool,
    manager: Manager,
    lifeline: Lifeline,
    /// Where the settings came from; none: from arguments.
    settings_file: Option<PathBuf>,
    loaded: Loaded,
    core: SipCore,
    outputs: Outputs,
    /// The other member's copy, or ours of its calls; none: alone.
    replication: Option<Replication<Cursor>>,
    transports: Transports,
    probe: Option<Probe>,
    /// Answers probes, and knows nothing else.
    prober: UserAgentServer,
    beside: Beside,
    cdr: Option<CdrFile>,
    /// Names of trunks by the address where they were found, for their certificates.
    names: BTreeMap<SocketAddr, ServerName<'static>>,
    /// Datagrams and stretches of streams that are no SIP.
    not_sip: u64,
    next_look: Micros,
}

impl Server {
    /// Binds everything and says that it is ready.
    pub(crate) fn start(options: Options) -> anyhow::Result<Self> {
        options.check()?;
        let loaded = Loaded::of(&options)?;
        let say = Say::new(options.name.clone());
        let signals = block_signals().context("cannot take over signals")?;
        raise_descriptor_limit(&say);
        let poll = Poll::new().context("cannot make an event loop")?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;

        let probe = options.probe_listen.map(|address| Probe::bind(address, registry, PROBE)).transpose()?;
        let tls = settings::certificates(&loaded)?;
        let interfaces = settings::interfaces(&loaded);
        let mut transports = Transports::bind(&interfaces, tls, registry.try_clone()?, TRANSPORTS)?;
        let mut beside = Beside::start(&poll, BESIDE)?;
        let cdr = loaded.cdr_file().map(|path| CdrFile::open(&path, beside.waker())).transpose()?;
        beside.serve(loaded.http_address())?;
        let tokens = Tokens { met: MET, link: LINK };
        let start = |member| Replication::start(member, &loaded.settings, registry, tokens);
        let replication =
            loaded.member.as_ref().map(start).transpose().context("cannot begin the replication")?;
        let (agent, state) = match &options.mode {
            ModeSource::Standalone => (Agent::default(), RunState::STANDALONE),
            ModeSource::Socket(path) => {
                let agent = Agent::listen(path, registry, MODE_LISTENER)
                    .with_context(|| format!("cannot listen for the agent at {}", path.display()))?;
                (agent, RunState::BACKUP)
            }
        };
        let now = now();
        let mut core = SipCore::new(settings::setup(&options, &loaded)?, now);
        if state.duty().is_some() {
            core.take_over(Epoch(0), now);
            transports.speak();
        }
        let mut server = Self {
            prober: UserAgentServer::new(settings::prober(&options)),
            log: Log::of_notices(now),
            call_log: Log::of_calls(loaded.settings.cdr_log, now),
            say,
            poll,
            signals,
            agent,
            state,
            suspended_told: false,
            lifeline: Lifeline::default(),
            manager: Manager::new(options.notify_socket, options.watchdog),
            settings_file: options.settings,
            loaded,
            core,
            outputs: Outputs::default(),
            replication,
            transports,
            probe,
            beside,
            cdr,
            names: BTreeMap::new(),
            not_sip: 0,
            next_look: now,
        };
        let status = server.status(now);
        server.manager.ready(status, now);
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
                    SIGNALS => match self.signalled()? {
                        Signalled::Nothing => {}
                        Signalled::Reload => self.reload(now),
                        Signalled::End => {
                            self.manager.stopping();
                            self.say.note(format_args!("stopping"));
                            return Ok(());
                        }
                    },
                    MODE_LISTENER => self.accept_agents(now),
                    AGENT => self.hear_agent(now),
                    PROBE => self.probe.iter_mut().for_each(Probe::mark_ready),
                    BESIDE => self.hear_beside(now),
                    token @ (MET | LINK) => {
                        self.replication.iter_mut().for_each(|replication| replication.mark_ready(token));
                    }
                    token => self.transports.mark_ready(token),
                }
            }
            self.replicate(now);
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
            self.core.next_deadline(now),
            self.replication.as_ref().and_then(Replication::next_deadline),
            self.transports.next_deadline(),
            Some(self.next_look),
        ];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    fn signalled(&mut self) -> anyhow::Result<Signalled> {
        let signal = self.signals.read_signal().context("cannot read signals")?;
        Ok(match signal.and_then(|signal| Signal::try_from(signal.ssi_signo as i32).ok()) {
            None => Signalled::Nothing,
            Some(Signal::SIGHUP) => Signalled::Reload,
            Some(_) => Signalled::End,
        })
    }

    fn do_what_is_due(&mut self, now: Micros) {
        self.manager.heartbeat(now);
        self.transports.sweep(now);
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look(now);
        }
        if self.manager.status_is_due(now) {
            self.tell_status(now);
        }
    }
}

/// CLOCK_BOOTTIME: registrations end also while the machine is suspended.
fn now() -> Micros {
    let boottime =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("every Linux has this clock");
    let duration = Duration::from(boottime);
    Micros(0) + duration
}

/// Unix time.
fn wall() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(0) + since
}

/// Has SIGTERM, SIGINT and SIGHUP read from a descriptor instead of ending the process.
fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.add(Signal::SIGHUP);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// As many connections as the system lets us have: the usual limit is meant for programs that use select(2).
fn raise_descriptor_limit(say: &Say) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(e) = raised {
        say.note(format_args!("the limit of open files stays as it is: {e}"));
    }
}
