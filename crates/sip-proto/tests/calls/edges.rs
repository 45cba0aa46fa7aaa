//! What the charts do not show: orders, bounds, and a backup that does not know a call.

use crate::world::{SERVER, settings};
use domain::{Epoch, Micros};
use sip_proto::b2bua::{
    ApplyError, CallKey, CallLimits, CallSettings, Calls, Event, Failover, Flow, Input, Order, Outputs, Plan,
    Stage, Target, Transport,
};
use sip_proto::{Framing, parse};
use std::time::Duration;

const ALICE: &str = "192.0.2.1:5060";

/// A server and what it said last.
struct Scene {
    calls: Calls,
    out: Outputs,
    now: Micros,
}

impl Scene {
    fn new(edit: impl FnOnce(&mut CallSettings)) -> Self {
        let mut settings = settings(Transport::Udp, 1);
        edit(&mut settings);
        let mut calls = Calls::new(settings);
        calls.take_over(Epoch(2));
        Self { calls, out: Outputs::default(), now: Micros(1_000_000) }
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        self.calls.step(input, self.now, &mut self.out);
        self.calls.check();
    }

    fn receive(&mut self, text: &str, from: &str) {
        let message = parse(text.as_bytes(), Framing::Datagram).unwrap();
        self.step(Input::Received {
            message: &message,
            flow: Flow { interface: 0, peer: from.parse().unwrap() },
        });
    }

    /// The call that this INVITE begins.
    fn call(&mut self, id: &str, more: &str) -> Option<CallKey> {
        self.receive(&invite(id, more), ALICE);
        self.out.events.iter().find_map(|event| match event {
            Event::Incoming { call } => Some(*call),
            _ => None,
        })
    }

    fn route(&mut self, call: CallKey, groups: Vec<Vec<Target>>) {
        let plan = Plan { groups, failover: Failover::Unavailable, ringing: Duration::from_secs(60) };
        self.step(Input::Ordered(Order::Route { call, plan }));
    }

    /// First lines of what was sent, with where to.
    fn sent(&self) -> Vec<String> {
        let lines = self.out.messages.iter().map(|message| {
            let text = String::from_utf8_lossy(&message.wire).into_owned();
            format!("{} -> {}", text.lines().next().unwrap(), message.flow.peer)
        });
        lines.collect()
    }

    fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.out.messages[index].wire).into_owned()
    }
}

