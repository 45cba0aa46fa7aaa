//! What can be wrong with a gate, each with what to do about it.

use domain::{Epoch, InterfaceName};
use std::io;

/// Why there is no gate, or none on an interface.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The process may not use bpf(2) or traffic control.
    #[error("no permission to {doing}: {remedy}")]
    NoPermission {
        /// What was tried.
        doing: &'static str,
        /// What is missing, as far as can be told.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel lacks something, by age or by configuration.
    #[error("this kernel cannot {doing}: {needed}")]
    Unsupported {
        /// What was tried.
        doing: &'static str,
        /// What it takes.
        needed: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The verifier did not take the program: a bug, here or there.
    #[error("the kernel's verifier refused the gate's program, please report it: {log}")]
    Refused {
        /// What the verifier says.
        log: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There is no such interface now. It is guarded by the [`check`](super::Gate::check) after it has come.
    #[error("there is no network interface {interface}; see `ip link`")]
    NoInterface {
        /// The interface.
        interface: InterfaceName,
    },
    /// The program reads Ethernet frames, and this interface has others, or only the host itself as a neighbour.
    #[error("no gate on {interface}: its link type {link_type} is not Ethernet")]
    NotEthernet {
        /// The interface.
        interface: InterfaceName,
        /// Link type (`ARPHRD_*` of the kernel's `linux/if_arp.h`).
        link_type: u16,
    },
    /// The older queueing discipline `ingress` is where `clsact` has to be.
    #[error(
        "no gate on {interface}: another tool uses the queueing discipline `ingress`, which leaves no room for \
         `clsact`; have it use clsact, or remove it with `tc qdisc del dev {interface} ingress`"
    )]
    IngressDiscipline {
        /// The interface.
        interface: InterfaceName,
    },
    /// A filter of another kind, or for one protocol only, has the first preference.
    #[error(
        "no gate on {interface}: a filter of another tool has preference 1, which the gate needs to be the first \
         to decide; give that one a greater (`tc filter show dev {interface} ingress`, and egress)"
    )]
    PreferenceTaken {
        /// The interface.
        interface: InterfaceName,
    },
    /// There are as many VIPs as there is room for.
    #[error("the gate has room for {most} VIPs on a host and all are in use")]
    Full {
        /// How many there is room for.
        most: u32,
    },
    /// The kernel refused for another reason.
    #[error("the kernel refused to {doing}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Why a gate was not opened or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The VIP was never given to [`manage`](super::Gate::manage).
    #[error("the VIP is not managed by this gate")]
    NotManaged,
    /// The epoch is behind the fence.
    #[error("the epoch is outdated: only {fence} and later ones can open this gate")]
    Outdated {
        /// The smallest epoch that counts.
        fence: Epoch,
    },
}

impl GateError {
    /// For what bpf(2) answered.
    pub(super) fn bpf(doing: &'static str, source: io::Error) -> Self {
        const NEEDED: &str = "Linux 5.8 or later is needed, with CONFIG_BPF_SYSCALL";
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Self::NoPermission { doing, remedy: remedy(&[BPF, NET_ADMIN]), source }
            }
            Some(libc::ENOSYS | libc::EINVAL | libc::E2BIG) => {
                Self::Unsupported { doing, needed: NEEDED, source }
            }
            _ => Self::Kernel { doing, source },
        }
    }

    /// For what route netlink answered.
    pub(super) fn route(doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::NoPermission { doing, remedy: remedy(&[NET_ADMIN]), source },
            _ => Self::Kernel { doing, source },
        }
    }
}

/// A capability by name and number (linux/capability.h).
type Capability = (&'static str, u32);
const BPF: Capability = ("CAP_BPF", 39);
const NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
const SYS_ADMIN: u32 = 21;

/// What keeps this process from what needs `capabilities`.
fn remedy(capabilities: &[Capability]) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/thread-self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    explain(effective, &read("/proc/self/uid_map"), capabilities)
}

/// The same from the set of effective capabilities and the map of the user namespace.
fn explain(effective: u64, uid_map: &str, capabilities: &[Capability]) -> String {
    let has = |number: u32| effective >> number & 1 == 1;
    // Before Linux 5.8 CAP_SYS_ADMIN stood for CAP_BPF, and it still does.
    let granted = |number: u32| has(number) || number == BPF.1 && has(SYS_ADMIN);
    let missing = capabilities.iter().filter(|(_, number)| !granted(*number));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    let everybody = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !missing.is_empty() {
        format!("this process lacks {}", missing.join(" and "))
    } else if !everybody {
        "this is a user namespace, in which the kernel grants it to nobody; it has to be the machine's root"
            .to_owned()
    } else {
        "the capabilities are there, so a container's seccomp filter or a security module forbids it, or (before \
         Linux 5.11) `ulimit -l` is too low"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        const MACHINE: &str = "         0          0 4294967295\n";
        let wanted = [BPF, NET_ADMIN];
        assert_eq!(explain(0, MACHINE, &wanted), "this process lacks CAP_BPF and CAP_NET_ADMIN");
        assert_eq!(explain(1 << NET_ADMIN.1, MACHINE, &wanted), "this process lacks CAP_BPF");
        let root = u64::MAX;
        assert!(explain(root, "0 1000 1\n", &wanted).starts_with("this is a user namespace"));
        assert!(explain(root, MACHINE, &wanted).contains("seccomp"));
        let before_5_8 = 1 << NET_ADMIN.1 | 1 << SYS_ADMIN;
        assert!(explain(before_5_8, MACHINE, &wanted).contains("seccomp"), "CAP_SYS_ADMIN was enough");
    }
}
