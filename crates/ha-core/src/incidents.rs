//! The record of a role change: trigger, evidence, the workflow's numbered steps with their times, phases, outcome.
//! It follows what the other rooms decide and decides nothing itself.

use crate::state::State;
use crate::{Action, Lost, Record};
use domain::{AppName, Epoch, HostName, Micros, PairName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Number of an incident; never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct IncidentId(pub u64);

/// Most steps that an incident keeps: a role change has about a dozen; retries may add more, without end they may not.
const MAX_STEPS: usize = 200;

/// Which of the workflows (workflows.md) an incident follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// Manual switchover (an operator's, or by the failback policy).
    Manual,
    /// Primary server failure.
    Failure,
    /// Primary server disconnected.
    Disconnected,
    /// Reconnection of a disconnected primary.
    Reconnected,
    /// The pair got its first primary.
    FirstPrimary,
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            IncidentKind::Manual => "manual switchover",
            IncidentKind::Failure => "primary server failure",
            IncidentKind::Disconnected => "primary server disconnected",
            IncidentKind::Reconnected => "reconnection of a disconnected primary",
            IncidentKind::FirstPrimary => "first primary",
        })
    }
}

/// What a step is about; its number in the workflow follows from the kind of incident.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// What set it off: the order, the failure, the lost or restored connection.
    Detected,
    /// The SCS knows.
    Reported,
    /// A new primary is wanted.
    Decided,
    /// The old primary is instructed to go into backup mode.
    BackupInstructed,
    /// It confirmed.
    BackupConfirmed,
    /// The new primary is instructed to go into primary mode.
    PrimaryInstructed,
    /// It confirmed.
    PrimaryConfirmed,
    /// The log events of the mode changes.
    Logged,
    /// An Alarm Condition activated.
    AlarmActivated,
    /// An Alarm Reaction asked for a VIP control script.
    ReactionTriggered,
    /// A script was launched (or could not be).
    Launched,
    /// A script ended: the VIP is disabled or enabled.
    AddressMoved,
    /// The holder announced the VIP anew.
    Announced,
    /// The network was asked who has the VIP.
    Verified,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Detected => "detected",
            Phase::Reported => "reported",
            Phase::Decided => "decided",
            Phase::BackupInstructed => "backup-instructed",
            Phase::BackupConfirmed => "backup-confirmed",
            Phase::PrimaryInstructed => "primary-instructed",
            Phase::PrimaryConfirmed => "primary-confirmed",
            Phase::Logged => "logged",
            Phase::AlarmActivated => "alarm-activated",
            Phase::ReactionTriggered => "reaction-triggered",
            Phase::Launched => "launched",
            Phase::AddressMoved => "address-moved",
            Phase::Announced => "announced",
            Phase::Verified => "verified",
        })
    }
}

impl IncidentKind {
    /// The number of `phase` in this workflow; none: it is not one of its steps.
    #[must_use]
    pub fn step_number(self, phase: Phase) -> Option<u8> {
        match (self, phase) {
            (_, Phase::Detected) => Some(1),
            (
                _,
                Phase::Decided
                | Phase::BackupConfirmed
                | Phase::PrimaryConfirmed
                | Phase::Announced
                | Phase::Verified,
            ) => None,

            (IncidentKind::Manual, Phase::Reported) => None,
            (IncidentKind::Manual, Phase::BackupInstructed) => Some(2),
            (IncidentKind::Manual | IncidentKind::Failure, Phase::PrimaryInstructed) => Some(3),

            (IncidentKind::Failure | IncidentKind::Reconnected, Phase::Reported) => Some(2),
            (IncidentKind::Failure, Phase::BackupInstructed) => None,

            (IncidentKind::Reconnected, Phase::BackupInstructed) => Some(3),
            (IncidentKind::Reconnected, Phase::PrimaryInstructed) => None,

            (IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected, Phase::Logged) => {
                Some(4)
            }
            (
                IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected,
                Phase::AlarmActivated,
            ) => Some(5),
            (
                IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected,
                Phase::ReactionTriggered,
            ) => Some(6),
            (IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected, Phase::Launched) => {
                Some(7)
            }
            (
                IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected,
                Phase::AddressMoved,
            ) => Some(8),

            (
                IncidentKind::Disconnected | IncidentKind::FirstPrimary,
                Phase::Reported | Phase::BackupInstructed,
            ) => None,
            (IncidentKind::Disconnected | IncidentKind::FirstPrimary, Phase::PrimaryInstructed) => Some(2),
            (IncidentKind::Disconnected | IncidentKind::FirstPrimary, Phase::Logged) => Some(3),
            (IncidentKind::Disconnected | IncidentKind::FirstPrimary, Phase::AlarmActivated) => Some(4),
            (IncidentKind::Disconnected | IncidentKind::FirstPrimary, Phase::ReactionTriggered) => Some(5),
            (
                IncidentKind::Disconnected | IncidentKind::FirstPrimary,
                Phase::Launched | Phase::AddressMoved,
            ) => Some(6),
        }
    }

