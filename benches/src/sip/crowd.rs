//! Thousands of calls at once: the memory that they take on either host, and takeovers with them beside takeovers without.

use super::cores::Cores;
use super::cost;
use super::sipp::{CALLEE, CALLER, Sipp};
use super::targets::{Alone, KAMAILIO, Target, with_sip};
use crate::ours::Ours;
use crate::phases::{self, Step};
use crate::report::Budget;
use crate::resources::proportional_bytes;
use crate::sample::Summary;
use anyhow::{Context, ensure};
use netlab::Lab;
use rehearsal::Site;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// New calls a second until there are enough.
const FILL_RATE: &str = "300";
/// How long they last, ms: longer than the benchmark.
const TALK_MS: &str = "3600000";
/// How long the last of them may take to be answered, and to be known to the backup.
const FILL_LIMIT: Duration = Duration::from_secs(180);
/// How long a backup that begins anew may take to have all of them.
const COPY_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether they are there.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// With nobody to ask for the number of calls, how long is waited for the last one's answer.
const ANSWERED: Duration = Duration::from_secs(3);
/// MB on either side (issue: above idle, at 10,000 calls).
const MOST_BYTES: f64 = 60e6;

/// What calls take in memory.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Whose.
    pub who: String,
    /// How many calls.
    pub calls: u32,
    /// Before, bytes.
    pub idle: u64,
    /// With them.
    pub full: u64,
    /// What was promised.
    pub budgets: Vec<Budget>,
}

/// Takeovers after the primary's server was killed.
#[derive(Debug, Serialize)]
pub struct Outage {
    /// With so many calls.
    pub calls: u32,
    /// Without an answer, µs.
    pub outage_us: Option<Summary>,
    /// Where the time goes.
    pub steps: Vec<Step>,
    /// Runs that came to nothing, each with the reason.
    pub failures: Vec<String>,
    /// What was promised.
    pub budgets: Vec<Budget>,
}

/// A crowd that talks, until this is dropped.
struct Crowd {
    callers: Sipp,
    _callees: Sipp,
}

impl Crowd {
    fn begin(lab: &Lab, cores: Cores, calls: u32) -> anyhow::Result<Self> {
        let callees = Sipp::begin(lab, cores, "callee", CALLEE, &["-d", "200"])?;
        let calls = calls.to_string();
        let arguments = ["-m", &calls, "-r", FILL_RATE, "-s", "callee", "-d", TALK_MS];
        Ok(Self { callers: Sipp::begin(lab, cores, "caller", CALLER, &arguments)?, _callees: callees })
    }

    /// Whether nobody has given up.
    fn talks(&mut self) -> anyhow::Result<()> {
        ensure!(self.callers.goes_on()?, "SIPp has ended, having said {}", self.callers.complaint());
        Ok(())
    }
}

/// Our pair.
///
/// # Errors
/// It does not come up, or not all calls are answered. Takeovers that fail are part of what is returned.
pub fn of_ours(
    binary: &Path,
    cores: Cores,
    calls: u32,
    runs: u32,
) -> anyhow::Result<(Vec<Memory>, Vec<Outage>)> {
    let mut ours = Ours::start_edited(binary, with_sip)?;
    cost::callee_registers(ours.lab(), cores, true)?;
    let without = outage(&mut ours, 0, runs)?;
    let idle = sizes(&ours)?;
    eprintln!("takeover: {calls} calls");
    let mut crowd = Crowd::begin(ours.lab(), cores, calls)?;
    all_copied(ours.site(), ours.roles()[1], calls, FILL_LIMIT)?;
    crowd.talks()?;
    let full = sizes(&ours)?;
    let memory = ["takeover, primary", "takeover, backup"].iter().zip(idle.iter().zip(&full));
    let memory = memory.map(|(who, (idle, full))| memory_of((*who).to_owned(), calls, *idle, *full, true));
    let memory = memory.collect();
    let mut with = outage(&mut ours, calls, runs)?;
    crowd.talks()?;
    let mean = |outage: &Outage| outage.outage_us.map(|summary| summary.mean as f64);
    if let Some(least) = mean(&without) {
        let text = "as fast as without calls (mean, within the 1 ms that the client resolves)";
        with.budgets.push(Budget::at_most(text, mean(&with), least + 1_000.0));
    }
    Ok((memory, vec![without, with]))
}

/// Kamailio, whose calls nobody is asked for: SIPp's are counted on.
///
/// # Errors
/// It does not start, or SIPp ends.
pub fn of_kamailio(program: &Path, cores: Cores, calls: u32) -> anyhow::Result<Memory> {
    eprintln!("{KAMAILIO}: {calls} calls");
    let kamailio = super::cores::on(cores.servers, || Alone::kamailio(program))?;
    let size = || -> anyhow::Result<u64> {
        kamailio.processes()?.iter().map(|(_, pid)| proportional_bytes(*pid)).sum()
    };
    let idle = size()?;
    let mut crowd = Crowd::begin(kamailio.lab(), cores, calls)?;
    let rate: f64 = FILL_RATE.parse()?;
    std::thread::sleep(Duration::from_secs_f64(f64::from(calls) / rate) + ANSWERED);
    crowd.talks()?;
    Ok(memory_of(KAMAILIO.to_owned(), calls, idle, size()?, false))
}

fn memory_of(who: String, calls: u32, idle: u64, full: u64, promised: bool) -> Memory {
    let above = full.saturating_sub(idle) as f64;
    let most = MOST_BYTES * f64::from(calls) / 10_000.0;
    let text = format!("at most {:.0} MB above idle", most / 1e6);
    let budgets = promised.then(|| Budget::at_most(text, Some(above), most));
    Memory { who, calls, idle, full, budgets: budgets.into_iter().collect() }
}

fn sizes(ours: &Ours) -> anyhow::Result<[u64; 2]> {
    let [primary, backup] = ours.roles();
    let size = |app| proportional_bytes(ours.site().app_pid(app)?);
    Ok([size(primary)?, size(backup)?])
}

/// Kills the primary's server again and again, each time after the backup had everything.
fn outage(ours: &mut Ours, calls: u32, runs: u32) -> anyhow::Result<Outage> {
    let (mut outages, mut recorded, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        eprintln!("takeover: server killed with {calls} calls: {run} of {runs}");
        match ours.server_killed() {
            Ok((sample, how)) => {
                outages.push(sample.outage_us);
                recorded.push(how);
            }
            Err(error) => {
                failures.push(format!("{error:#}"));
                ours.look_again()?;
            }
        }
        all_copied(ours.site(), ours.roles()[1], calls, COPY_LIMIT)?;
    }
    Ok(Outage {
        calls,
        outage_us: Summary::of(outages),
        steps: phases::steps(&recorded),
        failures,
        budgets: Vec::new(),
    })
}

/// Waits until the backup tells, from now on, that it has all calls.
fn all_copied(site: &Site, backup: &str, calls: u32, limit: Duration) -> anyhow::Result<()> {
    let (begun, api) = (Instant::now(), site.api()?);
    let since = Site::now();
    let mut last = None;
    while begun.elapsed() < limit {
        let view = api.view()?;
        let members = || view.pairs.iter().flat_map(|pair| &pair.members);
        let told = members().find(|member| member.app.as_str() == backup).and_then(|member| member.standby);
        let is_new = told.is_some_and(|told| told.told > since);
        last = told.map(|told| told.standby);
        if is_new && last.is_some_and(|copy| copy.confirmed == calls && copy.lag_ms.is_some()) {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let last = last.context("the backup has told nothing")?;
    anyhow::bail!("the backup does not have {calls} calls after {limit:?}: {last}")
}
