//! Calls: where they go, what becomes of them, who is in them, and their records.

use crate::routing::{self, Rights};
use crate::setup::TRUNK;
use crate::{Change, Outputs, Record, SipCore, records};
use domain::Micros;
use sip_proto::Message;
use sip_proto::b2bua::{self, CallKey, Cdr, Event, Failover, Flow, Order, Plan, Replaced};
use std::collections::BTreeMap;
use std::time::Duration;

/// Retry-After of what is refused for want of room, seconds.
pub(crate) const RETRY_AFTER_S: u32 = 10;

impl SipCore {
    pub(crate) fn calls_received(
        &mut self,
        message: &Message<'_>,
        flow: Flow,
        now: Micros,
        wall: Micros,
        out: &mut Outputs,
    ) {
        self.outputs.clear();
        self.calls.step(b2bua::Input::Received { message, flow }, now, &mut self.outputs);
        let of_message = self.outputs.messages.iter().find_map(|message| message.call);
        let of_change = self.outputs.deltas.first().map(|delta| delta.call);
        if let Some(call) = of_message.or(of_change) {
            self.traces.came(call, message, flow.peer, now);
        }
        self.pass_on(now, wall, out);
    }

    pub(crate) fn calls_step(
        &mut self,
        input: b2bua::Input<'_>,
        now: Micros,
        wall: Micros,
        out: &mut Outputs,
    ) {
        self.outputs.clear();
        self.calls.step(input, now, &mut self.outputs);
        self.pass_on(now, wall, out);
    }

    /// Somebody has come back over another connection.
    pub(crate) fn moved(&mut self, (from, to): (Flow, Flow), now: Micros, wall: Micros, out: &mut Outputs) {
        self.outputs.clear();
        self.calls.moved(from, to, now, &mut self.outputs);
        self.pass_on(now, wall, out);
    }

    /// Passes on what came of a step of the calls, and does what they ask for.
    pub(crate) fn pass_on(&mut self, now: Micros, wall: Micros, out: &mut Outputs) {
        loop {
            self.figures.retransmissions += std::mem::take(&mut self.outputs.again);
            let mut deltas = std::mem::take(&mut self.outputs.deltas);
            for delta in deltas.drain(..) {
                if delta.is_about_called() {
                    self.note_called(delta.call);
                }
                if delta.is_removal() {
                    self.full_told = false;
                }
                out.changes.push(Change::Call(Box::new(delta)));
            }
            // It keeps its room.
            self.outputs.deltas = deltas;
            for outgoing in &self.outputs.messages {
                if let Some(call) = outgoing.call {
                    self.traces.goes(call, &outgoing.wire, outgoing.flow.peer, now);
                }
            }
            out.messages.append(&mut self.outputs.messages);
            let events = std::mem::take(&mut self.outputs.events);
            if events.is_empty() {
                return;
            }
            for event in events {
                self.happened(event, now, wall, out);
            }
        }
    }

    fn happened(&mut self, event: Event, now: Micros, wall: Micros, out: &mut Outputs) {
        match event {
            Event::Incoming { call } => {
                let order = self.route(call, now);
                self.calls.step(b2bua::Input::Ordered(order), now, &mut self.outputs);
            }
            Event::Ringing { call, label: _ } => self.rang(call, now),
            Event::Answered { call, label } => {
                self.rang(call, now);
                self.figures.answered += 1;
                if let Some(trunk) = self.trunks.labelled(&label) {
                    trunk.counted.answered += 1;
                }
            }
            Event::TargetFailed { call: _, label, status: _, retry_after_s } => {
                self.figures.target_failures += 1;
                if let Some(trunk) = self.trunks.labelled(&label) {
                    trunk.failed(retry_after_s, now);
                }
            }
            Event::Ended(cdr) => {
                let record = self.record(&cdr, now, wall);
                // Without a place to write them to, there is nothing to be owed.
                if self.setup.settings.cdr_directory.is_some() {
                    self.unwritten.insert(cdr.call, record.clone());
                    out.changes.push(Change::Record(Box::new(record.clone())));
                }
                out.records.push(record);
                self.forget_caller(cdr.call);
            }
        }
    }

