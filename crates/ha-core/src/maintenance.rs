//! Maintenance of a pair: somebody works on it, for so long. What would be in the way is held (failback by itself, the count of
//! failovers), and what is expected then is marked. What protects callers is not touched: a primary that fails is replaced,
//! leases and epochs are as ever. It ends by itself, and a restart of the SCS does not end it.

use crate::state::State;
use crate::{Action, By, OrderOutcome};
use domain::{LogEvent, Micros, PairName, events, format_duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Shortest and longest maintenance: what is longer is a configuration.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));

/// A maintenance under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Maintenance {
    /// Since when.
    pub since: Micros,
    /// When it ends by itself.
    pub until: Micros,
    /// Who ordered it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl State {
    /// Begins a maintenance that lasts `lasts` from now; one under way is replaced, so it can be made longer or shorter.
    pub(crate) fn maintain(
        &mut self,
        name: &PairName,
        lasts: Duration,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let refused = |why| OrderOutcome::Refused { why, plan: None };
        let Some(state) = self.pairs.get_mut(name) else {
            return refused(format!("there is no pair {name}"));
        };
        if lasts < BOUNDS.0 || lasts > BOUNDS.1 {
            let (least, most) = (format_duration(BOUNDS.0), format_duration(BOUNDS.1));
            return refused(format!("a maintenance lasts between {least} and {most}"));
        }
        let since = state.maintenance.as_ref().map_or(now, |before| before.since);
        let (who, reason) = (by.who.clone(), by.reason.clone());
        state.maintenance = Some(Maintenance { since, until: now + lasts, by: who, reason });
        self.changed = true;
        self.touched.insert(name.clone());
        let text = format!("{name} for {}, by {}", format_duration(lasts), by.who);
        self.log_maintenance(events::MAINTENANCE_BEGAN, name, text, by, now, out);
        OrderOutcome::Accepted {
            incident: None,
            text: format!("{name} is in maintenance for {}", format_duration(lasts)),
        }
    }

    /// Ends a maintenance by order.
    pub(crate) fn end_maintenance(
        &mut self,
        name: &PairName,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let ended = self.pairs.get_mut(name).and_then(|state| state.maintenance.take());
        if ended.is_none() {
            return OrderOutcome::Refused { why: format!("{name} is not in maintenance"), plan: None };
        }
        self.changed = true;
        self.touched.insert(name.clone());
        self.log_maintenance(events::MAINTENANCE_ENDED, name, format!("{name}, by {}", by.who), by, now, out);
        OrderOutcome::Accepted { incident: None, text: format!("the maintenance of {name} has ended") }
    }

    /// Ends a maintenance whose time has come.
    pub(crate) fn end_maintenance_if_over(&mut self, name: &PairName, now: Micros, out: &mut Vec<Action>) {
        let Some(state) = self.pairs.get_mut(name) else { return };
        if let Some(over) = state.maintenance.take_if(|maintenance| maintenance.until <= now) {
            self.changed = true;
            let by = By { who: over.by, reason: over.reason };
            self.log_maintenance(
                events::MAINTENANCE_ENDED,
                name,
                format!("{name}, its time is over"),
                &by,
                now,
                out,
            );
        }
    }

    /// Whether somebody works on the pair.
    pub(crate) fn in_maintenance(&self, name: &PairName) -> bool {
        self.pairs.get(name).is_some_and(|state| state.maintenance.is_some())
    }

    fn log_maintenance(
        &mut self,
        id: domain::EventId,
        name: &PairName,
        text: String,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let event = LogEvent::new(id, now).because(text).with("pair", name);
        let event = event.of(&self.cluster.pairs[name].members[0]);
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
    }
}
