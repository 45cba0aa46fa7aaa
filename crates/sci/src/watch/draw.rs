//! The screen of `takeover watch`, drawn: the overview, one pair, a plan, a switchover as it goes. For 80 by 24 and more.

use super::{Page, Screen};
use crate::api::Status;
use crate::render::{Look, clean, outcome_line, step_line};
use domain::{AppStatus, Category, HostStatus, Level, LogEvent, RunMode};
use ha_core::{Incident, PairView, Plan};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

/// Lines of hosts, and of alarms, where there is not room for all.
const FEW: u16 = 4;
/// Lines of the log, its heading included.
const LOG: u16 = 6;

/// Draws everything.
pub fn draw(screen: &Screen, look: &Look, frame: &mut Frame<'_>) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(header(screen, look), top);
    frame.render_widget(Line::styled(keys(screen), dim()), bottom);
    let Some(status) = &screen.status else {
        frame.render_widget(Paragraph::new("waiting for the SCS ..."), middle);
        return;
    };
    match &screen.page {
        Page::Overview => overview(screen, status, look, frame, middle),
        Page::Pair => with_log(screen, look, frame, middle, "Pair", pair_lines(screen, status)),
        Page::Planning => {
            with_log(screen, look, frame, middle, "Switchover", vec!["asking what it would do ...".into()])
        }
        Page::Plan { plan, reason } => {
            let mut lines = plan_lines(plan);
            if plan.passes(false) {
                lines.push(Line::from(vec![
                    Span::styled("Reason, for log and audit: ", bold()),
                    Span::raw(clean(reason)),
                    Span::styled("_", Style::new().add_modifier(Modifier::SLOW_BLINK)),
                ]));
            } else {
                lines.push(Line::styled("A check fails: nothing can be ordered.", bad()));
            }
            with_log(screen, look, frame, middle, "Switchover", lines);
        }
        Page::Confirm { plan, reason } => {
            let mut lines = plan_lines(plan);
            lines.push(Line::from(format!("Reason: {}", clean(reason))));
            lines.push(Line::styled(format!("Switch {} over to {}? y/n", plan.pair, plan.to), bold()));
            with_log(screen, look, frame, middle, "Switchover", lines);
        }
        Page::Running { text, so_far, .. } => {
            let lines = running_lines(text, so_far.as_deref(), look);
            with_log(screen, look, frame, middle, "Switchover", lines);
        }
        Page::Refused(why) => {
            let lines = vec![Line::styled("Not done:", bad()), clean(why).into()];
            with_log(screen, look, frame, middle, "Switchover", lines);
        }
    }
}

fn header<'a>(screen: &Screen, look: &Look) -> Line<'a> {
    let mut line = Line::default();
    if let Some(Status { release, view, .. }) = &screen.status {
        line.push_span(Span::styled(clean(&view.cluster), bold()));
        line.push_span(format!(
            "  {} ({})  SCS {}",
            look.time(view.at),
            look.zone_at(view.at),
            clean(release)
        ));
    } else {
        line.push_span(Span::styled("takeover", bold()));
    }
    if let Some(why) = &screen.lost {
        line.push_span(Span::styled(format!("  STALE: {}", clean(why)), bad()));
    }
    line
}

fn keys(screen: &Screen) -> &'static str {
    match &screen.page {
        Page::Overview => "up/down select   enter pair   q quit",
        Page::Pair => "s switchover   up/down other pair   esc back   ctrl-c quit",
        Page::Planning => "esc back   ctrl-c quit",
        Page::Plan { plan, .. } if plan.passes(false) => {
            "type the reason   enter go on   esc back   ctrl-c quit"
        }
        Page::Plan { .. } => "esc back   ctrl-c quit",
        Page::Confirm { .. } => "y do it   n back   ctrl-c quit",
        Page::Running { .. } | Page::Refused(_) => "enter back   ctrl-c quit",
    }
}

