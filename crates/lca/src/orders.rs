//! Launches: the built-in VIP control at once and here, users' scripts by the worker and in line.

use crate::agent::Agent;
use crate::alone::is_own;
use crate::messages::Job;
use crate::observer::{Answered, Waiting};
use crate::scripts::Script;
use control_link::messages::Fact;
use domain::{
    AppName, Epoch, Launch, LaunchOutcome, LaunchResult, LaunchWhat, Micros, ScriptName, VipAddress, VipVerb,
};
use lca_core::launches::Offered;
use lca_core::supervisor::Input;

impl Agent {
    /// The SCS orders a launch.
    pub(crate) fn launch_ordered(&mut self, launch: Box<Launch>, now: Micros) {
        match self.launches.offered(launch.ref_id) {
            Offered::Known(result) => return self.report(Fact::LaunchEnded(result), now),
            Offered::InHand => return,
            Offered::New => {}
        }
        if let Some(outcome) = self.refused(&launch, now) {
            return self.launch_ended(&launch, outcome, now);
        }
        let enables = matches!(launch.what, LaunchWhat::VipControl { verb: VipVerb::Enable, .. });
        let launch = if enables { self.park_unless_held(launch, now) } else { Some(launch) };
        if let Some(launch) = launch {
            self.launch_ready(launch, now);
        }
    }

    /// Runs a launch that nothing stands against.
    pub(crate) fn launch_ready(&mut self, launch: Box<Launch>, now: Micros) {
        match &launch.what {
            LaunchWhat::VipControl { script: None, verb, vip, interface } => {
                let result = match verb {
                    VipVerb::Enable => self.vips.enable(*vip, launch.epoch, now, &mut self.facts),
                    VipVerb::Disable => {
                        self.vips.disable(*vip, interface, launch.epoch, now, &mut self.facts)
                    }
                };
                self.built_in_ended(&launch, result, now);
            }
            LaunchWhat::Announce { vip, .. } => {
                let result = self.vips.announce(*vip, now);
                self.built_in_ended(&launch, result, now);
            }
            LaunchWhat::FindHolder { vip, .. } => {
                let vip = *vip;
                self.find_holder(&vip, launch, now);
            }
            LaunchWhat::VipControl { script: Some(_), .. } | LaunchWhat::Script { .. } => {
                match self.launches.queue(launch) {
                    Ok(()) => self.launch_waiting(now),
                    Err(launch) => {
                        let why = "too many scripts wait on this host".to_owned();
                        self.launch_ended(&launch, LaunchOutcome::Failed { why }, now);
                    }
                }
            }
        }
    }

    /// Asks the network who has a VIP; answered when the inquiry is over.
    fn find_holder(&mut self, vip: &VipAddress, launch: Box<Launch>, now: Micros) {
        if self.observer.is_asked(launch.ref_id) {
            return;
        }
        if let Err((launch, why)) = self.observer.ask(vip, launch, &self.vips, now) {
            self.launch_ended(&launch, LaunchOutcome::Failed { why }, now);
        }
    }

    /// Reports what was observed, and the ends of the launches that waited for it.
    pub(crate) fn report_observed(&mut self, now: Micros) {
        self.report_facts(now);
        let mut answered = std::mem::take(&mut self.answered);
        for Answered { waiting: Waiting { launch, begun }, result } in answered.drain(..) {
            self.built_in_ended(&launch, result, begun);
        }
        self.answered = answered;
    }

    /// The worker has run a script.
    pub(crate) fn script_ended(&mut self, result: LaunchResult, now: Micros) {
        let last = result.output.lines().last().unwrap_or_default();
        self.say.info(format_args!("script of launch {} {}: {last}", result.ref_id, result.outcome));
        self.launches.ended(&result);
        self.dirty = true;
        self.report(Fact::LaunchEnded(result), now);
        self.launch_waiting(now);
    }

    /// Why a launch is not to be run, judged when it is ordered and again when its turn comes.
    pub(crate) fn refused(&mut self, launch: &Launch, now: Micros) -> Option<LaunchOutcome> {
        let verb = match &launch.what {
            LaunchWhat::VipControl { verb, .. } => *verb,
            LaunchWhat::Announce { .. } | LaunchWhat::FindHolder { .. } | LaunchWhat::Script { .. } => {
                return None;
            }
        };
        // Whatever was granted since: what is exposed without its lease is disabled.
        if verb == VipVerb::Disable && is_own(launch.ref_id) {
            return None;
        }
        let member = self.member_of(launch)?;
        let controlled = self.apps.get(&member)?;
        let seen = controlled.supervised.greatest_epoch();
        if launch.epoch < seen {
            return Some(LaunchOutcome::Stale { seen });
        }
        let primary = controlled.supervised.is_primary();
        self.step(&member, Input::EpochSeen(launch.epoch), now);
        // It was primary when this was ordered and is no longer: it died meanwhile, and its VIPs were released.
        (verb == VipVerb::Enable && !primary).then(|| LaunchOutcome::Failed {
            why: format!("application {member} is not in primary mode here"),
        })
    }

