//! `bench api`: what a program that asks for the status all the time waits for its answers while roles move, and what it costs
//! the takeovers. Runs with and without that load take turns, and the same load asks for next to nothing in between, which is
//! the least that an answer of this API can take.

mod load;

pub use load::{Arguments as LoadArguments, run as run_load};

use crate::ours::Ours;
use crate::report::Budget;
use crate::sample::{Sample, Summary};
use load::{Answers, Load};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The SCS's web port in the laboratory.
const WEB: &str = "192.0.2.10:7443";
/// The question that is measured, and the one that costs next to nothing, asked the same way.
const QUESTIONS: [&str; 2] = ["/api/v1/status", "/api/v1/version"];
/// How long the load runs before something happens.
const WARM_UP: Duration = Duration::from_millis(300);
/// A kind of takeover that fails so often is not measured further.
const MOST_FAILURES: usize = 3;
/// The goals.
const MOST_P99_US: f64 = 5_000.0;
const MOST_RATIO: f64 = 1.1;

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How often each event is made to happen with the load, and as often without
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Requests per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    per_second: u32,
    /// How long is asked while nothing happens, seconds, for each question
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Print JSON in place of tables
    #[arg(long)]
    json: bool,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Answers of the API in one situation.
#[derive(Debug, Serialize)]
struct Asked {
    what: &'static str,
    /// From when a request was due to the last byte of its answer, µs.
    latency_us: Option<Summary>,
    /// How late the client itself sent, µs: part of the latency.
    lateness_us: Option<Summary>,
    /// The median over that of the question that costs next to nothing.
    ratio: Option<f64>,
    failures: u64,
    budgets: Vec<Budget>,
}

/// Takeovers of one kind, without and with the load.
#[derive(Debug, Serialize)]
struct Taken {
    event: &'static str,
    quiet_us: Option<Summary>,
    loaded_us: Option<Summary>,
    /// The mean with the load over that without.
    ratio: Option<f64>,
    budgets: Vec<Budget>,
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    asked: Vec<Asked>,
    taken: Vec<Taken>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Killed,
    Switched,
}

/// Runs the benchmark inside namespaces of its own and prints the figures.
///
/// # Errors
/// Something could not be built; runs that fail are part of the report.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let mut bench = Bench::start(Ours::start_edited(&binary, with_web)?, arguments)?;
    let mut idle = [Answers::default(), Answers::default()];
    for (question, answers) in QUESTIONS.iter().zip(&mut idle) {
        eprintln!("{question}: {} s in which nothing happens", arguments.seconds);
        let load = bench.load(question)?;
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        *answers = load.end()?;
    }
    let taken = [Event::Killed, Event::Switched].map(|event| bench.takeovers(event, arguments.runs));
    let [status, version] = idle;
    let least = version.latency();
    let asked = vec![
        Asked::of("GET /version, nothing happens", &version, None),
        Asked::of("GET /status, nothing happens", &status, least),
        Asked::of("GET /status, takeovers go on", &bench.answers, least).with_budget(),
    ];
    let report = Report { machine: crate::machine(), asked, taken: Vec::from(taken) };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

struct Bench {
    ours: Ours,
    token: PathBuf,
    per_second: u32,
    /// While takeovers went on.
    answers: Answers,
}

impl Bench {
    fn start(ours: Ours, arguments: &Arguments) -> anyhow::Result<Self> {
        let site = ours.site();
        let made = site.command(&["tokens", "add", "bench", "--role", "viewer"])?.output()?;
        anyhow::ensure!(made.status.success(), "no token: {}", String::from_utf8_lossy(&made.stderr));
        let token = site.files().join("token");
        std::fs::write(&token, made.stdout)?;
        Ok(Self { ours, token, per_second: arguments.per_second, answers: Answers::default() })
    }

    fn load(&self, question: &str) -> anyhow::Result<Load> {
        let site = self.ours.site();
        let ca = site.files().join("ca.pem");
        Load::start(&site.lab, WEB, &ca, &self.token, question, self.per_second)
    }

