//! Which server transaction a request belongs to (RFC 3261, section 17.2.3).

use crate::{Malformed, Message, Method, StartLine};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fmt::Write;

/// What begins every branch that is unique (RFC 3261, section 8.1.1.7).
pub(crate) const COOKIE: &str = "z9hG4bK";

/// The name of a server transaction: branch, sent-by and method of its request. An ACK has the key of the INVITE whose
/// refusal it acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerKey(Box<str>);

impl ServerKey {
    /// The key of the transaction that a request belongs to.
    ///
    /// # Errors
    /// [`Malformed`] where a header field that it is made of is missing or cannot be read.
    pub fn of(request: &Message<'_>) -> Result<Self, Malformed> {
        match request.start {
            StartLine::Request(line) if line.method == Method::Ack => Self::with(request, "INVITE"),
            StartLine::Request(line) => Self::with(request, line.method_text),
            StartLine::Status { .. } => Err(Malformed("Not A Request")),
        }
    }

    /// The key of the INVITE that a CANCEL is about (RFC 3261, section 9.2).
    ///
    /// # Errors
    /// As [`ServerKey::of`].
    pub fn cancelled_by(cancel: &Message<'_>) -> Result<Self, Malformed> {
        Self::with(cancel, "INVITE")
    }

    fn with(request: &Message<'_>, method: &str) -> Result<Self, Malformed> {
        let via = request.via()?;
        let mut key = String::with_capacity(96);
        key.push_str(method);
        key.push(' ');
        match via.branch {
            Some(branch) if branch.len() > COOKIE.len() && branch.starts_with(COOKIE) => key.push_str(branch),
            // A sender of RFC 2543. The tag of To is left out, as ACK has it and INVITE has not; what is left names one
            // INVITE all the same.
            _ => {
                let StartLine::Request(line) = request.start else { return Err(Malformed("Not A Request")) };
                let tag = request.from()?.tag().unwrap_or_default();
                let parts = [line.uri, tag, request.call_id()?.as_bytes()];
                for part in parts {
                    key.push_str(&String::from_utf8_lossy(part));
                    key.push(' ');
                }
                push(&mut key, format_args!("{}", request.cseq()?.number));
            }
        }
        key.push(' ');
        key.extend(via.host.chars().map(|c| c.to_ascii_lowercase()));
        push(&mut key, format_args!(":{}", via.port.unwrap_or(5060)));
        Ok(Self(key.into_boxed_str()))
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn push(key: &mut String, text: fmt::Arguments<'_>) {
    key.write_fmt(text).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    fn key(method: &str, via: &str, to: &str) -> String {
        let text = format!(
            "{method} sip:b@x SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@x>;tag=1\r\nTo: {to}\r\nCall-ID: c\r\n\
             CSeq: 7 {method}\r\n\r\n"
        );
        ServerKey::of(&parse(text.as_bytes(), Framing::Datagram).unwrap()).unwrap().to_string()
    }

    #[test]
    fn branch_sent_by_and_method_make_the_key() {
        let (via, to) = ("SIP/2.0/UDP Host:5070;branch=z9hG4bKa", "<sip:b@x>");
        let invite = key("INVITE", via, to);
        assert_eq!(key("INVITE", "SIP/2.0/UDP host:5070;rport;branch=z9hG4bKa", "<sip:b@x>;tag=2"), invite);
        assert_eq!(key("ACK", via, "<sip:b@x>;tag=2"), invite);
        for (method, via) in [
            ("CANCEL", via),
            ("INVITE", "SIP/2.0/UDP host:5070;branch=z9hG4bKA"),
            ("INVITE", "SIP/2.0/UDP host;branch=z9hG4bKa"),
            ("INVITE", "SIP/2.0/UDP other:5070;branch=z9hG4bKa"),
        ] {
            assert_ne!(key(method, via, to), invite, "{method} {via}");
        }
    }

    #[test]
    fn without_the_cookie_the_request_itself_is_the_key() {
        let invite = key("INVITE", "SIP/2.0/UDP host", "<sip:b@x>");
        assert_eq!(key("ACK", "SIP/2.0/UDP host;branch=z9hG4bK", "<sip:b@x>;tag=2"), invite);
        assert_eq!(invite, "INVITE sip:b@x 1 c 7 host:5060");
    }

    #[test]
    fn a_cancel_names_its_invite() {
        let text = "CANCEL sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\n\r\n";
        let cancel = parse(text.as_bytes(), Framing::Datagram).unwrap();
        assert_eq!(ServerKey::cancelled_by(&cancel).unwrap().to_string(), "INVITE z9hG4bKa h:5060");
        let response = parse(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n", Framing::Datagram).unwrap();
        assert!(ServerKey::of(&response).is_err());
    }
}
