//! Puts VIPs onto interfaces and removes them, tells what is there, and sends one set of announcements.

use crate::error::VipError;
use crate::frames;
use crate::netlink::{ListedAddress, ListedLink, Message, Request, RouteSocket};
use crate::socket::Socket;
use crate::validity::Validity;
use domain::{InterfaceName, InterfaceReport, MacAddress, VipAddress};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// How often an IPv6 address that the kernel will not use is replaced before giving up.
const REPAIRS: usize = 2;

/// Whether a call changed something: idempotence made visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was so already.
    Already,
    /// It was done now.
    Now,
}

/// Whether an address is valid for longer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// It is.
    Now,
    /// It is not there (not with the VIP's own prefix length), and was not put there.
    Gone,
}

/// Changes and reads the addresses of this host (of the network namespace in which it was opened). Interfaces are
/// looked up by name in every call: one that was removed and made again is found again.
#[derive(Debug)]
pub struct VipController {
    route: RouteSocket,
    /// For announcements; none until the first one where nothing else was asked for.
    packets: Option<Socket>,
    /// Kept between calls so that listing allocates nothing.
    listed: Vec<ListedAddress>,
    /// Interfaces, by their index then, that keep the other IPv4 addresses of a subnet when one of them expires.
    promoting: BTreeMap<InterfaceName, u32>,
}

impl VipController {
    /// Opens the two sockets that all calls use. Closing them again takes the kernel some 10 ms: keep the controller.
    ///
    /// # Errors
    /// [`VipError::NoPermission`] without `CAP_NET_RAW`. A missing `CAP_NET_ADMIN` shows in the first call
    /// that changes something.
    pub fn open() -> Result<Self, VipError> {
        let mut controller = Self::open_silent()?;
        controller.packets = Some(open_packet_socket()?);
        Ok(controller)
    }

    /// Opens only what is needed to remove and to look. It is the packet socket whose closing takes long
    /// (`synchronize_net()` in the kernel's `packet_release()`), and the end of a process closes it too.
    pub(crate) fn open_silent() -> Result<Self, VipError> {
        let route = RouteSocket::open().map_err(|e| VipError::kernel("open a netlink socket", e))?;
        Ok(Self { route, packets: None, listed: Vec::with_capacity(64), promoting: BTreeMap::new() })
    }

    /// Puts `vip` onto the interface, valid for as long as `valid` says, and announces it once, also where it was there
    /// already. The repeats of the announcement are for the caller (see [`Announcer`](crate::Announcer)). An IPv6 address
    /// whose duplicate address detection is running or has failed is replaced by one that is used at once.
    ///
    /// # Errors
    /// [`VipError`]. The address is there in spite of [`InterfaceDown`](VipError::InterfaceDown),
    /// [`NotEthernet`](VipError::NotEthernet) and [`NotSent`](VipError::NotSent): only the announcement failed.
    pub fn enable(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        valid: Validity,
    ) -> Result<Changed, VipError> {
        let index = self.index(on)?;
        let changed = self.add(vip, on, index, valid)?;
        let announced = self.announce(vip, on);
        self.spare_others(vip, on, index, valid)?;
        announced?;
        Ok(changed)
    }

    /// Sees to it that `vip` is on the interface and valid for as long as `valid` says, whoever put it there and for how
    /// long, without announcing it.
    ///
    /// # Errors
    /// [`VipError`].
    pub fn bound(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        valid: Validity,
    ) -> Result<Changed, VipError> {
        let index = self.index(on)?;
        let changed = self.add(vip, on, index, valid)?;
        self.spare_others(vip, on, index, valid)?;
        Ok(changed)
    }

