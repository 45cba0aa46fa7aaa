//! How messages travel: UDP, TCP and TLS on the addresses of the VIPs. Everything here is keyed by
//! [`Flow`]: which of our interfaces, and the other's address.
//!
//! A round of the event loop receives ([`Transports::receive`], which shows each message to the caller), and sends what came
//! of it ([`Transports::send`]); between the two the caller tells its backup. A connection is used in both directions,
//! whoever opened it (RFC 3261, section 18); where there is none, one is made from the VIP. What could not be sent comes
//! back as [`Ticket`]s. Nothing waits, and everything is bounded.
//!
//! While silent, everything that comes is dropped and nothing leaves.

mod backlog;
mod connection;
mod datagrams;
mod layer;
mod probe;
mod returned;
mod sockets;
mod tls;

pub(crate) use probe::Probe;
pub(crate) use tls::{TlsConfigs, TlsFiles};

use backlog::Backlog;
use connection::{Connection, Turn};
use datagrams::{BATCH, Datagrams, Inbox, Received};
use domain::Micros;
use layer::Layer;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use sip_proto::b2bua::{self, CallKey, Flow, Interface, Transport};
use sip_proto::{Framing, MAX_MESSAGE};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Batches of one socket that are received in one round.
const BATCHES_PER_ROUND: usize = 2;
/// Connections that are accepted in one round.
const ACCEPTS_PER_ROUND: usize = 64;
/// Connections that have their turn in one round.
const TURNS_PER_ROUND: usize = 64;
/// Most connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 16_384;
/// Most connections of one source, an IPv4 address or an IPv6 network of 64 bits: a company behind one address may have
/// many telephones, one that has more than this is flooding us.
const MAX_PER_SOURCE: u32 = 1_024;
/// How often connections are checked against their time limits.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Most interfaces: a [`Flow`] has a byte for them, and each takes one token.
pub(crate) const MAX_INTERFACES: usize = 64;

/// Names a request, for the answer that it could not be sent.
pub(crate) type Ticket = (CallKey, u32);

/// Something to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'a> {
    pub(crate) flow: Flow,
    pub(crate) bytes: &'a [u8],
    pub(crate) ticket: Option<Ticket>,
}

/// What happened since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counters {
    /// Messages received, before anything is known of them.
    pub(crate) received: u64,
    /// Messages given to the kernel, or to a connection's queue.
    pub(crate) sent: u64,
    /// Messages that could not be sent: no connection, no route, address not held, no room.
    pub(crate) unsent: u64,
    /// Datagrams that came back: nobody is there.
    pub(crate) returned: u64,
    /// Datagrams and connections dropped while silent.
    pub(crate) silenced: u64,
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections refused: too many.
    pub(crate) refused: u64,
    /// Connections that we began.
    pub(crate) begun: u64,
    /// Connections that broke a limit of time or room.
    pub(crate) overdue: u64,
}

/// What listens on an interface.
enum Socket {
    Datagrams(Box<Datagrams>),
    Listener(TcpListener),
}

struct Listening {
    interface: Interface,
    socket: Socket,
    /// Whether it may have more.
    ready: bool,
    backlog: Backlog,
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    connection: Option<(Flow, Connection)>,
    /// Whether it is in the queue of those that have something to do.
    ready: bool,
}

/// All sockets of the VIPs.
pub(crate) struct Transports {
    registry: Registry,
    first_token: usize,
    silent: bool,
    listening: Vec<Listening>,
    tls: Option<TlsConfigs>,
    /// Names that certificates of those whom we connect to have to bear; where there is none, the address.
    names: BTreeMap<SocketAddr, ServerName<'static>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_flow: BTreeMap<Flow, usize>,
    per_source: BTreeMap<IpAddr, u32>,
    /// Connections that have something to do.
    ready: VecDeque<usize>,
    next_sweep: Micros,
    counters: Counters,
    /// Requests that could not be sent, and nobody was told yet.
    lost: Vec<Ticket>,
    inbox: Inbox,
    buffer: Box<[u8]>,
}

