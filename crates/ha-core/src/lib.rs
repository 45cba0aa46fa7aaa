//! The decision of the Solution Control Server, as plain functions: facts and time go in, instructions, log events and
//! records come out. No clock, no socket, no thread, no random source; whoever drives it owns those.
//!
//! # For the caller
//!
//! Make a [`State`] from the cluster (and what survived the last run, [`Durable`]), then for everything that happens
//! call [`run`] with the [`Input`] and the time, and carry out the [`Action`]s in order. When [`State::next_deadline`]
//! has come, call [`run`] with [`Input::TimePassed`]. `now` must never go back.
//!
//! # How it decides
//!
//! One step records the fact, elects, and reconciles wanted with known (`pairs.rs`):
//!
//! ```text
//!  fact --> record --> elect: wanted_primary --> instruct members --> log mode changes --> move VIPs --> watch for faults
//!                                                                        |                  ^
//!                                             inbox: log event --> alarms --> reactions --> launch requests
//! ```
//!
//! * `wanted` is one name, so two primaries cannot be wanted. It moves only when its holder is *known* to be gone (or
//!   an operator asked, or the failback policy says so) and the other is *known* to be ready. What is not known decides
//!   nothing.
//! * Members that cannot be reached are instructed when they come back: reconnection needs no branch of its own.
//! * Log events and launch requests return through the inbox that [`run`] drains, so every event takes one road and
//!   the order of the workflows' steps comes for free.
//! * Under the alarm-driven moves lies a level-triggered safety net: a VIP out of place is put right even when the
//!   change that should have moved it went unseen (`vips.rs`).
//! * Everything that must be answered (instructions, launches) is kept until it is answered, retried, or its host is
//!   lost; nothing waits for ever.

mod claims;
mod drills;
mod durable;
mod elect;
mod foresight;
mod freeze;
mod incidents;
mod index;
mod input;
mod launches;
mod leases;
mod maintenance;
mod orders;
mod pairs;
mod promised;
mod reconfigure;
mod sightings;
mod solutions;
mod standby;
mod state;
mod step;
mod verify;
mod view;
mod vips;
mod watch;

pub use claims::Claim;
pub use drills::{Drill, DrillPlan, DrillResult, DrillRun, Drills};
pub use durable::Durable;
pub use foresight::{Consequence, Fault};
pub use freeze::Freeze;
pub use incidents::{Incident, IncidentId, IncidentKind, IncidentOutcome, Phase, Step};
pub use input::{Action, By, Input, LaunchRequest, Lost, OperatorOrder, OrderId, OrderOutcome, Record};
pub use leases::LeaseView;
pub use maintenance::Maintenance;
pub use orders::{Check, Plan};
pub use solutions::{KeptSolution, SolutionOrder, SolutionPart, SolutionVerb, SolutionView};
pub use standby::StandbyView;
pub use state::{State, Wish};
pub use step::{run, step};
pub use view::{AppView, HolderView, HostView, MemberView, PairView, SightingView, View, VipPlace, VipView};
