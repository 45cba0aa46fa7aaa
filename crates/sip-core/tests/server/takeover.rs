//! Stories that go well, told once without a takeover, and then again and again with one after each step of the server.

use crate::scene::{ALICE, BOB, CAROL, Leg, Scene, TRUNK, settings};
use std::collections::BTreeMap;
use std::time::Duration;

type Story = fn(&mut Scene);

const STORIES: [(&str, Story); 6] = [
    ("hold", hold),
    ("cancel", cancel),
    ("one after another", one_after_another),
    ("blind transfer", blind_transfer),
    ("attended transfer", attended_transfer),
    ("out and back in", out_and_back_in),
];

/// A call that is held, and resumed, by either side.
fn hold(scene: &mut Scene) {
    let (alice, bob) = scene.established();
    for (cseq, who, other) in [(3, &alice, BOB), (4, &alice, BOB), (1, &bob, ALICE)] {
        scene.says(who, "INVITE", cseq, "\nContent-Type: application/sdp\n\na=sendonly");
        scene.hears(other, "INVITE");
        assert!(scene.last(other).ends_with("a=sendonly\r\n"), "{}", scene.last(other));
        scene.respond(other, "200 OK", true);
        scene.hears(who.at, "SIP/2.0 200");
        scene.says(who, "ACK", cseq, "");
        scene.hears(other, "ACK");
    }
    scene.hang_up(&bob, 2, ALICE);
}

/// A call that rings, and is cancelled.
fn cancel(scene: &mut Scene) {
    scene.register("bob", BOB);
    scene.alice_calls("bob");
    scene.respond(BOB, "180 Ringing", true);
    scene.alice_cancels();
    let invite = scene.last_request(BOB, "INVITE");
    scene.respond_to(&scene.last_request(BOB, "CANCEL"), BOB, "200 OK", false);
    scene.respond_to(&invite, BOB, "487 Request Terminated", false);
    scene.hears(BOB, "ACK");
    let told: Vec<_> = scene.sent[ALICE].iter().filter(|text| text.starts_with("SIP/2.0 487")).collect();
    assert!(!told.is_empty());
}

/// Bob has two telephones with different q; the better one is busy, so that the other rings.
fn one_after_another(scene: &mut Scene) {
    scene.register("bob", CAROL);
    scene.register_with("bob", BOB, ";q=0.5");
    scene.alice_calls("bob");
    scene.hears(CAROL, "INVITE");
    scene.respond(CAROL, "486 Busy Here", false);
    scene.hears(BOB, "INVITE");
    let (alice, _) = scene.answered(ALICE, BOB, 2);
    scene.hang_up(&alice, 3, BOB);
}

/// Alice sends Bob to Carol, and leaves.
fn blind_transfer(scene: &mut Scene) {
    scene.register("carol", CAROL);
    let (alice, bob) = scene.established();
    scene.says(&alice, "REFER", 3, "\nRefer-To: <sip:carol@example.com>");
    scene.hears(BOB, "REFER");
    assert_eq!(scene.field(BOB, "Refer-To"), "<sip:carol@example.com>");
    scene.respond(BOB, "202 Accepted", false);
    scene.hears(ALICE, "SIP/2.0 202");
    scene.calls(
        ("bob", BOB),
        "INVITE-bob",
        "sip:carol@example.com",
        "\nReferred-By: <sip:alice@example.com>",
    );
    scene.hears(CAROL, "INVITE");
    let (_, carol) = scene.answered(BOB, CAROL, 2);
    says_how_it_went(scene, &bob);
    scene.hang_up(&alice, 4, BOB);
    scene.hang_up(&carol, 1, BOB);
}

/// What a transferee tells the one who sent it (RFC 3515, section 2.4.5).
fn says_how_it_went(scene: &mut Scene, leg: &Leg) {
    let told = "\nEvent: refer\nSubscription-State: terminated;reason=noresource\nContent-Type: message/sipfrag\n\n\
        SIP/2.0 200 OK";
    scene.says(leg, "NOTIFY", 1, told);
    scene.hears(ALICE, "NOTIFY");
    assert!(scene.last(ALICE).ends_with("SIP/2.0 200 OK\r\n"), "{}", scene.last(ALICE));
    scene.respond(ALICE, "200 OK", false);
    scene.hears(leg.at, "SIP/2.0 200");
}

