//! SIP and SIPS URIs (RFC 3261, section 19.1): reading, comparing, and the key of an address-of-record.

use crate::scan::{Cursor, ipv6_reference};

/// Scheme of a [`Uri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`.
    Sip,
    /// `sips:`.
    Sips,
}

/// Why a URI was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// It breaks the grammar.
    #[error("not a URI")]
    Syntax,
    /// It is an absolute URI of another scheme.
    #[error("neither a sip: nor a sips: URI")]
    Scheme,
}

/// A SIP or SIPS URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// What is in front of the '@': user and perhaps password, escapes as they were sent.
    pub userinfo: Option<&'a str>,
    /// Name, IPv4 address, or IPv6 reference with its brackets.
    pub host: &'a str,
    /// The port, where one is named.
    pub port: Option<u16>,
    /// The parameters behind the first ';', without it.
    pub params: &'a str,
    /// The header fields behind the '?', without it.
    pub headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`UriError::Scheme`] for a sound URI of another scheme, [`UriError::Syntax`] for anything else.
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Syntax)?;
        let sound = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>'));
        if !sound {
            return Err(UriError::Syntax);
        }
        let scheme = match scheme {
            s if s.eq_ignore_ascii_case("sip") => Scheme::Sip,
            s if s.eq_ignore_ascii_case("sips") => Scheme::Sips,
            _ => return Err(UriError::Scheme),
        };
        Self::parse_sip(scheme, rest).ok_or(UriError::Syntax)
    }

    fn parse_sip(scheme: Scheme, rest: &'a str) -> Option<Self> {
        // An '@' outside the userinfo must be escaped, so the only one ends it; ';' and '?' may well be in front.
        let (userinfo, rest) = match rest.split_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let user_is_sound =
            userinfo.is_none_or(|u| !u.is_empty() && !u.starts_with(':') && escapes_are_sound(u));
        if !user_is_sound || rest.contains('@') || !escapes_are_sound(rest) {
            return None;
        }
        let mut cursor = Cursor::new(rest.as_bytes());
        let host = cursor.host()?;
        let port = if cursor.eat(b':') { Some(cursor.port()?) } else { None };
        let rest = &rest[cursor.position()..];
        let (params, headers) = rest.split_once('?').unwrap_or((rest, ""));
        let params = if params.is_empty() { "" } else { params.strip_prefix(';')? };
        Some(Self { scheme, userinfo, host, port, params, headers })
    }

    /// The address-of-record that this URI is, as a key: no parameters, no password, escapes that need not be are
    /// undone, host in lower case (RFC 3261, section 10.3, step 5). `sip:` and `sips:` name the same one.
    #[must_use]
    pub fn address_of_record(&self) -> String {
        let mut key = String::with_capacity(self.host.len() + self.userinfo.map_or(0, str::len) + 8);
        if let Some(userinfo) = self.userinfo {
            let user = userinfo.split_once(':').map_or(userinfo, |(user, _)| user);
            for (byte, escaped) in unescaped(user) {
                if escaped {
                    key.push('%');
                    key.push(hex_digit(byte >> 4));
                    key.push(hex_digit(byte & 15));
                } else {
                    key.push(char::from(byte));
                }
            }
            key.push('@');
        }
        key.extend(self.host.chars().map(|c| c.to_ascii_lowercase()));
        if let Some(port) = self.port {
            key.push(':');
            key.push_str(&port.to_string());
        }
        key
    }

    /// Whether both name the same thing (RFC 3261, section 19.1.4). Takes time with the product of the numbers of
    /// parameters, so the caller bounds the lengths.
    #[must_use]
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool {
        self.scheme == other.scheme
            && self.userinfo.is_some() == other.userinfo.is_some()
            && same(self.userinfo.unwrap_or(""), other.userinfo.unwrap_or(""), Case::Kept)
            && same_host(self.host, other.host)
            && self.port == other.port
            && params_agree(self.params, other.params)
            && params_agree(other.params, self.params)
            && headers_within(self.headers, other.headers)
            && headers_within(other.headers, self.headers)
    }

    /// Whether both have the same user part, or both none, wherever that user is.
    pub(crate) fn is_of_user_of(&self, other: &Uri<'_>) -> bool {
        let user = |info: &str| info.find(':').unwrap_or(info.len());
        match (self.userinfo, other.userinfo) {
            (Some(these), Some(those)) => same(&these[..user(these)], &those[..user(those)], Case::Kept),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

#[derive(Clone, Copy)]
enum Case {
    Kept,
    Ignored,
}

/// Whether every parameter of `these` that `those` has too has the same value there, and every one that may not be
/// missing on one side is not.
fn params_agree(these: &str, those: &str) -> bool {
    these.split(';').filter(|p| !p.is_empty()).all(|param| {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        let mut others = those.split(';').filter_map(|other| {
            let (other_name, other_value) = other.split_once('=').unwrap_or((other, ""));
            same(name, other_name, Case::Ignored).then_some(other_value)
        });
        match others.next() {
            // One that is there twice must not be, but a URI names the same thing as itself all the same.
            Some(other) => {
                std::iter::once(other).chain(others).any(|other| same(value, other, Case::Ignored))
            }
            None => {
                !["user", "ttl", "method", "maddr", "transport"].iter().any(|n| same(name, n, Case::Ignored))
            }
        }
    })
}

fn headers_within(these: &str, those: &str) -> bool {
    these.split('&').all(|header| those.split('&').any(|other| same(header, other, Case::Ignored)))
}

/// Names without regard to case; addresses by what they are, as IPv6 can be spelled in several ways (RFC 5118).
pub(crate) fn same_host(these: &str, those: &str) -> bool {
    match (ipv6_reference(these), ipv6_reference(those)) {
        (Some(these), Some(those)) => these == those,
        (None, None) => these.eq_ignore_ascii_case(those),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn same(these: &str, those: &str, case: Case) -> bool {
    let fold = move |(byte, escaped): (u8, bool)| match case {
        Case::Kept => (byte, escaped),
        Case::Ignored => (byte.to_ascii_lowercase(), escaped),
    };
    unescaped(these).map(fold).eq(unescaped(those).map(fold))
}

/// The bytes of a text that [`escapes_are_sound`] passed: each with whether it is still escaped. A character that need
/// not be escaped ("unreserved") is the same with and without.
fn unescaped(text: &str) -> impl Iterator<Item = (u8, bool)> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some((byte, false));
        }
        let (high, low) = (hex_value(bytes.next()?)?, hex_value(bytes.next()?)?);
        let byte = high << 4 | low;
        let unreserved = byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
        Some((byte, !unreserved))
    })
}

