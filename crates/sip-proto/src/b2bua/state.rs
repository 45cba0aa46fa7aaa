//! What is remembered of a call: its parts, each of which is sent to the backup when it has changed.

use super::outputs::{Change, Parts};
use super::tracked::{List, Tracked};
use super::{CallKey, Cause, Delta, Flow, Plan, Target};
use crate::transaction::{
    Client, Fired, Heard, InviteClient, InviteServer, Repeat, Server, ServerKey, Timing,
};
use crate::{Dialog, Message, Sequence, SessionTimer, Wire};
use domain::Micros;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One of the two sides of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Side {
    /// Who called.
    Caller,
    /// Who is called.
    Callee,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }
}

/// A call. Everything but `fresh`, its entries in indexes and the marks of change is the same on the backup.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: CallKey,
    pub(super) head: Tracked<Head>,
    /// The caller's INVITE, until its transaction is over.
    pub(super) invitation: Tracked<Option<Inbound>>,
    /// Our INVITEs to targets, until their transactions are over.
    pub(super) branches: List<Branch>,
    /// Dialogs with the two sides: early ones with whoever rings, then the one that the call is.
    pub(super) pairs: List<Pair>,
    /// Transactions within dialogs.
    pub(super) exchanges: List<Exchange>,
    /// Whether the backup does not know it at all.
    fresh: bool,
    /// Its entry in the index of deadlines.
    pub(super) deadline: Option<Micros>,
    /// Its entry in the index of INVITEs.
    pub(super) listed: Option<ServerKey>,
    /// Its entries in the index of connections.
    pub(super) streams: Vec<Flow>,
}

/// What is remembered of a call as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) phase: Phase,
    /// For the record.
    pub(super) call_id: Arc<str>,
    pub(super) from: Wire,
    pub(super) called: Arc<str>,
    pub(super) began_at: Micros,
    pub(super) answered_at: Option<Micros>,
    pub(super) answered_by: Option<Box<str>>,
    /// Numbers of our transactions.
    pub(super) numbers: Sequence,
    /// Number of the next branch, pair or exchange.
    pub(super) next_part: u16,
    /// What is still to be tried.
    pub(super) plan: Option<Plan>,
    /// The best of the refusals so far, for the caller if nobody takes the call (RFC 3261, section 16.7, step 6).
    pub(super) best: Option<(u16, Option<Wire>)>,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// It waits to be routed.
    Routing { until: Micros },
    /// A group of targets is called.
    Calling { until: Micros },
    /// It was answered.
    Established { pair: u16 },
    /// It is over; transactions may still end.
    Over { cause: Cause },
}

/// A request that came, and what we answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inbound {
    pub(super) key: ServerKey,
    /// The request, until its final response.
    pub(super) request: Option<Wire>,
    pub(super) cseq: u32,
    /// The way that it came, and the way that answers go.
    pub(super) flow: Flow,
    pub(super) reply: Flow,
    pub(super) machine: Serving,
    /// A 2xx to INVITE, until the ACK.
    pub(super) answer: Option<Answer>,
}

/// A 2xx to INVITE, which is sent until the ACK comes (RFC 3261, section 13.3.1.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) response: Wire,
    pub(super) again: Repeat,
    pub(super) give_up_at: Micros,
}

/// A request that we sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outbound {
    /// Number of the transaction, which its branch parameter carries.
    pub(super) number: u32,
    pub(super) cseq: u32,
    pub(super) flow: Flow,
    pub(super) machine: Asking,
}

/// An INVITE to a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Branch {
    pub(super) target: Target,
    /// Our tag; a challenge is answered with the same one (RFC 3261, section 22.2).
    pub(super) tag: Arc<str>,
    pub(super) outbound: Outbound,
    pub(super) progress: Progress,
    /// Session-Expires that was asked for, seconds.
    pub(super) asked_s: u32,
    /// Whether it answers a 401 or 407, and whether a 422: that is done once each.
    pub(super) authorized: bool,
    pub(super) lengthened: bool,
}

/// How far a branch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    /// Wanted and unanswered.
    Open,
    /// No longer wanted: to be cancelled when a provisional response has come (RFC 3261, section 9.1).
    Unwanted { elsewhere: bool },
    /// Cancelled; given up if nothing comes of it (section 9.1, last paragraph).
    Cancelled { cancel: Client, give_up_at: Micros },
    /// It had its final response.
    Done,
}

