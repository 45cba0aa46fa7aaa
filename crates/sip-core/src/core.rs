//! The value itself: who is served how.

use crate::identity::Identity;
use crate::setup::Setup;
use crate::sources::Sources;
use crate::trace::Traces;
use crate::trunks::Trunks;
use crate::{Figures, Outputs, Place, Record};
use domain::{Epoch, Micros, SipName, Standby};
use sip_proto::b2bua::{self, CallKey, Calls, Flow, Listed, Order, Stage};
use sip_proto::{Duty, Message, UserAgentServer};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Addresses-of-record whose bindings end in one step.
const EXPIRIES: usize = 256;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A message came to one of the listen addresses.
    Received {
        /// The message.
        message: &'a Message<'a>,
        /// The way that it came.
        flow: Flow,
    },
    /// A message could not be sent.
    Unsent {
        /// [`sip_proto::b2bua::Outgoing::call`] of the message.
        call: CallKey,
        /// [`sip_proto::b2bua::Outgoing::transaction`] of the message.
        transaction: u32,
    },
    /// The answer to a [`crate::Question`].
    Located {
        /// Of which trunk.
        trunk: &'a SipName,
        /// Where it is, the best place first, and how long that is good; or why nobody knows.
        places: Result<(&'a [Place], Duration), &'a str>,
    },
    /// End a call.
    HangUp {
        /// Which one.
        call: CallKey,
    },
    /// Records were written down, or given up.
    Recorded {
        /// Of these calls.
        calls: &'a [CallKey],
    },
    /// [`SipCore::next_deadline`] came.
    Due,
}

/// The SIP Server.
#[derive(Debug)]
pub struct SipCore {
    pub(crate) setup: Setup,
    pub(crate) uas: UserAgentServer,
    pub(crate) calls: Calls,
    pub(crate) identity: Identity,
    pub(crate) trunks: Trunks,
    pub(crate) sources: Sources,
    /// Who calls, for each call; none where nobody is asked.
    pub(crate) callers: BTreeMap<CallKey, Option<Box<str>>>,
    /// How many calls each label has, as caller or as callee.
    pub(crate) busy: BTreeMap<Box<str>, u32>,
    /// Who is called in each call, or has answered it.
    pub(crate) called: BTreeMap<CallKey, Vec<Box<str>>>,
    /// Calls that nobody rang for yet.
    pub(crate) silent: BTreeSet<CallKey>,
    pub(crate) stale_addresses: BTreeSet<Box<str>>,
    /// Records of calls that are over, until they are written down.
    pub(crate) unwritten: BTreeMap<CallKey, Record>,
    pub(crate) stale_records: BTreeSet<CallKey>,
    /// Whether some of these are another's, who may not have written them down before it fell silent.
    owed: bool,
    pub(crate) figures: Figures,
    pub(crate) traces: Traces,
    pub(crate) full_told: bool,
    /// More comes than can be served.
    pub(crate) behind: bool,
    pub(crate) overload_told: Option<Micros>,
    pub(crate) duty: Duty,
    pub(crate) outputs: b2bua::Outputs,
    pub(crate) scratch: Vec<u8>,
}

impl SipCore {
    /// Nobody is registered, and there are no calls.
    ///
    /// # Panics
    /// Where the settings name no listen address.
    #[must_use]
    pub fn new(setup: Setup, now: Micros) -> Self {
        Self {
            uas: UserAgentServer::new(setup.registrar()),
            calls: Calls::new(setup.calls()),
            identity: Identity::new(&setup),
            trunks: Trunks::new(&setup, now),
            sources: Sources::new(setup.settings.limits),
            callers: BTreeMap::new(),
            busy: BTreeMap::new(),
            called: BTreeMap::new(),
            silent: BTreeSet::new(),
            stale_addresses: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            stale_records: BTreeSet::new(),
            owed: false,
            figures: Figures::default(),
            traces: Traces::default(),
            full_told: false,
            behind: false,
            overload_told: None,
            duty: Duty::Serve,
            outputs: b2bua::Outputs::default(),
            scratch: Vec::with_capacity(2_048),
            setup,
        }
    }

    /// Takes what happened, and appends what is to be done about it. `wall` is Unix time, for records and nonces.
    pub fn step(&mut self, input: Input<'_>, now: Micros, wall: Micros, out: &mut Outputs) {
        match input {
            Input::Received { message, flow } => self.received(message, flow, now, wall, out),
            Input::Unsent { call, transaction } => {
                self.figures.unsent += 1;
                self.calls_step(b2bua::Input::Unsent { call, transaction }, now, wall, out);
            }
            Input::Located { trunk, places } => self.trunks.located(trunk, places, &self.setup, now, out),
            Input::HangUp { call } => {
                self.calls_step(b2bua::Input::Ordered(Order::HangUp { call }), now, wall, out);
            }
            Input::Recorded { calls } => self.recorded(calls, out),
            Input::Due => self.due(now, wall, out),
        }
    }

