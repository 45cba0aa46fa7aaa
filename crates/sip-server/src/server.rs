//! The event loop: which sockets are ready, whose turn it is, what is due. The mode socket goes first in every round,
//! and a round does a bounded amount of work, so an instruction waits for a few dozen requests at most.

use crate::connection::{Connection, Lent, Turn};
use crate::manager::Manager;
use crate::mode::{Instructed, RunState};
use crate::options::{MAX_LISTEN, ModeSource, Options};
use crate::sockets;
use anyhow::Context;
use control_link::lifeline::Lifeline;
use control_link::messages::{FromApplication, ToApplication};
use control_link::mode_socket::{self, ModeSocketError};
use domain::{AppName, Epoch, Micros, RefId, RunMode};
use mio::net::{TcpListener, UdpSocket};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sip_proto::{Arrival, Duty, Framing, Limits, Reply, Settings, UserAgentServer, parse};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Datagrams of one socket that are answered in one round.
const DATAGRAMS_PER_ROUND: usize = 64;
/// Connections that are accepted in one round.
const ACCEPTS_PER_ROUND: usize = 16;
/// Instructions that are read in one round: more than the kernel keeps for us, so that after a stall the last one holds
/// before anything is answered.
const INSTRUCTIONS_PER_ROUND: usize = 1_024;
/// Agents that are accepted in one round.
const AGENTS_PER_ROUND: usize = 16;
/// Most connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 1_024;
/// Addresses-of-record whose bindings end in one round.
const EXPIRIES_PER_ROUND: usize = 256;
/// How often connections are checked against their time limits.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Most events taken from the kernel in one round.
const EVENTS_PER_ROUND: usize = 256;

const SIGNALS: Token = Token(0);
const MODE_LISTENER: Token = Token(1);
const AGENT: Token = Token(2);
const DATAGRAMS: usize = 16;
const LISTENERS: usize = DATAGRAMS + MAX_LISTEN + 1;
const CONNECTIONS: usize = LISTENERS + MAX_LISTEN;

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
    /// Answers that the kernel did not take: no route, address not held, no room.
    pub(crate) unsent: u64,
    /// Datagrams and connections dropped in backup mode.
    pub(crate) silenced: u64,
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

/// A UDP socket.
struct Datagrams {
    socket: UdpSocket,
    /// Whether it answers in any run mode.
    probe: bool,
    /// Whether it may have more to read.
    ready: bool,
}

/// A TCP listener.
struct Listener {
    socket: TcpListener,
    ready: bool,
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    ready: bool,
}

/// The application's side of the mode socket.
struct ModeSocket {
    listener: mode_socket::Listener,
    agent: Option<mode_socket::Connection>,
}

/// The SIP Server.
pub(crate) struct Server {
    name: AppName,
    poll: Poll,
    signals: SignalFd,
    mode_socket: Option<ModeSocket>,
    state: RunState,
    manager: Manager,
    lifeline: Lifeline,
    uas: UserAgentServer,
    datagrams: Vec<Datagrams>,
    listeners: Vec<Listener>,
    slots: Vec<Slot>,
    next_sweep: Micros,
    counters: Counters,
    /// Bytes are received here and answers to datagrams written there.
    buffer: Box<[u8]>,
    answer: Vec<u8>,
}

