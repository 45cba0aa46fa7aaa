//! The nets under the decision core, each of which catches what the others let through: golden transcripts, every short
//! history, and seeded long histories with faults between messages.

mod exhaustive;
mod golden;
mod seeded;
mod world;
