//! The inquiry against real kernels: one holder, two, none, and what is no answer.

use super::lab::{
    Lab, Place, add_bridge, add_wire, far0, in_lab, index, poll, set_bridge, set_up, sip0, wait_for,
    wait_until_running,
};
use super::{V4, V6, add_by_hand, mac_of, open, vip};
use crate::gate::{Gate, GateError};
use crate::socket::Socket;
use crate::{Drained, Inquiry, MacAddress, Validity, VipError, frames};
use domain::{Epoch, InterfaceName, MOST_HOLDERS, Micros, VipAddress, VipSighting};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The asking host's own addresses.
const OWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// Inquiries made before what must be seen counts as unseen: an IPv6 host answers a little after it got the address.
const MOST_INQUIRIES: usize = 100;

fn own_addresses() {
    for own in [format!("{OWN4}/24"), format!("{OWN6}/64")] {
        add_by_hand(&own, &sip0(), libc::IFA_F_NODAD);
    }
}

/// One inquiry from beginning to end, and how long it took.
fn inquire(inquiry: &mut Inquiry, vip: &VipAddress) -> Result<(VipSighting, Duration), VipError> {
    let begun = Instant::now();
    let now = || Micros(u64::try_from(begun.elapsed().as_micros()).unwrap());
    inquiry.ask(vip, &sip0(), |address| address == vip.address, now())?;
    loop {
        let deadline = inquiry.next_deadline().expect("an inquiry is in hand");
        poll(inquiry, deadline.since(now()));
        while inquiry.hear(now()).unwrap() == Drained::MoreWaits {}
        if let Some((about, result)) = inquiry.ended(now()) {
            assert_eq!((about, inquiry.next_deadline()), (*vip, None));
            return Ok((result?, begun.elapsed()));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "an inquiry ends");
    }
}

fn macs(sighting: &VipSighting) -> Vec<MacAddress> {
    let mut macs: Vec<_> = sighting.holders.iter().map(|holder| holder.mac).collect();
    macs.sort();
    macs
}

/// Asks until exactly these are seen.
fn expect(inquiry: &mut Inquiry, vip: &VipAddress, mut holders: Vec<MacAddress>) -> Duration {
    holders.sort();
    let mut last = None;
    for _ in 0..MOST_INQUIRIES {
        let (sighting, took) = inquire(inquiry, vip).unwrap();
        if macs(&sighting) == holders {
            return took;
        }
        last = Some(sighting);
    }
    panic!("{holders:?} should be seen, not {last:?}");
}

/// Hears every packet of a protocol that comes to an interface of this namespace.
fn ear(protocol: i32) -> Socket {
    let ear = Socket::packet().unwrap();
    let everything = libc::sock_filter { code: libc::BPF_RET as u16, jt: 0, jf: 0, k: u32::MAX };
    ear.listen(protocol as u16, &[everything]).unwrap();
    ear
}

/// The packets that were heard and are as wanted.
fn heard(ear: &Socket, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut frame = [0; 2_048];
    let packets =
        std::iter::from_fn(|| ear.receive_frame(&mut frame).ok().map(|(n, ..)| frame[..n].to_vec()));
    packets.filter(|packet| wanted(packet)).collect()
}

#[test]
fn the_holder_is_seen_with_and_without_own_addresses() {
    in_lab("inquiry::the_holder_is_seen_with_and_without_own_addresses", |lab| {
        let holder = lab.neighbour.visit(|| mac_of(&far0()));
        let mut their = lab.neighbour.visit(open);
        let mut inquiry = Inquiry::open().unwrap();
        for vip in [vip(V4), vip(V6)] {
            their.enable(&vip, &far0(), Validity::Permanent).unwrap();
            let took = expect(&mut inquiry, &vip, vec![holder]);
            println!("{vip} seen after {took:?}, asked from nobody's address");
        }
        own_addresses();
        // A leftover here neither answers nor asks.
        let mut ours = open();
        for vip in [vip(V4), vip(V6)] {
            ours.enable(&vip, &sip0(), Validity::Permanent).unwrap();
            let took = expect(&mut inquiry, &vip, vec![holder]);
            println!("{vip} seen after {took:?}, asked from an own address");
            assert!(took < Duration::from_secs(5));
        }
    });
}

