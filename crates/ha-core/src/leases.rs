//! What the core makes of the pairs' leases: whom the SCS's voter may promise to, what agents decided while no SCS was
//! there, and what a peer's agent knows of a host that the SCS does not hear.
//!
//! The core neither votes nor waits for votes: that no two hosts answer is the voters' affair, whatever is decided here.

use crate::elect::Gone;
use crate::state::State;
use crate::watch::Edge;
use crate::{Action, IncidentKind, Phase};
use domain::{
    AppName, Epoch, GatePolicy, GateReport, HostName, LeaseReport, LogEvent, Member, Micros, Pair, PairName,
    Profile, RunMode, TakenOver, events,
};
use lease::{Entitled, Timing};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a lease may be confirmed by too few before it is reported: voters come and go when they are restarted.
const THIN_LASTS: Duration = Duration::from_secs(3);

/// A pair's lease, for people and programs to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LeaseView {
    /// Who holds it, as its agent told last; none: nobody that is heard of.
    pub holder: Option<HostName>,
    /// The epoch under which it is held.
    pub epoch: Epoch,
    /// How many other voters confirm the holder, of 2.
    pub backing: u8,
    /// How much of it was left when that was told, microseconds. It is renewed all the time.
    pub left_us: u64,
    /// When that was told.
    pub told: Option<Micros>,
    /// What enforces it on the two members' hosts, in the members' order.
    pub gates: [GateReport; 2],
    /// What is guaranteed at this moment, or what is missing, in words.
    pub guarantee: String,
    /// How long a lease lasts from the last renewal, microseconds.
    pub lasts_us: u64,
    /// Within what time service is back after the holder's host was cut off, at the worst, microseconds: a promise, and
    /// the time from one renewal to the next for what has to be said.
    pub host_cut_us: u64,
}

impl State {
    /// Whom the SCS's voter may promise a pair's lease to. In a planned switchover that is the old primary until it has
    /// confirmed that it is one no longer.
    #[must_use]
    pub fn entitled(&self, name: &PairName) -> Entitled {
        let (Some(pair), Some(state)) = (self.cluster.pairs.get(name), self.pairs.get(name)) else {
            return Entitled::Anyone;
        };
        let Some(wanted) = &state.wanted else { return Entitled::Anyone };
        let planned = state.change.as_ref().filter(|change| change.kind == IncidentKind::Manual);
        let still = planned.and_then(|change| change.from.as_ref()).filter(|from| {
            *from != wanted && self.reachable(from) && self.apps[*from].mode() == Some(RunMode::Primary)
        });
        match (still.and_then(|from| pair.member(from)), pair.member(wanted)) {
            (Some(member), _) => Entitled::Only { member, granted: Epoch(0) },
            (None, Some(member)) => Entitled::Only { member, granted: state.epoch },
            (None, None) => Entitled::Anyone,
        }
    }

    /// A pair's lease as its hosts told last. What a host told that is out of sight does not count.
    pub(crate) fn lease_view(&self, name: &PairName) -> LeaseView {
        let (pair, state) = (&self.cluster.pairs[name], &self.pairs[name]);
        let told = |at: usize| {
            state.leases[at]
                .as_ref()
                .filter(|_| self.reachable(&pair.members[at]))
                .map(|(lease, told)| (lease, *told))
        };
        let gates = [0, 1].map(|at| told(at).map_or(GateReport::Unknown, |(lease, _)| lease.gate.clone()));
        let held = [0, 1]
            .into_iter()
            .filter_map(|at| Some((at, told(at)?)))
            .find(|(_, (lease, _))| lease.held.is_some());
        let lease = held.map(|(_, (lease, _))| lease);
        let timing = Timing::from(pair.profile);
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        LeaseView {
            holder: held.and_then(|(at, _)| self.host_of(&pair.members[at]).cloned()),
            epoch: lease.and_then(|lease| lease.held).unwrap_or_default(),
            backing: lease.map_or(0, |lease| lease.backing),
            left_us: lease.map_or(0, |lease| lease.left_us),
            told: held.map(|(_, (_, told))| told),
            guarantee: guarantee(pair, lease, &gates),
            gates,
            lasts_us: us(timing.hold()),
            host_cut_us: us(timing.host_cut()),
        }
    }

