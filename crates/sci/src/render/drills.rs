//! Drills as a table.

use super::table::{Table, cell, number, painted};
use super::{Look, Paint, clean};
use crate::api::Drills;
use ha_core::{Drill, DrillResult};

/// The drills of these pairs, by pair and number.
#[must_use]
pub fn drills(all: &[Drills], look: &Look) -> String {
    let mut table = Table::new(&["PAIR", "DRILL", "NEXT", "EVERY", "BACK", "BY", "LAST", "RESULT"]);
    let lines = || all.iter().flat_map(|of| of.drills.iter().map(|drill| (&of.pair, drill)));
    if lines().next().is_none() {
        return "no drills are scheduled\n".to_owned();
    }
    for (pair, drill) in lines() {
        let by = if drill.reason.is_empty() {
            clean(&drill.by)
        } else {
            clean(&format!("{}: {}", drill.by, drill.reason))
        };
        let last = drill.last.as_ref();
        table.row(vec![
            cell(pair.as_str()),
            number(drill.number.to_string()),
            drill.at.map_or_else(|| painted("over", Paint::Dim), |at| cell(look.time(at))),
            cell(drill.every_days.map_or_else(|| "once".to_owned(), |days| format!("{days} d"))),
            cell(if drill.back { "yes" } else { "no" }),
            cell(by),
            last.map_or_else(|| cell("-"), |last| cell(look.time(last.at))),
            last.map_or_else(
                || cell(""),
                |last| {
                    let (word, paint) = said(last.result);
                    painted(format!("{word}: {}", clean(&last.text)), paint)
                },
            ),
        ]);
    }
    table.show(look, "")
}

/// Of a pair's drills in one line: when one is run next, and what came of the last one; empty where there are none.
#[must_use]
pub fn drill_line(drills: &[Drill], look: &Look) -> String {
    let mut parts = Vec::new();
    let next = drills.iter().filter_map(|drill| Some((drill.at?, drill.number))).min();
    if let Some((at, number)) = next {
        parts.push(format!("drill {number} at {}", look.time(at)));
    }
    let run = |drill: &Drill| drill.last.clone().map(|run| (run.at, drill.number, run));
    if let Some((at, number, run)) =
        drills.iter().filter_map(run).max_by_key(|(at, number, _)| (*at, *number))
    {
        let (word, paint) = said(run.result);
        let text = look.paint(paint, &format!("{word}: {}", clean(&run.text)));
        parts.push(format!("last drill {number} at {} {text}", look.time(at)));
    }
    parts.join("; ")
}

fn said(result: DrillResult) -> (&'static str, Paint) {
    match result {
        DrillResult::UnderWay => ("under way", Paint::Warning),
        DrillResult::Passed => ("passed", Paint::Good),
        DrillResult::Failed => ("FAILED", Paint::Bad),
        DrillResult::Skipped => ("skipped", Paint::Warning),
    }
}
