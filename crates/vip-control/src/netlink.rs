//! Route netlink (rtnetlink(7)) as far as this crate needs it: requests built in place, answers read in place,
//! nothing allocated on the way. Small enough not to need a general library; what the messages mean is for the
//! callers.

use crate::socket::Socket;
use crate::validity::Validity;
use domain::MacAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Room for the longest request of this crate.
const LONGEST_REQUEST: usize = 256;
/// The kernel cuts dumps into datagrams of at most this length when the reader offers as much.
pub(crate) const RECEIVE_BUFFER: usize = 32 * 1024;
/// Datagrams of one answer; a dump of 100,000 addresses has fewer.
const MOST_DATAGRAMS: usize = 4_096;
/// How often a dump is begun again because the list changed under it.
const DUMP_ATTEMPTS: usize = 8;

// `enum` values of linux/if_addr.h, linux/if_link.h and linux/ip.h that the libc crate lacks.
const IFA_RT_PRIORITY: u16 = 9;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_PROMOTE_SECONDARIES: u16 = 20;

/// Metric of the route to the prefix of an IPv6 address that expires. The kernel's own has 256, and the host's other
/// addresses of the prefix use that one: on the same route, it would be ours that sets their route's end.
const EXPIRING_PREFIX_METRIC: u32 = 512;
/// No IPv6 address has such a prefix length, so the kernel adds none.
const NO_PREFIX: u8 = u8::MAX;

/// A socket for requests: each is answered before the call returns, because the kernel works on a request while it is
/// sent.
#[derive(Debug)]
pub(crate) struct RouteSocket {
    socket: Socket,
    buffer: Box<[u8]>,
    sequence: u32,
}

impl RouteSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::route(0)?;
        // Lets the kernel pick the addresses of one interface; where it cannot (before 4.20), the readers below do.
        let _ = socket.set(libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &1_i32);
        // Keeps the request out of an answer that is an error.
        let _ = socket.set(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1_i32);
        Ok(Self { socket, buffer: vec![0; RECEIVE_BUFFER].into_boxed_slice(), sequence: 0 })
    }

    /// The socket, for what else it can be asked about interfaces.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Has the kernel do what `request` says.
    pub(crate) fn order(&mut self, request: Request) -> io::Result<()> {
        self.exchange(request, &mut |_| ()).map(drop)
    }

    /// Fills `out` with what `read` makes of the answer to `request`. A list that changed while it was read is read
    /// again.
    pub(crate) fn list<T>(
        &mut self,
        request: &Request,
        out: &mut Vec<T>,
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            out.clear();
            if self.exchange(request.clone(), &mut |message| out.extend(read(message)))? == Answer::Whole {
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the list did not stop changing while it was read"))
    }

    fn exchange(&mut self, mut request: Request, each: &mut dyn FnMut(Message<'_>)) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to_kernel(request.finish(self.sequence))?;
        let mut answer = Answer::Whole;
        for _ in 0..MOST_DATAGRAMS {
            let received = self.socket.receive_from_kernel(&mut self.buffer)?;
            for message in messages(&self.buffer[..received]) {
                if message.sequence != self.sequence {
                    continue; // rest of an answer that was given up
                }
                if message.flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                    answer = Answer::Interrupted;
                }
                match i32::from(message.kind) {
                    // Both begin with a negative error number, or zero.
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match message.payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
                            Some(0) | None => Ok(answer),
                            Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                        };
                    }
                    _ => each(message),
                }
            }
        }
        Err(io::Error::other("the answer does not end"))
    }
}

/// Whether an answer can be relied on.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Whole,
    /// The list changed while it was read (`NLM_F_DUMP_INTR`).
    Interrupted,
}

/// A request under construction.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    bytes: [u8; LONGEST_REQUEST],
    length: usize,
}

