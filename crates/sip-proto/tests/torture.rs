//! The messages of RFC 4475 (torture tests) and RFC 5118 (the same for IPv6), each with what becomes of it here
//! (mutations of them: `sip-fuzz`). The message files have one line per line of a message, `<hex>` as in the RFCs, and in
//! front of each message a line `=== section name: outcome`, where the outcome is the status line of the answer,
//! `response CODE`, or `dropped`. Where RFC 5118 announces a body longer than it is, the length is put right.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use domain::Micros;
use sip_proto::b2bua::{CallLimits, CallSettings, Calls, Flow, Input, Interface, Outputs, Transport};
use sip_proto::transaction::Timing;
use sip_proto::{
    Arrival, Duty, Framing, Message, Reply, SessionLimits, Settings, Silence, StartLine, UserAgentServer,
    parse,
};
use std::collections::BTreeMap;

const FILES: [&str; 2] = [include_str!("torture/rfc4475.txt"), include_str!("torture/rfc5118.txt")];

struct Case {
    name: String,
    expected: String,
    message: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in FILES.iter().flat_map(|file| file.lines()) {
        if let Some(title) = line.strip_prefix("=== ") {
            let (name, expected) = title.split_once(": ").unwrap();
            cases.push(Case { name: name.to_owned(), expected: expected.to_owned(), message: Vec::new() });
        } else {
            let message = &mut cases.last_mut().unwrap().message;
            message.extend(unhexed(line));
            message.extend_from_slice(b"\r\n");
        }
    }
    cases
}

fn unhexed(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in line.split("<hex>").enumerate() {
        let mut text = part;
        if index > 0 {
            let (hex, rest) = part.split_once("</hex>").unwrap();
            bytes.extend(
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()),
            );
            text = rest;
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn server() -> UserAgentServer {
    UserAgentServer::new(Settings { server: "test".to_owned(), ..Settings::default() })
}

fn arrival() -> Arrival {
    Arrival { source: "192.0.2.200:5060".parse().unwrap(), now: Micros(0), duty: Duty::Serve, flow: None }
}

fn outcome(bytes: &[u8]) -> String {
    let Ok(message) = parse(bytes, Framing::Datagram) else { return "dropped".to_owned() };
    if let (StartLine::Request(_), true) = (message.start, Calls::concerns(&message)) {
        return call_outcome(&message);
    }
    let mut answer = Vec::new();
    match server().answer(&message, arrival(), &mut answer) {
        Reply::Answer { .. } => {
            let text = String::from_utf8_lossy(&answer);
            text.lines().next().unwrap().strip_prefix("SIP/2.0 ").unwrap().to_owned()
        }
        Reply::None(Silence::Response) => match message.start {
            StartLine::Status { code, .. } => format!("response {code}"),
            StartLine::Request(_) => panic!("a request is no response"),
        },
        Reply::None(silence) => format!("{silence:?}"),
    }
}

fn calls() -> Calls {
    Calls::new(CallSettings {
        server: "test".to_owned(),
        interfaces: vec![Interface {
            transport: Transport::Udp,
            address: "192.0.2.100:5060".parse().unwrap(),
        }],
        timing: Timing::default(),
        session: SessionLimits::default(),
        limits: CallLimits::default(),
        users: BTreeMap::new(),
        seed: [1; 32],
    })
}

/// The first answer of the back-to-back user agent; 100 where the call goes on.
fn call_outcome(message: &Message<'_>) -> String {
    let mut out = Outputs::default();
    let flow = Flow { interface: 0, peer: arrival().source };
    calls().step(Input::Received { message, flow }, Micros(0), &mut out);
    let Some(answer) = out.messages.first() else { return "dropped".to_owned() };
    let text = String::from_utf8_lossy(&answer.wire).into_owned();
    text.lines().next().unwrap().strip_prefix("SIP/2.0 ").unwrap().to_owned()
}

#[test]
fn every_message_has_its_outcome() {
    let cases = cases();
    assert_eq!(cases.len(), 61, "messages in the files");
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| outcome(&case.message) != case.expected)
        .map(|case| format!("{}: {}, not {}", case.name, outcome(&case.message), case.expected))
        .collect();
    assert_eq!(wrong, [] as [&str; 0]);
}
