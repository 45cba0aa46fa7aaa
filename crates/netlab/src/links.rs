//! The netlink messages of the laboratory: bridges and their ports, addresses, neighbours, and the filters that drop
//! frames on a port. Which port belongs to whom is `lab`'s business.

use crate::netlink::{Attributes, Netlink, Request, u32_at};
use crate::types::{Address, Mac};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

// Attribute types that `libc` does not have; include/uapi/linux/{if_link,veth,pkt_cls,neighbour}.h.
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const VETH_INFO_PEER: u16 = 1;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
/// Handles of the `clsact` queueing discipline and of its two hooks (`TC_H_CLSACT`, `TC_H_MIN_INGRESS`, `.._EGRESS`).
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_CLSACT_INGRESS: u32 = 0xffff_fff2;
const TC_CLSACT_EGRESS: u32 = 0xffff_fff3;
/// `BR_STATE_FORWARDING`.
const FORWARDING: u8 = 3;

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// One end of a virtual cable that is to be made.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// Makes a bridge that forwards at once and to everybody: no spanning tree, no delay, no multicast snooping (which would
/// drop neighbour solicitations until it has learnt of the groups).
pub(crate) fn create_bridge(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let request = Request::new(libc::RTM_NEWLINK, CREATE, &link_header(0, 0, 0))
        .with_text(libc::IFLA_IFNAME, name)
        .nest(libc::IFLA_LINKINFO, |info| {
            info.with_text(libc::IFLA_INFO_KIND, "bridge").nest(libc::IFLA_INFO_DATA, |data| {
                data.with(IFLA_BR_FORWARD_DELAY, &0_u32.to_ne_bytes())
                    .with(IFLA_BR_STP_STATE, &0_u32.to_ne_bytes())
                    .with(IFLA_BR_MCAST_SNOOPING, &[0])
            })
        });
    netlink.order(request)?;
    let index = link_index(netlink, name)?;
    set_up(netlink, index, true)?;
    Ok(index)
}

/// Makes a virtual cable: `port` here and on the bridge, `far` in the other namespace. Both ends are down. Answers the
/// index of `port`.
pub(crate) fn create_cable(
    netlink: &mut Netlink,
    bridge: u32,
    port: &str,
    far: &End<'_>,
    far_namespace: BorrowedFd<'_>,
) -> io::Result<u32> {
    let request = Request::new(libc::RTM_NEWLINK, CREATE, &link_header(0, 0, 0))
        .with_text(libc::IFLA_IFNAME, port)
        .with(libc::IFLA_MASTER, &bridge.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, |info| {
            info.with_text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(0, 0, 0))
                        .with_text(libc::IFLA_IFNAME, far.name)
                        .with(libc::IFLA_ADDRESS, &far.mac.0)
                        .with(libc::IFLA_NET_NS_FD, &far_namespace.as_raw_fd().to_ne_bytes())
                })
            })
        });
    netlink.order(request)?;
    link_index(netlink, port)
}

/// Index of a link; `ENODEV` where there is none of that name.
pub(crate) fn link_index(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let request =
        Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)).with_text(libc::IFLA_IFNAME, name);
    let mut index = None;
    netlink.ask(request, |_, link| index = u32_at(link, 4))?;
    index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Sets a link administratively up or down; setting what is set changes nothing.
pub(crate) fn set_up(netlink: &mut Netlink, index: u32, up: bool) -> io::Result<()> {
    let mask = libc::IFF_UP.cast_unsigned();
    netlink.order(Request::new(libc::RTM_NEWLINK, 0, &link_header(index, if up { mask } else { 0 }, mask)))
}

/// Whether the bridge port passes frames on.
pub(crate) fn forwards(netlink: &mut Netlink, port: u32) -> io::Result<bool> {
    let mut forwards = false;
    netlink.ask(Request::new(libc::RTM_GETLINK, 0, &link_header(port, 0, 0)), |_, link| {
        let state = inside(link.get(16..).unwrap_or_default(), libc::IFLA_LINKINFO)
            .and_then(|info| inside(info, IFLA_INFO_SLAVE_DATA))
            .and_then(|data| inside(data, IFLA_BRPORT_STATE));
        forwards = state == Some(&[FORWARDING]);
    })?;
    Ok(forwards)
}

/// Adds an address, usable at once (`IFA_F_NODAD`).
pub(crate) fn add_address(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let header = address_header(family_of(address), prefix, index);
    let mut request =
        Request::new(libc::RTM_NEWADDR, CREATE, &header).with(libc::IFA_LOCAL, &octets(address));
    request = match address {
        IpAddr::V4(v4) => request
            .with(libc::IFA_ADDRESS, &v4.octets())
            .with(libc::IFA_BROADCAST, &broadcast(v4, prefix).octets()),
        IpAddr::V6(v6) => request
            .with(libc::IFA_ADDRESS, &v6.octets())
            .with(libc::IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes()),
    };
    netlink.order(request)
}

/// All addresses but those of the loopback interface, in the kernel's order.
pub(crate) fn addresses(netlink: &mut Netlink) -> io::Result<Vec<Address>> {
    let mut names = Vec::new();
    netlink.dump(Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0)), |_, link| {
        let name = inside(link.get(16..).unwrap_or_default(), libc::IFLA_IFNAME).map(text);
        if let (Some(index), Some(name)) = (u32_at(link, 4), name) {
            names.push((index, name));
        }
    })?;
    let mut found = Vec::new();
    netlink.dump(Request::new(libc::RTM_GETADDR, 0, &address_header(0, 0, 0)), |_, content| {
        let Some((header, attributes)) = content.split_at_checked(8) else { return };
        let name = names.iter().find(|(index, _)| Some(*index) == u32_at(header, 4)).map(|(_, name)| name);
        // IPv4 has the own address in IFA_LOCAL (IFA_ADDRESS is the far end of a point-to-point link); IPv6 in
        // IFA_ADDRESS alone.
        let own = inside(attributes, libc::IFA_LOCAL).or_else(|| inside(attributes, libc::IFA_ADDRESS));
        if let (Some(interface), Some(address)) = (name, own.and_then(address_from))
            && !address.is_loopback()
        {
            found.push(Address { interface: interface.clone(), address, prefix: header[1] });
        }
    })?;
    Ok(found)
}

