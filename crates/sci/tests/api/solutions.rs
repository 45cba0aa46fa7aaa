//! Solutions over the API and the command line.

use crate::command::takeover;
use crate::rendering::{NOON, PLAIN, golden};
use crate::world::{World, app};
use domain::{AppStatus, Micros, RunMode, SolutionStatus};
use ha_core::{SolutionOrder, SolutionPart, SolutionVerb, SolutionView};
use sci::api::{Accepted, Because, Solutions, Stop};
use sci::client::ClientError;
use sci::render;
use std::process::ExitCode;
use std::time::Duration;

#[test]
fn a_solution_is_stopped_and_started() {
    let world = World::new();
    let status = |wanted| move |view: &ha_core::View| view.solutions[0].status == wanted;
    world.until("it is started", status(SolutionStatus::Started));
    let all: Solutions = world.run(async { world.client.get("/solutions", &()).await.unwrap() });
    assert_eq!(all.solutions.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["office"]);

    let stop = Stop { graceful: false, reason: "new disks".to_owned() };
    let accepted: Accepted =
        world.run(async { world.client.post("/solutions/office/stop", &stop).await.unwrap() });
    assert!(accepted.text.ends_with("sip2, sip1"), "in the opposite order: {}", accepted.text);
    world.until("it is stopped", status(SolutionStatus::Stopped));
    let over = Because { reason: "over".to_owned() };
    world.run(async { world.client.post::<Accepted>("/solutions/office/start", &over).await.unwrap() });
    world.until("it is started again", status(SolutionStatus::Started));
    let one: SolutionView = world.run(async { world.client.get("/solutions/office", &()).await.unwrap() });
    assert!(one.order.is_none() && one.applications.len() == 2, "{one:?}");

    let unknown = world.run(async { world.client.post::<Accepted>("/solutions/nothing/start", &over).await });
    let Err(ClientError::Problem(problem)) = unknown else { panic!("{unknown:?}") };
    assert!(problem.status == 409 && problem.to_string().contains("configured are: office"), "{problem}");
    let unknown = world.run(async { world.client.get::<SolutionView>("/solutions/nothing", &()).await });
    assert!(matches!(unknown, Err(ClientError::Problem(problem)) if problem.status == 404));
    let audit: Vec<_> = world.audit().into_iter().map(|record| (record.what, record.reason)).collect();
    let expected = [
        ("stop solution office", "new disks"),
        ("start solution office", "over"),
        ("start solution nothing", "over"),
    ];
    assert_eq!(audit, expected.map(|(what, why)| (what.to_owned(), why.to_owned())));
}

#[test]
fn the_verbs_with_their_exit_codes() {
    let world = World::new();
    let scs = format!("unix:{}", world.socket.display());
    for looking in ["solutions", "solutions --json", "solutions show office", "solutions show office --json"]
    {
        assert_eq!(takeover(looking, &scs), ExitCode::SUCCESS, "{looking}");
    }
    for refused in ["solutions show nothing", "solutions start nothing", "solutions stop nothing --yes"] {
        assert_eq!(takeover(refused, &scs), ExitCode::from(1), "{refused}");
    }
    assert_eq!(takeover("solutions stop office --yes --reason disks", &scs), ExitCode::SUCCESS);
    world.until("sip1 is stopped", |view| {
        view.applications.iter().any(|a| a.name == app("sip1") && a.status == AppStatus::Stopped)
    });
    assert_eq!(takeover("solutions start office", &scs), ExitCode::SUCCESS);
}

#[test]
fn as_people_read_them() {
    let part = |name: &str, status, mode| SolutionPart {
        app: app(name),
        host: format!("host{}", &name[name.len() - 1..]).parse().unwrap(),
        pair: name.starts_with("sip").then(|| "sip".parse().unwrap()),
        status,
        mode,
    };
    let order = SolutionOrder {
        what: SolutionVerb::Stop { graceful: true },
        by: "alice".to_owned(),
        reason: "new disks".to_owned(),
        since: NOON,
        at: Some(app("sip2")),
        waits_since: NOON,
    };
    let solution = |name: &str, status, reason: &str, order| SolutionView {
        name: name.parse().unwrap(),
        status,
        since: Micros(NOON.0 - 90_000_000),
        reason: reason.to_owned(),
        applications: vec![
            part("database1", AppStatus::Started, None),
            part("sip1", AppStatus::Started, Some(RunMode::Primary)),
            part("sip2", AppStatus::Suspending, Some(RunMode::Backup)),
        ],
        order,
    };
    let all = [
        solution("billing", SolutionStatus::Pending, "database1 has failed", None),
        solution("office", SolutionStatus::Pending, "it is being stopped", Some(order)),
        solution("phones", SolutionStatus::Started, "", None),
    ];
    let now = NOON + Duration::from_secs(1);
    let one = render::solution(&all[1], &PLAIN);
    golden("solutions.txt", &format!("{}\n{one}", render::solutions(&all, now, &PLAIN)));
    assert!(render::solutions(&[], now, &PLAIN).contains("[solutions.NAME]"));
}
