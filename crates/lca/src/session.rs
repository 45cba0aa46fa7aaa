//! The connection to the SCS as the real-time thread holds it: greeting, heartbeats, votes, silence, loss. What the
//! messages mean is the agent's.

use crate::clock;
use crate::datagrams::{Datagrams, Pace};
use crate::dialer::{Dial, chain};
use crate::say::Say;
use control_link::messages::{
    self, FromAgent, Hello, LEASES_SINCE, OLDEST_PROTOCOL, PROTOCOL, ToAgent, Welcome,
};
use control_link::{Link, LinkError, MAX_SEALED_LEN, Received, Seal};
use domain::{HostName, Micros};
use lease::{Body, Message};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How long the SCS may take to answer the hello.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// Bounds of what the SCS may ask for.
const HEARTBEAT_MS: (u64, u64) = (5, 10_000);
const SILENCE_MS: (u64, u64) = (20, 60_000);
/// Datagrams read in one go.
const MOST: usize = 64;
/// A connection shorter than this was no use: the next one waits a little.
const SHORT: Duration = Duration::from_secs(1);

/// The connection, or its absence.
#[derive(Debug)]
pub struct Session {
    host: HostName,
    boot_id: String,
    dial: SyncSender<Dial>,
    tokens: (Token, Token),
    say: Say,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The dialer is at work.
    Away,
    /// The hello is sent.
    Greeting { link: Box<Link>, limit: Micros, since: Micros },
    /// Welcome.
    Up(Box<Up>),
}

#[derive(Debug)]
struct Up {
    link: Box<Link>,
    datagrams: Datagrams,
    socket: UdpSocket,
    since: Micros,
    /// Version of the messages that both ends understand.
    protocol: u32,
}

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It was in use and is lost.
    Lost(String),
}

impl Session {
    /// Without a connection; the dialer is put to work.
    #[must_use]
    pub fn new(
        host: &HostName,
        boot_id: &str,
        dial: SyncSender<Dial>,
        (link, heartbeats): (Token, Token),
        say: &Say,
    ) -> Self {
        let session = Self {
            host: host.clone(),
            boot_id: boot_id.to_owned(),
            dial,
            tokens: (link, heartbeats),
            say: say.clone(),
            state: State::Away,
        };
        session.order(Dial::AtOnce);
        session
    }

