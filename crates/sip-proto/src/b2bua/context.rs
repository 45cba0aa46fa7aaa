//! What every step of a call needs around it: settings, time, where outputs go; and the messages that it writes.

use super::orders::{CallSettings, Interface};
use super::state::{Answer, Body, Inbound, Leg, Serving};
use super::{CallKey, Event, Flow, Outgoing, Outputs};
use crate::draft::{Draft, ToTag, destination, fits, reason_phrase};
use crate::transaction::{Repeat, ServerKey, Timing};
use crate::{
    Framing, Header, HeaderName, Message, Method, RequestLine, SessionExpires, StartLine, Uri, Wire, parse,
};
use domain::{Epoch, Micros};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::SocketAddr;

/// Extensions that may be used between the two sides, as they concern only these or we do our part.
const OPTIONS: [&str; 7] =
    ["100rel", "timer", "replaces", "norefersub", "histinfo", "precondition", "early-session"];
/// What we list in Allow where we answer for ourselves.
pub(crate) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, REFER, NOTIFY, OPTIONS, REGISTER";

/// Whether an extension may be required of us.
pub(super) fn is_known_option(tag: &[u8]) -> bool {
    OPTIONS.iter().any(|option| tag.eq_ignore_ascii_case(option.as_bytes()))
}

/// The surroundings of a step.
pub(super) struct Context<'a> {
    pub(super) settings: &'a CallSettings,
    pub(super) epoch: Epoch,
    pub(super) now: Micros,
    pub(super) out: &'a mut Outputs,
    /// Messages are written here before they are shared.
    pub(super) scratch: &'a mut Vec<u8>,
}

/// A Via of ours (RFC 3261, section 8.1.1.7). With `rport`, as symmetric routing costs nothing (RFC 3581).
pub(super) struct Via<'a> {
    interface: &'a Interface,
    call: CallKey,
    number: u32,
}

impl fmt::Display for Via<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interface { transport, address } = self.interface;
        write!(
            f,
            "SIP/2.0/{} {address};branch={}.{:x};rport",
            transport.in_via(),
            Branch(self.call),
            self.number
        )
    }
}

/// The part of our branch parameters that is the same for all of a call.
struct Branch(CallKey);

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", crate::transaction::COOKIE, self.0)
    }
}

/// The call and the number of the transaction that a branch parameter of ours names.
pub(super) fn read_branch(branch: &str) -> Option<(CallKey, u32)> {
    let (key, number) = branch.strip_prefix(crate::transaction::COOKIE)?.split_once('.')?;
    Some((CallKey::read(key)?, u32::from_str_radix(number, 16).ok()?))
}

/// Which request of which call a datagram of ours was, given its beginning, as ICMP brings it back. None: it was no request of a
/// call, or too little of it came.
#[must_use]
pub fn sent_in(beginning: &[u8]) -> Option<(CallKey, u32)> {
    let mut lines = beginning.split(|byte| *byte == b'\n');
    if lines.next()?.starts_with(b"SIP/2.0 ") {
        return None;
    }
    // Ours is the first field.
    let via = lines.next()?.strip_prefix(b"Via: ")?.strip_suffix(b"\r")?;
    read_branch(crate::Via::read(via).ok()?.branch?)
}

/// A message of ours that is too long to be sent, or that cannot be made: the one reason why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unwritable;

