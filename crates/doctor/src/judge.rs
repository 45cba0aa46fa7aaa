//! From facts to findings. Pure: the same facts give the same report, and every threshold is in one of these files.

mod kernel;
mod network;
mod time;

use crate::facts::{Facts, Gate, NET_ADMIN, NET_RAW};
use crate::report::{Finding, Level, ProfileVerdict, Report};
use domain::Profile;
use lease::{DRIFT_PPM, Timing};
use std::time::Duration;

/// Judges.
#[must_use]
pub fn judge(facts: &Facts) -> Report {
    let mut findings = Vec::new();
    kernel::judge(facts, &mut findings);
    time::judge(facts, &mut findings);
    network::judge(facts, &mut findings);
    Report {
        kernel: facts.kernel.clone(),
        guarantee: guarantee(facts, &findings),
        profiles: profiles(facts),
        findings,
    }
}

/// What may be relied on, on this host; the other host of a pair has its own.
fn guarantee(facts: &Facts, findings: &[Finding]) -> String {
    let bad = |check: &str| findings.iter().any(|f| f.check == check && f.level == Level::Error);
    if !facts.rights.has(NET_ADMIN) || !facts.rights.has(NET_RAW) {
        "none: this process can neither move nor announce a VIP".to_owned()
    } else if bad("clock-rate") {
        format!("none while the clock runs more than {DRIFT_PPM} ppm off: leases are made for less")
    } else {
        match &facts.gate {
            Gate::Works(_) => "lease and gate: two hosts never answer for a VIP, also while the agent is stopped, killed or \
                               starved"
                .to_owned(),
            Gate::Lacks(_) => "lease without gate: two hosts may answer for a VIP while the agent of one of them is stopped, \
                               killed or starved"
                .to_owned(),
            Gate::Unknown => "lease; whether there is a gate is not known".to_owned(),
        }
    }
}

/// The longest stall measured is what counts, with the agent's own scheduling: a lease is lost by one.
fn profiles(facts: &Facts) -> Vec<ProfileVerdict> {
    let Some(jitter) = &facts.jitter else { return Vec::new() };
    let stall = Duration::from_micros(jitter.real_time.unwrap_or(jitter.ordinary).max_us);
    let verdict = |profile: String, timing: Timing| ProfileVerdict {
        profile,
        flappy: timing.flappy(stall).map(|flappy| flappy.to_string()),
    };
    let named = Profile::NAMED.map(|profile| verdict(format!("\"{profile}\""), profile.into()));
    let own = facts.pairs.iter().filter(|(_, profile)| !Profile::NAMED.contains(profile));
    let own = own.map(|(pair, profile)| verdict(format!("\"{profile}\" of pair {pair}"), (*profile).into()));
    named.into_iter().chain(own).collect()
}

/// Microseconds as milliseconds.
fn millis(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

#[cfg(test)]
mod tests;