    /// Has an address that [`VipController::enable`] or [`VipController::bound`] put there be valid for `valid` from now
    /// on: one request. Where it is gone, it stays so.
    ///
    /// # Errors
    /// [`VipError`].
    pub fn refresh(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        valid: Validity,
    ) -> Result<Refreshed, VipError> {
        let Some(index) = self.find(on)? else { return Ok(Refreshed::Gone) };
        match self.route.order(Request::refresh_address(index, vip.address, vip.prefix, valid)) {
            Ok(()) => Ok(Refreshed::Now),
            Err(e) => match e.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV) => Ok(Refreshed::Gone),
                _ => Err(VipError::kernel("refresh an address", e)),
            },
        }
    }

    /// Removes the VIP's address from the interface, with whatever prefix lengths it is there: a leftover of another
    /// tool answers all the same. No interface, no address: that counts as removed.
    ///
    /// Linux removes with the first IPv4 address of a subnet all others of that subnet, unless the interface has
    /// `promote_secondaries`. Where that would happen, it is switched on for the interface first, and stays on.
    /// Promoting costs the kernel time for each address that is left; who removes many without an own address of the
    /// host in their subnet begins with the last one added (500 VIPs: 40 ms in place of 700 ms).
    ///
    /// # Errors
    /// [`VipError::NoPermission`], [`VipError::Kernel`].
    pub fn disable(&mut self, vip: &VipAddress, on: &InterfaceName) -> Result<Changed, VipError> {
        let Some(index) = self.find(on)? else { return Ok(Changed::Already) };
        self.list(vip, index)?;
        let mut changed = Changed::Already;
        for listed in self.listed.iter().filter(|listed| listed.address == vip.address) {
            if self.listed.iter().any(|other| listed.carries(other)) {
                promote(&mut self.route, index)?;
            }
            match self.route.order(Request::remove_address(listed)) {
                Ok(()) => changed = Changed::Now,
                // Somebody else was faster, or the interface went away meanwhile.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => (),
                Err(e) => return Err(VipError::kernel("remove an address", e)),
            }
        }
        Ok(changed)
    }

    /// Whether this host answers for the VIP's address on the interface, with whatever prefix length and whoever put
    /// it there. An IPv6 address that duplicate address detection has switched off does not count.
    ///
    /// # Errors
    /// [`VipError::NoInterface`], [`VipError::Kernel`].
    pub fn present(&mut self, vip: &VipAddress, on: &InterfaceName) -> Result<bool, VipError> {
        let index = self.index(on)?;
        self.list(vip, index)?;
        Ok(self.listed.iter().any(|listed| listed.address == vip.address && listed.answers()))
    }

    /// All addresses that this host answers for, with their prefix lengths, loopback and link-local ones included.
    /// Allocates; not for the takeover path.
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn addresses(&mut self) -> Result<Vec<(InterfaceName, IpAddr, u8)>, VipError> {
        let everything = Request::list_addresses(libc::AF_UNSPEC, 0);
        self.route.list(&everything, &mut self.listed, ListedAddress::read).map_err(cannot_list)?;
        let mut found = Vec::with_capacity(self.listed.len());
        for listed in self.listed.iter().filter(|listed| listed.answers()) {
            let name = self.route.socket().interface_name(listed.index).map_err(cannot_look_up)?;
            // None: the interface went away while we looked, and the address with it.
            found.extend(name.map(|name| (name, listed.address, listed.prefix)));
        }
        Ok(found)
    }

    /// Whether the interface is up and has carrier.
    ///
    /// # Errors
    /// [`VipError::NoInterface`], [`VipError::Kernel`].
    pub fn link(&mut self, on: &InterfaceName) -> Result<InterfaceReport, VipError> {
        let index = self.index(on)?;
        let mut found = Vec::with_capacity(1);
        let read = |message: Message<'_>| ListedLink::read(message).map(|link| (link.is_up(), link.mac()));
        match self.route.list(&Request::list_links(index), &mut found, read) {
            Ok(()) => {
                let (up, mac) = found.first().copied().unwrap_or_default();
                Ok(InterfaceReport { interface: on.clone(), up, mac })
            }
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
                Err(VipError::NoInterface { interface: on.clone() })
            }
            Err(e) => Err(VipError::kernel("read the state of an interface", e)),
        }
    }

    /// Sends one set of announcements: gratuitous ARP as request and as reply, since there are hosts that heed only
    /// one of them, or an unsolicited neighbour advertisement. On an interface without neighbours (loopback,
    /// point-to-point) there is nobody to tell, and that is no error. Whether the VIP is there is not checked.
    ///
    /// # Errors
    /// [`VipError::NoInterface`], [`VipError::InterfaceDown`], [`VipError::NotEthernet`], [`VipError::NotSent`].
    pub fn announce(&mut self, vip: &VipAddress, on: &InterfaceName) -> Result<(), VipError> {
        let index = self.index(on)?;
        let Some(mac) = neighbourhood(self.route.socket(), on)? else { return Ok(()) };
        let packets = match &mut self.packets {
            Some(packets) => packets,
            none => none.insert(open_packet_socket()?),
        };
        let sent = match vip.address {
            IpAddr::V4(address) => {
                let request = frames::arp_announcement_request(address, mac);
                let reply = frames::arp_announcement_reply(address, mac);
                let arp = libc::ETH_P_ARP as u16;
                packets
                    .send_frame(index, arp, frames::BROADCAST, &request)
                    .and_then(|()| packets.send_frame(index, arp, frames::BROADCAST, &reply))
            }
            IpAddr::V6(address) => {
                let packet = frames::neighbour_advertisement(address, mac);
                packets.send_frame(index, libc::ETH_P_IPV6 as u16, frames::ALL_NODES, &packet)
            }
        };
        sent.map_err(|e| not_sent("an announcement", vip, on, e))
    }

    fn add(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        index: u32,
        valid: Validity,
    ) -> Result<Changed, VipError> {
        for _ in 0..REPAIRS {
            match self.route.order(Request::add_address(index, vip.address, vip.prefix, valid)) {
                Ok(()) => return Ok(Changed::Now),
                Err(e) => match e.raw_os_error() {
                    // For IPv4 this means: with this very prefix length.
                    Some(libc::EEXIST) => {
                        if vip.address.is_ipv6() && !self.usable(vip, on, index, valid)? {
                            self.disable(vip, on)?;
                            continue;
                        }
                        match self.refresh(vip, on, valid)? {
                            Refreshed::Now => return Ok(Changed::Already),
                            Refreshed::Gone => {} // just gone
                        }
                    }
                    Some(libc::ENODEV) => return Err(VipError::NoInterface { interface: on.clone() }),
                    Some(libc::EACCES) if vip.address.is_ipv6() => {
                        return Err(VipError::Ipv6Disabled { interface: on.clone() });
                    }
                    _ => return Err(VipError::kernel("add an address", e)),
                },
            }
        }
        let source = io::Error::from_raw_os_error(libc::EEXIST);
        Err(VipError::Kernel { doing: "replace an address that is not usable", source })
    }

    /// Whether an IPv6 address that exists is the one wanted, used at once, and may be made valid for `valid` as it is.
    fn usable(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        index: u32,
        valid: Validity,
    ) -> Result<bool, VipError> {
        self.list(vip, index)?;
        let Some(listed) = self.listed.iter().find(|listed| listed.address == vip.address) else {
            return Ok(false); // just gone
        };
        if listed.prefix != vip.prefix {
            return Err(VipError::OtherPrefix { vip: *vip, interface: on.clone(), found: listed.prefix });
        }
        // Where a permanent address is given an end, the kernel gives that end to the route of its prefix, though other
        // addresses use it (`modify_prefix_route()` in its `net/ipv6/addrconf.c`).
        Ok(listed.is_settled() && (valid == Validity::Permanent || !listed.is_permanent()))
    }

    /// What expires takes the other IPv4 addresses of its subnet along, as in [`VipController::disable`]; and nobody may be
    /// there to prevent it by then.
    fn spare_others(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        index: u32,
        valid: Validity,
    ) -> Result<(), VipError> {
        if vip.address.is_ipv6() || valid == Validity::Permanent || self.promoting.get(on) == Some(&index) {
            return Ok(());
        }
        promote(&mut self.route, index)?;
        self.promoting.insert(on.clone(), index);
        Ok(())
    }

    /// Fills `self.listed` with the addresses of the VIP's family on the interface.
    fn list(&mut self, vip: &VipAddress, index: u32) -> Result<(), VipError> {
        let family = if vip.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let of_interface = |message: Message<'_>| {
            ListedAddress::read(message).filter(|listed: &ListedAddress| listed.index == index)
        };
        match self.route.list(&Request::list_addresses(family, index), &mut self.listed, of_interface) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
                self.listed.clear(); // no interface, no address
                Ok(())
            }
            other => other.map_err(cannot_list),
        }
    }

    fn index(&self, on: &InterfaceName) -> Result<u32, VipError> {
        self.find(on)?.ok_or_else(|| VipError::NoInterface { interface: on.clone() })
    }

    fn find(&self, on: &InterfaceName) -> Result<Option<u32>, VipError> {
        self.route.socket().interface_index(on).map_err(cannot_look_up)
    }
}

