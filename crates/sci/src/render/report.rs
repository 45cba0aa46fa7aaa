//! An incident as one page to send to those who were affected: what happened, who saw what and when, how long it took. As text,
//! and as HTML that needs nothing but itself: no script, no image, nothing from elsewhere.

use super::{Look, clean, milliseconds, outcome_line};
use domain::Micros;
use ha_core::{Incident, IncidentKind, Phase, Step};
use std::fmt::Write as _;
use std::time::Duration;

/// What a report has to say, before it has a form.
struct Report {
    title: String,
    /// Name and value.
    facts: Vec<(&'static str, String)>,
    /// What had happened by when, after the beginning.
    figures: Vec<(&'static str, Duration)>,
    /// Who saw what when, in the order of the times.
    seen: Vec<Seen>,
    /// What each observer said when it was decided.
    evidence: Vec<String>,
}

struct Seen {
    at: String,
    offset: String,
    number: String,
    observer: String,
    what: String,
}

/// One page of text. `cluster`: name of the installation.
#[must_use]
pub fn text(incident: &Incident, cluster: &str, look: &Look) -> String {
    let report = report(incident, cluster, look);
    let mut out = String::new();
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "{}\n{}\n", report.title, "=".repeat(report.title.chars().count()));
    for (name, value) in &report.facts {
        let _ = writeln!(out, "{name:<15} {value}");
    }
    if !report.figures.is_empty() {
        let _ = writeln!(out, "\nHow long it took\n");
        for (what, after) in &report.figures {
            let _ = writeln!(out, "  {:>15}  {what}", milliseconds(*after));
        }
    }
    if !report.evidence.is_empty() {
        let _ = writeln!(out, "\nWhat was known when it was decided\n");
        for line in &report.evidence {
            let _ = writeln!(out, "  {line}");
        }
    }
    let _ = writeln!(out, "\nWho saw what, and when\n");
    let observer = report.seen.iter().map(|seen| seen.observer.chars().count()).max().unwrap_or(0);
    for Seen { at, offset, number, observer: who, what } in &report.seen {
        let _ = writeln!(out, "  {at}  {offset:>14}  {number:>2}  {who:<observer$}  {what}");
    }
    out
}

/// One page of HTML, complete in itself. `cluster`: name of the installation.
#[must_use]
pub fn html(incident: &Incident, cluster: &str, look: &Look) -> String {
    let report = report(incident, cluster, look);
    let mut out = String::from(HEAD);
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        out,
        "<title>{0}</title></head><body><h1>{0}</h1><table class=\"facts\">",
        escaped(&report.title)
    );
    for (name, value) in &report.facts {
        let _ = writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escaped(value));
    }
    let _ = writeln!(out, "</table>");
    let longest = report.figures.iter().map(|(_, after)| *after).max().unwrap_or_default();
    if !report.figures.is_empty() {
        let _ = writeln!(out, "<h2>How long it took</h2><table class=\"figures\">");
        for (what, after) in &report.figures {
            // Drawn to scale.
            let part =
                if longest.is_zero() { 0.0 } else { after.as_secs_f64() / longest.as_secs_f64() * 100.0 };
            let _ = writeln!(
                out,
                "<tr><td class=\"time\">{}</td><td>{what}</td>\
                 <td class=\"scale\"><div style=\"width:{part:.1}%\"></div></td></tr>",
                milliseconds(*after)
            );
        }
        let _ = writeln!(out, "</table>");
    }
    if !report.evidence.is_empty() {
        let _ = writeln!(out, "<h2>What was known when it was decided</h2><ul>");
        for line in &report.evidence {
            let _ = writeln!(out, "<li>{}</li>", escaped(line));
        }
        let _ = writeln!(out, "</ul>");
    }
    let _ = writeln!(
        out,
        "<h2>Who saw what, and when</h2><table><tr><th>Time</th><th>After</th><th>Step</th><th>Who</th><th>What</th></tr>"
    );
    for Seen { at, offset, number, observer, what } in &report.seen {
        let _ = writeln!(
            out,
            "<tr><td class=\"time\">{at}</td><td class=\"time\">{offset}</td><td>{number}</td><td>{}</td><td>{}</td></tr>",
            escaped(observer),
            escaped(what)
        );
    }
    let _ = writeln!(out, "</table></body></html>");
    out
}

