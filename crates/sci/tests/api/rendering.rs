//! What people see, as golden files: rewrite one with `UPDATE_GOLDEN=1 cargo test -p sci`, and say why each line moved.

use alarms::{ActiveAlarm, Ending, Source};
use domain::{
    AppStatus, Category, Epoch, Failback, GateReport, HostFigures, HostName, HostStatus, LogEvent, Micros,
    Profile, Redundancy, RunMode, Standby, events,
};
use ha_core::{
    AppView, Check, Drill, DrillResult, DrillRun, Freeze, HostView, Incident, IncidentId, IncidentKind,
    IncidentOutcome, LeaseView, Maintenance, MemberView, PairView, Phase, Plan, StandbyView, Step, View,
    VipPlace, VipView,
};
use jiff::tz::TimeZone;
use sci::api::{AgentCertificate, CallLine, CallPage, FiguresAt, Status};
use sci::health::health;
use sci::render::{self, Look};
use scs::store::AlarmRecord;
use std::collections::BTreeMap;
use std::path::Path;

/// 2026-01-31 12:00:00 UTC.
pub const NOON: Micros = Micros(1_769_860_800_000_000);
pub const PLAIN: Look = Look { colour: false, zone: TimeZone::UTC };

pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", path.display());
    assert!(text.lines().all(|line| line.trim_end() == line), "no spaces at the end of lines");
}

fn seconds(n: u64) -> std::time::Duration {
    std::time::Duration::from_secs(n)
}

fn micros(n: u64) -> std::time::Duration {
    std::time::Duration::from_micros(n)
}

fn member(n: u8, status: AppStatus, mode: Option<RunMode>, ready: Result<(), String>) -> MemberView {
    MemberView {
        app: format!("sip{n}").parse().unwrap(),
        host: format!("host{n}").parse().unwrap(),
        status,
        mode,
        goal: mode,
        current: true,
        ready,
        standby: None,
    }
}

fn pair() -> PairView {
    let place = |host: &str, enabled| VipPlace {
        host: host.parse().unwrap(),
        interface: "eth0".parse().unwrap(),
        enabled,
    };
    PairView {
        name: "sip".parse().unwrap(),
        redundancy: Redundancy::Hot,
        profile: Profile::Normal,
        failback: Failback::Never,
        wanted_primary: Some("sip1".parse().unwrap()),
        primary: Some("sip1".parse().unwrap()),
        epoch: Epoch(12),
        reason: "switchover to sip1 ordered by root: drill".to_owned(),
        trouble: Vec::new(),
        next: "if sip1 fails, sip2 takes over".to_owned(),
        frozen: false,
        freeze: None,
        maintenance: None,
        drills: Vec::new(),
        incident: None,
        members: vec![
            member(1, AppStatus::Started, Some(RunMode::Primary), Ok(())),
            member(2, AppStatus::Started, Some(RunMode::Backup), Ok(())),
        ],
        vips: vec![VipView {
            address: "192.0.2.100/24".parse().unwrap(),
            places: vec![place("host1", Some(true)), place("host2", Some(false))],
            sightings: Vec::new(),
        }],
        shows_calls: false,
        lease: Some(LeaseView {
            holder: Some("host1".parse().unwrap()),
            epoch: Epoch(12),
            backing: 2,
            left_us: 398_100,
            told: Some(NOON - seconds(2)),
            gates: [GateReport::Kernel, GateReport::Kernel],
            guarantee: "lease and gate: never two hosts answer; any single loss is survived".to_owned(),
            lasts_us: 450_000,
            host_cut_us: 551_451,
        }),
    }
}

fn host(name: &str, status: HostStatus) -> HostView {
    HostView {
        name: name.parse().unwrap(),
        status,
        since: NOON - seconds(90_000),
        release: "0.1.0".to_owned(),
    }
}

