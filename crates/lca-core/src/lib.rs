//! What the Local Control Agent decides, apart from what it touches. Pure: time comes in as an argument, effects go out
//! as values; processes, sockets, addresses and files are `lca`'s.
//!
//! - [`supervisor`]: one application: when it is started, stopped, killed, restarted, and what is told about it.
//! - [`keeper`]: one pair: its lease, its gate, and what is done when no SCS is there to decide.
//! - [`journal`]: reports that the SCS has not acknowledged yet.
//! - [`launches`]: which script runs when, and the results to be told again.
//! - [`put_back`]: how often a VIP is put back that another tool removes.

pub mod journal;
pub mod keeper;
pub mod launches;
pub mod put_back;
pub mod supervisor;
