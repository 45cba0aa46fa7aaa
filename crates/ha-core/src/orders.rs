//! What operators order: plans with their pre-checks, switchover, start, stop, restart, acknowledge, clear.

use crate::incidents::{Begin, IncidentKind};
use crate::state::{State, Wish};
use crate::{Action, By, OperatorOrder, OrderOutcome, SolutionVerb};
use domain::{AppName, AppStatus, Cause, LogEvent, Micros, Order, PairName, Redundancy, RunMode, events};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a switchover would do, and whether it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Plan {
    /// The pair.
    pub pair: PairName,
    /// Who is primary.
    pub from: Option<AppName>,
    /// Who would be.
    pub to: AppName,
    /// Pre-checks; all must pass.
    pub checks: Vec<Check>,
    /// What would be done, in order.
    pub steps: Vec<String>,
    /// What callers notice, as far as the members tell; changes all the time, and is no part of the hash.
    #[serde(default)]
    pub callers: Vec<String>,
    /// Stands for all that the plan was made from; executing it is refused when that has changed.
    pub hash: u64,
}

/// One pre-check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Check {
    /// What must be so.
    pub what: String,
    /// Whether it is.
    pub passed: bool,
    /// The value seen.
    pub seen: String,
    /// What to do where it is not; empty where it is.
    pub remedy: String,
    /// Whether an operator may order it all the same (`--force`).
    #[serde(default)]
    pub may_be_forced: bool,
}

impl Plan {
    /// Whether all checks pass, but for those that may be forced where `force`.
    #[must_use]
    pub fn passes(&self, force: bool) -> bool {
        self.first_failed(force).is_none()
    }

    fn first_failed(&self, force: bool) -> Option<&Check> {
        self.checks.iter().find(|c| !(c.passed || force && c.may_be_forced))
    }
}

impl State {
    /// What switching `pair` over (to `to`, or to the member that is not primary) would do.
    ///
    /// # Errors
    /// A sentence where there is no such pair or member.
    pub fn plan_switchover(
        &self,
        name: &PairName,
        to: Option<&AppName>,
        now: Micros,
    ) -> Result<Plan, String> {
        let pair = self.cluster.pairs.get(name).ok_or_else(|| {
            let known: Vec<_> = self.cluster.pairs.keys().map(PairName::as_str).collect();
            format!("there is no pair {name}; configured are: {}", known.join(", "))
        })?;
        let state = &self.pairs[name];
        let to = match (to, &state.wanted) {
            (Some(to), _) if pair.members.contains(to) => to.clone(),
            (Some(to), _) => {
                return Err(format!(
                    "{to} is not a member of {name}; its members are {} and {}",
                    pair.members[0], pair.members[1]
                ));
            }
            (None, Some(wanted)) => pair.other(wanted).clone(),
            (None, None) => pair.members[0].clone(),
        };
        let from = state.wanted.clone().filter(|w| w != &to);
        let mut checks = Vec::new();
        let mut check = |what: String, passed: bool, seen: String, remedy: &str| {
            let remedy = if passed { String::new() } else { remedy.to_owned() };
            checks.push(Check { what, passed, seen, remedy, may_be_forced: false });
        };
        let primary = state.wanted.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        let remedy = "nothing to do: it has the role already";
        check(
            format!("{to} is not primary yet"),
            state.wanted.as_ref() != Some(&to),
            format!("{primary} is primary"),
            remedy,
        );
        let ready = self.able(pair, &to, now);
        let seen = ready.as_ref().err().cloned().unwrap_or_else(|| "ready".to_owned());
        check(
            format!("{to} is ready to take over"),
            ready.is_ok(),
            seen,
            "make it ready first, see `takeover status`",
        );
        if let Some(from) = &from {
            let host = self.host_of(from).map(ToString::to_string).unwrap_or_default();
            let reachable = self.reachable(from);
            let seen = if reachable { "connected" } else { "not connected" };
            let remedy =
                "a planned switchover needs both hosts; when it is really gone, failover happens by itself";
            check(
                format!("{host} can be reached, so that {from} can let go"),
                reachable,
                seen.to_owned(),
                remedy,
            );
        }
        // One whose primary runs but whose VIPs do not get there must not hold an operator up who moves service away.
        let pending = state.change.as_ref().filter(|c| !self.runs_as_primary(name, &c.to));
        let under_way = pending.map(|c| format!("a role change to {} is under way", c.to));
        let seen = under_way.clone().unwrap_or_else(|| "none".to_owned());
        check(
            "no other role change is under way".to_owned(),
            under_way.is_none(),
            seen,
            "wait until it has ended",
        );
        // Without a primary there is nothing to be in step with, and one that cannot serve need not be.
        if pair.redundancy == Redundancy::Hot
            && ready.is_ok()
            && let Some(from) = &from
        {
            let in_step = self.in_step(pair, &to);
            let remedy = "wait until it is (`takeover status`); `--force` goes on without what it lacks: these calls and \
                          registrations are lost";
            checks.push(Check {
                what: format!("{to} has what {from} has"),
                passed: in_step.is_ok(),
                remedy: if in_step.is_ok() { String::new() } else { remedy.to_owned() },
                seen: in_step.err().unwrap_or_else(|| "synchronized".to_owned()),
                may_be_forced: true,
            });
        }
        let steps = self.switchover_steps(name, from.as_ref(), &to);
        let hash = self.plan_hash(name, &to, &checks);
        let callers = self.what_callers_notice(pair, from.as_ref(), &to, now);
        Ok(Plan { pair: name.clone(), from, to, checks, steps, callers, hash })
    }

