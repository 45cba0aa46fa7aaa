//! Telephones, by SIPp.

use crate::telephones::{DOMAIN, PARTIES, PASSWORD, party};
use anyhow::{Context, bail, ensure};
use domain::{Micros, Standby};
use e2e::{APPS, site_with, wait_until, whole};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, CLIENT, SIP_PORT, Site, VIP};
use serde_json::Value;
use sip_proto::digest::{Algorithm, secret};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The clients' address.
pub const CLIENT_ADDRESS: &str = "192.0.2.20";
/// Ports of the telephones.
pub const CALLER: u16 = 5080;
pub const CALLEE: u16 = 5070;
/// Where the servers keep their call records: a directory that each host of the laboratory has for itself.
const RECORDS: &str = "/var/log/takeover/cdr.jsonl";

/// What the pair's SIP Servers are to know: users, no limit that a test would exceed, and `more` keys. The role may move, and
/// servers may be killed, as often as a test wants.
fn sip_settings(more: &str) -> String {
    let mut text = format!(
        "\n[pairs.sip.sip]\ndomains = [\"{DOMAIN}\"]\ncdr-directory = \"/var/log/takeover\"\nhttp-port = 7480\n\
         limits = {{ source-rate = 100000, source-burst = 100000 }}\n{more}\n"
    );
    let users = ["caller".to_owned(), "callee".to_owned()].into_iter().chain((0..PARTIES).map(party));
    for user in users {
        let secret = secret(Algorithm::Md5, &user, DOMAIN, PASSWORD);
        text += &format!("\n[pairs.sip.sip.users.{user}]\nmd5 = \"{secret}\"\n");
    }
    for app in APPS {
        text += &format!("\n[applications.{app}.restart]\ndelay = \"0s\"\nattempts = 1000\n");
    }
    text + "\n[pairs.sip.flap-guard]\nfree = 1000\n"
}

/// The installation with its users, `more` settings of the SIP Servers, and sip1 as primary.
///
/// # Errors
/// It does not come up.
pub fn site_with_settings(more: &str) -> anyhow::Result<Site> {
    let settings = sip_settings(more);
    let site = site_with(move |cluster| cluster + &settings)?;
    whole(&site, "sip1")?;
    Ok(site)
}

/// The installation with its users, of whom the callee is registered, and sip1 as primary.
///
/// # Errors
/// It does not come up.
pub fn site() -> anyhow::Result<Site> {
    let site = site_with_settings("")?;
    register(&site, "callee", CALLEE)?;
    Ok(site)
}

/// Registers a user at this port of the clients' host.
///
/// # Errors
/// It does not succeed.
pub fn register(site: &Site, user: &str, port: u16) -> anyhow::Result<()> {
    let arguments = ["-s", user, "-m", "1", "-au", user, "-ap", "secret", "-auth_uri", VIP];
    let mut phone = Sipp::begin(site, "phone", port, &arguments)?;
    phone.succeeds().with_context(|| format!("{user} cannot register"))
}

/// A SIPp at work.
pub struct Sipp {
    process: Child,
    output: PathBuf,
    errors: PathBuf,
    statistics: PathBuf,
}

impl Sipp {
    /// Starts it on the clients' host, with its socket at this port; it has it when this returns.
    ///
    /// # Errors
    /// SIPp is not installed, or does not begin.
    pub fn begin(site: &Site, scenario: &str, port: u16, arguments: &[&str]) -> anyhow::Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("sipp/{scenario}.xml"));
        let output = site.files().join(format!("sipp-{scenario}-{port}.txt"));
        let errors = site.files().join(format!("sipp-{scenario}-{port}-errors.txt"));
        let statistics = site.files().join(format!("sipp-{scenario}-{port}.csv"));
        let mut command = Command::new("sipp");
        command.arg("-sf").arg(file).args([
            "-nostdin",
            "-recv_timeout",
            "20000",
            "-timeout",
            "110s",
            "-timeout_error",
        ]);
        command.args(["-i", CLIENT_ADDRESS, "-p", &port.to_string()]).args(arguments);
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
        command.arg("-trace_err").arg("-error_file").arg(&errors).arg(format!("{VIP}:{SIP_PORT}"));
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        let process = site.lab.spawn(CLIENT, command).context(
            "SIPp cannot be started: `cargo xtask prepare` says how to install it (package sip-tester)",
        )?;
        let mut sipp = Self { process, output, errors, statistics };
        let socket = format!(":{port:04X} ");
        wait_until("SIPp to begin", || {
            let sockets =
                site.lab.in_host(CLIENT, || std::fs::read_to_string("/proc/thread-self/net/udp"))??;
            Ok(sockets.contains(&socket) || sipp.process.try_wait()?.is_some())
        })?;
        Ok(sipp)
    }

    /// Whether it is not done yet.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn goes_on(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Waits for the end; SIPp's exit code is 0 only when every call succeeded.
    ///
    /// # Errors
    /// What SIPp has shown at its end.
    pub fn succeeds(&mut self) -> anyhow::Result<()> {
        let status = self.process.wait()?; // it ends at its own time limit
        if !status.success() {
            let said = std::fs::read_to_string(&self.output)?;
            let end = said.lines().count().saturating_sub(60);
            let said: Vec<_> = said.lines().skip(end).collect();
            let errors = std::fs::read_to_string(&self.errors)?;
            let errors: Vec<_> = errors.lines().take(60).collect();
            bail!("SIPp ended with {status}:\n{}\n{}", said.join("\n"), errors.join("\n"));
        }
        Ok(())
    }
}

