//! What goes into [`super::Calls`]: its settings, messages, orders; and the words for where messages go.

use super::CallKey;
use crate::digest::User;
use crate::transaction::Timing;
use crate::{Message, SessionLimits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams; may be lost.
    Udp,
    /// A stream.
    Tcp,
    /// An encrypted stream.
    Tls,
}

impl Transport {
    /// Whether nothing needs to be sent again over it.
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        match self {
            Transport::Udp => false,
            Transport::Tcp | Transport::Tls => true,
        }
    }

    /// Its name in a Via.
    pub(crate) const fn in_via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }
}

/// Where we are reached: an address of a VIP and a transport. Both members of a pair list the same ones in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The transport.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

impl Interface {
    /// The value of our Contact.
    pub(crate) fn contact(&self) -> Contact<'_> {
        Contact(self)
    }
}

/// Writes an [`Interface`] as the value of a Contact.
pub(crate) struct Contact<'a>(&'a Interface);

impl fmt::Display for Contact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.address;
        match self.0.transport {
            Transport::Udp => write!(f, "<sip:{address}>"),
            Transport::Tcp => write!(f, "<sip:{address};transport=tcp>"),
            Transport::Tls => write!(f, "<sips:{address}>"),
        }
    }
}

/// The way between us and somebody else: which of our interfaces, and the other's address. Over a stream it is the
/// connection with that address; where there is none (any more), one has to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Index into [`CallSettings::interfaces`].
    pub interface: u8,
    /// The other's address.
    pub peer: SocketAddr,
}

/// Bounds of what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Most calls at once; further ones are refused with 503.
    pub calls: usize,
    /// Most targets of one call.
    pub targets: usize,
    /// Most early dialogs of one call: what forking behind our targets can make of it.
    pub dialogs: usize,
    /// Most transactions open in one call at once.
    pub transactions: usize,
    /// How long a call waits for [`Order::Route`].
    pub routing: Duration,
    /// Calls whose timers are looked at in one step; what is left is due in the next.
    pub due_per_step: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            calls: 50_000,
            targets: 32,
            dialogs: 32,
            transactions: 64,
            routing: Duration::from_secs(8),
            due_per_step: 256,
        }
    }
}

/// How a [`super::Calls`] is set up. The same on both members of a pair, but for the seed.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// Value of the Server and User-Agent header fields of what we say ourselves.
    pub server: String,
    /// Where we are reached.
    pub interfaces: Vec<Interface>,
    /// The times that transactions are made of.
    pub timing: Timing,
    /// What we want of session timers.
    pub session: SessionLimits,
    /// Bounds.
    pub limits: CallLimits,
    /// Who we are for targets that ask ([`Target::label`]).
    pub users: BTreeMap<Box<str>, User>,
    /// Random, and another one at each start of the process: tags, branches and Call-IDs are made of it.
    pub seed: [u8; 32],
}

/// Somebody who may take a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The Request-URI.
    pub uri: Box<str>,
    /// Where the request is sent.
    pub flow: Flow,
    /// Whether it is behind a NAT, so that requests always go there, whatever its Contact says.
    pub behind_nat: bool,
    /// Value of Route: the Path of its registration (RFC 3327), or a trunk's outbound proxy.
    pub route: Option<Box<str>>,
    /// Name of a trunk or user, for events, records, and [`CallSettings::users`].
    pub label: Box<str>,
    /// The dialog that it is to give up for this call: the value of Replaces (RFC 3891).
    pub replaces: Option<Box<str>>,
}

/// Which failures lead to the next group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failover {
    /// Those that say nothing about the callee: no answer to the request at all, 408, 503. For trunks.
    Unavailable,
    /// All but 6xx. For a user's contacts.
    AnyFailure,
}

/// How a call is to be routed: group by group until somebody answers, all of a group at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The groups.
    pub groups: Vec<Vec<Target>>,
    /// When the next is tried.
    pub failover: Failover,
    /// How long a group may ring.
    pub ringing: Duration,
}

/// What the server around us wants done.
#[derive(Debug, Clone)]
pub enum Order {
    /// Call these; the answer to [`super::Event::Incoming`].
    Route {
        /// Which call.
        call: CallKey,
        /// Whom.
        plan: Plan,
    },
    /// Refuse the call; the other answer to [`super::Event::Incoming`].
    Refuse {
        /// Which call.
        call: CallKey,
        /// 300 to 699.
        status: u16,
        /// Seconds for Retry-After.
        retry_after_s: Option<u32>,
    },
    /// End a call, whatever its state.
    HangUp {
        /// Which call.
        call: CallKey,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A message came that [`super::Calls::concerns`] us.
    Received {
        /// The message.
        message: &'a Message<'a>,
        /// The way that it came.
        flow: Flow,
    },
    /// A message could not be sent: there is no connection, or nobody listens. Where it was over UDP this may be left out.
    Unsent {
        /// [`super::Outgoing::call`] of the message.
        call: CallKey,
        /// [`super::Outgoing::transaction`] of the message.
        transaction: u32,
    },
    /// [`super::Calls::next_deadline`] came.
    Due,
    /// Somebody wants something done.
    Ordered(Order),
}
