//! What happens to the primary while its calls are under way.

use crate::phones::{CALLER, Calls, recorded, records, register, site, standby, told_since};
use anyhow::{Context, ensure};
use domain::events;
use e2e::{LIMIT, clean_takeover, epoch, last_row, other, tells, wait_until, whole};
use ha_core::Plan;
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{AGENT_HOSTS, Site, VIP};
use std::process::Stdio;
use std::time::Duration;

const MANY: u32 = 50;
/// Long enough for what is done in between; the machine may be busy.
const TALK: Duration = Duration::from_secs(8);
const RING: Duration = Duration::from_millis(200);

pub fn established_calls_outlive_a_switchover(_: &mut Lab) -> anyhow::Result<()> {
    established(|site| site.api()?.switch_over("sip", "while people talk").map(|_| ()))
}

pub fn established_calls_outlive_a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    established(|site| site.signal_app("sip1", Signal::SIGKILL))
}

pub fn established_calls_outlive_a_host_that_is_cut_off(_: &mut Lab) -> anyhow::Result<()> {
    established(|site| Ok(site.lab.cut(AGENT_HOSTS[0])?))
}

/// Calls that were answered at the first server are ended at the second.
fn established(deed: impl FnOnce(&Site) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let site = site()?;
    let calls = Calls::begin(&site, (MANY, 100), ("caller", TALK), ("callee", RING))?;
    wait_until("all calls to be answered, and known to the backup", || {
        Ok(standby(&site, "sip2")?.confirmed == MANY)
    })?;
    deed(&site)?;
    let prober = site.prober()?;
    ensure!(prober.await_answer("sip2", netlab::now(), LIMIT), "sip2 does not take over\n{}", site.logs());
    calls.succeed()?;
    let (records, _) = records(&site)?;
    ensure!(records.len() == MANY as usize, "{} records of {MANY} calls", records.len());
    for record in records.values() {
        ensure!(record["answered_by"] == "callee" && record["cause"] == "caller-hung-up", "{record}");
    }
    Ok(())
}

pub fn ringing_calls_are_answered_after_a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    let site = site()?;
    let calls = Calls::begin(&site, (MANY, 100), ("caller", RING), ("callee", TALK))?;
    killed_while_it_rings(&site)?;
    calls.succeed()?;
    recorded(&site, MANY as usize)
}

pub fn ringing_calls_are_cancelled_after_a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    let site = site()?;
    let calls = Calls::begin(&site, (MANY, 100), ("canceller", TALK), ("cancelled", RING))?;
    killed_while_it_rings(&site)?;
    calls.succeed()?;
    recorded(&site, MANY as usize)
}

fn killed_while_it_rings(site: &Site) -> anyhow::Result<()> {
    wait_until("all calls to ring, and to be known to the backup", || {
        Ok(standby(site, "sip2")?.ringing == MANY)
    })?;
    site.signal_app("sip1", Signal::SIGKILL)?;
    let prober = site.prober()?;
    ensure!(prober.await_answer("sip2", netlab::now(), LIMIT), "sip2 does not take over\n{}", site.logs());
    Ok(())
}

/// The role moves to and fro as fast as it can, by order and because a server is killed, while calls come, ring, go on and end.
pub fn calls_go_on_while_the_role_moves(_: &mut Lab) -> anyhow::Result<()> {
    const CALLS: u32 = 3_000;
    let site = site()?;
    let api = site.api()?;
    let mut calls = Calls::begin(&site, (CALLS, 100), ("caller", 2 * RING), ("callee", RING))?;
    let (mut primary, mut takeovers) = ("sip1", 0);
    while calls.callers.goes_on()? {
        if takeovers % 2 == 0 {
            api.switch_over("sip", "while people call")?;
        } else {
            site.signal_app(primary, Signal::SIGKILL)?;
        }
        primary = other(primary);
        whole(&site, primary)?;
        takeovers += 1;
    }
    println!("{takeovers} takeovers during {CALLS} calls");
    ensure!(takeovers >= 20, "only {takeovers} takeovers during {CALLS} calls");
    calls.succeed()?;
    recorded(&site, CALLS as usize)
}

