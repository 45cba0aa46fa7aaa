//! Reads facts from files below a root directory: `/` on a host, a made-up tree in a test. What is not there, or not as
//! expected, is none.

mod interface;

use crate::facts::{Cgroups, Rights, RunDirectory, Watchdog};
use domain::InterfaceName;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Most bytes read from a file.
const LONGEST: u64 = 1 << 20;
/// Most entries read from a directory.
const MOST_ENTRIES: usize = 1 << 16;
/// How far chronyd bends the clock where its configuration says nothing (chrony.conf(5), `maxslewrate`), ppm.
const CHRONY_DEFAULT_PPM: f64 = 83_333.333;

/// Where files are read from.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Below `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The text of a file, without white space around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number that a file holds.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().take(MOST_ENTRIES);
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// Release of the kernel.
    pub(crate) fn kernel(&self) -> String {
        self.text("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// Time since the boot.
    pub(crate) fn uptime(&self) -> Duration {
        let text = self.text("/proc/uptime").unwrap_or_default();
        let seconds = text.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0);
        Duration::from_secs(seconds)
    }

    /// What this process may do.
    pub(crate) fn rights(&self) -> Rights {
        let status = self.text("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let limits = self.text("/proc/self/limits").unwrap_or_default();
        let identity = self.text("/proc/self/uid_map").unwrap_or_default();
        Rights {
            capabilities: effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0),
            machine: identity.split_ascii_whitespace().eq(["0", "0", "4294967295"]),
            real_time_limit: soft_limit(&limits, "Max realtime priority"),
            locked_memory_limit: soft_limit(&limits, "Max locked memory"),
            real_time_runtime_us: self.number("/proc/sys/kernel/sched_rt_runtime_us"),
            group_runtime_us: self.group_runtime(),
        }
    }

    /// `cpu.rt_runtime_us` of this process's group in the `cpu` hierarchy (cgroups(7)); only a kernel with RT_GROUP_SCHED
    /// has the file.
    fn group_runtime(&self) -> Option<i64> {
        let groups = self.text("/proc/self/cgroup")?;
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let is_cpu = fields.next()?.split(',').any(|controller| controller == "cpu");
            is_cpu.then(|| fields.next()).flatten()
        })?;
        ["cpu", "cpu,cpuacct"]
            .iter()
            .find_map(|hierarchy| self.number(&format!("/sys/fs/cgroup/{hierarchy}{path}/cpu.rt_runtime_us")))
    }

    /// The clock source in use, and those that could be.
    pub(crate) fn clock_sources(&self) -> (String, Vec<String>) {
        let read = |file| {
            self.text(&format!("/sys/devices/system/clocksource/clocksource0/{file}")).unwrap_or_default()
        };
        let available = read("available_clocksource").split_ascii_whitespace().map(str::to_owned).collect();
        (read("current_clocksource"), available)
    }

    /// How much chronyd may bend the clock, ppm, as its configuration says.
    pub(crate) fn chrony_max_slew(&self) -> f64 {
        let parts = self.names("/etc/chrony/conf.d").into_iter().filter(|name| name.ends_with(".conf"));
        let files = ["/etc/chrony.conf".to_owned(), "/etc/chrony/chrony.conf".to_owned()]
            .into_iter()
            .chain(parts.map(|name| format!("/etc/chrony/conf.d/{name}")));
        let text: Vec<String> = files.filter_map(|file| self.text(&file)).collect();
        // Of several the last counts.
        let mut set = text.iter().flat_map(|text| text.lines()).filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next()?.eq_ignore_ascii_case("maxslewrate").then(|| words.next()?.parse().ok()).flatten()
        });
        set.next_back().unwrap_or(CHRONY_DEFAULT_PPM)
    }

    /// Names of the programs that run.
    pub(crate) fn programs(&self) -> BTreeSet<String> {
        self.names("/proc")
            .iter()
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
            .filter_map(|pid| self.text(&format!("/proc/{pid}/comm")))
            .collect()
    }

    /// Entries of the connection tracking table, and how many there may be.
    pub(crate) fn conntrack(&self) -> Option<(u64, u64)> {
        let read = |file| self.number(&format!("/proc/sys/net/netfilter/nf_conntrack_{file}"));
        Some((read("count")?, read("max")?))
    }

    /// Whether programs may listen at addresses that are not here, IPv4 and IPv6.
    pub(crate) fn nonlocal_bind(&self) -> [Option<bool>; 2] {
        ["ipv4", "ipv6"].map(|family| {
            self.number::<u8>(&format!("/proc/sys/net/{family}/ip_nonlocal_bind")).map(|value| value != 0)
        })
    }

    /// The interfaces over which the default routes go (`/proc/net/route`: hexadecimal, the destination in the second
    /// column). By way of the thread, which may be in a network namespace of its own.
    pub(crate) fn default_interfaces(&self) -> BTreeSet<InterfaceName> {
        let routes = self.text("/proc/thread-self/net/route").unwrap_or_default();
        let default = routes.lines().skip(1).filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?;
            (fields.next()? == "00000000").then(|| InterfaceName::new(name).ok()).flatten()
        });
        default.collect()
    }

    /// The file system that `path` is on, or would be: that of the longest mount point above it (proc_pid_mountinfo(5)).
    pub(crate) fn run_directory(&self, path: &Path) -> RunDirectory {
        let mounts = self.text("/proc/self/mountinfo").unwrap_or_default();
        let of = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split_ascii_whitespace().nth(4)?;
            let kind = after.split_ascii_whitespace().next()?;
            path.starts_with(point).then(|| (point.len(), kind.to_owned()))
        };
        // Of two mounts on one point the later one is seen.
        let file_system =
            mounts.lines().filter_map(of).max_by_key(|(length, _)| *length).map(|(_, kind)| kind);
        RunDirectory { path: path.to_owned(), file_system }
    }

    /// Watchdog devices (`Documentation/ABI/testing/sysfs-class-watchdog` of the kernel).
    pub(crate) fn watchdogs(&self) -> Vec<Watchdog> {
        let read =
            |name: &str, file| self.text(&format!("/sys/class/watchdog/{name}/{file}")).unwrap_or_default();
        let of = |name: String| Watchdog {
            identity: read(&name, "identity"),
            active: read(&name, "state") == "active",
            name,
        };
        self.names("/sys/class/watchdog").into_iter().map(of).collect()
    }

    /// Control groups.
    pub(crate) fn cgroups(&self) -> Cgroups {
        Cgroups { unified: self.path("/sys/fs/cgroup/cgroup.controllers").exists() }
    }
}

/// A soft limit of `/proc/PID/limits`; none: unlimited, or not there. The columns are at fixed places, names have spaces.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
