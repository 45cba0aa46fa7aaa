//! Who is wanted as primary: moved only when the holder is known to be gone and the other is known to be ready, when an
//! operator orders it, or when the failback policy says so. Every decision leaves its reason in one sentence.

use crate::incidents::{Begin, IncidentKind, IncidentOutcome};
use crate::state::{RoleChange, State};
use crate::{Action, Lost};
use domain::{
    AppName, AppStatus, Cause, Failback, HostName, HostStatus, LogEvent, Micros, Pair, PairName, Redundancy,
    RunMode, events, format_duration,
};
use std::time::Duration;

/// How long a planned switchover may take before it is rolled back.
pub(crate) const PLANNED_LIMIT: Duration = Duration::from_secs(2);
/// How long a member that refused an instruction counts as not ready.
pub(crate) const REFUSAL_LASTS: Duration = Duration::from_secs(5);

/// What is known of the holder of the role.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    /// It serves, or is being told to.
    Fine,
    /// Not known: decides nothing.
    Unknown,
    /// An operator stopped it: no failure, nothing fails over.
    Stopped,
    /// Known to be gone.
    Gone(Gone),
}

/// How a holder is gone.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub kind: IncidentKind,
    pub why: String,
    pub at: Micros,
    pub host: Option<HostName>,
    pub reported: Option<String>,
}

impl State {
    pub(crate) fn elect(&mut self, name: &PairName, now: Micros, out: &mut Vec<Action>) {
        let cluster = std::sync::Arc::clone(&self.cluster);
        let pair = &cluster.pairs[name];
        self.learn_epoch(name, pair, now, out);
        self.forget_old_failovers(name, pair, now, out);
        self.end_maintenance_if_over(name, now, out);
        self.see_to_drills(name, now, out);
        if self.roll_back_if_stuck(name, pair, now, out) {
            return;
        }
        let Some(holder) = self.pairs[name].wanted.clone() else {
            self.elect_first(name, pair, now, out);
            return;
        };
        match self.holder(pair, &holder, now) {
            Holder::Fine => {
                self.pairs.get_mut(name).expect("the caller looked the pair up").held = None;
                self.fail_back_if_due(name, pair, &holder, now, out);
            }
            Holder::Unknown | Holder::Stopped => {}
            Holder::Gone(gone) => self.fail_over(name, pair, &holder, gone, now, out),
        }
    }

    /// A member reports a greater epoch than ours: the state that survived was older than the last grant. Whoever is
    /// primary under that epoch owns it; where a backup reports it, it was told to stand by for the other.
    fn learn_epoch(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let reports =
            pair.members.iter().filter(|m| self.reachable(m)).filter_map(|m| self.apps[m].report.as_ref());
        let newest = reports.max_by_key(|r| (r.epoch, r.mode == Some(RunMode::Primary)));
        let Some(newest) = newest.filter(|r| r.epoch > self.pairs[name].epoch) else { return };
        let owner = match newest.mode {
            Some(RunMode::Primary) => newest.app.clone(),
            Some(RunMode::Backup | RunMode::Exiting) | None => pair.other(&newest.app).clone(),
        };
        let epoch = newest.epoch;
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        let reason = format!("{owner} was granted the role under epoch {epoch}, which the SCS had forgotten");
        state.reason.clone_from(&reason);
        let from = state.wanted.replace(owner.clone()).filter(|from| *from != owner);
        state.epoch = epoch;
        state.change = None;
        state.regrant = None;
        self.changed = true;
        let Some(from) = from else { return };
        // The role has moved, and that is on no record. It moved because the other failed, or by order.
        let kind = IncidentKind::Failure;
        state.held = None;
        state.first_ready_since = None;
        state.verification = crate::verify::Verification::None;
        state.change = Some(RoleChange { kind, from: Some(from.clone()), to: owner.clone(), begun: now });
        let gone = Gone { kind, why: reason, at: now, host: None, reported: None };
        self.open_failure(name, Some(from), owner, gone, now, out);
    }

