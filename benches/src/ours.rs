//! The product as a contender: the whole installation of `rehearsal` at default settings, but for the limits on failovers
//! and restarts in a row, which so many would exceed. Directions alternate.

use crate::both::{self, Both, COMPANION};
use crate::sample::{Sample, Watch};
use anyhow::{Context, ensure};
use domain::{Micros, Profile};
use ha_core::Incident;
use netlab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, CLIENT, SCS_HOST, Settings, Site};
use std::path::Path;
use std::time::Duration;

/// The servers' names in the installation; each is on the host of the same place.
pub const SERVERS: [&str; 2] = ["sip1", "sip2"];
/// Hosts beside those two and the second client.
const REST: [&str; 2] = [SCS_HOST, CLIENT];
/// How much longer both hosts are watched after a takeover.
pub const LOOK_ON: Duration = Duration::from_secs(1);
/// How long a takeover may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long until the pair is whole again.
const WHOLE_LIMIT: Duration = Duration::from_secs(30);
/// More failovers than a benchmark makes.
const FLAP_GUARD: &str = "\n[pairs.sip.flap-guard]\nfree = 1000\nfreeze-after = 1000\n";
/// A server that has run for longer than this limit has not failed "in a row" when it is killed again.
const START_LIMIT: &str = "start-limit = \"1s\"\ncommand = [";
/// Somewhat longer than [`START_LIMIT`] says.
const STEADY: Duration = Duration::from_millis(1_100);

/// A role change by what the SCS recorded.
pub struct Recorded {
    /// When the client set it off, in Unix time as the SCS's records are.
    pub event: Micros,
    /// The host of the old primary.
    pub old_host: &'static str,
    /// The incident.
    pub incident: Incident,
}

/// The installation.
pub struct Ours {
    site: Site,
    /// Which server is primary.
    primary: usize,
}

/// The cluster file without limits on failovers and restarts in a row.
fn without_limits(cluster: &str) -> String {
    cluster.replace("command = [", START_LIMIT) + FLAP_GUARD
}

/// Keeps `who` from the rest and from the host that is not the old primary's, or no longer.
///
/// # Errors
/// What the kernel refused.
pub fn isolate(lab: &mut Lab, who: &str, rest: &[&str], old: usize, on: bool) -> anyhow::Result<()> {
    // The clients last: until then they see what a real cut would show them, which is nothing new.
    for other in [AGENT_HOSTS[1 - old]].iter().chain(rest) {
        lab.block_between(who, other, on)?;
    }
    Ok(())
}

