//! The value itself: who is served how.

use crate::identity::{Identity, Who};
use crate::routing::{self, Rights};
use crate::setup::{Setup, TRUNK};
use crate::sources::{Admission, Sources};
use crate::trace::Traces;
use crate::trunks::Trunks;
use crate::{Change, Figures, Notice, Outputs, Place, Record, records};
use domain::{Epoch, Micros, SipName, Standby};
use sip_proto::b2bua::{self, CallKey, Calls, Cdr, Event, Flow, Listed, Order, Outgoing, Stage, Transport};
use sip_proto::{
    Arrival, Draft, Duty, HeaderName, Message, Method, Reply, StartLine, ToTag, UserAgentServer, Wire,
    destination, reason_phrase,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Addresses-of-record whose bindings end in one step.
const EXPIRIES: usize = 256;
/// Retry-After of what is refused for want of room, seconds.
const RETRY_AFTER_S: u32 = 10;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A message came to one of the listen addresses.
    Received {
        /// The message.
        message: &'a Message<'a>,
        /// The way that it came.
        flow: Flow,
    },
    /// A message could not be sent.
    Unsent {
        /// [`Outgoing::call`] of the message.
        call: CallKey,
        /// [`Outgoing::transaction`] of the message.
        transaction: u32,
    },
    /// The answer to a [`crate::Question`].
    Located {
        /// Of which trunk.
        trunk: &'a SipName,
        /// Where it is, the best place first, and how long that is good; or why nobody knows.
        places: Result<(&'a [Place], Duration), &'a str>,
    },
    /// End a call.
    HangUp {
        /// Which one.
        call: CallKey,
    },
    /// Records were written down, or given up.
    Recorded {
        /// Of these calls.
        calls: &'a [CallKey],
    },
    /// [`SipCore::next_deadline`] came.
    Due,
}

/// The SIP Server.
#[derive(Debug)]
pub struct SipCore {
    pub(crate) setup: Setup,
    pub(crate) uas: UserAgentServer,
    pub(crate) calls: Calls,
    pub(crate) identity: Identity,
    pub(crate) trunks: Trunks,
    pub(crate) sources: Sources,
    /// Who calls, for each call; none where nobody is asked.
    pub(crate) callers: BTreeMap<CallKey, Option<Box<str>>>,
    /// How many calls each label has, as caller or as callee.
    busy: BTreeMap<Box<str>, u32>,
    /// The other end of calls, once it has answered.
    answerers: BTreeMap<CallKey, Box<str>>,
    /// Calls that nobody rang for yet.
    silent: BTreeSet<CallKey>,
    pub(crate) stale_addresses: BTreeSet<Box<str>>,
    /// Records of calls that are over, until they are written down.
    pub(crate) unwritten: BTreeMap<CallKey, Record>,
    pub(crate) stale_records: BTreeSet<CallKey>,
    /// Whether some of these are another's, who may not have written them down before it fell silent.
    owed: bool,
    figures: Figures,
    traces: Traces,
    full_told: bool,
    duty: Duty,
    outputs: b2bua::Outputs,
    scratch: Vec<u8>,
}

impl SipCore {
    /// Nobody is registered, and there are no calls.
    ///
    /// # Panics
    /// Where the settings name no listen address.
    #[must_use]
    pub fn new(setup: Setup, now: Micros) -> Self {
        Self {
            uas: UserAgentServer::new(setup.registrar()),
            calls: Calls::new(setup.calls()),
            identity: Identity::new(&setup),
            trunks: Trunks::new(&setup, now),
            sources: Sources::new(setup.settings.limits),
            callers: BTreeMap::new(),
            busy: BTreeMap::new(),
            answerers: BTreeMap::new(),
            silent: BTreeSet::new(),
            stale_addresses: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            stale_records: BTreeSet::new(),
            owed: false,
            figures: Figures::default(),
            traces: Traces::default(),
            full_told: false,
            duty: Duty::Serve,
            outputs: b2bua::Outputs::default(),
            scratch: Vec::with_capacity(2_048),
            setup,
        }
    }

    /// Takes what happened, and appends what is to be done about it. `wall` is Unix time, for records and nonces.
    pub fn step(&mut self, input: Input<'_>, now: Micros, wall: Micros, out: &mut Outputs) {
        match input {
            Input::Received { message, flow } => self.received(message, flow, now, wall, out),
            Input::Unsent { call, transaction } => {
                self.figures.unsent += 1;
                self.calls_step(b2bua::Input::Unsent { call, transaction }, now, wall, out);
            }
            Input::Located { trunk, places } => self.trunks.located(trunk, places, &self.setup, now, out),
            Input::HangUp { call } => {
                self.calls_step(b2bua::Input::Ordered(Order::HangUp { call }), now, wall, out);
            }
            Input::Recorded { calls } => self.recorded(calls, out),
            Input::Due => self.due(now, wall, out),
        }
    }

    /// When [`Input::Due`] is due.
    #[must_use]
    pub fn next_deadline(&self, now: Micros) -> Option<Micros> {
        if !self.trunks.is_serving() {
            return self.trunks.next_deadline();
        }
        if self.owed {
            return Some(Micros(0));
        }
        let clock = self.calls.clock(now);
        let expiry = self.uas.registrar().next_deadline().map(|end| now + end.since(clock));
        [self.calls.next_deadline(), expiry, self.trunks.next_deadline()].into_iter().flatten().min()
    }

    /// What is to be done with what is new: served, or refused in a graceful stop.
    pub fn set_duty(&mut self, duty: Duty) {
        self.duty = duty;
        self.calls.refuse_new(duty != Duty::Serve);
    }

    /// From now on it serves.
    pub fn take_over(&mut self, epoch: Epoch, now: Micros) {
        self.owed |= !self.trunks.is_serving() && !self.unwritten.is_empty();
        self.stale_records.clear();
        self.calls.take_over(epoch);
        self.trunks.serve(true, now);
        self.stale_addresses.clear();
    }

    /// From now on it is a backup: another serves.
    pub fn stand_by(&mut self, now: Micros) {
        self.trunks.serve(false, now);
    }

    /// What a takeover would carry on.
    #[must_use]
    pub fn survey(&self, now: Micros) -> Standby {
        let mut standby = Standby::default();
        for listed in self.calls.list() {
            match listed.stage {
                Stage::Established => standby.confirmed += 1,
                Stage::Routing | Stage::Calling => standby.ringing += 1,
                Stage::Over => continue,
            }
            let over_stream = |flow: &Flow| self.setup.transport(*flow).is_reliable();
            standby.calls_over_streams += u32::from(listed.flows.iter().flatten().any(over_stream));
        }
        let clock = self.calls.clock(now);
        for (_, bindings) in self.uas.registrar().range(None, usize::MAX) {
            for binding in bindings.iter().filter(|binding| binding.expires_at > clock) {
                standby.registered += 1;
                let over_stream = binding.flow.is_some_and(|flow| self.setup.transport(flow).is_reliable());
                standby.registered_over_streams += u32::from(over_stream);
            }
        }
        standby
    }

    /// The calls.
    pub fn list(&self) -> impl Iterator<Item = (Listed<'_>, Option<&str>)> {
        self.calls.list().map(|listed| {
            let caller = self.callers.get(&listed.call).and_then(Option::as_deref);
            (listed, caller)
        })
    }

    /// How many calls there are, those included whose last transactions end.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// How many addresses-of-record are registered.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.uas.registrar().len()
    }

    /// How long ago something was, given a time that a listed call carries.
    #[must_use]
    pub fn age(&self, at: Micros, now: Micros) -> Duration {
        self.calls.age(at, now)
    }

    /// A ladder diagram of what was said in a call, by its key or by the Call-ID of the caller's side.
    #[must_use]
    pub fn trace(&self, call: &str) -> Option<String> {
        let by_id = || self.calls.list().find(|listed| listed.call_id == call).map(|listed| listed.call);
        self.traces.ladder(CallKey::read(call).or_else(by_id)?)
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    // ---- messages

    fn received(&mut self, message: &Message<'_>, flow: Flow, now: Micros, wall: Micros, out: &mut Outputs) {
        let line = match message.start {
            StartLine::Request(line) => line,
            StartLine::Status { code, .. } => {
                self.figures.responses += 1;
                let branch = message.via().ok().and_then(|via| via.branch);
                if !branch.is_some_and(|branch| self.trunks.answered(branch, code, now, out)) {
                    self.calls_received(message, flow, now, wall, out);
                }
                return;
            }
        };
        self.figures.requests += 1;
        let in_dialog = message.to().is_ok_and(|to| to.tag().is_some());
        let of_call = match line.method {
            Method::Ack | Method::Cancel => true,
            Method::Invite => in_dialog || self.calls.is_begun_by(message),
            Method::Bye
            | Method::Prack
            | Method::Update
            | Method::Info
            | Method::Refer
            | Method::Notify
            | Method::Message
            | Method::Subscribe
            | Method::Publish
            | Method::Options
            | Method::Register
            | Method::Other => in_dialog && Calls::concerns(message),
        };
        if of_call {
            return self.calls_received(message, flow, now, wall, out);
        }
        let trunk = self.trunks.of_source(flow.peer.ip()).map(|trunk| trunk.label());
        if trunk.is_none() && self.sources.admit(flow.peer.ip(), now) == Admission::Ignore {
            self.figures.ignored += 1;
            return;
        }
        match line.method {
            Method::Invite if message.defect.is_none() => {
                self.invited(message, flow, trunk, (now, wall), out)
            }
            Method::Register if message.defect.is_none() => self.register(message, flow, (now, wall), out),
            Method::Invite | Method::Bye | Method::Prack => {
                self.calls_received(message, flow, now, wall, out)
            }
            Method::Register
            | Method::Update
            | Method::Info
            | Method::Refer
            | Method::Notify
            | Method::Message
            | Method::Subscribe
            | Method::Publish
            | Method::Options
            | Method::Ack
            | Method::Cancel
            | Method::Other => {
                self.answer(message, flow, now, out);
            }
        }
    }

    /// Somebody calls.
    fn invited(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        trunk: Option<String>,
        (now, wall): (Micros, Micros),
        out: &mut Outputs,
    ) {
        let caller: Option<Box<str>> = match trunk {
            Some(label) => Some(label.into()),
            None => match self.identity.of(message, HeaderName::ProxyAuthorization, &self.setup, wall) {
                Who::User(name) => Some(name),
                Who::Anybody => None,
                Who::Unproven { stale, wrong } => {
                    return self.challenge(message, flow, 407, (stale, wrong), (now, wall), out);
                }
            },
        };
        self.sources.known(flow.peer.ip());
        if let Some(label) = &caller
            && !self.has_room(label)
        {
            return self.refuse(message, flow, 486, out);
        }
        if self.calls.len() >= self.setup.settings.limits.calls
            && !std::mem::replace(&mut self.full_told, true)
        {
            out.notices.push(Notice::CallsFull { calls: self.calls.len() });
        }
        self.figures.attempts += 1;
        self.outputs.clear();
        self.calls.step(b2bua::Input::Received { message, flow }, now, &mut self.outputs);
        // What came of it: at most one new call.
        let begun = self.outputs.events.iter().find_map(|event| match event {
            Event::Incoming { call } => Some(*call),
            Event::Ringing { .. } | Event::TargetFailed { .. } | Event::Answered { .. } | Event::Ended(_) => {
                None
            }
        });
        let Some(call) = begun else {
            self.pass_on(now, wall, out);
            return;
        };
        self.note_caller(call, caller.clone());
        self.silent.insert(call);
        self.traces.came(call, message, flow.peer, now);
        self.pass_on(now, wall, out);
        out.changes.push(Change::Caller { call, caller });
    }

    /// Somebody registers.
    fn register(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        (now, wall): (Micros, Micros),
        out: &mut Outputs,
    ) {
        let user = match self.identity.of(message, HeaderName::Authorization, &self.setup, wall) {
            Who::User(name) => Some(name),
            Who::Anybody => None,
            Who::Unproven { stale, wrong } => {
                return self.challenge(message, flow, 401, (stale, wrong), (now, wall), out);
            }
        };
        let to = message.to().ok().and_then(|to| to.sip_uri().ok());
        // Users register themselves and nobody else (RFC 3261, section 10.3, step 4).
        if let Some(user) = &user
            && to.is_none_or(|to| to.userinfo.and_then(|info| info.split(':').next()) != Some(&**user))
        {
            self.count_refusal(flow, now, out);
            return self.refuse(message, flow, 403, out);
        }
        self.sources.known(flow.peer.ip());
        let status = self.answer(message, flow, now, out);
        if status == Some(200)
            && let Some(to) = to
        {
            self.figures.registrations += 1;
            let address: Box<str> = to.address_of_record().into();
            let bindings = self.uas.registrar().all(&address).to_vec();
            out.changes.push(Change::Bindings { address, bindings });
        }
    }

    /// Answers what belongs to no call; with which status.
    fn answer(&mut self, message: &Message<'_>, flow: Flow, now: Micros, out: &mut Outputs) -> Option<u16> {
        self.scratch.clear();
        let arrival =
            Arrival { source: flow.peer, now: self.calls.clock(now), duty: self.duty, flow: Some(flow) };
        match self.uas.answer(message, arrival, &mut self.scratch) {
            Reply::Answer { status, to } => {
                let flow = self.reply_flow(flow, to);
                let wire = Wire::from(self.scratch.as_slice());
                out.messages.push(Outgoing { flow, wire, call: None, transaction: None });
                if matches!(status, 400 | 403 | 404 | 405 | 501) {
                    self.count_refusal(flow, now, out);
                }
                Some(status)
            }
            Reply::None(_) => None,
        }
    }

    fn reply_flow(&self, flow: Flow, to: std::net::SocketAddr) -> Flow {
        match self.setup.transport(flow) {
            Transport::Udp => Flow { peer: to, ..flow },
            Transport::Tcp | Transport::Tls => flow,
        }
    }

    fn refuse(&mut self, message: &Message<'_>, flow: Flow, status: u16, out: &mut Outputs) {
        self.respond(message, flow, status, out, |draft| draft);
    }

    fn challenge(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        status: u16,
        (stale, wrong): (bool, bool),
        (now, wall): (Micros, Micros),
        out: &mut Outputs,
    ) {
        if wrong {
            self.figures.wrong += 1;
            self.count_refusal(flow, now, out);
        } else {
            self.figures.challenged += 1;
        }
        let challenges = self.identity.challenges(message, stale, wall);
        if challenges.is_empty() {
            // There are no users, so nobody can prove anything.
            return self.refuse(message, flow, 403, out);
        }
        let field = if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
        self.respond(message, flow, status, out, |draft| {
            challenges.iter().fold(draft, |draft, challenge| draft.header(field, challenge))
        });
    }

    /// Answers without remembering it: sent again, the request is answered again in the same way.
    fn respond(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        status: u16,
        out: &mut Outputs,
        fill: impl FnOnce(Draft<'_>) -> Draft<'_>,
    ) {
        if message.value(HeaderName::Via).is_none() {
            return;
        }
        self.scratch.clear();
        let reason = reason_phrase(status);
        let draft =
            Draft::response(&mut self.scratch, message, status, reason, ToTag::OfTransaction, flow.peer);
        fill(draft).header("Server", &self.setup.server).finish();
        let flow = self.reply_flow(flow, destination(message.via().ok().as_ref(), flow.peer));
        let wire = Wire::from(self.scratch.as_slice());
        out.messages.push(Outgoing { flow, wire, call: None, transaction: None });
    }

    fn count_refusal(&mut self, flow: Flow, now: Micros, out: &mut Outputs) {
        let source = flow.peer.ip();
        if self.trunks.of_source(source).is_none() && self.sources.refused(source, now) {
            let lasts = self.setup.settings.limits.silence;
            out.notices.push(Notice::SourceSilenced { source: crate::sources::network(source), lasts });
        }
    }

    // ---- calls

    fn calls_received(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        now: Micros,
        wall: Micros,
        out: &mut Outputs,
    ) {
        self.outputs.clear();
        self.calls.step(b2bua::Input::Received { message, flow }, now, &mut self.outputs);
        let of_message = self.outputs.messages.iter().find_map(|message| message.call);
        let of_change = self.outputs.deltas.first().map(|delta| delta.call);
        if let Some(call) = of_message.or(of_change) {
            self.traces.came(call, message, flow.peer, now);
        }
        self.pass_on(now, wall, out);
    }

    fn calls_step(&mut self, input: b2bua::Input<'_>, now: Micros, wall: Micros, out: &mut Outputs) {
        self.outputs.clear();
        self.calls.step(input, now, &mut self.outputs);
        self.pass_on(now, wall, out);
    }

    /// Passes on what came of a step of the calls, and does what they ask for.
    fn pass_on(&mut self, now: Micros, wall: Micros, out: &mut Outputs) {
        loop {
            for delta in self.outputs.deltas.drain(..) {
                if delta.is_removal() {
                    self.full_told = false;
                }
                out.changes.push(Change::Call(Box::new(delta)));
            }
            for outgoing in &self.outputs.messages {
                if let Some(call) = outgoing.call {
                    self.traces.goes(call, &outgoing.wire, outgoing.flow.peer, now);
                }
            }
            out.messages.append(&mut self.outputs.messages);
            let events = std::mem::take(&mut self.outputs.events);
            if events.is_empty() {
                return;
            }
            for event in events {
                self.happened(event, now, wall, out);
            }
        }
    }

    fn happened(&mut self, event: Event, now: Micros, wall: Micros, out: &mut Outputs) {
        match event {
            Event::Incoming { call } => {
                let order = self.route(call, now);
                self.calls.step(b2bua::Input::Ordered(order), now, &mut self.outputs);
            }
            Event::Ringing { call, label: _ } => self.rang(call, now),
            Event::Answered { call, label } => {
                self.rang(call, now);
                self.figures.answered += 1;
                self.count(&label, true);
                self.answerers.insert(call, label);
            }
            Event::TargetFailed { .. } => self.figures.target_failures += 1,
            Event::Ended(cdr) => {
                let record = self.record(&cdr, now, wall);
                // Without a place to write them to, there is nothing to be owed.
                if self.setup.settings.cdr_directory.is_some() {
                    self.unwritten.insert(cdr.call, record.clone());
                    out.changes.push(Change::Record(Box::new(record.clone())));
                }
                out.records.push(record);
                self.forget_call(cdr.call);
            }
        }
    }

    fn rang(&mut self, call: CallKey, now: Micros) {
        if self.silent.remove(&call)
            && let Some(listed) = self.calls.listed(call)
        {
            let delay = self.calls.age(listed.began_at, now);
            self.figures.post_dial_delay(delay);
        }
    }

    /// Where a call goes.
    fn route(&self, call: CallKey, now: Micros) -> Order {
        let caller = self.callers.get(&call).and_then(Option::as_deref);
        let from_trunk = caller.is_some_and(|label| label.starts_with(TRUNK));
        let user = caller.and_then(|name| self.setup.settings.users.get(name));
        let rights = Rights {
            users: true,
            // No call goes through from one network to another.
            outside: !from_trunk && user.map_or(self.setup.open, |user| user.outside),
        };
        let listed = self.calls.listed(call);
        let called = listed.as_ref().map_or("", |listed| listed.called);
        let clock = self.calls.clock(now);
        let plan =
            routing::plan(&self.setup, self.uas.registrar(), &self.trunks, (call, called), rights, clock);
        match plan {
            Ok(plan) => {
                let callee = plan.groups.iter().flatten().next().map(|target| &target.label);
                if callee.is_some_and(|label| !self.has_room(label)) {
                    return Order::Refuse { call, status: 486, retry_after_s: None };
                }
                Order::Route { call, plan }
            }
            Err(status) => {
                Order::Refuse { call, status, retry_after_s: (status == 503).then_some(RETRY_AFTER_S) }
            }
        }
    }

    /// Whether a user or trunk may have one more call.
    fn has_room(&self, label: &str) -> bool {
        let settings = &self.setup.settings;
        let most = match label.strip_prefix(TRUNK) {
            Some(trunk) => settings.trunks.get(trunk).and_then(|trunk| trunk.calls),
            None => settings.users.get(label).and_then(|user| user.calls),
        };
        most.is_none_or(|most| self.busy.get(label).copied().unwrap_or(0) < most)
    }

    pub(crate) fn note_caller(&mut self, call: CallKey, caller: Option<Box<str>>) {
        if let Some(Some(before)) = self.callers.insert(call, caller.clone()) {
            self.count(&before, false);
        }
        if let Some(label) = caller {
            self.count(&label, true);
        }
    }

    /// Who answered a call of the primary's.
    pub(crate) fn note_answerer(&mut self, call: CallKey) {
        let Some(label) = self.calls.listed(call).and_then(|listed| listed.answered_by.map(Box::from)) else {
            return;
        };
        if !self.answerers.contains_key(&call) {
            self.count(&label, true);
            self.answerers.insert(call, label);
        }
    }

    pub(crate) fn forget_call(&mut self, call: CallKey) {
        self.silent.remove(&call);
        let ends = [self.callers.remove(&call).flatten(), self.answerers.remove(&call)];
        for label in ends.into_iter().flatten() {
            self.count(&label, false);
        }
    }

    fn count(&mut self, label: &str, more: bool) {
        let busy = self.busy.entry(label.into()).or_default();
        *busy = if more { *busy + 1 } else { busy.saturating_sub(1) };
        let calls = *busy;
        if calls == 0 {
            self.busy.remove(label);
        }
        if let Some(trunk) = self.trunks.labelled(label) {
            trunk.calls = calls;
        }
    }

    fn record(&mut self, cdr: &Cdr, now: Micros, wall: Micros) -> Record {
        self.figures.ended += 1;
        self.figures.refused += u64::from(cdr.answered_at.is_none());
        let at = |at: Micros| Micros(wall.0.saturating_sub(us(self.calls.age(at, now))));
        let ms = |from: Micros, to: Micros| u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
        let (cause, status) = records::word(cdr.cause);
        Record {
            call: cdr.call,
            epoch: cdr.epoch,
            call_id: cdr.call_id.as_ref().to_owned(),
            caller: self.callers.get(&cdr.call).cloned().flatten().map(Into::into),
            from: String::from_utf8_lossy(&cdr.from).into_owned(),
            called: cdr.called.as_ref().to_owned(),
            answered_by: cdr.answered_by.as_deref().map(str::to_owned),
            began_us: at(cdr.began_at),
            answered_us: cdr.answered_at.map(at),
            ended_us: at(cdr.ended_at),
            setup_ms: ms(cdr.began_at, cdr.answered_at.unwrap_or(cdr.ended_at)),
            duration_ms: cdr.answered_at.map_or(0, |answered| ms(answered, cdr.ended_at)),
            cause: cause.into(),
            status,
        }
    }

    fn recorded(&mut self, calls: &[CallKey], out: &mut Outputs) {
        let known: Vec<CallKey> =
            calls.iter().copied().filter(|call| self.unwritten.remove(call).is_some()).collect();
        if !known.is_empty() {
            out.changes.push(Change::Recorded { calls: known });
        }
    }

    // ---- time

    fn due(&mut self, now: Micros, wall: Micros, out: &mut Outputs) {
        self.trunks.due(&self.setup, now, out);
        if !self.trunks.is_serving() {
            // Calls and registrations are another's; where trunks are, is good to know when they are ours.
            return;
        }
        if std::mem::take(&mut self.owed) {
            // Those of calls that are not over here will come when they are.
            let owed = self.unwritten.iter().filter(|(call, _)| !self.occupies(**call));
            out.records.extend(owed.map(|(_, record)| record.clone()));
        }
        let clock = self.calls.clock(now);
        self.uas.registrar_mut().due(clock, EXPIRIES);
        if self.calls.next_deadline().is_some_and(|at| at <= now) {
            self.calls_step(b2bua::Input::Due, now, wall, out);
        }
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
