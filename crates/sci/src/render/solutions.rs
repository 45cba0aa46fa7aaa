//! Solutions as a table, and one with its applications.

use super::table::{Table, cell, painted};
use super::{Look, Paint, clean, roughly};
use domain::{Micros, SolutionStatus};
use ha_core::{SolutionOrder, SolutionVerb, SolutionView};

/// All solutions. `now`: the SCS's time.
#[must_use]
pub fn solutions(all: &[SolutionView], now: Micros, look: &Look) -> String {
    if all.is_empty() {
        return "no solutions are configured ([solutions.NAME] in the cluster file)\n".to_owned();
    }
    let mut table = Table::new(&["SOLUTION", "STATUS", "SINCE", "APPLICATIONS", "WHY"]);
    for solution in all {
        let names: Vec<_> = solution.applications.iter().map(|part| part.app.as_str()).collect();
        let why = solution.order.as_ref().map_or_else(|| clean(&solution.reason), order_line);
        table.row(vec![
            cell(solution.name.as_str()),
            painted(solution.status.to_string(), paint_of(solution.status)),
            cell(format!("{} ago", roughly(now.since(solution.since)))),
            cell(names.join(", ")),
            cell(why),
        ]);
    }
    table.show(look, "")
}

/// One solution with its applications, in the order in which they are started.
#[must_use]
pub fn solution(solution: &SolutionView, look: &Look) -> String {
    let status = look.paint(paint_of(solution.status), &solution.status.to_string());
    let mut text = format!("{} is {status}", solution.name);
    if !solution.reason.is_empty() {
        text.push_str(&format!(": {}", clean(&solution.reason)));
    }
    text.push('\n');
    if let Some(order) = &solution.order {
        text.push_str(&format!("{}\n", order_line(order)));
    }
    let mut table = Table::new(&["APPLICATION", "HOST", "PAIR", "STATUS", "MODE"]);
    for part in &solution.applications {
        table.row(vec![
            cell(part.app.as_str()),
            cell(part.host.as_str()),
            part.pair.as_ref().map_or_else(|| cell("-"), |pair| cell(pair.as_str())),
            cell(part.status.to_string()),
            part.mode.map_or_else(|| cell("-"), |mode| cell(mode.to_string())),
        ]);
    }
    text + &table.show(look, "")
}

fn order_line(order: &SolutionOrder) -> String {
    let doing = match order.what {
        SolutionVerb::Start => "being started",
        SolutionVerb::Stop { graceful: true } => "being stopped gracefully",
        SolutionVerb::Stop { graceful: false } => "being stopped",
    };
    let waits = order.at.as_ref().map_or_else(|| "the whole".to_owned(), ToString::to_string);
    format!("{doing} by {}, waits for {waits}", clean(&order.by))
}

fn paint_of(status: SolutionStatus) -> Paint {
    match status {
        SolutionStatus::Started => Paint::Good,
        SolutionStatus::Stopped | SolutionStatus::Unknown => Paint::Warning,
        SolutionStatus::Pending => Paint::Bad,
    }
}
