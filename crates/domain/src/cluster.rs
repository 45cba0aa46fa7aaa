//! The cluster as configured: hosts, applications, pairs, VIPs, scripts, alarm conditions. Plain data, the same for the
//! SCS (all of it) and an agent (its part); `config` makes it from a file and checks what a single type cannot.

mod scs;

pub use scs::{OidcSettings, ScsSettings, WebSettings};

use crate::{
    AppName, EventId, HostName, InterfaceName, PairName, Reaction, ScriptName, SipSettings, Solution,
    SolutionName, VipAddress, format_duration,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Name of the installation, for people.
    pub name: String,
    /// The SCS.
    pub scs: ScsSettings,
    /// Hosts by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Applications by name.
    pub applications: BTreeMap<AppName, Application>,
    /// Pairs by name.
    pub pairs: BTreeMap<PairName, Pair>,
    /// Solutions by name.
    #[serde(default)]
    pub solutions: BTreeMap<SolutionName, Solution>,
    /// The user's scripts by name.
    pub scripts: BTreeMap<ScriptName, Script>,
    /// Alarm Conditions by name: the shipped ones (unless switched off), the user's, and the VIP wiring of each pair.
    pub alarm_conditions: BTreeMap<String, AlarmCondition>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its address on the management network, where the SCS probes it.
    pub address: IpAddr,
    /// Where its agent listens for other agents, if that is not [`PEER_PORT`] of `address`.
    #[serde(default)]
    pub peer_address: Option<SocketAddr>,
}

/// Where agents listen for each other unless told otherwise: TCP for control messages, UDP of the same number for
/// heartbeats and votes.
pub const PEER_PORT: u16 = 7401;

impl Host {
    /// Where its agent listens for other agents.
    #[must_use]
    pub fn peers_reach_it_at(&self) -> SocketAddr {
        self.peer_address.unwrap_or(SocketAddr::new(self.address, PEER_PORT))
    }
}

/// An application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// The host it runs on.
    pub host: HostName,
    /// Program and arguments; the program is an absolute path.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// Further environment variables.
    pub environment: BTreeMap<String, String>,
    /// User to run as; none: the agent's.
    pub user: Option<String>,
    /// How run-mode instructions reach it.
    pub mode_control: ModeControl,
    /// Whether the agent starts it when the agent itself starts.
    pub autostart: bool,
    /// What the agent does when it ends by itself.
    pub restart: RestartPolicy,
    /// Whether readiness is told by `READY=1` (sd_notify); otherwise it counts as ready when its probe succeeds, or at
    /// once where it has none.
    pub notify: bool,
    /// Start-up limit.
    pub start_limit: Duration,
    /// Shutdown limit.
    pub stop_limit: Duration,
    /// How long it may take to say that it has begun a graceful stop, 5 s to 600 s.
    pub suspend_limit: Duration,
    /// Longest silence of an application that promised heartbeats (`WATCHDOG=1`); none: no heartbeats are asked for.
    pub watchdog: Option<Duration>,
    /// What the agent does with a hung one.
    pub on_hang: OnHang,
    /// A probe from outside.
    pub probe: Option<Probe>,
}

/// How run-mode instructions reach an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ModeControl {
    /// Through the local socket named in `TAKEOVER_MODE_SOCKET` (own SIP Server).
    Socket,
    /// By a command with the mode and the epoch behind its arguments; exit code 0 confirms.
    Command {
        /// Program and first arguments.
        command: Vec<String>,
        /// How long it may run.
        time_limit: Duration,
    },
    /// By a signal; sent is confirmed.
    Signal {
        /// For primary mode.
        primary: Signal,
        /// For backup mode.
        backup: Signal,
    },
    /// Not at all: the application does not know modes, who has the VIP is primary.
    None,
}

/// Signals that may be used to tell a run mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// What the agent does when an application ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Whether it is restarted.
    pub auto: bool,
    /// Pause before the first restart; doubles up to 60 s while restarts follow each other.
    pub delay: Duration,
    /// Restarts in a row (less than `start_limit` apart) before the agent gives up.
    pub attempts: u32,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self { auto: true, delay: Duration::from_millis(500), attempts: 10 }
    }
}