    /// The number of the last step.
    #[must_use]
    pub fn last_step(self) -> u8 {
        match self {
            IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Reconnected => 8,
            IncidentKind::Disconnected | IncidentKind::FirstPrimary => 6,
        }
    }
}

/// One step of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Step {
    /// When.
    pub at: Micros,
    /// What it is about.
    pub phase: Phase,
    /// Its number in the workflow, if it has one.
    pub number: Option<u8>,
    /// Where, if on one host.
    pub host: Option<HostName>,
    /// What happened, one sentence.
    pub text: String,
}

/// How an incident ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum IncidentOutcome {
    /// Not yet.
    Open,
    /// The wanted primary runs as primary and its host has the VIPs.
    Completed,
    /// The planned change did not work and the old primary has the role again.
    RolledBack {
        /// Why.
        why: String,
    },
    /// Another role change began before this one was complete.
    Superseded,
    /// The SCS ended before this one was complete; what was left to do, the next SCS did without a record.
    Interrupted,
    /// The configuration changed before this one was complete, and the new primary is none of the pair's any more.
    Reconfigured,
}

impl fmt::Display for IncidentOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IncidentOutcome::Open => f.write_str("under way"),
            IncidentOutcome::Completed => f.write_str("completed"),
            IncidentOutcome::RolledBack { why } => write!(f, "rolled back: {why}"),
            IncidentOutcome::Superseded => f.write_str("superseded by the next role change"),
            IncidentOutcome::Interrupted => f.write_str("interrupted by the end of the SCS"),
            IncidentOutcome::Reconfigured => f.write_str("ended by a change of the configuration"),
        }
    }
}

/// The whole record of one role change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The pair.
    pub pair: PairName,
    /// Which workflow.
    pub kind: IncidentKind,
    /// Who was primary.
    pub from: Option<AppName>,
    /// Who is to be.
    pub to: AppName,
    /// The epoch of the new grant.
    pub epoch: Epoch,
    /// The decision's reason, one sentence.
    pub reason: String,
    /// Who ordered it; empty where nobody did.
    pub ordered_by: String,
    /// The number of the drill that ordered it; none: it was no drill.
    #[serde(default)]
    pub drill: Option<u64>,
    /// When it began; of a loss: when it was noticed.
    pub begun: Micros,
    /// How long before that it may have happened, at the most, microseconds: a host that is cut off is noticed by its
    /// silence. 0: when it happened is known.
    #[serde(default)]
    pub unnoticed_us: u64,
    /// When it ended.
    pub ended: Option<Micros>,
    /// How it ended.
    pub outcome: IncidentOutcome,
    /// What each observer saw, one sentence each.
    pub evidence: Vec<String>,
    /// The steps, in the order in which they came to the SCS's knowledge.
    pub steps: Vec<Step>,
}

impl Incident {
    /// What it is called: its kind, and the drill that it was.
    #[must_use]
    pub fn title(&self) -> String {
        self.drill.map_or_else(|| self.kind.to_string(), |drill| format!("{} (drill {drill})", self.kind))
    }

    /// When the new primary had what it takes to serve: its VIPs, or its mode where the pair has none. None: it did not come
    /// to that, or the record does not have it.
    #[must_use]
    pub fn served_at(&self) -> Option<Micros> {
        let at_new = self.steps.iter().find(|step| step.phase == Phase::PrimaryInstructed)?.host.as_ref()?;
        let last = |phase| {
            let steps =
                self.steps.iter().filter(|step| step.phase == phase && step.host.as_ref() == Some(at_new));
            steps.map(|step| step.at).max()
        };
        let confirmed =
            self.steps.iter().filter(|step| step.phase == Phase::PrimaryConfirmed).map(|step| step.at);
        last(Phase::AddressMoved).or_else(|| confirmed.max())
    }
}

