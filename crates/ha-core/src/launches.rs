//! Launches from the request to the result: where they may run, when an "enable" may go out, retries, results.

use crate::incidents::Phase;
use crate::state::{PendingLaunch, State};
use crate::{Action, LaunchRequest};
use domain::{
    AppName, HostName, HostStatus, Launch, LaunchOutcome, LaunchResult, LaunchWhat, LogEvent, Micros, Pair,
    PairName, RefId, RunMode, ScriptName, VipAddress, VipVerb, events,
};
use std::sync::Arc;
use std::time::Duration;

/// Time limit of the built-in VIP control: two netlink requests, with much patience.
const BUILT_IN_LIMIT: Duration = Duration::from_secs(2);
/// How long behind its time limit the result of a launch may come before it is sent again.
const RESULT_GRACE: Duration = Duration::from_secs(1);
/// How often a launch is sent before it counts as failed.
const MOST_ATTEMPTS: u32 = 3;
/// Launches of one pair that may be pending: a switchover asks for three for each of at most 64 VIPs. More are dropped
/// with a log event.
const MOST_PENDING: usize = 256;

impl State {
    /// An Alarm Reaction (or the safety net) asks for a launch.
    pub(crate) fn request_launch(&mut self, request: LaunchRequest, now: Micros, out: &mut Vec<Action>) {
        let LaunchRequest { host, what, pair, app, mode, event, alarm } = request;
        if let Some(name) = &pair {
            self.touched.insert(name.clone());
        }
        let skip = if self.hosts.get(&host).is_some_and(|h| h.usable()) {
            self.no_longer_wanted(pair.as_ref(), &host, &what)
        } else {
            Some(format!("{host} is not reachable"))
        };
        if let Some(why) = skip {
            return self.skip_launch(pair.as_ref(), app.as_ref(), &host, &what, &why, now, out);
        }
        let pending = self.launches.values().filter(|l| l.launch.pair == pair).count();
        if pending >= MOST_PENDING {
            return self.skip_launch(
                pair.as_ref(),
                app.as_ref(),
                &host,
                &what,
                "too many launches wait",
                now,
                out,
            );
        }
        let ref_id = self.next_ref();
        let time_limit = self.time_limit(&what);
        let epoch = pair.as_ref().and_then(|p| self.pairs.get(p)).map(|p| p.epoch).unwrap_or_default();
        let hold = match (&what, &pair) {
            (LaunchWhat::VipControl { verb: VipVerb::Enable, vip, .. }, Some(name)) => {
                !self.released(name, &host, vip, now)
            }
            (
                LaunchWhat::VipControl { .. }
                | LaunchWhat::Announce { .. }
                | LaunchWhat::FindHolder { .. }
                | LaunchWhat::Script { .. },
                _,
            ) => false,
        };
        let launch = Launch { ref_id, what, pair, app, mode, epoch, event, alarm, time_limit };
        self.launches.insert(ref_id, PendingLaunch { host, launch, sent: None, attempts: 0, retry_at: None });
        if !hold {
            self.send_launch(ref_id, now, out);
        }
    }

    /// "Enable" goes out as soon as the other side has let go.
    pub(crate) fn send_held_launches(
        &mut self,
        name: &PairName,
        pair: &Pair,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let held: Vec<RefId> = self
            .launches
            .iter()
            .filter(|(_, l)| l.sent.is_none() && l.launch.pair.as_ref() == Some(name))
            .map(|(id, _)| *id)
            .collect();
        for ref_id in held {
            let Some(pending) = self.launches.get(&ref_id) else { continue };
            let (host, what) = (pending.host.clone(), pending.launch.what.clone());
            let is_wanted = self.member_on(pair, &host) == self.pairs[name].wanted.as_ref();
            if !is_wanted || !self.hosts.get(&host).is_some_and(|h| h.usable()) {
                self.launches.remove(&ref_id);
                self.skip_launch(Some(name), None, &host, &what, "the role has moved on", now, out);
            } else if let LaunchWhat::VipControl { vip, .. } = &what
                && self.released(name, &host, vip, now)
            {
                self.send_launch(ref_id, now, out);
            }
        }
    }