    fn rang(&mut self, call: CallKey, now: Micros) {
        if self.silent.remove(&call)
            && let Some(listed) = self.calls.listed(call)
        {
            let delay = self.calls.age(listed.began_at, now);
            self.figures.post_dial_delay(delay);
        }
    }

    /// Where a call goes.
    fn route(&self, call: CallKey, now: Micros) -> Order {
        let refuse = |status| {
            let retry_after_s = (status == 503).then_some(RETRY_AFTER_S);
            Order::Refuse { call, status, retry_after_s }
        };
        match self.calls.replaced(call) {
            // Whoever is transferred has two calls for a moment, and so has who stays.
            Some(Ok(replaced)) => return Order::Route { call, plan: self.in_place_of(replaced) },
            Some(Err(status)) => return refuse(status),
            None => {}
        }
        let caller = self.callers.get(&call).and_then(Option::as_deref);
        // This call counts already.
        if caller.is_some_and(|label| self.room(label).is_some_and(|room| room < 0)) {
            return refuse(486);
        }
        let from_trunk = caller.is_some_and(|label| label.starts_with(TRUNK));
        let user = caller.and_then(|name| self.setup.settings.users.get(name));
        let rights = Rights {
            users: true,
            // No call goes through from one network to another.
            outside: !from_trunk && user.map_or(self.setup.open, |user| user.outside),
        };
        let listed = self.calls.listed(call);
        let called = listed.as_ref().map_or("", |listed| listed.called);
        let clock = self.calls.clock(now);
        let plan =
            routing::plan(&self.setup, self.uas.registrar(), &self.trunks, (call, called), rights, clock);
        match plan {
            Ok(plan) => {
                let callee = plan.groups.iter().flatten().next().map(|target| &target.label);
                if callee.is_some_and(|label| self.room(label).is_some_and(|room| room < 1)) {
                    return refuse(486);
                }
                Order::Route { call, plan }
            }
            Err(status) => refuse(status),
        }
    }

    /// Where a call goes that takes the place of a side of another: to the one who stays (RFC 3891).
    fn in_place_of(&self, replaced: Replaced) -> Plan {
        let Replaced { call, mut target, is_caller } = replaced;
        if is_caller && let Some(Some(caller)) = self.callers.get(&call) {
            target.label = caller.clone();
        }
        let ringing = self.setup.settings.timers.ringing;
        Plan { groups: vec![vec![target]], failover: Failover::Unavailable, ringing }
    }

    /// How many more calls a user or trunk may have; none where there is no limit.
    fn room(&self, label: &str) -> Option<i64> {
        let settings = &self.setup.settings;
        let most = match label.strip_prefix(TRUNK) {
            Some(trunk) => settings.trunks.get(trunk).and_then(|trunk| trunk.calls),
            None => settings.users.get(label).and_then(|user| user.calls),
        };
        let busy = self.busy.get(label).copied().unwrap_or(0);
        most.map(|most| i64::from(most) - i64::from(busy))
    }

    pub(crate) fn note_caller(&mut self, call: CallKey, caller: Option<Box<str>>) {
        if let Some(Some(before)) = self.callers.insert(call, caller.clone()) {
            self.count(&before, false);
        }
        if let Some(label) = caller {
            self.count(&label, true);
        }
    }

