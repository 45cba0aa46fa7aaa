//! A pair frozen by hand: nothing fails over, nothing goes back, nothing is practised until somebody ends it. The flap guard's
//! freeze (`elect.rs`) does the same and is ended by an acknowledgement; either lasts whatever becomes of the other.
//!
//! Unlike a maintenance it does not end by itself and does not leave a failed primary to its peer: it is for the hour in which
//! a takeover would do more harm than an outage (the backup's data are in doubt, its network is being rebuilt). What an
//! operator orders is carried out as ever. Agents that reach no SCS know nothing of it, as they know nothing of the flap guard.

use crate::state::{PairState, State};
use crate::{Action, By, OrderOutcome};
use domain::{EventId, LogEvent, Micros, PairName, events};
use serde::{Deserialize, Serialize};

/// A freeze that somebody ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Freeze {
    /// Since when.
    pub since: Micros,
    /// Who ordered it.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

impl PairState {
    /// Why nothing moves by itself, as the end of a sentence that begins with the pair; none: it is not frozen.
    pub(crate) fn frozen_how(&self) -> Option<String> {
        match &self.freeze {
            Some(freeze) => Some(format!("frozen by {}", freeze.by)),
            None => self.frozen.then(|| "frozen until an operator acknowledges".to_owned()),
        }
    }
}

impl State {
    /// Freezes a pair; for one that is frozen by hand already, who and why are replaced.
    pub(crate) fn freeze(
        &mut self,
        name: &PairName,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let Some(state) = self.pairs.get_mut(name) else { return no_such_pair(name) };
        let since = state.freeze.as_ref().map_or(now, |before| before.since);
        state.freeze = Some(Freeze { since, by: by.who.clone(), reason: by.reason.clone() });
        state.held = None;
        self.log_freeze(events::FROZEN_BY_HAND, name, by, now, out);
        accepted(format!("{name} is frozen: nobody takes over by itself until `takeover unfreeze {name}`"))
    }

    /// Ends a freeze that somebody ordered; the flap guard's stays.
    pub(crate) fn unfreeze(
        &mut self,
        name: &PairName,
        by: &By,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> OrderOutcome {
        let Some(state) = self.pairs.get_mut(name) else { return no_such_pair(name) };
        let flap_guard = state.frozen;
        if state.freeze.take().is_none() {
            let why = if flap_guard {
                format!("{name} was frozen by the flap guard; `takeover acknowledge {name}` ends that")
            } else {
                format!("{name} is not frozen")
            };
            return OrderOutcome::Refused { why, plan: None };
        }
        // Stable for so long means: under the eyes of the failback policy.
        state.first_ready_since = None;
        self.log_freeze(events::UNFROZEN_BY_HAND, name, by, now, out);
        accepted(if flap_guard {
            format!("{name} stays frozen by the flap guard; `takeover acknowledge {name}` ends that too")
        } else {
            format!("{name} fails over by itself again")
        })
    }

    fn log_freeze(&mut self, id: EventId, name: &PairName, by: &By, now: Micros, out: &mut Vec<Action>) {
        self.changed = true;
        self.touched.insert(name.clone());
        let because = if by.reason.is_empty() { String::new() } else { format!(": {}", by.reason) };
        let event = LogEvent::new(id, now).because(format!("{name}, by {}{because}", by.who));
        let event = event.of(&self.cluster.pairs[name].members[0]).with("pair", name);
        self.log(event.with("by", &by.who).with("reason", &by.reason), out);
    }
}

fn accepted(text: String) -> OrderOutcome {
    OrderOutcome::Accepted { incident: None, text }
}

fn no_such_pair(name: &PairName) -> OrderOutcome {
    OrderOutcome::Refused { why: format!("there is no pair {name}"), plan: None }
}