    /// The result of a launch.
    pub(crate) fn launch_ended(
        &mut self,
        host: &HostName,
        at: Micros,
        result: &LaunchResult,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        // A second result (the agent sends again what it is not sure of) finds nothing.
        if self.launches.get(&result.ref_id).is_none_or(|l| &l.host != host) {
            return;
        }
        let Some(PendingLaunch { launch, .. }) = self.launches.remove(&result.ref_id) else { return };
        let output = result.output.trim_end();
        let mut text = format!("{} on {host} {}", launch.what, result.outcome);
        if !output.is_empty() && !result.outcome.succeeded() {
            text.push_str(", it said: ");
            text.extend(output.chars().take(500));
        }
        if let Some(name) = &launch.pair {
            self.touched.insert(name.clone());
            let phase = match launch.what {
                LaunchWhat::VipControl { .. } | LaunchWhat::Script { .. } => Some(Phase::AddressMoved),
                LaunchWhat::Announce { .. } => Some(Phase::Announced),
                // What it found is noted when it is judged.
                LaunchWhat::FindHolder { .. } => None,
            };
            if let Some(phase) = phase {
                let text = format!("{} on {host} {}", launch.what, result.outcome);
                self.note(name, phase, at, Some(host.clone()), text);
            }
        }
        if let (Some(name), LaunchOutcome::Stale { seen }) = (&launch.pair, &result.outcome) {
            self.outbid(name, *seen, now);
        }
        if let LaunchWhat::VipControl { vip, script: Some(_), .. } = &launch.what
            && !result.outcome.succeeded()
            && let Some(place) = self.vips.get_mut(&(host.clone(), *vip))
        {
            place.script_failed = true;
        }
        let id = if result.outcome.succeeded() { events::SCRIPT_SUCCEEDED } else { events::SCRIPT_FAILED };
        let event = LogEvent::new(id, at).because(text).on(host).with("took_us", result.took_us);
        self.log(about(event, &launch), out);
    }

    /// Sends again what has waited too long for its result, and gives up in the end.
    pub(crate) fn retry_launches(&mut self, now: Micros, out: &mut Vec<Action>) {
        let due: Vec<RefId> = self
            .launches
            .iter()
            .filter(|(_, l)| l.retry_at.is_some_and(|at| at <= now))
            .map(|(ref_id, _)| *ref_id)
            .collect();
        for ref_id in due {
            let Some(pending) = self.launches.get(&ref_id) else { continue };
            if pending.attempts < MOST_ATTEMPTS {
                self.send_launch(ref_id, now, out);
                continue;
            }
            let host = pending.host.clone();
            let why = format!("no result after {MOST_ATTEMPTS} attempts");
            let outcome = LaunchOutcome::Failed { why };
            let result = LaunchResult { ref_id, outcome, output: String::new(), took_us: 0 };
            self.launch_ended(&host, now, &result, now, out);
        }
    }

    /// What was launched on a host that is lost ends without a result.
    pub(crate) fn forget_launches_on(&mut self, host: &HostName) {
        let gone = |l: &PendingLaunch| &l.host == host;
        let pairs: Vec<PairName> =
            self.launches.values().filter(|l| gone(l)).filter_map(|l| l.launch.pair.clone()).collect();
        self.touched.extend(pairs);
        self.launches.retain(|_, l| !gone(l));
    }

    /// Whether the VIP is known not to be on the other member's host, or that host is out of reach.
    ///
    /// Out of reach is not proof: the other host may still have the address. Leases will close this hole.
    pub(crate) fn released(&self, name: &PairName, host: &HostName, vip: &VipAddress, now: Micros) -> bool {
        let pair = &self.cluster.pairs[name];
        let others = pair.members.iter().filter_map(|m| self.host_of(m)).filter(|h| *h != host);
        others.into_iter().all(|other| {
            let Some(state) = self.hosts.get(other) else { return true };
            let place = self.vips.get(&(other.clone(), *vip));
            match state.status {
                // (One that has just connected is about to tell: worth the millisecond.)
                HostStatus::Up => place.is_some_and(|p| p.present == Some(false)),
                // Its kernel lives and keeps what it had; only after the grace it counts as lost.
                HostStatus::AgentDown => {
                    place.is_some_and(|p| p.last == Some(false))
                        || now.since(state.since) >= self.agent_grace(pair)
                }
                HostStatus::Unreachable => true,
                HostStatus::Unknown => false,
            }
        })
    }