impl Transports {
    /// Binds the interfaces, silent. Tokens from `first_token` on are its own.
    pub(crate) fn bind(
        interfaces: &[Interface],
        tls: Option<TlsConfigs>,
        registry: Registry,
        first_token: usize,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(interfaces.len() <= MAX_INTERFACES, "{} interfaces are too many", interfaces.len());
        let mut listening = Vec::with_capacity(interfaces.len());
        for (index, interface) in interfaces.iter().enumerate() {
            let token = Token(first_token + index);
            let socket = match interface.transport {
                Transport::Udp => {
                    let mut datagrams = Datagrams::bind(interface.address)?;
                    registry.register(datagrams.source(), token, Interest::READABLE)?;
                    Socket::Datagrams(Box::new(datagrams))
                }
                Transport::Tcp | Transport::Tls => {
                    let mut listener = sockets::listener(interface.address)?;
                    registry.register(&mut listener, token, Interest::READABLE)?;
                    Socket::Listener(listener)
                }
            };
            listening.push(Listening {
                interface: interface.clone(),
                socket,
                ready: true,
                backlog: Backlog::default(),
            });
        }
        Ok(Self {
            registry,
            first_token,
            silent: true,
            listening,
            tls,
            names: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_flow: BTreeMap::new(),
            per_source: BTreeMap::new(),
            ready: VecDeque::new(),
            next_sweep: Micros(0),
            counters: Counters::default(),
            lost: Vec::new(),
            inbox: Inbox::default(),
            buffer: vec![0; MAX_MESSAGE + 1].into_boxed_slice(),
        })
    }

    /// Notes that a socket is ready. Tokens of others are ignored.
    pub(crate) fn mark_ready(&mut self, token: Token) {
        let Some(index) = token.0.checked_sub(self.first_token) else { return };
        match index.checked_sub(MAX_INTERFACES) {
            Some(slot) => self.enqueue(slot),
            None => {
                if let Some(listening) = self.listening.get_mut(index) {
                    listening.ready = true;
                }
            }
        }
    }

