//! Users, tokens, and the audit.

use super::table::{Table, cell, number, painted};
use super::{Look, Paint, clean};
use crate::api::{AuditLine, TokenLine, UserLine};
use scs::store::AuditVerdict;

/// Users as a table.
#[must_use]
pub fn users(users: &[UserLine], look: &Look) -> String {
    let mut table = Table::new(&["USER", "ROLE", "SINCE", "STATE"]);
    for user in users {
        let state = match (user.disabled, user.has_password) {
            (true, _) => painted("disabled", Paint::Warning),
            (false, true) => cell("can log in"),
            (false, false) => painted("has not opened the link yet", Paint::Warning),
        };
        table.row(vec![
            cell(user.name.as_str()),
            cell(user.role.as_str()),
            cell(look.time(user.created)),
            state,
        ]);
    }
    table.show(look, "  ")
}

/// Tokens as a table.
#[must_use]
pub fn tokens(tokens: &[TokenLine], look: &Look) -> String {
    let mut table = Table::new(&["NUMBER", "TOKEN", "ROLE", "PAIRS", "SINCE", "UNTIL"]);
    for token in tokens {
        let pairs = match &token.pairs {
            None => "all".to_owned(),
            Some(pairs) => pairs.iter().map(|pair| pair.as_str()).collect::<Vec<_>>().join(", "),
        };
        table.row(vec![
            number(token.id.to_string()),
            cell(token.name.as_str()),
            cell(token.role.as_str()),
            cell(pairs),
            cell(look.time(token.created)),
            cell(look.time(token.expires)),
        ]);
    }
    table.show(look, "  ")
}

/// Audit records as a table, the newest last, as a log is read.
#[must_use]
pub fn audit(records: &[AuditLine], look: &Look) -> String {
    let mut table = Table::new(&["NUMBER", "TIME", "WHO", "FROM", "WHAT", "REASON", "RESULT"]);
    for AuditLine { number: seq, record } in records.iter().rev() {
        let refused = record.result.starts_with("refused");
        table.row(vec![
            number(seq.to_string()),
            cell(look.time(record.at)),
            cell(clean(&record.who)),
            cell(clean(&record.from)),
            cell(clean(&record.what)),
            cell(clean(&record.reason)),
            painted(clean(&record.result), if refused { Paint::Warning } else { Paint::Plain }),
        ]);
    }
    table.show(look, "  ")
}

/// What a look at the whole audit found.
#[must_use]
pub fn audit_verdict(verdict: &AuditVerdict) -> String {
    let range = match (verdict.first, verdict.last) {
        (Some(first), Some(last)) => format!("{} records, {first} to {last}", verdict.records),
        (None, _) | (_, None) => "no records".to_owned(),
    };
    match &verdict.broken {
        Some(broken) => {
            format!("the audit was changed ({range}): record {}: {}\n", broken.number, broken.why)
        }
        None => format!(
            "the audit is as it was written: {range}\nto compare with later, keep elsewhere: {} {}\n",
            verdict.last.unwrap_or(0),
            verdict.head
        ),
    }
}
