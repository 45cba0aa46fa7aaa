//! The connections to the agents of the other hosts with which this one shares a pair, as the real-time thread holds
//! them: one for each host, whatever number of pairs. Greeting, heartbeats, votes, silence, loss; what the votes mean is
//! the agent's.
//!
//! ```text
//!            link from the meeting thread          hello, welcome               nothing heard
//!   Away ──────────────────────────────> Greeting ───────────────> Up, heard ──────────────────> Up, silent
//!    ^                                      │ no answer               │   ^   heard, and hears us    │
//!    └──────────────────────────────────────┴────── connection lost ──┘   └──────────────────────────┤
//!    └────────────────────────────────────────────── silent for too long ────────────────────────────┘
//! ```
//!
//! Of two agents the one on the host whose name sorts first dials: so there is one connection and no question which of
//! two to keep, also when both start at the same moment, and either end knows from the names alone which it is.
//!
//! Silence does not end a connection at once: datagrams that come through again are as good as before, and votes must
//! not wait for a handshake after each short interruption of the network.

use crate::datagrams::{Datagrams, Pace};
use crate::dialer::{Dial, chain};
use crate::meeting::{Meet, Places};
use crate::say::Say;
use crate::session::is_urgent;
use control_link::messages::{FromPeer, LEASES_SINCE, PROTOCOL};
use control_link::{Link, LinkError, MAX_SEALED_LEN, Received, Role, Seal};
use domain::{Cluster, Host, HostName, Micros, PeerReport, Profile, format_duration};
use lease::Message;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

/// How long the other end may take for its part of the greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than until it counts as silent a connection is kept. Long enough for the interruptions that a network
/// has when it finds a new way, and shorter than the time after which TCP gives up.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Datagrams read in one go.
const MOST: usize = 256;
/// A connection shorter than this was no use: the next one waits a little.
const SHORT: Duration = Duration::from_secs(1);
/// Told to the others, for people.
const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// Bounds of how often another agent may want to hear from us.
const EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(10));

/// The connections.
#[derive(Debug)]
pub struct Peers {
    host: HostName,
    meeting: SyncSender<Meet>,
    say: Say,
    /// Where the meeting thread was told to listen and whom to dial.
    places: Places,
    /// For the datagrams of all of them; none while its address cannot be had.
    socket: Option<UdpSocket>,
    /// The token of the socket; those of the connections are above it.
    first_token: Token,
    last_token: Token,
    peers: BTreeMap<HostName, Peer>,
    /// Kept to be used again.
    said: Vec<FromPeer>,
}

#[derive(Debug)]
struct Peer {
    /// Where its agent takes datagrams and, where it is dialed, connections.
    at: SocketAddr,
    /// What the pairs that are shared with it ask for.
    pace: Pace,
    /// Whether this end dials.
    dials: bool,
    /// None: the meeting thread is at work, or the other end is to dial.
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    link: Box<Link>,
    token: Token,
    since: Micros,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Connected, and not greeted yet.
    Greeting { limit: Micros },
    /// In use.
    Up(Box<Up>),
}

#[derive(Debug)]
struct Up {
    datagrams: Datagrams,
    /// How often the other end wants to hear from us.
    wanted: Duration,
    /// Whether its silence has not been too long.
    heard: bool,
}

/// Another agent is heard, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its host.
    pub host: HostName,
    /// None: it is heard. Else why not.
    pub lost: Option<String>,
}

