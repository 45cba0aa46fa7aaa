//! What was foreseen, in words: the same few sentences for every fault, each from what came out.

use super::{Consequence, Fault, Scene};
use domain::{GateReport, format_duration};
use std::time::Duration;

/// The fault with names.
pub(super) fn title(scene: &Scene<'_>, fault: Fault) -> String {
    let Scene { primary, primary_host, backup_host, .. } = scene;
    match fault {
        Fault::PrimaryDies => format!("the process of {primary} ends"),
        Fault::PrimaryHangs => format!("{primary} hangs"),
        Fault::PrimaryHostDies => format!("{primary_host} dies"),
        Fault::PrimaryHostCut => format!("{primary_host} is cut off from the network"),
        Fault::PrimaryAgentDies => format!("the agent on {primary_host} dies and is not started again"),
        Fault::BackupHostDies => format!("{backup_host} dies"),
        Fault::PeerLinkCut => {
            format!("the agents on {primary_host} and {backup_host} do not hear each other")
        }
        Fault::ScsDies => "the SCS dies".to_owned(),
    }
}

/// What comes of it. `reason`: of the last decision; `frozen`: nothing fails over by itself then.
pub(super) fn text(scene: &Scene<'_>, told: &Consequence, reason: &str, frozen: bool) -> String {
    let mut sentences = Vec::new();
    sentences.extend(noticed(scene, told));
    sentences.push(role(scene, told, reason));
    sentences.extend(old_holder(scene, told));
    sentences.extend(margin(scene, told, frozen));
    sentences.extend(copy(scene, told));
    if !told.alarms.is_empty() {
        sentences.push(format!("Alarms: {}.", told.alarms.join(", ")));
    }
    sentences.join(" ")
}

fn noticed(scene: &Scene<'_>, told: &Consequence) -> Option<String> {
    Some(match (told.noticed_us, told.fault) {
        (None, fault) if scene.takes_scs(fault) => {
            let with_it = if fault == Fault::ScsDies { "" } else { "The SCS is lost with it. " };
            format!(
                "{with_it}Nobody takes orders, logs or raises alarms until the SCS is back; agents go on by themselves."
            )
        }
        (None, _) => {
            format!("Nobody notices: {} has neither heartbeats (`watchdog`) nor a probe.", scene.primary)
        }
        (Some(0), _) => return None,
        (Some(us), _) => format!("It is noticed after {} at the latest.", ms(us)),
    })
}

fn role(scene: &Scene<'_>, told: &Consequence, reason: &str) -> String {
    match (&told.primary, told.away_us) {
        (Some(app), Some(0)) if !told.moves && told.fault != Fault::PrimaryDies => {
            format!("{app} goes on serving; callers notice nothing.")
        }
        (Some(app), Some(0)) if told.moves => {
            format!("{app} takes over at once: nothing has to be waited for, which takes milliseconds.")
        }
        (Some(app), Some(us)) if told.moves => {
            format!("{app} takes over; nobody serves for {} at the most.", ms(us))
        }
        (Some(app), Some(us)) => {
            format!(
                "{app} is started again and serves; nobody does for {} and as long as its start takes.",
                ms(us)
            )
        }
        (Some(app), None) => format!("{app} has the role."),
        (None, _) if told.backing == Some(0) => {
            let lasts = format_duration(scene.timing.hold());
            format!(
                "No other voter is left to confirm the lease of {}: service ends within {lasts}.",
                scene.primary
            )
        }
        (None, _) if told.noticed_us.is_none() && scene.takes_scs(told.fault) => {
            format!("Nobody serves: of the three voters only the agent on {} is left.", scene.backup_host)
        }
        (None, _) if told.noticed_us.is_none() => {
            format!("{} keeps the role and does not serve.", scene.primary)
        }
        (None, _) if told.moves => "The role moves, and service is not back within a minute.".to_owned(),
        (None, _) => format!("Nobody takes over: {reason}."),
    }
}

/// What becomes of the old primary's VIPs where it does not let go itself.
fn old_holder(scene: &Scene<'_>, told: &Consequence) -> Option<String> {
    if scene.pair.vips.is_empty() || !told.moves {
        return None;
    }
    let host = scene.primary_host;
    let lasts = format_duration(scene.timing.hold());
    match (told.fault, scene.gate()) {
        (Fault::PrimaryHostCut | Fault::PrimaryAgentDies, GateReport::Kernel) => Some(format!(
            "On {host} the kernel closes the gate when the lease ends, {lasts} after its last renewal: never two answer."
        )),
        (Fault::PrimaryHostCut, GateReport::Agent { .. } | GateReport::Unknown) => Some(format!(
            "On {host} the agent removes the VIPs when the lease ends, {lasts} after its last renewal."
        )),
        (Fault::PrimaryAgentDies, GateReport::Agent { why }) => Some(format!(
            "No gate in the kernel ends the lease on {host} ({why}): until the VIPs run out there, two may answer."
        )),
        (Fault::PrimaryAgentDies, GateReport::Unknown) => {
            Some(format!("Whether a gate in the kernel ends the lease on {host} is not known."))
        }
        (
            Fault::PrimaryDies
            | Fault::PrimaryHangs
            | Fault::PrimaryHostDies
            | Fault::BackupHostDies
            | Fault::PeerLinkCut
            | Fault::ScsDies,
            GateReport::Kernel | GateReport::Agent { .. } | GateReport::Unknown,
        ) => None,
    }
}

/// What is left for the next fault.
fn margin(scene: &Scene<'_>, told: &Consequence, frozen: bool) -> Option<String> {
    let primary = told.primary.as_ref()?;
    let other = scene.pair.other(primary);
    let prefix = format!("{other} cannot take over: ");
    let backup = match told.trouble.iter().find_map(|trouble| trouble.strip_prefix(&prefix)) {
        Some(why) => format!("{other} cannot take over then ({why})"),
        None => format!("{other} is backup then"),
    };
    let lease = match told.backing {
        _ if frozen => "; nobody takes over at the next fault, the pair is frozen",
        Some(2) => "; any further single loss is survived",
        Some(_) => "; one more loss may end service",
        None => "",
    };
    Some(format!("{backup}{lease}."))
}

/// What goes on at the backup of a hot pair.
fn copy(scene: &Scene<'_>, told: &Consequence) -> Option<String> {
    if !told.moves {
        return None;
    }
    let lines = scene.state.what_callers_notice(scene.pair, Some(scene.primary), scene.backup, scene.now);
    (!lines.is_empty()).then(|| format!("Calls: {}.", lines.join("; ")))
}

/// Microseconds rounded up: to milliseconds, and to seconds where milliseconds do not matter.
fn ms(us: u64) -> String {
    const LONG_MS: u64 = 10_000;
    let ms = us.div_ceil(1_000);
    format_duration(if ms > LONG_MS {
        Duration::from_secs(ms.div_ceil(1_000))
    } else {
        Duration::from_millis(ms)
    })
}