impl Request {
    /// Adds an IPv4 or IPv6 address to an interface; `EEXIST` where it is there.
    pub(crate) fn add_address(index: u32, address: IpAddr, prefix: u8, valid: Validity) -> Self {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
        let mut request = Self::about_address(libc::RTM_NEWADDR, flags, index, address, prefix);
        request.address_attributes(address);
        if address.is_ipv6() {
            request.attribute(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
        }
        request.life_time(address, valid);
        request
    }

    /// Sets how long an address that is there is valid from now on; `EINVAL` (or, in a kernel without multicast,
    /// `EOPNOTSUPP`) where it is not there.
    ///
    /// `RTM_NEWADDR` would add what is not there, whatever its flags (`inet_rtm_newaddr()` in the kernel's
    /// `net/ipv4/devinet.c`, `inet6_rtm_newaddr()` in `net/ipv6/addrconf.c`). So the request asks for something that
    /// is looked at only where an address is new, and is impossible then: joining a group that is none (IPv4), or a
    /// prefix longer than an address (IPv6).
    pub(crate) fn refresh_address(index: u32, address: IpAddr, prefix: u8, valid: Validity) -> Self {
        let flags = libc::NLM_F_REPLACE | libc::NLM_F_ACK;
        let (prefix, address_flags) = match address {
            IpAddr::V4(_) => (prefix, libc::IFA_F_MCAUTOJOIN),
            IpAddr::V6(_) => (NO_PREFIX, libc::IFA_F_NODAD),
        };
        let mut request = Self::about_address(libc::RTM_NEWADDR, flags, index, address, prefix);
        request.address_attributes(address);
        request.attribute(libc::IFA_FLAGS, &address_flags.to_ne_bytes());
        request.life_time(address, valid);
        request
    }

    /// Removes an address as it was listed; `EADDRNOTAVAIL` where it is gone.
    pub(crate) fn remove_address(listed: &ListedAddress) -> Self {
        let mut request = Self::about_address(
            libc::RTM_DELADDR,
            libc::NLM_F_ACK,
            listed.index,
            listed.address,
            listed.prefix,
        );
        request.address_attribute(libc::IFA_LOCAL, listed.address);
        request.address_attribute(libc::IFA_ADDRESS, listed.network);
        request
    }

    /// Lists the addresses of one interface (0: of all) and one family (`AF_*`).
    pub(crate) fn list_addresses(family: i32, index: u32) -> Self {
        let mut request = Self::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.push(&[family as u8, 0, 0, 0]);
        request.push(&index.to_ne_bytes());
        request
    }

    /// Lists one interface (0: all).
    pub(crate) fn list_links(index: u32) -> Self {
        let flags = if index == 0 { libc::NLM_F_DUMP } else { libc::NLM_F_ACK };
        let mut request = Self::about_link(libc::RTM_GETLINK, flags, index);
        request.attribute(libc::IFLA_EXT_MASK, &libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        request
    }

    /// Sets `net.ipv4.conf.INTERFACE.promote_secondaries`, by the road that needs no writable `/proc/sys`.
    pub(crate) fn promote_secondaries(index: u32) -> Self {
        let mut request = Self::about_link(libc::RTM_SETLINK, libc::NLM_F_ACK, index);
        request.nested(libc::IFLA_AF_SPEC, |request| {
            request.nested(libc::AF_INET as u16, |request| {
                request.nested(IFLA_INET_CONF, |request| {
                    request.attribute(IPV4_DEVCONF_PROMOTE_SECONDARIES, &1_u32.to_ne_bytes());
                });
            });
        });
        request
    }

    fn about_address(kind: u16, flags: i32, index: u32, address: IpAddr, prefix: u8) -> Self {
        let mut request = Self::new(kind, flags);
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        request.push(&[family as u8, prefix, 0, 0]); // no flags; scope global
        request.push(&index.to_ne_bytes());
        request
    }

    /// A request with a `struct ifinfomsg` that names an interface.
    pub(crate) fn about_link(kind: u16, flags: i32, index: u32) -> Self {
        let mut request = Self::new(kind, flags);
        let mut header = [0; LINK_HEADER];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        request.push(&header);
        request
    }

    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        let mut request = Self { bytes: [0; LONGEST_REQUEST], length: HEADER };
        request.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        request.bytes[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        request
    }

    /// Appends bytes and pads to a multiple of four.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += aligned(bytes.len());
    }

    pub(crate) fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.attribute_header(kind, payload.len());
        self.push(payload);
    }

