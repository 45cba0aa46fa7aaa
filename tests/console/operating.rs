//! What an operator does with the console, and what it shows by itself.

use crate::browser::DESKTOP;
use crate::office::Office;
use anyhow::ensure;
use fantoccini::key::Key;
use netlab::Lab;
use nix::sys::signal::Signal;
use serde_json::json;

/// From logging in to the last step, without a mouse: the plan is shown, a reason asked, and the steps arrive.
pub fn switchover_with_the_keyboard(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("olga", "operator", DESKTOP)?;
    browser.see("all pairs are well")?;
    browser.tab_to("sip")?;
    browser.press(Key::Enter)?;
    browser.see("Pair sip")?;
    browser.tab_to("Switch over")?;
    browser.press(Key::Enter)?;
    browser.see("sip2 is ready to take over")?;
    browser.wait("the reason to have the focus", "return document.activeElement.name === 'reason'", &[])?;
    browser.keys("a test, by keyboard")?;
    browser.tab_to("Make sip2 primary")?;
    browser.press(Key::Enter)?;
    for number in 1..=8 {
        let script = "return [...document.querySelectorAll('.steps .number')].some((e) => e.textContent === arguments[0])";
        browser.wait(&format!("step {number}"), script, &[json!(number.to_string())])?;
    }
    browser.see("completed")?;
    browser.see("sip2: started")?;
    e2e::whole(&site, "sip2")?;
    let incidents = site.api()?.incidents()?;
    ensure!(
        incidents.iter().any(|incident| incident.reason.contains("a test, by keyboard")),
        "{incidents:?}"
    );
    browser.said_nothing()
}

/// Somebody freezes a pair: every page says so, and nobody takes over, until somebody unfreezes it.
pub fn a_pair_is_frozen_and_unfrozen(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("olga", "operator", DESKTOP)?;
    browser.open("pair/sip")?;
    browser.click("Freeze")?;
    browser.see("Nobody takes over when its primary fails")?;
    browser.tab_to("reason")?;
    browser.keys("data in doubt")?;
    browser.press(Key::Enter)?;
    browser.open("hosts")?;
    browser.see("sip is frozen since")?;
    browser.see("by olga: data in doubt")?;
    let status = site.command(&["status"])?.output()?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.contains("frozen by olga"), "{status}");
    browser.open("pair/sip")?;
    browser.see("nothing: frozen by olga")?;
    browser.click("Unfreeze")?;
    browser.keys("checked")?;
    browser.press(Key::Enter)?;
    let over = "return !document.body.innerText.includes('sip is frozen since')";
    browser.wait("the banner to be gone", over, &[])?;
    browser.said_nothing()
}

/// Somebody works on a pair: every page says so until it is over.
pub fn maintenance_is_seen_everywhere(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("olga", "operator", DESKTOP)?;
    browser.open("pair/sip")?;
    browser.click("Maintenance")?;
    browser.see("held")?;
    browser.tab_to("reason")?;
    browser.keys("new switch")?;
    browser.press(Key::Enter)?;
    browser.open("hosts")?;
    browser.see("sip is in maintenance until")?;
    browser.see("by olga: new switch")?;
    let status = site.command(&["status"])?.output()?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.contains("maintenance"), "{status}");
    browser.open("pair/sip")?;
    browser.click("End maintenance")?;
    browser.keys("done")?;
    browser.press(Key::Enter)?;
    let over = "return !document.body.innerText.includes('is in maintenance until')";
    browser.wait("the banner to be gone", over, &[])?;
    browser.said_nothing()
}

