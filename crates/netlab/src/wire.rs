//! A packet socket on an interface, and the frames that are sent and heard there: questions that a host answers by its
//! kernel alone, and whom an answer speaks for. For what a prober, which asks one server, cannot see.

use crate::types::Mac;
use domain::Micros;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::time::ClockId;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Ports that nobody listens on: the kernel answers from them at once, and in order.
const NOBODY: u16 = 9;
/// `SIOCGSTAMPNS` (asm-generic/sockios.h): when the frame that was read last was sent or received.
const TIME_OF_LAST: libc::Ioctl = 0x8907;

/// Room in the kernel for frames not yet read, bytes.
const WAITING_ROOM: usize = 32 << 20;

/// What is asked, and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ARP, or neighbour discovery.
    Neighbour,
    /// ICMP echo.
    Echo,
    /// A UDP datagram, answered by "port unreachable".
    Udp,
    /// A TCP SYN, answered by RST.
    Tcp,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 4] = [Kind::Neighbour, Kind::Echo, Kind::Udp, Kind::Tcp];

    /// All of them as a set.
    #[must_use]
    pub fn all() -> BTreeSet<Kind> {
        Kind::ALL.into()
    }
}

/// Who asks, or is asked: the addresses of an interface.
#[derive(Debug, Clone, Copy)]
pub struct Party {
    /// Its hardware address.
    pub mac: Mac,
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

/// A frame that was seen.
#[derive(Debug)]
pub struct Seen {
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
    /// Whether this host sends it.
    pub is_outgoing: bool,
    /// When the kernel saw it, on CLOCK_BOOTTIME.
    pub at: Micros,
}

/// A packet socket on one interface of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// CLOCK_REALTIME, in which the kernel stamps frames, less CLOCK_BOOTTIME.
    ahead: Duration,
}

impl Wire {
    /// Opens one; from now on frames are seen.
    ///
    /// # Errors
    /// There is no such interface, or no permission (CAP_NET_RAW, CAP_NET_ADMIN).
    pub fn open(interface: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        setsockopt(&socket, sockopt::RcvBufForce, &WAITING_ROOM)?;
        // SAFETY: all zeros is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
        let (pointer, length) = ((&raw const address).cast(), size_of_val(&address) as libc::socklen_t);
        // SAFETY: the pointer comes with the length of what it points to.
        Errno::result(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })?;
        let ahead = realtime_ahead()?;
        let wire = Self { socket, ahead };
        wire.time_of_last(); // the first question makes the kernel stamp frames
        Ok(wire)
    }

    /// Sends a frame; one that the kernel drops is sent, too.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: pointer and length describe `frame`.
        unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    }

    /// The next frame, if one comes in time.
    pub fn next(&self, within: Duration) -> Option<Seen> {
        let end = Instant::now() + within;
        loop {
            if let Some(seen) = self.receive() {
                return Some(seen);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let mut entry = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, as said. Rounded up, so that it waits at all.
            unsafe { libc::poll(&raw mut entry, 1, left.as_millis() as i32 + 1) };
        }
    }

    /// All that has been seen already; forgotten where nobody takes it.
    pub fn seen(&self) -> Vec<Seen> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    fn receive(&self) -> Option<Seen> {
        let mut frame = vec![0; 2_048];
        // SAFETY: all zeros is a valid `sockaddr_ll`.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&from) as libc::socklen_t;
        // SAFETY: both pointers come with the length of what they point to.
        let received = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        frame.truncate(usize::try_from(received).ok()?);
        let is_outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
        Some(Seen { frame, is_outgoing, at: self.time_of_last() })
    }

    fn time_of_last(&self) -> Micros {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel writes one `timespec` there.
        unsafe { libc::ioctl(self.socket.as_raw_fd(), TIME_OF_LAST, &raw mut time) };
        let since_1970 = Duration::new(time.tv_sec.max(0).unsigned_abs(), time.tv_nsec as u32);
        Micros::default() + since_1970.saturating_sub(self.ahead)
    }
}

/// How far CLOCK_REALTIME is ahead of CLOCK_BOOTTIME: the best of some readings, since this process may lose the processor
/// between two of them.
fn realtime_ahead() -> io::Result<Duration> {
    let mut best = (Duration::MAX, Duration::ZERO);
    for _ in 0..20 {
        let before = Duration::from(ClockId::CLOCK_BOOTTIME.now()?);
        let realtime = Duration::from(ClockId::CLOCK_REALTIME.now()?);
        let took = Duration::from(ClockId::CLOCK_BOOTTIME.now()?).saturating_sub(before);
        best = best.min((took, realtime.saturating_sub(before)));
    }
    Ok(best.1)
}