/// A backup that does not hear the primary lacks what comes from then on: a switchover to it is refused, unless an operator
/// insists, and then just that is lost.
pub fn a_forced_switchover_loses_what_the_backup_lacks(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = site()?;
    let (api, prober, begun) = (site.api()?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    wait_until("the backup to have the registration", || Ok(standby(&site, "sip2")?.registered == 1))?;
    let [first, second] = AGENT_HOSTS;
    site.lab.block_between(first, second, true)?;
    let plan = || -> anyhow::Result<Plan> { api.get("/pairs/sip/plan") };
    wait_until("the plan to say that the backup lacks something", || Ok(!plan()?.passes(false)))
        .with_context(|| site.logs())?;
    let failed = plan()?.checks.into_iter().filter(|check| !check.passed).collect::<Vec<_>>();
    ensure!(failed.len() == 1 && failed[0].may_be_forced, "not what may be forced alone: {failed:#?}");
    register(&site, "caller", CALLER)?;
    wait_until("the primary to have both registrations", || Ok(standby(&site, "sip1")?.registered == 2))?;

    let epoch_before = epoch(&api)?;
    let refused = site.command(&["switchover", "sip", "--yes"])?.output()?;
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    ensure!(refused.status.code() == Some(1), "not refused but {}: {said}", refused.status);
    ensure!(
        said.contains("FAIL  sip2 has what sip1 has") && said.contains("`--force`"),
        "not told why, and what can be done: {said}"
    );
    ensure!(epoch(&api)? == epoch_before && site.holders(VIP)? == [first], "something was done all the same");

    let row = last_row(&api)?;
    let mut forced = site.command(&["switchover", "sip", "--yes", "--force", "--reason", "it must be"])?;
    let forced = forced.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    ensure!(prober.await_answer("sip2", begun, LIMIT), "sip2 does not serve\n{}", site.logs());
    tells(&api, row, &[(events::NOW_PRIMARY, "sip2")])?;
    clean_takeover("forced switchover", &prober.observe(begun), "sip1", "sip2")?;
    // It is complete when host1, which asks who has the VIPs, is answered.
    site.lab.block_between(first, second, false)?;
    let done = forced.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "the forced switchover ended with {}: {said}\n{}",
        done.status,
        site.logs()
    );
    whole(&site, "sip2")?;
    // What the new primary has is what counts.
    let since = api.view()?.at;
    for app in ["sip1", "sip2"] {
        wait_until(&format!("{app} to have the registration that was copied, and no other"), || {
            Ok(told_since(&site, app, since)?.is_some_and(|copy| copy.registered == 1))
        })?;
    }
    Ok(())
}

pub fn a_backup_that_was_restarted_has_all_calls_again(_: &mut Lab) -> anyhow::Result<()> {
    let site = site()?;
    let calls = Calls::begin(&site, (MANY, 100), ("caller", TALK), ("callee", RING))?;
    wait_until("all calls to be answered", || Ok(standby(&site, "sip1")?.confirmed == MANY))?;
    let killed = site.app_pid("sip2")?;
    site.signal_app("sip2", Signal::SIGKILL)?;
    wait_until("another backup to run", || Ok(site.app_pid("sip2").is_ok_and(|pid| pid != killed)))?;
    let since = site.api()?.view()?.at;
    wait_until("the backup to be back, with all calls", || {
        Ok(told_since(&site, "sip2", since)?
            .is_some_and(|copy| copy.confirmed == MANY && copy.registered == 1))
    })?;
    whole(&site, "sip1")?;
    site.signal_app("sip1", Signal::SIGKILL)?;
    calls.succeed()?;
    recorded(&site, MANY as usize)
}
