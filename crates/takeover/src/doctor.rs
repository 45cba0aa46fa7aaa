//! `takeover doctor`: what this host can do for takeovers. What to look at comes from the command line, else from the host
//! file and what the agent last heard of the cluster; the looking is in the crate of that name.

use crate::check::require;
use anyhow::{Context, bail};
use clap::Args;
use doctor::{Request, Root};
use domain::{Cluster, HostName, InterfaceName, VipAddress};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where an agent's run directory is, where there is no host file.
pub(crate) const RUN_DIRECTORY: &str = "/run/takeover";

/// Arguments of `takeover doctor`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Looks at gate, rights, clocks, interfaces and their settings, packet filter, other programs,
run directory and watchdog. Says for each what was seen, why it matters and what to do; then which
guarantee follows, and which profiles this host can keep. Nothing is changed. Where VIPs are known,
the network is asked who has them: those of --vip, else those of which the agent last heard.

It speaks of the process that it is: run it as root, or with the agent's rights, for example
  systemd-run --pipe --wait -p AmbientCapabilities='CAP_NET_ADMIN CAP_NET_RAW' takeover doctor
Lateness is to be measured while the host does its ordinary work.

Exit codes:
  0  all well (there may be notes)
  1  warnings: takeovers work, slower or with a lower guarantee than they could
  2  something makes takeovers unsafe or impossible; or the command line or the host file is wrong
Examples:
  takeover doctor
  takeover doctor --interface eth0 --vip 192.0.2.100/24 --measure 60s
  takeover doctor --json | jq -r '.findings[] | select(.level == \"error\") | .seen'")]
pub struct Arguments {
    /// An interface that VIPs go to; may be repeated; default: as the agent last heard, else those of the default routes
    #[arg(long, value_name = "INTERFACE")]
    interface: Vec<InterfaceName>,
    /// A VIP with its prefix length, to ask the network about; may be repeated; default: as the agent last heard
    #[arg(long, value_name = "VIP", requires = "interface")]
    vip: Vec<VipAddress>,
    /// How long to measure how late threads wake, up to 1h; 0s: not at all
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = measured)]
    measure: Duration,
    /// The host file; need not be there
    #[arg(long, default_value = "/etc/takeover/host.toml", value_name = "FILE")]
    config: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn measured(text: &str) -> Result<Duration, String> {
    let duration = domain::parse_duration(text)?;
    if duration > doctor::LONGEST {
        return Err(format!("at most {}", domain::format_duration(doctor::LONGEST)));
    }
    Ok(duration)
}

/// Examines this host.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(&request(arguments)?).context("cannot measure")?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::from(report.exit_code()))
}

fn request(arguments: &Arguments) -> anyhow::Result<Request> {
    let mut request = Request {
        root: Root::new("/"),
        interfaces: Vec::new(),
        vips: Vec::new(),
        pairs: Vec::new(),
        run_directory: PathBuf::from(RUN_DIRECTORY),
        watchdog: None,
        port: config::DEFAULT_PEER_PORT,
        measure: arguments.measure,
    };
    if arguments.config.try_exists()? {
        let file = require(config::load_agent(&arguments.config))?;
        if let Some(cluster) = last_heard(&file.state_directory)? {
            of_cluster(&mut request, &cluster, &file.host);
        }
        request.run_directory = file.run_directory;
        request.watchdog = file.watchdog;
    }
    if !arguments.interface.is_empty() {
        request.interfaces.clone_from(&arguments.interface);
        request.vips = arguments
            .vip
            .iter()
            .flat_map(|vip| arguments.interface.iter().map(|interface| (*vip, interface.clone())))
            .collect();
    }
    Ok(request)
}

/// What the agent keeps of the cluster (`cluster.json` of its state directory).
fn last_heard(state_directory: &Path) -> anyhow::Result<Option<Cluster>> {
    let path = state_directory.join("cluster.json");
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(cluster) => Ok(Some(cluster)),
            Err(e) => bail!("{} is not as an agent of this release writes it: {e}", path.display()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn of_cluster(request: &mut Request, cluster: &Cluster, host: &HostName) {
    if let Some(settings) = cluster.hosts.get(host) {
        request.port = settings.peers_reach_it_at().port();
    }
    let mut interfaces = BTreeSet::new();
    for (name, pair) in &cluster.pairs {
        request.pairs.push((name.clone(), pair.profile));
        for vip in &pair.vips {
            let Some(interface) = vip.interfaces.get(host) else { continue };
            interfaces.insert(interface.clone());
            request.vips.push((vip.address, interface.clone()));
        }
    }
    request.interfaces = interfaces.into_iter().collect();
}
