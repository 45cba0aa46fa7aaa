//! What an operator is told beyond what there is: what would happen, how long takeovers took, what an incident was.

use crate::command::takeover;
use crate::rendering::{NOON, PLAIN, golden};
use crate::world::{World, app, pair};
use ha_core::{Consequence, Fault};
use sci::api::Consequences;
use sci::client::ClientError;
use sci::render;
use std::process::ExitCode;

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