#[test]
fn the_question_is_a_clients_and_never_a_vips() {
    in_lab("inquiry::the_question_is_a_clients_and_never_a_vips", |lab| {
        let mac = mac_of(&sip0());
        let (arp, ipv6) = lab.neighbour.visit(|| (ear(libc::ETH_P_ARP), ear(libc::ETH_P_IPV6)));
        let mut inquiry = Inquiry::open().unwrap();
        let (IpAddr::V4(address4), IpAddr::V6(address6)) = (vip(V4).address, vip(V6).address) else {
            panic!("one of each")
        };
        let solicits = |packet: &[u8]| packet.get(40) == Some(&135) && packet[48..64] == address6.octets();

        // All that the interface has is the VIP, and an address of another subnet: nobody's address asks.
        add_by_hand(V4, &sip0(), libc::IFA_F_NODAD);
        add_by_hand("198.51.100.1/24", &sip0(), libc::IFA_F_NODAD);
        inquire(&mut inquiry, &vip(V4)).unwrap();
        inquire(&mut inquiry, &vip(V6)).unwrap();
        assert_eq!(
            heard(&arp, |_| true),
            vec![frames::arp_probe(address4, mac).to_vec(); 3],
            "three questions"
        );
        let probe = frames::neighbour_probe(address6).1.to_vec();
        let solicitations = heard(&ipv6, solicits);
        // Duplicate address detection of the link-local address may end in between.
        assert_eq!((solicitations.len(), &solicitations[0]), (3, &probe));

        own_addresses();
        inquire(&mut inquiry, &vip(V4)).unwrap();
        inquire(&mut inquiry, &vip(V6)).unwrap();
        assert_eq!(heard(&arp, |_| true), vec![frames::arp_question(address4, mac, OWN4).to_vec(); 3]);
        for question in heard(&ipv6, solicits) {
            let source = Ipv6Addr::from(*question[8..].first_chunk::<16>().unwrap());
            assert!(source.is_unicast_link_local(), "{source}");
            assert_eq!(question, frames::neighbour_question(address6, mac, source).1);
        }
    });
}

/// Puts two hosts behind the wire, and tells their Ethernet addresses.
fn two_hosts(lab: &Lab) -> [(Place, MacAddress); 2] {
    let eth0 = InterfaceName::new("eth0").unwrap();
    let bridge = lab.neighbour.visit(|| {
        let bridge = add_bridge("br0");
        set_bridge(&far0(), index(&bridge));
        set_up(&bridge, true);
        bridge
    });
    ["port1", "port2"].map(|port| {
        let place = lab.neighbour.visit(Place::new);
        lab.neighbour.visit(|| {
            let port_name = InterfaceName::new(port).unwrap();
            add_wire(port, &place, "eth0");
            set_bridge(&port_name, index(&bridge));
            set_up(&port_name, true);
        });
        let mac = place.visit(|| {
            set_up(&eth0, true);
            wait_until_running(&eth0);
            mac_of(&eth0)
        });
        (place, mac)
    })
}

#[test]
fn two_holders_are_both_seen() {
    in_lab("inquiry::two_holders_are_both_seen", |lab| {
        let eth0 = InterfaceName::new("eth0").unwrap();
        let [(first, first_mac), (second, second_mac)] = two_hosts(lab);
        own_addresses();
        let mut inquiry = Inquiry::open().unwrap();
        for vip in [vip(V4), vip(V6)] {
            first.visit(|| open().enable(&vip, &eth0, Validity::Permanent).unwrap());
            expect(&mut inquiry, &vip, vec![first_mac]);
            second.visit(|| open().enable(&vip, &eth0, Validity::Permanent).unwrap());
            let took = expect(&mut inquiry, &vip, vec![first_mac, second_mac]);
            println!("both holders of {vip} seen after {took:?}");
            first.visit(|| open().disable(&vip, &eth0).unwrap());
            expect(&mut inquiry, &vip, vec![second_mac]);
        }
    });
}

