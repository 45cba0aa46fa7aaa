//! What SIP costs: a typical INVITE read, and a whole call through [`Calls`] with a backup applying what changes; what
//! 10,000 calls occupy, and what it costs to take them over. `cargo bench -p sip-proto [-- CALLS]`.
//!
//! Times are of one thread; the phones' own work is not in them. Reading is measured in slices that take turns with the
//! search for line ends in the same bytes, the least that any reader has to do.

#![allow(clippy::disallowed_methods, reason = "it is about time")]

use domain::{Epoch, Micros};
use sip_proto::b2bua::{
    CallLimits, CallSettings, Calls, Event, Failover, Flow, Input, Interface, Order, Outputs, Plan, Target,
    Transport,
};
use sip_proto::transaction::Timing;
use sip_proto::{Framing, HeaderName, Message, SessionLimits, parse};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLICES: usize = 20;

/// Counts allocations and what is allocated.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let calls = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000usize);
    reading();
    passing(calls);
}

// ---- reading

/// About 1,000 bytes, 16 header fields.
fn typical_invite() -> String {
    let sdp = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.11\r\ns=-\r\nc=IN IP4 192.0.2.11\r\nt=0 0\r\n\
        m=audio 49170 RTP/AVP 0 8 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=fmtp:101 0-16\r\na=sendrecv\r\n";
    format!(
        "INVITE sip:bob@biloxi.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK2d4790.1;rport\r\n\
         Via: SIP/2.0/UDP 192.0.2.11:5060;branch=z9hG4bK74bf9;received=192.0.2.11\r\nRecord-Route: <sip:192.0.2.7;lr>\r\n\
         Max-Forwards: 69\r\nFrom: \"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
         To: Bob <sip:bob@biloxi.example.com>\r\nCall-ID: 3848276298220188511@atlanta.example.com\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@192.0.2.11:5060;transport=udp>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, REFER\r\nSupported: 100rel, timer, replaces\r\n\
         Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nUser-Agent: Softphone Beta 1.5\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// Everything that a server looks at in it.
fn used(message: &Message<'_>) -> bool {
    let via = message.via().is_ok_and(|via| via.branch.is_some());
    let uris = message.from().is_ok_and(|from| from.sip_uri().is_ok())
        && message.to().is_ok_and(|to| to.sip_uri().is_ok());
    let ids = message.call_id().is_ok() && message.cseq().is_ok() && message.max_forwards().is_ok();
    let contact =
        message.addresses(HeaderName::Contact).all(|contact| contact.is_ok_and(|c| c.sip_uri().is_ok()));
    let routes = message.addresses(HeaderName::RecordRoute).all(|route| route.is_ok());
    let timers = message.session_expires().is_ok() && message.min_se().is_some();
    via && uris && ids && contact && routes && timers && message.lists(HeaderName::Supported, "timer")
}

fn reading() {
    let invite = typical_invite();
    let bytes = invite.as_bytes();
    let message = || parse(black_box(bytes), Framing::Datagram).expect("it is SIP");
    assert!(used(&message()));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(used(&message()));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!("reading an INVITE of {} bytes, 16 header fields, {allocations} allocations", bytes.len());
    let kinds: [(&str, &dyn Fn()); 3] = [
        ("line ends", &|| {
            black_box(black_box(bytes).iter().filter(|b| **b == b'\n').count());
        }),
        ("header fields found", &|| drop(black_box(message()))),
        ("and typed", &|| {
            black_box(used(&message()));
        }),
    ];
    let mut times = [const { Vec::new() }; 3];
    for slice in 0..=SLICES {
        for (kind, (_, act)) in kinds.iter().enumerate() {
            let start = Instant::now();
            for _ in 0..2_000 {
                act();
            }
            if slice > 0 {
                times[kind].push(start.elapsed().as_secs_f64() * 1e9 / 2_000.0);
            }
        }
    }
    println!("  {:<22} {:>11} {:>11}", "", "p50", "fastest");
    for ((name, _), mut slices) in kinds.iter().zip(times) {
        slices.sort_by(f64::total_cmp);
        println!("  {name:<22} {:>8.0} ns {:>8.0} ns", slices[SLICES / 2], slices[0]);
    }
}

// ---- calls

/// A primary and a backup, and the two phones of every call.
struct Scene {
    primary: Calls,
    backup: Calls,
    out: Outputs,
    now: Micros,
    /// Time that the primary took, and that the backup took.
    took: Duration,
    applied: Duration,
    messages: u64,
}

fn settings() -> CallSettings {
    CallSettings {
        server: "bench".to_owned(),
        interfaces: vec![Interface { transport: Transport::Udp, address: SERVER }],
        timing: Timing::default(),
        session: SessionLimits::default(),
        limits: CallLimits::default(),
        users: BTreeMap::new(),
        seed: [7; 32],
    }
}

const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100)), 5060);
const ALICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 5060);
const BOB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 8)), 5060);

