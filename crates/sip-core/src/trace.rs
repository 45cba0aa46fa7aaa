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
    /// A message of a call came or goes.
    pub(crate) fn note(
        &mut self,
        call: CallKey,
        message: &Message<'_>,
        peer: SocketAddr,
        sent: bool,
        at: Micros,
    ) {
        if !self.calls.contains_key(&call) {
            if self.order.len() >= CALLS
                && let Some(oldest) = self.order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.order.push_back(call);
        }
        let steps = self.calls.entry(call).or_default();
        if steps.len() >= MESSAGES {
            return;
        }
        let what = match message.start {
            StartLine::Request(line) => line.method_text.into(),
            StartLine::Status { code, .. } => {
                let method = message.cseq().map_or("", |cseq| cseq.method);
                format!("{code} ({method})").into()
            }
        };
        steps.push(Step { at, peer, sent, what });
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
