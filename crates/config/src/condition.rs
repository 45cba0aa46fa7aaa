//! `[alarm-conditions.NAME]`: Alarm Conditions of the file, laid over the shipped ones, and their reactions.

use crate::names::{Names, named};
use crate::reader::{Field, Table};
use crate::schema::{CONDITION, REACTION};
use crate::shipped::{CLEARANCE_TIMEOUT, shipped_conditions, vip_wiring};
use crate::values::{DAY, SECOND};
use domain::{
    AlarmCondition, Category, Detect, DetectSource, EventId, EventKind, Pair, PairName, Reaction, ScriptName,
};
use std::collections::BTreeMap;

/// Most reactions of one condition, and most events that clear one.
const MAX_REACTIONS: usize = 32;
const MAX_CANCEL: usize = 16;

/// All Alarm Conditions: the shipped ones as the file changes them, its own, and the wiring of its pairs.
pub(crate) fn conditions(
    root: &Table<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
) -> BTreeMap<String, AlarmCondition> {
    let mut all = shipped_conditions();
    // A condition's name follows the rules of a script's: both stand in tables, logs and commands.
    let own = named(root, "alarm-conditions", "alarm condition", &CONDITION, |name: &ScriptName, table| {
        condition(table, names, all.get(name.as_str()))
    });
    all.extend(own.into_iter().map(|(name, condition)| (name.into(), condition)));
    all.extend(pairs.iter().flat_map(|(name, pair)| vip_wiring(name, pair)));
    all
}

/// Reads one condition; what it does not say comes from the shipped one of the same name, if there is one.
fn condition(table: &Table<'_>, names: &Names, shipped: Option<&AlarmCondition>) -> Option<AlarmCondition> {
    let event = match (table.get("detect"), shipped) {
        (None, Some(shipped)) => Some(shipped.detect.event),
        (None, None) => table.require("detect", "detect = \"00-05064\"").and_then(|field| event(&field)),
        (Some(field), _) => event(&field),
    };
    let source = source(table, names);
    let cancel = table.get("cancel").map(|field| cancel(&field, event));
    let read_reactions = |key| table.get(key).map(|field| reactions(&field, names));
    let (on_raise, on_clear) = (read_reactions("reactions"), read_reactions("clearance-reactions"));
    let default = shipped.cloned().unwrap_or(AlarmCondition {
        category: Category::default(),
        detect: Detect { event: event?, source: DetectSource::Any },
        cancel: Vec::new(),
        clearance_timeout: CLEARANCE_TIMEOUT,
        reactions: Vec::new(),
        clearance_reactions: Vec::new(),
        refire: false,
        hidden: false,
        enabled: true,
    });
    Some(AlarmCondition {
        category: table.get("category").and_then(|field| category(&field)).unwrap_or(default.category),
        detect: Detect { event: event?, source },
        cancel: cancel.unwrap_or(default.cancel),
        clearance_timeout: table.duration("clearance-timeout", SECOND..=365 * DAY, default.clearance_timeout),
        reactions: on_raise.unwrap_or(default.reactions),
        clearance_reactions: on_clear.unwrap_or(default.clearance_reactions),
        refire: table.boolean("refire", default.refire),
        hidden: table.boolean("hidden", default.hidden),
        enabled: table.boolean("enabled", default.enabled),
    })
}

fn category(field: &Field<'_>) -> Option<Category> {
    field.choice(&[("critical", Category::Critical), ("major", Category::Major), ("minor", Category::Minor)])
}

fn source(table: &Table<'_>, names: &Names) -> DetectSource {
    let application = table.get("application");
    let host = table.get("host");
    if let (Some(_), Some(host)) = (&application, &host) {
        host.key_error(
            || format!("{} selects both an application and a host", table.title),
            |f| {
                f.label("`application` is given as well")
                    .help("an application's events name its host already".to_owned())
            },
        );
    }
    let application =
        application.and_then(|field| names.applications.resolve(&field)).map(DetectSource::Application);
    let host = host.and_then(|field| names.hosts.resolve(&field)).map(DetectSource::Host);
    application.or(host).unwrap_or(DetectSource::Any)
}

/// An event id; one that the product never logs can still come from an application.
fn event(field: &Field<'_>) -> Option<EventId> {
    let id: EventId = field.parsed("an event id such as \"00-05064\"")?;
    if EventKind::find(id).is_none() {
        field.warning(
            || format!("`{}`: Takeover itself never logs event {id}", field.name),
            |f| {
                f.label("not in the event registry").help(
                    "raised only if an application logs this event; check the number otherwise".to_owned(),
                )
            },
        );
    }
    Some(id)
}