    /// Whether there is a connection and the SCS has said welcome.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Time between heartbeats, while there is a connection.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        match &self.state {
            State::Up(up) => Some(up.datagrams.pace().every),
            State::Away | State::Greeting { .. } => None,
        }
    }

    /// A connection was made: greets.
    pub fn linked(&mut self, mut link: Box<Link>, registry: &Registry, now: Micros) {
        let hello = FromAgent::Hello(Hello {
            protocol: PROTOCOL,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            boot_id: self.boot_id.clone(),
            at: now,
            wall: clock::wall(),
        });
        let registered =
            registry.register(link.source(), self.tokens.0, Interest::READABLE | Interest::WRITABLE);
        let greeted = registered.map_err(LinkError::from).and_then(|()| link.send(&hello));
        match greeted {
            Ok(()) => self.state = State::Greeting { link, limit: now + GREETING_LIMIT, since: now },
            Err(e) => {
                self.say.warning(format_args!("the SCS cannot be greeted: {}", chain(&e)));
                self.order(Dial::AfterPause);
            }
        }
    }

    /// The SCS takes us: heartbeats begin.
    ///
    /// # Errors
    /// A sentence; the connection is to be dropped.
    pub fn welcomed(&mut self, welcome: &Welcome, registry: &Registry, now: Micros) -> Result<(), String> {
        let State::Greeting { mut link, since, .. } = std::mem::replace(&mut self.state, State::Away) else {
            return Err("the SCS said welcome twice".to_owned());
        };
        let up = || -> Result<(Seal, UdpSocket), String> {
            if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&welcome.protocol) {
                return Err(format!(
                    "the SCS (release {}) speaks protocol {}",
                    welcome.release, welcome.protocol
                ));
            }
            let seal = link.seal(welcome.session).map_err(|e| chain(&e))?;
            // The same way as the connection, so that both fail together.
            let local = link.source().local_addr().map_err(|e| e.to_string())?;
            let mut socket = UdpSocket::bind(SocketAddr::new(local.ip(), 0)).map_err(|e| e.to_string())?;
            socket.connect(link.peer_address()).map_err(|e| e.to_string())?;
            registry.register(&mut socket, self.tokens.1, Interest::READABLE).map_err(|e| e.to_string())?;
            Ok((seal, socket))
        }();
        let (seal, socket) = match up {
            Ok(up) => up,
            Err(why) => {
                self.order(Dial::AfterPause);
                return Err(why);
            }
        };
        self.say.notice(format_args!(
            "connected to SCS {} at {}, release {}",
            link.peer().name,
            link.peer_address(),
            welcome.release
        ));
        let pace = pace(welcome.heartbeat_ms, welcome.silence_ms);
        self.state = State::Up(Box::new(Up {
            link,
            datagrams: Datagrams::new(seal, pace, now),
            socket,
            since,
            protocol: welcome.protocol,
        }));
        Ok(())
    }

    /// The SCS says how to keep in touch from now on.
    pub fn set_pace(&mut self, new: messages::Pace, now: Micros) {
        if let State::Up(up) = &mut self.state {
            up.datagrams.set_pace(pace(new.heartbeat_ms, new.silence_ms), now);
        }
    }

    /// Sends a message, if there is a connection. What an SCS of an older release does not know is left out: it would take
    /// it for malformed and hang up, and again when it is sent after the reconnect.
    pub fn send(&mut self, message: &FromAgent, now: Micros) -> Change {
        let State::Up(up) = &mut self.state else { return Change::None };
        if message.known_since() > up.protocol {
            return Change::None;
        }
        match up.link.send(message) {
            Ok(()) => Change::None,
            Err(e) => self.lose(&chain(&e), now),
        }
    }

    /// Something happened on the connection's socket: what the SCS says is appended to `out`. The flag: there is more.
    pub fn ready(&mut self, now: Micros, out: &mut Vec<ToAgent>) -> (Change, bool) {
        let link = match &mut self.state {
            State::Away => return (Change::None, false),
            State::Greeting { link, .. } => link,
            State::Up(up) => &mut up.link,
        };
        let before = out.len();
        let received = link.flush().and_then(|()| link.receive(out));
        if let State::Up(up) = &mut self.state
            && out.len() > before
        {
            up.datagrams.heard(now);
        }
        match received {
            Ok(received) => (Change::None, received == Received::More),
            Err(e) => (self.lose(&chain(&e), now), false),
        }
    }

    /// Sends lease messages at once, if the SCS understands them. What must not wait until a lost datagram is sent again
    /// goes on the connection, too.
    pub fn vote(&mut self, messages: &[Message], now: Micros) {
        let State::Up(up) = &mut self.state else { return };
        if up.protocol < LEASES_SINCE || messages.is_empty() {
            return;
        }
        up.send(messages, now);
        let messages: Vec<Message> = messages.iter().filter(|message| is_urgent(message)).copied().collect();
        if !messages.is_empty() {
            // A connection that is dead is found when it is read.
            let _ = up.link.send(&FromAgent::Lease { messages });
        }
    }

    /// Reads datagrams: lease messages are appended to `out`. True: there is more.
    pub fn hear(&mut self, now: Micros, out: &mut Vec<Message>) -> bool {
        let State::Up(up) = &mut self.state else { return false };
        // One byte more than the longest one has shows one that is too long.
        let mut datagram = [0; MAX_SEALED_LEN + 1];
        for _ in 0..MOST {
            match up.socket.recv(&mut datagram) {
                Ok(size) => drop(up.datagrams.hear(&mut datagram[..size], now, |message| out.push(message))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP answer to an earlier heartbeat: the SCS's port is closed now. Silence will tell.
                Err(_) => {}
            }
        }
        true
    }

    /// When [`Session::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Away => None,
            State::Greeting { limit, .. } => Some(*limit),
            State::Up(up) => Some(up.datagrams.next_deadline()),
        }
    }

    /// Sends the heartbeat that is due, or finds that the SCS has been silent for too long.
    pub fn time_passed(&mut self, now: Micros) -> Change {
        match &mut self.state {
            State::Away => Change::None,
            State::Greeting { limit, .. } if *limit <= now => {
                self.lose("the SCS does not answer the greeting", now)
            }
            State::Greeting { .. } => Change::None,
            State::Up(up) if up.datagrams.silent_at() <= now => {
                let silence = domain::format_duration(up.datagrams.pace().silence);
                self.lose(&format!("nothing was heard for {silence}"), now)
            }
            State::Up(up) if up.datagrams.next_beat() <= now => {
                up.send(&[], now);
                Change::None
            }
            State::Up(_) => Change::None,
        }
    }

    /// The agent itself was late: the SCS is not silent for that.
    pub fn grant(&mut self, time: Duration) {
        match &mut self.state {
            State::Away => {}
            State::Greeting { limit, .. } => *limit += time,
            State::Up(up) => up.datagrams.grant(time),
        }
    }

    /// Drops the connection, if there is one, and puts the dialer to work.
    pub fn lose(&mut self, why: &str, now: Micros) -> Change {
        let (since, was_up) = match std::mem::replace(&mut self.state, State::Away) {
            State::Away => return Change::None,
            State::Greeting { since, .. } => (since, false),
            State::Up(up) => {
                if up.datagrams.malformed() > 0 {
                    let count = up.datagrams.malformed();
                    self.say
                        .warning(format_args!("{count} lease messages of the SCS were none of this release"));
                }
                (up.since, true)
            }
        };
        self.say.warning(format_args!("the connection to the SCS is lost: {why}"));
        self.order(if was_up && now.since(since) > SHORT { Dial::AtOnce } else { Dial::AfterPause });
        if was_up { Change::Lost(why.to_owned()) } else { Change::None }
    }

    fn order(&self, dial: Dial) {
        // One order at a time is outstanding, and the queue has room for one; it is gone only when the agent ends.
        let _ = self.dial.try_send(dial);
    }
}

impl Up {
    fn send(&mut self, messages: &[Message], now: Micros) {
        let Self { datagrams, socket, .. } = self;
        // Lost is lost: the next one comes.
        datagrams.send(messages, now, |sealed| drop(socket.send(sealed)));
    }
}

/// What the SCS asks for, within reason.
fn pace(heartbeat_ms: u64, silence_ms: u64) -> Pace {
    let ms = |value: u64, (least, most): (u64, u64)| Duration::from_millis(value.clamp(least, most));
    Pace { every: ms(heartbeat_ms, HEARTBEAT_MS), silence: ms(silence_ms, SILENCE_MS) }
}

/// Whether a lease message is not to wait until a lost datagram is sent again: a release is said once, renewals come by
/// themselves.
pub(crate) fn is_urgent(message: &Message) -> bool {
    match message.body {
        Body::Release { .. } => true,
        Body::Ask { .. } | Body::Promise { .. } | Body::Reject { .. } => false,
    }
}
