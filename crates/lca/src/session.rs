//! The connection to the SCS as the real-time thread holds it: greeting, heartbeats, silence, loss. What the messages
//! mean is the agent's.

use crate::clock;
use crate::dialer::{Dial, chain};
use crate::say::Say;
use control_link::messages::{FromAgent, Heartbeat, Hello, OLDEST_PROTOCOL, PROTOCOL, ToAgent, Welcome};
use control_link::{Link, LinkError, Received, SEALED_LEN, Seal};
use domain::{HostName, Micros};
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
/// Heartbeats read in one go.
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
    seal: Seal,
    heartbeats: UdpSocket,
    every: Duration,
    silence: Duration,
    since: Micros,
    next_beat: Micros,
    /// When anything was heard last, our clock.
    heard_at: Micros,
    /// The newest time stamp in a heartbeat of the SCS, its clock, and when it arrived, ours.
    newest: Option<(Micros, Micros)>,
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
            State::Up(up) => Some(up.every),
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
        let (seal, heartbeats) = match up {
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
        let ms = |value: u64, (least, most): (u64, u64)| Duration::from_millis(value.clamp(least, most));
        self.state = State::Up(Box::new(Up {
            link,
            seal,
            heartbeats,
            every: ms(welcome.heartbeat_ms, HEARTBEAT_MS),
            silence: ms(welcome.silence_ms, SILENCE_MS),
            since,
            next_beat: now,
            heard_at: now,
            newest: None,
        }));
        Ok(())
    }

    /// Sends a message, if there is a connection.
    pub fn send(&mut self, message: &FromAgent, now: Micros) -> Change {
        let State::Up(up) = &mut self.state else { return Change::None };
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
            up.heard_at = now;
        }
        match received {
            Ok(received) => (Change::None, received == Received::More),
            Err(e) => (self.lose(&chain(&e), now), false),
        }
    }

    /// Reads heartbeats. True: there is more.
    pub fn hear(&mut self, now: Micros) -> bool {
        let State::Up(up) = &mut self.state else { return false };
        let mut datagram = [0; SEALED_LEN * 2];
        for _ in 0..MOST {
            match up.heartbeats.recv(&mut datagram) {
                Ok(size) => {
                    if let Some(heartbeat) = datagram.get(..size).and_then(|sealed| up.seal.open(sealed).ok())
                    {
                        up.heard_at = now;
                        if up.newest.is_none_or(|(newest, _)| newest < heartbeat.at) {
                            up.newest = Some((heartbeat.at, now));
                        }
                    }
                }
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
            State::Up(up) => Some(up.next_beat.min(up.heard_at + up.silence)),
        }
    }

    /// Sends the heartbeat that is due; `stall` is the agent's greatest lateness since the last one. True: it was sent.
    pub fn time_passed(&mut self, now: Micros, stall: Duration) -> (Change, bool) {
        match &mut self.state {
            State::Away => (Change::None, false),
            State::Greeting { limit, .. } if *limit <= now => {
                (self.lose("the SCS does not answer the greeting", now), false)
            }
            State::Greeting { .. } => (Change::None, false),
            State::Up(up) if up.heard_at + up.silence <= now => {
                let silence = domain::format_duration(up.silence);
                (self.lose(&format!("nothing was heard for {silence}"), now), false)
            }
            State::Up(up) if up.next_beat <= now => {
                up.beat(now, stall);
                (Change::None, true)
            }
            State::Up(_) => (Change::None, false),
        }
    }

    /// The agent itself was late: the SCS is not silent for that.
    pub fn grant(&mut self, time: Duration) {
        match &mut self.state {
            State::Away => {}
            State::Greeting { limit, .. } => *limit += time,
            State::Up(up) => up.heard_at += time,
        }
    }

    /// Drops the connection, if there is one, and puts the dialer to work.
    pub fn lose(&mut self, why: &str, now: Micros) -> Change {
        let (since, was_up) = match std::mem::replace(&mut self.state, State::Away) {
            State::Away => return Change::None,
            State::Greeting { since, .. } => (since, false),
            State::Up(up) => (up.since, true),
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
    fn beat(&mut self, now: Micros, stall: Duration) {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let (heard, held_us) = self.newest.map_or((Micros(0), 0), |(at, when)| (at, us(now.since(when))));
        let sealed = self.seal.seal(&Heartbeat { at: now, heard, held_us, stall_us: us(stall) });
        // Lost is lost: the next one comes.
        let _ = self.heartbeats.send(&sealed);
        // On the beat where it was kept; after a pause not several at once.
        self.next_beat = (self.next_beat + self.every).max(now + self.every / 2);
    }
}
