//! The configuration: what is in force, what a change would mean, what was before.

use super::{Look, Paint, clean};
use config::Change;
use scs::configuration::{How, InForce, Outlook, Revision};
use std::fmt::Write as _;

/// How it is.
#[must_use]
pub fn in_force(now: &InForce, look: &Look) -> String {
    let mut text = format!("{} is in force\n", line(&now.revision, look));
    let _ = writeln!(text, "file: {}", clean(&now.path));
    if let Some(why) = &now.file_differs {
        let _ = writeln!(text, "{}", look.paint(Paint::Warning, &format!("the file: {}", clean(why))));
    }
    if !now.waits_for_restart.is_empty() {
        text.push_str("waiting for a restart of the SCS:\n");
        text.push_str(&changes(&now.waits_for_restart, look));
    }
    text
}

/// The configurations that were in force, the newest first.
#[must_use]
pub fn revisions(all: &[Revision], look: &Look) -> String {
    all.iter()
        .map(|revision| format!("{}\n{}", line(revision, look), changes(&revision.changes, look)))
        .collect()
}

/// What a configuration would change, or what is wrong with it.
#[must_use]
pub fn outlook(outlook: &Outlook, look: &Look) -> String {
    let mut text = outlook.report.lines().map(|line| format!("{}\n", clean(line))).collect::<String>();
    if outlook.errors > 0 {
        return text;
    }
    let base = outlook.base;
    let _ = match (outlook.changes.is_empty(), outlook.diff.is_empty()) {
        (true, true) => writeln!(text, "the same as revision {base}, which is in force"),
        (true, false) => writeln!(text, "differs from revision {base} in ways that change nothing"),
        (false, _) => writeln!(text, "What it changes of revision {base}:"),
    };
    text.push_str(&changes(&outlook.changes, look));
    text
}

fn changes(all: &[Change], look: &Look) -> String {
    let line = |change: &Change| {
        let Change { subject, change: what, consequence, interrupts } = change;
        let text = format!("{}: {}: {consequence}", clean(subject), clean(what));
        match interrupts {
            true => format!("  ! {}\n", look.paint(Paint::Bad, &text)),
            false => format!("    {text}\n"),
        }
    };
    all.iter().map(line).collect()
}

fn line(revision: &Revision, look: &Look) -> String {
    let how = match revision.how {
        How::Started => "read",
        How::Applied => "applied",
        How::Reloaded => "reloaded",
        How::RolledBack { .. } => "rolled back",
    };
    let to = match revision.how {
        How::RolledBack { to } => format!(" to revision {to}"),
        How::Started | How::Applied | How::Reloaded => String::new(),
    };
    let why =
        if revision.reason.is_empty() { String::new() } else { format!(": {}", clean(&revision.reason)) };
    let (number, at) = (revision.number, look.time(revision.at));
    format!("revision {number}, {how}{to} {at} by {}{why}", clean(&revision.who))
}
