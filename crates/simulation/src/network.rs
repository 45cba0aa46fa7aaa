//! The network: a link in each direction between any two machines, with delay, loss, doubling and cuts; connections that
//! keep their order, hold back what a cut holds up, and break.

use crate::clock::TrueTime;
use crate::message::{ConnectionId, Node, Segment};
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};

/// How a kernel repeats what was not acknowledged, first time (TCP's least retransmission time-out, 200 ms on Linux).
const RETRANSMIT_US: u64 = 200_000;

/// How a link treats packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Least and greatest delay, microseconds. What differs by more than packets are apart changes their order.
    pub delay_us: (u64, u64),
    /// Packets lost of 1,000.
    pub lost: u64,
    /// Packets that arrive twice, of 1,000.
    pub doubled: u64,
}

impl Weather {
    /// A wire on a quiet day.
    pub const FAIR: Weather = Weather { delay_us: (60, 180), lost: 0, doubled: 0 };
}

#[derive(Debug)]
struct Link {
    weather: Weather,
    cut: bool,
}

#[derive(Debug)]
pub(crate) struct Network {
    machines: usize,
    links: Vec<Link>,
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    random: Random,
    /// Packets lost and doubled so far.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
}

/// An end is a process on a machine; `ends[0]` dialled.
#[derive(Debug)]
struct Connection {
    ends: [Node; 2],
    open: [bool; 2],
    /// Towards each end: on its way in this order, and held back by a cut.
    flight: [VecDeque<Segment>; 2],
    held: [VecDeque<Segment>; 2],
    last: [TrueTime; 2],
}

/// When something arrives.
pub(crate) type Arrival = Option<TrueTime>;

impl Network {
    pub(crate) fn new(machines: usize, weather: Weather, random: Random) -> Self {
        let links = (0..machines * machines).map(|_| Link { weather, cut: false }).collect();
        Self { machines, links, connections: BTreeMap::new(), next: 0, random, lost: 0, doubled: 0 }
    }

    fn link(&mut self, from: Node, to: Node) -> &mut Link {
        let place = from.index() * self.machines + to.index();
        &mut self.links[place]
    }

    pub(crate) fn is_cut(&self, from: Node, to: Node) -> bool {
        self.links[from.index() * self.machines + to.index()].cut
    }

    pub(crate) fn set_weather(&mut self, from: Node, to: Node, weather: Weather) {
        self.link(from, to).weather = weather;
    }

    /// Cuts or heals one direction. What was held back comes now: the times of its arrival, a connection's end each.
    pub(crate) fn set_cut(
        &mut self,
        (from, to): (Node, Node),
        cut: bool,
        now: TrueTime,
    ) -> Vec<(ConnectionId, usize, TrueTime)> {
        self.link(from, to).cut = cut;
        let mut arrivals = Vec::new();
        if cut {
            return arrivals;
        }
        let waiting: Vec<_> = self
            .connections
            .iter()
            .flat_map(|(id, connection)| [0, 1].map(|end| (*id, end, connection)))
            .filter(|(_, end, connection)| connection.ends[*end] == to && connection.ends[1 - end] == from)
            .filter(|(_, end, connection)| !connection.held[*end].is_empty())
            .map(|(id, end, _)| (id, end))
            .collect();
        for (id, end) in waiting {
            // The next repetition gets through; how long that takes depends on how often it was in vain.
            let delay = self.delay(from, to) + self.random.below(2 * RETRANSMIT_US);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let at = connection.last[end].max(now + delay);
            connection.last[end] = at;
            let held = std::mem::take(&mut connection.held[end]);
            arrivals.extend(held.iter().map(|_| (id, end, at)));
            connection.flight[end].extend(held);
        }
        arrivals
    }

    fn delay(&mut self, from: Node, to: Node) -> u64 {
        let (least, most) = self.link(from, to).weather.delay_us;
        self.random.between(least..=most)
    }

    /// When a datagram arrives, and when it arrives again.
    pub(crate) fn datagram(&mut self, from: Node, to: Node, now: TrueTime) -> [Arrival; 2] {
        let Link { weather, cut } = *self.link(from, to);
        if cut {
            return [None, None];
        }
        if self.random.per_mille(weather.lost) {
            self.lost += 1;
            return [None, None];
        }
        let first = now + self.delay(from, to);
        if self.random.per_mille(weather.doubled) {
            self.doubled += 1;
            return [Some(first), Some(now + self.delay(from, to))];
        }
        [Some(first), None]
    }

