//! Names of header fields: which ones somebody here reads or replaces, their compact forms (RFC 3261, section 7.3.3),
//! and which may be there only once.

/// The header fields that somebody here reads or replaces, by long or compact name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderName {
    /// `Via`, `v`.
    Via,
    /// `From`, `f`.
    From,
    /// `To`, `t`.
    To,
    /// `Call-ID`, `i`.
    CallId,
    /// `CSeq`.
    CSeq,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Contact`, `m`.
    Contact,
    /// `Expires`.
    Expires,
    /// `Min-Expires`.
    MinExpires,
    /// `Require`.
    Require,
    /// `Proxy-Require`.
    ProxyRequire,
    /// `Supported`, `k`.
    Supported,
    /// `Unsupported`.
    Unsupported,
    /// `Allow`.
    Allow,
    /// `Route`.
    Route,
    /// `Record-Route`.
    RecordRoute,
    /// `Path` (RFC 3327).
    Path,
    /// `Service-Route` (RFC 3608).
    ServiceRoute,
    /// `RSeq` (RFC 3262).
    RSeq,
    /// `RAck` (RFC 3262).
    RAck,
    /// `Session-Expires`, `x` (RFC 4028).
    SessionExpires,
    /// `Min-SE` (RFC 4028).
    MinSe,
    /// `Refer-To`, `r` (RFC 3515).
    ReferTo,
    /// `Replaces` (RFC 3891).
    Replaces,
    /// `Authorization`.
    Authorization,
    /// `WWW-Authenticate`.
    WwwAuthenticate,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Reason` (RFC 3326).
    Reason,
    /// `Retry-After`.
    RetryAfter,
    /// `Content-Type`, `c`.
    ContentType,
    /// `Content-Length`, `l`.
    ContentLength,
    /// Any other.
    Other,
}

impl HeaderName {
    pub(crate) const COUNT: usize = HeaderName::Other as usize + 1;

