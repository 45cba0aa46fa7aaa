//! `bench silence`: a host that nothing is heard of any more, while it may well go on serving: isolated, or with its
//! agent stopped or dead.
//! How long nobody answers, and for how long both hosts do. Contenders take turns, so that a slow minute is slow for all.

use crate::both::Dual;
use crate::keepalived::{self, Keepalived, Tuning};
use crate::ours::Ours;
use crate::report::Budget;
use crate::sample::{Sample, Summary, us};
use domain::Profile;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

const CUT: &str = "host cut off";
const ISOLATED: &str = "host isolated";
const STOPPED: &str = "agent stopped";
const DEAD: &str = "agent dead";

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How often each event is made to happen
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// One contender in one kind of event.
#[derive(Debug, Serialize)]
struct Row {
    event: &'static str,
    who: &'static str,
    /// Time without an answer, µs.
    outage_us: Option<Summary>,
    /// The mean over that of keepalived at 10 ms adverts.
    ratio: Option<f64>,
    /// For how long both hosts answered SIP OPTIONS, µs.
    dual_sip_us: Option<Summary>,
    /// For how long both hosts' kernels answered, µs.
    dual_kernel_us: Option<Summary>,
    budgets: Vec<Budget>,
    failures: Vec<String>,
}

#[derive(Default)]
struct Series {
    samples: Vec<Sample>,
    failures: Vec<String>,
}

impl Series {
    fn note(&mut self, outcome: anyhow::Result<Sample>) {
        match outcome {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                eprintln!("failed: {error:#}");
                self.failures.push(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
            }
        }
    }
}

/// Runs the benchmark inside namespaces of its own and prints the figures.
///
/// # Errors
/// Something could not be built; runs that fail are part of the report.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let mut fast = Ours::start_with(&binary, Profile::Fast, true)?;
    let mut normal = Ours::start_with(&binary, Profile::Normal, true)?;
    let mut theirs = match keepalived::find()? {
        Some((program, version)) => {
            eprintln!("{version}");
            Some(Keepalived::start(&binary, &program, Tuning::Best)?)
        }
        None => None,
    };
    let events = [CUT, ISOLATED, STOPPED, DEAD];
    let mut series: [[Series; 3]; 4] = Default::default();
    for (event, series) in events.into_iter().zip(&mut series) {
        for run in 1..=arguments.runs {
            eprintln!("{event}: {run} of {}", arguments.runs);
            for (ours, series) in [&mut fast, &mut normal].into_iter().zip(&mut series[..2]) {
                ours.look_again()?;
                series.note(match event {
                    CUT => ours.host_cut().map(|(cut, _)| cut),
                    ISOLATED => ours.host_isolated(),
                    STOPPED => ours.agent_stopped(),
                    _ => ours.agent_dead(),
                });
            }
            let Some(theirs) = &mut theirs else { continue };
            match event {
                CUT => series[2].note(theirs.host_cut().map(|(cut, _)| cut)),
                ISOLATED => series[2].note(theirs.host_isolated()),
                STOPPED => series[2].note(theirs.daemon_stopped()),
                _ => {}
            }
        }
    }
    let rows: Vec<Row> =
        events.into_iter().zip(series).flat_map(|(event, series)| rows(event, series)).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", text(&rows));
    }
    Ok(())
}

fn rows(event: &'static str, series: [Series; 3]) -> Vec<Row> {
    let [fast, normal, theirs] = series;
    let outage = |series: &Series| Summary::of(series.samples.iter().map(|sample| sample.outage_us));
    // With its daemon stopped, a host of theirs goes on answering: that is no outage to compare with.
    let baseline = outage(&theirs).filter(|_| event == CUT || event == ISOLATED);
    let mut rows = Vec::new();
    for (who, series) in
        [("takeover, fast", fast), ("takeover, normal", normal), ("keepalived, 10 ms", theirs)]
    {
        if series.samples.is_empty() && series.failures.is_empty() {
            continue;
        }
        let outage_us = outage(&series);
        let ratio = outage_us.zip(baseline).map(|(own, base)| own.mean as f64 / base.mean.max(1) as f64);
        let dual = |pick: fn(&Dual) -> std::time::Duration| {
            Summary::of(
                series.samples.iter().filter_map(|sample| sample.both.as_ref()).map(|dual| us(pick(dual))),
            )
        };
        let (dual_sip_us, dual_kernel_us) = (dual(|dual| dual.sip), dual(|dual| dual.kernel));
        let budgets = budgets(event, who, outage_us, ratio, dual_kernel_us);
        rows.push(Row {
            event,
            who,
            outage_us,
            ratio,
            dual_sip_us,
            dual_kernel_us,
            budgets,
            failures: series.failures,
        });
    }
    rows
}

fn budgets(
    event: &str,
    who: &str,
    outage: Option<Summary>,
    ratio: Option<f64>,
    dual: Option<Summary>,
) -> Vec<Budget> {
    let p99 = outage.map(|outage| outage.p99 as f64);
    let mut budgets = Vec::new();
    match who {
        "takeover, fast" => {
            if event == CUT || event == ISOLATED {
                budgets.push(Budget::at_most("at most 1.4 x keepalived (mean)", ratio, 1.4));
            }
            budgets.push(Budget::at_most("p99 at most 60 ms", p99, 60_000.0));
        }
        "takeover, normal" => budgets.push(Budget::at_most("p99 at most 650 ms", p99, 650_000.0)),
        _ => return budgets,
    }
    if let Some(dual) = dual {
        budgets.push(Budget::at_most("never two answering hosts", Some(dual.max as f64), 0.0));
    }
    budgets
}

fn text(rows: &[Row]) -> String {
    let mut text =
        format!("machine: {}\n\nms, seen by clients that ask every millisecond\n", crate::machine());
    let _ = writeln!(
        text,
        "{:<15} {:<18} {:>4} {:>7} {:>7} {:>7} {:>17} {:>6} {:>17} {:>17}",
        "event",
        "who",
        "runs",
        "median",
        "mean",
        "p99",
        "[min .. max]",
        "ratio",
        "both SIP (max)",
        "both ARP (max)"
    );
    let ms = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
    let dual = |summary: &Option<Summary>| {
        summary.map_or_else(|| "-".to_owned(), |dual| format!("{} ({})", ms(dual.median), ms(dual.max)))
    };
    for row in rows {
        let _ = write!(text, "{:<15} {:<18} ", row.event, row.who);
        match row.outage_us {
            None => text += "no run succeeded",
            Some(outage) => {
                let range = format!("[{} .. {}]", ms(outage.min), ms(outage.max));
                let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                let _ = write!(
                    text,
                    "{:>4} {:>7} {:>7} {:>7} {range:>17} {ratio:>6} {:>17} {:>17}",
                    outage.runs,
                    ms(outage.median),
                    ms(outage.mean),
                    ms(outage.p99),
                    dual(&row.dual_sip_us),
                    dual(&row.dual_kernel_us)
                );
            }
        }
        text.push('\n');
        for budget in &row.budgets {
            let verdict = if budget.kept { "within" } else { "NOT within" };
            let _ = writeln!(text, "{:<15}   {verdict}: {}", "", budget.text);
        }
        for failure in &row.failures {
            let _ = writeln!(text, "{:<15}   failed: {failure}", "");
        }
    }
    text +=
        "both: for how long both hosts answered (median, max), watched for a second after the takeover.\n";
    text
}
