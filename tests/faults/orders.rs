//! Operators' orders that are no failures: stop, start, restart.

use anyhow::ensure;
use domain::{AppStatus, RunMode, events};
use e2e::{LIMIT, last_row, ordinary_site, tells, wait_until, whole};
use netlab::Lab;
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
