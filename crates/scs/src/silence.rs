//! Whose agent is silent, whether its host answers, and when the SCS itself was away so that silence says nothing.

use crate::core_loop::CoreLoop;
use crate::sessions::HELLO_LIMIT;
use domain::{HostName, HostStatus, LogEvent, Micros, events};
use ha_core::{Input, Lost};
use std::net::SocketAddr;
use std::time::Duration;

/// How often a lost host is probed.
pub(crate) const PROBE_LOST_EVERY: Duration = Duration::from_millis(250);
/// How late the loop may be before it counts as having slept: then silence of others proves nothing.
const STALL: Duration = Duration::from_millis(50);

impl CoreLoop {
    /// Whose agent has been silent for too long is lost; whose for half of that is probed, so that more is known by then.
    pub(crate) fn look_for_silence(&mut self, now: Micros) {
        let mut lost = Vec::new();
        let mut suspicious = Vec::new();
        for (token, session) in &self.sessions {
            match &session.agent {
                None if now >= session.begun + HELLO_LIMIT => lost.push(*token),
                None => {}
                // Connected without an inventory it would hold up what waits for its host.
                Some(agent) if !agent.heard_inventory && now >= session.begun + HELLO_LIMIT => {
                    lost.push(*token)
                }
                Some(agent) if now >= agent.silent_at() => lost.push(*token),
                Some(agent) if now >= agent.suspicious_at() => {
                    suspicious.push((agent.host.clone(), (agent.silence / 6).max(Duration::from_millis(5))));
                }
                Some(agent) => self.probes.end(&agent.host),
            }
        }
        for token in lost {
            self.lose(token, Lost::Silent, now);
        }
        for (host, every) in suspicious {
            self.probe(&host, every, now);
        }
        self.probe_unheard(now);
        self.look_at_sessions = self.sessions.values().map(|session| session.look_at(now)).min();
    }

    pub(crate) fn host_verdict(&mut self, host: HostName, answers: bool, now: Micros) {
        let said = match self.state.host_status(&host) {
            Some(HostStatus::AgentDown) => Some(true),
            Some(HostStatus::Unreachable) => Some(false),
            // Its agent is given time to come before silence says anything.
            Some(HostStatus::Unknown) if !answers && now < self.boot_grace_ends() => return,
            Some(HostStatus::Unknown) => None,
            Some(HostStatus::Up) | None => return,
        };
        if said != Some(answers) {
            self.feed(Input::HostProbed { host, answers }, now);
        }
    }

    pub(crate) fn boot_grace_ends(&self) -> Micros {
        self.state.started_at() + self.state.cluster().scs.boot_grace
    }

    /// Hosts not heard of since the start are probed; what their silence means is decided when the grace is over.
    pub(crate) fn probe_unheard(&mut self, now: Micros) {
        let unheard: Vec<_> = self
            .state
            .cluster()
            .hosts
            .keys()
            .filter(|host| !self.by_host.contains_key(*host) && !self.probes.is_probing(host))
            .cloned()
            .collect();
        for host in unheard {
            self.probe(&host, PROBE_LOST_EVERY, now);
        }
    }

    pub(crate) fn probe(&mut self, host: &HostName, every: Duration, now: Micros) {
        let Some(address) = self.state.cluster().hosts.get(host).map(|h| h.address) else { return };
        // The SCS's own host answers, or nobody would ask.
        if self.state.cluster().scs.listen.iter().any(|own| own.ip() == address) {
            return;
        }
        self.probes.begin(host, SocketAddr::new(address, self.probe_port), every, now);
    }

    /// A loop that slept cannot tell who was silent meanwhile.
    pub(crate) fn forgive_if_stalled(&mut self, deadline: Option<Micros>, now: Micros) {
        let late = deadline.map_or(Duration::ZERO, |at| now.since(at));
        if late.is_zero() {
            return;
        }
        // Short patience is used up by a short sleep.
        for agent in self.sessions.values_mut().filter_map(|s| s.agent.as_mut()) {
            if late >= STALL.min(agent.silence / 4) {
                agent.last_heard = now;
            }
        }
        if late < STALL {
            return;
        }
        self.probes.forgive(now);
        let text = format!("SCS, for {} ms", late.as_millis());
        let event = LogEvent::new(events::AGENT_STALLED, now).because(text);
        self.feed(Input::EventReported { event }, now);
    }
}
