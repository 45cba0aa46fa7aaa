//! axe-core, which looks for what keeps people out: missing labels, too little contrast, wrong roles. `cargo xtask test` fetches
//! it; it is shipped with nothing.

use crate::browser::Browser;
use anyhow::Context;

/// Its script.
///
/// # Errors
/// It is not there.
pub fn script() -> anyhow::Result<String> {
    let file = std::env::var_os("AXE")
        .context("axe-core is missing: run `cargo xtask test`, or name its script in AXE")?;
    std::fs::read_to_string(&file).with_context(|| format!("no axe-core at {}", file.display()))
}

/// What is serious or critical in the page that is open; each with the elements.
///
/// # Errors
/// The browser does not answer.
pub fn serious(browser: &Browser, axe: &str) -> anyhow::Result<Vec<String>> {
    // By the driver, which the page's policy does not bind.
    browser.script(axe, &[])?;
    browser.script(
        "window.found = null; axe.run(document).then((result) => { window.found = result.violations; })",
        &[],
    )?;
    browser.wait("axe to have looked", "return window.found !== null", &[])?;
    let found = browser.script(
        "return window.found.filter((v) => ['serious', 'critical'].includes(v.impact)) \
         .map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html).join(' ')}`)",
        &[],
    )?;
    Ok(serde_json::from_value(found)?)
}
