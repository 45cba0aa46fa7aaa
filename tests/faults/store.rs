//! The SCS's disk is full: takeovers do not wait for it, and what could not be written is written when there is room.

use anyhow::ensure;
use domain::events;
use e2e::{LIMIT, binary, clean_takeover, last_row, tells, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{SCS_HOST, Settings, Site};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// The SCS's store, on a file system of a few megabytes of its own.
const SMALL: &str = "/var/lib/takeover/small";

/// Filled to the last byte while a server fails and a switchover is ordered.
pub fn a_full_disk_delays_nothing(_: &mut Lab) -> anyhow::Result<()> {
    let mut settings = Settings::new(&binary()?);
    settings.state_directory = Some(SMALL.into());
    let mut site = Site::build(Lab::new()?, settings)?;
    on_scs(&site, "mkdir", &[SMALL])?;
    on_scs(&site, "mount", &["-t", "tmpfs", "-o", "size=4m", "small", SMALL])?;
    site.start()?;
    let (api, prober) = (site.api()?, site.prober()?);
    let (row, begun) = (last_row(&api)?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let ballast = Path::new(SMALL).join("ballast");
    site.lab.in_host(SCS_HOST, || fill(&ballast))??;
    site.signal_app("sip1", Signal::SIGKILL)?;
    site.wait_whole("sip2", LIMIT)?;
    let outage = clean_takeover("disk full", &prober.observe(begun), "sip1", "sip2")?.outage();
    println!("with a full disk: {outage:?}");
    api.switch_over("sip", "with a full disk")?;
    site.wait_whole("sip1", LIMIT)?;
    site.lab.in_host(SCS_HOST, || fs::remove_file(&ballast))??;
    // Nothing is missing afterwards: not the events of the meantime, nor that it was so.
    tells(&api, row, &[(events::NOW_PRIMARY, "sip2"), (events::NOW_PRIMARY, "sip1")])?;
    wait_until("the store to tell that it was full", || {
        let log = api.log()?;
        let has = |id| log.iter().any(|r| r.event.id == id);
        Ok(has(events::STORE_FAILED) && has(events::STORE_BACK))
    })?;
    whole(&site, "sip1")
}

/// Writes until there is no room for one byte more.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

fn on_scs(site: &Site, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    let status = site.lab.spawn(SCS_HOST, command)?.wait()?;
    ensure!(status.success(), "{program} {}: {status}", arguments.join(" "));
    Ok(())
}
