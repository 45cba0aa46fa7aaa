//! Drills: a switchover at a time that an operator chose, once or every so many days, so that the day of a real failure is not
//! the first on which the backup serves. A drill is run only where nothing speaks against it, or it is skipped and the reason
//! is logged; it never forces anything. What it does is an ordinary switchover with an ordinary incident, marked as a drill.
//!
//! ```text
//!   its time has come ──something speaks against it──> skipped
//!         │
//!         v           not completed
//!        Out ───────────────────────────────────────> failed
//!         │ completed, that is: verified                 ^  ^
//!         ├── no way back wanted ──> passed              │  │
//!         v                                              │  │
//!        Rest ──nothing speaks against it any more──> Back  │
//!         │                                       completed └──> passed
//!         └── not for REST_MOST, or the role moved ──> failed
//! ```

use crate::incidents::IncidentOutcome;
use crate::state::State;
use crate::{Action, By, IncidentId, OrderOutcome};
use alarms::Source;
use domain::{AppName, EventId, LogEvent, Micros, PairName, events};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Drills that a pair has at most, those that are over and still listed included.
const MOST_DRILLS: usize = 16;
/// How far ahead a drill may be: what is later, nobody remembers.
const AHEAD_MOST: Duration = Duration::from_secs(366 * 86_400);
/// Longest pause between two drills, days.
const EVERY_MOST: u16 = 366;
/// A drill that could not be begun this long after its time is skipped: no SCS ran, and the hour may not be the right one
/// any more.
const LATE_MOST: Duration = Duration::from_secs(60);
/// How long is waited until the pair is as it must be for the way back: a hot standby has to fill its copy first.
const REST_MOST: Duration = Duration::from_secs(600);
/// How often is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86_400);

/// A switchover that is practised, as an operator scheduled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drill {
    /// Its number within the pair.
    pub number: u64,
    /// When it is run next; none: it is over.
    pub at: Option<Micros>,
    /// How many days (of 24 hours) later it is run again; none: once.
    pub every_days: Option<u16>,
    /// Whether service is brought back after the switchover was verified.
    pub back: bool,
    /// Who scheduled it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What came of it the last time.
    pub last: Option<DrillRun>,
}

/// One run of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DrillRun {
    /// When it was run, or should have been.
    pub at: Micros,
    /// What came of it.
    pub result: DrillResult,
    /// The same in words, with the reason where it was skipped or failed.
    pub text: String,
    /// The incident of the switchover; none: it was skipped.
    pub incident: Option<IncidentId>,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillResult {
    /// It is not over.
    UnderWay,
    /// Service moved as it should have, and back where that was wanted.
    Passed,
    /// It did not.
    Failed,
    /// It was not begun.
    Skipped,
}

/// What an operator wants: the part of a [`Drill`] that is his.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillPlan {
    /// When it is run first.
    pub at: Micros,
    /// How many days later it is run again; none: once.
    pub every_days: Option<u16>,
    /// Whether service is brought back after the switchover was verified.
    pub back: bool,
}

/// The drills of a pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drills {
    /// Number of the newest.
    last_number: u64,
    drills: Vec<Drill>,
    running: Option<Running>,
}

/// The drill under way. Has all that it needs, so that it ends as it should also when it is removed from the list meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    number: u64,
    from: AppName,
    to: AppName,
    back: bool,
    by: By,
    leg: Leg,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Leg {
    /// The switchover is under way, or has ended this way.
    Out { incident: u64, ended: Option<IncidentOutcome> },
    /// It was verified; the way back waits until nothing speaks against it.
    Rest { until: Micros, look_at: Micros },
    /// The way back is under way, or has ended this way.
    Back { incident: u64, ended: Option<IncidentOutcome> },
}

impl Drills {
    /// As they are listed, by number.
    pub(crate) fn listed(&self) -> &[Drill] {
        &self.drills
    }

    /// When time alone changes something.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Micros> {
        let rest = self.running.as_ref().and_then(|running| match running.leg {
            Leg::Rest { until, look_at } => Some(until.min(look_at)),
            Leg::Out { .. } | Leg::Back { .. } => None,
        });
        self.drills.iter().filter_map(|drill| drill.at).chain(rest)
    }

    /// The incident of a drill under way has ended; whether it was that.
    pub(crate) fn incident_ended(&mut self, id: u64, outcome: &IncidentOutcome) -> bool {
        match self.running.as_mut().map(|running| &mut running.leg) {
            Some(Leg::Out { incident, ended } | Leg::Back { incident, ended }) if *incident == id => {
                *ended = Some(outcome.clone());
                true
            }
            Some(Leg::Out { .. } | Leg::Rest { .. } | Leg::Back { .. }) | None => false,
        }
    }

    /// Makes room where those that are over take it up, the oldest first.
    fn has_room(&mut self) -> bool {
        if self.drills.len() >= MOST_DRILLS {
            let running = self.running.as_ref().map(|running| running.number);
            let over = |drill: &Drill| drill.at.is_none() && Some(drill.number) != running;
            let Some(oldest) = self.drills.iter().position(over) else { return false };
            self.drills.remove(oldest);
        }
        true
    }
}

