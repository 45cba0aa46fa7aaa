//! What operators order, over the Unix socket: from the plan to the end of the incident, and what is kept of it.

use crate::world::{LIMIT, World, app, pair};
use ha_core::{Incident, IncidentOutcome, Plan};
use sci::api::{Accepted, Alarms, Because, Hosts, Incidents, Status, Stop, SwitchOver, Version, live};
use sci::client::{Client, ClientError, Target};
use scs::handle::LiveEvent;
use scs::store::{IncidentFilter, LogFilter, LogPage};
use std::os::unix::fs::PermissionsExt;

#[test]
fn everything_can_be_looked_at() {
    let world = World::new();
    assert!(world.handle.store().flush(LIMIT));
    world.run(async {
        let status: Status = world.client.get("/status", &()).await.unwrap();
        assert_eq!(status.view, *world.handle.view());
        assert_eq!(status.view.pairs[0].primary, Some(app("sip1")));
        let hosts: Hosts = world.client.get("/hosts", &()).await.unwrap();
        assert_eq!(hosts.hosts.len(), 2);
        let version: Version = world.client.get("/version", &()).await.unwrap();
        assert_eq!(version, Version { release: "0.1.0".to_owned(), api: 1 });
        let Alarms { alarms } = world.client.get("/alarms", &()).await.unwrap();
        assert!(alarms.iter().all(|record| record.ended_at.is_none()));

        let Incidents { incidents } =
            world.client.get("/incidents", &IncidentFilter::default()).await.unwrap();
        let Some(first) = incidents.first() else { panic!("the first primary is an incident") };
        let one: Incident = world.client.get(&format!("/incidents/{}", first.id.0), &()).await.unwrap();
        assert_eq!(&one, first);

        let all: LogPage = world.client.get("/log", &LogFilter::default()).await.unwrap();
        assert!(!all.events.is_empty());
        let filter = LogFilter {
            app: Some(app("sip1")),
            text: Some("PRIMARY mode".to_owned()),
            ..LogFilter::default()
        };
        let some: LogPage = world.client.get("/log", &filter).await.unwrap();
        assert!(!some.events.is_empty() && some.events.len() < all.events.len());
        assert!(some.events.iter().all(|row| row.event.app == Some(app("sip1"))));
        let behind = LogFilter { after: Some(all.end), ..LogFilter::default() };
        let none: LogPage = world.client.get("/log", &behind).await.unwrap();
        assert_eq!(none, LogPage { end: all.end, events: Vec::new() });
    });
}

#[test]
fn a_switchover_from_plan_to_audit() {
    let world = World::new();
    let plan: Plan = world.run(async {
        let mut events = world.client.events().await.unwrap();
        let plan: Plan = world.client.get("/pairs/sip/plan", &[("to", "sip2")]).await.unwrap();
        assert!(plan.passes(false) && plan.to == app("sip2"), "{plan:?}");
        let order = SwitchOver {
            to: Some(app("sip2")),
            reason: "drill".to_owned(),
            plan: Some(plan.hash),
            force: false,
        };
        let Accepted { incident, text } = world.client.post("/pairs/sip/switchover", &order).await.unwrap();
        assert!(text.contains("sip2"), "{text}");
        let id = incident.expect("a switchover opens an incident");
        let incident = loop {
            let event = events.next().await.unwrap().expect("the stream goes on");
            if event.name == live::INCIDENT {
                let incident: Incident = serde_json::from_str(&event.data).unwrap();
                if incident.id.0 == id && incident.outcome != IncidentOutcome::Open {
                    break incident;
                }
            }
        };
        assert_eq!(incident.outcome, IncidentOutcome::Completed);
        assert_eq!((incident.pair, incident.to), (pair("sip"), app("sip2")));
        plan
    });
    world.until("sip2 is primary", |view| view.pairs[0].primary == Some(app("sip2")));

    world.run(async {
        let again = SwitchOver {
            to: Some(app("sip2")),
            reason: "again".to_owned(),
            plan: Some(plan.hash),
            force: false,
        };
        let error = world.client.post::<Accepted>("/pairs/sip/switchover", &again).await.unwrap_err();
        let ClientError::Problem(problem) = error else { panic!("{error}") };
        assert_eq!(problem.status, 409);
        assert!(problem.detail.contains("moved on"), "{problem}");
        assert!(problem.plan.is_some_and(|new| new.hash != plan.hash), "the new plan comes along");
    });

    let audit = world.audit();
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert_eq!((audit[0].what.as_str(), audit[0].reason.as_str()), ("switchover sip to sip2", "drill"));
    assert!(audit[0].result.starts_with("accepted: "), "{audit:?}");
    assert!(audit[1].result.starts_with("refused: "), "{audit:?}");
    assert!(!audit[0].who.is_empty());
    assert_eq!(audit[0].from, format!("unix, process {}", std::process::id()));
}