    /// Whether a connection attempt gets through both ways, and when it is done: two round trips, with the handshake.
    pub(crate) fn dial(&mut self, from: Node, to: Node, now: TrueTime) -> Arrival {
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return None;
        }
        let trips = [(from, to), (to, from), (from, to), (to, from)];
        Some(trips.iter().fold(now, |at, (from, to)| at + self.delay(*from, *to)))
    }

    pub(crate) fn connect(&mut self, dialled: Node, accepted: Node, now: TrueTime) -> ConnectionId {
        self.next += 1;
        let id = ConnectionId(self.next);
        let connection = Connection {
            ends: [dialled, accepted],
            open: [true; 2],
            flight: Default::default(),
            held: Default::default(),
            last: [now; 2],
        };
        self.connections.insert(id, connection);
        id
    }

    /// The other end's machine.
    pub(crate) fn peer(&self, id: ConnectionId, own: Node) -> Option<Node> {
        let connection = self.connections.get(&id)?;
        Some(connection.ends[1 - connection.end_of(own)])
    }

    /// Sends over a connection: to which end, and when it arrives. `None`: a cut holds it back, or nobody is there.
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        from: Node,
        segment: Segment,
        now: TrueTime,
    ) -> Option<(usize, TrueTime)> {
        let connection = self.connections.get(&id)?;
        let end = 1 - connection.end_of(from);
        let to = connection.ends[end];
        if self.is_cut(from, to) || !connection.held[end].is_empty() {
            self.connections.get_mut(&id)?.held[end].push_back(segment);
            return None;
        }
        let lost = self.link(from, to).weather.lost;
        let again = if self.random.per_mille(lost) { RETRANSMIT_US } else { 0 };
        let at = now + self.delay(from, to) + again;
        let connection = self.connections.get_mut(&id)?;
        let at = connection.last[end].max(at);
        connection.last[end] = at;
        connection.flight[end].push_back(segment);
        Some((end, at))
    }

    /// The next segment arrives at an end: who gets it. Where that end is closed, its kernel says so to the other one.
    pub(crate) fn arrive(&mut self, id: ConnectionId, end: usize) -> Arrived {
        let Some(connection) = self.connections.get_mut(&id) else { return Arrived::Nowhere };
        let Some(segment) = connection.flight[end].pop_front() else { return Arrived::Nowhere };
        let arrived = match (connection.open[end], &segment) {
            (true, _) => Arrived::At(connection.ends[end], segment),
            (false, Segment::Closed) => Arrived::Nowhere,
            (false, Segment::FromAgent(_) | Segment::ToAgent(_) | Segment::Votes(_)) => {
                Arrived::Refused(connection.ends[end])
            }
        };
        self.forget_if_done(id);
        arrived
    }

    /// One end is closed by its process, or with it: the other one is to be told by [`Network::send`] of
    /// [`Segment::Closed`], unless the whole machine is gone.
    pub(crate) fn close(&mut self, id: ConnectionId, own: Node) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let end = connection.end_of(own);
            connection.open[end] = false;
        }
        self.forget_if_done(id);
    }

    /// A machine lost its power: what it still had to send is gone with it.
    pub(crate) fn power_off(&mut self, node: Node) {
        let gone: Vec<ConnectionId> = self.connections_of(node);
        for id in gone {
            if let Some(connection) = self.connections.get_mut(&id) {
                let end = connection.end_of(node);
                connection.open[end] = false;
                connection.held[1 - end].clear();
            }
        }
    }

    /// The connections whose end at this machine is open.
    pub(crate) fn connections_of(&self, node: Node) -> Vec<ConnectionId> {
        let open = |connection: &Connection| {
            connection.ends.contains(&node) && connection.open[connection.end_of(node)]
        };
        self.connections.iter().filter(|(_, connection)| open(connection)).map(|(id, _)| *id).collect()
    }

    fn forget_if_done(&mut self, id: ConnectionId) {
        let done = |connection: &Connection| {
            connection.open == [false; 2]
                && connection.flight.iter().chain(&connection.held).all(VecDeque::is_empty)
        };
        if self.connections.get(&id).is_some_and(done) {
            self.connections.remove(&id);
        }
    }
}

/// Where a segment came to.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// At this machine's process.
    At(Node, Segment),
    /// This machine has nobody for it.
    Refused(Node),
    /// It does not matter any more.
    Nowhere,
}

impl Connection {
    fn end_of(&self, node: Node) -> usize {
        usize::from(self.ends[1] == node)
    }
}
