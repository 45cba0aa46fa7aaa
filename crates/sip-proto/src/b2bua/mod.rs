//! The back-to-back user agent: all calls as one value that a backup can hold and go on with.
//!
//! [`Calls`] is the user agent server of who calls and the user agent client of who is called, and passes on what one says
//! to the other: dialogs, numbers and routes are each side's own, bodies and everything that it does not understand go
//! through. Each early dialog of a callee, however it forked, is an early dialog of the caller.
//!
//! `step` takes what happened and the time, and gives [`Outputs`]: changes for the backup, messages, events, in the order
//! in which they must leave. A backup takes the changes by [`Calls::apply`] and is then equal to the primary; when it has
//! its turn, [`Calls::take_over`] costs next to nothing, however many calls there are. Times inside are those of the first
//! primary's clock, and its successors translate.
//!
//! ```text
//!              INVITE               Order::Route           2xx
//!  (nothing) ---------> Routing -----------------> Calling -----> Established
//!                          |  refused, no order       | refused,      | BYE, lost,
//!                          |                          | cancelled     | expired, order
//!                          '----------> Over <--------'---------------'
//!                                        | last transaction ends
//!                                        v
//!                                    (nothing)
//! ```
//!
//! Where things are: `orders` and `outputs` are what goes in and comes out; `state` what is remembered; `context` how
//! messages are written; `setup` the way to an answer; `dialogs` what happens in dialogs; `ending` the way out; `due`
//! what time brings; `parties` who is in a call, and whose place another takes; `index` how calls are found.

mod context;
mod dialogs;
mod due;
mod ending;
mod index;
mod orders;
mod orphans;
mod outputs;
mod parties;
mod setup;
mod state;
mod tracked;

pub(crate) use context::ALLOW;
pub use context::sent_in;
pub use orders::{
    CallLimits, CallSettings, Failover, Flow, Input, Interface, Order, Plan, Target, Transport,
};
pub use outputs::{Cause, Cdr, Delta, Event, Outgoing, Outputs};
pub use parties::Replaced;

use crate::draft::ToTag;
use crate::rejection::{
    Detail, RETRY_AFTER_S, Rejection, check_form, check_uri, check_version, malformed, rejection,
};
use crate::transaction::{InviteServer, ServerKey};
use crate::{
    HeaderName, Message, Method, RequestLine, Sequence, SessionTimer, StartLine, TimerRefusal, Wire,
};
use context::Context;
use domain::{Epoch, Micros};
use outputs::Change;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use state::{Call, Head, Inbound, Phase, Serving};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The name of a call: random, so that it can be part of tags and branches without telling anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallKey(u64);

/// In text (JSON) its 16 digits: a number as large as this would be rounded by many a reader (RFC 8259, section 6).
impl Serialize for CallKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for CallKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return u64::deserialize(from).map(Self);
        }
        let text = Cow::<str>::deserialize(from)?;
        Self::read(&text).ok_or_else(|| D::Error::custom("not the key of a call"))
    }
}

impl CallKey {
    const DIGITS: usize = 16;

    /// Reads one as it is written.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let sound = text.len() == Self::DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        sound.then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }

    /// The number: as random as the name.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one that a tag of ours begins with.
    fn of_tag(tag: &[u8]) -> Option<Self> {
        std::str::from_utf8(tag.get(..Self::DIGITS)?).ok().and_then(Self::read)
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A change could not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It is of a call that is not known here: before a resynchronisation has reached it, this is as it should be.
    #[error("the change is of a call that is not known here")]
    Unknown,
    /// A whole call lacks parts.
    #[error("the call is not whole")]
    NotWhole,
}

/// All calls.
#[derive(Debug)]
pub struct Calls {
    settings: CallSettings,
    epoch: Epoch,
    /// What is added to the host's time to make the time of the calls, microseconds.
    clock_offset: i64,
    calls: BTreeMap<CallKey, Box<Call>>,
    deadlines: BTreeSet<(Micros, CallKey)>,
    /// Calls by the INVITE that began them, as long as that may come again.
    invites: BTreeMap<ServerKey, CallKey>,
    /// Calls by the connections that they go over.
    streams: BTreeSet<(Flow, CallKey)>,
    /// Calls in which somebody waits for something that we have begun.
    unsettled: BTreeSet<CallKey>,
    /// Of these, those that another host began and we have not looked at yet.
    to_resume: Vec<CallKey>,
    /// Calls that a resynchronisation has not come to yet.
    stale: BTreeSet<CallKey>,
    /// How many calls were made here; part of what makes keys.
    made: u64,
    refusing: bool,
    scratch: Vec<u8>,
}

impl Calls {
    /// None.
    ///
    /// # Panics
    /// Where the settings name no interface.
    #[must_use]
    pub fn new(settings: CallSettings) -> Self {
        assert!(!settings.interfaces.is_empty(), "calls need an interface");
        Self {
            settings,
            epoch: Epoch(0),
            clock_offset: 0,
            calls: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            invites: BTreeMap::new(),
            streams: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            to_resume: Vec::new(),
            stale: BTreeSet::new(),
            made: 0,
            refusing: false,
            scratch: Vec::with_capacity(2_048),
        }
    }

