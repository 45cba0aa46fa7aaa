//! The lease's machine (`lease::Machine`, not a copy of it) in every situation that a small world has: messages lost, late,
//! doubled and out of order; agents, hosts and the SCS crashing; threads that stall between any two steps; clocks that
//! differ. `cargo xtask model` explores it; docs/reliability.md says what was explored and what it does not cover.
//!
//! ```text
//!  setup     a configuration: how it begins, what may happen how often, which rule is broken on purpose
//!  world     a state: three machines, messages on their way, two gates
//!  action    what may happen next          apply     what comes of it
//!  model     what must hold                recovery  whether service comes back when faults end
//!  walk      the same world at random, with bounds that nobody could explore
//! ```
//!
//! What makes it small: all times are relative (after each tick every clock is set back, and every time with it, so there
//! is no bound on how long anything lasts); a message that is lost, a link that is cut, a thread that stalls and an SCS that
//! is down are steps that are not taken; a message that has arrived stays, which doubles it; and what an agent sends before
//! it writes to its gate counts as sent when it was decided.

pub mod action;
pub mod apply;
pub mod configurations;
pub mod explore;
pub mod gate;
pub mod model;
pub mod recovery;
pub mod setup;
pub mod transcript;
pub mod walk;
pub mod world;
