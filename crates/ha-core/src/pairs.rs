//! Reconciling one pair: members are instructed towards what is wanted, mode changes that were reported are logged,
//! faults that last are reported, and a role change that is complete is closed.

use crate::elect::{Gone, Holder};
use crate::incidents::{Begin, IncidentKind, IncidentOutcome, Phase};
use crate::state::{Outstanding, State};
use crate::watch::Edge;
use crate::{Action, Input};
use domain::{
    AppName, AppStatus, HostName, HostStatus, Instruction, LogEvent, Micros, Order, Pair, PairName,
    Redundancy, RefId, RunMode, events,
};
use std::sync::Arc;
use std::time::Duration;

/// How long an instruction may stay unanswered before it is sent again; grows with each time up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between two sendings.
const RETRY_MOST: Duration = Duration::from_secs(10);
/// How long "no primary", "two primaries" and the like must last before they are reported.
const FAULT_LASTS: Duration = Duration::from_secs(2);
/// How long a backup may be not ready before it is reported: a restart is no news.
const NOT_READY_LASTS: Duration = Duration::from_secs(10);

impl State {
    pub(crate) fn settle(&mut self, name: &PairName, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.pairs.get_mut(name) else { return };
        state.settled_at = now;
        let cluster = Arc::clone(&self.cluster);
        let pair = &cluster.pairs[name];
        self.forget_longer_promises(name, pair.profile, now);
        self.elect(name, now, out);
        self.instruct_members(name, pair, now, out);
        self.log_modes(name, pair, now, out);
        self.send_held_launches(name, pair, now, out);
        self.place_vips(name, pair, now, out);
        self.announce_if_due(name, pair);
        self.finish_change(name, pair, now, out);
        self.watch_faults(name, pair, now, out);
        self.watch_leases(name, pair, now, out);
        self.deadlines.set(name, self.pair_deadline(name));
    }

    /// Whether `app` is wanted as primary and has confirmed it under the pair's epoch.
    pub(crate) fn runs_as_primary(&self, name: &PairName, app: &AppName) -> bool {
        let state = &self.pairs[name];
        state.wanted.as_ref() == Some(app)
            && self.reachable(app)
            && self.apps[app].report.as_ref().is_some_and(|r| {
                r.status == AppStatus::Started && r.mode == Some(RunMode::Primary) && r.epoch >= state.epoch
            })
    }

    pub(crate) fn log(&mut self, event: LogEvent, out: &mut Vec<Action>) {
        out.push(Action::Log(event.clone()));
        self.inbox.push_back(Input::Logged { event });
    }

    fn instruct_members(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let wanted = self.pairs[name].wanted.clone();
        // Who is to let go comes first.
        let mut members: Vec<&AppName> = pair.members.iter().collect();
        members.sort_by_key(|m| wanted.as_ref() == Some(*m));
        for app in members {
            if let Some(order) =
                self.order_for(name, pair, app, now).filter(|o| !self.apps[app].refused_like(o, now))
            {
                if matches!(order, Order::SetRunMode { mode: RunMode::Primary, .. }) {
                    self.open_regrant(name, app, now, out);
                }
                let Some(order) = self.order_for(name, pair, app, now) else { continue };
                self.instruct(app, order, now, out);
            }
        }
    }

