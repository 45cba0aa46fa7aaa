//! Options of the TCP sockets below the links.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A peer that acknowledges nothing for this long is gone. Heartbeats notice much earlier; this bounds what the kernel
/// keeps when nobody listens to them (an operator's connection, a link still without a welcome).
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;

/// `include/uapi/linux/tcp.h` of Linux 6.15, not in the libc crate yet.
const TCP_RTO_MIN_US: libc::c_int = 45;
/// See [`TCP_RTO_MIN_US`].
const TCP_DELACK_MAX_US: libc::c_int = 46;
/// How much longer than the round trip the kernel waits before it sends a lost segment again; 200 ms unless set. Not
/// less than two ticks of the kernel: 20 ms suit 100 Hz and more.
const RTO_MIN: Duration = Duration::from_millis(20);
/// How long an acknowledgement is held back, 40 ms unless set: below [`RTO_MIN`], or the peer would send again what
/// was not lost. Not less than two ticks either: 8 ms suit 250 Hz and more.
const DELACK_MAX: Duration = Duration::from_millis(8);

/// Sets what every link needs: no delay for small messages, an end for dead peers, and, where the kernel can (Linux
/// 6.15), a lost segment sent again after 20 ms instead of 200 ms.
///
/// To be called before the socket connects or listens (whose connections inherit it all): the kernel's estimate of the
/// round trip's variance starts from the time-out that is in force at the TCP handshake and comes down slowly.
pub(crate) fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )?;
    // Older kernels answer ENOPROTOOPT, slower ones EINVAL. They keep their 200 ms and 40 ms, with which everything
    // works, only later after a loss. Acknowledgements first: without them the shorter time-out is not wanted.
    if set_us(&socket, TCP_DELACK_MAX_US, DELACK_MAX).is_ok() {
        let _ = set_us(&socket, TCP_RTO_MIN_US, RTO_MIN);
    }
    Ok(())
}

/// Connects a tuned socket.
pub(crate) fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    tune(&socket)?;
    socket.connect_timeout(&address.into(), limit)?;
    Ok(socket.into())
}

fn set_us(socket: &SockRef<'_>, option: libc::c_int, value: Duration) -> io::Result<()> {
    let value = libc::c_int::try_from(value.as_micros()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` lives, and the pointer is to `length` readable bytes.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockFilter;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    /// A connection that was tuned before it was one, as `dial` and `Acceptor` do.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        tune(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        let near = connect(address, Duration::from_secs(20)).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// How long a byte takes to arrive whose first segment the receiver's kernel throws away.
    fn delay_of_a_lost_segment(near: &mut TcpStream, far: &mut TcpStream) -> Duration {
        let drop_all = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        SockRef::from(&*far).attach_filter(&[drop_all]).unwrap();
        let start = Instant::now();
        near.write_all(b"x").unwrap();
        SockRef::from(&*far).detach_filter().unwrap();
        far.read_exact(&mut [0]).unwrap();
        start.elapsed()
    }

    #[test]
    fn a_lost_segment_is_sent_again_soon() {
        let (mut near, mut far) = pair();
        // Asked of another socket, not to do the work of what is tested.
        let (other, _) = pair();
        let socket = SockRef::from(&other);
        if set_us(&socket, TCP_DELACK_MAX_US, DELACK_MAX)
            .and(set_us(&socket, TCP_RTO_MIN_US, RTO_MIN))
            .is_err()
        {
            println!("not checked: this kernel (before Linux 6.15, or below 250 Hz) has no such options");
            return;
        }
        far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let delays: Vec<_> = (0..20).map(|_| delay_of_a_lost_segment(&mut near, &mut far)).collect();
        // Less than the time-out: it was not lost, the filter was too late. A busy machine may add to some.
        let mut late: Vec<_> = delays.iter().filter(|delay| **delay > Duration::from_millis(5)).collect();
        late.sort_unstable();
        let middle = *late.get(late.len() / 2).expect("some of twenty segments must be lost");
        assert!(*middle < Duration::from_millis(150), "untuned it would be 200 ms and more: {delays:?}");
    }

    #[test]
    fn dead_peers_are_given_up_at_either_end() {
        let (near, far) = pair();
        for socket in [SockRef::from(&near), SockRef::from(&far)] {
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        }
    }
}
