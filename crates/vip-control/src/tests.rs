//! The crate against the real kernel, in network namespaces of its own: what the kernel does is what counts.

mod gate;
mod inquiry;
mod lab;
mod validity;

use crate::netlink::{ListedAddress, Message, Request, RouteSocket, attributes, messages};
use crate::socket::Socket;
use crate::{
    Announcer, Changed, Drained, DuplicateCheck, MacAddress, Monitor, NetEvent, Validity, VipController,
    VipError,
};
use crate::{command, frames};
use domain::{InterfaceName, InterfaceReport, Micros, VipAddress, VipVerb};
use lab::{
    add_bridge, bring_home, drain, far0, in_lab, index, poll, remove, send_to_process, set_bridge, set_up,
    sip0, sysctl, wait_for,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

const V4: &str = "192.0.2.10/24";
const V6: &str = "2001:db8::10/64";

fn vip(text: &str) -> VipAddress {
    text.parse().unwrap()
}

fn open() -> VipController {
    VipController::open().unwrap()
}

/// What another tool does: `ip addr add`, with `IFA_F_*` of its own.
fn add_by_hand(address: &str, on: &InterfaceName, flags: u32) {
    let VipAddress { address, prefix } = vip(address);
    let mut request =
        Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK);
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    request.push(&[family as u8, prefix, flags as u8, 0]);
    request.push(&index(on).to_ne_bytes());
    match address {
        IpAddr::V4(address) => request.attribute(libc::IFA_LOCAL, &address.octets()),
        IpAddr::V6(address) => request.attribute(libc::IFA_LOCAL, &address.octets()),
    }
    RouteSocket::open().unwrap().order(request).unwrap();
}

/// The addresses of `sip0` but for link-local ones, as text.
fn on_sip0(controller: &mut VipController) -> BTreeSet<String> {
    let of_sip0 = |(name, address, prefix): (InterfaceName, IpAddr, u8)| {
        let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
        (name == sip0() && !link_local).then(|| format!("{address}/{prefix}"))
    };
    controller.addresses().unwrap().into_iter().filter_map(of_sip0).collect()
}

fn set<const N: usize>(addresses: [&str; N]) -> BTreeSet<String> {
    addresses.map(str::to_owned).into()
}

fn mac_of(interface: &InterfaceName) -> MacAddress {
    Socket::packet().unwrap().interface_hardware(interface).unwrap().unwrap().1
}

#[test]
fn enabling_and_disabling_twice_does_no_harm() {
    in_lab("enabling_and_disabling_twice_does_no_harm", |_| {
        let mut controller = open();
        for vip in [vip(V4), vip(V6)] {
            assert!(!controller.present(&vip, &sip0()).unwrap());
            assert_eq!(controller.disable(&vip, &sip0()).unwrap(), Changed::Already);
            assert_eq!(controller.enable(&vip, &sip0(), Validity::Permanent).unwrap(), Changed::Now);
            assert_eq!(controller.enable(&vip, &sip0(), Validity::Permanent).unwrap(), Changed::Already);
            assert!(controller.present(&vip, &sip0()).unwrap());
        }
        assert_eq!(on_sip0(&mut controller), set([V4, V6]));
        for vip in [vip(V4), vip(V6)] {
            assert_eq!(controller.disable(&vip, &sip0()).unwrap(), Changed::Now);
            assert_eq!(controller.disable(&vip, &sip0()).unwrap(), Changed::Already);
            assert!(!controller.present(&vip, &sip0()).unwrap());
        }
        assert_eq!(on_sip0(&mut controller), set([]));
    });
}

#[test]
fn the_kernel_does_not_choose_a_vip_as_a_source() {
    in_lab("the_kernel_does_not_choose_a_vip_as_a_source", |_| {
        let mut controller = open();
        controller.enable(&vip(V6), &sip0(), Validity::Permanent).unwrap();
        for address in ["192.0.2.2/24", "2001:db8::2/64"] {
            add_by_hand(address, &sip0(), libc::IFA_F_NODAD);
        }
        for later in [V4, "2001:db8::11/64"] {
            controller.enable(&vip(later), &sip0(), Validity::Permanent).unwrap();
        }
        for (from, to, expected) in
            [("0.0.0.0:0", "192.0.2.99:5060", "192.0.2.2"), ("[::]:0", "[2001:db8::99]:5060", "2001:db8::2")]
        {
            let socket = std::net::UdpSocket::bind(from).unwrap();
            socket.connect(to).unwrap(); // sends nothing; chooses the source
            assert_eq!(socket.local_addr().unwrap().ip().to_string(), expected);
        }
    });
}

