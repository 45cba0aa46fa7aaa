//! Incidents: the list, and one with its numbered steps and their times.

use super::table::{Table, cell, number, painted};
use super::{Look, Paint, clean, milliseconds};
use domain::Micros;
use ha_core::{Incident, IncidentOutcome, Step};
use std::fmt::Write as _;

/// The list.
#[must_use]
pub fn incidents(incidents: &[Incident], look: &Look) -> String {
    let mut table = Table::new(&["ID", "BEGUN", "PAIR", "WORKFLOW", "FROM", "TO", "TOOK", "OUTCOME"]);
    for incident in incidents {
        let took =
            incident.ended.map_or_else(|| "-".to_owned(), |end| milliseconds(end.since(incident.begun)));
        table.row(vec![
            number(incident.id.0.to_string()),
            cell(look.time(incident.begun)),
            cell(incident.pair.as_str()),
            cell(incident.title()),
            cell(incident.from.as_ref().map_or("-", |from| from.as_str())),
            cell(incident.to.as_str()),
            number(took),
            painted(clean(&incident.outcome.to_string()), paint_of(&incident.outcome)),
        ]);
    }
    table.show(look, "")
}

/// One, with everything in it.
#[must_use]
pub fn incident(incident: &Incident, look: &Look) -> String {
    let mut out = String::new();
    let heading = format!("Incident {}: {} of pair {}", incident.id.0, incident.title(), incident.pair);
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "{}", look.paint(Paint::Heading, &heading));
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {} {text}", look.paint(Paint::Dim, &format!("{name:<10}")));
    };
    let from = incident.from.as_ref().map_or("nobody", |from| from.as_str());
    line("change", &format!("{from} -> {}, epoch {}", incident.to, incident.epoch));
    line("begun", &format!("{} ({})", look.time_us(incident.begun), look.zone_at(incident.begun)));
    if let Some(ended) = incident.ended {
        line(
            "ended",
            &format!("{}, after {}", look.time_us(ended), milliseconds(ended.since(incident.begun))),
        );
    }
    line("outcome", &look.paint(paint_of(&incident.outcome), &clean(&incident.outcome.to_string())));
    line("reason", &clean(&incident.reason));
    if !incident.ordered_by.is_empty() {
        line("ordered by", &clean(&incident.ordered_by));
    }
    for (index, evidence) in incident.evidence.iter().enumerate() {
        line(if index == 0 { "evidence" } else { "" }, &clean(evidence));
    }
    let _ = writeln!(
        out,
        "\n{}",
        look.paint(Paint::Dim, &format!("  STEP  {:>12}  {:<18}  WHAT", "OFFSET", "PHASE"))
    );
    for step in &incident.steps {
        let _ = writeln!(out, "{}", step_line(step, incident.begun, look));
    }
    out
}

/// One step, without a line break: its number in the workflow, its time after the beginning, phase, host, what
/// happened.
#[must_use]
pub fn step_line(step: &Step, begun: Micros, look: &Look) -> String {
    // An agent's report may tell of something before the incident was opened.
    let offset = if step.at < begun {
        format!("-{}", milliseconds(begun.since(step.at)))
    } else {
        format!("+{}", milliseconds(step.at.since(begun)))
    };
    let number = step.number.map_or_else(String::new, |number| number.to_string());
    let host = step.host.as_ref().map_or_else(String::new, |host| format!("{host}: "));
    let number = look.paint(Paint::Heading, &format!("{number:>4}"));
    format!("  {number}  {offset:>12}  {:<18}  {host}{}", step.phase, clean(&step.text))
}

/// How it ended, as one sentence without a line break.
#[must_use]
pub fn outcome_line(incident: &Incident, look: &Look) -> String {
    let took = incident.ended.map(|ended| format!(" after {}", milliseconds(ended.since(incident.begun))));
    let took = took.unwrap_or_default();
    let text = match &incident.outcome {
        IncidentOutcome::Open => format!("incident {} is still under way", incident.id.0),
        IncidentOutcome::Completed => {
            format!("completed{took}: {} is primary of {}", incident.to, incident.pair)
        }
        IncidentOutcome::RolledBack { why } => format!("rolled back{took}: {}", clean(why)),
        IncidentOutcome::Superseded => {
            format!("superseded{took} by the next role change, see `takeover incidents`")
        }
        IncidentOutcome::Interrupted => {
            "interrupted by the end of the SCS; `takeover status` shows how it is now".to_owned()
        }
        IncidentOutcome::Reconfigured => {
            "ended by a change of the configuration; `takeover config history` shows which".to_owned()
        }
    };
    look.paint(paint_of(&incident.outcome), &text)
}

fn paint_of(outcome: &IncidentOutcome) -> Paint {
    match outcome {
        IncidentOutcome::Open => Paint::Warning,
        IncidentOutcome::Completed => Paint::Good,
        IncidentOutcome::RolledBack { .. } => Paint::Bad,
        IncidentOutcome::Superseded | IncidentOutcome::Interrupted | IncidentOutcome::Reconfigured => {
            Paint::Dim
        }
    }
}
