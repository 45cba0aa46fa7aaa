//! What was said in a call: the last messages of the last calls, and a ladder diagram of them.

use domain::Micros;
use sip_proto::b2bua::CallKey;
use sip_proto::{Message, StartLine};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;

/// Calls that are remembered.
const CALLS: usize = 4_096;
/// Messages of a call that are remembered: the first ones.
const MESSAGES: usize = 48;
/// Parties of a diagram.
const PARTIES: usize = 6;
/// What CSeq begins with in messages of ours.
const CSEQ: &[u8] = b"\r\nCSeq: ";
/// Width of a column.
const COLUMN: usize = 30;

#[derive(Debug)]
struct Step {
    at: Micros,
    peer: SocketAddr,
    sent: bool,
    what: Box<str>,
}

/// The messages of the last calls.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    calls: BTreeMap<CallKey, Vec<Step>>,
    order: VecDeque<CallKey>,
}

impl Traces {
    /// A message of a call came.
    pub(crate) fn came(&mut self, call: CallKey, message: &Message<'_>, peer: SocketAddr, at: Micros) {
        let cseq = message.cseq().map_or("", |cseq| cseq.method);
        match message.start {
            StartLine::Request(line) => self.note(call, line.method_text, "", peer, false, at),
            StartLine::Status { code, .. } => self.note(call, &code.to_string(), cseq, peer, false, at),
        }
    }

    /// A message of a call goes. It is one of ours, so a glance is enough.
    pub(crate) fn goes(&mut self, call: CallKey, wire: &[u8], peer: SocketAddr, at: Micros) {
        let mut words = wire.split(|byte| *byte == b' ').filter_map(|word| std::str::from_utf8(word).ok());
        let (Some(first), Some(second)) = (words.next(), words.next()) else { return };
        if first == "SIP/2.0" {
            let cseq = wire.windows(CSEQ.len()).position(|bytes| bytes == CSEQ).map(|at| at + CSEQ.len());
            let line = cseq.and_then(|from| wire.get(from..)?.split(|byte| *byte == b'\r').next());
            let method = line.and_then(|line| std::str::from_utf8(line).ok()?.split(' ').nth(1));
            self.note(call, second, method.unwrap_or_default(), peer, true, at);
        } else {
            self.note(call, first, "", peer, true, at);
        }
    }

    fn note(&mut self, call: CallKey, what: &str, cseq: &str, peer: SocketAddr, sent: bool, at: Micros) {
        if !self.calls.contains_key(&call) {
            if self.order.len() >= CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(call);
        }
        let steps = self.calls.entry(call).or_default();
        if steps.len() < MESSAGES {
            let what = if cseq.is_empty() { what.into() } else { format!("{what} ({cseq})").into() };
            steps.push(Step { at, peer, sent, what });
        }
    }

    /// A ladder: time, who says it to whom, what. None: nothing is remembered of the call.
    pub(crate) fn ladder(&self, call: CallKey) -> Option<String> {
        let steps = self.calls.get(&call)?;
        let begun = steps.first()?.at;
        let mut parties: Vec<SocketAddr> = Vec::new();
        for step in steps {
            if !parties.contains(&step.peer) && parties.len() < PARTIES {
                parties.push(step.peer);
            }
        }
        let mut text = format!("{:>12}  {:<COLUMN$}", "", "us");
        for party in &parties {
            let _ = write!(text, "{:<COLUMN$}", party.to_string());
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for step in steps {
            let Some(column) = parties.iter().position(|party| *party == step.peer) else { continue };
            let ms = step.at.since(begun).as_secs_f64() * 1_000.0;
            let length = (column + 1) * COLUMN - 3;
            let what = format!(" {} ", step.what);
            let line = format!("{what:-^length$}");
            let arrow = if step.sent { format!("|{line}>|") } else { format!("|<{line}|") };
            let _ = writeln!(text, "{ms:>9.3} ms  {arrow}");
        }
        if steps.len() >= MESSAGES {
            text.push_str("later messages are not remembered\n");
        }
        Some(text)
    }
}
