//! What the end-to-end tests share: an installation of the real binary, and the checks that every story ends with. The
//! stories themselves are in `workflows` and `faults`.

pub mod alone;
pub mod loopback;

use anyhow::{Context, bail, ensure};
use domain::{Epoch, EventId, Micros};
use ha_core::{Incident, IncidentOutcome};
use netlab::harness::FINAL;
use netlab::{Lab, Observation, ProbeSettings, Prober, Takeover};
use rehearsal::{AGENT_HOSTS, Api, CLIENT, SIP_PORT, Settings, Site, VIP, VIP6};
use scs::store::LogRow;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take that is not itself what a test measures. Generous: the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(20);
/// The epoch of the first grant: the first member's own (even ones are).
pub const FIRST_GRANT: Epoch = Epoch(2);
/// The members of the pair, the first on the first host.
pub const APPS: [&str; 2] = ["sip1", "sip2"];

/// Test cases from functions that take a [`Lab`] and return a `Result`; an error fails the case and is printed with its
/// causes.
#[macro_export]
macro_rules! stories {
    ($($function:path),* $(,)?) => {
        [$(
            netlab::harness::Case::new(stringify!($function), |lab| {
                if let Err(error) = $function(lab) {
                    panic!("{error:#}");
                }
            })
            .limit(std::time::Duration::from_secs(120))
        ),*]
    };
}

/// The binary under test: `TAKEOVER_BIN`, else what `cargo build --release` has left.
///
/// # Errors
/// There is none.
pub fn binary() -> anyhow::Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/takeover");
    let binary = std::env::var_os("TAKEOVER_BIN").map_or(built, PathBuf::from);
    binary.canonicalize().with_context(|| {
        format!(
            "there is no binary to test at {}: run `cargo xtask test`, or build it with \
             `cargo build --release -p takeover` or name it in TAKEOVER_BIN",
            binary.display()
        )
    })
}

/// The ordinary installation, whole, with sip1 as primary.
///
/// # Errors
/// It does not come up.
pub fn ordinary_site() -> anyhow::Result<Site> {
    site_with(|cluster| cluster)
}

/// The installation with its cluster file changed, whole, with sip1 as primary.
///
/// # Errors
/// It does not come up.
pub fn site_with(edit: impl Fn(String) -> String + 'static) -> anyhow::Result<Site> {
    started(Settings::new(&binary()?).edit(edit))
}

/// The installation with these settings, whole, with sip1 as primary.
///
/// # Errors
/// It does not come up.
pub fn started(settings: Settings) -> anyhow::Result<Site> {
    let mut site = Site::build(Lab::new()?, settings)?;
    site.start()?;
    let api = site.api()?;
    wait_until("the first primary to be recorded", || {
        Ok(api.incidents()?.iter().any(|incident| incident.outcome == IncidentOutcome::Completed))
    })?;
    Ok(site)
}

/// The host of a member of the pair.
///
/// # Panics
/// There is no such member.
#[must_use]
pub fn host_of(app: &str) -> &'static str {
    AGENT_HOSTS[APPS.iter().position(|a| *a == app).expect("a member of the pair")]
}

/// The other member.
#[must_use]
pub fn other(app: &str) -> &'static str {
    if app == APPS[0] { APPS[1] } else { APPS[0] }
}

/// Checks that all is as it should be with `primary` as primary: the SCS says so, each VIP is on its host and nowhere
/// else, and the client's neighbour table leads there, by ARP and by neighbour discovery.
///
/// # Errors
/// What is not so.
pub fn whole(site: &Site, primary: &str) -> anyhow::Result<()> {
    site.wait_whole(primary, LIMIT)?;
    let host = host_of(primary);
    let mac = site.lab.mac(host, "eth0")?;
    for vip in [VIP, VIP6] {
        let holders = site.holders(vip)?;
        ensure!(holders == [host], "{vip} is on {holders:?} and not on {host}\n{}", site.logs());
        let address: IpAddr = vip.parse()?;
        // An entry that was there before must have been changed by the announcements, without our asking.
        wait_until(&format!("the client's neighbour entry of {vip} to lead to {host}"), || {
            Ok(site.lab.neighbour(CLIENT, address)?.is_none_or(|known| known == mac))
        })?;
        let since = netlab::now();
        let prober =
            Prober::start(&site.lab, CLIENT, ProbeSettings::new(SocketAddr::new(address, SIP_PORT)))?;
        ensure!(
            prober.await_answer(primary, since, LIMIT),
            "{primary} does not answer for {vip}\n{}",
            site.logs()
        );
        let seen = prober.stop();
        let of_others = seen.answers().iter().filter(|answer| seen.who(answer) != primary).count();
        ensure!(of_others == 0, "{of_others} answers for {vip} by another than {primary}");
        let known = site.lab.neighbour(CLIENT, address)?;
        ensure!(known == Some(mac), "the client's neighbour entry of {vip} is {known:?} and not {mac}");
    }
    Ok(())
}

/// Waits until some member is primary of a whole pair, and checks all of it; its name.
///
/// # Errors
/// Nobody is, or not all is as it should be.
pub fn whole_again(site: &Site) -> anyhow::Result<String> {
    let api = site.api()?;
    let mut primary = None;
    wait_until("the pair to have a primary", || {
        primary = api.view()?.pairs.into_iter().find_map(|pair| pair.primary);
        Ok(primary.is_some())
    })?;
    let primary = primary.context("there is a primary")?.to_string();
    whole(site, &primary)?;
    Ok(primary)
}

