//! The SIP Server as a value, with phones and a trunk that say what telephones say: registrations, calls, what its backup
//! goes on with, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::{
    Epoch, Micros, SipChoice, SipCredentials, SipLimits, SipListen, SipName, SipRegistrations,
    SipReplication, SipRoute, SipSecret, SipSettings, SipTimers, SipTransport, SipTrunk, SipUser,
};
use sip_core::{Change, Input, Notice, Outputs, Record, Setup, SipCore};
use sip_proto::b2bua::Flow;
use sip_proto::digest::{Algorithm, User, secret};
use sip_proto::{Framing, HeaderName, Message, StartLine, parse};
use sip_sync::Replica;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ALICE: &str = "192.0.2.1:5060";
const BOB: &str = "192.0.2.2:5060";
const TRUNK: &str = "198.51.100.1:5060";
const VIP: &str = "192.0.2.100:5060";
const REALM: &str = "example.com";
/// The address that a phone behind a NAT gives itself, and the one that it is seen at.
const BEHIND_NAT: (&str, &str) = ("<sip:bob@10.0.0.5>", "<sip:bob@203.0.113.9>");
const WALL: u64 = 1_700_000_000_000_000;

fn name(text: &str) -> SipName {
    SipName::new(text).unwrap()
}

fn user(name: &str, outside: bool) -> SipUser {
    let sha256 = Some(secret(Algorithm::Sha256, name, REALM, "pass").to_string());
    let md5 = Some(secret(Algorithm::Md5, name, REALM, "pass").to_string());
    SipUser { secret: SipSecret { sha256, md5 }, calls: Some(2), outside }
}

fn settings() -> SipSettings {
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
        listen: vec![SipListen { transport: SipTransport::Udp, address: VIP.parse().unwrap() }],
        tls: None,
        registrations: SipRegistrations::default(),
        users: [("alice", true), ("bob", false)].map(|(n, outside)| (name(n), user(n, outside))).into(),
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
    }
}