fn overview(screen: &Screen, status: &Status, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let hosts = host_lines(status);
    let alarms = alarm_lines(status);
    let few = |lines: &[Line<'_>]| u16::try_from(lines.len()).unwrap_or(FEW).min(FEW) + 1;
    let [pairs, host_area, alarm_area, log] = Layout::vertical([
        Constraint::Min(3),
        Constraint::Length(few(&hosts)),
        Constraint::Length(few(&alarms)),
        Constraint::Length(LOG),
    ])
    .areas(area);
    let (lines, selected) = pair_rows(screen);
    // Whatever is selected is in sight.
    let room = usize::from(pairs.height.saturating_sub(1));
    let above = (selected + 1).saturating_sub(room);
    section(
        frame,
        pairs,
        &format!("Pairs ({})", status.view.pairs.len()),
        lines.into_iter().skip(above).collect(),
    );
    section(frame, host_area, &format!("Hosts ({})", status.view.hosts.len()), hosts);
    section(frame, alarm_area, &format!("Active alarms ({})", status.view.alarms.len()), alarms);
    log_section(screen, look, frame, log);
}

/// One line for each pair, and which of them is selected.
fn pair_rows<'a>(screen: &Screen) -> (Vec<Line<'a>>, usize) {
    let pairs = screen.pairs();
    let at = pairs.iter().position(|pair| screen.selected.as_ref() == Some(&pair.name)).unwrap_or(0);
    let row = |(index, pair): (usize, &&PairView)| {
        let (word, style) = verdict(pair);
        let primary = pair.primary.as_ref().map_or("no primary", |app| app.as_str());
        let lease = match pair.lease.as_ref().filter(|_| !pair.vips.is_empty()) {
            Some(lease) if lease.holder.is_some() => format!("backed {}/2", lease.backing),
            Some(_) => "no holder".to_owned(),
            None => String::new(),
        };
        let line = Line::from(vec![
            Span::raw(format!("{} {:<16} ", if index == at { ">" } else { " " }, pair.name)),
            Span::styled(format!("{word:<12}"), style),
            Span::raw(format!(" {primary:<14} {lease:<12} {}", clean(&summary(pair)))),
        ]);
        if index == at { line.style(Style::new().add_modifier(Modifier::BOLD)) } else { line }
    };
    (pairs.iter().enumerate().map(row).collect(), at)
}

fn verdict(pair: &PairView) -> (String, Style) {
    match pair.incident {
        _ if !pair.trouble.is_empty() => ("TROUBLE".to_owned(), bad()),
        Some(incident) => (format!("incident {incident}"), warning()),
        None if pair.frozen => ("frozen".to_owned(), warning()),
        None if pair.maintenance.is_some() => ("maintenance".to_owned(), warning()),
        None => ("ok".to_owned(), good()),
    }
}

fn summary(pair: &PairView) -> String {
    pair.trouble.first().cloned().unwrap_or_else(|| pair.next.clone())
}

/// Hosts that are not up first.
fn host_lines<'a>(status: &Status) -> Vec<Line<'a>> {
    let (up, away): (Vec<_>, Vec<_>) =
        status.view.hosts.iter().partition(|host| host.status == HostStatus::Up);
    let line = |host: &&ha_core::HostView| {
        Line::styled(format!("  {:<16} {} since {}", host.name, host.status, ago(status, host.since)), bad())
    };
    let names: Vec<_> = up.iter().map(|host| host.name.as_str()).collect();
    let up = (!up.is_empty()).then(|| Line::from(format!("  up: {}", names.join(" "))));
    away.iter().map(line).chain(up).collect()
}

fn ago(status: &Status, since: domain::Micros) -> String {
    format!("{} s", status.view.at.since(since).as_secs())
}