impl Context<'_> {
    pub(super) fn timing(&self) -> &Timing {
        &self.settings.timing
    }

    /// Our end of a flow. Members of a pair with different settings must not make it panic.
    pub(super) fn interface(&self, flow: Flow) -> &Interface {
        interface(self.settings, flow)
    }

    pub(super) fn is_reliable(&self, flow: Flow) -> bool {
        self.interface(flow).transport.is_reliable()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }

    pub(super) fn send(&mut self, call: CallKey, flow: Flow, wire: Wire, transaction: Option<u32>) {
        self.out.messages.push(Outgoing { flow, wire, call: Some(call), transaction });
    }

    /// Sends what was sent before.
    pub(super) fn send_again(&mut self, call: CallKey, flow: Flow, wire: Wire, transaction: Option<u32>) {
        self.out.again += 1;
        self.send(call, flow, wire, transaction);
    }

    /// Where answers to a request go that came over `flow`.
    pub(super) fn reply_flow(&self, request: &Message<'_>, flow: Flow) -> Flow {
        if self.is_reliable(flow) {
            return flow;
        }
        Flow { peer: destination(request.via().ok().as_ref(), flow.peer), ..flow }
    }

    /// Where requests to a leg go.
    pub(super) fn request_flow(&self, leg: &Leg) -> Flow {
        request_flow(self.settings, leg)
    }

    /// A number that nobody can guess, another one for each `salt`.
    pub(super) fn random(&self, salt: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.settings.seed);
        for number in [salt, self.epoch.0, self.now.0] {
            hash.update(number.to_be_bytes());
        }
        let digest = hash.finalize();
        u64::from_be_bytes(digest[..8].try_into().expect("a digest has more than 8 bytes"))
    }

    // ---- messages

    fn written(&mut self) -> Result<Wire, Unwritable> {
        if fits(self.scratch.len()) { Ok(Wire::from(&self.scratch[..])) } else { Err(Unwritable) }
    }

    /// A response of our own to a request that came over `flow`.
    pub(super) fn response(
        &mut self,
        request: &Message<'_>,
        flow: Flow,
        status: u16,
        reason: Option<&str>,
        tag: ToTag<'_>,
        add: impl for<'b> FnOnce(Draft<'b>) -> Draft<'b>,
    ) -> Result<Wire, Unwritable> {
        self.scratch.clear();
        let reason = reason.unwrap_or(reason_phrase(status));
        let draft = Draft::response(self.scratch, request, status, reason, tag, flow.peer);
        add(draft).header("Server", &self.settings.server).finish();
        self.written()
    }

    /// The response of the other side, passed on as an answer to `request`, which came over `flow`.
    pub(super) fn passed_response(
        &mut self,
        request: &Message<'_>,
        flow: Flow,
        response: &Message<'_>,
        passed: &Passed<'_>,
    ) -> Result<Wire, Unwritable> {
        let StartLine::Status { code, reason } = response.start else { return Err(Unwritable) };
        let status = passed.status.unwrap_or(code);
        let reason = match passed.status {
            Some(status) => reason_phrase(status).as_bytes(),
            None => reason,
        };
        let reason = String::from_utf8_lossy(reason);
        let contact = self.interface(flow).clone();
        self.scratch.clear();
        let mut draft = Draft::response(self.scratch, request, status, &reason, passed.tag, flow.peer);
        // Who answers with a dialog copies the route that the request recorded (RFC 3261, section 12.1.1).
        if (101..300).contains(&status) {
            for route in request.headers.iter().filter(|header| header.name == HeaderName::RecordRoute) {
                draft = draft.copy(route);
            }
            if passed.negotiates {
                draft = draft.header("Contact", contact.contact());
            }
        }
        if (300..400).contains(&status) {
            // Who called may follow it; we do not.
            for contact in response.headers.iter().filter(|header| header.name == HeaderName::Contact) {
                draft = draft.copy(contact);
            }
        }
        if let Some(rseq) = passed.rseq {
            draft = draft.header("Require", "100rel").header("RSeq", rseq);
        }
        if status < 300 && passed.negotiates {
            draft = supported(draft, response, true);
        }
        if let Some(session) = passed.session {
            draft = draft.header("Session-Expires", session);
            if session.refresher == Some(crate::Refresher::Uac) {
                draft = draft.header("Require", "timer");
            }
        }
        copied(draft, response).finish_with(response.body);
        self.written()
    }

    /// The caller's INVITE as it goes to a target.
    pub(super) fn invite(&mut self, request: &Message<'_>, invite: &Invite<'_>) -> Result<Wire, Unwritable> {
        let StartLine::Request(_) = request.start else { return Err(Unwritable) };
        let (from, to) = (request.from().map_err(|_| Unwritable)?, request.to().map_err(|_| Unwritable)?);
        let interface = self.interface(invite.flow).clone();
        let hops = request.max_forwards().ok().flatten().unwrap_or(70).saturating_sub(1);
        let via = Via { interface: &interface, call: invite.call, number: invite.number };
        self.scratch.clear();
        let mut draft = Draft::request(self.scratch, "INVITE", invite.uri)
            .header("Via", via)
            .maybe("Route", invite.route)
            .header("Max-Forwards", hops)
            .tagged("From", from.without_params(), invite.tag)
            .raw("To", to.without_params())
            .header("Call-ID", format_args!("{}@{}", invite.tag, interface.address.ip()))
            .header("CSeq", format_args!("{} INVITE", invite.cseq))
            .header("Contact", interface.contact())
            .header("Session-Expires", invite.session_s)
            .header("Min-SE", invite.min_se_s);
        if let Some((name, value)) = invite.authorization {
            draft = draft.header(name, value);
        }
        draft = supported(draft, request, true);
        draft = required(draft, request, invite.replaces.is_some());
        draft = draft.maybe("Replaces", invite.replaces);
        copied(draft, request).finish_with(request.body);
        self.written()
    }

    /// A request of one side, as it is passed to the other in its dialog.
    pub(super) fn passed_request(
        &mut self,
        call: CallKey,
        leg: &Leg,
        numbers: Numbers,
        request: &Message<'_>,
        line: RequestLine<'_>,
        rack: Option<(u32, u32)>,
    ) -> Result<Wire, Unwritable> {
        let interface = self.interface(leg.flow).clone();
        let via = Via { interface: &interface, call, number: numbers.transaction };
        self.scratch.clear();
        let mut draft = leg.dialog.draft(self.scratch, line.method_text, numbers.cseq, via);
        if makes_or_refreshes(line.method) {
            draft = draft.header("Contact", interface.contact());
        }
        if let Some((rseq, cseq)) = rack {
            draft = draft.header("RAck", format_args!("{rseq} {cseq} INVITE"));
        }
        if matches!(line.method, Method::Invite | Method::Update) {
            if let Some(timer) = leg.timer {
                let refresher = if timer.we_refresh { crate::Refresher::Uac } else { crate::Refresher::Uas };
                let session = SessionExpires { interval_s: timer.interval_s, refresher: Some(refresher) };
                draft = draft.header("Session-Expires", session);
            }
            draft = supported(draft, request, false);
        }
        copied(draft, request).finish_with(request.body);
        self.written()
    }

    /// A request of our own in a dialog: BYE, or UPDATE or INVITE that refresh the session.
    pub(super) fn own_request(
        &mut self,
        call: CallKey,
        leg: &Leg,
        numbers: Numbers,
        method: &str,
        body: Option<&Body>,
        reason: Option<&str>,
    ) -> Result<Wire, Unwritable> {
        let interface = self.interface(leg.flow).clone();
        let via = Via { interface: &interface, call, number: numbers.transaction };
        self.scratch.clear();
        let mut draft = leg.dialog.draft(self.scratch, method, numbers.cseq, via);
        if let Some(timer) = leg.timer.filter(|_| method != "BYE") {
            let session =
                SessionExpires { interval_s: timer.interval_s, refresher: Some(crate::Refresher::Uac) };
            draft = draft
                .header("Contact", interface.contact())
                .header("Supported", "timer")
                .header("Session-Expires", session);
        }
        draft = draft.maybe("Reason", reason).header("User-Agent", &self.settings.server);
        match body {
            Some(body) => draft.raw("Content-Type", &body.content_type).finish_with(&body.bytes),
            None => draft.finish(),
        }
        self.written()
    }

    /// The ACK for a 2xx, with what the other side's ACK carried (RFC 3261, section 13.2.2.4).
    pub(super) fn ack(
        &mut self,
        call: CallKey,
        leg: &Leg,
        numbers: Numbers,
        theirs: Option<&Message<'_>>,
    ) -> Result<Wire, Unwritable> {
        let interface = self.interface(leg.flow).clone();
        let via = Via { interface: &interface, call, number: numbers.transaction };
        self.scratch.clear();
        let draft = leg.dialog.draft(self.scratch, "ACK", numbers.cseq, via);
        match theirs {
            Some(ack) => copied(draft, ack).finish_with(ack.body),
            None => draft.finish(),
        }
        self.written()
    }
}

