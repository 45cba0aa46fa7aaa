//! Dialing: a blocking call with a time limit, for an ordinary thread. The link it returns goes to the event loop.

use crate::handshake::{Greeting, Handshake, HandshakeError, Progress};
use crate::identity::Identity;
use crate::link::Link;
use crate::peer::{PeerName, Role};
use crate::tcp;
use mio::{Events, Interest, Poll, Token};
use rustls::Error as TlsError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Who should answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// In which role.
    pub role: Role,
    /// Under which name; none: any of that role.
    pub name: Option<String>,
}

impl Expected {
    /// Anybody of this role.
    #[must_use]
    pub fn any(role: Role) -> Self {
        Self { role, name: None }
    }

    fn met_by(&self, peer: &PeerName) -> bool {
        self.role == peer.role && self.name.as_ref().is_none_or(|name| *name == peer.name)
    }
}

impl From<PeerName> for Expected {
    fn from(peer: PeerName) -> Self {
        Self { role: peer.role, name: Some(peer.name) }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {name}", self.role),
            None => write!(f, "any {}", self.role),
        }
    }
}

/// Why dialing did not lead to a link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection came about.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Connected, and then no complete handshake within the time limit.
    #[error("{address} did not finish the handshake within {limit:?}")]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// The time limit.
        limit: Duration,
    },
    /// The handshake failed: a certificate that one end does not accept, another protocol, a connection that broke.
    #[error("no link with {address}: {why}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Why, in a sentence.
        why: String,
    },
    /// Who answered is of the cluster, but not who was expected. Nothing was sent to it.
    #[error("{address} is {found}, not {expected}")]
    WrongPeer {
        /// Where.
        address: SocketAddr,
        /// Who answered.
        found: PeerName,
        /// Who should have.
        expected: Expected,
    },
    /// The peer accepts our certificate and refuses us.
    #[error("{address} refuses us: {why}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What it says.
        why: String,
    },
}

/// Connects to `address`, does the handshake and makes sure that `expected` answers and takes us. Blocks, for at most
/// `time_limit`.
///
/// # Errors
/// [`DialError`].
pub fn dial(
    address: SocketAddr,
    identity: &Identity,
    expected: &Expected,
    time_limit: Duration,
) -> Result<Link, DialError> {
    let deadline = Instant::now() + time_limit;
    let timed_out = || DialError::TimedOut { address, limit: time_limit };
    let failed = |e: HandshakeError| DialError::Handshake { address, why: e.to_string() };
    let unreachable = |source| DialError::Unreachable { address, source };

    let stream = tcp::connect(address, time_limit).map_err(unreachable)?;
    stream.set_nonblocking(true).map_err(unreachable)?;
    let stream = mio::net::TcpStream::from_std(stream);
    let mut handshake = Handshake::dialing(identity, stream, address)
        .map_err(|e: TlsError| failed(HandshakeError::Tls(e)))?;

    let mut waiter = Waiter::new(handshake.source()).map_err(|e| failed(HandshakeError::Io(e)))?;
    while handshake.advance().map_err(failed)? == Progress::Waiting {
        if !waiter.wait(deadline).map_err(|e| failed(HandshakeError::Io(e)))? {
            return Err(timed_out());
        }
    }
    let mut link = handshake.into_link().map_err(failed)?;
    if !expected.met_by(link.peer()) {
        return Err(DialError::WrongPeer { address, found: link.peer().clone(), expected: expected.clone() });
    }
    let greeting = loop {
        if let Some(greeting) = link.receive_one().map_err(|e| failed(e.into()))? {
            break greeting;
        }
        if !waiter.wait(deadline).map_err(|e| failed(HandshakeError::Io(e)))? {
            return Err(timed_out());
        }
    };
    waiter.release(link.source()).map_err(|e| failed(HandshakeError::Io(e)))?;
    match greeting {
        Greeting::Ready => Ok(link),
        Greeting::Refused { why } => Err(DialError::Refused { address, why }),
    }
}

/// Waits for one socket, by a poll of its own.
struct Waiter {
    poll: Poll,
    events: Events,
}

impl Waiter {
    fn new(stream: &mut mio::net::TcpStream) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(stream, Token(0), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { poll, events: Events::with_capacity(4) })
    }

    /// Whether the socket became ready before `deadline`.
    fn wait(&mut self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut self.events, Some(left)) {
                Ok(()) if !self.events.is_empty() => return Ok(true),
                Ok(()) if left.is_zero() => return Ok(false),
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn release(self, stream: &mut mio::net::TcpStream) -> io::Result<()> {
        self.poll.registry().deregister(stream)
    }
}