fn alarm_lines<'a>(status: &Status) -> Vec<Line<'a>> {
    let mut alarms: Vec<_> = status.view.alarms.iter().collect();
    alarms.sort_by_key(|alarm| match alarm.category {
        Category::Critical => 0,
        Category::Major => 1,
        Category::Minor => 2,
    });
    let line = |alarm: &&alarms::ActiveAlarm| {
        let style = if alarm.category == Category::Critical { bad() } else { warning() };
        Line::from(vec![
            Span::styled(format!("  {:<8} ", alarm.category.to_string()), style),
            Span::raw(format!("{} {}: {}", alarm.source, clean(&alarm.condition), clean(&alarm.text))),
        ])
    };
    if alarms.is_empty() { vec![Line::styled("  none", good())] } else { alarms.iter().map(line).collect() }
}

fn pair_lines<'a>(screen: &Screen, status: &Status) -> Vec<Line<'a>> {
    let Some(pair) = screen.selected_pair() else {
        return vec!["this pair is not configured any more".into()];
    };
    let (word, style) = verdict(pair);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{}  ", pair.name), bold()),
        Span::styled(word, style),
        Span::raw(format!("  {} standby, profile {}, epoch {}", pair.redundancy, pair.profile, pair.epoch)),
    ])];
    lines.extend(pair.trouble.iter().map(|text| Line::styled(format!("! {}", clean(text)), bad())));
    if let Some(freeze) = &pair.freeze {
        let (by, reason) = (clean(&freeze.by), clean(&freeze.reason));
        lines
            .push(Line::styled(format!("frozen by {by} {} ago: {reason}", ago(status, freeze.since)), bad()));
    }
    if let Some(maintenance) = &pair.maintenance {
        let left = maintenance.until.since(status.view.at).as_secs().div_ceil(60);
        let (by, reason) = (clean(&maintenance.by), clean(&maintenance.reason));
        lines.push(Line::styled(format!("maintenance by {by}, {left} min left: {reason}"), warning()));
    }
    for member in &pair.members {
        let mode = member.mode.map_or_else(|| "-".to_owned(), |mode| mode.to_string());
        let seen = if member.current { "" } else { " (last known)" };
        let ready = match &member.ready {
            _ if pair.wanted_primary.as_ref() == Some(&member.app) => String::new(),
            Ok(()) => "ready".to_owned(),
            Err(why) => format!("not ready: {}", clean(why)),
        };
        let style = match (member.status, member.mode) {
            (AppStatus::Started, Some(RunMode::Primary)) if member.current => good(),
            (AppStatus::Started, _) if member.current => Style::new(),
            (_, _) => warning(),
        };
        let text =
            format!("  {:<14} {:<14} {:<12} {mode}{seen}  {ready}", member.app, member.host, member.status);
        lines.push(Line::styled(text, style));
    }
    for vip in &pair.vips {
        let there: Vec<_> = vip.places.iter().filter(|place| place.enabled == Some(true)).collect();
        let hosts: Vec<_> = there.iter().map(|place| place.host.as_str()).collect();
        let (hosts, style) = match hosts.as_slice() {
            [] => ("no host that is heard".to_owned(), bad()),
            [one] => ((*one).to_owned(), Style::new()),
            more => (more.join(" and "), bad()),
        };
        lines.push(Line::styled(format!("  VIP {} on {hosts}", vip.address), style));
    }
    if let Some(lease) = pair.lease.as_ref().filter(|_| !pair.vips.is_empty()) {
        let style = if lease.backing == 2 { Style::new() } else { warning() };
        let holder = lease.holder.as_ref().map_or("nobody that is heard of", |host| host.as_str());
        let told = lease.told.map_or_else(String::new, |told| format!(", told {} ago", ago(status, told)));
        let text = format!("lease: {holder}, confirmed by {} of 2 other voters{told}", lease.backing);
        lines.push(Line::styled(text, style));
        lines.push(format!("guarantee: {}", clean(&lease.guarantee)).into());
    }
    lines.push(format!("why: {}", clean(&pair.reason)).into());
    lines.push(format!("next: {}", clean(&pair.next)).into());
    lines
}

