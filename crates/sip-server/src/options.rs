//! What the SIP Server is told when it starts: arguments, and the environment that an agent gives its applications.

use anyhow::{Context, ensure};
use control_link::{mode_socket, notify};
use domain::{
    AppName, SIP_SETTINGS_VARIABLE, SipLimits, SipListen, SipRegistrations, SipReplication, SipSettings,
    SipTimers, SipTransport,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Most listen addresses that are given as arguments: each takes two interfaces.
const MAX_LISTEN: usize = 16;

/// Arguments of `takeover sip-server`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of this application, shown in the Server header field
    #[arg(long, env = "TAKEOVER_APPLICATION", default_value = "sip-server")]
    pub name: AppName,
    /// Settings of the pair, JSON, as an agent writes them; without them, what the other options say is all there is
    #[arg(long, env = SIP_SETTINGS_VARIABLE, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Virtual IP address and port to serve, over UDP and TCP; need not be held by this host yet; may be repeated. Counts
    /// where there are no settings
    #[arg(long, required_unless_present = "settings", value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Address of this host where OPTIONS is answered over UDP in any run mode, for probes
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_listen: Option<SocketAddr>,
    /// Domain to be registrar for, besides the listen addresses; may be repeated [default: any]. Counts where there are no
    /// settings
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<String>,
    /// Let everybody register and call, without asking who they are, where there are no settings: for laboratories. So it
    /// is with --standalone, too
    #[arg(long)]
    pub open: bool,
    /// Serve as primary at once, without an agent: for trying it out, never for one of a pair
    #[arg(long)]
    pub standalone: bool,
}

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the application.
    pub name: AppName,
    /// The settings file; none: what is here is all there is.
    pub settings: Option<PathBuf>,
    /// Whether everybody may register and call, where there is no settings file.
    pub open: bool,
    /// The VIPs' addresses and ports, at most 16, where there is no settings file.
    pub listen: Vec<SocketAddr>,
    /// Where probes are answered over UDP in any run mode.
    pub probe_listen: Option<SocketAddr>,
    /// Domains that it is registrar for besides the listen addresses; none: any.
    pub domains: Vec<String>,
    /// Where the run mode comes from.
    pub mode: ModeSource,
    /// Socket of the manager that wants to be notified (`NOTIFY_SOCKET`).
    pub notify_socket: Option<OsString>,
    /// The manager's limit of silence (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
}

/// Where the run mode comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeSource {
    /// From the agent, which connects to a mode socket at this path. Backup until it says otherwise.
    Socket(PathBuf),
    /// From nobody: always primary.
    Standalone,
}

impl Options {
    /// Completes the arguments with the environment.
    ///
    /// # Errors
    /// Where no run mode could ever come, or two sources contradict each other.
    pub fn from_env(args: Args) -> anyhow::Result<Self> {
        let socket = std::env::var_os(mode_socket::PATH_VARIABLE);
        let mode = match (socket, args.standalone) {
            (Some(path), false) => ModeSource::Socket(path.into()),
            (None, true) => ModeSource::Standalone,
            (None, false) => anyhow::bail!(
                "no agent started this SIP Server ({} is not set), so it would stay backup forever: \
                 have an agent start it, or try it out with --standalone",
                mode_socket::PATH_VARIABLE
            ),
            (Some(_), true) => anyhow::bail!(
                "an agent started this SIP Server ({} is set) and tells its run mode: remove --standalone",
                mode_socket::PATH_VARIABLE
            ),
        };
        Ok(Self {
            name: args.name,
            settings: args.settings,
            open: args.open || args.standalone,
            listen: args.listen,
            probe_listen: args.probe_listen,
            domains: args.domain,
            mode,
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog: notify::watchdog_limit(),
        })
    }

    /// Checks what a single value does not show.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.listen.len() <= MAX_LISTEN,
            "{} listen addresses are too many, {MAX_LISTEN} are allowed",
            self.listen.len()
        );
        self.watchdog.map_or(Ok(()), |limit| {
            let shortest = Duration::from_millis(3);
            Some(()).filter(|()| limit >= shortest).with_context(|| {
                format!("a watchdog limit of {limit:?} cannot be kept: {shortest:?} is the shortest")
            })
        })
    }

    /// The settings where there is no file: an address is served over UDP and TCP, and there is nobody to be known by name.
    pub(crate) fn plain_settings(&self) -> SipSettings {
        let over =
            |transport| self.listen.iter().map(move |address| SipListen { transport, address: *address });
        SipSettings {
            domains: self.domains.clone(),
            listen: over(SipTransport::Udp).chain(over(SipTransport::Tcp)).collect(),
            tls: None,
            registrations: SipRegistrations::default(),
            users: BTreeMap::new(),
            trunks: BTreeMap::new(),
            routes: Vec::new(),
            // Where nobody is known, nobody is told apart from a scanner, either.
            limits: SipLimits {
                source_per_s: u32::MAX,
                source_burst: u32::MAX,
                refusals: u32::MAX,
                ..SipLimits::default()
            },
            timers: SipTimers::default(),
            replication: SipReplication::default(),
            http_port: None,
            cdr_directory: None,
            cdr_log: domain::logged_calls(),
        }
    }
}
