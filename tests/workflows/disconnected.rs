//! Primary server disconnected, and the reconnection of a disconnected primary.

use anyhow::ensure;
use domain::events;
use e2e::{
    LIMIT, clean_takeover, host_of, last_row, next_incident, ordinary_site, other, steps_in_order, tells,
    told, whole,
};
use ha_core::{Incident, IncidentKind, Phase};
use netlab::{Direction, Lab, LabError, Prober};
use rehearsal::Site;
use std::time::Duration;

/// The port of the primary's host goes down and comes up again, in both directions.
pub fn cut_and_reconnected_both_directions(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    for old in ["sip1", "sip2"] {
        let (api, prober) = (site.api()?, site.prober()?);
        let outage = loses(&mut site, &prober, old, "host cut off", |lab| lab.cut(host_of(old)))?;
        ensure!(
            outage < Duration::from_millis(650),
            "profile normal promises less than {outage:?}\n{}\n{}",
            e2e::shown(&api.log()?),
            site.logs()
        );

        let (row, known, healed) = (last_row(&api)?, api.incidents()?.len(), netlab::now());
        site.lab.heal(host_of(old))?;
        let reconnected = next_incident(&api, known)?;
        ensure!(reconnected.kind == IncidentKind::Reconnected, "{}", told(&reconnected));
        steps_in_order(&reconnected)?;
        announced_after_release(&reconnected)?;
        tells(
            &api,
            row,
            &[(events::HOST_NORMAL, ""), (events::NOW_BACKUP, old), (events::VIP_DISABLED, "")],
        )?;
        whole(&site, other(old))?;

        let seen = prober.observe(healed);
        let gap = seen.longest_gap().map_or(Duration::ZERO, netlab::Gap::length);
        println!("host reconnected: answers {:?}, longest gap {gap:?}", seen.count_by_tag());
        let first = seen.answers().first().map(|answer| seen.who(answer));
        ensure!(first == Some(other(old)), "{first:?} answers first after the reconnection");
        let astray = seen.answers().iter().filter(|answer| seen.who(answer) == old).count();
        ensure!(astray == 0, "{astray} answers by {old}, which has lost its role, and whose gate is closed");
        ensure!(
            gap < Duration::from_millis(100),
            "the client is without an answer for {gap:?} after the reconnection"
        );
    }
    Ok(())
}

/// Nothing that the primary's host sends arrives, while it hears everything; then the cable is good again.
pub fn host_not_heard(_: &mut Lab) -> anyhow::Result<()> {
    one_way(Direction::FromHost)
}

/// The primary's host hears nothing, while everything that it sends arrives; then the cable is good again.
pub fn host_hears_nothing(_: &mut Lab) -> anyhow::Result<()> {
    one_way(Direction::ToHost)
}

fn one_way(dropped: Direction) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let prober = site.prober()?;
    let what = format!("one way, {dropped:?} dropped");
    loses(&mut site, &prober, "sip1", &what, |lab| lab.one_way("host1", dropped, true))?;
    site.lab.one_way("host1", dropped, false)?;
    whole(&site, "sip2")
}

/// Has the host of the primary `old` be lost by `cut` and follows the workflow to its end; how long the client was
/// without an answer.
fn loses(
    site: &mut Site,
    prober: &Prober,
    old: &str,
    what: &str,
    cut: impl FnOnce(&mut Lab) -> Result<(), LabError>,
) -> anyhow::Result<Duration> {
    let (new, api) = (other(old), site.api()?);
    let begun = netlab::now();
    ensure!(prober.await_answer(old, begun, LIMIT), "{old} does not answer");
    let (row, known) = (last_row(&api)?, api.incidents()?.len());

    cut(&mut site.lab)?;
    ensure!(prober.await_answer(new, begun, LIMIT), "{new} does not take over\n{}", site.logs());

    let incident = next_incident(&api, known)?;
    println!("{}", told(&incident));
    ensure!(incident.kind == IncidentKind::Disconnected, "{}", told(&incident));
    steps_in_order(&incident)?;
    let not_launched = format!("on {0}: {0} is not reachable", host_of(old));
    ensure!(
        incident.steps.iter().any(|s| s.text.starts_with("not launched") && s.text.ends_with(&not_launched)),
        "the VIP on {} could not be disabled, and it is not said: {}",
        host_of(old),
        told(&incident)
    );
    tells(
        &api,
        row,
        &[(events::CONNECTION_LOST, ""), (events::NOW_PRIMARY, new), (events::VIP_ENABLED, "")],
    )?;
    tells(&api, row, &[(events::CONNECTION_LOST, ""), (events::SCRIPT_SKIPPED, "")])?;
    Ok(clean_takeover(what, &prober.observe(begun), old, new)?.outage())
}

/// The survivor announces the VIPs anew once the other has let go.
fn announced_after_release(incident: &Incident) -> anyhow::Result<()> {
    let steps = || incident.steps.iter().enumerate();
    let released = steps().filter(|(_, s)| s.phase == Phase::AddressMoved).map(|(place, _)| place).max();
    let announced = steps().filter(|(_, s)| s.phase == Phase::Announced).map(|(place, _)| place).max();
    ensure!(announced.is_some() && announced > released, "not announced anew: {}", told(incident));
    Ok(())
}
