//! Asks the network who has a VIP, as a client would, from a host that does not hold it: the truth from outside, which
//! no holder can tell of itself. A holder's kernel may have the address while its packets reach nobody, and two kernels
//! may have it while each says that all is well.

use crate::controller::{cannot_look_up, neighbourhood, not_sent};
use crate::error::VipError;
use crate::netlink::{ListedAddress, ListedLink, Message, Request, RouteSocket};
use crate::socket::{AnyReadable, Socket};
use crate::{Drained, filters, frames};
use domain::{InterfaceName, MOST_HOLDERS, MacAddress, Micros, SeenHolder, VipAddress, VipSighting};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// How often it is asked before silence is an answer: one packet lost is no absence.
const QUESTIONS: u32 = 3;
/// Time from one question to the next.
const PAUSE: Duration = Duration::from_millis(30);
/// How long answers to the last question are waited for. A kernel answers within a millisecond.
const WAIT: Duration = Duration::from_millis(40);
/// How long after the first answer another one may come. Longer than the pause, so that a second holder is asked twice.
const SETTLING: Duration = Duration::from_millis(40);
/// Packets read from each socket in one call.
const MOST_PACKETS: usize = 64;
/// Calls that read what was said before the question: more than the kernel keeps for a socket, unless told to keep more.
const MOST_STALE: usize = 8;
/// Longer than any neighbour advertisement that matters; a longer one is not read.
const LONGEST_PACKET: usize = 2_048;

/// Asks who has VIPs. Never waits: its descriptor is readable while packets wait that may be answers, and it says when
/// it wants to be called next.
///
/// An inquiry asks three times within 60 ms and is over after 100 ms, or 40 ms after the first answer. It counts only
/// answers to its own question: an announcement says what a machine believes, an answer what a client would get.
/// Between inquiries the kernel passes nothing on.
///
/// For IPv4 the question is an ARP request, sent from an address of the interface in the VIP's subnet. Where there is
/// none it is an ARP probe, which names no sender (RFC 5227, section 2.1.1). For IPv6 it is a neighbour solicitation from
/// the interface's link-local address, or one from nobody (RFC 4862, section 5.4.2) where there is none. The question
/// never has a VIP as its sender, and so it takes a VIP from nobody.
#[derive(Debug)]
pub struct Inquiry {
    readable: AnyReadable,
    arp: Socket,
    neighbours: Socket,
    route: RouteSocket,
    /// Kept between calls so that listing allocates nothing.
    listed: Vec<ListedAddress>,
    asked: BTreeMap<IpAddr, Asked>,
}

/// An inquiry in hand.
#[derive(Debug)]
struct Asked {
    vip: VipAddress,
    interface: InterfaceName,
    index: u32,
    /// The interface's Ethernet address, to which answers come.
    mac: MacAddress,
    question: Question,
    questions: u32,
    first: Micros,
    last: Micros,
    holders: Vec<SeenHolder>,
}

/// What is asked, with the address that asks; unspecified: nobody does.
#[derive(Debug, Clone, Copy)]
enum Question {
    Arp { vip: Ipv4Addr, source: Ipv4Addr },
    Neighbour { vip: Ipv6Addr, source: Ipv6Addr },
}

impl Inquiry {
    /// Opens the sockets; asks nothing yet.
    ///
    /// # Errors
    /// [`VipError::NoPermission`] without `CAP_NET_RAW`.
    pub fn open() -> Result<Self, VipError> {
        let cannot = |e| VipError::refused("open a packet socket", "CAP_NET_RAW", e);
        let (arp, neighbours) = (Socket::packet().map_err(cannot)?, Socket::packet().map_err(cannot)?);
        arp.listen(libc::ETH_P_ARP as u16, &filters::NOTHING).map_err(cannot)?;
        neighbours.listen(libc::ETH_P_IPV6 as u16, &filters::NOTHING).map_err(cannot)?;
        let readable = AnyReadable::of(&[&arp, &neighbours]).map_err(cannot)?;
        let route = RouteSocket::open().map_err(|e| VipError::kernel("open a netlink socket", e))?;
        Ok(Self { readable, arp, neighbours, route, listed: Vec::with_capacity(64), asked: BTreeMap::new() })
    }