fn escapes_are_sound(text: &str) -> bool {
    let mut parts = text.as_bytes().split(|b| *b == b'%');
    parts.next();
    parts.all(|part| part.len() >= 2 && part[..2].iter().all(u8::is_ascii_hexdigit))
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value & 15)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn parts_are_found() {
        let full = uri("sips:al%69ce:pw@[2001:DB8::1]:5061;transport=tcp;lr?subject=x&y=z");
        assert_eq!(full.scheme, Scheme::Sips);
        assert_eq!(full.userinfo, Some("al%69ce:pw"));
        assert_eq!((full.host, full.port), ("[2001:DB8::1]", Some(5061)));
        assert_eq!((full.params, full.headers), ("transport=tcp;lr", "subject=x&y=z"));
        assert_eq!(full.address_of_record(), "alice@[2001:db8::1]:5061");
        let odd = uri("sip:user;par=u%40example.net@example.com");
        assert_eq!(
            (odd.userinfo, odd.host, odd.params),
            (Some("user;par=u%40example.net"), "example.com", "")
        );
    }

    #[test]
    fn a_parameter_that_is_there_twice_is_the_same_as_itself() {
        let twice = uri("sip:a@example.com;n=1;transport=udp;n=2");
        assert!(twice.is_equivalent(&twice));
        assert!(!twice.is_equivalent(&uri("sip:a@example.com;n=1;transport=udp;n=3")));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bad in [
            "",
            ":",
            "sip:",
            "sip",
            "sip:@host",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:",
            "sip:2001:db8::10",
            "sip:[2001:db8::10",
            "sip:[2001:zz::1]",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a b@c",
            "sip:\"a\"@b",
            "sip:<a>@b",
            "1sip:a@b",
            "sip:a@b lr",
            "sip:é@b",
            "sip:a@b/path",
            "sip::pw@host",
        ] {
            assert_eq!(Uri::parse(bad), Err(UriError::Syntax), "{bad}");
        }
        for other in ["tel:+12015550123", "soap.beep://192.0.2.103:3002", "isbn:2983792873"] {
            assert_eq!(Uri::parse(other), Err(UriError::Scheme), "{other}");
        }
    }

    /// The examples of RFC 3261, section 19.1.4.
    #[test]
    fn equivalence_follows_the_examples() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
        ] {
            assert!(uri(a).is_equivalent(&uri(b)) && uri(b).is_equivalent(&uri(a)), "{a} and {b}");
        }
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:b", "sip:a@b"),
        ] {
            assert!(!uri(a).is_equivalent(&uri(b)) && !uri(b).is_equivalent(&uri(a)), "{a} and {b}");
        }
    }

    #[test]
    fn an_address_of_record_has_one_key() {
        assert_eq!(uri("sip:%75se%72@EXAMPLE.com;user=phone").address_of_record(), "user@example.com");
        assert_eq!(uri("sip:null-%00-n%2cx@example.com").address_of_record(), "null-%00-n%2Cx@example.com");
        assert_ne!(uri("sip:a%40b@c").address_of_record(), uri("sip:a@c").address_of_record());
    }
}