fn alarm() -> ActiveAlarm {
    ActiveAlarm {
        number: 17,
        condition: "application failure".to_owned(),
        source: Source::Application("sip2".parse().unwrap()),
        category: Category::Major,
        event: events::APP_TERMINATED,
        text: "application terminated by an internal condition: signal 9".to_owned(),
        raised_at: NOON - seconds(60),
        repeated_at: NOON - seconds(30),
        repeats: 1,
        expires_at: NOON,
        hidden: false,
    }
}

pub fn well() -> Status {
    let figures = HostFigures {
        cpu: 0.127,
        memory_total: 8 << 30,
        memory_available: 6 << 30,
        load1: 0.25,
        agent_resident: 7_654_321,
        longest_stall_us: 83,
        real_time: true,
        memory_locked: true,
        clock_ppm: 0,
        watchdog_s: 0,
        vips_put_back: 0,
        at: Micros(0),
    };
    let fresh = FiguresAt { received_at: NOON - seconds(2), figures: figures.clone() };
    let limited = HostFigures { real_time: false, longest_stall_us: 12_345, watchdog_s: 10, ..figures };
    let certificate = AgentCertificate {
        subject: "CN=agent host1".to_owned(),
        from: NOON - seconds(86_400),
        until: NOON + seconds(90 * 86_400),
    };
    let other = FiguresAt { received_at: NOON - seconds(3), figures: limited };
    Status {
        release: "0.1.0".to_owned(),
        view: View {
            cluster: "example".to_owned(),
            at: NOON,
            started_at: NOON - seconds(273_600),
            pairs: vec![pair()],
            hosts: vec![host("host1", HostStatus::Up), host("host2", HostStatus::Up)],
            applications: Vec::new(),
            solutions: Vec::new(),
            alarms: Vec::new(),
        },
        figures: BTreeMap::from([("host1".parse().unwrap(), fresh), ("host2".parse().unwrap(), other)]),
        certificates: BTreeMap::from([("host1".parse().unwrap(), certificate)]),
    }
}

pub fn ill() -> Status {
    let mut status = well();
    let pair = &mut status.view.pairs[0];
    pair.trouble = vec!["sip2 cannot take over: its process ended".to_owned()];
    pair.members[0].goal = Some(RunMode::Backup);
    let bell = "stopped \u{7}\u{1b}[2J".to_owned();
    pair.members[1] =
        MemberView { current: false, ..member(2, AppStatus::Unknown, Some(RunMode::Backup), Err(bell)) };
    pair.vips[0].places[1].enabled = None;
    status.view.hosts[1] = HostView { since: NOON - seconds(5), ..host("host2", HostStatus::Unreachable) };
    status.figures.get_mut(&HostName::new("host2").unwrap()).unwrap().received_at = NOON - seconds(120);
    status.view.alarms = vec![alarm()];
    status.view.applications = vec![AppView {
        name: "billing".parse().unwrap(),
        host: "host1".parse().unwrap(),
        pair: None,
        status: AppStatus::Initializing,
        since: NOON - seconds(1),
        mode: None,
        pid: Some(815),
        restarts: 3,
        text: "reading tariffs".to_owned(),
        stop_ordered: false,
    }];
    status
}

pub fn incident() -> Incident {
    let step = |us: u64, phase, number, host: Option<&str>, text: &str| Step {
        at: NOON + micros(us),
        phase,
        number,
        host: host.map(|host| host.parse().unwrap()),
        text: text.to_owned(),
    };
    Incident {
        id: IncidentId(7),
        pair: "sip".parse().unwrap(),
        kind: IncidentKind::Failure,
        from: Some("sip2".parse().unwrap()),
        to: "sip1".parse().unwrap(),
        epoch: Epoch(12),
        reason: "sip2 failed: the process was ended by signal 9".to_owned(),
        ordered_by: String::new(),
        drill: None,
        begun: NOON,
        unnoticed_us: 0,
        ended: Some(NOON + micros(2_345)),
        outcome: IncidentOutcome::Completed,
        evidence: vec![
            "host2: sip2 is stopped".to_owned(),
            "host1: sip1 is started, backup, synced".to_owned(),
        ],
        steps: vec![
            step(0, Phase::Detected, Some(1), Some("host2"), "the process of sip2 was ended by signal 9"),
            step(412, Phase::Reported, Some(2), None, "the SCS knows"),
            step(420, Phase::Decided, None, None, "sip1 is to be primary"),
            step(431, Phase::PrimaryInstructed, Some(3), Some("host1"), "sip1 is to go into primary mode"),
            step(2_345, Phase::AddressMoved, Some(8), Some("host1"), "enable 192.0.2.100 succeeded"),
        ],
    }
}

