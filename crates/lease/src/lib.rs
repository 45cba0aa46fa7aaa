//! Leases on a pair's VIPs: who may answer for them, and until when. Pure: no clock, no socket, no random source.
//!
//! Three voters per pair: the agents of its two members, and the SCS. Only the two agents can hold. Holding takes the
//! promises of two of the three, one's own included; so no two can hold at a time, and any one voter or link can be lost
//! without taking service down.
//!
//! ```text
//!  holder                                    voter
//!    |---- Ask { epoch, at } ----------------->|   at: the holder's clock when it sent this, the anchor
//!    |                                         |   its vote is free, or the holder's: promised until now + l_v
//!    |<--- Promise { epoch, at } --------------|
//!    |  two promises: gate open until the older anchor + l_h
//! ```
//!
//! - **R1** A lease is anchored at the time the holder *sent* the request, on its own clock: [`Machine`] knows only the
//!   `at` that a promise repeats.
//! - **R2** A promise lasts `l_v` from when it is given, longer than `l_h` by drift and slack: [`Timing`].
//! - **R3** What goes to the gate is an absolute deadline with an epoch: [`Output::Open`]. A late write is harmless.
//! - **R4** A voter that lost its memory neither promises nor asks for `l_v`: [`Machine::new`]. What survives an agent's
//!   crash is its [`Memory`].
//! - **R5** The gate is closed and fenced before the voters are told: the order of the [`Output`]s.
//! - **R6** One thread calls the machine and carries its outputs out, in order.
//!
//! Time is `CLOCK_BOOTTIME` of the machine's own host; two hosts' times are never compared.

mod machine;
mod memory;
mod message;
mod output;
mod timing;
mod voter;
mod witness;

pub use machine::{Machine, Want};
pub use memory::{MEMORY_LEN, Memory};
pub use message::{Body, Kind, MESSAGE_LEN, Malformed, Message, PairId, Refusal, Seat, Why};
pub use output::Output;
pub use timing::{DRIFT_PPM, Flappy, GATE_SLACK, Timing, TimingError};
pub use voter::Entitled;
pub use witness::{Recorded, Witness, Witnessed};
