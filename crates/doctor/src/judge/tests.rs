//! Facts that are all well, one of them changed at a time, and what is then said.

use super::*;
use crate::facts::{
    BPF, Clock, Filter, IPC_LOCK, Interface, Ipv4Settings, Ipv6Settings, Jitter, Kind, Lateness, Link,
    Manager, Rights, RunDirectory, SYS_ADMIN, SYS_NICE, SYS_RESOURCE, VipSeen, Watchdog,
};
use domain::InterfaceName;
use std::collections::BTreeSet;

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

fn lateness(max_us: u64) -> Lateness {
    Lateness { p50_us: 3, p99_us: 40.min(max_us), max_us, wakes: 10_000 }
}

/// A host in the best of orders.
fn well() -> Facts {
    let capabilities = [NET_ADMIN, NET_RAW, IPC_LOCK, SYS_ADMIN, SYS_NICE, SYS_RESOURCE, BPF];
    let eth0 = Interface {
        name: name("eth0"),
        link: Some(Link { up: true, carrier: true, link_type: 1, ..Link::default() }),
        ipv4: Ipv4Settings::default(),
        ipv6: Some(Ipv6Settings { disabled: false, accept_dad: 1 }),
        managers: Vec::new(),
    };
    let vip = VipSeen {
        vip: "2001:db8::100/64".parse().unwrap(),
        interface: name("eth0"),
        here: false,
        elsewhere: BTreeSet::new(),
        unasked: None,
    };
    Facts {
        kernel: "6.12.0".to_owned(),
        uptime: Duration::from_secs(86_400),
        gate: Gate::Works(Vec::new()),
        rights: Rights {
            capabilities: capabilities.iter().fold(0, |set, bit| set | 1 << bit),
            machine: true,
            real_time_limit: Some(0),
            locked_memory_limit: Some(8 << 20),
            real_time_runtime_us: Some(950_000),
            group_runtime_us: None,
        },
        clock: Clock {
            source: "tsc".to_owned(),
            available: vec!["tsc".to_owned(), "hpet".to_owned()],
            synchronised: Some(true),
            correction_ppm: Some(-12.0),
            slew_ppm: Some(-12.0),
            chrony_max_slew_ppm: Some(400.0),
        },
        jitter: Some(Jitter { real_time: Some(lateness(80)), ordinary: lateness(4_000) }),
        interfaces: vec![eth0],
        addresses: vec![(name("eth0"), "192.0.2.11".parse().unwrap(), 24)],
        vips: vec![vip],
        nonlocal_bind: [Some(true), Some(true)],
        filter: Some(Filter { port: 7401, drops: Vec::new(), unclear: Vec::new() }),
        conntrack: Some((79, 100)),
        programs: ["chronyd", "sshd"].map(str::to_owned).into(),
        run_directory: RunDirectory { path: "/run/takeover".into(), file_system: Some("tmpfs".to_owned()) },
        watchdogs: vec![Watchdog { name: "watchdog0".to_owned(), ..Watchdog::default() }],
        watchdog_wanted: Some("/dev/watchdog".into()),
        cgroups: crate::facts::Cgroups { unified: true },
        pairs: vec![("sip".parse().unwrap(), Profile::Fast)],
    }
}

#[test]
fn a_host_in_order_has_nothing_but_good_findings() {
    let report = judge(&well());
    let rest: Vec<_> = report.findings.iter().filter(|finding| finding.level != Level::Good).collect();
    assert!(rest.is_empty(), "{rest:#?}");
    assert_eq!(report.exit_code(), 0);
    assert!(report.guarantee.starts_with("lease and gate"), "{}", report.guarantee);
    assert!(report.profiles.iter().all(|profile| profile.flappy.is_none()), "{:?}", report.profiles);
}

/// What is changed, and the one finding that is to be other than good.
type Row = (fn(&mut Facts), Level, &'static str, &'static str);

fn second_interface(facts: &mut Facts, address: &str) {
    facts.addresses.push((name("eth1"), address.parse().unwrap(), 24));
}

fn link(facts: &mut Facts) -> &mut Link {
    facts.interfaces[0].link.as_mut().unwrap()
}

