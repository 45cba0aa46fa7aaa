//! Addresses that expire: the kernel removes them unless they are refreshed, and leaves everything else as it was.

use super::lab::{drain, in_lab, index, sip0, sysctl, wait_for};
use super::{V4, V6, add_by_hand, on_sip0, open, set, vip};
use crate::netlink::{ListedAddress, Message, Request, RouteSocket, attributes};
use crate::{Changed, Monitor, NetEvent, Refreshed, Validity};
use domain::VipAddress;
use std::net::{IpAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;

fn seconds(seconds: u32) -> Validity {
    Validity::Seconds(NonZeroU32::new(seconds).unwrap())
}

/// The preferred and the valid life time that the kernel still gives an address, seconds.
fn left(address: IpAddr) -> (u32, u32) {
    let read = |message: Message<'_>| {
        ListedAddress::read(message).filter(|listed| listed.address == address)?;
        let cache = attributes(&message.payload[8..]).find(|(kind, _)| *kind == libc::IFA_CACHEINFO)?.1;
        let at = |at: usize| u32::from_ne_bytes(cache[at..at + 4].try_into().unwrap());
        Some((at(0), at(4)))
    };
    let mut found = Vec::new();
    let of_sip0 = Request::list_addresses(libc::AF_UNSPEC, index(&sip0()));
    RouteSocket::open().unwrap().list(&of_sip0, &mut found, read).unwrap();
    assert_eq!(found.len(), 1, "{address} is there once");
    found[0]
}

/// Waits until these addresses of `sip0` are gone, in whatever order; what the monitor told until then.
fn wait_until_gone(monitor: &mut Monitor, gone: &[VipAddress]) -> Vec<NetEvent> {
    let removed =
        |VipAddress { address, prefix }| NetEvent::AddressRemoved { interface: sip0(), address, prefix };
    let mut told = Vec::new();
    wait_for("the end of the addresses", &monitor.as_raw_fd(), || {
        told.extend(drain(monitor));
        gone.iter().all(|gone| told.contains(&removed(*gone))).then_some(())
    });
    told
}

/// Whether a neighbour can be reached without a router.
fn is_on_link(neighbour: &str) -> bool {
    let wildcard = if neighbour.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    UdpSocket::bind(wildcard).unwrap().connect(neighbour).is_ok() // sends nothing; looks for a route
}

#[test]
fn an_address_expires_unless_it_is_refreshed() {
    in_lab("validity::an_address_expires_unless_it_is_refreshed", |_| {
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        let (refreshed4, refreshed6) = (vip("192.0.2.11/24"), vip("2001:db8::11/64"));
        for (vip, limit) in [(vip(V4), 2), (vip(V6), 2), (refreshed4, 30), (refreshed6, 30)] {
            assert_eq!(controller.enable(&vip, &sip0(), seconds(limit)).unwrap(), Changed::Now);
            let (preferred, valid) = left(vip.address);
            assert!(valid <= limit, "{vip} is valid for {valid} s");
            assert_eq!(preferred, if vip.address.is_ipv4() { valid } else { 0 });
        }
        for vip in [refreshed4, refreshed6] {
            assert_eq!(controller.refresh(&vip, &sip0(), seconds(60)).unwrap(), Refreshed::Now);
            let (_, valid) = left(vip.address);
            assert!((40..=60).contains(&valid), "{vip} is valid for {valid} s");
        }
        let told = wait_until_gone(&mut monitor, &[vip(V4), vip(V6)]);
        assert!(!told.contains(&NetEvent::Overrun));
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.11/24", "2001:db8::11/64"]));
    });
}

#[test]
fn what_is_gone_is_not_refreshed() {
    in_lab("validity::what_is_gone_is_not_refreshed", |_| {
        let mut controller = open();
        for vip in [vip(V4), vip(V6)] {
            assert_eq!(controller.refresh(&vip, &sip0(), seconds(10)).unwrap(), Refreshed::Gone);
            controller.enable(&vip, &sip0(), seconds(10)).unwrap();
            controller.disable(&vip, &sip0()).unwrap();
            assert_eq!(controller.refresh(&vip, &sip0(), seconds(10)).unwrap(), Refreshed::Gone);
        }
        assert_eq!(on_sip0(&mut controller), set([]));
        // Another tool's alias of the same address has its own prefix length, and is not ours to limit.
        add_by_hand("192.0.2.10/32", &sip0(), libc::IFA_F_NODAD);
        assert_eq!(controller.refresh(&vip(V4), &sip0(), seconds(10)).unwrap(), Refreshed::Gone);
        assert_eq!(left(vip(V4).address).1, u32::MAX);
        let nowhere = domain::InterfaceName::new("nowhere0").unwrap();
        assert_eq!(controller.refresh(&vip(V4), &nowhere, seconds(10)).unwrap(), Refreshed::Gone);
    });
}

