//! Connections of the agent: to the SCS, with greeting, heartbeats and silence, and to the agents of the other members.

use super::{Agent, Effect};
use crate::message::{Beat, ConnectionId, Datagram, FromAgent, Node};
use domain::{Fact, Micros, PeerReport, Profile};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the SCS may take to answer the hello.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// First pause between attempts to connect; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection shorter than this was no use: the next one waits a little.
const SHORT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum ToScs {
    Away,
    Greeting { id: ConnectionId, limit: Micros },
    Up { id: ConnectionId, since: Micros, heard: Micros, next_beat: Micros },
}

#[derive(Debug)]
struct Peer {
    id: ConnectionId,
    heard: Micros,
    next_beat: Micros,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Links {
    scs: ToScs,
    scs_pause: Duration,
    peers: BTreeMap<usize, Peer>,
    peer_pauses: BTreeMap<usize, Duration>,
    profile: Profile,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            scs: ToScs::Away,
            scs_pause: FIRST_PAUSE,
            peers: BTreeMap::new(),
            peer_pauses: BTreeMap::new(),
            profile: Profile::default(),
        }
    }
}

impl Links {
    /// The connection to the SCS, if it said welcome.
    pub(super) fn scs_up(&self) -> Option<ConnectionId> {
        match &self.scs {
            ToScs::Up { id, .. } => Some(*id),
            ToScs::Away | ToScs::Greeting { .. } => None,
        }
    }

    /// The connection to another agent.
    pub(super) fn peer(&self, host: usize) -> Option<ConnectionId> {
        self.peers.get(&host).map(|peer| peer.id)
    }

    /// The SCS said something on this connection; false where it is not the one in use.
    pub(super) fn heard_from_scs(&mut self, on: ConnectionId, now: Micros) -> bool {
        match &mut self.scs {
            ToScs::Up { id, heard, .. } if *id == on => {
                *heard = now;
                true
            }
            ToScs::Greeting { id, .. } => *id == on,
            ToScs::Up { .. } | ToScs::Away => false,
        }
    }

    pub(super) fn welcomed(&mut self, now: Micros) {
        if let ToScs::Greeting { id, .. } = self.scs {
            self.scs = ToScs::Up { id, since: now, heard: now, next_beat: now };
        }
    }

