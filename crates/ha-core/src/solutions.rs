//! Solutions: how an ordered set of applications is, whether it lapsed without anybody's doing, and orders to start or stop
//! all of it, one application after the other. A pair gives service with one member: the loss of a backup is no news here.

use crate::state::State;
use crate::{Action, By, OrderOutcome};
use domain::{
    AppName, AppStatus, Cluster, EventId, HostName, LogEvent, Micros, Order, PairName, Redundancy, RunMode,
    Solution, SolutionName, SolutionStatus, events,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a solution must be pending before that is reported, as with a pair without a primary.
const LAPSE_LASTS: Duration = Duration::from_secs(2);
/// How long an order waits for one application. Its own start-up and shutdown limits are shorter.
const WAIT_MOST: Duration = Duration::from_secs(600);
/// The same where an application may finish what is in hand.
const GRACEFUL_WAIT_MOST: Duration = Duration::from_secs(86_400);

/// What is known of a solution.
#[derive(Debug, Clone, Default)]
pub(crate) struct SolutionState {
    status: SolutionStatus,
    /// Since when.
    since: Micros,
    /// Why it is no better, in words; empty where it is started.
    reason: String,
    /// Since when it has been pending without anybody's doing.
    lapsed: Option<Micros>,
    kept: KeptSolution,
}

/// What survives a restart of the SCS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptSolution {
    /// It was started, and has not been stopped since.
    was_started: bool,
    /// The application that its lapse was reported of; none: none was, or it is over.
    told_of: Option<AppName>,
    order: Option<SolutionOrder>,
}

impl KeptSolution {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What is ordered of a solution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SolutionVerb {
    /// Its applications are started in their order.
    Start,
    /// They are stopped in the opposite order.
    Stop {
        /// Each may finish what is in hand.
        graceful: bool,
    },
}

/// An order to a solution that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SolutionOrder {
    /// What is wanted.
    pub what: SolutionVerb,
    /// Who ordered it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub since: Micros,
    /// The application that is waited for; none: all have been told, and the whole is waited for.
    pub at: Option<AppName>,
    /// Since when it is waited for.
    pub waits_since: Micros,
}

impl SolutionOrder {
    fn longest_wait(&self) -> Duration {
        match self.what {
            SolutionVerb::Stop { graceful: true } => GRACEFUL_WAIT_MOST,
            SolutionVerb::Start | SolutionVerb::Stop { graceful: false } => WAIT_MOST,
        }
    }

    /// The application behind `app` in the order of the order; the first one where that is none.
    fn next<'s>(&self, solution: &'s Solution, app: Option<&AppName>) -> Option<&'s AppName> {
        let mut forwards = solution.applications.iter();
        let mut backwards = solution.applications.iter().rev();
        let sequence: &mut dyn Iterator<Item = &AppName> = match self.what {
            SolutionVerb::Start => &mut forwards,
            SolutionVerb::Stop { .. } => &mut backwards,
        };
        match app {
            None => sequence.next(),
            Some(app) => sequence.skip_while(|other| *other != app).nth(1),
        }
    }
}

/// A solution, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SolutionView {
    /// Its name.
    pub name: SolutionName,
    /// How it is.
    pub status: SolutionStatus,
    /// Since when.
    pub since: Micros,
    /// Why it is no better, in words; empty where it is started.
    pub reason: String,
    /// Its applications, in their order.
    pub applications: Vec<SolutionPart>,
    /// The order under way.
    pub order: Option<SolutionOrder>,
}

/// An application of a solution, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SolutionPart {
    /// Its name.
    pub app: AppName,
    /// Its host.
    pub host: HostName,
    /// The pair that it is a member of.
    pub pair: Option<PairName>,
    /// Its status as reported.
    pub status: AppStatus,
    /// Its mode as reported.
    pub mode: Option<RunMode>,
}

/// How far an order is.
enum Progress {
    Waits,
    /// The application that was waited for is as ordered; this one is next, or the whole.
    Next(Option<AppName>),
    Done,
    Failed(String),
}

