//! The gate's program: what the kernel runs for every frame that enters or leaves a guarded interface. It finds the
//! address that the frame is about, looks it up, and drops the frame where that is a managed VIP whose gate is closed.
//! How the program gets into the kernel is for `bpf` and `filters`, what the slots mean for `slots`.
//!
//! | frame | coming in | going out |
//! |---|---|---|
//! | ARP (RFC 826) | target, unless it announces (RFC 5227, section 3) | sender |
//! | IPv4 | destination | source |
//! | IPv6 | destination | source |
//! | neighbour solicitation (RFC 4861, section 4.3) | and the target, which asks by multicast | |
//! | neighbour advertisement (section 4.4) | | and the target |
//!
//! An ARP announcement of somebody else's address (sender and target are the same) comes in even so: it asks nothing,
//! and this host's own neighbour table has to learn from it who holds the VIP now. Answers to this host's questions
//! about a VIP come in, too: they are about this host's own address.
//!
//! Frames that end before the address that they should hold are dropped, as the kernel's own ARP, IPv4 and IPv6 would do next.

use super::assembler::{
    Assembler, FRAME, Instruction, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Size, When,
};
use super::slots;
use std::net::IpAddr;

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Into the host.
    In,
    /// Out of the host.
    Out,
}

impl Way {
    /// Both.
    pub(super) const BOTH: [Way; 2] = [Way::In, Way::Out];
}

/// Let the next filter decide (`TC_ACT_UNSPEC`): others on this interface go on as they would without us.
pub(super) const PASS: i32 = -1;
/// Drop the frame (`TC_ACT_SHOT`).
pub(super) const DROP: i32 = 2;

/// Length of a key in the map of addresses.
pub(super) const KEY: usize = 16;

// Helpers (`BPF_FUNC_*` of linux/bpf.h).
const MAP_LOOKUP: i32 = 1;
const LOAD_BYTES: i32 = 26;
/// CLOCK_BOOTTIME in nanoseconds, since Linux 5.8.
pub(super) const BOOT_TIME: i32 = 125;

// Where things are in a frame. Those below the Ethernet header count from its end.
const ETHER_TYPE: i32 = 12;
const ETHER_HEADER: i32 = 14;
const VLAN_TAG: i32 = 4;
const ARP_SENDER: i32 = 14;
const ARP_TARGET: i32 = 24;
const IPV4_SOURCE: i32 = 12;
const IPV4_DESTINATION: i32 = 16;
const IPV6_NEXT_HEADER: i32 = 6;
const IPV6_SOURCE: i32 = 8;
const IPV6_DESTINATION: i32 = 24;
const ICMPV6_TYPE: i32 = 40;
const NEIGHBOUR_TARGET: i32 = 48;

const NEIGHBOUR_SOLICITATION: i32 = 135;
const NEIGHBOUR_ADVERTISEMENT: i32 = 136;

// Where things are on the program's stack.
const KEY_AT: i16 = -16;
const IPV4_IN_KEY_AT: i16 = -4;
const SLOT_NUMBER_AT: i16 = -20;
const SCRATCH_AT: i16 = -24;

/// The key of an address: IPv6, or IPv4 mapped into it (RFC 4291, section 2.5.5.2).
pub(super) fn key(address: IpAddr) -> [u8; KEY] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address of a key.
pub(super) fn address(key: [u8; KEY]) -> IpAddr {
    IpAddr::from(key).to_canonical()
}

/// The program for frames that go `way`, with the descriptors of the map of addresses and that of slots.
pub(super) fn program(way: Way, addresses: i32, slots: i32) -> Vec<Instruction> {
    let mut a = Assembler::default();
    let (arp, ipv4, ipv6, known) = (a.label(), a.label(), a.label(), a.label());
    let ends = Ends { pass: a.label(), drop: a.label(), closed: a.label() };
    let gate = Check { addresses, slots, closed: ends.closed, broken: ends.drop };

    // R6 is the frame throughout, R7 where its ARP or IP begins. A tag that the interface or the kernel has taken off
    // already is not seen; one that is still there is passed over.
    a.copy(R6, R1);
    a.set(R7, ETHER_HEADER);
    a.set(R2, ETHER_TYPE);
    load_ether_type(&mut a, &ends);
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_IP), ipv4);
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_IPV6), ipv6);
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_ARP), arp);
    let tagged = a.label();
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_8021Q), tagged);
    a.jump_if(R8, When::Different, protocol(libc::ETH_P_8021AD), ends.pass);
    a.place(tagged);
    a.add(R7, VLAN_TAG);
    a.set(R2, ETHER_TYPE + VLAN_TAG);
    load_ether_type(&mut a, &ends);
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_IP), ipv4);
    a.jump_if(R8, When::Equal, protocol(libc::ETH_P_IPV6), ipv6);
    a.jump_if(R8, When::Different, protocol(libc::ETH_P_ARP), ends.pass);

    a.place(arp);
    match way {
        Way::In => {
            load_bytes(&mut a, ARP_SENDER, SCRATCH_AT, 4, ends.drop);
            load_ipv4_key(&mut a, ARP_TARGET, &ends);
            a.load(Size::Word, R1, FRAME, SCRATCH_AT);
            a.load(Size::Word, R2, FRAME, IPV4_IN_KEY_AT);
            a.jump_if_register(R1, When::Equal, R2, ends.pass);
        }
        Way::Out => load_ipv4_key(&mut a, ARP_SENDER, &ends),
    }
    a.jump(known);

    a.place(ipv4);
    load_ipv4_key(&mut a, if way == Way::In { IPV4_DESTINATION } else { IPV4_SOURCE }, &ends);
    a.place(known);
    gate.append(&mut a);
    a.jump(ends.pass);

    a.place(ipv6);
    let of_packet = if way == Way::In { IPV6_DESTINATION } else { IPV6_SOURCE };
    load_bytes(&mut a, of_packet, KEY_AT, KEY as i32, ends.drop);
    gate.append(&mut a);
    load_byte(&mut a, IPV6_NEXT_HEADER, &ends);
    a.jump_if(R0, When::Different, libc::IPPROTO_ICMPV6, ends.pass);
    load_byte(&mut a, ICMPV6_TYPE, &ends);
    let about_target = if way == Way::In { NEIGHBOUR_SOLICITATION } else { NEIGHBOUR_ADVERTISEMENT };
    a.jump_if(R0, When::Different, about_target, ends.pass);
    load_bytes(&mut a, NEIGHBOUR_TARGET, KEY_AT, KEY as i32, ends.drop);
    gate.append(&mut a);

    a.place(ends.pass);
    a.finish_with(PASS);
    a.place(ends.closed);
    a.set(R1, 1);
    a.add_to_memory(R8, slots::STOPPED_AT, R1);
    a.place(ends.drop);
    a.finish_with(DROP);
    a.assemble()
}

