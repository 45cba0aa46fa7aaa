//! Where the time goes: the steps that the SCS recorded of many role changes of one kind, each with its median distance
//! from the client's event.

use crate::ours::Recorded;
use crate::sample::Summary;
use ha_core::Phase;
use serde::Serialize;
use std::collections::BTreeMap;

/// One step of a kind of role change.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its number in the workflow, if it has one.
    pub number: Option<u8>,
    /// What it is, and where.
    pub what: String,
    /// From the event, µs.
    pub at_us: Summary,
}

/// Which steps of different incidents are the same one: the first, second, ... of a phase on a side.
type Key = (Phase, &'static str, usize);

/// The steps in the order of their medians.
#[must_use]
pub fn steps(recorded: &[Recorded]) -> Vec<Step> {
    let mut found: BTreeMap<Key, (Option<u8>, Vec<u64>)> = BTreeMap::new();
    for one in recorded {
        let mut seen: BTreeMap<(Phase, &str), usize> = BTreeMap::new();
        for step in &one.incident.steps {
            let side = match &step.host {
                None => "",
                Some(host) if host.as_str() == one.old_host => "old host",
                Some(_) => "new host",
            };
            let nth = seen.entry((step.phase, side)).or_insert(0);
            *nth += 1;
            let (_, times) =
                found.entry((step.phase, side, *nth)).or_insert_with(|| (step.number, Vec::new()));
            times.push(crate::sample::us(step.at.since(one.event)));
        }
    }
    let mut steps: Vec<Step> = found
        .into_iter()
        .filter_map(|((phase, side, nth), (number, times))| {
            let nth = if nth == 1 { String::new() } else { format!(" ({nth})") };
            let what = [phase.to_string(), side.to_owned()].join(" ").trim_end().to_owned() + &nth;
            Some(Step { number, what, at_us: Summary::of(times)? })
        })
        .collect();
    steps.sort_by_key(|step| step.at_us.median);
    steps
}