/// What the agent does with a hung application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnHang {
    /// Kills it; the restart policy decides what follows.
    Restart,
    /// Reports it as unable to provide service and leaves it alone.
    Report,
}

/// A probe from outside the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// How often.
    pub every: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that make a failure.
    pub failures: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ProbeKind {
    /// Whether the process is there (pidfd); always done, named here for completeness.
    Process,
    /// Whether a TCP connection is accepted.
    Tcp {
        /// Where.
        target: SocketAddr,
    },
    /// Whether `GET` answers with 2xx.
    Http {
        /// Where.
        target: SocketAddr,
        /// Path, begins with '/'.
        path: String,
    },
    /// Whether a SIP OPTIONS over UDP is answered, by any final response but 408, 500 to 504 (RFC 3261, section 11).
    SipOptions {
        /// Where.
        target: SocketAddr,
    },
    /// Whether a command ends with exit code 0.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// A primary/backup pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The two members; the first is preferred where nothing else decides.
    pub members: [AppName; 2],
    /// Kind of standby.
    pub redundancy: Redundancy,
    /// How fast silence of a host counts as its loss, and how long a lease on the VIPs lasts.
    pub profile: Profile,
    /// Whether a host without a gate in its kernel may hold the VIPs.
    #[serde(default)]
    pub gate: GatePolicy,
    /// Whether service goes back to the first member by itself.
    pub failback: Failback,
    /// Limits on how often service moves by itself.
    pub flap_guard: FlapGuard,
    /// VIPs; they move together.
    pub vips: Vec<Vip>,
    /// Settings of its members, where they are our own SIP Servers and are told by file; none: by their arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip: Option<Box<SipSettings>>,
}

/// Redundancy type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Redundancy {
    /// The backup runs and keeps a live copy; it is ready only while it is synced.
    Hot,
    /// The backup runs.
    Warm,
    /// The backup is started when it is needed.
    Cold,
}

impl fmt::Display for Redundancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Redundancy::Hot => "hot",
            Redundancy::Warm => "warm",
            Redundancy::Cold => "cold",
        })
    }
}

/// How fast silence counts as loss, and how long a lease lasts: the same length of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Heartbeats every 10 ms, lost after 30 ms of silence. For bare metal with real-time rights.
    Fast,
    /// Heartbeats every 100 ms, lost after 450 ms of silence.
    #[default]
    Normal,
    /// Heartbeats every 500 ms, lost after 3 s of silence.
    Wan,
    /// Of one's own; `config` checks that they make a lease.
    Custom {
        /// Time between heartbeats, and between renewals of the lease.
        heartbeat: Duration,
        /// How long the lease lasts.
        hold: Duration,
    },
}

impl Profile {
    /// Those that have names, fastest first.
    pub const NAMED: [Profile; 3] = [Profile::Fast, Profile::Normal, Profile::Wan];

    /// Time between heartbeats.
    #[must_use]
    pub const fn heartbeat(self) -> Duration {
        match self {
            Profile::Fast => Duration::from_millis(10),
            Profile::Normal => Duration::from_millis(100),
            Profile::Wan => Duration::from_millis(500),
            Profile::Custom { heartbeat, .. } => heartbeat,
        }
    }

    /// Silence after which the host counts as lost.
    #[must_use]
    pub const fn silence(self) -> Duration {
        match self {
            Profile::Fast => Duration::from_millis(30),
            Profile::Normal => Duration::from_millis(450),
            Profile::Wan => Duration::from_secs(3),
            Profile::Custom { hold, .. } => hold,
        }
    }

