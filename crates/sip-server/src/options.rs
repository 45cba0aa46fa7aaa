//! What the SIP Server is told when it starts: arguments, and the environment that an agent gives its applications.

use anyhow::{Context, ensure};
use control_link::{mode_socket, notify};
use domain::AppName;
use sip_proto::b2bua::{Interface, Transport};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Most listen addresses.
pub(crate) const MAX_LISTEN: usize = 16;

/// Arguments of `takeover sip-server`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of this application, shown in the Server header field
    #[arg(long, env = "TAKEOVER_APPLICATION", default_value = "sip-server")]
    pub name: AppName,
    /// Virtual IP address and port to serve, over UDP and TCP; need not be held by this host yet; may be repeated
    #[arg(long, required = true, value_name = "ADDRESS:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Address of this host where OPTIONS is answered over UDP in any run mode, for probes
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_listen: Option<SocketAddr>,
    /// Domain to be registrar for, besides the listen addresses; may be repeated [default: any]
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<String>,
    /// Serve as primary at once, without an agent: for trying it out, never for one of a pair
    #[arg(long)]
    pub standalone: bool,
}

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the application.
    pub name: AppName,
    /// The VIPs' addresses and ports, at most 16.
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
        ensure!(!self.listen.is_empty(), "no address to listen at: give --listen at least once");
        ensure!(
            self.listen.len() <= MAX_LISTEN,
            "{} listen addresses are too many, {MAX_LISTEN} are allowed",
            self.listen.len()
        );
        for (index, address) in self.listen.iter().enumerate() {
            // Answers must come from the address that was asked, and a socket bound to any address may pick another.
            ensure!(
                !address.ip().is_unspecified(),
                "cannot listen at {address}: name the Virtual IP address itself"
            );
            ensure!(!self.listen[..index].contains(address), "{address} is to be listened at twice");
        }
        self.watchdog.map_or(Ok(()), |limit| {
            let shortest = Duration::from_millis(3);
            Some(()).filter(|()| limit >= shortest).with_context(|| {
                format!("a watchdog limit of {limit:?} cannot be kept: {shortest:?} is the shortest")
            })
        })
    }

    /// Where we are reached: each address over UDP and TCP.
    pub(crate) fn interfaces(&self) -> Vec<Interface> {
        let over = |transport| {
            self.listen.iter().map(move |address| Interface { transport, address: *address })
        };
        over(Transport::Udp).chain(over(Transport::Tcp)).collect()
    }

    /// The domains with the listen addresses, as SIP URIs spell them; none where any will do.
    pub(crate) fn all_domains(&self) -> Vec<String> {
        if self.domains.is_empty() {
            return Vec::new();
        }
        let addresses = self.listen.iter().map(|address| match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        });
        self.domains.iter().cloned().chain(addresses).collect()
    }
}
