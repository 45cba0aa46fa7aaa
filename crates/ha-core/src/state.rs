//! All that the core knows: the configuration, what was reported, what is wanted, and what is not answered yet.

use crate::claims::Claim;
use crate::elect::{Gone, REFUSAL_LASTS};
use crate::incidents::{Incident, IncidentKind};
use crate::index::{Deadlines, Index};
use crate::leases::LetGo;
use crate::promised::Promised;
use crate::sightings::{Observer, Sighting};
use crate::solutions::SolutionState;
use crate::verify::{Doubt, Verification};
use crate::watch::Watch;
use crate::{Durable, Lost, StandbyView};
use alarms::Alarms;
use domain::{
    AppName, AppReport, AppStatus, Cause, Cluster, Epoch, HostName, HostStatus, InterfaceName,
    InterfaceReport, Launch, LaunchWhat, LeaseReport, MacAddress, Micros, Order, Pair, PairName, RefId,
    RunMode, SolutionName, VipAddress,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The state of the core. Made by [`State::new`], changed by [`crate::step`] only.
#[derive(Debug, Clone)]
pub struct State {
    /// The configuration as it was given.
    pub(crate) file: Arc<Cluster>,
    /// The configuration in force: that without the VIPs that are withheld.
    pub(crate) cluster: Arc<Cluster>,
    /// VIPs that others had before.
    pub(crate) claims: Vec<Claim>,
    /// The VIPs that are withheld from pairs because of that, as was told last.
    pub(crate) withheld: BTreeMap<PairName, BTreeSet<VipAddress>>,
    pub(crate) index: Index,
    pub(crate) started_at: Micros,
    pub(crate) hosts: BTreeMap<HostName, HostState>,
    pub(crate) apps: BTreeMap<AppName, AppState>,
    pub(crate) pairs: BTreeMap<PairName, PairState>,
    pub(crate) solutions: BTreeMap<SolutionName, SolutionState>,
    pub(crate) vips: BTreeMap<(HostName, VipAddress), VipState>,
    /// The newest sighting of each VIP by each observer.
    pub(crate) sightings: BTreeMap<(VipAddress, Observer), Sighting>,
    /// VIPs whose networks the SCS's machine is in.
    pub(crate) seen_by_scs: BTreeSet<VipAddress>,
    /// VIPs about which it asks right now, because it was told to.
    pub(crate) scs_asks: BTreeSet<VipAddress>,
    pub(crate) outstanding: BTreeMap<RefId, Outstanding>,
    pub(crate) launches: BTreeMap<RefId, PendingLaunch>,
    pub(crate) alarms: Alarms,
    pub(crate) last_ref: u64,
    pub(crate) last_incident: u64,
    /// Set when something in [`Durable`] changed in this step.
    pub(crate) changed: bool,
    /// When the pairs are to be settled though nothing happens.
    pub(crate) deadlines: Deadlines,
    /// Pairs that this step must settle.
    pub(crate) touched: BTreeSet<PairName>,
    /// Solutions that this step must look at.
    pub(crate) touched_solutions: BTreeSet<SolutionName>,
    /// Pairs that were settled since the caller asked last ([`State::take_settled`]).
    pub(crate) settled: BTreeSet<PairName>,
    /// Pairs whose open incident has new steps, to be recorded when the actions that matter are out.
    pub(crate) noted: BTreeSet<PairName>,
    /// Pairs that could not be looked at for completeness because the inbox was not empty.
    pub(crate) unfinished: BTreeSet<PairName>,
    /// Inputs that this step produced, for [`crate::run`] to feed back.
    pub(crate) inbox: VecDeque<crate::Input>,
}

/// What is known of a host.
#[derive(Debug, Clone)]
pub(crate) struct HostState {
    pub status: HostStatus,
    pub since: Micros,
    pub release: String,
    /// Whether its agent can ask the network who has a VIP.
    pub finds_holders: bool,
    /// When its agent was last heard to have taken the configuration without connecting anew.
    pub assigned: Micros,
    /// Set once the inventory is in; reports before it are not the whole picture.
    pub heard: bool,
    pub lost: Option<(Lost, Micros)>,
    pub interfaces: BTreeMap<InterfaceName, bool>,
    /// The Ethernet addresses of its interfaces, by which others see it. Kept while it is out of sight: that is when
    /// its answers to others matter most.
    pub macs: BTreeMap<InterfaceName, MacAddress>,
    /// Which other agents its agent hears.
    pub peers: BTreeMap<HostName, bool>,
}

/// What is known of an application.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppState {
    /// The newest report; none while its host is not connected or has not told yet.
    pub report: Option<AppReport>,
    /// When the report was made.
    pub at: Micros,
    /// Since when its status has been what it is.
    pub since: Micros,
    /// What an operator ordered and that has to be seen to, however often its host goes out of sight meanwhile.
    pub wish: Option<Wish>,
    /// It is on its way up after a stop by order, and has not been ready since.
    pub starting_by_order: bool,
    /// The mode that was logged last, with its epoch; what differs from it is a change. Kept while the host is out of
    /// sight: heard again is not known again.
    pub logged: Option<(RunMode, Epoch)>,
    /// The epoch under which a start was ordered last.
    pub started_for: Epoch,
    /// The goal mode: what was instructed last.
    pub goal: Option<(RunMode, Epoch)>,
    /// The last instruction that was refused.
    pub refused: Option<Refusal>,
    /// What it says of the copy that the backup of its pair keeps.
    pub standby: Option<StandbyView>,
}

