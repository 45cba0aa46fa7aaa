//! Links between real sockets on loopback: what agents and SCS say to each other arrives, and whoever is not of the
//! cluster, or does not behave, is refused with a reason and harms nobody else.
// clippy.toml allows it in tests; clippy does not know that helpers of an integration test are tests too.
#![allow(clippy::unwrap_used)]

mod delegation;
mod lab;

use control_link::messages::{FromAgent, Heartbeat, MAX_FRAME};
use control_link::{
    DialError, Expected, Identity, Limits, Link, LinkError, Received, Role, Seal, SealError, ca, dial,
};
use domain::{Epoch, Micros};
use lab::{BOUND, CONTROL, Lab, Peer, Server, load, message};
use lease::{Body, Message, PairId};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(3_600);

fn scs() -> Expected {
    Expected::any(Role::Scs)
}

#[test]
fn messages_and_heartbeats_pass_both_ways() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs) = server.connect(&lab.identity(Role::Agent, "host1"));
    assert_eq!(agent.link.peer().to_string(), "scs scs1");
    assert_eq!(agent.link.peer_address(), server.address());
    assert_eq!(scs.link.peer().to_string(), "agent host1");
    for round in 0..100 {
        agent.link.send(&message(round)).unwrap();
        assert_eq!(scs.receive(1).0, [message(round)]);
        scs.link.send(&message(round + 1_000)).unwrap();
        assert_eq!(agent.receive(1).0, [message(round + 1_000)]);
    }
    let (mut a, mut s) = (agent.link.seal(77).unwrap(), scs.link.seal(77).unwrap());
    let beat = Heartbeat { at: Micros(1), heard: Micros(2), held_us: 3, stall_us: 4 };
    let mut datagram = a.seal(&beat);
    assert_eq!(Seal::session_of(&datagram), Some(77));
    assert_eq!(s.open(&mut datagram).unwrap().heartbeat, beat);
    assert_eq!(a.open(&mut s.seal(&beat)).unwrap().heartbeat, beat);
    assert!(matches!(agent.link.seal(77), Err(LinkError::SealedBefore)));
}

#[test]
fn agents_link_with_each_other_and_vote_and_no_vote_counts_twice() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Agent, "host2"));
    let host1 = lab.identity(Role::Agent, "host1");
    let other = Expected { role: Role::Agent, name: Some("host3".to_owned()) };
    assert!(matches!(dial(server.address(), &host1, &other, BOUND), Err(DialError::WrongPeer { .. })));
    // The impostor's end of that link.
    server.links.recv_timeout(BOUND).unwrap();
    let expected = Expected { role: Role::Agent, name: Some("host2".to_owned()) };
    let mut near = dial(server.address(), &host1, &expected, BOUND).unwrap();
    let mut far = server.links.recv_timeout(BOUND).unwrap();
    assert_eq!(
        (near.peer().to_string(), far.peer().to_string()),
        ("agent host2".into(), "agent host1".into())
    );

    let (mut near, mut far) = (near.seal(7).unwrap(), far.seal(7).unwrap());
    let beat = Heartbeat { at: Micros(1), heard: Micros(2), held_us: 3, stall_us: 4 };
    let promise = Message { pair: PairId(5), body: Body::Promise { epoch: Epoch(6), at: Micros(7) } };
    let mut datagram = Vec::new();
    near.seal_with(&beat, &[promise], |sealed| datagram = sealed.to_vec());
    let mut replay = datagram.clone();
    let opened = far.open(&mut datagram).unwrap();
    assert!(opened.heartbeat == beat && opened.messages().eq([Ok(promise)]));
    assert_eq!(far.open(&mut replay), Err(SealError::Replayed));
}

