//! Operators' orders that are no failures: stop, start, restart.

use anyhow::{Context, ensure};
use domain::{AppStatus, RunMode, SolutionStatus, events};
use e2e::{LIMIT, last_row, ordinary_site, site_with, tells, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::VIP;

/// The primary is stopped by order: nothing fails over, the VIP goes, and its start brings the role back to it.
pub fn a_stop_by_order_is_no_failure(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let row = last_row(&api)?;
    api.stop("sip1", false)?;
    tells(&api, row, &[(events::STOP_ORDERED, "sip1"), (events::APP_STOP_DETECTED, "sip1")])?;
    wait_until("the VIP to go", || Ok(site.holders(VIP)?.is_empty()))?;
    let view = api.view()?;
    ensure!(view.pairs[0].epoch == e2e::FIRST_GRANT, "no role change was due");
    ensure!(view.pairs[0].wanted_primary.as_ref().is_some_and(|w| w.as_str() == "sip1"), "the role moved");
    ensure!(!view.pairs[0].trouble.is_empty(), "nobody says that the pair has no primary");
    api.start("sip1")?;
    whole(&site, "sip1")
}

/// A graceful stop of the backup, its start, and a restart of the primary: never a takeover.
pub fn graceful_stop_and_restart(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    api.stop("sip2", true)?;
    site.wait_for("sip2 to be stopped", LIMIT, |view| {
        view.applications.iter().any(|a| a.name.as_str() == "sip2" && a.status == AppStatus::Stopped)
    })?;
    api.start("sip2")?;
    whole(&site, "sip1")?;
    let pid = site.app_pid("sip1")?;
    let restart = sci::api::Stop { graceful: false, reason: "new version".to_owned() };
    let _: sci::api::Accepted = api.post("/applications/sip1/restart", &restart)?;
    site.wait_for("sip1 to be primary again, as another process", LIMIT, |view| {
        view.applications.iter().any(|a| {
            a.name.as_str() == "sip1"
                && a.mode == Some(RunMode::Primary)
                && a.pid.is_some_and(|new| new != pid)
        })
    })?;
    whole(&site, "sip1")
}

/// A pair and what both members of it need: stopped from the end, started from the beginning; and a lapse that nobody ordered.
pub fn a_solution_in_its_order(_: &mut Lab) -> anyhow::Result<()> {
    let site = site_with(|cluster| {
        let database = "\n[applications.database]\nhost = \"host1\"\ncommand = [\"/bin/sleep\", \"100000\"]\n\
                        mode-control = \"none\"\nrestart = false\n";
        let office = "\n[solutions.office]\napplications = [\"database\", \"sip1\", \"sip2\"]\n";
        cluster + database + office
    })?;
    let api = site.api()?;
    let becomes = |status| {
        site.wait_for("the solution", LIMIT, |view| view.solutions[0].status == status)
            .with_context(|| format!("{:?}\n{}", api.view().map(|view| view.solutions), site.logs()))
    };
    becomes(SolutionStatus::Started)?;
    let row = last_row(&api)?;
    let stop = sci::api::Stop { graceful: true, reason: "new disks".to_owned() };
    let _: sci::api::Accepted = api.post("/solutions/office/stop", &stop)?;
    becomes(SolutionStatus::Stopped)?;
    // What a host logs of it has that host's time, and may stand before or behind the next order.
    let in_order = ["sip2", "sip1", "database"].map(|app| (events::STOP_ORDERED, app));
    tells(&api, row, &[&in_order[..], &[(events::SOLUTION_ORDER_DONE, "database")]].concat())?;
    ensure!(site.holders(VIP)?.is_empty(), "nobody serves");

    let row = last_row(&api)?;
    let start = sci::api::Because { reason: "done".to_owned() };
    let _: sci::api::Accepted = api.post("/solutions/office/start", &start)?;
    let in_order = ["database", "sip1", "sip2"].map(|app| (events::START_ORDERED, app));
    tells(&api, row, &[&in_order[..], &[(events::SOLUTION_ORDER_DONE, "database")]].concat())?;
    whole(&site, "sip1")?;

    let row = last_row(&api)?;
    site.signal_app("database", Signal::SIGKILL)?;
    tells(&api, row, &[(events::SOLUTION_PENDING, "database"), (events::ALARM_RAISED, "")])?;
    becomes(SolutionStatus::Pending)?;
    let row = last_row(&api)?;
    api.start("database")?;
    tells(&api, row, &[(events::SOLUTION_BACK, "database"), (events::ALARM_CLEARED, "")])?;
    whole(&site, "sip1")
}
