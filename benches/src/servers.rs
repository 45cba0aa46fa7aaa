//! A network and a SIP Server without an agent on each of two hosts: what the floor and keepalived are measured with.
//! The servers are those of the product, which answer whenever a packet reaches them.

use crate::both;
use anyhow::{Context, ensure};
use netlab::{Lab, Nic};
use rehearsal::{AGENT_HOSTS, CLIENT, SIP_PORT, VIP};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The lab and its servers; host 0 and host 1 are [`AGENT_HOSTS`].
pub struct Servers {
    /// The network.
    pub lab: Lab,
    takeover: PathBuf,
    names: [String; 2],
    running: [Child; 2],
}

impl Servers {
    /// Builds the network of `rehearsal` without an SCS and starts both servers, named after `prefix`.
    ///
    /// # Errors
    /// What could not be made or started.
    pub fn start(takeover: &Path, prefix: &str) -> anyhow::Result<Self> {
        let mut lab = Lab::new()?;
        for (name, number) in [(AGENT_HOSTS[0], 11), (AGENT_HOSTS[1], 12), (CLIENT, 20)] {
            let address = format!("192.0.2.{number}/24");
            lab.host(name, &[Nic { segment: "lan", name: "eth0", addresses: &[&address] }])?;
        }
        both::add_companion(&mut lab)?;
        let names = [format!("{prefix}1"), format!("{prefix}2")];
        let running = [server(&lab, takeover, 0, &names[0])?, server(&lab, takeover, 1, &names[1])?];
        Ok(Self { lab, takeover: takeover.to_owned(), names, running })
    }

    /// What the server on a host calls itself.
    #[must_use]
    pub fn tag(&self, host: usize) -> &str {
        &self.names[host]
    }

    /// The process of the server on a host.
    #[must_use]
    pub fn pid(&self, host: usize) -> u32 {
        self.running[host].id()
    }

    /// Starts the server on a host anew, after it was killed.
    ///
    /// # Errors
    /// It does not listen in time.
    pub fn restart(&mut self, host: usize) -> anyhow::Result<()> {
        end(&mut self.running[host])?;
        self.running[host] = server(&self.lab, &self.takeover, host, &self.names[host])?;
        Ok(())
    }

    /// Runs this very program on a host, with these arguments, until it has said that it is ready.
    ///
    /// # Errors
    /// It ended before.
    pub fn helper(&self, host: usize, arguments: &[String]) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.lab.spawn(AGENT_HOSTS[host], command)?;
        let out = child.stdout.take().context("the helper has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line.trim_end() == crate::floor::READY, "the helper {arguments:?} did not start");
        Ok(child)
    }
}

/// Kills what may have ended already, and waits until it is gone.
///
/// # Errors
/// It cannot be waited for.
pub fn end(child: &mut Child) -> anyhow::Result<()> {
    let _ = child.kill(); // an error: it was waited for before
    child.wait()?;
    Ok(())
}

fn server(lab: &Lab, takeover: &Path, host: usize, name: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(takeover);
    let listen = format!("{VIP}:{SIP_PORT}");
    command.args(["sip-server", "--standalone", "--name", name, "--listen", &listen]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = lab.spawn(AGENT_HOSTS[host], command)?;
    let begun = Instant::now();
    while !listens(lab, AGENT_HOSTS[host])? {
        ensure!(begun.elapsed() < START_LIMIT, "the server {name} does not listen");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

/// Whether a UDP socket of the host is bound to the SIP port, as its kernel lists them.
///
/// # Errors
/// There is no such host.
pub fn listens(lab: &Lab, host: &str) -> anyhow::Result<bool> {
    let sockets = lab.in_host(host, || std::fs::read_to_string("/proc/thread-self/net/udp"))??;
    let port = format!(":{SIP_PORT:04X}");
    Ok(sockets.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port))))
}
