//! Calls between telephones on loopback: what they hear of each other, what is written and shown of it.

use crate::phone::{PASSWORD, Phone, SDP};
use crate::rig::{self, Rig};
use control_link::messages::{FromApplication, ToApplication};
use domain::{SipListen, SipName, SipSecret, SipSettings, SipTls, SipTransport, SipUser, events};
use sip_proto::digest::{Algorithm, secret};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Both are registered, one calls the other, who takes it.
fn talk(alice: &mut Phone, bob: &mut Phone) {
    alice.register();
    bob.register();
    alice.call(bob.name);
    ring(alice, bob);
}

/// Somebody was called: rings, and takes it.
fn ring(alice: &mut Phone, bob: &mut Phone) {
    let invite = bob.expect("INVITE sip:bob@");
    assert_eq!(invite.body(), SDP, "what they say about media passes");
    bob.answer(&invite, "180 Ringing", "");
    alice.expect("SIP/2.0 180");
    bob.adopt(&invite);
    bob.answer(&invite, "200 OK", SDP);
    let ok = alice.expect("SIP/2.0 200");
    assert_eq!(ok.body(), SDP);
    alice.acknowledge(&ok);
    bob.expect("ACK");
}

/// One hangs up.
fn hang_up(one: &mut Phone, other: &mut Phone) {
    let bye = one.request("BYE", "", "");
    one.send(&bye);
    let heard = other.expect("BYE");
    other.answer(&heard, "200 OK", "");
    one.expect("SIP/2.0 200");
}

#[test]
fn a_call_over_datagrams_streams_and_from_one_to_the_other() {
    let rig = Rig::primary(5);
    let vip = rig.vip4;
    for (mut alice, mut bob) in [
        (Phone::udp("alice", vip), Phone::udp("bob", vip)),
        (Phone::tcp("alice", vip), Phone::tcp("bob", vip)),
        (Phone::udp("alice", vip), Phone::tcp("bob", vip)),
        (Phone::tcp("alice", vip), Phone::udp("bob", vip)),
    ] {
        talk(&mut alice, &mut bob);
        // On hold, and back: what the one asks in the call, the other hears.
        let hold = SDP.replace("RTP/AVP 8", "RTP/AVP 8\r\na=sendonly");
        let again = bob.request("INVITE", "", &hold);
        bob.send(&again);
        let heard = alice.expect("INVITE");
        assert_eq!(heard.body(), hold);
        alice.answer(&heard, "200 OK", SDP);
        let ok = bob.expect("SIP/2.0 200");
        bob.acknowledge(&ok);
        alice.expect("ACK");
        hang_up(&mut bob, &mut alice);
        // Who is not registered any more must not be called in the next round.
        for phone in [&mut alice, &mut bob] {
            phone.unregister();
        }
    }
}

#[test]
fn who_gives_up_and_who_is_not_there() {
    let rig = Rig::primary(5);
    let (mut alice, mut bob) = (Phone::udp("alice", rig.vip4), Phone::tcp("bob", rig.vip4));
    alice.call("nobody");
    let refused = alice.hear();
    assert!(matches!(refused.status(), Some(404 | 480)), "{}", refused.0);
    bob.register();
    alice.call("bob");
    let invite = bob.expect("INVITE");
    bob.answer(&invite, "180 Ringing", "");
    alice.expect("SIP/2.0 180");
    let cancel = alice.cancel();
    alice.send(&cancel);
    let heard = bob.expect("CANCEL");
    bob.answer(&heard, "200 OK", "");
    bob.answer(&invite, "487 Request Terminated", "");
    let mut statuses = [alice.hear().status(), alice.hear().status()];
    statuses.sort();
    assert_eq!(statuses, [Some(200), Some(487)]);
}

#[test]
fn a_place_where_nobody_listens_is_left_at_once() {
    let rig = Rig::primary(5);
    let (mut alice, mut bob) = (Phone::udp("alice", rig.vip4), Phone::udp("bob", rig.vip4));
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bob.register_at(&format!("<sip:bob@{gone}>;q=1.0"));
    bob.register_at(&format!("{};q=0.5", bob.contact()));
    alice.call("bob");
    // What the kernel says of the first place is sooner than silence would, and than anybody here waits.
    let invite = bob.expect("INVITE");
    bob.answer(&invite, "486 Busy Here", "");
    alice.expect("SIP/2.0 486");
}

