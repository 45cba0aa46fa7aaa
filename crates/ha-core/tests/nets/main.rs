//! The nets under the decision core, each of which catches what the others let through: golden transcripts, every short
//! history, and seeded long histories with faults between messages.

#![allow(clippy::unwrap_used, reason = "a pretend world that is broken may panic")]

mod exhaustive;
mod golden;
mod scale;
mod seeded;
mod world;