    /// Begins to ask on the interface who has `vip`. An inquiry about the same VIP that is in hand ends without a
    /// result, so that all answers are younger than this call. `is_vip` tells which addresses of the interface must not
    /// ask, because they are VIPs themselves.
    ///
    /// # Errors
    /// [`VipError::NoInterface`], [`VipError::InterfaceDown`], [`VipError::NotEthernet`], [`VipError::NoNeighbours`],
    /// [`VipError::NotSent`], [`VipError::Kernel`]. No inquiry about the VIP is in hand then.
    pub fn ask(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        is_vip: impl Fn(IpAddr) -> bool,
        now: Micros,
    ) -> Result<(), VipError> {
        self.asked.remove(&vip.address);
        let asked = self.begin(vip, on, is_vip, now);
        let result = asked.map(|asked| drop(self.asked.insert(vip.address, asked)));
        self.rest();
        result
    }

    /// Takes in what was answered. `now` is when, on the clock of [`Inquiry::ask`].
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn hear(&mut self, now: Micros) -> Result<Drained, VipError> {
        let mut packet = [0; LONGEST_PACKET];
        let mut all = true;
        for socket in [&self.arp, &self.neighbours] {
            let mut empty = false;
            for _ in 0..MOST_PACKETS {
                let (received, index, sender) = match socket.receive_frame(&mut packet) {
                    Ok(frame) => frame,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        empty = true;
                        break;
                    }
                    // Too long; or the interface went down, which the next question tells.
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EMSGSIZE | libc::ENETDOWN)) => continue,
                    Err(e) => return Err(VipError::kernel("read answers about a VIP", e)),
                };
                let packet = &packet[..received];
                let Some((address, mac)) = frames::claim(packet, sender) else { continue };
                let Some(asked) = self.asked.get_mut(&address) else { continue };
                if asked.index == index && asked.question.is_answered_by(packet, asked.mac) {
                    asked.answered(mac, now);
                }
            }
            all &= empty;
        }
        Ok(if all { Drained::All } else { Drained::MoreWaits })
    }

    /// When [`Inquiry::ended`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        self.asked.values().map(Asked::due).min()
    }

    /// Asks again what is due to be asked again, and returns one inquiry that is over: who answered, or why nobody could
    /// be asked. To be called until it returns none; what waits is to be heard first.
    pub fn ended(&mut self, now: Micros) -> Option<(VipAddress, Result<VipSighting, VipError>)> {
        loop {
            let (address, asked) = self.asked.iter_mut().find(|(_, asked)| asked.due() <= now)?;
            let address = *address;
            let failed = if asked.is_over(now) {
                None
            } else {
                match asked.send(&self.arp, &self.neighbours) {
                    // It is not due any more.
                    Ok(()) => {
                        asked.questions += 1;
                        asked.last = now;
                        continue;
                    }
                    Err(e) => Some(e),
                }
            };
            let asked = self.asked.remove(&address)?;
            self.rest();
            let result = match failed {
                None if !asked.holders.is_empty() => Ok(asked.sighting()),
                // Silence on a dead wire says nothing, and a dead wire says more than what could not be sent on it.
                other => has_carrier(&mut self.route, asked.index, &asked.interface)
                    .and_then(|()| other.map_or_else(|| Ok(asked.sighting()), Err)),
            };
            return Some((asked.vip, result));
        }
    }

    fn begin(
        &mut self,
        vip: &VipAddress,
        on: &InterfaceName,
        is_vip: impl Fn(IpAddr) -> bool,
        now: Micros,
    ) -> Result<Asked, VipError> {
        let no_neighbours = || VipError::NoNeighbours { interface: on.clone() };
        let mac = neighbourhood(&self.arp, on)?.ok_or_else(no_neighbours)?;
        let index = self
            .arp
            .interface_index(on)
            .map_err(cannot_look_up)?
            .ok_or_else(|| VipError::NoInterface { interface: on.clone() })?;
        has_carrier(&mut self.route, index, on)?;
        let question = self.question(vip, index, is_vip)?;
        for _ in 0..MOST_STALE {
            if self.hear(now)? == Drained::All {
                break;
            }
        }
        if self.asked.is_empty() {
            self.listen(&filters::ARP_REPLIES, &filters::NEIGHBOUR_ADVERTISEMENTS)?;
        }
        let asked = Asked {
            vip: *vip,
            interface: on.clone(),
            index,
            mac,
            question,
            questions: 1,
            first: now,
            last: now,
            holders: Vec::with_capacity(MOST_HOLDERS),
        };
        asked.send(&self.arp, &self.neighbours)?;
        Ok(asked)
    }

    /// The question, asked from an address to which a holder has a way back.
    fn question(
        &mut self,
        vip: &VipAddress,
        index: u32,
        is_vip: impl Fn(IpAddr) -> bool,
    ) -> Result<Question, VipError> {
        let family = if vip.address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let read = |message: Message<'_>| ListedAddress::read(message).filter(|listed| listed.index == index);
        self.route
            .list(&Request::list_addresses(family, index), &mut self.listed, read)
            .map_err(|e| VipError::kernel("list addresses", e))?;
        let mut own = self.listed.iter().filter(|listed| listed.is_settled() && !is_vip(listed.address));
        Ok(match vip.address {
            IpAddr::V4(vip) => {
                let source = own.find_map(|listed| listed.in_subnet_of(vip));
                Question::Arp { vip, source: source.unwrap_or(Ipv4Addr::UNSPECIFIED) }
            }
            IpAddr::V6(vip) => {
                let source = own.find_map(ListedAddress::link_local);
                Question::Neighbour { vip, source: source.unwrap_or(Ipv6Addr::UNSPECIFIED) }
            }
        })
    }

    fn listen(&self, arp: &[libc::sock_filter], neighbours: &[libc::sock_filter]) -> Result<(), VipError> {
        let attached = self.arp.filter(arp).and_then(|()| self.neighbours.filter(neighbours));
        attached.map_err(|e| VipError::kernel("choose what a packet socket receives", e))
    }

    /// Listens to nothing when nothing is asked.
    fn rest(&self) {
        if self.asked.is_empty() {
            // Refused, it listens in vain until the next inquiry: nobody's loss.
            let _ = self.listen(&filters::NOTHING, &filters::NOTHING);
        }
    }
}

