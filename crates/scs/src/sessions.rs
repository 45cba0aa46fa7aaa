//! One connection of an agent: its link, its datagrams with heartbeats and votes, its clock beside ours, and which
//! reports it still has to be told are safe.

use control_link::messages::{Heartbeat, Hello, LEASES_SINCE, PAGES_SINCE};
use control_link::{Link, Seal};
use domain::{HostName, Micros, Profile};
use lease::{Body, Message};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a new connection may take to say hello.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// How long a measured clock difference counts at least.
const MINUTE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub link: Link,
    pub begun: Micros,
    /// None until the hello was accepted.
    pub agent: Option<Agent>,
}

impl Session {
    /// When its silence means something next, if nothing is heard until then.
    pub(crate) fn look_at(&self, now: Micros) -> Micros {
        let greeted_by = self.begun + HELLO_LIMIT;
        match &self.agent {
            None => greeted_by,
            Some(agent) => {
                let silence =
                    if now < agent.suspicious_at() { agent.suspicious_at() } else { agent.silent_at() };
                if agent.heard_inventory { silence } else { silence.min(greeted_by) }
            }
        }
    }
}

/// An agent whose hello was accepted.
#[derive(Debug)]
pub(crate) struct Agent {
    pub host: HostName,
    /// What the agent had sent before this, its clock: older facts are not news, the inventory has them.
    pub hello_at: Micros,
    seal: Seal,
    /// Whether it understands lease messages.
    votes: bool,
    /// Whether it passes applications' pages on.
    pub knows_pages: bool,
    /// The newest heartbeat, its clock, and when it arrived, ours.
    newest: Option<(Micros, Micros)>,
    /// Whether an answer to a heartbeat is due.
    answer_due: bool,
    /// Lease messages that go out in this round.
    outgoing: Vec<Message>,
    /// Lease messages of this agent that were none.
    pub malformed: u64,
    /// Where its datagrams come from, once one has come, and on which of our sockets.
    datagrams_from: Option<(usize, SocketAddr)>,
    pub last_heard: Micros,
    pub silence: Duration,
    /// Time between heartbeats.
    every: Duration,
    /// What to add to the agent's clock to get ours, microseconds: the smallest difference seen in this minute or the
    /// one before, so that it includes the shortest way of a datagram and follows two clocks that drift apart.
    offset: u64,
    /// The smallest difference of this minute.
    newest_offset: u64,
    minute_ends: Micros,
    /// The greatest report taken, and whether the agent has been told.
    pub taken: u64,
    pub acknowledged: u64,
    /// Interfaces were reported in the inventory.
    pub heard_inventory: bool,
    /// How often it was assigned a configuration after its welcome.
    pub assigned: u64,
}

impl Agent {
    pub(crate) fn new(hello: &Hello, seal: Seal, profile: Profile, now: Micros) -> Self {
        let (every, silence) = (profile.heartbeat(), profile.silence());
        Self {
            host: hello.host.clone(),
            hello_at: hello.at,
            seal,
            votes: hello.protocol >= LEASES_SINCE,
            knows_pages: hello.protocol >= PAGES_SINCE,
            newest: None,
            answer_due: false,
            outgoing: Vec::new(),
            malformed: 0,
            datagrams_from: None,
            last_heard: now,
            silence,
            every,
            offset: now.0.wrapping_sub(hello.at.0),
            newest_offset: now.0.wrapping_sub(hello.at.0),
            minute_ends: now + MINUTE,
            taken: 0,
            acknowledged: 0,
            heard_inventory: false,
            assigned: 0,
        }
    }

    /// Keeps another pace from now on. It may still be at the old one: the first heartbeat at the new one is waited for as
    /// long as both take.
    pub(crate) fn set_profile(&mut self, profile: Profile, now: Micros) {
        let every = self.every;
        (self.every, self.silence) = (profile.heartbeat(), profile.silence());
        if self.every < every {
            self.last_heard = now + every;
        }
    }

    /// The session that its datagrams belong to.
    pub(crate) fn session(&self) -> u64 {
        self.seal.session()
    }

    /// Opens a datagram: notes the heartbeat, which [`Agent::send`] answers, and hands the lease messages to `vote`.
    /// False: it is not this agent's.
    pub(crate) fn hear(
        &mut self,
        datagram: &mut [u8],
        from: (usize, SocketAddr),
        now: Micros,
        mut vote: impl FnMut(Message),
    ) -> bool {
        let Ok(opened) = self.seal.open(datagram) else { return false };
        let heartbeat = opened.heartbeat;
        let both_ways = heartbeat.both_ways(self.every, now);
        for message in opened.messages() {
            match message {
                // Whoever does not hear us cannot hold by our promise, and would keep it from who can.
                Ok(Message { body: Body::Ask { .. }, .. }) if both_ways < now => {}
                Ok(message) => vote(message),
                Err(_) => self.malformed = self.malformed.saturating_add(1),
            }
        }
        self.datagrams_from = Some(from);
        self.heard(&heartbeat, now);
        true
    }

    /// Has a lease message go out with the next [`Agent::send`]. Lost is lost: one for an agent of which no datagram has
    /// told yet where it is, or whose release does not vote, goes nowhere.
    pub(crate) fn vote(&mut self, message: Message) {
        if self.votes && self.datagrams_from.is_some() {
            self.outgoing.push(message);
        }
    }

    /// Sends what is due: the answer to the newest heartbeat, and all votes, in as few datagrams as hold them.
    pub(crate) fn send(&mut self, now: Micros, mut datagram: impl FnMut(usize, SocketAddr, &[u8])) {
        let Some((socket, to)) = self.datagrams_from else { return };
        if !self.answer_due && self.outgoing.is_empty() {
            return;
        }
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let (heard, held_us) = self.newest.map_or((Micros(0), 0), |(at, when)| (at, us(now.since(when))));
        let heartbeat = Heartbeat { at: now, heard, held_us, stall_us: 0 };
        self.seal.seal_with(&heartbeat, &self.outgoing, |sealed| datagram(socket, to, sealed));
        self.outgoing.clear();
        self.answer_due = false;
    }

    /// A heartbeat arrived.
    fn heard(&mut self, heartbeat: &Heartbeat, now: Micros) {
        self.last_heard = self.last_heard.max(heartbeat.both_ways(self.every, now));
        self.answer_due = true;
        if self.newest.is_none_or(|(newest, _)| newest < heartbeat.at) {
            self.newest = Some((heartbeat.at, now));
        }
        let offset = now.0.wrapping_sub(heartbeat.at.0);
        // Compared as signed differences: the agent's clock has another origin than ours.
        let smaller =
            |one: u64, other: u64| if one.wrapping_sub(other).cast_signed() < 0 { one } else { other };
        if now >= self.minute_ends {
            self.offset = self.newest_offset;
            self.newest_offset = offset;
            self.minute_ends = now + MINUTE;
        }
        self.newest_offset = smaller(offset, self.newest_offset);
        self.offset = smaller(offset, self.offset);
    }

    /// A point on the agent's clock, on ours; never in the future.
    pub(crate) fn on_our_clock(&self, at: Micros, now: Micros) -> Micros {
        Micros(at.0.wrapping_add(self.offset)).min(now)
    }

    /// When silence becomes loss.
    pub(crate) fn silent_at(&self) -> Micros {
        self.last_heard + self.silence
    }

    /// When silence is long enough to have a look at the host.
    pub(crate) fn suspicious_at(&self) -> Micros {
        self.last_heard + self.silence / 2
    }
}
