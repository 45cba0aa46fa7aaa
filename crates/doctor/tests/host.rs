//! The doctor on a host of the laboratory: the kernel's own settings, changed, are what it says.

// clippy knows test functions, and not cases of another harness.
#![allow(clippy::unwrap_used)]

use doctor::{Finding, Level, Report, Request, Root, examine};
use domain::InterfaceName;
use netlab::{Lab, Nic, harness};
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    harness::run(&netlab::cases![settings_that_are_changed_are_told, a_vip_on_two_hosts_is_told])
}

fn request(interfaces: &[&str]) -> Request {
    Request {
        root: Root::new("/"),
        interfaces: interfaces.iter().map(|name| InterfaceName::new(name).unwrap()).collect(),
        vips: Vec::new(),
        pairs: Vec::new(),
        run_directory: "/run/takeover".into(),
        watchdog: None,
        port: 7401,
        measure: Duration::ZERO,
    }
}

fn examined(lab: &Lab, host: &str, request: &Request) -> Report {
    lab.in_host(host, || examine(request)).unwrap().unwrap()
}

fn finding<'a>(report: &'a Report, check: &str) -> &'a Finding {
    report
        .findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("no {check}: {report}"))
}

fn two_networks(lab: &mut Lab) {
    let nics = [
        Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.11/24"] },
        Nic { segment: "management", name: "eth1", addresses: &["198.51.100.11/24"] },
    ];
    lab.host("host1", &nics).unwrap();
}

fn settings_that_are_changed_are_told(lab: &mut Lab) {
    two_networks(lab);
    let request = request(&["eth0", "eth7"]);
    let set = |setting: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/eth0/{setting}");
        lab.in_host("host1", || fs::write(path, value)).unwrap().unwrap();
    };
    set("rp_filter", "0");
    lab.in_host("host1", || fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0")).unwrap().unwrap();
    let before = examined(lab, "host1", &request);
    assert_eq!(finding(&before, "rp-filter").level, Level::Good, "{before}");
    assert_eq!(finding(&before, "interface").seen, "up, with carrier", "{before}");
    assert_eq!(finding(&before, "clock-rate").subject, None);
    let missing = before.findings.iter().find(|finding| finding.subject.as_deref() == Some("eth7")).unwrap();
    assert_eq!((missing.level, before.exit_code()), (Level::Error, 2), "{before}");

    set("rp_filter", "1");
    set("arp_ignore", "8");
    set("proxy_arp", "1");
    lab.cut_segment("host1", "lan").unwrap();
    let after = examined(lab, "host1", &request);
    for (check, level) in
        [("rp-filter", Level::Warning), ("arp-ignore", Level::Error), ("proxy-arp", Level::Warning)]
    {
        assert_eq!(finding(&after, check).level, level, "{after}");
    }
}

fn a_vip_on_two_hosts_is_told(lab: &mut Lab) {
    two_networks(lab);
    let vip = "192.0.2.100/24";
    for (host, address) in [("host2", "192.0.2.12/24"), ("host3", "192.0.2.13/24")] {
        lab.host(host, &[Nic { segment: "lan", name: "eth0", addresses: &[address, vip] }]).unwrap();
    }
    let mut request = request(&["eth0"]);
    request.vips.push((vip.parse().unwrap(), InterfaceName::new("eth0").unwrap()));
    let report = examined(lab, "host1", &request);
    let found = finding(&report, "vip");
    assert_eq!(found.level, Level::Error, "{report}");
    for host in ["host2", "host3"] {
        let mac = lab.mac(host, "eth0").unwrap().to_string();
        assert!(found.seen.contains(&mac), "{mac} is not in {found:?}");
    }
}
