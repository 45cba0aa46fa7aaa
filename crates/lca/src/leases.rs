//! The agent and its leases: what happens to servers, links and interfaces goes into the keepers, and what they want is
//! done here.

use crate::agent::Agent;
use crate::gates::Disturbed;
use crate::keepers::{Voter, Wanted};
use control_link::messages::{Fact, FromAgent};
use domain::{
    AppName, Epoch, GateReport, HostName, Launch, LaunchOutcome, LeaseReport, LogEvent, Micros, PairName,
    RunMode, TakenOver, events,
};
use lca_core::keeper::Server;
use lease::{Body, Message};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is looked whether how the leases stand has changed without anything having happened here.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How the leases stand is told at least this often.
const TELL_ALL_EVERY: Duration = Duration::from_secs(5);

/// What the agent keeps about its leases beside the keepers.
#[derive(Debug, Default)]
pub struct LeaseBook {
    /// To be sent at the end of the round.
    votes: Vec<(Voter, Message)>,
    /// VIPs to be enabled as soon as the lease is there, and until when that is waited for.
    parked: Vec<(Box<Launch>, Micros)>,
    /// Roles that this agent took while no SCS was there, under the epochs of their leases.
    pub(crate) taken: BTreeMap<PairName, TakenOver>,
    /// Those whose lease is still to be won: nobody hears of them.
    pub(crate) taking: BTreeMap<PairName, TakenOver>,
    /// Orders of the agent's own, given so far.
    pub(crate) own_refs: u64,
    /// When it is looked next, without an SCS, whether VIPs are missing.
    pub(crate) tend_at: Micros,
    pub(crate) tell_at: Micros,
    told: Vec<LeaseReport>,
    told_at: Micros,
    wanted: Vec<Wanted>,
    /// Messages as they came; kept to be used again.
    heard: Vec<Message>,
}

impl LeaseBook {
    /// When something is due next.
    fn next_deadline(&self) -> Option<Micros> {
        self.parked.iter().map(|(_, limit)| *limit).min()
    }

    /// The roles that this agent took while no SCS was there.
    pub fn taken(&self) -> Vec<TakenOver> {
        self.taken.values().cloned().collect()
    }
}

impl Agent {
    /// When [`Agent::leases_time_passed`] is due next.
    pub(crate) fn lease_deadline(&self) -> Option<Micros> {
        let tell = self.session.is_up().then_some(self.book.tell_at);
        let (keepers, gates) = (self.keepers.next_deadline(), self.keepers.gate_deadline());
        [keepers, self.book.next_deadline(), gates, tell, self.tend_deadline()].into_iter().flatten().min()
    }

    /// Renews what is held, and does what else is due.
    pub(crate) fn leases_time_passed(&mut self, now: Micros) {
        if self.keepers.next_deadline().is_some_and(|at| at <= now) {
            self.keepers.time_passed(now, &mut self.book.wanted);
            self.do_wanted(now);
        }
        let (late, parked) =
            std::mem::take(&mut self.book.parked).into_iter().partition(|(_, limit)| *limit <= now);
        self.book.parked = parked;
        for (launch, _) in late {
            let why =
                "the lease on the VIP was not won in time; `takeover status` says who confirms it".to_owned();
            self.launch_ended(&launch, LaunchOutcome::Failed { why }, now);
        }
        if self.keepers.gate_deadline().is_some_and(|at| at <= now) {
            self.look_at_gates(now);
        }
        self.tend(now);
        self.tell_leases(now);
        self.flush_votes(now);
    }

    /// Reads what came from the SCS in datagrams. True: there is more.
    pub(crate) fn hear_scs(&mut self, now: Micros) -> bool {
        let mut heard = std::mem::take(&mut self.book.heard);
        let more = self.session.hear(now, &mut heard);
        for message in heard.drain(..) {
            self.heard_vote(&Voter::Scs, &message, now);
        }
        self.book.heard = heard;
        more
    }

    /// A voter says something.
    pub(crate) fn heard_vote(&mut self, from: &Voter, message: &Message, now: Micros) {
        self.keepers.hear(from, message, now, &mut self.book.wanted);
        self.do_wanted(now);
    }

    /// The application may be something else to its pair's lease now.
    pub(crate) fn keep(&mut self, app: &AppName, now: Micros) {
        let Some(controlled) = self.apps.get(app).filter(|controlled| controlled.looked_for) else { return };
        let supervised = &controlled.supervised;
        let Some((pair, _)) = &supervised.settings().pair else { return };
        self.keepers.saw(pair, supervised.greatest_epoch());
        let server =
            if supervised.is_removed() { Server::Absent { by_order: true } } else { supervised.server() };
        self.keepers.server(pair, server, now, &mut self.book.wanted);
        self.do_wanted(now);
    }

