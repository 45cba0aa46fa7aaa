//! The live picture: values in, lines of text out, each as wide as the terminal at most. Pure.

use super::stage::{MEMBERS, Member};
use super::workflow::{Seen, first_step, millis, numbered_steps};
use domain::HostStatus;
use ha_core::{Incident, IncidentKind, IncidentOutcome, PairView, View};
use netlab::Live;
use rehearsal::VIP;
use std::time::Duration;

/// Inside of a host's box, columns.
const BOX: usize = 34;
/// Between the boxes of the two hosts, columns.
const GAP: usize = 4;
/// The client asks every millisecond; silence longer than this is worth a colour.
const SILENCE: Duration = Duration::from_millis(20);
/// What the keys do.
const KEYS: &str = "s switch over  k kill  h hang  c cut off  r reconnect  a agent  q quit";

/// Everything that the picture shows.
pub struct Scene<'a> {
    /// What the SCS says; none: it does not answer.
    pub view: Option<&'a View>,
    /// What the client sees.
    pub live: &'a Live,
    /// Hosts that have the VIP, as their kernels say.
    pub holders: &'a [&'static str],
    /// The host that is cut off.
    pub cut: Option<&'static str>,
    /// The newest incident.
    pub last: Option<&'a Change>,
    /// What the last key did.
    pub message: &'a str,
    /// How to use the command line from outside.
    pub outside: Option<&'a Outside>,
}

/// A role change, and what the client saw of it once that is known.
pub struct Change {
    /// Its record.
    pub incident: Incident,
    /// None as long as the client still watches.
    pub seen: Option<Seen>,
}

/// How to use the command line from outside.
pub struct Outside {
    /// What to type first.
    pub source: String,
    /// The path of this program.
    pub program: String,
}

/// The picture for a terminal of so many columns and rows.
#[must_use]
pub fn lines(scene: &Scene<'_>, (columns, rows): (usize, usize), colour: bool) -> Vec<String> {
    let mut above = vec![title(scene)];
    above.extend(hosts(scene));
    above.push(client(scene.live));
    let mut below = vec![Line::of(Paint::Heading, scene.message), Line::of(Paint::Plain, KEYS)];
    below.extend(outside(scene.outside, columns));
    // In the middle there is what room is left for.
    let room = rows.saturating_sub(above.len() + below.len());
    let mut middle = scene.last.map(|change| change_lines(change, room)).unwrap_or_default();
    let alarms = scene.view.map(|view| view.alarms.as_slice()).unwrap_or_default();
    middle.extend(
        alarms
            .iter()
            .map(|alarm| Line::of(Paint::Bad, &format!("alarm {}: {}", alarm.condition, alarm.text))),
    );
    middle.truncate(room);
    let blank = usize::from(middle.len() + 2 <= room);
    let mut all = above;
    all.extend((0..blank).map(|_| Line::default()));
    all.extend(middle);
    all.extend((0..blank).map(|_| Line::default()));
    all.extend(below);
    all.truncate(rows);
    all.iter().map(|line| line.show(columns, colour)).collect()
}

fn title(scene: &Scene<'_>) -> Line {
    let mut line = Line::of(Paint::Heading, "Takeover demo");
    let Some((view, pair)) = scene.view.and_then(|view| Some((view, view.pairs.first()?))) else {
        line.add(Paint::Bad, "   the SCS does not answer");
        return line;
    };
    line.add(Paint::Plain, &format!("   pair {}   VIP {VIP}   epoch {}   ", pair.name, pair.epoch));
    match view.alarms.len() {
        0 => line.add(Paint::Good, "no alarms"),
        1 => line.add(Paint::Bad, "1 alarm"),
        n => line.add(Paint::Bad, &format!("{n} alarms")),
    }
    line
}

