//! Building the installation and doing to it what happens to installations: starting, stopping, killing, cutting.

use crate::Api;
use anyhow::{Context, ensure};
use control_link::{Role, ca};
use domain::Micros;
use ha_core::View;
use netlab::{Lab, Nic, ProbeSettings, Prober};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The host of the SCS.
pub const SCS_HOST: &str = "scs";
/// The hosts with an agent and a SIP Server each.
pub const AGENT_HOSTS: [&str; 2] = ["host1", "host2"];
/// The host of the phones.
pub const CLIENT: &str = "client";
/// The VIP.
pub const VIP: &str = "192.0.2.100";
/// The VIP's sister in IPv6.
pub const VIP6: &str = "2001:db8::100";
/// Where the SIP Servers listen on the VIP.
pub const SIP_PORT: u16 = 5060;

/// How often a condition is looked at that nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What differs from the ordinary installation.
pub struct Settings {
    /// The binary under test.
    pub takeover: PathBuf,
    /// Changes the cluster file.
    pub edit: Box<dyn Fn(String) -> String>,
    /// Whether SCS and agents talk over a network of their own (segment "management", eth1, 198.51.100.0/24) instead of
    /// the one that callers use.
    pub management: bool,
    /// Where the SCS keeps its store, on its host, if not in the ordinary place.
    pub state_directory: Option<PathBuf>,
    /// Whether SCS and agents may have real-time scheduling (CAP_SYS_NICE).
    pub real_time: bool,
    /// Whether agents may use bpf(2), and so have gates in the kernel.
    pub gate: bool,
    /// An API socket bound before, to be inherited by the SCS.
    pub api_listener: Option<OwnedFd>,
    /// A listening socket, which may be of another network, as the SCS's web port.
    pub web_listener: Option<OwnedFd>,
}

impl Settings {
    /// The ordinary installation with this binary.
    #[must_use]
    pub fn new(takeover: &Path) -> Self {
        Self {
            takeover: takeover.to_owned(),
            edit: Box::new(|cluster| cluster),
            management: false,
            state_directory: None,
            real_time: true,
            gate: true,
            api_listener: None,
            web_listener: None,
        }
    }

    /// The same with the cluster file changed by `edit`.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(String) -> String + 'static) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// The same with a network of its own for SCS and agents.
    #[must_use]
    pub fn management(mut self) -> Self {
        self.management = true;
        self
    }

    /// The first three numbers of the network that SCS and agents talk over.
    fn network(&self) -> &'static str {
        if self.management { "198.51.100" } else { "192.0.2" }
    }
}

/// The installation.
pub struct Site {
    /// The network below it.
    pub lab: Lab,
    settings: Settings,
    files: PathBuf,
    scs: Option<Child>,
    agents: BTreeMap<String, Child>,
}

impl Site {
    /// Builds the network, makes certificates and files. Starts nothing yet.
    ///
    /// # Errors
    /// What could not be made, and why.
    pub fn build(mut lab: Lab, settings: Settings) -> anyhow::Result<Self> {
        for (name, number) in [(SCS_HOST, 10), (AGENT_HOSTS[0], 11), (AGENT_HOSTS[1], 12), (CLIENT, 20)] {
            let addresses = [format!("192.0.2.{number}/24"), format!("2001:db8::{number}/64")];
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let management = [format!("198.51.100.{number}/24")];
            let management: Vec<&str> = management.iter().map(String::as_str).collect();
            let nics = [
                Nic { segment: "lan", name: "eth0", addresses: &addresses },
                Nic { segment: "management", name: "eth1", addresses: &management },
            ];
            lab.host(name, if settings.management { &nics } else { &nics[..1] })?;
        }
        let files = lab.directory(SCS_HOST)?.join("lib/site");
        fs::create_dir_all(&files)?;
        let ca_directory = files.join("ca");
        ca::init(&ca_directory, "rehearsal")?;
        ca::issue(&ca_directory, Role::Scs, "scs", &files)?;
        ca::issue(&ca_directory, Role::Operator, "operator", &files)?;
        for host in AGENT_HOSTS {
            ca::issue(&ca_directory, Role::Agent, host, &files)?;
            fs::write(files.join(format!("{host}.toml")), host_file(host, &files, settings.network()))?;
        }
        fs::write(
            files.join("cluster.toml"),
            (settings.edit)(cluster_file(&settings.takeover, settings.network())),
        )?;
        Ok(Self { lab, settings, files, scs: None, agents: BTreeMap::new() })
    }