    /// What `app` is to be told, if what it reports is not what is wanted.
    fn order_for(&self, name: &PairName, pair: &Pair, app: &AppName, now: Micros) -> Option<Order> {
        let state = &self.pairs[name];
        let member = &self.apps[app];
        let report = member.report.as_ref().filter(|_| self.reachable(app))?;
        if member.held_by_order() {
            return None;
        }
        let is_wanted = state.wanted.as_ref() == Some(app);
        let cold = pair.redundancy == Redundancy::Cold;
        match report.status {
            // Once for each grant: what fails after that is for its agent's restart policy.
            AppStatus::Stopped
                if cold && is_wanted && (!member.failed() || member.started_for < state.epoch) =>
            {
                return Some(Order::Start);
            }
            AppStatus::Started | AppStatus::ServiceUnavailable => {}
            AppStatus::Unknown
            | AppStatus::Stopped
            | AppStatus::StartPending
            | AppStatus::Initializing
            | AppStatus::Suspending
            | AppStatus::Suspended
            | AppStatus::StopPending => return None,
        }
        // Nobody is wanted yet: whatever runs stays as it is. But one that has not told its mode for so long is told:
        // unknown is backup.
        if state.wanted.is_none() {
            let silent = report.mode.is_none() && now.since(self.started_at) >= self.cluster.scs.boot_grace;
            return silent.then_some(Order::SetRunMode { mode: RunMode::Backup, epoch: state.epoch });
        }
        if !is_wanted && self.must_wait_for_start(name, pair, app) {
            return None;
        }
        if !is_wanted {
            return match report.mode {
                Some(RunMode::Backup) if cold => Some(Order::Stop { graceful: false }),
                Some(RunMode::Backup | RunMode::Exiting) => None,
                Some(RunMode::Primary) | None => {
                    Some(Order::SetRunMode { mode: RunMode::Backup, epoch: state.epoch })
                }
            };
        }
        let is_primary = report.mode == Some(RunMode::Primary) && report.epoch >= state.epoch;
        if is_primary
            || report.status != AppStatus::Started
            || self.must_wait_for_backup(name, pair, app, now)
            || self.may_have_been_taken_over(pair, app, now)
        {
            return None;
        }
        Some(Order::SetRunMode { mode: RunMode::Primary, epoch: state.epoch })
    }

    /// Right after the SCS's start: `app` is wanted by what survived, and is not primary. While no SCS was there, its peer may
    /// have taken over; it is given time to say so.
    fn may_have_been_taken_over(&self, pair: &Pair, app: &AppName, now: Micros) -> bool {
        let other = self.host_of(pair.other(app)).and_then(|host| self.hosts.get(host));
        let unheard = other.is_some_and(|host| match host.status {
            HostStatus::Unknown => true,
            HostStatus::Up => !host.heard,
            // It answers a probe; its agent has not come yet.
            HostStatus::AgentDown => host.lost.is_none(),
            HostStatus::Unreachable => false,
        });
        unheard && now.since(self.started_at) < self.cluster.scs.boot_grace
    }

    /// In a planned switchover of a cold pair the old primary serves on until the new one has been started.
    fn must_wait_for_start(&self, name: &PairName, pair: &Pair, app: &AppName) -> bool {
        let change = self.pairs[name].change.as_ref().filter(|c| c.kind == IncidentKind::Manual);
        pair.redundancy == Redundancy::Cold
            && change.is_some_and(|c| {
                c.from.as_ref() == Some(app) && self.apps[&c.to].status() != AppStatus::Started
            })
    }

    /// In a planned switchover the old primary confirms backup mode before the new one is instructed.
    fn must_wait_for_backup(&self, name: &PairName, pair: &Pair, app: &AppName, now: Micros) -> bool {
        let planned = self.pairs[name].change.as_ref().is_some_and(|c| c.kind == IncidentKind::Manual);
        let other = pair.other(app);
        let confirmed = self.reachable(other) && self.apps[other].mode() != Some(RunMode::Primary);
        // An agent that went away in the middle says nothing about its server: that one counts until it is known gone.
        planned && !confirmed && !matches!(self.holder(pair, other, now), Holder::Gone(_))
    }

    /// A wanted member lost the mode after its grant was complete, and takes the role again: a new grant, so a new epoch
    /// and a record of its own.
    fn open_regrant(&mut self, name: &PairName, app: &AppName, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.pairs.get_mut(name) else { return };
        let gone = state.regrant.take();
        if state.change.is_some() || self.apps[app].mode() == Some(RunMode::Primary) {
            return;
        }
        let gone = gone.unwrap_or_else(|| Gone {
            kind: IncidentKind::FirstPrimary,
            why: format!("{app} was not primary any more"),
            at: now,
            host: None,
            reported: None,
        });
        let kind = gone.kind;
        let reason = format!("{}, nobody else took over, and {app} is back", gone.why);
        self.grant(name, app, kind, reason, now);
        self.open_failure(name, Some(app.clone()), app.clone(), gone, now, out);
    }

