//! Processor time per 1,000 calls or registrations.

use super::cores::Cores;
use super::sipp::{CALLEE, CALLER, Outcome, Sipp};
use super::targets::{ALONE, KAMAILIO, PAIR, PHONES, Target, phone};
use crate::report::Budget;
use crate::resources::processor_s;
use netlab::Lab;
use rehearsal::{CLIENT, VIP};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How long calls ring and last: long enough that two messages of one call do not overtake each other in two workers.
const RING: Duration = Duration::from_millis(200);
/// See [`RING`].
const TALK: Duration = Duration::from_millis(500);

/// What everybody has to bear.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    kind: Kind,
    rate: u32,
    time: Duration,
    settle: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Calls,
    /// Nobody is asked who they are.
    OpenRegistrations,
    /// Each is challenged first.
    ProvedRegistrations,
}

impl Kind {
    fn told(self) -> &'static str {
        match self {
            Kind::Calls => "calls",
            Kind::OpenRegistrations => "REGISTER, no proof",
            Kind::ProvedRegistrations => "REGISTER, challenged",
        }
    }

    /// A server of ours that is open asks nobody, and one of a pair everybody.
    fn is_for(self, who: &str) -> bool {
        match self {
            Kind::Calls => true,
            Kind::OpenRegistrations => who != PAIR,
            Kind::ProvedRegistrations => who != ALONE,
        }
    }
}

impl Load {
    /// So many calls a second for so long; `settle` is how long is counted on behind them.
    #[must_use]
    pub fn calls(rate: u32, time: Duration, settle: Duration) -> Self {
        Self { kind: Kind::Calls, rate, time, settle }
    }

    /// The same of registrations; with digest authentication, or without.
    #[must_use]
    pub fn registrations(rate: u32, time: Duration, settle: Duration, known: bool) -> Self {
        let kind = if known { Kind::ProvedRegistrations } else { Kind::OpenRegistrations };
        Self { kind, rate, time, settle }
    }

    fn number(&self) -> u64 {
        u64::from(self.rate) * self.time.as_secs()
    }
}

/// What a load cost somebody.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// The load.
    pub load: &'static str,
    /// Per second.
    pub rate: u32,
    /// Who bore it.
    pub who: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// Processor time per 1,000, by part, seconds.
    pub parts: Vec<Part>,
    /// All parts.
    pub total_s: f64,
    /// The total over Kamailio's.
    pub ratio: Option<f64>,
    /// The first part's, that of the primary or the only server, over Kamailio's total.
    pub first_ratio: Option<f64>,
    /// What was promised.
    pub budgets: Vec<Budget>,
}

/// One part's share.
#[derive(Debug, Serialize)]
pub struct Part {
    /// Which.
    pub part: &'static str,
    /// Seconds per 1,000.
    pub seconds: f64,
}

/// Registers the one who is called, where it is looked up.
///
/// # Errors
/// It is refused.
pub fn register_callee(target: &dyn Target, cores: Cores) -> anyhow::Result<()> {
    callee_registers(target.lab(), cores, target.who() == PAIR)
}

/// The same in a network, with a proof or without.
///
/// # Errors
/// It is refused.
pub fn callee_registers(lab: &Lab, cores: Cores, proves: bool) -> anyhow::Result<()> {
    let list = list(lab, ["callee".to_owned()])?;
    let scenario = if proves { "proof" } else { "register" };
    let list = list.display().to_string();
    let outcome = Sipp::begin(lab, cores, scenario, CALLEE, &["-m", "1", "-inf", &list, "-auth_uri", VIP])?;
    let outcome = outcome.finish()?;
    anyhow::ensure!(outcome.successful == 1, "the callee cannot register");
    Ok(())
}