    /// Starts everything and waits until sip1 is primary, sip2 ready, and the VIPs where they belong.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_scs()?;
        for host in AGENT_HOSTS {
            self.start_agent(host)?;
        }
        self.wait_for("the pair to be whole", Duration::from_secs(20), |view| is_whole(view, "sip1"))
    }

    /// Where certificates and configuration files are, for every host of the lab.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// The binary under test.
    #[must_use]
    pub fn takeover(&self) -> &Path {
        &self.settings.takeover
    }

    /// Starts the SCS and waits until its API answers.
    ///
    /// # Errors
    /// It did not start, or ended at once: what it said is in its log.
    pub fn start_scs(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.settings.takeover);
        command.arg("scs").arg("--cluster").arg(self.files.join("cluster.toml"));
        for (option, file) in [("--certificate", "scs.pem"), ("--key", "scs.key"), ("--ca", "ca.pem")] {
            command.arg(option).arg(self.files.join(file));
        }
        if let Some(directory) = &self.settings.state_directory {
            command.arg("--state-directory").arg(directory);
        }
        let listeners =
            [("--api-fd", &self.settings.api_listener), ("--web-fd", &self.settings.web_listener)];
        for (option, listener) in listeners {
            let Some(listener) = listener else { continue };
            let number = listener.as_raw_fd();
            command.arg(option).arg(number.to_string());
            // Only the SCS shall inherit it, so it stays close-on-exec here and loses that in the new process.
            // SAFETY: between fork and exec one system call is made, and nothing is allocated; the descriptor is open as
            // long as the settings are.
            unsafe { command.pre_exec(move || let_inherit(number)) };
        }
        self.scs = Some(self.spawn(SCS_HOST, command, "scs")?);
        let api = self.api()?;
        let begun = Instant::now();
        while api.view().is_err() {
            let ended = self.scs.as_mut().and_then(|scs| scs.try_wait().ok().flatten());
            ensure!(ended.is_none(), "the SCS ended with {ended:?}: {}", self.log_of("scs"));
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the SCS does not answer: {}",
                self.log_of("scs")
            );
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Starts the agent of a host.
    ///
    /// # Errors
    /// It could not be spawned.
    pub fn start_agent(&mut self, host: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.settings.takeover);
        command.arg("lca").arg("--config").arg(self.files.join(format!("{host}.toml")));
        let child = self.spawn(host, command, &format!("lca-{host}"))?;
        self.agents.insert(host.to_owned(), child);
        Ok(())
    }

    /// Kills the SCS (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_scs(&mut self) -> anyhow::Result<()> {
        let mut scs = self.scs.take().context("the SCS does not run")?;
        scs.kill()?;
        scs.wait()?;
        Ok(())
    }

    /// Kills the agent of a host (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_agent(&mut self, host: &str) -> anyhow::Result<()> {
        let mut agent =
            self.agents.remove(host).with_context(|| format!("the agent of {host} does not run"))?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }

    /// Sends a signal to the agent of a host.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_agent(&self, host: &str, signal: Signal) -> anyhow::Result<()> {
        let agent = self.agents.get(host).with_context(|| format!("the agent of {host} does not run"))?;
        kill(Pid::from_raw(i32::try_from(agent.id())?), signal)?;
        Ok(())
    }

    /// The process id of the SCS.
    #[must_use]
    pub fn scs_pid(&self) -> Option<u32> {
        self.scs.as_ref().map(Child::id)
    }

    /// The process id of the agent of a host.
    #[must_use]
    pub fn agent_pid(&self, host: &str) -> Option<u32> {
        self.agents.get(host).map(Child::id)
    }

    /// Sends a signal to the process of an application.
    ///
    /// # Errors
    /// The SCS knows of no process.
    pub fn signal_app(&self, app: &str, signal: Signal) -> anyhow::Result<()> {
        let pid = self.app_pid(app)?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
        Ok(())
    }

    /// The process id of an application, as the SCS knows it.
    ///
    /// # Errors
    /// The SCS knows of no process.
    pub fn app_pid(&self, app: &str) -> anyhow::Result<u32> {
        let view = self.api()?.view()?;
        let found = view.applications.iter().find(|a| a.name.as_str() == app).and_then(|a| a.pid);
        found.with_context(|| format!("the SCS knows of no process of {app}"))
    }

    /// The API, over the Unix socket on the SCS's host.
    ///
    /// # Errors
    /// No client could be made.
    pub fn api(&self) -> anyhow::Result<Api> {
        Api::new(&self.api_socket()?)
    }

    /// Where the API's Unix socket is, seen from outside the SCS's host.
    ///
    /// # Errors
    /// There is no such host.
    pub fn api_socket(&self) -> anyhow::Result<PathBuf> {
        Ok(self.lab.directory(SCS_HOST)?.join("run/scs.sock"))
    }

    /// The command line with these arguments, against this installation's SCS.
    ///
    /// # Errors
    /// There is no such host.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.settings.takeover);
        command.args(arguments).env("TAKEOVER_SCS", format!("unix:{}", self.api_socket()?.display()));
        Ok(command)
    }

    /// A client that sends a SIP OPTIONS to the VIP every millisecond.
    ///
    /// # Errors
    /// The prober cannot be started.
    pub fn prober(&self) -> anyhow::Result<Prober> {
        let target = SocketAddr::new(VIP.parse::<IpAddr>()?, SIP_PORT);
        Ok(Prober::start(&self.lab, CLIENT, ProbeSettings::new(target))?)
    }

    /// Waits until the view is as wanted.
    ///
    /// # Errors
    /// It did not become so within `limit`; the view is shown as it was at the end.
    pub fn wait_for(&self, what: &str, limit: Duration, is_so: impl Fn(&View) -> bool) -> anyhow::Result<()> {
        let api = self.api()?;
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < limit {
            if let Ok(view) = api.view() {
                if is_so(&view) {
                    return Ok(());
                }
                last = Some(view);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        anyhow::bail!("waited {limit:?} for {what}; the last view was {last:#?}\n{}", self.logs())
    }

    /// Waits until this member is primary, its host has the VIPs, and the other could take over.
    ///
    /// # Errors
    /// Not so within `limit`.
    pub fn wait_whole(&self, primary: &str, limit: Duration) -> anyhow::Result<()> {
        self.wait_for(&format!("{primary} to be primary of a whole pair"), limit, |view| {
            is_whole(view, primary)
        })
    }

    /// Waits until a whole pair has one of these as its primary; which.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_whole_with_any<'a>(&self, of: &[&'a str], limit: Duration) -> anyhow::Result<&'a str> {
        let found = std::cell::Cell::new(None);
        self.wait_for(&format!("one of {of:?} to be primary of a whole pair"), limit, |view| {
            found.set(of.iter().copied().find(|app| is_whole(view, app)));
            found.get().is_some()
        })?;
        found.get().context("it was found")
    }

    /// Which hosts have the VIP now, as their kernels say.
    ///
    /// # Errors
    /// A host cannot be asked.
    pub fn holders(&self, vip: &str) -> anyhow::Result<Vec<&'static str>> {
        let vip: IpAddr = vip.parse()?;
        let mut holders = Vec::new();
        for host in AGENT_HOSTS {
            if self.lab.addresses(host)?.iter().any(|a| a.address == vip) {
                holders.push(host);
            }
        }
        Ok(holders)
    }

    /// Everything that the parts have written to their standard error, for a failure's report.
    #[must_use]
    pub fn logs(&self) -> String {
        let names = ["scs", "lca-host1", "lca-host2"];
        names.iter().map(|name| format!("--- {name}\n{}", self.log_of(name))).collect()
    }

    /// The end of a log: what leads to a failure may lie some minutes back.
    fn log_of(&self, name: &str) -> String {
        const LOG_LINES: usize = 1_000;
        let text = fs::read_to_string(self.files.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n") + "\n"
    }

    fn spawn(&self, host: &str, mut command: Command, log: &str) -> anyhow::Result<Child> {
        let log =
            fs::File::options().create(true).append(true).open(self.files.join(format!("{log}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if !self.settings.real_time {
            // SAFETY: between fork and exec system calls are made, and nothing is allocated.
            unsafe { command.pre_exec(|| renounce(&[CAP_SYS_NICE])) };
        }
        if !self.settings.gate {
            // SAFETY: as above.
            unsafe { command.pre_exec(|| renounce(&[CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF])) };
        }
        Ok(self.lab.spawn(host, command)?)
    }

    /// Now, on the clock of everything in the lab.
    #[must_use]
    pub fn now() -> Micros {
        netlab::now()
    }
}

/// Whether `primary` is primary, every VIP is on its host and nowhere else, and the other could take over.
fn is_whole(view: &View, primary: &str) -> bool {
    view.pairs.iter().all(|pair| {
        let host = pair.members.iter().find(|m| m.app.as_str() == primary).map(|m| &m.host);
        let placed = |p: &ha_core::VipPlace| p.enabled == Some(Some(&p.host) == host);
        pair.primary.as_ref().is_some_and(|p| p.as_str() == primary)
            && pair.incident.is_none()
            && pair.members.iter().all(|m| m.ready.is_ok())
            && pair.vips.iter().all(|v| v.places.iter().all(placed))
    })
}

const CAP_SYS_ADMIN: libc::c_ulong = 21;
const CAP_SYS_NICE: libc::c_ulong = 23;
const CAP_PERFMON: libc::c_ulong = 38;
const CAP_BPF: libc::c_ulong = 39;

/// Root of the laboratory without these from the next exec on (capabilities(7), "Capability bounding set").
fn renounce(capabilities: &[libc::c_ulong]) -> std::io::Result<()> {
    for capability in capabilities {
        // SAFETY: takes numbers, concerns this process alone.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Clears close-on-exec; for a process that is about to execute a program.
fn let_inherit(descriptor: RawFd) -> std::io::Result<()> {
    // SAFETY: the caller's descriptor is open for as long as the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

fn host_file(host: &str, files: &Path, network: &str) -> String {
    let files = files.display();
    format!(
        "host = \"{host}\"\n\
         scs = [\"{network}.10:7400\"]\n\
         certificate = \"{files}/{host}.pem\"\n\
         key = \"{files}/{host}.key\"\n\
         ca = \"{files}/ca.pem\"\n"
    )
}

/// The ordinary cluster file: one pair of our own SIP Servers, an IPv4 and an IPv6 VIP, default settings.
fn cluster_file(takeover: &Path, network: &str) -> String {
    let takeover = takeover.display();
    let mut text = format!("[cluster]\nname = \"rehearsal\"\n\n[scs]\nlisten = [\"{network}.10:7400\"]\n\n");
    for (n, host) in AGENT_HOSTS.iter().enumerate() {
        let n = n + 1;
        text += &format!(
            "[hosts.{host}]\naddress = \"{network}.1{n}\"\n\n\
             [applications.sip{n}]\nhost = \"{host}\"\n\
             command = [\"{takeover}\", \"sip-server\", \"--open\", \"--listen\", \"{VIP}:{SIP_PORT}\", \
             \"--listen\", \"[{VIP6}]:{SIP_PORT}\", \"--probe-listen\", \"127.0.0.1:5070\"]\n\n"
        );
    }
    text += "[pairs.sip]\nmembers = [\"sip1\", \"sip2\"]\nredundancy = \"hot\"\n\n";
    for vip in [format!("{VIP}/24"), format!("{VIP6}/64")] {
        text += &format!("[[pairs.sip.vips]]\naddress = \"{vip}\"\ninterface = \"eth0\"\n\n");
    }
    text
}
