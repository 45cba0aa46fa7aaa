//! `benches takeover`: the product beside the floor and keepalived, event by event, all in one run. Runs of the floor lie
//! between those of everybody who is compared with it, so that a slow minute of the machine is slow for both.

use crate::bare::Bare;
use crate::keepalived::{self, Keepalived, Tuning};
use crate::ours::{Ours, Recorded};
use crate::phases;
use crate::report::{Budget, Noise, Report, Row};
use crate::resources::{self, Cost};
use crate::sample::Sample;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KILLED: &str = "server killed";
const SWITCHED: &str = "manual switchover";
const CUT: &str = "host cut off";
const HEALED: &str = "host plugged in again";
const AGENT_KILLED: &str = "agent killed";
const NOTHING: &str = "nothing happens";
const OURS: &str = "takeover";
const GATELESS: &str = "takeover, no gate";
const FLOOR: &str = "floor";

/// A contender that fails so often is not measured further.
const MOST_FAILURES: usize = 3;

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How often each event is made to happen
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Print JSON in place of tables
    #[arg(long)]
    json: bool,
    /// Leave keepalived out
    #[arg(long)]
    without_keepalived: bool,
    /// Only servers killed and manual switchovers, which take seconds
    #[arg(long)]
    quick: bool,
    /// How long idle processes are watched, seconds; 0 leaves it out
    #[arg(long, default_value_t = 20)]
    idle_s: u64,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Samples of one contender in one kind of event.
#[derive(Default)]
struct Series {
    samples: Vec<Sample>,
    failures: Vec<String>,
}

impl Series {
    /// Notes how a run went; what else it brought, if it went well.
    fn note<T>(&mut self, outcome: anyhow::Result<(Sample, T)>) -> Option<T> {
        match outcome {
            Ok((sample, more)) => {
                self.samples.push(sample);
                Some(more)
            }
            Err(error) => {
                eprintln!("failed: {error:#}");
                self.failures.push(format!("{error:#}"));
                None
            }
        }
    }

    fn is_hopeless(&self) -> bool {
        self.failures.len() >= MOST_FAILURES
    }

    fn row(self, event: &'static str, who: &'static str, all: &mut Vec<Sample>) -> Row {
        let row = Row::of(event, who, &self.samples, self.failures);
        all.extend(self.samples);
        row
    }
}

