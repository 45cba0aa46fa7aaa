//! What comes out.

use crate::{Change, Record};
use domain::SipName;
use sip_proto::b2bua::{Outgoing, Transport};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What is to be done, in this order: the changes are handed to the backup before a message leaves.
#[derive(Debug, Default)]
pub struct Outputs {
    /// For the backup.
    pub changes: Vec<Change>,
    /// To be sent.
    pub messages: Vec<Outgoing>,
    /// To be looked up; the answers are [`crate::Input::Located`].
    pub questions: Vec<Question>,
    /// To be told to people.
    pub notices: Vec<Notice>,
    /// Calls that are over.
    pub records: Vec<Record>,
}

impl Outputs {
    /// Forgets everything, keeping the room.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.messages.clear();
        self.questions.clear();
        self.notices.clear();
        self.records.clear();
    }
}

/// Where is a trunk?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which one.
    pub trunk: SipName,
    /// Its name in DNS.
    pub host: String,
    /// The port, where one is configured.
    pub port: Option<u16>,
    /// The transport, where one is configured.
    pub transport: Option<Transport>,
}

/// One of the places where a trunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How it is reached.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A trunk is out of service.
    TrunkOut {
        /// Which one.
        trunk: SipName,
        /// Why.
        why: String,
    },
    /// A trunk is in service again.
    TrunkIn {
        /// Which one.
        trunk: SipName,
    },
    /// A source is not answered for a while: too many of its requests were refused.
    SourceSilenced {
        /// Its address; of IPv6, that of its network.
        source: IpAddr,
        /// For how long.
        lasts: Duration,
    },
    /// More comes than can be served: new calls are refused.
    Overloaded,
    /// Calls are refused: there are as many as there may be. Told once until there is room again.
    CallsFull {
        /// How many there are.
        calls: usize,
    },
}