/// What an operator wants of an application's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Stopped until started by order.
    Stopped {
        /// Whether it may finish what is in hand.
        graceful: bool,
    },
    /// Stopped, then started.
    Restarted,
    /// Started.
    Started,
}

impl AppState {
    pub(crate) fn stop_ordered(&self) -> bool {
        matches!(self.wish, Some(Wish::Stopped { .. }))
    }

    /// Whether an operator wants it stopped, or is having it restarted.
    pub(crate) fn held_by_order(&self) -> bool {
        match self.wish {
            Some(Wish::Stopped { .. } | Wish::Restarted) => true,
            Some(Wish::Started) | None => false,
        }
    }
}

/// A refused instruction.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub order: Order,
    pub why: String,
    pub at: Micros,
}

impl AppState {
    /// The refusal of primary mode, while it counts.
    pub(crate) fn refuses_primary(&self, now: Micros) -> Option<&Refusal> {
        let primary = |r: &&Refusal| matches!(r.order, Order::SetRunMode { mode: RunMode::Primary, .. });
        self.refused.as_ref().filter(|r| now.since(r.at) < REFUSAL_LASTS).filter(primary)
    }

    /// Whether an order like this one was refused a moment ago, so that giving it again is no use yet.
    pub(crate) fn refused_like(&self, order: &Order, now: Micros) -> bool {
        let kind = |o: &Order| match o {
            Order::SetRunMode { mode, .. } => (0, Some(*mode)),
            Order::Start => (1, None),
            Order::Stop { .. } => (2, None),
        };
        self.refused
            .as_ref()
            .is_some_and(|r| now.since(r.at) < REFUSAL_LASTS && kind(&r.order) == kind(order))
    }

    pub(crate) fn status(&self) -> AppStatus {
        self.report.as_ref().map_or(AppStatus::Unknown, |r| r.status)
    }

    /// Whether it is reported to have failed, as opposed to stopped by order or not started yet.
    pub(crate) fn failed(&self) -> bool {
        self.report.as_ref().and_then(|r| r.cause.as_ref()).is_some_and(Cause::is_failure)
    }

    /// The reported mode of a process that runs.
    pub(crate) fn mode(&self) -> Option<RunMode> {
        self.report.as_ref().and_then(|r| r.mode)
    }
}

/// What is wanted of a pair, and what it has been through.
#[derive(Debug, Clone, Default)]
pub(crate) struct PairState {
    /// Since when it has been configured.
    pub since: Micros,
    /// When wanted was compared with known last.
    pub settled_at: Micros,
    pub wanted: Option<AppName>,
    pub epoch: Epoch,
    /// The greatest epoch that any voter has seen.
    pub seen: Epoch,
    /// How long promises on its lease may count.
    pub promised: Promised,
    /// The last lease that was let go because a server failed.
    pub let_go: Option<LetGo>,
    /// How the lease stands at the two members' hosts, and when that was told.
    pub leases: [Option<(LeaseReport, Micros)>; 2],
    /// When it was told that the lease was lost, and not since that it is held.
    pub lease_lost: Option<Micros>,
    pub thin: Watch,
    pub ungated: Watch,
    /// The reason of the last decision, one sentence.
    pub reason: String,
    pub change: Option<RoleChange>,
    pub incident: Option<Incident>,
    /// When service moved by itself, newest last, within the flap guard's window.
    pub failovers: VecDeque<Micros>,
    /// By the flap guard.
    pub frozen: bool,
    /// By hand.
    pub freeze: Option<crate::Freeze>,
    pub flapping: bool,
    pub maintenance: Option<crate::Maintenance>,
    pub drills: crate::Drills,
    /// The end of a hold-down that was announced.
    pub held: Option<Micros>,
    /// The wanted member failed and nobody could take over: granting it the role again takes a new epoch.
    pub regrant: Option<Gone>,
    /// Since when the first member has been ready to have the role back.
    pub first_ready_since: Option<Micros>,
    /// A host that came back held a VIP or ran as primary: announce anew once it let go.
    pub announce_due: bool,
    pub verification: Verification,
    /// Whether a single odd answer is being asked about.
    pub doubt: Option<Doubt>,
    /// It was reported that the network does not confirm the holder, and not yet that it does.
    pub not_confirmed: bool,
    pub no_primary: Watch,
    pub two_primaries: Watch,
    pub no_holder: Watch,
    pub two_holders: Watch,
    pub backup_not_ready: Watch,
    /// Whom the last "backup not ready" was about.
    pub not_ready_member: Option<AppName>,
}