impl State {
    pub(crate) fn schedule_drill(
        &mut self,
        name: &PairName,
        plan: &DrillPlan,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let refused = |why: String| OrderOutcome::Refused { why, plan: None };
        let Some(state) = self.pairs.get_mut(name) else {
            return refused(format!("there is no pair {name}"));
        };
        if plan.at <= now || plan.at > now + AHEAD_MOST {
            let days = AHEAD_MOST.as_secs() / DAY.as_secs();
            return refused(format!("a drill is in the future, {days} days ahead at the most"));
        }
        if plan.every_days.is_some_and(|days| days == 0 || days > EVERY_MOST) {
            return refused(format!("a drill is repeated every 1 to {EVERY_MOST} days"));
        }
        if !state.drills.has_room() {
            return refused(format!("{name} has {MOST_DRILLS} drills, which is the most; remove one first"));
        }
        state.drills.last_number += 1;
        let number = state.drills.last_number;
        state.drills.drills.push(Drill {
            number,
            at: Some(plan.at),
            every_days: plan.every_days,
            back: plan.back,
            by: by.who.clone(),
            reason: by.reason.clone(),
            last: None,
        });
        let again = match plan.every_days {
            None => String::new(),
            Some(1) => ", every day".to_owned(),
            Some(days) => format!(", every {days} days"),
        };
        let back = if plan.back { ", and back" } else { "" };
        self.log_drill(
            events::DRILL_SCHEDULED,
            name,
            number,
            &format!("by {}{again}{back}", by.who),
            by,
            now,
            out,
        );
        OrderOutcome::Accepted { incident: None, text: format!("drill {number} of {name} is scheduled") }
    }

    pub(crate) fn remove_drill(
        &mut self,
        name: &PairName,
        number: u64,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let drills = self.pairs.get_mut(name).map(|state| &mut state.drills.drills);
        let before = drills.as_ref().map_or(0, |drills| drills.len());
        let after = drills.map_or(0, |drills| {
            drills.retain(|drill| drill.number != number);
            drills.len()
        });
        if before == after {
            let why = format!("{name} has no drill {number}; `takeover drill` lists them");
            return OrderOutcome::Refused { why, plan: None };
        }
        self.log_drill(events::DRILL_REMOVED, name, number, &format!("by {}", by.who), by, now, out);
        OrderOutcome::Accepted { incident: None, text: format!("drill {number} of {name} is removed") }
    }

    /// Begins what is due, and takes the drill under way further.
    pub(crate) fn see_to_drills(&mut self, name: &PairName, now: Micros, out: &mut Vec<Action>) {
        self.take_drill_further(name, now, out);
        // Bounded: each round moves one drill's time into the future.
        for _ in 0..MOST_DRILLS {
            let Some(drills) = self.pairs.get_mut(name).map(|state| &mut state.drills) else { return };
            let Some(drill) = drills.drills.iter_mut().find(|drill| drill.at.is_some_and(|at| at <= now))
            else {
                return;
            };
            let due = drill.at.expect("it is due");
            drill.at = next_after(due, drill.every_days, now);
            let (number, back) = (drill.number, drill.back);
            let by = By { who: drill.by.clone(), reason: drill.reason.clone() };
            self.begin_drill(name, (number, back, due), by, now, out);
        }
    }

    fn begin_drill(
        &mut self,
        name: &PairName,
        (number, back, due): (u64, bool, Micros),
        by: By,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let speaks_against = if now.since(due) > LATE_MOST {
            Err("no SCS ran at its time".to_owned())
        } else if let Some(other) = &self.pairs[name].drills.running {
            Err(format!("drill {} is under way", other.number))
        } else {
            self.drill_may_move(name, now)
        };
        let (from, to) = match speaks_against {
            Ok(roles) => roles,
            Err(why) => {
                self.note_run(name, number, due, DrillResult::Skipped, &why, None);
                return self.log_drill(events::DRILL_SKIPPED, name, number, &why, &by, now, out);
            }
        };
        let incident = self.begin_drilled_switchover(name, number, &to, &by, now, out);
        let text = format!("{to} takes over from {from}");
        self.note_run(name, number, now, DrillResult::UnderWay, &text, Some(incident));
        let leg = Leg::Out { incident, ended: None };
        let running = Running { number, from, to, back, by, leg };
        self.pairs.get_mut(name).expect("the caller looked the pair up").drills.running = Some(running);
    }

