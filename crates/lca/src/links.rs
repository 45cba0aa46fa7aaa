//! What comes in from the other agents: votes go to the keepers, and who is heard is reported to the SCS.

use crate::agent::Agent;
use crate::keepers::Voter;
use crate::peers::Change;
use control_link::Link;
use control_link::messages::Fact;
use domain::{HostName, LogEvent, Micros, PeerReport, events};
use lease::Message;
use mio::Token;

/// What was heard in one go; kept to be used again.
#[derive(Debug, Default)]
pub struct Heard {
    votes: Vec<(HostName, Message)>,
    changes: Vec<Change>,
}

impl Agent {
    /// Something can be read from other agents. True: there is more.
    pub fn hear_peers(&mut self, token: Token, now: Micros) -> bool {
        let Self { peers, heard, .. } = self;
        let more = peers.ready(token, now, &mut heard.votes, &mut heard.changes);
        self.take_heard(now);
        more
    }

    /// A connection with another agent was made.
    pub(crate) fn peer_linked(&mut self, link: Box<Link>, now: Micros) {
        let Self { peers, heard, registry, .. } = self;
        let token = peers.linked(link, registry, now, &mut heard.changes);
        self.take_heard(now);
        // What arrived with the handshake is there already, and the poll does not announce it again.
        while token.is_some_and(|token| self.hear_peers(token, now)) {}
    }

    /// Does what is due for the other agents.
    pub(crate) fn peers_time_passed(&mut self, now: Micros) {
        if self.peers.next_deadline().is_some_and(|due| due <= now) {
            self.peers.time_passed(now, &mut self.heard.changes);
            self.take_heard(now);
        }
    }

    /// Which agents share a pair with this one may have changed.
    pub(crate) fn configure_peers(&mut self, now: Micros) {
        let Self { peers, heard, .. } = self;
        peers.configure(&self.cluster, now, &mut heard.changes);
        self.take_heard(now);
    }

    fn take_heard(&mut self, now: Micros) {
        let mut changes = std::mem::take(&mut self.heard.changes);
        for Change { host, lost } in changes.drain(..) {
            let event = match &lost {
                None => LogEvent::new(events::CONNECTED, now).because(format_args!("LCA on {host}")),
                Some(why) => {
                    LogEvent::new(events::CONNECTION_LOST, now).because(format_args!("LCA on {host}: {why}"))
                }
            };
            self.peer_heard(&host, lost.is_none(), now);
            self.report(Fact::Peer(PeerReport { host, heard: lost.is_none() }), now);
            self.report(Fact::Log(event.on(&self.host)), now);
        }
        self.heard.changes = changes;
        let mut votes = std::mem::take(&mut self.heard.votes);
        for (host, message) in votes.drain(..) {
            self.heard_vote(&Voter::Peer(host), &message, now);
        }
        self.heard.votes = votes;
    }
}
