//! A new configuration while all goes on: what is gone is closed and forgotten, the agents are told, and the pairs are
//! settled as after any other input. What may still be held as before is withheld first (`claims.rs`).

use crate::state::{PairState, State};
use crate::{Action, IncidentOutcome};
use alarms::Source;
use domain::{AppName, Cluster, HostName, HostStatus, LogEvent, Micros, PairName, events};
use std::sync::Arc;

impl State {
    /// Puts another configuration in force; `what` says in the log which.
    pub(crate) fn cluster_applied(
        &mut self,
        cluster: Cluster,
        what: &str,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let anew = |name: &PairName, state: &PairState| {
            let members = cluster.pairs.get(name).map(|pair| &pair.members);
            let of = |app: &AppName| members.is_some_and(|members| members.contains(app));
            state.incident.as_ref().is_some_and(|incident| !of(&incident.to))
        };
        let ended: Vec<PairName> = self
            .pairs
            .iter()
            .filter(|(name, state)| anew(name, state))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            self.close_incident(&name, IncidentOutcome::Reconfigured, now, out);
        }
        let over = self.lapses_gone(&cluster, now);
        self.configure(cluster, now);
        let cluster = Arc::clone(&self.cluster);
        // First: an agent refuses what it is told of an application that it has not heard of.
        let connected = self.hosts.iter().filter(|(_, host)| host.status == HostStatus::Up);
        out.extend(connected.map(|(name, _)| Action::Assign(name.clone())));
        let ended = self.alarms.reconfigured(&cluster.alarm_conditions, |source| match source {
            Source::Application(app) => cluster.applications.contains_key(app),
            Source::Host(host) => cluster.hosts.contains_key(host),
            Source::Cluster => true,
        });
        self.handle_alarms(ended, now, out);
        for event in over {
            self.log(event, out);
        }
        self.changed = true;
        self.log(LogEvent::new(events::CONFIG_APPLIED, now).because(what), out);
    }

    /// An agent goes by the configuration in force.
    pub(crate) fn assigned(&mut self, host: &HostName, now: Micros) {
        if let Some(state) = self.hosts.get_mut(host) {
            state.assigned = now;
        }
    }
}
