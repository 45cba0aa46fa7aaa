//! `takeover watch`: keys and news in, screens out, on a terminal of 80 by 24 as golden files.

use crate::rendering::{NOON, PLAIN, golden, ill, incident, well};
use domain::{LogEvent, events};
use ha_core::{Check, Incident, IncidentOutcome, Plan};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use sci::api::Status;
use sci::watch::{Ask, Key, News, Screen, draw};

/// The screen as text, lines without the spaces at their ends.
fn shown(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(screen, &PLAIN, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(usize::from(width));
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    cells.map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
}

fn screen(status: Status) -> Screen {
    let mut screen = Screen::default();
    screen.hear(News::Status(Box::new(status)));
    let (app, host) = ("sip1".parse().unwrap(), "host1".parse().unwrap());
    screen.hear(News::Log(LogEvent::new(events::NOW_PRIMARY, NOON).of(&app).on(&host)));
    screen.hear(News::Log(LogEvent::new(events::HOST_NORMAL, NOON).on(&host).because("\u{1b}[2J")));
    screen
}

fn plan(passed: bool) -> Plan {
    let check = Check {
        what: "sip2 is ready to take over".to_owned(),
        passed,
        seen: if passed { "ready" } else { "it is stopped" }.to_owned(),
        remedy: if passed { String::new() } else { "make it ready first, see `takeover status`".to_owned() },
        may_be_forced: false,
    };
    Plan {
        pair: "sip".parse().unwrap(),
        from: Some("sip1".parse().unwrap()),
        to: "sip2".parse().unwrap(),
        checks: vec![check],
        steps: vec!["instruct sip1 on host1 to go into backup mode".to_owned()],
        callers: vec![
            "go on at sip2: 412 confirmed, 9 ringing; 120 registered (told 0 s ago, 2 ms behind sip1)"
                .to_owned(),
        ],
        hash: 17,
    }
}

fn type_in(screen: &mut Screen, text: &str) {
    for c in text.chars() {
        assert_eq!(screen.press(Key::Char(c)), None, "{c}");
    }
}

#[test]
fn the_overview_in_80_by_24() {
    golden("watch-well.txt", &shown(&screen(well()), 80, 24));
    let mut ill = screen(ill());
    ill.hear(News::Lost("connection refused".to_owned()));
    golden("watch-trouble.txt", &shown(&ill, 80, 24));
    let waiting = Screen::default();
    assert!(shown(&waiting, 80, 24).contains("waiting for the SCS"));
}

#[test]
fn a_pair_and_a_switchover_from_plan_to_end() {
    let mut screen = screen(well());
    assert_eq!(screen.press(Key::Enter), None);
    golden("watch-pair.txt", &shown(&screen, 80, 24));

    let sip = "sip".parse().unwrap();
    assert_eq!(screen.press(Key::Char('s')), Some(Ask::Plan(sip)));
    screen.hear(News::Plan(Ok(Box::new(plan(true)))));
    assert_eq!(screen.press(Key::Enter), None, "without a reason it goes no further");
    type_in(&mut screen, "kernel updatesy");
    assert_eq!((screen.press(Key::Erase), screen.press(Key::Erase)), (None, None));
    golden("watch-plan.txt", &shown(&screen, 80, 24));
    assert_eq!(screen.press(Key::Enter), None, "it is asked first");
    assert!(shown(&screen, 80, 24).contains("Switch sip over to sip2? y/n"));
    assert_eq!(screen.press(Key::Enter), None, "only y does it");
    let Some(Ask::SwitchOver(of, order)) = screen.press(Key::Char('y')) else { panic!("it is ordered") };
    assert_eq!((of.as_str(), order.reason.as_str(), order.plan), ("sip", "kernel update", Some(17)));
    assert_eq!(screen.press(Key::Char('y')), None, "and once");

    screen.hear(News::Ordered(Ok((Some(7), "sip is being switched over to sip2".to_owned()))));
    let open = Incident { ended: None, outcome: IncidentOutcome::Open, ..incident() };
    screen.hear(News::Incident(Box::new(Incident { steps: open.steps[..2].to_vec(), ..open.clone() })));
    assert!(!shown(&screen, 80, 24).contains("enable 192.0.2.100"));
    let other = Incident { id: ha_core::IncidentId(8), ..incident() };
    screen.hear(News::Incident(Box::new(other)));
    assert!(!shown(&screen, 80, 24).contains("enable 192.0.2.100"), "of another incident");
    screen.hear(News::Incident(Box::new(incident())));
    golden("watch-switchover.txt", &shown(&screen, 80, 24));
    assert_eq!(screen.press(Key::Escape), None);
    assert_eq!(screen.press(Key::Escape), None);
    assert_eq!(screen.press(Key::Char('q')), Some(Ask::Quit));
}

#[test]
fn a_check_that_fails_stops_it_and_a_refusal_is_told() {
    let mut screen = screen(ill());
    screen.press(Key::Enter);
    screen.press(Key::Char('s'));
    screen.hear(News::Plan(Ok(Box::new(plan(false)))));
    type_in(&mut screen, "because");
    assert_eq!(screen.press(Key::Enter), None);
    assert!(shown(&screen, 80, 24).contains("nothing can be ordered"));
    screen.press(Key::Escape);
    screen.press(Key::Char('s'));
    screen.hear(News::Plan(Err("there is no pair sip".to_owned())));
    assert!(shown(&screen, 80, 24).contains("there is no pair sip"));
    screen.press(Key::Enter);
    screen.hear(News::Plan(Ok(Box::new(plan(true)))));
    assert!(!shown(&screen, 80, 24).contains("Reason"), "a plan that comes when nobody waits for it");
    screen.hear(News::Ordered(Err("the state has moved on".to_owned())));
    assert!(shown(&screen, 80, 24).contains("the state has moved on"));
    assert_eq!(screen.press(Key::Interrupt), Some(Ask::Quit));
}

#[test]
fn the_selected_pair_stays_selected_and_in_sight() {
    let mut many = well();
    let pair = many.view.pairs[0].clone();
    many.view.pairs = (0..40)
        .map(|n| ha_core::PairView { name: format!("p{n:02}").parse().unwrap(), ..pair.clone() })
        .collect();
    let mut screen = screen(many.clone());
    for _ in 0..60 {
        screen.press(Key::Down);
    }
    assert!(shown(&screen, 80, 24).contains("> p39"));
    // One in trouble goes to the top, and what was selected stays so.
    many.view.pairs[5].trouble = vec!["no primary".to_owned()];
    screen.hear(News::Status(Box::new(many.clone())));
    assert!(shown(&screen, 80, 24).contains("> p39"));
    many.view.pairs.truncate(39);
    screen.hear(News::Status(Box::new(many)));
    assert!(shown(&screen, 80, 24).contains("> p05"), "the first, which is in trouble");
}

#[test]
fn no_terminal_is_too_small() {
    let mut screen = screen(ill());
    for (width, height) in [(1, 1), (2, 3), (20, 5), (80, 10), (300, 100)] {
        shown(&screen, width, height);
        screen.press(Key::Enter);
        shown(&screen, width, height);
        screen.press(Key::Escape);
    }
}