#[test]
fn an_address_is_valid_for_as_long_as_was_said_last() {
    in_lab("validity::an_address_is_valid_for_as_long_as_was_said_last", |_| {
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        for vip in [vip(V4), vip(V6)] {
            let permanence = |monitor: &mut Monitor| {
                let told = drain(monitor);
                let permanent = told.iter().rev().find_map(|event| match event {
                    NetEvent::AddressAdded { permanent, .. } => Some(*permanent),
                    _ => None,
                });
                permanent.expect("a change is told")
            };
            controller.enable(&vip, &sip0(), Validity::Permanent).unwrap();
            assert_eq!(left(vip.address).1, u32::MAX);
            assert!(permanence(&mut monitor));
            controller.bound(&vip, &sip0(), seconds(10)).unwrap();
            assert!(left(vip.address).1 <= 10);
            assert!(!permanence(&mut monitor));
            assert_eq!(controller.bound(&vip, &sip0(), seconds(60)).unwrap(), Changed::Already);
            assert!((40..=60).contains(&left(vip.address).1));
            assert_eq!(controller.enable(&vip, &sip0(), Validity::Permanent).unwrap(), Changed::Already);
            assert_eq!(left(vip.address).1, u32::MAX);
        }
    });
}

#[test]
fn an_expired_address_takes_no_other_along() {
    in_lab("validity::an_expired_address_takes_no_other_along", |_| {
        for conf in ["all", "sip0"] {
            sysctl(&format!("ipv4/conf/{conf}/promote_secondaries"), "0");
        }
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        // The VIP comes first and so carries the subnet.
        controller.enable(&vip(V4), &sip0(), seconds(2)).unwrap();
        add_by_hand("192.0.2.2/24", &sip0(), libc::IFA_F_NODAD);
        wait_until_gone(&mut monitor, &[vip(V4)]);
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.2/24"]));
        assert!(is_on_link("192.0.2.99:5060"));
    });
}

#[test]
fn the_hosts_own_prefix_outlives_an_expired_address() {
    in_lab("validity::the_hosts_own_prefix_outlives_an_expired_address", |_| {
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        for (own, known_before) in [("2001:db8::2/64", true), ("2001:db8:1::2/64", false)] {
            let prefix = own.trim_end_matches("2/64");
            let (added, adopted) = (vip(&format!("{prefix}10/64")), vip(&format!("{prefix}11/64")));
            if known_before {
                add_by_hand(own, &sip0(), libc::IFA_F_NODAD);
            }
            controller.enable(&added, &sip0(), seconds(2)).unwrap();
            // One that another tool, or an earlier release, put there for ever.
            controller.enable(&adopted, &sip0(), Validity::Permanent).unwrap();
            controller.bound(&adopted, &sip0(), seconds(2)).unwrap();
            assert!(is_on_link(&format!("[{prefix}99]:5060")), "also with VIPs alone");
            if !known_before {
                add_by_hand(own, &sip0(), libc::IFA_F_NODAD);
            }
            wait_until_gone(&mut monitor, &[added]);
            if controller.present(&adopted, &sip0()).unwrap() {
                wait_until_gone(&mut monitor, &[adopted]);
            }
            assert!(is_on_link(&format!("[{prefix}99]:5060")), "{own} is still there");
        }
    });
}

#[test]
fn a_prefix_with_an_end_of_its_own_keeps_it() {
    in_lab("validity::a_prefix_with_an_end_of_its_own_keeps_it", |_| {
        // What a router's advertisement leads to (RFC 4862): the route to the prefix has the address's end.
        let VipAddress { address, .. } = vip("2001:db8::2/64");
        let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
        let mut request = Request::new(libc::RTM_NEWADDR, flags);
        request.push(&[libc::AF_INET6 as u8, 64, libc::IFA_F_NODAD as u8, 0]);
        request.push(&index(&sip0()).to_ne_bytes());
        let IpAddr::V6(own) = address else { unreachable!("it is IPv6") };
        request.attribute(libc::IFA_LOCAL, &own.octets());
        let hour = 3_600_u32.to_ne_bytes();
        request.attribute(libc::IFA_CACHEINFO, &[hour, hour, [0; 4], [0; 4]].concat());
        RouteSocket::open().unwrap().order(request).unwrap();
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        controller.enable(&vip(V6), &sip0(), seconds(2)).unwrap();
        assert_eq!(controller.refresh(&vip(V6), &sip0(), seconds(2)).unwrap(), Refreshed::Now);
        wait_until_gone(&mut monitor, &[vip(V6)]);
        assert!(is_on_link("[2001:db8::99]:5060"));
    });
}
