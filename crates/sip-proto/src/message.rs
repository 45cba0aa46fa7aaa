//! A SIP message read from bytes, without copying: start line, header fields, body (RFC 3261, section 7).
//!
//! What is wrong with a request is recorded as its first [`Defect`] and reading goes on, because a 400 answer needs the
//! header fields behind the defect. Values are left as they are; `via`, `address` and `fields` read them when asked.

use crate::scan::{is_token, saturating_number, trim};
use crate::{Addresses, CSeq, HeaderName, Malformed, Method, NameAddr, Via, fields};
use memchr::{memchr, memrchr};

/// Longest message, bytes: what fits a UDP datagram, and the same over streams.
pub const MAX_MESSAGE: usize = 65_535;
/// Most header fields in a message. A request through 70 hops with a Via and a Record-Route each has more than any
/// other honest one, and proxies would combine those.
pub const MAX_HEADERS: usize = 128;

/// How the bytes were delimited (RFC 3261, section 18.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A datagram: the body ends with it unless Content-Length says earlier.
    Datagram,
    /// A stream, cut by [`crate::Framer`]: Content-Length must be there.
    Stream,
}

/// The bytes are no SIP message, or too broken to answer: to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSip {
    /// Nothing but line ends: a keep-alive (RFC 5626, section 3.5.1).
    #[error("there is nothing but line ends")]
    Empty,
    /// The first line is neither a request line nor a status line.
    #[error("the first line is neither a request line nor a status line")]
    StartLine,
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
}

/// What is wrong with a message whose first line could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The request line is not method, URI and version with one space between.
    RequestLine,
    /// A line ends with CR or LF alone.
    LineEnd,
    /// A header line is not a name, a colon and a value.
    HeaderLine,
    /// More than [`MAX_HEADERS`] header fields.
    TooManyHeaders,
    /// A header field that may be there once is there twice.
    Repeated(HeaderName),
    /// No empty line behind the header fields.
    HeadNotEnded,
    /// Content-Length is not a number.
    ContentLength,
    /// No Content-Length on a stream.
    NoContentLength,
    /// The body is shorter than Content-Length says.
    BodyShort,
}

impl Defect {
    /// A reason phrase for a 400 answer.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Defect::RequestLine => "Malformed Request-Line",
            Defect::LineEnd => "Line Not Ended With CRLF",
            Defect::HeaderLine => "Malformed Header Line",
            Defect::TooManyHeaders => "Too Many Header Fields",
            Defect::Repeated(name) => match name.repeated() {
                Some(reason) => reason,
                None => "Repeated Header Field",
            },
            Defect::HeadNotEnded => "Header Fields Not Ended",
            Defect::ContentLength => "Malformed Content-Length",
            Defect::NoContentLength => "Missing Content-Length",
            Defect::BodyShort => "Body Shorter Than Content-Length",
        }
    }
}

/// A header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which one.
    pub name: HeaderName,
    /// Its name as it was sent.
    pub raw_name: &'a [u8],
    /// Its value without white space at the ends. CR and LF occur only where the line is folded.
    pub value: &'a [u8],
}

/// The first line of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: Method,
    /// The method as it was sent.
    pub method_text: &'a str,
    /// The Request-URI, not yet looked at.
    pub uri: &'a [u8],
    /// Whether the version is SIP/2.0.
    pub version_2: bool,
}

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Of a request.
    Request(RequestLine<'a>),
    /// Of a response.
    Status {
        /// 100 to 699.
        code: u16,
        /// The reason phrase; may be empty.
        reason: &'a [u8],
    },
}

/// A message.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The first line.
    pub start: StartLine<'a>,
    /// The header fields, in the order in which they were sent.
    pub headers: Vec<Header<'a>>,
    /// The body.
    pub body: &'a [u8],
    /// All of it, first line to end of body.
    pub bytes: &'a [u8],
    /// The first thing that is wrong with the message as a whole; single values are checked when they are read.
    pub defect: Option<Defect>,
    /// Index of the first header field of each name.
    first: [Option<u8>; HeaderName::COUNT],
}