#[test]
fn other_addresses_of_the_subnet_survive() {
    in_lab("other_addresses_of_the_subnet_survive", |_| {
        for conf in ["all", "sip0"] {
            sysctl(&format!("ipv4/conf/{conf}/promote_secondaries"), "0");
        }
        let mut controller = open();
        // The VIP comes first and so carries the subnet: removing it would take the two others along.
        controller.enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        add_by_hand("192.0.2.2/24", &sip0(), libc::IFA_F_NODAD);
        controller.enable(&vip("192.0.2.11/24"), &sip0(), Validity::Permanent).unwrap();
        add_by_hand("198.51.100.1/24", &sip0(), libc::IFA_F_NODAD);
        assert_eq!(controller.disable(&vip(V4), &sip0()).unwrap(), Changed::Now);
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.11/24", "192.0.2.2/24", "198.51.100.1/24"]));
        // The usual order: the host's own address carries the subnet.
        controller.disable(&vip("192.0.2.11/24"), &sip0()).unwrap();
        controller.enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        controller.disable(&vip(V4), &sip0()).unwrap();
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.2/24", "198.51.100.1/24"]));
    });
}

#[test]
fn prefix_lengths_of_others_are_seen_through() {
    in_lab("prefix_lengths_of_others_are_seen_through", |_| {
        let mut controller = open();
        add_by_hand("192.0.2.10/32", &sip0(), libc::IFA_F_NODAD);
        assert!(controller.present(&vip(V4), &sip0()).unwrap());
        assert_eq!(controller.enable(&vip(V4), &sip0(), Validity::Permanent).unwrap(), Changed::Now);
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.10/24", "192.0.2.10/32"]));
        assert_eq!(controller.disable(&vip(V4), &sip0()).unwrap(), Changed::Now);
        assert_eq!(on_sip0(&mut controller), set([]), "a leftover answers all the same");

        add_by_hand("2001:db8::10/128", &sip0(), libc::IFA_F_NODAD);
        let refused = controller.enable(&vip(V6), &sip0(), Validity::Permanent);
        assert!(matches!(refused, Err(VipError::OtherPrefix { found: 128, .. })), "{refused:?}");
        assert_eq!(controller.disable(&vip(V6), &sip0()).unwrap(), Changed::Now);
        assert_eq!(on_sip0(&mut controller), set([]));
    });
}

#[test]
fn an_address_that_failed_duplicate_detection_is_put_right() {
    in_lab("an_address_that_failed_duplicate_detection_is_put_right", |lab| {
        sysctl("ipv6/conf/sip0/router_solicitation_delay", "0"); // otherwise detection begins up to a second later
        let mut other = lab.neighbour.visit(open);
        other.enable(&vip(V6), &far0(), Validity::Permanent).unwrap();
        let mut monitor = Monitor::open().unwrap();
        add_by_hand(V6, &sip0(), 0);
        let removed =
            NetEvent::AddressRemoved { interface: sip0(), address: vip(V6).address, prefix: vip(V6).prefix };
        wait_for("failed duplicate detection", &monitor.as_raw_fd(), || {
            drain(&mut monitor).contains(&removed).then_some(())
        });
        let mut controller = open();
        assert!(!controller.present(&vip(V6), &sip0()).unwrap());
        assert_eq!(controller.enable(&vip(V6), &sip0(), Validity::Permanent).unwrap(), Changed::Now);
        assert!(controller.present(&vip(V6), &sip0()).unwrap());
    });
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    in_lab("what_cannot_be_done_says_what_to_do", |_| {
        let mut controller = open();
        let nowhere = InterfaceName::new("nowhere0").unwrap();
        let no_interface = |result| matches!(result, Err(VipError::NoInterface { .. }));
        assert!(no_interface(controller.enable(&vip(V4), &nowhere, Validity::Permanent).map(drop)));
        assert!(no_interface(controller.present(&vip(V4), &nowhere).map(drop)));
        assert!(no_interface(controller.announce(&vip(V4), &nowhere)));
        assert!(no_interface(controller.link(&nowhere).map(drop)));
        assert_eq!(controller.disable(&vip(V4), &nowhere).unwrap(), Changed::Already);

        sysctl("ipv6/conf/sip0/disable_ipv6", "1");
        let refused = controller.enable(&vip(V6), &sip0(), Validity::Permanent);
        assert!(matches!(refused, Err(VipError::Ipv6Disabled { .. })), "{refused:?}");

        set_up(&sip0(), false);
        let refused = controller.enable(&vip(V4), &sip0(), Validity::Permanent);
        assert!(matches!(refused, Err(VipError::InterfaceDown { .. })), "{refused:?}");
        assert!(controller.present(&vip(V4), &sip0()).unwrap(), "only the announcement failed");

        let lo = InterfaceName::new("lo").unwrap();
        assert_eq!(
            controller.enable(&vip("203.0.113.1/32"), &lo, Validity::Permanent).unwrap(),
            Changed::Now,
            "nobody to tell there"
        );

        drop_capabilities();
        let refused = controller.disable(&vip(V4), &sip0()).unwrap_err();
        assert!(refused.to_string().contains("CAP_NET_ADMIN is needed"), "{refused}");
        let refused = VipController::open().unwrap_err();
        assert!(refused.to_string().contains("CAP_NET_RAW is needed"), "{refused}");
    });
}