impl AsRawFd for Inquiry {
    fn as_raw_fd(&self) -> RawFd {
        self.readable.as_raw_fd()
    }
}

impl Asked {
    fn due(&self) -> Micros {
        let next = self.last + if self.questions < QUESTIONS { PAUSE } else { WAIT };
        self.holders.first().map_or(next, |first| next.min(first.at + SETTLING))
    }

    /// Whether there is nothing to wait for, at or after [`Asked::due`]. A caller who was late has asked less often, and
    /// that is no silence of the others.
    fn is_over(&self, now: Micros) -> bool {
        let settled = self.holders.first().is_some_and(|first| first.at + SETTLING <= now);
        settled || self.questions >= QUESTIONS
    }

    fn send(&self, arp: &Socket, neighbours: &Socket) -> Result<(), VipError> {
        let (ethernet_arp, ethernet_ipv6) = (libc::ETH_P_ARP as u16, libc::ETH_P_IPV6 as u16);
        let sent = match self.question {
            Question::Arp { vip, source } => {
                let question = frames::arp_question(vip, self.mac, source);
                arp.send_frame(self.index, ethernet_arp, frames::BROADCAST, &question)
            }
            Question::Neighbour { vip, source } if source.is_unspecified() => {
                let (to, probe) = frames::neighbour_probe(vip);
                neighbours.send_frame(self.index, ethernet_ipv6, to, &probe)
            }
            Question::Neighbour { vip, source } => {
                let (to, question) = frames::neighbour_question(vip, self.mac, source);
                neighbours.send_frame(self.index, ethernet_ipv6, to, &question)
            }
        };
        sent.map_err(|e| not_sent("a question", &self.vip, &self.interface, e))
    }

