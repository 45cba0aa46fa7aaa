//! `bench renewal`: what leases cost in processor time while nothing happens, by number of pairs and profile. Beside it what
//! cannot be had for less (`floor::renew`), in steps, and keepalived with one advert in the same interval.

use crate::keepalived::{self, Keepalived, Tuning};
use crate::report::Budget;
use crate::resources::{self, Cost};
use crate::servers::{Servers, end};
use anyhow::Context;
use domain::HostStatus;
use netlab::Lab;
use rehearsal::{AGENT_HOSTS, Settings, Site};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an installation of hundreds of pairs may take to come up.
const UP_LIMIT: Duration = Duration::from_secs(180);

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pairs with the profile `normal` on the two hosts
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    many: u32,
    /// Pairs with the profile `fast` on the two hosts, beside a case with one
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    some: u32,
    /// How long the processes are watched, seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Only the case of this profile
    #[arg(long, value_name = "PROFILE", value_parser = ["fast", "normal"])]
    only: Option<String>,
    /// Print JSON in place of tables
    #[arg(long)]
    json: bool,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// One installation.
#[derive(Debug, Serialize)]
struct Case {
    what: String,
    pairs: u32,
    costs: Vec<Cost>,
    budgets: Vec<Budget>,
}

/// Runs the benchmark inside namespaces of its own and prints the figures.
///
/// # Errors
/// An installation did not come up.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let time = Duration::from_secs(arguments.seconds);
    let mut cases = Vec::new();
    if arguments.only.as_deref() != Some("normal") {
        cases.push(floors(&binary, time)?);
        if let Some((program, _)) = keepalived::find()? {
            cases.push(theirs(&binary, &program, time)?);
        }
    }
    for (profile, pairs) in [("fast", 0), ("fast", 1), ("fast", arguments.some), ("normal", arguments.many)] {
        if arguments.only.as_ref().is_none_or(|only| only == profile) {
            cases.push(measure(&binary, profile, pairs, time)?);
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&cases)?);
    } else {
        print!("{}", text(&cases));
    }
    Ok(())
}

fn measure(binary: &Path, profile: &'static str, pairs: u32, time: Duration) -> anyhow::Result<Case> {
    eprintln!("{pairs} pairs, profile {profile}: starting");
    let settings = Settings::new(binary).edit(move |cluster| with_pairs(&cluster, profile, pairs));
    let mut site = Site::build(Lab::new()?, settings)?;
    site.start_scs()?;
    for host in AGENT_HOSTS {
        site.start_agent(host)?;
    }
    site.wait_for("every pair to hold its lease", UP_LIMIT, |view| {
        view.pairs.len() == pairs as usize
            && view.pairs.iter().all(|pair| {
                let backed =
                    pair.lease.as_ref().is_some_and(|lease| lease.holder.is_some() && lease.backing == 2);
                backed && pair.primary.is_some() && pair.members.iter().all(|member| member.current)
            })
            && view.hosts.iter().all(|host| host.status == HostStatus::Up)
    })?;
    eprintln!("{pairs} pairs, profile {profile}: {} s in which nothing happens", time.as_secs());
    let agent = |host: &str| site.agent_pid(host).with_context(|| format!("no agent runs on {host}"));
    let processes = [
        ("LCA of all primaries", agent(AGENT_HOSTS[0])?),
        ("LCA of all backups", agent(AGENT_HOSTS[1])?),
        ("SCS", site.scs_pid().context("no SCS runs")?),
    ];
    let costs = resources::measure(&processes, time)?;
    let budgets = costs.iter().take(2).filter_map(|cost| budget(profile, pairs, cost)).collect();
    Ok(Case { what: format!("takeover, profile {profile}, {pairs} pairs"), pairs, costs, budgets })
}

