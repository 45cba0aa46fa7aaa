//! One step: record the fact, then settle the pairs that it touches. The match is here, the work in the other rooms.

use crate::state::{Refusal, State};
use crate::{Action, Input, Lost, Record};
use alarms::Happened;
use domain::{
    AnswerOutcome, AppName, AppReport, AppStatus, Cause, HostName, HostStatus, InterfaceReport, LogEvent,
    Micros, PairName, VipAddress, VipReport, events,
};
use std::sync::Arc;

/// Most inputs that one input may lead to through the inbox. A fault of ten VIPs leads to some forty; the bound is
/// there so that a loop among reactions ends instead of hanging the SCS. What is left waits for the next call.
const MOST_ECHOES: usize = 10_000;

/// Takes one input with everything that it leads to through the inbox; returns what is to be done, in order.
pub fn run(state: &mut State, input: Input, now: Micros) -> Vec<Action> {
    let mut out = step(state, input, now);
    for _ in 0..MOST_ECHOES {
        let Some(echo) = state.inbox.pop_front() else {
            // Nothing is left to come: what waited for that is looked at again.
            let Some(name) = state.unfinished.pop_first() else { break };
            state.settle(&name, now, &mut out);
            continue;
        };
        out.extend(step(state, echo, now));
    }
    for name in std::mem::take(&mut state.noted) {
        state.record_incident(&name, &mut out);
    }
    if std::mem::take(&mut state.changed) {
        out.push(Action::Remember);
    }
    out
}

/// Takes one input and leaves what it leads to in the inbox. Callers other than tests use [`run`].
pub fn step(state: &mut State, input: Input, now: Micros) -> Vec<Action> {
    let mut out = Vec::new();
    match input {
        Input::AgentConnected { host, release, finds_holders } => {
            state.agent_connected(&host, release, finds_holders, now, &mut out);
        }
        Input::InventoryReported { host, apps, vips, interfaces } => {
            state.inventory(&host, apps, vips, interfaces, now, &mut out);
        }
        Input::AgentLost { host, how, answers } => state.agent_lost(&host, how, answers, now, &mut out),
        Input::HostProbed { host, answers } => state.host_probed(&host, answers, now, &mut out),
        Input::AppReported { host, at, report } => state.app_reported(&host, at, report, now, &mut out),
        Input::VipReported { host, at: _, report } => state.vip_reported(&host, &report),
        Input::VipSighted { host, at, sighting } => state.vip_sighted(host, at, sighting, now),
        Input::ScsSees { vips } => state.scs_sees(vips),
        Input::ScsSighted { vip, at, sighting } => state.scs_sighted(vip, at, sighting, now),
        Input::InterfaceReported { host, at: _, report } => state.interface_reported(&host, report),
        Input::PeerReported { host, at: _, peer, heard } => state.peer_reported(&host, peer, heard),
        Input::Answered { host, at, answer } => state.answered(&host, at, &answer, now, &mut out),
        Input::LaunchEnded { host, at, result } => state.launch_ended(&host, at, &result, now, &mut out),
        Input::EventReported { event } => {
            let event = state.about_its_pair(event);
            state.log(event, &mut out);
        }
        Input::Ordered { id, order, by } => {
            let outcome = state.order(&order, &by, now, &mut out);
            out.push(Action::Answer(id, outcome));
        }
        Input::ClusterApplied { cluster, what } => state.cluster_applied(*cluster, &what, now, &mut out),
        Input::Assigned { host } => state.assigned(&host, now),
        Input::TimePassed => state.time_passed(now, &mut out),
        Input::Logged { event } => state.logged(&event, now, &mut out),
        Input::LeasesReported { host, leases } => state.leases_reported(&host, leases, now),
        Input::StandbyReported { host, app, standby } => state.standby_reported(&host, &app, standby, now),
        Input::LeaseLetGo { pair, app, epoch } => state.let_go(&pair, &app, epoch, now),
        Input::EpochSeen { pair, epoch } => state.epoch_seen(&pair, epoch),
        Input::TookOver { host, taken } => state.taken_over(&host, taken, now, &mut out),
        Input::LaunchRequested { request } => state.request_launch(request, now, &mut out),
    }
    state.see_to_claims(now, &mut out);
    for name in std::mem::take(&mut state.touched) {
        state.settle(&name, now, &mut out);
        state.settled.insert(name);
    }
    state.see_to_solutions(now, &mut out);
    out
}

