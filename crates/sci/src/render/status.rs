//! `takeover status`: each pair with its members and VIPs, what is wrong, what would happen next; hosts; alarms.

use super::drills::drill_line;
use super::table::{Cell, Table, cell, painted};
use super::{Look, Paint, alarms, clean, hosts, roughly};
use crate::api::Status;
use domain::{AppStatus, HostStatus, Micros, RunMode};
use ha_core::{AppView, Freeze, LeaseView, Maintenance, MemberView, PairView, StandbyView, View, VipView};
use scs::store::AlarmRecord;
use std::fmt::Write as _;

/// Whether an operator should look: a pair in trouble, a host that is not up, an active alarm.
#[must_use]
pub fn is_in_trouble(view: &View) -> bool {
    !view.alarms.is_empty()
        || view.pairs.iter().any(|pair| !pair.trouble.is_empty())
        || view.hosts.iter().any(|host| host.status != HostStatus::Up)
}

/// All of it.
#[must_use]
pub fn status(status: &Status, look: &Look) -> String {
    let view = &status.view;
    let mut out = String::new();
    let name = look.paint(Paint::Heading, &clean(&view.cluster));
    let up = roughly(view.at.since(view.started_at));
    let release = clean(&status.release);
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "{name}  {} ({})", look.time(view.at), look.zone_at(view.at));
    let _ = writeln!(out, "SCS {release}, up {up}");
    for pair in &view.pairs {
        out.push('\n');
        out.push_str(&show_pair(pair, view, look));
    }
    let alone: Vec<_> = view.applications.iter().filter(|app| app.pair.is_none()).collect();
    if !alone.is_empty() {
        let _ = writeln!(out, "\n{}", look.paint(Paint::Heading, "Applications outside pairs"));
        out.push_str(&applications(&alone, look));
    }
    let _ = writeln!(out, "\n{}", look.paint(Paint::Heading, "Hosts"));
    out.push_str(&hosts(&status.host_lines(), view.at, look));
    if view.alarms.is_empty() {
        let _ = writeln!(out, "\n{}", look.paint(Paint::Good, "No active alarms"));
    } else {
        let _ = writeln!(out, "\n{}", look.paint(Paint::Heading, "Active alarms"));
        let active = |alarm: &::alarms::ActiveAlarm| AlarmRecord {
            alarm: alarm.clone(),
            ended_at: None,
            ending: None,
        };
        let records: Vec<_> = view.alarms.iter().map(active).collect();
        out.push_str(&alarms(&records, false, look));
    }
    out
}

fn show_pair(pair: &PairView, view: &View, look: &Look) -> String {
    let mut out = String::new();
    let verdict = if !pair.trouble.is_empty() {
        look.paint(Paint::Bad, "TROUBLE")
    } else if let Some(incident) = pair.incident {
        look.paint(Paint::Warning, &format!("incident {incident} under way"))
    } else if pair.frozen {
        look.paint(Paint::Warning, "frozen")
    } else {
        look.paint(Paint::Good, "ok")
    };
    let name = look.paint(Paint::Heading, &format!("Pair {}", pair.name));
    let _ = writeln!(
        out,
        "{name}  {verdict}  {} standby, profile {}, failback {}, epoch {}",
        pair.redundancy, pair.profile, pair.failback, pair.epoch
    );
    for trouble in &pair.trouble {
        let _ = writeln!(out, "  {} {}", look.paint(Paint::Bad, "!"), clean(trouble));
    }
    if let Some(Freeze { since, by, reason }) = &pair.freeze {
        let reason = if reason.is_empty() { String::new() } else { format!(": {}", clean(reason)) };
        let text = format!("frozen by {} since {}{reason}", clean(by), look.time(*since));
        let _ = writeln!(out, "  {} {}", look.paint(Paint::Bad, "!"), text);
    }
    if let Some(Maintenance { until, by, reason, .. }) = &pair.maintenance {
        let left = roughly(until.since(view.at));
        let reason = if reason.is_empty() { String::new() } else { format!(": {}", clean(reason)) };
        let text = format!("maintenance by {}, until {}, {left} left{reason}", clean(by), look.time(*until));
        let _ = writeln!(out, "  {}", look.paint(Paint::Warning, &text));
    }
    let mut table = Table::new(&["MEMBER", "HOST", "STATUS", "MODE", "VIP", "READY"]);
    for member in &pair.members {
        table.row(vec![
            cell(member.app.as_str()),
            cell(member.host.as_str()),
            status_cell(member.status),
            mode_cell(member),
            cell(vips_on(&pair.vips, member)),
            ready_cell(pair, member),
        ]);
    }
    out.push_str(&table.show(look, "  "));
    for app in view.applications.iter().filter(|app| app.status == AppStatus::Suspending) {
        if pair.members.iter().any(|member| member.app == app.name) {
            // What it still has in hand, it says itself.
            let _ = writeln!(out, "  {} {}: {}", look.paint(Paint::Warning, "!"), app.name, clean(&app.text));
        }
    }
    if let Some(lease) = pair.lease.as_ref().filter(|_| !pair.vips.is_empty()) {
        out.push_str(&show_lease(lease, look));
    }
    out.push_str(&show_copies(pair, view.at, look));
    if !pair.reason.is_empty() {
        let _ = writeln!(out, "  {} {}", look.paint(Paint::Dim, "why: "), clean(&pair.reason));
    }
    if !pair.next.is_empty() {
        let _ = writeln!(out, "  {} {}", look.paint(Paint::Dim, "next:"), clean(&pair.next));
    }
    let drills = drill_line(&pair.drills, look);
    if !drills.is_empty() {
        let _ = writeln!(out, "  {} {drills}", look.paint(Paint::Dim, "drills:"));
    }
    out
}