/// Gives up all effective capabilities of this thread (capset(2)).
fn drop_capabilities() {
    let header = [0x2008_0522_u32, 0]; // version 3, this thread
    let none = [0_u32; 6];
    // SAFETY: the two structures of version 3, as arrays of their members.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0);
}

#[test]
fn an_announcement_changes_the_neighbours_entry() {
    in_lab("an_announcement_changes_the_neighbours_entry", |lab| {
        // Linux heeds no ARP on an interface without an IPv4 address.
        lab.neighbour.visit(|| add_by_hand("192.0.2.99/24", &far0(), libc::IFA_F_NODAD));
        let host = mac_of(&sip0());
        let mut controller = open();
        for vip in [vip(V4), vip(V6)] {
            // The neighbour believes in another station, and has learnt it this very moment.
            let notices = lab.neighbour.visit(|| {
                set_neighbour(vip.address, MacAddress([2, 0, 0, 0, 0, 1]));
                const RTMGRP_NEIGH: u32 = 4;
                Socket::route(RTMGRP_NEIGH).unwrap()
            });
            controller.announce(&vip, &sip0()).unwrap();
            let mut buffer = [0; 8_192];
            wait_for(&format!("the new entry of {vip}"), &notices, || {
                let received = notices.receive_from_kernel(&mut buffer).ok()?;
                messages(&buffer[..received]).find(|m| neighbour(*m) == Some((vip.address, host)))?;
                Some(())
            });
        }
    });
}

/// Length of `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;

fn set_neighbour(address: IpAddr, mac: MacAddress) {
    let mut request =
        Request::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE | libc::NLM_F_ACK);
    let mut header = [0; NEIGHBOUR_HEADER];
    header[0] = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    header[4..8].copy_from_slice(&index(&far0()).to_ne_bytes());
    header[8..10].copy_from_slice(&libc::NUD_REACHABLE.to_ne_bytes());
    request.push(&header);
    match address {
        IpAddr::V4(address) => request.attribute(libc::NDA_DST, &address.octets()),
        IpAddr::V6(address) => request.attribute(libc::NDA_DST, &address.octets()),
    }
    request.attribute(libc::NDA_LLADDR, &mac.0);
    RouteSocket::open().unwrap().order(request).unwrap();
}

fn neighbour(message: Message<'_>) -> Option<(IpAddr, MacAddress)> {
    let (mut address, mut mac) = (None, None);
    for (kind, payload) in attributes(message.payload.get(NEIGHBOUR_HEADER..)?) {
        match kind {
            libc::NDA_DST => {
                address = <[u8; 4]>::try_from(payload)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(payload).map(IpAddr::from))
                    .ok();
            }
            libc::NDA_LLADDR => mac = payload.try_into().ok().map(MacAddress),
            _ => (),
        }
    }
    Some((address?, mac?))
}

#[test]
fn enabling_announces_as_request_and_as_reply() {
    in_lab("enabling_announces_as_request_and_as_reply", |lab| {
        let ear = lab.neighbour.visit(|| {
            let ear = Socket::packet().unwrap();
            let everything = libc::sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k: u32::MAX };
            ear.listen(libc::ETH_P_ARP as u16, &[everything]).unwrap();
            ear
        });
        open().enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        let IpAddr::V4(address) = vip(V4).address else { panic!("is IPv4") };
        let host = mac_of(&sip0());
        let mut frame = [0; 128];
        for expected in
            [frames::arp_announcement_request(address, host), frames::arp_announcement_reply(address, host)]
        {
            let (length, _, sender) = wait_for("an ARP packet", &ear, || ear.receive_frame(&mut frame).ok());
            assert_eq!((&frame[..length], sender), (&expected[..], host));
        }
    });
}