    pub(super) fn grant(&mut self, late: Duration) {
        match &mut self.scs {
            ToScs::Up { heard, .. } => *heard += late,
            ToScs::Greeting { limit, .. } => *limit += late,
            ToScs::Away => {}
        }
        for peer in self.peers.values_mut() {
            peer.heard += late;
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Micros> {
        let silence = self.profile.silence();
        let scs = match &self.scs {
            ToScs::Away => None,
            ToScs::Greeting { limit, .. } => Some(*limit),
            ToScs::Up { heard, next_beat, .. } => Some((*next_beat).min(*heard + silence)),
        };
        scs.into_iter().chain(self.peers.values().map(|p| p.next_beat.min(p.heard + silence))).min()
    }
}

impl Agent {
    /// At the start. Of two agents the one on the host with the smaller number dials.
    pub(super) fn dial_everybody(&mut self) {
        self.out.push_back(Effect::Dial(Node::Scs, Duration::ZERO));
        for other in self.identity.peers.iter().filter(|other| **other > self.identity.number) {
            self.out.push_back(Effect::Dial(Node::Host(*other), Duration::ZERO));
        }
    }

    pub(super) fn linked(&mut self, node: Node, id: ConnectionId, now: Micros) {
        self.links.profile = self.profile();
        match node {
            Node::Scs => {
                self.links.scs_pause = FIRST_PAUSE;
                self.links.scs = ToScs::Greeting { id, limit: now + GREETING_LIMIT };
                let hello =
                    FromAgent::Hello { host: self.identity.number, boot: self.identity.boot, at: now };
                self.out.push_back(Effect::Send(id, hello));
            }
            Node::Host(other) => {
                self.links.peer_pauses.remove(&other);
                let host = self.identity.hosts[other].clone();
                self.peer_heard(other, true, now);
                self.report(Fact::Peer(PeerReport { host, heard: true }), now);
                // The same agent again, before its old link was seen to be dead: the new one counts.
                if let Some(old) = self.links.peers.insert(other, Peer { id, heard: now, next_beat: now }) {
                    self.out.push_back(Effect::Close(old.id));
                }
            }
        }
    }

    pub(super) fn not_linked(&mut self, node: Node) {
        let pause = match node {
            Node::Scs => &mut self.links.scs_pause,
            Node::Host(other) => self.links.peer_pauses.entry(other).or_insert(FIRST_PAUSE),
        };
        let after = *pause;
        *pause = (after * 2).min(LONGEST_PAUSE);
        self.out.push_back(Effect::Dial(node, after));
    }

    pub(super) fn closed(&mut self, id: ConnectionId, now: Micros) {
        match self.links.scs {
            ToScs::Up { id: own, .. } | ToScs::Greeting { id: own, .. } if own == id => self.lose_scs(now),
            ToScs::Up { .. } | ToScs::Greeting { .. } | ToScs::Away => {}
        }
        let peer = self.links.peers.iter().find(|(_, peer)| peer.id == id).map(|(host, _)| *host);
        if let Some(host) = peer {
            self.lose_peer(host, now);
        }
    }

    /// All other agents with which this one shares a pair.
    pub(super) fn peer_reports(&self) -> Vec<PeerReport> {
        let report = |n: &usize| PeerReport {
            host: self.identity.hosts[*n].clone(),
            heard: self.links.peers.contains_key(n),
        };
        self.identity.peers.iter().map(report).collect()
    }

    /// Votes that came over the connection to another agent.
    pub(super) fn votes_of_peer(&mut self, id: ConnectionId, votes: &[lease::Message], now: Micros) {
        if let Some((host, peer)) = self.links.peers.iter_mut().find(|(_, peer)| peer.id == id) {
            peer.heard = now;
            let from = Node::Host(*host);
            self.heard_votes(from, votes, now);
        }
    }

    fn lose_scs(&mut self, now: Micros) {
        match std::mem::replace(&mut self.links.scs, ToScs::Away) {
            ToScs::Away => {}
            ToScs::Greeting { id, .. } => {
                self.out.push_back(Effect::Close(id));
                self.not_linked(Node::Scs);
            }
            ToScs::Up { id, since, .. } => {
                self.out.push_back(Effect::Close(id));
                if now.since(since) > SHORT {
                    self.out.push_back(Effect::Dial(Node::Scs, Duration::ZERO));
                } else {
                    self.not_linked(Node::Scs);
                }
                self.scs_lost(now);
            }
        }
    }

    fn lose_peer(&mut self, host: usize, now: Micros) {
        if let Some(peer) = self.links.peers.remove(&host) {
            let name = self.identity.hosts[host].clone();
            self.peer_heard(host, false, now);
            self.report(Fact::Peer(PeerReport { host: name, heard: false }), now);
            self.out.push_back(Effect::Close(peer.id));
            if self.identity.number < host {
                self.not_linked(Node::Host(host));
            }
        }
    }

    pub(super) fn datagram(&mut self, datagram: Datagram, now: Micros) {
        let Datagram::Sealed { of, beat: _, lease } = datagram else {
            unreachable!("probes are the kernel's")
        };
        if self.links.scs_up() == Some(of) {
            self.links.heard_from_scs(of, now);
            return self.heard_votes(Node::Scs, &lease, now);
        }
        if let Some((host, peer)) = self.links.peers.iter_mut().find(|(_, peer)| peer.id == of) {
            peer.heard = now;
            let from = Node::Host(*host);
            self.heard_votes(from, &lease, now);
        }
    }

    pub(super) fn links_time_passed(&mut self, now: Micros) {
        let (every, silence) = (self.links.profile.heartbeat(), self.links.profile.silence());
        let mut silent = false;
        match &mut self.links.scs {
            ToScs::Away => {}
            ToScs::Greeting { limit, .. } => silent = *limit <= now,
            ToScs::Up { heard, .. } if *heard + silence <= now => silent = true,
            ToScs::Up { id, next_beat, .. } => {
                if *next_beat <= now {
                    *next_beat = (*next_beat + every).max(now + every / 2);
                    self.out.push_back(beat(Node::Scs, *id, now));
                }
            }
        }
        if silent {
            self.lose_scs(now);
        }
        let mut silent = Vec::new();
        for (host, peer) in &mut self.links.peers {
            if peer.heard + silence <= now {
                silent.push(*host);
            } else if peer.next_beat <= now {
                peer.next_beat = (peer.next_beat + every).max(now + every / 2);
                self.out.push_back(beat(Node::Host(*host), peer.id, now));
            }
        }
        for host in silent {
            self.lose_peer(host, now);
        }
    }

    /// Sends a vote to a voter, if it can be reached: what is not repeated until it is answered, over the connection too.
    pub(super) fn vote(&mut self, to: Node, vote: lease::Message) {
        let id = match to {
            Node::Scs => self.links.scs_up(),
            Node::Host(host) => self.links.peer(host),
        };
        let Some(of) = id else { return };
        let datagram = Datagram::Sealed { of, beat: None, lease: vec![vote] };
        self.out.push_back(Effect::Datagram(to, datagram));
        if let lease::Body::Release { .. } = vote.body {
            self.out.push_back(match to {
                Node::Scs => Effect::Send(of, FromAgent::Votes(vec![vote])),
                Node::Host(_) => Effect::SendVotes(of, vec![vote]),
            });
        }
    }
}

fn beat(to: Node, of: ConnectionId, now: Micros) -> Effect {
    Effect::Datagram(to, Datagram::Sealed { of, beat: Some(Beat { at: now }), lease: Vec::new() })
}
