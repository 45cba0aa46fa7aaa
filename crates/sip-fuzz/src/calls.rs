//! What phones do, one after the other, with two servers of which one is primary: each change goes to the other as it is
//! made, and the role moves to and fro.

use crate::message::check_sent;
use crate::office::server;
use crate::phones::{address, answer, in_dialog, request};
use crate::script::Script;
use domain::{Epoch, Micros};
use sip_core::{Change, Input, Outputs, SipCore};
use sip_proto::b2bua::{CallKey, Flow, Outgoing};
use sip_proto::{Duty, Framing, parse};
use sip_sync::Replica;
use std::collections::VecDeque;
use std::time::Duration;

/// Most orders of a script that are carried out: longer ones only take time.
const ORDERS: usize = 200;
/// Messages that phones remember to have been sent.
const REMEMBERED: usize = 32;
/// Steps in which everything that is due at one time is done; more is a timer that is due for ever.
const STEPS: usize = 2_000;
/// How long nothing happens, milliseconds: the timers of RFC 3261, ringing, sessions, registrations.
const PAUSES_MS: [u64; 8] = [1, 100, 500, 4_000, 32_000, 60_000, 200_000, 3_700_000];

/// Whatever phones do: what is sent can be read, the servers' own books agree, timers come to an end, and after each change the
/// backup has what the primary has.
///
/// # Panics
/// Where that is not so.
pub fn calls(script: &[u8]) {
    let mut world = World::new();
    world.act_out(script);
    world.compare();
}

/// The changes that a script makes, for streams of them.
#[must_use]
pub fn changes_of(script: &[u8]) -> Vec<Change> {
    let mut world = World::new();
    world.act_out(script);
    world.changes
}

struct World {
    servers: [SipCore; 2],
    serving: usize,
    epoch: u64,
    now: Micros,
    out: Outputs,
    sent: VecDeque<Outgoing>,
    heard: Vec<u8>,
    unwritten: Vec<CallKey>,
    requests: u32,
    changes: Vec<Change>,
}

impl World {
    fn new() -> Self {
        let now = Micros(1_000_000);
        let mut servers = [server(1, now), server(2, now)];
        servers[0].take_over(Epoch(2), now);
        Self {
            servers,
            serving: 0,
            epoch: 2,
            now,
            out: Outputs::default(),
            sent: VecDeque::new(),
            heard: Vec::new(),
            unwritten: Vec::new(),
            requests: 0,
            changes: Vec::new(),
        }
    }

    fn act_out(&mut self, script: &[u8]) {
        let mut script = Script(script);
        for _ in 0..ORDERS {
            let Some(order) = script.next() else { break };
            self.act(order, &mut script);
        }
    }

    fn act(&mut self, order: u8, script: &mut Script<'_>) {
        let who = script.byte();
        let (phone, over_tcp, noisy) = (who % 9, who & 0x40 != 0, who & 0x80 != 0);
        let flow = Flow { interface: over_tcp.into(), peer: address(phone).parse().expect("an address") };
        match order % 16 {
            0 => {
                let length = usize::from(script.byte()) * 4;
                let bytes = script.piece(length).to_vec();
                self.hear(bytes, flow);
            }
            1 | 2 => {
                let method = if order % 16 == 1 { "REGISTER" } else { "INVITE" };
                self.requests += 1;
                let text = request(method, self.requests, phone, script);
                self.hear(noise(text, noisy, script), flow);
            }
            3..=6 => self.answer(noisy, script),
            7..=9 => self.in_dialog(noisy, script),
            10 => {
                // As it was heard before.
                let bytes = self.heard.clone();
                self.hear(bytes, flow);
            }
            11 => self.pause(script),
            12 => self.order(script),
            13 => self.take_over(),
            14 => {
                let written = std::mem::take(&mut self.unwritten);
                self.step(Input::Recorded { calls: &written });
            }
            _ => {
                let duty = if script.byte() & 1 == 0 { Duty::Serve } else { Duty::Refuse };
                self.servers[self.serving].set_duty(duty);
                self.servers[self.serving].set_behind(noisy);
            }
        }
    }

    /// Whoever was sent a request answers it.
    fn answer(&mut self, noisy: bool, script: &mut Script<'_>) {
        let is_request = |outgoing: &Outgoing| !outgoing.wire.starts_with(b"SIP/2.0 ");
        let Some(outgoing) = self.one_sent(is_request, script) else { return };
        let text = parse(&outgoing.wire, Framing::Datagram).ok().and_then(|sent| answer(&sent, script));
        if let Some(text) = text {
            self.hear(noise(text, noisy, script), outgoing.flow);
        }
    }

