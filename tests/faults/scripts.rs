//! The user's own scripts: in place of the built-in VIP control, misbehaving, and run by an alarm.

use anyhow::{Context, ensure};
use domain::events;
use e2e::{
    LIMIT, clean_takeover, last_row, next_incident, site_with, steps_in_order, tells, wait_until, whole,
};
use ha_core::IncidentOutcome;
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::Site;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The shipped example (iproute2 and arping) does what the built-in control does: planned, and after a failure.
pub fn the_users_own_in_place_of_the_built_in(_: &mut Lab) -> anyhow::Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/vip-control.sh");
    let site = with_control(&example.canonicalize()?, "10s")?;
    let (api, prober) = (site.api()?, site.prober()?);
    let (row, known, begun) = (last_row(&api)?, api.incidents()?.len(), netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    api.switch_over("sip", "a script of our own")?;
    steps_in_order(&next_incident(&api, known)?)?;
    tells(&api, row, &[(events::NOW_PRIMARY, "sip2"), (events::SCRIPT_SUCCEEDED, "")])?;
    whole(&site, "sip2")?;
    clean_takeover("switchover by script", &prober.observe(begun), "sip1", "sip2")?;
    let begun = netlab::now();
    ensure!(prober.await_answer("sip2", begun, LIMIT), "sip2 does not answer");
    site.signal_app("sip2", Signal::SIGKILL)?;
    whole(&site, "sip1")?;
    clean_takeover("failure by script", &prober.observe(begun), "sip2", "sip1")?;
    Ok(())
}

/// It fails on "disable": told with what it said, alarmed, and the built-in control does it instead.
pub fn failing_is_told_and_the_built_in_control_helps(_: &mut Lab) -> anyhow::Result<()> {
    let script = "case $1 in disable) echo 'no such bridge' >&2; exit 3;; esac\n";
    let site = with_control(&written("failing.sh", script)?, "10s")?;
    let row = misbehaves(&site)?;
    let api = site.api()?;
    tells(
        &api,
        row,
        &[(events::SCRIPT_FAILED, ""), (events::VIP_MISPLACED, ""), (events::VIP_DISABLED, "")],
    )?;
    let log = api.log()?;
    let failed = log.iter().find(|r| r.event.id == events::SCRIPT_FAILED).context("no such event")?;
    let text = &failed.event.text;
    ensure!(text.contains("exit code 3") && text.contains("no such bridge"), "the log says {text:?}");
    let history: sci::api::Alarms = api.get("/alarms?history=true")?;
    ensure!(history.alarms.iter().any(|a| a.alarm.condition == "script-failed"), "no alarm: {history:?}");
    Ok(())
}

/// It hangs: killed at its time limit with the children it has started, and the built-in control does it instead.
pub fn hanging_is_killed_and_the_built_in_control_helps(_: &mut Lab) -> anyhow::Result<()> {
    // The number of seconds marks the child among all processes of the machine.
    let script = "case $1 in disable) sleep 86399 & sleep 86398;; esac\n";
    let site = with_control(&written("hanging.sh", script)?, "1s")?;
    let row = misbehaves(&site)?;
    tells(&site.api()?, row, &[(events::SCRIPT_FAILED, ""), (events::VIP_DISABLED, "")])?;
    wait_until("the script's children to be gone", || Ok(!running("86399") && !running("86398")))
}

/// It prints a megabyte and fails: what is kept of it is bounded, its end included.
pub fn a_megabyte_of_output_is_bounded(_: &mut Lab) -> anyhow::Result<()> {
    let script = "case $1 in disable) head -c 1000000 /dev/zero | tr '\\0' x; echo; exit 1;; esac\n";
    let site = with_control(&written("talking.sh", script)?, "10s")?;
    let row = misbehaves(&site)?;
    let api = site.api()?;
    tells(&api, row, &[(events::SCRIPT_FAILED, "")])?;
    let longest = api.log()?.iter().map(|r| r.event.text.len()).max().unwrap_or_default();
    ensure!(longest < 2_000, "a log event has {longest} bytes");
    Ok(())
}

/// An Alarm Condition of the user's launches a script on a host, which has the facts in its environment.
pub fn alarm_reaction_with_its_facts(_: &mut Lab) -> anyhow::Result<()> {
    let facts = scratch("facts")?;
    let script = written("facts.sh", &format!("env > {}.new && mv {0}.new {0}\n", facts.display()))?;
    let site = site_with(move |cluster| {
        cluster
            + &format!(
                "[scripts.tell]\ncommand = [\"{}\"]\n\n[alarm-conditions.server-died]\ncategory = \"critical\"\n\
                 detect = \"00-05064\"\ncancel = [\"00-05061\"]\nreactions = [{{ do = \"launch\", script = \"tell\", \
                 host = \"host2\" }}]\n",
                script.display()
            )
    })?;
    site.signal_app("sip1", Signal::SIGKILL)?;
    wait_until("the script to have run", || Ok(facts.exists()))?;
    let env = fs::read_to_string(&facts)?;
    for fact in [
        "TAKEOVER_HOST=host2",
        "TAKEOVER_APPLICATION=sip1",
        "TAKEOVER_EVENT=00-05064",
        "TAKEOVER_ALARM=server-died",
    ] {
        ensure!(env.lines().any(|line| line == fact), "{fact} is not in the environment:\n{env}");
    }
    whole(&site, "sip2")
}

/// A switchover whose old host has a script that misbehaves; ends whole all the same. The log's row before it.
fn misbehaves(site: &Site) -> anyhow::Result<u64> {
    let api = site.api()?;
    let row = last_row(&api)?;
    let incident = api.switch_over("sip", "to see the script misbehave")?;
    wait_until("the switchover to end", || {
        Ok(api.incident(incident).is_ok_and(|i| i.outcome == IncidentOutcome::Completed))
    })?;
    whole(site, "sip2")?;
    Ok(row)
}

/// The installation with a script of the user's as VIP control. What the script leaves to others (`enable`, here) is done
/// by `takeover vip` behind it.
fn with_control(script: &Path, time_limit: &str) -> anyhow::Result<Site> {
    let table =
        format!("[scripts.control]\ncommand = [\"{}\"]\ntime-limit = \"{time_limit}\"\n", script.display());
    site_with(move |cluster| {
        cluster.replace("interface = \"eth0\"\n", "interface = \"eth0\"\ncontrol = \"control\"\n") + &table
    })
}

/// An executable script; what `body` does not end, the binary's own VIP control ends.
fn written(name: &str, body: &str) -> anyhow::Result<PathBuf> {
    let path = scratch(name)?;
    let takeover = e2e::binary()?;
    let rest = format!("[ -n \"$TAKEOVER_VIP\" ] || exit 0\nexec {} vip \"$1\"\n", takeover.display());
    fs::write(&path, format!("#!/bin/sh\n{body}{rest}"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// A path in the laboratory's own file system, gone with it.
fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let directory = PathBuf::from(netlab::WORK_DIR).join("scripts");
    fs::create_dir_all(&directory)?;
    Ok(directory.join(name))
}

/// Whether any process of the laboratory has this word among its arguments.
fn running(word: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    })
}
