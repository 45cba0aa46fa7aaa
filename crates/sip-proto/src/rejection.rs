//! Requests that are refused: what is checked of every request (RFC 3261, section 8.2), and what the answer says.

use crate::draft::{Draft, reason_phrase};
use crate::{Defect, HeaderName, Message, Uri, UriError};

/// Seconds after which a client that was refused during a graceful stop may come back: by then the other member of
/// the pair answers for the VIP.
pub(crate) const RETRY_AFTER_S: u32 = 2;

/// An answer other than 200: status, reason phrase, and the header field that explains it.
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) detail: Detail,
}

/// The header field that explains a [`Rejection`].
pub(crate) enum Detail {
    None,
    Allow(&'static str),
    Unsupported,
    RetryAfter(u32),
    MinExpires(u32),
    MinSe(u32),
}

impl Rejection {
    /// Adds the header field that explains it.
    pub(crate) fn explain<'b>(&self, response: Draft<'b>, message: &Message<'_>) -> Draft<'b> {
        match self.detail {
            Detail::None => response,
            Detail::Allow(methods) => response.header("Allow", methods),
            Detail::Unsupported => response.list("Unsupported", message.tokens(HeaderName::Require)),
            Detail::RetryAfter(seconds) => response.header("Retry-After", seconds),
            Detail::MinExpires(seconds) => response.header("Min-Expires", seconds),
            Detail::MinSe(seconds) => response.header("Min-SE", seconds),
        }
    }
}

pub(crate) fn check_version(version_2: bool) -> Result<(), Rejection> {
    if version_2 { Ok(()) } else { Err(rejection(505)) }
}

/// Checks that everything is there that section 8.1.1 makes mandatory, and can be read.
pub(crate) fn check_form(message: &Message<'_>, method: &str) -> Result<(), Rejection> {
    if let Some(defect) = message.defect {
        return Err(bad_request(Defect::reason(defect)));
    }
    message.via().map_err(malformed)?;
    message.from().map_err(malformed)?;
    message.to().map_err(malformed)?;
    message.call_id().map_err(malformed)?;
    message.max_forwards().map_err(malformed)?;
    let cseq = message.cseq().map_err(malformed)?;
    if cseq.method == method { Ok(()) } else { Err(bad_request("CSeq Method Mismatch")) }
}

/// The Request-URI is a SIP URI that carries no header fields (section 19.1.1, table 1).
pub(crate) fn check_uri(uri: &[u8]) -> Result<Uri<'_>, Rejection> {
    let malformed = || bad_request("Malformed Request-URI");
    let text = std::str::from_utf8(uri).map_err(|_| malformed())?;
    match Uri::parse(text) {
        Ok(uri) if uri.headers.is_empty() => Ok(uri),
        Ok(_) | Err(UriError::Syntax) => Err(malformed()),
        Err(UriError::Scheme) => Err(rejection(416)),
    }
}

pub(crate) fn malformed(malformed: crate::Malformed) -> Rejection {
    bad_request(malformed.0)
}

pub(crate) fn bad_request(reason: &'static str) -> Rejection {
    Rejection { reason, ..rejection(400) }
}

pub(crate) fn rejection(status: u16) -> Rejection {
    Rejection { status, reason: reason_phrase(status), detail: Detail::None }
}
