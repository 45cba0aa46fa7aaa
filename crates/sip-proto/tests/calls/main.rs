//! Calls, whole: pretend phones on both sides, a backup that is compared after every step, and takeovers everywhere.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod edges;
mod golden;
mod phone;
mod takeover;
mod world;
