//! The SCS ends, as ordered and not, and stays away while something happens.

use anyhow::{Context, ensure};
use domain::{Micros, events};
use e2e::alone::{INITIALIZED, Without, taken_without_scs, with_a_peer_that_stands_by};
use e2e::{LIMIT, epoch, last_row, ordinary_site, tells, wait_until, whole, whole_again};
use netlab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rehearsal::Site;
use std::time::{Duration, SystemTime};

/// Ended by SIGTERM and by SIGKILL and started again: callers see nothing, the epoch stays and goes on from there.
pub fn restarts_change_nothing(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let api = site.api()?;
    api.switch_over("sip", "so that the epoch is not the first")?;
    whole(&site, "sip2")?;
    let held = epoch(&api)?;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let prober = site.prober()?;
        ensure!(prober.await_answer("sip2", netlab::now(), LIMIT), "sip2 does not answer");
        let row = last_row(&api)?;
        end_scs(&mut site, signal)?;
        site.start_scs()?;
        if signal == Signal::SIGTERM {
            tells(&api, row, &[(events::SCS_STOPPED, ""), (events::SCS_STARTED, "")])?;
        }
        tells(&api, row, &[(events::SCS_STARTED, ""), (events::HOST_NORMAL, ""), (events::HOST_NORMAL, "")])?;
        whole(&site, "sip2")?;
        ensure!(epoch(&api)? == held, "the epoch moved from {held} to {}", epoch(&api)?);
        let seen = prober.stop();
        let gap = seen.longest_gap().map_or(Duration::ZERO, netlab::Gap::length);
        println!("SCS ended by {signal}: longest gap {gap:?}, lost {}", seen.lost());
        ensure!(
            seen.count_by_tag().keys().eq([&"sip2"]),
            "not only the primary answers: {:?}",
            seen.count_by_tag()
        );
    }
    api.switch_over("sip", "goes on")?;
    whole(&site, "sip1")?;
    ensure!(epoch(&api)? > held, "the epoch went back from {held} to {}", epoch(&api)?);
    Ok(())
}

/// While the SCS is away the primary fails, and the peer's agent takes over. The SCS that comes back learns what happened
/// and when, and leaves it as it is.
pub fn learns_what_happened_without_it(_: &mut Lab) -> anyhow::Result<()> {
    with_a_peer_that_stands_by(failed_meanwhile)
}

fn failed_meanwhile(site: &mut Site) -> anyhow::Result<Without> {
    let (api, pid, row, held) =
        (site.api()?, site.app_pid("sip1")?, last_row(&site.api()?)?, epoch(&site.api()?)?);
    end_scs(site, Signal::SIGKILL)?;

    let failed = wall_clock()?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    if taken_without_scs(site)? == Without::Restarted {
        return Ok(Without::Restarted);
    }
    wait_until("the agent to restart sip1", || Ok(site.logs().matches(INITIALIZED).count() == 2))?;

    let started = wall_clock()?;
    site.start_scs()?;
    let primary = whole_again(site)?;
    // Two agents tell, each in its order.
    tells(&api, row, &[(events::APP_TERMINATED, "sip1"), (events::APP_STARTED, "sip1")])?;
    tells(&api, row, &[(events::TOOK_OVER_ALONE, "sip2"), (events::NOW_PRIMARY, "sip2")])?;
    ensure!(primary == "sip2", "the SCS moved the role to {primary}");
    let log = api.log()?;
    let terminated =
        log.iter().find(|r| r.seq > row && r.event.id == events::APP_TERMINATED).context("logged")?;
    let at = terminated.event.at;
    println!("the SCS was away for {:?}, primary is {primary}", started.since(failed));
    // The agent's times are laid beside the SCS's by way of a message between the two: to the millisecond or so.
    let inaccuracy = Duration::from_millis(50);
    ensure!(
        failed <= at + inaccuracy && at < failed + Duration::from_millis(200),
        "failed {failed}, logged {at}"
    );
    ensure!(at < started, "logged as of {at}, when the SCS was back ({started})");
    ensure!(epoch(&api)? >= held, "the epoch went back from {held} to {}", epoch(&api)?);
    Ok(Without::TakenOver)
}

/// Ends the SCS by a signal; returns when it is gone.
fn end_scs(site: &mut Site, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(site.scs_pid().context("no SCS")?)?);
    kill(pid, signal)?;
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    wait_until("the SCS to end", || Ok(waitid(Id::Pid(pid), look)? != WaitStatus::StillAlive))?;
    site.kill_scs() // it has ended: only waited for
}

/// Unix time, as the SCS gives its times.
fn wall_clock() -> anyhow::Result<Micros> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Micros(u64::try_from(since.as_micros())?))
}
