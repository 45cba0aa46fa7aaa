//! Telephones, by SIPp (Debian package sip-tester), with the scenarios in `benches/sipp`.

use super::cores::{self, Cores};
use crate::servers::end;
use anyhow::{Context, ensure};
use netlab::Lab;
use rehearsal::{CLIENT, SIP_PORT, VIP};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The clients' address.
pub const CLIENT_ADDRESS: &str = "192.0.2.20";
/// Ports of those who call or register, and of who is called.
pub const CALLER: u16 = 5080;
/// See [`CALLER`].
pub const CALLEE: u16 = 5070;
/// How long SIPp may take to have its socket.
const START_LIMIT: Duration = Duration::from_secs(10);
/// More calls at once than any benchmark has: SIPp's own limit goes by rate and length.
const AT_ONCE: &str = "100000";
/// When SIPp gives up on everything.
const GIVE_UP: &str = "900s";

/// A SIPp at work.
pub struct Sipp {
    process: Child,
    statistics: PathBuf,
    errors: PathBuf,
}

/// What became of its calls.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Outcome {
    /// Those that ended as they should.
    pub successful: u64,
    /// Those that did not.
    pub failed: u64,
    /// Messages that SIPp sent again.
    pub retransmissions: u64,
}

impl Sipp {
    /// Starts it on the clients' host, with its socket at this port; it has it when this returns.
    ///
    /// # Errors
    /// SIPp is not installed, or does not begin.
    pub fn begin(
        lab: &Lab,
        cores: Cores,
        scenario: &str,
        port: u16,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("sipp/{scenario}.xml"));
        let directory = lab.directory(CLIENT)?.join("run");
        let statistics = directory.join(format!("sipp-{scenario}-{port}.csv"));
        let errors = directory.join(format!("sipp-{scenario}-{port}-errors.txt"));
        let mut command = Command::new("sipp");
        command.arg("-sf").arg(file).args(["-nostdin", "-timeout", GIVE_UP, "-l", AT_ONCE, "-nd"]);
        command.args(["-i", CLIENT_ADDRESS, "-p", &port.to_string()]).args(arguments);
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
        command.arg("-trace_err").arg("-error_file").arg(&errors).arg(format!("{VIP}:{SIP_PORT}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let process = cores::on(cores.phones, || {
            lab.spawn(CLIENT, command).context("SIPp cannot be started (Debian package sip-tester)")
        })?;
        let mut sipp = Self { process, statistics, errors };
        let (socket, begun) = (format!(":{port:04X} "), Instant::now());
        while sipp.process.try_wait()?.is_none() {
            let sockets = lab.in_host(CLIENT, || std::fs::read_to_string("/proc/thread-self/net/udp"))??;
            if sockets.contains(&socket) {
                break;
            }
            ensure!(begun.elapsed() < START_LIMIT, "SIPp does not begin: {}", sipp.complaint());
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(sipp)
    }

    /// Waits for the end of all calls.
    ///
    /// # Errors
    /// SIPp ended for another reason than that it was done.
    pub fn finish(mut self) -> anyhow::Result<Outcome> {
        let status = self.process.wait()?; // it ends at its own time limit
        // 1: at least one call failed.
        ensure!(
            matches!(status.code(), Some(0 | 1)),
            "SIPp ended with {status}, having said {}",
            self.complaint()
        );
        let text = std::fs::read_to_string(&self.statistics).context("SIPp has left no statistics")?;
        let outcome = read(&text).context("SIPp's statistics are not as they should be")?;
        if outcome.failed > 0 {
            eprintln!("SIPp: {} calls failed; it said {}", outcome.failed, self.complaint());
        }
        Ok(outcome)
    }

    /// Whether it is not done yet.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn goes_on(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// The first that SIPp complained about.
    pub fn complaint(&self) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        errors.lines().take(12).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = end(&mut self.process); // done, or no longer needed
    }
}

/// The sums in the last line of SIPp's statistics, whose first line names the columns.
fn read(text: &str) -> Option<Outcome> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split(';').collect();
    let values: Vec<&str> = lines.next_back()?.split(';').collect();
    let value = |name: &str| -> Option<u64> {
        values.get(names.iter().position(|known| *known == name)?)?.trim().parse().ok()
    };
    Some(Outcome {
        successful: value("SuccessfulCall(C)")?,
        failed: value("FailedCall(C)")?,
        retransmissions: value("Retransmissions(C)")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let text = "StartTime;SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);Retransmissions(C);\n\
                    t;1;1;0;0;\nt;2;3;4;5;\n";
        let outcome = read(text).unwrap();
        assert_eq!((outcome.successful, outcome.failed, outcome.retransmissions), (3, 4, 5));
        assert!(read("StartTime;Other;\nt;1;\n").is_none());
        assert!(read("").is_none());
    }
}