fn cancel(field: &Field<'_>, detect: Option<EventId>) -> Vec<EventId> {
    let Some(items) = field.items("an array of event ids such as [\"00-05061\"]") else { return Vec::new() };
    if items.len() > MAX_CANCEL {
        field.error(
            || format!("`{}` has {} events", field.name, items.len()),
            |f| f.label(format!("expected at most {MAX_CANCEL}")),
        );
    }
    let mut events = Vec::new();
    for item in items.iter().take(MAX_CANCEL) {
        let Some(id) = event(item) else { continue };
        if Some(id) == detect {
            item.error(
                || format!("event {id} cannot both raise and clear the alarm"),
                |f| f.label("the event that raises it"),
            );
        }
        events.push(id);
    }
    events
}

fn reactions(field: &Field<'_>, names: &Names) -> Vec<Reaction> {
    let expected = "an array of tables such as [{ do = \"switch-over\", pair = \"sip\" }]";
    let Some(items) = field.items(expected) else { return Vec::new() };
    if items.len() > MAX_REACTIONS {
        field.error(
            || format!("`{}` has {} reactions", field.name, items.len()),
            |f| f.label(format!("expected at most {MAX_REACTIONS}")),
        );
    }
    items.iter().take(MAX_REACTIONS).filter_map(|item| reaction(item, names)).collect()
}

/// What a reaction does, before its parameters are read.
#[derive(Clone, Copy)]
enum Does {
    DisableVipOnOther,
    EnableVip,
    DisableVip,
    Launch,
    Start,
    Stop,
    Restart,
    SwitchOver,
    StartSolution,
    StopSolution,
}

fn reaction(item: &Field<'_>, names: &Names) -> Option<Reaction> {
    let table = item.table(&REACTION, "a reaction".to_owned())?;
    let does = table.require("do", "do = \"switch-over\"")?.choice(&[
        ("launch", Does::Launch),
        ("start", Does::Start),
        ("stop", Does::Stop),
        ("restart", Does::Restart),
        ("switch-over", Does::SwitchOver),
        ("start-solution", Does::StartSolution),
        ("stop-solution", Does::StopSolution),
        ("enable-vip", Does::EnableVip),
        ("disable-vip", Does::DisableVip),
        ("disable-vip-on-other", Does::DisableVipOnOther),
    ])?;
    refuse_unused(&table, does);
    let pair = || table.require("pair", "pair = \"sip\"").and_then(|field| names.pairs.resolve(&field));
    let app = || {
        table
            .require("application", "application = \"sip1\"")
            .and_then(|field| names.applications.resolve(&field))
    };
    let solution = || {
        let field = table.require("solution", "solution = \"office\"");
        field.and_then(|field| names.solutions.resolve(&field))
    };
    Some(match does {
        Does::DisableVipOnOther => Reaction::DisableVipOnOther { pair: pair()? },
        Does::EnableVip => Reaction::EnableVip { pair: pair()? },
        Does::DisableVip => Reaction::DisableVip { pair: pair()? },
        Does::Start => Reaction::Start { app: app()? },
        Does::Stop => Reaction::Stop { app: app()? },
        Does::Restart => Reaction::Restart { app: app()? },
        Does::SwitchOver => Reaction::SwitchOver { pair: pair()? },
        Does::StartSolution => Reaction::StartSolution { solution: solution()? },
        Does::StopSolution => Reaction::StopSolution { solution: solution()? },
        Does::Launch => {
            let script = table
                .require("script", "script = \"my-script\"")
                .and_then(|field| names.scripts.resolve(&field));
            let host = match table.get("host") {
                Some(field) => Some(names.hosts.resolve(&field)?),
                None => None,
            };
            Reaction::Launch { script: script?, host }
        }
    })
}

fn refuse_unused(table: &Table<'_>, does: Does) {
    let used: &[&str] = match does {
        Does::DisableVipOnOther | Does::EnableVip | Does::DisableVip | Does::SwitchOver => &["pair"],
        Does::Start | Does::Stop | Does::Restart => &["application"],
        Does::StartSolution | Does::StopSolution => &["solution"],
        Does::Launch => &["script", "host"],
    };
    for key in ["pair", "script", "host", "application", "solution"] {
        if let Some(field) = table.get(key).filter(|_| !used.contains(&key)) {
            field.key_error(
                || format!("the reaction has a `{key}` that it does not use"),
                |f| {
                    f.label("has no meaning for this reaction").help(format!("it takes: {}", used.join(", ")))
                },
            );
        }
    }
}