/// A question of one party for an address, in a frame to `mac`.
#[must_use]
pub fn question(kind: Kind, asker: &Party, mac: Mac, address: IpAddr) -> Vec<u8> {
    match (address, kind) {
        (IpAddr::V4(address), Kind::Neighbour) => {
            let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
            packet.extend(asker.mac.0);
            packet.extend(asker.v4.octets());
            packet.extend([0; 6]);
            packet.extend(address.octets());
            ethernet(asker.mac, Mac([0xff; 6]), 0x0806, &packet)
        }
        (IpAddr::V6(address), Kind::Neighbour) => {
            let [.., a, b, c] = address.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
            message.extend(address.octets());
            message.extend([1, 1]);
            message.extend(asker.mac.0);
            ipv6(asker, Mac([0x33, 0x33, 0xff, a, b, c]), group, 58, message)
        }
        (address, Kind::Echo) => {
            let (echo, protocol) = if address.is_ipv4() { (8, 1) } else { (128, 58) };
            packet(asker, mac, address, protocol, vec![echo, 0, 0, 0, 0, 1, 0, 1])
        }
        (address, Kind::Udp) => datagram(asker, mac, address, NOBODY),
        (address, Kind::Tcp) => {
            let [from, to] = [33_000, NOBODY].map(u16::to_be_bytes);
            let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]; // a SYN
            packet(asker, mac, address, 6, [&from, &to, rest.as_slice()].concat())
        }
    }
}

/// An empty UDP datagram.
#[must_use]
pub fn datagram(from: &Party, mac: Mac, to: IpAddr, port: u16) -> Vec<u8> {
    let [source, destination] = [33_000, port].map(u16::to_be_bytes);
    packet(from, mac, to, 17, [source, destination, [0, 8], [0, 0]].concat())
}

/// What a frame says, and for whom it speaks; none for a frame that is no answer.
#[must_use]
pub fn answer(frame: &[u8]) -> Option<(Kind, IpAddr)> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let byte = |at: usize| frame.get(at).copied();
    match (byte(12)?, byte(13)?) {
        (8, 6) => (byte(21)? == 2).then_some((Kind::Neighbour, v4(28)?)),
        (8, 0) => match (byte(23)?, byte(34)?) {
            (1, 0) => Some((Kind::Echo, v4(26)?)),
            (1, 3) => Some((Kind::Udp, v4(26)?)),
            (6, _) => Some((Kind::Tcp, v4(26)?)),
            _ => None,
        },
        (0x86, 0xdd) => match (byte(20)?, byte(54)?) {
            (58, 136) => Some((Kind::Neighbour, v6(62)?)),
            (58, 129) => Some((Kind::Echo, v6(22)?)),
            (58, 1) => Some((Kind::Udp, v6(22)?)),
            (6, _) => Some((Kind::Tcp, v6(22)?)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a frame speaks for an address in any way: as the sender, or about it.
#[must_use]
pub fn speaks_for(frame: &[u8], address: IpAddr) -> bool {
    let has = |at: usize| match address {
        IpAddr::V4(address) => frame.get(at..at + 4) == Some(&address.octets()),
        IpAddr::V6(address) => frame.get(at..at + 16) == Some(&address.octets()),
    };
    match (frame.get(12..14), address) {
        (Some([8, 6]), IpAddr::V4(_)) => has(28),
        (Some([8, 0]), IpAddr::V4(_)) => has(26),
        (Some([0x86, 0xdd]), IpAddr::V6(_)) => has(22) || frame.get(54) == Some(&136) && has(62),
        _ => false,
    }
}

/// A packet whose message has its checksum still to be filled in.
fn packet(from: &Party, mac: Mac, to: IpAddr, protocol: u8, message: Vec<u8>) -> Vec<u8> {
    match to {
        IpAddr::V4(to) => ipv4(from, mac, to, protocol, message),
        IpAddr::V6(to) => ipv6(from, mac, to, protocol, message),
    }
}

fn ipv4(from: &Party, mac: Mac, to: Ipv4Addr, protocol: u8, mut message: Vec<u8>) -> Vec<u8> {
    let length = (20 + message.len() as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(from.v4.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    let pseudo = [&header[12..20], &[0, protocol], &(message.len() as u16).to_be_bytes()].concat();
    // ICMP's checksum is without the addresses, unlike ICMPv6's.
    fill_in(&mut message, protocol, if protocol == 1 { &[] } else { &pseudo });
    header.extend(message);
    ethernet(from.mac, mac, 0x0800, &header)
}

fn ipv6(from: &Party, mac: Mac, to: Ipv6Addr, protocol: u8, mut message: Vec<u8>) -> Vec<u8> {
    let length = (message.len() as u16).to_be_bytes();
    let addresses = [from.v6.octets(), to.octets()].concat();
    let pseudo = [&addresses[..], &[0, 0], &length, &[0, 0, 0, protocol]].concat();
    fill_in(&mut message, protocol, &pseudo);
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 255];
    packet.extend(addresses);
    packet.extend(message);
    ethernet(from.mac, mac, 0x86dd, &packet)
}

fn fill_in(message: &mut [u8], protocol: u8, pseudo: &[u8]) {
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => 2,
    };
    let sum = checksum(&[pseudo, message].concat());
    message[at..at + 2].copy_from_slice(&sum);
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn ethernet(from: Mac, to: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0, &from.0, &ether_type.to_be_bytes()[..], payload].concat()
}