    /// Whether a message is for us; what is not is for the registrar or whoever answers outside of calls.
    #[must_use]
    pub fn concerns(message: &Message<'_>) -> bool {
        let StartLine::Request(line) = message.start else { return true };
        match line.method {
            Method::Invite | Method::Ack | Method::Cancel | Method::Bye | Method::Prack => true,
            Method::Register => false,
            Method::Info
            | Method::Message
            | Method::Notify
            | Method::Options
            | Method::Publish
            | Method::Refer
            | Method::Subscribe
            | Method::Update
            | Method::Other => message.to().is_ok_and(|to| to.tag().is_some()),
        }
    }

    /// Takes what happened. What is to be done about it is added to `out`.
    pub fn step(&mut self, input: Input<'_>, now: Micros, out: &mut Outputs) {
        let now = self.clock(now);
        match input {
            Input::Received { message, flow } => match message.start {
                StartLine::Request(line) => self.request(message, line, flow, now, out),
                StartLine::Status { code, .. } => self.response(message, code, flow, now, out),
            },
            Input::Unsent { call, transaction } => {
                self.with(call, now, out, |call, ctx| call.unsent(ctx, transaction));
            }
            Input::Due => self.due(now, out),
            Input::Ordered(Order::Route { call, plan }) => {
                self.with(call, now, out, |call, ctx| call.route(ctx, plan));
            }
            Input::Ordered(Order::Refuse { call, status, retry_after_s }) => {
                self.with(call, now, out, |call, ctx| call.refuse(ctx, status, retry_after_s));
            }
            Input::Ordered(Order::HangUp { call }) => {
                self.with(call, now, out, |call, ctx| call.end(ctx, Cause::Order));
            }
        }
    }