    /// The greatest epoch on record for a pair.
    #[must_use]
    pub fn greatest_epoch(&self, name: &PairName) -> Epoch {
        self.pairs.get(name).map_or(Epoch(0), |state| state.epoch.max(state.seen))
    }

    /// Voters have seen this epoch: the next grant is above it.
    pub(crate) fn epoch_seen(&mut self, name: &PairName, epoch: Epoch) {
        if let Some(state) = self.pairs.get_mut(name).filter(|state| state.seen < epoch) {
            state.seen = epoch;
            self.changed = true;
        }
    }

    /// How leases stand at a host.
    pub(crate) fn leases_reported(&mut self, host: &HostName, leases: Vec<LeaseReport>, now: Micros) {
        let cluster = std::sync::Arc::clone(&self.cluster);
        for lease in leases {
            let Some(pair) = cluster.pairs.get(&lease.pair) else { continue };
            let Some(member) = self.member_on(pair, host).and_then(|app| pair.member(app)) else { continue };
            let Some(state) = self.pairs.get_mut(&lease.pair) else { continue };
            let name = lease.pair.clone();
            state.leases[usize::from(member == Member::Second)] = Some((lease, now));
            self.touched.insert(name);
        }
    }

    /// A member let go of its lease because its server failed; its own agent, or its peer's, says so.
    pub(crate) fn let_go(&mut self, name: &PairName, app: &AppName, epoch: Epoch, at: Micros) {
        // The next grant is above it, or this would be taken for its failure too.
        self.epoch_seen(name, epoch);
        let Some(state) = self.pairs.get_mut(name) else { return };
        if state.let_go.as_ref().is_none_or(|known| known.epoch < epoch) {
            state.let_go = Some(LetGo { app: app.clone(), epoch, at });
            self.touched.insert(name.clone());
        }
    }

    /// What an agent says about its lease is about the pair, and so about its first member, whichever of the two says it: the
    /// lease that one host holds ends the alarm that the other lost it.
    pub(crate) fn about_its_pair(&self, event: LogEvent) -> LogEvent {
        if event.id != events::LEASE_LOST && event.id != events::LEASE_HELD {
            return event;
        }
        let pair = event.attributes.get("pair").and_then(|name| PairName::new(name).ok());
        let pair = pair.and_then(|name| self.cluster.pairs.get(&name));
        match (pair, &event.host) {
            (Some(pair), Some(host)) if self.member_on(pair, host).is_some() => event.of(&pair.members[0]),
            (Some(_) | None, _) => event,
        }
    }

    /// A pair's lease was lost, or is held.
    pub(crate) fn lease_logged(&mut self, name: &PairName, event: &LogEvent, now: Micros) {
        let Some(state) = self.pairs.get_mut(name) else { return };
        if event.id == events::LEASE_LOST {
            state.lease_lost = Some(now);
        } else if event.id == events::LEASE_HELD {
            state.lease_lost = None;
        }
    }

    /// A host that was cut off tells that it lost the lease when it is back, and the other has long held it: then nobody
    /// wins it any more, and what is told of it next says that the loss is over.
    fn watch_lost_lease(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let Some(lost) = self.pairs[name].lease_lost else { return };
        let holds = |(app, lease): (&AppName, &Option<(LeaseReport, Micros)>)| {
            let (lease, _) = lease.as_ref().filter(|(_, told)| *told > lost)?;
            let host = self.host_of(app).filter(|_| self.reachable(app))?;
            Some((host.clone(), lease.held?))
        };
        let leases = pair.members.iter().zip(&self.pairs[name].leases);
        let Some((host, epoch)) = leases.filter_map(holds).next() else { return };
        if let Some(state) = self.pairs.get_mut(name) {
            state.lease_lost = None;
        }
        let event = LogEvent::new(events::LEASE_HELD, now).on(&host).of(&pair.members[0]).because(name);
        self.log(event.with("pair", name).with("epoch", epoch), out);
    }