/// A server of a file of settings: over UDP and TLS, with users.
fn with_settings() -> (Rig, SocketAddr, std::path::PathBuf) {
    let mut seen = None;
    let rig = Rig::with_settings(|dir, ip, http_port| {
        let made = rcgen::generate_simple_self_signed([ip.to_string()]).unwrap();
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = SocketAddr::new(ip, 5061);
        seen = Some((tls, certificate.clone()));
        let listen = |transport, address| SipListen { transport, address };
        SipSettings {
            domains: vec!["example.com".to_owned()],
            listen: vec![
                listen(SipTransport::Udp, SocketAddr::new(ip, 5060)),
                listen(SipTransport::Tls, tls),
            ],
            tls: Some(SipTls { certificate, key, ca: None }),
            registrations: Default::default(),
            users: BTreeMap::from(["alice", "bob"].map(|name| (SipName::new(name).unwrap(), user(name)))),
            trunks: BTreeMap::new(),
            routes: Vec::new(),
            limits: Default::default(),
            timers: Default::default(),
            replication: Default::default(),
            http_port: Some(http_port),
            cdr_directory: Some(dir.to_owned()),
            cdr_log: 20,
        }
    });
    let (tls, certificate) = seen.unwrap();
    (rig, tls, certificate)
}

fn user(name: &str) -> SipUser {
    let secret = |algorithm| Some(secret(algorithm, name, "example.com", PASSWORD).to_string());
    let secret = SipSecret { sha256: secret(Algorithm::Sha256), md5: secret(Algorithm::Md5) };
    SipUser { secret, calls: None, outside: false }
}