/// Two dialogs that make a way from caller to callee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    /// The branch that it came from.
    pub(super) branch: u16,
    /// None where the callee answered when nobody wanted that any more.
    pub(super) caller: Option<Leg>,
    pub(super) callee: Leg,
    /// Number of our INVITE, for its ACK.
    pub(super) invite_cseq: u32,
    /// Whether the callee's 2xx was acknowledged, and with what, as long as it may come again.
    pub(super) acknowledged: bool,
    pub(super) ack: Option<Wire>,
    /// RSeq of the latest reliable provisional response from the callee.
    pub(super) callee_rseq: Option<u32>,
    /// RSeq of the next one to the caller.
    pub(super) caller_rseq: u32,
    /// The reliable provisional response that the caller has not acknowledged.
    pub(super) provisional: Option<Provisional>,
}

/// A reliable provisional response, which is sent until its PRACK comes (RFC 3262, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Provisional {
    pub(super) response: Wire,
    pub(super) rseq: u32,
    pub(super) again: Repeat,
    pub(super) give_up_at: Micros,
}

/// One side of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) dialog: Dialog,
    pub(super) flow: Flow,
    /// Whether requests always go over `flow`, whatever Contact and Record-Route say.
    pub(super) behind_nat: bool,
    pub(super) allows_update: bool,
    pub(super) timer: Option<SessionTimer>,
    /// When a refresh that failed is tried again.
    pub(super) retry_at: Option<Micros>,
    /// The session description that it got last, where we may have to refresh the session with it.
    pub(super) session: Option<Body>,
    /// Whether a BYE was sent or came: nothing more is sent to it.
    pub(super) gone: bool,
}

/// A body with its Content-Type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) content_type: Wire,
    pub(super) bytes: Wire,
}

/// A transaction within a dialog, or two: what came from one side and was passed to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exchange {
    pub(super) pair: u16,
    /// Where `outbound` goes; `inbound` came from the other side.
    pub(super) to: Side,
    pub(super) purpose: Purpose,
    pub(super) inbound: Option<Inbound>,
    pub(super) outbound: Option<Outbound>,
    /// The ACK that was sent for a 2xx, as long as that may come again.
    pub(super) ack: Option<Wire>,
    pub(super) cancel: Cancelling,
}

/// Whether an INVITE that was passed on is to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cancelling {
    /// No.
    No,
    /// Yes, when a provisional response has come (RFC 3261, section 9.1).
    Wanted,
    /// It was.
    Sent(Client),
}

/// Why there is an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A request is passed from one side to the other.
    Relay,
    /// Likewise, and it is an UPDATE.
    RelayUpdate,
    /// A request was answered by ourselves.
    Answered,
    /// We end one side.
    Bye,
    /// We refresh the session on one side.
    Refresh,
}

/// A server transaction of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Serving {
    Invite(InviteServer),
    Other(Server),
}

impl Serving {
    pub(super) fn respond(&mut self, status: u16, wire: &Wire, timing: &Timing, now: Micros) -> bool {
        match self {
            Serving::Invite(machine) => machine.respond(status, wire, timing, now),
            Serving::Other(machine) => machine.respond(status, wire, timing, now),
        }
    }

    pub(super) fn heard_again(&self) -> Heard {
        match self {
            Serving::Invite(machine) => machine.heard_again(),
            Serving::Other(machine) => machine.heard_again(),
        }
    }

    pub(super) fn due(&mut self, timing: &Timing, now: Micros) -> Fired {
        match self {
            Serving::Invite(machine) => machine.due(timing, now),
            Serving::Other(machine) => machine.due(now),
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        match self {
            Serving::Invite(machine) => machine.next_deadline(),
            Serving::Other(machine) => machine.next_deadline(),
        }
    }

    fn taken_over(&mut self, timing: &Timing, now: Micros) {
        match self {
            Serving::Invite(machine) => machine.taken_over(timing, now),
            Serving::Other(_) => {}
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            Serving::Invite(machine) => machine.is_terminated(),
            Serving::Other(machine) => machine.is_terminated(),
        }
    }
}

/// A client transaction of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asking {
    Invite(InviteClient),
    Other(Client),
}

impl Asking {
    pub(super) fn heard(&mut self, response: &Message<'_>, timing: &Timing, now: Micros) -> Heard {
        match self {
            Asking::Invite(machine) => machine.heard(response, timing, now),
            Asking::Other(machine) => machine.heard(response, timing, now),
        }
    }