impl Scene {
    fn new() -> Self {
        let mut primary = Calls::new(settings());
        primary.take_over(Epoch(2));
        Self {
            primary,
            backup: Calls::new(settings()),
            out: Outputs::default(),
            now: Micros(1_000_000),
            took: Duration::ZERO,
            applied: Duration::ZERO,
            messages: 0,
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        let start = Instant::now();
        self.primary.step(input, self.now, &mut self.out);
        let done = Instant::now();
        self.took += done - start;
        self.messages += self.out.messages.len() as u64;
        for delta in self.out.deltas.drain(..) {
            let start = Instant::now();
            self.backup.apply(delta, self.now).expect("the backup knows every call");
            self.applied += start.elapsed();
        }
    }

    fn receive(&mut self, text: &str, from: SocketAddr) {
        self.messages += 1;
        let start = Instant::now();
        let message = parse(text.as_bytes(), Framing::Datagram).expect("it is SIP");
        self.took += start.elapsed();
        self.step(Input::Received { message: &message, flow: Flow { interface: 0, peer: from } });
    }

    /// The last message to `peer`.
    fn sent(&self, peer: SocketAddr) -> String {
        let message = self.out.messages.iter().rev().find(|message| message.flow.peer == peer);
        String::from_utf8_lossy(&message.expect("something was sent").wire).into_owned()
    }

    /// Up to the answer; what alice and bob need to go on.
    fn set_up(&mut self, number: usize) -> (String, String) {
        let invite = typical_invite()
            .replace("3848276298220188511", &format!("call{number}"))
            .replace("z9hG4bK2d4790.1", &format!("z9hG4bK2d4790.{number}"))
            .replace("Record-Route: <sip:192.0.2.7;lr>\r\n", "");
        self.receive(&invite, ALICE);
        let Some(Event::Incoming { call }) = self.out.events.first().cloned() else {
            panic!("no call came in")
        };
        let target = Target {
            uri: "sip:bob@192.0.2.8:5060".into(),
            flow: Flow { interface: 0, peer: BOB },
            behind_nat: false,
            replaces: None,
            route: None,
            label: "bob".into(),
        };
        let plan = Plan {
            groups: vec![vec![target]],
            failover: Failover::Unavailable,
            ringing: Duration::from_secs(60),
        };
        self.step(Input::Ordered(Order::Route { call, plan }));
        let to_bob = self.sent(BOB);
        self.receive(&answer(&to_bob, 100, ""), BOB);
        self.receive(&answer(&to_bob, 180, ""), BOB);
        let sdp = typical_invite();
        self.receive(&answer(&to_bob, 200, sdp.split("\r\n\r\n").nth(1).expect("a body")), BOB);
        let to_alice = self.sent(ALICE);
        let ack = in_dialog(&invite, &to_alice, "ACK", number);
        self.receive(&ack, ALICE);
        (invite, to_alice)
    }

    fn tear_down(&mut self, number: usize, invite: &str, answered: &str) {
        self.receive(&in_dialog(invite, answered, "BYE", number), ALICE);
        let bye = self.sent(BOB);
        self.receive(&answer(&bye, 200, ""), BOB);
    }
}

fn field<'t>(text: &'t str, name: &str) -> &'t str {
    let line = text.lines().find(|line| line.starts_with(name)).expect("the header field is there");
    line[name.len()..].trim_start_matches(':').trim()
}

fn answer(request: &str, status: u16, body: &str) -> String {
    let to = field(request, "To");
    let to = if to.contains("tag=") || status == 100 { to.to_owned() } else { format!("{to};tag=bob1") };
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status} X\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:bob@192.0.2.8:5060>\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n{content}Content-Length: {}\r\n\r\n{body}",
        field(request, "Via"),
        field(request, "From"),
        field(request, "Call-ID"),
        field(request, "CSeq"),
        body.len()
    )
}

fn in_dialog(invite: &str, answered: &str, method: &str, number: usize) -> String {
    let cseq = if method == "ACK" { 1 } else { 2 };
    format!(
        "{method} sip:192.0.2.100 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{method}{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
        field(invite, "From"),
        field(answered, "To"),
        field(invite, "Call-ID")
    )
}

fn passing(calls: usize) {
    let mut scene = Scene::new();
    let before = ALLOCATED.load(Ordering::Relaxed);
    let talking: Vec<_> = (0..calls).map(|number| scene.set_up(number)).collect();
    let strings: usize = talking.iter().map(|(a, b)| a.capacity() + b.capacity() + 48).sum();
    let occupied = || (ALLOCATED.load(Ordering::Relaxed) - before).saturating_sub(strings as u64);
    println!(
        "{calls} calls set up; each side holds {:.1} kB per call",
        occupied() as f64 / 2e3 / calls as f64
    );
    scene.now += Duration::from_secs(60);
    while scene.primary.next_deadline().is_some_and(|at| at <= scene.now) {
        scene.step(Input::Due);
    }
    println!("  a minute later {:.1} kB", occupied() as f64 / 2e3 / calls as f64);

    let start = Instant::now();
    scene.backup.take_over(Epoch(3));
    let took = start.elapsed();
    println!("  taken over by the backup in {:.1} µs", took.as_secs_f64() * 1e6);

    for (number, (invite, answered)) in talking.iter().enumerate() {
        scene.tear_down(number, invite, answered);
    }
    scene.now += Duration::from_secs(60);
    while scene.primary.next_deadline().is_some_and(|at| at <= scene.now) {
        scene.step(Input::Due);
    }
    assert!(scene.primary.is_empty() && scene.backup.is_empty());
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    println!(
        "whole calls (INVITE, 100, 180, 200, ACK, BYE, 200 on both sides): {:.1} µs per call, {:.1} µs on the backup, \
         {:.0} messages",
        per_call(scene.took),
        per_call(scene.applied),
        scene.messages as f64 / calls as f64
    );
}