/// Our end of a flow.
pub(super) fn interface(settings: &CallSettings, flow: Flow) -> &Interface {
    let interfaces = &settings.interfaces;
    interfaces.get(usize::from(flow.interface)).unwrap_or_else(|| &interfaces[0])
}

/// Where requests to a leg go: where its route or Contact says, if that is an address that the interface reaches, and
/// otherwise, as behind a NAT, where its messages come from.
pub(super) fn request_flow(settings: &CallSettings, leg: &Leg) -> Flow {
    let reliable = interface(settings, leg.flow).transport.is_reliable();
    let hop = Uri::parse(leg.dialog.next_hop()).ok().filter(|_| !leg.behind_nat && !reliable);
    let named = hop.and_then(|uri| {
        let host = uri.host.trim_start_matches('[').trim_end_matches(']');
        host.parse().ok().map(|ip| SocketAddr::new(ip, uri.port.unwrap_or(5060)))
    });
    match named.filter(|named| named.is_ipv4() == leg.flow.peer.is_ipv4()) {
        Some(peer) => Flow { peer, ..leg.flow },
        None => leg.flow,
    }
}

/// Numbers of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) transaction: u32,
    pub(super) cseq: u32,
}

/// What an INVITE to a target consists of beside the caller's.
pub(super) struct Invite<'a> {
    pub(super) call: CallKey,
    pub(super) uri: &'a str,
    pub(super) flow: Flow,
    pub(super) route: Option<&'a str>,
    /// Our tag; the Call-ID is made of it too.
    pub(super) tag: &'a str,
    pub(super) number: u32,
    pub(super) cseq: u32,
    pub(super) session_s: u32,
    pub(super) min_se_s: u32,
    /// Name and value of a header field that answers a challenge.
    pub(super) authorization: Option<(&'a str, &'a str)>,
    /// The dialog that the target is to give up.
    pub(super) replaces: Option<&'a str>,
}

