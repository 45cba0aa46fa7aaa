//! The value of From, To, Contact, Route and the like: a URI, perhaps with a display name and angle brackets, and
//! parameters (`name-addr` and `addr-spec`, RFC 3261, sections 20.10 and 25.1); and lists of them.

use crate::scan::{Cursor, is_token_byte, trim};
use crate::{HeaderName, Malformed, Message, Uri, UriError};

/// A URI with what surrounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name as it was sent, quotes included; may be empty.
    pub display: &'a [u8],
    /// The URI, not yet looked at.
    pub uri: &'a str,
    /// All of it as it was sent, display name and parameters included.
    pub text: &'a [u8],
    /// The parameters behind it, checked; read them with [`NameAddr::param`].
    params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads a value that holds exactly one.
    #[must_use]
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let address = Self::take(&mut cursor)?;
        cursor.at_end().then_some(address)
    }

    /// Reads the first of a list.
    pub(crate) fn first(values: &'a [u8]) -> Option<Self> {
        Self::take(&mut Cursor::new(values))
    }

    /// Takes one, its parameters, and the white space behind them.
    pub(crate) fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        cursor.skip_lws();
        let all = cursor.rest();
        let (display, uri) = if cursor.peek() == Some(b'"') {
            let display = cursor.quoted()?;
            cursor.skip_lws();
            (display, bracketed(cursor)?)
        } else {
            // Tokens and blanks in front of a '<' are a display name; where none comes, they begin a bare URI.
            let mut ahead = cursor.clone();
            let display = ahead.take_while(|b| is_token_byte(b) || matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
            if ahead.peek() == Some(b'<') {
                *cursor = ahead;
                (trim(display), bracketed(cursor)?)
            } else {
                (&display[..0], bare(cursor)?)
            }
        };
        let start = cursor.rest();
        while cursor.param()?.is_some() {}
        let params = &start[..start.len() - cursor.rest().len()];
        let text = trim(&all[..all.len() - cursor.rest().len()]);
        Some(Self { display, uri, text, params })
    }

    /// The value of a parameter: `None` where it is not there, an empty one where it has no value. Names are compared
    /// without case.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        let mut cursor = Cursor::new(self.params);
        while let Some(Some(param)) = cursor.param() {
            if param.name.eq_ignore_ascii_case(name) {
                return Some(param.value.unwrap_or_default());
            }
        }
        None
    }

    /// The tag that makes From and To part of a dialog's name (RFC 3261, section 19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag")
    }

    /// What is in front of the tag: the address that From and To show, to be written again with another tag. Where the
    /// tag is not last, what follows it is left out; no header field parameter but the tag is defined for the two.
    #[must_use]
    pub fn without_params(&self) -> &'a [u8] {
        trim(&self.text[..self.text.len() - trim(self.params).len()])
    }

    /// The URI, read.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn sip_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

/// The values of all header fields of one name, one by one: Route, Record-Route, Path, Service-Route, Contact. Ends
/// behind the first that cannot be read.
#[derive(Debug, Clone)]
pub struct Addresses<'a, 'm> {
    message: &'m Message<'a>,
    name: HeaderName,
    /// Index of the header field to look for the next value from.
    next: usize,
    cursor: Option<Cursor<'a>>,
}

impl<'a, 'm> Addresses<'a, 'm> {
    pub(crate) fn new(message: &'m Message<'a>, name: HeaderName) -> Self {
        Self { message, name, next: 0, cursor: None }
    }

    fn take(&mut self, mut cursor: Cursor<'a>) -> Option<NameAddr<'a>> {
        let address = NameAddr::take(&mut cursor)?;
        if !cursor.at_end() {
            cursor.eat_spaced(b',')?;
            self.cursor = Some(cursor);
        }
        Some(address)
    }
}

impl<'a> Iterator for Addresses<'a, '_> {
    type Item = Result<NameAddr<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => {
                let rest = self.message.headers.get(self.next..)?;
                let found = rest.iter().position(|header| header.name == self.name)?;
                self.next += found + 1;
                Cursor::new(rest[found].value)
            }
        };
        let address = self.take(cursor).ok_or(Malformed(match self.name {
            HeaderName::Contact => "Malformed Contact",
            HeaderName::Route => "Malformed Route",
            HeaderName::RecordRoute => "Malformed Record-Route",
            _ => "Malformed Address",
        }));
        if address.is_err() {
            self.next = self.message.headers.len();
        }
        Some(address)
    }
}

fn bracketed<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    if !cursor.eat(b'<') {
        return None;
    }
    let uri = cursor.take_while(|b| b.is_ascii_graphic() && b != b'>' && b != b'<' && b != b'"');
    cursor.eat(b'>').then_some(uri).and_then(text)
}

/// A URI without angle brackets: parameters behind it are the header field's, and it must not hold a comma or a
/// question mark (RFC 3261, section 20).
fn bare<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let uri = cursor.take_while(|b| b.is_ascii_graphic() && !matches!(b, b';' | b',' | b'<' | b'>' | b'"'));
    if uri.contains(&b'?') { None } else { text(uri) }
}

fn text(uri: &[u8]) -> Option<&str> {
    std::str::from_utf8(uri).ok().filter(|uri| uri.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(&str, &str, Option<&str>)> {
        let address = NameAddr::read(text.as_bytes())?;
        let utf8 = |bytes| std::str::from_utf8(bytes).unwrap();
        Some((utf8(address.display), address.uri, address.tag().map(utf8)))
    }

    #[test]
    fn forms() {
        for (value, expected) in [
            ("sip:a@b", ("", "sip:a@b", None)),
            ("sip:a@b;tag=1", ("", "sip:a@b", Some("1"))),
            ("<sip:a@b;x=y>;TAG=1", ("", "sip:a@b;x=y", Some("1"))),
            ("A. Bell <sip:a@b> ; tag = 1", ("A. Bell", "sip:a@b", Some("1"))),
            ("caller<sip:a@b>;tag=1", ("caller", "sip:a@b", Some("1"))),
            ("\"a <sip:x> \\\" b\"\r\n <sip:a@b>", ("\"a <sip:x> \\\" b\"", "sip:a@b", None)),
            ("<sip:a@b>;x=\"; tag=2\";tag=1", ("", "sip:a@b", Some("1"))),
        ] {
            assert_eq!(read(value), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_in_front_of_the_parameters() {
        for (value, expected) in [
            (" \"A\" <sip:a@b> ;tag=1", "\"A\" <sip:a@b>"),
            ("<sip:a@b>", "<sip:a@b>"),
            ("sip:a@b;tag=1;x", "sip:a@b"),
        ] {
            let address = NameAddr::read(value.as_bytes()).unwrap();
            assert_eq!(address.without_params(), expected.as_bytes(), "{value}");
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "",
            "<>",
            "<sip:a@b",
            "\"a <sip:a@b>",
            "< sip:a@b >",
            "Bell, A <sip:a@b>",
            "sip:a@b?x=y",
            "sip:a@b;",
            "<sip:a@b>;;",
            "<sip:a@b> x",
            "<sip:a@b>, <sip:c@d>",
            "nouri",
            "é <sip:a@b>",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
