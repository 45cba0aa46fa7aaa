//! What is shown of the server: the status sentence, pages over HTTP, and figures and faults that are looked after once in
//! a while.

use super::Server;
use crate::beside::{Page, Wanted};
use crate::cdr::Told;
use crate::pages::{MAX_LIST, Metrics, json};
use domain::{LogEvent, Micros, events};
use serde::Serialize;
use sip_proto::Duty;
use sip_proto::b2bua::{CallKey, Stage};

/// A call, as it is listed.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    call: CallKey,
    call_id: &'a str,
    caller: Option<&'a str>,
    called: &'a str,
    answered_by: Option<&'a str>,
    stage: &'static str,
    age_ms: u64,
}

impl Server {
    /// Looks after what others do for us.
    pub(super) fn look(&mut self, now: Micros) {
        self.tell_whether_suspended(now);
        let told = self.cdr.as_mut().and_then(|cdr| Some((cdr.news()?, cdr.path().display().to_string())));
        let event = match told {
            None => return,
            Some((Told::Failing { lost: 0 }, path)) => LogEvent::new(events::CDR_FAILED, now).because(path),
            Some((Told::Failing { lost }, path)) => LogEvent::new(events::CDR_FAILED, now)
                .because(format_args!("{path}, {lost} are lost"))
                .with("lost", lost),
            Some((Told::Recovered, path)) => LogEvent::new(events::CDR_BACK, now).because(path),
        };
        self.log.event(event, &mut self.agent, &self.say, now);
    }

    pub(super) fn tell_status(&mut self, now: Micros) {
        let status = self.status(now);
        self.manager.status(status, now);
    }

    pub(super) fn status(&mut self, now: Micros) -> String {
        let (figures, moved) = (self.core.figures(), self.transports.counters());
        let stop = match self.state.duty() {
            Some(Duty::Refuse) => format!(", stopping: {} calls remain", self.remaining(now)),
            Some(Duty::Serve | Duty::Probe) | None => String::new(),
        };
        let replication = match &self.replication {
            Some(replication) => format!("; {}", replication.readiness()),
            None => String::new(),
        };
        format!(
            "{} mode, epoch {}{stop}; {} calls, {} registered, {} connections; {} requests, {} responses, {} not SIP, \
             {} unsent, {} dropped as backup{replication}",
            self.state.mode(),
            self.state.epoch(),
            self.core.call_count(),
            self.core.registered(),
            self.transports.connections(),
            figures.requests,
            figures.responses,
            self.not_sip,
            moved.unsent,
            moved.silenced,
        )
    }

    /// A page that somebody wants to see.
    pub(super) fn page(&self, wanted: &Wanted, now: Micros) -> Page {
        match wanted {
            Wanted::Health => Page::text(200, self.state.mode().to_string()),
            Wanted::Readiness => match self.state.duty() {
                Some(Duty::Serve) => Page::text(200, "primary"),
                Some(Duty::Refuse | Duty::Probe) => Page::text(503, "stopping"),
                None => Page::text(503, "backup"),
            },
            Wanted::Metrics => self.metrics(now),
            Wanted::Calls { after, most } => self.calls(after.as_deref(), *most, now),
            Wanted::Call(call) => self.call(call, now),
            Wanted::Trace(call) => match self.core.trace(call) {
                Some(ladder) => Page::text(200, ladder.trim_end()),
                None => Page::text(404, "nothing is remembered of that call"),
            },
        }
    }

    fn metrics(&self, now: Micros) -> Page {
        let mut metrics = Metrics::default();
        let survey = self.core.survey(now);
        let primary = u8::from(self.state.duty().is_some());
        metrics.gauge("primary", "1 while this member is primary", primary.into());
        metrics.gauge("epoch", "Epoch of the run mode", self.state.epoch().0 as f64);
        metrics.gauge("calls_established", "Calls that are answered", survey.confirmed.into());
        metrics.gauge("calls_ringing", "Calls that are being set up", survey.ringing.into());
        metrics.gauge("contacts", "Registered contacts", survey.registered.into());
        self.core.write_figures(metrics.text());
        metrics.counter("not_sip", "Datagrams and stretches of streams that are no SIP", self.not_sip);
        metrics.transports(self.transports.counters(), self.transports.connections());
        if let Some(replication) = &self.replication {
            metrics.replication(replication.readiness(), replication.counters());
        }
        if let Some(cdr) = &self.cdr {
            let (written, lost) = cdr.figures();
            metrics.counter("records_written", "Call records written", written);
            metrics.counter("records_lost", "Call records lost, as the disk took none", lost);
        }
        metrics.page()
    }

    /// Calls in the order of their keys; `next` is where the next page begins.
    fn calls(&self, after: Option<&str>, most: usize, now: Micros) -> Page {
        let after = match after.map(CallKey::read) {
            Some(None) => return Page::text(400, "after is to be the key of a call"),
            Some(after @ Some(_)) => after,
            None => None,
        };
        let mut list = String::from("{\"calls\":[");
        let (mut shown, mut last, mut next) = (0, None, None);
        for call in self.listed(now).filter(|call| after.is_none_or(|after| call.call > after)) {
            let line = serde_json::to_string(&call).unwrap_or_default();
            if shown >= most || list.len() + line.len() > MAX_LIST {
                next = last;
                break;
            }
            if shown > 0 {
                list.push(',');
            }
            list.push_str(&line);
            shown += 1;
            last = Some(call.call);
        }
        list.push(']');
        if let Some(next) = next {
            list.push_str(&format!(",\"next\":\"{next}\""));
        }
        list.push('}');
        json(list)
    }

    /// A call by its key or by the Call-ID of the caller's side.
    fn call(&self, wanted: &str, now: Micros) -> Page {
        let key = CallKey::read(wanted);
        let found = self.listed(now).find(|call| Some(call.call) == key || call.call_id == wanted);
        match found {
            Some(call) => json(serde_json::to_string(&call).unwrap_or_default()),
            None => Page::text(404, "there is no such call"),
        }
    }

    fn listed(&self, now: Micros) -> impl Iterator<Item = Shown<'_>> {
        self.core.list().map(move |(listed, caller)| Shown {
            call: listed.call,
            call_id: listed.call_id,
            caller,
            called: listed.called,
            answered_by: listed.answered_by,
            stage: match listed.stage {
                Stage::Routing => "routing",
                Stage::Calling => "ringing",
                Stage::Established => "established",
                Stage::Over => "over",
            },
            age_ms: u64::try_from(self.core.age(listed.began_at, now).as_millis()).unwrap_or(u64::MAX),
        })
    }
}
