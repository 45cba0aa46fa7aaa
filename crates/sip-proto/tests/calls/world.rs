//! A pretend world: phones, a network that takes a millisecond, and a pair of servers of which one serves and the other
//! holds a copy. Every step of the one is applied to the other, and the two are compared.

use crate::phone::Phone;
use domain::{Epoch, Micros};
use sip_proto::b2bua::{
    CallLimits, CallSettings, Calls, Cdr, Event, Failover, Flow, Input, Interface, Order, Outputs, Plan,
    Target, Transport,
};
use sip_proto::digest::User;
use sip_proto::transaction::Timing;
use sip_proto::{Framing, SessionLimits, StartLine, parse};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub const SERVER: &str = "192.0.2.100:5060";
const LATENCY: u64 = 1_000;
/// How much later it is on the second server's clock.
const SKEW: u64 = 5_000_000_000;

/// Numbers from a seed (xorshift64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A message with a few bytes, or what a header field says, changed.
    fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        const SWAPS: [(&str, &str); 12] = [
            ("INVITE", "BYE"),
            ("INVITE", "UPDATE"),
            ("ACK", "PRACK"),
            ("SIP/2.0 180", "SIP/2.0 200"),
            ("SIP/2.0 200", "SIP/2.0 486"),
            ("SIP/2.0 200", "SIP/2.0 183"),
            ("CSeq: ", "CSeq: 1"),
            (";tag=", ";gat="),
            ("Contact: ", "Require: 100rel\r\nRSeq: 7\r\nContact: "),
            ("Contact: ", "Session-Expires: 91;refresher=uas\r\nSupported: timer\r\nContact: "),
            ("Contact: ", "X: "),
            ("Contact: <", "Contact: <sips:x@[::1]>, <"),
        ];
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (from, to) = SWAPS[self.below(SWAPS.len())];
        let mut bytes = if self.below(3) > 0 { text.replace(from, to).into_bytes() } else { bytes.to_vec() };
        for _ in 0..self.below(3) {
            let at = self.below(bytes.len());
            bytes[at] = b"\r\n \0\"<>;:,=@0129zZ\xff"[self.below(18)];
        }
        bytes
    }
}

/// A message under way.
struct Flight {
    at: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What is lost when the serving host dies in the middle of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// Nothing: it dies after the step.
    AfterStep,
    /// The messages and events: it dies when the backup has heard and nobody else.
    BeforeSending,
    /// Everything: it dies before the backup has heard.
    BeforeReplicating,
    /// What the backup should have heard, but not the messages: its link was slower than the network.
    WithoutReplicating,
}

pub struct World {
    transport: Transport,
    pub now: u64,
    pub phones: BTreeMap<String, Phone>,
    flights: VecDeque<Flight>,
    /// The serving host first.
    pub servers: [Calls; 2],
    /// Which of the two hosts serves.
    pub host: usize,
    epoch: u64,
    pub plan: Plan,
    pub cdrs: Vec<Cdr>,
    /// Steps of the server so far, and at which of them it dies.
    pub steps: usize,
    pub death: Option<(usize, Dies)>,
    /// How many messages of the server are still to be lost.
    pub lose: usize,
    pub chart: Vec<String>,
    /// Where it is set, each message to the server is followed by a few that are changed at random.
    pub noise: Option<Random>,
    noisy: bool,
    pub pending: Vec<Order>,
}

pub fn settings(transport: Transport, seed: u8) -> CallSettings {
    CallSettings {
        server: "test".to_owned(),
        interfaces: vec![Interface { transport, address: SERVER.parse().unwrap() }],
        timing: Timing::default(),
        session: SessionLimits { interval_s: 600, min_se_s: 90 },
        limits: CallLimits::default(),
        users: BTreeMap::from([(
            "trunk".into(),
            User { username: "us".to_owned(), password: "secret".to_owned() },
        )]),
        seed: [seed; 32],
    }
}

impl World {
    pub fn new(names: &[&str]) -> Self {
        Self::over(Transport::Udp, names)
    }

    pub fn over(transport: Transport, names: &[&str]) -> Self {
        let server: SocketAddr = SERVER.parse().unwrap();
        let phones = names.iter().enumerate().map(|(index, name)| {
            let address = SocketAddr::new([192, 0, 2, u8::try_from(index).unwrap() + 1].into(), 5060);
            ((*name).to_owned(), Phone::new(name, address, server))
        });
        let mut primary = Calls::new(settings(transport, 1));
        primary.take_over(Epoch(2));
        let plan =
            Plan { groups: Vec::new(), failover: Failover::AnyFailure, ringing: Duration::from_secs(60) };
        Self {
            transport,
            now: 0,
            phones: phones.collect(),
            flights: VecDeque::new(),
            servers: [primary, Calls::new(settings(transport, 2))],
            host: 0,
            epoch: 2,
            plan,
            cdrs: Vec::new(),
            steps: 0,
            death: None,
            lose: 0,
            chart: Vec::new(),
            noise: None,
            noisy: false,
            pending: Vec::new(),
        }
    }