#[test]
fn keys_of_another_connection_open_nothing() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let agent = lab.identity(Role::Agent, "host1");
    let (mut first, _first_scs) = server.connect(&agent);
    let (_second, mut second_scs) = server.connect(&agent);
    let beat = Heartbeat { at: Micros(1), heard: Micros(0), held_us: 0, stall_us: 0 };
    let mut datagram = first.link.seal(1).unwrap().seal(&beat);
    assert!(second_scs.link.seal(1).unwrap().open(&mut datagram).is_err());
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_not_sent() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs) = server.connect(&lab.identity(Role::Agent, "host1"));
    // The two quotation marks count.
    let largest = "x".repeat(MAX_FRAME - 2);
    assert!(
        matches!(agent.link.send(&format!("{largest}x")), Err(LinkError::TooLarge { size }) if size == MAX_FRAME + 1)
    );
    agent.link.send(&largest).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| agent.flush());
        let mut received: Vec<String> = Vec::new();
        let (mut calls, deadline) = (0, std::time::Instant::now() + BOUND);
        while received.is_empty() {
            assert!(std::time::Instant::now() < deadline);
            let progress = scs.link.receive(&mut received).unwrap();
            calls += usize::from(progress == Received::More);
            std::thread::yield_now();
        }
        assert!(received == [largest]);
        assert!(calls > 1, "one call must not take a megabyte");
    });
}

#[test]
fn a_peer_that_does_not_read_fills_a_bounded_queue_and_loses_nothing() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs) = server.connect(&lab.identity(Role::Agent, "host1"));
    let mut sent = 0;
    let overflow = loop {
        match agent.link.send(&(sent, "x".repeat(100_000))) {
            Ok(()) => sent += 1,
            Err(e) => break e,
        }
        assert!(sent < 1_000, "100 MB were queued");
    };
    assert!(matches!(overflow, LinkError::Overflow { .. }), "{overflow}");
    assert!(agent.link.wants_write());
    std::thread::scope(|threads| {
        threads.spawn(|| agent.flush());
        let deadline = std::time::Instant::now() + BOUND;
        let mut received: Vec<(u64, String)> = Vec::new();
        while received.len() < sent {
            assert!(std::time::Instant::now() < deadline);
            let _ = scs.link.receive(&mut received).unwrap();
            std::thread::yield_now();
        }
        assert!(received.iter().map(|(n, _)| *n).eq(0..sent as u64));
    });
    agent.link.send(&message(1)).unwrap();
    assert_eq!(scs.receive(1).0, [message(1)]);
}

#[test]
fn what_was_said_before_the_end_arrives_before_the_end() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs) = server.connect(&lab.identity(Role::Agent, "host1"));
    agent.link.send(&message(1)).unwrap();
    agent.link.send(&message(2)).unwrap();
    drop(agent);
    let (messages, end) = scs.receive(3);
    assert_eq!(messages, [message(1), message(2)]);
    assert!(matches!(end, Err(LinkError::Closed)));
    assert!((0..10).any(|_| scs.link.send(&message(3)).is_err()), "a closed link takes no messages for ever");
}

#[test]
fn a_malformed_or_oversized_message_ends_that_link_only() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut good, mut good_scs) = server.connect(&lab.identity(Role::Agent, "good"));
    let bad = lab.issue(Role::Agent, "bad");

    let mut deep = 100_000u32.to_be_bytes().to_vec();
    deep.resize(100_004, b'[');
    let frames: [(&[u8], &str); 6] = [
        (b"\xff\xff\xff\xff", "too large"),
        (b"\x00\x10\x00\x01", "too large"),
        (b"\x00\x00\x00\x00", "malformed"),
        (b"\x00\x00\x00\x02{]", "malformed"),
        (b"\x00\x00\x00\x10{\"type\":\"dance\"}", "malformed"),
        (&deep, "malformed"),
    ];
    for (frame, expected) in frames {
        let mut client = lab.raw_client(server.address(), Some(&bad), CONTROL);
        client.flush().unwrap();
        client.write_all(frame).unwrap();
        let mut scs = Peer::new(server.links.recv_timeout(BOUND).unwrap());
        let (messages, end) = scs.receive(1);
        let why = end.expect_err("the frame must be refused").to_string();
        assert!(messages.is_empty() && why.contains(expected), "{why}");
        assert!(why.len() < 300, "the peer must not fill the log: {} bytes", why.len());
        good.link.send(&message(1)).unwrap();
        assert_eq!(good_scs.receive(1).0, [message(1)]);
    }
}

#[test]
fn an_unfinished_message_takes_no_more_room_than_was_sent() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let mut client = lab.raw_client(server.address(), Some(&lab.issue(Role::Agent, "host1")), CONTROL);
    client.write_all(&(MAX_FRAME as u32).to_be_bytes()).unwrap();
    client.write_all(b"\"only the beginning").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let (messages, end) = Peer::new(server.links.recv_timeout(BOUND).unwrap()).receive(1);
    assert!(messages.is_empty());
    assert!(matches!(end, Err(LinkError::Closed)));
}

