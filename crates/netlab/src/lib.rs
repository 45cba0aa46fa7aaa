//! A laboratory on one machine: hosts as network namespaces on a virtual switch, made by netlink directly, so that
//! nothing needs to be installed and no rights are needed; and a prober, the client that sends a SIP OPTIONS to a Virtual
//! IP address every millisecond and knows which host answered.
//!
//! A program calls [`enter`] first, early in `main`: it goes on in namespaces of its own, of which nothing remains
//! however it ends. There it builds a [`Lab`], runs programs on the lab's hosts, cuts cables, and lets a [`Prober`]
//! observe; an [`Observation`] then says how long nobody answered and whether two did. Tests do so through [`harness`].
//!
//! ```no_run
//! use netlab::{Lab, Nic, Place, ProbeSettings, Prober, enter};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if let Place::Outside(code) = enter()? {
//!     std::process::exit(code.into());
//! }
//! let mut lab = Lab::new()?;
//! lab.host("host1", &[Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.11/24"] }])?;
//! lab.host("client", &[Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.100/24"] }])?;
//! let server = lab.spawn("host1", std::process::Command::new("/usr/bin/my-sip-server"))?;
//! let prober = Prober::start(&lab, "client", ProbeSettings::new("192.0.2.11:5060".parse()?))?;
//! lab.cut("host1")?;
//! println!("{:?}", prober.stop().last_answered_by());
//! # Ok(()) }
//! ```
//!
//! What it leaves to others: which programs run on the hosts and what a takeover is. It shares no code with the parts
//! under test (only `domain`'s time): an instrument that read addresses by the code that sets them would share its faults.

mod cleanup;
mod enclosure;
mod enter;
pub mod harness;
mod host;
mod lab;
mod links;
mod netlink;
mod observation;
mod prober;
mod sip;
mod types;
pub mod wire;

pub use enclosure::WORK_DIR;
pub use enter::{EnterError, Place, enter};
pub use lab::{Direction, Lab, LabError, Nic};
pub use observation::{Answer, Gap, Observation, Request, Takeover};
pub use prober::{Live, ProbeSettings, Prober};
pub use types::{Address, Mac, now};