#[test]
fn applications_are_stopped_and_started() {
    let world = World::new();
    let stop = Stop { graceful: true, reason: "maintenance".to_owned() };
    let because = Because { reason: "over".to_owned() };
    let status = |name: &'static str, wanted| {
        move |view: &ha_core::View| {
            view.applications.iter().any(|a| a.name == app(name) && a.status == wanted)
        }
    };
    world.run(async { world.client.post::<Accepted>("/applications/sip2/stop", &stop).await.unwrap() });
    world.until("sip2 is stopped", status("sip2", domain::AppStatus::Stopped));
    world.run(async { world.client.post::<Accepted>("/applications/sip2/start", &because).await.unwrap() });
    world.until("sip2 is started", status("sip2", domain::AppStatus::Started));
    world.run(async { world.client.post::<Accepted>("/applications/sip2/restart", &stop).await.unwrap() });
    let orders: Vec<_> = world.audit().into_iter().map(|record| (record.what, record.reason)).collect();
    let expected = [("stop sip2", "maintenance"), ("start sip2", "over"), ("restart sip2", "maintenance")];
    assert_eq!(orders, expected.map(|(what, reason)| (what.to_owned(), reason.to_owned())));
}

#[test]
fn a_plan_says_what_is_missing_and_what_to_do() {
    let world = World::new();
    world.cut("host2");
    world.until("host2 is away", |view| view.hosts[1].status != domain::HostStatus::Up);
    let plan: Plan = world.run(async { world.client.get("/pairs/sip/plan", &()).await.unwrap() });
    let failed: Vec<_> = plan.checks.iter().filter(|check| !check.passed).collect();
    assert!(!failed.is_empty() && failed.iter().all(|check| !check.remedy.is_empty()), "{plan:?}");
}

#[test]
fn an_order_is_carried_out_and_audited_though_the_client_goes_away() {
    use std::io::Write;
    let world = World::new();
    let hold = world.hold();
    let body = r#"{"reason":"in a hurry"}"#;
    let mut stream = std::os::unix::net::UnixStream::connect(&world.socket).unwrap();
    write!(
        stream,
        "POST /api/v1/pairs/sip/switchover HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    hold.until_a_request_came();
    drop(stream);
    // One thread serves all: with this answered, it has seen the other connection end.
    world.run(async { world.client.get::<Version>("/version", &()).await.unwrap() });
    drop(hold);
    world.until("sip2 is primary", |view| view.pairs[0].primary == Some(app("sip2")));
    // The record is written by the API's thread after the core's answer, in a task of its own that may come behind
    // those of later requests: each answered request gives it another turn.
    let hurried = |record: &scs::store::AuditRecord| record.reason == "in a hurry";
    let deadline = std::time::Instant::now() + LIMIT;
    while !world.audit().iter().any(hurried) {
        assert!(std::time::Instant::now() < deadline, "{:?}", world.audit());
        world.run(async { world.client.get::<Version>("/version", &()).await.unwrap() });
    }
}

#[test]
fn a_reader_that_is_too_slow_is_told_and_dropped_others_are_not_disturbed() {
    let world = World::new();
    world.run(async {
        let mut slow = world.client.events().await.unwrap();
        let event =
            domain::LogEvent::new(domain::events::SCS_STARTED, domain::Micros(1)).because("x".repeat(1_000));
        // More than the handle's ring, the window and the socket's buffers hold.
        for _ in 0..20_000 {
            world.handle.publish(LiveEvent::Log(event.clone()));
        }
        let other = Client::new(Target::Unix(world.socket.clone()));
        other.get::<Version>("/version", &()).await.unwrap();
        let mut last = None;
        let mut seen = 0;
        while let Some(event) = slow.next().await.unwrap() {
            seen += 1;
            last = Some(event);
        }
        let last = last.expect("some came through");
        assert_eq!(last.name, live::LOST);
        let missed: u64 = last.data.parse().unwrap();
        assert!(missed > 0 && seen < 20_000, "{missed} missed, {seen} seen");
    });
}

#[test]
fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let world = World::new();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.socket), 0o600);
    assert_eq!(mode(world.socket.parent().unwrap()), 0o700);
    let in_use = sci::server::bind_unix(&world.socket).unwrap_err();
    assert!(matches!(in_use, sci::server::BindError::InUse(_)), "{in_use}");

    let stale = world.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    sci::server::bind_unix(&stale).unwrap();

    let file = world.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let refused = sci::server::bind_unix(&file).unwrap_err();
    assert!(matches!(refused, sci::server::BindError::NotASocket(_)), "{refused}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