    /// Brings up to date who is called in a call, or has answered it.
    pub(crate) fn note_called(&mut self, call: CallKey) {
        let mut last = None;
        let called = self.calls.called(call).filter(|label| last.replace(*label) != Some(*label));
        let before = self.called.get(&call).map_or(&[][..], Vec::as_slice);
        if called.eq(before.iter().map(|label| &**label)) {
            return;
        }
        let mut called: Vec<Box<str>> = self.calls.called(call).map(Box::from).collect();
        called.dedup();
        called.shrink_to_fit();
        let before = self.called.remove(&call).unwrap_or_default();
        for label in called.iter().filter(|label| !before.contains(label)) {
            self.count(label, true);
            let serving = self.trunks.is_serving();
            if let Some(trunk) = self.trunks.labelled(label).filter(|_| serving) {
                trunk.counted.attempts += 1;
            }
        }
        for label in before.iter().filter(|label| !called.contains(label)) {
            self.count(label, false);
        }
        if !called.is_empty() {
            self.called.insert(call, called);
        }
    }

    /// A call is over: its caller is free.
    pub(crate) fn forget_caller(&mut self, call: CallKey) {
        self.silent.remove(&call);
        if let Some(Some(label)) = self.callers.remove(&call) {
            self.count(&label, false);
        }
    }

    /// Checks that who is busy is who is in a call. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        self.calls.check();
        let mut busy: BTreeMap<&str, u32> = BTreeMap::new();
        let callers = self.callers.values().flatten();
        for label in callers.chain(self.called.values().flatten()) {
            *busy.entry(label).or_default() += 1;
        }
        assert!(
            busy.into_iter().eq(self.busy.iter().map(|(label, calls)| (&**label, *calls))),
            "who is busy"
        );
        for listed in self.calls.list() {
            let known = self.called.get(&listed.call).map_or(&[][..], Vec::as_slice);
            let called: Vec<&str> = self.calls.called(listed.call).collect();
            assert!(called.iter().all(|label| known.iter().any(|known| **known == **label)), "{listed:?}");
            assert_eq!(called.is_empty(), known.is_empty(), "{listed:?}");
        }
        let is_over = |call: &CallKey| !self.occupies(*call);
        assert!(!self.callers.keys().any(is_over) && !self.called.keys().any(is_over), "calls that are over");
    }

    fn count(&mut self, label: &str, more: bool) {
        let busy = self.busy.entry(label.into()).or_default();
        *busy = if more { *busy + 1 } else { busy.saturating_sub(1) };
        let calls = *busy;
        if calls == 0 {
            self.busy.remove(label);
        }
        if let Some(trunk) = self.trunks.labelled(label) {
            trunk.calls = calls;
        }
    }

    fn record(&mut self, cdr: &Cdr, now: Micros, wall: Micros) -> Record {
        self.figures.ended += 1;
        self.figures.refused += u64::from(cdr.answered_at.is_none());
        let at = |at: Micros| Micros(wall.0.saturating_sub(us(self.calls.age(at, now))));
        let ms = |from: Micros, to: Micros| u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
        let (cause, status) = records::word(cdr.cause);
        Record {
            call: cdr.call,
            epoch: cdr.epoch,
            call_id: cdr.call_id.as_ref().to_owned(),
            caller: self.callers.get(&cdr.call).cloned().flatten().map(Into::into),
            from: String::from_utf8_lossy(&cdr.from).into_owned(),
            called: cdr.called.as_ref().to_owned(),
            answered_by: cdr.answered_by.as_deref().map(str::to_owned),
            began_us: at(cdr.began_at),
            answered_us: cdr.answered_at.map(at),
            ended_us: at(cdr.ended_at),
            setup_ms: ms(cdr.began_at, cdr.answered_at.unwrap_or(cdr.ended_at)),
            duration_ms: cdr.answered_at.map_or(0, |answered| ms(answered, cdr.ended_at)),
            cause: cause.into(),
            status,
        }
    }

    pub(crate) fn recorded(&mut self, calls: &[CallKey], out: &mut Outputs) {
        let known: Vec<CallKey> =
            calls.iter().copied().filter(|call| self.unwritten.remove(call).is_some()).collect();
        if !known.is_empty() {
            out.changes.push(Change::Recorded { calls: known });
        }
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