fn plan_lines<'a>(plan: &Plan) -> Vec<Line<'a>> {
    let from = plan.from.as_ref().map_or("nobody", |from| from.as_str());
    let mut lines = vec![Line::styled(format!("{}: {from} -> {}", plan.pair, plan.to), bold())];
    for check in &plan.checks {
        let (word, style) = if check.passed { ("pass", good()) } else { ("FAIL", bad()) };
        lines.push(Line::from(vec![
            Span::styled(format!("  {word}  "), style),
            Span::raw(format!("{} ({})", clean(&check.what), clean(&check.seen))),
        ]));
        if !check.remedy.is_empty() {
            lines.push(format!("        {}", clean(&check.remedy)).into());
        }
    }
    let steps = plan.steps.iter().enumerate();
    lines.extend(steps.map(|(index, step)| Line::from(format!("  {:>2}. {}", index + 1, clean(step)))));
    lines.extend(plan.callers.iter().map(|line| Line::from(format!("  callers: {}", clean(line)))));
    lines
}

fn running_lines<'a>(text: &str, incident: Option<&Incident>, look: &Look) -> Vec<Line<'a>> {
    let plain = Look { colour: false, ..look.clone() };
    let mut lines = vec![Line::styled(clean(text), bold())];
    if let Some(incident) = incident {
        lines.extend(incident.steps.iter().map(|step| Line::from(step_line(step, incident.begun, &plain))));
        if incident.ended.is_some() {
            lines.push(Line::styled(outcome_line(incident, &plain), bold()));
        }
    }
    lines
}

/// A page with the log below it. Of what does not fit the end is shown: that is where the newest, and the question, are.
fn with_log(
    screen: &Screen,
    look: &Look,
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    lines: Vec<Line<'_>>,
) {
    let [page, log] = Layout::vertical([Constraint::Min(3), Constraint::Length(LOG)]).areas(area);
    let mut lines: Vec<_> =
        lines.into_iter().flat_map(|line| broken(line, usize::from(page.width))).collect();
    let over = lines.len().saturating_sub(usize::from(page.height.saturating_sub(1)));
    lines.drain(..over);
    section(frame, page, title, lines);
    log_section(screen, look, frame, log);
}

/// A line that is too long as several, broken between words where there are any.
fn broken(line: Line<'_>, width: usize) -> Vec<Line<'_>> {
    if line.width() <= width || width == 0 {
        return vec![line];
    }
    let text = line.to_string();
    let style = line.spans.first().map_or(line.style, |span| line.style.patch(span.style));
    let indent = " ".repeat((text.chars().take_while(|c| *c == ' ').count() + 2).min(width / 2));
    let mut rows = Vec::new();
    let mut left = text;
    while left.chars().count() > width {
        let end = left.char_indices().nth(width).map_or(left.len(), |(at, _)| at);
        // Behind the indent, or it would never get on.
        let space = left[..end].rfind(' ').filter(|at| !left[..*at].trim().is_empty()).unwrap_or(end);
        let rest = format!("{indent}{}", left[space..].trim_start());
        left.truncate(space);
        rows.push(std::mem::replace(&mut left, rest));
    }
    rows.push(left);
    rows.into_iter().map(|row| Line::styled(row, style)).collect()
}

fn log_section(screen: &Screen, look: &Look, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let newest = screen.log.iter().skip(screen.log.len().saturating_sub(room));
    section(frame, area, "Log", newest.map(|event| event_line(event, look)).collect());
}

/// An event in as little as tells it: `takeover log` has the rest.
fn event_line<'a>(event: &LogEvent, look: &Look) -> Line<'a> {
    let day_and_time = look.time(event.at);
    let time = day_and_time.split(' ').next_back().unwrap_or_default();
    let about = match (&event.app, &event.host) {
        (Some(app), _) => format!("{app}: "),
        (None, Some(host)) => format!("{host}: "),
        (None, None) => String::new(),
    };
    let style = if event.level == Level::Alarm { warning() } else { Style::new() };
    Line::styled(format!("{time} {} {about}{}", event.id, clean(&event.text)), style)
}

fn section(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines).block(titled(title)), area);
}

fn titled(title: &str) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(dim()).title(Span::styled(format!(" {title} "), bold()))
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}