impl State {
    /// Opens an incident of `pair`; one that is still open is superseded.
    pub(crate) fn open_incident(
        &mut self,
        pair: &PairName,
        begin: Begin,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> u64 {
        self.close_incident(pair, IncidentOutcome::Superseded, now, out);
        self.last_incident += 1;
        self.changed = true;
        let id = self.last_incident;
        let unnoticed = self.unnoticed(pair, &begin);
        if let Some(state) = self.pairs.get_mut(pair) {
            state.incident = Some(Incident {
                id: IncidentId(id),
                pair: pair.clone(),
                kind: begin.kind,
                from: begin.from,
                to: begin.to,
                epoch: state.epoch,
                reason: state.reason.clone(),
                ordered_by: begin.ordered_by,
                drill: None,
                begun: begin.at,
                unnoticed_us: u64::try_from(unnoticed.as_micros()).unwrap_or(u64::MAX),
                ended: None,
                outcome: IncidentOutcome::Open,
                evidence: begin.evidence,
                steps: Vec::with_capacity(16),
            });
        }
        self.note(pair, Phase::Detected, begin.at, begin.host, begin.text);
        if let Some(reported) = begin.reported {
            self.note(pair, Phase::Reported, now, None, reported);
        }
        let reason = self.pairs.get(pair).map(|p| p.reason.clone()).unwrap_or_default();
        self.note(pair, Phase::Decided, now, None, reason);
        id
    }

    /// How long what begins may have gone unnoticed.
    fn unnoticed(&self, pair: &PairName, begin: &Begin) -> Duration {
        let lost = begin.host.as_ref().and_then(|host| self.hosts.get(host)).and_then(|host| host.lost);
        match (begin.kind, lost) {
            (IncidentKind::Disconnected, Some((Lost::Silent, _))) => {
                self.cluster.pairs.get(pair).map_or(Duration::ZERO, |pair| pair.profile.silence())
            }
            (
                IncidentKind::Disconnected
                | IncidentKind::Manual
                | IncidentKind::Failure
                | IncidentKind::Reconnected
                | IncidentKind::FirstPrimary,
                _,
            ) => Duration::ZERO,
        }
    }

    /// Adds a step to the open incident of `pair`, if there is one.
    pub(crate) fn note(
        &mut self,
        pair: &PairName,
        phase: Phase,
        at: Micros,
        host: Option<HostName>,
        text: impl Into<String>,
    ) {
        if let Some(incident) = self.pairs.get_mut(pair).and_then(|p| p.incident.as_mut())
            && incident.steps.len() < MAX_STEPS
        {
            let number = incident.kind.step_number(phase);
            incident.steps.push(Step { at, phase, number, host, text: text.into() });
            self.noted.insert(pair.clone());
        }
    }

    pub(crate) fn close_incident(
        &mut self,
        pair: &PairName,
        outcome: IncidentOutcome,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(state) = self.pairs.get_mut(pair) else { return };
        if let Some(mut incident) = state.incident.take() {
            if state.drills.incident_ended(incident.id.0, &outcome) {
                // Its drill goes on from there.
                self.changed = true;
                self.unfinished.insert(pair.clone());
            }
            incident.outcome = outcome;
            incident.ended = Some(now);
            out.push(Action::Record(Record::Incident(incident)));
        }
    }

    /// Hands out the open incident as it is now, for the store and for whoever watches it.
    pub(crate) fn record_incident(&self, pair: &PairName, out: &mut Vec<Action>) {
        if let Some(incident) = self.pairs.get(pair).and_then(|p| p.incident.as_ref()) {
            out.push(Action::Record(Record::Incident(incident.clone())));
        }
    }
}

/// What is known of an incident when it begins.
pub(crate) struct Begin {
    pub kind: IncidentKind,
    pub from: Option<AppName>,
    pub to: AppName,
    pub ordered_by: String,
    /// When it happened, where, and what.
    pub at: Micros,
    pub host: Option<HostName>,
    pub text: String,
    /// How the SCS got to know, where that is a step of its own.
    pub reported: Option<String>,
    pub evidence: Vec<String>,
}
