//! Launches in the agent's driver: the built-in VIP control at once, users' scripts in line.

use super::{Agent, Effect};
use domain::{Fact, Launch, LaunchOutcome, LaunchResult, LaunchWhat, Micros, RefId, VipSighting, VipVerb};
use lca_core::launches::Offered;
use lca_core::supervisor::Input;

impl Agent {
    pub(super) fn launch_ordered(&mut self, launch: Box<Launch>, now: Micros) {
        match self.launches.offered(launch.ref_id) {
            Offered::Known(result) => return self.report(Fact::LaunchEnded(result), now),
            Offered::InHand => return,
            Offered::New if self.leases.has_waiting(launch.ref_id) => return,
            Offered::New => {}
        }
        if let Some(outcome) = self.refused(&launch, now) {
            return self.launch_ended(&launch, outcome, now);
        }
        let enables = matches!(&launch.what, LaunchWhat::VipControl { verb: VipVerb::Enable, .. });
        let launch = if enables { self.park_unless_held(launch, now) } else { Some(launch) };
        if let Some(launch) = launch {
            self.launch_ready(launch, now);
        }
    }

    /// A launch that waited.
    pub(super) fn launch_now(&mut self, launch: Box<Launch>, now: Micros) {
        match self.refused(&launch, now) {
            Some(outcome) => self.launch_ended(&launch, outcome, now),
            None => self.launch_ready(launch, now),
        }
    }

    /// Also the agent's own: its application is primary in a moment.
    pub(super) fn launch_ready(&mut self, launch: Box<Launch>, now: Micros) {
        match &launch.what {
            LaunchWhat::VipControl { script: None, verb, vip, .. } => {
                let (host, facts, out) = (&self.identity.host, &mut self.facts, &mut self.out);
                let known = match verb {
                    VipVerb::Enable => self.vips.enable(*vip, launch.epoch, host, now, facts, out),
                    VipVerb::Disable => self.vips.disable(*vip, host, now, launch.epoch, facts, out),
                };
                self.report_facts(now);
                self.launch_ended(&launch, outcome(known), now);
            }
            LaunchWhat::Announce { vip, .. } => {
                let known = self.vips.is_here(*vip);
                self.launch_ended(&launch, outcome(known), now);
            }
            LaunchWhat::FindHolder { .. } => self.out.push_back(Effect::Script(launch)),
            LaunchWhat::VipControl { script: Some(_), .. } | LaunchWhat::Script { .. } => {
                match self.launches.queue(launch) {
                    Ok(()) => self.launch_waiting(now),
                    Err(launch) => self.launch_ended(&launch, outcome(false), now),
                }
            }
        }
    }

    pub(super) fn script_ended(&mut self, result: LaunchResult, now: Micros) {
        self.launches.ended(&result);
        self.dirty = true;
        self.report(Fact::LaunchEnded(result), now);
        self.launch_waiting(now);
    }

    pub(super) fn sighted(&mut self, ref_id: RefId, sighting: VipSighting, now: Micros) {
        self.report(Fact::VipSighted(sighting), now);
        let outcome = LaunchOutcome::Succeeded;
        self.script_ended(LaunchResult { ref_id, outcome, output: String::new(), took_us: 1_000 }, now);
    }

    /// Why a launch is not to be run, judged when it is ordered and again when its turn comes.
    fn refused(&mut self, launch: &Launch, now: Micros) -> Option<LaunchOutcome> {
        let verb = match &launch.what {
            LaunchWhat::VipControl { verb, .. } => *verb,
            LaunchWhat::Announce { .. } | LaunchWhat::FindHolder { .. } | LaunchWhat::Script { .. } => {
                return None;
            }
        };
        let member = self.member_of(launch.pair.as_ref()?)?.clone();
        let controlled = self.apps.get(&member)?;
        let seen = controlled.supervised.greatest_epoch();
        if launch.epoch < seen {
            return Some(LaunchOutcome::Stale { seen });
        }
        let primary = controlled.supervised.is_primary();
        self.step(&member, Input::EpochSeen(launch.epoch), now);
        (verb == VipVerb::Enable && !primary).then(|| LaunchOutcome::Failed {
            why: format!("application {member} is not in primary mode here"),
        })
    }

    fn launch_waiting(&mut self, now: Micros) {
        while let Some(launch) = self.launches.begin_next() {
            if let Some(outcome) = self.refused(&launch, now) {
                self.launch_ended(&launch, outcome, now);
                continue;
            }
            if let LaunchWhat::VipControl { verb, vip, .. } = &launch.what {
                self.vips.script_started(*vip, *verb == VipVerb::Enable, launch.epoch);
            }
            self.out.push_back(Effect::Script(launch));
        }
    }

    pub(super) fn launch_ended(&mut self, launch: &Launch, outcome: LaunchOutcome, now: Micros) {
        let result = LaunchResult { ref_id: launch.ref_id, outcome, output: String::new(), took_us: 0 };
        self.launches.ended(&result);
        self.dirty = true;
        self.report(Fact::LaunchEnded(result), now);
    }
}

fn outcome(done: bool) -> LaunchOutcome {
    if done {
        LaunchOutcome::Succeeded
    } else {
        LaunchOutcome::Failed { why: "this host's agent knows of no such VIP".to_owned() }
    }
}
