//! The smaller header fields, read: CSeq, Call-ID, Max-Forwards, Expires, Contact, option tags.

use crate::scan::{Cursor, saturating_number, trim};
use crate::{HeaderName, Message, NameAddr};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A header field that is missing or cannot be read; the text is a reason phrase for a 400 answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// CSeq (RFC 3261, section 20.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Less than 2^31.
    pub number: u32,
    /// The method as it was sent.
    pub method: &'a str,
}

impl<'a> CSeq<'a> {
    /// Reads the value of a CSeq header field.
    ///
    /// # Errors
    /// [`Malformed`] where it breaks the grammar or the number is out of range.
    pub fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let number = saturating_number(cursor.take_while(|b| b.is_ascii_digit()));
        let blank = cursor.peek().is_some_and(|b| b.is_ascii_whitespace());
        cursor.skip_lws();
        match (number.filter(|n| *n < 1 << 31), cursor.token()) {
            (Some(number), Some(method)) if blank && cursor.at_end() => Ok(Self { number, method }),
            _ => Err(Malformed("Malformed CSeq")),
        }
    }
}

/// Reads Call-ID: `word ["@" word]`; here any visible ASCII, as it is only ever compared.
pub(crate) fn call_id(value: &[u8]) -> Result<&str, Malformed> {
    let sound = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(value).ok().filter(|_| sound).ok_or(Malformed("Malformed Call-ID"))
}

/// Reads Max-Forwards (RFC 3261, section 20.22).
pub(crate) fn max_forwards(value: &[u8]) -> Result<u8, Malformed> {
    let number = saturating_number(value).and_then(|n| u8::try_from(n).ok());
    number.ok_or(Malformed("Malformed Max-Forwards"))
}

/// A preference between 0.000 and 1.000, in thousandths (`qvalue`, RFC 3261, section 25.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Qvalue(u16);

impl Qvalue {
    /// Reads `0.5`, `1`, `.25` and the like.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
            Some(dot) => (&text[..dot], &text[dot + 1..]),
            None => (text, &[][..]),
        };
        if fraction.len() > 3 || text.is_empty() {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { saturating_number(whole)? };
        let digit =
            |i: usize| fraction.get(i).map_or(Some(0), |b| b.is_ascii_digit().then(|| u32::from(b - b'0')));
        let thousandths = digit(0)? * 100 + digit(1)? * 10 + digit(2)?;
        let all = whole.saturating_mul(1_000).saturating_add(thousandths);
        u16::try_from(all).ok().filter(|q| *q <= 1_000).map(Self)
    }
}

impl fmt::Display for Qvalue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// All Contact values of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contacts<'a> {
    /// `*`: all of them (RFC 3261, section 10.2.2).
    Star,
    /// These, perhaps none.
    List(Vec<NameAddr<'a>>),
}

impl<'a> Contacts<'a> {
    /// Reads all Contact header fields.
    ///
    /// # Errors
    /// [`Malformed`] where one breaks the grammar, or `*` is not alone.
    pub fn read(message: &Message<'a>) -> Result<Self, Malformed> {
        if message.values(HeaderName::Contact).any(|value| value == b"*") {
            let alone = message.values(HeaderName::Contact).all(|value| value == b"*");
            return if alone { Ok(Contacts::Star) } else { Err(Malformed("Contact * Is Not Alone")) };
        }
        message.addresses(HeaderName::Contact).collect::<Result<_, _>>().map(Contacts::List)
    }
}

/// The elements of a list of tokens, over all header fields of a name: Require, Supported, Allow and the like.
pub(crate) fn tokens<'a>(message: &Message<'a>, name: HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = message.values(name);
    values.flat_map(|value| value.split(|b| *b == b',')).map(trim).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    #[test]
    fn cseq_has_its_range() {
        assert_eq!(CSeq::read(b"0009\r\n  INVITE"), Ok(CSeq { number: 9, method: "INVITE" }));
        assert_eq!(CSeq::read(b"2147483647 ACK").unwrap().number, 2_147_483_647);
        for bad in [&b"2147483648 ACK"[..], b"1ACK", b"1", b"ACK", b"", b"1 A B", b"-1 ACK", b"1 \xff"] {
            assert!(CSeq::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn qvalues_are_read_and_written() {
        for (text, written) in
            [("1", "1.000"), ("0.33", "0.330"), (".5", "0.500"), ("1.000", "1.000"), ("0.", "0.000")]
        {
            assert_eq!(Qvalue::read(text.as_bytes()).unwrap().to_string(), written);
        }
        for bad in ["", "1.001", "2", "0.1234", "-1", "0.x", "1.0.0", "99999999999"] {
            assert_eq!(Qvalue::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn contacts_come_from_all_lines() {
        let read = |lines: &str| {
            let text = format!("REGISTER sip:a SIP/2.0\r\n{lines}\r\n");
            let message = parse(text.as_bytes(), Framing::Datagram).unwrap();
            Contacts::read(&message).map(|contacts| match contacts {
                Contacts::Star => -1,
                Contacts::List(list) => i32::try_from(list.len()).unwrap(),
            })
        };
        assert_eq!(read("m: <sip:a@b>, sip:c@d;q=0.5\r\nContact: \"x, y\" <sip:e@f>\r\n"), Ok(3));
        assert_eq!(read(""), Ok(0));
        assert_eq!(read("m: *\r\n"), Ok(-1));
        for bad in [
            "m: *\r\nm: <sip:a@b>\r\n",
            "m: <sip:a@b>,\r\n",
            "m:\r\n",
            "m: <sip:a@b>;;;;\r\n",
            "m: *, <sip:a@b>\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