    /// When [`Input::Due`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        if !self.to_resume.is_empty() {
            return Some(Micros(0));
        }
        let (due, _) = self.deadlines.first()?;
        Some(Micros(due.0.saturating_add_signed(self.clock_offset.saturating_neg())))
    }

    /// Whether new calls are refused: a graceful stop. Those that there are go on.
    pub fn refuse_new(&mut self, refusing: bool) {
        self.refusing = refusing;
    }

    /// Other settings count from now on. The interfaces have to be the same: flows name them by their number.
    pub fn configure(&mut self, settings: CallSettings) {
        assert_eq!(settings.interfaces, self.settings.interfaces, "interfaces are those of the beginning");
        self.settings = settings;
    }

    /// How many calls there are, those included that are over and wait for their last transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The INVITE of a call that waits for [`Order::Route`].
    #[must_use]
    pub fn invite(&self, call: CallKey) -> Option<&Wire> {
        self.calls.get(&call)?.invitation.as_ref()?.request.as_ref()
    }

    /// Whether a request is an INVITE that began one of the calls, sent again.
    #[must_use]
    pub fn is_begun_by(&self, message: &Message<'_>) -> bool {
        ServerKey::of(message).is_ok_and(|key| self.invites.contains_key(&key))
    }

    /// The calls, with how far each is.
    pub fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.calls.values().map(|call| Listed::of(call))
    }

    /// One of them.
    #[must_use]
    pub fn listed(&self, call: CallKey) -> Option<Listed<'_>> {
        self.calls.get(&call).map(|call| Listed::of(call))
    }

    /// How long ago something was, given a time that an event or a record carries.
    #[must_use]
    pub fn age(&self, at: Micros, now: Micros) -> Duration {
        self.clock(now).since(at)
    }

    // ---- backup and takeover

    /// Takes a change of the primary's.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has changed then.
    pub fn apply(&mut self, delta: Delta, now: Micros) -> Result<(), ApplyError> {
        self.heard_clock(delta.at, now);
        match delta.change {
            Change::Removed => {
                self.stale.remove(&delta.call);
                let call = self.calls.remove(&delta.call).ok_or(ApplyError::Unknown)?;
                self.unlist(&call);
            }
            Change::Parts(parts) => {
                let fresh = |_: &&mut Box<Call>| !parts.whole && !self.stale.contains(&delta.call);
                if let Some(call) = self.calls.get_mut(&delta.call).filter(fresh) {
                    call.apply(*parts);
                } else if parts.whole {
                    let call = Call::of_parts(delta.call, *parts).ok_or(ApplyError::NotWhole)?;
                    self.stale.remove(&delta.call);
                    if let Some(old) = self.calls.insert(delta.call, Box::new(call)) {
                        self.unlist(&old);
                    }
                } else {
                    return Err(ApplyError::Unknown);
                }
                self.enlist(delta.call);
            }
        }
        Ok(())
    }

    /// The primary said what time it is on the clock of its calls. Changes say so too; where there are none for long, this
    /// is to be told from time to time, as two clocks drift apart.
    pub fn heard_clock(&mut self, at: Micros, now: Micros) {
        self.clock_offset = i64::try_from(i128::from(at.0) - i128::from(now.0)).unwrap_or(0);
    }

    /// The time on the clock of the calls.
    #[must_use]
    pub fn clock(&self, now: Micros) -> Micros {
        Micros(now.0.saturating_add_signed(self.clock_offset))
    }

    /// All of up to `most` calls behind `after`, for a backup that knows none: the last of them is the next `after`.
    /// Between two of these, changes go on as ever; those of calls that the backup does not know yet are
    /// [`ApplyError::Unknown`] there.
    #[must_use]
    pub fn snapshot(&self, after: Option<CallKey>, most: usize, now: Micros) -> Vec<Delta> {
        use std::ops::Bound;
        let at = self.clock(now);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.calls.range((from, Bound::Unbounded)).take(most).map(|(_, call)| call.snapshot(at)).collect()
    }

    /// A backup that knows calls from before is to get them all anew. They are kept, since they are better than none should
    /// it have to take over before the end, but until a call comes whole its changes are [`ApplyError::Unknown`].
    pub fn begin_resync(&mut self) {
        self.stale = self.calls.keys().copied().collect();
    }

    /// All calls that there are have come: those that did not are over, and forgotten. Gives which.
    pub fn end_resync(&mut self) -> BTreeSet<CallKey> {
        let gone = std::mem::take(&mut self.stale);
        for key in &gone {
            if let Some(call) = self.calls.remove(key) {
                self.unlist(&call);
            }
        }
        gone
    }

    /// From now on these calls are ours. Calls with something under way are looked at in the next steps, a few at a time;
    /// all others wait until something happens to them.
    pub fn take_over(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.stale.clear();
        self.to_resume = self.unsettled.iter().rev().copied().collect();
    }

    // ---- messages

    fn response(&mut self, message: &Message<'_>, code: u16, flow: Flow, now: Micros, out: &mut Outputs) {
        let sound = message.defect.is_none();
        let branch = message.via().ok().filter(|_| sound).and_then(|via| via.branch);
        let Some((key, number)) = branch.and_then(context::read_branch) else { return };
        let Ok(cseq) = message.cseq() else { return };
        if !self.calls.contains_key(&key) {
            if (200..300).contains(&code) && cseq.method == "INVITE" {
                self.answered_to_nobody(message, (key, number), cseq.number, flow, now, out);
            }
            return;
        }
        let is_cancel = cseq.method == "CANCEL";
        self.with(key, now, out, |call, ctx| call.heard(ctx, number, is_cancel, message, code));
    }

    fn request(
        &mut self,
        message: &Message<'_>,
        line: RequestLine<'_>,
        flow: Flow,
        now: Micros,
        out: &mut Outputs,
    ) {
        let outcome = self.serve(message, line, flow, now, out);
        if let Err(rejection) = outcome
            && line.method != Method::Ack
        {
            self.reject(message, &rejection, flow, now, out);
        }
    }

    /// Answers without remembering it: sent again, the request is answered again in the same way.
    fn reject(
        &mut self,
        message: &Message<'_>,
        rejection: &Rejection,
        flow: Flow,
        now: Micros,
        out: &mut Outputs,
    ) {
        if message.value(HeaderName::Via).is_none() {
            return;
        }
        let mut ctx = context(&self.settings, self.epoch, now, out, &mut self.scratch);
        let (status, reason) = (rejection.status, Some(rejection.reason));
        let wire = ctx.response(message, flow, status, reason, ToTag::OfTransaction, |draft| {
            rejection.explain(draft, message)
        });
        if let Ok(wire) = wire {
            let flow = ctx.reply_flow(message, flow);
            out.messages.push(Outgoing { flow, wire, call: None, transaction: None });
        }
    }

    /// Finds whose request it is.
    fn serve(
        &mut self,
        message: &Message<'_>,
        line: RequestLine<'_>,
        flow: Flow,
        now: Micros,
        out: &mut Outputs,
    ) -> Result<(), Rejection> {
        check_version(line.version_2)?;
        check_form(message, line.method_text)?;
        let unknown = || rejection(481);
        if line.method == Method::Cancel {
            let key = ServerKey::cancelled_by(message).map_err(malformed)?;
            let call = self.call_of(&key, message).ok_or_else(unknown)?;
            return self
                .with(call, now, out, |call, ctx| call.cancel(ctx, &key, message, flow))
                .ok_or_else(unknown)?;
        }
        let key = ServerKey::of(message).map_err(malformed)?;
        if let Some(call) = self.invites.get(&key).copied() {
            self.with(call, now, out, |call, ctx| call.invitation_again(ctx, line.method, message));
            return Ok(());
        }
        match message.to().map_err(malformed)?.tag() {
            Some(tag) => {
                let call = CallKey::of_tag(tag).ok_or_else(unknown)?;
                self.with(call, now, out, |call, ctx| call.request_in_dialog(ctx, key, message, line, flow))
                    .ok_or_else(unknown)?
            }
            None if line.method == Method::Invite => self.begin(key, message, line, flow, now, out),
            None => Err(unknown()),
        }
    }

    /// The call that a request outside of transactions belongs to: by the INVITE that it repeats or cancels, or by our tag.
    fn call_of(&self, key: &ServerKey, message: &Message<'_>) -> Option<CallKey> {
        let by_tag = || message.to().ok()?.tag().and_then(CallKey::of_tag);
        self.invites.get(key).copied().or_else(by_tag)
    }

    /// A new call.
    fn begin(
        &mut self,
        key: ServerKey,
        message: &Message<'_>,
        line: RequestLine<'_>,
        flow: Flow,
        now: Micros,
        out: &mut Outputs,
    ) -> Result<(), Rejection> {
        check_uri(line.uri)?;
        if message.max_forwards().map_err(malformed)? == Some(0) {
            return Err(rejection(483));
        }
        if message.tokens(HeaderName::Require).any(|tag| !context::is_known_option(tag)) {
            return Err(Rejection { detail: Detail::Unsupported, ..rejection(420) });
        }
        SessionTimer::grant(message, &self.settings.session, now).map_err(timer_refused)?;
        if self.refusing || self.calls.len() >= self.settings.limits.calls {
            return Err(Rejection { detail: Detail::RetryAfter(RETRY_AFTER_S), ..rejection(503) });
        }
        let call_key = self.new_key(now, out);
        // Everything that the caller's dialogs will need has to be there.
        crate::Dialog::of_request(message, "".into(), self.epoch).map_err(malformed)?;
        let from = message.from().map_err(malformed)?;
        let head = Head {
            phase: Phase::Routing { until: now + self.settings.limits.routing },
            call_id: message.call_id().map_err(malformed)?.into(),
            from: Wire::from(from.without_params()),
            called: String::from_utf8_lossy(line.uri).into(),
            began_at: now,
            answered_at: None,
            answered_by: None,
            numbers: Sequence::new(1, self.epoch),
            next_part: 1,
            plan: None,
            best: None,
        };
        let ctx = context(&self.settings, self.epoch, now, out, &mut self.scratch);
        let cseq = message.cseq().map_err(malformed)?.number;
        let invitation = Inbound::new(&ctx, key, message, cseq, flow, |reliable| {
            Serving::Invite(InviteServer::new(reliable))
        });
        self.calls.insert(call_key, Box::new(Call::new(call_key, head, invitation)));
        self.with(call_key, now, out, |call, ctx| {
            call.trying(ctx);
            ctx.event(Event::Incoming { call: call.key });
        });
        Ok(())
    }

    fn new_key(&mut self, now: Micros, out: &mut Outputs) -> CallKey {
        loop {
            self.made += 1;
            let ctx = context(&self.settings, self.epoch, now, out, &mut self.scratch);
            let key = CallKey(ctx.random(self.made));
            if !self.calls.contains_key(&key) {
                return key;
            }
        }
    }

    // ---- time

    fn due(&mut self, now: Micros, out: &mut Outputs) {
        for _ in 0..self.settings.limits.due_per_step {
            let Some(call) = self.to_resume.pop() else { break };
            self.with(call, now, out, |call, ctx| call.resume(ctx));
        }
        for _ in 0..self.settings.limits.due_per_step {
            let Some((due, call)) = self.deadlines.first().copied() else { break };
            if due > now {
                break;
            }
            self.with(call, now, out, |call, ctx| call.due(ctx));
            if self.deadlines.first() == Some(&(due, call)) {
                self.give_up(call, now, out);
            }
        }
    }

    /// Drops a call in which something is due that leads to nothing, and would be due for ever. No call of ours is like that;
    /// one that the other member has told us of wrongly may be.
    fn give_up(&mut self, key: CallKey, now: Micros, out: &mut Outputs) {
        self.with(key, now, out, |call, ctx| call.end(ctx, Cause::Lost));
        if let Some(call) = self.calls.remove(&key) {
            self.unlist(&call);
            out.deltas.push(Delta { call: key, at: now, change: Change::Removed });
        }
    }

    // ---- one call

    /// Does something with a call and brings everything else up to date with it.
    fn with<T>(
        &mut self,
        key: CallKey,
        now: Micros,
        out: &mut Outputs,
        act: impl FnOnce(&mut Call, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let call = self.calls.get_mut(&key)?;
        let mut ctx = context(&self.settings, self.epoch, now, out, &mut self.scratch);
        let result = act(call, &mut ctx);
        call.clear_away();
        if call.is_finished() {
            let call = self.calls.remove(&key).expect("it was there");
            self.unlist(&call);
            out.deltas.push(Delta { call: key, at: now, change: Change::Removed });
        } else {
            out.deltas.extend(call.take_delta(now));
            self.enlist(key);
        }
        Some(result)
    }
}