/// A drill is scheduled by a form; it is run, and the page says so by itself; it is removed.
pub fn a_drill_is_scheduled(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("olga", "operator", DESKTOP)?;
    browser.open("times")?;
    browser.see("No drill is scheduled")?;
    browser.click("Schedule a drill")?;
    browser.see("callers notice what they notice of a switchover")?;
    // Typing into a date field depends on the browser's language.
    let soon = "const at = new Date(Date.now() + 86_400_000 - new Date().getTimezoneOffset() * 60_000); \
                document.querySelector('input[name=at]').value = at.toISOString().slice(0, 16)";
    browser.script(soon, &[])?;
    browser.tab_to("reason")?;
    browser.keys("by the book")?;
    browser.press(Key::Enter)?;
    browser.see("olga: by the book")?;

    let now = "return Date.now()";
    let now = browser.script(now, &[])?.as_u64().unwrap_or_default();
    let drill = sci::api::NewDrill {
        at: domain::Micros((now + 1_500) * 1_000),
        every_days: None,
        back: false,
        reason: "at once".to_owned(),
    };
    let _: sci::api::Accepted = site.api()?.post("/pairs/sip/drills", &drill)?;
    browser.see("sip2 serves")?;
    browser.see("manual switchover")?;
    browser.open("incidents")?;
    browser.see("manual switchover (drill 2)")?;
    browser.open("times")?;
    browser.click("Remove")?;
    browser.click("Remove it")?;
    let gone = "return !document.querySelector('main').innerText.includes('by the book')";
    browser.wait("the drill to be gone", gone, &[])?;
    browser.said_nothing()
}

/// A server is killed: the overview shows the incident and the new primary without being reloaded; an alarm is cleared.
pub fn a_failure_appears_by_itself(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("anna", "operator", DESKTOP)?;
    browser.see("first primary")?;
    browser.script("window.notReloaded = true", &[])?;
    site.signal_app("sip1", Signal::SIGKILL)?;
    browser.see("primary server failure")?;
    let primary = "return document.querySelector('.host.primary')?.innerText.includes('host2') === true";
    browser.wait("host2 to be drawn as primary", primary, &[])?;
    browser.see("active alarm")?;
    ensure!(browser.script("return window.notReloaded", &[])? == json!(true), "the page was reloaded");

    browser.click("Alarms")?;
    let count = "return document.querySelectorAll('tbody tr').length";
    browser.wait("an alarm in the list", "return document.querySelectorAll('tbody tr').length > 0", &[])?;
    let before = browser.script(count, &[])?;
    let number = browser.script("return document.querySelector('tbody td').innerText", &[])?;
    browser.click("Clear")?;
    browser.keys("looked into it")?;
    browser.press(Key::Enter)?;
    let gone = "return ![...document.querySelectorAll('tbody tr')].some((r) => r.cells[0].innerText === arguments[0])";
    browser.wait(&format!("alarm {number} of {before} to be gone"), gone, &[number])?;
    browser.said_nothing()
}

/// The SCS is gone: the page says so and greys what it shows. It comes back, and the page recovers by itself.
pub fn scs_lost_and_back(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = Office::open()?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    browser.see("all pairs are well")?;
    site.kill_scs()?;
    browser.see("The SCS does not answer")?;
    let greyed = "return getComputedStyle(document.querySelector('.live')).opacity !== '1'";
    browser.wait("what is shown to be greyed", greyed, &[])?;
    ensure!(browser.text()?.contains("host1"), "what was known last is still shown");
    site.start_scs()?;
    let back = "return !document.body.innerText.includes('The SCS does not answer') \
                && !document.documentElement.classList.contains('stale')";
    browser.wait("the page to recover", back, &[])?;
    browser.said_nothing()
}

/// Both servers are stopped and started as one; the page says so by itself.
pub fn a_solution_is_stopped_and_started(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("olga", "operator", DESKTOP)?;
    browser.open("solutions")?;
    browser.see("in the order in which they are started")?;
    browser.click("Stop office")?;
    browser.see("callers of these servers are cut off")?;
    browser.tab_to("reason")?;
    browser.keys("new disks")?;
    browser.press(Key::Enter)?;
    browser.see("all of it is stopped")?;
    browser.click("Start office")?;
    browser.keys("done")?;
    browser.press(Key::Enter)?;
    browser.wait(
        "it to be started",
        "return document.querySelector('main h2')?.innerText.includes('started')",
        &[],
    )?;
    e2e::whole(&site, "sip1")?;
    browser.said_nothing()
}