    fn take_drill_further(&mut self, name: &PairName, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.pairs.get(name) else { return };
        let Some(running) = state.drills.running.clone() else { return };
        let open = state.incident.as_ref().map(|incident| incident.id.0);
        let moved = state.wanted.as_ref() != Some(&running.to);
        match &running.leg {
            Leg::Out { incident, ended: None } | Leg::Back { incident, ended: None } => {
                if open != Some(*incident) {
                    self.end_drill(name, &running, Err("the SCS ended meanwhile".to_owned()), now, out);
                }
            }
            Leg::Out { ended: Some(IncidentOutcome::Completed), .. } if running.back => {
                let leg = Leg::Rest { until: now + REST_MOST, look_at: now + LOOK_EVERY };
                self.set_leg(name, leg);
            }
            Leg::Out { ended: Some(IncidentOutcome::Completed), .. } => {
                self.end_drill(name, &running, Ok(format!("{} serves", running.to)), now, out);
            }
            Leg::Back { ended: Some(IncidentOutcome::Completed), .. } => {
                let text = format!("{} served, and {} serves again", running.to, running.from);
                self.end_drill(name, &running, Ok(text), now, out);
            }
            Leg::Out { ended: Some(outcome), .. } => {
                let why = format!("the switchover to {}: {outcome}", running.to);
                self.end_drill(name, &running, Err(why), now, out);
            }
            Leg::Back { ended: Some(outcome), .. } => {
                let why = format!("the way back to {}: {outcome}", running.from);
                self.end_drill(name, &running, Err(why), now, out);
            }
            Leg::Rest { .. } if moved => {
                let why = "the role moved before the way back".to_owned();
                self.end_drill(name, &running, Err(why), now, out);
            }
            Leg::Rest { until, look_at } if *look_at <= now || *until <= now => {
                match self.drill_may_move(name, now) {
                    Ok((_, back_to)) => {
                        let Running { number, by, .. } = &running;
                        let incident = self.begin_drilled_switchover(name, *number, &back_to, by, now, out);
                        self.set_leg(name, Leg::Back { incident, ended: None });
                    }
                    Err(why) if *until <= now => {
                        let why = format!("{} stays primary: {why}", running.to);
                        self.end_drill(name, &running, Err(why), now, out);
                    }
                    Err(_) => self.set_leg(name, Leg::Rest { until: *until, look_at: now + LOOK_EVERY }),
                }
            }
            Leg::Rest { .. } => {}
        }
    }

    /// From whom to whom a drill would move service now.
    ///
    /// # Errors
    /// What speaks against it, in words: more than against a switchover, which somebody orders who looks.
    fn drill_may_move(&self, name: &PairName, now: Micros) -> Result<(AppName, AppName), String> {
        let state = &self.pairs[name];
        if let Some(maintenance) = &state.maintenance {
            return Err(format!("{name} is in maintenance by {}", maintenance.by));
        }
        if let Some(frozen) = state.frozen_how() {
            return Err(format!("{name} is {frozen}"));
        }
        if state.held.is_some_and(|until| until > now) {
            return Err(format!("failover of {name} is held back because it flapped"));
        }
        let hosts: Vec<_> =
            self.cluster.pairs[name].members.iter().filter_map(|app| self.host_of(app)).collect();
        let neighbours = hosts.iter().flat_map(|host| self.index.pairs_on(host));
        for pair in neighbours {
            if let Some(incident) = self.pairs.get(pair).and_then(|state| state.incident.as_ref()) {
                return Err(format!("incident {} of {pair} is under way", incident.id.0));
            }
        }
        let is_ours = |source: &Source| match source {
            Source::Application(app) => self.cluster.pairs[name].members.contains(app),
            Source::Host(host) => hosts.contains(&host),
            Source::Cluster => false,
        };
        // That the last drill failed is a reason to practise again, and only one that passes ends that alarm.
        let barring = |alarm: &&alarms::ActiveAlarm| {
            !alarm.hidden && alarm.event != events::DRILL_FAILED && is_ours(&alarm.source)
        };
        if let Some(alarm) = self.alarms.active().find(barring) {
            return Err(format!("alarm {} is active: {}: {}", alarm.number, alarm.condition, alarm.source));
        }
        let plan = self.plan_switchover(name, None, now)?;
        if let Some(failed) = plan.checks.iter().find(|check| !check.passed) {
            return Err(format!("not so: {}: {}", failed.what, failed.seen));
        }
        let from = plan.from.ok_or_else(|| format!("nobody is primary of {name}"))?;
        Ok((from, plan.to))
    }

