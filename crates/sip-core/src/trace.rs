//! What was said in a call: the first messages of the last calls, and a ladder diagram of them.

use domain::Micros;
use sip_proto::b2bua::CallKey;
use sip_proto::{Message, Method, StartLine};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;

/// Calls that are remembered.
const CALLS: usize = 4_096;
/// Messages of a call that are remembered: the first ones.
const MESSAGES: usize = 48;
/// Parties of a diagram.
const PARTIES: usize = 6;
/// Longest Call-ID that a call is found by, bytes.
const CALL_ID: usize = 256;
/// What CSeq begins with in messages of ours.
const CSEQ: &[u8] = b"\r\nCSeq: ";
/// Width of a column.
const COLUMN: usize = 30;

/// A message.
#[derive(Debug, Clone, Copy)]
struct Step {
    at: Micros,
    /// Of a response.
    status: Option<u16>,
    method: Method,
    party: u8,
    sent: bool,
}

#[derive(Debug, Default)]
struct Trace {
    call_id: Box<str>,
    parties: Vec<SocketAddr>,
    steps: Vec<Step>,
}

/// The messages of the last calls.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    calls: BTreeMap<CallKey, Trace>,
    order: VecDeque<CallKey>,
}

impl Traces {
    /// A message of a call came.
    pub(crate) fn came(&mut self, call: CallKey, message: &Message<'_>, peer: SocketAddr, at: Micros) {
        let (status, method) = match message.start {
            StartLine::Request(line) => (None, line.method),
            StartLine::Status { code, .. } => {
                (Some(code), message.cseq().map_or(Method::Other, |cseq| Method::of(cseq.method)))
            }
        };
        let trace = self.of(call);
        if trace.steps.is_empty()
            && let Ok(call_id) = message.call_id()
            && call_id.len() <= CALL_ID
        {
            trace.call_id = call_id.into();
        }
        trace.note(status, method, peer, false, at);
    }

    /// A message of a call goes. It is one of ours, so a glance is enough.
    pub(crate) fn goes(&mut self, call: CallKey, wire: &[u8], peer: SocketAddr, at: Micros) {
        let mut words = wire.split(|byte| *byte == b' ').filter_map(|word| std::str::from_utf8(word).ok());
        let (Some(first), Some(second)) = (words.next(), words.next()) else { return };
        let (status, method) = if first == "SIP/2.0" {
            let cseq = wire.windows(CSEQ.len()).position(|bytes| bytes == CSEQ).map(|at| at + CSEQ.len());
            let line = cseq.and_then(|from| wire.get(from..)?.split(|byte| *byte == b'\r').next());
            let method = line.and_then(|line| std::str::from_utf8(line).ok()?.split(' ').nth(1));
            (second.parse().ok(), method.map_or(Method::Other, Method::of))
        } else {
            (None, Method::of(first))
        };
        self.of(call).note(status, method, peer, true, at);
    }

    /// The call whose first message had this Call-ID.
    pub(crate) fn by_call_id(&self, call_id: &str) -> Option<CallKey> {
        let found = self.calls.iter().find(|(_, trace)| !call_id.is_empty() && *trace.call_id == *call_id);
        found.map(|(call, _)| *call)
    }

    fn of(&mut self, call: CallKey) -> &mut Trace {
        if !self.calls.contains_key(&call) {
            if self.order.len() >= CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(call);
        }
        self.calls.entry(call).or_default()
    }

    /// A ladder: time, who says it to whom, what. None: nothing is remembered of the call.
    pub(crate) fn ladder(&self, call: CallKey) -> Option<String> {
        let trace = self.calls.get(&call)?;
        let begun = trace.steps.first()?.at;
        let mut text = format!("{:>12}  {:<COLUMN$}", "", "us");
        for party in &trace.parties {
            let _ = write!(text, "{:<COLUMN$}", party.to_string());
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for step in &trace.steps {
            let ms = step.at.since(begun).as_secs_f64() * 1_000.0;
            let length = (usize::from(step.party) + 1) * COLUMN - 3;
            let what = match step.status {
                Some(status) => format!(" {status} ({}) ", step.method),
                None => format!(" {} ", step.method),
            };
            let line = format!("{what:-^length$}");
            let arrow = if step.sent { format!("|{line}>|") } else { format!("|<{line}|") };
            let _ = writeln!(text, "{ms:>9.3} ms  {arrow}");
        }
        if trace.steps.len() >= MESSAGES {
            text.push_str("later messages are not remembered\n");
        }
        Some(text)
    }
}

impl Trace {
    fn note(&mut self, status: Option<u16>, method: Method, peer: SocketAddr, sent: bool, at: Micros) {
        if self.steps.len() >= MESSAGES {
            return;
        }
        let known = self.parties.iter().position(|party| *party == peer);
        let party = known.unwrap_or_else(|| {
            if self.parties.len() < PARTIES {
                self.parties.push(peer);
            }
            self.parties.len() - 1
        });
        // More parties than fit are left out.
        if known.is_some() || self.parties.get(party) == Some(&peer) {
            let party = u8::try_from(party).unwrap_or(u8::MAX);
            self.steps.push(Step { at, status, method, party, sent });
        }
    }
}