impl State {
    /// All solutions.
    pub(crate) fn solution_views(&self) -> Vec<SolutionView> {
        let part = |app: &AppName| {
            Some(SolutionPart {
                app: app.clone(),
                host: self.host_of(app)?.clone(),
                pair: self.pair_of(app).map(|(name, _)| name.clone()),
                status: self.apps.get(app)?.status(),
                mode: self.apps.get(app)?.mode(),
            })
        };
        let view = |(name, state): (&SolutionName, &SolutionState)| {
            let solution = self.cluster.solutions.get(name)?;
            Some(SolutionView {
                name: name.clone(),
                status: state.status,
                since: state.since,
                reason: state.reason.clone(),
                applications: solution.applications.iter().filter_map(part).collect(),
                order: state.kept.order.clone(),
            })
        };
        self.solutions.iter().filter_map(view).collect()
    }

    /// What of the solutions must survive a restart.
    pub(crate) fn kept_solutions(&self) -> BTreeMap<SolutionName, KeptSolution> {
        let kept = self.solutions.iter().filter(|(_, state)| !state.kept.says_nothing());
        kept.map(|(name, state)| (name.clone(), state.kept.clone())).collect()
    }

    pub(crate) fn restore_solutions(&mut self, kept: BTreeMap<SolutionName, KeptSolution>) {
        for (name, kept) in kept {
            if let Some(state) = self.solutions.get_mut(&name) {
                state.kept = kept;
            }
        }
    }

    /// Takes over a configuration. What is gone is forgotten, and what was reported of it with it.
    pub(crate) fn configure_solutions(&mut self, cluster: &Cluster, now: Micros) {
        self.solutions.retain(|name, _| cluster.solutions.contains_key(name));
        for name in cluster.solutions.keys() {
            let new = || SolutionState { since: now, ..SolutionState::default() };
            self.solutions.entry(name.clone()).or_insert_with(new);
        }
        self.touched_solutions = cluster.solutions.keys().cloned().collect();
    }

    /// Lapses that were reported of solutions that are not in `cluster` any more: nobody else would say that they are over.
    pub(crate) fn lapses_gone(&self, cluster: &Cluster, now: Micros) -> Vec<LogEvent> {
        let gone = self.solutions.iter().filter(|(name, _)| !cluster.solutions.contains_key(*name));
        let over = |(name, state): (&SolutionName, &SolutionState)| {
            let app = state.kept.told_of.as_ref().filter(|app| cluster.applications.contains_key(*app))?;
            let event =
                LogEvent::new(events::SOLUTION_BACK, now).because(format!("{name} is configured no more"));
            Some(event.of(app).with("solution", name))
        };
        gone.filter_map(over).collect()
    }

    /// The solutions that this application, or the other member of its pair, is a part of are to be looked at.
    pub(crate) fn touch_solutions_of(&mut self, app: &AppName) {
        if self.solutions.is_empty() {
            return;
        }
        let pair = self.pair_of(app).map(|(_, pair)| pair.members.clone());
        let apps = pair.as_ref().map_or(std::slice::from_ref(app), |members| members.as_slice());
        let touched: Vec<_> = apps.iter().filter_map(|app| self.index.solution_of(app).cloned()).collect();
        self.touched_solutions.extend(touched);
    }