#[test]
fn what_other_tools_do_is_seen() {
    in_lab("what_other_tools_do_is_seen", |lab| {
        let mut controller = open();
        let mut monitor = Monitor::open().unwrap();
        let expect = |monitor: &mut Monitor, event: &NetEvent| {
            wait_for(&format!("{event:?}"), &monitor.as_raw_fd(), || {
                drain(monitor).contains(event).then_some(())
            });
        };
        for vip in [vip(V4), vip(V6)] {
            let VipAddress { address, prefix } = vip;
            controller.enable(&vip, &sip0(), Validity::Permanent).unwrap();
            expect(
                &mut monitor,
                &NetEvent::AddressAdded { interface: sip0(), address, prefix, permanent: true },
            );
            let by_hand =
                ListedAddress { index: index(&sip0()), address, network: address, prefix, flags: 0 };
            RouteSocket::open().unwrap().order(Request::remove_address(&by_hand)).unwrap();
            expect(&mut monitor, &NetEvent::AddressRemoved { interface: sip0(), address, prefix });
        }
        let mac = Some(mac_of(&sip0()));
        let link = |up| NetEvent::Link(InterfaceReport { interface: sip0(), up, mac });
        assert_eq!(NetEvent::Link(controller.link(&sip0()).unwrap()), link(true));
        lab.neighbour.visit(|| set_up(&far0(), false)); // no carrier
        expect(&mut monitor, &link(false));
        assert!(!controller.link(&sip0()).unwrap().up);
        lab.neighbour.visit(|| set_up(&far0(), true));
        expect(&mut monitor, &link(true));
        set_up(&sip0(), false);
        expect(&mut monitor, &link(false));
        set_up(&sip0(), true);
        expect(&mut monitor, &link(true));
        controller.enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        drain(&mut monitor);
        remove(&sip0());
        let gone = drain(&mut monitor);
        let VipAddress { address, prefix } = vip(V4);
        assert!(gone.contains(&NetEvent::AddressRemoved { interface: sip0(), address, prefix }), "{gone:?}");
        let last = NetEvent::Link(InterfaceReport { interface: sip0(), up: false, mac: None });
        assert_eq!(gone.last(), Some(&last));
    });
}

#[test]
fn leaving_a_bridge_is_not_going_away() {
    in_lab("leaving_a_bridge_is_not_going_away", |_| {
        let mut monitor = Monitor::open().unwrap();
        let bridge = add_bridge("br0");
        set_bridge(&sip0(), index(&bridge));
        drain(&mut monitor);
        set_bridge(&sip0(), 0);
        let events = drain(&mut monitor);
        let down = |event: &NetEvent| matches!(event, NetEvent::Link(report) if report.interface == sip0() && !report.up);
        assert!(!events.is_empty() && !events.iter().any(down), "{events:?}");
    });
}

#[test]
fn an_interface_that_came_and_went_unseen_is_known_by_name() {
    in_lab("an_interface_that_came_and_went_unseen_is_known_by_name", |_| {
        let mut monitor = Monitor::open().unwrap();
        let interface = add_bridge("br0");
        add_by_hand(V4, &interface, 0);
        remove(&interface);
        let events = drain(&mut monitor);
        let VipAddress { address, prefix } = vip(V4);
        assert!(events.contains(&NetEvent::AddressAdded {
            interface: interface.clone(),
            address,
            prefix,
            permanent: true
        }));
        assert!(events.contains(&NetEvent::AddressRemoved { interface, address, prefix }), "{events:?}");
    });
}

#[test]
fn only_the_kernel_is_believed() {
    in_lab("only_the_kernel_is_believed", |_| {
        let mut monitor = Monitor::open().unwrap();
        let VipAddress { address, prefix } = vip(V4);
        let lie = ListedAddress { index: index(&sip0()), address, network: address, prefix, flags: 0 };
        send_to_process(&monitor, Request::remove_address(&lie).finish(0));
        let believed =
            drain(&mut monitor).contains(&NetEvent::AddressRemoved { interface: sip0(), address, prefix });
        assert!(!believed);
    });
}

