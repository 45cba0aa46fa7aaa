//! Two servers joined by the stream of `sip-sync`, as bytes: calls and registrations come whole and stay whole, whenever
//! the backup comes and however often the stream breaks.

// clippy.toml allows it in tests; clippy does not know that helpers of an integration test are tests too.
#![allow(clippy::unwrap_used)]

use domain::{Epoch, Micros, SipListen, SipSettings, SipTransport};
use sip_core::{Change, Input, Outputs, Setup, SipCore};
use sip_proto::b2bua::{CallKey, Flow};
use sip_proto::{Framing, parse};
use sip_sync::{Limits, Phase, Replica, Replicator, Role, Settings, Timing};
use std::sync::Arc;
use std::time::Duration;

const VIP: &str = "192.0.2.100:5060";

const NOISE: &[u8] = b"\r\n \0\"<>;:,=@0129zZ\xff";

/// Numbers that look random (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

struct End {
    core: SipCore,
    stream: Replicator<<SipCore as Replica>::Cursor>,
}

/// A primary (`ends[serving]`) that serves 9 phones, its backup, and what the server sent last.
struct World {
    ends: [End; 2],
    serving: usize,
    now: Micros,
    out: Outputs,
    sent: Vec<(String, String)>,
    connected: bool,
    epoch: u64,
    made: u64,
    chance: Chance,
    /// Some messages come again with a few bytes changed.
    noise: bool,
    /// Records that were not written down yet.
    unwritten: Vec<CallKey>,
}

fn settings() -> SipSettings {
    SipSettings {
        domains: vec!["example.com".into()],
        listen: vec![SipListen { transport: SipTransport::Udp, address: VIP.parse().unwrap() }],
        tls: None,
        registrations: Default::default(),
        users: Default::default(),
        trunks: Default::default(),
        routes: vec![],
        limits: Default::default(),
        timers: Default::default(),
        replication: Default::default(),
        http_port: None,
        cdr_directory: Some("/var/log/sip".into()),
        cdr_log: 20,
    }
}

