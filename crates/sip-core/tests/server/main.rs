//! The SIP Server as a value, with phones and a trunk that say what telephones say: registrations, calls, what its backup
//! goes on with, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;
mod takeover;
mod trunks;

use domain::{Epoch, Micros};
use scene::{ALICE, BEHIND_NAT, BOB, CAROL, Leg, Scene, WALL, name, settings};
use sip_core::{Change, Input, Notice, Setup, SipCore};
use sip_sync::Replica;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_call_from_registration_to_record() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    scene.wait(Duration::from_secs(10));
    scene.hang_up(&alice, 3, BOB);
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    assert_eq!((record.caller.as_deref(), record.answered_by.as_deref()), (Some("alice"), Some("bob")));
    assert_eq!((record.duration_ms, &*record.cause, record.epoch), (10_000, "caller-hung-up", Epoch(1)));
    assert_eq!(record.ended_us, Micros(WALL + scene.now.0));
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.servers.each_ref().map(SipCore::call_count), [0, 0], "both have forgotten it");
}

#[test]
fn a_backup_goes_on_with_a_call_that_it_never_saw_begin() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    scene.take_over();
    let survey = scene.servers[1].survey(scene.now);
    assert_eq!((survey.confirmed, survey.ringing, survey.registered), (1, 0, 1));
    scene.hang_up(&alice, 3, BOB);
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    assert_eq!((record.caller.as_deref(), record.epoch), (Some("alice"), Epoch(2)));
}

#[test]
fn a_record_that_was_not_written_down_is_owed_by_the_next_primary() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    scene.says(&alice, "BYE", 3, "");
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    let record = record.clone();
    scene.take_over();
    assert_eq!(scene.records, [record.clone(), record.clone()], "the next primary has it to write");
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.records.len(), 2, "once");
    // Written down, it is owed by nobody.
    scene.step(Input::Recorded { calls: &[record.call, record.call] });
    scene.step(Input::Recorded { calls: &[record.call] });
    scene.take_over();
    assert_eq!(scene.records.len(), 2);
}

#[test]
fn a_call_that_rings_is_answered_after_a_takeover() {
    let mut scene = Scene::new();
    scene.register("bob", BOB);
    scene.alice_calls("bob");
    scene.respond(BOB, "180 Ringing", true);
    scene.take_over();
    assert_eq!(scene.servers[1].survey(scene.now).ringing, 1);
    scene.respond(BOB, "200 OK", true);
    assert!(scene.first_line(ALICE).contains("200"), "{}", scene.last(ALICE));
}