/// What the members of a hot pair have, and how far the copy is behind.
fn show_copies(pair: &PairView, now: Micros, look: &Look) -> String {
    let mut out = String::new();
    for member in &pair.members {
        let Some(StandbyView { told, standby }) = &member.standby else { continue };
        let is_primary = pair.primary.as_ref() == Some(&member.app);
        let behind = match standby.lag_ms {
            Some(lag) => format!("{lag} ms behind"),
            None => "not connected with the other".to_owned(),
        };
        let age = now.since(*told).as_secs();
        // Of a primary it is no matter what would go on.
        let text = if is_primary {
            format!(
                "{} has {} confirmed, {} ringing; {} registered ({age} s ago)",
                member.app, standby.confirmed, standby.ringing, standby.registered
            )
        } else {
            format!("{} would go on with {standby} ({behind}, {age} s ago)", member.app)
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {} {text}",
            look.paint(Paint::Dim, if is_primary { "calls:" } else { "copy: " })
        );
    }
    out
}

/// Who holds the lease and how firmly, what is guaranteed, and what that costs when a host is lost.
fn show_lease(lease: &LeaseView, look: &Look) -> String {
    let mut out = String::new();
    let ms = |us: u64| format!("{} ms", us.div_ceil(1_000));
    let firm = |text: &str| {
        let paint = if lease.backing == 2 { Paint::Plain } else { Paint::Warning };
        look.paint(paint, text)
    };
    let text = match (&lease.holder, lease.told) {
        (Some(host), Some(told)) => format!(
            "{host}, epoch {}, {}, {} of {} left at {}",
            lease.epoch,
            firm(&format!("confirmed by {} of 2 other voters", lease.backing)),
            ms(lease.left_us),
            ms(lease.lasts_us),
            look.time(told)
        ),
        (_, _) => look.paint(Paint::Warning, "nobody that is heard of holds it"),
    };
    let _ = writeln!(out, "  {} {text}", look.paint(Paint::Dim, "lease:"));
    let _ = writeln!(out, "  {} {}", look.paint(Paint::Dim, "guarantee:"), clean(&lease.guarantee));
    let _ = writeln!(
        out,
        "  {} a holder's host that is cut off, or whose agent is stopped: served again within {}",
        look.paint(Paint::Dim, "worst case:"),
        ms(lease.host_cut_us)
    );
    out
}

fn status_cell(status: AppStatus) -> Cell {
    let paint = match status {
        AppStatus::Started => Paint::Good,
        AppStatus::StartPending | AppStatus::Initializing | AppStatus::Suspending | AppStatus::Suspended => {
            Paint::Warning
        }
        AppStatus::StopPending | AppStatus::Unknown => Paint::Warning,
        AppStatus::Stopped | AppStatus::ServiceUnavailable => Paint::Bad,
    };
    painted(status.to_string(), paint)
}

/// The mode as reported, and where it is going where that differs.
fn mode_cell(member: &MemberView) -> Cell {
    let mode = member.mode.map_or_else(|| "-".to_owned(), |mode| mode.to_string());
    let text = match member.goal {
        _ if !member.current && member.mode.is_some() => format!("{mode} (last known)"),
        Some(goal) if member.current && member.mode.is_some() && member.mode != Some(goal) => {
            format!("{mode} -> {goal}")
        }
        Some(_) | None => mode,
    };
    let paint = match member.mode {
        Some(RunMode::Primary) if member.current => Paint::Good,
        Some(RunMode::Primary | RunMode::Backup | RunMode::Exiting) | None => Paint::Plain,
    };
    painted(text, paint)
}

/// The VIPs that are on the member's host.
fn vips_on(vips: &[VipView], member: &MemberView) -> String {
    let place = |vip: &VipView| {
        let place = vip.places.iter().find(|place| place.host == member.host)?;
        match place.enabled {
            Some(true) => Some(vip.address.to_string()),
            Some(false) => None,
            None => Some(format!("{}?", vip.address)),
        }
    };
    let there: Vec<_> = vips.iter().filter_map(place).collect();
    if there.is_empty() { "-".to_owned() } else { there.join(" ") }
}

fn ready_cell(pair: &PairView, member: &MemberView) -> Cell {
    match &member.ready {
        // Ready to take over is what the other one has to be.
        _ if pair.wanted_primary.as_ref() == Some(&member.app) => cell("-"),
        Ok(()) => painted("yes", Paint::Good),
        Err(why) => painted(format!("no: {}", clean(why)), Paint::Bad),
    }
}

fn applications(apps: &[&AppView], look: &Look) -> String {
    let mut table = Table::new(&["APPLICATION", "HOST", "STATUS", "PID", "RESTARTS", "SINCE", "TEXT"]);
    for app in apps {
        table.row(vec![
            cell(app.name.as_str()),
            cell(app.host.as_str()),
            status_cell(app.status),
            super::table::number(app.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
            super::table::number(app.restarts.to_string()),
            cell(look.time(app.since)),
            cell(clean(&app.text)),
        ]);
    }
    table.show(look, "  ")
}