    pub fn target(&self, name: &str) -> Target {
        let peer = self.phones[name].address;
        Target {
            uri: format!("sip:{name}@{peer}").into(),
            flow: Flow { interface: 0, peer },
            behind_nat: false,
            replaces: None,
            route: None,
            label: name.into(),
        }
    }

    /// `["bob+carol", "dave"]`: bob and carol at once, then dave.
    pub fn route(&mut self, groups: &[String]) {
        self.plan.groups =
            groups.iter().map(|group| group.split('+').map(|name| self.target(name)).collect()).collect();
    }

    /// The clock of the serving host.
    fn clock(&self, host: usize) -> Micros {
        Micros(self.now + if host == 0 { 0 } else { SKEW })
    }

    // ---- time

    pub fn run_until(&mut self, until: u64) {
        for _ in 0..200_000 {
            self.send_out();
            self.carry_out_orders();
            let Some(next) = self.next_event().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            self.advance();
        }
        panic!("time does not pass");
    }

    fn next_event(&self) -> Option<u64> {
        let flight = self.flights.front().map(|flight| flight.at);
        let phones = self.phones.values().filter_map(Phone::next_deadline).min();
        let skew = if self.host == 0 { 0 } else { SKEW };
        let server = self.servers[self.host].next_deadline().map(|at| at.0.saturating_sub(skew));
        [flight, phones, server].into_iter().flatten().min()
    }

    fn advance(&mut self) {
        if self.flights.front().is_some_and(|flight| flight.at <= self.now) {
            let flight = self.flights.pop_front().unwrap();
            return self.arrive(flight);
        }
        let now = self.now;
        for phone in self.phones.values_mut() {
            if phone.next_deadline().is_some_and(|at| at <= now) {
                phone.due(now);
            }
        }
        let clock = self.clock(self.host);
        if self.servers[self.host].next_deadline().is_some_and(|at| at <= clock) {
            self.step(Input::Due);
        }
    }

    fn arrive(&mut self, flight: Flight) {
        if flight.to == SERVER.parse().unwrap() {
            self.draw(flight.from, &flight.bytes, true);
            let message = parse(&flight.bytes, Framing::Datagram).unwrap();
            if !Calls::concerns(&message) {
                // Of a call that never came about: there is no dialog that it could be in.
                return;
            }
            let flow = Flow { interface: 0, peer: flight.from };
            self.step(Input::Received { message: &message, flow });
            return self.make_noise(&flight.bytes, flow);
        }
        self.draw(flight.to, &flight.bytes, false);
        let now = self.now;
        match self.phones.values_mut().find(|phone| phone.address == flight.to) {
            Some(phone) => phone.hears(&flight.bytes, now),
            // A Contact that was changed at random leads anywhere.
            None => assert!(self.noisy, "nobody lives at {}", flight.to),
        }
    }

    fn make_noise(&mut self, bytes: &[u8], flow: Flow) {
        let Some(mut random) = self.noise.take() else { return };
        self.noisy = true;
        for _ in 0..4 {
            let changed = random.change(bytes);
            let Ok(message) = parse(&changed, Framing::Datagram) else { continue };
            if Calls::concerns(&message) {
                let sent = self.flights.len();
                self.step(Input::Received { message: &message, flow });
                // The phones are spared: what they would make of it is not in question.
                self.flights.truncate(sent);
                self.pending.clear();
            }
        }
        self.noise = Some(random);
    }

    pub fn send_out(&mut self) {
        let at = self.now + LATENCY;
        for phone in self.phones.values_mut() {
            let from = phone.address;
            for (to, bytes) in phone.out.drain(..) {
                self.flights.push_back(Flight { at, from, to, bytes });
            }
        }
    }

    fn carry_out_orders(&mut self) {
        for order in std::mem::take(&mut self.pending) {
            self.step(Input::Ordered(order));
        }
    }

    // ---- the pair of servers

