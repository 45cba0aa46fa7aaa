//! What an operator sees: the state of everything as plain values, made on demand. Nothing here feeds back.

use crate::state::State;
use crate::{Drill, Freeze, LeaseView, Maintenance, SolutionView, StandbyView};
use alarms::ActiveAlarm;
use domain::{
    AppName, AppStatus, Epoch, Failback, HostName, HostStatus, InterfaceName, MacAddress, Micros, PairName,
    Profile, Redundancy, RunMode, VipAddress,
};
use serde::{Deserialize, Serialize};

/// Everything, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct View {
    /// Name of the installation.
    pub cluster: String,
    /// When this was so.
    pub at: Micros,
    /// Since when the SCS runs.
    pub started_at: Micros,
    /// Pairs by name.
    pub pairs: Vec<PairView>,
    /// Hosts by name.
    pub hosts: Vec<HostView>,
    /// Applications by name.
    pub applications: Vec<AppView>,
    /// Solutions by name.
    #[serde(default)]
    pub solutions: Vec<SolutionView>,
    /// Active alarms that are not hidden, oldest first.
    pub alarms: Vec<ActiveAlarm>,
}

/// A pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PairView {
    /// Its name.
    pub name: PairName,
    /// Kind of standby.
    pub redundancy: Redundancy,
    /// Profile.
    pub profile: Profile,
    /// Failback policy.
    pub failback: Failback,
    /// Who is wanted as primary.
    pub wanted_primary: Option<AppName>,
    /// Who runs as primary, as reported; none where nobody does or two do.
    pub primary: Option<AppName>,
    /// The pair's epoch.
    pub epoch: Epoch,
    /// The reason of the last decision.
    pub reason: String,
    /// What is wrong, in words; empty where all is well.
    pub trouble: Vec<String>,
    /// What the product will do next by itself, in words.
    pub next: String,
    /// Whether nothing moves by itself until an operator says so: frozen by the flap guard, or by hand.
    pub frozen: bool,
    /// By whom it was frozen and why; none where only the flap guard did, or nobody.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// Whether somebody works on it.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// What is practised on it, by number; those that are over included.
    #[serde(default)]
    pub drills: Vec<Drill>,
    /// The incident under way.
    pub incident: Option<u64>,
    /// Its members, as configured.
    pub members: Vec<MemberView>,
    /// Its VIPs.
    pub vips: Vec<VipView>,
    /// Whether its members show their calls.
    #[serde(default)]
    pub shows_calls: bool,
    /// Its lease; none from an SCS of before there were leases.
    #[serde(default)]
    pub lease: Option<LeaseView>,
}

/// A member of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MemberView {
    /// The application.
    pub app: AppName,
    /// Its host.
    pub host: HostName,
    /// Its status as reported.
    pub status: AppStatus,
    /// Its mode as reported; the last one known where its host cannot be reached.
    pub mode: Option<RunMode>,
    /// The mode it was last instructed to take.
    pub goal: Option<RunMode>,
    /// Whether what is said here is known now (its host is connected), or only what was known last.
    pub current: bool,
    /// Whether it could take over now; else why not. In JSON `not_ready`: null, or why not.
    #[serde(rename = "not_ready", with = "not_ready")]
    #[schemars(with = "Option<String>")]
    pub ready: Result<(), String>,
    /// In a hot pair: how the backup's copy stands; of a backup that it holds, of a primary what it has itself.
    #[serde(default)]
    pub standby: Option<StandbyView>,
}

/// Readiness as JSON has it: `Result` would be `{"Ok":null}`.
mod not_ready {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(ready: &Result<(), String>, to: S) -> Result<S::Ok, S::Error> {
        ready.as_ref().err().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Result<(), String>, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Ok(()), Err))
    }
}

/// A VIP of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VipView {
    /// The address.
    pub address: VipAddress,
    /// Where it is.
    pub places: Vec<VipPlace>,
    /// Who answered for it when hosts that do not hold it asked last.
    #[serde(default)]
    pub sightings: Vec<SightingView>,
}

/// Who answered for a VIP when the network was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SightingView {
    /// The host that asked; none: the SCS did, from its own machine.
    pub observer: Option<HostName>,
    /// When it asked first.
    pub asked: Micros,
    /// When the inquiry was over.
    pub at: Micros,
    /// Who answered; empty: nobody.
    pub holders: Vec<HolderView>,
}

/// A machine that answered for a VIP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HolderView {
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Whose that is; none: no host's that the SCS has heard of.
    pub host: Option<HostName>,
}