impl Peers {
    /// Without any yet. All tokens from `first_token` on are theirs.
    #[must_use]
    pub fn new(host: &HostName, meeting: SyncSender<Meet>, first_token: Token, say: &Say) -> Self {
        Self {
            host: host.clone(),
            meeting,
            say: say.clone(),
            places: Places::default(),
            socket: None,
            first_token,
            last_token: first_token,
            peers: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Takes the configured hosts. Connections that are still wanted go on.
    pub fn configure(&mut self, cluster: &Cluster, now: Micros, out: &mut Vec<Change>) {
        let wanted = cluster.peers_of(&self.host);
        let gone: Vec<_> = self.peers.keys().filter(|host| !wanted.contains_key(*host)).cloned().collect();
        for host in gone {
            self.drop_connection(&host, "it shares no pair with this host any more", out);
            self.peers.remove(&host);
        }
        let at = |host: &HostName| cluster.hosts.get(host).map(Host::peers_reach_it_at);
        let mut places = Places::default();
        let mut to_dial = Vec::new();
        for (host, profile) in wanted {
            let Some(at) = at(&host) else { continue };
            let dials = self.host < host;
            let moved = self.peers.get(&host).is_none_or(|peer| peer.at != at);
            if moved {
                self.drop_connection(&host, "it is to be met elsewhere", out);
                let pace = pace_of(profile);
                self.peers.insert(host.clone(), Peer { at, pace, dials, connection: None });
            } else if let Some(peer) = self.peers.get_mut(&host) {
                peer.follow(pace_of(profile), now);
            }
            if dials {
                places.dial.insert(host.clone(), at);
                if moved {
                    to_dial.push(host);
                }
            } else {
                places.expect.insert(host);
            }
        }
        places.listen = at(&self.host).filter(|_| !self.peers.is_empty());
        if self.places != places {
            if self.places.listen != places.listen {
                self.socket = None;
            }
            self.places = places.clone();
            self.order(Meet::At(places));
        }
        for host in to_dial {
            self.order(Meet::Dial(host, Dial::AtOnce));
        }
    }

    /// A socket for the datagrams, at the address where this agent is to listen.
    pub fn take_socket(&mut self, mut socket: UdpSocket, registry: &Registry) {
        // One that was made before the address changed again is of no use.
        if socket.local_addr().ok() != self.places.listen {
            return;
        }
        match registry.register(&mut socket, self.first_token, Interest::READABLE) {
            Ok(()) => self.socket = Some(socket),
            Err(e) => self.say.error(format_args!("datagrams of other agents cannot be read: {e}")),
        }
    }

    /// A connection was made, by either end; the handshake has shown who is there. What it says is for
    /// [`Peers::ready`] with the token that is returned: it may be there already, which the poll does not announce.
    pub fn linked(
        &mut self,
        mut link: Box<Link>,
        registry: &Registry,
        now: Micros,
        out: &mut Vec<Change>,
    ) -> Option<Token> {
        let host = self.peer_of(&link)?;
        // The same agent again, before its old connection was seen to be dead: the new one counts.
        self.drop_connection(&host, "it has connected anew", out);
        let peer = self.peers.get_mut(&host)?;
        self.last_token.0 += 1;
        let token = self.last_token;
        let hello = FromPeer::Hello { protocol: PROTOCOL, release: RELEASE.to_owned() };
        let greeted = registry
            .register(link.source(), token, Interest::READABLE | Interest::WRITABLE)
            .map_err(LinkError::from)
            .and_then(|()| if peer.dials { link.send(&hello) } else { Ok(()) });
        let phase = Phase::Greeting { limit: now + GREETING_LIMIT };
        peer.connection = Some(Connection { link, token, since: now, phase });
        match greeted {
            Ok(()) => Some(token),
            Err(e) => {
                self.lose(&host, &chain(&e), now, out);
                None
            }
        }
    }

    /// Sends lease messages to the agent of a host, if it is connected: at once, and what must not wait until a lost
    /// datagram is sent again on the connection as well.
    pub fn send(&mut self, host: &HostName, messages: &[Message], now: Micros) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        let at = peer.at;
        let Some((link, up)) = peer.up() else { return };
        if messages.is_empty() {
            return;
        }
        up.send(self.socket.as_ref(), at, messages, now);
        let urgent: Vec<Message> = messages.iter().filter(|message| is_urgent(message)).copied().collect();
        if !urgent.is_empty() {
            // A connection that is dead is found when it is read.
            let _ = link.send(&FromPeer::Lease { messages: urgent });
        }
    }

    /// Something can be read (or written) at what has this token; lease messages are appended to `votes`. True: there is
    /// more.
    pub fn ready(
        &mut self,
        token: Token,
        now: Micros,
        votes: &mut Vec<(HostName, Message)>,
        out: &mut Vec<Change>,
    ) -> bool {
        if token == self.first_token {
            return self.hear(now, votes, out);
        }
        let has_it = |peer: &Peer| peer.connection.as_ref().is_some_and(|has| has.token == token);
        let Some((host, peer)) = self.peers.iter_mut().find(|(_, peer)| has_it(peer)) else { return false };
        let Some(Connection { link, .. }) = &mut peer.connection else { return false };
        let host = host.clone();
        let mut said = std::mem::take(&mut self.said);
        let received = link.flush().and_then(|()| link.receive(&mut said));
        let heard = said.drain(..).try_for_each(|message| self.said(&host, message, now, votes, out));
        self.said = said;
        match (heard, received) {
            (Ok(()), Ok(received)) => return received == Received::More,
            (Ok(()), Err(e)) => self.lose(&host, &chain(&e), now, out),
            (Err(why), _) => {
                self.goodbye(&host, &why);
                self.lose(&host, &why, now, out);
            }
        }
        false
    }

    /// When [`Peers::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let connections = self.peers.values().filter_map(|peer| peer.connection.as_ref());
        connections.map(|connection| connection.phase.next_deadline()).min()
    }

