//! Hosts, cables, and what runs on hosts.

use crate::guest;
use netlab::{Direction, Lab, LabError, Mac, Nic};
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Hosts `a`, `b`, `c` and so on, with 192.0.2.1 and 2001:db8::1, and so on.
pub fn build(lab: &mut Lab, hosts: &[&str]) {
    for (n, host) in (1..).zip(hosts) {
        let (v4, v6) = (format!("192.0.2.{n}/24"), format!("2001:db8::{n}/64"));
        lab.host(host, &[Nic { segment: "lan", name: "eth0", addresses: &[&v4, &v6] }]).unwrap();
    }
}

fn socket(lab: &Lab, host: &str, address: &str) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = lab.in_host(host, || UdpSocket::bind((address, 9)).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// What `to` hears next when `from` sends `word`; frames keep their order, so an earlier word that is not heard was dropped.
fn send(from: &UdpSocket, to: &UdpSocket, word: &str) {
    from.send_to(word.as_bytes(), to.local_addr().unwrap()).unwrap();
}

fn heard(by: &UdpSocket) -> String {
    let mut buffer = [0; 64];
    let length = by.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

pub fn hosts_hear_each_other(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (a, b) = (socket(lab, "a", from), socket(lab, "b", to));
        send(&a, &b, "hello");
        assert_eq!(heard(&b), "hello");
        let mac = lab.mac("b", "eth0").unwrap();
        assert_eq!(lab.neighbour("a", to.parse().unwrap()).unwrap(), Some(mac));
    }
    assert_eq!(lab.neighbour("a", "192.0.2.99".parse().unwrap()).unwrap(), None);
    assert_eq!(lab.mac("a", "eth0").unwrap(), Mac([2, 0x6e, 0x6c, 0, 0, 1]));
    // The kernel adds a link-local one in its own time.
    let global =
        lab.addresses("a").unwrap().into_iter().filter(|address| !address.to_string().starts_with("fe80:"));
    let global: Vec<String> = global.map(|address| address.to_string()).collect();
    assert_eq!(global, ["192.0.2.1/24 on eth0", "2001:db8::1/64 on eth0"]);
    assert_eq!(lab.hosts().collect::<Vec<_>>(), ["a", "b"]);
}

pub fn a_cut_host_sees_no_carrier_and_hears_nobody(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    let (a, b) = (socket(lab, "a", "192.0.2.1"), socket(lab, "b", "192.0.2.2"));
    send(&a, &b, "before");
    assert_eq!(heard(&b), "before");
    for _ in 0..3 {
        lab.cut("a").unwrap();
        lab.cut("a").unwrap();
        let carrier =
            |host| lab.in_host(host, || std::fs::read_to_string("/sys/class/net/eth0/carrier")).unwrap();
        assert_eq!(carrier("a").unwrap().trim(), "0");
        assert_eq!(carrier("b").unwrap().trim(), "1");
        send(&b, &a, "into the void");
        assert!(lab.addresses("a").unwrap().len() >= 2, "a pulled cable takes no address away");
        lab.heal("a").unwrap();
        lab.heal("a").unwrap();
        send(&b, &a, "after");
        assert_eq!(heard(&a), "after", "a healed host is reached at once, and nothing was kept for it");
    }
}

pub fn one_segment_can_be_cut(lab: &mut Lab) {
    for n in 1..=2 {
        let (lan, management) = (format!("192.0.2.{n}/24"), format!("198.51.100.{n}/24"));
        let nics = [
            Nic { segment: "lan", name: "eth0", addresses: &[&lan] },
            Nic { segment: "management", name: "eth1", addresses: &[&management] },
        ];
        lab.host(["a", "b"][n - 1], &nics).unwrap();
    }
    let (a, b) = (socket(lab, "a", "192.0.2.1"), socket(lab, "b", "192.0.2.2"));
    let (a_management, b_management) = (socket(lab, "a", "198.51.100.1"), socket(lab, "b", "198.51.100.2"));
    send(&b, &a, "hello"); // b knows a's hardware address now, and keeps nothing back to ask for it
    assert_eq!(heard(&a), "hello");
    lab.cut_segment("a", "lan").unwrap();
    send(&b, &a, "dropped");
    send(&b_management, &a_management, "managed");
    assert_eq!(heard(&a_management), "managed");
    lab.heal_segment("a", "lan").unwrap();
    send(&b, &a, "healed");
    assert_eq!(heard(&a), "healed");
    assert!(matches!(lab.cut_segment("a", "wan"), Err(LabError::NoSuchNic { .. })));
}

pub fn one_way_drops_one_way(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    let (a, b) = (socket(lab, "a", "192.0.2.1"), socket(lab, "b", "192.0.2.2"));
    send(&a, &b, "hello"); // both know the other's hardware address now, and keep nothing back to ask for it
    assert_eq!(heard(&b), "hello");
    for (dropped, from, to) in [(Direction::FromHost, &a, &b), (Direction::ToHost, &b, &a)] {
        lab.one_way("a", dropped, true).unwrap();
        send(from, to, "dropped");
        send(to, from, "other way");
        assert_eq!(heard(from), "other way");
        lab.one_way("a", dropped, false).unwrap();
        send(from, to, "again");
        assert_eq!(heard(to), "again", "{dropped:?}");
    }
}

pub fn blocked_hosts_hear_everybody_else(lab: &mut Lab) {
    build(lab, &["a", "b", "c"]);
    let (a, b, c) =
        (socket(lab, "a", "192.0.2.1"), socket(lab, "b", "192.0.2.2"), socket(lab, "c", "192.0.2.3"));
    let meet = [(&a, &b), (&b, &c), (&c, &a)];
    for (one, other) in meet {
        send(one, other, "hello");
        assert_eq!(heard(other), "hello");
    }
    lab.block_between("b", "a", true).unwrap();
    send(&a, &b, "dropped");
    send(&b, &a, "dropped");
    for (from, to) in [(&a, &c), (&c, &a), (&b, &c), (&c, &b)] {
        send(from, to, "passes");
        assert_eq!(heard(to), "passes");
    }
    lab.block_between("a", "b", false).unwrap();
    send(&a, &b, "again");
    assert_eq!(heard(&b), "again");
    send(&b, &a, "again");
    assert_eq!(heard(&a), "again");
}

pub fn a_host_has_files_of_its_own(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    let run = |host: &str, script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).stdout(Stdio::piped());
        lab.spawn(host, shell).unwrap().wait_with_output().unwrap()
    };
    for directory in ["/run/takeover", "/var/lib/takeover", "/var/log/takeover"] {
        assert!(run("a", &format!("echo mine > {directory}/file")).status.success());
        assert_eq!(run("a", &format!("cat {directory}/file")).stdout, b"mine\n", "over a respawn");
        assert!(!run("b", &format!("test -e {directory}/file")).status.success());
    }
    let seen =
        |part: &str| std::fs::read_to_string(lab.directory("a").unwrap().join(part).join("file")).unwrap();
    assert_eq!([seen("run"), seen("lib"), seen("log")].concat(), "mine\nmine\nmine\n");
    let within = lab.in_host("a", || std::fs::read_to_string("/run/takeover/file").unwrap()).unwrap();
    assert_eq!(within, "mine\n");
}

