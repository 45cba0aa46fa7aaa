//! What calls occupy: 10,000 of them are to fit 60 MB on each side. Blocks are counted as the C library rounds them.

// clippy.toml allows it in tests; clippy does not know that helpers of an integration test are tests too.
#![allow(clippy::unwrap_used)]

use domain::{Epoch, Micros, SipLimits, SipListen, SipSettings, SipTransport};
use sip_core::{Input, Outputs, Setup, SipCore};
use sip_proto::b2bua::Flow;
use sip_proto::{Framing, parse};
use sip_sync::Replica;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

/// What glibc takes for a block: 8 bytes of its own, in steps of 16, at least 32.
fn taken(size: usize) -> u64 {
    (size as u64 + 8).next_multiple_of(16).max(32)
}

// SAFETY: everything is left to the system's allocator; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CALLS: usize = 2_000;
/// 60 MB by 10,000 calls.
const MOST: u64 = 6_000;
const ALICE: &str = "192.0.2.1:5060";
const BOB: &str = "192.0.2.2:5060";
const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.11\r\ns=-\r\nc=IN IP4 192.0.2.11\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n";
const BOTH: &str = "Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, REFER\r\nSupported: 100rel, timer, replaces\r\n\
    User-Agent: Softphone Beta 1.5\r\n";

struct Pair {
    serves: SipCore,
    holds: SipCore,
    now: Micros,
    out: Outputs,
}

impl Pair {
    fn new() -> Self {
        let listen = SipListen { transport: SipTransport::Udp, address: "192.0.2.100:5060".parse().unwrap() };
        let settings = Arc::new(SipSettings {
            domains: vec![],
            listen: vec![listen],
            tls: None,
            registrations: Default::default(),
            users: Default::default(),
            trunks: Default::default(),
            routes: vec![],
            limits: SipLimits { source_per_s: 100_000, source_burst: 100_000, ..SipLimits::default() },
            timers: Default::default(),
            replication: Default::default(),
            http_port: None,
            cdr_directory: None,
            cdr_log: 20,
        });
        let now = Micros(1_000_000);
        let core = |seed| {
            let (settings, server) = (Arc::clone(&settings), "test".into());
            SipCore::new(Setup { settings, server, seed: [seed; 32], open: true }, now)
        };
        let mut pair = Self { serves: core(1), holds: core(2), now, out: Outputs::default() };
        pair.serves.take_over(Epoch(2), now);
        pair
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear();
        self.serves.step(input, self.now, Micros(self.now.0 + 1_700_000_000_000_000), &mut self.out);
        for change in self.out.changes.drain(..) {
            // As it comes over the network: nothing is shared.
            let bytes = postcard::to_extend(&change, Vec::new()).unwrap();
            self.holds.apply(postcard::from_bytes(&bytes).unwrap(), self.now).unwrap();
        }
    }

    fn hear(&mut self, from: &str, text: &str) {
        let message = parse(text.as_bytes(), Framing::Datagram).unwrap();
        let flow = Flow { interface: 0, peer: from.parse().unwrap() };
        self.step(Input::Received { message: &message, flow });
    }

    fn sent(&self, to: &str) -> String {
        let sent = self.out.messages.iter().rev().find(|sent| sent.flow.peer.to_string() == to);
        String::from_utf8(sent.expect("something was sent").wire.to_vec()).unwrap()
    }

    /// A call, with messages as long as those of telephones.
    fn talk(&mut self, n: usize) {
        self.now += Duration::from_millis(2);
        let invite = format!(
            "INVITE sip:bob@192.0.2.100 SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK-524287-1---{n:016x};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@192.0.2.100>;tag=9fxced{n:x}\r\nTo: <sip:bob@192.0.2.100>\r\n\
             Call-ID: 38482762982201885{n:x}@atlanta.example.com\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{ALICE}>\r\n{BOTH}\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        );
        self.hear(ALICE, &invite);
        let asked = self.sent(BOB);
        self.hear(BOB, &answer(&asked, "180 Ringing", ""));
        self.hear(BOB, &answer(&asked, "200 OK", SDP));
        let answered = self.sent(ALICE);
        let field = |name: &str| answered.lines().find(|line| line.starts_with(name)).unwrap();
        let ack = format!(
            "ACK sip:192.0.2.100 SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bKa{n}\r\n{}\r\n{}\r\n{}\r\nCSeq: 1 ACK\r\n\
             Content-Length: 0\r\n\r\n",
            field("From"),
            field("To"),
            field("Call-ID")
        );
        self.hear(ALICE, &ack);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.serves.next_deadline(self.now).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Due);
        }
        self.now = end;
        self.out = Outputs::default();
    }
}

fn answer(request: &str, status: &str, body: &str) -> String {
    let copied = request.lines().filter(|line| {
        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
    });
    let copied: String = copied
        .map(|line| format!("{line}{}\r\n", if line.starts_with("To:") { ";tag=9fxced76sl" } else { "" }))
        .collect();
    let about = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\n{copied}Contact: <sip:bob@{BOB}>\r\n{BOTH}{about}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn calls_are_small() {
    let mut pair = Pair::new();
    let register = format!(
        "REGISTER sip:192.0.2.100 SIP/2.0\r\nVia: SIP/2.0/UDP {BOB};branch=z9hG4bKr\r\nMax-Forwards: 70\r\n\
         From: <sip:bob@192.0.2.100>;tag=r\r\nTo: <sip:bob@192.0.2.100>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:bob@{BOB}>\r\nContent-Length: 0\r\n\r\n"
    );
    pair.hear(BOB, &register);
    // What is made once is not the calls'.
    pair.talk(CALLS);
    pair.out = Outputs::default();
    let before = ALLOCATED.load(Ordering::Relaxed);
    (0..CALLS).for_each(|n| pair.talk(n));
    pair.out = Outputs::default();
    let each = || (ALLOCATED.load(Ordering::Relaxed) - before) / 2 / CALLS as u64;
    let fresh = each();
    pair.wait(Duration::from_secs(60));
    let old = each();
    println!("{fresh} bytes for a call that was set up just now, {old} a minute later");
    assert_eq!(pair.serves.survey(pair.now).confirmed as usize, CALLS + 1);
    assert!(fresh <= MOST && old <= MOST * 2 / 3, "{fresh} {old}");
}