/// What the HTTP page says; the status and the body.
fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(rig::LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_call_over_tls_with_proofs_is_shown_and_written_down() {
    let (mut rig, tls, certificate) = with_settings();
    let http = rig.http.unwrap();
    assert_eq!(get(http, "/ready"), (503, "backup\n".to_owned()));
    rig.make_primary(5);
    assert_eq!(get(http, "/ready"), (200, "primary\n".to_owned()));
    assert_eq!(get(http, "/calls"), (200, r#"{"calls":[]}"#.to_owned()));

    let (mut alice, mut bob) = (Phone::tls("alice", tls, &certificate), Phone::tls("bob", tls, &certificate));
    alice.register();
    bob.register();
    alice.call("bob");
    alice.call_with_proof();
    ring(&mut alice, &mut bob);

    let (status, calls) = get(http, "/calls");
    assert_eq!(status, 200);
    for part in [r#""caller":"alice""#, r#""called":"sip:bob@example.com""#, r#""stage":"established""#] {
        assert!(calls.contains(part), "{part} is not in {calls}");
    }
    let call_id = alice.dialog.call_id.clone();
    let (status, ladder) = get(http, &format!("/calls/{call_id}/trace"));
    assert_eq!(status, 200);
    assert!(ladder.contains("INVITE") && ladder.contains("200 (INVITE)"), "{ladder}");
    let (_, metrics) = get(http, "/metrics");
    for line in ["takeover_sip_calls_established 1", "takeover_sip_contacts 2", "takeover_sip_primary 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(get(http, "/calls?after=x").0, 400);
    assert_eq!(get(http, "/calls/nothing").0, 404);
    assert_eq!(get(http, "/").0, 404);

    hang_up(&mut alice, &mut bob);
    rig.end();
    let records = std::fs::read_to_string(rig.dir().join("cdr.jsonl")).unwrap();
    let record: serde_json::Value = serde_json::from_str(records.trim_end()).expect("one record");
    assert_eq!(
        (&record["caller"], &record["answered_by"], &record["cause"], &record["epoch"]),
        (&"alice".into(), &"bob".into(), &"caller-hung-up".into(), &5.into())
    );
}

#[test]
fn who_proves_nothing_is_refused() {
    let (rig, _, _) = with_settings();
    rig.make_primary(5);
    let mut mallory = Phone::udp("mallory", rig.vip4);
    let text = mallory.begin("REGISTER", "sip:example.com", "sip:alice@example.com", "", "");
    mallory.send(&text);
    mallory.expect("SIP/2.0 401");
    mallory.call("bob");
    mallory.expect("SIP/2.0 407");
}

#[test]
fn a_graceful_stop_waits_for_the_last_call() {
    let rig = Rig::primary(5);
    let (mut alice, mut bob) = (Phone::udp("alice", rig.vip4), Phone::tcp("bob", rig.vip4));
    talk(&mut alice, &mut bob);
    rig.agent.send(&ToApplication::Suspend);
    assert_eq!(rig.agent.receive(), FromApplication::Suspending);
    rig.manager.wait_for("stopping: 1 calls remain");
    let mut carol = Phone::udp("carol", rig.vip4);
    carol.call("bob");
    let refused = carol.expect("SIP/2.0 503");
    assert!(refused.header("Retry-After").parse::<u32>().is_ok());
    hang_up(&mut bob, &mut alice);
    let mut logged = 0;
    loop {
        match rig.agent.receive() {
            FromApplication::Suspended => break,
            FromApplication::Synced { .. } => {}
            FromApplication::Log { event } if event.id == events::CALL_ENDED => logged += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(logged, 1, "the record of the call is in the log, too");
}

#[test]
fn settings_are_taken_while_a_call_goes_on_and_bad_ones_are_not() {
    let (rig, tls, certificate) = with_settings();
    rig.make_primary(5);
    let (mut alice, mut bob) = (Phone::tls("alice", tls, &certificate), Phone::tls("bob", tls, &certificate));
    alice.register();
    bob.register();
    alice.call("bob");
    alice.call_with_proof();
    ring(&mut alice, &mut bob);

    let path = rig.dir().join("settings.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut settings: SipSettings = serde_json::from_str(&text).unwrap();
    settings.users.insert(SipName::new("carol").unwrap(), user("carol"));
    replace(&path, &serde_json::to_string(&settings).unwrap());
    rig.agent.send(&ToApplication::Reconfigure);
    assert_eq!(logged(&rig), "70-00907");
    let mut carol = Phone::udp("carol", rig.vip4);
    carol.register();

    settings.listen.pop();
    replace(&path, &serde_json::to_string(&settings).unwrap());
    rig.agent.send(&ToApplication::Reconfigure);
    assert_eq!(logged(&rig), "70-00908");
    replace(&path, "{");
    rig.agent.send(&ToApplication::Reconfigure);
    assert_eq!(logged(&rig), "70-00908");
    hang_up(&mut bob, &mut alice);
}

/// The id of the next log event.
fn logged(rig: &Rig) -> String {
    loop {
        if let FromApplication::Log { event } = rig.agent.receive() {
            return event.id.to_string();
        }
    }
}

/// As an agent does it: a reader finds the old or the new one.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

#[test]
fn sipp_calls_sipp() {
    let rig = Rig::primary(5);
    let mut callee = Phone::udp("callee", rig.vip4);
    let port = callee.port() + 1;
    // The telephone registers the place where SIPp will answer.
    callee.register_at(&format!("<sip:callee@127.0.0.1:{port}>"));
    let dir = tempfile::tempdir().unwrap();
    let sipp = |arguments: &[&str]| {
        let mut command = Command::new("sipp");
        command.args(arguments).args(["-nostdin", "-i", "127.0.0.1"]).current_dir(&dir);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    };
    let vip = rig.vip4.to_string();
    let mut answers =
        sipp(&["-sn", "uas", "-p", &port.to_string()]).spawn().expect("sipp (sip-tester) is installed");
    let calls = sipp(&[
        "-sn",
        "uac",
        "-s",
        "callee",
        "-r",
        "50",
        "-m",
        "100",
        "-timeout",
        "30s",
        "-timeout_error",
        &vip,
    ]);
    let status = { calls }.status();
    let _ = answers.kill();
    let _ = answers.wait();
    assert!(status.unwrap().success(), "a call failed");
}
