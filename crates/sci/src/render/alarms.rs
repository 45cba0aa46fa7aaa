//! Alarms, active and ended.

use super::table::{Cell, Table, cell, number, painted};
use super::{Look, Paint, clean};
use domain::Category;
use scs::store::AlarmRecord;

/// Alarms as a table, ended ones with how they ended where `history` asks for it.
#[must_use]
pub fn alarms(records: &[AlarmRecord], history: bool, look: &Look) -> String {
    let mut headings = vec!["NUMBER", "CATEGORY", "RAISED", "REPEATS", "SOURCE", "CONDITION", "TEXT"];
    if history {
        headings.splice(3..3, ["ENDED", "HOW"]);
    }
    let mut table = Table::new(&headings);
    for record in records {
        let alarm = &record.alarm;
        let mut row = vec![
            number(alarm.number.to_string()),
            painted(alarm.category.to_string(), paint_of(record)),
            cell(look.time(alarm.raised_at)),
            number(alarm.repeats.to_string()),
            cell(alarm.source.to_string()),
            cell(clean(&alarm.condition)),
            cell(clean(&alarm.text)),
        ];
        if history {
            row.splice(3..3, ended(record, look));
        }
        table.row(row);
    }
    table.show(look, "  ")
}

fn ended(record: &AlarmRecord, look: &Look) -> [Cell; 2] {
    match (&record.ended_at, &record.ending) {
        (Some(at), Some(how)) => [cell(look.time(*at)), cell(clean(&how.to_string()))],
        (Some(at), None) => [cell(look.time(*at)), cell("")],
        (None, _) => [painted("active", Paint::Warning), cell("")],
    }
}

fn paint_of(record: &AlarmRecord) -> Paint {
    match record.alarm.category {
        Category::Critical if record.ended_at.is_none() => Paint::Bad,
        Category::Major if record.ended_at.is_none() => Paint::Warning,
        Category::Critical | Category::Major | Category::Minor => Paint::Plain,
    }
}