    /// The application of this host that belongs to the launch's pair.
    fn member_of(&self, launch: &Launch) -> Option<AppName> {
        let member = self.member_of_pair(launch.pair.as_ref()?)?;
        Some(member.supervised.app().clone())
    }

    /// Starts the scripts whose turn it is. Bounded: each round takes one out of a bounded queue.
    fn launch_waiting(&mut self, now: Micros) {
        while let Some(launch) = self.launches.begin_next() {
            if let Some(outcome) = self.refused(&launch, now) {
                self.launch_ended(&launch, outcome, now);
                continue;
            }
            match self.script_of(&launch) {
                Ok(script) => {
                    if let LaunchWhat::VipControl { verb, vip, .. } = &launch.what
                        && (*verb == VipVerb::Enable || !is_own(launch.ref_id))
                    {
                        self.vips.script_started(*vip, *verb == VipVerb::Enable, launch.epoch);
                    }
                    if !self.give(Job::Script(launch.ref_id, script)) {
                        let why = "the agent has too much to do".to_owned();
                        self.launch_ended(&launch, LaunchOutcome::Failed { why }, now);
                    }
                }
                Err(why) => self.launch_ended(&launch, LaunchOutcome::Failed { why }, now),
            }
        }
    }

    fn script_of(&self, launch: &Launch) -> Result<Script, String> {
        let (name, verb) = match &launch.what {
            LaunchWhat::VipControl { script: Some(name), verb, .. } => (name, Some(*verb)),
            LaunchWhat::Script { script } => (script, None),
            LaunchWhat::VipControl { script: None, .. }
            | LaunchWhat::Announce { .. }
            | LaunchWhat::FindHolder { .. } => {
                unreachable!("built-in control does not stand in line")
            }
        };
        let script =
            self.script(name).ok_or_else(|| format!("this host's agent knows of no script {name}"))?;
        let mut command = script.command.clone();
        command.extend(verb.map(|verb| verb.to_string()));
        let time_limit = launch.time_limit.min(script.time_limit);
        Ok(Script { command, environment: self.facts_of(launch, verb), time_limit })
    }

    fn script(&self, name: &ScriptName) -> Option<&domain::Script> {
        self.cluster().scripts.get(name)
    }

    /// The facts of a launch, as a script finds them in its environment.
    fn facts_of(&self, launch: &Launch, verb: Option<VipVerb>) -> Vec<(&'static str, String)> {
        let mut facts = vec![("TAKEOVER_HOST", self.host.to_string())];
        let mut tell = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        if let LaunchWhat::VipControl { vip, interface, .. } = &launch.what {
            tell("TAKEOVER_VIP", Some(vip.to_string()));
            tell("TAKEOVER_VIP_ADDRESS", Some(vip.address.to_string()));
            tell("TAKEOVER_INTERFACE", Some(interface.to_string()));
        }
        tell("TAKEOVER_VERB", verb.map(|verb| verb.to_string()));
        tell("TAKEOVER_EPOCH", (launch.epoch > Epoch(0)).then(|| launch.epoch.to_string()));
        tell("TAKEOVER_MODE", launch.mode.map(|mode| mode.to_string()));
        tell("TAKEOVER_PAIR", launch.pair.as_ref().map(ToString::to_string));
        tell("TAKEOVER_APPLICATION", launch.app.as_ref().map(ToString::to_string));
        tell("TAKEOVER_EVENT", launch.event.map(|event| event.to_string()));
        tell("TAKEOVER_ALARM", (!launch.alarm.is_empty()).then(|| launch.alarm.clone()));
        facts
    }

    fn built_in_ended(&mut self, launch: &Launch, result: Result<String, String>, begun: Micros) {
        let now = crate::clock::boottime();
        let took_us = u64::try_from(now.since(begun).as_micros()).unwrap_or(u64::MAX);
        let (outcome, output) = match result {
            Ok(output) => (LaunchOutcome::Succeeded, output),
            Err(why) => (LaunchOutcome::Failed { why }, String::new()),
        };
        // Presence first: the result says that it is done, the fact says what.
        let (mut presence, mut rest) = (Vec::new(), Vec::new());
        for fact in self.facts.drain(..) {
            if matches!(fact, Fact::Vip(_)) { presence.push(fact) } else { rest.push(fact) }
        }
        self.facts.extend(presence);
        self.report_facts(now);
        self.finish(LaunchResult { ref_id: launch.ref_id, outcome, output, took_us }, launch, now);
        self.facts.extend(rest);
        self.report_facts(now);
    }

    pub(crate) fn launch_ended(&mut self, launch: &Launch, outcome: LaunchOutcome, now: Micros) {
        let result = LaunchResult { ref_id: launch.ref_id, outcome, output: String::new(), took_us: 0 };
        self.finish(result, launch, now);
    }

    fn finish(&mut self, result: LaunchResult, launch: &Launch, now: Micros) {
        if !result.outcome.succeeded() {
            self.say.warning(format_args!("launch {}, {}, {}", result.ref_id, launch.what, result.outcome));
        }
        self.launches.ended(&result);
        self.dirty = true;
        self.report(Fact::LaunchEnded(result), now);
    }
}
