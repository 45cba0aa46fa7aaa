//! A pretend phone: answers what comes, sends again what is not answered, and notes what its user would have seen. Written
//! on strings and independent of the crate's own transactions and dialogs, so that a mistake there is not made here too.

use sip_proto::{Framing, HeaderName, Message, Method, StartLine, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const T1: u64 = 500_000;
const T2: u64 = 4_000_000;
const GIVE_UP: u64 = 64 * T1;

/// A request that waits for its final response.
struct Ask {
    branch: String,
    method: String,
    text: String,
    next: u64,
    pause: u64,
    until: u64,
    /// A provisional response has come: an INVITE is not sent again.
    heard: bool,
}

/// A final response to INVITE that waits for its ACK.
struct Unacknowledged {
    cseq: u32,
    text: String,
    next: u64,
    pause: u64,
    until: u64,
}

/// Where the phone is with its one call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Calling,
    Rung,
    Talking,
    Over,
}

pub struct Phone {
    pub name: String,
    pub address: SocketAddr,
    server: SocketAddr,
    /// What it lists in Supported and Allow.
    pub supported: String,
    pub allow: String,
    state: State,
    asks: Vec<Ask>,
    unacknowledged: Option<Unacknowledged>,
    /// The server's reliable provisional response that has no PRACK yet (as callee: ours).
    unpracked: Option<Unacknowledged>,
    /// Answers given, by branch and method.
    answers: BTreeMap<(String, String), String>,
    /// The INVITE that is to be answered.
    invite: String,
    call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    remote_cseq: u32,
    rseq: u32,
    branches: u32,
    /// CSeq of the INVITE that began the call.
    invite_cseq: u32,
    /// It has lost its power: hears and says nothing.
    pub dead: bool,
    byes: BTreeSet<String>,
    acks: BTreeMap<u32, String>,
    prackable: BTreeSet<u32>,
    /// What its user saw.
    pub seen: Vec<String>,
    pub violations: Vec<String>,
    /// To be sent.
    pub out: Vec<(SocketAddr, Vec<u8>)>,
}

fn tail(text: &str, message: &Message<'_>) -> String {
    let mut lines = String::new();
    for name in [HeaderName::Via, HeaderName::RecordRoute] {
        let label = if name == HeaderName::Via { "Via" } else { "Record-Route" };
        for value in message.values(name) {
            lines += &format!("{label}: {}\r\n", String::from_utf8_lossy(value));
        }
    }
    let field = |name| String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned();
    lines += &format!("From: {}\r\n", field(HeaderName::From));
    let to = field(HeaderName::To);
    let to = if to.contains(";tag=") { to } else { format!("{to};tag={text}") };
    lines += &format!(
        "To: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n",
        field(HeaderName::CallId),
        field(HeaderName::CSeq)
    );
    lines
}