/// A program of no consequence that asks for the helper that older kernels lack.
pub(super) fn probe() -> Vec<Instruction> {
    let mut a = Assembler::default();
    a.call(BOOT_TIME);
    a.finish_with(PASS);
    a.assemble()
}

/// Where the program ends.
struct Ends {
    pass: Label,
    /// Without a slot to count it in.
    drop: Label,
    /// With the slot in R8.
    closed: Label,
}

/// Looks up the address on the stack: goes on where it is not managed or its gate is open.
struct Check {
    addresses: i32,
    slots: i32,
    closed: Label,
    broken: Label,
}

impl Check {
    fn append(&self, a: &mut Assembler) {
        let open = a.label();
        look_up(a, self.addresses, KEY_AT);
        a.jump_if(R0, When::Equal, 0, open);
        a.load(Size::Word, R1, R0, 0);
        a.store(Size::Word, FRAME, SLOT_NUMBER_AT, R1);
        look_up(a, self.slots, SLOT_NUMBER_AT);
        a.jump_if(R0, When::Equal, 0, self.broken);
        a.copy(R8, R0);
        // The epoch first and the clock last: see `slots` for why that order is safe.
        a.load(Size::Double, R2, R8, slots::EPOCH_AT);
        a.load(Size::Double, R1, R8, slots::FENCE_AT);
        a.load(Size::Double, R9, R8, slots::DEADLINE_AT);
        a.jump_if_register(R1, When::Greater, R2, self.closed);
        a.call(BOOT_TIME);
        // A deadline that has passed is, less one, a huge number: one comparison for both bounds.
        a.subtract(R9, R0);
        a.add(R9, -1);
        a.set_wide(R1, slots::LONGEST_NS);
        a.jump_if_register(R9, When::AtLeast, R1, self.closed);
        a.place(open);
    }
}

/// R0 = the value at the key on the stack, or zero.
fn look_up(a: &mut Assembler, map: i32, key_at: i16) {
    a.set_map(R1, map);
    a.copy(R2, FRAME);
    a.add(R2, key_at.into());
    a.call(MAP_LOOKUP);
}

/// R8 = the type of what follows, read at R2 from the frame's own bytes: whoever sends through a packet socket chooses what
/// the kernel believes it to be. A frame without one is nobody's.
fn load_ether_type(a: &mut Assembler, ends: &Ends) {
    call_load_bytes(a, SCRATCH_AT, 2, ends.pass);
    a.load(Size::Half, R8, FRAME, SCRATCH_AT);
}

/// The key on the stack = the IPv4 address at this place behind the Ethernet header.
fn load_ipv4_key(a: &mut Assembler, at: i32, ends: &Ends) {
    a.store_number(Size::Double, FRAME, KEY_AT, 0);
    a.store_number(Size::Word, FRAME, KEY_AT + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    load_bytes(a, at, IPV4_IN_KEY_AT, 4, ends.drop);
}

/// R0 = the byte at this place behind the Ethernet header. An IPv6 packet so short asks for no address.
fn load_byte(a: &mut Assembler, at: i32, ends: &Ends) {
    load_bytes(a, at, SCRATCH_AT, 1, ends.pass);
    a.load(Size::Byte, R0, FRAME, SCRATCH_AT);
}

/// Copies bytes from this place behind the Ethernet header to the stack.
fn load_bytes(a: &mut Assembler, at: i32, to: i16, length: i32, missing: Label) {
    a.copy(R2, R7);
    a.add(R2, at);
    call_load_bytes(a, to, length, missing);
}

/// Copies bytes from R2 in the frame. Works wherever the kernel keeps them, unlike direct access.
fn call_load_bytes(a: &mut Assembler, to: i16, length: i32, missing: Label) {
    a.copy(R1, R6);
    a.copy(R3, FRAME);
    a.add(R3, to.into());
    a.set(R4, length);
    a.call(LOAD_BYTES);
    a.jump_if(R0, When::Different, 0, missing);
}

/// A protocol as two bytes of a frame look when they are read as a number.
fn protocol(ether_type: libc::c_int) -> i32 {
    i32::from((ether_type as u16).to_be())
}
