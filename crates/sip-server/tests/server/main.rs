//! The SIP Server as its neighbours see it: clients on loopback, an agent on the mode socket, a manager on the notify
//! socket. Nothing sleeps: silence is shown by a later probe that is answered, everything else by an event.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod calls;
mod phone;
mod rig;

use control_link::messages::{FromApplication, ToApplication};
use domain::{Epoch, RefId, RunMode};
use rig::{Rig, request, status_of};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const OPTIONS: &str = "OPTIONS sip:example.com SIP/2.0";

#[test]
fn a_backup_is_silent_on_the_vip_and_answers_probes() {
    let rig = Rig::start();
    assert_eq!(
        rig.agent.receive(),
        FromApplication::RunMode { ref_id: None, mode: RunMode::Backup, epoch: Epoch(0) }
    );
    assert_eq!(rig.agent.receive(), FromApplication::Synced { synced: true, standby: None });
    for vip in [rig.vip4, rig.vip6] {
        rig.udp(vip).send(&request(OPTIONS, ""));
    }
    let silent = rig.udp(rig.vip4);
    silent.send(&request(OPTIONS, ""));
    // The probe was sent last, and the loop reads the VIP's socket first.
    assert_eq!(status_of(&rig.udp(rig.probe).ask(&request(OPTIONS, ""))), 200);
    assert!(silent.heard_nothing());
    let mut stream = TcpStream::connect(rig.vip4).unwrap();
    stream.set_read_timeout(Some(rig::LIMIT)).unwrap();
    assert!(ended(&mut stream), "a backup must not keep connections");
}

#[test]
fn a_primary_answers_on_every_transport_and_address() {
    let rig = Rig::primary(5);
    for vip in [rig.vip4, rig.vip6] {
        let udp = rig.udp(vip);
        let answer = udp.ask(&request(OPTIONS, ""));
        assert_eq!(status_of(&answer), 200);
        assert!(answer.contains("\r\nAllow: INVITE, ACK, CANCEL, BYE, "), "{answer}");
        assert!(
            answer.contains(&format!("\r\nServer: Takeover/{} (sip1)\r\n", env!("CARGO_PKG_VERSION"))),
            "{answer}"
        );
        assert!(answer.contains(&format!(";rport={}", udp.port())), "{answer}");
        let mut stream = rig.tcp(vip);
        assert_eq!(status_of(&stream.ask(&request(OPTIONS, "l: 0\r\n"))), 200);
        assert_eq!(status_of(&stream.ask(&request("PUBLISH sip:a@example.com SIP/2.0", "l: 0\r\n"))), 405);
    }
    assert_eq!(status_of(&rig.udp(rig.probe).ask(&request("REGISTER sip:example.com SIP/2.0", ""))), 405);
}

#[test]
fn phones_register_over_both_transports() {
    let rig = Rig::primary(1);
    let line = "REGISTER sip:example.com SIP/2.0";
    let udp = rig.udp(rig.vip4);
    let bound = udp.ask(&request(line, "m: <sip:alice@192.0.2.1>;expires=600\r\n"));
    assert_eq!(status_of(&bound), 200);
    assert!(bound.contains("\r\nContact: <sip:alice@192.0.2.1>;expires=600\r\n"), "{bound}");
    let listed = rig.tcp(rig.vip4).ask(&request(line, "l: 0\r\n"));
    assert!(listed.contains("\r\nContact: <sip:alice@192.0.2.1>;expires="), "{listed}");
    let brief = udp.ask(&request(line, "m: <sip:alice@192.0.2.2>;expires=5\r\n"));
    assert_eq!(status_of(&brief), 423);
    assert!(brief.contains("\r\nMin-Expires: 60\r\n"), "{brief}");
}

#[test]
fn a_run_mode_is_taken_at_once_and_an_old_epoch_is_refused() {
    let rig = Rig::primary(5);
    let mut stream = rig.tcp(rig.vip4);
    assert_eq!(status_of(&stream.ask(&request(OPTIONS, "l: 0\r\n"))), 200);

    let refused = rig.instruct(8, RunMode::Backup, 4);
    let holds = FromApplication::RunMode { ref_id: Some(RefId(8)), mode: RunMode::Primary, epoch: Epoch(5) };
    assert_eq!(refused, holds);
    assert_eq!(status_of(&stream.ask(&request(OPTIONS, "l: 0\r\n"))), 200);

    let taken = rig.instruct(9, RunMode::Backup, 6);
    assert_eq!(
        taken,
        FromApplication::RunMode { ref_id: Some(RefId(9)), mode: RunMode::Backup, epoch: Epoch(6) }
    );
    assert!(ended(&mut stream.0), "connections end before the answer to the instruction");
    let udp = rig.udp(rig.vip4);
    udp.send(&request(OPTIONS, ""));
    rig.udp(rig.probe).ask(&request(OPTIONS, ""));
    assert!(udp.heard_nothing());

    rig.instruct(10, RunMode::Primary, 7);
    assert_eq!(status_of(&udp.ask(&request(OPTIONS, ""))), 200);
}

