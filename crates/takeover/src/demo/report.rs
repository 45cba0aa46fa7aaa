//! What the runs of workflows have shown: as text for people, and as JSON.

use super::stage::Run;
use super::workflow::{Summary, Workflow, bound, first_step, millis, numbered_steps};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// What the columns of the summary are.
const EXPLANATION: &str = "
Outage: from the last answer of the old primary to the first of the new one, seen by a client
that asks every millisecond; in the reconnection the longest time without an answer. Lost:
requests that nobody answered. Both: answers by the old primary while the new one has the role.
";

/// Said wherever a host was cut off.
const LEASES: &str = "
A host that is cut off cannot renew its lease on the VIP. Before the other one may hold it, the
kernel of the first stops answering for it; the address itself goes some seconds later. Where the
kernel has no gate, as for an ordinary user here, the agent removes the address instead.
";

/// One run, for people.
#[must_use]
pub fn run(run: &Run, number: u32, of: u32) -> String {
    let kind = run.workflow.kind();
    let mut out = format!("\n{}", capital(&kind.to_string()));
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    if of > 1 {
        line(&format!(", run {number} of {of}"));
    } else {
        line("");
    }
    line(&match run.workflow {
        Workflow::Manual => format!("  ordered: {} to hand over to {}", run.from, run.to),
        Workflow::Failure => {
            format!("  {}, the primary, was killed (SIGKILL); {} takes over", run.from, run.to)
        }
        Workflow::Disconnected => format!("  the host of {} was cut off; {} takes over", run.from, run.to),
        Workflow::Reconnected => {
            format!("  the host of {} was connected again; {} keeps the role", run.from, run.to)
        }
    });
    for step in run.incident.iter().flat_map(numbered_steps) {
        let more = if step.count > 1 {
            format!(" (and {} more, until +{})", step.count - 1, millis(step.last))
        } else {
            String::new()
        };
        line(&format!(
            "  step {}  {:>12}  {}{more}",
            step.number,
            format!("+{}", millis(step.first)),
            step.text
        ));
    }
    for text in service(run) {
        line(&format!("  {text}"));
    }
    if run.passed() {
        line("  passed");
    }
    for fault in &run.faults {
        line(&format!("  FAILED: {fault}"));
    }
    out
}

/// What the client saw, and who holds the VIP.
fn service(run: &Run) -> Vec<String> {
    let seen = &run.seen;
    let outage = seen.outage.map_or_else(|| "-".to_owned(), millis);
    let what = match run.workflow {
        Workflow::Manual | Workflow::Failure | Workflow::Disconnected => "outage",
        Workflow::Reconnected => "longest silence",
    };
    let mut lines = vec![
        format!("client: {what} {outage} (bound {}), {} lost", bound(run.workflow), seen.lost),
        match (seen.late_answers, run.workflow) {
            (0, _) => "client: no answers by both hosts in the same interval".to_owned(),
            (n, Workflow::Manual | Workflow::Failure | Workflow::Disconnected) => format!(
                "client: both hosts answered for {}: {n} by {} after the first by {}",
                millis(seen.both),
                run.from,
                run.to
            ),
            (n, Workflow::Reconnected) => format!(
                "client: both hosts had the VIP, {n} answers by {} over {} until it had let go",
                run.from,
                millis(seen.both)
            ),
        },
    ];
    if seen.skipped > 0 {
        lines.push(format!(
            "client: {} requests were not sent, because this machine was busy: the figures may be too great",
            seen.skipped
        ));
    }
    let keeps = if run.workflow == Workflow::Disconnected && run.holders.len() > 1 {
        " (the lease of the one that is cut off has run out)"
    } else {
        ""
    };
    lines.push(format!(
        "at the end: answered by {}; VIP enabled on {}{keeps}",
        or_nobody(&run.answered_at_end.join(" and ")),
        or_nobody(&run.holders.join(" and ")),
    ));
    lines
}

