//! Drills as a table.

use super::table::{Table, cell, number, painted};
use super::{Look, Paint, clean};
use crate::api::Drills;
use ha_core::DrillResult;

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
                    let (word, paint) = match last.result {
                        DrillResult::UnderWay => ("under way", Paint::Warning),
                        DrillResult::Passed => ("passed", Paint::Good),
                        DrillResult::Failed => ("FAILED", Paint::Bad),
                        DrillResult::Skipped => ("skipped", Paint::Warning),
                    };
                    painted(format!("{word}: {}", clean(&last.text)), paint)
                },
            ),
        ]);
    }
    table.show(look, "")
}
