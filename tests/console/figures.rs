//! Figures of the console in a real browser. Tests fail where they are out of all proportion, or where bytes are, which do not
//! depend on the machine; what the figures are, a person reads in the output.

use crate::browser::{Browser, DESKTOP};
use crate::office::Office;
use anyhow::{Context, ensure};
use netlab::Lab;
use serde_json::json;

/// Pairs beside the real one: together a thousand hosts.
const OTHERS: u32 = 499;
/// How often a change is watched until it is seen.
const CHANGES: usize = 10;
/// When the largest text was painted: what was there before, while the page was loading, is smaller.
const PAINTED: &str = "return new Promise((told) => { \
                         const look = new PerformanceObserver((list) => told(list.getEntries().at(-1).startTime)); \
                         look.observe({ type: 'largest-contentful-paint', buffered: true }); })";
/// All that was transferred, heads of answers included.
const BYTES: &str = "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource')) \
                     .reduce((sum, e) => sum + e.encodedBodySize + 300, 0)";

/// Until the overview is painted, and all that was transferred for a first visit, with 2 hosts. The limit of time is wider
/// than the goal (100 ms): the machine of a test run is busy.
pub fn first_paint(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    // Nothing was kept from before: choosing the password was the first visit.
    let bytes = number(&browser, BYTES)?;
    browser.script("location.reload()", &[])?;
    browser.see("all pairs are well")?;
    let paint = number(&browser, PAINTED)?;
    println!("overview, 2 hosts: painted after {paint:.0} ms, a first visit {:.0} kB", bytes / 1000.0);
    ensure!(paint < 1_000.0, "the overview was painted after {paint} ms");
    ensure!((40_000.0..150_000.0).contains(&bytes), "{bytes} bytes were transferred");
    Ok(())
}

/// The same with a thousand hosts, all but two of which were never heard of; and how far what is shown is behind what is so, with
/// every pair shown: switchovers of the one real pair. The goals are 500 ms and 200 ms.
pub fn a_thousand_hosts(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::among(OTHERS)?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    browser.see("of 500 pairs in trouble")?;
    browser.script("location.reload()", &[])?;
    browser.see("of 500 pairs in trouble")?;
    browser.watch()?;
    let (paint, bytes) = (number(&browser, PAINTED)?, number(&browser, BYTES)?);
    println!(
        "overview, 1,000 hosts: painted after {paint:.0} ms, {:.0} kB until all was there",
        bytes / 1000.0
    );
    ensure!(paint < 5_000.0, "the overview was painted after {paint} ms");

    // What is wrong comes first, so the only pair that is well comes last.
    ensure!(!has_row(&browser, "sip")?, "every pair is shown at once");
    browser.click("Show 300 more")?;
    browser.wait(
        "every pair to be shown",
        "return document.querySelectorAll('tbody tr').length === 500",
        &[],
    )?;
    let api = site.api()?;
    let mut behind = Vec::new();
    for new in ["sip2", "sip1"].into_iter().cycle().take(CHANGES) {
        browser.script(WATCH, &[json!(format!("{new} on "))])?;
        let id = api.switch_over("sip", "for the figures")?;
        browser.wait("it to be shown", "return window.shown !== null", &[])?;
        site.wait_primary(new)?;
        let shown = number(&browser, "return window.shown")?;
        let incident = api.incident(id)?;
        let confirmed = incident.steps.iter().find(|step| step.phase == ha_core::Phase::PrimaryConfirmed);
        let so = confirmed.context("nobody confirmed primary mode")?.at.0 as f64 / 1_000.0;
        behind.push(shown - so);
    }
    behind.sort_by(f64::total_cmp);
    let (median, worst) = (behind[behind.len() / 2], behind[behind.len() - 1]);
    println!(
        "overview, 1,000 hosts: live updates {median:.0} ms behind (median), {worst:.0} ms (worst of {CHANGES})"
    );
    ensure!(worst < 5_000.0, "{behind:?}");

    // Searched for, it is alone, and drawn.
    browser.script("document.querySelector('input[type=search]').focus()", &[])?;
    browser.keys("192.0.2.100")?;
    browser.see("Last incident")?;
    ensure!(!browser.text()?.contains("pbx-000 "), "others are shown, too");
    browser.said_nothing()
}

/// Notes when the row of the pair `sip` has this primary and was painted, on the clock that the SCS has, too.
const WATCH: &str = "window.shown = null; \
    const told = arguments[0]; \
    const look = new MutationObserver(() => { \
      const row = [...document.querySelectorAll('tbody tr')].find((row) => row.dataset.key === 'sip'); \
      if (!row?.cells[2].textContent.startsWith(told)) return; \
      look.disconnect(); \
      requestAnimationFrame(() => setTimeout(() => { window.shown = performance.timeOrigin + performance.now(); })); \
    }); \
    look.observe(document.getElementById('main'), { subtree: true, childList: true, characterData: true })";

fn has_row(browser: &Browser, pair: &str) -> anyhow::Result<bool> {
    let script =
        "return [...document.querySelectorAll('tbody tr')].some((row) => row.dataset.key === arguments[0])";
    Ok(browser.script(script, &[json!(pair)])? == json!(true))
}

fn number(browser: &Browser, script: &str) -> anyhow::Result<f64> {
    browser.script(script, &[])?.as_f64().with_context(|| format!("no number from {script}"))
}
