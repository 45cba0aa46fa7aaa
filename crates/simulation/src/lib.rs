//! The whole installation in one deterministic world: the SCS's decision core and its voter, the agents' cores with their
//! leases, servers, kernels with their gates, and a network that loses, doubles, delays and cuts. No clock, no socket, no
//! thread; chance comes from a seed.
//!
//! ```text
//!  seed ──> scenario: who is there, what goes wrong when ──> run ──> outcome: violations, counts
//!                                                             │
//!                world: events in true time ──────────────────┤
//!                 ├── agent: lca-core, lease; a driver like `lca`'s     (deeds are values: a program may be stopped
//!                 ├── scs: ha-core, lease; a driver like `scs`'s         or ended between any two of them)
//!                 ├── host: addresses, gates, processes, files: what the kernel goes on with
//!                 ├── network
//!                 └── judge: sees everything in true time; never two answer, epochs grow, outages are short
//! ```
//!
//! A history that fails is made small ([`shrink`]) and told line by line. `cargo xtask simulate --seeds N` runs many, on all
//! cores; `--seed S` one.
//!
//! The world can be broken on purpose ([`Breakage`]), one rule of the lease at a time. The judge must notice each.

mod agent;
mod clock;
mod due;
mod host;
mod judge;
mod message;
mod network;
mod process;
mod random;
mod run;
mod scenario;
mod scs;
mod shrink;
mod whole;
mod world;

pub use clock::TrueTime;
pub use message::Node;
pub use network::Weather;
pub use run::{Outcome, run};
pub use scenario::{BEGIN_US, Breakage, Disk, Fault, Layout, Moment, Restart, Scenario, Timed, When};
pub use shrink::shrink;
pub use world::Counts;