fn promote(route: &mut RouteSocket, index: u32) -> Result<(), VipError> {
    route
        .order(Request::promote_secondaries(index))
        .map_err(|e| VipError::kernel("keep the other addresses of the subnet", e))
}

fn open_packet_socket() -> Result<Socket, VipError> {
    Socket::packet().map_err(|e| VipError::refused("open a packet socket", "CAP_NET_RAW", e))
}

/// The interface's own Ethernet address; none where it has no neighbours to talk to.
pub(crate) fn neighbourhood(socket: &Socket, on: &InterfaceName) -> Result<Option<MacAddress>, VipError> {
    let no_interface = || VipError::NoInterface { interface: on.clone() };
    let flags = socket.interface_flags(on).map_err(cannot_look_up)?.ok_or_else(no_interface)?;
    if flags & (libc::IFF_LOOPBACK | libc::IFF_POINTOPOINT | libc::IFF_NOARP) != 0 {
        return Ok(None);
    }
    let (link_type, mac) = socket.interface_hardware(on).map_err(cannot_look_up)?.ok_or_else(no_interface)?;
    if link_type != libc::ARPHRD_ETHER {
        return Err(VipError::NotEthernet { interface: on.clone(), link_type });
    }
    Ok(Some(mac))
}

/// The error for a frame that the kernel did not take.
pub(crate) fn not_sent(
    what: &'static str,
    vip: &VipAddress,
    on: &InterfaceName,
    source: io::Error,
) -> VipError {
    match source.raw_os_error() {
        Some(libc::ENETDOWN) => VipError::InterfaceDown { interface: on.clone() },
        Some(libc::ENXIO | libc::ENODEV) => VipError::NoInterface { interface: on.clone() },
        _ => VipError::NotSent { what, vip: *vip, interface: on.clone(), source },
    }
}

pub(crate) fn cannot_look_up(source: io::Error) -> VipError {
    VipError::kernel("look up an interface", source)
}

fn cannot_list(source: io::Error) -> VipError {
    VipError::kernel("list addresses", source)
}