fn report(incident: &Incident, cluster: &str, look: &Look) -> Report {
    let begun = incident.begun;
    let mut facts = vec![
        ("Installation", clean(cluster)),
        ("Pair", incident.pair.to_string()),
        ("Begun", format!("{} ({})", look.time_us(begun), look.zone_at(begun))),
    ];
    if incident.unnoticed_us > 0 {
        let before = milliseconds(Duration::from_micros(incident.unnoticed_us));
        facts.push(("Noticed", format!("then; it may have happened up to {before} before")));
    }
    let from = incident.from.as_ref().map_or("nobody", |from| from.as_str());
    facts.push(("Service moved", format!("from {from} to {}, epoch {}", incident.to, incident.epoch)));
    facts.push(("Why", clean(&incident.reason)));
    if !incident.ordered_by.is_empty() {
        facts.push(("Ordered by", clean(&incident.ordered_by)));
    }
    if let Some(served) = incident.served_at() {
        let after = served.since(begun) + Duration::from_micros(incident.unnoticed_us);
        let at_most = if incident.unnoticed_us > 0 { " at the most" } else { "" };
        let text = match incident.kind {
            IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Disconnected => {
                format!("by {} after {}{at_most}", incident.to, milliseconds(after))
            }
            IncidentKind::Reconnected | IncidentKind::FirstPrimary => format!("by {}", incident.to),
        };
        facts.push(("Served again", text));
    }
    facts.push(("Outcome", outcome_line(incident, &Look { colour: false, ..look.clone() })));
    let mut steps: Vec<&Step> = incident.steps.iter().collect();
    // They are kept as they came to the SCS's knowledge; each has the time at which it was so where it was seen.
    steps.sort_by_key(|step| step.at);
    Report {
        title: format!("Incident {}: {}", incident.id.0, incident.title()),
        facts,
        figures: figures(incident),
        seen: steps.into_iter().map(|step| seen(step, begun, look)).collect(),
        evidence: incident.evidence.iter().map(|line| clean(line)).collect(),
    }
}

/// When each phase was first reached.
fn figures(incident: &Incident) -> Vec<(&'static str, Duration)> {
    let reached =
        |phase: Phase| incident.steps.iter().filter(|step| step.phase == phase).map(|step| step.at).min();
    let after = |at: Micros| at.since(incident.begun);
    [
        ("known to the SCS", reached(Phase::Reported)),
        ("decided", reached(Phase::Decided)),
        ("new primary instructed", reached(Phase::PrimaryInstructed)),
        ("new primary confirmed", reached(Phase::PrimaryConfirmed)),
        ("served again: the addresses are there", incident.served_at()),
        ("confirmed from outside: the network was asked", reached(Phase::Verified)),
        ("complete", incident.ended),
    ]
    .into_iter()
    .filter_map(|(what, at)| Some((what, after(at?))))
    .collect()
}

fn seen(step: &Step, begun: Micros, look: &Look) -> Seen {
    let (sign, offset) =
        if step.at < begun { ("-", begun.since(step.at)) } else { ("+", step.at.since(begun)) };
    Seen {
        at: look.format(step.at, "%H:%M:%S%.6f"),
        offset: format!("{sign}{}", milliseconds(offset)),
        number: step.number.map_or_else(String::new, |number| number.to_string()),
        observer: step.host.as_ref().map_or_else(|| "SCS".to_owned(), ToString::to_string),
        what: clean(&step.text),
    }
}

/// Text between tags (HTML, section 13.3: `&`, `<`, `>` and quotes).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 1.6rem }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
tr + tr td { border-top: 1px solid #e4e4e4 } .facts th { width: 9rem; font-weight: 600 }
.time { white-space: nowrap; font-variant-numeric: tabular-nums } .figures .time { text-align: right; width: 8rem }
.scale { width: 40% } .scale div { height: .7rem; background: #2f6fb0; min-width: 1px }
@media print { body { margin: 0 } }
</style>
"#;
