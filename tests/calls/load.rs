//! Takeovers while many calls come, ring, go on and end: nobody is failed, and there is one record for each.

use crate::phones::{Calls, recorded, site, standby, told_since};
use anyhow::{Context, ensure};
use e2e::{other, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::Site;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RING: Duration = Duration::from_millis(200);
const TALK: Duration = Duration::from_millis(400);
/// So long that calls outlive what is done meanwhile.
const LONG: Duration = Duration::from_secs(8);

/// What was lost in an outage is said again after half a second, after another one, and two more (RFC 3261, section 17.1.1.2).
const ECHO: Duration = Duration::from_secs(5);

/// What moves the role.
#[derive(Debug, Clone, Copy)]
enum Deed {
    SwitchOver,
    Kill,
}

/// The next primary, of a whole pair.
fn take_over(site: &Site, primary: &str, deed: Deed) -> anyhow::Result<&'static str> {
    match deed {
        Deed::SwitchOver => drop(site.api()?.switch_over("sip", "while people call")?),
        Deed::Kill => site.signal_app(primary, Signal::SIGKILL)?,
    }
    let primary = other(primary);
    whole(site, primary)?;
    Ok(primary)
}

/// With a second of calls between any two.
pub fn twenty_takeovers_in_a_row(_: &mut Lab) -> anyhow::Result<()> {
    const TAKEOVERS: usize = 20;
    /// More than there is time for.
    const UNTIL_TOLD: u32 = 1_000_000;
    let site = site()?;
    let mut calls = Calls::begin(&site, (UNTIL_TOLD, 100), ("caller", TALK), ("callee", RING))?;
    let mut primary = "sip1";
    // Each server is killed, and each is switched from.
    let deeds = [Deed::SwitchOver, Deed::Kill, Deed::Kill, Deed::SwitchOver];
    for (number, deed) in deeds.into_iter().cycle().take(TAKEOVERS).enumerate() {
        wait_until("calls to be made", || Ok(calls.callers.seconds()? > number))?;
        primary = take_over(&site, primary, deed).with_context(|| format!("takeover {number}"))?;
        ensure!(calls.callers.goes_on()?, "SIPp ended after takeover {number}");
    }
    calls.callers.finish()?;
    calls.callers.succeeds().context("the callers")?;
    let made = calls.callers.figure("Total Calls created")?;
    println!("{made} calls during {TAKEOVERS} takeovers");
    recorded(&site, made)?;
    calls.callees.finish()?;
    calls.succeed()
}

/// A killed server, and then a switchover: nobody is failed, and nobody says anything twice but around those two.
pub fn five_hundred_calls_a_second(_: &mut Lab) -> anyhow::Result<()> {
    const RATE: u32 = 500;
    const SECONDS: u32 = 30;
    let site = site()?;
    let number = RATE * SECONDS;
    let mut calls = Calls::begin(&site, (number, RATE), ("caller", TALK), ("callee", RING))?;
    let (mut primary, mut takeovers) = ("sip1", Vec::new());
    for (deed, at) in [(Deed::Kill, 6), (Deed::SwitchOver, 18)] {
        wait_until("calls to be made", || Ok(calls.callers.seconds()? >= at))?;
        takeovers.push(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
        primary = take_over(&site, primary, deed)?;
        ensure!(calls.callers.goes_on()?, "SIPp was done before the takeover was");
    }
    calls.callers.succeeds().context("the callers")?;
    let (mut around, mut apart) = (0, 0);
    for (until, count) in calls.callers.retransmissions()? {
        let is_near = takeovers.iter().any(|at| until >= *at && until - 1.0 <= at + ECHO.as_secs_f64());
        *if is_near { &mut around } else { &mut apart } += count;
    }
    println!("{number} calls; said again: {around} around two takeovers, {apart} otherwise");
    // The laboratory's machine may stall for longer than a telephone waits, once or twice.
    ensure!(apart <= u64::from(number) / 1_000, "{apart} were said again for no reason");
    calls.succeed()?;
    recorded(&site, number as usize)
}

/// It takes all calls anew while they go on, and no call is failed when it has to take over.
pub fn a_backup_is_restarted(_: &mut Lab) -> anyhow::Result<()> {
    const NUMBER: u32 = 3_000;
    let site = site()?;
    let mut calls = Calls::begin(&site, (NUMBER, 100), ("caller", LONG), ("callee", RING))?;
    wait_until("many calls to go on", || Ok(standby(&site, "sip1")?.confirmed > NUMBER / 10))?;
    let killed = site.app_pid("sip2")?;
    site.signal_app("sip2", Signal::SIGKILL)?;
    wait_until("another backup to run", || Ok(site.app_pid("sip2").is_ok_and(|pid| pid != killed)))?;
    let since = site.api()?.view()?.at;
    wait_until("the backup to be back, with many calls", || {
        let copy = told_since(&site, "sip2", since)?;
        Ok(copy.is_some_and(|copy| copy.confirmed > NUMBER / 10 && copy.registered == 1))
    })?;
    whole(&site, "sip1")?;
    ensure!(calls.callers.goes_on()?, "SIPp was done before the backup was back");
    take_over(&site, "sip1", Deed::Kill)?;
    calls.callers.succeeds().context("the callers")?;
    calls.succeed()?;
    recorded(&site, NUMBER as usize)
}