    /// Looks at the solutions that this step has touched.
    pub(crate) fn see_to_solutions(&mut self, now: Micros, out: &mut Vec<Action>) {
        let due = |state: &SolutionState| deadline(state).is_some_and(|at| at <= now);
        let due = self.solutions.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone());
        self.touched_solutions.extend(due);
        while let Some(name) = self.touched_solutions.pop_first() {
            self.settle_solution(&name, now, out);
        }
    }

    pub(crate) fn solution_deadline(&self) -> Option<Micros> {
        self.solutions.values().filter_map(deadline).min()
    }

    fn settle_solution(&mut self, name: &SolutionName, now: Micros, out: &mut Vec<Action>) {
        let cluster = Arc::clone(&self.cluster);
        let Some(solution) = cluster.solutions.get(name) else { return };
        self.note_status(name, solution, now);
        if self.go_on(name, solution, now, out) {
            self.note_status(name, solution, now);
        }
        let expected = self.is_by_order(name, solution);
        let Some(state) = self.solutions.get_mut(name) else { return };
        let was_started = match state.status {
            SolutionStatus::Started => true,
            SolutionStatus::Stopped => false,
            SolutionStatus::Pending | SolutionStatus::Unknown => state.kept.was_started,
        };
        self.changed |= was_started != state.kept.was_started;
        state.kept.was_started = was_started;
        let lapsed = was_started && !expected && state.status == SolutionStatus::Pending;
        state.lapsed = if lapsed { state.lapsed.or(Some(now)) } else { None };
        let lasts = state.lapsed.is_some_and(|since| now.since(since) >= LAPSE_LASTS);
        let event = match (&state.kept.told_of, state.status) {
            (None, _) if lasts => Some((events::SOLUTION_PENDING, solution.applications.first().cloned())),
            (Some(_), SolutionStatus::Started) => Some((events::SOLUTION_BACK, None)),
            (None | Some(_), _) => None,
        };
        let Some((id, told_of)) = event else { return };
        let text =
            if state.reason.is_empty() { name.to_string() } else { format!("{name}: {}", state.reason) };
        let before = std::mem::replace(&mut state.kept.told_of, told_of.clone());
        self.changed = true;
        let event = LogEvent::new(id, now).because(text).with("solution", name);
        // It ends as what it began as, whatever the configuration says first by now.
        let about = before.or(told_of).filter(|app| cluster.applications.contains_key(app));
        self.log(if let Some(app) = about { event.of(&app) } else { event }, out);
    }

    fn note_status(&mut self, name: &SolutionName, solution: &Solution, now: Micros) {
        let parts: Vec<_> = solution.applications.iter().map(|app| self.part(app)).collect();
        let all = |status| parts.iter().all(|(part, _)| *part == status);
        let first = |status| parts.iter().find(|(part, _)| *part == status).map(|(_, why)| why.clone());
        let (status, reason) = if all(SolutionStatus::Started) {
            (SolutionStatus::Started, String::new())
        } else if all(SolutionStatus::Stopped) {
            (SolutionStatus::Stopped, "all of it is stopped".to_owned())
        } else if let Some(why) = first(SolutionStatus::Pending) {
            (SolutionStatus::Pending, why)
        } else if let Some(why) = first(SolutionStatus::Unknown) {
            (SolutionStatus::Unknown, why)
        } else {
            (SolutionStatus::Pending, first(SolutionStatus::Stopped).unwrap_or_default())
        };
        let Some(state) = self.solutions.get_mut(name) else { return };
        let under_way = state.kept.order.as_ref().map(|order| order.what);
        let (status, reason) = match (under_way, status) {
            (Some(SolutionVerb::Start), SolutionStatus::Stopped) => {
                (SolutionStatus::Pending, "it is being started".to_owned())
            }
            (Some(SolutionVerb::Stop { .. }), SolutionStatus::Started) => {
                (SolutionStatus::Pending, "it is being stopped".to_owned())
            }
            (Some(_) | None, status) => (status, reason),
        };
        if state.status != status {
            (state.status, state.since) = (status, now);
        }
        state.reason = reason;
    }

    /// How an application is as a part of a solution, and why, in words. What counts of a member is what its pair does.
    fn part(&self, app: &AppName) -> (SolutionStatus, String) {
        let Some((name, pair)) = self.pair_of(app) else {
            let state = &self.apps[app];
            let status = state.status();
            let text = format!("{app} is {status}");
            return match status {
                AppStatus::Started => (SolutionStatus::Started, text),
                AppStatus::Unknown => (SolutionStatus::Unknown, text),
                AppStatus::Stopped if state.failed() => {
                    (SolutionStatus::Pending, format!("{app} has failed"))
                }
                AppStatus::Stopped => (SolutionStatus::Stopped, text),
                AppStatus::StartPending
                | AppStatus::Initializing
                | AppStatus::ServiceUnavailable
                | AppStatus::Suspending
                | AppStatus::Suspended
                | AppStatus::StopPending => (SolutionStatus::Pending, text),
            };
        };
        let members = pair.members.each_ref().map(|member| &self.apps[member]);
        let serves = |state: &&crate::state::AppState| {
            state.status() == AppStatus::Started && state.mode() == Some(RunMode::Primary)
        };
        let unknown = pair.members.iter().find(|member| self.apps[*member].status() == AppStatus::Unknown);
        if members.iter().any(serves) {
            (SolutionStatus::Started, format!("{name} has a primary"))
        } else if let Some(unknown) = unknown {
            (
                SolutionStatus::Unknown,
                format!("pair {name} is not known to have a primary, {unknown} cannot be asked"),
            )
        } else if members.iter().all(|state| state.status() == AppStatus::Stopped && !state.failed()) {
            (SolutionStatus::Stopped, format!("pair {name} is stopped"))
        } else {
            (SolutionStatus::Pending, format!("pair {name} has no primary"))
        }
    }

    /// Whether somebody has ordered something that explains that it is not started.
    fn is_by_order(&self, name: &SolutionName, solution: &Solution) -> bool {
        let ordered = |app: &AppName| {
            let state = &self.apps[app];
            let worked_on = self.pair_of(app).is_some_and(|(pair, _)| self.in_maintenance(pair));
            worked_on || state.held_by_order() || state.starting_by_order
        };
        let partner = |app: &AppName| self.pair_of(app).map(|(_, pair)| pair.other(app).clone());
        let under_way = self.solutions.get(name).is_some_and(|state| state.kept.order.is_some());
        under_way
            || solution
                .applications
                .iter()
                .any(|app| ordered(app) || partner(app).is_some_and(|p| ordered(&p)))
    }

    /// Orders a solution to be started or stopped; one under way is replaced.
    pub(crate) fn order_solution(
        &mut self,
        name: &SolutionName,
        what: SolutionVerb,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let cluster = Arc::clone(&self.cluster);
        let Some(solution) = cluster.solutions.get(name) else {
            let known: Vec<_> = cluster.solutions.keys().map(SolutionName::as_str).collect();
            let known = if known.is_empty() {
                "none is configured ([solutions.NAME] in the cluster file)".to_owned()
            } else {
                format!("configured are: {}", known.join(", "))
            };
            return refused(format!("there is no solution {name}; {known}"));
        };
        let (id, done) = match what {
            SolutionVerb::Start => (events::SOLUTION_START_ORDERED, "started"),
            SolutionVerb::Stop { .. } => (events::SOLUTION_STOP_ORDERED, "stopped"),
        };
        let order = SolutionOrder {
            what,
            by: by.who.clone(),
            reason: by.reason.clone(),
            since: now,
            at: None,
            waits_since: now,
        };
        // Refused at once where it can be known at once: whoever orders is still there to be told.
        if let Some(why) = solution.applications.iter().find_map(|app| self.unreachable(app)) {
            return refused(format!("{name}: {why}"));
        }
        let first = order.next(solution, None).cloned();
        self.log_solution(id, name, solution, format!("{name}, by {}", by.who), by, now, out);
        if let Some(state) = self.solutions.get_mut(name) {
            state.kept.order = Some(order);
        }
        self.take_on(name, first, now, out);
        self.touched_solutions.insert(name.clone());
        let names: Vec<_> = match what {
            SolutionVerb::Start => solution.applications.iter().map(AppName::as_str).collect(),
            SolutionVerb::Stop { .. } => solution.applications.iter().rev().map(AppName::as_str).collect(),
        };
        OrderOutcome::Accepted {
            incident: None,
            text: format!("{name} is being {done}, one after the other: {}", names.join(", ")),
        }
    }

    fn unreachable(&self, app: &AppName) -> Option<String> {
        let host = self.host_of(app)?;
        (!self.reachable(app))
            .then(|| format!("{host}, the host of {app}, cannot be reached now; nothing was ordered"))
    }

    /// The order goes on as far as it can; whether it has ended.
    fn go_on(
        &mut self,
        name: &SolutionName,
        solution: &Solution,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> bool {
        // One more than there are applications: the last step waits for the whole.
        for _ in 0..=solution.applications.len() {
            match self.progress(name, solution, now) {
                Progress::Waits => return false,
                Progress::Next(next) => self.take_on(name, next, now, out),
                Progress::Done => {
                    self.end_order(name, solution, Ok(()), now, out);
                    return true;
                }
                Progress::Failed(why) => {
                    self.end_order(name, solution, Err(why), now, out);
                    return true;
                }
            }
        }
        false
    }

    fn progress(&self, name: &SolutionName, solution: &Solution, now: Micros) -> Progress {
        let Some(state) = self.solutions.get(name) else { return Progress::Waits };
        let Some(order) = &state.kept.order else { return Progress::Waits };
        let over = now.since(order.waits_since) >= order.longest_wait();
        let Some(at) = &order.at else {
            return match (order.what, state.status) {
                (SolutionVerb::Start, SolutionStatus::Started) | (SolutionVerb::Stop { .. }, _) => {
                    Progress::Done
                }
                (SolutionVerb::Start, _) if over => Progress::Failed(state.reason.clone()),
                (SolutionVerb::Start, _) => Progress::Waits,
            };
        };
        if !solution.applications.contains(at) {
            return Progress::Failed(format!(
                "the configuration has changed, {at} is no part of it any more"
            ));
        }
        let app = &self.apps[at];
        let (done, instruction) = match order.what {
            SolutionVerb::Start => (self.is_up(at), Order::Start),
            SolutionVerb::Stop { graceful } => (app.status() == AppStatus::Stopped, Order::Stop { graceful }),
        };
        if done {
            return Progress::Next(order.next(solution, Some(at)).cloned());
        }
        match &app.refused {
            Some(refusal) if refusal.at >= order.waits_since && app.refused_like(&instruction, now) => {
                Progress::Failed(format!("{at} refused: {}", refusal.why))
            }
            Some(_) | None if over => Progress::Failed(format!("{at} is {}", app.status())),
            Some(_) | None => Progress::Waits,
        }
    }

    /// Whether a start has nothing left to do at `app`. The backup of a cold pair is stopped as long as the other serves.
    fn is_up(&self, app: &AppName) -> bool {
        let state = &self.apps[app];
        let cold = self.pair_of(app).is_some_and(|(_, pair)| pair.redundancy == Redundancy::Cold);
        let stands_by = cold && self.part(app).0 == SolutionStatus::Started;
        !state.held_by_order() && (stands_by || state.status() == AppStatus::Started)
    }

    /// Tells the next application what was ordered; none: all have been told.
    fn take_on(&mut self, name: &SolutionName, next: Option<AppName>, now: Micros, out: &mut Vec<Action>) {
        self.changed = true;
        let Some(order) = self.solutions.get_mut(name).and_then(|state| state.kept.order.as_mut()) else {
            return;
        };
        (order.at, order.waits_since) = (next.clone(), now);
        let (what, by) = (order.what, By { who: order.by.clone(), reason: order.reason.clone() });
        let Some(app) = next else { return };
        let stopped = self.apps[&app].stop_ordered() && self.apps[&app].status() == AppStatus::Stopped;
        let outcome = match what {
            SolutionVerb::Start if self.is_up(&app) => return,
            SolutionVerb::Start => self.start(&app, &by, now, out),
            SolutionVerb::Stop { .. } if stopped => return,
            SolutionVerb::Stop { graceful } => self.stop(&app, graceful, false, &by, now, out),
        };
        // Not reachable any more: what was told before goes on.
        if let OrderOutcome::Refused { why, .. } = outcome {
            let cluster = Arc::clone(&self.cluster);
            if let Some(solution) = cluster.solutions.get(name) {
                self.end_order(name, solution, Err(why), now, out);
            }
        }
    }

    fn end_order(
        &mut self,
        name: &SolutionName,
        solution: &Solution,
        how: Result<(), String>,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(order) = self.solutions.get_mut(name).and_then(|state| state.kept.order.take()) else {
            return;
        };
        self.changed = true;
        let wanted = match order.what {
            SolutionVerb::Start => "started",
            SolutionVerb::Stop { .. } => "stopped",
        };
        let (id, text) = match how {
            Ok(()) => (events::SOLUTION_ORDER_DONE, format!("{name} is {wanted}")),
            Err(why) => (events::SOLUTION_ORDER_FAILED, format!("{name} is not {wanted}: {why}")),
        };
        let by = By { who: order.by, reason: order.reason };
        self.log_solution(id, name, solution, text, &by, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the words of one sentence")]
    fn log_solution(
        &mut self,
        id: EventId,
        name: &SolutionName,
        solution: &Solution,
        text: String,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let mut event = LogEvent::new(id, now).because(text).with("solution", name);
        if let Some(app) = solution.applications.first() {
            event = event.of(app);
        }
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
    }
}

/// When time alone changes something.
fn deadline(state: &SolutionState) -> Option<Micros> {
    let order = state.kept.order.as_ref().map(|order| order.waits_since + order.longest_wait());
    let told = state.kept.told_of.is_some();
    let lapse = state.lapsed.filter(|_| !told).map(|since| since + LAPSE_LASTS);
    order.into_iter().chain(lapse).min()
}

fn refused(why: String) -> OrderOutcome {
    OrderOutcome::Refused { why, plan: None }
}
