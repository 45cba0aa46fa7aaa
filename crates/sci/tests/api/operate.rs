//! What an operator is told beyond what there is: what would happen, how long takeovers took, what an incident was.

use crate::command::takeover;
use crate::rendering::{NOON, PLAIN, golden, incident};
use crate::world::{LIMIT, World, app, pair};
use ha_core::{
    Consequence, Drill, DrillResult, DrillRun, Fault, Incident, IncidentId, IncidentKind, IncidentOutcome,
    Phase, Step,
};
use sci::api::{Consequences, Drills, TakeoverTimesOf};
use sci::client::ClientError;
use sci::render::{self, report};
use sci::times::takeover_times;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

#[test]
fn what_would_happen_is_told_by_the_core() {
    let world = World::new();
    let told: Consequences =
        world.run(async { world.client.get("/pairs/sip/consequences", &()).await.unwrap() });
    assert_eq!(told.pair, pair("sip"));
    let of = |fault| told.consequences.iter().find(|told| told.fault == fault).unwrap();
    let dies = of(Fault::PrimaryDies);
    assert!(dies.moves && dies.primary == Some(app("sip2")) && dies.away_us == Some(0), "{dies:?}");
    let cut = of(Fault::PrimaryHostCut);
    assert!(cut.moves && cut.away_us.is_some_and(|us| us > 0), "{cut:?}");
    assert!(!of(Fault::ScsDies).moves);

    world.cut("host2");
    world.until("host2 is away", |view| view.pairs[0].members.iter().any(|member| !member.current));
    let told: Consequences =
        world.run(async { world.client.get("/pairs/sip/consequences", &()).await.unwrap() });
    assert!(told.consequences.iter().all(|told| told.fault != Fault::BackupHostDies), "it is away already");
    let none = world.run(async { world.client.get::<Consequences>("/pairs/pbx/consequences", &()).await });
    assert!(matches!(none, Err(ClientError::Problem(problem)) if problem.status == 404));

    let scs = format!("unix:{}", world.socket.display());
    assert_eq!(takeover("what-if sip", &scs), ExitCode::SUCCESS);
    assert_eq!(takeover("what-if sip --json", &scs), ExitCode::SUCCESS);
    assert_eq!(takeover("what-if pbx", &scs), ExitCode::from(1));
}

#[test]
fn what_would_happen_as_people_read_it() {
    let one = |fault, title: &str, text: &str, away_us| Consequence {
        fault,
        title: title.to_owned(),
        text: text.to_owned(),
        noticed_us: Some(450_000),
        moves: true,
        primary: Some(app("sip2")),
        away_us,
        backing: Some(1),
        alarms: vec!["backup-not-ready".to_owned()],
        trouble: Vec::new(),
        next: String::new(),
    };
    let text = "It is noticed after 450ms at the latest. sip2 takes over; nobody serves for 552ms at the most. sip1 cannot \
                take over then (host1 is unreachable); one more loss may end service. Alarms: backup-not-ready, \
                host-unavailable, lease-thinly-backed.";
    let gone = "Nobody takes over: it \u{1b}[2J is stopped.";
    let consequences = vec![
        one(Fault::PrimaryHostDies, "host1 dies", text, Some(551_451)),
        one(Fault::PrimaryDies, "the process of sip1 ends", gone, None),
    ];
    let told = Consequences { pair: pair("sip"), at: NOON, consequences };
    golden("what-if.txt", &render::consequences(&told, &PLAIN));
}

/// A takeover of `kind` whose new primary had its VIP after so many milliseconds, and that was complete one later.
fn takeover_of(name: &str, kind: IncidentKind, ms: u64) -> Incident {
    let after = |ms| NOON + Duration::from_millis(ms);
    let step = |ms, phase| Step {
        at: after(ms),
        phase,
        number: None,
        host: Some("host1".parse().unwrap()),
        text: String::new(),
    };
    Incident {
        pair: pair(name),
        kind,
        ended: Some(after(ms + 1)),
        steps: vec![step(0, Phase::PrimaryInstructed), step(ms, Phase::AddressMoved)],
        ..incident()
    }
}

