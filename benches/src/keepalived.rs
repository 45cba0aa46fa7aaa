//! keepalived as a contender: VRRP version 3 between the two hosts, once as its examples configure it and once with the
//! shortest times it allows. Host 1 is preferred, so service returns to it after every run.

use crate::both::{Both, COMPANION};
use crate::ours::{LOOK_ON, isolate};
use crate::sample::{Sample, Watch};
use crate::servers::{Servers, end};
use anyhow::{Context, ensure};
use netlab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, CLIENT, VIP};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything that keepalived does may take: its default needs 3.6 s for a cut.
const LIMIT: Duration = Duration::from_secs(20);
/// How long only the preferred host must have had the VIP before the next event.
const QUIET: Duration = Duration::from_millis(300);

/// How keepalived is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Adverts every second, priorities 150 and 100.
    Default,
    /// Adverts every 10 ms, priorities 254 and 253.
    Best,
    /// The same with real-time priority.
    BestRealTime,
}

impl Tuning {
    fn advert_interval(self) -> &'static str {
        match self {
            Tuning::Default => "1",
            Tuning::Best | Tuning::BestRealTime => "0.01",
        }
    }

    fn priorities(self) -> [u8; 2] {
        match self {
            Tuning::Default => [150, 100],
            Tuning::Best | Tuning::BestRealTime => [254, 253],
        }
    }

    fn global(self) -> &'static str {
        match self {
            Tuning::Default | Tuning::Best => "",
            Tuning::BestRealTime => "    vrrp_rt_priority 50\n",
        }
    }
}

/// keepalived on two hosts.
pub struct Keepalived {
    servers: Servers,
    daemons: Vec<Child>,
    /// Where the servers' state is told, by host (see [`crate::floor::tell_by_file`]).
    told: [PathBuf; 2],
}

impl Keepalived {
    /// Builds its network and servers and waits until host 1 serves.
    ///
    /// # Errors
    /// What could not be made or started.
    pub fn start(takeover: &Path, program: &Path, tuning: Tuning) -> anyhow::Result<Self> {
        let servers = Servers::start(takeover, "keepalived")?;
        let mut daemons = Vec::new();
        let mut told = [PathBuf::new(), PathBuf::new()];
        for (n, host) in AGENT_HOSTS.iter().enumerate() {
            let directory = servers.lab.directory(host)?.join("run");
            told[n] = directory.join("server-died");
            std::fs::write(&told[n], "0\n")?;
            let file = directory.join("keepalived.conf");
            std::fs::write(&file, configuration(tuning, tuning.priorities()[n], &told[n]))?;
            let mut command = Command::new(program);
            command.args(["--dont-fork", "--vrrp", "--log-console"]);
            command.arg("--use-file").arg(&file);
            command.arg("--pid").arg(directory.join("keepalived.pid"));
            command.arg("--vrrp_pid").arg(directory.join("keepalived-vrrp.pid"));
            let log = std::fs::File::create(directory.join("keepalived.log"))?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            daemons.push(servers.lab.spawn(host, command)?);
        }
        let started = Self { servers, daemons, told };
        started.wait_quiet().with_context(|| started.logs())?;
        Ok(started)
    }

    /// Kills the server on host 1 and observes; then lets service return.
    ///
    /// # Errors
    /// No takeover, or service did not return.
    pub fn server_killed(&mut self) -> anyhow::Result<Sample> {
        let server = self.servers.pid(0);
        let arguments = ["tell-by-file".to_owned(), server.to_string(), self.told[0].display().to_string()];
        let mut watch = self.servers.helper(0, &arguments)?;
        let (old, new) = self.tags();
        let client = Watch::begin(&self.servers.lab, old)?;
        kill(Pid::from_raw(i32::try_from(server)?), Signal::SIGKILL)?;
        let seen = client.taken_over_by(new, LIMIT);
        end(&mut watch)?;
        self.servers.restart(0)?;
        std::fs::write(&self.told[0], "0\n")?;
        self.wait_quiet()?;
        seen
    }

    /// Cuts host 1 off and observes; plugs it in again and observes until only host 1 holds the VIP.
    ///
    /// # Errors
    /// No takeover, or service did not return.
    pub fn host_cut(&mut self) -> anyhow::Result<(Sample, Sample)> {
        let lab = &self.servers.lab;
        let (old, new) = self.tags();
        let client = Watch::begin(lab, old)?;
        lab.cut(AGENT_HOSTS[0])?;
        let cut = client.taken_over_by(new, LIMIT);
        let client = cut.and_then(|cut| Ok((cut, Watch::begin(lab, new)?)));
        lab.heal(AGENT_HOSTS[0])?; // whatever came of it
        self.wait_quiet()?;
        let (cut, client) = client?;
        Ok((cut, client.continued_by(old)?))
    }