fn end(name: &str, seed: u8, now: Micros) -> End {
    let setup = Setup { settings: Arc::new(settings()), server: "test".into(), seed: [seed; 32], open: true };
    let settings = Settings {
        pair: "sip".into(),
        application: name.into(),
        release: "0".into(),
        format: 1,
        shape: 1,
        digest: 1,
        timing: Timing::default(),
        limits: Limits { part: 3, ..Limits::default() },
    };
    End { core: SipCore::new(setup, now), stream: Replicator::new(settings) }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Micros(1_000_000);
        let mut ends = [end("sip1", 1, now), end("sip2", 2, now)];
        ends[0].core.take_over(Epoch(2), now);
        ends[0].stream.set_role(Role::Primary, Epoch(2));
        Self {
            ends,
            serving: 0,
            now,
            out: Outputs::default(),
            sent: Vec::new(),
            connected: false,
            epoch: 2,
            made: 0,
            chance: Chance(seed),
            noise: false,
            unwritten: Vec::new(),
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        let end = &mut self.ends[self.serving];
        end.core.step(input, self.now, Micros(self.now.0 + 1_700_000_000_000_000), &mut self.out);
        end.stream.send(&self.out.changes, self.now).unwrap();
        self.unwritten.extend(self.out.records.iter().map(|record| record.call));
        for message in self.out.messages.drain(..) {
            self.sent
                .push((message.flow.peer.to_string(), String::from_utf8_lossy(&message.wire).into_owned()));
        }
    }

    fn hear(&mut self, from: &str, text: &str) {
        let flow = Flow { interface: 0, peer: from.parse().unwrap() };
        self.take(text.as_bytes(), flow);
        if self.noise && self.chance.below(4) == 0 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=self.chance.below(3) {
                let (at, with) =
                    (self.chance.below(bytes.len() as u64), self.chance.below(NOISE.len() as u64));
                bytes[at as usize] = NOISE[with as usize];
            }
            self.take(&bytes, flow);
        }
    }

    fn take(&mut self, bytes: &[u8], flow: Flow) {
        if let Ok(message) = parse(bytes, Framing::Datagram) {
            self.step(Input::Received { message: &message, flow });
        }
    }

    fn request(&mut self, phone: u64, method: &str, to: &str) {
        self.made += 1;
        let (n, at) = (self.made, address(phone));
        let (uri, call_id, contact) = match method {
            "REGISTER" => (
                "sip:example.com".to_owned(),
                format!("r{phone}"),
                format!("Contact: <sip:u{phone}@{at}>\r\n"),
            ),
            _ => (
                format!("sip:{to}@example.com"),
                format!("c{n}"),
                format!("Contact: <sip:u{phone}@{at}>\r\n"),
            ),
        };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:u{phone}@example.com>;tag=t{n}\r\nTo: <sip:{to}@example.com>\r\nCall-ID: {call_id}\r\n\
             CSeq: {n} {method}\r\n{contact}Content-Length: 0\r\n\r\n"
        );
        self.hear(&at, &text);
    }

    /// Some phone answers some request of those that were sent.
    fn answer(&mut self, code: u64) {
        let requests: Vec<usize> =
            (0..self.sent.len()).filter(|n| !self.sent[*n].1.starts_with("SIP/2.0")).collect();
        let Some(chosen) = requests.get(self.chance.below(requests.len().max(1) as u64) as usize) else {
            return;
        };
        let (at, text) = self.sent[*chosen].clone();
        if text.starts_with("ACK") {
            return;
        }
        let lines = text.lines().filter_map(|line| {
            if line.starts_with("To:") && !line.contains(";tag=") {
                return Some(format!("{line};tag=x{}\r\n", text.len()));
            }
            let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
            copied.iter().any(|name| line.starts_with(name)).then(|| format!("{line}\r\n"))
        });
        let lines: String = lines.collect();
        self.hear(
            &at,
            &format!("SIP/2.0 {code} X\r\n{lines}Contact: <sip:phone@{at}>\r\nContent-Length: 0\r\n\r\n"),
        );
    }

    /// Something happens that is likely in an office.
    fn act(&mut self) {
        let (phone, other) = (self.chance.below(9), self.chance.below(9));
        match self.chance.below(9) {
            0 => self.request(phone, "REGISTER", &format!("u{phone}")),
            1 | 2 => self.request(phone, "INVITE", &format!("u{other}")),
            3 => self.answer(180),
            4 | 5 => self.answer(200),
            6 => self.answer(486),
            7 => {
                let written = std::mem::take(&mut self.unwritten);
                self.step(Input::Recorded { calls: &written });
            }
            _ => {
                self.now += Duration::from_millis(self.chance.below(3_000));
                self.step(Input::Due);
            }
        }
    }

    fn connect(&mut self) {
        self.connected = true;
        let now = self.now;
        self.ends.iter_mut().for_each(|end| end.stream.connected(now));
    }

    fn cut(&mut self) {
        self.connected = false;
        let now = self.now;
        self.ends.iter_mut().for_each(|end| end.stream.disconnected(now));
    }

    /// A few milliseconds of the stream, bytes in pieces.
    fn exchange(&mut self) {
        self.now += Duration::from_millis(5);
        for n in [0, 1, 0, 1] {
            let now = self.now;
            let [a, b] = &mut self.ends;
            let (from, to) = if n == 0 { (a, b) } else { (b, a) };
            if from.stream.due(&from.core, now).is_err() {
                // Time leaps here, so that either may seem silent.
                return self.cut();
            }
            let length = if self.connected { from.stream.outgoing().len() } else { 0 };
            let bytes = from.stream.outgoing()[..length].to_vec();
            from.stream.sent(length);
            for piece in bytes.chunks(700) {
                to.stream.received(piece, &mut to.core, now).unwrap();
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..2_000 {
            if !self.connected {
                self.connect();
            }
            self.exchange();
            let now = self.now;
            if self.ends.iter_mut().all(|end| end.stream.readiness(now).phase == Phase::Live) {
                self.exchange();
                self.ends.iter().for_each(|end| end.core.check());
                let (mut one, mut two) = (self.whole(0), self.whole(1));
                // What differs, and not all the rest.
                one.retain(|change| {
                    two.iter().position(|other| other == change).map(|at| two.remove(at)).is_none()
                });
                return assert_eq!((one, two), (vec![], vec![]));
            }
        }
        panic!("never in step");
    }

    /// All that there is, without the times at which it is told.
    fn whole(&self, n: usize) -> Vec<Change> {
        let (mut all, mut cursor) = (Vec::new(), None);
        while let Some(next) = self.ends[n].core.snapshot(cursor.as_ref(), 1_000, self.now, &mut all) {
            cursor = Some(next);
        }
        for change in &mut all {
            if let Change::Call(delta) = change {
                delta.at = Micros(0);
            }
        }
        all
    }

    fn take_over(&mut self) {
        self.epoch += 1;
        let (epoch, now) = (Epoch(self.epoch), self.now);
        let old = &mut self.ends[self.serving];
        old.core.stand_by(now);
        old.stream.set_role(Role::Backup, epoch);
        self.serving = 1 - self.serving;
        let new = &mut self.ends[self.serving];
        new.stream.set_role(Role::Primary, epoch);
        new.core.take_over(epoch, now);
    }
}

/// Changes as this format writes them, one behind the other.
const WRITTEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/changes-of-format-2.bin");

fn kind(change: &Change) -> usize {
    match change {
        Change::Call(_) => 0,
        Change::Caller { .. } => 1,
        Change::Bindings { .. } => 2,
        Change::Record(_) => 3,
        Change::Recorded { .. } => 4,
    }
}

fn address(phone: u64) -> String {
    format!("192.0.2.{}:5060", phone + 1)
}

#[test]
fn a_backup_that_comes_late_gets_all_calls_and_registrations() {
    let mut world = World::new(1);
    for phone in 0..9 {
        world.request(phone, "REGISTER", &format!("u{phone}"));
    }
    for _ in 0..500 {
        world.act();
    }
    let calls = world.whole(0).iter().filter(|change| matches!(change, Change::Call(_))).count();
    assert!(calls > 20 && world.whole(0).len() >= calls + 9, "{calls}");
    world.settle();
}

#[test]
fn changes_are_written_as_their_format_says() {
    if std::env::var_os("RECORD").is_some() {
        let mut world = World::new(1);
        let (mut bytes, mut kinds) = (Vec::new(), [0; 5]);
        for _ in 0..500 {
            world.act();
            for change in &world.out.changes {
                let count = &mut kinds[kind(change)];
                *count += 1;
                // Enough of each; the test is not to fill the repository.
                if *count > 20 {
                    continue;
                }
                bytes.extend(postcard::to_extend(change, Vec::new()).unwrap());
            }
        }
        std::fs::write(WRITTEN, bytes).unwrap();
    }
    // What is read and written again is the same only where nothing was added, removed or moved.
    let written = std::fs::read(WRITTEN).expect("recorded with RECORD=1");
    let (mut rest, mut again, mut kinds) = (written.as_slice(), Vec::new(), [0; 5]);
    while !rest.is_empty() {
        let (change, behind) = postcard::take_from_bytes::<Change>(rest)
            .expect("the form has changed: let sip_core::FORMAT grow, and record anew under its name");
        rest = behind;
        kinds[kind(&change)] += 1;
        again.extend(postcard::to_extend(&change, Vec::new()).unwrap());
    }
    assert!(
        written == again,
        "the form has changed: let sip_core::FORMAT grow, and record anew under its name"
    );
    assert!(WRITTEN.ends_with(&format!("-{}.bin", sip_core::FORMAT)));
    assert!(kinds.iter().all(|count| *count > 3), "{kinds:?}");
}

#[test]
fn whatever_happens_the_two_are_equal_when_it_is_quiet() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        world.noise = seed % 2 == 1;
        for _ in 0..12 {
            for _ in 0..world.chance.below(60) {
                world.act();
                if world.chance.below(3) == 0 {
                    world.exchange();
                }
            }
            match world.chance.below(5) {
                0 => world.cut(),
                1 => world.take_over(),
                2 => world.settle(),
                _ => world.exchange(),
            }
        }
        world.settle();
    }
}