impl State {
    /// When [`Input::TimePassed`] is due next, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        debug_assert!(
            self.pairs
                .keys()
                .all(|name| self.touched.contains(name) || self.deadlines.is(name, self.pair_deadline(name))),
            "what a pair's deadline follows from has changed, and the pair was not touched"
        );
        let pairs = self.deadlines.first();
        let instructions = self.outstanding.values().map(|o| o.retry_at);
        let launches = self.launches.values().filter_map(|l| l.retry_at);
        pairs
            .into_iter()
            .chain(instructions)
            .chain(launches)
            .chain(self.alarms.next_deadline())
            .chain(self.claim_deadline())
            .chain(self.solution_deadline())
            .min()
    }

    fn agent_connected(
        &mut self,
        host: &HostName,
        release: String,
        finds_holders: bool,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        state.status = HostStatus::Up;
        state.since = now;
        state.heard = false;
        state.lost = None;
        state.release = release;
        state.finds_holders = finds_holders;
        self.forget_reports_of(host);
        self.touch_host(host);
        self.log(LogEvent::new(events::CONNECTED, now).because(format!("LCA on {host}")).on(host), out);
        self.log(LogEvent::new(events::HOST_NORMAL, now).because(host).on(host), out);
    }

    fn inventory(
        &mut self,
        host: &HostName,
        apps: Vec<AppReport>,
        vips: Vec<VipReport>,
        interfaces: Vec<InterfaceReport>,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(state) = self.hosts.get_mut(host).filter(|h| h.status == HostStatus::Up) else { return };
        state.heard = true;
        for interface in interfaces {
            state.interface_is(interface);
        }
        for vip in &vips {
            self.vip_reported(host, vip);
        }
        for report in apps {
            self.app_reported(host, now, report, now, out);
        }
        self.touch_host(host);
        self.discover(host, now, out);
    }

    fn agent_lost(&mut self, host: &HostName, how: Lost, answers: bool, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        // A host whose kernel closed the link is there, whatever the probe has had time to find out.
        let status = match (how, answers) {
            (Lost::Closed, _) | (Lost::Silent, true) => HostStatus::AgentDown,
            (Lost::Silent, false) => HostStatus::Unreachable,
        };
        state.status = status;
        state.since = now;
        state.heard = false;
        state.lost = Some((how, now));
        let id = if status == HostStatus::AgentDown {
            events::HOST_INACCESSIBLE
        } else {
            events::HOST_UNAVAILABLE
        };
        self.forget_reports_of(host);
        self.touch_host(host);
        let how = match how {
            Lost::Closed => "its agent closed the link",
            Lost::Silent => "its agent went silent",
        };
        self.log(
            LogEvent::new(events::CONNECTION_LOST, now).because(format!("LCA on {host}: {how}")).on(host),
            out,
        );
        self.log(LogEvent::new(id, now).because(host).on(host), out);
    }

    fn host_probed(&mut self, host: &HostName, answers: bool, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.hosts.get_mut(host) else { return };
        let (status, id) = match (state.status, answers) {
            (HostStatus::AgentDown, false) => (HostStatus::Unreachable, events::HOST_UNREACHABLE),
            (HostStatus::Unreachable | HostStatus::Unknown, true) => {
                (HostStatus::AgentDown, events::HOST_INACCESSIBLE)
            }
            (HostStatus::Unknown, false) => (HostStatus::Unreachable, events::HOST_UNREACHABLE),
            (HostStatus::Up, _) | (HostStatus::AgentDown, true) | (HostStatus::Unreachable, false) => return,
        };
        // How long the agent has been away counts from when it was lost, not from when the probe changed its mind.
        state.since = match (status, state.lost) {
            (HostStatus::AgentDown, Some((_, lost))) => lost,
            (_, _) => now,
        };
        state.status = status;
        self.touch_host(host);
        self.log(LogEvent::new(id, now).because(host).on(host), out);
    }

    /// What was known of a host's applications and addresses is not known any more.
    fn forget_reports_of(&mut self, host: &HostName) {
        for name in self.index.apps_on(host) {
            if let Some(state) = self.apps.get_mut(name) {
                state.report = None;
                state.refused = None;
            }
        }
        for name in self.index.pairs_on(host) {
            for vip in &self.cluster.pairs[name].vips {
                if let Some(place) = self.vips.get_mut(&(host.clone(), vip.address)) {
                    place.last = place.present.take().or(place.last);
                    place.misplaced = None;
                }
            }
        }
        if let Some(state) = self.hosts.get_mut(host) {
            state.interfaces.clear();
            state.peers.clear();
        }
        self.forget_sightings_by(host);
        self.outstanding.retain(|_, o| &o.host != host);
        self.forget_launches_on(host);
    }

    fn app_reported(
        &mut self,
        host: &HostName,
        at: Micros,
        report: AppReport,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let app = report.app.clone();
        if self.host_of(&app) != Some(host) {
            return;
        }
        for vip in &report.released {
            self.set_vip(host, *vip, false);
        }
        let Some(state) = self.apps.get_mut(&app) else { return };
        if state.status() != report.status {
            state.since = at;
        }
        state.at = at;
        // A process on its way up says no cause; whose doing its last end was is known from the report before.
        let by_order = state.starting_by_order
            || state.report.as_ref().is_some_and(|before| before.cause == Some(Cause::Ordered));
        let starting = matches!(report.status, AppStatus::StartPending | AppStatus::Initializing);
        state.starting_by_order = starting && by_order;
        if !report.status.is_up() {
            state.standby = None;
        }
        state.report = Some(report);
        self.touch_app(&app);
        self.see_to_wish(&app, now, out);
    }

    fn vip_reported(&mut self, host: &HostName, report: &VipReport) {
        self.set_vip(host, report.vip, report.present);
        self.touched.extend(self.index.pair_with(&report.vip).cloned());
    }

    fn set_vip(&mut self, host: &HostName, vip: VipAddress, present: bool) {
        if let Some(place) = self.vips.get_mut(&(host.clone(), vip)) {
            place.present = Some(present);
        }
    }

    fn interface_reported(&mut self, host: &HostName, report: InterfaceReport) {
        if let Some(state) = self.hosts.get_mut(host) {
            state.interface_is(report);
        }
        self.touch_host(host);
    }

    fn answered(
        &mut self,
        host: &HostName,
        at: Micros,
        answer: &domain::Answer,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        // An answer to an instruction that was replaced since finds nothing.
        if self.outstanding.get(&answer.ref_id).is_none_or(|o| &o.host != host) {
            return;
        }
        let Some(outstanding) = self.outstanding.remove(&answer.ref_id) else { return };
        let app: AppName = outstanding.app;
        self.touch_app(&app);
        match &answer.outcome {
            AnswerOutcome::Done => {
                if let Some(state) = self.apps.get_mut(&app) {
                    state.refused = None;
                }
            }
            AnswerOutcome::Refused { why } => {
                if let Some(state) = self.apps.get_mut(&app) {
                    state.refused = Some(Refusal { order: outstanding.order, why: why.clone(), at: now });
                }
                let text = format!("{app}: {}: {why}", outstanding.order);
                self.log(LogEvent::new(events::INSTRUCTION_REFUSED, at).because(text).on(host).of(&app), out);
            }
            AnswerOutcome::Stale { seen } => {
                let text = format!("{app}: {}: its epoch is older than {seen}", outstanding.order);
                self.log(LogEvent::new(events::INSTRUCTION_REFUSED, at).because(text).on(host).of(&app), out);
                if let Some(name) = self.pair_of(&app).map(|(name, _)| name.clone()) {
                    self.outbid(&name, *seen, now);
                }
            }
        }
    }

    /// A host has seen a greater epoch than ours (the state that survived was too old): whoever is wanted needs a grant
    /// above it. An answer to an instruction that was older than our own newest grant needs nothing.
    pub(crate) fn outbid(&mut self, name: &PairName, seen: domain::Epoch, now: Micros) {
        let Some(state) = self.pairs.get_mut(name).filter(|p| p.epoch < seen) else { return };
        state.epoch = seen;
        self.changed = true;
        if let Some(wanted) = state.wanted.clone() {
            let reason = format!(
                "epoch {seen} was granted before, which the SCS had forgotten; {wanted} is wanted now"
            );
            self.grant(name, &wanted, crate::IncidentKind::FirstPrimary, reason, now);
        }
    }

    fn time_passed(&mut self, now: Micros, out: &mut Vec<Action>) {
        let cluster = Arc::clone(&self.cluster);
        let ended = self.alarms.expire(&cluster.alarm_conditions, now);
        self.handle_alarms(ended, now, out);
        self.retry_instructions(now, out);
        self.retry_launches(now, out);
        self.touched.extend(self.deadlines.due(now).cloned());
    }

    /// A log event came back through the inbox: alarms and their reactions.
    fn logged(&mut self, event: &LogEvent, now: Micros, out: &mut Vec<Action>) {
        let cluster = Arc::clone(&self.cluster);
        let happened = self.alarms.logged(&cluster.alarm_conditions, event, now);
        self.handle_alarms(happened, now, out);
        if let Some(name) = event.app.as_ref().and_then(|app| self.pair_of(app)).map(|(name, _)| name.clone())
        {
            self.lease_logged(&name, event, now);
            self.touched.insert(name);
        }
    }

    pub(crate) fn handle_alarms(&mut self, happened: Vec<Happened>, now: Micros, out: &mut Vec<Action>) {
        for what in happened {
            self.changed = true;
            match what {
                Happened::Raised(alarm) => {
                    self.note_alarm(&alarm, now);
                    if !alarm.hidden {
                        let expected = if self.is_worked_on(&alarm.source) { ", in maintenance" } else { "" };
                        let (condition, category) = (&alarm.condition, alarm.category);
                        let text = format!("{condition} ({category}{expected}): {}", alarm.source);
                        let event = LogEvent::new(events::ALARM_RAISED, now).because(text);
                        self.log(event.with("alarm", alarm.number), out);
                    }
                    out.push(Action::Record(Record::AlarmActive(alarm)));
                }
                Happened::Repeated(alarm) => {
                    self.note_alarm(&alarm, now);
                    out.push(Action::Record(Record::AlarmActive(alarm)));
                }
                Happened::Ended(alarm, ending) => {
                    if !alarm.hidden {
                        let text = format!("{}: {}: {ending}", alarm.condition, alarm.source);
                        let event = LogEvent::new(events::ALARM_CLEARED, now).because(text);
                        self.log(event.with("alarm", alarm.number), out);
                    }
                    out.push(Action::Record(Record::AlarmEnded { alarm, ending, at: now }));
                }
                Happened::React { condition, reaction, event, source: _ } => {
                    self.react(&condition, &reaction, event.as_ref(), now, out);
                }
                Happened::Overflow(condition) => {
                    let text = format!("{condition}: too many alarms are active, this one is dropped");
                    self.log(LogEvent::new(events::ALARM_RAISED, now).because(text), out);
                }
            }
        }
    }

    /// Whether an alarm's source belongs to pairs that are in maintenance, and to no other.
    fn is_worked_on(&self, source: &alarms::Source) -> bool {
        match source {
            alarms::Source::Application(app) => {
                self.pair_of(app).is_some_and(|(name, _)| self.in_maintenance(name))
            }
            alarms::Source::Host(host) => {
                let pairs = self.index.pairs_on(host);
                !pairs.is_empty() && pairs.iter().all(|name| self.in_maintenance(name))
            }
            alarms::Source::Cluster => false,
        }
    }

    /// An alarm of a mode change is a step of the pair's incident.
    fn note_alarm(&mut self, alarm: &alarms::ActiveAlarm, now: Micros) {
        if alarm.event != events::NOW_PRIMARY && alarm.event != events::NOW_BACKUP {
            return;
        }
        let alarms::Source::Application(app) = &alarm.source else { return };
        let Some(name) = self.pair_of(app).map(|(name, _)| name.clone()) else { return };
        let text = format!("Alarm Condition {:?} activates for {app}", alarm.condition);
        self.note(&name, crate::Phase::AlarmActivated, now, None, text);
    }
}
