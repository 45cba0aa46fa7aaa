//! A whole installation on a laboratory network: the SCS on a host of its own, an agent on each of two hosts, a SIP
//! Server under each agent, and a client. Every part is a process of the real binary; only the network is made for it.
//! The demo, the end-to-end tests and the benchmarks stand on this.
//!
//! ```text
//!   scs 192.0.2.10 ──┐
//!   host1 192.0.2.11 ─┼─ switch (segment "lan") ── client 192.0.2.20
//!   host2 192.0.2.12 ─┘        VIP 192.0.2.100, 2001:db8::100
//! ```

mod api;
mod site;

pub use api::Api;
pub use site::{AGENT_HOSTS, CLIENT, SCS_HOST, SIP_PORT, Settings, Site, VIP, VIP6};