/// At the same time: a process that wakes up every 10 ms; one that also sends a datagram to each of two other voters, and reads
/// their answers when it wakes up next; and one that their answers wake.
fn floors(binary: &Path, time: Duration) -> anyhow::Result<Case> {
    let servers = Servers::start(binary, "floor")?;
    let voters = ["192.0.2.12:7999", "192.0.2.12:7998"].map(str::to_owned);
    let echo = |at: &String| servers.helper(1, &["renewal-echo".to_owned(), at.clone()]);
    let mut echoes = [echo(&voters[0])?, echo(&voters[1])?];
    let holder = |answers: &str, ask: &[String]| {
        let arguments = ["renewal-floor", "10", answers].map(str::to_owned);
        servers.helper(0, &[&arguments[..], ask].concat())
    };
    let mut holders = [
        ("a timer alone", holder("in-the-next-round", &[])?),
        ("answers read 10 ms later", holder("in-the-next-round", &voters)?),
        ("answers read as they come", holder("as-they-come", &voters)?),
    ];
    eprintln!("the floor: {} s", time.as_secs());
    let processes = holders.each_ref().map(|(what, holder)| (*what, holder.id()));
    let costs = resources::measure(&processes, time)?;
    holders.iter_mut().try_for_each(|(_, holder)| end(holder))?;
    echoes.iter_mut().try_for_each(end)?;
    Ok(Case { what: "floor, every 10 ms, 1 pair".to_owned(), pairs: 1, costs, budgets: Vec::new() })
}

fn theirs(binary: &Path, program: &Path, time: Duration) -> anyhow::Result<Case> {
    let theirs = Keepalived::start(binary, program, Tuning::Best)?;
    eprintln!("keepalived: {} s", time.as_secs());
    let processes = [("master", theirs.vrrp_process(0)?), ("backup", theirs.vrrp_process(1)?)];
    let costs = resources::measure(&processes, time)?;
    Ok(Case { what: "keepalived, every 10 ms, 1 pair".to_owned(), pairs: 1, costs, budgets: Vec::new() })
}

fn budget(profile: &str, pairs: u32, cost: &Cost) -> Option<Budget> {
    let percent = Some(cost.core_percent);
    match (profile, pairs) {
        (_, 0) => None,
        ("fast", _) => {
            let most = 0.5 * f64::from(pairs);
            Some(Budget::at_most(format!("{}: at most 0.5 % of a core per pair", cost.what), percent, most))
        }
        (_, _) => Some(Budget::at_most(format!("{}: at most 10 % of a core", cost.what), percent, 10.0)),
    }
}

/// The cluster file with these pairs in place of its own. Their servers do nothing, so that what is measured is ours.
fn with_pairs(cluster: &str, profile: &str, pairs: u32) -> String {
    let hosts = cluster.find("\n[hosts.").unwrap_or(cluster.len());
    let mut text = cluster[..hosts].to_owned();
    let addresses =
        cluster.lines().filter(|line| line.starts_with("[hosts.") || line.starts_with("address = \"192"));
    for line in addresses.take(2 * AGENT_HOSTS.len()) {
        text += &format!("\n{line}");
    }
    text += "\n";
    for n in 0..pairs {
        for (member, host) in ["a", "b"].iter().zip(AGENT_HOSTS) {
            text += &format!(
                "\n[applications.{member}{n}]\nhost = \"{host}\"\nmode-control = \"none\"\n\
                 command = [\"/bin/sleep\", \"infinity\"]\n"
            );
        }
        let (high, low) = (n / 250, n % 250 + 1);
        text += &format!(
            "\n[pairs.p{n}]\nmembers = [\"a{n}\", \"b{n}\"]\nredundancy = \"warm\"\nprofile = \"{profile}\"\n\n\
             [[pairs.p{n}.vips]]\naddress = \"10.0.{high}.{low}/16\"\ninterface = \"eth0\"\n"
        );
    }
    text
}

fn text(cases: &[Case]) -> String {
    let mut text = format!("machine: {}\n", crate::machine());
    text += "\nWhile nothing happens, per cent of a core, and of that per pair\n";
    for case in cases {
        let _ = writeln!(text, "{}", case.what);
        for cost in &case.costs {
            let per_pair = cost.core_percent / f64::from(case.pairs.max(1));
            let resident = cost.resident_kib as f64 / 1024.0;
            let _ = writeln!(
                text,
                "  {:<26} {:>7.2} % {per_pair:>8.3} % per pair {resident:>8.1} MiB resident",
                cost.what, cost.core_percent
            );
        }
        for budget in &case.budgets {
            let verdict = if budget.kept { "within" } else { "NOT within" };
            let _ = writeln!(text, "    {verdict}: {}", budget.text);
        }
    }
    text
}