#[test]
fn a_cluster_that_is_well() {
    assert!(!render::is_in_trouble(&well().view));
    golden("status-well.txt", &render::status(&well(), &PLAIN));
}

fn freeze() -> Freeze {
    Freeze { since: NOON - seconds(60), by: "ann".to_owned(), reason: "data in doubt".to_owned() }
}

#[test]
fn a_frozen_pair_says_by_whom_and_why() {
    let mut status = well();
    (status.view.pairs[0].frozen, status.view.pairs[0].freeze) = (true, Some(freeze()));
    let text = render::status(&status, &PLAIN);
    assert!(text.contains("Pair sip  frozen"), "{text}");
    assert!(text.contains("! frozen by ann since "), "{text}");
    assert!(text.contains(": data in doubt\n"), "{text}");
}

#[test]
fn drills_are_told_by_the_next_and_the_last_one() {
    let drill = |number, at, result: Option<(DrillResult, &str)>| Drill {
        number,
        at,
        every_days: Some(7),
        back: false,
        by: "ann".to_owned(),
        reason: String::new(),
        last: result.map(|(result, text)| DrillRun {
            at: NOON - seconds(60 * number),
            result,
            text: text.to_owned(),
            incident: None,
        }),
    };
    let mut status = well();
    status.view.pairs[0].drills = vec![
        drill(1, None, Some((DrillResult::Failed, "sip2 stays\nprimary"))),
        drill(2, Some(NOON + seconds(7_200)), Some((DrillResult::Passed, "sip2 serves"))),
        drill(3, Some(NOON + seconds(3_600)), None),
    ];
    let text = render::status(&status, &PLAIN);
    let expected =
        "  drills: drill 3 at 2026-01-31 13:00:00; last drill 1 at 2026-01-31 11:59:00 FAILED: sip2 stays";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("\nprimary"), "{text}");
}

fn maintenance() -> Maintenance {
    Maintenance {
        since: NOON - seconds(60),
        until: NOON + seconds(7_200),
        by: "ann".to_owned(),
        reason: "new cables".to_owned(),
    }
}

#[test]
fn a_pair_that_is_worked_on() {
    let mut status = well();
    status.view.pairs[0].maintenance = Some(maintenance());
    let text = render::status(&status, &PLAIN);
    let expected = "  maintenance by ann, until 2026-01-31 14:00:00, 2 h 0 min left: new cables\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_pair_that_keeps_a_copy() {
    let mut status = well();
    let standby = Standby {
        lag_ms: Some(2),
        confirmed: 412,
        ringing: 9,
        calls_over_streams: 3,
        registered: 120,
        registered_over_streams: 12,
    };
    let told = NOON - seconds(1);
    let pair = &mut status.view.pairs[0];
    let at_primary = Standby { confirmed: 414, ..standby };
    pair.members[0].standby = Some(StandbyView { told, standby: at_primary });
    pair.members[1].standby = Some(StandbyView { told, standby });
    pair.members[0].status = AppStatus::Suspending;
    let text = "primary mode, epoch 2, stopping: 423 calls remain".to_owned();
    let app = ill().view.applications.remove(0);
    let stopping = AppView {
        name: pair.members[0].app.clone(),
        pair: Some(pair.name.clone()),
        status: AppStatus::Suspending,
        text,
        ..app
    };
    status.view.applications = vec![stopping];
    golden("status-copy.txt", &render::status(&status, &PLAIN));
}

