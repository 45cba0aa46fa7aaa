//! What the picture shows of made-up scenes.

use super::super::workflow::tests::incident;
use super::*;
use domain::Micros;

fn live() -> Live {
    Live {
        at: Micros(2_000_000),
        sent: 1_000,
        answered: vec![("sip1".to_owned(), 998)],
        last: Some(("sip1".to_owned(), Micros(1_999_400))),
    }
}

fn scene(live: &Live) -> Scene<'_> {
    Scene { view: None, live, holders: &["host1"], cut: None, last: None, message: "", outside: None }
}

fn text(scene: &Scene<'_>, size: (usize, usize)) -> String {
    lines(scene, size, false).join("\n")
}

#[test]
fn it_says_what_it_does_not_know() {
    let live = live();
    let shown = text(&scene(&live), (80, 24));
    for expected in [
        "the SCS does not answer",
        "host1: not known",
        "VIP not known (it has it)",
        "VIP not known (it has it not)",
        "998 answers in the last second",
        "no answers",
        "last answer by sip1, 0.600 ms ago",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
}

#[test]
fn a_host_that_is_cut_off_is_drawn_so() {
    let live = live();
    let whole = text(&scene(&live), (80, 24));
    let cut = text(&Scene { cut: Some("host2"), ..scene(&live) }, (80, 24));
    assert!(!whole.contains('╳'));
    let line = cut.lines().find(|line| line.contains("╳ cut off")).unwrap();
    assert!(line.find('│').is_some_and(|whole| whole < line.find('╳').unwrap()), "{line}");
}

#[test]
fn it_never_exceeds_the_terminal() {
    let live = live();
    let steps: Vec<(Option<u8>, u64)> = (0..100).map(|n| (Some(n % 6 + 1), u64::from(n))).collect();
    let change = Change { incident: incident(IncidentKind::Disconnected, &steps), seen: None };
    let outside = Outside { source: ". /proc/1/fd/3".to_owned(), program: "/x/".repeat(50) };
    let long = "a message that is longer than the terminal is wide ".repeat(9);
    let scene = Scene { last: Some(&change), message: &long, outside: Some(&outside), ..scene(&live) };
    for size in [(80, 24), (200, 60), (20, 5), (1, 1)] {
        let lines = lines(&scene, size, false);
        assert!(lines.len() <= size.1, "{size:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{size:?}");
    }
    let coloured = lines(&scene, (30, 24), true);
    assert!(coloured.iter().all(|line| line.matches("\u{1b}[").count() % 2 == 0), "a colour was cut");
}

#[test]
fn steps_are_told_one_by_one_where_there_is_room() {
    let live = live();
    let steps = [
        (Some(1), 0),
        (Some(2), 10),
        (Some(3), 20),
        (Some(4), 20),
        (Some(5), 20),
        (Some(6), 30),
        (Some(6), 1_000),
    ];
    let seen = Seen { outage: Some(Duration::from_micros(550_123)), lost: 549, ..Seen::default() };
    let change = Change { incident: incident(IncidentKind::Disconnected, &steps), seen: Some(seen) };
    let scene = Scene { last: Some(&change), ..scene(&live) };
    let roomy = text(&scene, (100, 40));
    assert!(roomy.contains("  6    +1.000 ms  what happened at 1000"), "{roomy}");
    assert!(
        roomy.contains("client: outage 550.123 ms, 549 lost, no answers by both hosts at once"),
        "{roomy}"
    );
    let narrow = text(&scene, (100, 20));
    assert!(narrow.contains("  6    +0.030 ms  what happened at 30 (+1 more, until +1.000 ms)"), "{narrow}");
}

#[test]
fn text_from_outside_cannot_move_the_cursor() {
    let line = Line::of(Paint::Plain, "a\u{1b}[2Jb\nc");
    assert_eq!(line.show(80, false), "a[2Jbc");
}

/// What an SCS says while sip2 has the role and host1 cannot be reached.
fn view() -> View {
    let member = |n: u8, mode: &str, current: bool| {
        serde_json::json!({
            "app": format!("sip{n}"), "host": format!("host{n}"), "status": "started", "mode": mode, "goal": mode,
            "current": current, "not_ready": null,
        })
    };
    let host = |n: u8, status: &str| {
        let name = format!("host{n}");
        serde_json::json!({ "name": name, "status": status, "since": 0, "release": "1" })
    };
    let place = |n: u8, enabled: Option<bool>| {
        let host = format!("host{n}");
        serde_json::json!({ "host": host, "interface": "eth0", "enabled": enabled })
    };
    let pair = serde_json::json!({
        "name": "sip", "redundancy": "hot", "profile": "normal", "failback": domain::Failback::Never,
        "wanted_primary": "sip2", "primary": "sip2", "epoch": 5, "reason": "", "trouble": [], "next": "", "frozen": false,
        "incident": null, "members": [member(1, "primary", false), member(2, "primary", true)],
        "vips": [{ "address": "192.0.2.100/24", "places": [place(1, None), place(2, Some(true))] }],
    });
    serde_json::from_value(serde_json::json!({
        "cluster": "demo", "at": 0, "started_at": 0, "pairs": [pair], "applications": [], "alarms": [],
        "hosts": [host(1, "unreachable"), host(2, "up")],
    }))
    .unwrap()
}

#[test]
fn what_is_reported_and_what_was_known_last_are_told_apart() {
    let (live, view) = (live(), view());
    let scene = Scene { view: Some(&view), holders: &["host1", "host2"], ..scene(&live) };
    let shown = text(&scene, (80, 24));
    for expected in [
        "pair sip   VIP 192.0.2.100   epoch 5   no alarms",
        "│ host1: unreachable               │   │ host2: up                        │",
        "│ sip1: primary when last seen     │   │ sip2: started, primary           │",
        "│ VIP not known (it has it)        │   │ VIP ENABLED                      │",
        "│ 998 answers in the last second   │   │ no answers                       │",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
}

#[test]
fn answers_of_an_old_primary_are_named() {
    let live = live();
    let seen = Seen { late_answers: 3, both: Duration::from_millis(2), ..Seen::default() };
    let change = Change { incident: incident(IncidentKind::Reconnected, &[(Some(1), 0)]), seen: Some(seen) };
    let shown = text(&Scene { last: Some(&change), ..scene(&live) }, (80, 24));
    assert!(shown.contains("longest silence -, 0 lost, besides 3 answers by sip1 over 2.000 ms"), "{shown}");
}