    /// The one that a name means; names are compared without case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return HeaderName::Other };
        let second = name.get(1).map(u8::to_ascii_lowercase);
        let (long, header): (&[u8], HeaderName) = match (name.len(), first) {
            (1, _) => return Self::of_compact(first),
            (2, b't') => (b"to", HeaderName::To),
            (3, b'v') => (b"via", HeaderName::Via),
            (4, b'f') => (b"from", HeaderName::From),
            (4, b'c') => (b"cseq", HeaderName::CSeq),
            (4, b'p') => (b"path", HeaderName::Path),
            (4, b'r') if second == Some(b's') => (b"rseq", HeaderName::RSeq),
            (4, b'r') => (b"rack", HeaderName::RAck),
            (5, b'a') => (b"allow", HeaderName::Allow),
            (5, b'r') => (b"route", HeaderName::Route),
            (6, b'm') => (b"min-se", HeaderName::MinSe),
            (6, b'r') => (b"reason", HeaderName::Reason),
            (7, b'c') if second == Some(b'a') => (b"call-id", HeaderName::CallId),
            (7, b'c') => (b"contact", HeaderName::Contact),
            (7, b'e') => (b"expires", HeaderName::Expires),
            (7, b'r') => (b"require", HeaderName::Require),
            (8, b'r') if name[2].eq_ignore_ascii_case(&b'f') => (b"refer-to", HeaderName::ReferTo),
            (8, b'r') => (b"replaces", HeaderName::Replaces),
            (9, b's') => (b"supported", HeaderName::Supported),
            (11, b'm') => (b"min-expires", HeaderName::MinExpires),
            (11, b'r') => (b"retry-after", HeaderName::RetryAfter),
            (11, b'u') => (b"unsupported", HeaderName::Unsupported),
            (12, b'c') => (b"content-type", HeaderName::ContentType),
            (12, b'm') => (b"max-forwards", HeaderName::MaxForwards),
            (12, b'r') => (b"record-route", HeaderName::RecordRoute),
            (13, b'a') => (b"authorization", HeaderName::Authorization),
            (13, b'p') => (b"proxy-require", HeaderName::ProxyRequire),
            (13, b's') => (b"service-route", HeaderName::ServiceRoute),
            (14, b'c') => (b"content-length", HeaderName::ContentLength),
            (15, b's') => (b"session-expires", HeaderName::SessionExpires),
            (16, b'w') => (b"www-authenticate", HeaderName::WwwAuthenticate),
            (18, b'p') => (b"proxy-authenticate", HeaderName::ProxyAuthenticate),
            (19, b'p') => (b"proxy-authorization", HeaderName::ProxyAuthorization),
            _ => return HeaderName::Other,
        };
        if name.eq_ignore_ascii_case(long) { header } else { HeaderName::Other }
    }

    const fn of_compact(letter: u8) -> Self {
        match letter {
            b'v' => HeaderName::Via,
            b'f' => HeaderName::From,
            b't' => HeaderName::To,
            b'i' => HeaderName::CallId,
            b'm' => HeaderName::Contact,
            b'k' => HeaderName::Supported,
            b'x' => HeaderName::SessionExpires,
            b'r' => HeaderName::ReferTo,
            b'c' => HeaderName::ContentType,
            b'l' => HeaderName::ContentLength,
            _ => HeaderName::Other,
        }
    }

    /// The reason phrase of a 400 answer where this one is there twice; `None` where it may be. Authorization may:
    /// once per realm.
    pub(crate) const fn repeated(self) -> Option<&'static str> {
        match self {
            HeaderName::From => Some("Repeated From"),
            HeaderName::To => Some("Repeated To"),
            HeaderName::CallId => Some("Repeated Call-ID"),
            HeaderName::CSeq => Some("Repeated CSeq"),
            HeaderName::MaxForwards => Some("Repeated Max-Forwards"),
            HeaderName::Expires => Some("Repeated Expires"),
            HeaderName::RSeq => Some("Repeated RSeq"),
            HeaderName::RAck => Some("Repeated RAck"),
            HeaderName::SessionExpires => Some("Repeated Session-Expires"),
            HeaderName::MinSe => Some("Repeated Min-SE"),
            HeaderName::ReferTo => Some("Repeated Refer-To"),
            HeaderName::Replaces => Some("Repeated Replaces"),
            HeaderName::ContentType => Some("Repeated Content-Type"),
            HeaderName::ContentLength => Some("Repeated Content-Length"),
            HeaderName::Via
            | HeaderName::Contact
            | HeaderName::MinExpires
            | HeaderName::Require
            | HeaderName::ProxyRequire
            | HeaderName::Supported
            | HeaderName::Unsupported
            | HeaderName::Allow
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::Path
            | HeaderName::ServiceRoute
            | HeaderName::Authorization
            | HeaderName::WwwAuthenticate
            | HeaderName::ProxyAuthorization
            | HeaderName::ProxyAuthenticate
            | HeaderName::Reason
            | HeaderName::RetryAfter
            | HeaderName::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_known_without_case() {
        for (name, header) in [
            ("VIA", HeaderName::Via),
            ("from", HeaderName::From),
            ("To", HeaderName::To),
            ("call-id", HeaderName::CallId),
            ("cSeq", HeaderName::CSeq),
            ("MAX-Forwards", HeaderName::MaxForwards),
            ("CONTACT", HeaderName::Contact),
            ("Expires", HeaderName::Expires),
            ("min-expires", HeaderName::MinExpires),
            ("require", HeaderName::Require),
            ("Proxy-Require", HeaderName::ProxyRequire),
            ("supported", HeaderName::Supported),
            ("unsupported", HeaderName::Unsupported),
            ("aLLow", HeaderName::Allow),
            ("route", HeaderName::Route),
            ("Record-Route", HeaderName::RecordRoute),
            ("Path", HeaderName::Path),
            ("service-route", HeaderName::ServiceRoute),
            ("rseq", HeaderName::RSeq),
            ("RACK", HeaderName::RAck),
            ("session-expires", HeaderName::SessionExpires),
            ("min-se", HeaderName::MinSe),
            ("refer-to", HeaderName::ReferTo),
            ("REPLACES", HeaderName::Replaces),
            ("authorization", HeaderName::Authorization),
            ("www-authenticate", HeaderName::WwwAuthenticate),
            ("proxy-authorization", HeaderName::ProxyAuthorization),
            ("proxy-authenticate", HeaderName::ProxyAuthenticate),
            ("reason", HeaderName::Reason),
            ("retry-after", HeaderName::RetryAfter),
            ("content-type", HeaderName::ContentType),
            ("content-length", HeaderName::ContentLength),
        ] {
            assert_eq!(HeaderName::of(name.as_bytes()), header, "{name}");
        }
    }

    #[test]
    fn compact_names_are_known_and_others_are_not() {
        for letter in ["v", "F", "t", "i", "m", "L", "k", "x", "r", "C"] {
            assert_ne!(HeaderName::of(letter.as_bytes()), HeaderName::Other, "{letter}");
        }
        for unknown in
            ["", "z", "C%6Fntact", "contacts", "cseR", "Require ", "Max-Forward", "rxck", "re", "replacez"]
        {
            assert_eq!(HeaderName::of(unknown.as_bytes()), HeaderName::Other, "{unknown}");
        }
    }
}