    /// Carries out an operator's order.
    pub(crate) fn order(
        &mut self,
        order: &OperatorOrder,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        match order {
            OperatorOrder::SwitchOver { pair, to, plan, force } => {
                self.switch_over(pair, to.as_ref(), (*plan, *force), by, now, out)
            }
            OperatorOrder::Start { app } => self.start(app, by, now, out),
            OperatorOrder::Stop { app, graceful } => self.stop(app, *graceful, false, by, now, out),
            OperatorOrder::Restart { app, graceful } => self.stop(app, *graceful, true, by, now, out),
            OperatorOrder::Acknowledge { pair } => self.acknowledge(pair, by, now, out),
            OperatorOrder::Freeze { pair } => self.freeze(pair, by, now, out),
            OperatorOrder::Unfreeze { pair } => self.unfreeze(pair, by, now, out),
            OperatorOrder::Maintain { pair, lasts } => self.maintain(pair, *lasts, by, now, out),
            OperatorOrder::EndMaintenance { pair } => self.end_maintenance(pair, by, now, out),
            OperatorOrder::ScheduleDrill { pair, plan } => self.schedule_drill(pair, plan, by, now, out),
            OperatorOrder::RemoveDrill { pair, number } => self.remove_drill(pair, *number, by, now, out),
            OperatorOrder::StartSolution { solution } => {
                self.order_solution(solution, SolutionVerb::Start, by, now, out)
            }
            OperatorOrder::StopSolution { solution, graceful } => {
                self.order_solution(solution, SolutionVerb::Stop { graceful: *graceful }, by, now, out)
            }
            OperatorOrder::ClearAlarm { number } => {
                let cluster = Arc::clone(&self.cluster);
                let happened = self.alarms.clear(&cluster.alarm_conditions, *number, &by.who, &by.reason);
                if happened.is_empty() {
                    return refused(format!(
                        "there is no active alarm {number}; `takeover alarms` lists them"
                    ));
                }
                self.handle_alarms(happened, now, out);
                accepted(format!("alarm {number} cleared"))
            }
        }
    }

    fn switch_over(
        &mut self,
        name: &PairName,
        to: Option<&AppName>,
        (hash, force): (Option<u64>, bool),
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let plan = match self.plan_switchover(name, to, now) {
            Ok(plan) => plan,
            Err(why) => return refused(why),
        };
        let failed = plan.first_failed(force);
        let why = if hash.is_some_and(|hash| hash != plan.hash) {
            Some("the state has moved on since the plan was made; look at the new plan".to_owned())
        } else {
            failed.map(|c| format!("not so: {}: {}; {}", c.what, c.seen, c.remedy))
        };
        if let Some(why) = why {
            let event =
                LogEvent::new(events::SWITCHOVER_REFUSED, now).because(&why).of(&plan.to).with("pair", name);
            self.log(event.with("by", &by.who), out);
            return OrderOutcome::Refused { why, plan: Some(plan) };
        }
        let incident = self.begin_switchover(name, &plan.to, &by.who, &by.reason, now, out);
        OrderOutcome::Accepted {
            incident: Some(incident),
            text: format!("switchover of {name} to {} began", plan.to),
        }
    }

