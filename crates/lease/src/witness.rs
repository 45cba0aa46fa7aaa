//! The SCS's seat, for all pairs: it votes and never holds.

use crate::{Body, Entitled, Machine, Message, Output, PairId, Seat, Timing, Why};
use domain::{Cluster, Epoch, HostName, Member, Micros, PairName};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the witness wants done, or has learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witnessed {
    /// Send this to the agent of this member's host. Lost is lost.
    Vote(Member, Message),
    /// A member let go of its lease.
    Released {
        /// The pair.
        pair: PairId,
        /// Who.
        by: Member,
        /// Up to this epoch.
        epoch: Epoch,
        /// Why.
        why: Why,
    },
}

/// What is on record for a pair, whose voter may have lost its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The greatest epoch.
    pub seen: Epoch,
    /// How long a promise may count that was given at the last moment.
    pub promise: Duration,
}

/// The SCS's voters.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    pairs: BTreeMap<PairId, Seated>,
    /// No pair has something to do before; one that was renewed since has it later. So that not every message costs a
    /// look at all pairs.
    not_before: Option<Micros>,
    outputs: Vec<Output>,
}

#[derive(Debug, Clone)]
struct Seated {
    name: PairName,
    hosts: [HostName; 2],
    machine: Machine,
}

impl Witness {
    /// Takes the configured pairs. A pair that is new, or on other hosts, begins without memory (R4); `record` says what is
    /// on record for it.
    pub fn configure(&mut self, cluster: &Cluster, record: impl Fn(&PairName) -> Recorded, now: Micros) {
        let mut pairs = BTreeMap::new();
        for (name, pair) in &cluster.pairs {
            let host = |member| cluster.host_of(pair.app(member)).cloned();
            let (Some(first), Some(second)) = (host(Member::First), host(Member::Second)) else { continue };
            let (id, timing, hosts) = (PairId::of(name), Timing::from(pair.profile), [first, second]);
            let seated = match self.pairs.remove(&id) {
                Some(mut known) if known.hosts == hosts => {
                    known.machine.set_timing(timing);
                    known
                }
                before => {
                    // What was promised counts until it runs out: by the run before, for the hosts before.
                    let Recorded { seen, promise } = record(name);
                    let promised =
                        before.map_or(promise, |moved| moved.machine.timing().promise().max(promise));
                    let machine = Machine::new(Seat::Scs, timing, seen, now).quiet_for(promised, now);
                    Seated { name: name.clone(), hosts, machine }
                }
            };
            pairs.insert(id, seated);
        }
        self.pairs = pairs;
        self.look_at_all();
    }

    /// Takes in a message from a host's agent. What is not about a pair of that host is ignored.
    pub fn hear(&mut self, host: &HostName, message: &Message, now: Micros, out: &mut Vec<Witnessed>) {
        let Some(seated) = self.pairs.get_mut(&message.pair) else { return };
        let member = match seated.hosts.iter().position(|of| of == host) {
            Some(0) => Member::First,
            Some(_) => Member::Second,
            None => return,
        };
        seated.machine.hear(Seat::Member(member), message.body, now, &mut self.outputs);
        let due = seated.machine.next_deadline();
        tell(message.pair, &mut self.outputs, out);
        self.may_be_due(due);
    }

    /// Whom the core wants as holder of a pair's lease.
    pub fn entitle(&mut self, pair: &PairName, entitled: Entitled, now: Micros, out: &mut Vec<Witnessed>) {
        let id = PairId::of(pair);
        if let Some(seated) = self.pairs.get_mut(&id) {
            seated.machine.entitle(entitled, now, &mut self.outputs);
            let due = seated.machine.next_deadline();
            tell(id, &mut self.outputs, out);
            self.may_be_due(due);
        }
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Micros, out: &mut Vec<Witnessed>) {
        if self.not_before.is_none_or(|at| now < at) {
            return;
        }
        for (id, seated) in &mut self.pairs {
            if seated.machine.next_deadline().is_some_and(|at| at <= now) {
                seated.machine.time_passed(now, &mut self.outputs);
                tell(*id, &mut self.outputs, out);
            }
        }
        self.look_at_all();
    }

    /// When [`Witness::time_passed`] is to be called next. It may find nothing to do yet.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        debug_assert!(
            self.earliest().is_none_or(|at| self.not_before.is_some_and(|bound| bound <= at)),
            "a pair has something to do before that was not noticed"
        );
        self.not_before
    }

    fn look_at_all(&mut self) {
        self.not_before = self.earliest();
    }

    fn earliest(&self) -> Option<Micros> {
        self.pairs.values().filter_map(|seated| seated.machine.next_deadline()).min()
    }

    fn may_be_due(&mut self, at: Option<Micros>) {
        self.not_before = self.not_before.into_iter().chain(at).min();
    }

    /// The pair of this id.
    #[must_use]
    pub fn pair(&self, id: PairId) -> Option<&PairName> {
        self.pairs.get(&id).map(|seated| &seated.name)
    }

    /// The host of a pair's member.
    #[must_use]
    pub fn host(&self, pair: PairId, member: Member) -> Option<&HostName> {
        let [first, second] = &self.pairs.get(&pair)?.hosts;
        Some(match member {
            Member::First => first,
            Member::Second => second,
        })
    }

    /// The machine of a pair, to be looked at.
    #[must_use]
    pub fn machine(&self, pair: &PairName) -> Option<&Machine> {
        self.pairs.get(&PairId::of(pair)).map(|seated| &seated.machine)
    }
}

fn tell(pair: PairId, outputs: &mut Vec<Output>, out: &mut Vec<Witnessed>) {
    out.extend(outputs.drain(..).filter_map(|output| match output {
        Output::Send(Seat::Member(member), body) => Some(Witnessed::Vote(member, Message { pair, body })),
        Output::Released { by, epoch, why } => Some(Witnessed::Released { pair, by, epoch, why }),
        // The SCS holds nothing and talks to no other SCS.
        Output::Send(
            Seat::Scs,
            Body::Ask { .. } | Body::Promise { .. } | Body::Reject { .. } | Body::Release { .. },
        )
        | Output::Open { .. }
        | Output::Close { .. }
        | Output::Lost { .. }
        | Output::Outdated { .. } => None,
    }));
}