const ROWS: &[Row] = &[
    (|f| f.gate = Gate::Lacks(vec!["no bpf(2)".into()]), Level::Warning, "gate", "no bpf(2)"),
    (|f| f.gate = Gate::Works(vec!["adoption".into()]), Level::Note, "gate", "without adoption"),
    (|f| f.gate = Gate::Unknown, Level::Note, "gate", "not looked at"),
    (|f| f.rights.capabilities &= !(1 << NET_RAW), Level::Error, "capabilities", "CAP_NET_RAW"),
    (|f| f.rights.capabilities &= !(1 << SYS_NICE), Level::Note, "capabilities", "CAP_SYS_NICE"),
    (|f| f.rights.real_time_runtime_us = Some(0), Level::Warning, "real-time", "sched_rt_runtime_us"),
    (|f| f.rights.group_runtime_us = Some(0), Level::Warning, "real-time", "RT_GROUP_SCHED"),
    (|f| f.jitter = None, Level::Note, "jitter", "not measured"),
    (|f| f.clock.source = "hpet".into(), Level::Warning, "clock-source", "hpet"),
    (|f| f.clock.source = "jiffies".into(), Level::Error, "clock-source", "jiffies"),
    (|f| f.clock.slew_ppm = Some(501.0), Level::Error, "clock-rate", "+501.0 ppm"),
    (|f| f.clock.slew_ppm = Some(-501.0), Level::Error, "clock-rate", "-501.0 ppm"),
    (|f| f.clock.slew_ppm = Some(499.0), Level::Warning, "clock-rate", "+499.0 ppm"),
    (
        |f| (f.clock.slew_ppm, f.clock.correction_ppm) = (None, Some(600.0)),
        Level::Error,
        "clock-rate",
        "+600.0",
    ),
    (|f| f.clock.chrony_max_slew_ppm = Some(83_333.333), Level::Warning, "clock-slewing", "83333 ppm"),
    (|f| f.clock.synchronised = Some(false), Level::Note, "clock-sync", "not synchronised"),
    (
        |f| f.jitter = Some(Jitter { real_time: Some(lateness(10_000)), ordinary: lateness(10_000) }),
        Level::Warning,
        "jitter",
        "max 10.000 ms",
    ),
    (|f| f.interfaces[0].link = None, Level::Error, "interface", "none of this name"),
    (|f| link(f).up = false, Level::Error, "interface", "down"),
    (|f| link(f).carrier = false, Level::Error, "interface", "no carrier"),
    (|f| link(f).link_type = 65_534, Level::Error, "interface", "65534"),
    (|f| link(f).master = Some("br0".into()), Level::Error, "interface", "a port of br0"),
    (|f| link(f).kind = Kind::Wireless, Level::Warning, "interface", "wireless"),
    (|f| link(f).kind = Kind::Bridge { spanning_tree: true }, Level::Note, "interface", "spanning tree"),
    (|f| f.interfaces[0].ipv4.arp_ignore = 8, Level::Error, "arp-ignore", "8"),
    (|f| f.interfaces[0].ipv4.proxy_arp = true, Level::Warning, "proxy-arp", "1"),
    (|f| f.interfaces[0].ipv6 = None, Level::Error, "ipv6", "off"),
    (|f| f.interfaces[0].ipv6.as_mut().unwrap().accept_dad = 2, Level::Warning, "ipv6", "accept_dad 2"),
    (
        |f| {
            f.interfaces[0].managers =
                vec![Manager::Networkd { file: Some("/etc/n/7.network".into()), keeps: false }]
        },
        Level::Warning,
        "managed",
        "systemd-networkd",
    ),
    (|f| f.interfaces[0].managers = vec![Manager::NetworkManager], Level::Note, "managed", "NetworkManager"),
    (|f| f.nonlocal_bind = [Some(false), None], Level::Note, "nonlocal-bind", "off for ipv4"),
    (
        |f| f.filter.as_mut().unwrap().drops.push("inet t in".into()),
        Level::Warning,
        "firewall",
        "7401 is dropped",
    ),
    (|f| f.filter.as_mut().unwrap().unclear.push("inet t in".into()), Level::Note, "firewall", "not clear"),
    (|f| f.filter = None, Level::Note, "firewall", "not looked at"),
    (|f| f.conntrack = Some((80, 100)), Level::Warning, "conntrack", "80 of 100"),
    (|f| f.conntrack = Some((95, 100)), Level::Error, "conntrack", "95 of 100"),
    (|f| f.programs.extend(["keepalived".into()]), Level::Warning, "rivals", "VRRP is running"),
    (|f| f.run_directory.file_system = Some("ext4".into()), Level::Warning, "run-directory", "ext4"),
    (|f| f.uptime = Duration::from_secs(59), Level::Note, "run-directory", "booted 59 s ago"),
    (|f| f.watchdogs.clear(), Level::Warning, "watchdog", "there is no device"),
    (|f| f.watchdogs[0].active = true, Level::Note, "watchdog", "in use"),
    (|f| f.cgroups.unified = false, Level::Note, "cgroup", "version 2 is not"),
    (|f| f.vips[0].here = true, Level::Good, "vip", "here, and nowhere else"),
    (|f| f.vips[0].elsewhere.extend(["02:00:00:00:00:01".into()]), Level::Note, "vip", "02:00:00:00:00:01"),
    (
        |f| {
            f.vips[0].here = true;
            f.vips[0].elsewhere.insert("02:00:00:00:00:01".into());
        },
        Level::Error,
        "vip",
        "as well",
    ),
    (|f| f.vips[0].unasked = Some("no rights".into()), Level::Note, "vip", "no rights"),
];