    fn address_attribute(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    fn address_attributes(&mut self, address: IpAddr) {
        self.address_attribute(libc::IFA_LOCAL, address);
        self.address_attribute(libc::IFA_ADDRESS, address);
    }

    /// How long the address is valid. An IPv6 one is preferred for 0 s; an IPv4 one for as long as it is valid, since
    /// the kernel does not look at that when it chooses a source, and would only tell its end as one more event.
    fn life_time(&mut self, address: IpAddr, valid: Validity) {
        let preferred = if address.is_ipv4() { valid.seconds() } else { 0 };
        // struct ifa_cacheinfo; the two time stamps are not read.
        let mut life_time = [0; 16];
        life_time[..4].copy_from_slice(&preferred.to_ne_bytes());
        life_time[4..8].copy_from_slice(&valid.seconds().to_ne_bytes());
        self.attribute(libc::IFA_CACHEINFO, &life_time);
        if address.is_ipv6() && valid != Validity::Permanent {
            self.attribute(IFA_RT_PRIORITY, &EXPIRING_PREFIX_METRIC.to_ne_bytes());
        }
    }

    /// An attribute that holds what `fill` appends.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.length;
        self.attribute_header(kind | libc::NLA_F_NESTED as u16, 0);
        fill(self);
        let length = (self.length - start) as u16; // at most LONGEST_REQUEST
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn attribute_header(&mut self, kind: u16, payload: usize) {
        let length = (ATTRIBUTE_HEADER + payload) as u16; // at most LONGEST_REQUEST
        let ([a, b], [c, d]) = (length.to_ne_bytes(), kind.to_ne_bytes());
        self.push(&[a, b, c, d]);
    }

    /// The request as it is sent.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        self.bytes[..4].copy_from_slice(&(self.length as u32).to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes[..self.length]
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages in a datagram. Ends at the first that does not fit.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = datagram.first_chunk()?;
        let length = u32_at(header, 0)? as usize;
        let message = Message {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            payload: datagram.get(HEADER..length)?,
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`. Ends at the first that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let payload = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// An address as the kernel lists it (`RTM_NEWADDR`, `RTM_DELADDR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedAddress {
    /// The interface.
    pub(crate) index: u32,
    /// The host's own address.
    pub(crate) address: IpAddr,
    /// Where the prefix is taken from: the same address, or the other end's on a point-to-point link.
    pub(crate) network: IpAddr,
    /// Prefix length.
    pub(crate) prefix: u8,
    /// `IFA_F_*`.
    pub(crate) flags: u32,
}

impl ListedAddress {
    /// Reads a message about an address; none for any other message.
    pub(crate) fn read(message: Message<'_>) -> Option<Self> {
        if !matches!(message.kind, libc::RTM_NEWADDR | libc::RTM_DELADDR) {
            return None;
        }
        let (header, rest) = message.payload.split_first_chunk::<ADDRESS_HEADER>()?;
        let [_family, prefix, flags, _scope, ..] = *header;
        let (mut local, mut network, mut flags) = (None, None, u32::from(flags));
        for (kind, payload) in attributes(rest) {
            match kind {
                libc::IFA_LOCAL => local = ip_address(payload),
                libc::IFA_ADDRESS => network = ip_address(payload),
                libc::IFA_FLAGS => flags = u32_at(payload, 0)?,
                _ => (),
            }
        }
        let network = network.or(local)?;
        Some(Self { index: u32_at(header, 4)?, address: local.unwrap_or(network), network, prefix, flags })
    }

    /// Whether the host answers for it: not where duplicate address detection has failed (RFC 4862, section 5.4.5).
    pub(crate) fn answers(&self) -> bool {
        self.flags & libc::IFA_F_DADFAILED == 0
    }

    /// Whether it stays until somebody removes it.
    pub(crate) fn is_permanent(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0
    }

    /// Whether it can be sent from: duplicate address detection is over, and has not failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.flags & (libc::IFA_F_DADFAILED | libc::IFA_F_TENTATIVE) == 0
    }

    /// The address, where it is IPv4 and `other` is in its subnet.
    pub(crate) fn in_subnet_of(&self, other: Ipv4Addr) -> Option<Ipv4Addr> {
        let (IpAddr::V4(own), IpAddr::V4(network)) = (self.address, self.network) else { return None };
        ((network.to_bits() ^ other.to_bits()) & self.mask() == 0).then_some(own)
    }

    /// Whether `other` is in its subnet, of either family.
    pub(crate) fn shares_subnet_with(&self, other: IpAddr) -> bool {
        match (self.network, other) {
            (IpAddr::V4(_), IpAddr::V4(other)) => self.in_subnet_of(other).is_some(),
            (IpAddr::V6(network), IpAddr::V6(other)) => {
                let beyond = 128 - u32::from(self.prefix.min(128));
                ((network.to_bits() ^ other.to_bits()).checked_shr(beyond)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The address, where it is an IPv6 link-local one.
    pub(crate) fn link_local(&self) -> Option<Ipv6Addr> {
        match self.address {
            IpAddr::V6(own) => own.is_unicast_link_local().then_some(own),
            IpAddr::V4(_) => None,
        }
    }

    /// The IPv4 network mask.
    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    /// Whether `other` would be removed together with this one unless it were promoted: IPv4 addresses of a subnet
    /// hang on the first of them (`inet_del_ifa()` in the kernel's `net/ipv4/devinet.c`).
    pub(crate) fn carries(&self, other: &ListedAddress) -> bool {
        let (IpAddr::V4(mine), IpAddr::V4(others)) = (self.network, other.network) else {
            return false;
        };
        self.flags & libc::IFA_F_SECONDARY == 0
            && other.flags & libc::IFA_F_SECONDARY != 0
            && self.index == other.index
            && self.prefix == other.prefix
            && (mine.to_bits() ^ others.to_bits()) & self.mask() == 0
    }
}

/// An interface as the kernel lists it (`RTM_NEWLINK`, `RTM_DELLINK`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListedLink<'a> {
    /// The interface.
    pub(crate) index: u32,
    /// Its name, where the message holds one.
    pub(crate) name: Option<&'a str>,
    /// Its link-layer address, of whatever kind.
    address: &'a [u8],
    /// `IFF_*`.
    flags: u32,
}

impl<'a> ListedLink<'a> {
    /// Reads a message about an interface; none for any other message, and for what a bridge says of its ports
    /// (`AF_BRIDGE`; there `RTM_DELLINK` only means that the interface left the bridge).
    pub(crate) fn read(message: Message<'a>) -> Option<Self> {
        if !matches!(message.kind, libc::RTM_NEWLINK | libc::RTM_DELLINK) {
            return None;
        }
        let (header, rest) = message.payload.split_first_chunk::<LINK_HEADER>()?;
        if i32::from(header[0]) != libc::AF_UNSPEC {
            return None;
        }
        let (mut name, mut address) = (None, &[][..]);
        for (kind, payload) in attributes(rest) {
            match kind {
                libc::IFLA_IFNAME => name = payload.strip_suffix(&[0]).and_then(|n| str::from_utf8(n).ok()),
                libc::IFLA_ADDRESS => address = payload,
                _ => (),
            }
        }
        Some(Self { index: u32_at(header, 4)?, name, address, flags: u32_at(header, 8)? })
    }

    /// Its Ethernet address; none where it has none, or another kind of address.
    pub(crate) fn mac(&self) -> Option<MacAddress> {
        let mac = MacAddress(self.address.try_into().ok()?);
        (mac != MacAddress([0; 6])).then_some(mac)
    }

    /// Set up by an administrator.
    pub(crate) fn is_set_up(&self) -> bool {
        self.flags & libc::IFF_UP.cast_unsigned() != 0
    }

    /// Set up, and with carrier.
    pub(crate) fn is_up(&self) -> bool {
        let both = (libc::IFF_UP | libc::IFF_LOWER_UP).cast_unsigned();
        self.flags & both == both
    }
}

fn ip_address(payload: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(payload).ok().map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(payload).ok().map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(v6)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// `NLMSG_ALIGN` and `NLA_ALIGN`: up to the next multiple of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(request: &mut Request) -> Vec<ListedAddress> {
        messages(request.finish(1)).filter_map(ListedAddress::read).collect()
    }

    #[test]
    fn what_is_written_can_be_read() {
        for (text, flags) in [("192.0.2.10", 0), ("2001:db8::10", libc::IFA_F_NODAD)] {
            let address = text.parse().unwrap();
            let expected = ListedAddress { index: 7, address, network: address, prefix: 24, flags };
            assert_eq!(listed(&mut Request::add_address(7, address, 24, Validity::Permanent)), [expected]);
        }
    }

    #[test]
    fn an_address_carries_those_that_the_kernel_would_remove_with_it() {
        let at = |text: &str, prefix, flags| {
            let address: IpAddr = text.parse().unwrap();
            ListedAddress { index: 7, address, network: address, prefix, flags }
        };
        let first = at("192.0.2.10", 24, 0);
        let second = |text, prefix| at(text, prefix, libc::IFA_F_SECONDARY);
        assert!(first.carries(&second("192.0.2.1", 24)));
        assert!(!first.carries(&second("192.0.3.1", 24)), "another subnet");
        assert!(!first.carries(&second("192.0.2.1", 25)), "another mask");
        assert!(!first.carries(&at("192.0.2.1", 24, 0)), "no secondary");
        assert!(!first.carries(&ListedAddress { index: 8, ..second("192.0.2.1", 24) }), "another interface");
        assert!(!second("192.0.2.10", 24).carries(&second("192.0.2.1", 24)), "itself a secondary");
        assert!(
            !at("2001:db8::1", 64, 0).carries(&at("2001:db8::2", 64, libc::IFA_F_SECONDARY)),
            "IPv6 has none"
        );
    }

    #[test]
    fn the_rest_of_an_answer_that_was_given_up_is_passed_over() {
        let mut route = RouteSocket::open().unwrap();
        let nowhere = i32::MAX.cast_unsigned();
        route.socket.send_to_kernel(Request::list_links(nowhere).finish(0)).unwrap(); // answered by ENODEV
        let mut names = Vec::new();
        let name = |message: Message<'_>| ListedLink::read(message)?.name.map(str::to_owned);
        route.list(&Request::list_links(0), &mut names, name).unwrap();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");
    }

    #[test]
    fn no_bytes_panic_or_go_on_for_ever() {
        let mut request = Request::add_address(7, "2001:db8::10".parse().unwrap(), 64, Validity::Permanent);
        let whole = request.finish(1).to_vec();
        for end in 0..=whole.len() {
            assert!(messages(&whole[..end]).count() <= 1);
            attributes(&whole[..end]).for_each(drop);
        }
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut broken = whole.clone();
                broken[at] = byte;
                for message in messages(&broken) {
                    let _ =
                        (ListedAddress::read(message), ListedLink::read(message).map(|link| link.is_up()));
                }
            }
        }
    }
}