#[test]
fn a_certificate_of_another_ca_is_refused_by_either_end() {
    let (ours, theirs) = (Lab::new(), Lab::new());
    let server = Server::start(&ours.identity(Role::Scs, "scs1"));

    let stranger = theirs.identity(Role::Agent, "host1");
    let error = dial(server.address(), &stranger, &scs(), BOUND).unwrap_err().to_string();
    assert!(error.contains("the peer's certificate was not issued by this cluster's CA"), "{error}");
    assert!(server.refusal().contains("our certificate was not issued by its CA"));

    // One that trusts our CA as well as its own, so that only the server's check is left.
    let issued = theirs.issue(Role::Agent, "host2");
    let both = theirs.path("both.pem");
    let pem = |lab: &Lab| std::fs::read_to_string(lab.path("ca/ca.pem")).unwrap();
    std::fs::write(&both, pem(&ours) + &pem(&theirs)).unwrap();
    let stranger = Identity::load(&issued.certificate, &issued.key, &both).unwrap();
    let error = dial(server.address(), &stranger, &scs(), BOUND).unwrap_err().to_string();
    assert!(error.contains("our certificate was not issued by its CA"), "{error}");
    assert!(server.refusal().contains("the peer's certificate was not issued by this cluster's CA"));
    server.connect(&ours.identity(Role::Agent, "host1"));
}

#[test]
fn a_certificate_out_of_its_time_is_refused_with_the_date() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let now = SystemTime::now();
    let expired = lab.agent_valid("old", SystemTime::UNIX_EPOCH + 24 * HOUR * 10_957, now - HOUR);
    let early = lab.agent_valid("early", now + HOUR, now + 24 * HOUR);
    for (identity, here, there) in [
        (expired, "has expired on 20", "our certificate"),
        (early, "is not valid before 20", "our certificate"),
    ] {
        let error = dial(server.address(), &identity, &scs(), BOUND).unwrap_err().to_string();
        assert!(error.contains(there), "{error}");
        let refusal = server.refusal();
        assert!(refusal.contains(here), "{refusal}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let mut client = lab.raw_client(server.address(), None, CONTROL);
    let error = client.read(&mut [0; 64]).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    assert_eq!(server.refusal(), "the peer showed no certificate");
}

#[test]
fn a_client_of_another_protocol_is_refused() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let agent = lab.issue(Role::Agent, "host1");
    let others: [&[&[u8]]; 2] = [&[b"http/1.1"], &[]];
    for alpn in others {
        let mut client = lab.raw_client(server.address(), Some(&agent), alpn);
        // Nothing but the end: no greeting.
        assert!(matches!(client.read(&mut [0; 64]), Ok(0) | Err(_)));
        let refusal = server.refusal();
        assert!(
            refusal.contains("not this protocol") || refusal.contains("application protocol"),
            "{refusal}"
        );
    }
}

#[test]
fn a_role_that_is_not_wanted_is_told_so() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let operator = lab.identity(Role::Operator, "alice");
    let error = dial(server.address(), &operator, &scs(), BOUND).unwrap_err();
    assert!(
        matches!(&error, DialError::Refused { why, .. } if why == "only agents may connect here"),
        "{error}"
    );
    assert_eq!(server.refusal(), "operator alice is refused: only agents may connect here");
    assert!(server.links.try_recv().is_err());
}

#[test]
fn a_server_that_is_not_the_expected_one_gets_nothing() {
    let lab = Lab::new();
    let agent = lab.identity(Role::Agent, "host1");
    let server = Server::start(&lab.identity(Role::Scs, "scs2"));
    let expected = Expected { role: Role::Scs, name: Some("scs1".to_owned()) };
    let error = dial(server.address(), &agent, &expected, BOUND).unwrap_err().to_string();
    assert!(error.ends_with("is scs scs2, not scs scs1"), "{error}");

    let impostor = Server::start(&lab.identity(Role::Agent, "host2"));
    let error = dial(impostor.address(), &agent, &scs(), BOUND).unwrap_err();
    assert!(matches!(error, DialError::WrongPeer { .. }), "{error}");

    let impostor = Server::start(&lab.identity(Role::Operator, "alice"));
    let error = dial(impostor.address(), &agent, &scs(), BOUND).unwrap_err().to_string();
    assert!(error.contains("not meant for this end of a connection"), "{error}");
}

