//! ARP and neighbour discovery packets, as bytes: announcements and probes to send, answers to read. Pure.
//!
//! Sources: RFC 826 (ARP), RFC 5227 (address conflict detection), RFC 4861 (neighbour discovery), RFC 4862 (duplicate
//! address detection), RFC 2464 (IPv6 over Ethernet).

use domain::MacAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// To all stations of the link.
pub(crate) const BROADCAST: MacAddress = MacAddress([0xff; 6]);
/// To all IPv6 nodes of the link, `ff02::1` (RFC 2464, section 7).
pub(crate) const ALL_NODES: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);

/// To all IPv6 nodes of the link.
const ALL_NODES_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NOBODY: MacAddress = MacAddress([0; 6]);
/// Ethernet, IPv4, and the lengths of their addresses (RFC 826).
const ARP_HEADER: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Flag of an advertisement: take this address in place of the one you know.
const OVERRIDE: u8 = 0x20;
/// Flag of an advertisement: it answers a question that had a sender.
const SOLICITED: u8 = 0x40;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const IPV6_HEADER: usize = 40;
/// ICMPv6 header, flags and target.
const NEIGHBOUR_MESSAGE: usize = 24;

/// A gratuitous ARP request: "who has `vip`, tell `vip`", to everybody.
pub(crate) fn arp_announcement_request(vip: Ipv4Addr, mac: MacAddress) -> [u8; 28] {
    arp(ARP_REQUEST, (mac, vip), (NOBODY, vip))
}

/// A gratuitous ARP reply. Linux takes it for one, and forgets the old owner at once, only where the target's
/// link-layer address is the sender's (`arp_is_garp()` in the kernel's `net/ipv4/arp.c`).
pub(crate) fn arp_announcement_reply(vip: Ipv4Addr, mac: MacAddress) -> [u8; 28] {
    arp(ARP_REPLY, (mac, vip), (mac, vip))
}

/// An ARP probe: asks for `vip` without claiming it, so that nobody's ARP table changes (RFC 5227, section 2.1.1).
pub(crate) fn arp_probe(vip: Ipv4Addr, mac: MacAddress) -> [u8; 28] {
    arp_question(vip, mac, Ipv4Addr::UNSPECIFIED)
}

/// An ARP request: "who has `vip`, tell `source`". Where that is the unspecified address it is a probe.
pub(crate) fn arp_question(vip: Ipv4Addr, mac: MacAddress, source: Ipv4Addr) -> [u8; 28] {
    arp(ARP_REQUEST, (mac, source), (NOBODY, vip))
}

fn arp(operation: u8, sender: (MacAddress, Ipv4Addr), target: (MacAddress, Ipv4Addr)) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..6].copy_from_slice(&ARP_HEADER);
    packet[7] = operation;
    for (at, (mac, address)) in [(8, sender), (18, target)] {
        packet[at..at + 6].copy_from_slice(&mac.0);
        packet[at + 6..at + 10].copy_from_slice(&address.octets());
    }
    packet
}

/// Who says in a packet of either kind that they have which address; see [`arp_claim`] and [`neighbour_claim`].
pub(crate) fn claim(packet: &[u8], sender: MacAddress) -> Option<(IpAddr, MacAddress)> {
    // The first byte is 0 in ARP and 6x in IPv6: neither is read as the other.
    let arp = arp_claim(packet).map(|(address, mac)| (address.into(), mac));
    arp.or_else(|| neighbour_claim(packet, sender).map(|(address, mac)| (address.into(), mac)))
}

/// Whether an ARP packet is a reply to a question of `mac`.
pub(crate) fn is_arp_reply_to(packet: &[u8], mac: MacAddress) -> bool {
    packet.get(6..8) == Some(&[0, ARP_REPLY]) && packet.get(18..24) == Some(&mac.0)
}

