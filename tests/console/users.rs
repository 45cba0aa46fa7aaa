//! Logging in, and what becomes of those who may not.

use crate::browser::DESKTOP;
use crate::office::{Office, PASSWORD};
use anyhow::ensure;
use fantoccini::key::Key;
use netlab::Lab;
use serde_json::json;

/// From the link that the SCS prints to a user who was made, locked out and comes no further.
pub fn the_first_administrator_makes_the_others(_: &mut Lab) -> anyhow::Result<()> {
    let office = Office::open()?;
    let browser = office.browser(DESKTOP)?;
    let link = office.first_link()?;
    browser.set_password(&link, Some("root"))?;
    browser.watch()?;
    browser.open("users")?;
    browser.see("can log in")?;
    browser.click("New user")?;
    browser.see("The user chooses a password by a link")?;
    browser.keys("olga")?;
    browser.tab_to("reason")?;
    browser.keys("works here")?;
    browser.press(Key::Enter)?;
    browser.see("it is not shown again")?;
    let shown = browser.script("return document.querySelector('dialog pre').innerText", &[])?;
    let address = shown.as_str().unwrap_or_default();
    let olgas = &address[address.find("/#/").unwrap_or_default()..];
    browser.click("Close")?;
    browser.see("has not opened the link yet")?;

    let hers = office.browser(DESKTOP)?;
    hers.set_password(olgas, None)?;
    hers.click("Log out")?;
    hers.see("There is no default password")?;
    hers.log_in("olga", "wrong horse battery")?;
    hers.see("do not let anybody in")?;
    hers.log_in("olga", PASSWORD)?;
    hers.see("Overview")?;
    hers.load(olgas)?;
    hers.see("used already")?;

    browser.open("audit")?;
    browser.see("works here")?;
    browser.open("users")?;
    browser.click("Disable olga")?;
    browser.keys("has left")?;
    browser.press(Key::Enter)?;
    browser.see("disabled")?;
    hers.open("hosts")?;
    hers.see("There is no default password")?;
    browser.said_nothing()
}

/// What one may not do is not offered, and pages of other roles say whose they are.
pub fn a_viewer_is_offered_no_orders(_: &mut Lab) -> anyhow::Result<()> {
    let office = Office::open()?;
    let browser = office.browser_of("victor", "viewer", DESKTOP)?;
    for (page, shows) in
        [("pair/sip", "Who was primary"), ("applications", "sip1"), ("alarms", "Also those that have ended")]
    {
        browser.open(page)?;
        browser.see(shows)?;
        for order in ["Switch over", "Stop", "Restart", "Clear", "Maintenance"] {
            let offered = "return [...document.querySelectorAll('main button')].some((b) => b.innerText.includes(arguments[0]))";
            ensure!(
                browser.script(offered, &[json!(order)])? == json!(false),
                "{page} offers {order:?} to a viewer"
            );
        }
    }
    browser.open("users")?;
    browser.see("This page is for the role administrator")?;
    browser.said_nothing()
}

/// A session ends while somebody looks: the page says so by itself, offers to log in, and goes on where it was.
pub fn a_session_that_ended(_: &mut Lab) -> anyhow::Result<()> {
    let office = Office::open()?;
    let browser = office.browser_of("victor", "viewer", DESKTOP)?;
    browser.open("hosts")?;
    browser.see("host2")?;
    // What the SCS says to a session that is over is what it says to none.
    browser.forget_cookies()?;
    browser.see("The session has ended")?;
    ensure!(!browser.text()?.contains("host2"), "what was seen before is shown on");
    browser.log_in("victor", PASSWORD)?;
    browser.see("Log out")?;
    browser.see("host2")?;
    browser.click("Log out")?;
    browser.see("There is no default password")?;
    ensure!(!browser.text()?.contains("The session has ended"), "it was ended by who had it");
    browser.said_nothing()
}
