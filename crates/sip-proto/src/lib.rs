//! SIP as values (RFC 3261): messages read without copying, header fields typed as they are read, messages written,
//! transactions, dialogs, digest authentication, a registrar with its user agent server, and the back-to-back user agent
//! whose calls another host can go on with ([`b2bua`]).
//!
//! Pure: it reads no clock, opens no socket and draws no random number. Bytes, the address that they came from and the
//! time go in; the bytes to send and where to send them come out. Reading is linear in the length of the message and
//! never panics, whatever the bytes are.
//!
//! From below: `scan` and `message` find header fields, `fields`, `address`, `via`, `uri`, `extensions` and `digest` read
//! them, `draft` writes messages; [`transaction`], `dialog` and `session_timer` are machines of their own; `uas` and
//! [`b2bua`] put them together.
//!
//! ```
//! use sip_proto::{Framing, Method, StartLine};
//! let bytes = b"OPTIONS sip:example.com SIP/2.0\r\nCSeq: 7 OPTIONS\r\n\r\n";
//! let message = sip_proto::parse(bytes, Framing::Datagram).unwrap();
//! assert!(matches!(message.start, StartLine::Request(line) if line.method == Method::Options));
//! assert_eq!(message.cseq().unwrap().number, 7);
//! ```

mod address;
pub mod b2bua;
mod dialog;
pub mod digest;
mod draft;
mod extensions;
mod fields;
mod header_name;
mod message;
mod method;
mod registrar;
mod rejection;
mod scan;
mod session_timer;
mod stream;
pub mod transaction;
mod uas;
mod uri;
mod via;
mod wire;

pub use address::{Addresses, NameAddr};
pub use dialog::{Dialog, Order, Sequence};
pub use draft::{Draft, ToTag, destination, reason_phrase, to_tag};
pub use extensions::{RAck, Reason, Refresher, Replaces, RetryAfter, SessionExpires};
pub use fields::{CSeq, Contacts, Malformed, Qvalue};
pub use header_name::HeaderName;
pub use message::{
    Defect, Framing, Header, MAX_HEADERS, MAX_MESSAGE, Message, NotSip, RequestLine, StartLine, parse,
};
pub use method::Method;
pub use registrar::{Binding, ContactChange, Limits, Refusal, Registrar, Registration, Wish};
pub use session_timer::{LEAST_MIN_SE_S, SessionLimits, SessionTimer, TimerRefusal};
pub use stream::{Frame, Framer, MAX_HEAD};
pub use uas::{Arrival, Duty, Reply, Settings, Silence, UserAgentServer};
pub use uri::{Scheme, Uri, UriError};
pub use via::{Rport, Via};
pub use wire::Wire;
