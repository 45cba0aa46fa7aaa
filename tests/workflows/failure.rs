//! Primary server failure: the process dies or hangs, its host is fine.

use anyhow::ensure;
use domain::{EventId, RunMode, events};
use e2e::{
    LIMIT, clean_takeover, last_row, next_incident, ordinary_site, other, site_with, steps_in_order, tells,
    told, whole,
};
use ha_core::IncidentKind;
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::Site;
use std::time::Duration;

/// Killed, in both directions, twice; the agent restarts it each time, and it comes back as backup.
pub fn killed_both_directions_twice(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    for old in ["sip1", "sip2", "sip1", "sip2"] {
        fails_over(&site, old, "server killed", events::APP_TERMINATED, Signal::SIGKILL)?;
    }
    Ok(())
}

/// Stopped by SIGSTOP: its heartbeats stay out (default: 1 s), the agent kills and restarts it.
pub fn hung_and_heartbeats_missed(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let outage = fails_over(&site, "sip1", "server hung, heartbeats", events::APP_NOT_ABLE, Signal::SIGSTOP)?;
    ensure!(outage < Duration::from_millis(1_500), "noticed after {outage:?}, the limit is 1 s");
    Ok(())
}

/// The same where the server promises nothing and is only probed: two OPTIONS in a row stay unanswered.
pub fn hung_and_probe_unanswered(_: &mut Lab) -> anyhow::Result<()> {
    let site = site_with(|cluster| {
        let probed = "notify = false\nwatchdog = false\n\
                      probe = { kind = \"sip-options\", target = \"127.0.0.1:5070\", every = \"200ms\", \
                      timeout = \"100ms\", failures = 2 }\n";
        cluster
            .replace("[applications.sip1]\n", &format!("[applications.sip1]\n{probed}"))
            .replace("[applications.sip2]\n", &format!("[applications.sip2]\n{probed}"))
    })?;
    let outage = fails_over(&site, "sip1", "server hung, probe", events::APP_NOT_ABLE, Signal::SIGSTOP)?;
    ensure!(outage < Duration::from_millis(800), "noticed after {outage:?}, two probes of 200 ms must do");
    Ok(())
}

/// Sends `signal` to the primary `old`, which is logged as `failure`, and follows the whole workflow; how long the client
/// was without an answer.
fn fails_over(
    site: &Site,
    old: &str,
    what: &str,
    failure: EventId,
    signal: Signal,
) -> anyhow::Result<Duration> {
    let new = other(old);
    let (api, prober) = (site.api()?, site.prober()?);
    let begun = netlab::now();
    ensure!(prober.await_answer(old, begun, LIMIT), "{old} does not answer");
    let (row, known) = (last_row(&api)?, api.incidents()?.len());

    let died_of = site.app_pid(old)?;
    site.signal_app(old, signal)?;
    ensure!(prober.await_answer(new, begun, LIMIT), "{new} does not take over\n{}", site.logs());
    whole(site, new)?;

    let takeover = clean_takeover(what, &prober.observe(begun), old, new)?;
    let incident = next_incident(&api, known)?;
    ensure!(incident.kind == IncidentKind::Failure, "{}", told(&incident));
    steps_in_order(&incident)?;
    tells(&api, row, &[(failure, old), (events::NOW_PRIMARY, new), (events::VIP_ENABLED, "")])?;
    tells(
        &api,
        row,
        &[(events::APP_TERMINATED, old), (events::APP_STARTED, old), (events::APP_INITIALIZED, old)],
    )?;
    let view = api.view()?;
    let restarted = view.applications.iter().find(|app| app.name.as_str() == old);
    ensure!(
        restarted.is_some_and(|app| app.mode == Some(RunMode::Backup) && app.pid != Some(died_of)),
        "{old} did not come back as backup: {restarted:#?}"
    );
    Ok(takeover.outage())
}