    /// What is known of `app` as the holder of the role.
    pub(crate) fn holder(&self, pair: &Pair, app: &AppName, now: Micros) -> Holder {
        let Some((host_name, host)) = self.host_of(app).and_then(|h| self.hosts.get_key_value(h)) else {
            return Holder::Unknown;
        };
        let gone = |kind, why, at, reported| {
            Holder::Gone(Gone { kind, why, at, host: Some(host_name.clone()), reported })
        };
        let lost = IncidentKind::Disconnected;
        // The peer's agent may hear what the SCS does not: then only what it knows to have failed is gone.
        let peer_hears = self.heard_by_peer(pair, host_name);
        let name = self.pair_of(app).map(|(name, _)| name);
        let let_go = name.and_then(|name| self.known_to_have_let_go(name, app));
        if host.status != HostStatus::Up
            && let Some(at) = let_go
        {
            let reported = Some("its lease was let go".to_owned());
            return gone(IncidentKind::Failure, format!("{app} on {host_name} failed"), at, reported);
        }
        match host.status {
            HostStatus::Up if host.heard => {}
            HostStatus::Up => return Holder::Unknown,
            HostStatus::Unreachable | HostStatus::AgentDown if peer_hears => return Holder::Unknown,
            HostStatus::Unreachable => {
                return gone(
                    lost,
                    format!("connection to {host_name} lost, it does not answer"),
                    host.since,
                    None,
                );
            }
            HostStatus::AgentDown if now.since(host.since) >= self.agent_grace(pair) => {
                let grace = format_duration(self.agent_grace(pair));
                return gone(
                    lost,
                    format!("the agent on {host_name} has been away for {grace}"),
                    host.since,
                    None,
                );
            }
            HostStatus::AgentDown => return Holder::Unknown,
            // Not heard of since the SCS started: the probe of the host will say more.
            HostStatus::Unknown => return Holder::Unknown,
        }
        let state = &self.apps[app];
        // Also between an order to start and the start: still the operator's doing.
        // (A cold backup was stopped by our own order; it is started again when it has the role.)
        let by_order = pair.redundancy != Redundancy::Cold
            && (state.starting_by_order
                || state.report.as_ref().is_some_and(|r| r.cause == Some(Cause::Ordered)));
        if state.held_by_order() || by_order {
            return Holder::Stopped;
        }
        let reported = Some(format!("the agent on {host_name} reported it"));
        if let Some(interface) = self.without_carrier(pair, host_name) {
            let why = format!("{interface} on {host_name} has no carrier");
            return gone(IncidentKind::Failure, why, now, reported);
        }
        match state.status() {
            AppStatus::Started if state.mode() != Some(RunMode::Primary) => {
                match state.refuses_primary(now) {
                    Some(refusal) => {
                        let why = format!("{app} on {host_name} refuses primary mode: {}", refusal.why);
                        gone(IncidentKind::Failure, why, refusal.at, reported)
                    }
                    None => Holder::Fine,
                }
            }
            AppStatus::Started => Holder::Fine,
            AppStatus::Unknown => Holder::Unknown,
            // A cold member that has the role is started because it has it.
            AppStatus::Stopped | AppStatus::StartPending | AppStatus::Initializing
                if pair.redundancy == Redundancy::Cold && !state.failed() =>
            {
                Holder::Fine
            }
            status @ (AppStatus::Stopped
            | AppStatus::StartPending
            | AppStatus::Initializing
            | AppStatus::ServiceUnavailable
            | AppStatus::Suspending
            | AppStatus::Suspended
            | AppStatus::StopPending) => {
                let cause = state.report.as_ref().and_then(|r| r.cause.as_ref());
                let why = match cause {
                    Some(cause) => format!("{app} on {host_name} failed: {cause}"),
                    None => format!("{app} on {host_name} is {status}"),
                };
                gone(IncidentKind::Failure, why, state.at, reported)
            }
        }
    }

    /// Whether `app` could take over at `now` as planned: it could serve and has what that takes; else why not and, where
    /// somebody can help, how.
    pub(crate) fn ready(&self, pair: &Pair, app: &AppName, now: Micros) -> Result<(), String> {
        self.able(pair, app, now)?;
        self.in_step(pair, app)
    }