    pub(crate) fn instruct(&mut self, app: &AppName, order: Order, now: Micros, out: &mut Vec<Action>) {
        if self.outstanding.values().any(|o| &o.app == app && o.order == order) {
            return;
        }
        let Some(host) = self.host_of(app).cloned() else { return };
        // A newer instruction takes the place of one not answered yet.
        self.outstanding.retain(|_, o| &o.app != app);
        let ref_id = self.next_ref();
        let retry_at = now + RETRY;
        self.outstanding.insert(
            ref_id,
            Outstanding { host: host.clone(), app: app.clone(), order, sent: now, attempts: 1, retry_at },
        );
        if order == Order::Start
            && let Some(epoch) = self.pair_of(app).and_then(|(name, _)| self.pairs.get(name)).map(|p| p.epoch)
            && let Some(state) = self.apps.get_mut(app)
        {
            state.started_for = epoch;
        }
        if let Order::SetRunMode { mode, epoch } = order {
            if let Some(state) = self.apps.get_mut(app) {
                state.goal = Some((mode, epoch));
            }
            self.note_instruction(app, &host, mode, now);
        }
        out.push(Action::Instruct(host, Instruction { ref_id, app: app.clone(), order }));
    }

    fn note_instruction(&mut self, app: &AppName, host: &HostName, mode: RunMode, now: Micros) {
        let Some(name) = self.pair_of(app).map(|(name, _)| name.clone()) else { return };
        let phase = match mode {
            RunMode::Primary => Phase::PrimaryInstructed,
            RunMode::Backup | RunMode::Exiting => Phase::BackupInstructed,
        };
        let text = format!("SCS, through the LCA on {host}, instructs {app} to go into {mode} mode");
        self.note(&name, phase, now, Some(host.clone()), text);
    }

    /// Sends again what has waited too long for its answer.
    pub(crate) fn retry_instructions(&mut self, now: Micros, out: &mut Vec<Action>) {
        let due: Vec<RefId> =
            self.outstanding.iter().filter(|(_, o)| o.retry_at <= now).map(|(id, _)| *id).collect();
        for ref_id in due {
            let Some(o) = self.outstanding.get_mut(&ref_id) else { continue };
            o.attempts += 1;
            o.retry_at = now + RETRY.saturating_mul(o.attempts).min(RETRY_MOST);
            let (host, app, order, attempts) = (o.host.clone(), o.app.clone(), o.order, o.attempts);
            let waited = now.since(o.sent).as_millis();
            out.push(Action::Instruct(host.clone(), Instruction { ref_id, app: app.clone(), order }));
            // Once, then ever more seldom: a hung application must not fill the log.
            if attempts.is_power_of_two() {
                let text = format!("{app}: {order}, after {waited} ms, attempt {attempts}");
                let event =
                    LogEvent::new(events::INSTRUCTION_UNANSWERED, now).because(text).on(&host).of(&app);
                self.log(event, out);
            }
        }
    }

    /// Logs the mode changes that were reported; the workflows' step "SCS logs".
    fn log_modes(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let wanted = self.pairs[name].wanted.clone();
        // The new primary first: a planned switchover logs both in one step, 00-05150 before 00-05151.
        let mut members: Vec<&AppName> = pair.members.iter().collect();
        members.sort_by_key(|m| wanted.as_ref() != Some(*m));
        for app in members {
            if !self.reachable(app) {
                continue;
            }
            let Some(report) = self.apps[app].report.clone() else { continue };
            let logged = self.apps[app].logged;
            let (id, phase) = match (report.mode, logged) {
                (None | Some(RunMode::Exiting), _) => {
                    self.set_logged(app, None);
                    continue;
                }
                (Some(RunMode::Primary), Some((RunMode::Primary, epoch))) if epoch >= report.epoch => {
                    continue;
                }
                (Some(RunMode::Primary), _) => (events::NOW_PRIMARY, Phase::PrimaryConfirmed),
                (Some(RunMode::Backup), Some((RunMode::Primary, _))) => {
                    (events::NOW_BACKUP, Phase::BackupConfirmed)
                }
                (Some(RunMode::Backup), _) => {
                    // Came up in backup mode: nothing changed.
                    self.set_logged(app, Some((RunMode::Backup, report.epoch)));
                    continue;
                }
            };
            if id == events::NOW_BACKUP && self.planned_primary_pending(name, app) {
                continue;
            }
            self.set_logged(app, report.mode.map(|mode| (mode, report.epoch)));
            self.log_mode(name, app, id, phase, now, out);
        }
    }

