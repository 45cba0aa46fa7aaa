//! Every page, light and dark, on a desktop and on a telephone: pictures to look at; nothing is wider than the window, nothing
//! is broken, and nothing serious is found by axe-core.

use crate::axe;
use crate::browser::{DESKTOP, PHONE};
use crate::office::Office;
use anyhow::ensure;
use netlab::Lab;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Pages with something that they show when they are there.
const PAGES: [(&str, &str, &str); 13] = [
    ("overview", "", "all pairs are well"),
    ("pair", "pair/sip", "Who was primary"),
    ("incidents", "incidents", "manual switchover"),
    ("incident", "incident/2", "Phases, to scale"),
    ("alarms", "alarms", "Also those that have ended"),
    ("log", "log", "00-05150"),
    ("hosts", "hosts", "host2"),
    ("applications", "applications", "sip2"),
    ("solutions", "solutions", "office"),
    ("times", "times", "Median"),
    ("configuration", "configuration", "Revision 1"),
    ("audit", "audit", "add user"),
    ("users", "users", "Tokens of programs"),
];

/// All of them.
pub fn every_page(_: &mut Lab) -> anyhow::Result<()> {
    let site = Office::open()?;
    site.api()?.switch_over("sip", "for the pictures")?;
    e2e::whole(&site, "sip2")?;
    let axe = axe::script()?;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    fs::create_dir_all(&directory)?;
    for (size_name, size) in [("desktop", DESKTOP), ("phone", PHONE)] {
        let browser = site.browser(size)?;
        browser.open("")?;
        browser.see("There is no default password")?;
        browser.picture(&directory.join(format!("login-{size_name}.png")))?;
        browser.set_password(&site.link_for(&format!("anna-{size_name}"), "administrator")?, None)?;
        browser.watch()?;
        for theme in ["light", "dark"] {
            browser.script("document.documentElement.dataset.theme = arguments[0]", &[json!(theme)])?;
            for (name, page, shows) in PAGES {
                browser.open(page)?;
                browser.see(shows)?;
                browser.picture(&directory.join(format!("{name}-{size_name}-{theme}.png")))?;
                let wider =
                    browser.script("return document.documentElement.scrollWidth - innerWidth", &[])?;
                ensure!(
                    wider.as_f64().is_some_and(|by| by <= 0.0),
                    "{name} on a {size_name} is wider by {wider}"
                );
                let serious = axe::serious(&browser, &axe)?;
                ensure!(serious.is_empty(), "{name}, {size_name}, {theme}: {serious:#?}");
            }
        }
        browser.said_nothing()?;
    }
    Ok(())
}
