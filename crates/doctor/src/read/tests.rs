//! Made-up trees of `/proc`, `/sys` and `/etc`, and what is read from them.

use super::*;
use crate::facts::{Ipv6Settings, Kind, Manager};
use std::os::unix::fs::symlink;
use tempfile::TempDir;

struct Tree(TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = tree.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    fn root(&self) -> Root {
        Root::new(self.0.path())
    }
}

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

#[test]
fn nothing_is_read_from_an_empty_tree() {
    let tree = Tree::new(&[]);
    let root = tree.root();
    assert_eq!(root.rights(), Rights::default());
    assert_eq!(root.clock_sources(), (String::new(), Vec::new()));
    assert_eq!((root.conntrack(), root.uptime()), (None, Duration::ZERO));
    assert!(
        root.programs().is_empty() && root.watchdogs().is_empty() && root.default_interfaces().is_empty()
    );
    assert_eq!(root.interface(&name("eth0")).link, None);
    assert_eq!(root.run_directory(Path::new("/run/takeover")).file_system, None);
}

#[test]
fn rights_are_read() {
    let tree = Tree::new(&[
        ("proc/self/status", "Name:\tx\nCapEff:\t0000000000003000\n"),
        ("proc/self/uid_map", "         0          0 4294967295\n"),
        (
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max locked memory         8388608              unlimited            bytes     \n\
             Max realtime priority     unlimited            0                    \n",
        ),
        ("proc/sys/kernel/sched_rt_runtime_us", "-1\n"),
        ("proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/system.slice/x.service\n0::/\n"),
        ("sys/fs/cgroup/cpu,cpuacct/system.slice/x.service/cpu.rt_runtime_us", "0\n"),
    ]);
    let rights = tree.root().rights();
    assert!(rights.has(crate::facts::NET_ADMIN) && rights.has(crate::facts::NET_RAW) && rights.machine);
    assert!(!rights.has(crate::facts::BPF));
    assert_eq!((rights.locked_memory_limit, rights.real_time_limit), (Some(8_388_608), None));
    assert_eq!((rights.real_time_runtime_us, rights.group_runtime_us), (Some(-1), Some(0)));
}

#[test]
fn the_last_limit_of_chrony_counts_and_its_default_is_known() {
    let tree = Tree::new(&[("etc/chrony/chrony.conf", "pool x iburst\n# maxslewrate 1\n")]);
    assert_eq!(tree.root().chrony_max_slew(), CHRONY_DEFAULT_PPM);
    let tree = Tree::new(&[
        ("etc/chrony/chrony.conf", "MaxSlewRate 1000\n"),
        ("etc/chrony/conf.d/takeover.conf", "maxslewrate 400\n"),
        ("etc/chrony/conf.d/off.conf.bak", "maxslewrate 9\n"),
    ]);
    assert_eq!(tree.root().chrony_max_slew(), 400.0);
}

#[test]
fn programs_mounts_and_routes_are_read() {
    let tree = Tree::new(&[
        ("proc/1/comm", "systemd\n"),
        ("proc/77/comm", "keepalived\n"),
        ("proc/fs/comm", "no process\n"),
        (
            "proc/self/mountinfo",
            "22 1 0:5 / / rw - ext4 /dev/vda rw\n23 22 0:20 / /run rw,nosuid shared:5 - \
                    tmpfs tmpfs rw\nnonsense\n",
        ),
        (
            "proc/thread-self/net/route",
            "Iface\tDestination\tGateway\neth1\t0002000A\t0\neth0\t00000000\t0102000A\tmore\n",
        ),
        ("proc/sys/net/netfilter/nf_conntrack_count", "10\n"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "20\n"),
        ("proc/uptime", "3725.11 100.00\n"),
        ("sys/class/watchdog/watchdog0/identity", "Software Watchdog\n"),
        ("sys/class/watchdog/watchdog0/state", "active\n"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
    ]);
    let root = tree.root();
    assert_eq!(root.programs(), ["keepalived", "systemd"].map(str::to_owned).into());
    assert_eq!(root.run_directory(Path::new("/run/takeover")).file_system.as_deref(), Some("tmpfs"));
    assert_eq!(root.run_directory(Path::new("/runner")).file_system.as_deref(), Some("ext4"));
    assert_eq!(root.default_interfaces(), [name("eth0")].into());
    assert_eq!((root.conntrack(), root.uptime()), (Some((10, 20)), Duration::from_secs(3_725)));
    let watchdog = Watchdog { name: "watchdog0".into(), identity: "Software Watchdog".into(), active: true };
    assert_eq!(root.watchdogs(), [watchdog]);
    assert!(root.cgroups().unified);
}

#[test]
fn an_interface_is_read_with_the_settings_in_force() {
    let tree = Tree::new(&[
        ("sys/class/net/bond0/flags", "0x1443\n"),
        ("sys/class/net/bond0/carrier", "1\n"),
        ("sys/class/net/bond0/type", "1\n"),
        ("sys/class/net/bond0/ifindex", "7\n"),
        ("sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n"),
        ("sys/class/net/bond0/bonding/mode", "active-backup 1\n"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", "2\n"),
        ("proc/sys/net/ipv4/conf/bond0/rp_filter", "1\n"),
        ("proc/sys/net/ipv4/conf/bond0/arp_ignore", "1\n"),
        ("proc/sys/net/ipv4/conf/all/proxy_arp", "1\n"),
        ("proc/sys/net/ipv6/conf/bond0/disable_ipv6", "0\n"),
        ("proc/sys/net/ipv6/conf/bond0/accept_dad", "1\n"),
        ("proc/sys/net/ipv6/conf/all/accept_dad", "2\n"),
        (
            "run/systemd/netif/links/7",
            "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/10-bond.network\n",
        ),
        ("run/NetworkManager/devices/7", "[device]\nmanaged=0\n"),
    ]);
    let read = tree.root().interface(&name("bond0"));
    let link = read.link.unwrap();
    assert_eq!((link.up, link.carrier, link.link_type, link.master), (true, true, 1, None));
    assert_eq!(link.kind, Kind::Bond("active-backup".to_owned()));
    assert_eq!((read.ipv4.rp_filter, read.ipv4.arp_ignore, read.ipv4.proxy_arp), (2, 1, true));
    assert_eq!(read.ipv6, Some(Ipv6Settings { disabled: false, accept_dad: 2 }));
    let file = Some(PathBuf::from("/etc/systemd/network/10-bond.network"));
    assert_eq!(read.managers, [Manager::Networkd { file, keeps: false }]);

    symlink("../br0", tree.0.path().join("sys/class/net/bond0/master")).unwrap();
    let drop_in = tree.0.path().join("etc/systemd/network/10-bond.network.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("takeover.conf"), "[Network]\nKeepConfiguration=static\n").unwrap();
    fs::write(tree.0.path().join("run/NetworkManager/devices/7"), "[device]\nmanaged=1\n").unwrap();
    let read = tree.root().interface(&name("bond0"));
    assert_eq!(read.link.unwrap().master.as_deref(), Some("br0"));
    assert!(matches!(read.managers[..], [Manager::Networkd { keeps: true, .. }, Manager::NetworkManager]));
}
