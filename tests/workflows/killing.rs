//! Parts of the product killed (SIGKILL), alone and in pairs, and started again as systemd would. An agent or the SCS alone
//! changes nothing for callers; a server is taken over as soon as whoever decides is back.

use anyhow::ensure;
use domain::events;
use e2e::{LIMIT, epoch, last_row, next_incident, ordinary_site, tells, told, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, Site};
use scs::store::LogRow;
use std::time::Duration;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The primary's process.
    Server,
    /// The agent of a host.
    Agent(&'static str),
    Scs,
}

/// How long a client may be without an answer where nothing but the machine's load can delay one.
const HICCUP: Duration = Duration::from_millis(50);

/// The agent of the primary's host.
pub fn agent_of_the_primary(_: &mut Lab) -> anyhow::Result<()> {
    unnoticed(&[Part::Agent("host1")])
}

/// The agent of the backup's host.
pub fn agent_of_the_backup(_: &mut Lab) -> anyhow::Result<()> {
    unnoticed(&[Part::Agent("host2")])
}

/// The SCS.
pub fn scs(_: &mut Lab) -> anyhow::Result<()> {
    unnoticed(&[Part::Scs])
}

/// Both agents at once.
pub fn both_agents(_: &mut Lab) -> anyhow::Result<()> {
    unnoticed(&[Part::Agent("host1"), Part::Agent("host2")])
}

/// The agent just after it made the backup's process, before it took note of it: the next one does not know it, and must not
/// leave it the ports of the one that it makes.
pub fn agent_that_took_no_note_of_a_process(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let left_behind = site.app_pid("sip2")?;
    site.kill_agent("host2")?;
    std::fs::remove_file(site.lab.directory("host2")?.join("run/sip2.process.json"))?;
    site.start_agent("host2")?;
    wait_until("another process of sip2", || Ok(site.app_pid("sip2").is_ok_and(|pid| pid != left_behind)))?;
    ensure!(!std::path::Path::new(&format!("/proc/{left_behind}")).exists(), "{left_behind} is left");
    whole(&site, "sip1")
}

/// The SCS and the agent of the primary's host at once.
pub fn scs_and_agent(_: &mut Lab) -> anyhow::Result<()> {
    unnoticed(&[Part::Scs, Part::Agent("host1")])
}

/// The primary and its agent at once: the new agent finds it gone.
pub fn server_and_agent(_: &mut Lab) -> anyhow::Result<()> {
    taken_over(&[Part::Server, Part::Agent("host1")])
}

/// The primary and the SCS at once: the new SCS learns of it.
pub fn server_and_scs(_: &mut Lab) -> anyhow::Result<()> {
    taken_over(&[Part::Server, Part::Scs])
}

/// Neither a role change nor an incident, and every answer from the primary.
fn unnoticed(parts: &[Part]) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (api, prober) = (site.api()?, site.prober()?);
    let begun = netlab::now();
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let (row, known, held) = (last_row(&api)?, api.incidents()?.len(), epoch(&api)?);

    kill_and_restart(&mut site, parts)?;
    let connections = if parts.contains(&Part::Scs) { AGENT_HOSTS.len() } else { parts.len() };
    tells(&api, row, &vec![(events::HOST_NORMAL, ""); connections])?;
    whole(&site, "sip1")?;

    let seen = prober.stop();
    let gap = seen.longest_gap().map_or(Duration::ZERO, netlab::Gap::length);
    println!("{parts:?} killed: longest gap {gap:?}, lost {}", seen.lost());
    ensure!(
        seen.count_by_tag().keys().eq([&"sip1"]),
        "not only the primary answers: {:?}",
        seen.count_by_tag()
    );
    ensure!(gap < HICCUP, "the client is without an answer for {gap:?}");
    ensure!(epoch(&api)? == held, "the epoch moved from {held} to {}", epoch(&api)?);
    let incidents: String = api.incidents()?.iter().skip(known).map(told).collect();
    ensure!(incidents.is_empty(), "a role change:\n{incidents}");
    // One that starts has not slept since the machine began.
    let most = netlab::now().since(begun).as_micros();
    let slept = |row: &LogRow| {
        let stall = row.event.attributes.get("stall_us").and_then(|stall| stall.parse::<u128>().ok());
        row.event.id == events::AGENT_STALLED && stall.is_some_and(|stall| stall > most)
    };
    let impossible = api.log()?.into_iter().find(slept);
    ensure!(impossible.is_none(), "slept for longer than all of this took: {impossible:?}");
    Ok(())
}

/// A role change under a greater epoch; never do both answer.
fn taken_over(parts: &[Part]) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (api, prober) = (site.api()?, site.prober()?);
    let begun = netlab::now();
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let (known, held) = (api.incidents()?.len(), epoch(&api)?);

    kill_and_restart(&mut site, parts)?;
    let incident = next_incident(&api, known)?;
    let new = incident.to.as_str();
    whole(&site, new)?;

    let gap = prober.stop().longest_gap().map_or(Duration::ZERO, netlab::Gap::length);
    println!("{parts:?} killed: {} to {new}, longest gap {gap:?}", incident.kind);
    ensure!(epoch(&api)? > held, "{}", told(&incident));
    Ok(())
}

/// Kills the parts as nearly at once as can be, and starts again what systemd would.
fn kill_and_restart(site: &mut Site, parts: &[Part]) -> anyhow::Result<()> {
    let pid_of = |part: &Part| match part {
        Part::Server => site.app_pid("sip1"),
        Part::Agent(host) => site.agent_pid(host).ok_or_else(|| anyhow::anyhow!("no agent on {host}")),
        Part::Scs => site.scs_pid().ok_or_else(|| anyhow::anyhow!("no SCS")),
    };
    let pids = parts.iter().map(pid_of).collect::<anyhow::Result<Vec<_>>>()?;
    for pid in pids {
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    }
    for part in parts {
        match part {
            Part::Server => {} // its agent's business
            Part::Agent(host) => {
                site.kill_agent(host)?; // is dead, and waited for
                site.start_agent(host)?;
            }
            Part::Scs => {
                site.kill_scs()?;
                site.start_scs()?;
            }
        }
    }
    Ok(())
}
