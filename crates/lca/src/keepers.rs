//! The leases of this host's pairs on the real-time thread: what the keepers decide is remembered, then the gates are
//! written, then it is told, in this order and by this thread alone (R4, R5, R6).

use crate::gates::Gates;
use crate::lease_memory::{LeaseMemory, Remembered, SeatId, Slot};
use domain::{AppName, Cluster, Epoch, GateReport, HostName, Member, Micros, Pair, PairName, VipAddress};
use lca_core::keeper::{Act, Keeper, Reason, Server};
use lease::{Message, PairId, Seat, Timing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The leases.
#[derive(Debug)]
pub struct Keepers {
    host: HostName,
    kept: BTreeMap<PairName, Kept>,
    ids: BTreeMap<PairId, PairName>,
    memory: Option<LeaseMemory>,
    gates: Gates,
    scs_reached: bool,
    /// Hosts whose agents are heard.
    heard: BTreeSet<HostName>,
    acts: Vec<Act>,
}

#[derive(Debug)]
struct Kept {
    id: PairId,
    me: Member,
    app: AppName,
    peer: HostName,
    vips: Vec<VipAddress>,
    keeper: Keeper,
    slot: Option<Slot>,
}

/// Whom a message is for, or from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voter {
    /// The SCS.
    Scs,
    /// The agent of another host.
    Peer(HostName),
}

/// What the agent is to do beside what was done already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Send this.
    Vote(Voter, Message),
    /// The lease was won: the gate is open.
    Won(PairName, Epoch),
    /// The lease was not renewed in time: the gate has closed.
    Lost(PairName, Epoch),
    /// The lease was let go: the gate is closed.
    Closed(PairName),
    /// The peer's server failed.
    PeerFailed(PairName, Epoch),
    /// Make the application primary without an SCS.
    TakeOver {
        /// The pair.
        pair: PairName,
        /// Its member here.
        app: AppName,
        /// Under this epoch.
        epoch: Epoch,
        /// Why.
        why: Reason,
    },
    /// Make the application backup without an SCS.
    StepDown {
        /// Its member here.
        app: AppName,
        /// The newest epoch known of.
        epoch: Epoch,
    },
}

impl Keepers {
    /// Without pairs yet.
    #[must_use]
    pub fn new(host: &HostName, memory: Option<LeaseMemory>, gates: Gates) -> Self {
        Self {
            host: host.clone(),
            kept: BTreeMap::new(),
            ids: BTreeMap::new(),
            memory,
            gates,
            scs_reached: false,
            heard: BTreeSet::new(),
            acts: Vec::new(),
        }
    }

    /// The gates, to be looked at and looked after.
    pub fn gates(&mut self) -> &mut Gates {
        &mut self.gates
    }

    /// When the gates are to be looked at next.
    #[must_use]
    pub fn gate_deadline(&self) -> Option<Micros> {
        self.gates.next_deadline()
    }

    /// What enforces each pair's lease, in the order of [`Keepers::iter`].
    #[must_use]
    pub fn gate_reports(&self) -> Vec<GateReport> {
        self.kept.keys().map(|pair| crate::leases::gate_report(self.gates.missing(pair))).collect()
    }

    /// Takes the configured pairs of this host. One that is no longer configured is let go.
    pub fn configure(&mut self, cluster: &Cluster, now: Micros, out: &mut Vec<Wanted>) {
        let mut quiet = self.let_go_of_others(cluster, now, out);
        self.ids.clear();
        for (name, pair) in &cluster.pairs {
            let Some((me, peer)) = self.seats(cluster, pair) else { continue };
            let (id, timing, app) = (PairId::of(name), Timing::from(pair.profile), pair.app(me).clone());
            let vips = pair.vips.iter().filter(|vip| vip.interfaces.contains_key(&self.host));
            let vips: Vec<VipAddress> = vips.map(|vip| vip.address).collect();
            let mut kept = match self.kept.remove(name) {
                Some(mut known) => {
                    known.keeper.set_timing(timing);
                    (known.app, known.vips) = (app, vips);
                    known
                }
                None => {
                    let seat = SeatId::of(me, &self.host, &peer);
                    let found = self.memory.as_mut().and_then(|memory| memory.find(id, seat));
                    let (slot, memory, bound) = match found {
                        None => (None, None, None),
                        Some((slot, Remembered::Nothing)) => (Some(slot), None, None),
                        Some((slot, Remembered::Ours(memory))) => (Some(slot), Some(memory), None),
                        Some((slot, Remembered::OfAnotherSeat(memory))) => {
                            (Some(slot), None, memory.binds_until().map(|until| until.since(now)))
                        }
                    };
                    let mut keeper = Keeper::new(me, timing, memory.as_ref(), now, &mut self.acts);
                    if let Some(bound) = quiet.remove(name).max(bound) {
                        keeper = keeper.quiet_for(bound, now);
                    }
                    keeper.scs_reached(self.scs_reached, now, &mut self.acts);
                    keeper.peer_heard(self.heard.contains(&peer), now, &mut self.acts);
                    Kept { id, me, app, peer, vips, keeper, slot }
                }
            };
            self.gates.manage(name, pair, &self.host);
            if let Some(epoch) = self.gates.fenced_off(&kept.vips) {
                kept.keeper.fenced_off(epoch);
            }
            self.ids.insert(id, name.clone());
            self.kept.insert(name.clone(), kept);
            self.carry_out(name, out);
        }
    }