    /// Reports a lease that a single loss would end, and one that no kernel enforces.
    pub(crate) fn watch_leases(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        self.watch_lost_lease(name, pair, now, out);
        let wanted = self.pairs[name].wanted.clone();
        let host = wanted.as_ref().and_then(|app| self.host_of(app)).cloned();
        let reached = wanted.as_ref().is_some_and(|app| self.reachable(app));
        let Some(state) = self.pairs.get_mut(name) else { return };
        let of = |member: Option<Member>| state.leases[usize::from(member? == Member::Second)].clone();
        let lease = of(wanted.as_ref().and_then(|app| pair.member(app))).filter(|_| reached);
        let thin = lease.as_ref().is_some_and(|(lease, _)| lease.held.is_some() && lease.backing < 2);
        let missing = lease.and_then(|(lease, _)| match lease.gate {
            GateReport::Agent { why } if lease.held.is_some() => Some(why),
            GateReport::Agent { .. } | GateReport::Kernel | GateReport::Unknown => None,
        });
        let edges = [
            (
                state.thin.update(thin, THIN_LASTS, now),
                events::BACKING_LOW,
                events::BACKING_FULL,
                String::new(),
            ),
            (
                state.ungated.update(missing.is_some(), THIN_LASTS, now),
                events::GATE_MISSING,
                events::GATE_WHOLE,
                missing.unwrap_or_default(),
            ),
        ];
        for (edge, raised, cleared, why) in edges {
            let (id, detail) = match edge {
                Edge::Same => continue,
                Edge::Raised if why.is_empty() => (raised, name.to_string()),
                Edge::Raised => (raised, format!("{name}: {why}")),
                Edge::Cleared => (cleared, name.to_string()),
            };
            let event = LogEvent::new(id, now).because(detail).with("pair", name).of(&pair.members[0]);
            let event = match &host {
                Some(host) => event.on(host),
                None => event,
            };
            self.log(event, out);
        }
    }

    /// When time alone may change what [`State::watch_leases`] reports.
    pub(crate) fn lease_deadline(&self, name: &PairName) -> Option<Micros> {
        let state = &self.pairs[name];
        let due = [state.thin.deadline(THIN_LASTS), state.ungated.deadline(THIN_LASTS)];
        due.into_iter().flatten().filter(|at| *at > state.settled_at).min()
    }

    /// Whether the failure of `app` under the present grant is known although its agent is out of sight.
    pub(crate) fn known_to_have_let_go(&self, name: &PairName, app: &AppName) -> Option<Micros> {
        let state = &self.pairs[name];
        state.let_go.as_ref().filter(|gone| gone.app == *app && gone.epoch >= state.epoch).map(|gone| gone.at)
    }

    /// The agent of `host` hears the agent of `peer`, or no longer.
    pub(crate) fn peer_reported(&mut self, host: &HostName, peer: HostName, heard: bool) {
        if !self.hosts.contains_key(&peer) {
            return;
        }
        self.touch_host(&peer);
        if let Some(state) = self.hosts.get_mut(host) {
            state.peers.insert(peer, heard);
        }
    }

    /// Whether no agent of the pair's members says that it does not hear the other's.
    pub(crate) fn hear_each_other(&self, pair: &Pair) -> bool {
        let hosts: Vec<_> = pair.members.iter().filter_map(|app| self.host_of(app)).collect();
        let deaf = |host: &&&HostName| {
            let peers = self.hosts.get(**host).map(|state| &state.peers);
            peers.is_some_and(|peers| peers.iter().any(|(peer, heard)| hosts.contains(&peer) && !heard))
        };
        !hosts.iter().any(|host| deaf(&host))
    }

    /// Whether the agent of the pair's other member says that it hears the agent of `host`.
    pub(crate) fn heard_by_peer(&self, pair: &Pair, host: &HostName) -> bool {
        let others = pair.members.iter().filter_map(|m| self.host_of(m)).filter(|h| *h != host);
        others
            .filter_map(|other| self.hosts.get(other))
            .any(|other| other.usable() && other.peers.get(host) == Some(&true))
    }