#[test]
fn calls_and_a_call() {
    let line = |n: u8, answered_by: Option<&str>| CallLine {
        call: format!("2-{n}"),
        call_id: format!("id{n}@\u{7}"),
        caller: (n > 1).then(|| "alice".to_owned()),
        called: "201".to_owned(),
        answered_by: answered_by.map(str::to_owned),
        stage: "established".to_owned(),
        age_ms: u64::from(n) * 61_000,
    };
    let app = Some("sip1".parse().unwrap());
    let page = CallPage { app, calls: vec![line(1, None), line(2, Some("sip:201@192.0.2.7"))], next: None };
    let pair = "sip".parse().unwrap();
    let more = CallPage { next: Some("2-2".to_owned()), ..page.clone() };
    let none = CallPage::default();
    let text = [&page, &more, &none].map(|page| render::calls(&pair, page, &PLAIN)).join("\n");
    golden("calls.txt", &format!("{text}\n{}", render::call(&line(2, None), &PLAIN)));
}

#[test]
fn a_cluster_in_trouble() {
    assert!(render::is_in_trouble(&ill().view));
    golden("status-trouble.txt", &render::status(&ill(), &PLAIN));
}

/// Statuses that differ from one that is well in one way each, with what a monitoring system is told of them.
#[test]
fn what_monitoring_is_told() {
    type Change = fn(&mut Status);
    let cases: [(&str, Change); 17] = [
        ("all is well", |_| {}),
        ("no primary", |s| s.view.pairs[0].members[0].mode = Some(RunMode::Backup)),
        ("the primary is out of sight", |s| s.view.pairs[0].members[0].current = false),
        ("two primaries", |s| s.view.pairs[0].members[1].mode = Some(RunMode::Primary)),
        ("VIP on no host", |s| s.view.pairs[0].vips[0].places[0].enabled = Some(false)),
        ("VIP perhaps on no host", |s| s.view.pairs[0].vips[0].places[0].enabled = None),
        ("VIP on two hosts", |s| s.view.pairs[0].vips[0].places[1].enabled = Some(true)),
        ("no holder", |s| s.view.pairs[0].lease.as_mut().unwrap().holder = None),
        ("agents without leases", |s| {
            let lease = s.view.pairs[0].lease.as_mut().unwrap();
            (lease.holder, lease.gates) = (None, [GateReport::Unknown, GateReport::Unknown]);
        }),
        ("backing low", |s| s.view.pairs[0].lease.as_mut().unwrap().backing = 1),
        ("no backing", |s| s.view.pairs[0].lease.as_mut().unwrap().backing = 0),
        ("backup not ready", |s| s.view.pairs[0].members[1].ready = Err("it is | stopped\n".to_owned())),
        ("frozen", |s| s.view.pairs[0].frozen = true),
        ("frozen by hand", |s| {
            s.view.pairs[0].frozen = true;
            s.view.pairs[0].freeze = Some(freeze());
        }),
        ("alarms of each category", |s| {
            let of = |category| ActiveAlarm { category, ..alarm() };
            s.view.alarms = [Category::Minor, Category::Major, Category::Critical].map(of).into();
        }),
        ("a host of no pair is away", |s| s.view.hosts.push(host("host3", HostStatus::AgentDown))),
        ("more than a line holds", |s| s.view.alarms = vec![alarm(); 7]),
    ];
    let mut text = String::new();
    for (name, change) in cases {
        let mut status = well();
        change(&mut status);
        for (of, pair) in [("all", None), ("sip", Some("sip".parse().unwrap()))] {
            let health = health(&status, pair.as_ref());
            text += &format!("{name}, {of}: {}\n  {}\n", health.verdict as u8, health.line);
        }
    }
    let none = health(&well(), Some(&"pbx".parse().unwrap()));
    text += &format!("no such pair: {}\n  {}\n", none.verdict as u8, none.line);
    let mut worked_on = well();
    worked_on.view.pairs[0].members[1].ready = Err("it is stopped".to_owned());
    worked_on.view.alarms = vec![alarm()];
    worked_on.view.pairs[0].maintenance = Some(maintenance());
    text += &format!("in maintenance:\n  {}\n", health(&worked_on, None).line);
    worked_on.view.pairs[0].members[0].mode = Some(RunMode::Backup);
    text += &format!("in maintenance, and no primary:\n  {}\n", health(&worked_on, None).line);
    let mut copy = well();
    let standby = Standby { lag_ms: Some(2), confirmed: 412, ..Standby::default() };
    copy.view.pairs[0].members[1].standby = Some(StandbyView { told: NOON, standby });
    text += &format!("a copy:\n  {}\n", health(&copy, Some(&"sip".parse().unwrap())).line);
    golden("check-health.txt", &text);
}

