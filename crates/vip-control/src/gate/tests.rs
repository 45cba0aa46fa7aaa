//! The gate's program, run by the kernel on frames made here and compared with a plain reading of the rules; what an
//! interface and other processes add is tested in `tests/gate`.

use super::program::{DROP, PASS, Way};
use super::*;
use crate::gate::bpf::boot_time;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);

/// Programs that no interface has.
struct Bench {
    slots: Slots,
    programs: [Program; 2],
}

impl Bench {
    /// With the VIPs managed, in slots 0 and 1. None, and said so, where this process may not use eBPF.
    fn new() -> Option<Self> {
        let set = match Set::create() {
            Err(GateError::NoPermission { remedy, .. }) => {
                println!("skipped: {remedy}");
                return None;
            }
            other => other.unwrap(),
        };
        for (number, vip) in [(0_u32, IpAddr::from(VIP)), (1, VIP6.into())] {
            set.addresses.put(&program::key(vip), &number.to_ne_bytes()).unwrap();
        }
        Some(Self { slots: Slots::of(&set.slots).unwrap(), programs: load(&set).unwrap() })
    }

    fn slot(&self, number: u32) -> &Slot {
        self.slots.get(number).unwrap()
    }

    fn passes(&self, way: Way, frame: &[u8]) -> bool {
        self.judge(way, frame).expect("the kernel runs the program on any whole frame")
    }

    /// None where the kernel does not run programs on such a frame: shorter than its IP header, and not tagged.
    fn judge(&self, way: Way, frame: &[u8]) -> Option<bool> {
        let [into, out] = &self.programs;
        let program = if way == Way::In { into } else { out };
        match program.run(frame, 1) {
            Ok((PASS, _)) => Some(true),
            Ok((DROP, _)) => Some(false),
            Ok((other, _)) => panic!("verdict {other}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
                assert!(matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd]), "{frame:02x?}");
                None
            }
        }
    }
}

fn ethernet(ether_type: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend((ether_type as u16).to_be_bytes());
    frame.extend(payload);
    frame
}

fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend([2; 6]);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(libc::ETH_P_ARP, &packet)
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([0; 8]);
    ethernet(libc::ETH_P_IP, &packet)
}

fn ipv6(next_header: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 255];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    ethernet(libc::ETH_P_IPV6, &packet)
}

fn neighbour(kind: u8, source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    ipv6(58, source, destination, &message)
}

fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | a & 0xff, b)
}

/// With a VLAN tag between addresses and type.
fn tagged(frame: &[u8], ether_type: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(ether_type.to_be_bytes());
    tagged.extend([0, 100]);
    tagged.extend(&frame[12..]);
    tagged
}

/// Frames with what they are, which way the VIP's gate stops them, and which way it does not.
fn frames() -> Vec<(&'static str, Vec<u8>, &'static [Way])> {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const IN: &[Way] = &[Way::In];
    const OUT: &[Way] = &[Way::Out];
    const NEITHER: &[Way] = &[];
    vec![
        ("ARP request for the VIP", arp(1, OTHER, VIP), IN),
        ("ARP probe for the VIP", arp(1, Ipv4Addr::UNSPECIFIED, VIP), IN),
        ("ARP request or answer from the VIP", arp(2, VIP, OTHER), OUT),
        ("ARP announcement of the VIP", arp(1, VIP, VIP), OUT),
        ("ARP about others", arp(1, OTHER, Ipv4Addr::new(192, 0, 2, 12)), NEITHER),
        ("IPv4 to the VIP", ipv4(OTHER, VIP), IN),
        ("IPv4 from the VIP", ipv4(VIP, OTHER), OUT),
        ("IPv4 of others", ipv4(OTHER, Ipv4Addr::BROADCAST), NEITHER),
        ("IPv6 to the VIP", ipv6(17, OTHER6, VIP6, &[0; 8]), IN),
        ("IPv6 from the VIP", ipv6(17, VIP6, OTHER6, &[0; 8]), OUT),
        ("IPv6 of others", ipv6(17, OTHER6, router, &[0; 8]), NEITHER),
        ("solicitation for the VIP", neighbour(135, OTHER6, solicited_node(VIP6), VIP6), IN),
        ("solicitation to the VIP", neighbour(135, OTHER6, VIP6, VIP6), IN),
        ("solicitation from the VIP", neighbour(135, VIP6, solicited_node(OTHER6), OTHER6), OUT),
        ("advertisement of the VIP", neighbour(136, VIP6, all_nodes, VIP6), OUT),
        ("advertisement of the VIP by its router", neighbour(136, router, all_nodes, VIP6), OUT),
        ("solicitation for another", neighbour(135, OTHER6, solicited_node(VIP6), OTHER6), NEITHER),
        ("advertisement of another", neighbour(136, OTHER6, all_nodes, OTHER6), NEITHER),
        ("neither ARP nor IP", ethernet(0x88b5, &[1; 46]), NEITHER),
    ]
}

