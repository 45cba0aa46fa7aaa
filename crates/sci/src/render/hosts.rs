//! Hosts with their figures.

use super::table::{Cell, Table, cell, number, painted};
use super::{Look, Paint, clean, roughly};
use crate::api::{FiguresAt, HostLine};
use domain::{HostFigures, HostStatus, Micros};
use std::time::Duration;

/// Agents send figures every few seconds; older ones are shown as what they are.
const STALE: Duration = Duration::from_secs(30);
/// A certificate that ends within this is worth a colour.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// A stall of the agent that is worth a colour.
const LONG_STALL_US: u64 = 10_000;

/// The hosts as a table. `now`: the SCS's time.
#[must_use]
pub fn hosts(lines: &[HostLine], now: Micros, look: &Look) -> String {
    let mut table = Table::new(&[
        "HOST",
        "STATUS",
        "SINCE",
        "RELEASE",
        "CERTIFICATE",
        "CPU",
        "MEMORY",
        "LOAD",
        "AGENT",
        "STALL",
        "RIGHTS",
        "PUT BACK",
    ]);
    for HostLine { host, figures, certificate } in lines {
        let mut row = vec![
            cell(host.name.as_str()),
            painted(host.status.to_string(), paint_of(host.status)),
            cell(format!("{} ago", roughly(now.since(host.since)))),
            cell(if host.release.is_empty() { "-".to_owned() } else { clean(&host.release) }),
            certificate.as_ref().map_or_else(
                || cell("-"),
                |known| {
                    let soon = known.until < now + SOON;
                    let text = format!("until {}", look.date(known.until));
                    painted(text, if soon { Paint::Warning } else { Paint::Plain })
                },
            ),
        ];
        match figures {
            Some(FiguresAt { received_at, figures }) if now.since(*received_at) < STALE => {
                row.extend(cells(figures))
            }
            Some(_) => row.push(painted("stale", Paint::Dim)),
            None => row.push(painted("-", Paint::Dim)),
        }
        table.row(row);
    }
    table.show(look, "  ")
}

fn paint_of(status: HostStatus) -> Paint {
    match status {
        HostStatus::Up => Paint::Good,
        HostStatus::AgentDown | HostStatus::Unreachable => Paint::Bad,
        HostStatus::Unknown => Paint::Warning,
    }
}

fn cells(f: &HostFigures) -> Vec<Cell> {
    let used = f.memory_total.saturating_sub(f.memory_available);
    let stall = format!("{}.{:03} ms", f.longest_stall_us / 1_000, f.longest_stall_us % 1_000);
    let watchdog = if f.watchdog_s > 0 { format!(", watchdog {} s", f.watchdog_s) } else { String::new() };
    let rights = match (f.real_time, f.memory_locked) {
        (true, true) => painted(format!("real-time{watchdog}"), Paint::Plain),
        (true, false) => painted(format!("real-time, memory not locked{watchdog}"), Paint::Warning),
        (false, true | false) => painted(format!("no real-time{watchdog}"), Paint::Warning),
    };
    vec![
        number(format!("{:.0} %", f.cpu * 100.0)),
        number(format!("{} of {}", bytes(used), bytes(f.memory_total))),
        number(format!("{:.2}", f.load1)),
        number(bytes(f.agent_resident)),
        painted(stall, if f.longest_stall_us > LONG_STALL_US { Paint::Warning } else { Paint::Plain }),
        rights,
        number(f.vips_put_back.to_string()),
    ]
}

/// Bytes in the unit that keeps the number short.
fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => {
            let tenths = u128::from(n) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{n} B"),
    }
}