#[test]
fn losing_the_agent_changes_nothing() {
    let mut rig = Rig::primary(5);
    rig.reconnect_agent();
    assert_eq!(
        rig.agent.receive(),
        FromApplication::RunMode { ref_id: None, mode: RunMode::Primary, epoch: Epoch(5) }
    );
    assert_eq!(rig.agent.receive(), FromApplication::Synced { synced: true, standby: None });
    assert_eq!(status_of(&rig.udp(rig.vip4).ask(&request(OPTIONS, ""))), 200);
    // A second agent takes over from one that is still connected.
    let first = rig.reconnect_agent();
    rig.instruct(3, RunMode::Backup, 6);
    assert!(first.is_closed());
}

#[test]
fn a_graceful_stop_refuses_new_work() {
    let rig = Rig::primary(5);
    rig.agent.send(&ToApplication::Suspend);
    assert_eq!(rig.agent.receive(), FromApplication::Suspending);
    assert_eq!(rig.agent.receive(), FromApplication::Suspended);
    let refused = rig.udp(rig.vip4).ask(&request(OPTIONS, ""));
    assert_eq!(status_of(&refused), 503);
    assert!(refused.contains("\r\nRetry-After: "), "{refused}");
    assert_eq!(status_of(&rig.udp(rig.probe).ask(&request(OPTIONS, ""))), 200);
}

#[test]
fn malformed_input_is_answered_or_dropped_and_does_no_harm() {
    let rig = Rig::primary(5);
    let udp = rig.udp(rig.vip4);
    let broken = String::from_utf8(request(OPTIONS, "")).unwrap().replace("CSeq: 1", "CSeq: one");
    assert_eq!(status_of(&udp.ask(broken.as_bytes())), 400);

    let mut random = rig::Random(0x5eed);
    let valid = request(OPTIONS, "");
    let harmful = rig.udp(rig.vip4);
    for round in 0..1_000 {
        let datagram: Vec<u8> = if round % 2 == 0 {
            (0..random.below(1_400)).map(|_| random.next() as u8).collect()
        } else {
            let mut mutated = valid.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(mutated.len());
                mutated[at] = random.next() as u8;
            }
            mutated
        };
        harmful.send(&datagram);
    }
    assert_eq!(status_of(&udp.ask(&valid)), 200);

    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 20_000], b"OPTIONS sip:a SIP/2.0\r\nl: 99999\r\n\r\n"]
    {
        let mut stream = rig.tcp(rig.vip4).0;
        // The server may close before all is written.
        let _ = stream.write_all(garbage);
        assert!(ended(&mut stream));
    }
    assert_eq!(status_of(&rig.tcp(rig.vip4).ask(&request(OPTIONS, "l: 0\r\n"))), 200);
}

#[test]
fn a_stream_is_cut_into_messages() {
    let rig = Rig::primary(5);
    let mut stream = rig.tcp(rig.vip4);
    let message = request(OPTIONS, "l: 3\r\n");
    let two = [b"\r\n", &message[..], b"abc", &message[..], b"de"].concat();
    for half in two.chunks(two.len() / 2 + 1) {
        stream.0.write_all(half).unwrap();
    }
    assert_eq!(status_of(&stream.read_message()), 200);
    stream.0.write_all(b"f").unwrap();
    assert_eq!(status_of(&stream.read_message()), 200);
    stream.0.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    stream.0.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[test]
fn a_client_that_does_not_read_stops_nobody() {
    let rig = Rig::primary(5);
    let mut deaf = rig.tcp(rig.vip4).0;
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let message = request(OPTIONS, "l: 0\r\n");
    // As much as both kernels hold, until the server no longer reads.
    while deaf.write_all(&message).is_ok() {}
    assert_eq!(status_of(&rig.tcp(rig.vip4).ask(&message)), 200);
    assert_eq!(status_of(&rig.udp(rig.vip4).ask(&request(OPTIONS, ""))), 200);
}

#[test]
fn the_manager_hears_readiness_heartbeats_and_the_end() {
    let rig = Rig::start();
    assert!(rig.ready.contains("READY=1\n") && rig.ready.contains("STATUS=backup mode"), "{}", rig.ready);
    for _ in 0..3 {
        rig.manager.wait_for("WATCHDOG=1");
    }
    rig.instruct(1, RunMode::Primary, 2);
    rig.manager.wait_for("STATUS=primary mode, epoch 2");
    let manager = rig.stop();
    manager.wait_for("STOPPING=1");
}

/// Whether the other end has ended the connection, properly or not.
fn ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}
