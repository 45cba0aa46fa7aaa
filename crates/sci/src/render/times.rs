//! Takeover times as a table.

use super::table::{Table, cell, number, painted};
use super::{Look, Paint, milliseconds};
use crate::api::TakeoverTimesOf;
use std::time::Duration;

/// The table, with how far back it looks.
#[must_use]
pub fn takeover_times(told: &TakeoverTimesOf, look: &Look) -> String {
    let Some(since) = told.since.filter(|_| !told.times.is_empty()) else {
        return "no takeovers are kept\n".to_owned();
    };
    let mut table = Table::new(&[
        "PAIR",
        "KIND",
        "HOW MANY",
        "MEDIAN",
        "90 %",
        "99 %",
        "WORST",
        "CONFIRMED",
        "PROMISE",
        "",
    ]);
    let ms = |us: u64| number(milliseconds(Duration::from_micros(us)));
    for line in &told.times {
        let service = line.service;
        table.row(vec![
            cell(line.pair.as_str()),
            cell(line.kind.to_string()),
            number(service.count.to_string()),
            ms(service.median_us),
            ms(service.p90_us),
            ms(service.p99_us),
            ms(service.worst_us),
            ms(line.confirmed.median_us),
            line.promise_us.map_or_else(|| cell("-"), ms),
            match line.kept {
                Some(true) => painted("kept", Paint::Good),
                Some(false) => painted("EXCEEDED", Paint::Bad),
                None => cell(""),
            },
        ]);
    }
    let heading =
        format!("{} incidents since {} ({})", told.incidents, look.time(since), look.zone_at(since));
    format!("{}\n{}", look.paint(Paint::Dim, &heading), table.show(look, "  "))
}