    /// Takeovers, each without the load and then with it, so that a slow minute of the machine is slow for both. Each comes in
    /// both directions with and without the load.
    fn takeovers(&mut self, event: Event, runs: u32) -> Taken {
        let mut taken = Taken::of(event);
        let mut samples: [Vec<Sample>; 2] = Default::default();
        for run in 1..=runs {
            eprintln!("{}: {run} of {runs}", taken.event);
            // The order changes each time, or one direction would always be the one with the load.
            let turns = if run % 2 == 0 { [false, true] } else { [true, false] };
            for loaded in turns {
                let outcome = if loaded { self.under_load(event) } else { self.happens(event) };
                match outcome {
                    Ok(sample) => samples[usize::from(loaded)].push(sample),
                    Err(error) => {
                        eprintln!("failed: {error:#}");
                        taken
                            .failures
                            .push(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
                        if taken.failures.len() >= MOST_FAILURES {
                            return taken.with(&samples);
                        }
                    }
                }
            }
        }
        taken.with(&samples)
    }

    fn under_load(&mut self, event: Event) -> anyhow::Result<Sample> {
        let load = self.load(QUESTIONS[0])?;
        std::thread::sleep(WARM_UP);
        let outcome = self.happens(event);
        self.answers.add(load.end()?);
        outcome
    }

    fn happens(&mut self, event: Event) -> anyhow::Result<Sample> {
        let happened = match event {
            Event::Killed => self.ours.server_killed(),
            Event::Switched => self.ours.switched_over(),
        };
        happened.map(|(sample, _)| sample)
    }
}

impl Asked {
    fn of(what: &'static str, answers: &Answers, least: Option<Summary>) -> Self {
        let latency_us = answers.latency();
        let ratio = latency_us.zip(least).map(|(own, least)| own.median as f64 / least.median.max(1) as f64);
        let (lateness_us, failures) = (answers.lateness(), answers.failures());
        Self { what, latency_us, lateness_us, ratio, failures, budgets: Vec::new() }
    }

    fn with_budget(mut self) -> Self {
        let p99 = self.latency_us.map(|latency| latency.p99 as f64);
        self.budgets = vec![
            Budget::at_most("p99 under 5 ms", p99, MOST_P99_US),
            Budget::at_most("every request is answered", Some(self.failures as f64), 0.0),
        ];
        self
    }
}

impl Taken {
    fn of(event: Event) -> Self {
        let event = match event {
            Event::Killed => "server killed",
            Event::Switched => "manual switchover",
        };
        Self {
            event,
            quiet_us: None,
            loaded_us: None,
            ratio: None,
            budgets: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn with(mut self, [quiet, loaded]: &[Vec<Sample>; 2]) -> Self {
        let outage = |samples: &[Sample]| Summary::of(samples.iter().map(|sample| sample.outage_us));
        (self.quiet_us, self.loaded_us) = (outage(quiet), outage(loaded));
        let both = self.quiet_us.zip(self.loaded_us);
        self.ratio = both.map(|(quiet, loaded)| loaded.mean as f64 / quiet.mean.max(1) as f64);
        self.budgets = vec![Budget::at_most("at most 1.1 x without the load (mean)", self.ratio, MOST_RATIO)];
        self
    }
}

/// The cluster file with a web port.
fn with_web(cluster: &str) -> String {
    cluster.replacen("\n[hosts.", &format!("\n[scs.web]\nlisten = \"{WEB}\"\n\n[hosts."), 1)
}

fn text(report: &Report) -> String {
    let mut text = format!("machine: {}\n\nAnswers of the API, ms\n", report.machine);
    let _ = writeln!(
        text,
        "{:<32} {:>7} {:>7} {:>7} {:>7} {:>6} {:>17} {:>7}",
        "question", "asked", "p50", "p99", "max", "ratio", "client late (p99)", "failed"
    );
    for asked in &report.asked {
        let _ = write!(text, "{:<32} ", asked.what);
        match asked.latency_us.zip(asked.lateness_us) {
            None => text += "no answer",
            Some((latency, late)) => {
                let ratio = asked.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                let _ = write!(
                    text,
                    "{:>7} {:>7} {:>7} {:>7} {ratio:>6} {:>17} {:>7}",
                    latency.runs,
                    ms(latency.median),
                    ms(latency.p99),
                    ms(latency.max),
                    ms(late.p99),
                    asked.failures
                );
            }
        }
        text.push('\n');
        verdicts(&mut text, &asked.budgets);
    }
    text += "\nWithout an answer on the VIP, ms, without and with that load\n";
    let _ = writeln!(
        text,
        "{:<32} {:>7} {:>15} {:>15} {:>15} {:>6}",
        "event", "runs", "median", "mean", "p99", "ratio"
    );
    for taken in &report.taken {
        let _ = write!(text, "{:<32} ", taken.event);
        match taken.quiet_us.zip(taken.loaded_us) {
            None => text += "no run succeeded",
            Some((quiet, loaded)) => {
                let both = |pick: fn(&Summary) -> u64| format!("{}, {}", ms(pick(&quiet)), ms(pick(&loaded)));
                let ratio = taken.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
                let _ = write!(
                    text,
                    "{:>7} {:>15} {:>15} {:>15} {ratio:>6}",
                    quiet.runs.min(loaded.runs),
                    both(|summary| summary.median),
                    both(|summary| summary.mean),
                    both(|summary| summary.p99)
                );
            }
        }
        text.push('\n');
        verdicts(&mut text, &taken.budgets);
        for failure in &taken.failures {
            let _ = writeln!(text, "  failed: {failure}");
        }
    }
    text
}

fn verdicts(text: &mut String, budgets: &[Budget]) {
    for budget in budgets {
        let verdict = if budget.kept { "within" } else { "NOT within" };
        let _ = writeln!(text, "  {verdict}: {}", budget.text);
    }
}

fn ms(us: u64) -> String {
    format!("{:.2}", us as f64 / 1_000.0)
}
