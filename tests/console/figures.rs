//! How long until something is seen, and how much is transferred for it.

use crate::browser::{Browser, DESKTOP};
use crate::office::Office;
use anyhow::{Context, ensure};
use netlab::Lab;

/// Until the first paint of the overview, and all that was transferred for it, with 2 hosts. The limits are wider than the
/// goals (100 ms, 150 kB): the machine of a test run is busy.
pub fn first_paint(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    browser.script("location.reload()", &[])?;
    browser.see("all pairs are well")?;
    let paint = number(
        &browser,
        "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null",
    )?;
    let bytes = number(
        &browser,
        "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource')) \
         .reduce((sum, e) => sum + e.encodedBodySize + 300, 0)",
    )?;
    println!("overview, 2 hosts: first paint after {paint:.0} ms, {:.0} kB", bytes / 1000.0);
    ensure!(paint < 1_000.0, "the first paint took {paint} ms");
    ensure!(bytes < 150_000.0, "{bytes} bytes were transferred");
    Ok(())
}

fn number(browser: &Browser, script: &str) -> anyhow::Result<f64> {
    browser.script(script, &[])?.as_f64().with_context(|| format!("no number from {script}"))
}
