//! Log events, one line each.

use super::{Look, Paint, clean};
use domain::{Level, LogEvent};
use std::fmt::Write as _;

/// Many, under a heading that names the time zone.
#[must_use]
pub fn log<'a>(events: impl IntoIterator<Item = &'a LogEvent>, look: &Look) -> String {
    let mut out = String::new();
    for event in events {
        if out.is_empty() {
            let heading = format!(
                "{:<26}  {:<8}  {:<11}  {:<20}  TEXT",
                format!("TIME ({})", look.zone_at(event.at)),
                "ID",
                "LEVEL",
                "SOURCE"
            );
            out = look.paint(Paint::Dim, &heading);
            out.push('\n');
        }
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}", log_line(event, look));
    }
    out
}

/// One, without a line break. Columns have fixed widths, so that lines which come later stay aligned.
#[must_use]
pub fn log_line(event: &LogEvent, look: &Look) -> String {
    let source = match (&event.app, &event.host) {
        (Some(app), Some(host)) => format!("{app} on {host}"),
        (Some(app), None) => app.to_string(),
        (None, Some(host)) => host.to_string(),
        (None, None) => "-".to_owned(),
    };
    let paint = match event.level {
        Level::Alarm => Paint::Bad,
        Level::Standard => Paint::Plain,
        Level::Interaction | Level::Trace | Level::Debug => Paint::Dim,
    };
    let level = look.paint(paint, &format!("{:<11}", event.level));
    format!("{}  {}  {level}  {source:<20}  {}", look.time_us(event.at), event.id, clean(&event.text))
}