#[test]
fn an_incident_with_its_steps() {
    golden("incident.txt", &render::incident(&incident(), &PLAIN));
    let why = "sip1 refused".to_owned();
    let failed = Incident { id: IncidentId(8), outcome: IncidentOutcome::RolledBack { why }, ..incident() };
    let open =
        Incident { id: IncidentId(9), from: None, ended: None, outcome: IncidentOutcome::Open, ..incident() };
    let lines =
        [&incident(), &failed, &open].map(|incident| render::outcome_line(incident, &PLAIN)).join("\n");
    golden("incidents.txt", &format!("{}{lines}\n", render::incidents(&[incident(), failed, open], &PLAIN)));
}

#[test]
fn a_plan_that_fails() {
    let check = |what: &str, passed, seen: &str, remedy: &str| Check {
        what: what.to_owned(),
        passed,
        seen: seen.to_owned(),
        remedy: remedy.to_owned(),
        may_be_forced: false,
    };
    let plan = Plan {
        pair: "sip".parse().unwrap(),
        from: Some("sip1".parse().unwrap()),
        to: "sip2".parse().unwrap(),
        checks: vec![
            check("sip2 is not primary yet", true, "sip1 is primary", ""),
            check(
                "sip2 is ready to take over",
                false,
                "it is stopped",
                "make it ready first, see `takeover status`",
            ),
        ],
        steps: vec![
            "instruct sip1 to go into backup mode".to_owned(),
            "enable 192.0.2.100 on host2".to_owned(),
        ],
        callers: vec![
            "go on at sip2: 412 confirmed, 9 ringing; 120 registered (told 0 s ago, 2 ms behind sip1)"
                .to_owned(),
        ],
        hash: 1,
    };
    golden("plan.txt", &render::plan(&plan, &PLAIN));
}

#[test]
fn alarms_and_log() {
    let active = AlarmRecord { alarm: alarm(), ended_at: None, ending: None };
    let ending = Ending::Cleared { by: "ann".to_owned(), reason: "known".to_owned() };
    let ended_alarm = ActiveAlarm { number: 9, category: Category::Critical, ..alarm() };
    let ended = AlarmRecord { alarm: ended_alarm, ended_at: Some(NOON), ending: Some(ending) };
    golden("alarms.txt", &render::alarms(std::slice::from_ref(&active), false, &PLAIN));
    golden("alarms-history.txt", &render::alarms(&[ended, active], true, &PLAIN));

    let (app, host) = ("sip1".parse().unwrap(), "host1".parse().unwrap());
    let log = [
        LogEvent::new(events::NOW_PRIMARY, NOON).of(&app).on(&host),
        LogEvent::new(events::HOST_NORMAL, NOON + micros(1)).on(&host),
        LogEvent::new(events::ALARM_RAISED, NOON + seconds(1)).because("application failure\nof sip2"),
    ];
    golden("log.txt", &render::log(&log, &PLAIN));
}

#[test]
fn colours_and_zones_are_the_terminals() {
    let look = Look { colour: true, zone: TimeZone::fixed(jiff::tz::offset(1)) };
    let text = render::status(&ill(), &look);
    assert!(text.contains("\u{1b}[1;31mTROUBLE\u{1b}[0m"), "{text}");
    assert!(text.contains("2026-01-31 13:00:00 (UTC+01:00)"), "{text}");
    assert!(
        !text.contains('\u{7}') && !text.contains("\u{1b}[2J"),
        "what applications say cannot move the cursor"
    );
}