    /// Sends the heartbeats that are due, and finds who has been silent for too long.
    pub fn time_passed(&mut self, now: Micros, out: &mut Vec<Change>) {
        let mut lost = Vec::new();
        for (host, peer) in &mut self.peers {
            match peer.connection.as_mut().map(|connection| &mut connection.phase) {
                None => {}
                Some(Phase::Greeting { limit }) if *limit <= now => {
                    lost.push((host.clone(), "it does not greet"));
                }
                Some(Phase::Greeting { .. }) => {}
                Some(Phase::Up(up)) if up.given_up_at() <= now => {
                    lost.push((host.clone(), "it stays silent"))
                }
                Some(Phase::Up(up)) => {
                    if up.heard && up.datagrams.silent_at() <= now {
                        up.heard = false;
                        let silence = format_duration(up.datagrams.pace().silence);
                        let why = format!("nothing was heard for {silence}");
                        self.say.warning(format_args!("the agent of {host} is silent: {why}"));
                        out.push(Change { host: host.clone(), lost: Some(why) });
                    }
                    if up.datagrams.next_beat() <= now {
                        up.send(self.socket.as_ref(), peer.at, &[], now);
                    }
                }
            }
        }
        for (host, why) in lost {
            self.lose(&host, why, now, out);
        }
    }

    /// The agent itself was late: the others are not silent for that.
    pub fn grant(&mut self, time: Duration) {
        let connections = self.peers.values_mut().filter_map(|peer| peer.connection.as_mut());
        for connection in connections {
            match &mut connection.phase {
                Phase::Greeting { limit } => *limit += time,
                Phase::Up(up) => up.datagrams.grant(time),
            }
        }
    }

    /// Who is heard and who is not, for the SCS.
    #[must_use]
    pub fn reports(&self) -> Vec<PeerReport> {
        let peers = self.peers.iter();
        peers.map(|(host, peer)| PeerReport { host: host.clone(), heard: peer.is_heard() }).collect()
    }

    /// Reads datagrams. True: there is more.
    fn hear(&mut self, now: Micros, votes: &mut Vec<(HostName, Message)>, out: &mut Vec<Change>) -> bool {
        let Some(socket) = &self.socket else { return false };
        // One byte more than the longest one has shows one that is too long.
        let mut buffer = [0; MAX_SEALED_LEN + 1];
        for _ in 0..MOST {
            let size = match socket.recv(&mut buffer) {
                Ok(size) => size,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP answer to an earlier datagram: the other's port is closed now. Silence will tell.
                Err(_) => continue,
            };
            let datagram = &mut buffer[..size];
            let Some(session) = Seal::session_of(datagram) else { continue };
            for (host, peer) in &mut self.peers {
                let Some((_, up)) = peer.up().filter(|(_, up)| up.datagrams.session() == session) else {
                    continue;
                };
                // One of an end that does not hear us is good, and ends no silence.
                if up.datagrams.hear(datagram, now, |message| votes.push((host.clone(), message)))
                    && !up.heard
                    && now < up.datagrams.silent_at()
                {
                    up.heard = true;
                    self.say.notice(format_args!("the agent of {host} is heard again"));
                    out.push(Change { host: host.clone(), lost: None });
                }
                break;
            }
        }
        true
    }

