//! The plan of a switchover: pre-checks with what was seen and what to do, then the steps.

use super::{Look, Paint, clean};
use ha_core::Plan;
use std::fmt::Write as _;

/// All of it.
#[must_use]
pub fn plan(plan: &Plan, look: &Look) -> String {
    let mut out = String::new();
    let heading = match &plan.from {
        Some(from) => format!("Switchover of {}: {from} -> {}", plan.pair, plan.to),
        None => format!("Switchover of {}: to {}", plan.pair, plan.to),
    };
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "{}", look.paint(Paint::Heading, &heading));
    for check in &plan.checks {
        let verdict =
            if check.passed { look.paint(Paint::Good, "pass") } else { look.paint(Paint::Bad, "FAIL") };
        let _ = writeln!(out, "  {verdict}  {} ({})", clean(&check.what), clean(&check.seen));
        if !check.remedy.is_empty() {
            let _ = writeln!(out, "        {}", clean(&check.remedy));
        }
    }
    if !plan.callers.is_empty() {
        let _ = writeln!(out, "  {}", look.paint(Paint::Dim, "what callers notice:"));
    }
    for line in &plan.callers {
        let _ = writeln!(out, "        {}", clean(line));
    }
    let _ = writeln!(out, "  {}", look.paint(Paint::Dim, "what is done:"));
    for (number, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(out, "  {:>4}. {}", number + 1, clean(step));
    }
    out
}
