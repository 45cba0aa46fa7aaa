//! SIPp as SIP client of the VIP, while the role moves and afterwards: every call succeeds, retransmissions allowed.

use anyhow::{Context, bail, ensure};
use e2e::{LIMIT, ordinary_site, other, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{CLIENT, SIP_PORT, Site, VIP};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// OPTIONS and REGISTER during switchovers, back and forth for as long as SIPp calls.
pub fn calls_during_switchovers(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let mut primary = "sip1";
    for scenario in ["options", "refresh"] {
        let mut calls = Calls::begin(&site, scenario, 400, 400)?;
        let mut switchovers = 0;
        while calls.going_on()? {
            api.switch_over("sip", "while SIPp calls")?;
            primary = other(primary);
            whole(&site, primary)?;
            switchovers += 1;
        }
        println!("{scenario}: {switchovers} switchovers while SIPp called");
        ensure!(switchovers >= 3, "SIPp was done after {switchovers} switchovers");
        calls.all_succeeded()?;
    }
    Ok(())
}

/// OPTIONS and REGISTER while the primary is killed, and a phone's whole life at the new primary afterwards.
pub fn calls_during_and_after_failovers(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let mut primary = "sip1";
    for scenario in ["options", "refresh"] {
        let mut calls = Calls::begin(&site, scenario, 400, 200)?;
        site.signal_app(primary, Signal::SIGKILL)?;
        primary = other(primary);
        let prober = site.prober()?;
        ensure!(prober.await_answer(primary, netlab::now(), LIMIT), "{primary} does not take over");
        ensure!(calls.going_on()?, "SIPp was done before the failover was");
        calls.all_succeeded()?;
        whole(&site, primary)?;
    }
    Calls::begin(&site, "register", 100, 200)?.all_succeeded()
}

/// A SIPp at work.
pub struct Calls {
    sipp: Child,
    output: std::path::PathBuf,
}

impl Calls {
    /// Starts SIPp on the client's host: `number` calls, `rate` per second; returns once it sends.
    pub fn begin(site: &Site, scenario: &str, number: u32, rate: u32) -> anyhow::Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("sipp/{scenario}.xml"));
        let output = site.files().join(format!("sipp-{scenario}.txt"));
        let errors = site.files().join(format!("sipp-{scenario}-errors.txt"));
        let mut command = Command::new("sipp");
        command.arg("-sf").arg(file).args(["-m", &number.to_string(), "-r", &rate.to_string()]);
        // It counts a call as failed that took longer, retransmissions included.
        command.args(["-recv_timeout", "10000", "-timeout", "20s", "-timeout_error", "-nostdin"]);
        command.arg("-trace_err").arg("-error_file").arg(&errors);
        command.args(["-i", "192.0.2.20", &format!("{VIP}:{SIP_PORT}")]);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        let sipp = site.lab.spawn(CLIENT, command).context(
            "SIPp cannot be started: `cargo xtask prepare` says how to install it (package sip-tester)",
        )?;
        // Its socket is there: the first call begins with it. (13C4 is 5060.)
        wait_until("SIPp to begin", || {
            let sockets =
                site.lab.in_host(CLIENT, || std::fs::read_to_string("/proc/thread-self/net/udp"))??;
            Ok(sockets.contains(":13C4 "))
        })?;
        Ok(Self { sipp, output })
    }

    pub fn going_on(&mut self) -> anyhow::Result<bool> {
        Ok(self.sipp.try_wait()?.is_none())
    }

    /// Waits for the end; SIPp's exit code is 0 only when every call succeeded.
    pub fn all_succeeded(mut self) -> anyhow::Result<()> {
        let status = self.sipp.wait()?; // it ends at its own time limit
        if !status.success() {
            let said = std::fs::read_to_string(&self.output)?;
            let end = said.lines().count().saturating_sub(60);
            bail!("SIPp ended with {status}:\n{}", said.lines().skip(end).collect::<Vec<_>>().join("\n"));
        }
        Ok(())
    }
}