    pub(super) fn due(&mut self, timing: &Timing, now: Micros) -> Fired {
        match self {
            Asking::Invite(machine) => machine.due(timing, now),
            Asking::Other(machine) => machine.due(timing, now),
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        match self {
            Asking::Invite(machine) => machine.next_deadline(),
            Asking::Other(machine) => machine.next_deadline(),
        }
    }

    fn taken_over(&mut self, timing: &Timing, now: Micros) {
        match self {
            Asking::Invite(machine) => machine.taken_over(timing, now),
            Asking::Other(machine) => machine.taken_over(timing, now),
        }
    }

    pub(super) fn unanswered(&self) -> Option<&Wire> {
        match self {
            Asking::Invite(machine) => machine.unanswered(),
            Asking::Other(machine) => machine.unanswered(),
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            Asking::Invite(machine) => machine.is_terminated(),
            Asking::Other(machine) => machine.is_terminated(),
        }
    }
}

impl Inbound {
    pub(super) fn is_over(&self) -> bool {
        self.machine.is_terminated() && self.answer.is_none()
    }

    fn next_deadline(&self) -> Option<Micros> {
        let answer = self.answer.as_ref().map(|answer| answer.again.at.min(answer.give_up_at));
        first([self.machine.next_deadline(), answer])
    }

    fn taken_over(&mut self, timing: &Timing, now: Micros) {
        self.machine.taken_over(timing, now);
    }
}

impl Branch {
    pub(super) fn is_over(&self) -> bool {
        match &self.progress {
            Progress::Open | Progress::Unwanted { .. } => false,
            // A final response to the INVITE may be lost while the CANCEL is answered, so that alone ends nothing.
            Progress::Cancelled { .. } => false,
            Progress::Done => self.outbound.machine.is_terminated(),
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        let cancelled = match &self.progress {
            Progress::Cancelled { cancel, give_up_at } => first([cancel.next_deadline(), Some(*give_up_at)]),
            Progress::Open | Progress::Unwanted { .. } | Progress::Done => None,
        };
        first([self.outbound.machine.next_deadline(), cancelled])
    }
}

impl Pair {
    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => self.caller.as_ref(),
            Side::Callee => Some(&self.callee),
        }
    }

    pub(super) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => self.caller.as_mut(),
            Side::Callee => Some(&mut self.callee),
        }
    }

    fn next_deadline(&self) -> Option<Micros> {
        let provisional = self.provisional.as_ref().map(|p| p.again.at.min(p.give_up_at));
        first([provisional, self.caller.as_ref().and_then(Leg::next_deadline), self.callee.next_deadline()])
    }
}

impl Leg {
    /// When its session is to be refreshed, or to be ended.
    fn next_deadline(&self) -> Option<Micros> {
        let timer = self.timer.filter(|_| !self.gone && self.dialog.is_confirmed())?;
        first([Some(timer.dead_at()), self.refresh_at()])
    }

    pub(super) fn refresh_at(&self) -> Option<Micros> {
        self.retry_at.or_else(|| self.timer.and_then(|timer| timer.refresh_at()))
    }

    /// Gives up the timer where it could not work: the other side does not know of it and would not understand our
    /// refreshes, or we are to refresh and have nothing to do it with.
    pub(super) fn drop_timer_unless(&mut self, known: bool) {
        let we_refresh = self.timer.is_some_and(|timer| timer.we_refresh);
        if we_refresh && !self.allows_update && !(known && self.session.is_some()) {
            self.timer = None;
        }
        if !we_refresh || self.allows_update {
            self.session = None;
        }
    }

    /// Something refreshed the session now.
    pub(super) fn refreshed(&mut self, now: Micros) {
        self.retry_at = None;
        if let Some(timer) = &mut self.timer {
            timer.refreshed_at = now;
        }
    }
}

impl Exchange {
    pub(super) fn is_over(&self) -> bool {
        self.inbound.as_ref().is_none_or(Inbound::is_over)
            && self.outbound.as_ref().is_none_or(|outbound| outbound.machine.is_terminated())
    }

    fn next_deadline(&self) -> Option<Micros> {
        let outbound = self.outbound.as_ref().and_then(|outbound| outbound.machine.next_deadline());
        let cancel = match &self.cancel {
            Cancelling::No | Cancelling::Wanted => None,
            Cancelling::Sent(cancel) => cancel.next_deadline(),
        };
        first([self.inbound.as_ref().and_then(Inbound::next_deadline), outbound, cancel])
    }
}