/// A pair of servers: every change of the one that serves reaches the other at once.
struct Scene {
    servers: [SipCore; 2],
    serving: usize,
    now: Micros,
    out: Outputs,
    records: Vec<Record>,
    notices: Vec<Notice>,
    /// Messages to each address, oldest first.
    sent: BTreeMap<String, Vec<String>>,
    numbers: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: SipSettings) -> Self {
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
        }
    }

    fn step(&mut self, input: Input<'_>) {
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
            self.sent.entry(message.flow.peer.to_string()).or_default().push(text);
        }
        self.records.append(&mut self.out.records);
        self.notices.append(&mut self.out.notices);
    }

    /// A message comes.
    fn hear(&mut self, from: &str, text: &str) {
        let text = text.trim_start().lines().map(str::trim_start).collect::<Vec<_>>().join("\r\n");
        let text = if text.contains("\r\n\r\n") { text } else { format!("{text}\r\n\r\n") };
        let bytes = text.into_bytes();
        let message = parse(&bytes, Framing::Datagram).unwrap();
        self.step(Input::Received {
            message: &message,
            flow: Flow { interface: 0, peer: from.parse().unwrap() },
        });
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.servers[self.serving].next_deadline(self.now).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Due);
        }
        self.now = end;
    }

    fn take_over(&mut self) {
        self.serving = 1 - self.serving;
        self.servers[1 - self.serving].stand_by(self.now);
        self.servers[self.serving].take_over(Epoch(2), self.now);
        self.wait(Duration::from_millis(1));
    }

    /// The last message that was sent there.
    fn last(&self, to: &str) -> &str {
        self.sent.get(to).and_then(|sent| sent.last()).map_or("", String::as_str)
    }

    fn first_line(&self, to: &str) -> &str {
        self.last(to).lines().next().unwrap_or("")
    }

    fn request(
        &mut self,
        (user, at): (&str, &str),
        method: &str,
        uri: &str,
        to: &str,
        cseq: u32,
        more: &str,
    ) {
        self.numbers += 1;
        let n = self.numbers;
        let host = at.split(':').next().unwrap();
        self.hear(
            at,
            &format!(
                "{method} {uri} SIP/2.0
                 Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK{n}
                 Max-Forwards: 70
                 From: <sip:{user}@example.com>;tag=f{user}
                 To: {to}
                 Call-ID: {method}-{user}
                 CSeq: {cseq} {method}
                 Contact: <sip:{user}@{host}>{more}"
            )
            .replace(BEHIND_NAT.1, BEHIND_NAT.0),
        );
    }

    /// What answers the challenge in the last message to `at`.
    fn authorization(&self, user: &str, at: &str, method: &str, uri: &str) -> String {
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

    fn register(&mut self, user: &str, at: &str) {
        let (uri, to) = ("sip:example.com", format!("<sip:{user}@example.com>"));
        self.request((user, at), "REGISTER", uri, &to, 1, "");
        assert!(self.first_line(at).contains("401"), "{}", self.last(at));
        let proof = self.authorization(user, at, "REGISTER", uri);
        self.request((user, at), "REGISTER", uri, &to, 2, &proof);
        assert!(self.first_line(at).contains("200"), "{}", self.last(at));
    }

    /// Alice calls, and proves that it is she.
    fn alice_calls(&mut self, whom: &str) {
        let uri = format!("sip:{whom}@example.com");
        let to = format!("<{uri}>");
        self.request(("alice", ALICE), "INVITE", &uri, &to, 1, "");
        assert!(self.first_line(ALICE).contains("407"), "{}", self.last(ALICE));
        let proof = self.authorization("alice", ALICE, "INVITE", &uri);
        self.request(("alice", ALICE), "INVITE", &uri, &to, 2, &proof);
    }

    /// The one who was asked last answers.
    fn respond(&mut self, at: &str, status: &str, contact: bool) {
        let request = self
            .sent
            .get(at)
            .and_then(|sent| {
                sent.iter().rev().find(|text| !text.starts_with("SIP/2.0") && !text.starts_with("ACK"))
            })
            .expect("a request")
            .clone();
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
            lines.push(format!("Contact: <sip:callee@{at}>"));
        }
        self.hear(at, &lines.join("\n"));
    }

    /// The header field of the last message to `at`.
    fn field(&self, at: &str, name: &str) -> String {
        let line = self.last(at).lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in\n{}", self.last(at)))
            .split_once(": ")
            .unwrap()
            .1
            .to_owned()
    }

    /// Alice says something in her call: the 200 was the last that she heard.
    fn alice_in_dialog(&mut self, method: &str, cseq: u32, (contact, to): &(String, String)) {
        self.numbers += 1;
        let (n, uri) = (self.numbers, contact.trim_matches(['<', '>']));
        self.hear(
            ALICE,
            &format!(
                "{method} {uri} SIP/2.0
                 Via: SIP/2.0/UDP {ALICE};rport;branch=z9hG4bK{n}
                 Max-Forwards: 70
                 From: <sip:alice@example.com>;tag=falice
                 To: {to}
                 Call-ID: INVITE-alice
                 CSeq: {cseq} {method}"
            ),
        );
    }

    fn established(&mut self) -> (String, String) {
        self.register("bob", BOB);
        self.alice_calls("bob");
        self.respond(BOB, "180 Ringing", true);
        assert!(self.first_line(ALICE).contains("180"), "{}", self.last(ALICE));
        self.respond(BOB, "200 OK", true);
        assert!(self.first_line(ALICE).contains("200"), "{}", self.last(ALICE));
        let dialog = (self.field(ALICE, "Contact"), self.field(ALICE, "To"));
        self.alice_in_dialog("ACK", 2, &dialog);
        assert!(self.first_line(BOB).starts_with("ACK"), "{}", self.last(BOB));
        dialog
    }
}

#[test]
fn a_call_from_registration_to_record() {
    let mut scene = Scene::new();
    let dialog = scene.established();
    scene.wait(Duration::from_secs(10));
    scene.alice_in_dialog("BYE", 3, &dialog);
    assert!(scene.first_line(BOB).starts_with("BYE"), "{}", scene.last(BOB));
    scene.respond(BOB, "200 OK", false);
    assert!(scene.first_line(ALICE).contains("200"), "{}", scene.last(ALICE));
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    assert_eq!((record.caller.as_deref(), record.answered_by.as_deref()), (Some("alice"), Some("bob")));
    assert_eq!((record.duration_ms, &*record.cause, record.epoch), (10_000, "caller-hung-up", Epoch(1)));
    assert_eq!(record.ended_us, Micros(WALL + scene.now.0));
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.servers.each_ref().map(SipCore::call_count), [0, 0], "both have forgotten it");
}

#[test]
fn a_backup_goes_on_with_a_call_that_it_never_saw_begin() {
    let mut scene = Scene::new();
    let dialog = scene.established();
    scene.take_over();
    let survey = scene.servers[1].survey(scene.now);
    assert_eq!((survey.confirmed, survey.ringing, survey.registered), (1, 0, 1));
    scene.alice_in_dialog("BYE", 3, &dialog);
    assert!(scene.first_line(BOB).starts_with("BYE"), "{}", scene.last(BOB));
    scene.respond(BOB, "200 OK", false);
    assert!(scene.first_line(ALICE).contains("200"));
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    assert_eq!((record.caller.as_deref(), record.epoch), (Some("alice"), Epoch(2)));
}

