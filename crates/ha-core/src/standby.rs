//! What the members of a hot pair say of the copy that the backup keeps. For people: it decides nothing. Whether a backup
//! is in step is in its report (`AppReport::synced`).

use crate::state::State;
use domain::{AppName, HostName, Micros, Pair, Redundancy, Standby};
use serde::{Deserialize, Serialize};

/// Figures of a member of a hot pair, as it told them last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StandbyView {
    /// When they arrived.
    pub told: Micros,
    /// The figures.
    #[serde(flatten)]
    pub standby: Standby,
}

impl State {
    pub(crate) fn standby_reported(&mut self, host: &HostName, app: &AppName, standby: Standby, now: Micros) {
        if self.host_of(app) == Some(host)
            && let Some(state) = self.apps.get_mut(app)
        {
            state.standby = Some(StandbyView { told: now, standby });
        }
    }

    /// The figures of a member that runs and can be asked; others say nothing about now.
    pub(crate) fn standby_of(&self, app: &AppName) -> Option<StandbyView> {
        let state = self.apps.get(app)?;
        state.standby.filter(|_| state.status().is_up() && self.reachable(app))
    }

    /// What callers would notice of a planned switchover, in words; empty where the members do not tell.
    pub(crate) fn what_callers_notice(
        &self,
        pair: &Pair,
        from: Option<&AppName>,
        to: &AppName,
        now: Micros,
    ) -> Vec<String> {
        let (Some(from), Redundancy::Hot) = (from, pair.redundancy) else { return Vec::new() };
        let mut lines = Vec::new();
        if let Some(view) = self.standby_of(to) {
            let behind =
                view.standby.lag_ms.map_or_else(String::new, |lag| format!(", {lag} ms behind {from}"));
            let age = now.since(view.told).as_secs();
            lines.push(format!("go on at {to}: {} (told {age} s ago{behind})", view.standby));
        }
        if let (Err(_), Some(view)) = (self.in_step(pair, to), self.standby_of(from)) {
            lines.push(format!("{from} has: {}; what {to} lacks of that is lost", view.standby));
        }
        lines
    }
}
