//! A cursor over the bytes of a header field value, and the character classes of RFC 3261, section 25.1.
//!
//! White space is SP, HTAB and also CR and LF: `message` has made sure that those two occur in a value only where a
//! line is folded, so a reader need not know about folding.

use std::net::Ipv6Addr;

/// Whether each byte may be part of a token: a table, as this is asked of most bytes of a message.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    while b < 128 {
        table[b as usize] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        b += 1;
    }
    table
};

/// Whether `b` may be part of a token.
#[inline]
pub(crate) const fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

/// Whether `bytes` is a token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_token_byte(*b))
}

const fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// `bytes` without white space at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let Some(start) = bytes.iter().position(|b| !is_lws(*b)) else { return &[] };
    let end = bytes.iter().rposition(|b| !is_lws(*b)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// Reads decimal digits, nothing else; a number above `u32::MAX` counts as `u32::MAX`.
pub(crate) fn saturating_number(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u32, |number, b| {
        b.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(b - b'0')))
    })
}

/// The address in an IPv6 reference, brackets included. The grammar of RFC 3261 has a third colon in front of an IPv4
/// address at the end, which has to be tolerated (RFC 5118, section 4.10).
pub(crate) fn ipv6_reference(text: &str) -> Option<Ipv6Addr> {
    let address = text.strip_prefix('[')?.strip_suffix(']')?;
    address.parse().ok().or_else(|| {
        let (before, v4) = address.rsplit_once(':')?;
        let shorter = before.strip_suffix("::")?;
        v4.contains('.').then(|| format!("{shorter}::{v4}").parse().ok())?
    })
}

/// Bytes as text; only called on ASCII, so the check never fails there.
fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// One `;name` or `;name=value`; the value keeps its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Option<&'a [u8]>,
    /// Where it begins (at the ';') and ends in the text that the cursor was made for.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Param<'a> {
    /// The value as text, where it is ASCII and not quoted.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.value.filter(|v| v.is_ascii() && !v.starts_with(b"\"")).and_then(ascii)
    }
}

/// Reads forward through a value. Every method that returns `None` found something else than it is named for.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(crate) fn skip_lws(&mut self) {
        self.take_while(is_lws);
    }

    /// Takes `b` where it is next.
    pub(crate) fn eat(&mut self, b: u8) -> bool {
        let found = self.peek() == Some(b);
        self.at += usize::from(found);
        found
    }

    /// Takes `b` with white space around it (SLASH, EQUAL, SEMI, COLON, COMMA of the grammar).
    pub(crate) fn eat_spaced(&mut self, b: u8) -> Option<()> {
        self.skip_lws();
        if !self.eat(b) {
            return None;
        }
        self.skip_lws();
        Some(())
    }

    /// Takes bytes as long as `class` holds; perhaps none.
    #[inline]
    pub(crate) fn take_while(&mut self, class: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|b| !class(*b)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Takes a token.
    pub(crate) fn token(&mut self) -> Option<&'a str> {
        let token = self.take_while(is_token_byte);
        if token.is_empty() { None } else { ascii(token) }
    }

    /// Takes a quoted string, quotes included. A backslash makes any next byte part of it.
    pub(crate) fn quoted(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut at = start;
        if self.text.get(at) != Some(&b'"') {
            return None;
        }
        at += 1;
        loop {
            match self.text.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Some(&self.text[start..self.at])
    }

    /// Takes a host: a name, an IPv4 address, or an IPv6 reference with its brackets. Underscores, which RFC 3261
    /// does not allow, are common inside companies and do no harm.
    pub(crate) fn host(&mut self) -> Option<&'a str> {
        let start = self.at;
        if self.eat(b'[') {
            self.take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            if !self.eat(b']') {
                return None;
            }
            let reference = ascii(&self.text[start..self.at])?;
            ipv6_reference(reference)?;
            return Some(reference);
        }
        let name = self.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if name.is_empty() { None } else { ascii(name) }
    }

    /// Takes a port number, 1 to 65,535.
    pub(crate) fn port(&mut self) -> Option<u16> {
        let number = saturating_number(self.take_while(|b| b.is_ascii_digit()))?;
        u16::try_from(number).ok().filter(|port| *port != 0)
    }

    /// Takes the next parameter; `Some(None)` where there is none. Values may hold more than the grammar's token and
    /// host, as senders of every kind put there what they like, but nothing that separates.
    pub(crate) fn param(&mut self) -> Option<Option<Param<'a>>> {
        self.skip_lws();
        let start = self.at;
        if !self.eat(b';') {
            return Some(None);
        }
        self.skip_lws();
        let name = self.token()?;
        let mut end = self.at;
        self.skip_lws();
        let mut value = None;
        if self.eat(b'=') {
            self.skip_lws();
            let text = match self.peek()? {
                b'"' => self.quoted()?,
                _ => self
                    .take_while(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'"' | b'<' | b'>')),
            };
            if text.is_empty() {
                return None;
            }
            value = Some(text);
            end = self.at;
        }
        Some(Some(Param { name, value, start, end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_end_where_they_end() {
        let mut cursor = Cursor::new(br#""a \" b\\" rest"#);
        assert_eq!(cursor.quoted(), Some(&br#""a \" b\\""#[..]));
        assert_eq!(cursor.rest(), b" rest");
        for open in [&b"\"abc"[..], b"\"abc\\", b"\"abc\\\"", b"\"", b""] {
            assert_eq!(Cursor::new(open).quoted(), None, "{open:?}");
        }
    }

    #[test]
    fn parameters_may_be_spaced_and_must_not_be_empty() {
        let mut cursor = Cursor::new(b" ; a = b\r\n ;flag ; q=\"x;y\" , next");
        let mut seen = Vec::new();
        while let Some(param) = cursor.param().unwrap() {
            seen.push((param.name, param.value));
        }
        assert_eq!(seen, [("a", Some(&b"b"[..])), ("flag", None), ("q", Some(&b"\"x;y\""[..]))]);
        assert_eq!(cursor.rest(), b", next");
        for bad in [&b";"[..], b";;a", b";a=", b";a=;b", b";a=\"x"] {
            assert_eq!(Cursor::new(bad).param(), None, "{bad:?}");
        }
    }

    #[test]
    fn a_third_colon_is_tolerated_before_an_ipv4_address_only() {
        assert_eq!(ipv6_reference("[2001:db8:::192.0.2.1]"), ipv6_reference("[2001:db8::192.0.2.1]"));
        assert!(ipv6_reference("[:::192.0.2.1]").is_some());
        for bad in ["[2001:db8:::1]", "[::::192.0.2.1]", "[2001:db8:::192.0.2]", "2001:db8::1", "[]", "[:::]"]
        {
            assert_eq!(ipv6_reference(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_saturate() {
        assert_eq!(saturating_number(b"0068"), Some(68));
        assert_eq!(saturating_number(b"99999999999999999999999"), Some(u32::MAX));
        assert_eq!(saturating_number(b""), None);
        assert_eq!(saturating_number(b"-1"), None);
    }
}
