//! Starts that are refused: files with errors, and a second one of what may run once. Each says why and leaves what runs alone.

use anyhow::{Context, ensure};
use e2e::{ordinary_site, whole};
use netlab::Lab;
use rehearsal::{SCS_HOST, Site};
use std::fs;
use std::process::{Command, Output, Stdio};

/// A cluster file and a host file with errors: refused with the place, by the check and by the parts themselves.
pub fn files_with_errors(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (cluster, host) = (site.files().join("bad-cluster.toml"), site.files().join("bad-host.toml"));
    fs::write(&cluster, "[hosts.host1]\naddress = \"nonsense\"\n")?;
    fs::write(&host, "host = \"host1\"\n")?;
    let (cluster, host) = (cluster.to_str().context("UTF-8")?, host.to_str().context("UTF-8")?);
    refused(&site, SCS_HOST, &["check", cluster], 2, "bad-cluster.toml:2:11")?;
    refused(&site, SCS_HOST, &["scs", "--cluster", cluster], 1, "bad-cluster.toml:2:11")?;
    refused(&site, "host1", &["check", "--host-file", host], 2, "`scs` is required")?;
    refused(&site, "host1", &["lca", "--config", host], 1, "`scs` is required")?;
    whole(&site, "sip1")
}

/// A second SCS on its host and a second agent on its: refused, and the first ones go on.
pub fn a_second_one(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let file = |name: &str| site.files().join(name).display().to_string();
    let [cluster, certificate, key, ca] = ["cluster.toml", "scs.pem", "scs.key", "ca.pem"].map(file);
    let mut scs =
        vec!["scs", "--cluster", &cluster, "--certificate", &certificate, "--key", &key, "--ca", &ca];
    refused(&site, SCS_HOST, &scs, 1, "another SCS runs on this host")?;
    scs.extend(["--api-socket", "/run/takeover/second.sock"]);
    refused(&site, SCS_HOST, &scs, 1, "another SCS runs on /var/lib/takeover")?;
    scs.extend(["--state-directory", "/var/lib/takeover/second"]);
    refused(&site, SCS_HOST, &scs, 1, "cannot listen on 192.0.2.10:7400")?;
    refused(&site, "host1", &["lca", "--config", &file("host1.toml")], 1, "another agent runs")?;
    ensure!(site.api()?.view()?.pairs[0].epoch == e2e::FIRST_GRANT, "no role change was due");
    whole(&site, "sip1")
}

/// Runs the binary on a host to its end (the case's limit bounds it), which is to come with this code and these words.
fn refused(site: &Site, host: &str, arguments: &[&str], code: i32, words: &str) -> anyhow::Result<()> {
    let mut command = Command::new(site.takeover());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { status, stderr, .. } = site.lab.spawn(host, command)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(
        status.code() == Some(code) && said.contains(words),
        "takeover {} ended with {status} and said {said:?}; {code} and {words:?} were due",
        arguments.join(" ")
    );
    Ok(())
}