/// A role change under way.
#[derive(Debug, Clone)]
pub(crate) struct RoleChange {
    pub kind: IncidentKind,
    pub from: Option<AppName>,
    pub to: AppName,
    pub begun: Micros,
}

/// Where an address is, as its host's kernel tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct VipState {
    /// None: not known (host not connected).
    pub present: Option<bool>,
    /// What was known before the host went out of sight.
    pub last: Option<bool>,
    /// Since when it has been out of place; what the safety net waits on.
    pub misplaced: Option<Micros>,
    /// How often the safety net has tried since.
    pub tries: u32,
    /// A script of the user's failed on it: the safety net uses the built-in control.
    pub script_failed: bool,
}

/// An instruction not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Outstanding {
    pub host: HostName,
    pub app: AppName,
    pub order: Order,
    pub sent: Micros,
    pub attempts: u32,
    pub retry_at: Micros,
}

/// A launch not ended yet.
#[derive(Debug, Clone)]
pub(crate) struct PendingLaunch {
    pub host: HostName,
    pub launch: Launch,
    /// None: held until the other side has let go.
    pub sent: Option<Micros>,
    pub attempts: u32,
    pub retry_at: Option<Micros>,
}

impl State {
    /// The state of an SCS that has just started: everything unknown but what survived.
    #[must_use]
    pub fn new(cluster: Cluster, durable: Durable, now: Micros) -> Self {
        let mut state = Self {
            file: Arc::new(Cluster::default()),
            cluster: Arc::new(Cluster::default()),
            claims: Vec::new(),
            withheld: BTreeMap::new(),
            index: Index::default(),
            started_at: now,
            hosts: BTreeMap::new(),
            apps: BTreeMap::new(),
            pairs: BTreeMap::new(),
            solutions: BTreeMap::new(),
            vips: BTreeMap::new(),
            sightings: BTreeMap::new(),
            seen_by_scs: BTreeSet::new(),
            scs_asks: BTreeSet::new(),
            outstanding: BTreeMap::new(),
            launches: BTreeMap::new(),
            alarms: Alarms::default(),
            last_ref: 0,
            last_incident: 0,
            changed: false,
            deadlines: Deadlines::default(),
            touched: BTreeSet::new(),
            touched_solutions: BTreeSet::new(),
            settled: BTreeSet::new(),
            noted: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            inbox: VecDeque::new(),
        };
        state.configure(cluster, now);
        state.restore(durable, now);
        state
    }

    /// The configuration in force.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// When this state was made.
    #[must_use]
    pub fn started_at(&self) -> Micros {
        self.started_at
    }

    /// What is known of `host`; none where it is not configured.
    #[must_use]
    pub fn host_status(&self, host: &HostName) -> Option<HostStatus> {
        self.hosts.get(host).map(|h| h.status)
    }

    /// The pairs about which something may have been decided since this was asked last: whom the SCS's voter may promise
    /// their leases to ([`State::entitled`]) may have changed.
    pub fn take_settled(&mut self) -> BTreeSet<PairName> {
        std::mem::take(&mut self.settled)
    }

