//! What somebody finds who looks for it.

use crate::browser::{Browser, DESKTOP};
use crate::office::Office;
use anyhow::{Context, ensure};
use fantoccini::key::Key;
use netlab::Lab;
use serde_json::{Value, json};

/// The log by id and by text: only that is shown, the address has it and can be sent to somebody, and what is new comes by
/// itself, of the same kind.
pub fn log_by_filters(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    browser.open("log")?;
    browser.see("00-04503")?;
    let all = ids(&browser)?;
    ensure!(all.iter().any(|id| id == "00-05150") && all.iter().any(|id| id != "00-05150"), "{all:?}");

    fill(&browser, "Id", "00-05150")?;
    only(&browser, "00-05150", 1)?;
    let address = browser.script("return location.hash", &[])?;
    ensure!(address.as_str().is_some_and(|hash| hash.contains("id=00-05150")), "{address}");
    browser.script("location.reload()", &[])?;
    browser.see("Go on live")?;
    only(&browser, "00-05150", 1)?;

    site.api()?.switch_over("sip", "for the log")?;
    only(&browser, "00-05150", 2)?;
    ensure!(browser.text()?.contains("sip2 on host2"), "the new primary is in the log");

    fill(&browser, "Id", "")?;
    fill(&browser, "Text", "for the log")?;
    only(&browser, "70-00303", 1)?;
    fill(&browser, "Text", "nobody ever said this")?;
    browser.see("Nothing is like that")?;

    browser.open("log?id=99-x")?;
    browser.see("is not an event id such as 00-05150")?;
    browser.said_nothing()
}

/// Until when the agents' certificates count, on the page, and whose they are, in the API.
pub fn certificates_of_hosts(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("victor", "viewer", DESKTOP)?;
    browser.open("hosts")?;
    let two = "const told = [...document.querySelectorAll('tbody td span')].map((e) => e.innerText); \
               return told.filter((text) => text.startsWith('ends in')).length === 2";
    browser.wait("both certificates", two, &[])?;
    let told: sci::api::Hosts = site.api()?.get("/hosts")?;
    for line in told.hosts {
        let certificate = line.certificate.with_context(|| format!("{} has none", line.host.name))?;
        ensure!(certificate.subject.contains(line.host.name.as_str()), "{certificate:?}");
        ensure!(certificate.from < certificate.until, "{certificate:?}");
    }
    browser.said_nothing()
}

/// Types into the field of this label, in place of what is there, and sends the form.
fn fill(browser: &Browser, label: &str, text: &str) -> anyhow::Result<()> {
    let focus = "const l = [...document.querySelectorAll('main form label')].find((l) => l.innerText.trim() === arguments[0]); \
                 const i = l.querySelector('input'); i.value = ''; i.focus()";
    browser.script(focus, &[json!(label)])?;
    if !text.is_empty() {
        browser.keys(text)?;
    }
    browser.press(Key::Enter)
}

/// Waits until so many rows are shown, all with this id.
fn only(browser: &Browser, id: &str, rows: usize) -> anyhow::Result<()> {
    let script = "const ids = [...document.querySelectorAll('tbody tr')].map((row) => row.cells[2].innerText); \
                  return ids.length === arguments[1] && ids.every((id) => id === arguments[0])";
    browser.wait(&format!("{rows} rows with {id} alone"), script, &[json!(id), json!(rows)])
}

fn ids(browser: &Browser) -> anyhow::Result<Vec<String>> {
    let rows = browser.script(
        "return [...document.querySelectorAll('tbody tr')].map((row) => row.cells[2].innerText)",
        &[],
    )?;
    Ok(rows.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}