    fn log_mode(
        &mut self,
        name: &PairName,
        app: &AppName,
        id: domain::EventId,
        phase: Phase,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(host) = self.host_of(app).cloned() else { return };
        let (at, epoch) = (self.apps[app].at, self.pairs[name].epoch);
        self.note(name, phase, at, Some(host.clone()), format!("{app} confirmed"));
        let event =
            LogEvent::new(id, now).because(app).on(&host).of(app).with("pair", name).with("epoch", epoch);
        self.note(name, Phase::Logged, now, None, format!("SCS logs {id} for {app}"));
        self.log(event, out);
    }

    fn planned_primary_pending(&self, name: &PairName, app: &AppName) -> bool {
        let state = &self.pairs[name];
        state.change.as_ref().is_some_and(|c| {
            c.kind == IncidentKind::Manual
                && c.from.as_ref() == Some(app)
                && !self.runs_as_primary(name, &c.to)
        })
    }

    fn set_logged(&mut self, app: &AppName, logged: Option<(RunMode, domain::Epoch)>) {
        if let Some(state) = self.apps.get_mut(app)
            && state.logged != logged
        {
            state.logged = logged;
            self.changed = true;
        }
    }

    /// A host is back: what its members run as is discovered (workflow "Reconnection", steps 1 and 2).
    pub(crate) fn discover(&mut self, host: &HostName, now: Micros, out: &mut Vec<Action>) {
        let cluster = Arc::clone(&self.cluster);
        for name in self.index.pairs_on(host).to_vec() {
            let (name, pair) = (&name, &cluster.pairs[&name]);
            let Some(app) = self.member_on(pair, host).cloned() else { continue };
            let state = &self.pairs[name];
            let Some(wanted) = state.wanted.clone().filter(|w| w != &app) else { continue };
            let is_primary = self.apps[&app].mode() == Some(RunMode::Primary);
            let holds = pair.vips.iter().any(|v| {
                self.vips.get(&(host.clone(), v.address)).is_some_and(|place| place.present == Some(true))
            });
            if !is_primary && !holds {
                continue;
            }
            if let Some(state) = self.pairs.get_mut(name) {
                state.announce_due = true;
                if is_primary && self.apps[&wanted].mode() == Some(RunMode::Primary) {
                    state.reason = format!("{app} is back as primary, {wanted} holds the role since");
                }
            }
            if is_primary && self.runs_as_primary(name, &wanted) {
                let begin = Begin {
                    kind: IncidentKind::Reconnected,
                    from: Some(app.clone()),
                    to: wanted.clone(),
                    ordered_by: String::new(),
                    at: now,
                    host: Some(host.clone()),
                    text: format!("connection to {host} restored"),
                    reported: Some(format!("{app} runs in primary mode, and so does {wanted}")),
                    evidence: self.evidence(name),
                };
                self.open_incident(name, begin, now, out);
            }
        }
    }

    /// Closes a role change that is complete: the wanted primary runs, and its host has the VIPs.
    fn finish_change(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let state = &self.pairs[name];
        if state.change.is_none() && state.incident.is_none() {
            return;
        }
        let Some(wanted) = state.wanted.clone() else { return };
        let other = pair.other(&wanted);
        let let_go = !self.reachable(other) || self.apps[other].mode() != Some(RunMode::Primary);
        let announced = !state.announce_due || !self.reachable(other);
        let quiet = !self.launches.values().any(|l| l.launch.pair.as_ref() == Some(name));
        let logged =
            matches!(self.apps[&wanted].logged, Some((RunMode::Primary, epoch)) if epoch >= state.epoch);
        if !self.inbox.is_empty() {
            self.unfinished.insert(name.clone());
            return;
        }
        if let_go
            && announced
            && quiet
            && logged
            && self.runs_as_primary(name, &wanted)
            && self.vips_in_place(pair, &wanted)
            && self.verified(name, pair, &wanted, now, out)
        {
            if let Some(state) = self.pairs.get_mut(name) {
                state.change = None;
            }
            self.close_incident(name, IncidentOutcome::Completed, now, out);
        }
    }