/// The hardware address that the neighbour table has for `address`, whatever the state of the entry.
pub(crate) fn neighbour(netlink: &mut Netlink, address: IpAddr) -> io::Result<Option<Mac>> {
    const HEADER: usize = 12; // struct ndmsg
    let mut header = [0; HEADER];
    header[0] = family_of(address);
    let mut found = None;
    netlink.dump(Request::new(libc::RTM_GETNEIGH, 0, &header), |_, entry| {
        let attributes = entry.get(HEADER..).unwrap_or_default();
        if inside(attributes, libc::NDA_DST).and_then(address_from) == Some(address) {
            found =
                inside(attributes, libc::NDA_LLADDR).and_then(|mac| mac.try_into().ok()).map(Mac).or(found);
        }
    })?;
    Ok(found)
}

/// Which way through a switch port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// From the host into the switch.
    Ingress,
    /// From the switch to the host.
    Egress,
}

/// What a port's filter drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Drop<'a> {
    /// Every frame.
    All,
    /// Frames from these senders.
    From(&'a [Mac]),
}

/// Gives a port the two places for filters (`clsact`).
pub(crate) fn add_filter_hooks(netlink: &mut Netlink, port: u32) -> io::Result<()> {
    // The handle of clsact is its major number alone: TC_H_MAKE(TC_H_CLSACT, 0).
    let header = traffic_header(port, 0xffff_0000, TC_H_CLSACT, 0);
    netlink.order(Request::new(libc::RTM_NEWQDISC, CREATE, &header).with_text(libc::TCA_KIND, "clsact"))
}

/// Sets or replaces the filter at a port: a classic BPF program whose result is the action, so that dropping needs neither
/// a tool nor a further kernel module.
pub(crate) fn set_filter(netlink: &mut Netlink, port: u32, hook: Hook, what: &Drop<'_>) -> io::Result<()> {
    let parent = match hook {
        Hook::Ingress => TC_CLSACT_INGRESS,
        Hook::Egress => TC_CLSACT_EGRESS,
    };
    let every_protocol = u32::from(u16::try_from(libc::ETH_P_ALL).expect("an ethertype has 16 bits").to_be());
    let program = program(what);
    let length = u16::try_from(program.len() / 8).expect("a program has at most 4,096 instructions");
    let header = traffic_header(port, 1, parent, 1 << 16 | every_protocol);
    let request = Request::new(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, &header)
        .with_text(libc::TCA_KIND, "bpf")
        .nest(libc::TCA_OPTIONS, |options| {
            options
                .with(TCA_BPF_OPS_LEN, &length.to_ne_bytes())
                .with(TCA_BPF_OPS, &program)
                .with(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
        });
    netlink.order(request)
}

/// The classic BPF program, `struct sock_filter` after `struct sock_filter`. It sees the frame from the Ethernet header
/// on: bytes 6 to 11 are the sender.
fn program(what: &Drop<'_>) -> Vec<u8> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const TC_ACT_OK: u32 = 0;
    const TC_ACT_SHOT: u32 = 2;
    let mut code = Vec::new();
    let mut emit = |operation: u16, when_not: u8, value: u32| {
        code.extend_from_slice(&operation.to_ne_bytes());
        code.extend_from_slice(&[0, when_not]);
        code.extend_from_slice(&value.to_ne_bytes());
    };
    match what {
        Drop::All => emit(RETURN, 0, TC_ACT_SHOT),
        Drop::From(senders) => {
            for Mac([a, b, c, d, e, f]) in *senders {
                emit(LOAD_WORD, 0, 6);
                emit(JUMP_EQUAL, 3, u32::from_be_bytes([*a, *b, *c, *d]));
                emit(LOAD_HALF, 0, 10);
                emit(JUMP_EQUAL, 1, u32::from(u16::from_be_bytes([*e, *f])));
                emit(RETURN, 0, TC_ACT_SHOT);
            }
            emit(RETURN, 0, TC_ACT_OK);
        }
    }
    code
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`, scope global.
fn address_header(family: u8, prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, 0, 0, a, b, c, d]
}

/// `struct tcmsg`.
fn traffic_header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (place, number) in header[4..].chunks_exact_mut(4).zip([index, handle, parent, info]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    header
}

fn inside(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn family_of(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).expect("an address family has 8 bits")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host_part = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() | host_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_five_instructions_per_sender_and_one_to_pass() {
        assert_eq!(program(&Drop::All).len(), 8);
        assert_eq!(program(&Drop::From(&[])).len(), 8);
        assert_eq!(program(&Drop::From(&[Mac([2; 6]), Mac([4; 6])])).len(), 11 * 8);
    }

    #[test]
    fn broadcast_addresses_follow_from_the_prefix() {
        for (prefix, wanted) in
            [(24, "192.0.2.255"), (30, "192.0.2.11"), (32, "192.0.2.9"), (0, "255.255.255.255")]
        {
            assert_eq!(broadcast(Ipv4Addr::new(192, 0, 2, 9), prefix).to_string(), wanted);
        }
    }
}