/// What a load costs those for whom it is, one after the other.
///
/// # Errors
/// SIPp could not run, or a server has ended.
pub fn of_all(targets: &[Box<dyn Target>], cores: Cores, load: Load) -> anyhow::Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for target in targets.iter().filter(|target| load.kind.is_for(target.who())) {
        eprintln!("{}: {} {} at {}/s", target.who(), load.number(), load.kind.told(), load.rate);
        costs.push(of(&**target, cores, load)?);
    }
    let baseline = costs.iter().find(|cost| cost.who == KAMAILIO).map(|cost| cost.total_s);
    for cost in costs.iter_mut().filter(|cost| cost.who != KAMAILIO) {
        let over = |seconds: f64| baseline.filter(|base| *base > 0.0).map(|base| seconds / base);
        cost.ratio = over(cost.total_s);
        cost.first_ratio = cost.parts.first().and_then(|part| over(part.seconds));
        cost.budgets = budgets(load.kind, cost);
    }
    Ok(costs)
}

fn of(target: &dyn Target, cores: Cores, load: Load) -> anyhow::Result<Cost> {
    let processes = target.processes()?;
    let before = processor_times(&processes)?;
    let outcome = bear(target.lab(), cores, load)?;
    std::thread::sleep(load.settle);
    let after = processor_times(&processes)?;
    let mut parts: Vec<Part> = Vec::new();
    let per_thousand = 1_000.0 / (outcome.successful.max(1) as f64);
    for ((part, _), (before, after)) in processes.iter().zip(before.iter().zip(&after)) {
        let seconds = (after - before) * per_thousand;
        match parts.last_mut() {
            Some(last) if last.part == *part => last.seconds += seconds,
            Some(_) | None => parts.push(Part { part, seconds }),
        }
    }
    let total_s = parts.iter().map(|part| part.seconds).sum();
    let (load, rate, who) = (load.kind.told(), load.rate, target.who());
    let (ratio, first_ratio, budgets) = (None, None, Vec::new());
    Ok(Cost { load, rate, who, outcome, parts, total_s, ratio, first_ratio, budgets })
}

fn processor_times(processes: &[(&'static str, u32)]) -> anyhow::Result<Vec<f64>> {
    processes.iter().map(|(_, pid)| processor_s(*pid)).collect()
}

fn bear(lab: &Lab, cores: Cores, load: Load) -> anyhow::Result<Outcome> {
    let (number, rate) = (load.number().to_string(), load.rate.to_string());
    let pace = ["-m", &number, "-r", &rate];
    let known = match load.kind {
        Kind::Calls => {
            let (ring, talk) = (RING.as_millis().to_string(), TALK.as_millis().to_string());
            let _callee = Sipp::begin(lab, cores, "callee", CALLEE, &["-d", &ring])?;
            let callers = [&pace[..], &["-s", "callee", "-d", &talk]].concat();
            return Sipp::begin(lab, cores, "caller", CALLER, &callers)?.finish();
        }
        Kind::OpenRegistrations => false,
        Kind::ProvedRegistrations => true,
    };
    let list = list(lab, (0..PHONES).map(|number| phone(number, known)))?.display().to_string();
    let scenario = if known { "proof" } else { "register" };
    let arguments = [&pace[..], &["-inf", &list, "-auth_uri", VIP]].concat();
    Sipp::begin(lab, cores, scenario, CALLER, &arguments)?.finish()
}

/// A file from which SIPp takes one name for each call, with the password that proves it, and begins again.
fn list(lab: &Lab, names: impl IntoIterator<Item = String>) -> anyhow::Result<PathBuf> {
    let file = lab.directory(CLIENT)?.join("run/phones.csv");
    let lines: String = names
        .into_iter()
        .map(|name| format!("{name};[authentication username={name} password=secret];\n"))
        .collect();
    std::fs::write(&file, format!("SEQUENTIAL\n{lines}"))?;
    Ok(file)
}

fn budgets(kind: Kind, cost: &Cost) -> Vec<Budget> {
    let Some(total) = cost.ratio else { return Vec::new() };
    let most = match kind {
        Kind::Calls => 0.7,
        Kind::OpenRegistrations | Kind::ProvedRegistrations => 1.0,
    };
    let mut budgets = Vec::new();
    if cost.who == PAIR {
        let text = format!("the primary alone: at most {most} x Kamailio");
        budgets.push(Budget::at_most(text, cost.first_ratio, most));
    }
    // The promise for calls is one with a copy: a server alone is shown beside it.
    if cost.who == PAIR || kind != Kind::Calls {
        budgets.push(Budget::at_most(format!("all processes: at most {most} x Kamailio"), Some(total), most));
    }
    budgets
}