    /// Lets go of pairs that are no longer configured here, and of those whose members have changed places or hosts: what is
    /// remembered by seat would be taken for somebody else's. Returns for how long promises given in the latter count.
    fn let_go_of_others(
        &mut self,
        cluster: &Cluster,
        now: Micros,
        out: &mut Vec<Wanted>,
    ) -> BTreeMap<PairName, Duration> {
        let mut quiet = BTreeMap::new();
        let names: Vec<PairName> = self.kept.keys().cloned().collect();
        for name in names {
            let pair = cluster.pairs.get(&name);
            let seats = pair.and_then(|pair| self.seats(cluster, pair));
            let Some(kept) = self.kept.get_mut(&name) else { continue };
            if seats.as_ref().is_some_and(|(me, peer)| *me == kept.me && *peer == kept.peer) {
                continue;
            }
            kept.keeper.server(Server::Absent { by_order: true }, now, &mut self.acts);
            self.carry_out(&name, out);
            let Some(gone) = self.kept.remove(&name) else { continue };
            if seats.is_some() {
                let bound = gone.keeper.machine().memory().binds_until().map(|until| until.since(now));
                let promise = gone.keeper.machine().timing().promise();
                quiet.insert(name, promise.max(bound.unwrap_or_default()));
                continue;
            }
            self.gates.unmanage(&name);
            if let (Some(memory), Some(slot)) = (&mut self.memory, gone.slot) {
                memory.forget(slot);
            }
        }
        quiet
    }

    /// Which member of a pair is on this host, and on which host the other is; none: none is.
    fn seats(&self, cluster: &Cluster, pair: &Pair) -> Option<(Member, HostName)> {
        let here = |member: &Member| cluster.host_of(pair.app(*member)) == Some(&self.host);
        let me = [Member::First, Member::Second].into_iter().find(here)?;
        Some((me, cluster.host_of(pair.app(me.other()))?.clone()))
    }

    /// The application of a pair has seen this epoch, and refuses orders under smaller ones.
    pub fn saw(&mut self, pair: &PairName, epoch: Epoch) {
        if let Some(kept) = self.kept.get_mut(pair) {
            kept.keeper.saw(epoch);
        }
    }

    /// What the application of a pair is by now.
    pub fn server(&mut self, pair: &PairName, server: Server, now: Micros, out: &mut Vec<Wanted>) {
        let server = match server {
            Server::Primary { .. } | Server::Broken { .. } | Server::Ready if !self.gates.may_hold(pair) => {
                Server::Absent { by_order: true }
            }
            Server::Unknown
            | Server::Absent { .. }
            | Server::Ready
            | Server::Primary { .. }
            | Server::Broken { .. } => server,
        };
        self.with(pair, out, |keeper, acts| keeper.server(server, now, acts));
    }

    /// What the application of a pair is, as its keeper has it; none: the pair has no member here.
    #[must_use]
    pub fn server_is(&self, pair: &PairName) -> Option<Server> {
        self.kept.get(pair).map(|kept| kept.keeper.server_is())
    }

    /// The SCS is reached, or no longer.
    pub fn scs_reached(&mut self, reached: bool, now: Micros, out: &mut Vec<Wanted>) {
        self.scs_reached = reached;
        self.with_all(out, |keeper, acts| keeper.scs_reached(reached, now, acts));
    }

