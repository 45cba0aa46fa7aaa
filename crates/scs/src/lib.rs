//! The Solution Control Server: the decision core (`ha-core`) with an event loop around it, a store under it and a
//! handle for the API on top. It decides nothing itself.
//!
//! ```text
//!  agents ══ mutual TLS, datagrams ══> core thread: ha_core::run(state, input, now) ──> instructions, launches
//!                                         │      ▲
//!                       records (never waited for)  orders
//!                                         ▼      │
//!                                       store   Handle <── API
//! ```

mod apply;
mod clock;
pub mod configuration;
mod core_loop;
mod datagrams;
pub mod handle;
mod host_probes;
mod inputs;
pub mod journal;
mod observer;
mod outbox;
mod questions;
mod refusals;
mod sessions;
mod silence;
mod stalls;
mod start;
pub mod store;
mod witness;

pub use clock::Clock;
pub use start::{Options, Scs, StartError, start};