    /// What satisfies both: the shorter of the heartbeats, the shorter of the silences. Two profiles of one's own may each
    /// be the faster in one of them.
    #[must_use]
    pub fn and(self, other: Profile) -> Profile {
        let heartbeat = self.heartbeat().min(other.heartbeat());
        let hold = self.silence().min(other.silence());
        let same = |profile: &Profile| (profile.heartbeat(), profile.silence()) == (heartbeat, hold);
        [self, other].into_iter().find(same).unwrap_or(Profile::Custom { heartbeat, hold })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Profile::Fast => f.pad("fast"),
            Profile::Normal => f.pad("normal"),
            Profile::Wan => f.pad("wan"),
            Profile::Custom { heartbeat, hold } => {
                write!(f, "{}/{}", format_duration(*heartbeat), format_duration(*hold))
            }
        }
    }
}

/// Whether a host without a gate in its kernel may hold a pair's VIPs. The gate cannot be switched off: it costs nothing
/// where the kernel has it, and without it a stopped agent's host goes on answering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatePolicy {
    /// It may; the guarantee that is shown is lower then.
    #[default]
    Preferred,
    /// It may not.
    Required,
}

impl fmt::Display for GatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GatePolicy::Preferred => "preferred",
            GatePolicy::Required => "required",
        })
    }
}

/// Whether service goes back to the first member after it was moved away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failback {
    /// Never; not even suggested.
    #[default]
    Never,
    /// By an operator; `status` says that it is due.
    Manual,
    /// By itself, once the first member has been ready for this long without a break.
    After(Duration),
}

impl fmt::Display for Failback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failback::Never => f.write_str("never"),
            Failback::Manual => f.write_str("manual"),
            Failback::After(stable) => write!(f, "after {}", format_duration(*stable)),
        }
    }
}

/// Limits on how often service moves by itself. Moves ordered by an operator do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlapGuard {
    /// Failovers within `window` that happen at once.
    pub free: u32,
    /// Time over which failovers are counted.
    pub window: Duration,
    /// How long the next one is held back; doubles with each further one.
    pub hold_down: Duration,
    /// Failovers within `window` after which the pair is frozen until an operator acknowledges.
    pub freeze_after: u32,
}

impl Default for FlapGuard {
    fn default() -> Self {
        Self { free: 4, window: Duration::from_secs(600), hold_down: Duration::from_secs(5), freeze_after: 8 }
    }
}

/// A Virtual IP address of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: VipAddress,
    /// The interface on each host of the pair.
    pub interfaces: BTreeMap<HostName, InterfaceName>,
    /// Who moves it.
    pub control: VipControl,
}

/// Who enables and disables a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VipControl {
    /// The agent itself, by netlink, without starting a process.
    BuiltIn,
    /// The user's VIP control script, launched with `enable` or `disable`.
    Script(ScriptName),
}

/// A script of the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Program and arguments; the program is an absolute path.
    pub command: Vec<String>,
    /// How long it may run before it and its children are killed.
    pub time_limit: Duration,
}

/// How bad an alarm is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Wake somebody.
    Critical,
    /// Today.
    #[default]
    Major,
    /// When there is time.
    Minor,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Category::Critical => "critical",
            Category::Major => "major",
            Category::Minor => "minor",
        })
    }
}

/// What raises an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detect {
    /// The log event.
    pub event: EventId,
    /// Whose.
    pub source: DetectSource,
}

/// Whose log event raises (or clears) an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectSource {
    /// Anybody's.
    Any,
    /// This application's.
    Application(AppName),
    /// This host's.
    Host(HostName),
}

/// An Alarm Condition (domain.md, "Alarm Conditions").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmCondition {
    /// How bad.
    pub category: Category,
    /// What raises it.
    pub detect: Detect,
    /// The log events of the same source that clear it.
    pub cancel: Vec<EventId>,
    /// How long it stays active without a repeat.
    pub clearance_timeout: Duration,
    /// What is run when it is raised, in order.
    pub reactions: Vec<Reaction>,
    /// What is run when it is cleared, in order.
    pub clearance_reactions: Vec<Reaction>,
    /// Whether a repeat runs the reactions again while the alarm is active.
    pub refire: bool,
    /// Whether it is left out of the list of active alarms (the VIP wiring is).
    pub hidden: bool,
    /// Whether it is used at all.
    pub enabled: bool,
}

