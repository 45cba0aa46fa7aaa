//! `bench sip`: what calls and registrations cost in processor time, ours beside Kamailio, in turns and in the same run; and
//! what thousands of calls cost in memory and in time without an answer when the primary's server is killed.

mod cores;
mod cost;
mod crowd;
mod sipp;
mod table;
mod targets;

use self::cores::Cores;
use self::cost::{Cost, Idle, Load};
use self::crowd::{Memory, Outage};
use self::targets::{Alone, Pair, Target};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Calls per second, one measurement for each
    #[arg(long, value_delimiter = ',', default_values_t = [250, 500, 1_000], value_name = "RATES",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rates: Vec<u32>,
    /// Registrations per second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    registrations: u32,
    /// For how long there are new calls and registrations, seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long processor time is counted after the last call: until its last timers have run out (64 x T1 is 32 s)
    #[arg(long, default_value_t = 33, value_parser = clap::value_parser!(u64).range(0..=120))]
    settle_s: u64,
    /// How long everybody is watched without a load, seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    idle_s: u64,
    /// Calls at once for memory and takeovers; 0 leaves both out
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=18_000))]
    calls: u32,
    /// How often the primary's server is killed without calls, and with them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    runs: u32,
    /// Leave Kamailio out
    #[arg(long)]
    without_kamailio: bool,
    /// Print JSON in place of tables
    #[arg(long)]
    json: bool,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Everything.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    /// Its version, or why there is none.
    kamailio: String,
    idle: Vec<Idle>,
    costs: Vec<Cost>,
    memory: Vec<Memory>,
    outages: Vec<Outage>,
}

/// Runs the benchmark inside namespaces of its own and prints the figures.
///
/// # Errors
/// Something could not be built or started; calls that fail are part of the report.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let cores = Cores::find()?;
    let (program, kamailio) = match targets::find_kamailio()? {
        Some(_) if arguments.without_kamailio => (None, "left out".to_owned()),
        Some((program, version)) => (Some(program), version),
        None => (None, "not installed (Debian package kamailio)".to_owned()),
    };
    let (idle, costs) = costs(arguments, cores, &binary, program.as_deref())?;
    let (mut memory, mut outages) = (Vec::new(), Vec::new());
    if arguments.calls > 0 {
        (memory, outages) = crowd::of_ours(&binary, cores, arguments.calls, arguments.runs)?;
        if let Some(program) = &program {
            memory.push(crowd::of_kamailio(program, cores, arguments.calls)?);
        }
    }
    let report = Report { machine: crate::machine(), kamailio, idle, costs, memory, outages };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table::text(&report));
    }
    Ok(())
}

/// Everybody under the same load, one after the other, load by load.
fn costs(
    arguments: &Arguments,
    cores: Cores,
    binary: &Path,
    program: Option<&Path>,
) -> anyhow::Result<(Vec<Idle>, Vec<Cost>)> {
    let targets = cores::on(cores.servers, || {
        let mut targets: Vec<Box<dyn Target>> =
            vec![Box::new(Pair::start(binary)?), Box::new(Alone::takeover(binary)?)];
        if let Some(program) = program {
            targets.push(Box::new(Alone::kamailio(program)?));
        }
        Ok(targets)
    })?;
    let (time, settle) = (Duration::from_secs(arguments.seconds), Duration::from_secs(arguments.settle_s));
    for target in &targets {
        cost::register_callee(&**target, cores)?;
    }
    let resting = Duration::from_secs(arguments.idle_s);
    let idle =
        targets.iter().map(|target| cost::idle(&**target, resting)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut costs = Vec::new();
    for rate in &arguments.rates {
        let load = Load::calls(*rate, time, settle);
        costs.extend(cost::of_all(&targets, &idle, cores, load)?);
    }
    for known in [false, true] {
        let load = Load::registrations(arguments.registrations, time, settle, known);
        costs.extend(cost::of_all(&targets, &idle, cores, load)?);
    }
    Ok((idle, costs))
}