fn invite(id: &str, more: &str) -> String {
    format!(
        "INVITE sip:1000@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{id}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=a\r\nTo: <sip:1000@example.com>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@{ALICE}>\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

fn target(number: u8) -> Target {
    let peer = format!("192.0.2.{number}:5060");
    Target {
        uri: format!("sip:1000@{peer}").into(),
        flow: Flow { interface: 0, peer: peer.parse().unwrap() },
        behind_nat: false,
        replaces: None,
        route: Some("<sip:proxy.example.com;lr>".into()),
        label: format!("trunk{number}").into(),
    }
}

#[test]
fn a_target_that_cannot_be_reached_is_passed_over() {
    let mut scene = Scene::new(|_| {});
    let call = scene.call("1", "").unwrap();
    scene.route(call, vec![vec![target(2)], vec![target(3)]]);
    assert_eq!(scene.sent(), ["INVITE sip:1000@192.0.2.2:5060 SIP/2.0 -> 192.0.2.2:5060"]);
    assert!(scene.text(0).contains("\r\nRoute: <sip:proxy.example.com;lr>\r\nMax-Forwards: 69\r\n"));
    let transaction = scene.out.messages[0].transaction.unwrap();
    scene.step(Input::Unsent { call, transaction });
    assert_eq!(scene.sent(), ["INVITE sip:1000@192.0.2.3:5060 SIP/2.0 -> 192.0.2.3:5060"]);
    let failed = Event::TargetFailed { call, label: "trunk2".into(), status: 503, retry_after_s: None };
    assert_eq!(scene.out.events, [failed]);
}

#[test]
fn a_redirection_is_passed_on_and_not_followed() {
    let mut scene = Scene::new(|_| {});
    let call = scene.call("1", "").unwrap();
    scene.route(call, vec![vec![target(2)]]);
    let request = scene.text(0);
    let lines = request.lines().filter(|line| {
        ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}: ")))
    });
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    scene.receive(&format!("SIP/2.0 302 Moved\r\n{lines}Contact: <sip:elsewhere>\r\n\r\n"), "192.0.2.2:5060");
    assert!(scene.text(1).starts_with("SIP/2.0 302 Moved\r\n"), "{}", scene.text(1));
    assert!(scene.text(1).contains("\r\nContact: <sip:elsewhere>\r\n"));
}

/// The primary that sent the INVITE ended before its backup heard of the call; the target answers, again and again.
#[test]
fn who_answers_a_call_that_nobody_knows_is_let_go() {
    let mut before = Scene::new(|_| {});
    let call = before.call("1", "").unwrap();
    before.route(call, vec![vec![target(2)]]);
    let request = before.text(0);
    let line = |name: &str| request.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
    let answer = |status: &str, cseq: &str| {
        format!(
            "SIP/2.0 {status}\r\n{}\r\n{}\r\n{};tag=b\r\n{}\r\nCSeq: {cseq}\r\n\
             Contact: <sip:victim@203.0.113.9>\r\nContent-Length: 0\r\n\r\n",
            line("Via"),
            line("From"),
            line("To"),
            line("Call-ID")
        )
    };
    let mut after = Scene::new(|_| {});
    after.calls.take_over(Epoch(3));
    after.receive(&answer("180 Ringing", "1 INVITE"), "192.0.2.2:5060");
    assert!(after.sent().is_empty(), "{:?}", after.sent());
    let said: Vec<Vec<String>> = (0..2)
        .map(|_| {
            after.receive(&answer("200 OK", "1 INVITE"), "192.0.2.2:5060");
            let both = ["ACK", "BYE"]
                .map(|method| format!("{method} sip:victim@203.0.113.9 SIP/2.0 -> 192.0.2.2:5060"));
            assert_eq!(after.sent(), both, "where the answer came from, whatever its Contact says");
            (0..2).map(|n| after.text(n)).collect()
        })
        .collect();
    assert_eq!(said[0], said[1], "the same again, so that it is the same transaction");
    assert!(said[0][0].contains("\r\nCSeq: 1 ACK\r\n") && said[0][1].contains(";tag=b\r\n"), "{said:?}");
    assert!(after.out.deltas.is_empty() && after.calls.is_empty());
    // The answer to that BYE, and one to nothing of ours.
    after.receive(&answer("200 OK", "2 BYE"), "192.0.2.2:5060");
    assert!(after.sent().is_empty());
    let foreign = answer("200 OK", "1 INVITE").replace("branch=z9hG4bK", "branch=z9hG4bKx");
    after.receive(&foreign, "192.0.2.2:5060");
    assert!(after.sent().is_empty(), "{:?}", after.sent());
}

#[test]
fn calls_that_are_refused_say_why() {
    let mut scene = Scene::new(|settings| settings.limits = CallLimits { calls: 1, ..CallLimits::default() });
    for (more, status) in [
        ("Require: teleport\r\n", "420 Bad Extension"),
        ("Supported: timer\r\nSession-Expires: 30\r\n", "422 Session Interval Too Small"),
    ] {
        assert_eq!(scene.call("0", more), None);
        assert_eq!(scene.sent(), [format!("SIP/2.0 {status} -> {ALICE}")]);
    }
    let call = scene.call("1", "").unwrap();
    assert_eq!(scene.call("2", ""), None);
    assert_eq!(scene.sent(), [format!("SIP/2.0 503 Service Unavailable -> {ALICE}")]);
    assert!(scene.text(0).contains("\r\nRetry-After: 2\r\n"));
    scene.step(Input::Ordered(Order::Refuse { call, status: 404, retry_after_s: Some(9) }));
    assert!(
        scene.text(0).starts_with("SIP/2.0 404 Not Found\r\n")
            && scene.text(0).contains("\r\nRetry-After: 9\r\n")
    );
    assert_eq!(scene.calls.list().map(|call| call.stage).collect::<Vec<_>>(), [Stage::Over]);
    assert_eq!(scene.call("0", "Max-Forwards: 0\r\n"), None, "a second Max-Forwards is one too many");
}

#[test]
fn a_call_that_nobody_routes_ends() {
    let mut scene = Scene::new(|_| {});
    scene.call("1", "").unwrap();
    scene.now += Duration::from_secs(8);
    assert!(scene.calls.next_deadline().unwrap() <= scene.now);
    scene.step(Input::Due);
    assert_eq!(scene.sent(), [format!("SIP/2.0 500 Server Internal Error -> {ALICE}")]);
}

#[test]
fn targets_are_bounded() {
    let mut scene =
        Scene::new(|settings| settings.limits = CallLimits { targets: 3, ..CallLimits::default() });
    let call = scene.call("1", "").unwrap();
    scene.route(call, vec![vec![], vec![target(2), target(3)], vec![target(4), target(5)]]);
    assert_eq!(scene.out.messages.len(), 2);
    let nobody = scene.call("2", "").unwrap();
    scene.route(nobody, vec![]);
    assert_eq!(scene.sent(), [format!("SIP/2.0 480 Temporarily Unavailable -> {ALICE}")]);
}

#[test]
fn a_backup_that_does_not_know_a_call_learns_it_whole() {
    let mut scene = Scene::new(|_| {});
    let call = scene.call("1", "").unwrap();
    scene.route(call, vec![vec![target(2)]]);
    let mut backup = Calls::new(settings(Transport::Udp, 2));
    let later = Micros(9_000_000);
    for delta in scene.out.deltas.drain(..) {
        assert_eq!(backup.apply(delta, later), Err(ApplyError::Unknown));
    }
    let snapshot = scene.calls.snapshot(None, 10, scene.now);
    assert_eq!(snapshot.len(), 1);
    for delta in snapshot {
        backup.apply(delta, later).unwrap();
    }
    assert!(backup == scene.calls);
    backup.check();
    assert_eq!(scene.calls.snapshot(Some(call), 10, scene.now), []);
    // It goes by the primary's clock.
    assert_eq!(backup.clock(later), scene.now);
    assert_eq!(backup.age(Micros(0), later), Duration::from_secs(1));
}

#[test]
fn a_resynchronisation_brings_calls_up_to_date_and_drops_those_that_are_over() {
    let mut scene = Scene::new(|_| {});
    let (one, two) = (scene.call("1", "").unwrap(), scene.call("2", "").unwrap());
    let mut backup = Calls::new(settings(Transport::Udp, 2));
    for delta in scene.calls.snapshot(None, 10, scene.now) {
        backup.apply(delta, scene.now).unwrap();
    }
    // What happens now the backup does not hear.
    scene.step(Input::Ordered(Order::Refuse { call: one, status: 404, retry_after_s: None }));
    scene.receive(&invite("1", "").replace("INVITE", "ACK"), ALICE);
    scene.now += Duration::from_secs(60);
    scene.step(Input::Due);
    assert_eq!(scene.calls.list().map(|call| call.call).collect::<Vec<_>>(), [two]);
    let three = scene.call("3", "").unwrap();

    backup.begin_resync();
    scene.route(two, vec![vec![target(2)]]);
    for delta in scene.out.deltas.drain(..) {
        assert_eq!(backup.apply(delta, scene.now), Err(ApplyError::Unknown), "it would be a mixture");
    }
    assert_eq!(backup.len(), 2, "what there was is kept until the end");
    let (mut after, mut rounds) = (None, 0);
    while let Some(delta) = scene.calls.snapshot(after, 1, scene.now).pop() {
        after = Some(delta.call);
        backup.apply(delta, scene.now).unwrap();
        rounds += 1;
    }
    assert_eq!((rounds, backup.len()), (2, 3));
    scene.step(Input::Ordered(Order::HangUp { call: three }));
    for delta in scene.out.deltas.drain(..) {
        backup.apply(delta, scene.now).unwrap();
    }
    backup.end_resync();
    assert!(backup == scene.calls);
    backup.check();
}

#[test]
fn an_answer_goes_back_the_way_that_the_via_says() {
    let mut scene = Scene::new(|_| {});
    scene.receive(&invite("1", ""), "192.0.2.77:40000");
    assert_eq!(scene.sent(), ["SIP/2.0 100 Trying -> 192.0.2.77:5060"]);
    assert!(scene.text(0).contains(";received=192.0.2.77\r\n") && !scene.text(0).contains(SERVER));
}

#[test]
fn a_key_is_text_where_people_read() {
    let key = CallKey::read("fedcba9876543210").unwrap();
    let text = serde_json::to_string(&key).unwrap();
    assert_eq!(text, "\"fedcba9876543210\"");
    assert_eq!(serde_json::from_str::<CallKey>(&text).unwrap(), key);
    for bad in ["18364758544493064720", "\"fedcba987654321\"", "\"+edcba9876543210\"", "null"] {
        assert!(serde_json::from_str::<CallKey>(bad).is_err(), "{bad} must be refused");
    }
}