#[test]
fn nobody_is_nobody_after_three_questions() {
    in_lab("inquiry::nobody_is_nobody_after_three_questions", |_| {
        let mut inquiry = Inquiry::open().unwrap();
        for vip in [vip(V4), vip(V6)] {
            let (sighting, took) = inquire(&mut inquiry, &vip).unwrap();
            assert_eq!((sighting.holders.len(), sighting.vip), (0, vip));
            assert!(took >= Duration::from_millis(100), "{took:?}");
        }
    });
}

#[test]
fn only_answers_to_the_question_count() {
    in_lab("inquiry::only_answers_to_the_question_count", |lab| {
        own_addresses();
        let us = mac_of(&sip0());
        let (IpAddr::V4(address4), IpAddr::V6(address6)) = (vip(V4).address, vip(V6).address) else {
            panic!("one of each")
        };
        let [liar, holder] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
        let (sender, out) = lab.neighbour.visit(|| (Socket::packet().unwrap(), index(&far0())));
        let mut inquiry = Inquiry::open().unwrap();

        let arp = |packet: &[u8]| sender.send_frame(out, libc::ETH_P_ARP as u16, us, packet).unwrap();
        inquiry.ask(&vip(V4), &sip0(), |_| false, Micros(0)).unwrap();
        arp(&frames::arp_announcement_request(address4, liar));
        arp(&frames::arp_announcement_reply(address4, liar));
        arp(&arp_reply(address4, liar, holder)); // an answer to somebody else
        arp(&arp_reply(OWN4, liar, us)); // about another address
        arp(&frames::arp_question(address4, liar, address4));
        arp(&arp_reply(address4, liar, us)[..27]);
        arp(&arp_reply(address4, holder, us));
        assert_eq!(seen_at_last(&mut inquiry), [holder]);

        let ipv6 = |packet: &[u8]| sender.send_frame(out, libc::ETH_P_IPV6 as u16, us, packet).unwrap();
        inquiry.ask(&vip(V6), &sip0(), |_| false, Micros(0)).unwrap();
        let advertisement = frames::neighbour_advertisement(address6, liar);
        let answer = |to: Ipv6Addr, flags: u8, mac: MacAddress| {
            let mut answer = frames::neighbour_advertisement(address6, mac);
            answer[24..40].copy_from_slice(&to.octets());
            answer[44] = flags;
            answer
        };
        ipv6(&advertisement); // unsolicited, to all nodes
        ipv6(&answer(OWN6, 0x20, liar)); // unsolicited, to us
        ipv6(&answer(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3), 0x60, liar)); // to somebody else
        ipv6(&answer(OWN6, 0x60, liar)[..63]);
        ipv6(&answer(OWN6, 0x60, holder));
        assert_eq!(seen_at_last(&mut inquiry), [holder]);
    });
}

fn arp_reply(address: Ipv4Addr, sender: MacAddress, to: MacAddress) -> [u8; 28] {
    let mut reply = frames::arp_announcement_reply(address, sender);
    reply[18..24].copy_from_slice(&to.0);
    reply[24..28].copy_from_slice(&OWN4.octets());
    reply
}

/// Reads, at time zero, until a holder is heard, and lets the inquiry end long after. What was sent before the holder's
/// answer was read before it, too.
fn seen_at_last(inquiry: &mut Inquiry) -> Vec<MacAddress> {
    let fd = inquiry.as_raw_fd();
    let (_, result) = wait_for("an answer", &fd, || {
        inquiry.hear(Micros(0)).unwrap();
        // Without a holder this asks again and is over with the third question only.
        inquiry.ended(Micros(10_000_000))
    });
    macs(&result.unwrap())
}

