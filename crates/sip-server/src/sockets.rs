//! Sockets that are bound to a VIP before the host holds it (`IP_FREEBIND`, ip(7); `IPV6_FREEBIND`, since Linux 4.15).
//! So a takeover binds nothing: when the address arrives, the sockets are there.

use anyhow::Context;
use mio::net::{TcpListener, UdpSocket};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// Room for requests that arrive while the loop does something else, bytes; the kernel may give less.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A UDP socket at `address`.
pub(crate) fn datagrams(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let open = || {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        // Best effort: with less, a burst loses datagrams, which SIP sends again.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok::<_, io::Error>(UdpSocket::from_std(socket.into()))
    };
    open().with_context(|| format!("cannot listen at {address} over UDP"))
}

/// A TCP listener at `address`.
pub(crate) fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        // Old connections in TIME-WAIT must not keep a restarted server away.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, io::Error>(TcpListener::from_std(socket.into()))
    };
    open().with_context(|| format!("cannot listen at {address} over TCP"))
}

/// Makes the kernel end the connection with RST and forget it when it is closed: what it still holds must not go out
/// from an address that another host may have by then.
pub(crate) fn abort_on_close(stream: &mio::net::TcpStream) {
    // Where this fails, an ordinary close follows; the connection is of no use to the other end either way.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking(), Some(protocol))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_the_host_does_not_hold_can_be_bound() {
        for address in ["192.0.2.77:5060", "[2001:db8::77]:5060"] {
            let address = address.parse().unwrap();
            assert_eq!(datagrams(address).unwrap().local_addr().unwrap(), address);
            assert_eq!(listener(address).unwrap().local_addr().unwrap(), address);
        }
    }

    #[test]
    fn an_address_that_is_taken_is_named_in_the_error() {
        let first = datagrams("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = datagrams(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen at {address} over UDP"));
    }
}