    pub fn step(&mut self, input: Input<'_>) {
        let mut out = Outputs::default();
        let clock = self.clock(self.host);
        self.servers[self.host].step(input, clock, &mut out);
        self.steps += 1;
        let death = self.death.filter(|(at, _)| *at == self.steps).map(|(_, dies)| dies);
        if !matches!(death, Some(Dies::BeforeReplicating | Dies::WithoutReplicating)) {
            self.replicate(&mut out);
        }
        if matches!(death, Some(Dies::BeforeReplicating | Dies::BeforeSending)) {
            // Its record is written when the other hosts has heard of it, or never; whoever goes on, goes on from there.
            if death == Some(Dies::BeforeSending) {
                self.note_events(&out, false);
            }
        } else {
            self.note_events(&out, true);
            self.send(out);
        }
        if death.is_some() {
            self.take_over();
        }
    }

    fn replicate(&mut self, out: &mut Outputs) {
        let backup = 1 - self.host;
        let clock = self.clock(backup);
        for delta in out.deltas.drain(..) {
            // As it would travel.
            let text = serde_json::to_string(&delta).unwrap();
            let back = serde_json::from_str(&text).unwrap();
            assert!(delta == back, "a change is read back differently: {text}");
            // A call that was over at once is removed without ever having been there.
            let _ = self.servers[backup].apply(back, clock);
        }
        assert!(self.servers[0] == self.servers[1], "the copy differs at step {}", self.steps);
        self.servers[0].check();
        self.servers[1].check();
    }

    fn send(&mut self, out: Outputs) {
        let at = self.now + LATENCY;
        for message in out.messages {
            if self.lose > 0 {
                self.lose -= 1;
                self.line("lost on the way:".to_owned());
                self.draw(message.flow.peer, &message.wire, false);
                continue;
            }
            let from = SERVER.parse().unwrap();
            self.flights.push_back(Flight { at, from, to: message.flow.peer, bytes: message.wire.to_vec() });
        }
    }

    /// `live`: somebody hears of it; otherwise only records count, as the host that goes on will not write them.
    fn note_events(&mut self, out: &Outputs, live: bool) {
        for event in &out.events {
            match event {
                Event::Incoming { call } if live => {
                    self.pending.push(Order::Route { call: *call, plan: self.plan.clone() });
                }
                Event::Incoming { .. } => {}
                Event::Ended(cdr) => {
                    self.line(format!("* ended: {:?}", cdr.cause));
                    self.cdrs.push((**cdr).clone());
                }
                Event::TargetFailed { label, status, retry_after_s, .. } => {
                    let after = retry_after_s.map_or(String::new(), |s| format!(", not before {s} s"));
                    self.line(format!("* {label} failed: {status}{after}"));
                }
                Event::Answered { label, .. } => self.line(format!("* {label} answered")),
                Event::Ringing { .. } => {}
            }
        }
    }

    /// The serving host is gone; the other goes on, and the first comes back as its backup.
    pub fn take_over(&mut self) {
        let old = self.host;
        self.host = 1 - old;
        self.epoch += 1;
        self.pending.clear();
        self.line(format!("* host {} takes over", self.host + 1));
        self.servers[self.host].take_over(Epoch(self.epoch));
        let mut fresh = Calls::new(settings(self.transport, u8::try_from(self.epoch).unwrap()));
        let mut after = None;
        loop {
            let some = self.servers[self.host].snapshot(after, 2, self.clock(self.host));
            let Some(last) = some.last() else { break };
            after = Some(last.call);
            for delta in some {
                fresh.apply(delta, self.clock(old)).unwrap();
            }
        }
        self.servers[old] = fresh;
        assert!(self.servers[0] == self.servers[1], "a resynchronised copy differs");
        self.servers[old].check();
    }

    // ---- the chart

    pub fn line(&mut self, text: String) {
        self.chart.push(format!("{:9.3}  {text}", self.now as f64 / 1_000_000.0).trim_end().to_owned());
    }

    fn draw(&mut self, phone: SocketAddr, bytes: &[u8], to_server: bool) {
        let message = parse(bytes, Framing::Datagram).unwrap();
        let title = match message.start {
            StartLine::Request(line) => line.method_text.to_owned(),
            StartLine::Status { code, .. } => match message.cseq().unwrap().method {
                "INVITE" => code.to_string(),
                method => format!("{code} {method}"),
            },
        };
        let name = self.phones.values().find(|p| p.address == phone).map_or("?", |p| &p.name).to_owned();
        let left = name == "alice";
        let rightwards = left == to_server;
        let arrow = match rightwards {
            true => format!("---- {title} {}>", "-".repeat(12_usize.saturating_sub(title.len()))),
            false => format!("<--- {title} {}-", "-".repeat(12_usize.saturating_sub(title.len()))),
        };
        if left {
            self.line(format!("{name:>5} {arrow}"))
        } else {
            self.line(format!("{:28}{arrow} {name}", ""))
        }
    }
}