#[test]
fn a_second_holder_is_asked_twice_and_has_time_to_answer() {
    in_lab("inquiry::a_second_holder_is_asked_twice_and_has_time_to_answer", |lab| {
        let us = mac_of(&sip0());
        let IpAddr::V4(address) = vip(V4).address else { panic!("is IPv4") };
        let (sender, out) = lab.neighbour.visit(|| (Socket::packet().unwrap(), index(&far0())));
        let mut inquiry = Inquiry::open().unwrap();
        inquiry.ask(&vip(V4), &sip0(), |_| false, Micros(0)).unwrap();
        let answer = |inquiry: &mut Inquiry, n: u8, at: u64| {
            let reply = arp_reply(address, MacAddress([2, 0, 0, 0, 0, n]), us);
            sender.send_frame(out, libc::ETH_P_ARP as u16, us, &reply).unwrap();
            assert!(poll(inquiry, Duration::from_secs(10)));
            inquiry.hear(Micros(at)).unwrap();
        };
        answer(&mut inquiry, 1, 1_000);
        assert_eq!(inquiry.next_deadline(), Some(Micros(30_000)), "asked again in spite of the answer");
        assert!(inquiry.ended(Micros(30_000)).is_none());
        assert_eq!(inquiry.next_deadline(), Some(Micros(41_000)));
        answer(&mut inquiry, 2, 40_900);
        let (_, result) = inquiry.ended(Micros(41_000)).expect("it is over");
        let heard: Vec<_> =
            result.unwrap().holders.iter().map(|holder| (holder.mac.0[5], holder.at.0)).collect();
        assert_eq!(heard, [(1, 1_000), (2, 40_900)]);
    });
}

#[test]
fn a_flood_of_forged_answers_is_bounded() {
    in_lab("inquiry::a_flood_of_forged_answers_is_bounded", |lab| {
        let us = mac_of(&sip0());
        let IpAddr::V4(address) = vip(V4).address else { panic!("is IPv4") };
        let (sender, out) = lab.neighbour.visit(|| (Socket::packet().unwrap(), index(&far0())));
        let flood = |count: u16, kind: u8| {
            for n in 0..count {
                let [high, low] = n.to_be_bytes();
                let reply = arp_reply(address, MacAddress([2, 0, kind, 0, high, low]), us);
                // A full queue drops: the flood is as fast as it can be.
                let _ = sender.send_frame(out, libc::ETH_P_ARP as u16, us, &reply);
            }
        };
        let mut inquiry = Inquiry::open().unwrap();
        inquiry.ask(&vip(V4), &sip0(), |_| false, Micros(0)).unwrap();
        let listener = ear(libc::ETH_P_ARP);
        flood(3_000, 1);
        assert!(poll(&inquiry, Duration::from_secs(10)));
        assert_eq!(inquiry.hear(Micros(0)).unwrap(), Drained::MoreWaits, "one call is bounded");
        let (_, result) = inquiry.ended(Micros(40_000)).expect("it is over, whatever waits");
        assert_eq!(result.unwrap().holders.len(), MOST_HOLDERS);

        // Nothing is asked: nothing is heard, and the next inquiry hears nothing that was said before.
        heard(&listener, |_| true);
        flood(10, 2);
        let last = |packet: &[u8]| packet[8..14] == [2, 0, 2, 0, 0, 9];
        wait_for("the end of the flood", &listener, || (!heard(&listener, last).is_empty()).then_some(()));
        inquiry.ask(&vip(V4), &sip0(), |_| false, Micros(100_000)).unwrap();
        flood(1, 3);
        assert_eq!(seen_at_last(&mut inquiry), [MacAddress([2, 0, 3, 0, 0, 0])]);
    });
}