impl Sipp {
    /// Makes no further calls, and ends with the last of those that there are.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn finish(&self) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.process.id())?), Signal::SIGUSR1)?)
    }

    /// A figure of its last screen, such as `Total Calls created`; after its end.
    ///
    /// # Errors
    /// There is none.
    pub fn figure(&self, name: &str) -> anyhow::Result<usize> {
        let said = std::fs::read_to_string(&self.output)?;
        let line = said.lines().rfind(|line| line.trim_start().starts_with(name));
        let figure = line.and_then(|line| line.rsplit('|').next()?.trim().parse().ok());
        figure.with_context(|| format!("SIPp says nothing of {name}"))
    }

    /// For how many seconds it has been at work, as far as it has written down.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn seconds(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_to_string(&self.statistics)?.lines().count().saturating_sub(1))
    }

    /// How often it has sent something again in each second, by the time of that second's end, as Unix time.
    ///
    /// # Errors
    /// It has not written that down.
    pub fn retransmissions(&self) -> anyhow::Result<Vec<(f64, u64)>> {
        let text = std::fs::read_to_string(&self.statistics)?;
        let mut lines = text.lines().map(|line| line.split(';').collect::<Vec<_>>());
        let names = lines.next().context("SIPp names its figures")?;
        let column =
            |wanted: &str| names.iter().position(|name| *name == wanted).context("a figure is missing");
        let (time, count) = (column("CurrentTime")?, column("Retransmissions(P)")?);
        let read = |fields: Vec<&str>| -> Option<(f64, u64)> {
            let unix_time = fields.get(time)?.rsplit('\t').next()?.trim().parse().ok()?;
            Some((unix_time, fields.get(count)?.trim().parse().ok()?))
        };
        lines.map(|fields| read(fields).context("not a line of figures")).collect()
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        // Done, or a test that has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Calls, and who takes them.
pub struct Calls {
    pub callers: Sipp,
    pub callees: Sipp,
}

impl Calls {
    /// So many calls, so many a second: `caller` and `callee` are the scenarios, each with how long it waits in its middle.
    ///
    /// # Errors
    /// SIPp does not begin.
    pub fn begin(
        site: &Site,
        (number, rate): (u32, u32),
        (caller, waits): (&str, Duration),
        (callee, rings): (&str, Duration),
    ) -> anyhow::Result<Self> {
        let (number, rate) = (number.to_string(), rate.to_string());
        let (waits, rings) = (waits.as_millis().to_string(), rings.as_millis().to_string());
        let callees = Sipp::begin(site, callee, CALLEE, &["-m", &number, "-d", &rings])?;
        // SIPp would make the proof for another URI than the one that it calls.
        let uri = format!("callee@{VIP}");
        let proof = ["-au", "caller", "-ap", "secret", "-auth_uri", &uri];
        let pace = ["-s", "callee", "-m", &number, "-r", &rate, "-d", &waits];
        let callers = Sipp::begin(site, caller, CALLER, &[&pace[..], &proof[..]].concat())?;
        Ok(Self { callers, callees })
    }

    /// Waits for the end of all calls.
    ///
    /// # Errors
    /// A call that failed.
    pub fn succeed(mut self) -> anyhow::Result<()> {
        self.callers.succeeds().context("the callers")?;
        self.callees.succeeds().context("the callees")
    }
}

/// What the SIP Server of an application has told of its copy, or of its calls.
///
/// # Errors
/// The SCS does not answer.
pub fn standby(site: &Site, app: &str) -> anyhow::Result<Standby> {
    Ok(told_since(site, app, Micros(0))?.unwrap_or_default())
}

/// The same, if it has told it since then, on the SCS's clock.
///
/// # Errors
/// The SCS does not answer.
pub fn told_since(site: &Site, app: &str, since: Micros) -> anyhow::Result<Option<Standby>> {
    let view = site.api()?.view()?;
    let member = view.pairs.iter().flat_map(|pair| &pair.members).find(|member| member.app.as_str() == app);
    let told = member.and_then(|member| member.standby).filter(|view| view.told >= since);
    Ok(told.map(|view| view.standby))
}

/// The records of both hosts by call, and how many there are besides; of two of the same call, the one with the greater epoch
/// counts.
///
/// # Errors
/// A record that is none.
pub fn records(site: &Site) -> anyhow::Result<(BTreeMap<String, Value>, usize)> {
    let mut records = BTreeMap::<String, Value>::new();
    let mut doubled = 0;
    for host in AGENT_HOSTS {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("cat {RECORDS} 2>/dev/null || true")]).stdout(Stdio::piped());
        let output = site.lab.spawn(host, command)?.wait_with_output()?;
        for line in String::from_utf8(output.stdout)?.lines() {
            let record: Value = serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
            let call = record["call"].to_string();
            let epoch = |record: &Value| record["epoch"].as_u64();
            if let Some(known) = records.get(&call) {
                // The same, where one host died between writing it and telling the other.
                ensure!(
                    *known == record || epoch(known) != epoch(&record),
                    "two records of one epoch: {known}, {record}"
                );
                doubled += 1;
                if epoch(known) >= epoch(&record) {
                    continue;
                }
            }
            records.insert(call, record);
        }
    }
    Ok((records, doubled))
}

/// Waits until there is a record of each of so many calls, and checks that there is no other.
///
/// # Errors
/// There are more, or there stay fewer.
pub fn recorded(site: &Site, calls: usize) -> anyhow::Result<()> {
    wait_until("a record of each call", || Ok(records(site)?.0.len() >= calls))?;
    let (found, doubled) = records(site)?;
    println!("{} calls are recorded, {doubled} of them by both hosts", found.len());
    ensure!(found.len() == calls, "{} records of {calls} calls", found.len());
    Ok(())
}
