//! Which log events raise and clear which alarms, and which reactions are due. Pure: log events and time go in, what
//! happened to alarms and what is to be run come out. It runs nothing and keeps no history; the SCS does both.
//!
//! An alarm is keyed by Alarm Condition and source. While it is active a repeat is counted and runs nothing, unless
//! the condition says `refire`: the wiring that moves VIPs does, so that an alarm still active from the last switchover
//! never swallows the next one.
//!
//! ```text
//!            detect event: Raised, reactions
//!   (none) ------------------------------------> active --+ detect event: Repeated (reactions only with refire)
//!      ^                                          |   ^---+
//!      +--- cancel event | timeout | operator: ---+
//!           Ended, clearance reactions
//! ```

use domain::{
    AlarmCondition, AppName, Category, DetectSource, EventId, HostName, LogEvent, Micros, Reaction, events,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most alarms that can be active at once. More than one for each condition and application of the largest
/// installation; beyond it, new ones are dropped and [`Happened::Overflow`] says so.
pub const MAX_ACTIVE: usize = 100_000;

/// Whom an alarm is about: the most particular thing that its log event named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An application.
    Application(AppName),
    /// A host.
    Host(HostName),
    /// The installation as a whole.
    Cluster,
}

impl Source {
    /// The source of `event`.
    #[must_use]
    pub fn of(event: &LogEvent) -> Self {
        match (&event.app, &event.host) {
            (Some(app), _) => Source::Application(app.clone()),
            (None, Some(host)) => Source::Host(host.clone()),
            (None, None) => Source::Cluster,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Application(app) => app.fmt(f),
            Source::Host(host) => host.fmt(f),
            Source::Cluster => f.pad("cluster"),
        }
    }
}

/// An alarm not yet cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActiveAlarm {
    /// Number of the alarm, for operators to name it by; never reused.
    pub number: u64,
    /// The Alarm Condition that raised it.
    pub condition: String,
    /// Whom it is about.
    pub source: Source,
    /// How bad.
    pub category: Category,
    /// The log event that raised it.
    pub event: EventId,
    /// The text of the newest log event.
    pub text: String,
    /// When it was raised.
    pub raised_at: Micros,
    /// When it was last repeated.
    pub repeated_at: Micros,
    /// How often it was repeated.
    pub repeats: u64,
    /// When it ends by itself.
    pub expires_at: Micros,
    /// Whether it is left out of lists (the VIP wiring is).
    pub hidden: bool,
}

/// How an alarm ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ending {
    /// By its cancel event.
    Cancelled {
        /// The event.
        event: EventId,
    },
    /// By its clearance timeout.
    TimedOut,
    /// By an operator.
    Cleared {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Its condition or its source is no longer configured, or the condition is disabled.
    Unconfigured,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Cancelled { event } => write!(f, "cancelled by {event}"),
            Ending::TimedOut => f.write_str("timed out"),
            Ending::Cleared { by, reason } if reason.is_empty() => write!(f, "cleared by {by}"),
            Ending::Cleared { by, reason } => write!(f, "cleared by {by}: {reason}"),
            Ending::Unconfigured => f.write_str("no longer configured"),
        }
    }
}

/// What happened to alarms, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// An alarm was raised.
    Raised(ActiveAlarm),
    /// An active alarm was raised again.
    Repeated(ActiveAlarm),
    /// An alarm ended.
    Ended(ActiveAlarm, Ending),
    /// A reaction is due.
    React {
        /// The condition.
        condition: String,
        /// What to run.
        reaction: Reaction,
        /// The log event that led to it; for a clearance reaction without one, none.
        event: Option<LogEvent>,
        /// Whom the alarm is about.
        source: Source,
    },
    /// Too many alarms are active; this one of the condition was dropped.
    Overflow(String),
}

/// The active alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    active: Vec<ActiveAlarm>,
    last_number: u64,
}

/// The conditions by name, as configured.
pub type Conditions = BTreeMap<String, AlarmCondition>;

impl Alarms {
    /// The active alarms, oldest first.
    pub fn active(&self) -> impl Iterator<Item = &ActiveAlarm> {
        self.active.iter()
    }

    /// A copy with only the alarms whose sources are `ours`.
    #[must_use]
    pub fn about(&self, ours: impl Fn(&Source) -> bool) -> Self {
        let active = self.active.iter().filter(|alarm| ours(&alarm.source)).cloned().collect();
        Self { active, last_number: self.last_number }
    }

    /// Leaves `count` numbers out: they may have been given out by a run that could not say so any more.
    pub fn skip_numbers(&mut self, count: u64) {
        self.last_number = self.last_number.saturating_add(count);
    }

    /// A log event was logged at `now`.
    pub fn logged(&mut self, conditions: &Conditions, event: &LogEvent, now: Micros) -> Vec<Happened> {
        let mut out = Vec::new();
        // What alarms themselves log must not raise alarms: a loop without end.
        if event.id == events::ALARM_RAISED || event.id == events::ALARM_CLEARED {
            return out;
        }
        for (name, condition) in conditions.iter().filter(|(_, c)| c.enabled) {
            if condition.cancel.contains(&event.id) && selects(&condition.detect.source, event) {
                self.end_where(
                    conditions,
                    |a| &a.condition == name && cancels(&a.source, event),
                    &Ending::Cancelled { event: event.id },
                    Some(event),
                    &mut out,
                );
            }
            if condition.detect.event == event.id && selects(&condition.detect.source, event) {
                self.raise(name, condition, event, now, &mut out);
            }
        }
        out
    }

