//! Accepting: one thread does all handshakes, none of which can hold up another. Established links and refusals go to
//! the caller's functions.
//!
//! A peer that connects and then dawdles costs one entry in a table until its time limit. The table is bounded in all
//! and for each address, so that one hostile address can take its own share only; when the table is full, the oldest
//! handshake makes room, since an honest one takes two round trips.

use crate::handshake::{Greeting, Handshake, Progress};
use crate::identity::Identity;
use crate::link::Link;
use crate::peer::PeerName;
use crate::tcp;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections taken from one listener before handshakes under way are looked after again.
const ACCEPTS_PER_ROUND: usize = 64;
/// How long accepting rests when the system cannot give us another connection (no descriptors, no memory).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What handshakes under way may take. Established links do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long one may take.
    pub time: Duration,
    /// How many at the same time.
    pub pending: usize,
    /// How many at the same time from one IP address.
    pub per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), pending: 512, per_address: 128 }
    }
}

/// Accepts links until it is dropped, which also closes the listeners. Links handed out live on.
#[derive(Debug)]
pub struct Acceptor {
    addresses: Vec<SocketAddr>,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts to accept on `listeners`.
    ///
    /// `check` says whether a peer whose certificate is good may connect; its reason for a refusal is told to the peer.
    /// `on_link` takes an established link, `on_refusal` the address of a peer that got none and a sentence why. All
    /// three are called on the acceptor's thread and must not block.
    ///
    /// # Errors
    /// Where the system gives no poll or thread, or a listener cannot be registered.
    pub fn start(
        listeners: Vec<std::net::TcpListener>,
        identity: &Identity,
        limits: Limits,
        check: impl Fn(&PeerName) -> Result<(), String> + Send + 'static,
        on_link: impl FnMut(Link) + Send + 'static,
        on_refusal: impl FnMut(SocketAddr, String) + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let addresses = listeners.iter().map(std::net::TcpListener::local_addr).collect::<io::Result<_>>()?;
        let mut registered = Vec::with_capacity(listeners.len());
        for (n, listener) in listeners.into_iter().enumerate() {
            // Its connections inherit the options.
            tcp::tune(&listener)?;
            listener.set_nonblocking(true)?;
            let mut listener = TcpListener::from_std(listener);
            poll.registry().register(&mut listener, Token(n), Interest::READABLE)?;
            registered.push(Listening { listener, ready: true });
        }
        let stop_token = Token(registered.len());
        let stop = Arc::new(Waker::new(poll.registry(), stop_token)?);
        let accepting = Accepting {
            poll,
            next_token: stop_token.0 + 1,
            stop_token,
            listeners: registered,
            rest_until: None,
            pending: BTreeMap::new(),
            identity: identity.clone(),
            limits,
            check,
            on_link,
            on_refusal,
        };
        let thread = thread::Builder::new().name("accept".to_owned()).spawn(move || accepting.run())?;
        Ok(Self { addresses, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // If the thread cannot be woken it is not waited for either.
        if self.stop.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Listening {
    listener: TcpListener,
    /// Whether connections may wait: the poll tells changes only.
    ready: bool,
}

struct Pending {
    handshake: Handshake,
    deadline: Instant,
}

struct Accepting<C, L, R> {
    poll: Poll,
    listeners: Vec<Listening>,
    stop_token: Token,
    next_token: usize,
    rest_until: Option<Instant>,
    /// By token. Tokens grow and all have the same time limit: the first is the oldest and the first to run out.
    pending: BTreeMap<usize, Pending>,
    identity: Identity,
    limits: Limits,
    check: C,
    on_link: L,
    on_refusal: R,
}

impl<C, L, R> Accepting<C, L, R>
where
    C: Fn(&PeerName) -> Result<(), String>,
    L: FnMut(Link),
    R: FnMut(SocketAddr, String),
{
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let wait = self.time_to_wait(Instant::now());
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // epoll_wait fails in no other way on a valid descriptor (epoll_wait(2)).
                Err(e) => panic!("cannot wait for connections: {e}"),
            }
            for event in &events {
                match event.token() {
                    token if token == self.stop_token => return,
                    Token(n) if n < self.listeners.len() => self.listeners[n].ready = true,
                    Token(n) => self.advance(n),
                }
            }
            let now = Instant::now();
            self.expire(now);
            self.accept_waiting(now);
        }
    }

    fn time_to_wait(&self, now: Instant) -> Option<Duration> {
        let accept_again = self
            .listeners
            .iter()
            .any(|l| l.ready)
            .then(|| self.rest_until.map_or(Duration::ZERO, |rest| rest.saturating_duration_since(now)));
        let first_deadline =
            self.pending.first_key_value().map(|(_, p)| p.deadline.saturating_duration_since(now));
        accept_again.into_iter().chain(first_deadline).min()
    }

    fn accept_waiting(&mut self, now: Instant) {
        if self.rest_until.is_some_and(|rest| now < rest) {
            return;
        }
        self.rest_until = None;
        for n in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_ROUND {
                if !self.listeners[n].ready {
                    break;
                }
                match self.listeners[n].listener.accept() {
                    Ok((stream, from)) => self.admit(stream, from, now),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.listeners[n].ready = false,
                    // Gone before it was taken, or a signal: the next one (accept(2)).
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                        ) => {}
                    Err(e) => {
                        let at = self.listeners[n].listener.local_addr();
                        let at = at.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
                        (self.on_refusal)(at, format!("no connection can be accepted here for now: {e}"));
                        self.rest_until = Some(now + ACCEPT_REST);
                        return;
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: mio::net::TcpStream, from: SocketAddr, now: Instant) {
        let of_address =
            self.pending.values().filter(|p| p.handshake.peer_address().ip() == from.ip()).count();
        if of_address >= self.limits.per_address {
            return (self.on_refusal)(
                from,
                format!("{of_address} handshakes from its address are already under way"),
            );
        }
        if self.pending.len() >= self.limits.pending
            && let Some((_, oldest)) = self.pending.pop_first()
        {
            let why = "its handshake was the oldest of too many; it may try again".to_owned();
            (self.on_refusal)(oldest.handshake.peer_address(), why);
        }
        let token = self.next_token;
        match self.begin(stream, from, token) {
            Ok(handshake) => {
                self.next_token += 1;
                self.pending.insert(token, Pending { handshake, deadline: now + self.limits.time });
                self.advance(token);
            }
            Err(why) => (self.on_refusal)(from, why),
        }
    }

    fn begin(
        &self,
        stream: mio::net::TcpStream,
        from: SocketAddr,
        token: usize,
    ) -> Result<Handshake, String> {
        let mut handshake = Handshake::accepting(&self.identity, stream, from).map_err(|e| e.to_string())?;
        self.poll
            .registry()
            .register(handshake.source(), Token(token), Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| format!("its socket cannot be watched: {e}"))?;
        Ok(handshake)
    }

    fn advance(&mut self, token: usize) {
        let Some(pending) = self.pending.get_mut(&token) else {
            return; // An event for one that has just ended.
        };
        let outcome = match pending.handshake.advance() {
            Ok(Progress::Waiting) => return,
            Ok(Progress::Done) => Ok(()),
            Err(e) => Err(e.to_string()),
        };
        let Some(Pending { handshake, .. }) = self.pending.remove(&token) else {
            return;
        };
        let from = handshake.peer_address();
        match outcome.and_then(|()| self.establish(handshake)) {
            Ok(link) => (self.on_link)(link),
            Err(why) => (self.on_refusal)(from, why),
        }
    }

    /// Says yes or no to a peer whose certificate is good.
    fn establish(&self, mut handshake: Handshake) -> Result<Link, String> {
        self.poll.registry().deregister(handshake.source()).map_err(|e| e.to_string())?;
        let mut link = handshake.into_link().map_err(|e| e.to_string())?;
        match (self.check)(link.peer()) {
            Ok(()) => link.send(&Greeting::Ready).map(|()| link).map_err(|e| e.to_string()),
            Err(why) => {
                let refused = format!("{} is refused: {why}", link.peer());
                // Told as a courtesy; the refusal stands whether it arrives or not.
                let _ = link.send(&Greeting::Refused { why });
                Err(refused)
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.pending.first_entry() {
            if oldest.get().deadline > now {
                return;
            }
            let address = oldest.remove().handshake.peer_address();
            (self.on_refusal)(
                address,
                format!("its handshake was not complete within {:?}", self.limits.time),
            );
        }
    }
}