    fn watch_faults(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        let (seen_nowhere, seen_twice) = self.seen_wrong(name, pair, now, out);
        let wanted = self.pairs[name].wanted.clone();
        let primaries = pair
            .members
            .iter()
            .filter(|m| self.reachable(m) && self.apps[*m].mode() == Some(RunMode::Primary))
            .count();
        let by_order = wanted.as_ref().is_some_and(|w| self.apps[w].stop_ordered());
        // A holder out of sight may still serve; only what is known counts.
        let out_of_sight = wanted.as_ref().is_some_and(|w| !self.reachable(w));
        let known = self.started_at + self.cluster.scs.boot_grace <= now;
        let holders = |vip: &domain::Vip| {
            let on = |m: &AppName| {
                let host = self.host_of(m)?.clone();
                self.vips.get(&(host, vip.address))?.present
            };
            pair.members.iter().filter(|m| on(m) == Some(true)).count()
        };
        let no_holder = primaries == 1 && (seen_nowhere || pair.vips.iter().any(|v| holders(v) == 0));
        let two_holders = seen_twice || pair.vips.iter().any(|v| holders(v) > 1);
        let backup = wanted.as_ref().map(|w| pair.other(w).clone());
        let not_ready = backup
            .as_ref()
            .and_then(|b| if self.apps[b].stop_ordered() { None } else { self.ready(pair, b, now).err() });
        let no_primary = known && primaries == 0 && !by_order && !out_of_sight;

        let state = self.pairs.get_mut(name).expect("settle looked the pair up");
        // Always the first member, so that what clears a fault is about the same application as what raised it.
        let about = Some(pair.members[0].clone());
        let mut logs: Vec<(LogEvent, Option<AppName>)> = Vec::new();
        let mut edge =
            |edge, raised: domain::EventId, cleared: domain::EventId, text: String, app: Option<AppName>| {
                let event = match edge {
                    Edge::Same => return,
                    Edge::Raised => LogEvent::new(raised, now).because(text),
                    Edge::Cleared => LogEvent::new(cleared, now).because(name),
                };
                logs.push((event.with("pair", name), app));
            };
        let pair_text = name.to_string();
        let e = state.no_primary.update(no_primary, FAULT_LASTS, now);
        edge(e, events::NO_PRIMARY, events::PAIR_NORMAL, pair_text.clone(), about.clone());
        let e = state.two_primaries.update(primaries > 1, FAULT_LASTS, now);
        edge(e, events::TWO_PRIMARIES, events::PAIR_NORMAL, pair_text.clone(), about.clone());
        let e = state.no_holder.update(no_holder, FAULT_LASTS, now);
        edge(e, events::VIP_NO_HOLDER, events::VIP_NORMAL, pair_text.clone(), about.clone());
        let e = state.two_holders.update(two_holders, FAULT_LASTS, now);
        edge(e, events::VIP_TWO_HOSTS, events::VIP_NORMAL, pair_text, about);
        let e = state.backup_not_ready.update(not_ready.is_some(), NOT_READY_LASTS, now);
        let text = not_ready.unwrap_or_default();
        if e == Edge::Raised {
            state.not_ready_member.clone_from(&backup);
        }
        let member = state.not_ready_member.clone().or(backup);
        edge(e, events::BACKUP_NOT_READY, events::BACKUP_READY, text, member);
        for (event, app) in logs {
            let event = match app {
                Some(app) => event.of(&app),
                None => event,
            };
            self.log(event, out);
        }
    }

    /// When time alone may change something about this pair.
    pub(crate) fn pair_deadline(&self, name: &PairName) -> Option<Micros> {
        let state = &self.pairs[name];
        let watches = [
            state.no_primary.deadline(FAULT_LASTS),
            state.two_primaries.deadline(FAULT_LASTS),
            state.no_holder.deadline(FAULT_LASTS),
            state.two_holders.deadline(FAULT_LASTS),
            state.backup_not_ready.deadline(NOT_READY_LASTS),
        ];
        watches
            .into_iter()
            .flatten()
            .chain(self.election_deadline(name))
            .chain(self.vip_deadline(name, &self.cluster.pairs[name]))
            .chain(self.lease_deadline(name))
            .chain(self.verification_deadline(name))
            .chain(state.promised.deadline())
            .min()
    }
}
