//! What the runs of workflows have shown: as text for people, and as JSON.

use super::stage::Run;
use super::workflow::{Summary, Workflow, bound, first_step, millis, numbered_steps};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Said wherever a host was cut off.
pub const WITHOUT_LEASES: &str = "\
A host that is cut off keeps its VIP until it is seen again; its neighbours on the cut-off side would go on using it. Leases,
the next step of the product, will have it close by itself. When such a host comes back, both can answer for a moment.";

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
    let bound = bound(run.workflow);
    let what = match run.workflow {
        Workflow::Manual | Workflow::Failure | Workflow::Disconnected => {
            "from the last answer of the old primary to the first of the new one"
        }
        Workflow::Reconnected => "the longest time without an answer",
    };
    let mut lines = vec![
        format!("client: outage {outage}, at most {bound} passes ({what}), {} lost", seen.lost),
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
            "client: {} requests were not sent, because this machine was busy: the figures may be worse than they should be",
            seen.skipped
        ));
    }
    let keeps = if run.workflow == Workflow::Disconnected && run.holders.len() > 1 {
        " (the one that is cut off keeps it: there are no leases yet)"
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
        "\n{:<40} {:>6} {:>6} {:>12} {:>12} {:>12} {:>12} {:>8} {:>5} {:>5}\n",
        "OUTAGE BY WORKFLOW", "RUNS", "PASSED", "MEDIAN", "P99", "MIN", "MAX", "BOUND", "LOST", "BOTH"
    );
    for workflow in Workflow::ALL {
        let of_this: Vec<&Run> = runs.iter().filter(|run| run.workflow == workflow).collect();
        if of_this.is_empty() {
            continue;
        }
        let figures = Summary::of(of_this.iter().filter_map(|run| run.seen.outage).collect());
        let figure = |pick: fn(Summary) -> Duration| figures.map_or("-".to_owned(), |f| millis(pick(f)));
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:<40} {:>6} {:>6} {:>12} {:>12} {:>12} {:>12} {:>8} {:>5} {:>5}",
            workflow.kind().to_string(),
            of_this.len(),
            of_this.iter().filter(|run| run.passed()).count(),
            figure(|f| f.median),
            figure(|f| f.p99),
            figure(|f| f.min),
            figure(|f| f.max),
            bound(workflow),
            of_this.iter().map(|run| run.seen.lost).sum::<usize>(),
            of_this.iter().map(|run| run.seen.late_answers).sum::<usize>(),
        );
    }
    if runs.iter().any(|run| matches!(run.workflow, Workflow::Disconnected | Workflow::Reconnected)) {
        let _ = write!(out, "\n{WITHOUT_LEASES}\n");
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
