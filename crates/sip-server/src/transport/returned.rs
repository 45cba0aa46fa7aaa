//! Datagrams that came back: the queue of errors of a UDP socket (`IP_RECVERR`, ip(7)), where the kernel puts what ICMP says of
//! datagrams that were sent.

use nix::errno::Errno;
use nix::libc::{self, sock_extended_err};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::Socket;
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::RawFd;

/// How much of a datagram is looked at: ICMP brings back the beginning, and what names a request is in its first lines.
const BEGINNING: usize = 1_024;
/// ICMP "destination unreachable": of network, host, protocol or port (RFC 792; RFC 4443, section 3.1). All others are of no
/// consequence for what is sent next (RFC 3261, section 18.4).
const UNREACHABLE: u8 = 3;
const UNREACHABLE_V6: u8 = 1;

/// Has the kernel queue errors of datagrams.
pub(super) fn ask_for(socket: &Socket, address: IpAddr) {
    // Best effort: without, whoever is not there is found out by silence.
    let _ = match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
}

/// Takes one error from the queue, and has `take` look at the beginning of its datagram if it says that nobody is there.
///
/// # Errors
/// `EAGAIN`: there is none.
pub(super) fn next(fd: RawFd, take: &mut impl FnMut(&[u8])) -> nix::Result<()> {
    let mut bytes = [0; BEGINNING];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!(sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let error = loop {
        match recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
            Ok(error) => break error,
        }
    };
    let unreachable = error.cmsgs()?.any(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(why, _) => {
            why.ee_origin == libc::SO_EE_ORIGIN_ICMP && why.ee_type == UNREACHABLE && is_final(why)
        }
        ControlMessageOwned::Ipv6RecvErr(why, _) => {
            why.ee_origin == libc::SO_EE_ORIGIN_ICMP6 && why.ee_type == UNREACHABLE_V6
        }
        _ => false,
    });
    let length = error.bytes;
    if unreachable {
        take(&bytes[..length]);
    }
    Ok(())
}

/// "Fragmentation needed" has the same type, and says nothing of whether anybody is there.
fn is_final(why: sock_extended_err) -> bool {
    why.ee_errno != Errno::EMSGSIZE as u32
}
