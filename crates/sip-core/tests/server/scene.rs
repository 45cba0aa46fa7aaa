//! A pair of servers with phones and a trunk that say what telephones say.

use domain::{
    Epoch, Micros, SipChoice, SipCredentials, SipLimits, SipListen, SipName, SipRegistrations,
    SipReplication, SipRoute, SipSecret, SipSettings, SipTimers, SipTransport, SipTrunk, SipUser,
};
use sip_core::{Input, Notice, Outputs, Record, Setup, SipCore};
use sip_proto::b2bua::Flow;
use sip_proto::digest::{Algorithm, User, secret};
use sip_proto::{Framing, HeaderName, Message, StartLine, parse};
use sip_sync::Replica;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const ALICE: &str = "192.0.2.1:5060";
pub const BOB: &str = "192.0.2.2:5060";
pub const CAROL: &str = "192.0.2.3:5060";
pub const TRUNK: &str = "198.51.100.1:5060";
pub const VIP: &str = "192.0.2.100:5060";
pub const REALM: &str = "example.com";
/// The address that a phone behind a NAT gives itself, and the one that it is seen at.
pub const BEHIND_NAT: (&str, &str) = ("<sip:bob@10.0.0.5>", "<sip:bob@203.0.113.9>");
pub const WALL: u64 = 1_700_000_000_000_000;

pub fn name(text: &str) -> SipName {
    SipName::new(text).unwrap()
}

fn user(name: &str, outside: bool) -> SipUser {
    let sha256 = Some(secret(Algorithm::Sha256, name, REALM, "pass").to_string());
    let md5 = Some(secret(Algorithm::Md5, name, REALM, "pass").to_string());
    SipUser { secret: SipSecret { sha256, md5 }, calls: Some(2), outside }
}

pub fn settings() -> SipSettings {
    let trunk = SipTrunk {
        host: "198.51.100.1".into(),
        port: None,
        transport: None,
        from: None,
        credentials: Some(SipCredentials { username: "us".into(), password: "secret".into() }),
        sources: vec![],
        probe: Some(Duration::from_secs(30)),
        probe_failures: 2,
        calls: None,
    };
    SipSettings {
        domains: vec![REALM.into()],
        listen: [SipTransport::Udp, SipTransport::Tcp]
            .map(|transport| SipListen { transport, address: VIP.parse().unwrap() })
            .into(),
        tls: None,
        registrations: SipRegistrations::default(),
        users: [("alice", true), ("bob", false), ("carol", false)]
            .map(|(n, outside)| (name(n), user(n, outside)))
            .into(),
        trunks: BTreeMap::from([(name("carrier"), trunk)]),
        routes: vec![SipRoute {
            prefix: "0".into(),
            strip: 1,
            add: "+49".into(),
            trunks: vec![SipChoice { trunk: name("carrier"), priority: 10, weight: 1 }],
        }],
        limits: SipLimits { refusals: 5, ..SipLimits::default() },
        timers: SipTimers::default(),
        replication: SipReplication::default(),
        http_port: None,
        cdr_directory: Some("/var/log/sip".into()),
        cdr_log: 20,
    }
}