impl Call {
    pub(super) fn new(key: CallKey, head: Head, invitation: Inbound) -> Self {
        Self {
            key,
            head: Tracked::new(head),
            invitation: Tracked::new(Some(invitation)),
            branches: List::default(),
            pairs: List::default(),
            exchanges: List::default(),
            fresh: true,
            deadline: None,
            listed: None,
            streams: Vec::new(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.head.phase, Phase::Over { .. })
    }

    /// Whether nothing of it is left to be remembered.
    pub(super) fn is_finished(&self) -> bool {
        self.is_over() && self.invitation.is_none() && self.branches.is_empty() && self.exchanges.is_empty()
    }

    /// Whether somebody waits for something that we have begun.
    pub(super) fn is_unsettled(&self) -> bool {
        !matches!(self.head.phase, Phase::Established { .. })
            || self.invitation.is_some()
            || !self.branches.is_empty()
            || !self.exchanges.is_empty()
    }

    /// When something is to be done for it.
    pub(super) fn next_deadline(&self) -> Option<Micros> {
        let phase = match self.head.phase {
            Phase::Routing { until } | Phase::Calling { until } => Some(until),
            Phase::Established { .. } | Phase::Over { .. } => None,
        };
        let invitation = self.invitation.as_ref().and_then(Inbound::next_deadline);
        let branches = self.branches.iter().filter_map(|(_, branch)| branch.next_deadline()).min();
        let pairs = self.pairs.iter().filter_map(|(_, pair)| pair.next_deadline()).min();
        let exchanges = self.exchanges.iter().filter_map(|(_, exchange)| exchange.next_deadline()).min();
        first([phase, invitation, branches, pairs, exchanges])
    }

    /// Another host goes on with it: what went over connections is sent again.
    pub(super) fn taken_over(&mut self, timing: &Timing, now: Micros) {
        if let Some(invitation) = &mut *self.invitation {
            invitation.taken_over(timing, now);
        }
        for id in self.branches.ids() {
            let Some(branch) = self.branches.get_mut(id) else { continue };
            branch.outbound.machine.taken_over(timing, now);
            if let Progress::Cancelled { cancel, .. } = &mut branch.progress {
                cancel.taken_over(timing, now);
            }
        }
        for id in self.exchanges.ids() {
            let Some(exchange) = self.exchanges.get_mut(id) else { continue };
            if let Some(inbound) = &mut exchange.inbound {
                inbound.taken_over(timing, now);
            }
            if let Some(outbound) = &mut exchange.outbound {
                outbound.machine.taken_over(timing, now);
            }
        }
    }

    // ---- for the backup

    /// What has changed since this was asked last.
    pub(super) fn take_delta(&mut self, at: Micros) -> Option<Delta> {
        let parts = Parts {
            whole: std::mem::take(&mut self.fresh),
            head: self.head.take_change(),
            invitation: self.invitation.take_change().map(Into::into),
            branches: self.branches.take_changes(),
            pairs: self.pairs.take_changes(),
            exchanges: self.exchanges.take_changes(),
        };
        let nothing = parts.head.is_none()
            && parts.invitation.is_none()
            && parts.branches.is_empty()
            && parts.pairs.is_empty()
            && parts.exchanges.is_empty();
        (!nothing).then(|| Delta { call: self.key, at, change: Change::Parts(Box::new(parts)) })
    }

    /// All of it.
    pub(super) fn snapshot(&self, at: Micros) -> Delta {
        let parts = Parts {
            whole: true,
            head: Some(self.head.value.clone()),
            invitation: Some(self.invitation.value.clone().into()),
            branches: self.branches.snapshot(),
            pairs: self.pairs.snapshot(),
            exchanges: self.exchanges.snapshot(),
        };
        Delta { call: self.key, at, change: Change::Parts(Box::new(parts)) }
    }

    /// Makes a call from all of its parts; `None` where one is missing.
    pub(super) fn of_parts(key: CallKey, parts: Parts) -> Option<Self> {
        if !parts.whole {
            return None;
        }
        let mut call = Self {
            key,
            head: Tracked::known(parts.head?),
            invitation: Tracked::known(parts.invitation?.into()),
            branches: List::default(),
            pairs: List::default(),
            exchanges: List::default(),
            fresh: false,
            deadline: None,
            listed: None,
            streams: Vec::new(),
        };
        call.branches.apply(parts.branches);
        call.pairs.apply(parts.pairs);
        call.exchanges.apply(parts.exchanges);
        Some(call)
    }

    /// Takes over the parts that have changed.
    pub(super) fn apply(&mut self, parts: Parts) {
        if let Some(head) = parts.head {
            self.head = Tracked::known(head);
        }
        if let Some(invitation) = parts.invitation {
            self.invitation = Tracked::known(invitation.into());
        }
        self.branches.apply(parts.branches);
        self.pairs.apply(parts.pairs);
        self.exchanges.apply(parts.exchanges);
    }
}

/// What the backup has is the same.
impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && *self.head == *other.head
            && *self.invitation == *other.invitation
            && self.branches.items == other.branches.items
            && self.pairs.items == other.pairs.items
            && self.exchanges.items == other.exchanges.items
    }
}

/// The earliest of some times.
pub(super) fn first<const N: usize>(times: [Option<Micros>; N]) -> Option<Micros> {
    times.into_iter().flatten().min()
}
