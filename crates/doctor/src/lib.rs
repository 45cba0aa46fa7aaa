//! Says what a host can do for takeovers, what guarantee follows, and what to do about the rest: `takeover doctor`.
//!
//! Three steps, in three places: what is seen ([`facts`], plain data, gathered by [`examine`]); what it means ([`judge`],
//! pure, every threshold in it); how it is told ([`Report`]). Nothing on the host is changed; the network is asked, where a
//! VIP was named, who has it.

mod clock;
pub mod facts;
mod firewall;
mod jitter;
mod judge;
mod read;
mod report;
mod vips;

pub use jitter::LONGEST;
pub use judge::judge;
pub use read::Root;
pub use report::{Finding, Level, ProfileVerdict, Report};

use clock::Slew;
use domain::{InterfaceName, PairName, Profile, VipAddress};
use facts::{Clock, Facts, Gate};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What is to be examined.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where files are read from: `/`.
    pub root: Root,
    /// The interfaces that VIPs go to; none: those of the default routes.
    pub interfaces: Vec<InterfaceName>,
    /// VIPs to ask the network about.
    pub vips: Vec<(VipAddress, InterfaceName)>,
    /// The pairs of this host, with their profiles.
    pub pairs: Vec<(PairName, Profile)>,
    /// The agent's run directory.
    pub run_directory: PathBuf,
    /// The watchdog device in the host file.
    pub watchdog: Option<PathBuf>,
    /// The port, TCP and UDP, where the host's agent is reached by the other one.
    pub port: u16,
    /// How long lateness is measured; zero: not at all.
    pub measure: Duration,
}

/// Looks at everything. Takes as long as is to be measured, and a second where there are VIPs to ask about.
///
/// # Errors
/// The system has no thread to measure with. What cannot be seen is a finding, no error.
pub fn examine(request: &Request) -> io::Result<Report> {
    Ok(judge(&gather(request)?))
}

fn gather(request: &Request) -> io::Result<Facts> {
    let root = &request.root;
    let slew = Slew::begin();
    let vips = vips::look(&request.vips);
    let jitter = (!request.measure.is_zero()).then(|| jitter::measure(request.measure)).transpose()?;
    let interfaces = if request.interfaces.is_empty() {
        root.default_interfaces().into_iter().collect()
    } else {
        request.interfaces.clone()
    };
    let programs = root.programs();
    let (source, available) = root.clock_sources();
    let corrections = clock::corrections();
    Ok(Facts {
        kernel: root.kernel(),
        uptime: root.uptime(),
        gate: gate(),
        rights: root.rights(),
        clock: Clock {
            source,
            available,
            synchronised: corrections.map(|(synchronised, _)| synchronised),
            correction_ppm: corrections.map(|(_, ppm)| ppm),
            slew_ppm: slew.ppm(),
            chrony_max_slew_ppm: programs.contains("chronyd").then(|| root.chrony_max_slew()),
        },
        jitter,
        interfaces: interfaces.iter().map(|name| root.interface(name)).collect(),
        addresses: vips::addresses(),
        vips,
        nonlocal_bind: root.nonlocal_bind(),
        filter: firewall::look(request.port),
        conntrack: root.conntrack(),
        programs,
        run_directory: root.run_directory(&request.run_directory),
        watchdogs: root.watchdogs(),
        watchdog_wanted: request.watchdog.clone(),
        cgroups: root.cgroups(),
        pairs: request.pairs.clone(),
    })
}

fn gate() -> Gate {
    let support = vip_control::gate::support();
    let missing = |essential: bool| -> Vec<String> {
        let parts = support.parts.iter().filter(|part| part.essential == essential);
        parts.filter_map(|part| Some(format!("{}: {}", part.name, chain(part.problem.as_ref()?)))).collect()
    };
    if support.is_sufficient() { Gate::Works(missing(false)) } else { Gate::Lacks(missing(true)) }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