/// Who says in an ARP packet, of whatever operation, that they have which address (RFC 5227, section 2.4).
pub(crate) fn arp_claim(packet: &[u8]) -> Option<(Ipv4Addr, MacAddress)> {
    let packet: &[u8; 28] = packet.first_chunk()?; // behind it there may be padding
    let (header, rest) = packet.split_first_chunk::<8>()?;
    let (mac, rest) = rest.split_first_chunk::<6>()?;
    let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    (header[..6] == ARP_HEADER && !address.is_unspecified()).then_some((address, MacAddress(*mac)))
}

/// An unsolicited neighbour advertisement from `vip` to all nodes, with the override flag (RFC 4861, section 7.2.6),
/// as an IPv6 packet.
pub(crate) fn neighbour_advertisement(vip: Ipv6Addr, mac: MacAddress) -> [u8; 72] {
    let mut packet = [0; 72];
    ipv6_header(&mut packet, vip, ALL_NODES_ADDRESS);
    packet[40] = NEIGHBOUR_ADVERTISEMENT;
    packet[44] = OVERRIDE;
    packet[48..64].copy_from_slice(&vip.octets());
    packet[64..66].copy_from_slice(&[TARGET_LINK_ADDRESS, 1]); // length in units of 8 bytes
    packet[66..].copy_from_slice(&mac.0);
    icmpv6_checksum(&mut packet);
    packet
}

/// A neighbour solicitation as duplicate address detection sends it: from nobody, so that no neighbour cache changes
/// (RFC 4862, section 5.4.2). As an IPv6 packet, with the link-layer address it goes to.
pub(crate) fn neighbour_probe(vip: Ipv6Addr) -> (MacAddress, [u8; 64]) {
    let (mac, solicited_node) = solicited_node(vip);
    let mut packet = [0; 64];
    ipv6_header(&mut packet, Ipv6Addr::UNSPECIFIED, solicited_node);
    packet[40] = NEIGHBOUR_SOLICITATION;
    packet[48..64].copy_from_slice(&vip.octets());
    icmpv6_checksum(&mut packet);
    (mac, packet)
}

/// A neighbour solicitation from `source`, which is at `mac`: to be answered to that address (RFC 4861, section 7.2.2).
/// As an IPv6 packet, with the link-layer address it goes to.
pub(crate) fn neighbour_question(vip: Ipv6Addr, mac: MacAddress, source: Ipv6Addr) -> (MacAddress, [u8; 72]) {
    let (to, solicited_node) = solicited_node(vip);
    let mut packet = [0; 72];
    ipv6_header(&mut packet, source, solicited_node);
    packet[40] = NEIGHBOUR_SOLICITATION;
    packet[48..64].copy_from_slice(&vip.octets());
    packet[64..66].copy_from_slice(&[SOURCE_LINK_ADDRESS, 1]); // length in units of 8 bytes
    packet[66..].copy_from_slice(&mac.0);
    icmpv6_checksum(&mut packet);
    (to, packet)
}

/// The multicast group to which everybody who may have `vip` listens (RFC 4291, section 2.7.1), link-layer address
/// first (RFC 2464, section 7).
fn solicited_node(vip: Ipv6Addr) -> (MacAddress, Ipv6Addr) {
    let [.., x, y, z] = vip.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    (MacAddress([0x33, 0x33, 0xff, x, y, z]), group)
}

/// Whether a neighbour advertisement answers a solicitation from `source`. One from nobody is answered to all nodes, and
/// not as solicited (RFC 4861, section 7.2.4).
pub(crate) fn is_neighbour_answer_to(packet: &[u8], source: Ipv6Addr) -> bool {
    let (solicited, to) = if source.is_unspecified() { (0, ALL_NODES_ADDRESS) } else { (SOLICITED, source) };
    packet.get(24..40) == Some(&to.octets())
        && packet.get(IPV6_HEADER + 4).is_some_and(|flags| flags & SOLICITED == solicited)
}

