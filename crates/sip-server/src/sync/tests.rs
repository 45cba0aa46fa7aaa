//! Two ends over loopback, with certificates that their agents have signed.

use super::*;
use control_link::{ca, delegation};
use domain::{SipIdentity, SipListen, SipTransport};
use mio::{Events, Poll};
use sip_sync::{Phase, Unknown};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

/// No wait is longer; only a failing test waits that long.
const BOUND: Duration = Duration::from_secs(20);
const TOKENS: Tokens = Tokens { met: Token(1), link: Token(2) };

/// A value of texts by number.
#[derive(Debug, Default)]
struct Texts {
    texts: BTreeMap<u32, String>,
    stale: BTreeSet<u32>,
}

type Change = (u32, Option<String>);

impl Replica for Texts {
    type Change = Change;
    type Cursor = u32;

    fn clock(&self, now: Micros) -> Micros {
        now
    }

    fn heard_clock(&mut self, _: Micros, _: Micros) {}

    fn snapshot(&self, after: Option<&u32>, most: usize, _: Micros, out: &mut Vec<Change>) -> Option<u32> {
        let from = after.map_or(0, |after| after + 1);
        out.extend(self.texts.range(from..).take(most).map(|(key, text)| (*key, Some(text.clone()))));
        out.last().map(|(key, _)| *key)
    }

    fn begin_resync(&mut self) {
        self.stale = self.texts.keys().copied().collect();
    }

    fn apply(&mut self, (key, text): Change, _: Micros) -> Result<(), Unknown> {
        self.stale.remove(&key);
        match text {
            Some(text) => drop(self.texts.insert(key, text)),
            None => drop(self.texts.remove(&key)),
        }
        Ok(())
    }

    fn end_resync(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        self.texts.retain(|key, _| !stale.contains(key));
    }
}

/// One process, as far as the replication is concerned.
struct End {
    replication: Replication<u32>,
    value: Texts,
    poll: Poll,
    notes: Vec<String>,
    began: Instant,
}

impl End {
    fn start(member: &Member, settings: &SipSettings, began: Instant) -> Self {
        let poll = Poll::new().unwrap();
        let replication = Replication::start(member, settings, poll.registry(), TOKENS).unwrap();
        Self { replication, value: Texts::default(), poll, notes: Vec::new(), began }
    }

    fn now(&self) -> Micros {
        Micros(1) + self.began.elapsed()
    }

    /// A round of an event loop.
    fn round(&mut self) {
        let mut events = Events::with_capacity(8);
        let now = self.now();
        let due = self.replication.next_deadline().map_or(Duration::MAX, |at| at.since(now));
        self.poll.poll(&mut events, Some(due.min(Duration::from_millis(2)))).unwrap();
        events.iter().for_each(|event| self.replication.mark_ready(event.token()));
        let now = self.now();
        self.replication.turn(&mut self.value, now);
        self.notes.extend(self.replication.notes());
    }

    fn mode(&mut self, mode: RunMode, epoch: u64) {
        let now = self.now();
        self.replication.set_mode(mode, Epoch(epoch), &mut self.value, now);
    }

    fn change(&mut self, key: u32, text: Option<String>) {
        let now = self.now();
        self.value.apply((key, text.clone()), now).unwrap();
        self.replication.send(&[(key, text)], now);
    }

    fn ready(&self) -> bool {
        self.replication.readiness().ready
    }

    fn connections(&self) -> usize {
        self.notes.iter().filter(|note| note.starts_with("connected with")).count()
    }

    fn phase(&self) -> Phase {
        self.replication.readiness().phase
    }
}

/// Goes round until something is so.
fn until(one: &mut End, two: &mut End, mut so: impl FnMut(&mut End, &mut End) -> bool) {
    let began = Instant::now();
    while !so(one, two) {
        assert!(
            began.elapsed() < BOUND,
            "{:?}, {:?}; {:?}, {:?}",
            one.phase(),
            two.phase(),
            one.notes,
            two.notes
        );
        one.round();
        two.round();
    }
}

