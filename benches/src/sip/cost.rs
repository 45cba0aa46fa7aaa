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
use std::time::{Duration, Instant};

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
    /// The same without what they took in as much time while nothing happened.
    pub net_s: f64,
    /// The total over Kamailio's.
    pub ratio: Option<f64>,
    /// The same without what both take while nothing happens.
    pub net_ratio: Option<f64>,
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

/// What somebody takes while nothing happens.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Idle {
    /// Who.
    pub who: &'static str,
    /// Of a core, all processes together.
    pub core_percent: f64,
}

/// Watches somebody who has nothing to do.
///
/// # Errors
/// A server has ended.
pub fn idle(target: &dyn Target, time: Duration) -> anyhow::Result<Idle> {
    eprintln!("{}: {} s in which nothing happens", target.who(), time.as_secs());
    let processes = target.processes()?;
    let (before, begun) = (processor_times(&processes)?, Instant::now());
    std::thread::sleep(time);
    let spent: f64 =
        processor_times(&processes)?.iter().zip(&before).map(|(after, before)| after - before).sum();
    Ok(Idle { who: target.who(), core_percent: 100.0 * spent / begun.elapsed().as_secs_f64() })
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
pub fn of_all(
    targets: &[Box<dyn Target>],
    idle: &[Idle],
    cores: Cores,
    load: Load,
) -> anyhow::Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for target in targets.iter().filter(|target| load.kind.is_for(target.who())) {
        eprintln!("{}: {} {} at {}/s", target.who(), load.number(), load.kind.told(), load.rate);
        let resting = idle.iter().find(|idle| idle.who == target.who()).map_or(0.0, |idle| idle.core_percent);
        costs.push(of(&**target, resting, cores, load)?);
    }
    let theirs = costs.iter().find(|cost| cost.who == KAMAILIO).map(|cost| (cost.total_s, cost.net_s));
    for cost in costs.iter_mut().filter(|cost| cost.who != KAMAILIO) {
        let Some((total, net)) = theirs else { continue };
        let over = |seconds: f64, base: f64| (base > 0.0).then(|| seconds / base);
        cost.ratio = over(cost.total_s, total);
        cost.net_ratio = over(cost.net_s, net);
        cost.first_ratio = cost.parts.first().and_then(|part| over(part.seconds, total));
        cost.budgets = budgets(load.kind, cost);
    }
    Ok(costs)
}

/// `resting` is what the target takes of a core while nothing happens, per cent.
fn of(target: &dyn Target, resting: f64, cores: Cores, load: Load) -> anyhow::Result<Cost> {
    let processes = target.processes()?;
    let (before, begun) = (processor_times(&processes)?, Instant::now());
    let outcome = bear(target.lab(), cores, load)?;
    std::thread::sleep(load.settle);
    let after = processor_times(&processes)?;
    let elapsed = begun.elapsed().as_secs_f64();
    let mut parts: Vec<Part> = Vec::new();
    let per_thousand = 1_000.0 / (outcome.successful.max(1) as f64);
    for ((part, _), (before, after)) in processes.iter().zip(before.iter().zip(&after)) {
        let seconds = (after - before) * per_thousand;
        match parts.last_mut() {
            Some(last) if last.part == *part => last.seconds += seconds,
            Some(_) | None => parts.push(Part { part, seconds }),
        }
    }
    let total_s: f64 = parts.iter().map(|part| part.seconds).sum();
    let net_s = total_s - resting / 100.0 * elapsed * per_thousand;
    let (load, rate, who) = (load.kind.told(), load.rate, target.who());
    let (ratio, net_ratio, first_ratio, budgets) = (None, None, None, Vec::new());
    Ok(Cost { load, rate, who, outcome, parts, total_s, net_s, ratio, net_ratio, first_ratio, budgets })
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
    if cost.ratio.is_none() {
        return Vec::new(); // nobody to compare with
    }
    let most = match kind {
        // The promise is one with a copy: a server alone is only shown beside it.
        Kind::Calls if cost.who != PAIR => return Vec::new(),
        Kind::Calls => 0.7,
        Kind::OpenRegistrations | Kind::ProvedRegistrations => 1.0,
    };
    let budget =
        |what: &str, ratio| Budget::at_most(format!("{what}: at most {most} x Kamailio"), ratio, most);
    let all = [budget("all processes", cost.ratio), budget("the same above idle", cost.net_ratio)];
    let first = (cost.who == PAIR).then(|| budget("the primary alone, idle included", cost.first_ratio));
    all.into_iter().chain(first).collect()
}