/// Reads one message. Line ends in front of it are skipped; what follows it in a datagram is ignored.
///
/// # Errors
/// [`NotSip`] where the bytes are to be dropped. A message that is returned may still have a [`Message::defect`].
pub fn parse(bytes: &[u8], framing: Framing) -> Result<Message<'_>, NotSip> {
    if bytes.len() > MAX_MESSAGE {
        return Err(NotSip::TooLong);
    }
    let begin = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or(NotSip::Empty)?;
    let mut lines = Lines { text: bytes, at: begin, bare_line_end: false };
    let (start, defect) = start_line(lines.next().ok_or(NotSip::StartLine)?)?;
    let mut message = Message {
        start,
        headers: Vec::with_capacity(24),
        body: &[],
        bytes: &[],
        defect,
        first: [None; HeaderName::COUNT],
    };
    message.read_headers(&mut lines);
    message.read_body(lines.rest(), framing);
    let end = bytes.len() - lines.rest().len() + message.body.len();
    message.bytes = &bytes[begin..end];
    Ok(message)
}

impl<'a> Message<'a> {
    /// The first value of a header field.
    #[must_use]
    pub fn value(&self, name: HeaderName) -> Option<&'a [u8]> {
        self.first[name as usize].map(|index| self.headers[usize::from(index)].value)
    }

    /// All values of a header field, in order.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let first = self.first[name as usize].map_or(self.headers.len(), usize::from);
        self.headers[first..].iter().filter(move |header| header.name == name).map(|header| header.value)
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn via(&self) -> Result<Via<'a>, Malformed> {
        Via::read(self.value(HeaderName::Via).ok_or(Malformed("Missing Via"))?)
    }

    /// From.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn from(&self) -> Result<NameAddr<'a>, Malformed> {
        let value = self.value(HeaderName::From).ok_or(Malformed("Missing From"))?;
        NameAddr::read(value).ok_or(Malformed("Malformed From"))
    }

    /// To.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn to(&self) -> Result<NameAddr<'a>, Malformed> {
        let value = self.value(HeaderName::To).ok_or(Malformed("Missing To"))?;
        NameAddr::read(value).ok_or(Malformed("Malformed To"))
    }

    /// Call-ID.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn call_id(&self) -> Result<&'a str, Malformed> {
        fields::call_id(self.value(HeaderName::CallId).ok_or(Malformed("Missing Call-ID"))?)
    }

    /// CSeq.
    ///
    /// # Errors
    /// [`Malformed`] where it is missing or cannot be read.
    pub fn cseq(&self) -> Result<CSeq<'a>, Malformed> {
        CSeq::read(self.value(HeaderName::CSeq).ok_or(Malformed("Missing CSeq"))?)
    }

    /// Max-Forwards; senders of RFC 2543 leave it out.
    ///
    /// # Errors
    /// [`Malformed`] where it is not a number from 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, Malformed> {
        self.value(HeaderName::MaxForwards).map(fields::max_forwards).transpose()
    }

    /// The addresses of all header fields of this name: Contact, Route, Record-Route, Path, Service-Route.
    pub fn addresses(&self, name: HeaderName) -> Addresses<'a, '_> {
        Addresses::new(self, name)
    }

    /// The tokens of all header fields of this name: Require, Supported, Allow and the like.
    pub fn tokens(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        fields::tokens(self, name)
    }

    /// Whether one of the tokens is `token`, compared without case.
    #[must_use]
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.tokens(name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Expires, seconds: `None` where it is missing or unreadable, for then the default counts (RFC 3261, section
    /// 20.10).
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.value(HeaderName::Expires).and_then(saturating_number)
    }

    fn note(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }

    fn read_headers(&mut self, lines: &mut Lines<'a>) {
        loop {
            let Some(line) = lines.next() else { break self.note(Defect::HeadNotEnded) };
            if line.is_empty() {
                break;
            }
            self.read_header(line);
        }
        if lines.bare_line_end {
            self.note(Defect::LineEnd);
        }
    }

    fn read_header(&mut self, line: &'a [u8]) {
        let Some(colon) = memchr(b':', line) else { return self.note(Defect::HeaderLine) };
        let raw_name = &line[..colon];
        let blanks = raw_name.iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let raw_name = &raw_name[..raw_name.len() - blanks];
        if !is_token(raw_name) {
            return self.note(Defect::HeaderLine);
        }
        if self.headers.len() == MAX_HEADERS {
            return self.note(Defect::TooManyHeaders);
        }
        let name = HeaderName::of(raw_name);
        let index = u8::try_from(self.headers.len()).expect("MAX_HEADERS fits a byte");
        match &mut self.first[name as usize] {
            first @ None => *first = Some(index),
            Some(_) if name.repeated().is_none() => {}
            Some(_) => self.note(Defect::Repeated(name)),
        }
        self.headers.push(Header { name, raw_name, value: trim(&line[colon + 1..]) });
    }

    fn read_body(&mut self, rest: &'a [u8], framing: Framing) {
        self.body = rest;
        match (self.value(HeaderName::ContentLength), framing) {
            (None, Framing::Datagram) => {}
            (None, Framing::Stream) => self.note(Defect::NoContentLength),
            (Some(value), _) => match saturating_number(value) {
                None => self.note(Defect::ContentLength),
                Some(length) => match rest.get(..length as usize) {
                    Some(body) => self.body = body,
                    None => self.note(Defect::BodyShort),
                },
            },
        }
    }
}

