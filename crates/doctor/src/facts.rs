//! What was seen, as plain data: what the judgement works on, and what its tests are made of. Nothing here is good or bad.

use domain::{InterfaceName, PairName, Profile, VipAddress};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that was seen. What could not be seen is none, or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Release of the kernel.
    pub kernel: String,
    /// Since the boot.
    pub uptime: Duration,
    /// The gate.
    pub gate: Gate,
    /// What this process may do.
    pub rights: Rights,
    /// Clocks.
    pub clock: Clock,
    /// How late threads wake; none where it was not measured.
    pub jitter: Option<Jitter>,
    /// The interfaces that VIPs go to.
    pub interfaces: Vec<Interface>,
    /// Addresses of all interfaces but the loopback, with their prefix lengths.
    pub addresses: Vec<(InterfaceName, IpAddr, u8)>,
    /// The VIPs that were asked for.
    pub vips: Vec<VipSeen>,
    /// `net.ipv4.ip_nonlocal_bind`, `net.ipv6.ip_nonlocal_bind`.
    pub nonlocal_bind: [Option<bool>; 2],
    /// What the packet filter does with the agents' port; none where it could not be asked.
    pub filter: Option<Filter>,
    /// Entries of the connection tracking table, and how many there may be; none without connection tracking.
    pub conntrack: Option<(u64, u64)>,
    /// Names of the programs that run (`comm`, at most 15 bytes).
    pub programs: BTreeSet<String>,
    /// The run directory.
    pub run_directory: RunDirectory,
    /// Watchdog devices.
    pub watchdogs: Vec<Watchdog>,
    /// The device in the host file.
    pub watchdog_wanted: Option<PathBuf>,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Pairs of this host, with their profiles.
    pub pairs: Vec<(PairName, Profile)>,
}

/// What the kernel says about a gate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Gate {
    /// There can be one; parts that it can do without and that are missing, in words.
    Works(Vec<String>),
    /// There cannot; each reason with its remedy, in words.
    Lacks(Vec<String>),
    /// Nobody asked.
    #[default]
    Unknown,
}

/// What the process may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Effective capabilities (capabilities(7)), a bit each.
    pub capabilities: u64,
    /// Whether they are those of the machine, and not of a user namespace.
    pub machine: bool,
    /// RLIMIT_RTPRIO; none: unlimited.
    pub real_time_limit: Option<u64>,
    /// RLIMIT_MEMLOCK, bytes; none: unlimited.
    pub locked_memory_limit: Option<u64>,
    /// `kernel.sched_rt_runtime_us`.
    pub real_time_runtime_us: Option<i64>,
    /// `cpu.rt_runtime_us` of this process's control group (v1, RT_GROUP_SCHED): a group without any refuses SCHED_FIFO.
    pub group_runtime_us: Option<i64>,
}

/// CAP_NET_ADMIN: addresses, interfaces, traffic control.
pub const NET_ADMIN: u32 = 12;
/// CAP_NET_RAW: announcements.
pub const NET_RAW: u32 = 13;
/// CAP_IPC_LOCK: locked memory without limit.
pub const IPC_LOCK: u32 = 14;
/// CAP_SYS_ADMIN: holds CAP_BPF.
pub const SYS_ADMIN: u32 = 21;
/// CAP_SYS_NICE: real-time scheduling.
pub const SYS_NICE: u32 = 23;
/// CAP_SYS_RESOURCE: raises limits.
pub const SYS_RESOURCE: u32 = 24;
/// CAP_BPF: the gate's program and maps.
pub const BPF: u32 = 39;

impl Rights {
    /// Whether the process has a capability.
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

/// Clocks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clock {
    /// The clock source in use.
    pub source: String,
    /// Those that could be.
    pub available: Vec<String>,
    /// Whether a daemon says that it keeps the time (adjtimex(2), not `STA_UNSYNC`).
    pub synchronised: Option<bool>,
    /// By how much the kernel corrects the clock's rate now, ppm (adjtimex(2), `tick` and `freq`).
    pub correction_ppm: Option<f64>,
    /// How much faster than the hardware CLOCK_BOOTTIME ran while it was measured, ppm, every correction included.
    pub slew_ppm: Option<f64>,
    /// How much chronyd may bend the clock, ppm; none where it does not run.
    pub chrony_max_slew_ppm: Option<f64>,
}