#[test]
fn a_challenge_of_the_one_is_answered_to_the_other() {
    let mut scene = Scene::new();
    let (uri, to) = ("sip:example.com", "<sip:alice@example.com>");
    scene.request(("alice", ALICE), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("alice", ALICE, "REGISTER", uri);
    scene.take_over();
    scene.request(("alice", ALICE), "REGISTER", uri, to, 2, &proof);
    assert!(scene.first_line(ALICE).contains("200"), "{}", scene.last(ALICE));
}

#[test]
fn who_is_somebody_else_is_refused_and_then_silenced() {
    let mut scene = Scene::new();
    let (uri, to) = ("sip:example.com", "<sip:bob@example.com>");
    scene.request(("alice", ALICE), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("alice", ALICE, "REGISTER", uri);
    scene.request(("alice", ALICE), "REGISTER", uri, to, 2, &proof);
    assert!(scene.first_line(ALICE).contains("403"), "alice is not bob: {}", scene.last(ALICE));
    for cseq in 3..20 {
        scene.request(("nobody", ALICE), "REGISTER", uri, "<sip:nobody@example.com>", cseq, "");
        if scene.first_line(ALICE).contains("401") {
            let proof = scene.authorization("nobody", ALICE, "REGISTER", uri);
            scene.request(("nobody", ALICE), "REGISTER", uri, "<sip:nobody@example.com>", cseq, &proof);
        }
    }
    assert!(matches!(&scene.notices[..], [Notice::SourceSilenced { .. }]), "{:?}", scene.notices);
    let before = scene.sent[ALICE].len();
    scene.request(("alice", ALICE), "OPTIONS", uri, to, 30, "");
    assert_eq!(scene.sent[ALICE].len(), before, "it is answered although it is silenced");
}

#[test]
fn what_goes_nowhere_is_told_why() {
    for (whom, status) in [("bob", "480"), ("dave", "404")] {
        let mut scene = Scene::new();
        scene.alice_calls(whom);
        assert!(scene.first_line(ALICE).contains(status), "{whom}: {}", scene.last(ALICE));
        assert_eq!(scene.records.len(), 1, "one record, also of a call that goes nowhere");
    }
}

#[test]
fn a_phone_behind_a_nat_is_called_where_it_registered_from() {
    let mut scene = Scene::new();
    let nat = "203.0.113.9:40000";
    let (uri, to) = ("sip:example.com", "<sip:bob@example.com>");
    scene.request(("bob", nat), "REGISTER", uri, to, 1, "");
    let proof = scene.authorization("bob", nat, "REGISTER", uri);
    scene.request(("bob", nat), "REGISTER", uri, to, 2, &proof);
    assert!(scene.field(nat, "Contact").starts_with(BEHIND_NAT.0), "{}", scene.last(nat));
    scene.alice_calls("bob");
    assert!(scene.first_line(nat).starts_with("INVITE"), "{}", scene.last(nat));
}

#[test]
fn a_snapshot_makes_an_equal_backup() {
    let mut scene = Scene::new();
    scene.established();
    let setup = Setup { settings: Arc::new(settings()), server: "new".into(), seed: [3; 32], open: false };
    let mut fresh = SipCore::new(setup, scene.now);
    fresh.begin_resync();
    let (mut cursor, mut changes) = (None, Vec::new());
    loop {
        cursor = scene.servers[0].snapshot(cursor.as_ref(), 1, scene.now, &mut changes);
        if cursor.is_none() {
            break;
        }
    }
    assert!(changes.iter().any(|change| matches!(change, Change::Caller { .. })));
    for change in changes {
        fresh.apply(change, scene.now).unwrap();
    }
    fresh.end_resync();
    assert_eq!(fresh.survey(scene.now), scene.servers[0].survey(scene.now));
    // What the primary no longer has goes with the next resynchronisation.
    fresh.begin_resync();
    fresh.end_resync();
    assert_eq!(fresh.survey(scene.now), domain::Standby::default());
}

#[test]
fn a_ladder_shows_who_said_what() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    let ladder = scene.servers[0].trace("INVITE-alice").expect("a trace");
    for part in ["INVITE", "180 (INVITE)", "200 (INVITE)", "ACK", ALICE, BOB] {
        assert!(ladder.contains(part), "{part} is not in\n{ladder}");
    }
    scene.hang_up(&alice, 3, BOB);
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.servers[0].call_count(), 0);
    let after = scene.servers[0].trace("INVITE-alice").expect("a trace, after the call too");
    assert!(after.starts_with(&ladder) && after.contains("BYE"), "{after}");
}

#[test]
fn who_has_not_dialed_enough_is_told_so() {
    let mut settings = settings();
    settings.routes[0].prefix = "00".into();
    settings.users.insert(name("3000"), settings.users["bob"].clone());
    for (whom, status) in [("0", "484"), ("300", "484"), ("3001", "404"), ("00", "503")] {
        let mut settings = settings.clone();
        settings.trunks.clear();
        let mut scene = Scene::with(settings);
        scene.alice_calls(whom);
        assert!(scene.first_line(ALICE).contains(status), "{whom}: {}", scene.last(ALICE));
    }
}

#[test]
fn who_never_proves_anything_is_silenced_and_who_is_registered_is_not() {
    let mut scene = Scene::new();
    let guess = |scene: &mut Scene, at: &str, cseq| {
        let to = format!("<sip:{cseq}@example.com>");
        scene.request(("scanner", at), "REGISTER", "sip:example.com", &to, cseq, "");
    };
    (0..60).for_each(|cseq| guess(&mut scene, CAROL, cseq));
    assert!(matches!(&scene.notices[..], [Notice::SourceSilenced { .. }]), "{:?}", scene.notices);
    assert_eq!(scene.sent[CAROL].len(), 50, "refusals are 5, and ten challenges weigh as much as one");
    // Also after a takeover, nobody is shut out who is registered, whatever else is behind that address.
    scene.register("bob", BOB);
    scene.take_over();
    scene.notices.clear();
    (0..60).for_each(|cseq| guess(&mut scene, BOB, cseq));
    assert_eq!(scene.notices, []);
}