#[test]
fn lost_events_are_told() {
    in_lab("lost_events_are_told", |_| {
        let mut monitor = Monitor::open().unwrap();
        let mut controller = open();
        let lo = InterfaceName::new("lo").unwrap();
        // Fills the waiting room; thousands of notices fit.
        for _ in 0..20_000 {
            controller.enable(&vip(V4), &lo, Validity::Permanent).unwrap();
            controller.disable(&vip(V4), &lo).unwrap();
        }
        let mut events = Vec::new();
        assert_eq!(monitor.events(&mut events).unwrap(), Drained::MoreWaits, "one call is bounded");
        events.extend(drain(&mut monitor));
        assert!(events.contains(&NetEvent::Overrun));
        controller.enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        let VipAddress { address, prefix } = vip(V4);
        let added = NetEvent::AddressAdded { interface: sip0(), address, prefix, permanent: true };
        assert!(drain(&mut monitor).contains(&added), "it goes on afterwards");
    });
}

#[test]
fn another_holder_is_found() {
    in_lab("another_holder_is_found", |lab| {
        let other = lab.neighbour.visit(|| mac_of(&far0()));
        let mut their = lab.neighbour.visit(open);
        let mut check = DuplicateCheck::open().unwrap();
        for vip in [vip(V4), vip(V6)] {
            check.start(&vip, &sip0()).unwrap();
            their.enable(&vip, &far0(), Validity::Permanent).unwrap();
            // First their announcement, then their answers to us. An IPv6 host answers a little after it got the
            // address.
            for _ in 0..2 {
                let found =
                    (0..100).map(|_| ask_until_answered(&mut check, &vip)).find(|found| !found.is_empty());
                let found = found.expect("the neighbour is heard");
                assert!(
                    found.iter().all(|d| (d.vip, &d.interface, d.mac) == (vip, &sip0(), other)),
                    "{found:?}"
                );
            }
            check.stop(&vip);
            their.announce(&vip, &far0()).unwrap();
            assert!(poll(&check, Duration::from_secs(10)));
            assert_eq!(check.answers().unwrap(), [], "nobody wants to know any more");
            check.start(&vip, &InterfaceName::new("lo").unwrap()).unwrap();
            their.announce(&vip, &far0()).unwrap();
            assert!(poll(&check, Duration::from_secs(10)));
            assert_eq!(check.answers().unwrap(), [], "it is somebody else's on another network");
        }
    });
}

/// Asks every 50 ms until something comes that the kernel lets through, and gives what it means.
fn ask_until_answered(check: &mut DuplicateCheck, vip: &VipAddress) -> Vec<crate::Duplicate> {
    for _ in 0..200 {
        check.start(vip, &sip0()).unwrap();
        if poll(check, Duration::from_millis(50)) {
            return check.answers().unwrap();
        }
    }
    panic!("nobody has answered for {vip}");
}

#[test]
fn an_own_interface_on_the_same_network_is_no_other_holder() {
    in_lab("an_own_interface_on_the_same_network_is_no_other_holder", |lab| {
        // Both ends of the wire belong to the host: the far one answers for the VIP of the near one.
        lab.neighbour.visit(|| bring_home(&far0(), &lab.host));
        set_up(&far0(), true);
        lab::wait_until_running(&sip0());
        open().enable(&vip(V4), &sip0(), Validity::Permanent).unwrap();
        let mut check = DuplicateCheck::open().unwrap();
        assert_eq!(ask_until_answered(&mut check, &vip(V4)), []);
    });
}

#[test]
fn five_hundred_vips_move_in_and_out() {
    in_lab("five_hundred_vips_move_in_and_out", |_| {
        add_by_hand("10.0.0.1/16", &sip0(), libc::IFA_F_NODAD);
        let vips: Vec<VipAddress> =
            (0..500).map(|n| vip(&format!("10.0.{}.{}/16", 1 + n / 250, 1 + n % 250))).collect();
        let mut controller = open();
        let mut announcer = Announcer::new();
        let mut monitor = Monitor::open().unwrap();
        for vip in &vips {
            assert_eq!(controller.enable(vip, &sip0(), Validity::Permanent).unwrap(), Changed::Now);
            announcer.start(*vip, sip0(), Micros(0));
        }
        assert_eq!(on_sip0(&mut controller).len(), 501);
        while let Some(now) = announcer.next_deadline().filter(|now| *now <= Micros(49_000)) {
            for (vip, on) in announcer.due(now) {
                controller.announce(&vip, &on).unwrap();
            }
        }
        for vip in &vips {
            assert_eq!(controller.disable(vip, &sip0()).unwrap(), Changed::Now);
        }
        assert_eq!(on_sip0(&mut controller), set(["10.0.0.1/16"]));
        let events = drain(&mut monitor);
        let count = |is: fn(&NetEvent) -> bool| events.iter().filter(|event| is(event)).count();
        let added =
            |event: &NetEvent| matches!(event, NetEvent::AddressAdded { address, .. } if address.is_ipv4());
        let removed =
            |event: &NetEvent| matches!(event, NetEvent::AddressRemoved { address, .. } if address.is_ipv4());
        assert_eq!((count(added), count(removed)), (500, 500));
        assert!(!events.contains(&NetEvent::Overrun));
    });
}