    /// Instructions and launches that wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outstanding.len() + self.launches.len()
    }

    /// Takes over a configuration: what is gone is forgotten, what is new is unknown, the rest stays as it is.
    pub(crate) fn configure(&mut self, cluster: Cluster, now: Micros) {
        let before: Vec<_> = self.grounds().collect();
        self.hosts.retain(|name, _| cluster.hosts.contains_key(name));
        for name in cluster.hosts.keys() {
            self.hosts.entry(name.clone()).or_insert_with(|| HostState::new(now));
        }
        // On another host it is another one: what was known of it there says nothing of it here.
        let stays =
            |name: &AppName| cluster.host_of(name).is_some_and(|host| self.file.host_of(name) == Some(host));
        self.apps.retain(|name, _| stays(name));
        for name in cluster.applications.keys() {
            self.apps.entry(name.clone()).or_insert_with(|| AppState { since: now, ..AppState::default() });
        }
        self.pairs.retain(|name, _| cluster.pairs.contains_key(name));
        for (name, pair) in &cluster.pairs {
            let new = || PairState { since: now, ..PairState::default() };
            let state = self.pairs.entry(name.clone()).or_insert_with(new);
            state.promised.by(pair.profile, now);
            let seats = |cluster: &Cluster, pair: &Pair| {
                pair.members.each_ref().map(|app| (app.clone(), cluster.host_of(app).cloned()))
            };
            // What was told of a lease was told of a seat.
            if self.file.pairs.get(name).is_some_and(|old| seats(&self.file, old) != seats(&cluster, pair)) {
                state.leases = [None, None];
            }
            if state.wanted.as_ref().is_some_and(|w| !pair.members.contains(w)) {
                state.wanted = None;
                state.change = None;
            }
        }
        self.outstanding.retain(|_, o| cluster.host_of(&o.app) == Some(&o.host));
        self.launches.retain(|_, l| cluster.hosts.contains_key(&l.host));
        self.configure_solutions(&cluster, now);
        let old = std::mem::replace(&mut self.file, Arc::new(cluster));
        self.claim(before, &old, now);
        self.put_in_force();
    }

    /// The configuration of the file is in force, without the VIPs that are withheld.
    pub(crate) fn put_in_force(&mut self) {
        let cluster = self.without_withheld();
        let mut places = BTreeSet::new();
        for pair in cluster.pairs.values() {
            for vip in &pair.vips {
                for member in &pair.members {
                    places.extend(cluster.host_of(member).map(|host| (host.clone(), vip.address)));
                }
            }
        }
        self.vips.retain(|place, _| places.contains(place));
        // An agent has nothing to say of a VIP that it does not have any more, and one that is held back would wait for ever.
        self.launches.retain(|_, pending| {
            let (host, launch) = (&pending.host, &pending.launch);
            let of_its_pair = |vip: &VipAddress| {
                let pair = launch.pair.as_ref().and_then(|name| cluster.pairs.get(name));
                pair.is_some_and(|pair| pair.vips.iter().any(|of| of.address == *vip))
                    && places.contains(&(host.clone(), *vip))
            };
            match &launch.what {
                LaunchWhat::VipControl { vip, .. }
                | LaunchWhat::Announce { vip, .. }
                | LaunchWhat::FindHolder { vip, .. } => of_its_pair(vip),
                LaunchWhat::Script { .. } => true,
            }
        });
        let known: BTreeSet<VipAddress> = places.iter().map(|(_, vip)| *vip).collect();
        self.sightings.retain(|(vip, observer), _| match observer {
            Observer::Host(host) => places.contains(&(host.clone(), *vip)),
            Observer::Scs => known.contains(vip),
        });
        self.scs_asks.retain(|vip| known.contains(vip));
        for place in places {
            self.vips.entry(place).or_default();
        }
        // Each pair is settled in the step that comes.
        self.deadlines = Deadlines::default();
        self.touched.extend(cluster.pairs.keys().cloned());
        self.index = Index::of(&cluster);
        self.cluster = Arc::new(cluster);
        // What is in force, and how long promises last, is kept.
        self.changed = true;
    }

    pub(crate) fn next_ref(&mut self) -> RefId {
        self.last_ref += 1;
        self.changed = true;
        RefId(self.last_ref)
    }

    pub(crate) fn touch_host(&mut self, host: &HostName) {
        self.touched.extend(self.index.pairs_on(host).iter().cloned());
        for app in self.index.apps_on(host).to_vec() {
            self.touch_solutions_of(&app);
        }
    }

    pub(crate) fn touch_app(&mut self, app: &AppName) {
        if let Some((name, _)) = self.pair_of(app) {
            let name = name.clone();
            self.touched.insert(name);
        }
        self.touch_solutions_of(app);
    }

    pub(crate) fn host_of(&self, app: &AppName) -> Option<&HostName> {
        self.cluster.host_of(app)
    }

    /// Whether the agent on the host of `app` is connected and has told all that it knows.
    pub(crate) fn reachable(&self, app: &AppName) -> bool {
        self.host_of(app).and_then(|h| self.hosts.get(h)).is_some_and(HostState::usable)
    }

    /// The member of `pair` that has its application on `host`.
    pub(crate) fn member_on<'p>(&self, pair: &'p Pair, host: &HostName) -> Option<&'p AppName> {
        pair.members.iter().find(|m| self.host_of(m) == Some(host))
    }
}

impl HostState {
    pub(crate) fn new(now: Micros) -> Self {
        Self {
            status: HostStatus::Unknown,
            since: now,
            release: String::new(),
            finds_holders: false,
            assigned: Micros::default(),
            heard: false,
            lost: None,
            interfaces: BTreeMap::new(),
            macs: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    pub(crate) fn interface_is(&mut self, report: InterfaceReport) {
        if let Some(mac) = report.mac {
            self.macs.insert(report.interface.clone(), mac);
        }
        self.interfaces.insert(report.interface, report.up);
    }

    /// Whether instructions reach it and its reports are the whole picture.
    pub(crate) fn usable(&self) -> bool {
        self.status == HostStatus::Up && self.heard
    }
}