    /// One message on a connection. The error is why it is closed.
    fn said(
        &mut self,
        host: &HostName,
        message: FromPeer,
        now: Micros,
        votes: &mut Vec<(HostName, Message)>,
        out: &mut Vec<Change>,
    ) -> Result<(), String> {
        message.validate()?;
        let Some(peer) = self.peers.get_mut(host) else { return Ok(()) };
        let dials = peer.dials;
        match (message, peer.up()) {
            (FromPeer::Hello { protocol, release }, None) if !dials => {
                let protocol = agreed(protocol)?;
                // The keys come out of the connection; sessions are only to be told apart.
                let session = RandomState::new().hash_one(now);
                let welcome = FromPeer::Welcome { protocol, release: RELEASE.to_owned(), session };
                peer.begin(session, Some(&welcome), now)?;
                self.met(host, &release, out);
            }
            (FromPeer::Welcome { protocol, release, session }, None) if dials => {
                agreed(protocol)?;
                peer.begin(session, None, now)?;
                self.met(host, &release, out);
            }
            (FromPeer::Pace { every_us }, Some((_, up))) => {
                up.wanted = Duration::from_micros(every_us).clamp(EVERY.0, EVERY.1);
                peer.keep_pace(now);
            }
            (FromPeer::Lease { messages }, Some((_, up))) => {
                up.datagrams.heard(now);
                votes.extend(messages.into_iter().map(|message| (host.clone(), message)));
            }
            (FromPeer::Goodbye { why }, _) => return Err(format!("it says goodbye: {why}")),
            (FromPeer::Hello { .. } | FromPeer::Welcome { .. }, _) => {
                return Err("it greets twice, or as if it were the other end".to_owned());
            }
            (FromPeer::Pace { .. } | FromPeer::Lease { .. }, None) => {
                return Err("its first message was no greeting".to_owned());
            }
        }
        Ok(())
    }

    fn met(&self, host: &HostName, release: &str, out: &mut Vec<Change>) {
        self.say.notice(format_args!("connected to the agent of {host}, release {release}"));
        out.push(Change { host: host.clone(), lost: None });
    }

    /// Tells the other end why its connection is closed; if that does not arrive, the end of the connection does.
    fn goodbye(&mut self, host: &HostName, why: &str) {
        if let Some(connection) = self.peers.get_mut(host).and_then(|peer| peer.connection.as_mut()) {
            let _ = connection.link.send(&FromPeer::Goodbye { why: why.to_owned() });
        }
    }

    /// Drops a connection, and has it made anew where that is for this end to do.
    fn lose(&mut self, host: &HostName, why: &str, now: Micros, out: &mut Vec<Change>) {
        let Some(since) = self.drop_connection(host, why, out) else { return };
        if self.peers.get(host).is_some_and(|peer| peer.dials) {
            let how = if now.since(since) > SHORT { Dial::AtOnce } else { Dial::AfterPause };
            self.order(Meet::Dial(host.clone(), how));
        }
    }

    /// Drops a connection; since when it was there, if there was one.
    fn drop_connection(&mut self, host: &HostName, why: &str, out: &mut Vec<Change>) -> Option<Micros> {
        let Connection { since, phase, .. } = self.peers.get_mut(host)?.connection.take()?;
        self.say.warning(format_args!("the connection to the agent of {host} is lost: {why}"));
        match phase {
            Phase::Greeting { .. } => {}
            Phase::Up(up) => {
                let Up { datagrams, heard, .. } = *up;
                if datagrams.malformed() > 0 {
                    let count = datagrams.malformed();
                    let of = format_args!("of the agent of {host} were none of this release");
                    self.say.warning(format_args!("{count} lease messages {of}"));
                }
                if heard {
                    out.push(Change { host: host.clone(), lost: Some(why.to_owned()) });
                }
            }
        }
        Some(since)
    }

