//! Calls of a SIP Server.

use super::table::{Table, cell, number};
use super::{Look, Paint, clean, roughly};
use crate::api::{CallLine, CallPage, CallTrace};
use domain::PairName;
use std::fmt::Write as _;
use std::time::Duration;

/// The calls of a pair as a table.
#[must_use]
pub fn calls(pair: &PairName, page: &CallPage, look: &Look) -> String {
    let of = page.app.as_ref().map(|app| format!(", as {app} has them")).unwrap_or_default();
    let count = match page.calls.len() {
        0 => "no calls".to_owned(),
        1 => "1 call".to_owned(),
        n => format!("{n} calls"),
    };
    let more = if page.next.is_some() { ", there are more (--limit)" } else { "" };
    let mut out = format!("{}  {count}{of}{more}\n", look.paint(Paint::Heading, &format!("Pair {pair}")));
    if page.calls.is_empty() {
        return out;
    }
    let mut table = Table::new(&["CALL", "STAGE", "AGE", "CALLER", "CALLED", "ANSWERED BY", "CALL-ID"]);
    for call in &page.calls {
        table.row(vec![
            cell(clean(&call.call)),
            cell(clean(&call.stage)),
            number(roughly(Duration::from_millis(call.age_ms))),
            cell(or_dash(call.caller.as_deref())),
            cell(clean(&call.called)),
            cell(or_dash(call.answered_by.as_deref())),
            cell(clean(&call.call_id)),
        ]);
    }
    out.push_str(&table.show(look, "  "));
    out
}

/// One call.
#[must_use]
pub fn call(call: &CallLine, look: &Look) -> String {
    let mut out = String::new();
    let lines = [
        ("call", clean(&call.call)),
        ("stage", clean(&call.stage)),
        ("age", roughly(Duration::from_millis(call.age_ms))),
        ("caller", or_dash(call.caller.as_deref())),
        ("called", clean(&call.called)),
        ("answered by", or_dash(call.answered_by.as_deref())),
        ("Call-ID", clean(&call.call_id)),
    ];
    for (name, value) in lines {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}  {value}", look.paint(Paint::Dim, &format!("{name:<11}")));
    }
    out
}

/// The ladder of a call, as the SIP Server drew it.
#[must_use]
pub fn trace(trace: &CallTrace) -> String {
    trace.ladder.lines().map(|line| clean(line.trim_end()) + "\n").collect()
}

fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), clean)
}