pub fn programs_run_on_their_host(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    std::env::set_current_dir(netlab::WORK_DIR).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "pwd; ls /sys/class/net; cut -d' ' -f5-6 /proc/self/stat"]).stdout(Stdio::piped());
    let child = lab.spawn("b", shell).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], [netlab::WORK_DIR, "eth0", "lo"], "{output}");
    let own = nix::unistd::getsid(None).unwrap().to_string();
    assert!(!lines[3].split(' ').any(|session| session == own), "a session of its own: {output}");
}

pub fn whoever_runs_on_a_host_ends_with_the_lab(_: &mut Lab) {
    let mut lab = Lab::new().unwrap();
    build(&mut lab, &["a"]);
    let mut shell = Command::new("sh");
    // The shell ends; the daemon that it leaves holds our pipe.
    shell.args(["-c", "trap '' HUP TERM; setsid sleep 1000 & echo ready"]).stdout(Stdio::piped());
    let mut child = lab.spawn("a", shell).unwrap();
    let mut output = guest::Output::of(&mut child);
    assert_eq!(output.line(), "ready");
    child.wait().unwrap();
    let mut other = lab
        .spawn("a", {
            let mut c = Command::new("sleep");
            c.arg("1000");
            c
        })
        .unwrap();
    let directory = lab.directory("a").unwrap().to_owned();
    drop(lab);
    assert_eq!(output.end(), "");
    let status = other.try_wait().unwrap().expect("it has ended already, and its status is left to us");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    assert!(!directory.exists());
}

pub fn twenty_hosts_with_a_hundred_addresses_each(lab: &mut Lab) {
    let started = Instant::now();
    for host in 1..=20 {
        let addresses: Vec<String> = (1..=100).map(|n| format!("10.0.{host}.{n}/16")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        lab.host(&format!("host{host}"), &[Nic { segment: "lan", name: "eth0", addresses: &addresses }])
            .unwrap();
    }
    println!("built in {:?}", started.elapsed());
    let (first, last) = (socket(lab, "host1", "10.0.1.100"), socket(lab, "host20", "10.0.20.100"));
    send(&first, &last, "hello");
    assert_eq!(heard(&last), "hello");
    let v4 = lab.addresses("host7").unwrap().into_iter().filter(|a| a.address.is_ipv4()).count();
    assert_eq!(v4, 100);
}

pub fn mistakes_are_told(lab: &mut Lab) {
    build(lab, &["a"]);
    assert!(matches!(lab.host("a", &[]), Err(LabError::BadName(_))));
    assert!(matches!(lab.host("../a", &[]), Err(LabError::BadName(_))));
    for bad in ["192.0.2.1", "192.0.2.1/33", "192.0.2.1/x", "x/24", "::1/0"] {
        let refused = lab.host("b", &[Nic { segment: "lan", name: "eth0", addresses: &[bad] }]);
        assert!(matches!(refused, Err(LabError::BadAddress(_))), "{bad}: {refused:?}");
    }
    let long = lab.host("b", &[Nic { segment: "lan", name: "a-name-of-sixteen", addresses: &[] }]);
    assert!(matches!(long, Err(LabError::Kernel { .. })), "{long:?}");
    assert!(matches!(lab.cut("nobody"), Err(LabError::NoSuchHost(_))));
    assert!(matches!(lab.mac("a", "eth1"), Err(LabError::NoSuchNic { .. })));
    let absent = lab.spawn("a", Command::new("/nonexistent"));
    assert!(matches!(absent, Err(LabError::Kernel { source, .. }) if source.kind() == ErrorKind::NotFound));
    build(lab, &["b"]); // 192.0.2.1 again, as the conflict it is; the name is free after what was refused
}
