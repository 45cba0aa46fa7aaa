//! Messages as they come: whose they are, who may send them, and what is answered without a call.

use crate::calls::RETRY_AFTER_S;
use crate::identity::Who;
use crate::sources::{Admission, CHALLENGE, REFUSAL};
use crate::{Change, Notice, Outputs, SipCore};
use domain::Micros;
use sip_proto::b2bua::{self, Calls, Event, Flow, Outgoing, Transport};
use sip_proto::{
    Arrival, Binding, Draft, HeaderName, MAX_MESSAGE, Message, Method, Reply, StartLine, ToTag, Wire,
    destination, reason_phrase,
};
use std::time::Duration;

/// How often it is told at most that more comes than can be served.
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl SipCore {
    pub(crate) fn received(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        now: Micros,
        wall: Micros,
        out: &mut Outputs,
    ) {
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
            Method::Invite if self.behind => self.shed(message, flow, now, out),
            Method::Invite if message.defect.is_none() => {
                self.invited(message, flow, trunk, (now, wall), out)
            }
            Method::Register if message.defect.is_none() => self.register(message, flow, (now, wall), out),
            Method::Invite | Method::Bye | Method::Prack => {
                if message.defect.is_some() {
                    self.count_refusal(flow, REFUSAL, now, out);
                }
                self.calls_received(message, flow, now, wall, out);
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

    /// Somebody calls while more comes than can be served: as little as possible is done about it.
    fn shed(&mut self, message: &Message<'_>, flow: Flow, now: Micros, out: &mut Outputs) {
        self.figures.shed += 1;
        if self.overload_told.is_none_or(|told| now.since(told) >= TELL_AGAIN) {
            self.overload_told = Some(now);
            out.notices.push(Notice::Overloaded);
        }
        self.respond(message, flow, 503, out, |draft| draft.header("Retry-After", RETRY_AFTER_S));
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
        self.known(flow, now);
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
            self.count_refusal(flow, REFUSAL, now, out);
            return self.refuse(message, flow, 403, out);
        }
        self.known(flow, now);
        let address = to.map(|to| to.address_of_record());
        let before = address.as_ref().map(|address| self.uas.registrar().all(address)).unwrap_or_default();
        // Those that may be by another connection now; mostly there are none.
        let by_another = |binding: &&Binding| {
            binding.flow.is_some_and(|before| before != flow && self.setup.transport(before).is_reliable())
        };
        let before: Vec<Binding> = before.iter().filter(by_another).cloned().collect();
        let status = self.answer(message, flow, now, out);
        if status == Some(200)
            && let Some(address) = address
        {
            self.figures.registrations += 1;
            let bindings = self.uas.registrar().all(&address).to_vec();
            let moves = self.moves(&before, &bindings);
            out.changes.push(Change::Bindings { address: address.into(), bindings });
            for connections in moves {
                self.moved(connections, now, wall, out);
            }
        }
    }

    /// Which connections have become others, as phones have registered over these.
    fn moves(&self, before: &[Binding], now: &[Binding]) -> Vec<(Flow, Flow)> {
        let is_same = |a: &Binding, b: &Binding| match (&a.instance, &b.instance) {
            (Some(_), Some(_)) => a.instance == b.instance && a.reg_id == b.reg_id,
            (None, _) | (_, None) => a.contact == b.contact,
        };
        let moves = before.iter().filter_map(|old| {
            let from = old.flow?;
            let to = now.iter().find(|new| is_same(old, new))?.flow?;
            (from != to && from.interface == to.interface).then_some((from, to))
        });
        moves.collect()
    }

    /// Somebody of whom we know who it is.
    fn known(&mut self, flow: Flow, now: Micros) {
        self.sources.known(flow.peer.ip(), self.setup.known_for(), now);
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
                    self.count_refusal(flow, REFUSAL, now, out);
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
        } else {
            self.figures.challenged += 1;
        }
        self.count_refusal(flow, if wrong { REFUSAL } else { CHALLENGE }, now, out);
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

    /// Answers without remembering it: sent again, the request is answered again in the same way. What would be longer than a
    /// message may be (a request as long as that is copied into it in parts) is not sent.
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
        if self.scratch.len() > MAX_MESSAGE {
            return;
        }
        let flow = self.reply_flow(flow, destination(message.via().ok().as_ref(), flow.peer));
        let wire = Wire::from(self.scratch.as_slice());
        out.messages.push(Outgoing { flow, wire, call: None, transaction: None });
    }

    fn count_refusal(&mut self, flow: Flow, weight: u32, now: Micros, out: &mut Outputs) {
        let source = flow.peer.ip();
        if self.trunks.of_source(source).is_none() && self.sources.refused(source, weight, now) {
            let lasts = self.setup.settings.limits.silence;
            out.notices.push(Notice::SourceSilenced { source: crate::sources::network(source), lasts });
        }
    }
}