    /// The SCS is reached, or no longer.
    pub(crate) fn scs_reached(&mut self, reached: bool, now: Micros) {
        self.keepers.scs_reached(reached, now, &mut self.book.wanted);
        self.book.tell_at = now;
        self.book.told.clear();
        self.tend_soon(now);
        self.do_wanted(now);
    }

    /// The agent of another host is heard, or no longer.
    pub(crate) fn peer_heard(&mut self, host: &HostName, heard: bool, now: Micros) {
        self.keepers.peer_heard(host, heard, now, &mut self.book.wanted);
        self.do_wanted(now);
    }

    /// Interfaces may have got or lost their carrier.
    pub(crate) fn carriers_changed(&mut self, now: Micros) {
        let pairs: Vec<PairName> = self.keepers.iter().map(|(pair, _)| pair.clone()).collect();
        for pair in pairs {
            let carrier = self.vips.has_carriers(&pair);
            self.keepers.carrier(&pair, carrier, now, &mut self.book.wanted);
        }
        self.do_wanted(now);
    }

    /// The configured pairs.
    pub(crate) fn configure_leases(&mut self, now: Micros) {
        let cluster = std::mem::take(self.cluster_mut());
        self.keepers.configure(&cluster, now, &mut self.book.wanted);
        *self.cluster_mut() = cluster;
        self.do_wanted(now);
        for (pair, _) in self.keepers.iter().filter(|(pair, _)| self.keepers.holds(pair, now)) {
            self.vips.still_holds(pair);
        }
        self.carriers_changed(now);
        self.keep_all(now);
        self.look_at_gates(now);
    }

    fn keep_all(&mut self, now: Micros) {
        let apps: Vec<AppName> = self.apps.keys().cloned().collect();
        for app in apps {
            self.keep(&app, now);
        }
    }

    /// A VIP is to be enabled: at once where the lease is held, else as soon as it is.
    pub(crate) fn park_unless_held(&mut self, launch: Box<Launch>, now: Micros) -> Option<Box<Launch>> {
        let held = launch.pair.as_ref().is_none_or(|pair| self.keepers.holds(pair, now));
        if held {
            return Some(launch);
        }
        let limit = now + launch.time_limit;
        // The same again, because the SCS had no answer yet: the first one answers for both.
        if !self.book.parked.iter().any(|(parked, _)| parked.ref_id == launch.ref_id) {
            self.book.parked.push((launch, limit));
        }
        None
    }

