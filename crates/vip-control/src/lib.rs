//! Virtual IP addresses on this host: put onto an interface and removed by netlink, announced to the neighbours,
//! watched, and checked for a second holder. Synchronous and without waiting: made to be called from a real-time
//! thread.
//!
//! - [`VipController`] changes and reads addresses, and sends one set of announcements. Tens of microseconds per
//!   call.
//! - [`Announcer`] is the schedule of further announcements. It is pure: it says what is due, the caller sends it.
//! - [`Monitor`] tells what changed on the host, whoever changed it.
//! - [`DuplicateCheck`] asks the network who else has a VIP, and listens for as long as the VIP is held.
//! - [`Inquiry`] asks the network who has a VIP that this host does not hold.
//! - [`Vicinity`] tells on which interface a machine without VIPs would ask.
//! - [`gate`] has the kernel stop a VIP's traffic unless a lease says otherwise.
//! - [`command`] stands behind `takeover vip enable | disable | status`, a VIP control script.
//!
//! Whether a VIP *should* be here is decided elsewhere; nothing in this crate remembers which VIPs it enabled (the gate, in the
//! kernel, which it is to stop). Each part belongs to the network namespace of the thread that opened it.
//!
//! What a VIP looks like to the kernel:
//!
//! - IPv4: an ordinary address with the configured prefix. Where the host has an address of its own in that subnet,
//!   the VIP becomes its *secondary* and the kernel does not choose it as a source. It is removed without taking
//!   others along (see [`VipController::disable`]).
//! - IPv6: without duplicate address detection by the kernel (`IFA_F_NODAD`), which would keep the address from
//!   answering for a second, and with preferred lifetime 0: reachable, but not chosen as a source while there is
//!   another (RFC 6724, section 5, rule 3).
//!
//! An address may be given an end ([`Validity`]): the kernel then removes it by itself unless somebody refreshes it, even where
//! nothing else of ours is alive. Other addresses, and the routes that they use, stay as they are.

mod announcer;
pub mod command;
mod controller;
mod duplicate;
mod error;
mod filters;
mod frames;
pub mod gate;
mod inquiry;
mod monitor;
mod netlink;
mod socket;
#[cfg(test)]
mod tests;
mod validity;
mod vicinity;

pub use announcer::Announcer;
pub use controller::{Changed, Refreshed, VipController};
pub use domain::MacAddress;
pub use duplicate::{Duplicate, DuplicateCheck};
pub use error::VipError;
pub use inquiry::{Inquiry, next_turn};
pub use monitor::{Drained, Monitor, NetEvent};
pub use validity::Validity;
pub use vicinity::Vicinity;