impl Phone {
    pub fn new(name: &str, address: SocketAddr, server: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            server,
            supported: String::new(),
            allow: "INVITE, ACK, BYE, CANCEL, UPDATE".to_owned(),
            state: State::Idle,
            asks: Vec::new(),
            unacknowledged: None,
            unpracked: None,
            answers: BTreeMap::new(),
            invite: String::new(),
            call_id: String::new(),
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            cseq: 0,
            remote_cseq: 0,
            rseq: 100,
            branches: 0,
            invite_cseq: 0,
            dead: false,
            byes: BTreeSet::new(),
            acks: BTreeMap::new(),
            prackable: BTreeSet::new(),
            seen: Vec::new(),
            violations: Vec::new(),
            out: Vec::new(),
        }
    }

    fn sdp(&self) -> String {
        format!("v=0\r\no={} 1 1 IN IP4 {}\r\n", self.name, self.address.ip())
    }

    fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    fn wrong(&mut self, what: String) {
        self.violations.push(format!("{}: {what}", self.name));
    }

    // ---- what its user does

    pub fn calls(&mut self, number: &str, more: &str, now: u64) {
        self.call_id = format!("call-of-{}", self.name);
        self.local = format!("<sip:{}@example.com>;tag=t{}", self.name, self.name);
        self.remote = format!("<sip:{number}@example.com>");
        self.target = format!("sip:{number}@example.com");
        self.state = State::Calling;
        self.invite_cseq = self.cseq + 1;
        let supported = if self.supported.is_empty() {
            String::new()
        } else {
            format!("Supported: {}\r\n", self.supported)
        };
        let more = format!("{supported}Allow: {}\r\n{more}", self.allow);
        let body = self.sdp();
        self.ask("INVITE", &more, &body, now);
    }

    pub fn rings(&mut self, status: u16, reliably: bool, now: u64) {
        if self.invite.is_empty() {
            return;
        }
        self.rseq += u32::from(reliably);
        let more =
            if reliably { format!("Require: 100rel\r\nRSeq: {}\r\n", self.rseq) } else { String::new() };
        let body = if reliably { self.sdp() } else { String::new() };
        let text = self.answer_invite(status, &more, &body);
        if reliably {
            self.unpracked = Some(Unacknowledged {
                cseq: self.rseq,
                text,
                next: now + T1,
                pause: T1,
                until: now + GIVE_UP,
            });
        }
        self.state = State::Rung;
    }

    pub fn answers(&mut self, more: &str, now: u64) {
        if self.invite.is_empty() {
            return;
        }
        let more = format!("Allow: {}\r\n{more}", self.allow);
        let body = self.sdp();
        let text = self.answer_invite(200, &more, &body);
        self.await_ack(text, now);
        self.state = State::Talking;
        self.saw("answered");
    }

    pub fn refuses(&mut self, status: u16, more: &str, now: u64) {
        if self.invite.is_empty() {
            return;
        }
        let text = self.answer_invite(status, more, "");
        self.await_ack(text, now);
        self.state = State::Over;
        self.saw(format!("refused {status}"));
    }

    fn await_ack(&mut self, text: String, now: u64) {
        let cseq = self.invite_cseq;
        self.unpracked = None;
        self.await_ack_of(text, cseq, now);
    }

    fn await_ack_of(&mut self, text: String, cseq: u32, now: u64) {
        self.unacknowledged =
            Some(Unacknowledged { cseq, text, next: now + T1, pause: T1, until: now + GIVE_UP });
    }

    pub fn cancels(&mut self, now: u64) {
        let Some(invite) = self.asks.iter().find(|ask| ask.method == "INVITE") else { return };
        let head = invite.text.split("\r\n").filter(|line| {
            ["Via:", "From:", "To:", "Call-ID:", "Max-Forwards:"].iter().any(|name| line.starts_with(name))
        });
        let lines: Vec<&str> = head.collect();
        let uri = invite.text.split(' ').nth(1).unwrap_or_default();
        let text = format!(
            "CANCEL {uri} SIP/2.0\r\n{}\r\nCSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
            lines.join("\r\n"),
            self.cseq
        );
        let branch = invite.branch.clone();
        self.push_ask(branch, "CANCEL", text, now);
    }

    pub fn hangs_up(&mut self, now: u64) {
        if self.call_id.is_empty() {
            return;
        }
        self.state = State::Over;
        self.saw("hung up");
        self.ask("BYE", "", "", now);
    }

    pub fn requests(&mut self, method: &str, now: u64) {
        if self.state != State::Talking {
            return;
        }
        let body = if method == "INVITE" { self.sdp() } else { String::new() };
        self.ask(method, "", &body, now);
    }

    fn ask(&mut self, method: &str, more: &str, body: &str, now: u64) {
        self.cseq += 1;
        self.branches += 1;
        let branch = format!("z9hG4bK{}{}", self.name, self.branches);
        let text = self.request_text(method, self.cseq, &branch, more, body);
        self.push_ask(branch, method, text, now);
    }

    fn push_ask(&mut self, branch: String, method: &str, text: String, now: u64) {
        self.out.push((self.server, text.clone().into_bytes()));
        self.asks.push(Ask {
            branch,
            method: method.to_owned(),
            text,
            next: now + T1,
            pause: T1,
            until: now + GIVE_UP,
            heard: false,
        });
    }

    fn request_text(&self, method: &str, cseq: u32, branch: &str, more: &str, body: &str) -> String {
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{}@{}>\r\n{more}{content}Content-Length: {}\r\n\r\n{body}",
            self.target,
            self.address,
            self.local,
            self.remote,
            self.call_id,
            self.name,
            self.address,
            body.len()
        )
    }

    fn answer_invite(&mut self, status: u16, more: &str, body: &str) -> String {
        let invite = self.invite.clone();
        let message = parse(invite.as_bytes(), Framing::Datagram).unwrap();
        self.reply(&message, status, more, body)
    }

    /// Answers a request, and again in the same way should it come again.
    fn reply(&mut self, request: &Message<'_>, status: u16, more: &str, body: &str) -> String {
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.name, self.address);
        let text = format!(
            "SIP/2.0 {status} X\r\n{}{contact}{more}{content}Content-Length: {}\r\n\r\n{body}",
            tail(&format!("t{}", self.name), request),
            body.len()
        );
        let StartLine::Request(line) = request.start else { panic!("a request is answered") };
        let branch = request.via().unwrap().branch.unwrap().to_owned();
        self.answers.insert((branch, line.method_text.to_owned()), text.clone());
        self.out.push((self.server, text.clone().into_bytes()));
        text
    }

    // ---- what comes

    pub fn hears(&mut self, bytes: &[u8], now: u64) {
        if self.dead {
            return;
        }
        let message = parse(bytes, Framing::Datagram).unwrap();
        let branch = message.via().ok().and_then(|via| via.branch);
        let sound = message.defect.is_none()
            && message.to().is_ok()
            && message.from().is_ok()
            && message.cseq().is_ok()
            && message.call_id().is_ok();
        if !sound || branch.is_none() {
            return self.wrong(format!("not sound: {}", String::from_utf8_lossy(bytes)));
        }
        match message.start {
            StartLine::Request(line) => self.hears_request(&message, line.method, line.method_text, now),
            StartLine::Status { code, .. } => self.hears_response(&message, code, now),
        }
    }

    fn hears_request(&mut self, message: &Message<'_>, method: Method, name: &str, now: u64) {
        let branch = message.via().unwrap().branch.unwrap().to_owned();
        let cseq = message.cseq().unwrap().number;
        if method == Method::Ack {
            if self.unacknowledged.as_ref().is_some_and(|waiting| waiting.cseq == cseq) {
                self.unacknowledged = None;
            }
            return;
        }
        if let Some(answer) = self.answers.get(&(branch.clone(), name.to_owned())) {
            return self.out.push((self.server, answer.clone().into_bytes()));
        }
        if method == Method::Invite && branch == self.invite_branch() {
            return; // Nothing was answered yet.
        }
        let in_dialog = message.to().unwrap().tag().is_some();
        if method == Method::Cancel {
            self.reply(message, 200, "", "");
            if matches!(self.state, State::Rung | State::Idle) && !self.invite.is_empty() {
                let text = self.answer_invite(487, "", "");
                self.await_ack(text, now);
                self.state = State::Over;
                self.saw("was cancelled");
            }
            return;
        }
        if in_dialog {
            if cseq <= self.remote_cseq {
                self.wrong(format!("{name} with CSeq {cseq} after {}", self.remote_cseq));
            }
            self.remote_cseq = cseq;
        }
        match method {
            Method::Invite if !in_dialog => self.is_called(message, cseq),
            _ if self.state == State::Over && method != Method::Bye => {
                self.reply(message, 481, "", "");
            }
            Method::Bye => {
                // Only one who has not acknowledged the answer for so long may be hung up on before it knows of it.
                if self.state != State::Talking && self.state != State::Over && now < GIVE_UP {
                    self.wrong("BYE before an answer".to_owned());
                }
                self.byes.insert(branch);
                if self.byes.len() > 1 {
                    self.wrong("a second BYE".to_owned());
                }
                if self.state != State::Over {
                    self.saw("was hung up on");
                }
                self.state = State::Over;
                self.reply(message, 200, "", "");
            }
            Method::Prack => {
                let rack = message.rack().ok();
                let known =
                    self.unpracked.as_ref().is_some_and(|w| rack.is_some_and(|rack| w.cseq == rack.rseq));
                if known {
                    self.unpracked = None;
                    self.saw("its ringing was acknowledged");
                }
                self.reply(message, if known { 200 } else { 481 }, "", "");
            }
            Method::Invite => {
                self.saw("INVITE within the call");
                self.reply_invite(message, now);
            }
            Method::Ack
            | Method::Cancel
            | Method::Info
            | Method::Message
            | Method::Notify
            | Method::Options
            | Method::Publish
            | Method::Refer
            | Method::Register
            | Method::Subscribe
            | Method::Update
            | Method::Other => {
                self.saw(format!("{name} within the call"));
                let more = message
                    .value(HeaderName::SessionExpires)
                    .map(|value| format!("Session-Expires: {}\r\n", String::from_utf8_lossy(value)));
                self.reply(message, 200, &more.unwrap_or_default(), "");
            }
        }
    }

    fn reply_invite(&mut self, message: &Message<'_>, now: u64) {
        let body = self.sdp();
        let text = self.reply(message, 200, "", &body);
        self.await_ack_of(text, message.cseq().unwrap().number, now);
    }

    fn invite_branch(&self) -> String {
        let message = parse(self.invite.as_bytes(), Framing::Datagram);
        message
            .ok()
            .and_then(|m| m.via().ok().and_then(|via| via.branch.map(str::to_owned)))
            .unwrap_or_default()
    }

    fn is_called(&mut self, message: &Message<'_>, cseq: u32) {
        let text = |name| String::from_utf8_lossy(message.value(name).unwrap()).into_owned();
        if self.state != State::Idle && self.state != State::Over {
            return self.wrong("called twice".to_owned());
        }
        self.state = State::Idle;
        self.invite = String::from_utf8_lossy(message.bytes).into_owned();
        self.remote = text(HeaderName::From);
        self.local = format!("{};tag=t{}", text(HeaderName::To), self.name);
        self.call_id = text(HeaderName::CallId);
        self.remote_cseq = cseq;
        self.invite_cseq = cseq;
        self.target = text(HeaderName::Contact).trim_matches(['<', '>']).to_owned();
        self.saw("is called");
        let invite = self.invite.clone();
        let message = parse(invite.as_bytes(), Framing::Datagram).unwrap();
        let StartLine::Request(_) = message.start else { return };
        let trying = format!(
            "SIP/2.0 100 Trying\r\n{}Content-Length: 0\r\n\r\n",
            tail("x", &message).replace(";tag=x", "")
        );
        self.answers.insert((self.invite_branch(), "INVITE".to_owned()), trying.clone());
        self.out.push((self.server, trying.into_bytes()));
    }

    fn hears_response(&mut self, message: &Message<'_>, code: u16, now: u64) {
        let branch = message.via().unwrap().branch.unwrap().to_owned();
        let cseq = message.cseq().unwrap();
        let method = cseq.method.to_owned();
        let to = String::from_utf8_lossy(message.value(HeaderName::To).unwrap()).into_owned();
        // A 2xx to INVITE comes again until its ACK does.
        if let (Some(ack), 200..300, "INVITE") = (self.acks.get(&cseq.number), code, method.as_str()) {
            if *ack != to {
                self.wrong(format!("answered by two: {to}"));
            }
            return self.ack(message, cseq.number, &branch, code);
        }
        let Some(index) = self.asks.iter().position(|ask| ask.branch == branch && ask.method == method)
        else {
            if code >= 300 && method == "INVITE" {
                self.ack(message, cseq.number, &branch, code);
            }
            return;
        };
        if code < 200 {
            self.asks[index].heard = true;
            return self.hears_provisional(message, code, to, now);
        }
        self.asks.remove(index);
        match method.as_str() {
            "INVITE" => self.hears_final(message, code, to, cseq.number, &branch),
            "CANCEL" | "BYE" if code == 200 => {}
            "PRACK" if code == 200 => self.saw("acknowledged the ringing"),
            _ => self.saw(format!("{method}: {code}")),
        }
    }

    fn hears_provisional(&mut self, message: &Message<'_>, code: u16, to: String, now: u64) {
        if code == 100 {
            return;
        }
        if self.state == State::Calling {
            self.state = State::Rung;
            self.saw("hears it ring");
        }
        let Ok(Some(rseq)) = message.rseq() else { return };
        if self.prackable.insert(rseq) {
            let (target, remote, invite) = (self.target.clone(), self.remote.clone(), self.invite_cseq);
            self.target = contact(message);
            self.remote = to;
            self.ask("PRACK", &format!("RAck: {rseq} {invite} INVITE\r\n"), "", now);
            (self.target, self.remote) = (target, remote);
        }
    }

    fn hears_final(&mut self, message: &Message<'_>, code: u16, to: String, cseq: u32, branch: &str) {
        if code < 300 {
            if message.value(HeaderName::Contact).is_none() {
                return self.wrong("answered without Contact".to_owned());
            }
            self.target = contact(message);
            self.remote = to.clone();
            self.acks.insert(cseq, to);
            self.saw(if self.state == State::Talking { "INVITE: 200" } else { "is answered" });
            self.state = State::Talking;
        } else {
            self.saw(if self.state == State::Talking {
                format!("INVITE: {code}")
            } else {
                format!("is refused {code}")
            });
            if self.state != State::Talking {
                self.state = State::Over;
            }
        }
        self.ack(message, cseq, branch, code);
    }

    fn ack(&mut self, message: &Message<'_>, cseq: u32, branch: &str, code: u16) {
        let own = format!("{branch}ack");
        let mut text = self.request_text("ACK", cseq, if code < 300 { &own } else { branch }, "", "");
        if code >= 300 {
            let to = String::from_utf8_lossy(message.value(HeaderName::To).unwrap()).into_owned();
            text = text.replace(&format!("To: {}\r\n", self.remote), &format!("To: {to}\r\n"));
        }
        self.out.push((self.server, text.into_bytes()));
    }

    // ---- time

    pub fn next_deadline(&self) -> Option<u64> {
        if self.dead {
            return None;
        }
        let asks = self.asks.iter().map(|ask| {
            let waits = ask.heard && ask.method == "INVITE";
            if waits { u64::MAX } else { ask.next.min(ask.until) }
        });
        let waiting =
            [&self.unacknowledged, &self.unpracked].into_iter().flatten().map(|w| w.next.min(w.until));
        asks.chain(waiting).min().filter(|at| *at != u64::MAX)
    }

    pub fn due(&mut self, now: u64) {
        let mut lost = Vec::new();
        self.asks.retain(|ask| {
            let waits = ask.heard && ask.method == "INVITE";
            let gone = !waits && ask.until <= now;
            if gone {
                lost.push(format!("{}: no answer", ask.method));
            }
            !gone
        });
        self.seen.extend(lost);
        for ask in
            self.asks.iter_mut().filter(|ask| ask.next <= now && !(ask.heard && ask.method == "INVITE"))
        {
            self.out.push((self.server, ask.text.clone().into_bytes()));
            ask.pause = if ask.method == "INVITE" { ask.pause * 2 } else { (ask.pause * 2).min(T2) };
            ask.next = now + ask.pause;
        }
        for waiting in [&mut self.unacknowledged, &mut self.unpracked] {
            let Some(w) = waiting else { continue };
            if w.until <= now {
                *waiting = None;
                self.seen.push("was not acknowledged".to_owned());
            } else if w.next <= now {
                self.out.push((self.server, w.text.clone().into_bytes()));
                w.pause = (w.pause * 2).min(T2);
                w.next = now + w.pause;
            }
        }
    }
}

fn contact(message: &Message<'_>) -> String {
    let contact = message.addresses(HeaderName::Contact).next();
    contact.and_then(Result::ok).map_or("sip:nobody@invalid".to_owned(), |contact| contact.uri.to_owned())
}
