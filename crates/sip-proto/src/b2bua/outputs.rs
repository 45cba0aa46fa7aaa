//! What comes out of [`super::Calls`]: changes for the backup, messages, events. In this order: whoever sends the changes
//! first loses no call that anybody has heard of.

use super::state::{Branch, Exchange, Head, Inbound, Pair};
use super::{CallKey, Flow};
use crate::Wire;
use domain::{Epoch, Micros};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a step led to. The caller empties and reuses it.
#[derive(Debug, Default)]
pub struct Outputs {
    /// For the backup; to be on their way before the messages.
    pub deltas: Vec<Delta>,
    /// To be sent.
    pub messages: Vec<Outgoing>,
    /// To be acted on and recorded.
    pub events: Vec<Event>,
    /// How many of the messages were sent before.
    pub again: u64,
}

impl Outputs {
    /// Forgets everything, keeping the room.
    pub fn clear(&mut self) {
        self.deltas.clear();
        self.messages.clear();
        self.events.clear();
        self.again = 0;
    }
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The way.
    pub flow: Flow,
    /// The message.
    pub wire: Wire,
    /// The call that it is of; none for what is answered without one.
    pub call: Option<CallKey>,
    /// The request's transaction within the call, for [`super::Input::Unsent`]; none for responses and ACK.
    pub transaction: Option<u32>,
}

/// Something that happened to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody calls: wants [`super::Order::Route`] or [`super::Order::Refuse`]. [`super::Calls::invite`] is the request.
    Incoming {
        /// The call.
        call: CallKey,
    },
    /// Somebody rings.
    Ringing {
        /// The call.
        call: CallKey,
        /// Who: [`super::Target::label`].
        label: Box<str>,
    },
    /// A target did not take the call.
    TargetFailed {
        /// The call.
        call: CallKey,
        /// Who: [`super::Target::label`].
        label: Box<str>,
        /// The final response; 408 where there was none.
        status: u16,
        /// What a 503 said about when to come back: until then the target should be left alone (RFC 3261, section
        /// 21.5.4).
        retry_after_s: Option<u32>,
    },
    /// The call was answered.
    Answered {
        /// The call.
        call: CallKey,
        /// By whom: [`super::Target::label`].
        label: Box<str>,
    },
    /// The call is over: its record, once per call.
    Ended(Box<Cdr>),
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The caller hung up.
    Caller,
    /// The callee hung up.
    Callee,
    /// The caller gave up before anybody answered.
    Cancelled,
    /// Nobody took it; the status that the caller was told.
    Refused(u16),
    /// The caller did not acknowledge the answer.
    NotAcknowledged,
    /// One side knew nothing of the call any more, or was not to be reached.
    Lost,
    /// The session was not refreshed in time.
    Expired,
    /// By order.
    Order,
}

/// A call's record. Times are those of [`super::Calls`]; [`super::Calls::age`] says how long ago they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cdr {
    /// The call. Records with the same one are of the same call: should two hosts ever write one each, the one with the
    /// greater epoch counts.
    pub call: CallKey,
    /// Epoch of the host that saw it end.
    pub epoch: Epoch,
    /// Call-ID of the caller's side.
    pub call_id: Arc<str>,
    /// From of the caller, as sent.
    pub from: Wire,
    /// The Request-URI that was called.
    pub called: Arc<str>,
    /// Who answered: [`super::Target::label`].
    pub answered_by: Option<Box<str>>,
    /// When it began.
    pub began_at: Micros,
    /// When it was answered.
    pub answered_at: Option<Micros>,
    /// When it ended.
    pub ended_at: Micros,
    /// Why.
    pub cause: Cause,
}

/// A change of one call, for the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The call.
    pub call: CallKey,
    /// When it was made, on the clock of the primary's calls.
    pub at: Micros,
    pub(super) change: Change,
}

impl Delta {
    /// Whether the call is forgotten.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.change == Change::Removed
    }

    /// Whether who is called may be others now ([`super::Calls::called`]).
    #[must_use]
    pub fn is_about_called(&self) -> bool {
        match &self.change {
            Change::Parts(parts) => parts.head.is_some() || !parts.branches.is_empty(),
            Change::Removed => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    /// Parts of it are as given here.
    Parts(Box<Parts>),
    /// It is forgotten.
    Removed,
}

/// Parts of a call. A part that is not here is as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    /// Whether this is all of the call; otherwise the rest is known from before.
    pub(super) whole: bool,
    pub(super) head: Option<Head>,
    pub(super) invitation: Option<Presence>,
    pub(super) branches: Vec<(u16, Option<Branch>)>,
    pub(super) pairs: Vec<(u16, Option<Pair>)>,
    pub(super) exchanges: Vec<(u16, Option<Exchange>)>,
}

/// Whether the caller's INVITE is still there. An option in an option would be lost in formats that write both as nothing,
/// JSON for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "it is mostly the large one, and lives in a box")]
pub(super) enum Presence {
    Here(Inbound),
    Gone,
}

impl From<Option<Inbound>> for Presence {
    fn from(inbound: Option<Inbound>) -> Self {
        inbound.map_or(Presence::Gone, Presence::Here)
    }
}

impl From<Presence> for Option<Inbound> {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Here(inbound) => Some(inbound),
            Presence::Gone => None,
        }
    }
}
