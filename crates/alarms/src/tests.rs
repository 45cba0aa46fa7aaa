//! The rules of domain.md's "Alarm Conditions", one test each.

use super::*;
use domain::Detect;
use std::time::Duration;

const FAILED: EventId = events::APP_TERMINATED;
const FINE: EventId = events::APP_INITIALIZED;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn event(id: EventId, name: &str, at: u64) -> LogEvent {
    LogEvent::new(id, Micros(at)).of(&app(name))
}

fn conditions(edit: impl Fn(&mut AlarmCondition)) -> Conditions {
    let mut condition = AlarmCondition {
        category: Category::Major,
        detect: Detect { event: FAILED, source: DetectSource::Any },
        cancel: vec![FINE],
        clearance_timeout: Duration::from_secs(60),
        reactions: vec![Reaction::Restart { app: app("sip1") }],
        clearance_reactions: vec![Reaction::Stop { app: app("sip1") }],
        refire: false,
        hidden: false,
        enabled: true,
    };
    edit(&mut condition);
    Conditions::from([("failure".to_owned(), condition)])
}

/// What happened, in short.
fn brief(happened: &[Happened]) -> Vec<String> {
    happened
        .iter()
        .map(|h| match h {
            Happened::Raised(a) => format!("raised {} {}", a.condition, a.source),
            Happened::Repeated(a) => format!("repeated {} {} x{}", a.condition, a.source, a.repeats),
            Happened::Ended(a, how) => format!("ended {} {}: {how}", a.condition, a.source),
            Happened::React { reaction: Reaction::Restart { .. }, .. } => "restart".to_owned(),
            Happened::React { reaction: Reaction::Stop { .. }, .. } => "stop".to_owned(),
            Happened::React { .. } => "another reaction".to_owned(),
            Happened::Overflow(name) => format!("overflow {name}"),
        })
        .collect()
}

#[test]
fn an_alarm_is_keyed_by_condition_and_application() {
    let c = conditions(|_| {});
    let mut alarms = Alarms::default();
    assert_eq!(
        brief(&alarms.logged(&c, &event(FAILED, "sip1", 1), Micros(1))),
        ["raised failure sip1", "restart"]
    );
    assert_eq!(
        brief(&alarms.logged(&c, &event(FAILED, "sip2", 2), Micros(2))),
        ["raised failure sip2", "restart"]
    );
    assert_eq!(alarms.active().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_repeat_runs_nothing_unless_refire_is_set() {
    for (refire, expected) in
        [(false, vec!["repeated failure sip1 x1"]), (true, vec!["repeated failure sip1 x1", "restart"])]
    {
        let c = conditions(|condition| condition.refire = refire);
        let mut alarms = Alarms::default();
        alarms.logged(&c, &event(FAILED, "sip1", 1), Micros(1));
        assert_eq!(brief(&alarms.logged(&c, &event(FAILED, "sip1", 2), Micros(2))), expected);
    }
}

#[test]
fn it_ends_by_the_cancel_event_of_the_same_application_only() {
    let c = conditions(|_| {});
    let mut alarms = Alarms::default();
    alarms.logged(&c, &event(FAILED, "sip1", 1), Micros(1));
    assert!(alarms.logged(&c, &event(FINE, "sip2", 2), Micros(2)).is_empty());
    let ended = alarms.logged(&c, &event(FINE, "sip1", 3), Micros(3));
    assert_eq!(brief(&ended), ["ended failure sip1: cancelled by 00-05061", "stop"]);
    assert_eq!(alarms.active().count(), 0);
}

#[test]
fn it_ends_by_its_timeout_which_a_repeat_prolongs() {
    let c = conditions(|_| {});
    let mut alarms = Alarms::default();
    alarms.logged(&c, &event(FAILED, "sip1", 0), Micros(0));
    alarms.logged(&c, &event(FAILED, "sip1", 0), Micros(30_000_000));
    assert_eq!(alarms.next_deadline(), Some(Micros(90_000_000)));
    assert!(alarms.expire(&c, Micros(89_999_999)).is_empty());
    assert_eq!(brief(&alarms.expire(&c, Micros(90_000_000))), ["ended failure sip1: timed out", "stop"]);
    assert_eq!(alarms.next_deadline(), None);
}

#[test]
fn an_operator_clears_it_and_it_is_recorded_who_and_why() {
    let c = conditions(|_| {});
    let mut alarms = Alarms::default();
    alarms.logged(&c, &event(FAILED, "sip1", 1), Micros(1));
    assert!(alarms.clear(&c, 99, "alice", "").is_empty());
    let ended = alarms.clear(&c, 1, "alice", "replaced the cable");
    assert_eq!(brief(&ended), ["ended failure sip1: cleared by alice: replaced the cable", "stop"]);
}

#[test]
fn a_disabled_condition_and_another_application_raise_nothing() {
    let mut alarms = Alarms::default();
    let disabled = conditions(|c| c.enabled = false);
    assert!(alarms.logged(&disabled, &event(FAILED, "sip1", 1), Micros(1)).is_empty());
    let only_sip2 = conditions(|c| c.detect.source = DetectSource::Application(app("sip2")));
    assert!(alarms.logged(&only_sip2, &event(FAILED, "sip1", 1), Micros(1)).is_empty());
}

#[test]
fn what_alarms_log_raises_no_alarm() {
    let c = conditions(|c| c.detect.event = events::ALARM_RAISED);
    let mut alarms = Alarms::default();
    assert!(alarms.logged(&c, &event(events::ALARM_RAISED, "sip1", 1), Micros(1)).is_empty());
}

#[test]
fn an_alarm_of_a_condition_that_is_gone_ends() {
    let c = conditions(|_| {});
    let mut alarms = Alarms::default();
    alarms.logged(&c, &event(FAILED, "sip1", 1), Micros(1));
    assert_eq!(brief(&alarms.reconfigured(&c, |_| true)), [""; 0]);
    assert_eq!(
        brief(&alarms.clone().reconfigured(&Conditions::new(), |_| true)),
        ["ended failure sip1: no longer configured"]
    );
    // Its application is.
    assert_eq!(brief(&alarms.reconfigured(&c, |_| false)), ["ended failure sip1: no longer configured"]);
}