/// The two hosts, their cables, and the switch.
fn hosts(scene: &Scene<'_>) -> Vec<Line> {
    let pair = scene.view.and_then(|view| view.pairs.first());
    let boxes = MEMBERS.map(|member| {
        [
            host_line(scene, member),
            server_line(pair, member),
            vip_line(scene, pair, member),
            answers(scene, member),
        ]
    });
    let mut lines = vec![Line::default()];
    for (index, _) in MEMBERS.iter().enumerate() {
        lines[0].add(Paint::Dim, &format!("{}┌{}┐", indent(index), "─".repeat(BOX)));
    }
    for row in 0..boxes[0].len() {
        let mut line = Line::default();
        for (index, content) in boxes.iter().enumerate() {
            let (paint, text) = &content[row];
            line.add(Paint::Dim, &format!("{}│", indent(index)));
            line.add(*paint, &fitted(text));
            line.add(Paint::Dim, "│");
        }
        lines.push(line);
    }
    let half = BOX / 2;
    let mut bottom = Line::default();
    let mut cables = Line::default();
    for (index, member) in MEMBERS.iter().enumerate() {
        let edge = format!("{}└{}┬{}┘", indent(index), "─".repeat(half), "─".repeat(BOX - half - 1));
        bottom.add(Paint::Dim, &edge);
        cables.add(Paint::Plain, &format!("{} {}", indent(index), " ".repeat(half)));
        let rest = BOX - half;
        if scene.cut == Some(member.host) {
            cables.add(Paint::Bad, &format!("{:<width$}", "╳ cut off", width = rest + 1));
        } else {
            cables.add(Paint::Dim, &format!("{:<width$}", "│", width = rest + 1));
        }
    }
    let span = BOX + GAP;
    let (left, right) = (span / 2 - 4, span - span / 2 - 4);
    let switch = format!("   {}└{} switch {}┘", " ".repeat(half), "─".repeat(left), "─".repeat(right));
    lines.extend([bottom, cables, Line::of(Paint::Dim, &switch)]);
    lines
}

fn indent(index: usize) -> String {
    " ".repeat(if index == 0 { 2 } else { GAP - 1 })
}

/// A box's content in its width.
fn fitted(text: &str) -> String {
    let shown: String = text.chars().take(BOX - 2).collect();
    format!(" {shown:<width$}", width = BOX - 1)
}

fn host_line(scene: &Scene<'_>, member: Member) -> (Paint, String) {
    let host = scene.view.and_then(|view| view.hosts.iter().find(|host| host.name.as_str() == member.host));
    match host.map(|host| host.status) {
        None => (Paint::Warning, format!("{}: not known", member.host)),
        Some(HostStatus::Up) => (Paint::Heading, format!("{}: up", member.host)),
        Some(status @ (HostStatus::AgentDown | HostStatus::Unreachable | HostStatus::Unknown)) => {
            (Paint::Bad, format!("{}: {status}", member.host))
        }
    }
}

fn server_line(pair: Option<&PairView>, member: Member) -> (Paint, String) {
    let Some(view) = pair.and_then(|pair| pair.members.iter().find(|m| m.app.as_str() == member.app)) else {
        return (Paint::Warning, format!("{}: not known", member.app));
    };
    let mode = view.mode.map_or_else(|| "no mode".to_owned(), |mode| mode.to_string());
    if !view.current {
        return (Paint::Warning, format!("{}: {mode} when last seen", member.app));
    }
    let is_primary = view.mode == Some(domain::RunMode::Primary);
    let paint = match (&view.ready, is_primary) {
        (Ok(()), true) => Paint::Good,
        (Ok(()), false) => Paint::Plain,
        (Err(_), _) => Paint::Bad,
    };
    (paint, format!("{}: {}, {mode}", member.app, view.status))
}

fn vip_line(scene: &Scene<'_>, pair: Option<&PairView>, member: Member) -> (Paint, String) {
    let places = pair.and_then(|pair| pair.vips.first()).map(|vip| vip.places.as_slice()).unwrap_or_default();
    let reported = places.iter().find(|p| p.host.as_str() == member.host).and_then(|place| place.enabled);
    let there = scene.holders.contains(&member.host);
    match (reported, there) {
        (Some(true), true) => (Paint::Good, "VIP ENABLED".to_owned()),
        (Some(false), false) => (Paint::Plain, "VIP disabled".to_owned()),
        (Some(_), there) => {
            let now = if there { "enabled" } else { "disabled" };
            (Paint::Warning, format!("VIP being {now}"))
        }
        // The demo can look into a host that nobody else can reach.
        (None, true) => (Paint::Bad, "VIP not known (it has it)".to_owned()),
        (None, false) => (Paint::Warning, "VIP not known (it has it not)".to_owned()),
    }
}

fn answers(scene: &Scene<'_>, member: Member) -> (Paint, String) {
    let count = scene.live.answered.iter().find(|(who, _)| who == member.app).map_or(0, |(_, count)| *count);
    if count == 0 {
        (Paint::Dim, "no answers".to_owned())
    } else {
        (Paint::Good, format!("{count} answers in the last second"))
    }
}

fn client(live: &Live) -> Line {
    let mut line = Line::of(Paint::Plain, &format!("  client: {} OPTIONS in the last second, ", live.sent));
    match &live.last {
        None => line.add(Paint::Bad, "no answer yet"),
        Some((who, at)) => {
            let age = live.at.since(*at);
            let paint = if age > SILENCE { Paint::Bad } else { Paint::Good };
            line.add(paint, &format!("last answer by {who}, {} ago", millis(age)));
        }
    }
    line
}