/// How late threads that sleep until a time wake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jitter {
    /// With real-time scheduling as the agent's; none where that is not allowed.
    pub real_time: Option<Lateness>,
    /// Without.
    pub ordinary: Lateness,
}

/// Lateness of many wakes, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Median.
    pub p50_us: u64,
    /// Of 100, all but one are not later.
    pub p99_us: u64,
    /// The latest.
    pub max_us: u64,
    /// How many.
    pub wakes: usize,
}

/// An interface that VIPs go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// What there is of it; none: there is no such interface.
    pub link: Option<Link>,
    /// Settings for IPv4.
    pub ipv4: Ipv4Settings,
    /// Settings for IPv6; none without IPv6.
    pub ipv6: Option<Ipv6Settings>,
    /// Who configures it.
    pub managers: Vec<Manager>,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Set up (IFF_UP).
    pub up: bool,
    /// Has carrier.
    pub carrier: bool,
    /// `ARPHRD_*` of the kernel's `linux/if_arp.h`; 1 is Ethernet.
    pub link_type: u16,
    /// What kind of interface.
    pub kind: Kind,
    /// The bridge or bond that it is a port of.
    pub master: Option<String>,
}

/// Kinds of interface that make a difference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    /// None of the others.
    #[default]
    Plain,
    /// Wireless LAN.
    Wireless,
    /// A bond, with its mode.
    Bond(String),
    /// A bridge; whether it speaks the spanning tree protocol.
    Bridge {
        /// It does.
        spanning_tree: bool,
    },
    /// A VLAN.
    Vlan,
}

/// IPv4 settings in force on an interface: those of `all` and of the interface together, as the kernel joins them
/// (`IN_DEV_MAXCONF`, `IN_DEV_ORCONF`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ipv4Settings {
    /// Source validation: 0 none, 1 strict, 2 loose.
    pub rp_filter: u8,
    /// Which ARP requests are answered.
    pub arp_ignore: u8,
    /// Which source address ARP requests have.
    pub arp_announce: u8,
    /// Whether addresses are announced by the kernel itself.
    pub arp_notify: bool,
    /// Whether ARP requests for others are answered.
    pub proxy_arp: bool,
}

/// IPv6 settings in force on an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ipv6Settings {
    /// IPv6 is switched off.
    pub disabled: bool,
    /// Duplicate address detection: 0 none, 1 on, 2 on, and IPv6 off where the link-local address is a duplicate.
    pub accept_dad: u8,
}

/// A program that configures an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// systemd-networkd, by this file.
    Networkd {
        /// The `.network` file.
        file: Option<PathBuf>,
        /// It leaves addresses of others alone (`KeepConfiguration=`).
        keeps: bool,
    },
    /// NetworkManager.
    NetworkManager,
}

/// A VIP on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipSeen {
    /// The VIP.
    pub vip: VipAddress,
    /// Where it was looked for.
    pub interface: InterfaceName,
    /// Whether this host has it.
    pub here: bool,
    /// Link layer addresses of others that answered for it.
    pub elsewhere: BTreeSet<String>,
    /// Why nobody could be asked.
    pub unasked: Option<String>,
}

/// What a packet filter does with packets to the agents' port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The port.
    pub port: u16,
    /// Chains that drop them.
    pub drops: Vec<String>,
    /// Chains of which it cannot be told.
    pub unclear: Vec<String>,
}

/// The file system of the run directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunDirectory {
    /// Its path.
    pub path: PathBuf,
    /// The type of the file system it is on, or would be.
    pub file_system: Option<String>,
}

/// A watchdog device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watchdog {
    /// `watchdog0`.
    pub name: String,
    /// What it says it is.
    pub identity: String,
    /// Somebody has it open.
    pub active: bool,
}

/// Control groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Version 2 is mounted at `/sys/fs/cgroup`.
    pub unified: bool,
}
