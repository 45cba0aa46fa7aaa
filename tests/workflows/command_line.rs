//! The operator's command line against a running site: what it prints, its JSON, its exit codes.

use anyhow::{Context, ensure};
use e2e::{ordinary_site, site_with, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::Site;
use serde_json::Value;
use std::process::{Command, Output};

/// What a verb printed, and its exit code.
pub struct Said {
    what: String,
    code: Option<i32>,
    pub out: String,
    err: String,
}

impl Said {
    fn by(mut command: Command) -> anyhow::Result<Self> {
        let Output { status, stdout, stderr } = command.output()?;
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        Ok(Self {
            what: format!("takeover {}", arguments.join(" ")),
            code: status.code(),
            out: String::from_utf8(stdout)?,
            err: String::from_utf8(stderr)?,
        })
    }

    /// Checks the exit code and that all of `words` were printed, on either stream.
    pub fn expect(self, code: i32, words: &[&str]) -> anyhow::Result<Self> {
        let shown = format!("{}\n{}{}", self.what, self.out, self.err);
        ensure!(self.code == Some(code), "exit code {:?} and not {code} of {shown}", self.code);
        for word in words {
            ensure!(self.out.contains(word) || self.err.contains(word), "{word:?} is not said by {shown}");
        }
        Ok(self)
    }

    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}\n{}", self.what, self.out))
    }
}

pub fn takeover(site: &Site, line: &str) -> anyhow::Result<Said> {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    Said::by(site.command(&arguments)?)
}

/// Looking: nothing changes by it.
pub fn shows(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    takeover(&site, "status")?
        .expect(0, &["sip1", "sip2", "primary", "backup", "192.0.2.100", "host1", "host2"])?;
    takeover(&site, "status --check")?.expect(0, &[])?;
    let status = takeover(&site, "status --json")?.expect(0, &[])?.json()?;
    ensure!(status["pairs"][0]["primary"] == "sip1" && status["hosts"][0]["status"] == "up", "{status:#}");

    takeover(&site, "hosts")?.expect(0, &["host1", "host2", "up"])?;
    takeover(&site, "alarms")?.expect(0, &[])?;
    takeover(&site, "log")?.expect(0, &["00-05150", "70-00601"])?;
    let filtered = takeover(&site, "log --id 00-5150 --app sip1 --json")?.expect(0, &[])?.json()?;
    let events = filtered["events"].as_array().context("a list of events")?;
    ensure!(
        !events.is_empty() && events.iter().all(|e| e["id"] == "00-05150" && e["app"] == "sip1"),
        "{filtered:#}"
    );
    takeover(&site, "incidents")?.expect(0, &["first primary"])?;
    takeover(&site, "incidents show 1")?.expect(0, &["sip1", "completed"])?;

    let plan = takeover(&site, "switchover sip --plan")?.expect(0, &["sip2"])?;
    ensure!(!plan.out.is_empty());
    takeover(&site, "switchover sip --plan --json")?.expect(0, &[])?.json()?;
    whole(&site, "sip1")
}

/// Ordering: it is done when the verb ends, and told while it goes on.
pub fn orders(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    takeover(&site, "switchover sip --yes --reason maintenance")?.expect(0, &["completed", "sip2"])?;
    whole(&site, "sip2")?;
    let incident = takeover(&site, "switchover sip --to sip1 --yes --json")?.expect(0, &[])?.json()?;
    ensure!(incident["kind"] == "manual" && incident["to"] == "sip1", "{incident:#}");
    whole(&site, "sip1")?;
    let number = incident["id"].to_string();
    takeover(&site, &format!("incidents show {number}"))?
        .expect(0, &["manual switchover", "1", "8", "completed"])?;

    let was = site.app_pid("sip2")?;
    takeover(&site, "restart sip2 --yes")?.expect(0, &[])?;
    wait_until("sip2 to be restarted", || Ok(site.app_pid("sip2").is_ok_and(|pid| pid != was)))?;
    whole(&site, "sip1")?;

    takeover(&site, "stop sip2 --yes --reason repair")?.expect(0, &[])?;
    wait_until("sip2 to stop", || Ok(site.app_pid("sip2").is_err()))?;
    takeover(&site, "status --check")?.expect(4, &["sip2"])?;
    takeover(&site, "switchover sip --yes")?.expect(1, &["sip2"])?;
    takeover(&site, "start sip2")?.expect(0, &[])?;
    whole(&site, "sip1")
}

/// An alarm that stays: listed, counted as trouble, cleared by hand, and kept in the history.
pub fn alarms(_: &mut Lab) -> anyhow::Result<()> {
    let site = site_with(|cluster| {
        cluster.replace("[applications.sip1]\n", "[applications.sip1]\nrestart = false\n")
    })?;
    site.signal_app("sip1", Signal::SIGKILL)?;
    let active = || takeover(&site, "alarms --json")?.expect(0, &[])?.json();
    let mut number = None;
    wait_until("the alarm", || {
        let listed = active()?;
        let mut alarms = listed["alarms"].as_array().into_iter().flatten();
        number = alarms.find(|a| a["condition"] == "application-failure").map(|a| a["number"].to_string());
        Ok(number.is_some())
    })?;
    let number = number.context("the alarm has a number")?;
    takeover(&site, "alarms")?.expect(0, &["application-failure", "sip1", &number])?;
    takeover(&site, "status --check")?.expect(4, &["application-failure"])?;
    takeover(&site, &format!("alarms clear {number} --reason known"))?.expect(0, &[])?;
    wait_until("the alarm to be cleared", || Ok(!active()?.to_string().contains("application-failure")))?;
    takeover(&site, &format!("alarms clear {number}"))?.expect(1, &[&number])?;
    takeover(&site, "alarms --history")?.expect(0, &["application-failure"])?;
    takeover(&site, "start sip1")?.expect(0, &[])?;
    whole(&site, "sip2")
}

/// What is refused, mistyped, or out of reach.
pub fn exit_codes(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    takeover(&site, "switchover sip --to sip1 --yes")?.expect(1, &["sip1"])?;
    takeover(&site, "switchover nosuchpair --yes")?.expect(1, &["nosuchpair"])?;
    takeover(&site, "incidents show 4711")?.expect(1, &["4711"])?;
    takeover(&site, "switchover")?.expect(2, &["PAIR"])?;
    takeover(&site, "log --since whenever")?.expect(2, &["whenever"])?;
    site.kill_scs()?;
    takeover(&site, "status")?.expect(3, &["SCS"])?;
    Ok(())
}
