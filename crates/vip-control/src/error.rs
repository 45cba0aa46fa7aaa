//! What can go wrong with a VIP, by what the caller can do about it.

use domain::{InterfaceName, VipAddress};
use std::io;

/// Why something about a VIP was not done.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// There is no such interface now. It may come (back): try again when [`Monitor`](crate::Monitor) reports it.
    #[error("there is no network interface {interface}; see `ip link`")]
    NoInterface {
        /// The interface.
        interface: InterfaceName,
    },
    /// The interface is administratively down: nothing can be sent on it. The address, if it was to be added, is
    /// there.
    #[error("network interface {interface} is down; set it up with `ip link set {interface} up`")]
    InterfaceDown {
        /// The interface.
        interface: InterfaceName,
    },
    /// The process lacks a capability.
    #[error("no permission to {doing}: {capability} is needed")]
    NoPermission {
        /// What was tried.
        doing: &'static str,
        /// The capability that is missing.
        capability: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The interface has the IPv6 address already, with another prefix length. It was left as it is.
    #[error("{} is on {interface} already, with prefix length {found} in place of {}; remove it or correct the prefix",
        vip.address, vip.prefix)]
    OtherPrefix {
        /// The VIP as wanted.
        vip: VipAddress,
        /// The interface.
        interface: InterfaceName,
        /// The prefix length that the address has.
        found: u8,
    },
    /// IPv6 is switched off on the interface.
    #[error("IPv6 is switched off on {interface}; set net.ipv6.conf.{interface}.disable_ipv6 to 0")]
    Ipv6Disabled {
        /// The interface.
        interface: InterfaceName,
    },
    /// The neighbours on this kind of interface cannot be told: neither Ethernet nor point-to-point. The address, if
    /// it was to be added, is there.
    #[error("cannot announce on {interface}: its link type {link_type} is not Ethernet")]
    NotEthernet {
        /// The interface.
        interface: InterfaceName,
        /// Link type (`ARPHRD_*` of the kernel's `linux/if_arp.h`).
        link_type: u16,
    },
    /// Nobody can be asked there: the interface has no carrier, or is of a kind without neighbours (loopback,
    /// point-to-point).
    #[error("there is nobody to ask on {interface}: it has no carrier, or no neighbours")]
    NoNeighbours {
        /// The interface.
        interface: InterfaceName,
    },
    /// An announcement or probe could not be sent. The address, if it was to be added, is there.
    #[error("cannot send {what} for {} on {interface}", vip.address)]
    NotSent {
        /// What was to be sent.
        what: &'static str,
        /// The VIP.
        vip: VipAddress,
        /// The interface.
        interface: InterfaceName,
        /// The kernel's answer.
        #[source]
        source: io::Error,
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

impl VipError {
    /// The error for what the kernel answered to an attempt that needs `CAP_NET_ADMIN` at most.
    pub(crate) fn kernel(doing: &'static str, source: io::Error) -> Self {
        Self::refused(doing, "CAP_NET_ADMIN", source)
    }

    /// The error for what the kernel answered to an attempt that needs `capability` at most.
    pub(crate) fn refused(doing: &'static str, capability: &'static str, source: io::Error) -> Self {
        if source.raw_os_error() == Some(libc::EPERM) {
            Self::NoPermission { doing, capability, source }
        } else {
            Self::Kernel { doing, source }
        }
    }
}