impl Server {
    /// Binds everything and says that it is ready.
    pub(crate) fn start(options: Options) -> anyhow::Result<Self> {
        options.check()?;
        let signals = block_signals().context("cannot take over signals")?;
        let poll = Poll::new().context("cannot make an event loop")?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;

        let mut sockets = Vec::new();
        for address in &options.listen {
            sockets.push(Datagrams { socket: sockets::datagrams(*address)?, probe: false, ready: true });
        }
        if let Some(address) = options.probe_listen {
            sockets.push(Datagrams { socket: sockets::datagrams(address)?, probe: true, ready: true });
        }
        for (index, datagrams) in sockets.iter_mut().enumerate() {
            registry.register(&mut datagrams.socket, Token(DATAGRAMS + index), Interest::READABLE)?;
        }
        let mut listeners = Vec::new();
        for (index, address) in options.listen.iter().enumerate() {
            let mut socket = sockets::listener(*address)?;
            registry.register(&mut socket, Token(LISTENERS + index), Interest::READABLE)?;
            listeners.push(Listener { socket, ready: true });
        }
        let (mode_socket, state) = match &options.mode {
            ModeSource::Standalone => (None, RunState::STANDALONE),
            ModeSource::Socket(path) => {
                let listener = mode_socket::Listener::bind(path)
                    .with_context(|| format!("cannot listen for the agent at {}", path.display()))?;
                registry.register(&mut SourceFd(&listener.as_raw_fd()), MODE_LISTENER, Interest::READABLE)?;
                (Some(ModeSocket { listener, agent: None }), RunState::BACKUP)
            }
        };
        let settings = Settings {
            server: format!("Takeover/{} ({})", env!("CARGO_PKG_VERSION"), options.name),
            domains: options.all_domains(),
            limits: Limits::default(),
            calls: false,
        };
        let mut server = Self {
            name: options.name,
            poll,
            signals,
            mode_socket,
            state,
            lifeline: Lifeline::default(),
            manager: Manager::new(options.notify_socket, options.watchdog),
            uas: UserAgentServer::new(settings),
            datagrams: sockets,
            listeners,
            slots: Vec::new(),
            next_sweep: Micros(0),
            counters: Counters::default(),
            buffer: vec![0; sip_proto::MAX_MESSAGE + 1].into_boxed_slice(),
            answer: Vec::new(),
        };
        let now = now();
        server.manager.ready(server.status(), now);
        server.note(format_args!("ready in {} mode", server.state.mode()));
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
                        self.note(format_args!("stopping"));
                        return Ok(());
                    }
                    SIGNALS => {}
                    MODE_LISTENER => self.accept_agent(now),
                    AGENT => self.hear_agent(now),
                    Token(token) => self.mark_ready(token),
                }
            }
            self.serve_datagrams(now);
            self.accept_connections(now);
            self.serve_connections(now);
            self.do_what_is_due(now);
        }
    }

    fn time_to_wait(&self, now: Micros) -> Option<Duration> {
        let more = self.datagrams.iter().any(|d| d.ready)
            || self.listeners.iter().any(|l| l.ready)
            || self.slots.iter().any(|s| s.ready);
        if more {
            return Some(Duration::ZERO);
        }
        let sweep = self.slots.iter().any(|s| s.connection.is_some()).then_some(self.next_sweep);
        let deadlines = [self.manager.next_deadline(), self.uas.registrar().next_deadline(), sweep];
        deadlines.into_iter().flatten().min().map(|deadline| deadline.since(now))
    }

    fn signalled(&mut self) -> anyhow::Result<bool> {
        Ok(self.signals.read_signal().context("cannot read signals")?.is_some())
    }

    fn mark_ready(&mut self, token: usize) {
        let ready = if token >= CONNECTIONS {
            self.slots.get_mut(token - CONNECTIONS).map(|slot| &mut slot.ready)
        } else if token >= LISTENERS {
            self.listeners.get_mut(token - LISTENERS).map(|listener| &mut listener.ready)
        } else {
            self.datagrams.get_mut(token.wrapping_sub(DATAGRAMS)).map(|datagrams| &mut datagrams.ready)
        };
        if let Some(ready) = ready {
            *ready = true;
        }
    }

    // ---- the mode socket

    fn accept_agent(&mut self, now: Micros) {
        for _ in 0..AGENTS_PER_ROUND {
            let Some(mode_socket) = &mut self.mode_socket else { return };
            match mode_socket.listener.accept() {
                Ok(Some(agent)) => {
                    // The newest is the agent: one that was restarted comes before its predecessor is seen to be gone.
                    let fd = agent.as_raw_fd();
                    let registered =
                        self.poll.registry().register(&mut SourceFd(&fd), AGENT, Interest::READABLE);
                    mode_socket.agent = registered.is_ok().then_some(agent);
                    self.greet_agent(now);
                }
                Ok(None) => return,
                Err(e) => return self.note(format_args!("cannot accept the agent: {e}")),
            }
        }
    }

    /// Tells a new agent what it cannot know, and hears what it has already sent.
    fn greet_agent(&mut self, now: Micros) {
        self.tell_agent(&self.run_mode(None));
        // There is no replication yet, so there is nothing that a backup could lack.
        self.tell_agent(&FromApplication::Synced { synced: true, standby: None });
        self.manager.ready(self.status(), now);
        self.hear_agent(now);
    }

    fn hear_agent(&mut self, now: Micros) {
        for _ in 0..INSTRUCTIONS_PER_ROUND {
            let Some(agent) = self.mode_socket.as_ref().and_then(|m| m.agent.as_ref()) else { return };
            match agent.receive_with() {
                Ok(Some((ToApplication::SetRunMode { ref_id, mode, epoch }, _))) => {
                    self.instruct(ref_id, mode, epoch, now);
                }
                Ok(Some((ToApplication::Suspend, _))) => self.suspend(now),
                Ok(Some((ToApplication::Lifeline, lifeline))) => self.hold(lifeline),
                // All that it was told are its arguments.
                Ok(Some((ToApplication::Reconfigure, _))) => {}
                Ok(None) => return,
                Err(e @ (ModeSocketError::Malformed(_) | ModeSocketError::TooLarge { .. })) => {
                    self.note(format_args!("an instruction was dropped: {e}"));
                }
                Err(e) => {
                    self.note(format_args!("the agent is gone, {} mode stays: {e}", self.state.mode()));
                    return self.forget_agent();
                }
            }
        }
        // One that sends so many at once is none of ours; its successor starts afresh.
        self.note(format_args!("the agent sends too much"));
        self.forget_agent();
    }

    /// Takes a run mode: silence or service first, then the answer, then the rest.
    fn instruct(&mut self, ref_id: RefId, mode: RunMode, epoch: Epoch, now: Micros) {
        let before = self.state;
        let instructed = self.state.instruct(mode, epoch);
        if self.state.duty().is_none() {
            self.abort_connections();
        }
        self.tell_agent(&self.run_mode(Some(ref_id)));
        match instructed {
            Instructed::Changed => {
                self.note(format_args!("{} mode, epoch {epoch}; before: {}", mode, before.mode()));
                self.manager.status(self.status(), now);
            }
            Instructed::Same => {}
            Instructed::Stale => self.note(format_args!(
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
        self.note(format_args!("suspended"));
        self.manager.status(self.status(), now);
    }

    /// Lets the agent know of this process's end sooner.
    fn hold(&mut self, lifeline: Option<OwnedFd>) {
        let held = lifeline.map(|lifeline| self.lifeline.hold(lifeline.as_fd()));
        if let Some(Err(e)) = held {
            self.note(format_args!("the agent's lifeline cannot be held: {e}"));
        }
    }

    fn run_mode(&self, ref_id: Option<RefId>) -> FromApplication {
        FromApplication::RunMode { ref_id, mode: self.state.mode(), epoch: self.state.epoch() }
    }

    fn tell_agent(&mut self, message: &FromApplication) {
        let Some(agent) = self.mode_socket.as_ref().and_then(|m| m.agent.as_ref()) else { return };
        if let Err(e) = agent.send(message) {
            // It connects again and is told anew.
            self.note(format_args!("the agent could not be told: {e}"));
            self.forget_agent();
        }
    }

    fn forget_agent(&mut self) {
        if let Some(mode_socket) = &mut self.mode_socket {
            mode_socket.agent = None;
        }
    }

    // ---- SIP over UDP

    fn serve_datagrams(&mut self, now: Micros) {
        for index in 0..self.datagrams.len() {
            for _ in 0..DATAGRAMS_PER_ROUND {
                if !self.datagrams[index].ready {
                    break;
                }
                self.serve_datagram(index, now);
            }
        }
    }

    fn serve_datagram(&mut self, index: usize, now: Micros) {
        let datagrams = &mut self.datagrams[index];
        let (length, source) = match datagrams.socket.recv_from(&mut self.buffer) {
            Ok(received) => received,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                datagrams.ready = false;
                return;
            }
            // An error that was queued for an earlier answer; the next call reads on.
            Err(_) => return,
        };
        let duty = if datagrams.probe { Some(Duty::Probe) } else { self.state.duty() };
        let Some(duty) = duty else {
            self.counters.silenced += 1;
            return;
        };
        let Ok(message) = parse(&self.buffer[..length], Framing::Datagram) else {
            self.counters.not_sip += 1;
            return;
        };
        self.answer.clear();
        let reply = self.uas.answer(&message, Arrival { source, now, duty }, &mut self.answer);
        self.counters.count(reply);
        if let Reply::Answer { to, .. } = reply
            && datagrams.socket.send_to(&self.answer, to).is_err()
        {
            // The client sends its request again, and by then things may be better.
            self.counters.unsent += 1;
        }
    }

    // ---- SIP over TCP

    fn accept_connections(&mut self, now: Micros) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_ROUND {
                if !self.listeners[index].ready {
                    break;
                }
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer)) => self.admit(stream, peer, now),
                    Err(e) => match e.kind() {
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        // Nothing waits; or descriptors have run out, then the next sweep tries again.
                        _ => self.listeners[index].ready = false,
                    },
                }
            }
        }
    }

    fn admit(&mut self, stream: mio::net::TcpStream, peer: SocketAddr, now: Micros) {
        if self.state.duty().is_none() {
            self.counters.silenced += 1;
            return sockets::abort_on_close(&stream);
        }
        let index = match self.slots.iter().position(|slot| slot.connection.is_none()) {
            Some(index) => index,
            None if self.slots.len() < MAX_CONNECTIONS => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
            None => return,
        };
        let mut connection = Connection::new(stream, peer, now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(connection.source(), Token(CONNECTIONS + index), interest).is_ok() {
            self.slots[index] = Slot { connection: Some(connection), ready: true };
        }
    }

    fn serve_connections(&mut self, now: Micros) {
        let Some(duty) = self.state.duty() else { return };
        for slot in self.slots.iter_mut().filter(|slot| slot.ready) {
            slot.ready = false;
            let Some(connection) = &mut slot.connection else { continue };
            let mut lent = Lent {
                uas: &mut self.uas,
                counters: &mut self.counters,
                buffer: &mut self.buffer,
                duty,
                now,
            };
            match connection.turn(&mut lent) {
                Turn::Waits => {}
                Turn::More => slot.ready = true,
                Turn::Ended => slot.connection = None,
            }
        }
    }

    fn abort_connections(&mut self) {
        for slot in self.slots.drain(..) {
            if let Some(connection) = slot.connection {
                connection.abort();
            }
        }
    }

    // ---- time

    fn do_what_is_due(&mut self, now: Micros) {
        self.manager.heartbeat(now);
        self.uas.registrar_mut().due(now, EXPIRIES_PER_ROUND);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.listeners.iter_mut().for_each(|listener| listener.ready = true);
            for slot in &mut self.slots {
                if slot.connection.as_ref().is_some_and(|connection| connection.is_overdue(now)) {
                    slot.connection = None;
                }
            }
        }
        if self.manager.status_is_due(now) {
            self.manager.status(self.status(), now);
        }
    }

    fn status(&self) -> String {
        let Counters { answered, malformed, unanswered, not_sip, unsent, silenced } = self.counters;
        format!(
            "{} mode, epoch {}; {} registered, {} connections; {answered} answered ({malformed} malformed), \
             {unanswered} unanswered, {not_sip} not SIP, {unsent} unsent, {silenced} dropped as backup",
            self.state.mode(),
            self.state.epoch(),
            self.uas.registrar().len(),
            self.slots.iter().filter(|slot| slot.connection.is_some()).count(),
        )
    }

    fn note(&self, text: fmt::Arguments<'_>) {
        eprintln!("{}: {text}", self.name);
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