#[test]
fn a_closed_gate_stops_what_is_about_the_vip_and_nothing_else() {
    let Some(bench) = Bench::new() else { return };
    let (mut stopped, until) = (0, boot_time() + Duration::from_secs(50));
    for open in [false, true] {
        for (what, frame, stops) in frames() {
            for frame in [frame.clone(), tagged(&frame, 0x8100), tagged(&frame, 0x88a8)] {
                for way in Way::BOTH {
                    let expected = open || !stops.contains(&way);
                    assert_eq!(bench.passes(way, &frame), expected, "{what}, {way:?}, open: {open}");
                    stopped += u64::from(!expected);
                }
            }
        }
        for number in [0, 1] {
            bench.slot(number).authorise(Epoch(1), until).unwrap();
        }
    }
    let counted = [0, 1].map(|number| bench.slot(number).snapshot().stopped);
    assert!(counted.iter().all(|count| *count > 0));
    assert_eq!(counted.iter().sum::<u64>(), stopped);
}

/// The kernel runs programs on no frame that is shorter.
const SHORTEST: usize = 15;

#[test]
fn frames_that_end_early_do_not_pass_for_a_closed_vip() {
    let Some(bench) = Bench::new() else { return };
    for (what, frame, stops) in frames() {
        for way in stops {
            for (frame, ip_at) in [(frame.clone(), 14), (tagged(&frame, 0x8100), 18)] {
                for length in SHORTEST.max(ip_at)..frame.len() {
                    // An IPv6 packet of others that ends before it says what it is.
                    let address_at = ip_at + if *way == Way::In { 24 } else { 8 };
                    let asks_nobody = frame[ip_at - 2] == 0x86
                        && (address_at + 16..=ip_at + 40).contains(&length)
                        && frame[address_at..address_at + 16] != VIP6.octets();
                    let Some(passes) = bench.judge(*way, &frame[..length]) else { continue };
                    assert_eq!(passes, asks_nobody, "{what}, {way:?}, {length} bytes of {}", frame.len());
                }
            }
        }
    }
}

#[test]
fn any_bytes_are_judged_as_the_rules_read() {
    let Some(bench) = Bench::new() else { return };
    let frames = frames();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let (_, frame, _) = &frames[chance.below(frames.len())];
        let mut frame = if chance.below(4) == 0 { tagged(frame, 0x8100) } else { frame.clone() };
        for _ in 0..chance.below(3) {
            let at = 12 + chance.below(frame.len() - 12);
            frame[at] = chance.below(256) as u8;
        }
        if chance.below(3) == 0 {
            frame.truncate(SHORTEST + chance.below(frame.len() - SHORTEST + 1));
        }
        for way in Way::BOTH {
            let Some(passes) = bench.judge(way, &frame) else { continue };
            assert_eq!(passes, may_pass(way, &frame), "{way:?}, round {round}: {frame:02x?}");
        }
    }
}

/// The rules, for two closed VIPs.
fn may_pass(way: Way, frame: &[u8]) -> bool {
    let at = |at: usize, length: usize| frame.get(at..at + length);
    let (kind, start) = match at(12, 2) {
        Some([0x81, 0] | [0x88, 0xa8]) => (at(16, 2), 18),
        kind => (kind, 14),
    };
    let about = |address: Option<&[u8]>| address.is_none_or(|a| a == VIP.octets() || a == VIP6.octets());
    let inward = way == Way::In;
    match kind {
        Some([8, 6]) => {
            let (sender, target) = (at(start + 14, 4), at(start + 24, 4));
            if inward { target.is_some() && sender == target || !about(target) } else { !about(sender) }
        }
        Some([8, 0]) => !about(at(start + if inward { 16 } else { 12 }, 4)),
        Some([0x86, 0xdd]) => {
            let neighbour = if inward { [135] } else { [136] };
            !about(at(start + if inward { 24 } else { 8 }, 16))
                && (at(start + 6, 1) != Some(&[58])
                    || at(start + 40, 1) != Some(&neighbour)
                    || !about(at(start + 48, 16)))
        }
        _ => true,
    }
}