#[test]
fn a_record_that_was_not_written_down_is_owed_by_the_next_primary() {
    let mut scene = Scene::new();
    let dialog = scene.established();
    scene.alice_in_dialog("BYE", 3, &dialog);
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    let record = record.clone();
    scene.take_over();
    assert_eq!(scene.records, [record.clone(), record.clone()], "the next primary has it to write");
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.records.len(), 2, "once");
    // Written down, it is owed by nobody.
    scene.step(Input::Recorded { calls: &[record.call, record.call] });
    scene.step(Input::Recorded { calls: &[record.call] });
    scene.take_over();
    assert_eq!(scene.records.len(), 2);
}

#[test]
fn a_call_that_rings_is_answered_after_a_takeover() {
    let mut scene = Scene::new();
    scene.register("bob", BOB);
    scene.alice_calls("bob");
    scene.respond(BOB, "180 Ringing", true);
    scene.take_over();
    assert_eq!(scene.servers[1].survey(scene.now).ringing, 1);
    scene.respond(BOB, "200 OK", true);
    assert!(scene.first_line(ALICE).contains("200"), "{}", scene.last(ALICE));
}

#[test]
fn a_challenge_of_the_one_is_answered_to_the_other() {
    let mut scene = Scene::new();
    let (uri, to) = ("sip:example.com", "<sip:alice@example.com>");
    scene.request(("alice", ALICE), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("alice", ALICE, "REGISTER", uri);
    scene.take_over();
    scene.request(("alice", ALICE), "REGISTER", uri, to, 2, &proof);
    assert!(scene.first_line(ALICE).contains("200"), "{}", scene.last(ALICE));
}

#[test]
fn who_is_somebody_else_is_refused_and_then_silenced() {
    let mut scene = Scene::new();
    let (uri, to) = ("sip:example.com", "<sip:bob@example.com>");
    scene.request(("alice", ALICE), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("alice", ALICE, "REGISTER", uri);
    scene.request(("alice", ALICE), "REGISTER", uri, to, 2, &proof);
    assert!(scene.first_line(ALICE).contains("403"), "alice is not bob: {}", scene.last(ALICE));
    for cseq in 3..20 {
        scene.request(("nobody", ALICE), "REGISTER", uri, "<sip:nobody@example.com>", cseq, "");
        if scene.first_line(ALICE).contains("401") {
            let proof = scene.authorization("nobody", ALICE, "REGISTER", uri);
            scene.request(("nobody", ALICE), "REGISTER", uri, "<sip:nobody@example.com>", cseq, &proof);
        }
    }
    assert!(matches!(&scene.notices[..], [Notice::SourceSilenced { .. }]), "{:?}", scene.notices);
    let before = scene.sent[ALICE].len();
    scene.request(("alice", ALICE), "OPTIONS", uri, to, 30, "");
    assert_eq!(scene.sent[ALICE].len(), before, "it is answered although it is silenced");
}

#[test]
fn what_goes_nowhere_is_told_why() {
    for (whom, status) in [("bob", "480"), ("carol", "404")] {
        let mut scene = Scene::new();
        scene.alice_calls(whom);
        assert!(scene.first_line(ALICE).contains(status), "{whom}: {}", scene.last(ALICE));
        assert_eq!(scene.records.len(), 1, "one record, also of a call that goes nowhere");
    }
}

#[test]
fn a_number_goes_out_by_the_trunk_as_the_route_says() {
    let mut scene = Scene::new();
    scene.alice_calls("0301234");
    assert!(
        scene.first_line(TRUNK).starts_with("INVITE sip:+49301234@198.51.100.1"),
        "{}",
        scene.last(TRUNK)
    );
    // It is challenged, and answers by itself.
    let request = scene.last(TRUNK).to_owned();
    let via = request.lines().find(|line| line.starts_with("Via:")).unwrap();
    let rest: Vec<_> = request
        .lines()
        .filter(|l| ["From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| l.starts_with(n)))
        .collect();
    let challenge =
        "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"";
    scene.hear(
        TRUNK,
        &format!("SIP/2.0 407 Proxy Authentication Required\n{via}\n{}\n{challenge}", rest.join("\n")),
    );
    assert!(
        scene.last(TRUNK).contains("Proxy-Authorization: Digest username=\"us\""),
        "{}",
        scene.last(TRUNK)
    );
    assert!(!scene.last(TRUNK).contains("secret"));
}

#[test]
fn a_trunk_that_does_not_answer_is_out_of_service_until_it_does() {
    let mut scene = Scene::new();
    scene.wait(Duration::from_secs(80));
    assert!(matches!(&scene.notices[..], [Notice::TrunkOut { .. }]), "{:?}", scene.notices);
    scene.alice_calls("0301234");
    assert!(scene.first_line(ALICE).contains("503"), "{}", scene.last(ALICE));
    scene.wait(Duration::from_secs(11)); // the next probe has gone out a second ago
    scene.respond(TRUNK, "200 OK", false);
    assert!(matches!(&scene.notices[..], [_, Notice::TrunkIn { .. }]), "{:?}", scene.notices);
}

#[test]
fn who_may_not_call_outside_does_not() {
    let mut scene = Scene::new();
    let uri = "sip:0301234@example.com";
    scene.request(("bob", BOB), "INVITE", uri, "<sip:0301234@example.com>", 1, "");
    let proof = scene.authorization("bob", BOB, "INVITE", uri);
    scene.request(("bob", BOB), "INVITE", uri, "<sip:0301234@example.com>", 2, &proof);
    assert!(scene.first_line(BOB).contains("403"), "{}", scene.last(BOB));
}

#[test]
fn a_trunk_calls_users_without_a_proof_and_no_other_network() {
    let mut scene = Scene::new();
    scene.register("bob", BOB);
    scene.request(("+4930", TRUNK), "INVITE", "sip:bob@example.com", "<sip:bob@example.com>", 1, "");
    assert!(scene.first_line(BOB).starts_with("INVITE"), "{}", scene.last(BOB));
    let mut scene = Scene::new();
    scene.request(("+4930", TRUNK), "INVITE", "sip:0301234@example.com", "<sip:0301234@example.com>", 1, "");
    assert!(scene.first_line(TRUNK).contains("403"), "{}", scene.last(TRUNK));
}

#[test]
fn a_user_has_no_more_calls_than_allowed() {
    let mut settings = settings();
    settings.users.get_mut("alice").unwrap().calls = Some(0);
    let mut scene = Scene::with(settings);
    scene.alice_calls("bob");
    assert!(scene.first_line(ALICE).contains("486"), "{}", scene.last(ALICE));
}

#[test]
fn a_phone_behind_a_nat_is_called_where_it_registered_from() {
    let mut scene = Scene::new();
    let nat = "203.0.113.9:40000";
    let (uri, to) = ("sip:example.com", "<sip:bob@example.com>");
    scene.request(("bob", nat), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("bob", nat, "REGISTER", uri);
    scene.request(("bob", nat), "REGISTER", uri, to, 2, &proof);
    assert!(scene.field(nat, "Contact").starts_with(BEHIND_NAT.0), "{}", scene.last(nat));
    scene.alice_calls("bob");
    assert!(scene.first_line(nat).starts_with("INVITE"), "{}", scene.last(nat));
}

#[test]
fn a_snapshot_makes_an_equal_backup() {
    let mut scene = Scene::new();
    scene.established();
    let setup = Setup { settings: Arc::new(settings()), server: "new".into(), seed: [3; 32], open: false };
    let mut fresh = SipCore::new(setup, scene.now);
    fresh.begin_resync();
    let (mut cursor, mut changes) = (None, Vec::new());
    loop {
        cursor = scene.servers[0].snapshot(cursor.as_ref(), 1, scene.now, &mut changes);
        if cursor.is_none() {
            break;
        }
    }
    assert!(changes.iter().any(|change| matches!(change, Change::Caller { .. })));
    for change in changes {
        fresh.apply(change, scene.now).unwrap();
    }
    fresh.end_resync();
    assert_eq!(fresh.survey(scene.now), scene.servers[0].survey(scene.now));
    // What the primary no longer has goes with the next resynchronisation.
    fresh.begin_resync();
    fresh.end_resync();
    assert_eq!(fresh.survey(scene.now), domain::Standby::default());
}

#[test]
fn a_ladder_shows_who_said_what() {
    let mut scene = Scene::new();
    scene.established();
    let ladder = scene.servers[0].trace("INVITE-alice").expect("a trace");
    for part in ["INVITE", "180 (INVITE)", "200 (INVITE)", "ACK", ALICE, BOB] {
        assert!(ladder.contains(part), "{part} is not in\n{ladder}");
    }
}