    /// When [`Input::Due`] is due.
    #[must_use]
    pub fn next_deadline(&self, now: Micros) -> Option<Micros> {
        if !self.trunks.is_serving() {
            return self.trunks.next_deadline();
        }
        if self.owed {
            return Some(Micros(0));
        }
        let clock = self.calls.clock(now);
        let expiry = self.uas.registrar().next_deadline().map(|end| now + end.since(clock));
        [self.calls.next_deadline(), expiry, self.trunks.next_deadline()].into_iter().flatten().min()
    }

    /// What is to be done with what is new: served, or refused in a graceful stop.
    pub fn set_duty(&mut self, duty: Duty) {
        self.duty = duty;
        self.calls.refuse_new(duty != Duty::Serve);
    }

    /// Whether more comes than can be served: new calls are refused then.
    pub fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// From now on it serves.
    pub fn take_over(&mut self, epoch: Epoch, now: Micros) {
        self.owed |= !self.trunks.is_serving() && !self.unwritten.is_empty();
        self.stale_records.clear();
        self.calls.take_over(epoch);
        self.trunks.serve(true, now);
        self.stale_addresses.clear();
    }

    /// From now on it is a backup: another serves.
    pub fn stand_by(&mut self, now: Micros) {
        self.trunks.serve(false, now);
    }

    /// What a takeover would carry on.
    #[must_use]
    pub fn survey(&self, now: Micros) -> Standby {
        let mut standby = Standby::default();
        for listed in self.calls.list() {
            match listed.stage {
                Stage::Established => standby.confirmed += 1,
                Stage::Routing | Stage::Calling => standby.ringing += 1,
                Stage::Over => continue,
            }
            let over_stream = |flow: &Flow| self.setup.transport(*flow).is_reliable();
            standby.calls_over_streams += u32::from(listed.flows.iter().flatten().any(over_stream));
        }
        let clock = self.calls.clock(now);
        for (_, bindings) in self.uas.registrar().range(None, usize::MAX) {
            for binding in bindings.iter().filter(|binding| binding.expires_at > clock) {
                standby.registered += 1;
                let over_stream = binding.flow.is_some_and(|flow| self.setup.transport(flow).is_reliable());
                standby.registered_over_streams += u32::from(over_stream);
            }
        }
        standby
    }

    /// The calls.
    pub fn list(&self) -> impl Iterator<Item = (Listed<'_>, Option<&str>)> {
        self.calls.list().map(|listed| {
            let caller = self.callers.get(&listed.call).and_then(Option::as_deref);
            (listed, caller)
        })
    }

    /// How many calls there are, those included whose last transactions end.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// How many addresses-of-record are registered.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.uas.registrar().len()
    }

    /// How long ago something was, given a time that a listed call carries.
    #[must_use]
    pub fn age(&self, at: Micros, now: Micros) -> Duration {
        self.calls.age(at, now)
    }

    /// A ladder diagram of what was said in a call, by its key or by the Call-ID of the caller's side.
    #[must_use]
    pub fn trace(&self, call: &str) -> Option<String> {
        let by_id = || self.calls.list().find(|listed| listed.call_id == call).map(|listed| listed.call);
        let known = || self.traces.by_call_id(call).or_else(by_id);
        self.traces.ladder(CallKey::read(call).or_else(known)?)
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Writes what was counted, trunk by trunk too, in the text format of Prometheus.
    pub fn write_figures(&self, out: &mut String) {
        self.figures.write(out);
        self.trunks.write(out);
    }

    fn due(&mut self, now: Micros, wall: Micros, out: &mut Outputs) {
        self.trunks.due(&self.setup, now, out);
        if !self.trunks.is_serving() {
            // Calls and registrations are another's; where trunks are, is good to know when they are ours.
            return;
        }
        if std::mem::take(&mut self.owed) {
            // Those of calls that are not over here will come when they are.
            let owed = self.unwritten.iter().filter(|(call, _)| !self.occupies(**call));
            out.records.extend(owed.map(|(_, record)| record.clone()));
        }
        let clock = self.calls.clock(now);
        self.uas.registrar_mut().due(clock, EXPIRIES);
        if self.calls.next_deadline().is_some_and(|at| at <= now) {
            self.calls_step(b2bua::Input::Due, now, wall, out);
        }
    }
}
