//! Messages being written: requests (RFC 3261, section 8.1.1), responses with what is copied from the request (section
//! 8.2.6), and where responses go (section 18.2.2, RFC 3581).

use crate::{Header, HeaderName, MAX_MESSAGE, Message, Via};
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;

/// The tag of To in a response.
#[derive(Debug, Clone, Copy)]
pub enum ToTag<'a> {
    /// The one that is made of what names the transaction ([`to_tag`]).
    OfTransaction,
    /// This one.
    Of(&'a str),
    /// None: 100 Trying (RFC 3261, section 8.2.6.2).
    None,
}

/// A message being written. Dropped before [`Draft::finish`], it leaves half a message in the buffer. Nothing that ends a
/// line gets out by way of a value.
#[must_use = "a message is complete only when it is finished"]
#[derive(Debug)]
pub struct Draft<'b> {
    out: &'b mut Vec<u8>,
}

impl<'b> Draft<'b> {
    /// Begins a request behind what `out` holds.
    pub fn request(out: &'b mut Vec<u8>, method: &str, uri: &str) -> Self {
        put(out, format_args!("{method} {uri} SIP/2.0\r\n"));
        Self { out }
    }

    /// Begins a response: status line, then the Vias, From, To, Call-ID and CSeq of `request` as far as it has them, the
    /// topmost Via completed; To with the tag, unless it has one. `source` is where the request came from.
    pub fn response(
        out: &'b mut Vec<u8>,
        request: &Message<'_>,
        status: u16,
        reason: &str,
        tag: ToTag<'_>,
        source: SocketAddr,
    ) -> Self {
        put(out, format_args!("SIP/2.0 {status} "));
        push_unfolded(out, reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        copy_vias(out, request, source);
        copy(out, "From", request.value(HeaderName::From));
        copy_to(out, request, tag);
        copy(out, "Call-ID", request.value(HeaderName::CallId));
        copy(out, "CSeq", request.value(HeaderName::CSeq));
        Self { out }
    }

    /// Adds a header field.
    pub fn header(self, name: &str, value: impl fmt::Display) -> Self {
        put(self.out, format_args!("{name}: {value}\r\n"));
        self
    }

    /// Adds a header field where there is a value.
    pub fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Adds a header field with a value as it was sent.
    pub fn raw(self, name: &str, value: &[u8]) -> Self {
        copy(self.out, name, Some(value));
        self
    }

    /// Adds From or To: an address with a tag, or without where the tag is empty.
    pub fn tagged(self, name: &str, address: &[u8], tag: &str) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        push_unfolded(self.out, address);
        if !tag.is_empty() {
            put(self.out, format_args!(";tag={tag}"));
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a header field of another message as it is there.
    pub fn copy(self, header: &Header<'_>) -> Self {
        self.out.extend_from_slice(header.raw_name);
        self.out.extend_from_slice(b": ");
        push_unfolded(self.out, header.value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a header field with several values.
    pub fn list<'v>(self, name: &str, values: impl Iterator<Item = &'v [u8]>) -> Self {
        put(self.out, format_args!("{name}: "));
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            push_unfolded(self.out, value);
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends it, without a body.
    pub fn finish(self) {
        self.finish_with(b"");
    }

    /// Ends it with a body, whose Content-Type is among the header fields.
    pub fn finish_with(self, body: &[u8]) {
        put(self.out, format_args!("Content-Length: {}\r\n\r\n", body.len()));
        self.out.extend_from_slice(body);
    }
}

/// Whether a message of so many bytes may be sent at all.
#[must_use]
pub(crate) fn fits(length: usize) -> bool {
    length <= MAX_MESSAGE
}

/// Where the answer to a request goes that came in a datagram from `source`: to the port that it was sent from if that
/// was asked for, otherwise to the port that the Via names, always at the address that it came from. A Via's `maddr`
/// is not followed: it would let anybody have answers sent to somebody else. Where the Via cannot be read, the answer
/// is a 400 and goes back the way that the request came.
#[must_use]
pub fn destination(via: Option<&Via<'_>>, source: SocketAddr) -> SocketAddr {
    let mut destination = source;
    if let Some(via) = via.filter(|via| via.rport != crate::Rport::Asked) {
        destination.set_port(via.port.unwrap_or(5060));
    }
    destination
}

/// The tag for To: made of what names the transaction, nothing else. So a retransmission gets the same one (RFC 3261,
/// section 8.2.7), also from the other member of a pair after a takeover.
#[must_use]
pub fn to_tag(request: &Message<'_>) -> u64 {
    let names = [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
    let values = names.into_iter().map(|name| request.value(name).unwrap_or_default());
    // FNV-1a, 64 bits, written out because two releases must agree on it. Values are ended with a byte that none holds.
    let bytes = values.flat_map(|value| value.iter().copied().chain([0xff]));
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // FNV leaves the last bytes in the low bits only; one more round of mixing spreads them.
    (hash ^ (hash >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The usual reason phrase.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => "Unknown",
    }
}

fn copy_vias(out: &mut Vec<u8>, request: &Message<'_>, source: SocketAddr) {
    for (index, value) in request.values(HeaderName::Via).enumerate() {
        out.extend_from_slice(b"Via: ");
        let topmost = if index == 0 { Via::read(value).ok() } else { None };
        match topmost {
            Some(via) => via.write_answer(value, source, out),
            None => push_unfolded(out, value),
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn copy_to(out: &mut Vec<u8>, request: &Message<'_>, tag: ToTag<'_>) {
    let Some(value) = request.value(HeaderName::To) else { return };
    out.extend_from_slice(b"To: ");
    push_unfolded(out, value);
    if request.to().is_ok_and(|to| to.tag().is_none()) {
        match tag {
            ToTag::OfTransaction => put(out, format_args!(";tag={:016x}", to_tag(request))),
            ToTag::Of(tag) => put(out, format_args!(";tag={tag}")),
            ToTag::None => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn copy(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let Some(value) = value else { return };
    put(out, format_args!("{name}: "));
    push_unfolded(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a value on one line: the CR LF of a folded one becomes a space, and nothing else that ends a line gets out.
pub(crate) fn push_unfolded(out: &mut Vec<u8>, value: &[u8]) {
    let mut lines = value.split(|b| matches!(b, b'\r' | b'\n')).filter(|line| !line.is_empty());
    if let Some(first) = lines.next() {
        out.extend_from_slice(first);
    }
    for line in lines {
        if !out.ends_with(b" ") && !line.starts_with(b" ") {
            out.push(b' ');
        }
        out.extend_from_slice(line);
    }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    const REQUEST: &str = "OPTIONS sip:x SIP/2.0\r\nv: SIP/2.0/UDP a.example;rport;branch=z9hG4bK1,\r\n SIP/2.0/TCP b\r\n\
        Via: SIP/2.0/TLS c\r\nTO:\r\n <sip:x>\r\nf: sip:y;tag=1\r\ni: id@x\r\nCSeq: 1 OPTIONS\r\n\r\n";

    fn answer(request: &str) -> String {
        let message = parse(request.as_bytes(), Framing::Datagram).unwrap();
        let mut out = Vec::new();
        let source = "192.0.2.7:4444".parse().unwrap();
        Draft::response(&mut out, &message, 200, "OK", ToTag::OfTransaction, source)
            .header("Server", "x")
            .finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_request_is_copied_and_completed() {
        let message = parse(REQUEST.as_bytes(), Framing::Datagram).unwrap();
        let tag = to_tag(&message);
        assert_eq!(
            answer(REQUEST),
            format!(
                "SIP/2.0 200 OK\r\n\
                 Via: SIP/2.0/UDP a.example;rport=4444;branch=z9hG4bK1;received=192.0.2.7, SIP/2.0/TCP b\r\n\
                 Via: SIP/2.0/TLS c\r\nFrom: sip:y;tag=1\r\nTo: <sip:x>;tag={tag:016x}\r\nCall-ID: id@x\r\n\
                 CSeq: 1 OPTIONS\r\nServer: x\r\nContent-Length: 0\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_tag_is_kept_and_depends_on_the_transaction() {
        assert!(answer(&REQUEST.replace("<sip:x>", "<sip:x>;tag=mine")).contains("To: <sip:x>;tag=mine\r\n"));
        let tag = |text: &str| to_tag(&parse(text.as_bytes(), Framing::Datagram).unwrap());
        assert_eq!(tag(REQUEST), tag(REQUEST));
        for (old, new) in [("bK1", "bK2"), ("tag=1", "tag=2"), ("id@x", "ie@x"), ("1 OPTIONS", "2 OPTIONS")] {
            assert_ne!(tag(REQUEST), tag(&REQUEST.replace(old, new)), "{new}");
        }
    }

    #[test]
    fn answers_go_where_the_via_says_and_never_to_another_address() {
        let source = "192.0.2.7:4444".parse().unwrap();
        for (value, expected) in [
            ("SIP/2.0/UDP h;rport", "192.0.2.7:4444"),
            ("SIP/2.0/UDP h:5070;rport", "192.0.2.7:4444"),
            ("SIP/2.0/UDP h:5070", "192.0.2.7:5070"),
            ("SIP/2.0/UDP 198.51.100.1;maddr=198.51.100.2;received=198.51.100.3", "192.0.2.7:5060"),
        ] {
            let via = Via::read(value.as_bytes()).unwrap();
            assert_eq!(destination(Some(&via), source), expected.parse().unwrap(), "{value}");
        }
        assert_eq!(destination(None, source), source);
    }
}