#[test]
fn takeover_times_by_pair_and_kind() {
    let mut kept: Vec<_> = (1..=200).map(|ms| takeover_of("sip", IncidentKind::Failure, ms)).collect();
    kept.reverse();
    kept.push(takeover_of("sip", IncidentKind::Manual, 7));
    // It was silent for 450 ms before it was noticed.
    let silent = takeover_of("sip", IncidentKind::Disconnected, 102);
    kept.push(Incident { unnoticed_us: 450_000, ..silent });
    kept.push(takeover_of("pbx", IncidentKind::Failure, 3));
    kept.push(takeover_of("pbx", IncidentKind::Manual, 62));
    // None of these is a takeover that came to its end.
    kept.push(takeover_of("sip", IncidentKind::FirstPrimary, 9_000));
    kept.push(Incident {
        ended: None,
        outcome: IncidentOutcome::Open,
        ..takeover_of("sip", IncidentKind::Manual, 9_000)
    });
    kept.push(Incident {
        outcome: IncidentOutcome::Superseded,
        ..takeover_of("sip", IncidentKind::Manual, 9_000)
    });
    kept.push(Incident { steps: Vec::new(), ..takeover_of("sip", IncidentKind::Manual, 9_000) });

    let promises = BTreeMap::from([(pair("sip"), 551_451), (pair("pbx"), 41_000)]);
    let times = takeover_times(&kept, &promises);
    let told = TakeoverTimesOf { incidents: kept.len(), since: Some(NOON), times };
    let failures = &told.times[3].service;
    assert_eq!((failures.count, failures.median_us, failures.p99_us), (200, 100_000, 198_000));
    let none = TakeoverTimesOf::default();
    golden("times.txt", &[&told, &none].map(|told| render::takeover_times(told, &PLAIN)).join("\n"));
}

