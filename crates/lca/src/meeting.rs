//! The thread that meets the agents of other hosts: it listens for those that dial this one, and has a thread for each
//! that is dialed. The connections that come of it are handed to the real-time thread.

use crate::dialer::{Credentials, Dial, Dialer, Once};
use crate::mailbox::Mailbox;
use crate::messages::News;
use crate::say::Say;
use control_link::{Acceptor, Expected, Identity, Limits, PeerName, Role};
use domain::HostName;
use mio::net::UdpSocket;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Orders that may wait: one for each host that is dialed, and for each change of the configuration.
pub const ORDERS: usize = 1_024;
/// Handshakes of those that dial: a few for each host that may, since strangers can take theirs only.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), pending: 64, per_address: 16 };
/// How often what could not be done is tried again: the address may come with the network, the port become free.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether the certificate was replaced.
const LOOK: Duration = Duration::from_secs(60);
/// How often a refusal is told.
const TELL: Duration = Duration::from_secs(1);
/// Stack of a thread that dials, bytes.
const STACK: usize = 256 * 1024;

/// Where to meet whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Where to listen; none: there is nobody to meet.
    pub listen: Option<SocketAddr>,
    /// Who may dial.
    pub expect: BTreeSet<HostName>,
    /// Who is dialed, and where.
    pub dial: BTreeMap<HostName, SocketAddr>,
}

/// Order to the thread.
#[derive(Debug)]
pub enum Meet {
    /// These places, in place of those before. Connections that there are stay.
    At(Places),
    /// Dial the agent of this host until it answers.
    Dial(HostName, Dial),
}

/// What the thread works with.
#[derive(Debug)]
pub struct Meeting {
    /// The certificate in use.
    identity: Identity,
    credentials: Credentials,
    mailbox: Mailbox,
    say: Say,
    places: Places,
    /// Listens for those who dial.
    acceptor: Option<Acceptor>,
    /// Whether the socket for datagrams was handed over.
    has_socket: bool,
    dialers: BTreeMap<HostName, SyncSender<Dial>>,
    /// Dials for which there was no thread to be had.
    undone: BTreeMap<HostName, Dial>,
    told: Once,
}

impl Meeting {
    /// Nobody is met yet.
    #[must_use]
    pub fn new(identity: Identity, credentials: Credentials, mailbox: Mailbox, say: Say) -> Self {
        Self {
            identity,
            credentials,
            mailbox,
            say,
            places: Places::default(),
            acceptor: None,
            has_socket: false,
            dialers: BTreeMap::new(),
            undone: BTreeMap::new(),
            told: Once::default(),
        }
    }

