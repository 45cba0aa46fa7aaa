//! Plain values that the laboratory speaks in, and its clock.

use domain::Micros;
use nix::time::ClockId;
use std::fmt;
use std::net::IpAddr;

/// The clock on which all of the laboratory's times are: CLOCK_BOOTTIME, the one of the product's own records.
///
/// # Panics
/// Where the kernel has no CLOCK_BOOTTIME, which is since Linux 2.6.39 part of it.
#[must_use]
pub fn now() -> Micros {
    micros(ClockId::CLOCK_BOOTTIME)
}

/// A clock in whole microseconds.
pub(crate) fn micros(clock: ClockId) -> Micros {
    let time = clock.now().expect("every kernel that has network namespaces has this clock");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Micros(seconds * 1_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000)
}

/// A hardware (Ethernet) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An IP address as a host of the laboratory has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The interface that it is on.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.address, self.prefix, self.interface)
    }
}