    /// Keeps host 1 from all others but the second client and observes; then lets it come back.
    ///
    /// # Errors
    /// No takeover, or service did not return.
    pub fn host_isolated(&mut self) -> anyhow::Result<Sample> {
        isolate(&mut self.servers.lab, COMPANION, &[CLIENT], 0, true)?;
        let client = Both::begin(&self.servers.lab, self.tags().into(), 0)?;
        isolate(&mut self.servers.lab, AGENT_HOSTS[0], &[CLIENT], 0, true)?;
        let seen = client.taken_over_by(1, LIMIT, LOOK_ON);
        isolate(&mut self.servers.lab, AGENT_HOSTS[0], &[CLIENT], 0, false)?; // whatever came of it
        isolate(&mut self.servers.lab, COMPANION, &[CLIENT], 0, false)?;
        self.wait_quiet()?;
        seen
    }

    /// Stops the VRRP process of host 1 (SIGSTOP) and observes; then lets it go on.
    ///
    /// # Errors
    /// No takeover, or service did not return.
    pub fn daemon_stopped(&mut self) -> anyhow::Result<Sample> {
        let daemon = Pid::from_raw(i32::try_from(self.vrrp_process(0)?)?);
        let client = Both::begin(&self.servers.lab, self.tags().into(), 0)?;
        kill(daemon, Signal::SIGSTOP)?;
        let seen = client.taken_over_by(1, LIMIT, LOOK_ON);
        kill(daemon, Signal::SIGCONT)?;
        self.wait_quiet()?;
        seen
    }

    /// The process that does the work on a host.
    ///
    /// # Errors
    /// It does not run.
    pub fn vrrp_process(&self, host: usize) -> anyhow::Result<u32> {
        let file = self.servers.lab.directory(AGENT_HOSTS[host])?.join("run/keepalived-vrrp.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        Ok(text.trim().parse()?)
    }

    /// How often a host became master so far, both hosts together.
    #[must_use]
    pub fn role_changes(&self) -> usize {
        self.logs().matches("Entering MASTER STATE").count()
    }

    /// Its network, to be observed.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.servers.lab
    }

    /// What the servers call themselves.
    #[must_use]
    pub fn tags(&self) -> (&str, &str) {
        (self.servers.tag(0), self.servers.tag(1))
    }

    /// Waits until host 1, and only host 1, has had the VIP for a while.
    fn wait_quiet(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut quiet_since = None;
        while begun.elapsed() < LIMIT {
            let holds = [self.holds(0)?, self.holds(1)?];
            let since = (holds == [true, false]).then(|| *quiet_since.get_or_insert_with(Instant::now));
            quiet_since = since;
            if since.is_some_and(|since| since.elapsed() > QUIET) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("keepalived on host 1 is not the only holder after {LIMIT:?}: {}", self.logs())
    }

    fn holds(&self, host: usize) -> anyhow::Result<bool> {
        let vip: IpAddr = VIP.parse()?;
        Ok(self.servers.lab.addresses(AGENT_HOSTS[host])?.iter().any(|held| held.address == vip))
    }

    fn logs(&self) -> String {
        let read = |host: &str| {
            let file = self.servers.lab.directory(host).ok()?.join("run/keepalived.log");
            std::fs::read_to_string(file).ok()
        };
        AGENT_HOSTS.iter().filter_map(|host| read(host)).collect()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = end(daemon); // its child process ends with the lab
        }
    }
}

fn configuration(tuning: Tuning, priority: u8, told: &Path) -> String {
    let (interval, told, global) = (tuning.advert_interval(), told.display(), tuning.global());
    format!(
        "global_defs {{\n    vrrp_version 3\n{global}}}\n\
         vrrp_track_file server {{\n    file \"{told}\"\n    weight 0\n}}\n\
         vrrp_instance sip {{\n    state BACKUP\n    interface eth0\n    virtual_router_id 51\n    \
         priority {priority}\n    advert_int {interval}\n    \
         virtual_ipaddress {{\n        {VIP}/24\n    }}\n    track_file {{\n        server\n    }}\n}}\n"
    )
}

/// Where keepalived is installed, if it is.
///
/// # Errors
/// It is there and does not run.
pub fn find() -> anyhow::Result<Option<(PathBuf, String)>> {
    for directory in ["/usr/sbin", "/usr/local/sbin", "/sbin"] {
        let program = Path::new(directory).join("keepalived");
        if program.is_file() {
            let output = Command::new(&program).arg("--version").output()?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let version = text.lines().next().unwrap_or_default().to_owned();
            ensure!(!version.is_empty(), "{} --version says nothing", program.display());
            return Ok(Some((program, version)));
        }
    }
    Ok(None)
}
