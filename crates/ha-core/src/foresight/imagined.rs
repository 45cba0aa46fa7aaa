//! Two imagined hosts around a copy of the state: what they are told they do at once, what is to be heard later is heard
//! then, and time goes from one thing that is due to the next.

use crate::state::State;
use crate::{Action, Input, Lost, Record, run};
use domain::{
    Answer, AnswerOutcome, AppName, AppReport, AppStatus, GateReport, HostName, Instruction, Launch,
    LaunchOutcome, LaunchResult, LaunchWhat, LeaseReport, LogEvent, Micros, Order, PairName, RunMode,
    SeenHolder, VipAddress, VipReport, VipSighting, VipVerb, events,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Inputs that are dealt at most; a quiet minute of one pair has a few dozen.
const MOST_INPUTS: u32 = 5_000;

pub(super) struct Imagined {
    pub state: State,
    pub now: Micros,
    /// Alarm Conditions that became active and are not hidden.
    pub raised: BTreeSet<String>,
    /// When the wanted primary had all that it takes, if that was interrupted.
    pub served_again: Option<Micros>,
    /// The primary hangs and nothing watches for it.
    pub hung_unseen: bool,
    name: PairName,
    /// What will be heard, in the order of its time.
    coming: BTreeMap<(Micros, u32), Input>,
    count: u32,
    /// A process that does nothing, so does not confirm a mode either.
    deaf: Option<AppName>,
    /// The host whose agent is out of the world.
    lost: Option<HostName>,
    /// Whether the agents hear each other.
    parted: bool,
    scs: bool,
    interrupted: bool,
}

impl Imagined {
    pub fn new(state: State, name: &PairName, now: Micros) -> Self {
        let parted = !state.hear_each_other(&state.cluster.pairs[name]);
        Self {
            state,
            now,
            raised: BTreeSet::new(),
            served_again: None,
            hung_unseen: false,
            name: name.clone(),
            coming: BTreeMap::new(),
            count: 0,
            deaf: None,
            lost: None,
            parted,
            scs: true,
            interrupted: false,
        }
    }

    /// The agent on `host` is out of the world: the SCS hears so after a while, and so does the agent on `peer`.
    pub fn lose(&mut self, host: &HostName, peer: &HostName, how: Lost, after: Duration) {
        self.lost = Some(host.clone());
        self.part(peer, host, after);
        let answers = how == Lost::Closed;
        self.hear(after, Input::AgentLost { host: host.clone(), how, answers });
    }

    /// The agent on `host` does not hear the agent on `peer` any more.
    pub fn part(&mut self, host: &HostName, peer: &HostName, after: Duration) {
        self.parted = true;
        let (host, peer) = (host.clone(), peer.clone());
        self.hear(after, Input::PeerReported { host, at: self.now + after, peer, heard: false });
    }

    /// The agent tells that its primary cannot serve; a process that it leaves alone does nothing from now on.
    pub fn fail(&mut self, host: &HostName, report: AppReport, after: Duration) {
        let id = if report.status.is_up() {
            self.deaf = Some(report.app.clone());
            events::APP_NOT_ABLE
        } else {
            events::APP_TERMINATED
        };
        let event = LogEvent::new(id, self.now + after).on(host).of(&report.app);
        self.report(host, report, after);
        self.hear(after, Input::EventReported { event });
    }

    /// The agent has started the application again.
    pub fn start(&mut self, host: &HostName, report: AppReport, after: Duration) {
        let event = LogEvent::new(events::APP_INITIALIZED, self.now + after).on(host).of(&report.app);
        self.report(host, report, after);
        self.hear(after, Input::EventReported { event });
    }

    fn report(&mut self, host: &HostName, report: AppReport, after: Duration) {
        self.hear(after, Input::AppReported { host: host.clone(), at: self.now + after, report });
    }

    pub fn without_scs(&mut self) {
        self.scs = false;
    }

    /// Everything that happens until `end`. Without an SCS nobody looks and decides: what was so stays so for as long as the
    /// lease is confirmed.
    pub fn go_on(&mut self, end: Micros) {
        if !self.scs || self.hung_unseen {
            return;
        }
        self.tell_leases();
        for _ in 0..MOST_INPUTS {
            let heard = self.coming.first_key_value().map(|((at, _), _)| *at);
            let due = self.state.next_deadline();
            let Some(at) = heard.into_iter().chain(due).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            let input = match self.coming.first_entry().filter(|first| first.key().0 <= self.now) {
                Some(first) => first.remove(),
                None => Input::TimePassed,
            };
            self.take(input);
        }
        self.now = self.now.max(end);
    }

    /// Who serves: primary as wanted and as told, with all VIPs.
    pub fn serving(&self) -> Option<&AppName> {
        if self.hung_unseen {
            return None;
        }
        let pair = &self.state.cluster.pairs[&self.name];
        let wanted = self.state.pairs[&self.name].wanted.as_ref()?;
        let app = &self.state.apps[wanted];
        let host = self.state.host_of(wanted)?;
        let has = |vip: &domain::Vip| {
            self.state.vips.get(&(host.clone(), vip.address)).is_some_and(|place| place.present == Some(true))
        };
        let serves = self.state.reachable(wanted)
            && self.lost.as_ref() != Some(host)
            && self.deaf.as_ref() != Some(wanted)
            && app.status() == AppStatus::Started
            && app.mode() == Some(RunMode::Primary)
            && pair.vips.iter().all(has);
        serves.then_some(wanted)
    }

    /// How many other voters confirm whoever serves; none where there is nothing to hold.
    pub fn backing(&self) -> Option<u8> {
        let pair = &self.state.cluster.pairs[&self.name];
        let holder = self.serving().filter(|_| !pair.vips.is_empty())?;
        Some(self.voters_for(holder))
    }

    /// The SCS, and the other member's agent where it is heard.
    fn voters_for(&self, holder: &AppName) -> u8 {
        let pair = &self.state.cluster.pairs[&self.name];
        let other = pair.other(holder);
        let is_lost = self.lost.is_some() && self.lost.as_ref() == self.state.host_of(other);
        let peer = !self.parted && !is_lost && self.state.reachable(other);
        u8::from(self.scs) + u8::from(peer)
    }

    fn hear(&mut self, after: Duration, input: Input) {
        self.count += 1;
        self.coming.insert((self.now + after, self.count), input);
    }

    fn answer(&mut self, input: Input) {
        self.hear(Duration::ZERO, input);
    }

    fn take(&mut self, input: Input) {
        for action in run(&mut self.state, input, self.now) {
            match action {
                Action::Instruct(host, instruction) => self.instructed(host, &instruction),
                Action::Launch(host, launch) => self.launched(host, launch),
                Action::FindHolder(vip) => self.scs_looks(vip),
                Action::Record(Record::AlarmActive(alarm)) if !alarm.hidden => {
                    self.raised.insert(alarm.condition);
                }
                Action::Assign(_)
                | Action::Log(_)
                | Action::Record(_)
                | Action::Answer(..)
                | Action::Remember => {}
            }
        }
        match self.serving() {
            None => self.interrupted = true,
            Some(_) if self.interrupted && self.served_again.is_none() => {
                self.served_again = Some(self.now);
                self.tell_leases();
            }
            Some(_) => {}
        }
    }

    fn instructed(&mut self, host: HostName, instruction: &Instruction) {
        let Some(before) = self.state.apps.get(&instruction.app).and_then(|app| app.report.clone()) else {
            return;
        };
        let refused = AnswerOutcome::Refused { why: "it does nothing".to_owned() };
        let is_deaf = self.deaf.as_ref() == Some(&instruction.app);
        let (outcome, reports) = match instruction.order {
            Order::SetRunMode { .. } if is_deaf || !before.status.is_up() => (refused, Vec::new()),
            Order::SetRunMode { mode, epoch } => {
                let told = AppReport { mode: Some(mode), epoch, released: Vec::new(), ..before };
                (AnswerOutcome::Done, vec![(Duration::ZERO, told)])
            }
            Order::Start => {
                let limit = self.state.cluster.applications[&instruction.app].start_limit;
                let starting = AppReport { status: AppStatus::StartPending, cause: None, ..before };
                let mode = Some(RunMode::Backup);
                let up = AppReport { status: AppStatus::Started, mode, synced: true, ..starting.clone() };
                // At the worst it takes as long as it may.
                (AnswerOutcome::Done, vec![(Duration::ZERO, starting), (limit, up)])
            }
            Order::Stop { .. } => {
                let cause = Some(domain::Cause::Ordered);
                let told = AppReport { status: AppStatus::Stopped, mode: None, cause, ..before };
                (AnswerOutcome::Done, vec![(Duration::ZERO, told)])
            }
        };
        for (after, report) in reports {
            self.report(&host, report, after);
        }
        let answer = Answer { ref_id: instruction.ref_id, outcome };
        self.answer(Input::Answered { host, at: self.now, answer });
    }

    fn launched(&mut self, host: HostName, launch: Launch) {
        let mut outcome = LaunchOutcome::Succeeded;
        match launch.what {
            LaunchWhat::VipControl { verb, vip, interface, .. } => {
                let present = verb == VipVerb::Enable;
                let report = VipReport { vip, interface, present, why: String::new() };
                self.answer(Input::VipReported { host: host.clone(), at: self.now, report });
            }
            LaunchWhat::FindHolder { vip, interface } => match self.seen(vip) {
                Some(holders) => {
                    let sighting = VipSighting { vip, interface, asked: self.now, holders };
                    self.answer(Input::VipSighted { host: host.clone(), at: self.now, sighting });
                }
                None => {
                    outcome = LaunchOutcome::Failed { why: "an imagined network has no addresses".to_owned() }
                }
            },
            LaunchWhat::Announce { .. } | LaunchWhat::Script { .. } => {}
        }
        let result = LaunchResult { ref_id: launch.ref_id, outcome, output: String::new(), took_us: 0 };
        self.answer(Input::LaunchEnded { host, at: self.now, result });
    }

    fn scs_looks(&mut self, vip: VipAddress) {
        let interface = self.interface_of(vip);
        let sighting = match (self.seen(vip), interface) {
            (Some(holders), Some(interface)) => Ok(VipSighting { vip, interface, asked: self.now, holders }),
            (_, _) => Err("an imagined network has no addresses".to_owned()),
        };
        self.answer(Input::ScsSighted { vip, at: self.now, sighting });
    }

    fn interface_of(&self, vip: VipAddress) -> Option<domain::InterfaceName> {
        let vips = &self.state.cluster.pairs[&self.name].vips;
        vips.iter().find(|known| known.address == vip)?.interfaces.values().next().cloned()
    }

    /// Who answers for a VIP in the imagined network; none where the address of who does is not known.
    fn seen(&self, vip: VipAddress) -> Option<Vec<SeenHolder>> {
        let config = self.state.cluster.pairs[&self.name].vips.iter().find(|known| known.address == vip)?;
        let holders = self.state.vips.iter().filter(|((host, known), place)| {
            *known == vip && place.present == Some(true) && self.lost.as_ref() != Some(host)
        });
        holders
            .map(|((host, _), _)| {
                let interface = config.interfaces.get(host)?;
                let mac = *self.state.hosts.get(host)?.macs.get(interface)?;
                Some(SeenHolder { mac, at: self.now })
            })
            .collect()
    }

    /// The hosts that are heard tell how the lease stands.
    fn tell_leases(&mut self) {
        let pair = self.state.cluster.pairs[&self.name].clone();
        if pair.vips.is_empty() {
            return;
        }
        let holder = self.serving().cloned();
        for (at, app) in pair.members.iter().enumerate() {
            let Some(host) = self.state.host_of(app).filter(|host| self.lost.as_ref() != Some(host)) else {
                continue;
            };
            let holds = holder.as_ref() == Some(app);
            let known = self.state.pairs[&self.name].leases[at].as_ref();
            let lease = LeaseReport {
                pair: self.name.clone(),
                held: holds.then(|| self.state.pairs[&self.name].epoch),
                left_us: 0,
                backing: if holds { self.voters_for(app) } else { 0 },
                gate: known.map_or(GateReport::Unknown, |(lease, _)| lease.gate.clone()),
            };
            let input = Input::LeasesReported { host: host.clone(), leases: vec![lease] };
            self.answer(input);
        }
    }
}
