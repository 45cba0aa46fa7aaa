//! Trunks: routes, credentials, service, limits.

use crate::scene::{ALICE, BOB, Scene, TRUNK, name, settings};
use sip_core::Notice;
use std::time::Duration;

#[test]
fn a_number_goes_out_by_the_trunk_as_the_route_says() {
    let mut scene = Scene::new();
    scene.alice_calls("0301234");
    assert!(
        scene.first_line(TRUNK).starts_with("INVITE sip:+49301234@198.51.100.1"),
        "{}",
        scene.last(TRUNK)
    );
    // It is challenged, and answers by itself.
    let request = scene.last(TRUNK).to_owned();
    let via = request.lines().find(|line| line.starts_with("Via:")).unwrap();
    let rest: Vec<_> = request
        .lines()
        .filter(|l| ["From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| l.starts_with(n)))
        .collect();
    let challenge =
        "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"";
    scene.hear(
        TRUNK,
        &format!("SIP/2.0 407 Proxy Authentication Required\n{via}\n{}\n{challenge}", rest.join("\n")),
    );
    assert!(
        scene.last(TRUNK).contains("Proxy-Authorization: Digest username=\"us\""),
        "{}",
        scene.last(TRUNK)
    );
    assert!(!scene.last(TRUNK).contains("secret"));
}

#[test]
fn a_trunk_that_does_not_answer_is_out_of_service_until_it_does() {
    let mut scene = Scene::new();
    scene.wait(Duration::from_secs(80));
    assert!(matches!(&scene.notices[..], [Notice::TrunkOut { .. }]), "{:?}", scene.notices);
    scene.alice_calls("0301234");
    assert!(scene.first_line(ALICE).contains("503"), "{}", scene.last(ALICE));
    scene.wait(Duration::from_secs(11)); // the next probe has gone out a second ago
    scene.respond(TRUNK, "200 OK", false);
    assert!(matches!(&scene.notices[..], [_, Notice::TrunkIn { .. }]), "{:?}", scene.notices);
}

#[test]
fn who_may_not_call_outside_does_not() {
    let mut scene = Scene::new();
    let uri = "sip:0301234@example.com";
    scene.request(("bob", BOB), "INVITE", uri, "<sip:0301234@example.com>", 1, "");
    let proof = scene.authorization("bob", BOB, "INVITE", uri);
    scene.request(("bob", BOB), "INVITE", uri, "<sip:0301234@example.com>", 2, &proof);
    assert!(scene.first_line(BOB).contains("403"), "{}", scene.last(BOB));
}

#[test]
fn a_trunk_calls_users_without_a_proof_and_no_other_network() {
    let mut scene = Scene::new();
    scene.register("bob", BOB);
    scene.request(("+4930", TRUNK), "INVITE", "sip:bob@example.com", "<sip:bob@example.com>", 1, "");
    assert!(scene.first_line(BOB).starts_with("INVITE"), "{}", scene.last(BOB));
    let mut scene = Scene::new();
    scene.request(("+4930", TRUNK), "INVITE", "sip:0301234@example.com", "<sip:0301234@example.com>", 1, "");
    assert!(scene.first_line(TRUNK).contains("403"), "{}", scene.last(TRUNK));
}

/// Two routes' worth of one trunk, and a second one that is never chosen first.
fn with_spare() -> domain::SipSettings {
    let mut settings = settings();
    let carrier = settings.trunks.values_mut().next().unwrap();
    carrier.probe = None;
    carrier.calls = Some(1);
    let spare = domain::SipTrunk { host: "198.51.100.2".into(), calls: None, ..carrier.clone() };
    settings.trunks.insert(name("spare"), spare);
    settings.routes[0].trunks.push(domain::SipChoice { trunk: name("spare"), priority: 20, weight: 1 });
    settings.users.values_mut().for_each(|user| user.calls = None);
    settings
}

const SPARE: &str = "198.51.100.2:5060";

#[test]
fn a_call_that_rings_takes_up_room_of_its_trunk_at_the_backup_too() {
    for takeover in [false, true] {
        let mut scene = Scene::with(with_spare());
        scene.alice_calls("0301234");
        scene.hears(TRUNK, "INVITE");
        scene.respond(TRUNK, "180 Ringing", true);
        if takeover {
            scene.take_over();
        }
        scene.calls(("alice", ALICE), "second", "sip:0305678@example.com", "");
        scene.hears(SPARE, "INVITE sip:+49305678@198.51.100.2");
        // It refuses, and there is room again.
        scene.respond(TRUNK, "486 Busy Here", false);
        scene.calls(("alice", ALICE), "third", "sip:0309999@example.com", "");
        scene.hears(TRUNK, "INVITE sip:+49309999@");
    }
}

#[test]
fn a_trunk_that_wants_no_calls_for_a_while_gets_none() {
    let mut scene = Scene::with(with_spare());
    scene.alice_calls("0301234");
    scene.respond(TRUNK, "503 Service Unavailable\nRetry-After: 30", false);
    scene.hears(SPARE, "INVITE sip:+49301234@");
    scene.calls(("alice", ALICE), "second", "sip:0305678@example.com", "");
    scene.hears(SPARE, "INVITE sip:+49305678@");
    scene.wait(Duration::from_secs(31));
    scene.calls(("alice", ALICE), "third", "sip:0309999@example.com", "");
    scene.hears(TRUNK, "INVITE sip:+49309999@");
    let mut figures = String::new();
    scene.servers[0].write_figures(&mut figures);
    for line in [
        "attempts_total{trunk=\"carrier\"} 2",
        "failures_total{trunk=\"carrier\"} 1",
        "calls{trunk=\"spare\"} 2",
    ] {
        assert!(figures.contains(line), "{line} is not in\n{figures}");
    }
}
