//! What phones say: requests of their own, and answers and requests that fit to what they were sent.

use crate::script::Script;
use sip_proto::{HeaderName, Message, StartLine};
use std::fmt::Write;

/// Requests within dialogs, or of them.
const METHODS: [&str; 11] =
    ["ACK", "BYE", "CANCEL", "INVITE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "OPTIONS", "MESSAGE"];
const CODES: [u16; 16] = [100, 180, 183, 200, 200, 202, 302, 401, 407, 408, 422, 481, 486, 491, 503, 603];
/// Fields that make a difference.
const FIELDS: [&str; 13] = [
    "",
    "Supported: 100rel, timer, replaces\r\n",
    "Require: 100rel\r\nRSeq: 1\r\n",
    "Require: 100rel\r\nRSeq: 2\r\n",
    "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n",
    "Session-Expires: 90;refresher=uas\r\nSupported: timer\r\nRequire: timer\r\n",
    "Session-Expires: 30\r\nMin-SE: 30\r\n",
    "Min-SE: 3600\r\n",
    "RAck: 1 2 INVITE\r\n",
    "Expires: 0\r\n",
    "Retry-After: 5\r\n",
    "Refer-To: <sip:u2@example.com>\r\n",
    "Record-Route: <sip:192.0.2.77;lr>\r\n",
];

/// A request that begins something.
pub(crate) fn request(method: &str, number: u32, phone: u8, script: &mut Script<'_>) -> String {
    let (other, at) = (script.byte() % 12, address(phone));
    let fields = script.one_of(&FIELDS).copied().unwrap_or_default();
    // Beyond the phones are numbers for the trunk.
    let to = if other < 9 { format!("u{other}") } else { format!("0{other}") };
    let (uri, to, call_id) = match method {
        "REGISTER" => ("sip:example.com".to_owned(), format!("u{phone}"), format!("r{phone}")),
        _ => (format!("sip:{to}@example.com"), to, format!("c{number}")),
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:u{phone}@example.com>;tag=t{number}\r\nTo: <sip:{to}@example.com>\r\nCall-ID: {call_id}\r\n\
         CSeq: {number} {method}\r\nContact: <sip:u{phone}@{at}>\r\n{fields}Content-Length: 0\r\n\r\n"
    )
}

/// An answer to a request that a phone was sent; of another phone behind the same contact where the order says so.
pub(crate) fn answer(sent: &Message<'_>, script: &mut Script<'_>) -> Option<String> {
    let StartLine::Request(_) = sent.start else { return None };
    let code = script.one_of(&CODES)?;
    let tag = script.byte() % 3;
    let mut text = format!("SIP/2.0 {code} X\r\n");
    for name in [HeaderName::Via, HeaderName::RecordRoute] {
        let field = if name == HeaderName::Via { "Via" } else { "Record-Route" };
        for value in sent.values(name) {
            let _ = write!(text, "{field}: {}\r\n", utf8(value));
        }
    }
    let to = utf8(sent.value(HeaderName::To)?);
    let tag = if to.contains(";tag=") { String::new() } else { format!(";tag=x{tag}") };
    let _ = write!(
        text,
        "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <sip:phone@192.0.2.3:5060>\r\n{}",
        utf8(sent.value(HeaderName::From)?),
        utf8(sent.value(HeaderName::CallId)?),
        utf8(sent.value(HeaderName::CSeq)?),
        script.one_of(&FIELDS)?,
    );
    text += "Content-Length: 0\r\n\r\n";
    Some(text)
}

/// A request in the dialog that a message belongs to, whichever side the phone that was sent it is on.
pub(crate) fn in_dialog(
    sent: &Message<'_>,
    number: u32,
    phone: u8,
    script: &mut Script<'_>,
) -> Option<String> {
    let method = script.one_of(&METHODS)?;
    let fields = script.one_of(&FIELDS)?;
    let tag = script.byte() % 3;
    let (from, to) = (utf8(sent.value(HeaderName::From)?), utf8(sent.value(HeaderName::To)?));
    let of_response = matches!(sent.start, StartLine::Status { .. });
    let (from, to) = match (of_response, to.contains(";tag=")) {
        (true, _) => (from, to),
        (false, true) => (to, from),
        (false, false) => (format!("{to};tag=x{tag}"), from),
    };
    let own = matches!(*method, "ACK" | "CANCEL");
    // ACK and CANCEL have the number of their INVITE, and where it was refused or goes on its branch as well.
    let cseq = sent.cseq().ok()?.number;
    let cseq = if own { cseq } else { cseq.checked_add(number)? };
    let via = match (own, sent.value(HeaderName::Via)) {
        (true, Some(via)) if of_response && tag != 2 => utf8(via),
        (true | false, Some(_) | None) => format!("SIP/2.0/UDP {};branch=z9hG4bKd{number}", address(phone)),
    };
    let target = sent.value(HeaderName::Contact).map_or_else(|| "<sip:192.0.2.100>".to_owned(), utf8);
    let target = target.split(['<', '>']).nth(1)?.to_owned();
    Some(format!(
        "{method} {target} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\n\
         Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:u{phone}@{}>\r\n{fields}Content-Length: 0\r\n\r\n",
        utf8(sent.value(HeaderName::CallId)?),
        address(phone),
    ))
}

/// Where a phone is; the last one is the trunk.
pub(crate) fn address(phone: u8) -> String {
    format!("192.0.2.{}:5060", phone + 1)
}

fn utf8(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