#[test]
fn a_closed_gate_silences_its_own_host_and_no_other() {
    in_lab("inquiry::a_closed_gate_silences_its_own_host_and_no_other", |lab| {
        let vips = [vip(V4), vip(V6)];
        let gate_on = |interface: &InterfaceName| Gate::open(vips.iter().map(|vip| (vip, interface)));
        let mut theirs = match lab.neighbour.visit(|| gate_on(&far0())) {
            Err(GateError::NoPermission { remedy, .. }) => return println!("skipped: {remedy}"),
            other => other.unwrap(),
        };
        let _ours = gate_on(&sip0()).unwrap();
        let holder = lab.neighbour.visit(|| mac_of(&far0()));
        let mut inquiry = Inquiry::open().unwrap();
        own_addresses();
        for (vip, text) in vips.iter().zip([V4, V6]) {
            // Both kernels have the address, as far as they know.
            add_by_hand(text, &sip0(), libc::IFA_F_NODAD);
            lab.neighbour.visit(|| add_by_hand(text, &far0(), libc::IFA_F_NODAD));
            expect(&mut inquiry, vip, vec![]);
            theirs.authorise(vip, Epoch(2), boottime() + Duration::from_secs(30)).unwrap();
            expect(&mut inquiry, vip, vec![holder]);
            theirs.close_and_fence(vip, Epoch(3)).unwrap();
            expect(&mut inquiry, vip, vec![]);
        }
    });
}

fn boottime() -> Micros {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Micros(u64::try_from(Duration::from(now).as_micros()).unwrap())
}

#[test]
fn what_cannot_be_asked_is_not_nobody() {
    in_lab("inquiry::what_cannot_be_asked_is_not_nobody", |lab| {
        let mut inquiry = Inquiry::open().unwrap();
        let ask = |inquiry: &mut Inquiry, on: &str| {
            inquiry.ask(&vip(V4), &InterfaceName::new(on).unwrap(), |_| false, Micros(0))
        };
        assert!(matches!(ask(&mut inquiry, "nowhere0"), Err(VipError::NoInterface { .. })));
        assert!(matches!(ask(&mut inquiry, "lo"), Err(VipError::NoNeighbours { .. })));

        // The wire is cut while it is asked: the silence of those behind it says nothing.
        ask(&mut inquiry, "sip0").unwrap();
        lab.neighbour.visit(|| set_up(&far0(), false));
        let (_, result) = [30_000, 60_000, 100_000]
            .into_iter()
            .find_map(|at| inquiry.ended(Micros(at)))
            .expect("it is over");
        assert!(matches!(result, Err(VipError::NoNeighbours { .. })), "{result:?}");
        assert!(matches!(ask(&mut inquiry, "sip0"), Err(VipError::NoNeighbours { .. })));
        lab.neighbour.visit(|| set_up(&far0(), true));
        wait_until_running(&sip0());

        ask(&mut inquiry, "sip0").unwrap();
        set_up(&sip0(), false);
        let (_, result) = inquiry.ended(Micros(30_000)).expect("it cannot be asked again");
        assert!(matches!(result, Err(VipError::InterfaceDown { .. })), "{result:?}");
        let down = ask(&mut inquiry, "sip0");
        assert!(matches!(down, Err(VipError::InterfaceDown { .. })), "{down:?}");
        assert_eq!(inquiry.next_deadline(), None, "nothing is in hand");
    });
}

#[test]
fn a_late_caller_takes_no_silence_for_an_answer() {
    in_lab("inquiry::a_late_caller_takes_no_silence_for_an_answer", |_| {
        let mut inquiry = Inquiry::open().unwrap();
        inquiry.ask(&vip(V4), &sip0(), |_| false, Micros(0)).unwrap();
        // Stopped for a minute: two questions are still to be asked, and waited for.
        assert!(inquiry.ended(Micros(60_000_000)).is_none());
        assert_eq!(inquiry.next_deadline(), Some(Micros(60_030_000)));
        assert!(inquiry.ended(Micros(60_030_000)).is_none());
        assert_eq!(inquiry.next_deadline(), Some(Micros(60_070_000)));
        assert!(inquiry.ended(Micros(60_070_000)).is_some());
    });
}
