//! The figures for people.

use super::Report;
use crate::report::Budget;
use std::fmt::Write;

/// As tables.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut text = format!("machine: {}\nkamailio: {}\n", report.machine, report.kamailio);
    write(&mut text, report).expect("writing to a string cannot fail");
    text
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "\nWhile nothing happens, per cent of a core, all processes together")?;
    for idle in &report.idle {
        writeln!(out, "{:<21} {:>6.2}", idle.who, idle.core_percent)?;
    }
    writeln!(out, "\nProcessor time, seconds per 1,000 (servers on one core, SIPp on another)")?;
    writeln!(
        out,
        "{:<21} {:>6} {:<15} {:>7} {:>7} {:>7} {:>7} {:>7} {:>10} {:>7}  parts",
        "load", "rate/s", "who", "done", "failed", "again", "s/1000", "above", "/kamailio", "above"
    )?;
    for cost in &report.costs {
        let [ratio, net_ratio] = [cost.ratio, cost.net_ratio]
            .map(|ratio| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        let parts: Vec<String> =
            cost.parts.iter().map(|part| format!("{} {:.3}", part.part, part.seconds)).collect();
        writeln!(
            out,
            "{:<21} {:>6} {:<15} {:>7} {:>7} {:>7} {:>7.3} {:>7.3} {ratio:>10} {net_ratio:>7}  {}",
            cost.load,
            cost.rate,
            cost.who,
            cost.outcome.successful,
            cost.outcome.failed,
            cost.outcome.retransmissions,
            cost.total_s,
            cost.net_s,
            parts.join(", ")
        )?;
        budgets(out, &cost.budgets)?;
    }
    writeln!(out, "again: messages that SIPp sent again, as no answer came within 0.5 s.")?;
    writeln!(out, "above: without what was taken in as much time while nothing happened.")?;
    if !report.memory.is_empty() {
        writeln!(out, "\nMemory, MB (what is shared counts as a share of it)")?;
        writeln!(out, "{:<21} {:>6} {:>8} {:>8} {:>8}", "who", "calls", "idle", "with", "above")?;
    }
    for memory in &report.memory {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let (idle, full) = (mb(memory.idle), mb(memory.full));
        let (who, calls, above) = (&memory.who, memory.calls, full - idle);
        writeln!(out, "{who:<21} {calls:>6} {idle:>8.1} {full:>8.1} {above:>8.1}")?;
        budgets(out, &memory.budgets)?;
    }
    if !report.outages.is_empty() {
        writeln!(
            out,
            "\nServer killed: without an answer, ms, seen by a client that asks every millisecond"
        )?;
    }
    for outage in &report.outages {
        write!(out, "{:>6} calls ", outage.calls)?;
        match outage.outage_us {
            None => writeln!(out, "no run succeeded")?,
            Some(seen) => {
                let ms = |us: u64| us as f64 / 1_000.0;
                writeln!(
                    out,
                    "{:>4} runs, median {:.1}, mean {:.1}, worst {:.1}",
                    seen.runs,
                    ms(seen.median),
                    ms(seen.mean),
                    ms(seen.max)
                )?;
            }
        }
        for step in &outage.steps {
            writeln!(out, "{:<13}{:<36} {:>7} µs from the act (median)", "", step.what, step.at_us.median)?;
        }
        budgets(out, &outage.budgets)?;
        for failure in &outage.failures {
            writeln!(out, "{:<13}failed: {}", "", failure.lines().next().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn budgets(out: &mut String, budgets: &[Budget]) -> std::fmt::Result {
    for budget in budgets {
        let verdict = if budget.kept { "within" } else { "NOT within" };
        writeln!(out, "{:<13}{verdict}: {}", "", budget.text)?;
    }
    Ok(())
}
