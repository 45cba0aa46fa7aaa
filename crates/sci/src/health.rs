//! What a monitoring system is told: one state and one line, after the conventions of the monitoring plugins that Nagios,
//! Icinga and others run (<https://www.monitoring-plugins.org/doc/guidelines.html>). Pure: a status in, a verdict out.

use crate::api::Status;
use crate::render::clean;
use alarms::Source;
use domain::{Category, GateReport, HostStatus, PairName, RunMode};
use ha_core::{Freeze, LeaseView, MemberView, PairView, VipView};
use serde::Serialize;
use std::fmt::{self, Write as _};

/// Problems that the line names; of more it says how many, the worst come first.
const NAMED: usize = 5;
/// Other voters that confirm a holder where nothing is missing.
const FULL_BACKING: u8 = 2;

/// How it is; the number is the plugin's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything is as it should be.
    Ok = 0,
    /// Service is there, and something is missing that the next fault may need.
    Warning = 1,
    /// Callers notice, or will at the next fault.
    Critical = 2,
    /// It cannot be said.
    Unknown = 3,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "OK",
            Verdict::Warning => "WARNING",
            Verdict::Critical => "CRITICAL",
            Verdict::Unknown => "UNKNOWN",
        })
    }
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How it is.
    pub verdict: Verdict,
    /// One line, with performance data behind a `|`.
    pub line: String,
}

impl Health {
    /// It cannot be said, and why.
    #[must_use]
    pub fn unknown(why: &str) -> Self {
        Self::new(Verdict::Unknown, why, "")
    }

    fn new(verdict: Verdict, text: &str, figures: &str) -> Self {
        let text = clean(text).replace('|', "/");
        let bar = if figures.is_empty() { "" } else { " | " };
        Self { verdict, line: format!("TAKEOVER {verdict} - {text}{bar}{figures}") }
    }
}

/// Something that is not as it should be.
type Problem = (Verdict, String);

/// How the installation is; with `pair`, that pair with its members and their hosts.
#[must_use]
pub fn health(status: &Status, pair: Option<&PairName>) -> Health {
    match pair {
        None => of_all(status),
        Some(name) => match status.view.pairs.iter().find(|pair| pair.name == *name) {
            Some(pair) => of_one(status, pair),
            None => Health::unknown(&format!("there is no pair {name}")),
        },
    }
}

fn of_all(status: &Status) -> Health {
    let view = &status.view;
    let of_pairs: Vec<_> = view.pairs.iter().map(problems).collect();
    let pairs_in = |verdict| of_pairs.iter().filter(|found| worst(found) == verdict).count();
    let away = view.hosts.iter().filter(|host| host.status != HostStatus::Up).count();
    let figures = format!(
        "pairs={};;;0 pairs_critical={};;;0 pairs_warning={};;;0 hosts={};;;0 hosts_not_up={away};;;0 alarms={};;;0",
        view.pairs.len(),
        pairs_in(Verdict::Critical),
        pairs_in(Verdict::Warning),
        view.hosts.len(),
        view.alarms.len(),
    );
    let mut found: Vec<Problem> = of_pairs.into_iter().flatten().collect();
    found.extend(troubled_hosts(status, |_| true));
    found.extend(alarmed(status, |_| true));
    let pairs = count(view.pairs.len(), "pair");
    let hosts = count(view.hosts.len(), "host");
    let well = match view.pairs.iter().filter(|pair| pair.maintenance.is_some()).count() {
        0 => format!("{pairs} with primary and ready backup, {hosts} up, no alarms"),
        worked_on => format!("{pairs} with primary, {worked_on} in maintenance, {hosts} up"),
    };
    verdict(found, &well, &figures)
}

fn of_one(status: &Status, pair: &PairView) -> Health {
    let is_ours = |source: &Source| match source {
        Source::Application(app) => pair.members.iter().any(|member| member.app == *app),
        Source::Host(host) => pair.members.iter().any(|member| member.host == *host),
        Source::Cluster => false,
    };
    let mut found = problems(pair);
    found.extend(troubled_hosts(status, |host| pair.members.iter().any(|member| member.host == *host)));
    found.extend(alarmed(status, is_ours));
    let describe = |member: &MemberView| {
        let mode = member.mode.map_or_else(|| "unknown".to_owned(), |mode| mode.to_string());
        format!("{} on {} {mode}", member.app, member.host)
    };
    let members: Vec<_> = pair.members.iter().map(describe).collect();
    let worked_on = if pair.maintenance.is_some() { ", in maintenance" } else { "" };
    verdict(found, &format!("pair {}: {}{worked_on}", pair.name, members.join(", ")), &figures_of(pair))
}

fn verdict(mut found: Vec<Problem>, well: &str, figures: &str) -> Health {
    let verdict = worst(&found);
    // Stable: problems of the same weight stay in the order in which they were looked for.
    found.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    let more = found.len().saturating_sub(NAMED);
    let mut text = found.iter().take(NAMED).map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    if more > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, "; and {more} more");
    }
    Health::new(verdict, if found.is_empty() { well } else { &text }, figures)
}

fn worst(found: &[Problem]) -> Verdict {
    found.iter().map(|(verdict, _)| *verdict).max().unwrap_or(Verdict::Ok)
}