    /// The agent of a host is heard, or no longer.
    pub fn peer_heard(&mut self, host: &HostName, heard: bool, now: Micros, out: &mut Vec<Wanted>) {
        if heard {
            self.heard.insert(host.clone());
        } else {
            self.heard.remove(host);
        }
        let with_it = self.kept.iter().filter(|(_, kept)| kept.peer == *host);
        let pairs: Vec<PairName> = with_it.map(|(pair, _)| pair.clone()).collect();
        for pair in pairs {
            self.with(&pair, out, |keeper, acts| keeper.peer_heard(heard, now, acts));
        }
    }

    /// Whether the interfaces of a pair's VIPs have a carrier.
    pub fn carrier(&mut self, pair: &PairName, carrier: bool, now: Micros, out: &mut Vec<Wanted>) {
        self.with(pair, out, |keeper, acts| keeper.carrier(carrier, now, acts));
    }

    /// A voter says something. What is about no pair of this host, or from somebody who has no vote in it, is ignored.
    pub fn hear(&mut self, from: &Voter, message: &Message, now: Micros, out: &mut Vec<Wanted>) {
        let Some(name) = self.ids.get(&message.pair).cloned() else { return };
        let Some(kept) = self.kept.get(&name) else { return };
        let seat = match from {
            Voter::Scs => Seat::Scs,
            Voter::Peer(host) if *host == kept.peer => Seat::Member(kept.me.other()),
            Voter::Peer(_) => return,
        };
        self.with(&name, out, |keeper, acts| keeper.hear(seat, message.body, now, acts));
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Micros, out: &mut Vec<Wanted>) {
        let mut due = Vec::new();
        for (name, kept) in &self.kept {
            if kept.keeper.next_deadline().is_some_and(|at| at <= now) {
                due.push(name.clone());
            }
        }
        for name in due {
            self.with(&name, out, |keeper, acts| keeper.time_passed(now, acts));
        }
    }

    /// When [`Keepers::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        self.kept.values().filter_map(|kept| kept.keeper.next_deadline()).min()
    }

    /// Whether this host holds a pair's lease: its gate is open.
    #[must_use]
    pub fn holds(&self, pair: &PairName, now: Micros) -> bool {
        let held = self.kept.get(pair).and_then(|kept| kept.keeper.machine().held());
        held.is_some_and(|(_, until)| now < until)
    }

    /// The pairs, each with its keeper, for reports.
    pub fn iter(&self) -> impl Iterator<Item = (&PairName, &Keeper)> {
        self.kept.iter().map(|(name, kept)| (name, &kept.keeper))
    }

    fn with(
        &mut self,
        pair: &PairName,
        out: &mut Vec<Wanted>,
        input: impl FnOnce(&mut Keeper, &mut Vec<Act>),
    ) {
        if let Some(kept) = self.kept.get_mut(pair) {
            input(&mut kept.keeper, &mut self.acts);
            self.carry_out(pair, out);
        }
    }

    fn with_all(&mut self, out: &mut Vec<Wanted>, input: impl Fn(&mut Keeper, &mut Vec<Act>)) {
        let names: Vec<PairName> = self.kept.keys().cloned().collect();
        for name in names {
            self.with(&name, out, &input);
        }
    }

    /// Remembers, then acts.
    fn carry_out(&mut self, pair: &PairName, out: &mut Vec<Wanted>) {
        let Some(kept) = self.kept.get_mut(pair) else { return };
        if let (Some(memory), Some(slot)) = (&mut self.memory, &mut kept.slot) {
            memory.keep(slot, &kept.keeper.machine().memory());
        }
        for act in self.acts.drain(..) {
            match act {
                Act::Send(to, body) => {
                    let voter = match to {
                        Seat::Scs => Voter::Scs,
                        Seat::Member(_) => Voter::Peer(kept.peer.clone()),
                    };
                    out.push(Wanted::Vote(voter, Message { pair: kept.id, body }));
                }
                Act::Open { epoch, until } => self.gates.authorise(&kept.vips, epoch, until),
                Act::Close { epoch } => {
                    self.gates.close_and_fence(&kept.vips, epoch);
                    out.push(Wanted::Closed(pair.clone()));
                }
                Act::Won { epoch } => out.push(Wanted::Won(pair.clone(), epoch)),
                Act::Lost { epoch } => out.push(Wanted::Lost(pair.clone(), epoch)),
                Act::PeerFailed { epoch } => out.push(Wanted::PeerFailed(pair.clone(), epoch)),
                Act::TakeOver { epoch, why } => {
                    out.push(Wanted::TakeOver { pair: pair.clone(), app: kept.app.clone(), epoch, why });
                }
                Act::StepDown { epoch } => out.push(Wanted::StepDown { app: kept.app.clone(), epoch }),
            }
        }
    }
}
