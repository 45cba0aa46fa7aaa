//! Header fields of the extensions that calls need, read: reliable provisional responses (RFC 3262), session timers
//! (RFC 4028), transfer (RFC 3515, RFC 3891), Reason (RFC 3326), and Retry-After (RFC 3261, section 20.33).

use crate::fields::call_id;
use crate::scan::{Cursor, saturating_number};
use crate::{HeaderName, Malformed, Message, NameAddr};
use std::fmt;

/// RAck: which reliable provisional response a PRACK acknowledges (RFC 3262, section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RAck<'a> {
    /// Its RSeq.
    pub rseq: u32,
    /// The number in its CSeq.
    pub cseq: u32,
    /// The method in its CSeq.
    pub method: &'a str,
}

/// Who refreshes a session (RFC 4028, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// Who sent the request.
    Uac,
    /// Who answered it.
    Uas,
}

impl fmt::Display for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        })
    }
}

/// Session-Expires (RFC 4028, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    /// How long a session lasts that is not refreshed, seconds.
    pub interval_s: u32,
    /// Who is to refresh it, where that is said.
    pub refresher: Option<Refresher>,
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interval_s)?;
        self.refresher.map_or(Ok(()), |refresher| write!(f, ";refresher={refresher}"))
    }
}

/// Replaces: the dialog that a new INVITE takes the place of (RFC 3891, section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// Call-ID of the dialog.
    pub call_id: &'a str,
    /// The tag of whoever receives the INVITE.
    pub to_tag: &'a str,
    /// The tag of the other side.
    pub from_tag: &'a str,
    /// Only where the dialog is still early.
    pub early_only: bool,
}

/// Retry-After (RFC 3261, section 20.33).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter {
    /// Seconds to wait.
    pub after_s: u32,
}

/// Reason: why a request was sent (RFC 3326, section 2). The first value; further ones are of other protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP` or `Q.850`, for instance.
    pub protocol: &'a str,
    /// Status code or cause value.
    pub cause: Option<u32>,
}

impl<'a> Message<'a> {
    /// RSeq (RFC 3262, section 7.1); `None` where it is missing.
    ///
    /// # Errors
    /// [`Malformed`] where it is not a number from 1 to 2^32 - 1.
    pub fn rseq(&self) -> Result<Option<u32>, Malformed> {
        let Some(value) = self.value(HeaderName::RSeq) else { return Ok(None) };
        number(value).filter(|rseq| *rseq != 0).map(Some).ok_or(Malformed("Malformed RSeq"))
    }

    /// RAck.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn rack(&self) -> Result<RAck<'a>, Malformed> {
        let value = self.value(HeaderName::RAck).ok_or(Malformed("Missing RAck"))?;
        read_rack(value).ok_or(Malformed("Malformed RAck"))
    }

    /// Session-Expires; `None` where it is missing.
    ///
    /// # Errors
    /// [`Malformed`] where it cannot be read.
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, Malformed> {
        let Some(value) = self.value(HeaderName::SessionExpires) else { return Ok(None) };
        read_session_expires(value).map(Some).ok_or(Malformed("Malformed Session-Expires"))
    }

    /// Min-SE, seconds; `None` where it is missing or cannot be read (RFC 4028, section 5: the least value counts then).
    #[must_use]
    pub fn min_se(&self) -> Option<u32> {
        let mut cursor = Cursor::new(self.value(HeaderName::MinSe)?);
        let seconds = saturating_number(cursor.take_while(|b| b.is_ascii_digit()))?;
        params_end(&mut cursor).map(|()| seconds)
    }

    /// Refer-To.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn refer_to(&self) -> Result<NameAddr<'a>, Malformed> {
        let value = self.value(HeaderName::ReferTo).ok_or(Malformed("Missing Refer-To"))?;
        NameAddr::read(value).ok_or(Malformed("Malformed Refer-To"))
    }

    /// Replaces; `None` where it is missing.
    ///
    /// # Errors
    /// [`Malformed`] where it cannot be read.
    pub fn replaces(&self) -> Result<Option<Replaces<'a>>, Malformed> {
        let Some(value) = self.value(HeaderName::Replaces) else { return Ok(None) };
        read_replaces(value).map(Some).ok_or(Malformed("Malformed Replaces"))
    }

    /// Retry-After; `None` where it is missing or cannot be read.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        let mut cursor = Cursor::new(self.value(HeaderName::RetryAfter)?);
        // What may follow is a comment and parameters, which change nothing for whoever waits.
        saturating_number(cursor.take_while(|b| b.is_ascii_digit())).map(|after_s| RetryAfter { after_s })
    }

    /// The first Reason; `None` where it is missing or cannot be read.
    #[must_use]
    pub fn reason(&self) -> Option<Reason<'a>> {
        let mut cursor = Cursor::new(self.value(HeaderName::Reason)?);
        let protocol = cursor.token()?;
        let mut cause = None;
        while let Some(param) = cursor.param()? {
            if param.name.eq_ignore_ascii_case("cause") {
                cause = param.value.and_then(saturating_number);
            }
        }
        Some(Reason { protocol, cause })
    }
}

/// A number that fits 32 bits.
fn number(digits: &[u8]) -> Option<u32> {
    // `saturating_number` makes the largest of what is larger; a number is never that long with leading zeros alone.
    saturating_number(digits).filter(|number| *number != u32::MAX || digits.ends_with(b"4294967295"))
}

fn read_rack(value: &[u8]) -> Option<RAck<'_>> {
    let mut cursor = Cursor::new(value);
    let rseq = number(cursor.take_while(|b| b.is_ascii_digit()))?;
    blank(&mut cursor)?;
    let cseq = number(cursor.take_while(|b| b.is_ascii_digit())).filter(|cseq| *cseq < 1 << 31)?;
    blank(&mut cursor)?;
    let method = cursor.token()?;
    cursor.at_end().then_some(RAck { rseq, cseq, method })
}