fn in_step(one: &mut End, two: &mut End) {
    // How it stands is known from the last round.
    one.round();
    two.round();
    until(one, two, |one, two| {
        let quiet = one.replication.readiness().lag.is_some_and(|lag| lag.changes == 0);
        one.ready() && two.ready() && quiet && one.phase() == Phase::Live
    });
    assert_eq!(one.value.texts, two.value.texts);
}

/// Certificates of a pair in a directory, and its settings.
struct Pair {
    dir: tempfile::TempDir,
    members: [Member; 2],
    settings: SipSettings,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), "test").unwrap();
        let identities = ["1", "2"].map(|n| sign(dir.path(), "ca", n));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = SipSettings {
            domains: vec!["example.com".to_owned()],
            listen: vec![SipListen {
                transport: SipTransport::Udp,
                address: "192.0.2.1:5060".parse().unwrap(),
            }],
            tls: None,
            registrations: Default::default(),
            users: Default::default(),
            trunks: Default::default(),
            routes: Vec::new(),
            limits: Default::default(),
            timers: Default::default(),
            replication: domain::SipReplication { port, ..Default::default() },
            http_port: None,
            cdr_directory: None,
            cdr_log: 20,
        };
        let [one, two] = identities;
        let members = [(one, "1", "2"), (two, "2", "1")].map(|(identity, this, other)| Member {
            this: member(this),
            other: member(other),
            identity,
            pair: "sip".parse().unwrap(),
        });
        Self { dir, members, settings }
    }

    /// A primary and its backup.
    fn start(&self) -> (End, End) {
        let began = Instant::now();
        let [mut one, two] = [0, 1].map(|n| End::start(&self.members[n], &self.settings, began));
        one.mode(RunMode::Primary, 2);
        (one, two)
    }
}

fn member(n: &str) -> SipMember {
    SipMember {
        app: format!("sip{n}").parse().unwrap(),
        host: format!("host{n}").parse().unwrap(),
        address: "127.0.0.1".parse().unwrap(),
    }
}

/// What the agent of host `n` gives its SIP Server.
fn sign(dir: &Path, authority: &str, n: &str) -> SipIdentity {
    let host = format!("host{n}");
    let agent_dir = dir.join(format!("{authority}-{host}"));
    let files = |name: &str| agent_dir.join(name);
    let agent = ca::Issued {
        certificate: files(&format!("{host}.pem")),
        key: files(&format!("{host}.key")),
        ca: files("ca.pem"),
    };
    if !agent.certificate.exists() {
        ca::issue(&dir.join(authority), control_link::Role::Agent, &host, &agent_dir).unwrap();
    }
    let app = format!("sip{n}").parse().unwrap();
    let run = dir.join(format!("run{n}"));
    let ca::Issued { certificate, key, ca } =
        delegation::delegate(&agent.certificate, &agent.key, &agent.ca, &app, &run).unwrap();
    SipIdentity { certificate, key, ca }
}

fn text(key: u32) -> Option<String> {
    Some(format!("text {key}").repeat(20))
}

#[test]
fn the_backup_gets_everything_and_stays_in_step() {
    let pair = Pair::new();
    let (mut one, mut two) = pair.start();
    for key in 0..2_000 {
        one.change(key, text(key));
    }
    in_step(&mut one, &mut two);
    for key in 1_000..3_000 {
        one.change(key, text(key * 3).filter(|_| key % 3 > 0));
        if key % 100 == 0 {
            one.round();
            two.round();
        }
    }
    in_step(&mut one, &mut two);
    assert!(one.notes.iter().any(|note| note.starts_with("connected with sip2")), "{:?}", one.notes);
}

#[test]
fn the_new_primary_has_all_that_the_old_one_said() {
    let pair = Pair::new();
    let (mut one, mut two) = pair.start();
    one.change(1, text(1));
    in_step(&mut one, &mut two);
    for epoch in 3..8 {
        // Said before the process ends, and the next primary has not been round its loop since.
        for key in 0..200 {
            one.change(key, text(key + u32::try_from(epoch).unwrap()));
        }
        let last = one.value.texts.clone();
        let began = one.began;
        drop(one);
        two.mode(RunMode::Primary, epoch);
        assert_eq!(two.value.texts, last);

        let n = usize::from(two.replication.place.dials);
        let fresh = End::start(&pair.members[n], &pair.settings, began);
        (one, two) = (two, fresh);
        in_step(&mut one, &mut two);
    }
}

