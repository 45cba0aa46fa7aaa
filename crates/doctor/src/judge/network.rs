//! Interfaces, their settings, who else configures them, the packet filter, and VIPs on the network.

use crate::facts::{Facts, Gate, Interface, Kind, Link, Manager, VipSeen};
use crate::report::Finding;
use domain::InterfaceName;
use std::net::IpAddr;

/// `ARPHRD_ETHER` of the kernel's `linux/if_arp.h`.
const ETHERNET: u16 = 1;
/// Shares of the connection tracking table, percent, from which there is a warning, an error.
const CONNTRACK: (u64, u64) = (80, 95);

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.interfaces.is_empty() {
        findings.push(
            Finding::note("interface", "none looked at")
                .remedy("name those that VIPs go to: --interface eth0"),
        );
    }
    for interface in &facts.interfaces {
        let mut one = vec![link(interface)];
        if interface.link.is_some() {
            one.push(rp_filter(facts, interface));
            one.push(arp_ignore(facts, interface));
            one.extend(arp_announce(facts, interface));
            one.extend(arp_notify(facts, interface));
            one.extend(proxy_arp(interface));
            one.push(ipv6(facts, interface));
            one.extend(managers(interface));
        }
        let name = interface.name.as_str();
        findings.extend(one.into_iter().map(|finding| finding.about(name)));
    }
    findings.push(nonlocal_bind(facts));
    findings.push(filter(facts));
    findings.push(conntrack(facts));
    findings.extend(facts.vips.iter().map(vip));
}

fn link(interface: &Interface) -> Finding {
    let Some(Link { up, carrier, link_type, kind, master }) = &interface.link else {
        return Finding::error("interface", "there is none of this name")
            .why("a VIP cannot go there")
            .remedy("ip -brief link; then `interface` of the VIP in the cluster file");
    };
    if let Some(master) = master {
        return Finding::error("interface", format!("a port of {master}"))
            .why("the address of a port answers nobody: packets go to its master")
            .remedy(format!("interface = \"{master}\" in the cluster file"));
    }
    if *link_type != ETHERNET {
        return Finding::error("interface", format!("link type {link_type}, not Ethernet"))
            .why("without ARP and neighbour discovery an address cannot be taken over")
            .remedy("a VIP needs an Ethernet interface");
    }
    if !*up {
        return Finding::error("interface", "down")
            .why("a VIP there is not reachable, and a backup on this host is not ready")
            .remedy(format!("ip link set {} up", interface.name));
    }
    if !*carrier {
        return Finding::error("interface", "no carrier")
            .why("a VIP there is not reachable, and a backup on this host is not ready")
            .remedy("look at cable and switch port");
    }
    match kind {
        Kind::Plain => Finding::good("interface", "up, with carrier"),
        Kind::Vlan => Finding::good("interface", "up, with carrier, a VLAN"),
        Kind::Bond(mode) => Finding::good("interface", format!("up, with carrier, a bond in mode {mode}")),
        Kind::Bridge { spanning_tree: false } => Finding::good("interface", "up, with carrier, a bridge"),
        Kind::Bridge { spanning_tree: true } => {
            Finding::note("interface", "a bridge with the spanning tree protocol")
                .why("a port that comes up passes nothing for up to 30 s, announcements included")
                .remedy(format!(
                    "ip link set {} type bridge forward_delay 0, or stp_state 0 where there are no \
                    loops",
                    interface.name
                ))
        }
        Kind::Wireless => Finding::warning("interface", "wireless")
            .why(
                "access points drop gratuitous ARP, or answer for their stations: clients learn \
                    of a takeover late",
            )
            .remedy("a wired interface"),
    }
}

/// Other interfaces with an address of the family of IPv4; whether one is in a network of `name`.
fn neighbours<'a>(facts: &'a Facts, name: &InterfaceName) -> (Vec<&'a InterfaceName>, bool) {
    let mut others: Vec<&InterfaceName> =
        facts.addresses.iter().filter(|(n, a, _)| n != name && a.is_ipv4()).map(|(n, _, _)| n).collect();
    others.sort();
    others.dedup();
    let network = |address: &IpAddr, prefix: u8| match address {
        IpAddr::V4(a) => {
            Some((u32::from(*a).checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0), prefix))
        }
        IpAddr::V6(_) => None,
    };
    let of = |own: bool| {
        facts
            .addresses
            .iter()
            .filter(move |(n, _, _)| (n == name) == own)
            .filter_map(move |(_, a, p)| network(a, *p))
    };
    let shared = of(true).any(|ours| of(false).any(|theirs| theirs == ours));
    (others, shared)
}

