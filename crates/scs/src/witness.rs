//! The SCS's votes on leases, on the core thread: what agents ask goes to the witness, whom it may promise to comes from
//! the core, and what it learns goes back there.

use crate::core_loop::CoreLoop;
use domain::{Epoch, Micros};
use ha_core::Input;
use lease::{PairId, Why, Witnessed};

impl CoreLoop {
    /// What the agents' voters said.
    pub(crate) fn count_votes(&mut self) {
        if self.votes.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut votes = std::mem::take(&mut self.votes);
        for (token, message) in votes.drain(..) {
            let Some(agent) = self.sessions.get(&token).and_then(|session| session.agent.as_ref()) else {
                continue;
            };
            self.witness.hear(&agent.host, &message, now, &mut self.witnessed);
            self.learn_epoch(message.pair, now);
        }
        self.votes = votes;
        self.take_witnessed(now);
    }

    /// Promises that ran out make room for others.
    pub(crate) fn votes_time_passed(&mut self, now: Micros) {
        if self.witness.next_deadline().is_some_and(|at| at <= now) {
            self.witness.time_passed(now, &mut self.witnessed);
            self.take_witnessed(now);
            self.send_datagrams();
        }
    }

    /// Tells the voters what the core has decided: before its instructions go out, so that the promise is there when the
    /// instruction comes.
    pub(crate) fn entitle(&mut self, now: Micros) {
        for pair in self.state.take_settled() {
            let entitled = self.state.entitled(&pair);
            self.witness.entitle(&pair, entitled, now, &mut self.witnessed);
        }
        if !self.witnessed.is_empty() {
            self.take_witnessed(now);
            self.send_datagrams();
        }
    }

    /// An epoch that voters know of and the core does not: its next grant is to be above it.
    fn learn_epoch(&mut self, id: PairId, now: Micros) {
        let Some(pair) = self.witness.pair(id) else { return };
        let epoch = self.witness.machine(pair).map_or(Epoch(0), lease::Machine::seen);
        if epoch > self.state.greatest_epoch(pair) {
            let pair = pair.clone();
            self.feed(Input::EpochSeen { pair, epoch }, now);
        }
    }

    fn take_witnessed(&mut self, now: Micros) {
        for witnessed in std::mem::take(&mut self.witnessed) {
            match witnessed {
                Witnessed::Vote(member, message) => {
                    let host = self.witness.host(message.pair, member);
                    let Some(token) = host.and_then(|host| self.by_host.get(host)).copied() else { continue };
                    let Some(agent) = self.sessions.get_mut(&token).and_then(|s| s.agent.as_mut()) else {
                        continue;
                    };
                    agent.vote(message);
                    self.unsent.insert(token);
                }
                Witnessed::Released { pair, by, epoch, why: Why::Failed } => {
                    let Some(pair) = self.witness.pair(pair).cloned() else { continue };
                    let Some(settings) = self.state.cluster().pairs.get(&pair) else { continue };
                    let app = settings.app(by).clone();
                    self.feed(Input::LeaseLetGo { pair, app, epoch }, now);
                }
                // By order, or because the other member has a newer grant: the core knows.
                Witnessed::Released { why: Why::Ordered | Why::Outdated, .. } => {}
            }
        }
    }
}