#[test]
fn roles_turn_on_one_connection() {
    let pair = Pair::new();
    let (mut one, mut two) = pair.start();
    one.change(1, text(1));
    in_step(&mut one, &mut two);
    one.mode(RunMode::Backup, 3);
    two.mode(RunMode::Primary, 3);
    two.change(2, text(2));
    in_step(&mut two, &mut one);
    assert_eq!(one.value.texts.len(), 2);
    assert_eq!([one.connections(), two.connections()], [1, 1], "{:?}, {:?}", one.notes, two.notes);
}

#[test]
fn a_peer_that_does_not_read_delays_nothing_and_is_dropped() {
    let pair = Pair::new();
    let (mut one, mut two) = pair.start();
    in_step(&mut one, &mut two);
    let (long, began) = ("x".repeat(10_000), Instant::now());
    let mut longest = Duration::ZERO;
    let mut changes = 0;
    // It holds its connection and does nothing.
    while one.phase() != Phase::Disconnected {
        assert!(began.elapsed() < BOUND);
        let before = Instant::now();
        one.change(changes % 50, Some(format!("{changes} {long}")));
        longest = longest.max(before.elapsed());
        changes += 1;
        if changes % 10 == 0 {
            one.round();
        }
        assert!(one.replication.stream.outgoing().len() <= 9 << 20, "the queue is bounded");
    }
    assert!(longest < Duration::from_secs(1), "a change took {longest:?}");
    one.round();
    let why = one.notes.last().unwrap();
    assert!(
        why.contains("too slow") || why.contains("acknowledged nothing") || why.contains("silent"),
        "{why}"
    );
    in_step(&mut one, &mut two);
}

#[test]
fn a_certificate_of_another_ca_lets_nobody_in() {
    let mut pair = Pair::new();
    let good = pair.members[1].identity.clone();
    ca::init(&pair.dir.path().join("other"), "other").unwrap();
    pair.members[1].identity = sign(pair.dir.path(), "other", "2");
    let (mut one, mut two) = pair.start();
    one.change(1, text(1));
    let refused = |end: &End| end.notes.iter().any(|note| note.contains("not issued by"));
    until(&mut one, &mut two, |one, two| refused(one) && refused(two));
    assert!(!one.ready() && !two.ready() && two.value.texts.is_empty());

    // Its agent has got a new one meanwhile. Who dials looks at once, who listens within two seconds.
    let back = sign(pair.dir.path(), "ca", "2");
    assert_eq!(back, good);
    in_step(&mut one, &mut two);
}

#[test]
fn readiness_is_told_when_it_changes_and_figures_now_and_then() {
    let pair = Pair::new();
    let (mut one, mut two) = pair.start();
    let now = two.now();
    let report = two.replication.report(now);
    assert_eq!(report, Some(Report { synced: false, lag_ms: None }));
    assert_eq!(two.replication.report(now), None);
    let now = one.now();
    assert!(one.replication.report(now).unwrap().synced, "a primary has all there is");
    in_step(&mut one, &mut two);
    let now = two.now();
    let report = two.replication.report(now).unwrap();
    assert!(report.synced && report.lag_ms.unwrap() < 500, "{report:?}");
    assert_eq!(two.replication.report(now), None);
    two.replication.report_anew();
    assert!(two.replication.report(now).is_some());
    assert!(two.replication.report(now + REPORT_EVERY).is_some());
}

#[test]
fn settings_are_compared_by_what_they_say() {
    let pair = Pair::new();
    let before = stream_settings(&pair.members[0], &pair.settings);
    assert_eq!(before.digest, stream_settings(&pair.members[1], &pair.settings).digest);
    let mut settings = pair.settings.clone();
    settings.domains.push("example.org".to_owned());
    let after = stream_settings(&pair.members[0], &settings);
    assert!(after.digest != before.digest && after.shape == before.shape);
    settings
        .listen
        .push(SipListen { transport: SipTransport::Tcp, address: "192.0.2.1:5060".parse().unwrap() });
    assert_ne!(stream_settings(&pair.members[0], &settings).shape, before.shape);
}
