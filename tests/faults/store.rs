//! The SCS's disk is full: takeovers do not wait for it, and what could not be written is written when there is room.

use anyhow::ensure;
use domain::events;
use e2e::{clean_takeover, last_row, ordinary_site, tells, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::SCS_HOST;
use std::fs;
use std::io::Write;
use std::time::Duration;

/// Filled to the last byte while a server fails and a switchover is ordered.
pub fn a_full_disk_delays_nothing(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (api, prober) = (site.api()?, site.prober()?);
    let row = last_row(&api)?;
    let ballast = site.lab.directory(SCS_HOST)?.join("lib/ballast");
    fill(&ballast)?;
    let begun = netlab::now();
    site.signal_app("sip1", Signal::SIGKILL)?;
    site.wait_whole("sip2", e2e::LIMIT)?;
    let outage = clean_takeover("disk full", &prober.observe(begun), "sip1", "sip2")?.outage();
    ensure!(outage < Duration::from_millis(100), "the takeover took {outage:?}");
    api.switch_over("sip", "with a full disk")?;
    site.wait_whole("sip1", e2e::LIMIT)?;
    fs::remove_file(&ballast)?;
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
fn fill(path: &std::path::Path) -> anyhow::Result<()> {
    let mut file = fs::File::create(path)?;
    for size in [16 << 20, 1 << 20, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}