/// The lines of a message's head, without their line ends.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    /// Whether a CR or LF stood alone.
    bare_line_end: bool,
}

impl<'a> Lines<'a> {
    /// Takes the next line and those that continue it, which begin with a blank (RFC 3261, section 7.3.1). `None`
    /// where no line end follows. An empty line is never continued: behind it comes the body.
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        let mut end = self.end_of_line()?;
        while end > start && matches!(self.text.get(self.at), Some(b' ' | b'\t')) {
            end = self.end_of_line()?;
        }
        Some(&self.text[start..end])
    }

    /// Goes behind the next line end; where the line in front of it ended.
    fn end_of_line(&mut self) -> Option<usize> {
        let line = &self.text[self.at..];
        let length = memchr(b'\n', line)?;
        let cr = memchr(b'\r', &line[..length]);
        self.bare_line_end |= cr.is_none_or(|cr| cr + 1 != length);
        let end = self.at + cr.filter(|cr| cr + 1 == length).unwrap_or(length);
        self.at += length + 1;
        Some(end)
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }
}

/// Reads the first line. Only a line that is almost right is given a defect; anything else is no SIP and gets no answer.
fn start_line(line: &[u8]) -> Result<(StartLine<'_>, Option<Defect>), NotSip> {
    if let Some(status) = line.strip_prefix(b"SIP/2.0 ") {
        return status_line(status).map(|start| (start, None)).ok_or(NotSip::StartLine);
    }
    let trimmed = trim(line);
    let method_end = memchr(b' ', trimmed).ok_or(NotSip::StartLine)?;
    let version_start = memrchr(b' ', trimmed).ok_or(NotSip::StartLine)? + 1;
    let (method, version) = (&trimmed[..method_end], &trimmed[version_start..]);
    if !is_token(method) || !version.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/")) {
        return Err(NotSip::StartLine);
    }
    let uri = trimmed.get(method_end + 1..version_start - 1).unwrap_or_default();
    let sound = !uri.is_empty() && trimmed.len() == line.len() && uri.iter().all(u8::is_ascii_graphic);
    let method_text = std::str::from_utf8(method).map_err(|_| NotSip::StartLine)?;
    let line = RequestLine {
        method: Method::of(method_text),
        method_text,
        uri,
        version_2: version.eq_ignore_ascii_case(b"SIP/2.0"),
    };
    Ok((StartLine::Request(line), (!sound).then_some(Defect::RequestLine)))
}

