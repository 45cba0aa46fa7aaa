//! The figures side by side, for people as tables and for programs as JSON.

use crate::phases::Step;
use crate::resources::Cost;
use crate::sample::{Sample, Summary};
use serde::Serialize;
use std::fmt::Write;

/// One contender in one kind of event.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// What happened.
    pub event: &'static str,
    /// To whom.
    pub who: &'static str,
    /// Time without an answer, µs.
    pub outage_us: Option<Summary>,
    /// From the order or the fault to the first answer of the new holder, µs.
    pub until_answer_us: Option<Summary>,
    /// The mean outage over that of the floor, whose runs were made between these. The mean, because a prober that asks
    /// every millisecond sees single outages in whole milliseconds, and so are medians.
    pub ratio_to_floor: Option<f64>,
    /// Requests lost per run.
    pub lost: Option<Summary>,
    /// Answers of an old holder after the first of the new one, all runs together.
    pub dual: usize,
    /// What was promised.
    pub budgets: Vec<Budget>,
    /// Runs that came to nothing, each with the reason.
    pub failures: Vec<String>,
}

/// A promise and whether it was kept.
#[derive(Debug, Serialize)]
pub struct Budget {
    /// The promise.
    pub text: String,
    /// Whether the figures are within it.
    pub kept: bool,
}

impl Budget {
    /// A figure that must not be greater than `most`; none: there is no figure, and it is not kept.
    #[must_use]
    pub fn at_most(text: impl Into<String>, figure: Option<f64>, most: f64) -> Self {
        Self { text: text.into(), kept: figure.is_some_and(|figure| figure <= most) }
    }
}

/// The prober as a stopwatch: how late it sent its requests, and how many it could not send at all.
#[derive(Debug, Serialize)]
pub struct Noise {
    /// How much later than a millisecond after the one before a request was sent, µs.
    pub lateness_us: Option<Summary>,
    /// Requests that were not sent.
    pub skipped: u64,
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: String,
    /// Version of keepalived, or why there is none.
    pub keepalived: String,
    /// The takeovers.
    pub rows: Vec<Row>,
    /// Where our time goes, by event.
    pub steps: Vec<(&'static str, Vec<Step>)>,
    /// What our processes cost when nothing happens.
    pub costs: Vec<(Cost, Vec<Budget>)>,
    /// How far the figures can be trusted.
    pub noise: Noise,
}

impl Row {
    /// From samples, without ratio and budgets.
    #[must_use]
    pub fn of(event: &'static str, who: &'static str, samples: &[Sample], failures: Vec<String>) -> Self {
        Self {
            event,
            who,
            outage_us: Summary::of(samples.iter().map(|s| s.outage_us)),
            until_answer_us: Summary::of(samples.iter().filter_map(|s| s.until_answer_us)),
            ratio_to_floor: None,
            lost: Summary::of(samples.iter().map(|s| u64::try_from(s.lost).unwrap_or(u64::MAX))),
            dual: samples.iter().map(|s| s.dual).sum(),
            budgets: Vec::new(),
            failures,
        }
    }

    /// The same with the ratio to these runs of the floor.
    #[must_use]
    pub fn over(mut self, floor: &[Sample]) -> Self {
        let floor = Summary::of(floor.iter().map(|s| s.outage_us));
        self.ratio_to_floor =
            self.outage_us.zip(floor).map(|(ours, floor)| ours.mean as f64 / floor.mean.max(1) as f64);
        self
    }
}

impl Noise {
    /// Of these samples.
    #[must_use]
    pub fn of<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Self {
        Self {
            lateness_us: Summary::of(samples.clone().flat_map(|s| s.lateness_us.iter().copied())),
            skipped: samples.map(|s| s.skipped).sum(),
        }
    }
}

impl Report {
    /// As tables.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("machine: {}\nkeepalived: {}\n", self.machine, self.keepalived);
        self.takeovers(&mut text).expect("writing to a string cannot fail");
        self.details(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn takeovers(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nWithout an answer, ms, seen by a client that asks every millisecond")?;
        writeln!(
            out,
            "{:<22} {:<20} {:>4} {:>8} {:>8} {:>19} {:>8} {:>9} {:>7} {:>5} {:>6}",
            "event",
            "who",
            "runs",
            "median",
            "mean",
            "[min .. max]",
            "p99",
            "from act",
            "/floor",
            "lost",
            "dual"
        )?;
        let mut before = "";
        for row in &self.rows {
            let event = if row.event == before { "" } else { row.event };
            before = row.event;
            write!(out, "{event:<22} {:<20} ", row.who)?;
            match row.outage_us {
                None => write!(out, "no run succeeded")?,
                Some(outage) => {
                    let range = format!("[{} .. {}]", ms(outage.min), ms(outage.max));
                    let from_act = row.until_answer_us.map_or_else(|| "-".to_owned(), |s| ms(s.median));
                    let ratio = row.ratio_to_floor.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
                    let lost = row.lost.map_or(0, |lost| lost.median);
                    write!(
                        out,
                        "{:>4} {:>8} {:>8} {range:>19} {:>8} {from_act:>9} {ratio:>7} {lost:>5} {:>6}",
                        outage.runs,
                        ms(outage.median),
                        ms(outage.mean),
                        ms(outage.p99),
                        row.dual
                    )?;
                }
            }
            writeln!(out)?;
            budgets(out, &row.budgets)?;
            for failure in &row.failures {
                writeln!(out, "{:<22}   failed: {}", "", failure.lines().next().unwrap_or_default())?;
            }
        }
        writeln!(out, "p99 is by nearest rank: with fewer than 100 runs it is the greatest value.")?;
        writeln!(
            out,
            "from act: from the order, the signal or the cut to the first answer of the new holder."
        )
    }

    fn details(&self, out: &mut String) -> std::fmt::Result {
        for (event, steps) in &self.steps {
            writeln!(out, "\nWhere the time goes, {event}: µs from the act (median, p99)")?;
            for step in steps {
                let number = step.number.map_or_else(String::new, |n| n.to_string());
                writeln!(
                    out,
                    "{number:>3} {:<36} {:>9} {:>9}",
                    step.what, step.at_us.median, step.at_us.p99
                )?;
            }
        }
        writeln!(out, "\nResources while nothing happens")?;
        for (cost, promised) in &self.costs {
            let resident = cost.resident_kib as f64 / 1024.0;
            writeln!(
                out,
                "{:<22} {resident:>7.1} MiB resident {:>6.2} % of a core",
                cost.what, cost.core_percent
            )?;
            budgets(out, promised)?;
        }
        if let Some(late) = self.noise.lateness_us {
            writeln!(
                out,
                "\nThe machine as a stopwatch: requests sent late by {} (median), {} (p99), {} ms (worst); {} of {} not sent",
                ms(late.median),
                ms(late.p99),
                ms(late.max),
                self.noise.skipped,
                late.runs
            )?;
        }
        Ok(())
    }
}

fn budgets(out: &mut String, budgets: &[Budget]) -> std::fmt::Result {
    for budget in budgets {
        let verdict = if budget.kept { "within" } else { "NOT within" };
        writeln!(out, "{:<22}   {verdict}: {}", "", budget.text)?;
    }
    Ok(())
}

fn ms(us: u64) -> String {
    format!("{:.1}", us as f64 / 1_000.0)
}