fn rp_filter(facts: &Facts, interface: &Interface) -> Finding {
    let name = &interface.name;
    let (others, _) = neighbours(facts, name);
    let seen = format!("{} (0 off, 1 strict, 2 loose)", interface.ipv4.rp_filter);
    if interface.ipv4.rp_filter != 1 || others.is_empty() {
        return Finding::good("rp-filter", seen);
    }
    Finding::warning("rp-filter", seen)
        .why(
            "this host has other interfaces: packets to the VIP from clients that are \
                    routed over one of those are dropped without a word",
        )
        .remedy(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"))
}

fn arp_ignore(facts: &Facts, interface: &Interface) -> Finding {
    let name = &interface.name;
    let value = interface.ipv4.arp_ignore;
    let (others, shared) = neighbours(facts, name);
    match value {
        1..=3 => Finding::good("arp-ignore", value.to_string()),
        4..=u8::MAX => Finding::error("arp-ignore", value.to_string())
            .why("no ARP request is answered: nobody finds the VIP")
            .remedy(format!("sysctl -w net.ipv4.conf.{name}.arp_ignore=1 (and conf.all)")),
        0 if others.is_empty() => Finding::good("arp-ignore", "0, and no other interface"),
        0 => {
            let seen = format!("0, and other interfaces: {}", names(&others));
            let finding =
                if shared { Finding::warning("arp-ignore", seen) } else { Finding::note("arp-ignore", seen) };
            finding
                .why(
                    "another interface on the same network answers for the VIP with its own \
                    address, past the gate",
                )
                .remedy("sysctl -w net.ipv4.conf.all.arp_ignore=1")
        }
    }
}

fn arp_announce(facts: &Facts, interface: &Interface) -> Option<Finding> {
    let (others, shared) = neighbours(facts, &interface.name);
    (interface.ipv4.arp_announce == 0 && shared).then(|| {
        Finding::note(
            "arp-announce",
            format!("0, and other interfaces on the same network: {}", names(&others)),
        )
        .why(
            "their ARP requests may name the VIP as sender, and teach neighbours the wrong \
                    link layer address",
        )
        .remedy("sysctl -w net.ipv4.conf.all.arp_announce=2")
    })
}

fn arp_notify(facts: &Facts, interface: &Interface) -> Option<Finding> {
    let gate = matches!(facts.gate, Gate::Works(_));
    (interface.ipv4.arp_notify && !gate).then(|| {
        Finding::note("arp-notify", "1")
            .why("the kernel announces a VIP when the interface comes up, also one that should not be here")
            .remedy(format!(
                "sysctl -w net.ipv4.conf.{}.arp_notify=0: the agent announces by itself",
                interface.name
            ))
    })
}

fn proxy_arp(interface: &Interface) -> Option<Finding> {
    interface.ipv4.proxy_arp.then(|| {
        Finding::warning("proxy-arp", "1")
            .why(
                "this host answers ARP requests for others, and may answer for a VIP that the \
                    other host holds",
            )
            .remedy(format!("sysctl -w net.ipv4.conf.{}.proxy_arp=0 (and conf.all)", interface.name))
    })
}

fn ipv6(facts: &Facts, interface: &Interface) -> Finding {
    let name = &interface.name;
    let wanted = facts.vips.iter().any(|seen| &seen.interface == name && seen.vip.address.is_ipv6());
    let remedy = format!("sysctl -w net.ipv6.conf.{name}.disable_ipv6=0");
    match interface.ipv6 {
        Some(settings) if !settings.disabled && settings.accept_dad >= 2 => {
            Finding::warning("ipv6", "accept_dad 2")
                .why(
                    "IPv6 is switched off on the interface when its link-local address is seen \
                    twice, and VIPs with it",
                )
                .remedy(format!("sysctl -w net.ipv6.conf.{name}.accept_dad=1 (and conf.all)"))
        }
        // Optimistic or not: VIPs are put on without duplicate address detection, the agent does it beside.
        Some(settings) if !settings.disabled => Finding::good("ipv6", "on"),
        Some(_) | None if wanted => {
            Finding::error("ipv6", "off").why("a VIP of this interface is an IPv6 address").remedy(remedy)
        }
        Some(_) | None => Finding::good("ipv6", "off, and no VIP needs it"),
    }
}

fn managers(interface: &Interface) -> Vec<Finding> {
    let name = &interface.name;
    let why = "it removes addresses that it did not put there when it configures the interface anew; the agent puts a VIP \
               back in milliseconds, but calls notice";
    let of = |manager: &Manager| {
        match manager {
        Manager::Networkd { keeps: true, .. } => Finding::good("managed", "by systemd-networkd, which keeps addresses"),
        Manager::Networkd { file, keeps: false } => {
            let unit = file.as_ref().and_then(|file| file.file_name()).map_or_else(
                || format!("50-{name}.network"),
                |file| file.to_string_lossy().into_owned(),
            );
            Finding::warning("managed", "by systemd-networkd")
                .why(why)
                .remedy(format!("write /etc/systemd/network/{unit}.d/takeover.conf:"))
                .remedy("    [Network]")
                .remedy("    KeepConfiguration=static")
                .remedy("networkctl reload")
        }
        Manager::NetworkManager => Finding::note("managed", "by NetworkManager")
            .why(why)
            .remedy("leave it alone while this host is primary (nmcli device reapply, connection up), or have the interface \
                     configured by something else and write /etc/NetworkManager/conf.d/takeover.conf:")
            .remedy("    [keyfile]")
            .remedy(format!("    unmanaged-devices=interface-name:{name}"))
            .remedy("systemctl reload NetworkManager"),
    }
    };
    if interface.managers.is_empty() {
        return vec![Finding::good("managed", "by no daemon")];
    }
    interface.managers.iter().map(of).collect()
}

fn nonlocal_bind(facts: &Facts) -> Finding {
    let off: Vec<&str> = ["ipv4", "ipv6"]
        .into_iter()
        .zip(facts.nonlocal_bind)
        .filter(|(_, set)| *set == Some(false))
        .map(|(family, _)| family)
        .collect();
    if off.is_empty() {
        return Finding::good("nonlocal-bind", "on");
    }
    let remedy: Vec<String> = off.iter().map(|family| format!("net.{family}.ip_nonlocal_bind=1")).collect();
    Finding::note("nonlocal-bind", format!("off for {}", off.join(", ")))
        .why(
            "takeover's own SIP Server does without (IP_FREEBIND); another one cannot \
                    listen at a VIP that is not here, and has to listen at every address",
        )
        .remedy(format!("sysctl -w {}, for servers that name the VIP", remedy.join(" ")))
}

fn filter(facts: &Facts) -> Finding {
    let firewalld = facts.programs.contains("firewalld");
    let Some(filter) = &facts.filter else {
        return Finding::note("firewall", "not looked at: nft is not here or may not be asked")
            .why("the agents of a pair must reach each other");
    };
    let port = filter.port;
    let remedy = if firewalld {
        format!(
            "firewall-cmd --permanent --add-port={port}/tcp --add-port={port}/udp && firewall-cmd --reload"
        )
    } else {
        format!("accept TCP and UDP port {port} from the other host there")
    };
    let why = "the agents of a pair vote and hand over there: without it a failure is not \
                    taken over while the SCS is away";
    if !filter.drops.is_empty() {
        Finding::warning("firewall", format!("port {port} is dropped by {}", filter.drops.join(", ")))
            .why(why)
            .remedy(remedy)
    } else if !filter.unclear.is_empty() {
        Finding::note(
            "firewall",
            format!("whether port {port} passes {} is not clear", filter.unclear.join(", ")),
        )
        .why(why)
        .remedy(remedy)
    } else {
        Finding::good("firewall", format!("port {port} passes"))
    }
}

fn conntrack(facts: &Facts) -> Finding {
    let Some((count, most)) = facts.conntrack.filter(|(_, most)| *most > 0) else {
        return Finding::good("conntrack", "not in use");
    };
    let percent = count.saturating_mul(100) / most;
    let seen = format!("{count} of {most} entries");
    let finding = if percent >= CONNTRACK.1 {
        Finding::error("conntrack", seen)
    } else if percent >= CONNTRACK.0 {
        Finding::warning("conntrack", seen)
    } else {
        return Finding::good("conntrack", seen);
    };
    finding
        .why(
            "when the table is full, packets of new flows are dropped: heartbeats, and \
                    calls after a takeover",
        )
        .remedy(format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(4)))
        .remedy("or keep SIP and RTP out of it: `notrack` in a chain of priority raw")
}

