//! How long takeovers took, from the incidents that are kept, beside what the pair's profile promises at the worst. Pure:
//! incidents in, figures out.

use crate::api::{Spread, TakeoverTimes};
use domain::{Micros, PairName};
use ha_core::{Incident, IncidentKind, IncidentOutcome};
use std::collections::BTreeMap;

/// What the change of mode and packets on their way may take on top of a promise, which is about what has to be waited for.
const ON_TOP_US: u64 = 20_000;

/// One line for each pair and kind of takeover, by pair, then in the order of the workflows. `promises`: within what time
/// service is back after a host was cut off, microseconds, by pair.
#[must_use]
pub fn takeover_times(incidents: &[Incident], promises: &BTreeMap<PairName, u64>) -> Vec<TakeoverTimes> {
    let mut groups: BTreeMap<(&PairName, u8), Group> = BTreeMap::new();
    for incident in incidents {
        let (Some(order), Some(served), Some(ended)) =
            (order(incident.kind), incident.served_at(), incident.ended)
        else {
            continue;
        };
        if incident.outcome != IncidentOutcome::Completed {
            continue;
        }
        let group = groups.entry((&incident.pair, order)).or_insert_with(|| Group {
            kind: incident.kind,
            service: Vec::new(),
            confirmed: Vec::new(),
        });
        let us =
            |until: Micros| until.0.saturating_sub(incident.begun.0).saturating_add(incident.unnoticed_us);
        group.service.push(us(served));
        group.confirmed.push(us(ended));
    }
    let line = |((pair, _), group): ((&PairName, u8), Group)| {
        let promise_us = promises.get(pair).copied();
        let service = spread(group.service);
        TakeoverTimes {
            pair: pair.clone(),
            kind: group.kind,
            kept: promise_us.map(|promise| service.worst_us <= promise.saturating_add(ON_TOP_US)),
            service,
            confirmed: spread(group.confirmed),
            promise_us,
        }
    };
    groups.into_iter().map(line).collect()
}

/// Times of one pair and kind, microseconds.
struct Group {
    kind: IncidentKind,
    service: Vec<u64>,
    confirmed: Vec<u64>,
}

/// The place of a kind in the list; none: it is no takeover.
fn order(kind: IncidentKind) -> Option<u8> {
    match kind {
        IncidentKind::Manual => Some(0),
        IncidentKind::Failure => Some(1),
        IncidentKind::Disconnected => Some(2),
        // Service stays where it is, and begins for the first time.
        IncidentKind::Reconnected | IncidentKind::FirstPrimary => None,
    }
}

/// Of at least one time.
fn spread(mut times: Vec<u64>) -> Spread {
    times.sort_unstable();
    Spread {
        count: times.len(),
        median_us: rank(&times, 50),
        p90_us: rank(&times, 90),
        p99_us: rank(&times, 99),
        worst_us: rank(&times, 100),
    }
}

/// The value that so many per cent are not above, by nearest rank: of fewer than 100 values p99 is the worst.
fn rank(sorted: &[u64], per_cent: usize) -> u64 {
    let at = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}