/// Alice talks to Bob, then to Carol, and brings the two together (RFC 3891, RFC 5589 section 7).
fn attended_transfer(scene: &mut Scene) {
    scene.register("carol", CAROL);
    let (alice, bob) = scene.established();
    scene.calls(("alice", ALICE), "consults", "sip:carol@example.com", "");
    let (consulting, carol) = scene.answered(ALICE, CAROL, 2);
    // Carol's telephone is called at our address, as Alice knows no other.
    let (ours, hers) = (Leg::tag(&consulting.to).to_owned(), Leg::tag(&consulting.from).to_owned());
    let refer_to = format!("<{}?Replaces=consults%3Bto-tag%3D{ours}%3Bfrom-tag%3D{hers}>", consulting.uri);
    scene.says(&alice, "REFER", 3, &format!("\nRefer-To: {refer_to}"));
    scene.hears(BOB, "REFER");
    assert_eq!(scene.field(BOB, "Refer-To"), refer_to);
    scene.respond(BOB, "202 Accepted", false);
    scene.hears(ALICE, "SIP/2.0 202");
    let replaces = format!("\nRequire: replaces\nReplaces: consults;to-tag={ours};from-tag={hers}");
    scene.calls(("bob", BOB), "INVITE-bob", &consulting.uri, &replaces);
    scene.hears(CAROL, "INVITE");
    // Of her own call, which she gives up for the new one.
    let (theirs, called) = (Leg::tag(&carol.to).to_owned(), Leg::tag(&carol.from).to_owned());
    assert_eq!(
        scene.field(CAROL, "Replaces"),
        format!("{};to-tag={called};from-tag={theirs}", carol.call_id)
    );
    assert_eq!(scene.field(CAROL, "Require"), "replaces");
    let (together, _) = scene.answered(BOB, CAROL, 2);
    scene.hang_up(&carol, 1, ALICE);
    says_how_it_went(scene, &bob);
    scene.hang_up(&alice, 4, BOB);
    scene.wait(Duration::from_secs(5));
    scene.hang_up(&together, 3, CAROL);
}

/// A call goes out by a trunk, and another comes in.
fn out_and_back_in(scene: &mut Scene) {
    scene.alice_calls("0301234");
    scene.hears(TRUNK, "INVITE sip:+49301234@");
    let (alice, _) = scene.answered(ALICE, TRUNK, 2);
    scene.register("bob", BOB);
    scene.request(("+4930", TRUNK), "INVITE", "sip:bob@example.com", "<sip:bob@example.com>", 1, "");
    scene.hears(BOB, "INVITE");
    let (_, bob) = scene.answered(TRUNK, BOB, 1);
    scene.hang_up(&bob, 1, TRUNK);
    scene.hang_up(&alice, 3, TRUNK);
}

/// Without probes, which would come between.
fn stage() -> Scene {
    let mut settings = settings();
    settings.trunks.values_mut().for_each(|trunk| trunk.probe = None);
    Scene::with(settings)
}

/// How it ended: the records, and who is still there.
fn outcome(scene: &mut Scene) -> (Vec<String>, domain::Standby) {
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.servers.each_ref().map(|server| server.call_count()), [0, 0], "both have forgotten it");
    // Nobody writes them down here, so the next primary has some of them once more.
    let mut records = BTreeMap::new();
    for record in &scene.records {
        let told = format!("{:?} {} {:?} {}", record.caller, record.called, record.answered_by, record.cause);
        assert_eq!(records.entry(record.call).or_insert_with(|| told.clone()), &told);
    }
    let mut records: Vec<String> = records.into_values().collect();
    records.sort();
    let surveys = scene.servers.each_ref().map(|server| server.survey(scene.now));
    assert_eq!(surveys[0], surveys[1]);
    (records, surveys[0])
}

#[test]
fn a_story_ends_well_wherever_a_takeover_is_in_it() {
    for (name, story) in STORIES {
        let mut scene = stage();
        story(&mut scene);
        let steps = scene.steps;
        let expected = outcome(&mut scene);
        assert!(!expected.0.is_empty() && steps > 5, "{name}");
        for dies_after in 1..=steps {
            println!("{name}, after step {dies_after} of {steps}");
            let mut scene = stage();
            scene.dies_after = Some(dies_after);
            story(&mut scene);
            assert_eq!(outcome(&mut scene), expected, "{name}, after step {dies_after}");
        }
    }
}