    fn send_launch(&mut self, ref_id: RefId, now: Micros, out: &mut Vec<Action>) {
        let Some(pending) = self.launches.get_mut(&ref_id) else { return };
        pending.attempts += 1;
        let first = pending.sent.is_none();
        pending.sent.get_or_insert(now);
        pending.retry_at = Some(now + pending.launch.time_limit + RESULT_GRACE);
        let (host, launch) = (pending.host.clone(), pending.launch.clone());
        // The workflow's step 7 is about scripts; what else is launched is noted with its result.
        let script = match launch.what {
            LaunchWhat::VipControl { .. } | LaunchWhat::Script { .. } => true,
            LaunchWhat::Announce { .. } | LaunchWhat::FindHolder { .. } => false,
        };
        if first
            && script
            && let Some(name) = &launch.pair
        {
            let text = format!("SCS instructs the LCA on {host} to launch: {}", launch.what);
            self.note(name, Phase::Launched, now, Some(host.clone()), text);
        }
        out.push(Action::Launch(host, launch));
    }

    /// Why a VIP launch that a reaction asks for would do the opposite of what is wanted by now.
    fn no_longer_wanted(
        &self,
        pair: Option<&PairName>,
        host: &HostName,
        what: &LaunchWhat,
    ) -> Option<String> {
        let LaunchWhat::VipControl { verb, .. } = what else { return None };
        let name = pair?;
        let state = self.pairs.get(name)?;
        let member = self.member_on(self.cluster.pairs.get(name)?, host)?;
        let is_wanted = state.wanted.as_ref() == Some(member);
        let wrong = match verb {
            VipVerb::Enable => !is_wanted,
            VipVerb::Disable => is_wanted && self.apps[member].mode() == Some(RunMode::Primary),
        };
        wrong.then(|| "the role has moved on".to_owned())
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one log line")]
    fn skip_launch(
        &mut self,
        pair: Option<&PairName>,
        app: Option<&AppName>,
        host: &HostName,
        what: &LaunchWhat,
        why: &str,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let text = format!("{what} on {host}: {why}");
        let mut event = LogEvent::new(events::SCRIPT_SKIPPED, now).because(&text).on(host);
        if let Some(name) = pair {
            self.note(name, Phase::Launched, now, Some(host.clone()), format!("not launched: {text}"));
            event = event.with("pair", name);
        }
        if let Some(app) = app {
            event = event.of(app);
        }
        self.log(event, out);
    }

    fn time_limit(&self, what: &LaunchWhat) -> Duration {
        let of =
            |script: &ScriptName| self.cluster.scripts.get(script).map_or(BUILT_IN_LIMIT, |s| s.time_limit);
        match what {
            LaunchWhat::VipControl { script: Some(script), .. } | LaunchWhat::Script { script } => of(script),
            LaunchWhat::VipControl { script: None, .. }
            | LaunchWhat::Announce { .. }
            | LaunchWhat::FindHolder { .. } => BUILT_IN_LIMIT,
        }
    }

    /// What an Alarm Reaction means: launches go through the inbox, orders are carried out as if an operator gave them.
    pub(crate) fn react(
        &mut self,
        condition: &str,
        reaction: &domain::Reaction,
        event: Option<&LogEvent>,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        use domain::Reaction;
        let app = event.and_then(|e| e.app.clone());
        let host = event.and_then(|e| e.host.clone());
        match reaction {
            Reaction::DisableVipOnOther { pair } => {
                self.react_vip(pair, VipVerb::Disable, true, condition, event, now)
            }
            Reaction::EnableVip { pair } => {
                self.react_vip(pair, VipVerb::Enable, false, condition, event, now)
            }
            Reaction::DisableVip { pair } => {
                self.react_vip(pair, VipVerb::Disable, false, condition, event, now)
            }
            Reaction::Launch { script, host: at } => {
                let Some(host) = at.clone().or(host) else { return };
                let pair = app.as_ref().and_then(|a| self.pair_of(a)).map(|(name, _)| name.clone());
                let what = LaunchWhat::Script { script: script.clone() };
                self.push_request(LaunchRequest {
                    host,
                    what,
                    pair,
                    mode: app.as_ref().and_then(|a| self.apps.get(a)).and_then(|a| a.mode()),
                    app,
                    event: event.map(|e| e.id),
                    alarm: condition.to_owned(),
                });
            }
            Reaction::Start { app } => {
                self.react_order(crate::OperatorOrder::Start { app: app.clone() }, condition, now, out)
            }
            Reaction::Stop { app } => {
                self.react_order(
                    crate::OperatorOrder::Stop { app: app.clone(), graceful: false },
                    condition,
                    now,
                    out,
                );
            }
            Reaction::Restart { app } => {
                let order = crate::OperatorOrder::Restart { app: app.clone(), graceful: false };
                self.react_order(order, condition, now, out);
            }
            Reaction::StartSolution { solution } => {
                let order = crate::OperatorOrder::StartSolution { solution: solution.clone() };
                self.react_order(order, condition, now, out);
            }
            Reaction::StopSolution { solution } => {
                let order =
                    crate::OperatorOrder::StopSolution { solution: solution.clone(), graceful: false };
                self.react_order(order, condition, now, out);
            }
            Reaction::SwitchOver { pair } => {
                let order = crate::OperatorOrder::SwitchOver {
                    pair: pair.clone(),
                    to: None,
                    plan: None,
                    force: false,
                };
                self.react_order(order, condition, now, out);
            }
        }
    }

    fn react_vip(
        &mut self,
        name: &PairName,
        verb: VipVerb,
        on_other: bool,
        condition: &str,
        event: Option<&LogEvent>,
        now: Micros,
    ) {
        let cluster = Arc::clone(&self.cluster);
        let (Some(pair), Some(app)) = (cluster.pairs.get(name), event.and_then(|e| e.app.as_ref())) else {
            return;
        };
        let member = if on_other { pair.other(app) } else { app };
        let Some(host) = cluster.host_of(member) else { return };
        let mode = match verb {
            VipVerb::Enable => RunMode::Primary,
            VipVerb::Disable => RunMode::Backup,
        };
        for vip in &pair.vips {
            let Some(interface) = vip.interfaces.get(host).cloned() else { continue };
            let script = match &vip.control {
                domain::VipControl::BuiltIn => None,
                domain::VipControl::Script(script) => Some(script.clone()),
            };
            let what = LaunchWhat::VipControl { verb, vip: vip.address, interface, script };
            self.note(name, Phase::ReactionTriggered, now, None, format!("reaction: {what} on {host}"));
            self.push_request(LaunchRequest {
                host: host.clone(),
                what,
                pair: Some(name.clone()),
                app: Some(member.clone()),
                mode: Some(mode),
                event: event.map(|e| e.id),
                alarm: condition.to_owned(),
            });
        }
    }

    fn push_request(&mut self, request: LaunchRequest) {
        self.inbox.push_back(crate::Input::LaunchRequested { request });
    }

    fn react_order(
        &mut self,
        order: crate::OperatorOrder,
        condition: &str,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let by = crate::By { who: format!("alarm reaction of {condition:?}"), reason: String::new() };
        // Its outcome is in the log; nobody waits for it.
        let _ = self.order(&order, &by, now, out);
    }
}

fn about(event: LogEvent, launch: &Launch) -> LogEvent {
    let event = event.with("epoch", launch.epoch).with("alarm", &launch.alarm);
    let event = match &launch.pair {
        Some(pair) => event.with("pair", pair),
        None => event,
    };
    match &launch.app {
        Some(app) => event.of(app),
        None => event,
    }
}