    /// Meets whoever it is ordered to, until the orders end.
    pub fn run(mut self, orders: &Receiver<Meet>) {
        loop {
            let wait = if self.is_done() { LOOK } else { TRY_AGAIN };
            match orders.recv_timeout(wait) {
                Ok(Meet::At(places)) => self.move_to(places),
                Ok(Meet::Dial(host, how)) => {
                    self.undone.insert(host, how);
                }
                Err(RecvTimeoutError::Timeout) => self.look_at_certificate(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            match self.listen() {
                Ok(()) => self.told.good_news(),
                Err(why) => self.told.say(&self.say, why),
            }
            for (host, how) in std::mem::take(&mut self.undone) {
                self.dial(host, how);
            }
        }
    }

    fn is_done(&self) -> bool {
        let listens = self.acceptor.is_some() || self.places.expect.is_empty();
        self.undone.is_empty() && (self.places.listen.is_none() || (self.has_socket && listens))
    }

    fn move_to(&mut self, places: Places) {
        let stays = places.listen == self.places.listen;
        self.has_socket &= stays;
        if !stays || places.expect != self.places.expect {
            self.acceptor = None;
        }
        // A thread whose orders end goes away.
        self.dialers.retain(|host, _| places.dial.get(host) == self.places.dial.get(host));
        self.undone.retain(|host, _| places.dial.contains_key(host));
        self.places = places;
    }

    /// Opens what is not open yet. The error is a sentence.
    fn listen(&mut self) -> Result<(), String> {
        let Some(address) = self.places.listen else { return Ok(()) };
        let cannot = |e: io::Error| {
            format!("other agents cannot be met at {address}: {e}; is it an address of this host, and free?")
        };
        if !self.has_socket {
            let socket = UdpSocket::bind(address).map_err(cannot)?;
            self.mailbox.send(News::PeerSocket(socket));
            self.has_socket = true;
        }
        if self.acceptor.is_none() && !self.places.expect.is_empty() {
            let listener = TcpListener::bind(address).map_err(cannot)?;
            self.acceptor = Some(self.accept(listener).map_err(cannot)?);
        }
        Ok(())
    }

    fn accept(&self, listener: TcpListener) -> io::Result<Acceptor> {
        let expect = self.places.expect.clone();
        let (mailbox, say) = (self.mailbox.clone(), self.say.clone());
        let mut seldom = Seldom::default();
        Acceptor::start(
            vec![listener],
            &self.identity,
            LIMITS,
            move |peer| may_dial(&expect, peer),
            move |link| mailbox.send(News::PeerLinked(Box::new(link))),
            move |address, why| {
                if let Some(untold) = seldom.now(Instant::now()) {
                    let more = if untold > 0 { format!(" (and {untold} before)") } else { String::new() };
                    say.warning(format_args!("refused as another agent: {address}: {why}{more}"));
                }
            },
        )
    }

    /// Certificates are replaced while the agent runs: those who dial are shown the new one. (Who is dialed is shown it at
    /// the next attempt.)
    fn look_at_certificate(&mut self) {
        // One that cannot be read is no reason to give up the one in use; those who dial with it say so.
        let Ok(identity) = self.credentials.load() else { return };
        let validity = |identity: &Identity| (identity.not_before(), identity.not_after());
        if validity(&identity) != validity(&self.identity) {
            self.identity = identity;
            self.acceptor = None;
        }
    }

    fn dial(&mut self, host: HostName, how: Dial) {
        // One that is not dialed any more since.
        let Some(address) = self.places.dial.get(&host) else { return };
        let dialer = match self.dialers.remove(&host) {
            Some(dialer) => dialer,
            None => match self.spawn(&host, *address) {
                Ok(dialer) => dialer,
                Err(e) => {
                    self.told.say(&self.say, format!("no thread to dial the agent of {host}: {e}"));
                    self.undone.insert(host, how);
                    return;
                }
            },
        };
        // One order is enough, the thread dials until somebody answers.
        let _ = dialer.try_send(how);
        self.dialers.insert(host, dialer);
    }

    fn spawn(&self, host: &HostName, address: SocketAddr) -> io::Result<SyncSender<Dial>> {
        let (dialer, orders) = sync_channel(1);
        let this = Dialer {
            addresses: vec![address],
            expected: Expected { role: Role::Agent, name: Some(host.to_string()) },
            whom: format!("the agent of {host}"),
            credentials: self.credentials.clone(),
        };
        let (mailbox, say) = (self.mailbox.clone(), self.say.clone());
        let identity = self.identity.clone();
        thread::Builder::new().name("dialer".to_owned()).stack_size(STACK).spawn(move || {
            this.run(identity, &orders, |link| mailbox.send(News::PeerLinked(Box::new(link))), &say);
        })?;
        Ok(dialer)
    }
}

/// Whether somebody whose certificate is good may dial this agent.
fn may_dial(expect: &BTreeSet<HostName>, peer: &PeerName) -> Result<(), String> {
    match peer.role {
        Role::Agent if expect.iter().any(|host| host.as_str() == peer.name) => Ok(()),
        Role::Agent => {
            Err(format!("host {} shares no pair with this one, or is itself to be dialed", peer.name))
        }
        Role::Scs | Role::Operator => {
            Err(format!("this port is for other agents, its certificate is for {}", peer.role))
        }
    }
}

/// Tells at most once in a while, and counts what is not told.
#[derive(Debug, Default)]
struct Seldom {
    next: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// Whether to tell now, and how many were not told before.
    fn now(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.next = Some(now + TELL);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_are_to_dial_may() {
        let expect = BTreeSet::from(["host1".parse().unwrap()]);
        let peer = |role, name| PeerName::new(role, name).unwrap();
        assert_eq!(may_dial(&expect, &peer(Role::Agent, "host1")), Ok(()));
        for (role, name, word) in [
            (Role::Agent, "host3", "host3"),
            (Role::Scs, "host1", "for scs"),
            (Role::Operator, "host1", "for operator"),
        ] {
            let why = may_dial(&expect, &peer(role, name)).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_flood_of_refusals_is_told_once_a_second() {
        let (mut seldom, begin) = (Seldom::default(), Instant::now());
        let told = (0..1_000).filter(|n| seldom.now(begin + Duration::from_micros(*n)).is_some()).count();
        assert_eq!(told, 1);
        assert_eq!(seldom.now(begin + TELL), Some(999));
    }
}
