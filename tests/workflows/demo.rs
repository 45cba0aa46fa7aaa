//! `takeover demo` runs all workflows by itself, for root and for an ordinary user.

use anyhow::{Context, ensure};
use netlab::Lab;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

const ALL: [&str; 4] = ["demo", "--workflow", "all", "--json"];

/// As whoever runs the tests, mostly root.
pub fn as_oneself(_: &mut Lab) -> anyhow::Result<()> {
    let mut command = Command::new(e2e::binary()?);
    command.args(ALL);
    succeeded(&run(command)?)
}

/// As a user without any right; the kernel may be set up not to let one make namespaces, which is then said.
pub fn as_nobody(_: &mut Lab) -> anyhow::Result<()> {
    // Where the user may execute it, whoever built it; not in the case's own directories, which the demo's hide.
    let directory = tempfile::tempdir_in("/tmp")?;
    fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    let binary = directory.path().join("takeover");
    fs::copy(e2e::binary()?, &binary)?;
    fs::set_permissions(&binary, Permissions::from_mode(0o755))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary).args(ALL);
    let output = run(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The second: there is no other user where an ordinary one runs this, whom `as_oneself` is about then.
    if ["does not let this user make network namespaces", "setresuid failed"]
        .iter()
        .any(|why| said.contains(why))
    {
        println!("not possible here: {said}");
        return Ok(());
    }
    succeeded(&output)
}

fn run(mut command: Command) -> anyhow::Result<Output> {
    command.stdin(Stdio::null()).current_dir("/");
    command.output().with_context(|| format!("cannot start {}", command.get_program().display()))
}

fn succeeded(output: &Output) -> anyhow::Result<()> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the demo ended with {}:\n{out}{err}", output.status);
    let report: serde_json::Value = serde_json::from_str(&out).with_context(|| format!("not JSON: {out}"))?;
    let workflows = report["workflows"].as_array().context("a list of workflows")?;
    ensure!(workflows.len() == 4 && report["passed"] == true, "{report:#}");
    Ok(())
}