fn blank(cursor: &mut Cursor<'_>) -> Option<()> {
    let before = cursor.position();
    cursor.skip_lws();
    (cursor.position() > before).then_some(())
}

fn read_session_expires(value: &[u8]) -> Option<SessionExpires> {
    let mut cursor = Cursor::new(value);
    let interval_s = saturating_number(cursor.take_while(|b| b.is_ascii_digit()))?;
    let mut refresher = None;
    while let Some(param) = cursor.param()? {
        if param.name.eq_ignore_ascii_case("refresher") {
            refresher = Some(match param.text()? {
                text if text.eq_ignore_ascii_case("uac") => Refresher::Uac,
                text if text.eq_ignore_ascii_case("uas") => Refresher::Uas,
                _ => return None,
            });
        }
    }
    cursor.at_end().then_some(SessionExpires { interval_s, refresher })
}

fn read_replaces(value: &[u8]) -> Option<Replaces<'_>> {
    let mut cursor = Cursor::new(value);
    let id = cursor.take_while(|b| b.is_ascii_graphic() && !matches!(b, b';' | b','));
    let call_id = call_id(id).ok()?;
    let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
    while let Some(param) = cursor.param()? {
        // Each tag exactly once (section 6.1).
        let tag = match param.name {
            name if name.eq_ignore_ascii_case("to-tag") => &mut to_tag,
            name if name.eq_ignore_ascii_case("from-tag") => &mut from_tag,
            name => {
                early_only |= name.eq_ignore_ascii_case("early-only");
                continue;
            }
        };
        if tag.replace(param.text()?).is_some() {
            return None;
        }
    }
    cursor.at_end().then_some(())?;
    Some(Replaces { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only })
}

/// Reads parameters that mean nothing here, to the end.
fn params_end(cursor: &mut Cursor<'_>) -> Option<()> {
    while cursor.param()?.is_some() {}
    cursor.at_end().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    /// Reads a message with this one header line.
    fn with<T>(line: &str, read: impl for<'a> Fn(&Message<'a>) -> T) -> T {
        let text = format!("INVITE sip:a SIP/2.0\r\n{line}\r\n\r\n");
        read(&parse(text.as_bytes(), Framing::Datagram).unwrap())
    }

    #[test]
    fn reliable_provisional_responses() {
        for (line, expected) in [
            ("RSeq: 988789", Ok(Some(988_789))),
            ("RSeq: 4294967295", Ok(Some(u32::MAX))),
            ("Z: y", Ok(None)),
            ("RSeq: 0", Err(Malformed("Malformed RSeq"))),
            ("RSeq: 4294967296", Err(Malformed("Malformed RSeq"))),
            ("RSeq: x", Err(Malformed("Malformed RSeq"))),
        ] {
            assert_eq!(with(line, |m| m.rseq()), expected, "{line}");
        }
        with("RAck: 776656 \t1 INVITE", |m| {
            assert_eq!(m.rack(), Ok(RAck { rseq: 776_656, cseq: 1, method: "INVITE" }));
        });
        for bad in
            ["RAck: 1 1", "RAck: 1 2147483648 INVITE", "RAck: INVITE", "RAck: 1 1 INVITE x", "RAck:", "Z: y"]
        {
            with(bad, |m| assert!(m.rack().is_err(), "{bad}"));
        }
    }

    #[test]
    fn session_timers() {
        let read =
            |line: &str| with(line, |m| m.session_expires().map(|s| s.map(|s| (s.interval_s, s.refresher))));
        assert_eq!(read("x: 1800;refresher=UAC"), Ok(Some((1800, Some(Refresher::Uac)))));
        assert_eq!(read("Session-Expires: 90 ; a=b ;refresher=uas"), Ok(Some((90, Some(Refresher::Uas)))));
        assert_eq!(read("Session-Expires: 99999999999"), Ok(Some((u32::MAX, None))));
        assert_eq!(read("X-Other: 1"), Ok(None));
        for bad in ["x: ", "x: soon", "x: 90;refresher=me", "x: 90;refresher", "x: 90 x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(with("Min-SE: 120;x=y", |m| m.min_se()), Some(120));
        assert_eq!(with("Min-SE: long", |m| m.min_se()), None);
    }

    #[test]
    fn transfer() {
        with("r: \"C\" <sip:c@d?Replaces=x%3Bto-tag%3D1>", |m| {
            assert_eq!(m.refer_to().unwrap().uri, "sip:c@d?Replaces=x%3Bto-tag%3D1");
        });
        with("Replaces: 98@x;from-tag=r33 ; to-tag=a;early-only", |m| {
            let expected = Replaces { call_id: "98@x", to_tag: "a", from_tag: "r33", early_only: true };
            assert_eq!(m.replaces(), Ok(Some(expected)));
        });
        for bad in ["x;to-tag=1", "x;from-tag=1", ";to-tag=1;from-tag=2", "x;to-tag=1;to-tag=1;from-tag=2"] {
            with(&format!("Replaces: {bad}"), |m| assert!(m.replaces().is_err(), "{bad}"));
        }
    }

    #[test]
    fn reasons_and_times() {
        with("Retry-After: 120 (in a meeting);duration=3600", |m| {
            assert_eq!(m.retry_after(), Some(RetryAfter { after_s: 120 }));
        });
        assert_eq!(with("Retry-After: later", |m| m.retry_after()), None);
        with("Reason: Q.850 ;cause=16 ;text=\"Terminated\", SIP;cause=200", |m| {
            assert_eq!(m.reason(), Some(Reason { protocol: "Q.850", cause: Some(16) }));
        });
    }
}
