//! The cluster file, changed in the console while all goes on.

use crate::browser::{Browser, DESKTOP};
use crate::office::Office;
use anyhow::ensure;
use fantoccini::key::Key;
use netlab::Lab;
use serde_json::json;

const SECOND: &str = "192.0.2.101";

/// Replaces a piece of the text in the editor.
fn edit(browser: &Browser, from: &str, to: &str) -> anyhow::Result<()> {
    let script = "const e = document.querySelector('textarea.editor'); const was = e.value;
                  e.value = was.replace(arguments[0], arguments[1]); return e.value !== was";
    ensure!(browser.script(script, &[json!(from), json!(to)])? == json!(true), "{from:?} is not in the file");
    Ok(())
}

/// An error is shown at its line and changes nothing; a VIP is added, used, and taken away by going back.
pub fn an_error_is_shown_at_its_line_and_a_change_is_applied_and_undone(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    let browser = site.browser_of("anna", "administrator", DESKTOP)?;
    browser.open("configuration")?;
    browser.see("Revision 1 is in force")?;
    browser.see("Check and plan")?;

    edit(&browser, "redundancy = \"hot\"", "redundancy = \"hottest\"")?;
    browser.click("Check and plan")?;
    browser.see("hottest")?;
    let shown = "return document.querySelector('ul.problem button').innerText";
    let at = browser.script(shown, &[])?;
    browser.script("document.querySelector('ul.problem button').click()", &[])?;
    let marked = "const e = document.querySelector('textarea.editor');
                  return e.value.slice(e.selectionStart, e.selectionEnd)";
    let marked = browser.script(marked, &[])?;
    ensure!(marked == json!("\"hottest\""), "{at} leads to {marked}");

    browser.click("Discard changes")?;
    let more =
        format!("[[pairs.sip.vips]]\naddress = \"{SECOND}/24\"\ninterface = \"eth0\"\n\n[[pairs.sip.vips]]");
    edit(&browser, "[[pairs.sip.vips]]", &more)?;
    browser.click("Apply")?;
    browser.see("VIP 192.0.2.101 added")?;
    browser.tab_to("reason")?;
    browser.keys("one more")?;
    browser.press(Key::Enter)?;
    browser.see("Revision 2 is in force.")?;
    e2e::wait_until("the new VIP to be on host1", || Ok(site.holders(SECOND)? == ["host1"]))?;

    let opened = "document.querySelectorAll('details').forEach((d) => { d.open = true; })";
    browser.script(opened, &[])?;
    browser.see("one more")?;
    browser.click("Roll back to revision 1")?;
    browser.see("callers notice")?;
    browser.tab_to("reason")?;
    browser.keys("undone")?;
    browser.press(Key::Enter)?;
    browser.see("Revision 3 is in force.")?;
    e2e::wait_until("the VIP to go", || Ok(site.holders(SECOND)?.is_empty()))?;
    e2e::whole(&site, "sip1")?;

    let hers = site.browser_of("victor", "viewer", DESKTOP)?;
    hers.open("configuration")?;
    hers.see("rolled back to revision 1")?;
    hers.see("are for administrators")?;
    let has_text = "return document.querySelector('textarea') !== null";
    ensure!(hers.script(has_text, &[])? == json!(false), "the text is for administrators");
    browser.said_nothing()
}