    /// Whether `app`, of a hot pair, has what the primary has. Only what is planned waits for it: when the primary has
    /// failed, whatever the backup has is more than nothing.
    pub(crate) fn in_step(&self, pair: &Pair, app: &AppName) -> Result<(), String> {
        match &self.apps[app].report {
            Some(report)
                if pair.redundancy == Redundancy::Hot
                    && report.status == AppStatus::Started
                    && !report.synced =>
            {
                Err("it is not synchronized with the primary yet".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether `app` could serve if it had to, at `now`, whatever it lacks; else why not.
    pub(crate) fn able(&self, pair: &Pair, app: &AppName, now: Micros) -> Result<(), String> {
        let Some((host_name, host)) = self.host_of(app).and_then(|h| self.hosts.get_key_value(h)) else {
            return Err("its host is not configured".to_owned());
        };
        if !host.usable() {
            return Err(format!("{host_name} is {}", host.status));
        }
        let state = &self.apps[app];
        if state.stop_ordered() {
            return Err(format!("stopped by an operator; `takeover start {app}` starts it"));
        }
        if let Some(interface) = self.without_carrier(pair, host_name) {
            return Err(format!("{interface} on {host_name} has no carrier"));
        }
        if let Some(why) = self.gate_required_and_missing(pair, app) {
            return Err(format!("{host_name} has no gate, and `gate = \"required\"`: {why}"));
        }
        if let Some(refusal) = state.refuses_primary(now) {
            return Err(format!("it refused primary mode: {}", refusal.why));
        }
        let Some(report) = &state.report else {
            return Err("its agent has not told of it yet".to_owned());
        };
        match report.status {
            AppStatus::Started => match report.mode {
                None => Err("it has not told its run mode yet".to_owned()),
                Some(RunMode::Exiting) => Err("it is exiting".to_owned()),
                Some(RunMode::Primary | RunMode::Backup) => Ok(()),
            },
            AppStatus::Stopped if pair.redundancy == Redundancy::Cold => match &report.cause {
                Some(cause @ (Cause::GaveUp(_) | Cause::NotStarted(_))) => Err(cause.to_string()),
                Some(_) | None => Ok(()),
            },
            status => Err(match &report.cause {
                Some(cause) => format!("it is {status}: {cause}"),
                None => format!("it is {status}"),
            }),
        }
    }

    /// Makes `to` the wanted primary under a new epoch.
    pub(crate) fn grant(
        &mut self,
        name: &PairName,
        to: &AppName,
        kind: IncidentKind,
        reason: String,
        now: Micros,
    ) {
        let member = self.cluster.pairs[name].member(to).expect("only a member is granted the role");
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        let from = state.wanted.replace(to.clone());
        state.epoch = state.epoch.max(state.seen).next_of(member);
        state.reason = reason;
        state.regrant = None;
        state.held = None;
        state.first_ready_since = None;
        state.verification = crate::verify::Verification::None;
        state.change = Some(RoleChange { kind, from, to: to.clone(), begun: now });
        self.changed = true;
    }

    /// When time alone may change the election of this pair.
    pub(crate) fn election_deadline(&self, name: &PairName) -> Option<Micros> {
        let (pair, state) = (&self.cluster.pairs[name], &self.pairs[name]);
        let mut next: Option<Micros> = None;
        // What was due when the pair was settled last has had its effect, or has none.
        let mut consider = |at: Micros| {
            if at > state.settled_at {
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        };
        consider(self.started_at.max(state.since) + self.cluster.scs.boot_grace);
        for host in pair.members.iter().filter_map(|m| self.hosts.get(self.host_of(m)?)) {
            if host.status == HostStatus::AgentDown {
                consider(host.since + self.agent_grace(pair));
            }
        }
        for member in &pair.members {
            if let Some(refusal) = &self.apps[member].refused {
                consider(refusal.at + REFUSAL_LASTS);
            }
        }
        if let Some(change) = &state.change
            && change.kind == IncidentKind::Manual
        {
            consider(change.begun + self.planned_limit(pair, &change.to));
        }
        if let Some(until) = state.held {
            consider(until);
        }
        if let Some(maintenance) = &state.maintenance {
            consider(maintenance.until);
        }
        state.drills.deadlines().for_each(&mut consider);
        if let Some(oldest) = state.failovers.front() {
            consider(*oldest + pair.flap_guard.window);
        }
        if let (Failback::After(stable), Some(since)) = (pair.failback, state.first_ready_since) {
            consider(since + stable);
        }
        next
    }

    /// What the product will do next by itself, in words.
    pub(crate) fn what_is_next(&self, name: &PairName, now: Micros) -> String {
        let (pair, state) = (&self.cluster.pairs[name], &self.pairs[name]);
        let Some(holder) = &state.wanted else {
            return "the first member that becomes ready will be primary".to_owned();
        };
        if let Some(frozen) = state.frozen_how() {
            return format!("nothing: {frozen}");
        }
        if let Some(until) = state.held.filter(|until| *until > now) {
            return format!("failover held back for another {} s", until.since(now).as_secs() + 1);
        }
        if self.apps[holder].stop_ordered() {
            return format!(
                "nothing: an operator stopped {holder}; `takeover start {holder}` or `takeover switchover {name}` goes on"
            );
        }
        let other = pair.other(holder);
        let failure = match self.able(pair, other, now) {
            Ok(()) => match self.in_step(pair, other) {
                Ok(()) => format!("if {holder} fails, {other} takes over at once"),
                Err(why) => format!("if {holder} fails, {other} takes over at once with what it has: {why}"),
            },
            Err(why) => format!("if {holder} fails, nobody takes over: {other}: {why}"),
        };
        if let (Failback::After(_), Some(maintenance)) = (pair.failback, &state.maintenance) {
            let left = maintenance.until.since(now).as_secs();
            return format!("{failure}; no failback by itself while in maintenance, for another {left} s");
        }
        match (pair.failback, state.first_ready_since) {
            (Failback::After(stable), Some(since)) if other == &pair.members[0] => {
                let left = (since + stable).since(now).as_secs();
                format!("{failure}; back to {other} in {left} s if it stays ready")
            }
            (Failback::Manual, Some(_)) if other == &pair.members[0] => {
                format!("{failure}; `takeover switchover {name}` moves service back to {other}")
            }
            (Failback::Never | Failback::Manual | Failback::After(_), _) => failure,
        }
    }

    fn without_carrier(&self, pair: &Pair, host: &HostName) -> Option<String> {
        let known = &self.hosts.get(host)?.interfaces;
        let mut carriers = pair.vips.iter().filter_map(|vip| vip.interfaces.get(host));
        carriers.find(|i| known.get(*i) == Some(&false)).map(ToString::to_string)
    }

    fn elect_first(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let primaries = pair
            .members
            .iter()
            .filter(|m| self.reachable(m) && self.apps[*m].mode() == Some(RunMode::Primary));
        let epoch_of = |m: &AppName| self.apps[m].report.as_ref().map_or_else(Default::default, |r| r.epoch);
        if let Some(app) = primaries.max_by_key(|m| epoch_of(m)).cloned() {
            let epoch = epoch_of(&app);
            let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
            state.epoch = state.epoch.max(epoch);
            state.reason = format!("{app} already runs as primary");
            state.wanted = Some(app.clone());
            if let Some(app) = self.apps.get_mut(&app) {
                app.logged = Some((RunMode::Primary, epoch));
            }
            self.changed = true;
            return;
        }
        let settled = |m: &AppName| {
            self.reachable(m)
                && match self.apps[m].status() {
                    AppStatus::Unknown | AppStatus::StartPending | AppStatus::Initializing => false,
                    // Not started yet, and about to be.
                    AppStatus::Stopped => {
                        let report = self.apps[m].report.as_ref();
                        !self.cluster.applications[m].autostart || report.is_some_and(|r| r.cause.is_some())
                    }
                    // It has yet to tell its run mode. Whether it is synchronized is no matter: there is no primary.
                    AppStatus::Started => self.able(pair, m, now).is_ok(),
                    AppStatus::ServiceUnavailable
                    | AppStatus::Suspending
                    | AppStatus::Suspended
                    | AppStatus::StopPending => true,
                }
        };
        let begun = self.pairs.get(name).map_or(self.started_at, |state| self.started_at.max(state.since));
        let waits = now.since(begun) < self.cluster.scs.boot_grace;
        if waits && !pair.members.iter().all(settled) {
            return;
        }
        let ready = pair.members.iter().find(|m| self.ready(pair, m, now).is_ok());
        let able = || pair.members.iter().find(|m| self.able(pair, m, now).is_ok());
        // The first may be about to tell that it is as synchronized as the other. If it does not, it lacks what the other has.
        if waits && ready.is_some() && ready != able() {
            return;
        }
        if let Some(to) = ready.or_else(able).cloned() {
            let reason = format!("the pair had no primary and {to} is ready");
            self.grant(name, &to, IncidentKind::FirstPrimary, reason.clone(), now);
            let begin = Begin {
                kind: IncidentKind::FirstPrimary,
                from: None,
                to,
                ordered_by: String::new(),
                at: now,
                host: None,
                text: reason,
                reported: None,
                evidence: Vec::new(),
            };
            self.open_incident(name, begin, now, out);
        }
    }

    fn fail_over(
        &mut self,
        name: &PairName,
        pair: &Pair,
        holder: &AppName,
        gone: Gone,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let to = pair.other(holder).clone();
        if let Err(why) = self.able(pair, &to, now) {
            // One that still runs as primary (no carrier, say) keeps its grant; one that lost the mode needs a new one.
            let lost_the_mode = self.reachable(holder) && self.apps[holder].mode() != Some(RunMode::Primary);
            let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
            state.reason = format!("{}; {to} cannot take over: {why}", gone.why);
            if gone.kind == IncidentKind::Failure && lost_the_mode {
                state.regrant.get_or_insert(gone);
            }
            return;
        }
        if !self.flap_guard_allows(name, pair, &gone.why, now, out) {
            let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
            state.regrant.get_or_insert(gone);
            return;
        }
        // What happens while somebody works on it says nothing about how steady it is.
        if !self.in_maintenance(name) {
            self.pairs.get_mut(name).expect("the caller looked the pair up").failovers.push_back(now);
        }
        let reason = match self.in_step(pair, &to) {
            Ok(()) => format!("{}, and {to} is ready", gone.why),
            Err(why) => format!("{}, and {to} takes over with what it has: {why}", gone.why),
        };
        self.grant(name, &to, gone.kind, reason, now);
        self.open_failure(name, Some(holder.clone()), to, gone, now, out);
    }

    pub(crate) fn open_failure(
        &mut self,
        name: &PairName,
        from: Option<AppName>,
        to: AppName,
        gone: Gone,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let evidence = self.evidence(name);
        let begin = Begin {
            kind: gone.kind,
            from,
            to,
            ordered_by: String::new(),
            at: gone.at,
            host: gone.host,
            text: gone.why,
            reported: gone.reported,
            evidence,
        };
        self.open_incident(name, begin, now, out);
    }

    /// What each observer says of the pair's members at this moment.
    pub(crate) fn evidence(&self, name: &PairName) -> Vec<String> {
        let mut evidence = Vec::new();
        for app in &self.cluster.pairs[name].members {
            let Some((host_name, host)) = self.host_of(app).and_then(|h| self.hosts.get_key_value(h)) else {
                continue;
            };
            match (host.status, host.lost) {
                (HostStatus::Up, _) => {
                    let state = &self.apps[app];
                    let mode = state.mode().map_or("no mode".to_owned(), |m| m.to_string());
                    evidence.push(format!("LCA on {host_name}: {app} is {}, {mode}", state.status()));
                }
                (status, Some((Lost::Silent, at))) => {
                    evidence.push(format!("SCS: {host_name} is {status}, silent, lost at {at}"));
                }
                (status, Some((Lost::Closed, at))) => {
                    evidence.push(format!("SCS: {host_name} is {status}, its link was closed at {at}"));
                }
                (status, None) => evidence.push(format!("SCS: {host_name} is {status}")),
            }
        }
        evidence
    }

    fn flap_guard_allows(
        &mut self,
        name: &PairName,
        pair: &Pair,
        why: &str,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> bool {
        let guard = pair.flap_guard;
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        if let Some(frozen) = state.frozen_how() {
            state.reason = format!("{why}; nothing is done: the pair is {frozen}");
            return false;
        }
        let moves = u32::try_from(state.failovers.len()).unwrap_or(u32::MAX);
        if moves < guard.free || state.maintenance.is_some() {
            return true;
        }
        let mut logs = Vec::new();
        if !state.flapping {
            state.flapping = true;
            logs.push(LogEvent::new(events::FLAPPING, now).because(format!("{moves} failovers of {name}")));
        }
        let allowed = if moves >= guard.freeze_after {
            state.frozen = true;
            state.held = None;
            state.reason = format!("{why}; the pair is frozen after {moves} failovers");
            let text = format!("{name} failed over {moves} times; `takeover acknowledge {name}` thaws it");
            logs.push(LogEvent::new(events::PAIR_FROZEN, now).because(text));
            false
        } else {
            let doubled = guard.hold_down.saturating_mul(1_u32 << (moves - guard.free).min(16));
            let until = state.failovers.back().map_or(now, |last| *last + doubled);
            if now < until && state.held.is_none() {
                let text = format!("{name} for {}, after {moves} failovers", format_duration(doubled));
                logs.push(LogEvent::new(events::FAILOVER_HELD, now).because(text));
                state.reason = format!("{why}; failover held back after {moves} failovers");
            }
            state.held = Some(until);
            now >= until
        };
        self.changed = true;
        for log in logs {
            self.log(log.with("pair", name).of(&pair.members[0]), out);
        }
        allowed
    }

    fn forget_old_failovers(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        while state.failovers.front().is_some_and(|at| now.since(*at) >= pair.flap_guard.window) {
            state.failovers.pop_front();
            self.changed = true;
        }
        if state.flapping && !state.frozen && state.failovers.is_empty() {
            state.flapping = false;
            let log = LogEvent::new(events::STABLE_AGAIN, now).because(name).with("pair", name);
            self.log(log.of(&pair.members[0]), out);
        }
    }

    fn fail_back_if_due(
        &mut self,
        name: &PairName,
        pair: &Pair,
        holder: &AppName,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let first = &pair.members[0];
        // Whoever works on it moves service himself; the stable time begins when the work is done.
        let ready = holder != first
            && pair.failback != Failback::Never
            && !self.in_maintenance(name)
            && self.pairs[name].freeze.is_none()
            && self.ready(pair, first, now).is_ok();
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        if !ready {
            state.first_ready_since = None;
            return;
        }
        let since = *state.first_ready_since.get_or_insert(now);
        let Failback::After(stable) = pair.failback else { return };
        if now.since(since) >= stable && state.change.is_none() && !state.frozen {
            let reason = format!("failback: {first} has been ready for {}", format_duration(stable));
            self.begin_switchover(name, first, "failback policy", &reason, now, out);
        }
    }

    /// How long a planned switchover to `to` may take before it is rolled back.
    fn planned_limit(&self, pair: &Pair, to: &AppName) -> Duration {
        match pair.redundancy {
            Redundancy::Hot | Redundancy::Warm => PLANNED_LIMIT,
            Redundancy::Cold => PLANNED_LIMIT + self.cluster.applications[to].start_limit,
        }
    }

    /// Rolls a planned switchover back that does not get on. True where it did.
    fn roll_back_if_stuck(
        &mut self,
        name: &PairName,
        pair: &Pair,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(change) = self.pairs[name].change.clone().filter(|c| c.kind == IncidentKind::Manual) else {
            return false;
        };
        let confirmed = self.runs_as_primary(name, &change.to);
        let Some(from) = change.from.filter(|_| !confirmed) else { return false };
        let limit = self.planned_limit(pair, &change.to);
        let starting = pair.redundancy == Redundancy::Cold
            && matches!(self.apps[&change.to].status(), AppStatus::StartPending | AppStatus::Initializing);
        // Not `ready`: the stream of changes turns round with the roles.
        let why = match self.able(pair, &change.to, now) {
            Err(why) if !starting => format!("{}: {why}", change.to),
            Ok(()) | Err(_) if now.since(change.begun) < limit => return false,
            Ok(()) | Err(_) if self.apps[&from].mode() == Some(RunMode::Primary) && !starting => {
                format!("{from} did not confirm backup mode within {}", format_duration(limit))
            }
            Ok(()) | Err(_) => {
                format!("{} did not confirm primary mode within {}", change.to, format_duration(limit))
            }
        };
        // Where the old primary cannot have the role back either, the ordinary election decides.
        if !matches!(self.holder(pair, &from, now), Holder::Fine) {
            return false;
        }
        // Not a planned change any more: nothing waits for the other side, and the next incident is its own.
        self.grant(name, &from, IncidentKind::FirstPrimary, format!("switchover rolled back: {why}"), now);
        self.close_incident(name, IncidentOutcome::RolledBack { why }, now, out);
        true
    }
}
