//! How the two SIP Servers of a pair come to a connection: the one whose name comes first dials, the other listens,
//! whoever is primary. So there is never a second connection that crosses the first.
//!
//! Names are compared, files read and hands shaken on a thread of its own; the event loop gets a connection that is there,
//! by way of a pipe that it polls.

use anyhow::Context;
use control_link::ca::Issued;
use control_link::delegation::{Delegate, load};
use control_link::{Acceptor, Expected, Identity, Limits, Link, Role, dial};
use mio::unix::pipe;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long dialing and the handshake may take.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// Pause between attempts: short, since every call that begins until then is not replicated.
const AGAIN: Duration = Duration::from_millis(250);
/// How often the listening end looks whether its certificate is another one.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Connections that may wait for the event loop, and connections on their way.
const WAITING: usize = 4;

/// Where the two are, and who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Our address for the other.
    pub(crate) own: SocketAddr,
    /// The other's address.
    pub(crate) other: SocketAddr,
    /// Whether we dial.
    pub(crate) dials: bool,
    /// What we show.
    pub(crate) files: Issued,
    /// Whom we expect.
    pub(crate) peer: Delegate,
}

/// What the thread has to tell.
pub(crate) enum Met {
    /// A connection with the peer.
    Link(Box<Link>),
    /// Something for people to know.
    Note(String),
}

/// The thread that makes connections; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Meeting {
    met: Receiver<Met>,
    /// Wants another connection, after a pause.
    wishes: Sender<Duration>,
    bell: pipe::Receiver,
}

impl Meeting {
    /// Begins to make a connection.
    pub(crate) fn start(place: Place, registry: &Registry, token: Token) -> io::Result<Self> {
        let (bell_in, mut bell) = pipe::new()?;
        registry.register(&mut bell, token, Interest::READABLE)?;
        let (to_loop, met) = sync_channel(WAITING);
        let (wishes, wished) = channel();
        let tell = Tell { to_loop, bell: Arc::new(Mutex::new(bell_in)), last: String::new() };
        thread::Builder::new().name("replication".to_owned()).spawn(move || {
            if place.dials { dialing(&place, &wished, tell) } else { listening(&place, &wished, &tell) }
        })?;
        Ok(Self { met, wishes, bell })
    }

    /// Makes another connection after a pause. The listening end always waits for one.
    pub(crate) fn again(&self, pause: Duration) {
        // Where the thread is gone, so is the process.
        let _ = self.wishes.send(pause);
    }

    /// What there is to know, once the pipe is readable.
    pub(crate) fn next(&mut self) -> Option<Met> {
        self.met.try_recv().ok()
    }

    /// Empties the pipe; before [`Meeting::next`].
    pub(crate) fn hush(&mut self) {
        let mut rings = [0; 64];
        // An error is as good as an empty pipe: what there is to know is in the channel.
        while matches!(self.bell.read(&mut rings), Ok(length) if length > 0) {}
    }
}

/// The thread's way to the event loop.
#[derive(Debug, Clone)]
struct Tell {
    to_loop: SyncSender<Met>,
    bell: Arc<Mutex<pipe::Sender>>,
    /// What was said last: not to be said again with each attempt.
    last: String,
}

impl Tell {
    fn tell(&self, met: Met) {
        // A loop that takes nothing, for as long as it takes nothing, needs no more connections; who dialed dials again.
        let _ = self.to_loop.try_send(met);
        self.ring();
    }

    /// As [`Tell::tell`], but waits for room: for a connection that nobody would make again. False: the loop is gone.
    fn hand_over(&self, link: Link) -> bool {
        let taken = self.to_loop.send(Met::Link(Box::new(link))).is_ok();
        self.ring();
        taken
    }

    fn ring(&self) {
        if let Ok(mut bell) = self.bell.lock() {
            // A full pipe rings already.
            let _ = bell.write(&[0]);
        }
    }

    fn note(&mut self, text: String) {
        if text != self.last {
            self.last.clone_from(&text);
            self.tell(Met::Note(text));
        }
    }
}

fn dialing(place: &Place, wished: &Receiver<Duration>, mut tell: Tell) {
    let expected = Expected { role: Role::Agent, name: Some(place.peer.host.to_string()) };
    let mut pause = Duration::ZERO;
    loop {
        match wished.recv_timeout(pause) {
            Ok(other) => pause = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let link = identity(place)
                    .and_then(|identity| Ok(dial(place.other, &identity, &expected, DIAL_LIMIT)?));
                match link {
                    Ok(link) => {
                        tell.last.clear();
                        if !tell.hand_over(link) {
                            return;
                        }
                        match wished.recv() {
                            Ok(other) => pause = other,
                            Err(_) => return,
                        }
                    }
                    Err(why) => {
                        tell.note(format!("no connection with {}: {why:#}", place.peer.application));
                        pause = AGAIN;
                    }
                }
            }
        }
    }
}

fn listening(place: &Place, wished: &Receiver<Duration>, tell: &Tell) {
    let mut notes = tell.clone();
    let mut accepting: Option<(Acceptor, Option<SystemTime>)> = None;
    let mut socket = None;
    loop {
        let written = written_at(place);
        if accepting.as_ref().is_none_or(|(_, of)| *of != written) {
            match accept(place, &mut socket, tell) {
                // The one before is dropped only now: until its successor is there it goes on.
                Ok(acceptor) => accepting = Some((acceptor, written)),
                Err(why) => notes.note(format!("cannot listen for {}: {why:#}", place.peer.application)),
            }
        }
        let pause = if accepting.is_some() { LOOK_EVERY } else { AGAIN };
        match wished.recv_timeout(pause) {
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn accept(place: &Place, socket: &mut Option<TcpListener>, tell: &Tell) -> anyhow::Result<Acceptor> {
    let identity = identity(place)?;
    let listener = match socket {
        Some(listener) => listener,
        none => none.insert(listen(place.own).with_context(|| format!("no socket at {}", place.own))?),
    };
    let limits = Limits { time: DIAL_LIMIT, pending: WAITING, per_address: WAITING };
    let (links, mut refusals) = (tell.clone(), tell.clone());
    let acceptor = Acceptor::start(
        vec![listener.try_clone()?],
        &identity,
        limits,
        // The handshake accepts nobody but the peer.
        |_| Ok(()),
        move |link| links.tell(Met::Link(Box::new(link))),
        move |from, why| refusals.note(format!("{from} is no peer: {why}")),
    );
    acceptor.context("cannot accept")
}

/// A listener at an address that the host may not have yet.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(WAITING).unwrap_or(1))?;
    Ok(socket.into())
}

fn identity(place: &Place) -> anyhow::Result<Identity> {
    Ok(load(&place.files, &place.peer)?)
}

fn written_at(place: &Place) -> Option<SystemTime> {
    fs::metadata(&place.files.certificate).and_then(|metadata| metadata.modified()).ok()
}