/// A role change: all of its steps where there is room, else one line for each number.
fn change_lines(change: &Change, room: usize) -> Vec<Line> {
    let incident = &change.incident;
    let from = incident.from.as_ref().map_or("nobody", |from| from.as_str());
    let mut head = Line::of(Paint::Heading, &format!("Incident {}: {}, ", incident.id.0, incident.kind));
    head.add(Paint::Plain, &format!("{from} -> {}: ", incident.to));
    let paint = match incident.outcome {
        IncidentOutcome::Completed => Paint::Good,
        IncidentOutcome::Open
        | IncidentOutcome::Superseded
        | IncidentOutcome::Interrupted
        | IncidentOutcome::Reconfigured => Paint::Warning,
        IncidentOutcome::RolledBack { .. } => Paint::Bad,
    };
    head.add(paint, &incident.outcome.to_string());
    let begun = first_step(incident);
    let mut steps: Vec<Line> =
        incident.steps.iter().map(|step| step_line(step.number, step.at.since(begun), &step.text)).collect();
    if steps.len() + 2 > room {
        steps = numbered_steps(incident)
            .iter()
            .map(|step| {
                let more = match step.count {
                    1 => String::new(),
                    n => format!(" (+{} more, until +{})", n - 1, millis(step.last)),
                };
                step_line(Some(step.number), step.first, &format!("{}{more}", step.text))
            })
            .collect();
    }
    let mut lines = vec![head];
    lines.extend(steps);
    lines.extend(seen_line(incident.kind, from, change.seen.as_ref()));
    lines
}

fn step_line(number: Option<u8>, offset: Duration, text: &str) -> Line {
    let number = number.map_or_else(String::new, |number| number.to_string());
    let mut line = Line::of(Paint::Heading, &format!("{number:>3}"));
    line.add(Paint::Dim, &format!(" {:>12}  ", format!("+{}", millis(offset))));
    line.add(Paint::Plain, text);
    line
}

fn seen_line(kind: IncidentKind, old: &str, seen: Option<&Seen>) -> Option<Line> {
    let what = match kind {
        // The client asks since then only.
        IncidentKind::FirstPrimary => return None,
        IncidentKind::Reconnected => "longest silence",
        IncidentKind::Manual | IncidentKind::Failure | IncidentKind::Disconnected => "outage",
    };
    let Some(seen) = seen else {
        return Some(Line::of(Paint::Dim, "  client: watching"));
    };
    let outage = seen.outage.map_or_else(|| "-".to_owned(), millis);
    let mut line = Line::of(Paint::Heading, &format!("  client: {what} {outage}, {} lost, ", seen.lost));
    match seen.late_answers {
        0 => line.add(Paint::Good, "no answers by both hosts at once"),
        n => line.add(Paint::Bad, &format!("besides {n} answers by {old} over {}", millis(seen.both))),
    }
    Some(line)
}

fn outside(outside: Option<&Outside>, columns: usize) -> Vec<Line> {
    let Some(Outside { source, program }) = outside else { return Vec::new() };
    let (first, second) = (format!("in another terminal: {source}"), format!("{program} status --watch"));
    let one = format!("{first}; {second}");
    // What is to be copied must not be cut off.
    if one.chars().count() <= columns {
        return vec![Line::of(Paint::Dim, &one)];
    }
    vec![Line::of(Paint::Dim, &first), Line::of(Paint::Dim, &second)]
}

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Dim,
    Heading,
    Good,
    Warning,
    Bad,
}

/// A line in parts, so that it can be cut to a width without cutting a colour.
#[derive(Debug, Clone, Default)]
struct Line(Vec<(Paint, String)>);

impl Line {
    fn of(paint: Paint, text: &str) -> Self {
        let mut line = Self::default();
        line.add(paint, text);
        line
    }

    /// Adds a part; control characters, which would move the cursor, are left out.
    fn add(&mut self, paint: Paint, text: &str) {
        self.0.push((paint, text.chars().filter(|c| !c.is_control()).collect()));
    }

    fn show(&self, columns: usize, colour: bool) -> String {
        let (mut out, mut left) = (String::new(), columns);
        for (paint, text) in &self.0 {
            let shown: String = text.chars().take(left).collect();
            left -= shown.chars().count();
            let code = match paint {
                Paint::Plain => "",
                Paint::Dim => "2",
                Paint::Heading => "1",
                Paint::Good => "32",
                Paint::Warning => "33",
                Paint::Bad => "1;31",
            };
            if colour && !code.is_empty() && !shown.is_empty() {
                out += &format!("\u{1b}[{code}m{shown}\u{1b}[0m");
            } else {
                out += &shown;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