/// What is different in a response that is passed on.
pub(super) struct Passed<'a> {
    /// Another status.
    pub(super) status: Option<u16>,
    pub(super) tag: ToTag<'a>,
    pub(super) rseq: Option<u32>,
    pub(super) session: Option<SessionExpires>,
    /// Whether it is of a request that negotiates a session, INVITE or UPDATE: with Contact and Supported.
    pub(super) negotiates: bool,
}

impl<'a> Passed<'a> {
    pub(super) fn as_it_is(tag: ToTag<'a>) -> Self {
        Self { status: None, tag, rseq: None, session: None, negotiates: false }
    }
}

impl Inbound {
    /// A request that came now.
    pub(super) fn new(
        ctx: &Context<'_>,
        key: ServerKey,
        message: &Message<'_>,
        cseq: u32,
        flow: Flow,
        machine: impl FnOnce(bool) -> Serving,
    ) -> Self {
        Self {
            key,
            request: Some(Wire::from(message.bytes)),
            cseq,
            flow,
            reply: ctx.reply_flow(message, flow),
            machine: machine(ctx.is_reliable(flow)),
            answer: None,
        }
    }

    /// Sends a response, unless a final one was sent before.
    pub(super) fn answer(&mut self, ctx: &mut Context<'_>, call: CallKey, status: u16, wire: &Wire) {
        if !self.machine.respond(status, wire, ctx.timing(), ctx.now) {
            return;
        }
        if status >= 200 {
            self.request = None;
        }
        if let (Serving::Invite(_), 200..300) = (&self.machine, status) {
            self.answer = Some(Answer {
                response: wire.clone(),
                again: Repeat::after(ctx.timing().t1, ctx.now),
                give_up_at: ctx.now + ctx.timing().give_up(),
            });
        }
        ctx.send(call, self.reply, wire.clone(), None);
    }
}

/// Parses what was kept: it was read once before, so it can be read again.
pub(super) fn reread(wire: &Wire) -> Option<Message<'_>> {
    parse(wire, Framing::Datagram).ok()
}

