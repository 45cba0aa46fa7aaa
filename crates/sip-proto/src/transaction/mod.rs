//! Transactions (RFC 3261, section 17, as corrected by RFC 6026): the four state machines as values.
//!
//! A machine holds the message that it may have to send again and the times at which it does something, and nothing
//! else: where messages go, and which message belongs to which machine, is its owner's to know. What it wants sent it
//! gives back. All of it can be serialised, carried to another host, and continued there with the same answers.
//!
//! A transaction over a reliable transport sends nothing again. On another host that transport's connection is gone and
//! what was sent last may be gone with it, so [`InviteClient::taken_over`] and its like make the transaction go on as
//! one over UDP does. For the same reason a transaction that is completed lingers as long over a reliable transport as
//! over UDP, where the RFC lets it end at once (timers D, I, J and K): who lost a response with the connection may ask
//! again over another one, and then gets the same.

mod client;
mod invite_client;
mod invite_server;
mod key;
mod server;

pub use client::Client;
pub use invite_client::InviteClient;
pub use invite_server::InviteServer;
pub(crate) use key::COOKIE;
pub use key::ServerKey;
pub use server::Server;

use crate::Wire;
use domain::Micros;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The times that all timers are made of (RFC 3261, section 17.1.1.1 and table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Estimated round trip; the first pause before something is sent again.
    pub t1: Duration,
    /// Longest pause before a non-INVITE request or a response to INVITE is sent again.
    pub t2: Duration,
    /// Longest time that a message stays in the network.
    pub t4: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timing {
    /// How long a transaction waits for an answer, and for what was sent before: timers B, F, H, J, L and M; and D, for
    /// which 32 s is the least.
    #[must_use]
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }
}

/// What a transaction makes of a response or a retransmitted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Whether it is for the user of the transaction; otherwise it has been dealt with.
    pub pass: bool,
    /// To be sent.
    pub send: Option<Wire>,
}

impl Heard {
    const ABSORBED: Heard = Heard { pass: false, send: None };
    const PASSED: Heard = Heard { pass: true, send: None };

    fn answered(wire: &Wire) -> Self {
        Self { pass: false, send: Some(wire.clone()) }
    }
}

/// What a transaction does when its time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fired {
    /// It was not yet time.
    Nothing,
    /// This is to be sent again.
    Again(Wire),
    /// What it waited for did not come: the user has to know. It has terminated.
    TimedOut,
    /// It has terminated, as it should.
    Ended,
}

/// Something that is sent again and again, after growing pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repeat {
    /// When it is sent next.
    pub(crate) at: Micros,
    /// The pause that ends then.
    pub(crate) pause: Duration,
}

impl Repeat {
    /// The first pause begins now.
    pub(crate) fn after(pause: Duration, now: Micros) -> Self {
        Self { at: now + pause, pause }
    }

    /// As [`Repeat::after`] where the transport may lose messages.
    fn unless(reliable: bool, timing: &Timing, now: Micros) -> Option<Self> {
        (!reliable).then(|| Self::after(timing.t1, now))
    }

    /// What may have been lost is sent now, and then as if for the first time.
    pub(crate) fn at_once(timing: &Timing, now: Micros) -> Self {
        Self { at: now, pause: timing.t1 / 2 }
    }

    /// Begins the next pause, twice as long but not longer than `most`. A pause that ended long ago (the host was taken
    /// over, or stood still) counts from now: what was missed is not made up for in one burst.
    pub(crate) fn again(&mut self, most: Duration, now: Micros) {
        self.pause = (self.pause * 2).min(most);
        self.at = now + self.pause;
    }
}

/// The earlier of what is sent again and what ends the wait.
fn earlier(again: Option<Repeat>, end: Micros) -> Option<Micros> {
    Some(again.map_or(end, |again| again.at.min(end)))
}
