//! Gate, rights, files and programs: what the system lets the agent do, and who else is at it.

use crate::facts::{
    BPF, Facts, Gate, IPC_LOCK, NET_ADMIN, NET_RAW, RunDirectory, SYS_ADMIN, SYS_NICE, SYS_RESOURCE,
};
use crate::report::Finding;
use std::time::Duration;

/// SCHED_FIFO priority that the agent wants.
const PRIORITY: u64 = 20;
/// What a program that is like this one is called, and what it does.
const RIVALS: [(&str, &str); 7] = [
    ("keepalived", "VRRP"),
    ("vrrpd", "VRRP"),
    ("ucarp", "CARP"),
    ("pacemakerd", "a cluster manager"),
    ("corosync", "a cluster manager"),
    ("heartbeat", "a cluster manager"),
    ("ctdbd", "a cluster manager"),
];
/// File systems that do not survive a reboot.
const VOLATILE: [&str; 2] = ["tmpfs", "ramfs"];
/// So soon after the boot an agent without memory may not vote yet.
const JUST_BOOTED: Duration = Duration::from_secs(60);

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(gate(facts));
    findings.push(capabilities(facts));
    findings.push(real_time(facts));
    findings.push(locked_memory(facts));
    findings.push(cgroups(facts));
    findings.push(run_directory(facts));
    findings.push(watchdog(facts));
    findings.extend(rivals(facts));
}

fn gate(facts: &Facts) -> Finding {
    let why =
        "without a gate in the kernel nothing closes a VIP while the agent is stopped, killed or starved";
    match &facts.gate {
        Gate::Works(missing) if missing.is_empty() => {
            Finding::good("gate", "the kernel closes VIPs by itself when a lease ends")
        }
        Gate::Works(missing) => {
            Finding::note("gate", format!("there is one, without {}", missing.join("; ")))
                .why("it closes in time nevertheless")
        }
        Gate::Lacks(reasons) => {
            let finding = Finding::warning("gate", reasons.join("; ")).why(why);
            if facts.rights.has(BPF) || facts.rights.has(SYS_ADMIN) {
                finding.remedy(
                    "a kernel from 5.8 on with CONFIG_BPF_SYSCALL, CONFIG_NET_SCH_INGRESS, \
                    CONFIG_NET_CLS_BPF",
                )
            } else {
                finding.remedy("run the agent as root with CAP_BPF, as its unit does")
            }
        }
        Gate::Unknown => Finding::note("gate", "not looked at"),
    }
}

fn capabilities(facts: &Facts) -> Finding {
    let needed = [(NET_ADMIN, "CAP_NET_ADMIN"), (NET_RAW, "CAP_NET_RAW")];
    let useful = [(SYS_NICE, "CAP_SYS_NICE"), (IPC_LOCK, "CAP_IPC_LOCK"), (SYS_RESOURCE, "CAP_SYS_RESOURCE")];
    let lacking = |of: &[(u32, &str)]| -> Vec<String> {
        of.iter().filter(|(bit, _)| !facts.rights.has(*bit)).map(|(_, name)| (*name).to_owned()).collect()
    };
    let remedy = "run as root, as the agent's unit does; or `takeover doctor` with sudo";
    let (missing, rest) = (lacking(&needed), lacking(&useful));
    if !missing.is_empty() {
        Finding::error("capabilities", format!("without {}", missing.join(", ")))
            .why("VIPs cannot be put on an interface, or not be announced")
            .remedy(remedy)
    } else if !rest.is_empty() {
        Finding::note("capabilities", format!("without {}", rest.join(", ")))
            .why("scheduling and memory then depend on limits, see below")
            .remedy(remedy)
    } else if !facts.rights.machine {
        Finding::note("capabilities", "those of a user namespace").why(
            "enough for the namespace's own interfaces; not for real-time scheduling, locked memory and eBPF",
        )
    } else {
        Finding::good("capabilities", "all that the agent uses")
    }
}

fn real_time(facts: &Facts) -> Finding {
    let rights = &facts.rights;
    let why = "a busy host makes the agent wait; its lease may then end without need";
    if rights.real_time_runtime_us == Some(0) {
        return Finding::warning(
            "real-time",
            "kernel.sched_rt_runtime_us is 0: no real-time thread ever runs",
        )
        .why(why)
        .remedy("sysctl -w kernel.sched_rt_runtime_us=950000");
    }
    if rights.group_runtime_us == Some(0) {
        return Finding::warning(
            "real-time",
            "this process's control group has cpu.rt_runtime_us 0 (RT_GROUP_SCHED)",
        )
        .why(why)
        .remedy(
            "run the agent in a group with real-time budget, or boot a kernel without CONFIG_RT_GROUP_SCHED",
        );
    }
    let measured = facts.jitter.as_ref().map(|jitter| jitter.real_time.is_some());
    let allowed = rights.has(SYS_NICE) && rights.machine
        || rights.real_time_limit.is_none_or(|limit| limit >= PRIORITY);
    match (measured, allowed) {
        (Some(true), _) => Finding::good("real-time", "SCHED_FIFO was given"),
        (None, true) => Finding::good("real-time", "SCHED_FIFO would be given"),
        (Some(false), _) | (None, false) => Finding::warning("real-time", "SCHED_FIFO is refused")
            .why(why)
            .remedy("run the agent with CAP_SYS_NICE, or with LimitRTPRIO=20 in its unit"),
    }
}

