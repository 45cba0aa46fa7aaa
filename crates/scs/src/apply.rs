//! Another configuration while all goes on: the core decides, the voters learn of it before it grants anything, agents get
//! their part, and those of hosts that are gone are let go.

use crate::core_loop::CoreLoop;
use crate::store::Retention;
use control_link::messages::{Pace, ToAgent};
use domain::{Cluster, HostName, Micros};
use ha_core::Input;

impl CoreLoop {
    /// Puts another configuration in force; `what` says in the log which.
    pub(crate) fn apply(&mut self, cluster: Cluster, what: String, now: Micros) {
        let addresses: Vec<_> =
            self.state.cluster().hosts.iter().map(|(name, host)| (name.clone(), host.address)).collect();
        let actions =
            ha_core::run(&mut self.state, Input::ClusterApplied { cluster: Box::new(cluster), what }, now);
        let (witness, state) = (&mut self.witness, &self.state);
        witness.configure(state.cluster(), |pair| state.recorded(pair), now);
        for (host, address) in addresses {
            let after = self.state.cluster().hosts.get(&host).map(|host| host.address);
            if after != Some(address) {
                self.probes.end(&host);
            }
            if after.is_none() {
                self.dismiss(&host);
            }
        }
        self.carry_out(actions, now);
        self.watch_vips();
        let settings = &self.state.cluster().scs;
        let retention = Retention { keep: settings.keep, keep_bytes: settings.keep_bytes };
        self.outbox.handle().store().retain(retention);
        // Others are silent sooner or later than before.
        self.look_at_sessions = Some(now);
    }

    /// Sends an agent its part of the configuration.
    pub(crate) fn assign(&mut self, host: &HostName, now: Micros) {
        let Some(token) = self.by_host.get(host) else { return };
        let Some(agent) = self.sessions.get_mut(token).and_then(|session| session.agent.as_mut()) else {
            return;
        };
        agent.assigned += 1;
        let number = agent.assigned;
        let cluster = self.state.cluster();
        let profile = cluster.profile_of(host);
        agent.set_profile(profile, now);
        let (cluster, pace) = (Box::new(cluster.part_of(host)), Some(Pace::from(profile)));
        self.send(host, &ToAgent::Assign { cluster, number, pace });
    }

    /// The agent of a host that is no longer configured. It comes again, and is refused until it is.
    fn dismiss(&mut self, host: &HostName) {
        let why = format!("host {host} is no longer in the cluster file");
        self.send(host, &ToAgent::Goodbye { why });
        if let Some(token) = self.by_host.remove(host) {
            self.forget_session(token);
        }
        self.taken.remove(host);
        self.questions.lost(host);
        self.outbox.handle().forget_figures(host);
    }
}