    /// Sends the votes that were collected: in few datagrams.
    pub(crate) fn flush_votes(&mut self, now: Micros) {
        if self.book.votes.is_empty() {
            return;
        }
        let mut votes = std::mem::take(&mut self.book.votes);
        votes.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut messages = Vec::new();
        for of_voter in votes.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((voter, _)) = of_voter.first() else { continue };
            messages.clear();
            messages.extend(of_voter.iter().map(|(_, message)| *message));
            match voter {
                Voter::Scs => self.session.vote(&messages, now),
                Voter::Peer(host) => self.peers.send(host, &messages, now),
            }
        }
        votes.clear();
        self.book.votes = votes;
    }

    /// Looks whether the gates stand.
    pub(crate) fn look_at_gates(&mut self, now: Micros) {
        let mut disturbed = Vec::new();
        self.keepers.gates().look(now, &mut disturbed);
        if !disturbed.is_empty() {
            // Where a gate is required, whether the lease may be held depends on it.
            self.keep_all(now);
            self.withdraw_all_exposed(now);
        }
        for what in disturbed {
            let (id, interface, detail) = match &what {
                Disturbed::Restored { interface, what } => (events::GATE_DISTURBED, interface, what.clone()),
                Disturbed::Broken { interface, why } => (events::GATE_MISSING, interface, why.clone()),
                Disturbed::Whole { interface } => (events::GATE_WHOLE, interface, String::new()),
            };
            let event = LogEvent::new(id, now).on(&self.host).because(format_args!("{interface} {detail}"));
            self.say.warning(format_args!("{}", event.text));
            self.report(Fact::Log(event.with("interface", interface)), now);
            self.book.tell_at = now;
        }
    }

    /// Does what the keepers want.
    fn do_wanted(&mut self, now: Micros) {
        let mut urgent = false;
        while !self.book.wanted.is_empty() {
            for wanted in std::mem::take(&mut self.book.wanted) {
                match wanted {
                    Wanted::Vote(voter, message) => {
                        // Service may wait for it. All else can wait for the end of the round, which is near, and
                        // then goes in few datagrams.
                        urgent |= match message.body {
                            Body::Release { .. } => true,
                            Body::Ask { .. } | Body::Promise { .. } | Body::Reject { .. } => false,
                        };
                        self.book.votes.push((voter, message));
                    }
                    Wanted::Won(pair, epoch) => self.won(&pair, epoch, now),
                    Wanted::Lost(pair, epoch) => {
                        self.withdraw(&pair, now);
                        let event = LogEvent::new(events::LEASE_LOST, now).on(&self.host).because(&pair);
                        self.report(Fact::Log(event.with("pair", &pair).with("epoch", epoch)), now);
                    }
                    Wanted::Closed(pair) => {
                        self.let_go_of_role(&pair);
                        self.withdraw(&pair, now);
                    }
                    Wanted::PeerFailed(pair, epoch) => {
                        if let Some(app) = self.peer_app(&pair) {
                            self.report(Fact::LeaseLetGo { pair, app, epoch }, now);
                        }
                    }
                    Wanted::TakeOver { pair, app, epoch, why } => self.take_over(pair, app, epoch, why, now),
                    Wanted::StepDown { app, epoch } => {
                        let event =
                            LogEvent::new(events::STEPPED_DOWN, now).on(&self.host).of(&app).because(&app);
                        self.report(Fact::Log(event), now);
                        self.own_order(&app, RunMode::Backup, epoch, now);
                    }
                }
            }
        }
        if urgent {
            self.flush_votes(now);
        }
    }

    fn won(&mut self, pair: &PairName, epoch: Epoch, now: Micros) {
        // What was done before this may have led to its end.
        if !self.keepers.holds(pair, now) {
            return;
        }
        self.vips.won(pair, now, &mut self.facts);
        self.report_facts(now);
        let event = LogEvent::new(events::LEASE_HELD, now).on(&self.host).because(pair);
        let (ready, parked) = std::mem::take(&mut self.book.parked)
            .into_iter()
            .partition(|(launch, _)| launch.pair.as_ref() == Some(pair));
        self.book.parked = parked;
        for (launch, _) in ready {
            match self.refused(&launch, now) {
                Some(outcome) => self.launch_ended(&launch, outcome, now),
                None => self.launch_ready(launch, now),
            }
        }
        self.enable_missing(pair, now);
        self.taken_over(pair, epoch, now);
        self.report(Fact::Log(event.with("pair", pair).with("epoch", epoch)), now);
        self.book.tell_at = now;
    }

    /// Tells the SCS how the leases stand, when that changed, and now and then.
    fn tell_leases(&mut self, now: Micros) {
        if !self.session.is_up() {
            return;
        }
        if self.book.tell_at > now {
            return;
        }
        self.book.tell_at = now + TELL_EVERY;
        let reports = self.lease_reports(now);
        let same = |one: &LeaseReport, other: &LeaseReport| {
            LeaseReport { left_us: other.left_us, ..one.clone() } == *other
        };
        let changed = reports.len() != self.book.told.len()
            || reports.iter().zip(&self.book.told).any(|(one, other)| !same(one, other));
        let old = self.book.told_at + TELL_ALL_EVERY <= now;
        if (changed || old) && !reports.is_empty() {
            self.book.told.clone_from(&reports);
            self.book.told_at = now;
            let change = self.session.send(&FromAgent::Leases { leases: reports }, now);
            self.changed(change, now);
        }
    }

    fn lease_reports(&mut self, now: Micros) -> Vec<LeaseReport> {
        let gates = self.keepers.gate_reports();
        self.keepers
            .iter()
            .zip(gates)
            .map(|((pair, keeper), gate)| {
                let held = keeper.machine().held().filter(|(_, until)| *until > now);
                LeaseReport {
                    pair: pair.clone(),
                    held: held.map(|(epoch, _)| epoch),
                    left_us: held
                        .map_or(0, |(_, until)| u64::try_from(until.since(now).as_micros()).unwrap_or(0)),
                    backing: u8::try_from(keeper.machine().backing(now)).unwrap_or(u8::MAX),
                    gate,
                }
            })
            .collect()
    }
}

/// What enforces a lease, for the SCS.
pub fn gate_report(missing: Option<&str>) -> GateReport {
    missing.map_or(GateReport::Kernel, |why| GateReport::Agent { why: why.to_owned() })
}
