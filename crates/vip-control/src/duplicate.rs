//! Finds out who else has a VIP. It asks once and then only listens, so that it costs no time on the way to service:
//! a VIP is enabled first and checked while it is in use (in place of the second that RFC 5227 and RFC 4862 would
//! wait).

use crate::controller::{cannot_look_up, neighbourhood, not_sent};
use crate::error::VipError;
use crate::filters;
use crate::frames;
use crate::netlink::{ListedLink, Message, Request, RouteSocket};
use crate::socket::{AnyReadable, Socket};
use domain::{InterfaceName, MacAddress, VipAddress};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

/// Packets read from each socket in one call.
const MOST_PACKETS: usize = 256;
/// Longer than any neighbour advertisement that matters; the rest of a longer one is not read.
const LONGEST_PACKET: usize = 2_048;

/// Another station says that it has a VIP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// The VIP.
    pub vip: VipAddress,
    /// Our interface on which it was heard.
    pub interface: InterfaceName,
    /// The other station.
    pub mac: MacAddress,
}

/// Asks and listens for other holders of VIPs. Never waits; its descriptor is readable while packets wait that may be
/// answers.
///
/// It hears every answer to the question, and as long as the VIP is checked also every gratuitous announcement of
/// another holder. The kernel passes on only those packets, not the other traffic.
#[derive(Debug)]
pub struct DuplicateCheck {
    readable: AnyReadable,
    arp: Socket,
    neighbours: Socket,
    /// Tells which stations are ourselves.
    route: RouteSocket,
    checked: BTreeMap<IpAddr, (VipAddress, InterfaceName)>,
}

impl DuplicateCheck {
    /// Opens the sockets; checks nothing yet.
    ///
    /// # Errors
    /// [`VipError::NoPermission`] without `CAP_NET_RAW`.
    pub fn open() -> Result<Self, VipError> {
        let cannot = |e| VipError::refused("open a packet socket", "CAP_NET_RAW", e);
        let (arp, neighbours) = (Socket::packet().map_err(cannot)?, Socket::packet().map_err(cannot)?);
        arp.listen(libc::ETH_P_ARP as u16, &filters::ARP_CLAIMS).map_err(cannot)?;
        neighbours.listen(libc::ETH_P_IPV6 as u16, &filters::NEIGHBOUR_ADVERTISEMENTS).map_err(cannot)?;
        let readable = AnyReadable::of(&[&arp, &neighbours]).map_err(cannot)?;
        let route = RouteSocket::open().map_err(|e| VipError::kernel("open a netlink socket", e))?;
        Ok(Self { readable, arp, neighbours, route, checked: BTreeMap::new() })
    }

    /// Asks on the interface who has the VIP, and listens until [`stop`](Self::stop). May be called again to ask
    /// again. The question changes nobody's ARP table or neighbour cache. Where there are no neighbours, nobody is
    /// asked.
    ///
    /// # Errors
    /// [`VipError::NoInterface`], [`VipError::InterfaceDown`], [`VipError::NotEthernet`],
    /// [`VipError::NotSent`]. It listens in spite of them.
    pub fn start(&mut self, vip: &VipAddress, on: &InterfaceName) -> Result<(), VipError> {
        self.checked.insert(vip.address, (*vip, on.clone()));
        let Some(mac) = neighbourhood(&self.arp, on)? else { return Ok(()) };
        let index = self
            .arp
            .interface_index(on)
            .map_err(cannot_look_up)?
            .ok_or_else(|| VipError::NoInterface { interface: on.clone() })?;
        let sent = match vip.address {
            IpAddr::V4(address) => {
                let probe = frames::arp_probe(address, mac);
                self.arp.send_frame(index, libc::ETH_P_ARP as u16, frames::BROADCAST, &probe)
            }
            IpAddr::V6(address) => {
                let (to, probe) = frames::neighbour_probe(address);
                self.neighbours.send_frame(index, libc::ETH_P_IPV6 as u16, to, &probe)
            }
        };
        sent.map_err(|e| not_sent("a duplicate address probe", vip, on, e))
    }

    /// Listens for the VIP no more.
    pub fn stop(&mut self, vip: &VipAddress) {
        self.checked.remove(&vip.address);
    }

    /// Who was heard since the last call, in order; the same station may be there twice. This host's own interfaces
    /// do not count: one of them may answer for another on the same network.
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn answers(&mut self) -> Result<Vec<Duplicate>, VipError> {
        let mut found = Vec::new();
        let mut packet = [0; LONGEST_PACKET];
        for socket in [&self.arp, &self.neighbours] {
            for _ in 0..MOST_PACKETS {
                let (received, index, sender) = match socket.receive_frame(&mut packet) {
                    Ok(frame) => frame,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // Too long; or the interface went down, which says nothing about answers.
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EMSGSIZE | libc::ENETDOWN)) => continue,
                    Err(e) => return Err(VipError::kernel("read answers to a duplicate address probe", e)),
                };
                let packet = &packet[..received];
                let Some((address, mac)) = frames::claim(packet, sender) else { continue };
                let Some((vip, interface)) = self.checked.get(&address) else { continue };
                if self.arp.interface_index(interface).map_err(cannot_look_up)? == Some(index) {
                    found.push(Duplicate { vip: *vip, interface: interface.clone(), mac });
                }
            }
        }
        if !found.is_empty() {
            let own = self.own_macs()?;
            found.retain(|duplicate| !own.contains(&duplicate.mac));
        }
        Ok(found)
    }

    fn own_macs(&mut self) -> Result<Vec<MacAddress>, VipError> {
        let mut own = Vec::new();
        let read = |message: Message<'_>| ListedLink::read(message)?.mac();
        self.route
            .list(&Request::list_links(0), &mut own, read)
            .map_err(|e| VipError::kernel("list interfaces", e))?;
        Ok(own)
    }
}

impl AsRawFd for DuplicateCheck {
    fn as_raw_fd(&self) -> RawFd {
        self.readable.as_raw_fd()
    }
}
