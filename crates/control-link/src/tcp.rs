//! Options of the TCP sockets below the links.

use socket2::{SockRef, TcpKeepalive};
use std::io;
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
/// How much longer than the round trip the kernel waits before it sends a lost segment again; 200 ms unless set.
const RTO_MIN: Duration = Duration::from_millis(10);
/// How long an acknowledgement is held back, 40 ms unless set: below [`RTO_MIN`], or the peer would send again what
/// was not lost.
const DELACK_MAX: Duration = Duration::from_millis(4);

/// Sets what every link needs: no delay for small messages, an end for dead peers, and, where the kernel can (Linux
/// 6.15), a lost segment sent again after 10 ms instead of 200 ms.
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
    // Older kernels answer ENOPROTOOPT and keep their 200 ms and 40 ms, with which everything works, only slower after
    // a loss. The acknowledgements first: without them the shorter time-out is not wanted.
    if set_us(&socket, TCP_DELACK_MAX_US, DELACK_MAX).is_ok() {
        let _ = set_us(&socket, TCP_RTO_MIN_US, RTO_MIN);
    }
    Ok(())
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
