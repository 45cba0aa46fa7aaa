//! Schemathesis, which tries the API against its own document, from PyPI into a directory of its own below the target directory:
//! Debian has no package of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::deny::tools_directory;
use crate::packages;
use crate::process::{find_program, shown, succeeds};

/// What the tests were written for.
const VERSION: &str = "4.32.5";

/// Where it is; installs it where it is not. None: that did not work, and why was said; the test that needs it will fail.
///
/// # Errors
/// A program cannot be started.
pub fn prepare() -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("SCHEMATHESIS") {
        return Ok(Some(named.into()));
    }
    let directory = tools_directory()?.join(format!("schemathesis-{VERSION}"));
    let program = directory.join("bin/schemathesis");
    if program.exists() {
        return Ok(Some(program));
    }
    let Some(python) = find_program("python3") else {
        eprintln!("warning: there is no python3, so the API cannot be tried against its document");
        return Ok(None);
    };
    println!("schemathesis: installing {VERSION} into {}", directory.display());
    let mut environment = Command::new(&python);
    environment.args(["-m", "venv", "--clear"]).arg(&directory);
    // Debian has a part of it in a package of its own.
    if !(quietly(&mut environment)? || packages::install(&["python3-venv"])? && quietly(&mut environment)?) {
        eprintln!("warning: `{}` fails; install the package python3-venv", shown(&environment));
        return Ok(None);
    }
    let mut install = Command::new(directory.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", &format!("schemathesis=={VERSION}")]);
    if !succeeds(install.stdin(Stdio::null())).context("cannot start pip")? {
        eprintln!("warning: `{}` fails: is PyPI within reach?", shown(&install));
        return Ok(None);
    }
    Ok(program.exists().then_some(program))
}

fn quietly(command: &mut Command) -> Result<bool> {
    succeeds(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}