/// All runs, for people.
#[must_use]
pub fn summary(runs: &[Run]) -> String {
    let mut out = format!(
        "\n{:<13} {:>4} {:>6} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>5}\n",
        "OUTAGE, ms", "RUNS", "PASSED", "MEDIAN", "P99", "MIN", "MAX", "BOUND", "LOST", "BOTH"
    );
    for workflow in Workflow::ALL {
        let of_this: Vec<&Run> = runs.iter().filter(|run| run.workflow == workflow).collect();
        if of_this.is_empty() {
            continue;
        }
        let figures = Summary::of(of_this.iter().filter_map(|run| run.seen.outage).collect());
        let figure = |pick: fn(Summary) -> Duration| {
            figures.map_or_else(|| "-".to_owned(), |f| format!("{:.3}", number(pick(f))))
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:<13} {:>4} {:>6} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>5}",
            workflow.name(),
            of_this.len(),
            of_this.iter().filter(|run| run.passed()).count(),
            figure(|f| f.median),
            figure(|f| f.p99),
            figure(|f| f.min),
            figure(|f| f.max),
            workflow.outage_bound().as_millis(),
            of_this.iter().map(|run| run.seen.lost).sum::<usize>(),
            of_this.iter().map(|run| run.seen.late_answers).sum::<usize>(),
        );
    }
    out += EXPLANATION;
    if runs.iter().any(|run| matches!(run.workflow, Workflow::Disconnected | Workflow::Reconnected)) {
        out += LEASES;
    }
    out
}

/// All runs, for programs. Durations are in milliseconds.
///
/// # Errors
/// None that are known: it is plain data.
pub fn json(runs: &[Run]) -> serde_json::Result<String> {
    let workflows =
        Workflow::ALL.into_iter().filter_map(|workflow| WorkflowJson::of(workflow, runs)).collect();
    let passed = !runs.is_empty() && runs.iter().all(Run::passed);
    serde_json::to_string_pretty(&ReportJson { passed, workflows })
}

#[derive(Serialize)]
struct ReportJson<'a> {
    passed: bool,
    workflows: Vec<WorkflowJson<'a>>,
}

#[derive(Serialize)]
struct WorkflowJson<'a> {
    workflow: Workflow,
    outage_bound_ms: f64,
    /// None where no outage was measured.
    outage: Option<SummaryJson>,
    runs: Vec<RunJson<'a>>,
}

#[derive(Serialize)]
struct SummaryJson {
    median_ms: f64,
    p99_ms: f64,
    min_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct RunJson<'a> {
    passed: bool,
    faults: &'a [String],
    from: &'a str,
    to: &'a str,
    outage_ms: Option<f64>,
    lost: usize,
    answers_by_both: usize,
    answers_by_both_ms: f64,
    requests_not_sent: u64,
    answered_at_end: &'a [String],
    vip_enabled_on: &'a [&'static str],
    incident: Option<u64>,
    steps: Vec<StepJson<'a>>,
}

#[derive(Serialize)]
struct StepJson<'a> {
    number: Option<u8>,
    offset_ms: f64,
    host: Option<&'a str>,
    text: &'a str,
}

impl<'a> WorkflowJson<'a> {
    fn of(workflow: Workflow, runs: &'a [Run]) -> Option<Self> {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.workflow == workflow).collect();
        if runs.is_empty() {
            return None;
        }
        let outage = Summary::of(runs.iter().filter_map(|run| run.seen.outage).collect());
        Some(Self {
            workflow,
            outage_bound_ms: number(workflow.outage_bound()),
            outage: outage.map(|outage| SummaryJson {
                median_ms: number(outage.median),
                p99_ms: number(outage.p99),
                min_ms: number(outage.min),
                max_ms: number(outage.max),
            }),
            runs: runs.into_iter().map(RunJson::of).collect(),
        })
    }
}

