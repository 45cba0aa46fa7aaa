//! What of the state must survive a restart of the SCS: who is wanted, under which epoch, what operators ordered.

use crate::claims::Ground;
use crate::state::{PairState, State, Wish};
use crate::{Claim, Drills, Freeze, KeptSolution, Maintenance};
use alarms::{Alarms, Source};
use domain::{AppName, Epoch, HostName, Micros, PairName, RunMode, SolutionName, events};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// References that an SCS that crashed may have given out after its last [`Durable`] was kept: skipped at start.
const SKIP_REFS: u64 = 1_000_000;

/// Alarm numbers that an SCS that crashed may have given out after its last [`Durable`] was kept: skipped at start.
const SKIP_ALARMS: u64 = 1_000;

/// What survives a restart. Times are the caller's clock, which must go on across restarts (Unix time does).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durable {
    /// Per pair.
    pub pairs: BTreeMap<PairName, DurablePair>,
    /// VIPs that others had before.
    pub claims: Vec<Claim>,
    /// Solutions of which there is something to keep.
    pub solutions: BTreeMap<SolutionName, KeptSolution>,
    /// What operators ordered of applications.
    pub wishes: BTreeMap<AppName, Wish>,
    /// The modes that were logged last.
    pub logged: BTreeMap<AppName, (RunMode, Epoch)>,
    /// Active alarms.
    pub alarms: Alarms,
    /// The greatest reference given out.
    pub last_ref: u64,
    /// The greatest incident number given out.
    pub last_incident: u64,
}

/// What survives of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DurablePair {
    /// Who is wanted as primary.
    pub wanted: Option<AppName>,
    /// The greatest epoch granted.
    pub epoch: Epoch,
    /// The greatest epoch that any voter has seen.
    pub seen: Epoch,
    /// Its members' hosts; none from a release of before leases.
    pub hosts: Option<[HostName; 2]>,
    /// The VIPs that they may have held.
    pub vips: BTreeSet<IpAddr>,
    /// The longest promise on its lease that may be out, microseconds.
    pub promise_us: u64,
    /// The last decision's reason.
    pub reason: String,
    /// Whether it waits for an operator's acknowledgement.
    pub frozen: bool,
    /// Whether somebody froze it.
    pub freeze: Option<Freeze>,
    /// Whether it was reported as flapping.
    pub flapping: bool,
    /// Failovers within the flap guard's window.
    pub failovers: Vec<Micros>,
    /// Whether somebody works on it.
    pub maintenance: Option<Maintenance>,
    /// What is practised on it.
    pub drills: Drills,
}

impl State {
    /// What must survive a restart, as it is now.
    #[must_use]
    pub fn durable(&self) -> Durable {
        let mut pairs: BTreeMap<PairName, DurablePair> =
            self.pairs.iter().map(|(name, p)| (name.clone(), kept(p))).collect();
        for ground in self.grounds() {
            if let Some(pair) = pairs.get_mut(&ground.pair) {
                (pair.hosts, pair.vips) = (Some(ground.hosts), ground.vips);
            }
        }
        Durable {
            pairs,
            claims: self.claims.clone(),
            solutions: self.kept_solutions(),
            wishes: self.apps.iter().filter_map(|(name, a)| Some((name.clone(), a.wish?))).collect(),
            logged: self.apps.iter().filter_map(|(name, a)| Some((name.clone(), a.logged?))).collect(),
            alarms: self.alarms.clone(),
            last_ref: self.last_ref,
            last_incident: self.last_incident,
        }
    }

    pub(crate) fn restore(&mut self, durable: Durable, now: Micros) {
        let mut grounds = Vec::new();
        for (name, kept) in durable.pairs {
            let promise = Duration::from_micros(kept.promise_us);
            if let Some(hosts) = kept.hosts {
                grounds.push(Ground { pair: name.clone(), hosts, vips: kept.vips, promise });
            }
            let is_member =
                |app: &AppName| self.cluster.pairs.get(&name).is_some_and(|p| p.members.contains(app));
            let wanted = kept.wanted.filter(is_member);
            if let Some(state) = self.pairs.get_mut(&name) {
                state.wanted = wanted;
                state.epoch = kept.epoch;
                state.seen = kept.seen;
                state.promised.before(promise, now);
                state.reason = kept.reason;
                state.frozen = kept.frozen;
                state.freeze = kept.freeze;
                state.flapping = kept.flapping;
                state.maintenance = kept.maintenance;
                state.drills = kept.drills;
                // A clock that was put back must not hold failovers back for years.
                state.failovers = kept.failovers.into_iter().filter(|at| *at <= now).collect();
            }
        }
        self.restore_claims(durable.claims, grounds, now);
        self.restore_solutions(durable.solutions);
        for (app, wish) in durable.wishes {
            if let Some(state) = self.apps.get_mut(&app) {
                state.wish = Some(wish);
            }
        }
        for (app, logged) in durable.logged {
            if let Some(state) = self.apps.get_mut(&app) {
                state.logged = Some(logged);
            }
        }
        self.alarms = durable.alarms;
        let lost = |alarm: &alarms::ActiveAlarm| match &alarm.source {
            Source::Application(app) if alarm.event == events::LEASE_LOST => self.pair_of(app),
            Source::Application(_) | Source::Host(_) | Source::Cluster => None,
        };
        let lost: Vec<PairName> =
            self.alarms.active().filter_map(lost).map(|(name, _)| name.clone()).collect();
        for name in lost {
            if let Some(state) = self.pairs.get_mut(&name) {
                state.lease_lost = Some(now);
            }
        }
        self.alarms.skip_numbers(SKIP_ALARMS);
        self.last_ref = durable.last_ref.saturating_add(SKIP_REFS);
        self.last_incident = durable.last_incident;
    }
}

fn kept(p: &PairState) -> DurablePair {
    DurablePair {
        wanted: p.wanted.clone(),
        epoch: p.epoch,
        seen: p.seen,
        hosts: None,
        vips: BTreeSet::new(),
        promise_us: u64::try_from(p.promised.longest().as_micros()).unwrap_or(u64::MAX),
        reason: p.reason.clone(),
        frozen: p.frozen,
        freeze: p.freeze.clone(),
        flapping: p.flapping,
        failovers: p.failovers.iter().copied().collect(),
        maintenance: p.maintenance.clone(),
        drills: p.drills.clone(),
    }
}