    fn begin_drilled_switchover(
        &mut self,
        name: &PairName,
        number: u64,
        to: &AppName,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> u64 {
        let because = if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) };
        let why = format!("drill {number}{because}");
        let incident = self.begin_switchover(name, to, &by.who, &why, now, out);
        let opened = self.pairs.get_mut(name).and_then(|state| state.incident.as_mut());
        opened.expect("it was opened just now").drill = Some(number);
        incident
    }

    fn set_leg(&mut self, name: &PairName, leg: Leg) {
        let state = self.pairs.get_mut(name).expect("the caller looked the pair up");
        if let Some(running) = &mut state.drills.running {
            running.leg = leg;
        }
        self.changed = true;
    }

    fn end_drill(
        &mut self,
        name: &PairName,
        running: &Running,
        outcome: Result<String, String>,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        self.pairs.get_mut(name).expect("the caller looked the pair up").drills.running = None;
        let (id, result, text) = match outcome {
            Ok(text) => (events::DRILL_PASSED, DrillResult::Passed, text),
            Err(why) => (events::DRILL_FAILED, DrillResult::Failed, why),
        };
        let (last_at, incident) = match self.last_run(name, running.number) {
            Some(run) => (run.at, run.incident.map(|id| id.0)),
            None => (now, None),
        };
        self.note_run(name, running.number, last_at, result, &text, incident);
        self.log_drill(id, name, running.number, &text, &running.by, now, out);
    }

    fn last_run(&self, name: &PairName, number: u64) -> Option<&DrillRun> {
        self.pairs[name].drills.drills.iter().find(|drill| drill.number == number)?.last.as_ref()
    }

    fn note_run(
        &mut self,
        name: &PairName,
        number: u64,
        at: Micros,
        result: DrillResult,
        text: &str,
        incident: Option<u64>,
    ) {
        let drills = &mut self.pairs.get_mut(name).expect("the caller looked the pair up").drills.drills;
        if let Some(drill) = drills.iter_mut().find(|drill| drill.number == number) {
            let incident = incident.map(IncidentId);
            drill.last = Some(DrillRun { at, result, text: text.to_owned(), incident });
        }
        self.changed = true;
    }

    #[expect(clippy::too_many_arguments, reason = "an event has that many parts")]
    fn log_drill(
        &mut self,
        id: EventId,
        name: &PairName,
        number: u64,
        text: &str,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        self.changed = true;
        self.touched.insert(name.clone());
        let event = LogEvent::new(id, now).because(format!("drill {number} of {name}, {text}"));
        let event = event.of(&self.cluster.pairs[name].members[0]).with("pair", name).with("drill", number);
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
    }
}

/// When a drill that was due is run again: as many pauses later as it takes to be in the future.
fn next_after(due: Micros, every_days: Option<u16>, now: Micros) -> Option<Micros> {
    let pause = DAY * u32::from(every_days.filter(|days| *days > 0)?);
    let missed = now.since(due).as_micros() / pause.as_micros();
    let pauses = u32::try_from(missed + 1).unwrap_or(u32::MAX);
    Some(due + pause.saturating_mul(pauses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_the_first_in_the_future_at_the_same_hour() {
        let day = DAY.as_micros() as u64;
        let next = |due, every, now| next_after(Micros(due), every, Micros(now)).map(|at| at.0);
        assert_eq!(next(1_000, None, 1_000), None);
        assert_eq!(next(1_000, Some(0), 1_000), None, "from a file of somebody else's");
        assert_eq!(next(1_000, Some(1), 1_000), Some(1_000 + day));
        assert_eq!(next(1_000, Some(7), 2_000), Some(1_000 + 7 * day));
        assert_eq!(next(1_000, Some(1), 1_000 + 10 * day), Some(1_000 + 11 * day), "ten were missed");
        assert_eq!(next(1_000, Some(1), 999 + 10 * day), Some(1_000 + 10 * day));
    }
}