/// Runs the benchmark inside namespaces of its own and prints the report.
///
/// # Errors
/// Something could not be built; runs that fail are part of the report.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let mut bench = Bench { runs: arguments.runs, floor: Bare::start(&binary)?, all: Vec::new() };
    let (mut rows, steps, costs) = bench.ours(&binary, arguments)?;
    let mut version = "left out".to_owned();
    if !arguments.without_keepalived {
        version = "not installed (Debian package keepalived)".to_owned();
        if let Some((program, found)) = keepalived::find()? {
            version = found;
            for tuning in [Tuning::Default, Tuning::Best] {
                rows.extend(bench.keepalived(&binary, &program, tuning, arguments.quick)?);
            }
        }
    }
    // One event after the other, its contenders in the order in which they were measured.
    let order = [KILLED, SWITCHED, CUT, HEALED, AGENT_KILLED, NOTHING];
    rows.sort_by_key(|row| order.iter().position(|event| *event == row.event));
    let report = Report {
        machine: crate::machine(),
        keepalived: version,
        rows,
        steps,
        costs,
        noise: Noise::of(bench.all.iter()),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// What is common to the measurements of all contenders.
struct Bench {
    runs: u32,
    floor: Bare,
    /// Of everybody, for the noise.
    all: Vec<Sample>,
}

type Ourselves = (Vec<Row>, Vec<(&'static str, Vec<phases::Step>)>, Vec<(Cost, Vec<Budget>)>);

impl Bench {
    fn ours(&mut self, binary: &Path, arguments: &Arguments) -> anyhow::Result<Ourselves> {
        let mut ours = Ours::start(binary).context("the installation did not start")?;
        let costs = costs(&ours, arguments.idle_s)?;
        let mut gateless =
            Ours::start_without_gate(binary).context("the one without a gate did not start")?;
        let [mut killed, mut bare, mut floor, mut switched] = [(); 4].map(|()| Series::default());
        let (mut killed_steps, mut switched_steps) = (Vec::<Recorded>::new(), Vec::<Recorded>::new());
        for run in 1..=self.runs {
            progress(OURS, "servers killed", run, self.runs);
            floor.note(self.floor.server_killed().map(|sample| (sample, ())));
            killed_steps.extend(killed.note(ours.server_killed()));
            bare.note(gateless.server_killed());
            if killed.is_hopeless() || bare.is_hopeless() || floor.is_hopeless() {
                break;
            }
        }
        for run in 1..=self.runs {
            progress(OURS, "switchovers", run, self.runs);
            switched_steps.extend(switched.note(ours.switched_over()));
            if switched.is_hopeless() {
                break;
            }
        }
        drop(gateless); // and its processes, before anything rarer is measured
        let floor_samples = floor.samples.clone();
        let bare = bare.row(KILLED, GATELESS, &mut self.all).over(&floor_samples);
        let mut rows = vec![
            floor.row(KILLED, FLOOR, &mut self.all),
            with_killed_budgets(killed.row(KILLED, OURS, &mut self.all).over(&floor_samples), &bare),
            bare,
            with_switchover_budgets(switched.row(SWITCHED, OURS, &mut self.all)),
        ];
        if !arguments.quick {
            rows.extend(self.rarer_events(&mut ours));
        }
        let steps = vec![(KILLED, phases::steps(&killed_steps)), (SWITCHED, phases::steps(&switched_steps))];
        Ok((rows, steps, costs))
    }

    fn rarer_events(&mut self, ours: &mut Ours) -> Vec<Row> {
        let [mut cut, mut healed, mut agent, mut nothing] = [(); 4].map(|()| Series::default());
        for run in 1..=self.runs {
            progress(OURS, "hosts cut, agents killed", run, self.runs);
            if let Some(sample) = cut.note(ours.host_cut()) {
                healed.samples.push(sample);
            }
            agent.note(ours.agent_killed().map(|sample| (sample, ())));
            nothing.note(ours.undisturbed().map(|sample| (sample, ())));
            if cut.is_hopeless() || agent.is_hopeless() {
                break;
            }
        }
        vec![
            with_cut_budget(cut.row(CUT, OURS, &mut self.all)),
            healed.row(HEALED, OURS, &mut self.all),
            agent.row(AGENT_KILLED, OURS, &mut self.all),
            nothing.row(NOTHING, OURS, &mut self.all),
        ]
    }

    fn keepalived(
        &mut self,
        binary: &Path,
        program: &Path,
        tuning: Tuning,
        quick: bool,
    ) -> anyhow::Result<Vec<Row>> {
        let who = match tuning {
            Tuning::Default => "keepalived default",
            Tuning::Best | Tuning::BestRealTime => "keepalived tuned",
        };
        let mut theirs = Keepalived::start(binary, program, tuning)?;
        let [mut killed, mut floor, mut cut, mut healed] = [(); 4].map(|()| Series::default());
        for run in 1..=self.runs {
            progress(who, "servers killed, hosts cut", run, self.runs);
            floor.note(self.floor.server_killed().map(|sample| (sample, ())));
            killed.note(theirs.server_killed().map(|sample| (sample, ())));
            if !quick && let Some(sample) = cut.note(theirs.host_cut()) {
                healed.samples.push(sample);
            }
            if killed.is_hopeless() || cut.is_hopeless() {
                break;
            }
        }
        let mut rows = vec![killed.row(KILLED, who, &mut self.all).over(&floor.samples)];
        self.all.extend(floor.samples);
        if !quick {
            rows.push(cut.row(CUT, who, &mut self.all));
            rows.push(healed.row(HEALED, who, &mut self.all));
        }
        Ok(rows)
    }
}

fn with_killed_budgets(mut row: Row, without_gate: &Row) -> Row {
    let median = |row: &Row| row.outage_us.map(|s| s.median as f64);
    let ratio = median(&row).zip(median(without_gate)).map(|(with, without)| with / without);
    row.budgets = vec![
        Budget::at_most("no slower than without a gate (medians, 5 % for noise)", ratio, 1.05),
        Budget::at_most("at most 1.5 x the floor (mean)", row.ratio_to_floor, 1.5),
        Budget::at_most("p99 at most 10 ms", row.outage_us.map(|s| s.p99 as f64), 10_000.0),
    ];
    row
}

fn with_switchover_budgets(mut row: Row) -> Row {
    row.budgets = vec![
        Budget::at_most("at most 3 ms (median)", row.outage_us.map(|s| s.median as f64), 3_000.0),
        Budget::at_most("p99 at most 6 ms", row.outage_us.map(|s| s.p99 as f64), 6_000.0),
    ];
    row
}

fn with_cut_budget(mut row: Row) -> Row {
    row.budgets = vec![Budget::at_most(
        "at most 650 ms with the profile `normal` (p99)",
        row.outage_us.map(|s| s.p99 as f64),
        650_000.0,
    )];
    row
}

/// What our processes cost while nothing happens, with what was promised.
fn costs(ours: &Ours, idle_s: u64) -> anyhow::Result<Vec<(Cost, Vec<Budget>)>> {
    if idle_s == 0 {
        return Ok(Vec::new());
    }
    eprintln!("resources: {idle_s} s in which nothing happens");
    let processes = ours.processes()?;
    let costs = resources::measure(&processes, Duration::from_secs(idle_s))?;
    let budgets = |cost: &Cost| {
        let resident = Some(cost.resident_kib as f64 * 1024.0);
        if cost.what.starts_with("SCS") {
            vec![Budget::at_most("under 40 MB", resident, 40e6)]
        } else {
            vec![
                Budget::at_most("under 20 MB", resident, 20e6),
                Budget::at_most("under 1 % of a core", Some(cost.core_percent), 1.0),
            ]
        }
    };
    Ok(costs.into_iter().map(|cost| (cost.clone(), budgets(&cost))).collect())
}

fn progress(who: &str, what: &str, run: u32, runs: u32) {
    eprintln!("{who}: {what}: {run} of {runs}");
}