/// Reads what follows the version in a status line: three digits, a space and a reason phrase that may be empty.
fn status_line(status: &[u8]) -> Option<StartLine<'_>> {
    let (code, reason) = status.split_at_checked(3)?;
    let code = u16::try_from(saturating_number(code)?).ok().filter(|code| (100..700).contains(code))?;
    match reason {
        [] => Some(StartLine::Status { code, reason }),
        [b' ', reason @ ..] => Some(StartLine::Status { code, reason }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(text: &str) -> Message<'_> {
        parse(text.as_bytes(), Framing::Datagram).unwrap()
    }

    #[test]
    fn folded_values_are_one_value() {
        let m = datagram("OPTIONS sip:a SIP/2.0\r\nSubject:\r\n one\r\n\ttwo \r\nTo: x\r\n\r\n folded? no");
        assert_eq!(m.headers[0].value, b"one\r\n\ttwo");
        assert_eq!(m.value(HeaderName::To), Some(&b"x"[..]));
        assert_eq!(m.body, b" folded? no");
        assert!(m.bytes.starts_with(b"OPTIONS") && m.bytes.ends_with(b" folded? no"));
        assert_eq!(m.defect, None);
    }

    #[test]
    fn values_come_in_the_order_of_their_lines() {
        let m = datagram("OPTIONS sip:a SIP/2.0\r\nVia: 1\r\nTo: x\r\nv: 2\r\nVIA : 3\r\n\r\n");
        assert_eq!(m.values(HeaderName::Via).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert_eq!(m.values(HeaderName::Contact).count(), 0);
    }

    #[test]
    fn defects_are_found() {
        let many = format!("OPTIONS sip:a SIP/2.0\r\n{}\r\n", "Z: y\r\n".repeat(MAX_HEADERS + 1));
        for (text, defect) in [
            ("OPTIONS  sip:a SIP/2.0\r\n\r\n", Defect::RequestLine),
            ("OPTIONS sip:a SIP/2.0 \r\n\r\n", Defect::RequestLine),
            ("OPTIONS SIP/2.0\r\n\r\n", Defect::RequestLine),
            ("OPTIONS sip:a SIP/2.0\n\r\n", Defect::LineEnd),
            ("OPTIONS sip:a SIP/2.0\r\nZ: a\rb\r\n\r\n", Defect::LineEnd),
            ("OPTIONS sip:a SIP/2.0\r\nno colon\r\n\r\n", Defect::HeaderLine),
            ("OPTIONS sip:a SIP/2.0\r\n: no name\r\n\r\n", Defect::HeaderLine),
            ("OPTIONS sip:a SIP/2.0\r\nTo: a\r\nt: b\r\n\r\n", Defect::Repeated(HeaderName::To)),
            ("OPTIONS sip:a SIP/2.0\r\nTo: a\r\n", Defect::HeadNotEnded),
            ("OPTIONS sip:a SIP/2.0\r\nTo: a\r\n folded", Defect::HeadNotEnded),
            ("OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", Defect::ContentLength),
            ("OPTIONS sip:a SIP/2.0\r\nl: 1\r\n\r\n", Defect::BodyShort),
            ("OPTIONS sip:a SIP/2.0\r\nl: 99999999999999999999\r\n\r\n", Defect::BodyShort),
            (&many, Defect::TooManyHeaders),
        ] {
            assert_eq!(datagram(text).defect, Some(defect), "{text}");
        }
        let stream = parse(b"OPTIONS sip:a SIP/2.0\r\n\r\n", Framing::Stream).unwrap();
        assert_eq!(stream.defect, Some(Defect::NoContentLength));
    }

    #[test]
    fn what_is_no_sip_is_told_from_what_is_broken() {
        for garbage in
            ["GET / HTTP/1.1\r\n\r\n", "OPTIONS sip:a SIP/2.0", "SIP/2.0 99 x\r\n\r\n", "\0\r\n", "a b\r\n"]
        {
            assert_eq!(
                parse(garbage.as_bytes(), Framing::Datagram).unwrap_err(),
                NotSip::StartLine,
                "{garbage}"
            );
        }
        assert_eq!(parse(b"\r\n\r\n", Framing::Datagram).unwrap_err(), NotSip::Empty);
        assert_eq!(parse(&[b'x'; MAX_MESSAGE + 1], Framing::Datagram).unwrap_err(), NotSip::TooLong);
    }

    #[test]
    fn bodies_follow_content_length() {
        assert_eq!(datagram("OPTIONS sip:a SIP/2.0\r\n\r\nall of it").body, b"all of it");
        assert_eq!(datagram("OPTIONS sip:a SIP/2.0\r\nl: 3\r\n\r\nall of it").body, b"all");
    }
}
