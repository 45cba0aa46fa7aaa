//! Call records. A record is known to the backup from the end of its call until the primary has written it down, so that
//! the record of a call that ended just before a takeover is written by the next primary.

use domain::{Epoch, Micros};
use serde::{Deserialize, Serialize};
use sip_proto::b2bua::{CallKey, Cause};
use std::borrow::Cow;

/// What is written down of a call that is over. Times are Unix time, microseconds.
///
/// There is one for each call. Should two hosts ever write one each, because one of them died between writing it and telling
/// the other, they have the same `call`, and the one with the greater `epoch` counts, or either where it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The call, for ever.
    pub call: CallKey,
    /// Epoch of the host that saw it end.
    pub epoch: Epoch,
    /// Call-ID of the caller's side.
    pub call_id: String,
    /// Who called: a user's name, or `trunk/` and a trunk's; none where nobody is asked.
    pub caller: Option<String>,
    /// From, as sent.
    pub from: String,
    /// The URI that was called.
    pub called: String,
    /// Who answered, as in `caller`.
    pub answered_by: Option<String>,
    /// When it began.
    pub began_us: Micros,
    /// When it was answered.
    pub answered_us: Option<Micros>,
    /// When it ended.
    pub ended_us: Micros,
    /// From the beginning to the answer, or to the end where there was none, milliseconds.
    pub setup_ms: u64,
    /// From the answer to the end, milliseconds; 0 where there was none.
    pub duration_ms: u64,
    /// Why it ended.
    pub cause: Cow<'static, str>,
    /// The status that the caller was told, of a call that nobody took.
    pub status: Option<u16>,
}

/// A word for a cause, and its status.
pub(crate) const fn word(cause: Cause) -> (&'static str, Option<u16>) {
    match cause {
        Cause::Caller => ("caller-hung-up", None),
        Cause::Callee => ("callee-hung-up", None),
        Cause::Cancelled => ("cancelled", Some(487)),
        Cause::Refused(status) => ("refused", Some(status)),
        Cause::NotAcknowledged => ("not-acknowledged", None),
        Cause::Lost => ("lost", None),
        Cause::Expired => ("session-expired", None),
        Cause::Order => ("ended-by-order", None),
    }
}