    /// Whoever was sent something says more in the same dialog.
    fn in_dialog(&mut self, noisy: bool, script: &mut Script<'_>) {
        self.requests += 1;
        let Some(outgoing) = self.one_sent(|_| true, script) else { return };
        let phone = script.byte() % 9;
        let sent = parse(&outgoing.wire, Framing::Datagram).ok();
        if let Some(text) = sent.and_then(|sent| in_dialog(&sent, self.requests, phone, script)) {
            self.hear(noise(text, noisy, script), outgoing.flow);
        }
    }

    /// One of those that were sent, the last one where the script has 0.
    fn one_sent(&self, fits: impl Fn(&Outgoing) -> bool, script: &mut Script<'_>) -> Option<Outgoing> {
        let fitting = self.sent.iter().rev().filter(|outgoing| fits(outgoing));
        let back = usize::from(script.byte()).checked_rem(fitting.clone().count())?;
        fitting.clone().nth(back).cloned()
    }

    /// Something is not sent, or a call is to end.
    fn order(&mut self, script: &mut Script<'_>) {
        let Some(outgoing) = self.one_sent(|_| true, script) else { return };
        let Some(call) = outgoing.call else { return };
        match outgoing.transaction {
            Some(transaction) if script.byte() & 1 == 0 => self.step(Input::Unsent { call, transaction }),
            Some(_) | None => self.step(Input::HangUp { call }),
        }
    }

    fn hear(&mut self, bytes: Vec<u8>, flow: Flow) {
        if let Ok(message) = parse(&bytes, Framing::Datagram) {
            self.step(Input::Received { message: &message, flow });
        }
        self.heard = bytes;
    }

    fn pause(&mut self, script: &mut Script<'_>) {
        let pause = script.one_of(&PAUSES_MS).copied().unwrap_or_default();
        self.now += Duration::from_millis(pause);
        self.catch_up();
    }

    /// Everything that is due.
    fn catch_up(&mut self) {
        for _ in 0..STEPS {
            if self.servers[self.serving].next_deadline(self.now).is_none_or(|at| at > self.now) {
                return;
            }
            self.step(Input::Due);
        }
        panic!("something is due for ever");
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        let wall = Micros(self.now.0 + 1_700_000_000_000_000);
        self.servers[self.serving].step(input, self.now, wall, &mut self.out);
        let [first, second] = &mut self.servers;
        let (primary, backup) = if self.serving == 0 { (first, second) } else { (second, first) };
        backup.heard_clock(primary.clock(self.now), self.now);
        for change in self.out.changes.drain(..) {
            backup.apply(change.clone(), self.now).expect("the backup has what is changed");
            self.changes.push(change);
        }
        self.unwritten.extend(self.out.records.iter().map(|record| record.call));
        for outgoing in self.out.messages.drain(..) {
            check_sent(&outgoing.wire);
            if self.sent.len() == REMEMBERED {
                self.sent.pop_front();
            }
            self.sent.push_back(outgoing);
        }
    }

    fn take_over(&mut self) {
        self.compare();
        self.epoch += 1;
        self.servers[self.serving].stand_by(self.now);
        self.serving = 1 - self.serving;
        self.servers[self.serving].take_over(Epoch(self.epoch), self.now);
        self.catch_up();
    }

    /// Both have the same.
    fn compare(&mut self) {
        self.servers.iter().for_each(SipCore::check);
        let [mut one, mut two] = [0, 1].map(|n| self.whole(n));
        // What differs, and not all the rest.
        one.retain(|change| two.iter().position(|other| other == change).map(|at| two.remove(at)).is_none());
        assert!(one.is_empty() && two.is_empty(), "{one:#?}\nis not\n{two:#?}");
    }

    /// All that there is, without the times at which it is told, and without bindings that have expired: each forgets them
    /// in its own time.
    fn whole(&self, n: usize) -> Vec<Change> {
        let server = &self.servers[n];
        let (mut all, mut cursor) = (Vec::new(), None);
        while let Some(next) = server.snapshot(cursor.as_ref(), 1_000, self.now, &mut all) {
            cursor = Some(next);
        }
        let clock = server.clock(self.now);
        for change in &mut all {
            match change {
                Change::Call(delta) => delta.at = Micros(0),
                Change::Bindings { bindings, .. } => bindings.retain(|binding| binding.expires_at > clock),
                Change::Caller { .. } | Change::Record(_) | Change::Recorded { .. } => {}
            }
        }
        all.retain(|change| !matches!(change, Change::Bindings { bindings, .. } if bindings.is_empty()));
        all
    }
}

/// The message, with a few bytes changed where it is to be noisy.
fn noise(text: String, noisy: bool, script: &mut Script<'_>) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    if noisy {
        let at = usize::from(script.byte()) * 4 + usize::from(script.byte() % 4);
        let with = script.byte();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
    }
    bytes
}