fn vip(seen: &VipSeen) -> Finding {
    let VipSeen { vip, interface, here, elsewhere, unasked } = seen;
    let about = format!("{} on {interface}", vip.address);
    let others: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    let finding = match (here, unasked) {
        (_, Some(why)) => Finding::note("vip", format!("nobody could be asked: {why}")),
        (true, None) if !others.is_empty() => {
            Finding::error("vip", format!("here, and answered by {} as well", others.join(", ")))
                .why("two hosts answer")
                .remedy(format!("takeover status; ip neigh show {}", vip.address))
        }
        (true, None) => Finding::good("vip", "here, and nowhere else"),
        (false, None) if others.len() > 1 => {
            Finding::error("vip", format!("answered by {}", others.join(", ")))
                .why("two hosts answer")
                .remedy("takeover status; on the switch, look for these addresses")
        }
        (false, None) if others.is_empty() => Finding::good("vip", "nobody answers for it now"),
        (false, None) => Finding::note("vip", format!("answered by {}", others.join(", ")))
            .why(
                "right if that is the other host of the pair; else a machine has the address \
                    that is to be a VIP",
            )
            .remedy("compare with `ip link` on the other host"),
    };
    finding.about(about)
}

fn names(interfaces: &[&InterfaceName]) -> String {
    interfaces.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