impl Ours {
    /// Builds and starts it; primary is the first server.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start(takeover: &Path) -> anyhow::Result<Self> {
        Self::start_with(takeover, Profile::Normal, true)
    }

    /// The same with another profile, and with or without the right to real-time scheduling, plus a second client.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start_with(takeover: &Path, profile: Profile, real_time: bool) -> anyhow::Result<Self> {
        let mut settings = Settings::new(takeover).edit(move |cluster| {
            let with_profile = format!("[pairs.sip]\nprofile = \"{profile}\"");
            without_limits(&cluster).replace("[pairs.sip]", &with_profile)
        });
        settings.real_time = real_time;
        Self::start_as(settings)
    }

    /// The same, as it was before there was a gate in the kernel: agents open and close nothing.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start_without_gate(takeover: &Path) -> anyhow::Result<Self> {
        let settings = Settings::new(takeover).edit(|cluster| without_limits(&cluster));
        Self::start_as(Settings { gate: false, ..settings })
    }

    /// The same with settings for its SIP Servers, which `edit` adds to the cluster file.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start_edited(takeover: &Path, edit: fn(&str) -> String) -> anyhow::Result<Self> {
        Self::start_as(Settings::new(takeover).edit(move |cluster| edit(&without_limits(&cluster))))
    }

    fn start_as(settings: Settings) -> anyhow::Result<Self> {
        let mut site = Site::build(Lab::new()?, settings)?;
        both::add_companion(&mut site.lab)?;
        site.start()?;
        Ok(Self { site, primary: 0 })
    }

    /// Keeps the primary's host from all others but the second client; then lets it come back.
    ///
    /// # Errors
    /// As [`Self::server_killed`].
    pub fn host_isolated(&mut self) -> anyhow::Result<Sample> {
        let old = self.primary;
        isolate(&mut self.site.lab, COMPANION, &REST, old, true)?;
        let client = Both::begin(&self.site.lab, SERVERS, old)?;
        isolate(&mut self.site.lab, AGENT_HOSTS[old], &REST, old, true)?;
        let seen = client.taken_over_by(1 - old, LIMIT, LOOK_ON);
        isolate(&mut self.site.lab, AGENT_HOSTS[old], &REST, old, false)?; // whatever came of it
        isolate(&mut self.site.lab, COMPANION, &REST, old, false)?;
        self.now_primary(1 - old, seen)
    }

    /// Stops the agent of the primary's host (SIGSTOP), which it is told nothing of; then lets it go on.
    ///
    /// # Errors
    /// As [`Self::server_killed`].
    pub fn agent_stopped(&mut self) -> anyhow::Result<Sample> {
        let old = self.primary;
        let client = Both::begin(&self.site.lab, SERVERS, old)?;
        self.site.signal_agent(AGENT_HOSTS[old], Signal::SIGSTOP)?;
        let seen = client.taken_over_by(1 - old, LIMIT, LOOK_ON);
        self.site.signal_agent(AGENT_HOSTS[old], Signal::SIGCONT)?;
        self.now_primary(1 - old, seen)
    }

    /// Kills the agent of the primary's host (SIGKILL), and starts it anew only when the other host has taken over.
    ///
    /// # Errors
    /// As [`Self::server_killed`].
    pub fn agent_dead(&mut self) -> anyhow::Result<Sample> {
        let old = self.primary;
        let client = Both::begin(&self.site.lab, SERVERS, old)?;
        self.site.kill_agent(AGENT_HOSTS[old])?;
        let seen = client.taken_over_by(1 - old, LIMIT, LOOK_ON);
        self.site.start_agent(AGENT_HOSTS[old])?;
        self.now_primary(1 - old, seen)
    }

    /// How many role changes the SCS has recorded, and the installation's network.
    ///
    /// # Errors
    /// The SCS does not answer.
    pub fn role_changes(&self) -> anyhow::Result<usize> {
        Ok(self.site.api()?.incidents()?.len())
    }

    /// Its network, to be observed.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.site.lab
    }

    /// All of it, to be looked at.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The names of the primary and the backup.
    #[must_use]
    pub fn roles(&self) -> [&'static str; 2] {
        [SERVERS[self.primary], SERVERS[1 - self.primary]]
    }

    /// Finds out who is primary of a whole pair, after an event that went otherwise than was waited for.
    ///
    /// # Errors
    /// The pair is not whole.
    pub fn look_again(&mut self) -> anyhow::Result<()> {
        let primary = self.site.wait_whole_with_any(&SERVERS, WHOLE_LIMIT)?;
        self.primary = usize::from(primary == SERVERS[1]);
        Ok(())
    }

    fn now_primary(&mut self, new: usize, seen: anyhow::Result<Sample>) -> anyhow::Result<Sample> {
        let seen = seen?;
        self.primary = new;
        self.site.wait_whole(SERVERS[new], WHOLE_LIMIT)?;
        Ok(seen)
    }

    /// Kills the primary's server.
    ///
    /// # Errors
    /// No takeover, or the pair did not become whole.
    pub fn server_killed(&mut self) -> anyhow::Result<(Sample, Recorded)> {
        std::thread::sleep(STEADY);
        let server = Pid::from_raw(i32::try_from(self.site.app_pid(SERVERS[self.primary])?)?);
        let client = Watch::begin(&self.site.lab, SERVERS[self.primary])?;
        kill(server, Signal::SIGKILL)?;
        self.role_changed(client)
    }

    /// Orders a switchover.
    ///
    /// # Errors
    /// As [`Self::server_killed`].
    pub fn switched_over(&mut self) -> anyhow::Result<(Sample, Recorded)> {
        let api = self.site.api()?;
        let client = Watch::begin(&self.site.lab, SERVERS[self.primary])?;
        api.switch_over("sip", "benchmark")?;
        self.role_changed(client)
    }

    /// Cuts the primary's host off; then plugs it in again, which the new primary's service should not feel.
    ///
    /// # Errors
    /// As [`Self::server_killed`].
    pub fn host_cut(&mut self) -> anyhow::Result<(Sample, Sample)> {
        let (old, new) = (self.primary, 1 - self.primary);
        let client = Watch::begin(&self.site.lab, SERVERS[old])?;
        self.site.lab.cut(AGENT_HOSTS[old])?;
        let cut = client.taken_over_by(SERVERS[new], LIMIT);
        let client = cut.and_then(|cut| Ok((cut, Watch::begin(&self.site.lab, SERVERS[new])?)));
        self.site.lab.heal(AGENT_HOSTS[old])?; // whatever came of it
        let (cut, client) = client?;
        self.primary = new;
        self.site.wait_whole(SERVERS[new], WHOLE_LIMIT)?;
        Ok((cut, client.continued_by(SERVERS[new])?))
    }

    /// Kills the agent of the primary's host and starts it anew at once, as a service manager does.
    ///
    /// # Errors
    /// The primary did not outlast it.
    pub fn agent_killed(&mut self) -> anyhow::Result<Sample> {
        let (host, server) = (AGENT_HOSTS[self.primary], SERVERS[self.primary]);
        let client = Watch::begin(&self.site.lab, server)?;
        self.site.kill_agent(host)?;
        self.site.start_agent(host)?;
        self.site.wait_whole(server, WHOLE_LIMIT)?;
        client.continued_by(server)
    }

    /// Nothing happens, for as long: what the machine alone does to the figures.
    ///
    /// # Errors
    /// The primary does not answer.
    pub fn undisturbed(&mut self) -> anyhow::Result<Sample> {
        let client = Watch::begin(&self.site.lab, SERVERS[self.primary])?;
        std::thread::sleep(Duration::from_millis(500));
        client.continued_by(SERVERS[self.primary])
    }

    /// The processes whose resources are measured: what they are, and their ids.
    ///
    /// # Errors
    /// One does not run.
    pub fn processes(&self) -> anyhow::Result<[(&'static str, u32); 3]> {
        let agent =
            |host: &str| self.site.agent_pid(host).with_context(|| format!("no agent runs on {host}"));
        let (primary, backup) = (AGENT_HOSTS[self.primary], AGENT_HOSTS[1 - self.primary]);
        Ok([
            ("SCS, two hosts", self.site.scs_pid().context("no SCS runs")?),
            ("LCA of the primary", agent(primary)?),
            ("LCA of the backup", agent(backup)?),
        ])
    }

    fn role_changed(&mut self, client: Watch) -> anyhow::Result<(Sample, Recorded)> {
        let (event, old, new) = (client.event_unix(), self.primary, 1 - self.primary);
        let sample = client.taken_over_by(SERVERS[new], LIMIT)?;
        self.primary = new;
        self.site.wait_whole(SERVERS[new], WHOLE_LIMIT)?;
        let incidents = self.site.api()?.incidents()?;
        let incident = incidents.into_iter().rfind(|incident| incident.to.as_str() == SERVERS[new]);
        let incident = incident.context("the SCS recorded no incident")?;
        // Two clocks, read one after the other: they may differ by a little.
        let fresh = incident.begun + Duration::from_millis(5) >= event;
        ensure!(fresh, "the newest incident is older than the event");
        Ok((sample, Recorded { event, old_host: AGENT_HOSTS[old], incident }))
    }
}