    /// Whether [`Transports::receive`] has something to do at once.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty()
            || !self.lost.is_empty()
            || self.listening.iter().any(|listening| listening.ready)
    }

    /// Receives a bounded number of messages.
    pub(crate) fn receive(&mut self, now: Micros, mut take: impl FnMut(Flow, &[u8], Framing)) {
        for interface in 0..self.listening.len() {
            if !self.listening[interface].ready {
                continue;
            }
            match self.listening[interface].socket {
                Socket::Datagrams(_) => self.receive_datagrams(interface, now, &mut take),
                Socket::Listener(_) => self.accept(interface, now),
            }
        }
        for _ in 0..self.ready.len().min(TURNS_PER_ROUND) {
            let Some(index) = self.ready.pop_front() else { break };
            self.turn(index, now, &mut take);
        }
    }

    /// Sends messages, in order. Requests that could not be sent are in [`Transports::take_unsent`], now or later.
    pub(crate) fn send<'a>(&mut self, letters: impl IntoIterator<Item = Letter<'a>>, now: Micros) {
        let mut batch: Vec<(SocketAddr, &[u8])> = Vec::with_capacity(BATCH);
        let mut batched = 0;
        for letter in letters {
            let interface = usize::from(letter.flow.interface);
            let Some(listening) = self.listening.get(interface).filter(|_| !self.silent) else {
                self.fail(letter.ticket);
                continue;
            };
            match listening.socket {
                Socket::Datagrams(_) => {
                    if interface != batched || batch.len() == BATCH {
                        self.send_datagrams(batched, &batch);
                        batch.clear();
                        batched = interface;
                    }
                    batch.push((letter.flow.peer, letter.bytes));
                }
                Socket::Listener(_) => self.send_on_stream(letter, now),
            }
        }
        self.send_datagrams(batched, &batch);
    }

    /// The requests that could not be sent.
    pub(crate) fn take_unsent(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.lost)
    }

    /// Drops all connections with a reset, and from now on everything that comes, and sends nothing.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
        for slot in self.slots.drain(..) {
            if let Some((_, connection)) = slot.connection {
                connection.abort();
            }
        }
        self.free.clear();
        self.by_flow.clear();
        self.per_source.clear();
        self.ready.clear();
        self.lost.clear();
    }

    /// From now on what comes is taken.
    pub(crate) fn speak(&mut self) {
        self.silent = false;
    }

    /// Uses other certificates for connections from now on.
    pub(crate) fn set_tls(&mut self, tls: Option<TlsConfigs>) {
        self.tls = tls;
    }

    /// Says which names certificates have to bear, by the address that we connect to (RFC 5922, section 4).
    pub(crate) fn set_names(&mut self, names: BTreeMap<SocketAddr, ServerName<'static>>) {
        self.names = names;
    }

    /// When [`Transports::sweep`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        (!self.by_flow.is_empty()).then_some(self.next_sweep)
    }

    /// Closes what broke its limits of time.
    pub(crate) fn sweep(&mut self, now: Micros) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        for listening in &mut self.listening {
            listening.ready = true;
        }
        for index in 0..self.slots.len() {
            if self.slots[index].connection.as_ref().is_some_and(|(_, connection)| connection.is_overdue(now))
            {
                self.counters.overdue += 1;
                self.close(index);
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.by_flow.len()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    // ---- UDP

    fn receive_datagrams(
        &mut self,
        interface: usize,
        now: Micros,
        take: &mut impl FnMut(Flow, &[u8], Framing),
    ) {
        let listening = &mut self.listening[interface];
        let Socket::Datagrams(datagrams) = &mut listening.socket else { return };
        let (silent, counters, lost) = (self.silent, &mut self.counters, &mut self.lost);
        datagrams.returned(|beginning| {
            counters.returned += 1;
            lost.extend(b2bua::sent_in(beginning).filter(|_| !silent));
        });
        for _ in 0..BATCHES_PER_ROUND {
            let received = datagrams.receive(&mut self.inbox, |peer, bytes| {
                if silent {
                    counters.silenced += 1;
                } else {
                    counters.received += 1;
                    take(Flow { interface: interface as u8, peer }, bytes, Framing::Datagram);
                }
            });
            if received == Received::Drained {
                listening.ready = false;
                listening.backlog.note(true, now);
                return;
            }
        }
        // What is dropped costs nothing.
        listening.backlog.note(silent, now);
    }

    /// Whether more datagrams come than are served.
    pub(crate) fn is_behind(&self, now: Micros) -> bool {
        self.listening.iter().any(|listening| listening.backlog.is_behind(now))
    }

    fn send_datagrams(&mut self, interface: usize, batch: &[(SocketAddr, &[u8])]) {
        let socket = self.listening.get_mut(interface).map(|listening| &mut listening.socket);
        if let Some(Socket::Datagrams(datagrams)) = socket {
            let refused = datagrams.send(batch) as u64;
            self.counters.unsent += refused;
            self.counters.sent += batch.len() as u64 - refused;
        }
    }

    // ---- streams

    fn accept(&mut self, interface: usize, now: Micros) {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Socket::Listener(listener) = &self.listening[interface].socket else { return };
            match listener.accept() {
                Ok((stream, peer)) => self.admit(interface, stream, peer, now),
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Nothing waits; or descriptors have run out, then the next sweep tries again.
                    _ => return self.listening[interface].ready = false,
                },
            }
        }
    }

    fn admit(&mut self, interface: usize, stream: TcpStream, peer: SocketAddr, now: Micros) {
        if self.silent {
            self.counters.silenced += 1;
            return sockets::abort_on_close(&stream);
        }
        let flow = Flow { interface: interface as u8, peer };
        let crowded = self.per_source.get(&source_of(peer)).is_some_and(|count| *count >= MAX_PER_SOURCE);
        let layer = match self.listening[interface].interface.transport {
            Transport::Udp | Transport::Tcp => Some(Layer::Plain),
            Transport::Tls => self.tls.as_ref().and_then(TlsConfigs::accept).map(Layer::Tls),
        };
        match layer.filter(|_| !crowded && self.by_flow.len() < MAX_CONNECTIONS) {
            Some(layer) => {
                self.counters.accepted += 1;
                self.place(flow, Connection::accepted(stream, layer, peer, now));
            }
            None => self.counters.refused += 1,
        }
    }

    fn begin(&mut self, flow: Flow, now: Micros) -> Option<usize> {
        if self.by_flow.len() >= MAX_CONNECTIONS {
            return None;
        }
        let interface = &self.listening.get(usize::from(flow.interface))?.interface;
        let layer = match interface.transport {
            Transport::Udp | Transport::Tcp => Layer::Plain,
            Transport::Tls => {
                let name = self.names.get(&flow.peer).cloned();
                let name = name.unwrap_or_else(|| ServerName::IpAddress(flow.peer.ip().into()));
                Layer::Tls(self.tls.as_ref()?.begin(name)?)
            }
        };
        let stream = sockets::connect(interface.address.ip(), flow.peer).ok()?;
        self.counters.begun += 1;
        self.place(flow, Connection::begun(stream, layer, flow.peer, now))
    }

    /// Gives a connection its place, and its first turn soon.
    fn place(&mut self, flow: Flow, mut connection: Connection) -> Option<usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let token = Token(self.first_token + MAX_INTERFACES + index);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(connection.source(), token, interest).is_err() {
            self.free.push(index);
            return None;
        }
        if connection.is_inbound() {
            *self.per_source.entry(source_of(connection.peer())).or_default() += 1;
        }
        // One from the same address and port was over, whatever we knew of it.
        if let Some(old) = self.by_flow.get(&flow) {
            self.close(*old);
        }
        self.by_flow.insert(flow, index);
        self.slots[index].connection = Some((flow, connection));
        self.enqueue(index);
        Some(index)
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.ready && slot.connection.is_some())
        {
            slot.ready = true;
            self.ready.push_back(index);
        }
    }

    fn turn(&mut self, index: usize, now: Micros, take: &mut impl FnMut(Flow, &[u8], Framing)) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.ready = false;
        let Some((flow, connection)) = &mut slot.connection else { return };
        let (flow, counters) = (*flow, &mut self.counters);
        let turn = connection.turn(&mut self.buffer, now, &mut |bytes| {
            counters.received += 1;
            take(flow, bytes, Framing::Stream);
        });
        match turn {
            Turn::Waits => {}
            Turn::More => self.enqueue(index),
            Turn::Ended => self.close(index),
        }
    }

    fn send_on_stream(&mut self, letter: Letter<'_>, now: Micros) {
        let known = self.by_flow.get(&letter.flow).copied();
        let Some(index) = known.or_else(|| self.begin(letter.flow, now)) else {
            return self.fail(letter.ticket);
        };
        let Some((_, connection)) = &mut self.slots[index].connection else {
            return self.fail(letter.ticket);
        };
        if !connection.queue(letter.bytes, letter.ticket, now) {
            self.counters.overdue += 1;
            return self.close(index);
        }
        self.counters.sent += 1;
        if connection.flush(now) == Turn::Ended {
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let Some((flow, connection)) = self.slots[index].connection.take() else { return };
        if connection.is_inbound() {
            let source = source_of(connection.peer());
            if let Some(count) = self.per_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.per_source.remove(&source);
                }
            }
        }
        if self.by_flow.get(&flow) == Some(&index) {
            self.by_flow.remove(&flow);
        }
        // A place that is still queued is passed over when its turn comes; its next owner queues anew.
        self.free.push(index);
        let lost = connection.close();
        self.counters.unsent += lost.len() as u64;
        self.lost.extend(lost);
    }

    fn fail(&mut self, ticket: Option<Ticket>) {
        self.counters.unsent += 1;
        self.lost.extend(ticket);
    }
}

/// What counts as one source.
fn source_of(peer: SocketAddr) -> IpAddr {
    match peer.ip() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