#[test]
fn who_has_too_many_calls_has_a_record_of_the_one_that_was_refused() {
    let mut settings = settings();
    settings.users.get_mut("alice").unwrap().calls = Some(0);
    let mut scene = Scene::with(settings);
    scene.alice_calls("bob");
    assert!(scene.first_line(ALICE).contains("486"), "{}", scene.last(ALICE));
    assert_eq!(scene.records.len(), 1);
}

const OLD: &str = "tcp/192.0.2.9:40000";
const NEW: &str = "tcp/192.0.2.9:50000";
const PHONE: &str = ";+sip.instance=\"<urn:uuid:9>\"";

#[test]
fn a_call_goes_on_over_the_connection_that_its_party_has_come_back_by() {
    let mut scene = Scene::new();
    scene.register_with("bob", OLD, PHONE);
    scene.alice_calls("bob");
    scene.respond(OLD, "200 OK", true);
    let alice = scene.caller(ALICE);
    scene.says(&alice, "ACK", 2, "");
    scene.take_over();
    scene.says(&alice, "BYE", 3, "");
    scene.hears(OLD, "BYE");
    // That got lost with the old connection.
    scene.register_again("bob", NEW, PHONE);
    scene.hears(NEW, "BYE");
    scene.respond(NEW, "200 OK", false);
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.servers.each_ref().map(SipCore::call_count), [0, 0]);
}

#[test]
fn a_caller_who_has_come_back_hears_the_answer() {
    let mut scene = Scene::new();
    scene.register("bob", BOB);
    scene.register_with("alice", OLD, PHONE);
    scene.calls(("alice", OLD), "INVITE-alice", "sip:bob@example.com", "");
    scene.respond(BOB, "180 Ringing", true);
    scene.take_over();
    scene.register_again("alice", NEW, PHONE);
    scene.hears(NEW, "SIP/2.0 180");
    scene.respond(BOB, "200 OK", true);
    scene.hears(NEW, "SIP/2.0 200");
    let alice = scene.caller(NEW);
    scene.says(&alice, "ACK", 2, "");
    scene.hears(BOB, "ACK");
    scene.hang_up(&scene.callee(BOB), 1, NEW);
}

#[test]
fn only_a_call_that_there_is_can_be_replaced() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    let (ours, hers) = (Leg::tag(&alice.to).to_owned(), Leg::tag(&alice.from).to_owned());
    let cases = [
        ("481", format!("other;to-tag={ours};from-tag={hers}")),
        ("481", format!("INVITE-alice;to-tag=0123456789abcdef0001;from-tag={hers}")),
        ("481", format!("INVITE-alice;to-tag={ours};from-tag=other")),
        ("486", format!("INVITE-alice;to-tag={ours};from-tag={hers};early-only")),
        ("400", format!("INVITE-alice;to-tag={ours}")),
    ];
    for (nth, (status, replaces)) in cases.into_iter().enumerate() {
        let call_id = format!("try-{nth}");
        scene.calls(("carol", CAROL), &call_id, "sip:192.0.2.100", &format!("\nReplaces: {replaces}"));
        assert!(scene.first_line(CAROL).contains(status), "{replaces}: {}", scene.last(CAROL));
    }
    scene.hang_up(&alice, 3, BOB);
    let replaces = format!("\nReplaces: INVITE-alice;to-tag={ours};from-tag={hers}");
    scene.calls(("carol", CAROL), "late", "sip:192.0.2.100", &replaces);
    assert!(scene.first_line(CAROL).contains("603"), "{}", scene.last(CAROL));
}

#[test]
fn while_more_comes_than_can_be_served_calls_go_on_and_new_ones_do_not() {
    let mut scene = Scene::new();
    let (alice, _) = scene.established();
    scene.servers[0].set_behind(true);
    for cseq in [1, 2] {
        scene.request(("carol", CAROL), "INVITE", "sip:bob@example.com", "<sip:bob@example.com>", cseq, "");
        scene.hears(CAROL, "SIP/2.0 503");
        assert_eq!(scene.field(CAROL, "Retry-After"), "10");
    }
    assert_eq!(scene.notices, [Notice::Overloaded]);
    scene.hang_up(&alice, 3, BOB);
    scene.servers[0].set_behind(false);
    scene.request(("carol", CAROL), "INVITE", "sip:bob@example.com", "<sip:bob@example.com>", 3, "");
    scene.hears(CAROL, "SIP/2.0 407");
}