#[test]
fn what_is_not_tls_1_3_is_refused() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let hellos: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nHost: scs1\r\n\r\n", "does not speak TLS 1.3"),
        (b"\x00\x00\x00\x02{}", "does not speak TLS 1.3"),
        (&[0x16; 1_000], "does not speak TLS 1.3"),
        (&tls_1_2_client_hello(), "only TLS versions older than 1.3"),
    ];
    for (hello, expected) in hellos {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(hello).unwrap();
        let refusal = server.refusal();
        assert!(refusal.contains(expected), "{refusal}");
        stream.set_read_timeout(Some(BOUND)).unwrap();
        // An alert, then the end (or a reset where not everything had been read).
        let _ = stream.read_to_end(&mut Vec::new());
    }
    drop(TcpStream::connect(server.address()).unwrap());
    assert!(server.refusal().contains("closed the connection"));
    server.connect(&lab.identity(Role::Agent, "host1"));
}

/// A ClientHello as TLS 1.2 has it (RFC 5246, section 7.4.1.2): no `supported_versions`.
fn tls_1_2_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session id
    body.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    body.extend([1, 0]); // no compression
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, 16]);
    body.extend(groups);
    body.extend(signatures);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend(body);
    let mut record = vec![0x16, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn handshakes_that_never_end_hold_up_nobody_and_run_out() {
    let lab = Lab::new();
    let limits = Limits { time: Duration::from_millis(300), pending: 8, per_address: 8 };
    let server = Server::limited(&lab.identity(Role::Scs, "scs1"), limits);
    let agent = lab.identity(Role::Agent, "host1");
    let mut silent = TcpStream::connect(server.address()).unwrap();
    let mut half = TcpStream::connect(server.address()).unwrap();
    half.write_all(&tls_1_2_client_hello()[..20]).unwrap();
    server.connect(&agent);
    for _ in 0..2 {
        let refusal = server.refusal();
        assert!(refusal.contains("not complete within 300ms"), "{refusal}");
    }
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(BOUND)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "the connection must be closed");
    }
}

#[test]
fn too_many_handshakes_make_room_for_new_ones() {
    let lab = Lab::new();
    let limits = Limits { time: BOUND * 2, pending: 3, per_address: 8 };
    let server = Server::limited(&lab.identity(Role::Scs, "scs1"), limits);
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    server.connect(&lab.identity(Role::Agent, "host1"));
    assert!(server.refusal().contains("oldest of too many"));
    drop(silent);
}

#[test]
fn one_address_takes_its_own_share_only() {
    let lab = Lab::new();
    let limits = Limits { time: BOUND * 2, pending: 64, per_address: 4 };
    let server = Server::limited(&lab.identity(Role::Scs, "scs1"), limits);
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    for _ in 4..20 {
        assert!(server.refusal().contains("from its address are already under way"));
    }
    let by_v6 = server.acceptor.addresses()[1];
    dial(by_v6, &lab.identity(Role::Agent, "host1"), &scs(), BOUND).unwrap();
    drop(silent);
}

#[test]
fn dialing_ends_in_time_whatever_the_other_end_does() {
    let lab = Lab::new();
    let agent = lab.identity(Role::Agent, "host1");
    let limit = Duration::from_millis(200);

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = dial(silent.local_addr().unwrap(), &agent, &scs(), limit).unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");

    let closed = silent.local_addr().unwrap();
    drop(silent);
    let error = dial(closed, &agent, &scs(), limit).unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");

    let garbage = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = garbage.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = garbage.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        stream
    });
    let error = dial(address, &agent, &scs(), BOUND).unwrap_err().to_string();
    assert!(error.contains("does not speak TLS 1.3"), "{error}");
    drop(answering.join().unwrap());
}

#[test]
fn a_dropped_acceptor_accepts_no_more_and_its_links_live_on() {
    let lab = Lab::new();
    let agent_identity = lab.identity(Role::Agent, "host1");
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs_end) = server.connect(&agent_identity);
    let address = server.address();
    drop(server);
    let error = dial(address, &agent_identity, &scs(), BOUND).unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }), "{error}");
    agent.link.send(&message(1)).unwrap();
    assert_eq!(scs_end.receive(1).0, [message(1)]);
}