/// Who says in a neighbour advertisement that they have which address. `sender` is the frame's source, for an
/// advertisement without link-layer address. Packets that have passed a router (hop limit below 255) do not count
/// (RFC 4861, section 7.1.2).
pub(crate) fn neighbour_claim(packet: &[u8], sender: MacAddress) -> Option<(Ipv6Addr, MacAddress)> {
    let (header, message) = packet.split_first_chunk::<IPV6_HEADER>()?;
    let (fixed, mut options) = message.split_first_chunk::<NEIGHBOUR_MESSAGE>()?;
    let valid = header[0] >> 4 == 6
        && header[6] == ICMPV6
        && header[7] == 255
        && fixed[..2] == [NEIGHBOUR_ADVERTISEMENT, 0];
    if !valid {
        return None;
    }
    let target = Ipv6Addr::from(*fixed.last_chunk::<16>()?);
    // Options: kind, length in units of 8 bytes, content.
    while let Some((&[kind, units], content)) = options.split_first_chunk::<2>() {
        if kind == TARGET_LINK_ADDRESS {
            return content.first_chunk().map(|mac| (target, MacAddress(*mac)));
        }
        if units == 0 {
            return None;
        }
        options = options.get(usize::from(units) * 8..).unwrap_or_default();
    }
    Some((target, sender))
}

fn ipv6_header(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    let length = (packet.len() - IPV6_HEADER) as u16; // of the packets above
    packet[0] = 6 << 4;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = ICMPV6;
    packet[7] = 255; // hop limit
    packet[8..24].copy_from_slice(&source.octets());
    packet[24..40].copy_from_slice(&destination.octets());
}

/// Fills in the checksum of the message behind the header (RFC 4443, section 2.3).
fn icmpv6_checksum(packet: &mut [u8]) {
    let sum = !ones_complement_sum(packet);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
}