#[test]
fn each_fact_has_its_finding_and_no_other() {
    for (row, (change, level, check, seen)) in ROWS.iter().enumerate() {
        let mut facts = well();
        change(&mut facts);
        let report = judge(&facts);
        let found: Vec<_> = report.findings.iter().filter(|f| f.check == *check).collect();
        assert!(
            found.iter().any(|f| f.level == *level && f.seen.contains(seen)),
            "row {row}: expected {level} {check} with {seen:?}, found {found:#?}"
        );
        let others: Vec<_> =
            report.findings.iter().filter(|f| f.check != *check && f.level > Level::Good).collect();
        assert!(others.is_empty(), "row {row}: {check} also led to {others:#?}");
        for finding in found.iter().filter(|f| f.level >= Level::Warning) {
            assert!(!finding.why.is_empty() && !finding.remedy.is_empty(), "row {row}: {finding:#?}");
        }
    }
}

#[test]
fn settings_that_matter_with_several_interfaces_are_well_with_one() {
    let of = |prepare: fn(&mut Facts), check: &str| {
        let mut facts = well();
        prepare(&mut facts);
        let report = judge(&facts);
        let finding = report.findings.iter().find(|finding| finding.check == check);
        finding.map_or(Level::Good, |finding| finding.level)
    };
    assert_eq!(of(|f| f.interfaces[0].ipv4.rp_filter = 1, "rp-filter"), Level::Good);
    let strict = |f: &mut Facts| {
        f.interfaces[0].ipv4.rp_filter = 1;
        second_interface(f, "198.51.100.1");
    };
    assert_eq!(of(strict, "rp-filter"), Level::Warning);
    assert_eq!(of(|f| second_interface(f, "198.51.100.1"), "arp-ignore"), Level::Note);
    assert_eq!(of(|f| second_interface(f, "198.51.100.1"), "arp-announce"), Level::Good);
    assert_eq!(of(|f| second_interface(f, "192.0.2.99"), "arp-ignore"), Level::Warning);
    assert_eq!(of(|f| second_interface(f, "192.0.2.99"), "arp-announce"), Level::Note);
}

#[test]
fn the_guarantee_follows_from_gate_clock_and_rights() {
    let of = |change: fn(&mut Facts)| {
        let mut facts = well();
        change(&mut facts);
        judge(&facts).guarantee
    };
    assert!(of(|f| f.gate = Gate::Lacks(vec![String::new()])).starts_with("lease without gate"));
    assert!(of(|f| f.clock.slew_ppm = Some(900.0)).starts_with("none while the clock"));
    assert!(of(|f| f.rights.capabilities = 0).starts_with("none: this process"));
}

#[test]
fn profiles_are_judged_by_the_longest_stall_with_the_agents_scheduling() {
    let kept = |real_time: Option<u64>, ordinary| {
        let mut facts = well();
        let jitter = Jitter { real_time: real_time.map(lateness), ordinary: lateness(ordinary) };
        facts.jitter = Some(jitter);
        facts.pairs = vec![(
            "own".parse().unwrap(),
            Profile::Custom { heartbeat: Duration::from_millis(20), hold: Duration::from_millis(60) },
        )];
        let profiles = judge(&facts).profiles;
        profiles.into_iter().filter(|p| p.flappy.is_none()).map(|p| p.profile).collect::<Vec<_>>()
    };
    let own = "\"20ms/60ms\" of pair own";
    assert_eq!(kept(Some(100), 300_000), ["\"fast\"", "\"normal\"", "\"wan\"", own]);
    assert_eq!(kept(None, 15_000), ["\"normal\"", "\"wan\"", own]);
    assert_eq!(kept(Some(20_000), 0), ["\"normal\"", "\"wan\""]);
    assert_eq!(kept(None, 300_000), ["\"wan\""]);
}

#[test]
fn a_finding_is_shown_with_reason_and_remedies() {
    let mut facts = well();
    facts.interfaces[0].managers = vec![Manager::Networkd { file: None, keeps: false }];
    let text = judge(&facts).to_string();
    assert!(
        text.contains("warning  managed eth0: by systemd-networkd\n           why: it removes"),
        "{text}"
    );
    assert!(
        text.contains("        remedy: write /etc/systemd/network/50-eth0.network.d/takeover.conf:\n"),
        "{text}"
    );
    assert!(text.contains("                    KeepConfiguration=static\n"), "{text}");
    assert!(text.contains("0 errors, 1 warnings"), "{text}");
}