    fn answered(&mut self, mac: MacAddress, now: Micros) {
        if self.holders.len() < MOST_HOLDERS && self.holders.iter().all(|holder| holder.mac != mac) {
            self.holders.push(SeenHolder { mac, at: now });
        }
    }

    fn sighting(&self) -> VipSighting {
        VipSighting {
            vip: self.vip,
            interface: self.interface.clone(),
            asked: self.first,
            holders: self.holders.clone(),
        }
    }
}

impl Question {
    /// Whether a packet that is about the VIP answers this question, asked by `mac`.
    fn is_answered_by(self, packet: &[u8], mac: MacAddress) -> bool {
        match self {
            Question::Arp { .. } => frames::is_arp_reply_to(packet, mac),
            Question::Neighbour { source, .. } => frames::is_neighbour_answer_to(packet, source),
        }
    }
}

/// An error unless the interface is up and has carrier. Without carrier the kernel may take what is sent, and drop it.
fn has_carrier(route: &mut RouteSocket, index: u32, on: &InterfaceName) -> Result<(), VipError> {
    let mut found = Vec::with_capacity(1);
    let read = |message: Message<'_>| ListedLink::read(message).map(|link| (link.is_set_up(), link.is_up()));
    match route.list(&Request::list_links(index), &mut found, read) {
        Ok(()) if found == [(true, true)] => Ok(()),
        Ok(()) if found == [(false, false)] => Err(VipError::InterfaceDown { interface: on.clone() }),
        Ok(()) => Err(VipError::NoNeighbours { interface: on.clone() }),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {
            Err(VipError::NoInterface { interface: on.clone() })
        }
        Err(e) => Err(VipError::kernel("read the state of an interface", e)),
    }
}

/// When it is a VIP's turn to be asked for unasked, next after `now`. The VIPs have their turns spread over the period, each
/// always the same, so that many of them are not asked for in one burst.
#[must_use]
pub fn next_turn(vip: &VipAddress, period: Duration, now: Micros) -> Micros {
    let bits = match vip.address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    // Fibonacci hashing: neighbouring addresses come to lie far apart.
    let mixed = ((bits >> 64) as u64 ^ bits as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let period = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
    let turn = now.0 - now.0 % period + (mixed >> 32) % period;
    Micros(if turn > now.0 { turn } else { turn + period })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PERIOD_US: u64 = 10_000_000;
    const PERIOD: Duration = Duration::from_micros(PERIOD_US);

    #[test]
    fn turns_come_once_in_a_period_and_are_spread_over_it() {
        let vips: Vec<VipAddress> = (1..=200).map(|n| format!("192.0.2.{n}/24").parse().unwrap()).collect();
        let now = Micros(123_456_789);
        let turns: BTreeSet<u64> = vips.iter().map(|vip| next_turn(vip, PERIOD, now).0).collect();
        assert!(turns.iter().all(|turn| (now.0 + 1..=now.0 + PERIOD_US).contains(turn)));
        let tenths: BTreeSet<u64> = turns.iter().map(|turn| turn % PERIOD_US / (PERIOD_US / 10)).collect();
        assert_eq!((turns.len(), tenths.len()), (200, 10));
        for vip in &vips {
            let turn = next_turn(vip, PERIOD, now);
            assert_eq!(next_turn(vip, PERIOD, turn), Micros(turn.0 + PERIOD_US));
        }
    }
}