/// A VIP on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct VipPlace {
    /// The host.
    pub host: HostName,
    /// The interface.
    pub interface: InterfaceName,
    /// Whether it is there; none: not known, its host cannot be reached.
    pub enabled: Option<bool>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostView {
    /// Its name.
    pub name: HostName,
    /// Its status.
    pub status: HostStatus,
    /// Since when.
    pub since: Micros,
    /// Release of its agent; empty where not heard of.
    pub release: String,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AppView {
    /// Its name.
    pub name: AppName,
    /// Its host.
    pub host: HostName,
    /// The pair that it is a member of.
    pub pair: Option<PairName>,
    /// Its status as reported.
    pub status: AppStatus,
    /// Since when.
    pub since: Micros,
    /// Its mode as reported.
    pub mode: Option<RunMode>,
    /// Process id.
    pub pid: Option<u32>,
    /// Restarts by its agent.
    pub restarts: u32,
    /// What it says of itself, or why it is what it is.
    pub text: String,
    /// Whether an operator stopped it.
    pub stop_ordered: bool,
}

impl State {
    /// What an operator sees at `now`.
    #[must_use]
    pub fn view(&self, now: Micros) -> View {
        View {
            cluster: self.cluster.name.clone(),
            at: now,
            started_at: self.started_at,
            pairs: self.cluster.pairs.keys().map(|name| self.pair_view(name, now)).collect(),
            hosts: self
                .hosts
                .iter()
                .map(|(name, h)| HostView {
                    name: name.clone(),
                    status: h.status,
                    since: h.since,
                    release: h.release.clone(),
                })
                .collect(),
            applications: self.apps.keys().filter_map(|name| self.app_view(name)).collect(),
            solutions: self.solution_views(),
            alarms: self.alarms.active().filter(|a| !a.hidden).cloned().collect(),
        }
    }

    fn pair_view(&self, name: &PairName, now: Micros) -> PairView {
        let (config, state) = (&self.cluster.pairs[name], &self.pairs[name]);
        let members: Vec<_> = config.members.iter().map(|app| self.member_view(config, app, now)).collect();
        let mut primaries = members.iter().filter(|m| m.current && m.mode == Some(RunMode::Primary));
        let primary = match (primaries.next(), primaries.next()) {
            (Some(one), None) => Some(one.app.clone()),
            (Some(_), Some(_)) | (None, _) => None,
        };
        PairView {
            name: name.clone(),
            redundancy: config.redundancy,
            profile: config.profile,
            failback: config.failback,
            wanted_primary: state.wanted.clone(),
            primary,
            epoch: state.epoch,
            reason: state.reason.clone(),
            trouble: self.trouble(name, now),
            next: self.what_is_next(name, now),
            frozen: state.frozen_how().is_some(),
            freeze: state.freeze.clone(),
            maintenance: state.maintenance.clone(),
            drills: state.drills.listed().to_vec(),
            incident: state.incident.as_ref().map(|i| i.id.0),
            members,
            shows_calls: config.sip.as_ref().is_some_and(|sip| sip.http_port.is_some()),
            lease: Some(self.lease_view(name)),
            vips: config
                .vips
                .iter()
                .map(|vip| VipView {
                    address: vip.address,
                    places: vip
                        .interfaces
                        .iter()
                        .map(|(host, interface)| VipPlace {
                            host: host.clone(),
                            interface: interface.clone(),
                            enabled: self.vips.get(&(host.clone(), vip.address)).and_then(|v| v.present),
                        })
                        .collect(),
                    sightings: self.sighting_views(&vip.address),
                })
                .collect(),
        }
    }

    fn sighting_views(&self, vip: &VipAddress) -> Vec<SightingView> {
        let view =
            |(observer, seen): (&crate::sightings::Observer, &crate::sightings::Sighting)| SightingView {
                observer: observer.host().cloned(),
                asked: seen.asked,
                at: seen.at,
                holders: seen
                    .holders
                    .iter()
                    .map(|holder| HolderView { mac: holder.mac, host: self.host_at(holder.mac).cloned() })
                    .collect(),
            };
        self.sightings_of(vip).map(view).collect()
    }

    fn member_view(&self, pair: &domain::Pair, app: &AppName, now: Micros) -> MemberView {
        let state = &self.apps[app];
        let current = self.reachable(app);
        MemberView {
            app: app.clone(),
            host: self.cluster.applications[app].host.clone(),
            status: state.status(),
            mode: if current { state.mode() } else { state.logged.map(|(mode, _)| mode) },
            goal: state.goal.map(|(mode, _)| mode),
            current,
            ready: self.ready(pair, app, now),
            standby: self.standby_of(app),
        }
    }

    fn app_view(&self, name: &AppName) -> Option<AppView> {
        let state = self.apps.get(name)?;
        let report = state.report.as_ref();
        let said = report.map(|r| r.text.clone()).unwrap_or_default();
        let cause = report.and_then(|r| r.cause.as_ref()).map(ToString::to_string);
        Some(AppView {
            name: name.clone(),
            host: self.host_of(name)?.clone(),
            pair: self.pair_of(name).map(|(pair, _)| pair.clone()),
            status: state.status(),
            since: state.since,
            mode: state.mode(),
            pid: report.and_then(|r| r.pid),
            restarts: report.map_or(0, |r| r.restarts),
            text: cause.unwrap_or(said),
            stop_ordered: state.stop_ordered(),
        })
    }

    /// What is wrong with a pair, in words.
    fn trouble(&self, name: &PairName, now: Micros) -> Vec<String> {
        let (config, state) = (&self.cluster.pairs[name], &self.pairs[name]);
        let mut out = Vec::new();
        let mut say = |watch: &crate::watch::Watch, text: &str| {
            if watch.is_raised() {
                out.push(text.to_owned());
            }
        };
        say(&state.no_primary, "no primary");
        say(&state.two_primaries, "two primaries");
        say(&state.no_holder, "a VIP has no holder");
        say(&state.two_holders, "a VIP is on two hosts");
        if let Some(app) = state.wanted.as_ref().filter(|w| self.apps[*w].stop_ordered()) {
            out.push(format!("{app} was stopped by an operator while it had the role"));
        }
        if state.frozen {
            out.push(
                "frozen after flapping: `takeover acknowledge` switches automatic failover on again"
                    .to_owned(),
            );
        }
        out.extend(self.why_withheld(name));
        for app in &config.members {
            if state.wanted.as_ref() != Some(app)
                && let Err(why) = self.ready(config, app, now)
            {
                out.push(format!("{app} cannot take over: {why}"));
            }
        }
        out
    }
}
