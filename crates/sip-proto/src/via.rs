//! Via (RFC 3261, sections 18.2 and 20.42) and its response parameters `received` and `rport` (RFC 3581).

use crate::Malformed;
use crate::scan::Cursor;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// The `rport` parameter (RFC 3581, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rport {
    /// Not there.
    Absent,
    /// There without a value: the sender wants the answer at the port that it sent from.
    Asked,
    /// Filled in already, on a response.
    Port(u16),
}

/// One Via value: the topmost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via<'a> {
    /// Transport as it was sent, `UDP` for instance.
    pub transport: &'a str,
    /// Host that the sender gave itself.
    pub host: &'a str,
    /// Port that the sender listens on; none means the transport's own.
    pub port: Option<u16>,
    /// Identifies the transaction, if it begins with `z9hG4bK` (RFC 3261, section 8.1.1.7).
    pub branch: Option<&'a str>,
    /// Whether the sender asked for the answer at its port.
    pub rport: Rport,
    /// Where `received` stands in the value.
    received_at: Option<Range<usize>>,
    /// Where an `rport` without value ends.
    rport_end: Option<usize>,
    /// Where this value ends and others of the same line begin.
    end: usize,
}

impl<'a> Via<'a> {
    /// Reads the first value of a Via line.
    ///
    /// # Errors
    /// [`Malformed`] where it breaks the grammar.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        Self::take(&mut Cursor::new(value)).ok_or(Malformed("Malformed Via"))
    }

    fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        cursor.token()?;
        cursor.eat_spaced(b'/')?;
        // The version is read and not compared: a request of another version is answered with 505 by this Via.
        cursor.token()?;
        cursor.eat_spaced(b'/')?;
        let transport = cursor.token()?;
        cursor.skip_lws();
        let host = cursor.host()?;
        cursor.skip_lws();
        let mut via = Self {
            transport,
            host,
            port: None,
            branch: None,
            rport: Rport::Absent,
            received_at: None,
            rport_end: None,
            end: 0,
        };
        if cursor.eat(b':') {
            cursor.skip_lws();
            via.port = Some(cursor.port()?);
        }
        via.end = cursor.position();
        while let Some(param) = cursor.param()? {
            via.end = param.end;
            if param.name.eq_ignore_ascii_case("branch") {
                via.branch = Some(param.text()?);
            } else if param.name.eq_ignore_ascii_case("received") {
                via.received_at = Some(param.start..param.end);
            } else if param.name.eq_ignore_ascii_case("rport") {
                via.rport = match param.text() {
                    Some(port) => Rport::Port(port.parse().ok()?),
                    None => Rport::Asked,
                };
                via.rport_end = param.value.is_none().then_some(param.end);
            }
        }
        let next = cursor.at_end() || (cursor.eat_spaced(b',').is_some() && !cursor.at_end());
        next.then_some(via)
    }

    /// Writes the line for the answer to a request that came from `source`: with `received` where the sender gave
    /// itself another address or asked for its port (RFC 3261, section 18.2.1; RFC 3581, section 4), and with the port
    /// where it asked. `value` is what this was read from.
    pub(crate) fn write_answer(&self, value: &[u8], source: SocketAddr, out: &mut Vec<u8>) {
        let asked = self.rport == Rport::Asked;
        let mut at = 0;
        let mut edits = [self.received_at.clone(), self.rport_end.map(|end| end..end)];
        edits.sort_by_key(|edit| edit.as_ref().map(|range| (range.start, range.end)));
        for edit in edits.into_iter().flatten() {
            crate::draft::push_unfolded(out, &value[at..edit.start]);
            if edit.is_empty() {
                push_display(out, format_args!("={}", source.port()));
            }
            at = edit.end;
        }
        crate::draft::push_unfolded(out, &value[at..self.end]);
        if asked || !self.names(source.ip()) {
            push_display(out, format_args!(";received={}", source.ip()));
        }
        crate::draft::push_unfolded(out, &value[self.end..]);
    }

    /// Whether the sender gave itself this address.
    fn names(&self, address: IpAddr) -> bool {
        let host = self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(self.host);
        host.parse::<IpAddr>().is_ok_and(|named| named == address)
    }
}

fn push_display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    write!(out, "{text}").expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(value: &str, source: &str) -> String {
        let mut out = Vec::new();
        let via = Via::read(value.as_bytes()).unwrap_or_else(|e| panic!("{value}: {e}"));
        via.write_answer(value.as_bytes(), source.parse().unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn received_and_rport_are_filled_in() {
        let from = "192.0.2.1:4000";
        for (value, expected) in [
            ("SIP/2.0/UDP 192.0.2.1;branch=z", "SIP/2.0/UDP 192.0.2.1;branch=z"),
            ("SIP/2.0/UDP h:5070;branch=z", "SIP/2.0/UDP h:5070;branch=z;received=192.0.2.1"),
            (
                "SIP/2.0/UDP 192.0.2.1;rport;branch=z",
                "SIP/2.0/UDP 192.0.2.1;rport=4000;branch=z;received=192.0.2.1",
            ),
            ("SIP/2.0/UDP h;rport", "SIP/2.0/UDP h;rport=4000;received=192.0.2.1"),
            (
                "SIP/2.0/UDP h ; rport\r\n , SIP/2.0/TCP g",
                "SIP/2.0/UDP h ; rport=4000;received=192.0.2.1 , SIP/2.0/TCP g",
            ),
            ("SIP/2.0/UDP h;received=10.0.0.1;rport;x", "SIP/2.0/UDP h;rport=4000;x;received=192.0.2.1"),
            ("SIP/2.0/UDP h;rport;received=10.0.0.1;x", "SIP/2.0/UDP h;rport=4000;x;received=192.0.2.1"),
        ] {
            assert_eq!(answered(value, from), expected);
        }
        assert_eq!(
            answered("SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z", "[2001:db8::2]:5060"),
            "SIP/2.0/UDP [2001:db8::9:1];branch=z;received=2001:db8::2"
        );
        assert_eq!(answered("SIP/2.0/UDP [2001:DB8:0::2]", "[2001:db8::2]:1"), "SIP/2.0/UDP [2001:DB8:0::2]");
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "",
            "SIP/2.0",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ;branch=z",
            "SIP/2.0/UDP h:0",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h;;branch=z",
            "SIP/2.0/UDP h;branch=",
            "SIP/2.0/UDP h,",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDP [::zz]",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/UDP h;rport=x",
        ] {
            assert!(Via::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
