//! Sockets that are bound to a VIP before the host holds it (`IP_FREEBIND`, ip(7); `IPV6_FREEBIND`, since Linux 4.15).
//! So a takeover binds nothing: when the address arrives, the sockets are there.

use super::returned;
use anyhow::Context;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Room for datagrams that arrive while the loop does something else, and for those that leave in a burst, bytes; the
/// kernel may give less.
const DATAGRAM_BUFFER: usize = 4 << 20;
/// A silent connection is asked by the kernel whether its other end is still there.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TRIES: u32 = 4;

/// A UDP socket at `address`.
pub(crate) fn datagrams(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let open = || {
        let socket = open(address.ip(), Type::DGRAM, Protocol::UDP)?;
        // Best effort: with less, a burst loses datagrams, which SIP sends again. With CAP_NET_ADMIN the system's limit does
        // not count (socket(7)).
        if setsockopt(&socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
        }
        let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
        returned::ask_for(&socket, address.ip());
        socket.bind(&address.into())?;
        Ok::<_, io::Error>(UdpSocket::from_std(socket.into()))
    };
    open().with_context(|| format!("cannot listen at {address} over UDP"))
}

/// A TCP listener at `address`.
pub(crate) fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = open(address.ip(), Type::STREAM, Protocol::TCP)?;
        // Old connections in TIME-WAIT must not keep a restarted server away.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, io::Error>(TcpListener::from_std(socket.into()))
    };
    open().with_context(|| format!("cannot listen at {address} over TCP"))
}

/// Begins to connect to `peer` from `local` and any port: what we send carries the VIP, also on connections of ours.
///
/// # Errors
/// Where that is known at once not to work.
pub(crate) fn connect(local: IpAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = open(local, Type::STREAM, Protocol::TCP)?;
    // The port is chosen when the peer is known, so that as many connections as ports are possible to each (ip(7)).
    let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
    socket.bind(&SocketAddr::new(local, 0).into())?;
    match socket.connect(&peer.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(e) => return Err(e),
    }
    let stream = TcpStream::from_std(socket.into());
    prepare(&stream);
    Ok(stream)
}

/// Sets what every connection wants.
pub(crate) fn prepare(stream: &TcpStream) {
    // Messages are written whole; waiting for more would only delay them. Where it fails they come later.
    let _ = stream.set_nodelay(true);
    let asked = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY)
        .with_retries(KEEP_ALIVE_TRIES);
    // Where this fails, a peer that vanished is noticed when something is sent to it.
    let _ = SockRef::from(stream).set_tcp_keepalive(&asked);
}

/// Makes the kernel end the connection with RST and forget it when it is closed: what it still holds must not go out
/// from an address that another host may have by then.
pub(crate) fn abort_on_close(stream: &TcpStream) {
    // Where this fails, an ordinary close follows; the connection is of no use to the other end either way.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn open(address: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    match address {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
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

    #[test]
    fn a_connection_of_ours_comes_from_the_address_that_was_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = "127.9.8.7".parse().unwrap();
        let _stream = connect(local, listener.local_addr().unwrap()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), local);
    }
}