#[test]
fn a_hundred_agents_at_once_all_get_their_link() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let agent = lab.identity(Role::Agent, "host1");
    let address = server.address();
    let links: Vec<Link> = std::thread::scope(|threads| {
        let dialing: Vec<_> =
            (0..100).map(|_| threads.spawn(|| dial(address, &agent, &scs(), BOUND).unwrap())).collect();
        dialing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(links.len(), 100);
    for _ in 0..100 {
        server.links.recv_timeout(BOUND).unwrap();
    }
}

#[test]
fn a_ca_and_its_certificates_are_files_with_the_right_modes() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let mode = |name: &str| std::fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert!(matches!(ca::init(&lab.path("ca"), "again"), Err(ca::CaError::Exists(_))));
    let issued = lab.issue(Role::Agent, "host_1.example");
    assert_eq!([mode("ca"), mode("ca/ca.key"), mode("host_1.example")], [0o700, 0o600, 0o700]);
    assert_eq!(mode("host_1.example/host_1.example.key"), 0o600);
    assert!(matches!(
        ca::issue(&lab.path("ca"), Role::Agent, "host_1.example", &lab.path("host_1.example")),
        Err(ca::CaError::Exists(_))
    ));
    assert!(matches!(
        ca::issue(&lab.path("ca"), Role::Agent, "../evil", &lab.path("x")),
        Err(ca::CaError::Name(..))
    ));

    let days = |end: SystemTime| end.duration_since(SystemTime::now()).unwrap().as_secs() / 86_400;
    assert_eq!(days(ca::not_after(&issued.certificate).unwrap()), 364);
    assert_eq!(days(ca::not_after(&issued.ca).unwrap()), 3_652);
    let identity = load(&issued);
    assert_eq!(identity.name().to_string(), "agent host_1.example");
    assert_eq!(identity.not_after(), ca::not_after(&issued.certificate).unwrap());

    // Another CA's certificate is not put over the one that is there.
    let other = Lab::new();
    let error = ca::issue(&other.path("ca"), Role::Agent, "host2", &lab.path("host_1.example")).unwrap_err();
    assert!(matches!(error, ca::CaError::Exists(path) if path == issued.ca));
}

#[test]
fn what_is_wrong_with_an_identity_is_said_with_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (lab, other) = (Lab::new(), Lab::new());
    let good = lab.issue(Role::Agent, "host1");
    let second = lab.issue(Role::Agent, "host2");
    let foreign = other.issue(Role::Agent, "host1");
    let empty = lab.path("empty");
    std::fs::write(&empty, "nothing").unwrap();
    let missing = lab.path("missing");
    let open = lab.path("open.key");
    std::fs::copy(&good.key, &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o600)).unwrap();

    let cases = [
        (&missing, &good.key, &good.ca, "cannot read", &missing),
        (&good.certificate, &missing, &good.ca, "cannot read", &missing),
        (&empty, &good.key, &good.ca, "does not hold a certificate", &empty),
        (&good.certificate, &empty, &good.ca, "does not hold a private key", &empty),
        (&good.certificate, &good.key, &empty, "does not hold the certificate of a CA", &empty),
        (&good.certificate, &open, &good.ca, "chmod 600", &open),
        (&good.certificate, &second.key, &good.ca, "is not the private key of", &second.key),
        (&good.certificate, &good.key, &foreign.ca, "this CA did not issue it", &foreign.ca),
        (&good.ca, &good.key, &good.ca, "carries no name of the form takeover://", &good.ca),
    ];
    for (certificate, key, ca, expected, file) in cases {
        let error = Identity::load(certificate, key, ca).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(file.to_str().unwrap()), "{error}");
    }
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).unwrap();
    Identity::load(&good.certificate, &open, &good.ca).unwrap();
}

#[test]
fn a_frame_that_is_not_the_expected_message_names_the_place() {
    let lab = Lab::new();
    let server = Server::start(&lab.identity(Role::Scs, "scs1"));
    let (mut agent, mut scs) = server.connect(&lab.identity(Role::Agent, "host1"));
    agent.link.send(&serde_json::json!({"type": "figures", "cpu": "much"})).unwrap();
    let (messages, end): (Vec<FromAgent>, _) = scs.receive(1);
    assert!(messages.is_empty());
    let why = end.unwrap_err().to_string();
    assert!(why.contains("malformed") && why.contains("much"), "{why}");
}
