//! A route netlink socket (rtnetlink(7)) with just enough encoding for the laboratory: requests with nested attributes,
//! acknowledgements and dumps. What the messages mean is `links`' business.
//!
//! Written by hand because the laboratory needs a dozen fixed messages, two of which (classic BPF filters, veth peers in
//! another namespace) the typed crates express only as raw attributes anyway.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Longest wait for the kernel's answer; it answers at once, so running into this is a fault of our request.
const ANSWER_LIMIT_S: i64 = 5;
/// Larger than any datagram of a dump, which the kernel keeps below 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request under construction.
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of this type (`RTM_*`) and these flags besides `NLM_F_REQUEST`, with the fixed part that its type
    /// wants (`ifinfomsg`, `ifaddrmsg`, ...).
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("netlink flags have 16 bits");
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0_u32.to_ne_bytes()); // length, see `finish`
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // sequence, see `finish`; port of the kernel
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds an attribute with a NUL-terminated text.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.with(kind, &value)
    }

    /// Adds an attribute that holds what `inner` adds.
    pub(crate) fn nest(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.put(kind | NESTED, 0);
        let mut all = inner(self);
        let length = u16::try_from(all.bytes.len() - start).expect("an attribute is shorter than 64 KiB");
        all.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        all
    }

    /// Adds bytes as they are: the fixed part in front of nested attributes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn put(&mut self, kind: u16, value: usize) {
        let length = u16::try_from(value + 4).expect("an attribute is shorter than 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a request is short");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// `NLA_F_NESTED`, as the type that attribute types have.
const NESTED: u16 = 1 << 15;

/// A route netlink socket. It stays in the network namespace of the thread that opened it, whoever uses it.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_LIMIT_S, 0))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends a request and waits for the kernel to say that it is done, or why not.
    pub(crate) fn order(&mut self, request: Request) -> io::Result<()> {
        self.exchange(request, libc::NLM_F_ACK, &mut |_, _| ())
    }

    /// Sends a request and hands each message of the answer, type and content, to `each`.
    pub(crate) fn ask(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(request, libc::NLM_F_ACK, &mut each)
    }

    /// Sends a request for a whole table and hands each entry, type and content, to `each`.
    pub(crate) fn dump(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(request, libc::NLM_F_DUMP, &mut each)
    }

    fn exchange(
        &mut self,
        mut request: Request,
        flags: i32,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let all = u16::from_ne_bytes([request.bytes[6], request.bytes[7]])
            | u16::try_from(flags).expect("netlink flags have 16 bits");
        request.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        send(self.socket.as_raw_fd(), &request.finish(self.sequence), MsgFlags::empty())?;
        loop {
            // Ends: by the acknowledgement, the end of the dump, an error, or the receive time-out.
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(nix::Error::EINTR) => continue,
                Err(other) => return Err(other.into()),
            };
            for message in Messages(&self.buffer[..length]) {
                if message.sequence != self.sequence {
                    continue; // the rest of an exchange that was given up
                }
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => return error_of(message.content),
                    libc::NLMSG_DONE => return Ok(()),
                    _ => each(message.kind, message.content),
                }
            }
        }
    }
}

fn error_of(content: &[u8]) -> io::Result<()> {
    match u32_at(content, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(negated) => Err(io::Error::from_raw_os_error(negated.saturating_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent a truncated netlink error")),
    }
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    content: &'a [u8],
}

/// The messages of one datagram; stops at the first that is malformed.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;
    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let content = self.0.get(HEADER..length)?;
        let message = Message { kind: u16_at(self.0, 4)?, sequence: u32_at(self.0, 8)?, content };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in `bytes`, types without their flags; stops at the first that is malformed.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        const TYPE_MASK: u16 = !(NESTED | 1 << 14);
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The number at this place, in the machine's byte order, where the bytes reach that far.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The number at this place, in the machine's byte order, where the bytes reach that far.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_come_back_as_they_went_in() {
        let bytes = Request::new(16, 0, &[7; 4])
            .nest(18, |inner| inner.with_text(1, "veth").nest(2, |data| data.raw(&[9; 4]).with(3, &[1, 2])))
            .with(4, &[5])
            .finish(1);
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        let outer: Vec<_> = Attributes(&bytes[HEADER + 4..]).collect();
        assert_eq!(outer.len(), 2);
        assert_eq!(outer[1], (4, &[5][..]));
        let inner: Vec<_> = Attributes(outer[0].1).collect();
        assert_eq!(inner[0], (1, &b"veth\0"[..]));
        assert_eq!(Attributes(&inner[1].1[4..]).collect::<Vec<_>>(), [(3, &[1, 2][..])]);
    }

    #[test]
    fn truncated_input_ends_the_iteration() {
        let whole = [8, 0, 1, 0, 1, 2, 3, 4];
        assert_eq!(Attributes(&whole).count(), 1);
        for cut in 0..whole.len() {
            assert_eq!(Attributes(&whole[..cut]).count(), 0, "{cut} bytes");
            assert_eq!(Messages(&whole[..cut]).count(), 0, "{cut} bytes");
        }
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0, "a length below the header's own");
    }
}
