//! One connection of an agent: its link, its heartbeats, its clock beside ours, and which reports it still has to be
//! told are safe.

use control_link::messages::{Heartbeat, Hello};
use control_link::{Link, Seal};
use domain::{HostName, Micros};
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

/// An agent whose hello was accepted.
#[derive(Debug)]
pub(crate) struct Agent {
    pub host: HostName,
    /// What the agent had sent before this, its clock: older facts are not news, the inventory has them.
    pub hello_at: Micros,
    pub seal: Seal,
    /// Where its datagrams come from, once one has come, and on which of our sockets.
    pub datagrams_from: Option<(usize, SocketAddr)>,
    pub last_heard: Micros,
    pub silence: Duration,
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
}

impl Agent {
    pub(crate) fn new(hello: &Hello, seal: Seal, silence: Duration, now: Micros) -> Self {
        Self {
            host: hello.host.clone(),
            hello_at: hello.at,
            seal,
            datagrams_from: None,
            last_heard: now,
            silence,
            offset: now.0.wrapping_sub(hello.at.0),
            newest_offset: now.0.wrapping_sub(hello.at.0),
            minute_ends: now + MINUTE,
            taken: 0,
            acknowledged: 0,
            heard_inventory: false,
        }
    }

    /// A heartbeat arrived: the answer to it.
    pub(crate) fn heard(&mut self, heartbeat: &Heartbeat, now: Micros) -> Heartbeat {
        self.last_heard = now;
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
        Heartbeat { at: now, heard: heartbeat.at, held_us: 0, stall_us: 0 }
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
