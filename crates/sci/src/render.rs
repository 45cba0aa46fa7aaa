//! What the API says as text for people: aligned, in their own time zone, coloured on a terminal. Pure: values and a
//! [`Look`] in, text out. The layouts are in the submodules, one for each thing that is shown.

mod access;
mod alarms;
mod calls;
mod configuration;
mod drills;
mod foresight;
mod hosts;
mod incident;
mod log;
mod plan;
pub mod report;
mod solutions;
mod status;
mod table;
mod times;

pub use access::{audit, audit_verdict, tokens, users};
pub use alarms::alarms;
pub use calls::{call, calls, trace};
pub use configuration::{in_force, outlook, revisions};
pub use drills::drills;
pub use foresight::consequences;
pub use hosts::hosts;
pub use incident::{incident, incidents, outcome_line, step_line};
pub use log::{log, log_line};
pub use plan::plan;
pub use solutions::{solution, solutions};
pub use status::{is_in_trouble, status};
pub use times::takeover_times;

use domain::Micros;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

/// How things are shown.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whether colours are used.
    pub colour: bool,
    /// The zone that times are shown in.
    pub zone: TimeZone,
}

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Good,
    Warning,
    Bad,
    Dim,
    Heading,
    Plain,
}

impl Look {
    /// For standard output: colours on a terminal unless `NO_COLOR` is set (<https://no-color.org>), the system's time
    /// zone where it has one.
    #[must_use]
    pub fn of_stdout() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: std::io::stdout().is_terminal() && !forbidden,
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Good => "32",
            Paint::Warning => "33",
            Paint::Bad => "1;31",
            Paint::Dim => "2",
            Paint::Heading => "1",
            Paint::Plain => return text.to_owned(),
        };
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// A time to the second.
    pub(crate) fn time(&self, at: Micros) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    /// The day of a time.
    fn date(&self, at: Micros) -> String {
        self.format(at, "%Y-%m-%d")
    }

    /// A time to the microsecond.
    fn time_us(&self, at: Micros) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S%.6f")
    }

    /// What times at `at` are relative to: "UTC", "UTC+01:00".
    pub(crate) fn zone_at(&self, at: Micros) -> String {
        let offset = self.format(at, "%:z");
        if offset == "+00:00" { "UTC".to_owned() } else { format!("UTC{offset}") }
    }

    fn format(&self, at: Micros, format: &str) -> String {
        let timestamp = i64::try_from(at.0).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
        match timestamp {
            Some(timestamp) => timestamp.to_zoned(self.zone.clone()).strftime(format).to_string(),
            None => format!("{at} s"),
        }
    }
}

/// A duration in its two largest units, for people: "3 d 4 h", "12 s".
fn roughly(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// A duration of a role change: milliseconds with three decimals.
fn milliseconds(d: Duration) -> String {
    let us = d.as_micros();
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// Text from outside (applications say of themselves what they like): nothing in it may move the cursor or ring bells.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a string does not fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
