//! The messages of RFC 4475 (torture tests) and RFC 5118 (the same for IPv6), each with what becomes of it here, and
//! mutations of them. The message files have one line per line of a message, `<hex>` as in the RFCs, and in front of
//! each message a line `=== section name: outcome`, where the outcome is the status line of the answer,
//! `response CODE`, or `dropped`. Where RFC 5118 announces a body longer than it is, the length is put right.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use domain::Micros;
use sip_proto::b2bua::{CallLimits, CallSettings, Calls, Flow, Input, Interface, Outputs, Transport};
use sip_proto::transaction::Timing;
use sip_proto::{
    Arrival, Defect, Duty, Frame, Framer, Framing, MAX_MESSAGE, Message, Reply, SessionLimits, Settings,
    Silence, StartLine, UserAgentServer, parse,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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

/// Numbers from a seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Changes a few bytes, preferring those that mean something, or cuts a piece out or puts it in again.
fn mutate(message: &[u8], random: &mut Random) -> Vec<u8> {
    const MEANINGFUL: &[u8] = b"\r\n\t \0\"\\<>;:,=?@[]%*/0129aZ\xff";
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(6) {
        let (at, end) = (random.below(bytes.len()), random.below(bytes.len()));
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = MEANINGFUL[random.below(MEANINGFUL.len())],
            2 => bytes.insert(at, MEANINGFUL[random.below(MEANINGFUL.len())]),
            _ if at < end && end - at < bytes.len() => drop(bytes.drain(at..end.min(at + 40))),
            _ => bytes.extend_from_within(end..at.min(end + 40).max(end)),
        }
    }
    bytes
}

/// What must hold for any bytes at all: no panic, an answer that is a whole SIP message and no more than one, and a
/// cutter of streams that goes forward.
fn check_anything(bytes: &[u8], server: &mut UserAgentServer) {
    for framing in [Framing::Datagram, Framing::Stream] {
        let Ok(message) = parse(bytes, framing) else { continue };
        let mut out = Outputs::default();
        let flow = Flow { interface: 0, peer: arrival().source };
        calls().step(Input::Received { message: &message, flow }, Micros(0), &mut out);
        for sent in &out.messages {
            let read = parse(&sent.wire, Framing::Stream).unwrap();
            assert!(matches!(read.defect, None | Some(Defect::TooManyHeaders)), "{:?}", read.defect);
        }
        let mut answer = Vec::new();
        if let Reply::Answer { status, .. } = server.answer(&message, arrival(), &mut answer) {
            let read = parse(&answer, Framing::Stream).unwrap();
            assert!(matches!(read.start, StartLine::Status { code, .. } if code == status));
            assert!(matches!(read.defect, None | Some(Defect::TooManyHeaders)), "{:?}", read.defect);
            assert_eq!(read.body, b"");
            assert!(answer.ends_with(b"\r\n\r\n"));
            let ends = answer.windows(4).filter(|window| *window == b"\r\n\r\n").count();
            assert_eq!(ends, 1, "one message and no more");
        }
    }
    let (mut framer, mut rest) = (Framer::default(), bytes);
    while !rest.is_empty() {
        match framer.next(rest) {
            Frame::Skip(length) | Frame::KeepAlive(length) | Frame::Message(length) => {
                assert!(length > 0);
                rest = &rest[length..];
            }
            Frame::Incomplete => break,
            Frame::Broken(head) => {
                assert!(head <= rest.len());
                break;
            }
        }
    }
}

#[test]
fn mutations_do_no_harm() {
    let seed = 0x7a6b_5c4d;
    let mut random = Random(seed);
    let mut server = server();
    let cases = cases();
    for round in 0..40_000 {
        let case = &cases[round % cases.len()];
        let bytes = mutate(&case.message, &mut random);
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_anything(&bytes, &mut server)));
        assert!(
            result.is_ok(),
            "seed {seed:#x}, round {round}, from {}: {:?}",
            case.name,
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn every_beginning_of_every_message_does_no_harm() {
    let mut server = server();
    for case in cases() {
        for length in 0..case.message.len() {
            check_anything(&case.message[..length], &mut server);
        }
    }
}

/// Shapes that make a careless parser take quadratic time. With that, each would take far longer than the limit; as it
/// is, all of them together take a few milliseconds (more in a debug build).
#[test]
#[allow(clippy::disallowed_methods, reason = "this test is about time")]
fn time_is_linear_in_the_length() {
    let head =
        "REGISTER sip:a SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:a@b>;tag=1\r\ni: x\r\nCSeq: 1 REGISTER\r\n";
    let fill = |before: &str, piece: &str, after: &str| {
        let room = MAX_MESSAGE - head.len() - before.len() - after.len() - 32;
        format!("{head}{before}{}{after}\r\n", piece.repeat(room / piece.len()))
    };
    let shapes = [
        fill("t: <sip:a@b>\r\nm: ", "<sip:a@b>,", "<sip:a@b>\r\n"),
        fill("t: <sip:a@b>\r\nm: ", "a,", "a\r\n"),
        fill("t: <sip:a@b>\r\nm: <sip:a@b", ";a", ">\r\n"),
        fill("t: <sip:a@b>", ";a", "\r\n"),
        fill("t: \"", "\\\"", "\r\n"),
        fill("t: ", "a ", "<sip:a@b>\r\n"),
        fill("t: <sip:a@b>\r\nZ:", "\r\n ", "\r\n"),
        fill("t: <sip:a@b>\r\nv: SIP/2.0/UDP h", ";rport", "\r\n"),
        fill("t: <sip:a@b>\r\nRequire: ", "a,", "\r\n"),
        fill("t: <sip:a@b>\r\n", "m:*\r\n", ""),
        fill("t: <sip:a@b>\r\n", "\r", "\r\n"),
        fill("t: sip:", "%41", "@b\r\n"),
        fill("t: sip:a@b?", "&", "\r\n"),
    ];
    let began = Instant::now();
    for shape in &shapes {
        assert!(shape.len() <= MAX_MESSAGE);
        check_anything(shape.as_bytes(), &mut server());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
