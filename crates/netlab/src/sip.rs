//! The OPTIONS request that the prober sends and the little of an answer that it reads. Pure; allocates only at the start.

use std::net::SocketAddr;
use std::ops::Range;

/// Digits of the number in the branch and in CSeq: as many as the largest that CSeq may have (RFC 3261, section
/// 8.1.1.5: below 2^31).
const DIGITS: usize = 10;
/// Greatest CSeq number.
pub(crate) const LAST_NUMBER: u32 = (1 << 31) - 1;
/// Longest name of an answering host that is kept, bytes.
pub(crate) const MAX_TAG: usize = 64;

/// An OPTIONS request (RFC 3261, section 11.1) that can be sent again and again under new numbers.
pub(crate) struct Options {
    text: Vec<u8>,
    branch: Range<usize>,
    cseq: Range<usize>,
}

impl Options {
    /// From `local` to `target`; `id` makes Call-ID and tag differ from those of other probers.
    pub(crate) fn new(local: SocketAddr, target: SocketAddr, id: u64) -> Self {
        const NUMBER: &str = "##########";
        let text = format!(
            "OPTIONS sip:{target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{id:x}-{NUMBER}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:prober@{local}>;tag={id:x}\r\n\
             To: <sip:{target}>\r\n\
             Call-ID: {id:x}@netlab\r\n\
             CSeq: {NUMBER} OPTIONS\r\n\
             Contact: <sip:prober@{local}>\r\n\
             Accept: application/sdp\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let place = |from: Option<usize>| {
            let from = from.expect("the text above has the number in it twice");
            from..from + DIGITS
        };
        let (branch, cseq) = (place(text.find(NUMBER)), place(text.rfind(NUMBER)));
        Self { text: text.into_bytes(), branch, cseq }
    }

    /// The request with this number.
    pub(crate) fn numbered(&mut self, number: u32) -> &[u8] {
        let mut digits = [b'0'; DIGITS];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        self.text[self.branch.clone()].copy_from_slice(&digits);
        self.text[self.cseq.clone()].copy_from_slice(&digits);
        &self.text
    }
}

/// A final response to one of our requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    /// CSeq number of the request.
    pub(crate) number: u32,
    /// Whether the status is 2xx.
    pub(crate) success: bool,
    /// Who answered: the comment in the `Server` header (`Takeover/1.2.3 (sip-1)`), all of the header where it has none, or
    /// nothing where there is no such header.
    pub(crate) tag: &'a str,
}

/// Reads a response; none where the datagram is not a final response to an OPTIONS request.
pub(crate) fn parse(datagram: &[u8]) -> Option<Response<'_>> {
    let text = std::str::from_utf8(datagram).ok()?;
    let mut lines = text.split("\r\n");
    let status: u16 = lines.next()?.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let (mut number, mut tag) = (None, "");
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim_ascii_end(), value.trim_ascii());
        if name.eq_ignore_ascii_case("CSeq") {
            let (digits, method) = value.split_once(' ')?;
            number = (method.trim_ascii_start() == "OPTIONS").then(|| digits.parse().ok()).flatten();
        } else if name.eq_ignore_ascii_case("Server") {
            tag = comment(value);
        }
    }
    (status >= 200).then_some(Response { number: number?, success: (200..300).contains(&status), tag })
}

fn comment(server: &str) -> &str {
    let inner = server.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
    let tag = inner.unwrap_or(server);
    &tag[..tag.floor_char_boundary(MAX_TAG)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_differ_in_branch_and_cseq() {
        let mut options =
            Options::new("192.0.2.100:4000".parse().unwrap(), "[2001:db8::1]:5060".parse().unwrap(), 0xabc);
        let first = String::from_utf8(options.numbered(7).to_vec()).unwrap();
        assert!(first.starts_with("OPTIONS sip:[2001:db8::1]:5060 SIP/2.0\r\n"));
        assert!(first.contains(";branch=z9hG4bKabc-0000000007\r\n") && first.ends_with("\r\n\r\n"));
        assert!(first.contains("CSeq: 0000000007 OPTIONS\r\n"));
        let last = String::from_utf8(options.numbered(LAST_NUMBER).to_vec()).unwrap();
        assert_eq!(last, first.replace("0000000007", "2147483647"));
    }

    #[test]
    fn answers_say_which_request_and_who() {
        let answer = |status: &str, server: &str| {
            format!("SIP/2.0 {status}\r\ncseq : 42  OPTIONS\r\n{server}\r\n\r\nx")
        };
        let ok = answer("200 OK", "SERVER: Takeover/0.1.0 (sip-1)");
        assert_eq!(parse(ok.as_bytes()), Some(Response { number: 42, success: true, tag: "sip-1" }));
        let busy = answer("503 Service Unavailable", "Server: kamailio");
        assert_eq!(parse(busy.as_bytes()), Some(Response { number: 42, success: false, tag: "kamailio" }));
        assert_eq!(parse(answer("200 OK", "Via: x").as_bytes()).unwrap().tag, "");
        let long = answer("200 OK", &format!("Server: x ({})", "é".repeat(50)));
        assert_eq!(parse(long.as_bytes()).unwrap().tag.len(), MAX_TAG);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for other in [
            "",
            "SIP/2.0 ",
            "SIP/2.0 100 Trying\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n",
            "SIP/2.0 200 OK\r\nCSeq: 99999999999 OPTIONS\r\n\r\n",
            "SIP/2.0 200 OK\r\n\r\nCSeq: 1 OPTIONS\r\n",
            "SIP/2.0 2\u{e9}0 OK\r\nCSeq: 1 OPTIONS\r\n\r\n",
            "OPTIONS sip:x SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n",
        ] {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(parse(b"SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\nServer: \xff\r\n\r\n"), None);
    }
}