/// What is wrong with a pair, worked out from its state, not from the words about it.
fn problems(pair: &PairView) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |verdict, text: String| found.push((verdict, format!("{}: {text}", pair.name)));
    let is_primary = |member: &&MemberView| member.current && member.mode == Some(RunMode::Primary);
    let primaries: Vec<_> = pair.members.iter().filter(is_primary).collect();
    match primaries.as_slice() {
        [] => say(Verdict::Critical, no_primary(pair)),
        [_] => {}
        [_, ..] => say(Verdict::Critical, "two primaries".to_owned()),
    }
    for vip in &pair.vips {
        if let Some(text) = misplaced(vip) {
            say(Verdict::Critical, text);
        }
    }
    if let Some((verdict, text)) = pair.lease.as_ref().filter(|_| !pair.vips.is_empty()).and_then(unbacked) {
        say(verdict, text);
    }
    if pair.frozen {
        let text = match &pair.freeze {
            Some(Freeze { by, .. }) => {
                format!("frozen by {}, no automatic failover until `takeover unfreeze`", clean(by))
            }
            None => "frozen after flapping, no automatic failover until `takeover acknowledge`".to_owned(),
        };
        say(Verdict::Warning, text);
    }
    for member in &pair.members {
        // Ready to take over is what the other one has to be.
        let wanted = pair.wanted_primary.as_ref() == Some(&member.app);
        if let (false, Err(why)) = (wanted, &member.ready) {
            say(Verdict::Warning, format!("{} cannot take over: {why}", member.app));
        }
    }
    if pair.maintenance.is_some() {
        // What is missing for the next fault is what somebody is working on.
        found.retain(|(verdict, _)| *verdict == Verdict::Critical);
    }
    found
}

/// Nobody is reported to be primary; who was when its host went out of sight may still be.
fn no_primary(pair: &PairView) -> String {
    let was = pair.members.iter().find(|member| !member.current && member.mode == Some(RunMode::Primary));
    match was {
        Some(member) => {
            format!("no primary in sight; {} was it, and {} is not heard", member.app, member.host)
        }
        None => "no primary".to_owned(),
    }
}

/// A VIP that no host has, or several do. What is not known is not said: the host that is away is a problem by itself.
fn misplaced(vip: &VipView) -> Option<String> {
    let there: Vec<_> = vip.places.iter().filter(|place| place.enabled == Some(true)).collect();
    let known = vip.places.iter().all(|place| place.enabled.is_some());
    match there.as_slice() {
        [] if known => Some(format!("VIP {} is on no host", vip.address)),
        [] | [_] => None,
        [_, ..] => Some(format!("VIP {} is on {} hosts", vip.address, there.len())),
    }
}

/// A lease that too few voters confirm.
fn unbacked(lease: &LeaseView) -> Option<Problem> {
    // Agents of before there were leases tell neither of leases nor of gates.
    let told = lease.gates.iter().any(|gate| *gate != GateReport::Unknown);
    match (&lease.holder, lease.backing) {
        (None, _) if told => Some((Verdict::Critical, "nobody that is heard of holds the lease".to_owned())),
        (None, _) => None,
        (Some(host), 0) => {
            Some((Verdict::Critical, format!("no other voter confirms the lease of {host}, it runs out")))
        }
        (Some(host), backing) if backing < FULL_BACKING => {
            let text = format!("only {backing} of {FULL_BACKING} other voters confirms the lease of {host}");
            Some((Verdict::Warning, text))
        }
        (Some(_), _) => None,
    }
}

fn troubled_hosts(status: &Status, ours: impl Fn(&domain::HostName) -> bool) -> Vec<Problem> {
    let away =
        status.view.hosts.iter().filter(|host| host.status != HostStatus::Up).filter(|host| ours(&host.name));
    away.map(|host| (Verdict::Warning, format!("host {} is {}", host.name, host.status))).collect()
}

fn alarmed(status: &Status, ours: impl Fn(&Source) -> bool) -> Vec<Problem> {
    let worked_on = |source: &Source| match source {
        Source::Application(app) => {
            let has = |pair: &&PairView| pair.members.iter().any(|member| member.app == *app);
            status.view.pairs.iter().find(has).is_some_and(|pair| pair.maintenance.is_some())
        }
        Source::Host(_) | Source::Cluster => false,
    };
    let weigh = |alarm: &alarms::ActiveAlarm| {
        let verdict = match alarm.category {
            Category::Critical => Verdict::Critical,
            Category::Major if worked_on(&alarm.source) => return None,
            Category::Major => Verdict::Warning,
            // What can wait for working hours is in the figures.
            Category::Minor => return None,
        };
        let text =
            format!("alarm {} {} ({}): {}", alarm.number, alarm.condition, alarm.category, alarm.source);
        Some((verdict, text))
    };
    status.view.alarms.iter().filter(|alarm| ours(&alarm.source)).filter_map(weigh).collect()
}

/// Performance data of one pair. Durations in seconds, which is the convention's unit.
fn figures_of(pair: &PairView) -> String {
    let mut out = format!("epoch={};;;0", pair.epoch);
    if let Some(lease) = pair.lease.as_ref().filter(|_| !pair.vips.is_empty()) {
        // Writing to a string does not fail, here and below.
        let _ = write!(
            out,
            " backing={};{FULL_BACKING}:;1:;0;{FULL_BACKING} lease_left={}s;;;0;{}",
            lease.backing,
            seconds(lease.left_us),
            seconds(lease.lasts_us)
        );
    }
    let backup = pair.members.iter().find(|member| pair.wanted_primary.as_ref() != Some(&member.app));
    if let Some(standby) = backup.and_then(|member| member.standby.as_ref()) {
        if let Some(lag) = standby.standby.lag_ms {
            let _ = write!(out, " copy_behind={}s;;;0", seconds(lag.saturating_mul(1_000)));
        }
        let _ = write!(out, " calls={};;;0", standby.standby.confirmed);
    }
    out
}

/// Microseconds as seconds with six decimals.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