    /// Wants `to` as primary by a person's or a policy's order.
    pub(crate) fn begin_switchover(
        &mut self,
        name: &PairName,
        to: &AppName,
        who: &str,
        why: &str,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> u64 {
        let from = self.pairs[name].wanted.clone();
        let because = if why.is_empty() { String::new() } else { format!(": {why}") };
        let reason = format!("switchover to {to} ordered by {who}{because}");
        let event = LogEvent::new(events::SWITCHOVER_ORDERED, now).because(&reason).of(to).with("pair", name);
        self.log(event.with("by", who).with("reason", why), out);
        self.grant(name, to, IncidentKind::Manual, reason.clone(), now);
        self.touched.insert(name.clone());
        let evidence = self.evidence(name);
        let begin = Begin {
            kind: IncidentKind::Manual,
            from,
            to: to.clone(),
            ordered_by: who.to_owned(),
            at: now,
            host: None,
            text: reason,
            reported: None,
            evidence,
        };
        self.open_incident(name, begin, now, out)
    }

    pub(crate) fn start(
        &mut self,
        app: &AppName,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        if let Some(why) = self.cannot_be_instructed(app) {
            return refused(why);
        }
        let status = self.apps[app].status();
        // A stop not answered yet is not sent again; it may still arrive, and then the wish starts the application anew.
        let is_stop = |o: &crate::state::Outstanding| &o.app == app && matches!(o.order, Order::Stop { .. });
        let stopping = self.outstanding.values().any(is_stop);
        self.outstanding.retain(|_, o| !is_stop(o));
        self.wish(app, Wish::Started);
        self.log_order(events::START_ORDERED, app, by, now, out);
        if status == AppStatus::Stopped {
            self.instruct(app, Order::Start, now, out);
            return accepted(format!("{app} is being started"));
        }
        if !stopping {
            self.see_to_wish(app, now, out);
        }
        accepted(format!("{app} is {status} already"))
    }

    pub(crate) fn stop(
        &mut self,
        app: &AppName,
        graceful: bool,
        restart: bool,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        if let Some(why) = self.cannot_be_instructed(app) {
            return refused(why);
        }
        let id = if restart { events::RESTART_ORDERED } else { events::STOP_ORDERED };
        let was_primary = self.apps[app].mode() == Some(RunMode::Primary);
        let stopped = self.apps[app].status() == AppStatus::Stopped;
        self.wish(app, if restart { Wish::Restarted } else { Wish::Stopped { graceful } });
        self.log_order(id, app, by, now, out);
        if stopped {
            self.see_to_wish(app, now, out);
        } else {
            self.instruct(app, Order::Stop { graceful }, now, out);
        }
        if stopped && !restart {
            return accepted(format!("{app} is stopped already and will stay so"));
        }
        let verb = if restart { "restarted" } else { "stopped" };
        let note = match self.pair_of(app) {
            Some((pair, _)) if was_primary => {
                format!(
                    "; {app} is primary of {pair}, which has no primary until it is back: nothing fails over by order"
                )
            }
            Some(_) | None => String::new(),
        };
        accepted(format!("{app} is being {verb}{note}"))
    }

    fn wish(&mut self, app: &AppName, wish: Wish) {
        if let Some(state) = self.apps.get_mut(app) {
            state.wish = Some(wish);
        }
        self.changed = true;
        self.touch_app(app);
    }

    /// Compares what an operator ordered with what is reported: an instruction may have been lost with its host.
    pub(crate) fn see_to_wish(&mut self, app: &AppName, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.apps.get(app) else { return };
        let Some(wish) = state.wish else { return self.adopt_stop(app) };
        let under_way = self.outstanding.values().any(|o| &o.app == app);
        let by_order = state.report.as_ref().is_some_and(|r| r.cause == Some(Cause::Ordered));
        let runs = match state.status() {
            AppStatus::Stopped => false,
            AppStatus::StartPending
            | AppStatus::Initializing
            | AppStatus::Started
            | AppStatus::ServiceUnavailable => true,
            AppStatus::Unknown | AppStatus::Suspending | AppStatus::Suspended | AppStatus::StopPending => {
                return;
            }
        };
        let (wish, order) = match (wish, runs) {
            (Wish::Stopped { .. }, false) => return,
            (Wish::Stopped { graceful }, true) => (Some(wish), Some(Order::Stop { graceful })),
            (Wish::Restarted, false) => (Some(Wish::Started), Some(Order::Start)),
            // Running with nothing under way: the restart that was, is over.
            (Wish::Restarted, true) if under_way => return,
            (Wish::Restarted | Wish::Started, true) => (None, None),
            (Wish::Started, false) if by_order || under_way => (Some(wish), Some(Order::Start)),
            // It was started and failed: its agent's restart policy goes on from there.
            (Wish::Started, false) => (None, None),
        };
        if let Some(state) = self.apps.get_mut(app)
            && state.wish != wish
        {
            state.wish = wish;
            self.changed = true;
        }
        if let Some(order) = order {
            self.instruct(app, order, now, out);
        }
    }

    /// Stopped by an order that this SCS does not know (it lost its state): the order stands, and is shown.
    fn adopt_stop(&mut self, app: &AppName) {
        let cold = self.pair_of(app).is_some_and(|(_, p)| p.redundancy == Redundancy::Cold);
        let under_way = self.outstanding.values().any(|o| &o.app == app);
        let report = self.apps.get(app).and_then(|a| a.report.as_ref());
        let stopped =
            report.is_some_and(|r| r.status == AppStatus::Stopped && r.cause == Some(Cause::Ordered));
        if stopped && !cold && !under_way {
            self.wish(app, Wish::Stopped { graceful: false });
        }
    }

    fn acknowledge(&mut self, name: &PairName, by: &By, now: Micros, out: &mut Vec<Action>) -> OrderOutcome {
        let Some(state) = self.pairs.get_mut(name) else {
            return refused(format!("there is no pair {name}"));
        };
        if !state.frozen && state.held.is_none() {
            // One thing at a time: who thaws a pair says nothing about hosts.
            let by_hand = state.freeze.as_ref().map(|freeze| freeze.by.clone());
            return match self.end_claims(name) {
                Some(hosts) => {
                    accepted(format!("{name} gets its VIPs: {hosts} are taken to be switched off"))
                }
                None => refused(match by_hand {
                    Some(by) => format!("{name} was frozen by {by}; `takeover unfreeze {name}` ends that"),
                    None => format!("{name} is not frozen, there is nothing to acknowledge"),
                }),
            };
        }
        state.frozen = false;
        state.held = None;
        let by_hand = state.freeze.as_ref().map(|freeze| freeze.by.clone());
        state.failovers.clear();
        self.changed = true;
        self.touched.insert(name.clone());
        let about = self.cluster.pairs[name].members[0].clone();
        let still = by_hand.as_ref().map_or(String::new(), |by| format!(", but it stays frozen by {by}"));
        let event = LogEvent::new(events::PAIR_THAWED, now).because(format!("{name}{still}"));
        let event = event.of(&about).with("pair", name);
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
        accepted(match by_hand {
            Some(by) => format!("{name} stays frozen by {by}; `takeover unfreeze {name}` ends that too"),
            None => format!("{name} fails over by itself again"),
        })
    }

    fn cannot_be_instructed(&self, app: &AppName) -> Option<String> {
        if !self.apps.contains_key(app) {
            let known: Vec<_> = self.apps.keys().map(AppName::as_str).collect();
            return Some(format!("there is no application {app}; configured are: {}", known.join(", ")));
        }
        let host = self.host_of(app)?;
        (!self.reachable(app))
            .then(|| format!("{host} cannot be reached now; try again when its agent is connected"))
    }

    fn log_order(&mut self, id: domain::EventId, app: &AppName, by: &By, now: Micros, out: &mut Vec<Action>) {
        let mut event = LogEvent::new(id, now).because(format!("{app}, by {}", by.who)).of(app);
        if let Some(host) = self.host_of(app) {
            event = event.on(host);
        }
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
    }

    fn switchover_steps(&self, name: &PairName, from: Option<&AppName>, to: &AppName) -> Vec<String> {
        let host = |app: &AppName| self.host_of(app).map(ToString::to_string).unwrap_or_default();
        let vips: Vec<_> =
            self.cluster.pairs[name].vips.iter().map(|v| v.address.address.to_string()).collect();
        let vips = vips.join(", ");
        let mut steps = Vec::new();
        if let Some(from) = from {
            steps.push(format!("instruct {from} on {} to go into backup mode", host(from)));
        }
        steps.push(format!("instruct {to} on {} to go into primary mode", host(to)));
        if let Some(from) = from {
            steps.push(format!("disable {vips} on {}", host(from)));
        }
        steps.push(format!("enable {vips} on {} and announce it", host(to)));
        steps
    }

    /// FNV-1a over everything that the plan was made from: stable across runs and builds, which `std`'s hasher is not.
    fn plan_hash(&self, name: &PairName, to: &AppName, checks: &[Check]) -> u64 {
        let state = &self.pairs[name];
        let mut text = format!("{name}|{to}|{}|{:?}|", state.epoch, state.wanted);
        for check in checks {
            text.push_str(&format!("{}|{}|{}|", check.what, check.passed, check.seen));
        }
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // 53 bits: what a number in JSON holds for every reader (RFC 8259, section 6).
        hash >> 11
    }
}

fn accepted(text: String) -> OrderOutcome {
    OrderOutcome::Accepted { incident: None, text }
}

fn refused(why: String) -> OrderOutcome {
    OrderOutcome::Refused { why, plan: None }
}
