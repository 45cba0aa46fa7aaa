//! Tells what changed at this host's interfaces, addresses and filters, whoever changed it: another tool's `ip addr del` is
//! seen within microseconds. What it means is for the caller to decide.

use crate::error::VipError;
use crate::gate;
use crate::netlink::{ListedAddress, ListedLink, Message, RECEIVE_BUFFER, Request, RouteSocket, messages};
use crate::socket::Socket;
use domain::{InterfaceName, InterfaceReport};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

/// Datagrams read in one call.
const MOST_DATAGRAMS: usize = 256;
/// Room in the kernel for notices not yet read, bytes: some thousands. Without `CAP_NET_ADMIN` the kernel gives less.
const WAITING_ROOM: i32 = 4 << 20;

/// Something that happened on this host. Kernels repeat themselves: the same event may come twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// The host answers for an address: it was added, or something about it changed, if only how long it is valid.
    AddressAdded {
        /// Where.
        interface: InterfaceName,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// It does not expire.
        permanent: bool,
    },
    /// An address was removed, has expired, or duplicate address detection switched it off. Where it was there with another
    /// prefix length too, the host goes on answering: [`VipController::present`](crate::VipController::present) tells.
    AddressRemoved {
        /// Where.
        interface: InterfaceName,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
    /// State of an interface; down where it was removed.
    Link(InterfaceReport),
    /// Filters on the way in or out of an interface came, went or were replaced, by whomever:
    /// [`Gate::check`](crate::gate::Gate::check) tells whether the gate suffered.
    FiltersChanged {
        /// Where.
        interface: InterfaceName,
    },
    /// Events were lost: read everything anew with [`VipController`](crate::VipController).
    Overrun,
}

/// Whether [`Monitor::events`] took all there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing waits.
    All,
    /// There is more: matters to a caller whose poll tells only changes (`EPOLLET`).
    MoreWaits,
}

/// Watches the interfaces, their filters and addresses of the network namespace in which it was opened. Never waits; its
/// descriptor is readable while events wait.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Box<[u8]>,
    /// Names by index, as last heard: an interface that is gone cannot be asked for its name.
    names: BTreeMap<u32, InterfaceName>,
}

impl Monitor {
    /// Begins to watch: every change after this call is told.
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn open() -> Result<Self, VipError> {
        let groups =
            libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_TC;
        let cannot = |e| VipError::kernel("watch interfaces and addresses", e);
        let socket = Socket::route(groups.cast_unsigned()).map_err(cannot)?;
        if socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &WAITING_ROOM).is_err() {
            socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &WAITING_ROOM).map_err(cannot)?;
        }
        // Names are read after watching has begun, so that none is missed in between.
        let mut links = Vec::new();
        RouteSocket::open()
            .and_then(|mut route| {
                route.list(&Request::list_links(0), &mut links, |message| {
                    let link = ListedLink::read(message)?;
                    Some((link.index, InterfaceName::new(link.name?).ok()?))
                })
            })
            .map_err(cannot)?;
        let buffer = vec![0; RECEIVE_BUFFER].into_boxed_slice();
        Ok(Self { socket, buffer, names: links.into_iter().collect() })
    }

    /// Appends what happened since the last call, in order.
    ///
    /// # Errors
    /// [`VipError::Kernel`]. Lost events are not an error but [`NetEvent::Overrun`].
    pub fn events(&mut self, out: &mut Vec<NetEvent>) -> Result<Drained, VipError> {
        for _ in 0..MOST_DATAGRAMS {
            match self.socket.receive_from_kernel(&mut self.buffer) {
                Ok(received) => {
                    for message in messages(&self.buffer[..received]) {
                        out.extend(event(&self.socket, &mut self.names, message));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Drained::All),
                // The kernel had no room for a notice, or we had none.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::EMSGSIZE)) => {
                    out.push(NetEvent::Overrun);
                }
                Err(e) => return Err(VipError::kernel("read what changed", e)),
            }
        }
        Ok(Drained::MoreWaits)
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn event(
    socket: &Socket,
    names: &mut BTreeMap<u32, InterfaceName>,
    message: Message<'_>,
) -> Option<NetEvent> {
    if let Some(listed) = ListedAddress::read(message) {
        let interface = match names.get(&listed.index) {
            Some(name) => name.clone(),
            // Its notice was lost. Where it is gone by now, nobody asks for its addresses either.
            None => socket.interface_name(listed.index).ok()??,
        };
        let (address, prefix) = (listed.address, listed.prefix);
        return Some(if message.kind == libc::RTM_NEWADDR && listed.answers() {
            NetEvent::AddressAdded { interface, address, prefix, permanent: listed.is_permanent() }
        } else {
            NetEvent::AddressRemoved { interface, address, prefix }
        });
    }
    if let Some(index) = gate::filters::changed_on(message) {
        // Not known: filters that go with their interface.
        return names.get(&index).map(|interface| NetEvent::FiltersChanged { interface: interface.clone() });
    }
    let link = ListedLink::read(message)?;
    let interface = InterfaceName::new(link.name?).ok()?;
    if message.kind == libc::RTM_DELLINK {
        names.remove(&link.index);
        return Some(NetEvent::Link(InterfaceReport { interface, up: false, mac: None }));
    }
    names.insert(link.index, interface.clone());
    Some(NetEvent::Link(InterfaceReport { interface, up: link.is_up(), mac: link.mac() }))
}