#[test]
fn the_command_does_what_the_environment_says() {
    in_lab("the_command_does_what_the_environment_says", |_| {
        let environment = |name: &str| match name {
            "TAKEOVER_VIP" => Some(V4.to_owned()),
            "TAKEOVER_INTERFACE" => Some("sip0".to_owned()),
            _ => None,
        };
        let run = |verb| {
            let outcome = command::run(command::Order::new(verb, None, None, environment).unwrap());
            (outcome.exit_code(), outcome.to_string())
        };
        let [enable, disable] = [VipVerb::Enable, VipVerb::Disable].map(command::Verb::Control);
        for (verb, code, text) in [
            (command::Verb::Status, 3, "192.0.2.10/24 is not on sip0"),
            (enable, 0, "enabled 192.0.2.10/24 on sip0"),
            (enable, 0, "192.0.2.10/24 on sip0 was enabled already"),
            (command::Verb::Status, 0, "192.0.2.10/24 is on sip0"),
            (disable, 0, "disabled 192.0.2.10/24 on sip0"),
            (disable, 0, "192.0.2.10/24 on sip0 was disabled already"),
        ] {
            assert_eq!(run(verb), (code, text.to_owned()));
        }
    });
}

/// Runs the user's example script as the agent would; `Command` starts it in the namespace of this thread.
fn run_script(arguments: &[&str], vip: &str, interface: &InterfaceName) -> (Option<i32>, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/examples/vip-control.sh");
    let output = std::process::Command::new(script)
        .args(arguments)
        .env("TAKEOVER_VIP", vip)
        .env("TAKEOVER_INTERFACE", interface.as_str())
        .env("TAKEOVER_EPOCH", "7")
        .env("TAKEOVER_MODE", "primary")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_example_script_does_what_the_built_in_control_does() {
    in_lab("the_example_script_does_what_the_built_in_control_does", |_| {
        let ip = std::process::Command::new("ip").arg("-V").output();
        assert!(ip.is_ok(), "this test needs the command `ip` (Debian package iproute2)");
        sysctl("ipv4/conf/all/promote_secondaries", "0");
        sysctl("ipv4/conf/sip0/promote_secondaries", "0");
        let mut controller = open();
        for (verb, says, there) in [
            ("disable", "was disabled already: ", false),
            ("enable", "enabled ", true),
            ("enable", "was enabled already: ", true),
            ("disable", "disabled ", false),
        ] {
            for text in [V4, V6] {
                let (code, output) = run_script(&[verb], text, &sip0());
                assert_eq!(code, Some(0), "{output}");
                assert!(output.contains(&format!("{says}{text} on sip0 (epoch 7, primary)")), "{output}");
                assert_eq!(controller.present(&vip(text), &sip0()).unwrap(), there, "{verb} {text}");
            }
        }
        // Leftovers with another prefix length go, other addresses of the subnet stay.
        for address in [V4, "192.0.2.2/24", "192.0.2.10/32"] {
            add_by_hand(address, &sip0(), 0);
        }
        assert_eq!(run_script(&["disable"], V4, &sip0()).0, Some(0));
        assert_eq!(on_sip0(&mut controller), set(["192.0.2.2/24"]));

        let nowhere = InterfaceName::new("nowhere0").unwrap();
        assert_eq!(run_script(&["disable"], V4, &nowhere).0, Some(0));
        assert_eq!(run_script(&["enable"], V4, &nowhere).0, Some(1));
        for arguments in [&["on"][..], &[]] {
            assert_eq!(run_script(arguments, V4, &sip0()).0, Some(2));
        }
        assert_eq!(run_script(&["enable"], "192.0.2.10", &sip0()).0, Some(2));
    });
}