/// The calls are the same; clocks, keys and what is derived are each host's own.
impl PartialEq for Calls {
    fn eq(&self, other: &Self) -> bool {
        self.calls == other.calls
    }
}

/// A call in the list of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The call.
    pub call: CallKey,
    /// Call-ID of the caller's side.
    pub call_id: &'a str,
    /// The Request-URI that was called.
    pub called: &'a str,
    /// Who answered: [`Target::label`].
    pub answered_by: Option<&'a str>,
    /// When it began ([`Calls::age`]).
    pub began_at: Micros,
    /// How far it is.
    pub stage: Stage,
    /// The ways to the caller, and to the callee or the first of those who are called.
    pub flows: [Option<Flow>; 2],
}

impl<'a> Listed<'a> {
    fn of(call: &'a Call) -> Self {
        let head = &call.head;
        let begun = call.invitation.as_ref().map(|invitation| invitation.flow);
        let called = || call.branches.iter().map(|(_, branch)| branch.outbound.flow).next();
        let (stage, flows) = match head.phase {
            Phase::Routing { .. } => (Stage::Routing, [begun, None]),
            Phase::Calling { .. } => (Stage::Calling, [begun, called()]),
            Phase::Established { pair } => {
                let legs = call.pairs.get(pair);
                let flows = legs.map_or([begun, None], |pair| {
                    [pair.caller.as_ref().map(|leg| leg.flow), Some(pair.callee.flow)]
                });
                (Stage::Established, flows)
            }
            Phase::Over { .. } => (Stage::Over, [begun, None]),
        };
        Self {
            call: call.key,
            call_id: &head.call_id,
            called: &head.called,
            answered_by: head.answered_by.as_deref(),
            began_at: head.began_at,
            stage,
            flows,
        }
    }
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for [`Order::Route`].
    Routing,
    /// Somebody is being called.
    Calling,
    /// It was answered.
    Established,
    /// It is over; its last transactions end.
    Over,
}

fn context<'a>(
    settings: &'a CallSettings,
    epoch: Epoch,
    now: Micros,
    out: &'a mut Outputs,
    scratch: &'a mut Vec<u8>,
) -> Context<'a> {
    Context { settings, epoch, now, out, scratch }
}

pub(super) fn timer_refused(refusal: TimerRefusal) -> Rejection {
    match refusal {
        TimerRefusal::TooSmall(min_se_s) => Rejection { detail: Detail::MinSe(min_se_s), ..rejection(422) },
        TimerRefusal::Malformed(what) => malformed(what),
    }
}
