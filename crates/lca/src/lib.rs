//! The Local Control Agent: starts, stops and watches the applications of its host, passes run modes on, runs scripts,
//! holds VIPs, and reports all of it to the SCS. What is to happen in the cluster is decided by the SCS.
//!
//! ```text
//!            real-time thread (SCHED_FIFO, never waits)                 worker (ordinary thread, tokio)
//!  SCS <──> session ── agent ── supervisor (lca-core, one per app)          spawn, find   processes
//!             │          ├───── launches, journal (lca-core)    Job ──>   scripts       launches, mode commands
//!   LCAs <──> peers ─────├───── vips, observer, gates ── vip-control <─ News probes        tcp, http, sip, command
//!                        └───── controlled: pidfd, notify, mode socket    figures, state_file
//!                                                      dialer (thread) connects to the SCSs, meeting to other agents
//! ```
//!
//! - The supervisor ([`lca_core`]) decides about an application, without I/O; `applications` carries out what it decides.
//! - The real-time thread does what must be quick: it notices the death of a process, by the lifeline that the process
//!   holds (`death_watch`) or by pidfd, and closes the gate of a dead primary's VIPs before it reports. It opens no files
//!   and starts no processes.
//! - Nothing of what runs depends on the agent: it may end, crash or be replaced, and the next one takes over what it
//!   finds (`state_file`).

mod agent;
mod alone;
mod applications;
mod cgroup;
mod clock;
mod controlled;
mod datagrams;
mod death_watch;
mod dialer;
mod farewell;
mod figures;
mod gates;
mod keepers;
mod lease_memory;
mod leases;
mod links;
mod mailbox;
mod meeting;
mod messages;
mod observer;
mod orders;
mod pages;
mod peers;
mod probes;
mod real_time;
mod run;
mod say;
mod scripts;
mod session;
mod sip_servers;
mod spawn;
mod state_file;
mod sys;
mod vips;
mod watchdog;
mod worker;

pub use farewell::remove_gate;
pub use run::{Options, run};