    /// Time passed.
    pub fn expire(&mut self, conditions: &Conditions, now: Micros) -> Vec<Happened> {
        let mut out = Vec::new();
        self.end_where(conditions, |a| a.expires_at <= now, &Ending::TimedOut, None, &mut out);
        out
    }

    /// An operator clears the alarm with this number. Empty where there is none.
    pub fn clear(&mut self, conditions: &Conditions, number: u64, by: &str, reason: &str) -> Vec<Happened> {
        let mut out = Vec::new();
        let ending = Ending::Cleared { by: by.to_owned(), reason: reason.to_owned() };
        self.end_where(conditions, |a| a.number == number, &ending, None, &mut out);
        out
    }

    /// The configuration changed: alarms of conditions that are gone end, and those of sources that are not `there` any more.
    pub fn reconfigured(
        &mut self,
        conditions: &Conditions,
        there: impl Fn(&Source) -> bool,
    ) -> Vec<Happened> {
        let mut out = Vec::new();
        let gone =
            |a: &ActiveAlarm| !there(&a.source) || conditions.get(&a.condition).is_none_or(|c| !c.enabled);
        self.end_where(conditions, gone, &Ending::Unconfigured, None, &mut out);
        out
    }

    /// When [`Alarms::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        self.active.iter().map(|a| a.expires_at).min()
    }

    fn raise(
        &mut self,
        name: &str,
        condition: &AlarmCondition,
        event: &LogEvent,
        now: Micros,
        out: &mut Vec<Happened>,
    ) {
        let source = Source::of(event);
        let expires_at = now + condition.clearance_timeout;
        let full = self.active.len() >= MAX_ACTIVE;
        let known = self.active.iter_mut().find(|a| a.condition == name && a.source == source);
        let run = match known {
            Some(alarm) => {
                alarm.repeats += 1;
                alarm.repeated_at = event.at;
                alarm.expires_at = expires_at;
                alarm.text.clone_from(&event.text);
                out.push(Happened::Repeated(alarm.clone()));
                condition.refire
            }
            None if full => {
                out.push(Happened::Overflow(name.to_owned()));
                // What moves VIPs must not depend on how many alarms are active.
                condition.refire
            }
            None => {
                self.last_number += 1;
                let alarm = ActiveAlarm {
                    number: self.last_number,
                    condition: name.to_owned(),
                    source: source.clone(),
                    category: condition.category,
                    event: event.id,
                    text: event.text.clone(),
                    raised_at: event.at,
                    repeated_at: event.at,
                    repeats: 0,
                    expires_at,
                    hidden: condition.hidden,
                };
                self.active.push(alarm.clone());
                out.push(Happened::Raised(alarm));
                true
            }
        };
        if run {
            react(name, &condition.reactions, Some(event), &source, out);
        }
    }

    fn end_where(
        &mut self,
        conditions: &Conditions,
        ends: impl Fn(&ActiveAlarm) -> bool,
        ending: &Ending,
        event: Option<&LogEvent>,
        out: &mut Vec<Happened>,
    ) {
        let (ended, active) = std::mem::take(&mut self.active).into_iter().partition(|a| ends(a));
        self.active = active;
        let ended: Vec<ActiveAlarm> = ended;
        // Nothing got better: what it was about is gone, and so may be what a reaction is about.
        let reacts = match ending {
            Ending::Cancelled { .. } | Ending::TimedOut | Ending::Cleared { .. } => true,
            Ending::Unconfigured => false,
        };
        for alarm in ended {
            let (name, source) = (alarm.condition.clone(), alarm.source.clone());
            out.push(Happened::Ended(alarm, ending.clone()));
            if let Some(condition) = conditions.get(&name).filter(|_| reacts) {
                react(&name, &condition.clearance_reactions, event, &source, out);
            }
        }
    }
}

fn react(
    name: &str,
    reactions: &[Reaction],
    event: Option<&LogEvent>,
    source: &Source,
    out: &mut Vec<Happened>,
) {
    out.extend(reactions.iter().map(|reaction| Happened::React {
        condition: name.to_owned(),
        reaction: reaction.clone(),
        event: event.cloned(),
        source: source.clone(),
    }));
}

/// Whether a condition with this selection looks at `event`.
fn selects(source: &DetectSource, event: &LogEvent) -> bool {
    match source {
        DetectSource::Any => true,
        DetectSource::Application(app) => event.app.as_ref() == Some(app),
        DetectSource::Host(host) => event.host.as_ref() == Some(host),
    }
}

/// Whether `event` cancels an alarm about `source`: it must be about the same application, or the same host.
fn cancels(source: &Source, event: &LogEvent) -> bool {
    match source {
        Source::Application(app) => event.app.as_ref() == Some(app),
        Source::Host(host) => event.host.as_ref() == Some(host),
        Source::Cluster => true,
    }
}

#[cfg(test)]
mod tests;
