//! A UDP socket that takes and gives many datagrams with one system call (recvmmsg(2), sendmmsg(2)): under load that is
//! a good part of what a call costs.

use super::{returned, sockets};
use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use sip_proto::MAX_MESSAGE;
use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

/// Datagrams of one system call.
pub(crate) const BATCH: usize = 32;
/// Errors that are looked at in one round.
const RETURNED_PER_ROUND: usize = 64;
/// Room for one: a byte more than a message may have, so that one which is too long is seen to be.
const ROOM: usize = MAX_MESSAGE + 1;

/// Where datagrams are received; shared by all sockets. Pages that no datagram reached are never touched.
#[derive(Debug)]
pub(crate) struct Inbox(Box<[u8]>);

impl Default for Inbox {
    fn default() -> Self {
        Self(vec![0; BATCH * ROOM].into_boxed_slice())
    }
}

/// What a batch led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// This many, and there may be more.
    Some(usize),
    /// Nothing more until the socket is readable again.
    Drained,
}

/// A UDP socket.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// Whether the kernel has said that something which was sent came back as an error.
    troubled: bool,
    /// Each direction has its own, and so has each socket: the kernel writes lengths of addresses into them.
    receiving: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
}

impl Datagrams {
    /// One at `address`.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            socket: sockets::datagrams(address)?,
            troubled: false,
            receiving: MultiHeaders::preallocate(BATCH, None),
            sending: MultiHeaders::preallocate(BATCH, None),
        })
    }

    #[cfg(test)]
    pub(crate) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Receives one batch and has `take` look at each.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox, mut take: impl FnMut(SocketAddr, &[u8])) -> Received {
        let mut rooms = inbox.0.chunks_exact_mut(ROOM);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let fd = self.socket.as_raw_fd();
        let received = match recvmmsg(fd, &mut self.receiving, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Received::Drained,
            // Of an earlier datagram; the next call reads on.
            Err(_) => {
                self.troubled = true;
                return Received::Some(0);
            }
        };
        let mut count = 0;
        for datagram in received {
            count += 1;
            let bytes = datagram.iovs().next().unwrap_or_default();
            if let Some(source) = datagram.address.as_ref().and_then(socket_addr) {
                take(source, bytes);
            }
        }
        // Fewer than there was room for: the queue was empty then, and what comes later makes it readable again.
        if count < BATCH { Received::Drained } else { Received::Some(count) }
    }

    /// What was sent to where nobody listens or no way leads (ICMP says so, RFC 3261, section 18.4): the beginning of each. Costs
    /// nothing where there was no error.
    pub(crate) fn returned(&mut self, mut take: impl FnMut(&[u8])) {
        if !std::mem::take(&mut self.troubled) {
            return;
        }
        for _ in 0..RETURNED_PER_ROUND {
            match returned::next(self.socket.as_raw_fd(), &mut take) {
                Ok(()) => {}
                // There are no more; or there is an error of errors, and SIP does without.
                Err(_) => return,
            }
        }
        self.troubled = true;
    }

    /// Sends up to [`BATCH`] datagrams; how many the kernel did not take. Those are not kept: SIP sends what gets lost
    /// again, and by then things may be better.
    pub(crate) fn send(&mut self, batch: &[(SocketAddr, &[u8])]) -> usize {
        let (mut refused, mut again) = (0, false);
        let mut rest = &batch[..batch.len().min(BATCH)];
        while !rest.is_empty() {
            let slices: [[IoSlice<'_>; 1]; BATCH] =
                array::from_fn(|index| [IoSlice::new(rest.get(index).map_or(&[][..], |(_, bytes)| bytes))]);
            let peers: [Option<SockaddrStorage>; BATCH] =
                array::from_fn(|index| rest.get(index).map(|(peer, _)| SockaddrStorage::from(*peer)));
            let count = rest.len();
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let fd = self.socket.as_raw_fd();
            let sent = match sendmmsg(fd, &mut self.sending, &slices[..count], &peers[..count], [], flags) {
                Ok(sent) => sent.count(),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return refused + count,
                // Of an earlier datagram (it is told once, whoever calls next), or of this one: that shows when it is sent again.
                Err(_) if !again => {
                    (self.troubled, again) = (true, true);
                    continue;
                }
                // The first one was refused; the others may have another way.
                Err(_) => 0,
            };
            again = false;
            // An error behind the first one ends the call, and the kernel does not say which.
            self.troubled |= sent < count;
            if sent == 0 {
                refused += 1;
            }
            rest = &rest[sent.max(1)..];
        }
        refused
    }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair(any: &str) -> (Datagrams, std::net::UdpSocket) {
        let server = Datagrams::bind(any.parse().unwrap()).unwrap();
        let client = std::net::UdpSocket::bind(any).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.connect(server.socket.local_addr().unwrap()).unwrap();
        (server, client)
    }

    #[test]
    fn more_than_a_batch_is_received_in_order() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (mut server, client) = pair(any);
            let mut inbox = Inbox::default();
            for number in 0..BATCH as u32 + 3 {
                client.send(&number.to_be_bytes()).unwrap();
            }
            let mut seen = Vec::new();
            let mut take = |source: SocketAddr, bytes: &[u8]| {
                assert_eq!(source, client.local_addr().unwrap());
                seen.push(u32::from_be_bytes(bytes.try_into().unwrap()));
            };
            assert_eq!(server.receive(&mut inbox, &mut take), Received::Some(BATCH));
            assert_eq!(server.receive(&mut inbox, &mut take), Received::Drained);
            assert_eq!(server.receive(&mut inbox, &mut take), Received::Drained);
            assert_eq!(seen, (0..BATCH as u32 + 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_nobody_listens_for_comes_back_and_keeps_nothing_else() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (mut server, client) = pair(any);
            let peer = client.local_addr().unwrap();
            // Nobody has its port any more.
            let gone = std::net::UdpSocket::bind(any).unwrap().local_addr().unwrap();
            let batch = [(gone, &b"lost"[..]), (peer, b"one"), (gone, b"lost, too"), (peer, b"two")];
            assert_eq!(server.send(&batch), 0, "it is taken: what comes back comes later");
            let mut buffer = [0; 16];
            for expected in [b"one", b"two"] {
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], expected);
            }
            // On loopback errors are there when what is sent later has arrived.
            server.receive(&mut Inbox::default(), |_, _| ());
            let mut returned = Vec::new();
            server.returned(|bytes| returned.push(bytes.to_vec()));
            assert_eq!(returned, [&b"lost"[..], b"lost, too"]);
            server.returned(|bytes| panic!("{bytes:?} twice"));
        }
    }

    #[test]
    fn one_that_is_refused_does_not_keep_the_others() {
        let (mut server, client) = pair("127.0.0.1:0");
        let peer = client.local_addr().unwrap();
        // Nobody has a way to an address of the other family.
        let elsewhere = "[2001:db8::1]:5060".parse().unwrap();
        let batch = [(peer, &b"one"[..]), (elsewhere, b"lost"), (peer, b"two")];
        assert_eq!(server.send(&batch), 1);
        let mut buffer = [0; 16];
        for expected in [b"one", b"two"] {
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }
}
