//! The Alarm Conditions that every installation has without writing them: those that are shipped, and for each pair the
//! wiring through which a VIP follows the primary mode.

use domain::{
    AlarmCondition, AppName, Category, Detect, DetectSource, EventId, Pair, PairName, Reaction, events,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an alarm stays active without a repeat, unless its condition says otherwise.
pub(crate) const CLEARANCE_TIMEOUT: Duration = Duration::from_secs(86_400);

/// A row of the shipped table: name, category, what raises it, what clears it.
type Row = (&'static str, Category, EventId, &'static [EventId]);

/// What is shipped. Critical is what callers notice or will at the next fault that nobody can undo; major what costs
/// redundancy; minor what can wait for working hours.
const SHIPPED: &[Row] = &[
    // Over once the application is ready again. That its process runs again is not enough: it may fail while it
    // initializes.
    ("application-failure", Category::Major, events::APP_TERMINATED, &[events::APP_INITIALIZED]),
    // A restart ends this too: the new process says that it is ready, not that it is able again.
    (
        "service-unavailable",
        Category::Major,
        events::APP_NOT_ABLE,
        &[events::APP_ABLE, events::APP_INITIALIZED],
    ),
    ("host-inaccessible", Category::Major, events::HOST_INACCESSIBLE, &[events::HOST_NORMAL]),
    ("host-unavailable", Category::Major, events::HOST_UNAVAILABLE, &[events::HOST_NORMAL]),
    ("host-unreachable", Category::Major, events::HOST_UNREACHABLE, &[events::HOST_NORMAL]),
    // The six below are about what callers get. PAIR_NORMAL and VIP_NORMAL come when it is as it should be again.
    ("pair-without-primary", Category::Critical, events::NO_PRIMARY, &[events::PAIR_NORMAL]),
    ("pair-with-two-primaries", Category::Critical, events::TWO_PRIMARIES, &[events::PAIR_NORMAL]),
    ("vip-without-holder", Category::Critical, events::VIP_NO_HOLDER, &[events::VIP_NORMAL]),
    ("vip-on-two-hosts", Category::Critical, events::VIP_TWO_HOSTS, &[events::VIP_NORMAL]),
    // Its kernel has the address, and callers reach another machine or none.
    ("vip-not-confirmed", Category::Critical, events::VIP_NOT_CONFIRMED, &[events::VIP_CONFIRMED]),
    ("vip-withheld", Category::Critical, events::VIP_WITHHELD, &[events::VIP_RETURNED]),
    // No event says that the other machine has gone; an operator clears it, or it runs out, see `STRANGER_TIMEOUT`.
    ("vip-answered-by-stranger", Category::Critical, events::VIP_DUPLICATE, &[]),
    ("backup-not-ready", Category::Major, events::BACKUP_NOT_READY, &[events::BACKUP_READY]),
    ("flapping", Category::Major, events::FLAPPING, &[events::STABLE_AGAIN]),
    // While it is active nothing fails over: only an operator's acknowledgement ends it.
    ("pair-frozen", Category::Critical, events::PAIR_FROZEN, &[events::PAIR_THAWED]),
    // Whoever freezes a pair means it; this is so that nobody forgets it.
    ("pair-frozen-by-hand", Category::Major, events::FROZEN_BY_HAND, &[events::UNFROZEN_BY_HAND]),
    // The backup did not serve, or service could not come back: found on a quiet night. The next drill that passes ends it.
    ("drill-failed", Category::Major, events::DRILL_FAILED, &[events::DRILL_PASSED]),
    ("script-failed", Category::Major, events::SCRIPT_FAILED, &[events::SCRIPT_SUCCEEDED]),
    // An agent of the right release is back in normal condition; one of the wrong release raises it again.
    ("release-drift", Category::Minor, events::RELEASE_DRIFT, &[events::HOST_NORMAL]),
    ("lease-strained", Category::Minor, events::LEASE_STRAINED, &[events::LEASE_STEADY]),
    // Promises and leases are timed by it.
    ("clock-strays", Category::Critical, events::CLOCK_STRAYS, &[events::CLOCK_KEEPS]),
    ("lease-lost", Category::Major, events::LEASE_LOST, &[events::LEASE_HELD]),
    ("lease-thinly-backed", Category::Minor, events::BACKING_LOW, &[events::BACKING_FULL]),
    ("gate-missing", Category::Major, events::GATE_MISSING, &[events::GATE_WHOLE]),
    // It stands again by then; who removed it is for a person to find out.
    ("gate-disturbed", Category::Major, events::GATE_DISTURBED, &[]),
    // Which trunk is in the text; one that is back ends it for all of them.
    ("trunk-out-of-service", Category::Major, events::TRUNK_OUT, &[events::TRUNK_IN]),
    ("call-records-failed", Category::Major, events::CDR_FAILED, &[events::CDR_BACK]),
    ("solution-pending", Category::Major, events::SOLUTION_PENDING, &[events::SOLUTION_BACK]),
    // Records of the time since would be lost with the process.
    ("store-failed", Category::Major, events::STORE_FAILED, &[events::STORE_BACK]),
];

/// How long another machine's answer for a VIP is alarming: it is heard again if it is still there, and a host that was
/// cut off and comes back is heard for a moment in the ordinary course of things.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(600);

/// The Alarm Conditions that are shipped, by name: about any application or host, without reactions.
#[must_use]
pub fn shipped_conditions() -> BTreeMap<String, AlarmCondition> {
    let condition = |(name, category, event, cancel): &Row| {
        let condition = AlarmCondition {
            category: *category,
            detect: Detect { event: *event, source: DetectSource::Any },
            cancel: cancel.to_vec(),
            clearance_timeout: if cancel.is_empty() { STRANGER_TIMEOUT } else { CLEARANCE_TIMEOUT },
            reactions: Vec::new(),
            clearance_reactions: Vec::new(),
            refire: false,
            hidden: false,
            enabled: true,
        };
        ((*name).to_owned(), condition)
    };
    SHIPPED.iter().map(condition).collect()
}

/// The wiring of one pair: a member that changed to primary mode gets the VIPs (taken from the other first, so that
/// two hosts never answer), one that changed to backup mode loses them. Empty for a pair without VIPs.
///
/// The names have a space and so never meet a condition of the file. Each condition is cleared by the opposite change,
/// and `refire` runs the reactions for every change, even if that one was never seen. Hidden, because it is no trouble.
#[must_use]
pub fn vip_wiring(name: &PairName, pair: &Pair) -> BTreeMap<String, AlarmCondition> {
    if pair.vips.is_empty() {
        return BTreeMap::new();
    }
    let wire = |member: &AppName, event, cancel, reactions| AlarmCondition {
        category: Category::Minor,
        detect: Detect { event, source: DetectSource::Application(member.clone()) },
        cancel: vec![cancel],
        clearance_timeout: CLEARANCE_TIMEOUT,
        reactions,
        clearance_reactions: Vec::new(),
        refire: true,
        hidden: true,
        enabled: true,
    };
    let of_member = |member: &AppName| {
        let pair = name.clone();
        let gain = vec![
            Reaction::DisableVipOnOther { pair: pair.clone() },
            Reaction::EnableVip { pair: pair.clone() },
        ];
        let lose = vec![Reaction::DisableVip { pair }];
        [
            (
                format!("{name} primary wiring {member}"),
                wire(member, events::NOW_PRIMARY, events::NOW_BACKUP, gain),
            ),
            (
                format!("{name} backup wiring {member}"),
                wire(member, events::NOW_BACKUP, events::NOW_PRIMARY, lose),
            ),
        ]
    };
    pair.members.iter().flat_map(of_member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::EventKind;

    #[test]
    fn every_shipped_condition_is_about_registered_events_and_can_end() {
        let shipped = shipped_conditions();
        assert_eq!(shipped.len(), SHIPPED.len(), "a name is used twice");
        for (name, condition) in shipped {
            assert!(domain::ScriptName::new(&name).is_ok(), "a file must be able to name {name}");
            assert!(EventKind::find(condition.detect.event).is_some());
            assert!(!condition.cancel.contains(&condition.detect.event), "{name} would clear itself");
            assert!(condition.cancel.iter().all(|id| EventKind::find(*id).is_some()));
            let by_time = ["vip-answered-by-stranger", "gate-disturbed"].contains(&name.as_str());
            assert!(!condition.cancel.is_empty() || by_time, "{name} never ends");
        }
    }
}
