//! Traffic between machines: datagrams and segments on their way and at their goal, connections being made.

use super::{DIAL_LIMIT_US, Delivery, Event, World, processes};
use crate::agent;
use crate::message::{ConnectionId, Datagram, Node, Segment};
use crate::network::Arrived;
use crate::process::Told;
use crate::scenario::{Breakage, Moment};
use crate::scs;
use domain::AppName;
use lease::{Body, Message};

impl World {
    pub(super) fn send_datagram(&mut self, from: Node, to: Node, datagram: Datagram) {
        let arrivals = self.network.datagram(from, to, self.now);
        let [first, again] = arrivals;
        if let Some(at) = again {
            self.at(at, Event::Datagram { from, to, datagram: datagram.clone() });
        }
        if let Some(at) = first {
            self.at(at, Event::Datagram { from, to, datagram });
        }
    }

    pub(super) fn send_segment(&mut self, id: ConnectionId, from: Node, segment: Segment) {
        if let Some((end, at)) = self.network.send(id, from, segment, self.now) {
            self.at(at, Event::Segment(id, end));
        }
    }

    pub(super) fn datagram_arrives(&mut self, from: Node, to: Node, mut datagram: Datagram) {
        if !self.powered(to) {
            return;
        }
        match (&mut datagram, to) {
            (Datagram::Probe, Node::Host(host)) => {
                return self.send_datagram(to, from, Datagram::ProbeAnswer { host });
            }
            (Datagram::Probe, Node::Scs) => return,
            (Datagram::ProbeAnswer { .. }, _) => {}
            (Datagram::Sealed { of, lease, .. }, _) => {
                let of = *of;
                if self.scenario.breakage.is_some() {
                    self.break_votes(from, to, of, lease);
                }
            }
        }
        let delivery = match to {
            Node::Scs => Delivery::Scs(scs::Event::Datagram(datagram)),
            Node::Host(_) => Delivery::Agent(agent::Event::Datagram(datagram)),
        };
        self.deliver(to, delivery);
    }

    /// Undoes a rule of the lease on its way, to see whether anybody notices.
    fn break_votes(&mut self, from: Node, to: Node, of: ConnectionId, votes: &mut [Message]) {
        for vote in votes {
            match vote.body {
                Body::Ask { epoch, at, kind: lease::Kind::Hold { .. }, .. }
                    if to == Node::Scs && self.broken(Breakage::PromiseDoubled) =>
                {
                    let promise = Message { pair: vote.pair, body: Body::Promise { epoch, at } };
                    let datagram = Datagram::Sealed { of, beat: None, lease: vec![promise] };
                    self.send_datagram(Node::Scs, from, datagram);
                }
                Body::Promise { epoch, .. } if self.broken(Breakage::AnchoredAtArrival) => {
                    vote.body = Body::Promise { epoch, at: self.local(to) };
                }
                Body::Ask { .. } | Body::Promise { .. } | Body::Reject { .. } | Body::Release { .. } => {}
            }
        }
    }

    pub(super) fn segment_arrives(&mut self, id: ConnectionId, end: usize) {
        match self.network.arrive(id, end) {
            Arrived::At(node, segment) => {
                if let (Node::Host(_), Segment::ToAgent(message)) = (node, &segment) {
                    self.say(|| format!("{node} <- {message}"));
                } else if let Segment::FromAgent(message) = &segment {
                    let from = self.network.peer(id, node);
                    self.say(|| {
                        format!("scs <- {}: {message}", from.map_or(String::new(), |n| n.to_string()))
                    });
                }
                let delivery = match node {
                    Node::Scs => Delivery::Scs(scs::Event::Segment(id, segment)),
                    Node::Host(_) => Delivery::Agent(agent::Event::Segment(id, segment)),
                };
                self.deliver(node, delivery);
            }
            Arrived::Refused(node) => {
                if self.powered(node) {
                    self.send_segment(id, node, Segment::Closed);
                }
            }
            Arrived::Nowhere => {}
        }
    }

    pub(super) fn dial(&mut self, host: usize, run: u64, to: Node) {
        if self.hosts[host].run != run {
            return;
        }
        let from = Node::Host(host);
        let listens = self.is_running(to);
        let answers = !self.desks[to.index()].stalled && self.powered(to);
        match self.network.dial(from, to, self.now).filter(|_| answers) {
            Some(at) => self.at(at, Event::Dialled { host, run, to, reached: listens }),
            None => self.after(DIAL_LIMIT_US, Event::Dialled { host, run, to, reached: false }),
        }
    }

    pub(super) fn dialled(&mut self, host: usize, run: u64, to: Node, reached: bool) {
        let from = Node::Host(host);
        if self.hosts[host].run != run {
            return;
        }
        if !reached || !self.is_running(to) {
            return self.deliver(from, Delivery::Agent(agent::Event::NotLinked(to)));
        }
        let id = self.network.connect(from, to, self.now);
        match to {
            Node::Scs => {
                self.moment(Moment::Connected);
                self.deliver(to, Delivery::Scs(scs::Event::Linked(id)));
            }
            Node::Host(_) => self.deliver(to, Delivery::Agent(agent::Event::Linked(from, id))),
        }
        self.deliver(from, Delivery::Agent(agent::Event::Linked(to, id)));
    }

    pub(super) fn tell_process(&mut self, host: usize, app: &AppName, told: Told) {
        let delay = self.random.between(10..=60);
        let at = self.hosts[host].on_socket(app, 0, self.now + delay);
        if let Some(pid) = self.hosts[host].processes.get(app).map(|process| process.pid) {
            let does = processes::Does::Hears(told);
            self.at(at, Event::Process { host, app: app.clone(), pid, does });
        }
    }
}