/// The pair's epoch.
///
/// # Errors
/// The SCS cannot be reached.
pub fn epoch(api: &Api) -> anyhow::Result<Epoch> {
    let view = api.view()?;
    Ok(view.pairs.first().context("there is a pair")?.epoch)
}

/// Waits for a condition that nobody announces.
///
/// # Errors
/// It does not come true within [`LIMIT`], or cannot be looked at.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The takeover that the client saw between two times, after it was checked that never both hosts answered; prints it.
///
/// # Errors
/// There was none, or both answered.
pub fn clean_takeover(what: &str, seen: &Observation, old: &str, new: &str) -> anyhow::Result<Takeover> {
    let Some(takeover) = seen.takeover(old, new) else {
        bail!("{what}: the client saw no takeover from {old} to {new}, but {:?}", seen.count_by_tag());
    };
    println!("{what}: {old} to {new}, outage {:?}, lost {}", takeover.outage(), seen.lost());
    ensure!(
        takeover.late_answers == 0,
        "{what}: {} answers of {old} after the first of {new}, for {:?} {FINAL}",
        takeover.late_answers,
        takeover.dual()
    );
    Ok(takeover)
}

/// Checks that an incident has its workflow's steps, all of them, each for the first time in the order of their numbers
/// and their times.
///
/// # Errors
/// Which step is missing or out of order.
pub fn steps_in_order(incident: &Incident) -> anyhow::Result<()> {
    let mut last: Option<(u8, Micros)> = None;
    for step in &incident.steps {
        let Some(number) = step.number else { continue };
        let (before, at) = last.unwrap_or((0, Micros(0)));
        if number <= before {
            continue; // again, for the other host or the other VIP
        }
        ensure!(number == before + 1, "step {number} comes after step {before}: {}", told(incident));
        ensure!(step.at >= at, "step {number} is earlier than step {before}: {}", told(incident));
        last = Some((number, step.at));
    }
    let number = last.map_or(0, |(number, _)| number);
    ensure!(number == incident.kind.last_step(), "the steps end with {number}: {}", told(incident));
    Ok(())
}

/// An incident for people.
#[must_use]
pub fn told(incident: &Incident) -> String {
    let mut text = format!(
        "incident {}, {}, {:?} to {}, epoch {}, {}: {}\n",
        incident.id.0,
        incident.kind,
        incident.from,
        incident.to,
        incident.epoch,
        incident.outcome,
        incident.reason
    );
    for step in &incident.steps {
        let number = step.number.map_or(" ".to_owned(), |n| n.to_string());
        let after = step.at.since(incident.begun);
        text += &format!("  {number} {after:>12.3?} {:<20} {}\n", step.phase.to_string(), step.text);
    }
    text
}

/// The number of the newest log event's row.
///
/// # Errors
/// The SCS cannot be reached.
pub fn last_row(api: &Api) -> anyhow::Result<u64> {
    Ok(api.log()?.last().map_or(0, |row| row.seq))
}

/// Waits for the end of the one incident that came after the first `known`, completed, and for its record, which is
/// written behind the takeover.
///
/// # Errors
/// There is none, or more than one, or it ended otherwise.
pub fn next_incident(api: &Api, known: usize) -> anyhow::Result<Incident> {
    let mut new = Vec::new();
    wait_until("the incident to be recorded", || {
        new = api.incidents()?.split_off(known);
        Ok(new.iter().any(|incident| incident.outcome != IncidentOutcome::Open))
    })?;
    let stories = new.iter().map(told).collect::<String>();
    ensure!(
        new.len() == 1 && new[0].outcome == IncidentOutcome::Completed,
        "one incident was due:\n{stories}"
    );
    Ok(new.remove(0))
}

/// Waits until these events are in the log behind row `seq` in this order, others in between allowed; "" is anybody's.
/// (The log is written behind the takeover, which never waits for it.)
///
/// # Errors
/// Which one is missing, with the log.
pub fn tells(api: &Api, seq: u64, story: &[(EventId, &str)]) -> anyhow::Result<()> {
    let mut log = Vec::new();
    let result = wait_until("the log to tell the story", || {
        log = api.log()?.into_iter().filter(|row| row.seq > seq).collect();
        Ok(missing(&log, story).is_none())
    });
    result.with_context(|| match missing(&log, story) {
        Some((id, app)) => format!("{id} {app} is missing, in this place, in the log:\n{}", shown(&log)),
        None => "the log cannot be read".to_owned(),
    })
}

/// The first event of a story that a log does not tell.
fn missing<'a>(log: &[LogRow], story: &'a [(EventId, &'a str)]) -> Option<&'a (EventId, &'a str)> {
    let mut rows = log.iter();
    story.iter().find(|(id, about)| {
        let of = |row: &LogRow| {
            about.is_empty() || row.event.app.as_ref().is_some_and(|app| app.as_str() == *about)
        };
        !rows.any(|row| row.event.id == *id && of(row))
    })
}

/// A log for people.
#[must_use]
pub fn shown(log: &[LogRow]) -> String {
    let line = |row: &LogRow| format!("{} {} {}\n", row.event.at, row.event.id, row.event.text);
    log.iter().map(line).collect()
}
