//! cargo-deny: licences, bans and sources of everything we depend on, always; known vulnerabilities whenever the
//! database of RustSec can be fetched. deny.toml holds the rules.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, find_program, output, root, succeeds};

/// The version that is installed when there is none: a newer one could read deny.toml differently.
const VERSION: &str = "0.20.2";
/// How long fetching the advisories may take, in seconds; a network that swallows packets must not hang the run.
const FETCH_LIMIT_S: &str = "120";

/// Runs all checks; `Ok(false)` when one complains.
///
/// # Errors
/// When cargo-deny can neither be found nor installed.
pub fn run() -> Result<bool> {
    let Some(program) = program()? else { return Ok(false) };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        command
    };
    let rules =
        succeeds(&mut deny(&["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;

    // Fetching and checking are two steps, so that "could not ask" is never taken for "found nothing", nor for "found
    // something".
    let mut fetch = Command::new("timeout");
    fetch.current_dir(root()).arg(FETCH_LIMIT_S).arg(&program).args(["--locked", "fetch", "db"]);
    if !succeeds(&mut fetch)? {
        println!(
            "warning: the advisories of RustSec could not be fetched: known vulnerabilities were NOT checked"
        );
        return Ok(rules);
    }
    let advisories = succeeds(&mut deny(&["--locked", "--offline", "check", "advisories"]))?;
    Ok(rules && advisories)
}

/// cargo-deny from PATH or from an earlier run; otherwise installs it below the target directory. `None` when that failed.
fn program() -> Result<Option<PathBuf>> {
    if let Some(installed) = find_program("cargo-deny") {
        return Ok(Some(installed));
    }
    let tools = tools_directory()?;
    let program = tools.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(Some(program));
    }
    println!("cargo-deny {VERSION} is not there: installing it into {} (minutes, once)", tools.display());
    let mut install = cargo();
    install.args(["install", "--locked", "cargo-deny", "--version", VERSION, "--root"]).arg(&tools);
    Ok(succeeds(&mut install)?.then_some(program))
}

/// Where tools go that are installed for the tests and the checks: below the target directory.
///
/// # Errors
/// cargo metadata fails.
pub fn tools_directory() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("tools"))
}
