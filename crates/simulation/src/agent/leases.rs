//! Leases in the agent's driver: a keeper per pair, told what the server is, what voters say, and whether the SCS is there;
//! its acts become deeds, in order.

use super::{Agent, Effect};
use crate::due::Due;
use crate::host::Gate;
use crate::message::{FromAgent, Node};
use domain::{
    AppName, Epoch, Fact, GateReport, Launch, LaunchOutcome, LaunchWhat, LeaseReport, LogEvent, Member,
    Micros, PairName, RefId, RunMode, TakenOver, VipControl, VipVerb, events,
};
use lca_core::keeper::{Act, Keeper, Reason, Server};
use lca_core::supervisor::Input;
use lease::{Memory, Message, PairId, Seat, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// References of what the agent decides itself: the SCS never gets there.
const OWN_REFS: u64 = 1 << 52;
/// How long a script may run that the agent launches by itself.
const OWN_LAUNCH_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether how the leases stand has changed.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How the leases stand is told at least this often.
const TELL_ALL_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked for VIPs that are missing, beside when something happened.
const TEND_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Kept {
    me: Member,
    other_host: usize,
    id: PairId,
    app: AppName,
    keeper: Keeper,
    /// Launches that are done when the gate is open, and until when they wait for that.
    waiting: Vec<(Box<Launch>, Micros)>,
}

impl Kept {
    fn next_deadline(&self) -> Option<Micros> {
        let waiting = self.waiting.iter().map(|(_, limit)| *limit).min();
        [self.keeper.next_deadline(), waiting].into_iter().flatten().min()
    }
}

/// The keepers.
#[derive(Debug)]
pub(super) struct Leases {
    kept: BTreeMap<PairName, Due<Kept>>,
    memory: BTreeMap<PairId, Memory>,
    /// What each gate refused when the agent started.
    fenced: BTreeMap<PairName, Epoch>,
    own_refs: u64,
    /// Roles taken without an SCS whose lease is still to be won.
    taking: BTreeMap<PairName, TakenOver>,
    /// When it is looked next, without an SCS, whether VIPs are missing.
    tend_at: Micros,
    scs_reached: bool,
    carrier: bool,
    acts: Vec<Act>,
    told: Vec<LeaseReport>,
    told_at: Micros,
    tell_at: Micros,
    /// Something is to be kept for the next run.
    changed: bool,
}

impl Leases {
    pub(super) fn new(memory: BTreeMap<PairId, Memory>, gates: &BTreeMap<PairName, Gate>) -> Self {
        let fenced = |gate: &Gate| Epoch(gate.fence.0.saturating_sub(1));
        Self {
            fenced: gates.iter().map(|(pair, gate)| (pair.clone(), fenced(gate))).collect(),
            kept: BTreeMap::new(),
            memory,
            own_refs: OWN_REFS,
            taking: BTreeMap::new(),
            tend_at: Micros(0),
            scs_reached: false,
            carrier: true,
            acts: Vec::new(),
            told: Vec::new(),
            told_at: Micros(0),
            tell_at: Micros(0),
            changed: false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Micros> {
        let kept = self.kept.values().filter_map(|kept| kept.at(Kept::next_deadline));
        let look = if self.scs_reached { self.tell_at } else { self.tend_at };
        kept.chain((!self.kept.is_empty()).then_some(look)).min()
    }

    fn holds(&self, pair: &PairName, now: Micros) -> bool {
        let held = self.kept.get(pair).and_then(|kept| kept.keeper.machine().held());
        held.is_some_and(|(_, until)| now < until)
    }

    fn own_ref(&mut self) -> RefId {
        self.own_refs += 1;
        RefId(self.own_refs)
    }

    /// Whether there is something to remember.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// What has to be in shared memory before anything is done.
    pub(super) fn remember(&mut self, memory: &mut BTreeMap<PairId, Memory>) {
        self.changed = false;
        for kept in self.kept.values() {
            memory.insert(kept.id, kept.keeper.machine().memory());
        }
    }

    pub(super) fn backing(&self, pair: &PairName, now: Micros) -> Option<usize> {
        let machine = self.kept.get(pair)?.keeper.machine();
        machine.held().map(|_| machine.backing(now))
    }

    pub(super) fn tend_soon(&mut self, now: Micros) {
        self.tend_at = now;
    }

    /// An SCS orders the application's run mode.
    pub(super) fn decided_by_scs(&mut self, app: &AppName) {
        self.taking.retain(|_, taking| taking.app != *app);
    }

    pub(super) fn tell_soon(&mut self, now: Micros) {
        self.tell_at = now;
    }

    /// Whether a launch of this reference waits for a gate.
    pub(super) fn has_waiting(&self, ref_id: RefId) -> bool {
        self.kept.values().flat_map(|kept| &kept.waiting).any(|(launch, _)| launch.ref_id == ref_id)
    }
}

impl Agent {
    pub(super) fn configure_leases(&mut self, now: Micros) {
        let (whole, hosts) = (self.identity.whole.clone(), self.identity.hosts.clone());
        let cluster = self.cluster.clone();
        for (name, pair) in &cluster.pairs {
            let host = |member| whole.host_of(pair.app(member));
            let me =
                [Member::First, Member::Second].into_iter().find(|m| host(*m) == Some(&self.identity.host));
            let Some(me) = me.filter(|_| !self.leases.kept.contains_key(name)) else { continue };
            let other = host(me.other()).expect("both members are configured");
            let other_host = hosts.iter().position(|host| host == other).expect("the world has every host");
            let (id, timing) = (PairId::of(name), Timing::from(pair.profile));
            let leases = &mut *self.leases;
            let memory = leases.memory.get(&id);
            let mut keeper = Keeper::new(me, timing, memory, now, &mut leases.acts);
            if let Some(epoch) = self.leases.fenced.get(name) {
                keeper.fenced_off(*epoch);
            }
            keeper.peer_heard(self.links.peer(other_host).is_some(), now, &mut self.leases.acts);
            let app = pair.app(me).clone();
            let kept = Due::new(Kept { me, other_host, id, app, keeper, waiting: Vec::new() });
            self.leases.kept.insert(name.clone(), kept);
            self.leases.changed = true;
            self.act(name, now);
        }
    }

    /// What a pair's server is by now goes to its keeper. Called before the world learns of a change, so that the gate is
    /// closed first.
    pub(super) fn see_to_lease(&mut self, app: &AppName, now: Micros) {
        let kept = self.leases.kept.iter().find(|(_, kept)| kept.app == *app);
        let Some(pair) = kept.map(|(pair, _)| pair.clone()) else { return };
        let Some(controlled) = self.apps.get(app).filter(|controlled| controlled.looked_for) else { return };
        let supervised = &controlled.supervised;
        let removed = supervised.is_removed();
        let server = if removed { Server::Absent { by_order: true } } else { supervised.server() };
        let seen = supervised.greatest_epoch();
        self.with_keeper(&pair, now, |keeper, acts| {
            keeper.saw(seen);
            keeper.server(server, now, acts);
        });
    }

    /// The end of a round: what the keepers have not been told by a step of an application.
    pub(super) fn see_to_links(&mut self, now: Micros) {
        let (reached, carrier) = (self.links.scs_up().is_some(), self.vips.has_carrier());
        let changed = (reached != self.leases.scs_reached, carrier != self.leases.carrier);
        if changed == (false, false) {
            return;
        }
        (self.leases.scs_reached, self.leases.carrier) = (reached, carrier);
        if changed.0 {
            self.leases.tell_at = now;
            self.leases.told.clear();
            self.leases.tend_at = now;
        }
        let pairs: Vec<PairName> = self.leases.kept.keys().cloned().collect();
        for pair in pairs {
            if changed.0 {
                self.with_keeper(&pair, now, |keeper, acts| keeper.scs_reached(reached, now, acts));
            }
            if changed.1 {
                self.with_keeper(&pair, now, |keeper, acts| keeper.carrier(carrier, now, acts));
            }
        }
    }

    /// The agent of another host is heard, or no longer.
    pub(super) fn peer_heard(&mut self, host: usize, heard: bool, now: Micros) {
        let with_it = self.leases.kept.iter().filter(|(_, kept)| kept.other_host == host);
        let pairs: Vec<PairName> = with_it.map(|(pair, _)| pair.clone()).collect();
        for pair in pairs {
            self.with_keeper(&pair, now, |keeper, acts| keeper.peer_heard(heard, now, acts));
        }
    }

    pub(super) fn leases_time_passed(&mut self, now: Micros) {
        let is_due = |kept: &Due<Kept>| kept.at(Kept::next_deadline).is_some_and(|at| at <= now);
        let due = self.leases.kept.iter().filter(|(_, kept)| is_due(kept));
        let due: Vec<PairName> = due.map(|(pair, _)| pair.clone()).collect();
        for pair in &due {
            if self.leases.kept[pair].keeper.next_deadline().is_some_and(|at| at <= now) {
                self.with_keeper(pair, now, |keeper, acts| keeper.time_passed(now, acts));
            }
        }
        let mut late = Vec::new();
        for pair in &due {
            if let Some(kept) = self.leases.kept.get_mut(pair) {
                late.extend(kept.waiting.extract_if(.., |(_, limit)| *limit <= now));
            }
        }
        for (launch, _) in late {
            let why = "the lease on the VIP was not won in time".to_owned();
            self.launch_ended(&launch, LaunchOutcome::Failed { why }, now);
        }
        self.tend(now);
        self.tell_leases(now);
    }

    pub(super) fn heard_votes(&mut self, from: Node, messages: &[Message], now: Micros) {
        for message in messages {
            let kept = self.leases.kept.iter().find(|(_, kept)| kept.id == message.pair);
            let Some((pair, kept)) = kept else { continue };
            let seat = match from {
                Node::Scs => Seat::Scs,
                Node::Host(host) if host == kept.other_host => Seat::Member(kept.me.other()),
                Node::Host(_) => continue,
            };
            let (pair, body) = (pair.clone(), message.body);
            self.with_keeper(&pair, now, |keeper, acts| keeper.hear(seat, body, now, acts));
        }
    }

    /// A VIP is to be enabled: at once where the lease is held, else as soon as it is.
    pub(super) fn park_unless_held(&mut self, launch: Box<Launch>, now: Micros) -> Option<Box<Launch>> {
        let pair = launch.pair.clone().filter(|pair| !self.leases.holds(pair, now));
        let Some(kept) = pair.and_then(|pair| self.leases.kept.get_mut(&pair)) else { return Some(launch) };
        let limit = now + launch.time_limit;
        kept.waiting.push((launch, limit));
        None
    }

    fn with_keeper(&mut self, pair: &PairName, now: Micros, call: impl FnOnce(&mut Keeper, &mut Vec<Act>)) {
        let Leases { kept, acts, changed, .. } = &mut *self.leases;
        if let Some(kept) = kept.get_mut(pair) {
            *changed = true;
            call(&mut kept.keeper, acts);
            self.act(pair, now);
        }
    }

    fn act(&mut self, pair: &PairName, now: Micros) {
        for act in std::mem::take(&mut self.leases.acts) {
            match act {
                Act::Send(seat, body) => self.send_vote(pair, seat, body),
                Act::Open { epoch, until } => {
                    self.out.push_back(Effect::OpenGate { pair: pair.clone(), epoch, until });
                }
                Act::Close { epoch } => {
                    self.out.push_back(Effect::CloseGate { pair: pair.clone(), epoch });
                    self.taken.remove(pair);
                    self.leases.taking.remove(pair);
                }
                Act::Won { epoch } => self.won(pair, epoch, now),
                Act::Lost { epoch } => {
                    let event = LogEvent::new(events::LEASE_LOST, now).on(&self.identity.host).because(pair);
                    self.report(Fact::Log(event.with("pair", pair).with("epoch", epoch)), now);
                }
                Act::PeerFailed { epoch } => {
                    let kept = &self.leases.kept[pair];
                    let app = self.cluster.pairs[pair].app(kept.me.other()).clone();
                    self.report(Fact::LeaseLetGo { pair: pair.clone(), app, epoch }, now);
                }
                Act::TakeOver { epoch, why } => self.take_over(pair, epoch, why, now),
                Act::StepDown { epoch } => self.decide_mode(pair, RunMode::Backup, epoch),
            }
        }
    }

    /// The gate is open: what waited for it is judged again and done.
    fn won(&mut self, pair: &PairName, epoch: Epoch, now: Micros) {
        let Some(kept) = self.leases.kept.get_mut(pair).filter(|kept| kept.keeper.machine().held().is_some())
        else {
            return;
        };
        for (launch, _) in std::mem::take(&mut kept.waiting) {
            self.launch_now(launch, now);
        }
        self.enable_missing(pair, now);
        if let Some(taking) = self.leases.taking.remove(pair) {
            self.taken.insert(pair.clone(), TakenOver { epoch, ..taking });
            self.tell_again();
        }
    }

    fn send_vote(&mut self, pair: &PairName, seat: Seat, body: lease::Body) {
        let kept = &self.leases.kept[pair];
        let to = match seat {
            Seat::Scs => Node::Scs,
            Seat::Member(_) => Node::Host(kept.other_host),
        };
        let message = Message { pair: kept.id, body };
        self.vote(to, message);
    }

    fn take_over(&mut self, pair: &PairName, epoch: Epoch, why: Reason, now: Micros) {
        let why = match why {
            Reason::PeerFailed { epoch } => format!("the peer let go of epoch {epoch}: its server failed"),
            Reason::BackAgain => "the server here is back, and nobody else took over".to_owned(),
        };
        let kept = &self.leases.kept[pair];
        let taken = TakenOver { pair: pair.clone(), app: kept.app.clone(), epoch, at: now, why };
        self.leases.taking.insert(pair.clone(), taken);
        self.decide_mode(pair, RunMode::Primary, epoch);
    }

    /// A run mode of the agent's own decision; an input of the supervisor like any other.
    fn decide_mode(&mut self, pair: &PairName, mode: RunMode, epoch: Epoch) {
        let ref_id = self.leases.own_ref();
        let app = self.leases.kept[pair].app.clone();
        self.dirty = true;
        self.inbox.push_back((app, Input::RunModeOrdered { ref_id, mode, epoch }));
    }

    /// Without an SCS: enables what is missing.
    fn tend(&mut self, now: Micros) {
        if self.links.scs_up().is_some() || now < self.leases.tend_at {
            return;
        }
        self.leases.tend_at = now + TEND_EVERY;
        let pairs: Vec<PairName> = self.leases.kept.keys().cloned().collect();
        for pair in pairs {
            if self.leases.holds(&pair, now) {
                self.enable_missing(&pair, now);
            }
        }
    }

    /// Enables the VIPs of a pair that nobody has enabled, as its reactions would.
    fn enable_missing(&mut self, name: &PairName, now: Micros) {
        let app = self.leases.kept[name].app.clone();
        let Server::Primary { granted: epoch } = self.leases.kept[name].keeper.server_is() else { return };
        let Some(controlled) = self.apps.get(&app) else { return };
        let supervised = &controlled.supervised;
        let (seen, confirmed) = (supervised.greatest_epoch(), supervised.is_primary());
        if self.links.scs_up().is_some() || self.unsettled.contains(name) || seen > epoch {
            return;
        }
        for vip in self.cluster.pairs[name].vips.clone() {
            let by_script = vip.control != VipControl::BuiltIn;
            let waits = self.launches.last_waiting(&vip.address) == Some(VipVerb::Enable);
            if !self.vips.is_missing(&vip.address, epoch) || by_script && (!confirmed || waits) {
                continue;
            }
            let Some(interface) = vip.interfaces.get(&self.identity.host).cloned() else { continue };
            let script = match vip.control {
                VipControl::BuiltIn => None,
                VipControl::Script(script) => Some(script),
            };
            let launch = Launch {
                ref_id: self.leases.own_ref(),
                what: LaunchWhat::VipControl { verb: VipVerb::Enable, vip: vip.address, interface, script },
                pair: Some(name.clone()),
                app: Some(app.clone()),
                mode: Some(RunMode::Primary),
                epoch,
                event: None,
                alarm: String::new(),
                time_limit: OWN_LAUNCH_LIMIT,
            };
            self.launch_ready(Box::new(launch), now);
        }
    }

    /// Tells the SCS how the leases stand, when that changed, and now and then.
    fn tell_leases(&mut self, now: Micros) {
        let Some(id) = self.links.scs_up().filter(|_| self.leases.tell_at <= now) else { return };
        self.leases.tell_at = now + TELL_EVERY;
        if !self.up_to_date {
            return;
        }
        let reports: Vec<LeaseReport> =
            self.leases.kept.iter().map(|(pair, kept)| kept.report(pair, now)).collect();
        let old = self.leases.told_at + TELL_ALL_EVERY <= now;
        let known = |one: &LeaseReport| self.leases.told.contains(&LeaseReport { left_us: 0, ..one.clone() });
        if old || !reports.iter().all(known) {
            self.leases.told = reports.iter().map(|one| LeaseReport { left_us: 0, ..one.clone() }).collect();
            self.leases.told_at = now;
            self.out.push_back(Effect::Send(id, FromAgent::Leases(reports)));
        }
    }
}

impl Kept {
    fn report(&self, pair: &PairName, now: Micros) -> LeaseReport {
        let machine = self.keeper.machine();
        let held = machine.held().filter(|(_, until)| *until > now);
        LeaseReport {
            pair: pair.clone(),
            held: held.map(|(epoch, _)| epoch),
            left_us: held.map_or(0, |(_, until)| u64::try_from(until.since(now).as_micros()).unwrap_or(0)),
            backing: u8::try_from(machine.backing(now)).unwrap_or(u8::MAX),
            gate: GateReport::Kernel,
        }
    }
}