impl<'a> RunJson<'a> {
    fn of(run: &'a Run) -> Self {
        let steps = run.incident.iter().flat_map(|incident| {
            incident.steps.iter().map(|step| StepJson {
                number: step.number,
                offset_ms: number(step.at.since(first_step(incident))),
                host: step.host.as_ref().map(|host| host.as_str()),
                text: &step.text,
            })
        });
        Self {
            passed: run.passed(),
            faults: &run.faults,
            from: run.from,
            to: run.to,
            outage_ms: run.seen.outage.map(number),
            lost: run.seen.lost,
            answers_by_both: run.seen.late_answers,
            answers_by_both_ms: number(run.seen.both),
            requests_not_sent: run.seen.skipped,
            answered_at_end: &run.answered_at_end,
            vip_enabled_on: &run.holders,
            incident: run.incident.as_ref().map(|incident| incident.id.0),
            steps: steps.collect(),
        }
    }
}

/// Milliseconds as a number.
fn number(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn or_nobody(text: &str) -> &str {
    if text.is_empty() { "nobody" } else { text }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::super::workflow::{Seen, tests::incident};
    use super::*;
    use ha_core::IncidentKind;

    fn disconnected(outage_ms: u64, faults: &[&str]) -> Run {
        let steps = [(Some(1), 0), (None, 5), (Some(6), 20), (Some(6), 1_500)];
        let outage = Some(Duration::from_millis(outage_ms));
        Run {
            workflow: Workflow::Disconnected,
            from: "sip1",
            to: "sip2",
            incident: Some(incident(IncidentKind::Disconnected, &steps)),
            seen: Seen { outage, lost: 7, ..Seen::default() },
            answered_at_end: vec!["sip2".to_owned()],
            holders: vec!["host1", "host2"],
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        }
    }

    #[test]
    fn a_run_is_told_with_its_steps_its_bound_and_what_is_wrong() {
        let text = run(&disconnected(550, &["step 2 did not happen"]), 2, 3);
        let expected = "
Primary server disconnected, run 2 of 3
  the host of sip1 was cut off; sip2 takes over
  step 1     +0.000 ms  what happened at 0
  step 6     +0.020 ms  what happened at 20 (and 1 more, until +1.500 ms)
  client: outage 550.000 ms (bound 1200 ms), 7 lost
  client: no answers by both hosts in the same interval
  at the end: answered by sip2; VIP enabled on host1 and host2 (the lease of the one that is cut off has run out)
  FAILED: step 2 did not happen
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_summary_says_how_many_passed_and_what_becomes_of_a_host_that_is_cut_off() {
        let text = summary(&[disconnected(550, &[]), disconnected(950, &["too long"])]);
        let row = "disconnected     2      1  550.000  950.000  550.000  950.000   1200    14     0\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("cannot renew its lease"), "{text}");
    }

    #[test]
    fn json_has_all_steps_and_one_failure_fails_it() {
        let parse =
            |runs: &[Run]| -> serde_json::Value { serde_json::from_str(&json(runs).unwrap()).unwrap() };
        let good = parse(&[disconnected(550, &[])]);
        assert_eq!(good["passed"], true);
        let of_this = &good["workflows"][0];
        assert_eq!(
            (&of_this["workflow"], &of_this["outage_bound_ms"]),
            (&"disconnected".into(), &1_200.0.into())
        );
        assert_eq!(of_this["runs"][0]["steps"][3]["offset_ms"], 1.5);
        assert_eq!(of_this["runs"][0]["steps"][1]["number"], serde_json::Value::Null);
        let mixed = parse(&[disconnected(550, &[]), disconnected(950, &["too long"])]);
        assert_eq!(mixed["passed"], false);
        assert_eq!(mixed["workflows"][0]["runs"][1]["faults"][0], "too long");
        assert_eq!(parse(&[])["passed"], false, "nothing run is nothing passed");
    }
}
