//! Any bytes at all, as a message: read, typed, answered, and cut out of a stream.

use crate::office::{open_calls, setup, trunks_and_users};
use domain::Micros;
use sip_core::{Input, Outputs, SipCore};
use sip_proto::b2bua::{self, Flow};
use sip_proto::digest::Credentials;
use sip_proto::{
    Arrival, Defect, Duty, Frame, Framer, Framing, HeaderName, Message, Reply, Settings, StartLine, Uri,
    UserAgentServer, parse,
};
use std::net::{Ipv4Addr, SocketAddr};

/// URIs whose parameters are longer are not compared, bytes.
const SHORT: usize = 500;
/// Where the bytes come from.
const SOURCE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)), 5060);

/// What must hold for any bytes at all: no panic, answers that are whole SIP messages and no more than one each, and a cutter of
/// streams that goes forward.
///
/// # Panics
/// Where that is not so.
pub fn message(bytes: &[u8]) {
    for framing in [Framing::Datagram, Framing::Stream] {
        if let Ok(message) = parse(bytes, framing) {
            typed(&message);
            answered(&message);
            taken(&message);
        }
    }
    cut(bytes);
}

/// Every field as what it means.
fn typed(message: &Message<'_>) {
    // What they give does not matter here; that they give anything does.
    let _ = (message.via(), message.from(), message.to(), message.call_id(), message.cseq());
    let _ = (message.max_forwards(), message.expires());
    for name in [HeaderName::Contact, HeaderName::Route, HeaderName::RecordRoute, HeaderName::Path] {
        for address in message.addresses(name).flatten() {
            let Ok(uri) = address.sip_uri() else { continue };
            // Compared in pairs of parameters: whoever compares bounds their number.
            assert!(uri.params.len() > SHORT || uri.is_equivalent(&uri), "{uri:?}");
            let key = uri.address_of_record();
            let text = format!("sip:{key}");
            let again = Uri::parse(&text).expect("an address-of-record is a URI");
            assert_eq!(again.address_of_record(), key, "and is its own");
        }
    }
    for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
        for value in message.values(name) {
            let _ = Credentials::read(value);
        }
    }
}

/// By a user agent server, and by a back-to-back user agent that knows no calls.
fn answered(message: &Message<'_>) {
    let flow = Flow { interface: 0, peer: SOURCE };
    let mut out = b2bua::Outputs::default();
    open_calls().step(b2bua::Input::Received { message, flow }, Micros(0), &mut out);
    out.messages.iter().for_each(|sent| drop(check_sent(&sent.wire)));
    let mut server = UserAgentServer::new(Settings { server: "test".to_owned(), ..Settings::default() });
    let arrival = Arrival { source: SOURCE, now: Micros(0), duty: Duty::Serve, flow: None };
    let mut answer = Vec::new();
    if let Reply::Answer { status, .. } = server.answer(message, arrival, &mut answer) {
        let read = check_sent(&answer);
        assert!(matches!(read.start, StartLine::Status { code, .. } if code == status));
        assert_eq!(read.body, b"");
        assert!(answer.ends_with(b"\r\n\r\n"));
        let ends = answer.windows(4).filter(|window| *window == b"\r\n\r\n").count();
        assert_eq!(ends, 1, "one message and no more");
    }
}

/// By a whole server, which asks who it is.
fn taken(message: &Message<'_>) {
    let mut core = SipCore::new(setup(trunks_and_users(), false), Micros(0));
    core.take_over(domain::Epoch(2), Micros(0));
    let mut out = Outputs::default();
    let flow = Flow { interface: 0, peer: SOURCE };
    core.step(Input::Received { message, flow }, Micros(1), Micros(1_700_000_000_000_000), &mut out);
    out.messages.iter().for_each(|sent| drop(check_sent(&sent.wire)));
    core.check();
}

/// What we send can be read by anybody. Fields that were copied may be too many, as they were before.
pub(crate) fn check_sent(wire: &[u8]) -> Message<'_> {
    let read = parse(wire, Framing::Stream).expect("we send SIP");
    let shown = || String::from_utf8_lossy(wire);
    assert!(matches!(read.defect, None | Some(Defect::TooManyHeaders)), "{:?} in {}", read.defect, shown());
    read
}

/// Into messages, as the bytes of a connection.
fn cut(bytes: &[u8]) {
    let (mut framer, mut rest) = (Framer::default(), bytes);
    while !rest.is_empty() {
        match framer.next(rest) {
            Frame::Skip(length) | Frame::KeepAlive(length) | Frame::Message(length) => {
                assert!(length > 0, "it goes forward");
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