#[test]
fn a_report_is_one_page_that_needs_nothing_but_itself() {
    let mut told = incident();
    golden("report.txt", &report::text(&told, "example", &PLAIN));
    told.unnoticed_us = 450_000;
    told.kind = IncidentKind::Disconnected;
    told.steps.push(Step {
        at: NOON - Duration::from_millis(3),
        phase: Phase::Detected,
        number: None,
        host: Some("host1".parse().unwrap()),
        text: "<script>alert(1)</script> \u{1b}[2J & more".to_owned(),
    });
    golden("report-disconnected.txt", &report::text(&told, "example", &PLAIN));
    let page = report::html(&told, "a \"cluster\"", &PLAIN);
    golden("report.html", &page);
    for foreign in ["<script", "http:", "https:", "src=", "onload", "\u{1b}"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // It says everything that is on record, however little.
    let open =
        Incident { id: IncidentId(9), ended: None, steps: Vec::new(), evidence: Vec::new(), ..incident() };
    assert!(report::text(&open, "", &PLAIN).contains("Incident 9"));
}

#[test]
fn times_and_reports_are_told_over_the_api() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    assert_eq!(takeover("switchover sip --yes --reason drill", &scs), ExitCode::SUCCESS);
    assert!(world.handle.store().flush(LIMIT));
    let told: TakeoverTimesOf =
        world.run(async { world.client.get("/takeover-times", &[("pair", "sip")]).await.unwrap() });
    let [line] = told.times.as_slice() else { panic!("{told:?}") };
    assert_eq!((line.kind, line.service.count, line.kept), (IncidentKind::Manual, 1, Some(true)));
    assert!(line.service.worst_us <= line.confirmed.worst_us);
    for looking in
        ["times", "times --pair sip --json", "incidents show 2 --report", "incidents show 2 --report --html"]
    {
        assert_eq!(takeover(looking, &scs), ExitCode::SUCCESS, "{looking}");
    }
    assert_eq!(takeover("incidents show 99 --report", &scs), ExitCode::from(1));

    world.cut("host2");
    world.until("sip1 took over", |view| view.pairs[0].primary == Some(app("sip1")));
    assert!(world.handle.store().flush(LIMIT));
    let lost: Incident = world.run(async { world.client.get("/incidents/3", &()).await.unwrap() });
    let expected = (IncidentKind::Disconnected, 450_000);
    assert_eq!(
        (lost.kind, lost.unnoticed_us),
        expected,
        "a host is silent for so long before it counts as lost"
    );

    let page = |path: &str| {
        let mut stream = UnixStream::connect(&world.socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET /api/v1{path} HTTP/1.1\r\nHost: scs\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let text = page("/incidents/2/report");
    assert!(text.contains("content-type: text/plain") && text.contains("drill"), "{text}");
    let html = page("/incidents/2/report?form=html");
    assert!(
        html.contains("content-security-policy: default-src 'none'") && html.contains("</html>"),
        "{html}"
    );
    assert!(page("/incidents/2/report?form=pdf").starts_with("HTTP/1.1 400"));
    assert!(page("/incidents/99/report").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_maintenance_from_order_to_end() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    let maintained = |view: &ha_core::View| view.pairs[0].maintenance.is_some();
    assert_eq!(takeover("maintenance sip --for 2h --reason cables", &scs), ExitCode::SUCCESS);
    world.until("sip is in maintenance", maintained);
    let told = world.handle.view().pairs[0].maintenance.clone().unwrap();
    assert_eq!((told.until.since(told.since), told.reason.as_str()), (Duration::from_secs(7_200), "cables"));
    assert_eq!(takeover("maintenance sip --end", &scs), ExitCode::SUCCESS);
    world.until("it has ended", |view| !maintained(view));
    assert_eq!(takeover("maintenance sip --end", &scs), ExitCode::from(1), "it has ended already");
    assert_eq!(takeover("maintenance sip --for 5s", &scs), ExitCode::from(1), "too short");
    assert_eq!(takeover("maintenance pbx --for 1h", &scs), ExitCode::from(1), "no such pair");
    let audit: Vec<_> = world.audit().into_iter().map(|record| record.what).collect();
    assert!(audit.iter().any(|what| what == "maintenance sip for 2h"), "{audit:?}");
    assert!(audit.iter().any(|what| what == "end maintenance sip"), "{audit:?}");
}

#[test]
fn a_freeze_from_order_to_end() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    assert_eq!(takeover("freeze sip --yes --reason doubt", &scs), ExitCode::SUCCESS);
    world.until("sip is frozen", |view| view.pairs[0].frozen);
    let told = world.handle.view().pairs[0].freeze.clone().unwrap();
    assert_eq!(told.reason, "doubt");
    assert_eq!(takeover("acknowledge sip", &scs), ExitCode::from(1), "that is for the flap guard's");
    assert_eq!(takeover("unfreeze sip --reason checked", &scs), ExitCode::SUCCESS);
    world.until("it has ended", |view| !view.pairs[0].frozen);
    assert_eq!(takeover("unfreeze sip", &scs), ExitCode::from(1), "it is not frozen any more");
    assert_eq!(takeover("freeze pbx --yes", &scs), ExitCode::from(1), "no such pair");
    let audit: Vec<_> = world.audit().into_iter().map(|record| (record.what, record.reason)).collect();
    for (what, reason) in [("freeze sip", "doubt"), ("unfreeze sip", "checked")] {
        assert!(audit.contains(&(what.to_owned(), reason.to_owned())), "{audit:?}");
    }
}

#[test]
fn a_drill_from_order_to_removal() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    let drills = |view: &ha_core::View| view.pairs[0].drills.clone();
    assert_eq!(takeover("drill", &scs), ExitCode::SUCCESS, "there is none");
    let add = "drill add sip --at 2h --every 7d --back --reason practice";
    assert_eq!(takeover(add, &scs), ExitCode::SUCCESS);
    world.until("a drill is listed", |view| !drills(view).is_empty());
    let [drill] = &drills(&world.handle.view())[..] else { panic!("one drill") };
    assert_eq!((drill.number, drill.every_days, drill.back), (1, Some(7), true));
    assert_eq!(drill.reason, "practice");
    let told: Drills = world.run(async { world.client.get("/pairs/sip/drills", &()).await.unwrap() });
    assert_eq!((told.pair, &told.drills[..]), (pair("sip"), std::slice::from_ref(drill)));
    assert_eq!(takeover("drill --json", &scs), ExitCode::SUCCESS);
    for refused in
        ["drill add sip --at 500d", "drill add pbx --at 2h", "drill --pair pbx", "drill remove sip 9"]
    {
        assert_eq!(takeover(refused, &scs), ExitCode::from(1), "{refused}");
    }
    assert_eq!(takeover("drill remove sip 1", &scs), ExitCode::SUCCESS);
    world.until("none is listed", |view| drills(view).is_empty());
    let audit: Vec<_> = world.audit().into_iter().map(|record| record.what).collect();
    assert!(
        audit
            .iter()
            .any(|what| what.starts_with("drill sip at 2") && what.ends_with("Z every 7 days and back"))
    );
    assert!(audit.iter().any(|what| what == "remove drill 1 of sip"), "{audit:?}");
}

#[test]
fn drills_as_people_read_them() {
    let drill = |number, at, every_days, last| Drill {
        number,
        at,
        every_days,
        back: number == 1,
        by: "ann".to_owned(),
        reason: if number == 1 { "weekly practice".to_owned() } else { String::new() },
        last,
    };
    let run = |result, text: &str| {
        Some(DrillRun { at: NOON, result, text: text.to_owned(), incident: Some(IncidentId(7)) })
    };
    let later = NOON + Duration::from_secs(3_600);
    let why = "alarm 3 is active: application-failure: sip2";
    let all = [Drills {
        pair: pair("sip"),
        drills: vec![
            drill(1, Some(later), Some(7), run(DrillResult::Passed, "sip2 served, and sip1 serves again")),
            drill(2, None, None, run(DrillResult::Skipped, why)),
            drill(3, Some(later), None, None),
        ],
    }];
    golden("drills.txt", &render::drills(&all, &PLAIN));
    assert_eq!(render::drills(&[], &PLAIN), "no drills are scheduled\n");
}