    /// Whose connection it is; none where it is of nobody who is expected (any more).
    fn peer_of(&self, link: &Link) -> Option<HostName> {
        let name = link.peer();
        self.peers.keys().find(|host| name.role == Role::Agent && host.as_str() == name.name).cloned()
    }

    fn order(&self, what: Meet) {
        // Gone only when the agent ends; and it has room for more orders than a host has peers.
        if let Err(TrySendError::Full(_)) = self.meeting.try_send(what) {
            self.say.error(format_args!("the thread that meets other agents has too much to do"));
        }
    }
}

impl Peer {
    /// Its connection, if that is in use.
    fn up(&mut self) -> Option<(&mut Link, &mut Up)> {
        let connection = self.connection.as_mut()?;
        match &mut connection.phase {
            Phase::Greeting { .. } => None,
            Phase::Up(up) => Some((&mut connection.link, up)),
        }
    }

    fn is_heard(&self) -> bool {
        match self.connection.as_ref().map(|connection| &connection.phase) {
            None | Some(Phase::Greeting { .. }) => false,
            Some(Phase::Up(up)) => up.heard,
        }
    }

    /// The greeting is complete, but for the `answer`: heartbeats begin.
    fn begin(&mut self, session: u64, answer: Option<&FromPeer>, now: Micros) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let link = &mut connection.link;
        let seal = link.seal(session).map_err(|e| chain(&e))?;
        for message in answer.into_iter().chain([&pace_message(self.pace)]) {
            link.send(message).map_err(|e| chain(&e))?;
        }
        let datagrams = Datagrams::new(seal, self.pace, now);
        let up = Up { datagrams, wanted: self.pace.every, heard: true };
        connection.phase = Phase::Up(Box::new(up));
        Ok(())
    }

    /// Follows what the pairs ask for from now on, and tells the other end.
    fn follow(&mut self, pace: Pace, now: Micros) {
        if self.pace == pace {
            return;
        }
        self.pace = pace;
        if let Some((link, _)) = self.up() {
            // A connection that is dead is found when it is read.
            let _ = link.send(&pace_message(pace));
        }
        self.keep_pace(now);
    }

    /// Sends as often as either end wants; only what this end wants counts as too long a silence.
    fn keep_pace(&mut self, now: Micros) {
        let Pace { every, silence } = self.pace;
        if let Some((_, up)) = self.up() {
            up.datagrams.set_pace(Pace { every: every.min(up.wanted), silence }, now);
        }
    }
}

impl Phase {
    fn next_deadline(&self) -> Micros {
        match self {
            Phase::Greeting { limit } => *limit,
            Phase::Up(up) if up.heard => up.datagrams.next_deadline(),
            Phase::Up(up) => up.datagrams.next_beat().min(up.given_up_at()),
        }
    }
}

impl Up {
    fn send(&mut self, socket: Option<&UdpSocket>, to: SocketAddr, messages: &[Message], now: Micros) {
        // Lost is lost: the next one comes.
        self.datagrams.send(messages, now, |sealed| {
            if let Some(socket) = socket {
                let _ = socket.send_to(sealed, to);
            }
        });
    }

    fn given_up_at(&self) -> Micros {
        self.datagrams.silent_at() + GIVE_UP
    }
}

fn pace_of(profile: Profile) -> Pace {
    Pace { every: profile.heartbeat(), silence: profile.silence() }
}

fn pace_message(pace: Pace) -> FromPeer {
    FromPeer::Pace { every_us: u64::try_from(pace.every.as_micros()).unwrap_or(u64::MAX) }
}

/// The protocol version of a connection with an agent whose newest is `protocol`.
fn agreed(protocol: u32) -> Result<u32, String> {
    if protocol < LEASES_SINCE {
        return Err(format!(
            "its newest protocol version is {protocol}, agents speak {LEASES_SINCE} and above to each other; upgrade it"
        ));
    }
    Ok(protocol.min(PROTOCOL))
}