/// The request that an answer is made for, and its flow.
pub(super) fn request_of(inbound: &Inbound) -> Option<(Wire, Flow)> {
    inbound.request.clone().map(|request| (request, inbound.flow))
}

/// The session description in a message.
pub(super) fn session_in(message: &Message<'_>) -> Option<Body> {
    let content_type = message.value(HeaderName::ContentType)?;
    let is_sdp = content_type.get(..15).is_some_and(|start| start.eq_ignore_ascii_case(b"application/sdp"));
    (is_sdp && !message.body.is_empty())
        .then(|| Body { content_type: Wire::from(content_type), bytes: Wire::from(message.body) })
}

/// Requests that carry a Contact (RFC 3261, section 12.1.1; RFC 3311; RFC 6665).
fn makes_or_refreshes(method: Method) -> bool {
    match method {
        Method::Invite | Method::Update | Method::Refer | Method::Subscribe | Method::Notify => true,
        Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Info
        | Method::Message
        | Method::Options
        | Method::Prack
        | Method::Publish
        | Method::Register
        | Method::Other => false,
    }
}

/// Whether a header field goes from one side to the other as it is. Those that do not belong to one dialog or one hop.
fn passes(name: HeaderName) -> bool {
    match name {
        HeaderName::Expires
        | HeaderName::MinExpires
        | HeaderName::Unsupported
        | HeaderName::Allow
        | HeaderName::ReferTo
        | HeaderName::Reason
        | HeaderName::RetryAfter
        | HeaderName::ContentType
        | HeaderName::Other => true,
        HeaderName::Via
        | HeaderName::From
        | HeaderName::To
        | HeaderName::CallId
        | HeaderName::CSeq
        | HeaderName::MaxForwards
        | HeaderName::Contact
        | HeaderName::Require
        | HeaderName::ProxyRequire
        | HeaderName::Supported
        | HeaderName::Route
        | HeaderName::RecordRoute
        | HeaderName::Path
        | HeaderName::ServiceRoute
        | HeaderName::RSeq
        | HeaderName::RAck
        | HeaderName::SessionExpires
        | HeaderName::MinSe
        | HeaderName::Replaces
        | HeaderName::Authorization
        | HeaderName::WwwAuthenticate
        | HeaderName::ProxyAuthorization
        | HeaderName::ProxyAuthenticate
        | HeaderName::ContentLength => false,
    }
}

fn copied<'b>(mut draft: Draft<'b>, message: &Message<'_>) -> Draft<'b> {
    let passed = |header: &&Header<'_>| passes(header.name);
    for header in message.headers.iter().filter(passed) {
        draft = draft.copy(header);
    }
    draft
}

/// Supported: the extensions of the other side that we let through, and session timers, which are ours. Within a dialog
/// provisional responses are not made reliable: there is no PRACK to pass.
fn supported<'b>(draft: Draft<'b>, message: &Message<'_>, reliable: bool) -> Draft<'b> {
    let passed = message.tokens(HeaderName::Supported).filter(|tag| {
        is_known_option(tag)
            && !tag.eq_ignore_ascii_case(b"timer")
            && (reliable || !tag.eq_ignore_ascii_case(b"100rel"))
    });
    draft.list("Supported", std::iter::once(&b"timer"[..]).chain(passed))
}

/// Require: what the caller requires of the callee. Who does not know Replaces would ring as if this were a call like others,
/// and must refuse it instead.
fn required<'b>(draft: Draft<'b>, message: &Message<'_>, replaces: bool) -> Draft<'b> {
    let ours = |tag: &&[u8]| !tag.eq_ignore_ascii_case(b"timer") && !tag.eq_ignore_ascii_case(b"replaces");
    let mut required = replaces
        .then_some(&b"replaces"[..])
        .into_iter()
        .chain(message.tokens(HeaderName::Require).filter(ours));
    match required.next() {
        Some(first) => draft.list("Require", std::iter::once(first).chain(required)),
        None => draft,
    }
}

/// The header field of a challenge with this status, and the name of the one that answers it.
pub(super) fn read_challenges(status: u16) -> (HeaderName, &'static str) {
    match status {
        401 => (HeaderName::WwwAuthenticate, "Authorization"),
        _ => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
    }
}