fn locked_memory(facts: &Facts) -> Finding {
    let rights = &facts.rights;
    let any = rights.machine && (rights.has(IPC_LOCK) || rights.has(SYS_RESOURCE));
    match rights.locked_memory_limit {
        None => Finding::good("locked-memory", "no limit"),
        Some(_) if any => Finding::good("locked-memory", "the limit does not bind this process"),
        Some(limit) => Finding::warning("locked-memory", format!("limited to {} KiB", limit / 1_024))
            .why("the agent's memory may be paged out, and a page fault is a stall")
            .remedy("run the agent with CAP_IPC_LOCK, or with LimitMEMLOCK=infinity in its unit"),
    }
}

fn cgroups(facts: &Facts) -> Finding {
    if facts.cgroups.unified {
        return Finding::good("cgroup", "version 2");
    }
    Finding::note("cgroup", "version 2 is not at /sys/fs/cgroup")
        .why("applications get process groups instead: what leaves its session is not stopped with the rest")
        .remedy("boot with systemd.unified_cgroup_hierarchy=1")
}

fn run_directory(facts: &Facts) -> Finding {
    let RunDirectory { path, file_system } = &facts.run_directory;
    let shown = path.display();
    match file_system {
        None => Finding::note("run-directory", format!("what {shown} is on is not known")),
        Some(kind) if !VOLATILE.contains(&kind.as_str()) => Finding::warning(
            "run-directory",
            format!("{shown} is on {kind}, which survives a reboot"),
        )
        .why(
            "promises of before a reboot must not be taken for present ones; and a write may wait for a disk",
        )
        .remedy(format!("put it on a tmpfs: mount -t tmpfs -o mode=755,size=64M tmpfs {shown}")),
        Some(kind) if facts.uptime < JUST_BOOTED => Finding::note(
            "run-directory",
            format!("{shown} is on {kind}, and the host booted {} s ago", facts.uptime.as_secs()),
        )
        .why("an agent without memory of its promises gives and asks for none until the longest is over"),
        Some(kind) => Finding::good("run-directory", format!("{shown} is on {kind}")),
    }
}

fn watchdog(facts: &Facts) -> Finding {
    let named: Vec<String> =
        facts.watchdogs.iter().map(|dog| format!("{} ({})", dog.name, dog.identity)).collect();
    let why = "a third layer behind lease and gate: it resets a host whose agent hangs";
    match (&facts.watchdog_wanted, facts.watchdogs.iter().find(|dog| dog.active)) {
        (None, _) if named.is_empty() => Finding::note("watchdog", "no device").why(why).remedy(
            "modprobe softdog, and watchdog = \"/dev/watchdog\" in the host file, where a reset is wanted",
        ),
        (None, _) => {
            Finding::note("watchdog", format!("{}, not used by the agent", named.join(", "))).why(why)
        }
        (Some(path), _) if named.is_empty() => Finding::warning(
            "watchdog",
            format!("{} is in the host file, and there is no device", path.display()),
        )
        .why(why)
        .remedy(
            "modprobe softdog, or the driver of the machine's own; or take `watchdog` out of the host file",
        ),
        (Some(_), Some(active)) => Finding::note("watchdog", format!("{} is in use", active.name))
            .why("by the agent, or by systemd (RuntimeWatchdogSec=), which would leave none for the agent"),
        (Some(path), None) => Finding::good("watchdog", format!("{}: {}", path.display(), named.join(", "))),
    }
}

fn rivals(facts: &Facts) -> Vec<Finding> {
    let running: Vec<Finding> = RIVALS
        .iter()
        .filter(|(name, _)| facts.programs.contains(*name))
        .map(|(name, what)| {
            Finding::warning("rivals", format!("{what} is running"))
                .about(*name)
                .why(
                    "an address that two programs move is torn between them; harmless only while \
                    their addresses differ",
                )
                .remedy(format!("take the VIPs out of its configuration, or: systemctl disable --now {name}"))
        })
        .collect();
    if running.is_empty() {
        return vec![Finding::good("rivals", "no other program that moves addresses is running")];
    }
    running
}