    /// Why a member's host may not hold the VIPs, where a gate is required and it has told that it has none.
    pub(crate) fn gate_required_and_missing(&self, pair: &Pair, app: &AppName) -> Option<String> {
        if pair.gate != GatePolicy::Required {
            return None;
        }
        let (name, _) = self.pair_of(app)?;
        let at = usize::from(pair.member(app)? == Member::Second);
        match &self.pairs.get(name)?.leases[at].as_ref()?.0.gate {
            GateReport::Agent { why } => Some(why.clone()),
            GateReport::Kernel | GateReport::Unknown => None,
        }
    }

    /// How long an agent may be away on a host that answers, before its pair's role counts as free. Where there are VIPs,
    /// their lease has run out by then, and nobody answers for them.
    pub(crate) fn agent_grace(&self, pair: &Pair) -> Duration {
        let grace = self.cluster.scs.agent_grace;
        if pair.vips.is_empty() { grace } else { grace.min(lease_over(pair.profile)) }
    }

    /// An agent made its server primary while no SCS was there: it has the role, and what follows is done now.
    pub(crate) fn taken_over(
        &mut self,
        host: &HostName,
        taken: TakenOver,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let TakenOver { pair: name, app, epoch, at, why } = taken;
        let Some(pair) = self.cluster.pairs.get(&name).cloned() else { return };
        let here = self.host_of(&app) == Some(host) && pair.members.contains(&app);
        let Some(state) = self.pairs.get_mut(&name).filter(|state| here && state.epoch < epoch) else {
            return;
        };
        let from = state.wanted.clone();
        state.wanted = Some(app.clone());
        state.epoch = epoch;
        state.regrant = None;
        state.held = None;
        state.first_ready_since = None;
        state.verification = crate::verify::Verification::None;
        state.reason = format!("{why}; the agent on {host} decided, without an SCS");
        if state.maintenance.is_none() {
            state.failovers.push_back(at);
        }
        let reason = state.reason.clone();
        state.change = Some(crate::state::RoleChange {
            kind: IncidentKind::Failure,
            from: from.clone(),
            to: app.clone(),
            begun: at,
        });
        self.changed = true;
        let gone = Gone {
            kind: IncidentKind::Failure,
            why: reason,
            at,
            host: Some(host.clone()),
            reported: Some(format!("the agent on {host} reported it when the SCS was back")),
        };
        self.open_failure(&name, from, app.clone(), gone, now, out);
        let text = format!("LCA on {host} made {app} primary under epoch {epoch}");
        self.note(&name, Phase::PrimaryInstructed, at, Some(host.clone()), text);
        self.touched.insert(name);
    }
}

/// A lease that was let go.
#[derive(Debug, Clone)]
pub(crate) struct LetGo {
    pub app: AppName,
    pub epoch: Epoch,
    pub at: Micros,
}

/// How long after the last sign of an agent no lease of its can be in force: the promise of the voter that heard it last,
/// and the time to its next renewal.
fn lease_over(profile: Profile) -> Duration {
    Timing::from(profile).promise() + profile.heartbeat()
}

/// What protects the VIPs at this moment, in words.
fn guarantee(pair: &Pair, held: Option<&LeaseReport>, gates: &[GateReport; 2]) -> String {
    if pair.vips.is_empty() {
        return "no VIPs to protect".to_owned();
    }
    let missing = pair.members.iter().zip(gates).find_map(|(app, gate)| match gate {
        GateReport::Kernel => None,
        GateReport::Agent { why } => Some(format!("lease only: no gate in the kernel under {app}: {why}")),
        GateReport::Unknown => {
            Some(format!("lease; the gate under {app} is not known while its agent is away"))
        }
    });
    let enforced = missing.unwrap_or_else(|| "lease and gate: never two hosts answer".to_owned());
    match held {
        None => format!("{enforced}; nobody holds the lease"),
        Some(lease) => match lease.backing {
            0 => format!("{enforced}; no other voter confirms the holder: the lease runs out"),
            1 => format!("{enforced}; one more loss ends service (1 of 2 other voters confirms)"),
            _ => format!("{enforced}; any single loss is survived (2 of 2 other voters confirm)"),
        },
    }
}
