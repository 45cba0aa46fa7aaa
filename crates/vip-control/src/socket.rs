//! The few system calls that this crate makes, and all of its `unsafe` but for the gate's: netlink and packet sockets
//! that never wait, and what an `ioctl` tells about an interface. What is said over the sockets is for `netlink` and
//! `frames`.

use domain::{InterfaceName, MacAddress};
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A socket address that is a plain C structure, valid whatever its bytes are.
///
/// # Safety
/// The type must be `repr(C)`, without padding that matters and without invalid bit patterns.
unsafe trait Address {}
// SAFETY: C structures of integers and arrays of integers.
unsafe impl Address for libc::sockaddr_nl {}
// SAFETY: as above.
unsafe impl Address for libc::sockaddr_ll {}

/// A non-blocking datagram socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// A route netlink socket that receives the multicast groups in `groups` (a mask of `RTMGRP_*`).
    pub(crate) fn route(groups: u32) -> io::Result<Self> {
        let socket = Self::new(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: all zeros is a valid `sockaddr_nl`.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = family(libc::AF_NETLINK);
        address.nl_groups = groups;
        socket.bind(&address)?;
        Ok(socket)
    }

    /// A packet socket that sends and receives what is behind the link-layer header. It receives nothing before
    /// [`Socket::listen`].
    pub(crate) fn packet() -> io::Result<Self> {
        Self::new(libc::AF_PACKET, libc::SOCK_DGRAM, 0)
    }

    fn new(family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe {
            libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol)
        })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn bind<A: Address>(&self, address: &A) -> io::Result<()> {
        // SAFETY: pointer and length describe `address`.
        let result = unsafe { libc::bind(self.as_raw_fd(), (&raw const *address).cast(), length::<A>()) };
        check(result).map(drop)
    }

    /// Makes a packet socket receive frames of `protocol` (`ETH_P_*`) that pass `filter`, on all interfaces.
    pub(crate) fn listen(&self, protocol: u16, filter: &[libc::sock_filter]) -> io::Result<()> {
        self.filter(filter)?;
        self.bind(&link_address(0, protocol, MacAddress([0; 6])))
    }

    /// Lets pass what passes `filter`, in place of the filter before.
    pub(crate) fn filter(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: filter.as_ptr().cast_mut(), // the kernel only reads it
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Sets a socket option to a plain C value.
    pub(crate) fn set<T: Copy>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        // SAFETY: pointer and length describe `value`; the kernel checks the length against the option.
        let result = unsafe {
            libc::setsockopt(self.as_raw_fd(), level, name, (&raw const *value).cast(), length::<T>())
        };
        check(result).map(drop)
    }

    /// Sends one netlink datagram to the kernel.
    pub(crate) fn send_to_kernel(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros is a valid `sockaddr_nl`; port 0 is the kernel.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = family(libc::AF_NETLINK);
        self.send_to(bytes, &address)
    }

    /// Sends one frame of `protocol` from interface `index` to `destination`; the kernel writes the link-layer
    /// header.
    pub(crate) fn send_frame(
        &self,
        index: u32,
        protocol: u16,
        destination: MacAddress,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.send_to(bytes, &link_address(index, protocol, destination))
    }

    fn send_to<A: Address>(&self, bytes: &[u8], address: &A) -> io::Result<()> {
        loop {
            // SAFETY: both pointers come with the length of what they point to.
            let sent = unsafe {
                libc::sendto(
                    self.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    0,
                    (&raw const *address).cast(),
                    length::<A>(),
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(_) => retry_if_interrupted()?,
            }
        }
    }

    /// Receives one netlink datagram that comes from the kernel and drops what other processes may have sent.
    /// Longer ones than `buffer` are an error (`EMSGSIZE`): their rest is lost.
    pub(crate) fn receive_from_kernel(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: all zeros is a valid `sockaddr_nl`.
        let mut from: libc::sockaddr_nl = unsafe { zeroed() };
        loop {
            let received = self.receive_from(buffer, &mut from)?;
            if from.nl_pid == 0 {
                return Ok(received);
            }
        }
    }

    /// Receives one frame: its length, the index of the interface it came in on, and the sender's link-layer address.
    pub(crate) fn receive_frame(&self, buffer: &mut [u8]) -> io::Result<(usize, u32, MacAddress)> {
        // SAFETY: all zeros is a valid `sockaddr_ll`.
        let mut from: libc::sockaddr_ll = unsafe { zeroed() };
        let received = self.receive_from(buffer, &mut from)?;
        let mut mac = MacAddress([0; 6]);
        mac.0.copy_from_slice(&from.sll_addr[..6]);
        Ok((received, from.sll_ifindex.cast_unsigned(), mac))
    }

    fn receive_from<A: Address>(&self, buffer: &mut [u8], from: &mut A) -> io::Result<usize> {
        loop {
            let mut from_length = length::<A>();
            // SAFETY: both pointers come with the length of what they point to; any bytes are a valid `A`.
            let received = unsafe {
                libc::recvfrom(
                    self.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC, // tells the datagram's own length
                    (&raw mut *from).cast(),
                    &raw mut from_length,
                )
            };
            match usize::try_from(received) {
                Ok(received) if received <= buffer.len() => return Ok(received),
                Ok(_) => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
                Err(_) => retry_if_interrupted()?,
            }
        }
    }

    /// The index of an interface; none where there is no such interface.
    pub(crate) fn interface_index(&self, name: &InterfaceName) -> io::Result<Option<u32>> {
        let mut request = request_for(name);
        if !self.ask_interface(libc::SIOCGIFINDEX, &mut request)? {
            return Ok(None);
        }
        // SAFETY: SIOCGIFINDEX fills in this member.
        Ok(Some(unsafe { request.ifr_ifru.ifru_ifindex }.cast_unsigned()))
    }

    /// The name of an interface; none where there is no such interface (or, never seen, its name is not UTF-8).
    pub(crate) fn interface_name(&self, index: u32) -> io::Result<Option<InterfaceName>> {
        // SAFETY: all zeros is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { zeroed() };
        request.ifr_ifru.ifru_ifindex = index.cast_signed();
        if !self.ask_interface(libc::SIOCGIFNAME, &mut request)? {
            return Ok(None);
        }
        let name = request.ifr_name.map(i8_to_u8);
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Ok(str::from_utf8(&name[..end]).ok().and_then(|name| InterfaceName::new(name).ok()))
    }

    /// The link type (`ARPHRD_*`) and link-layer address of an interface; none where there is no such interface.
    pub(crate) fn interface_hardware(&self, name: &InterfaceName) -> io::Result<Option<(u16, MacAddress)>> {
        let mut request = request_for(name);
        if !self.ask_interface(libc::SIOCGIFHWADDR, &mut request)? {
            return Ok(None);
        }
        // SAFETY: SIOCGIFHWADDR fills in this member.
        let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = MacAddress([0; 6]);
        for (to, from) in mac.0.iter_mut().zip(hardware.sa_data) {
            *to = i8_to_u8(from);
        }
        Ok(Some((hardware.sa_family, mac)))
    }

    /// The lower 16 flags (`IFF_*`) of an interface; none where there is no such interface.
    pub(crate) fn interface_flags(&self, name: &InterfaceName) -> io::Result<Option<i32>> {
        let mut request = request_for(name);
        if !self.ask_interface(libc::SIOCGIFFLAGS, &mut request)? {
            return Ok(None);
        }
        // SAFETY: SIOCGIFFLAGS fills in this member.
        Ok(Some(i32::from(unsafe { request.ifr_ifru.ifru_flags }.cast_unsigned())))
    }

    /// Whether there is such an interface; if so, `request` holds the answer.
    fn ask_interface(&self, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<bool> {
        // SAFETY: the SIOCGIF* requests read and write one `ifreq`.
        match check(unsafe { libc::ioctl(self.as_raw_fd(), what, &raw mut *request) }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// One descriptor that is readable when any of several sockets is.
#[derive(Debug)]
pub(crate) struct AnyReadable(OwnedFd);

impl AnyReadable {
    /// Watches `sockets`, which must live as long as the result is used.
    pub(crate) fn of(sockets: &[&Socket]) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        let any = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        for socket in sockets {
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
            // SAFETY: `event` is valid during the call.
            check(unsafe {
                libc::epoll_ctl(any.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
            })?;
        }
        Ok(any)
    }
}

impl AsRawFd for AnyReadable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn link_address(index: u32, protocol: u16, mac: MacAddress) -> libc::sockaddr_ll {
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = family(libc::AF_PACKET);
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac.0);
    address
}

fn request_for(name: &InterfaceName) -> libc::ifreq {
    // SAFETY: all zeros is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // A name has at most 15 bytes, so that the last of 16 stays zero.
    let room = size_of_val(&request.ifr_name) - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// `c_char` is `i8` or `u8` by architecture; the bits are the same.
fn i8_to_u8(byte: libc::c_char) -> u8 {
    byte as u8
}

fn family(family: i32) -> libc::sa_family_t {
    family as libc::sa_family_t // AF_NETLINK and AF_PACKET are 16 and 17
}

fn length<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t // C structures of a few bytes
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The error of the call before, unless a signal interrupted it.
fn retry_if_interrupted() -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