impl Cluster {
    /// The pair that `app` is a member of.
    #[must_use]
    pub fn pair_of(&self, app: &AppName) -> Option<(&PairName, &Pair)> {
        self.pairs.iter().find(|(_, pair)| pair.members.contains(app))
    }

    /// The host of `app`.
    #[must_use]
    pub fn host_of(&self, app: &AppName) -> Option<&HostName> {
        self.applications.get(app).map(|a| &a.host)
    }

    /// What its heartbeats follow: the profiles of all pairs that have a member on `host`, as one that satisfies each.
    #[must_use]
    pub fn profile_of(&self, host: &HostName) -> Profile {
        self.pairs
            .values()
            .filter(|pair| pair.members.iter().any(|app| self.host_of(app) == Some(host)))
            .map(|pair| pair.profile)
            .reduce(Profile::and)
            .unwrap_or_default()
    }

    /// The other hosts that share a pair with `host`, each with the profile that satisfies all that they share.
    #[must_use]
    pub fn peers_of(&self, host: &HostName) -> BTreeMap<HostName, Profile> {
        let mut peers: BTreeMap<HostName, Profile> = BTreeMap::new();
        for pair in self.pairs.values() {
            let [Some(first), Some(second)] = pair.members.each_ref().map(|app| self.host_of(app)) else {
                continue;
            };
            let peer = match (first == host, second == host) {
                (true, false) => second,
                (false, true) => first,
                (true, true) | (false, false) => continue,
            };
            peers
                .entry(peer.clone())
                .and_modify(|profile| *profile = profile.and(pair.profile))
                .or_insert(pair.profile);
        }
        peers
    }

    /// The part that the agent on `host` needs: its applications, the pairs they belong to with their other members, and
    /// all scripts. Of the other members only what tells where they are: their environment is nobody else's business.
    #[must_use]
    pub fn part_of(&self, host: &HostName) -> Cluster {
        let here = |app: &AppName| self.host_of(app) == Some(host);
        let pairs: BTreeMap<_, _> = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.members.iter().any(here))
            .map(|(name, pair)| (name.clone(), pair.clone()))
            .collect();
        let others = pairs.values().flat_map(|pair| &pair.members);
        let others = others.filter_map(|name| {
            let settings = self.applications.get(name)?.clone();
            Some((name.clone(), Application { environment: BTreeMap::new(), ..settings }))
        });
        let own = self.applications.iter().filter(|(name, _)| here(name));
        let applications = others.chain(own.map(|(name, app)| (name.clone(), app.clone()))).collect();
        Cluster {
            name: self.name.clone(),
            scs: self.scs.clone(),
            hosts: self.hosts.clone(),
            applications,
            pairs,
            solutions: BTreeMap::new(),
            scripts: self.scripts.clone(),
            alarm_conditions: BTreeMap::new(),
        }
    }
}

impl Pair {
    /// The other member.
    #[must_use]
    pub fn other(&self, app: &AppName) -> &AppName {
        if &self.members[0] == app { &self.members[1] } else { &self.members[0] }
    }

    /// Which member `app` is.
    #[must_use]
    pub fn member(&self, app: &AppName) -> Option<Member> {
        match self.members.iter().position(|member| member == app)? {
            0 => Some(Member::First),
            _ => Some(Member::Second),
        }
    }

    /// The application that is this member.
    #[must_use]
    pub fn app(&self, member: Member) -> &AppName {
        match member {
            Member::First => &self.members[0],
            Member::Second => &self.members[1],
        }
    }
}

/// One of the two members of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Member {
    /// `members[0]`, preferred where nothing else decides.
    First,
    /// `members[1]`.
    Second,
}

impl Member {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Member::First => Member::Second,
            Member::Second => Member::First,
        }
    }
}

#[cfg(test)]
mod tests;
