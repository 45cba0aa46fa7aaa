//! SIP: what comes is taken to the core, and what the core says is done, in the order that keeps calls alive.

use super::{Server, wall};
use crate::beside::{Located, Word};
use crate::cdr::CdrFile;
use crate::transport::Letter;
use domain::{LogEvent, Micros, SipName, events};
use rustls::pki_types::ServerName;
use sip_core::{Input, Notice, Place};
use sip_proto::b2bua::CallKey;
use sip_proto::{Arrival, Duty, Framing, Reply, parse};

/// Words of the thread beside that are heard in one round.
const WORDS_PER_ROUND: usize = 64;
/// How often what could not be sent is told to the core in one round: telling it may lead to more of that.
const UNSENT_ROUNDS: usize = 4;
/// How often the core does what is due in one round.
const DUE_ROUNDS: usize = 4;

impl Server {
    /// Receives, answers, and does what is due.
    pub(super) fn serve(&mut self, now: Micros) {
        let wall = wall();
        self.core.set_behind(self.transports.is_behind(now));
        let (core, outputs, not_sip) = (&mut self.core, &mut self.outputs, &mut self.not_sip);
        self.transports.receive(now, |flow, bytes, framing| match parse(bytes, framing) {
            Ok(message) => core.step(Input::Received { message: &message, flow }, now, wall, outputs),
            Err(_) => *not_sip += 1,
        });
        for _ in 0..DUE_ROUNDS {
            if self.core.next_deadline(now).is_none_or(|deadline| deadline > now) {
                break;
            }
            self.core.step(Input::Due, now, wall, &mut self.outputs);
        }
        let recorded = self.cdr.as_mut().map(CdrFile::take_done).unwrap_or_default();
        self.recorded(&recorded, now);
        self.carry_out(now);
    }

    /// Records are on disk, so that the other member need not write them should it be primary next.
    pub(super) fn recorded(&mut self, calls: &[CallKey], now: Micros) {
        if !calls.is_empty() {
            self.core.step(Input::Recorded { calls }, now, wall(), &mut self.outputs);
        }
    }

    /// Takes what the other member has said, or hears that it has taken what we said.
    pub(super) fn replicate(&mut self, now: Micros) {
        let Some(replication) = &mut self.replication else { return };
        replication.turn(&mut self.core, now);
        let report = replication.report(now);
        for note in replication.notes() {
            self.say.note(format_args!("{note}"));
        }
        if let Some(report) = report {
            self.tell_agent(&self.synced(report, now));
        }
    }

    /// Does what the core has said.
    pub(super) fn carry_out(&mut self, now: Micros) {
        for _ in 0..UNSENT_ROUNDS {
            self.pass_on(now);
            let unsent = self.transports.take_unsent();
            if unsent.is_empty() {
                return;
            }
            let wall = wall();
            for (call, transaction) in unsent {
                self.core.step(Input::Unsent { call, transaction }, now, wall, &mut self.outputs);
            }
        }
        self.pass_on(now);
    }

    fn pass_on(&mut self, now: Micros) {
        if let Some(replication) = &mut self.replication
            && !self.outputs.changes.is_empty()
        {
            replication.send(&self.outputs.changes, now);
        }
        let messages = self.outputs.messages.iter().map(|message| Letter {
            flow: message.flow,
            bytes: &message.wire,
            ticket: message.call.zip(message.transaction),
        });
        self.transports.send(messages, now);
        for question in self.outputs.questions.drain(..) {
            let trunk = question.trunk.clone();
            if !self.beside.locate(question) {
                self.say.note(format_args!("trunk {trunk} is not looked up: too much is asked at once"));
            }
        }
        if let Some(cdr) = &mut self.cdr {
            for record in &self.outputs.records {
                match serde_json::to_string(record) {
                    Ok(line) => cdr.write(record.call, line),
                    Err(e) => self.say.note(format_args!("the record of call {} is lost: {e}", record.call)),
                }
            }
        }
        if let Some(log) = &mut self.call_log {
            for record in &self.outputs.records {
                log.call(record, &mut self.agent, &self.say, now);
            }
        }
        for notice in std::mem::take(&mut self.outputs.notices) {
            self.log.event(event(&notice, now), &mut self.agent, &self.say, now);
        }
        self.outputs.clear();
    }

    /// Hears what the thread beside has found out or is asked.
    pub(super) fn hear_beside(&mut self, now: Micros) {
        for _ in 0..WORDS_PER_ROUND {
            match self.beside.hear() {
                None => return,
                Some(Word::Located(located)) => self.located(&located, now),
                Some(Word::Asked(query)) => {
                    let page = self.page(&query.wanted, now);
                    query.answer(page);
                }
            }
        }
        // What is left is heard in the next round.
        self.beside.wake();
    }

    fn located(&mut self, located: &Located, now: Micros) {
        let trunk: &SipName = &located.question.trunk;
        let places: Result<Vec<Place>, &str> = match &located.locations {
            Ok(locations) => {
                Ok(locations.iter().map(|l| Place { transport: l.transport, address: l.address }).collect())
            }
            Err(why) => Err(why),
        };
        if let (Ok(places), Ok(name)) = (&places, ServerName::try_from(located.question.host.clone())) {
            // A certificate is for the name that was configured, not for what DNS made of it (RFC 5922, section 4).
            self.names.retain(|_, of| *of != name);
            self.names.extend(places.iter().map(|place| (place.address, name.clone())));
            self.transports.set_names(self.names.clone());
        }
        let places = places.as_deref().map(|places| (places, located.good_for)).map_err(|why| *why);
        self.core.step(Input::Located { trunk, places }, now, wall(), &mut self.outputs);
        self.carry_out(now);
    }

    pub(super) fn answer_probes(&mut self, now: Micros) {
        let Some(probe) = &mut self.probe else { return };
        let (prober, not_sip) = (&mut self.prober, &mut self.not_sip);
        probe.answer(|source, bytes, answer| {
            let Ok(message) = parse(bytes, Framing::Datagram) else {
                *not_sip += 1;
                return None;
            };
            let arrival = Arrival { source, now, duty: Duty::Probe, flow: None };
            match prober.answer(&message, arrival, answer) {
                Reply::Answer { to, .. } => Some(to),
                Reply::None(_) => None,
            }
        });
    }
}

fn event(notice: &Notice, now: Micros) -> LogEvent {
    match notice {
        Notice::TrunkOut { trunk, why } => {
            LogEvent::new(events::TRUNK_OUT, now).because(format_args!("{trunk}, {why}")).with("trunk", trunk)
        }
        Notice::TrunkIn { trunk } => LogEvent::new(events::TRUNK_IN, now).because(trunk).with("trunk", trunk),
        Notice::SourceSilenced { source, lasts } => LogEvent::new(events::SOURCE_SILENCED, now)
            .because(format_args!("{source}, for {} s", lasts.as_secs()))
            .with("source", source),
        Notice::Overloaded => LogEvent::new(events::SIP_OVERLOADED, now),
        Notice::CallsFull { calls } => {
            LogEvent::new(events::CALLS_FULL, now).because(calls).with("calls", calls)
        }
    }
}
