//! Drills: switchovers at a time that was chosen, and what keeps them from being run.

use anyhow::ensure;
use domain::events;
use e2e::{LIMIT, last_row, ordinary_site, tells, wait_until, whole};
use ha_core::{DrillResult, DrillRun, IncidentKind, IncidentOutcome, View};
use netlab::Lab;
use rehearsal::Site;

/// At its time service moves to the other member and, verified, back; both are incidents of the drill and count as takeovers.
pub fn there_and_back(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let row = last_row(&api)?;
    schedule(&site, "2s", &["--back"])?;
    let run = ended(&site)?;
    ensure!(run.result == DrillResult::Passed, "{run:?}\n{}", site.logs());
    whole(&site, "sip1")?;
    let story =
        [(events::DRILL_SCHEDULED, ""), (events::SWITCHOVER_ORDERED, "sip2"), (events::NOW_PRIMARY, "sip2")];
    tells(&api, row, &story)?;
    tells(&api, row, &[(events::SWITCHOVER_ORDERED, "sip1"), (events::DRILL_PASSED, "")])?;
    wait_until("both ways to be recorded", || {
        let incidents = api.incidents()?;
        let drilled = incidents.iter().filter(|incident| incident.drill == Some(1));
        let ways: Vec<_> = drilled
            .filter(|incident| incident.outcome == IncidentOutcome::Completed)
            .map(|incident| incident.to.as_str())
            .collect();
        Ok(ways == ["sip2", "sip1"])
    })?;
    let told: sci::api::TakeoverTimesOf = api.get("/takeover-times")?;
    let manual = told.times.iter().find(|line| line.kind == IncidentKind::Manual);
    ensure!(manual.is_some_and(|line| line.service.count == 2), "{told:?}");
    Ok(())
}

/// A pre-check fails when its time comes: it is skipped, nothing moves, and the log says why.
pub fn skipped_where_a_pre_check_fails(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let (row, known) = (last_row(&api)?, api.incidents()?.len());
    // An order's stop is no failure and raises no alarm; only the plan knows that nobody is there to take over.
    api.stop("sip2", false)?;
    tells(&api, row, &[(events::APP_STOP_DETECTED, "sip2")])?;
    schedule(&site, "1s", &[])?;
    let run = ended(&site)?;
    ensure!(run.result == DrillResult::Skipped, "{run:?}");
    ensure!(run.text.contains("sip2 is ready to take over") && run.incident.is_none(), "{run:?}");
    tells(&api, row, &[(events::DRILL_SCHEDULED, ""), (events::DRILL_SKIPPED, "")])?;
    let view = api.view()?;
    ensure!(view.pairs[0].epoch == e2e::FIRST_GRANT, "the role moved");
    ensure!(api.incidents()?.len() == known, "there is an incident");
    let listed = site.command(&["drill", "--pair", "sip"])?.output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("skipped: not so: sip2 is ready to take over"), "{listed}");
    api.start("sip2")?;
    whole(&site, "sip1")
}

fn schedule(site: &Site, at: &str, more: &[&str]) -> anyhow::Result<()> {
    let begin = ["drill", "add", "sip", "--at", at, "--reason", "practice"];
    let made = site.command(&[&begin[..], more].concat())?.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// What came of the only drill of the pair.
fn ended(site: &Site) -> anyhow::Result<DrillRun> {
    let last = |view: &View| view.pairs.first()?.drills.first()?.last.clone();
    let is_over = |view: &View| last(view).is_some_and(|run| run.result != DrillResult::UnderWay);
    site.wait_for("the drill to be over", LIMIT, is_over)?;
    last(&site.api()?.view()?).ok_or_else(|| anyhow::anyhow!("it is gone"))
}
