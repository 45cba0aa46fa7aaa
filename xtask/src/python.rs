//! Tools of the tests that Debian has no package of, from PyPI into a directory of their own below the target directory:
//! Schemathesis tries the API against its own document, axe-core looks for what keeps people out of the console's pages, and an
//! identity provider is there to log in by.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::deny::tools_directory;
use crate::packages;
use crate::process::{find_program, shown, succeeds};

/// What the tests were written for. The second brings the script of axe-core.
const TOOLS: [&str; 3] = ["schemathesis==4.32.5", "axe-core-python==0.1.0", "oidc-provider-mock==0.3.4"];

/// Where tests look for a tool, and where it is.
pub type Tool = (&'static str, PathBuf);

/// The tools; installs them where they are not. Empty: that did not work, and why was said; the tests that need them will fail.
///
/// # Errors
/// A program cannot be started.
pub fn prepare() -> Result<Vec<Tool>> {
    let directory = tools_directory()?.join("python");
    if found(&directory).is_empty() && !install(&directory)? {
        return Ok(Vec::new());
    }
    Ok(found(&directory))
}

/// All, or none.
fn found(directory: &Path) -> Vec<Tool> {
    let [schemathesis, provider] =
        ["schemathesis", "oidc-provider-mock"].map(|program| directory.join("bin").join(program));
    let libraries = std::fs::read_dir(directory.join("lib")).into_iter().flatten().flatten();
    let axe = libraries
        .map(|python| python.path().join("site-packages/axe_core_python/axe.min.js"))
        .find(|script| script.exists());
    match axe {
        Some(axe) if schemathesis.exists() && provider.exists() => {
            vec![("SCHEMATHESIS", schemathesis), ("AXE", axe), ("OIDC_PROVIDER", provider)]
        }
        Some(_) | None => Vec::new(),
    }
}

fn install(directory: &Path) -> Result<bool> {
    let Some(python) = find_program("python3") else {
        eprintln!("warning: there is no python3, so neither the API nor the console can be examined");
        return Ok(false);
    };
    println!("python: installing {} into {}", TOOLS.join(", "), directory.display());
    let mut environment = Command::new(&python);
    environment.args(["-m", "venv", "--clear"]).arg(directory);
    // Debian has a part of it in a package of its own.
    if !(quietly(&mut environment)? || packages::install(&["python3-venv"])? && quietly(&mut environment)?) {
        eprintln!("warning: `{}` fails; install the package python3-venv", shown(&environment));
        return Ok(false);
    }
    let mut install = Command::new(directory.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).args(TOOLS);
    if !succeeds(install.stdin(Stdio::null())).context("cannot start pip")? {
        eprintln!("warning: `{}` fails: is PyPI within reach?", shown(&install));
        return Ok(false);
    }
    Ok(true)
}

fn quietly(command: &mut Command) -> Result<bool> {
    succeeds(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}