/// A pair of servers: every change of the one that serves reaches the other at once.
pub struct Scene {
    pub servers: [SipCore; 2],
    serving: usize,
    pub now: Micros,
    out: Outputs,
    pub records: Vec<Record>,
    pub notices: Vec<Notice>,
    /// Messages to each address, oldest first; over TCP, the address begins with `tcp/`.
    pub sent: BTreeMap<String, Vec<String>>,
    numbers: u32,
    epoch: u64,
    /// Steps of the servers so far, and after which of them the one that serves dies.
    pub steps: usize,
    pub dies_after: Option<usize>,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: SipSettings) -> Self {
        let settings = Arc::new(settings);
        let now = Micros(1_000_000);
        let core = |seed| {
            let setup = Setup {
                settings: Arc::clone(&settings),
                server: "test".into(),
                seed: [seed; 32],
                open: false,
            };
            SipCore::new(setup, now)
        };
        let mut servers = [core(1), core(2)];
        servers[0].take_over(Epoch(1), now);
        Self {
            servers,
            serving: 0,
            now,
            out: Outputs::default(),
            records: vec![],
            notices: vec![],
            sent: BTreeMap::new(),
            numbers: 0,
            epoch: 1,
            steps: 0,
            dies_after: None,
        }
    }

    pub fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        let wall = Micros(WALL + self.now.0);
        self.servers[self.serving].step(input, self.now, wall, &mut self.out);
        for change in self.out.changes.drain(..) {
            self.servers[1 - self.serving]
                .apply(change, self.now)
                .expect("a change that the backup can take");
        }
        for message in self.out.messages.drain(..) {
            let text = String::from_utf8(message.wire.to_vec()).unwrap();
            let over = if message.flow.interface == 1 { "tcp/" } else { "" };
            self.sent.entry(format!("{over}{}", message.flow.peer)).or_default().push(text);
        }
        self.servers.iter().for_each(SipCore::check);
        self.records.append(&mut self.out.records);
        self.notices.append(&mut self.out.notices);
        self.steps += 1;
        if self.dies_after == Some(self.steps) {
            self.take_over();
        }
    }

    /// A message comes.
    pub fn hear(&mut self, from: &str, text: &str) {
        let (head, body) = text.trim_start().split_once("\n\n").unwrap_or((text.trim_start(), ""));
        let lines =
            |text: &str| text.lines().map(|line| format!("{}\r\n", line.trim_start())).collect::<String>();
        let (head, body) = (lines(head), lines(body));
        let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let bytes = text.into_bytes();
        let message = parse(&bytes, Framing::Datagram).unwrap();
        let (interface, peer) = from.strip_prefix("tcp/").map_or((0, from), |peer| (1, peer));
        let flow = Flow { interface, peer: peer.parse().unwrap() };
        self.step(Input::Received { message: &message, flow });
    }

    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.servers[self.serving].next_deadline(self.now).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Due);
        }
        self.now = end;
    }

    pub fn take_over(&mut self) {
        self.serving = 1 - self.serving;
        self.servers[1 - self.serving].stand_by(self.now);
        self.epoch += 1;
        self.servers[self.serving].take_over(Epoch(self.epoch), self.now);
        self.wait(Duration::from_millis(1));
    }

    /// The last message that was sent there.
    pub fn last(&self, to: &str) -> &str {
        self.sent.get(to).and_then(|sent| sent.last()).map_or("", String::as_str)
    }

    pub fn first_line(&self, to: &str) -> &str {
        self.last(to).lines().next().unwrap_or("")
    }

    /// A request outside of dialogs; `more` are header fields.
    pub fn request(
        &mut self,
        (user, at): (&str, &str),
        method: &str,
        uri: &str,
        to: &str,
        cseq: u32,
        more: &str,
    ) {
        let call_id = format!("{method}-{user}");
        self.ask((user, at), method, uri, (&call_id, to), cseq, more);
    }

    fn ask(
        &mut self,
        (user, at): (&str, &str),
        method: &str,
        uri: &str,
        (call_id, to): (&str, &str),
        cseq: u32,
        more: &str,
    ) {
        self.numbers += 1;
        let n = self.numbers;
        let (over, address) = at.strip_prefix("tcp/").map_or(("UDP", at), |address| ("TCP", address));
        let host = address.split(':').next().unwrap();
        let body = if method == "INVITE" { "\nContent-Type: application/sdp\n\nv=0" } else { "" };
        self.hear(
            at,
            &format!(
                "{method} {uri} SIP/2.0
                 Via: SIP/2.0/{over} {address};rport;branch=z9hG4bK{n}
                 Max-Forwards: 70
                 From: <sip:{user}@example.com>;tag=f{user}
                 To: {to}
                 Call-ID: {call_id}
                 CSeq: {cseq} {method}
                 Contact: <sip:{user}@{host}>{more}{body}"
            )
            .replace(BEHIND_NAT.1, BEHIND_NAT.0),
        );
    }

    /// A phone registers anew, with other numbers than before.
    pub fn register_again(&mut self, user: &str, at: &str, more: &str) {
        let (uri, to) = ("sip:example.com", format!("<sip:{user}@example.com>"));
        self.ask((user, at), "REGISTER", uri, ("again", &to), 1, more);
        let proof = self.authorization(user, at, "REGISTER", uri);
        self.ask((user, at), "REGISTER", uri, ("again", &to), 2, &format!("{more}{proof}"));
    }

    /// What answers the challenge in the last message to `at`.
    pub fn authorization(&self, user: &str, at: &str, method: &str, uri: &str) -> String {
        let challenged = self.last(at).as_bytes();
        let message: Message<'_> = parse(challenged, Framing::Datagram).unwrap();
        let (from, to) = match message.start {
            StartLine::Status { code: 401, .. } => (HeaderName::WwwAuthenticate, "Authorization"),
            StartLine::Status { code: 407, .. } => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
            other => panic!("not challenged: {other:?}"),
        };
        let user = User { username: user.into(), password: "pass".into() };
        let answer = user.answer(message.values(from), method, uri, 0xc0ffee);
        format!("\n{to}: {}", answer.expect("a challenge that can be answered"))
    }

    pub fn register(&mut self, user: &str, at: &str) {
        self.register_with(user, at, "");
    }

    /// `more` are parameters of the Contact, and header fields.
    pub fn register_with(&mut self, user: &str, at: &str, more: &str) {
        let (uri, to) = ("sip:example.com", format!("<sip:{user}@example.com>"));
        self.request((user, at), "REGISTER", uri, &to, 1, more);
        assert!(self.first_line(at).contains("401"), "{}", self.last(at));
        let proof = self.authorization(user, at, "REGISTER", uri);
        self.request((user, at), "REGISTER", uri, &to, 2, &format!("{more}{proof}"));
        assert!(self.first_line(at).contains("200"), "{}", self.last(at));
    }

    /// Alice calls, and proves that it is she.
    pub fn alice_calls(&mut self, whom: &str) {
        self.calls(("alice", ALICE), "INVITE-alice", &format!("sip:{whom}@example.com"), "");
    }

    /// A user calls, and proves who it is.
    pub fn calls(&mut self, who: (&str, &str), call_id: &str, uri: &str, more: &str) {
        let to = format!("<{uri}>");
        self.ask(who, "INVITE", uri, (call_id, &to), 1, more);
        assert!(self.first_line(who.1).contains("407"), "{}", self.last(who.1));
        let proof = self.authorization(who.0, who.1, "INVITE", uri);
        self.ask(who, "INVITE", uri, (call_id, &to), 2, &format!("{more}{proof}"));
    }

    /// The one who was asked last answers.
    pub fn respond(&mut self, at: &str, status: &str, contact: bool) {
        let sent = self.sent.get(at).and_then(|sent| {
            sent.iter().rev().find(|text| !text.starts_with("SIP/2.0") && !text.starts_with("ACK"))
        });
        let request = sent.expect("a request").clone();
        self.respond_to(&request, at, status, contact);
    }

    /// The last request with this method that somebody got.
    pub fn last_request(&self, at: &str, method: &str) -> String {
        self.sent[at].iter().rev().find(|text| text.starts_with(method)).expect("such a request").clone()
    }

    pub fn respond_to(&mut self, request: &str, at: &str, status: &str, contact: bool) {
        let header = |name: &str| {
            request.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut lines = vec![format!("SIP/2.0 {status}")];
        lines.extend(header("Via:"));
        lines.extend(header("From:"));
        let to = header("To:").remove(0);
        lines.push(if to.contains(";tag=") { to } else { format!("{to};tag=callee") });
        lines.extend(header("Call-ID:"));
        lines.extend(header("CSeq:"));
        if contact {
            lines.push(format!("Contact: <sip:callee@{}>", at.trim_start_matches("tcp/")));
        }
        self.hear(at, &lines.join("\n"));
    }

    /// The caller's side of a call: the 200 was the last that it heard.
    pub fn caller(&self, at: &'static str) -> Leg {
        Leg {
            at,
            uri: self.field(at, "Contact").trim_matches(['<', '>']).to_owned(),
            from: self.field(at, "From"),
            to: self.field(at, "To"),
            call_id: self.field(at, "Call-ID"),
        }
    }

    /// The callee's side of a call, by the last INVITE that it got.
    pub fn callee(&self, at: &'static str) -> Leg {
        let invite = self.sent[at].iter().rev().find(|text| text.starts_with("INVITE")).expect("a call");
        let field = |name: &str| field_of(invite, name);
        Leg {
            at,
            uri: field("Contact").trim_matches(['<', '>']).to_owned(),
            from: format!("{};tag=callee", field("To")),
            to: field("From"),
            call_id: field("Call-ID"),
        }
    }

    /// Somebody says something in a call.
    pub fn says(&mut self, leg: &Leg, method: &str, cseq: u32, more: &str) {
        self.numbers += 1;
        let (n, Leg { at, uri, from, to, call_id }) = (self.numbers, leg);
        let (over, address) = at.strip_prefix("tcp/").map_or(("UDP", *at), |address| ("TCP", address));
        self.hear(
            at,
            &format!(
                "{method} {uri} SIP/2.0
                 Via: SIP/2.0/{over} {address};rport;branch=z9hG4bK{n}
                 Max-Forwards: 70
                 From: {from}
                 To: {to}
                 Call-ID: {call_id}
                 CSeq: {cseq} {method}
                 Contact: <sip:somebody@{address}>{more}"
            ),
        );
    }

    /// Alice calls Bob, who answers: her side, and his.
    pub fn established(&mut self) -> (Leg, Leg) {
        self.register("bob", BOB);
        self.alice_calls("bob");
        self.respond(BOB, "180 Ringing", true);
        assert!(self.first_line(ALICE).contains("180"), "{}", self.last(ALICE));
        self.answered(ALICE, BOB, 2)
    }

    /// Alice does not want to wait any longer.
    pub fn alice_cancels(&mut self) {
        let n = self.numbers;
        self.hear(
            ALICE,
            &format!(
                "CANCEL sip:bob@example.com SIP/2.0
                 Via: SIP/2.0/UDP {ALICE};rport;branch=z9hG4bK{n}
                 Max-Forwards: 70
                 From: <sip:alice@example.com>;tag=falice
                 To: <sip:bob@example.com>
                 Call-ID: INVITE-alice
                 CSeq: 2 CANCEL"
            ),
        );
    }

    /// Who was called answers.
    pub fn answered(&mut self, caller: &'static str, callee: &'static str, cseq: u32) -> (Leg, Leg) {
        self.respond(callee, "200 OK", true);
        self.hears(caller, "SIP/2.0 200");
        let legs = (self.caller(caller), self.callee(callee));
        self.says(&legs.0, "ACK", cseq, "");
        self.hears(callee, "ACK");
        legs
    }

    /// Checks what the last message to somebody begins with.
    #[track_caller]
    pub fn hears(&self, at: &str, start: &str) {
        assert!(self.last(at).starts_with(start), "{at} hears no {start} last, but\n{}", self.last(at));
    }

    /// One side of a call hangs up, and the other is told.
    pub fn hang_up(&mut self, leg: &Leg, cseq: u32, other: &str) {
        self.says(leg, "BYE", cseq, "");
        self.hears(other, "BYE");
        self.respond(other, "200 OK", false);
        self.hears(leg.at, "SIP/2.0 200");
    }

    /// The header field of the last message to `at`.
    pub fn field(&self, at: &str, name: &str) -> String {
        field_of(self.last(at), name)
    }
}

/// One side of a call.
#[derive(Debug, Clone)]
pub struct Leg {
    pub at: &'static str,
    pub uri: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
}

impl Leg {
    /// The tag in From or To.
    pub fn tag(field: &str) -> &str {
        field.split_once(";tag=").expect("a tag").1
    }
}

fn field_of(message: &str, name: &str) -> String {
    let line = message.lines().find(|line| line.starts_with(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{message}")).split_once(": ").unwrap().1.to_owned()
}