/// xorshift64*, for tests that shall do the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[test]
fn deadline_epoch_and_fence_decide_alike_in_the_kernel_and_here() {
    let Some(bench) = Bench::new() else { return };
    let frame = ipv4(OTHER, VIP);
    let slot = bench.slot(0);
    let decide = |expected: bool, when: &str| {
        assert_eq!(bench.passes(Way::In, &frame), expected, "{when}, in the kernel");
        assert_eq!(slot.snapshot().is_open(boot_time()), expected, "{when}, here");
    };
    let now = boot_time();
    let ahead = |seconds| now + Duration::from_secs(seconds);
    decide(false, "a new slot");
    assert_eq!(slot.authorise(Epoch(4), ahead(30)), Ok(()));
    decide(true, "authorised");
    slot.authorise(Epoch(4), now).unwrap();
    decide(false, "its time is over");
    slot.authorise(Epoch(4), ahead(30)).unwrap();
    decide(true, "authorised anew");
    assert_eq!(slot.authorise(Epoch(3), ahead(40)), Err(Epoch(4)), "smaller than one that was in force");
    assert_eq!(slot.snapshot().deadline_ns, (now + Duration::from_secs(30)).0 * 1_000);
    slot.fence_off(Epoch(4));
    decide(false, "fenced off, though its time is not over");
    assert_eq!(slot.authorise(Epoch(4), ahead(30)), Err(Epoch(5)));
    decide(false, "refused");
    slot.fence_off(Epoch(2));
    assert_eq!(slot.snapshot().fence, 5, "a fence does not fall");
    slot.authorise(Epoch(5), ahead(30)).unwrap();
    decide(true, "a later epoch");
    slot.authorise(Epoch(5), ahead(90)).unwrap();
    decide(false, "further ahead than can be meant");
    slot.authorise(Epoch(5), Micros(u64::MAX)).unwrap();
    decide(false, "further ahead than can be counted");
    slot.fence_off(Epoch(u64::MAX));
    assert!(slot.authorise(Epoch(u64::MAX), ahead(30)).is_err());
    decide(false, "fenced off for ever");
}

#[test]
fn a_store_that_comes_after_the_fence_opens_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (frame, slot) = (ipv4(OTHER, VIP), bench.slot(0));
    let until = boot_time() + Duration::from_secs(30);
    slot.authorise(Epoch(4), until).unwrap();
    assert!(bench.passes(Way::In, &frame));
    slot.fence_off(Epoch(4));
    // Each of the stores of an agent that had decided before it was stopped, and in every order.
    let deadline = |slot: &Slot| slot.store_late(Some(until), None);
    let epoch = |slot: &Slot| slot.store_late(None, Some(Epoch(4)));
    for stores in [[&deadline as &dyn Fn(&Slot), &epoch], [&epoch, &deadline]] {
        for store in stores {
            store(slot);
            assert!(!bench.passes(Way::In, &frame));
        }
    }
}

#[test]
fn a_gate_of_another_size_is_taken_over_with_its_authority_and_fences() {
    let Some(_) = Bench::new() else { return };
    let test = || {
        bpf::enter_new_network().unwrap();
        // A smaller gate, as another version may have made it, on the first interface of the namespace.
        let map = |shape| Map::create(Shape { entries: 16, ..shape }).unwrap();
        let older = Set { addresses: map(ADDRESSES), slots: map(SLOTS) };
        let until = boot_time() + Duration::from_secs(30);
        let slot = |epoch: u64, fence: u64| [until.0 * 1_000, epoch, fence, 0].map(u64::to_ne_bytes).concat();
        for (number, vip, bytes) in [(3_u32, IpAddr::from(VIP), slot(4, 2)), (5, VIP6.into(), slot(4, 7))] {
            older.addresses.put(&program::key(vip), &number.to_ne_bytes()).unwrap();
            older.slots.put(&number.to_ne_bytes(), &bytes).unwrap();
        }
        let mut route = RouteSocket::open().unwrap();
        filters::add_clsact(&mut route, 1).unwrap();
        let [into, _] = load(&older).unwrap();
        filters::attach(&mut route, 1, Way::In, into.as_raw_fd()).unwrap();

        let gate = Gate::open([]).unwrap();
        assert!(matches!(gate.continued(), Continued::Whole), "{:?}", gate.continued());
        let [v4, v6] = [("192.0.2.10/24"), ("2001:db8::10/64")].map(|vip| vip.parse::<VipAddress>().unwrap());
        let state = |vip: &VipAddress| gate.state(vip, boot_time()).unwrap();
        let open = GateState { open: true, epoch: Epoch(4), until, fence: Epoch(4), stopped: 0 };
        assert_eq!(state(&v4), open);
        assert_eq!((state(&v6).open, state(&v6).fence), (false, Epoch(7)));
    };
    // In a thread, with which its namespace ends.
    std::thread::scope(|scope| scope.spawn(test).join()).unwrap();
}

#[test]
fn an_address_keeps_its_key() {
    for text in ["192.0.2.10", "2001:db8::10", "::1"] {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(program::address(program::key(address)), address);
    }
}