/// Over the pseudo-header (addresses, length, protocol) and the message; all ones for a message with a right
/// checksum.
fn ones_complement_sum(packet: &[u8]) -> u16 {
    let words = packet[8..].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let length = (packet.len() - IPV6_HEADER) as u32;
    let mut sum = words.sum::<u32>() + length + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab, 0xcdef);
    const MAC: MacAddress = MacAddress([2, 0, 0, 1, 2, 0xff]);

    #[test]
    fn arp_packets_are_what_the_rfcs_say() {
        let common = [0, 1, 8, 0, 6, 4, 0];
        let [vip, mac, nobody] = [&[192, 0, 2, 10][..], &MAC.0, &[0; 6]];
        assert_eq!(
            arp_announcement_request(VIP4, MAC)[..],
            [&common, &[1][..], mac, vip, nobody, vip].concat()
        );
        assert_eq!(arp_announcement_reply(VIP4, MAC)[..], [&common, &[2][..], mac, vip, mac, vip].concat());
        assert_eq!(arp_probe(VIP4, MAC)[..], [&common, &[1][..], mac, &[0; 4], nobody, vip].concat());
    }

    #[test]
    fn an_arp_claim_is_read_and_a_probe_is_none() {
        assert_eq!(arp_claim(&arp_announcement_request(VIP4, MAC)), Some((VIP4, MAC)));
        assert_eq!(
            arp_claim(&[&arp_announcement_reply(VIP4, MAC)[..], &[0; 18]].concat()),
            Some((VIP4, MAC))
        );
        assert_eq!(arp_claim(&arp_probe(VIP4, MAC)), None);
        let mut not_ethernet = arp_announcement_reply(VIP4, MAC);
        not_ethernet[1] = 32;
        assert_eq!(arp_claim(&not_ethernet), None);
    }

    #[test]
    fn neighbour_packets_are_what_the_rfcs_say() {
        let advertisement = neighbour_advertisement(VIP6, MAC);
        assert_eq!(advertisement[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(advertisement[8..24], VIP6.octets());
        assert_eq!(advertisement[44], 0x20, "override, neither router nor solicited");
        assert_eq!(ones_complement_sum(&advertisement), 0xffff);

        let (to, probe) = neighbour_probe(VIP6);
        assert_eq!(to.to_string(), "33:33:ff:ab:cd:ef");
        assert_eq!(probe[8..24], [0; 16], "from the unspecified address");
        assert_eq!(probe[24..40], "ff02::1:ffab:cdef".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(ones_complement_sum(&probe), 0xffff);
    }

    #[test]
    fn a_neighbour_claim_is_read() {
        let advertisement = neighbour_advertisement(VIP6, MAC);
        let other = MacAddress([2; 6]);
        assert_eq!(neighbour_claim(&advertisement, other), Some((VIP6, MAC)));
        assert_eq!(
            neighbour_claim(&advertisement[..64], other),
            Some((VIP6, other)),
            "no option: the frame's source"
        );
        assert_eq!(neighbour_claim(&neighbour_probe(VIP6).1, other), None, "a question is no claim");
        let mut routed = advertisement;
        routed[7] = 254;
        assert_eq!(neighbour_claim(&routed, other), None);
    }

    #[test]
    fn questions_have_a_sender_and_answers_go_to_it() {
        let own = Ipv4Addr::new(192, 0, 2, 2);
        let [sender, asked] = [&own.octets(), &VIP4.octets()];
        assert_eq!(
            arp_question(VIP4, MAC, own)[..],
            [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC.0, sender, &[0; 6], asked].concat()
        );
        assert!(is_arp_reply_to(&arp_announcement_reply(VIP4, MAC), MAC));
        assert!(!is_arp_reply_to(&arp_announcement_reply(VIP4, MAC), MacAddress([2; 6])));
        assert!(!is_arp_reply_to(&arp_announcement_request(VIP4, MAC), NOBODY), "a request is no reply");

        let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
        let (to, question) = neighbour_question(VIP6, MAC, own);
        assert_eq!(to, neighbour_probe(VIP6).0);
        assert_eq!(question[8..24], own.octets());
        assert_eq!(question[24..40], neighbour_probe(VIP6).1[24..40]);
        assert_eq!(question[64..], [&[1, 1][..], &MAC.0].concat(), "the source link-layer address");
        assert_eq!(ones_complement_sum(&question), 0xffff);

        let mut answer = neighbour_advertisement(VIP6, MAC);
        assert!(
            is_neighbour_answer_to(&answer, Ipv6Addr::UNSPECIFIED),
            "nobody's question is answered to all"
        );
        assert!(!is_neighbour_answer_to(&answer, own));
        answer[24..40].copy_from_slice(&own.octets());
        assert!(!is_neighbour_answer_to(&answer, own), "not solicited");
        answer[44] |= SOLICITED;
        assert!(is_neighbour_answer_to(&answer, own));
    }

    #[test]
    fn no_bytes_from_outside_panic() {
        let arp = arp_announcement_reply(VIP4, MAC);
        let advertisement = neighbour_advertisement(VIP6, MAC);
        for end in 0..=arp.len() {
            assert_eq!(arp_claim(&arp[..end]).is_some(), end == arp.len());
            assert_eq!(is_arp_reply_to(&arp[..end], MAC), end >= 24);
        }
        for end in 0..=advertisement.len() {
            let whole = end == 64 || end == 65 || end == advertisement.len();
            assert_eq!(neighbour_claim(&advertisement[..end], MAC).is_some(), whole, "{end} bytes");
            assert_eq!(is_neighbour_answer_to(&advertisement[..end], Ipv6Addr::UNSPECIFIED), end >= 45);
        }
        for units in 0..=255 {
            let mut foreign = advertisement;
            foreign[64..66].copy_from_slice(&[14, units]);
            assert_eq!(neighbour_claim(&foreign, MAC).is_some(), units != 0);
        }
    }
}
