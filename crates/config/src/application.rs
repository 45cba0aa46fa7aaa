//! `[applications.NAME]`: what an agent starts and watches, how it is told its run mode and how it is probed.

use crate::names::{Names, named};
use crate::reader::{Field, Table, shown};
use crate::schema::{APPLICATION, MODE_CONTROL, MODE_SIGNAL, PROBE, RESTART};
use crate::values::{self, HOUR, MILLISECOND, MINUTE, SECOND};
use domain::{AppName, Application, ModeControl, OnHang, Probe, ProbeKind, RestartPolicy, Signal};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(90);
const SUSPEND_LIMIT: Duration = Duration::from_secs(10);
const MODE_LIMIT: Duration = Duration::from_secs(5);
const WATCHDOG: Duration = Duration::from_secs(1);
const WATCHDOGS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(600);

/// Variables that the agent itself gives to applications (sd_notify(3) and our own).
const RESERVED_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
const RESERVED_PREFIX: &str = "TAKEOVER_";

/// Parts of variable names that hold secrets as a rule.
const SECRET_WORDS: [&str; 5] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "PRIVATE_KEY"];

/// Reads all applications.
pub(crate) fn applications(root: &Table<'_>, names: &Names) -> BTreeMap<AppName, Application> {
    named(root, "applications", "application", &APPLICATION, |name, table| application(name, table, names))
}

fn application(name: &AppName, table: &Table<'_>, names: &Names) -> Option<Application> {
    let host = table.require("host", "host = \"host1\"").and_then(|field| names.hosts.resolve(&field));
    let command = table
        .require("command", "command = [\"/usr/bin/takeover\", \"sip-server\"]")
        .and_then(|field| values::command(&field));
    let mode_control =
        table.get("mode-control").map_or(Some(ModeControl::Socket), |field| mode_control(name, &field));
    // Whoever speaks the mode socket was made to be supervised: it tells its readiness and sends heartbeats. Of another
    // program that is not known; to expect it would fail a healthy one.
    let supervised = mode_control.as_ref().is_none_or(|control| *control == ModeControl::Socket);
    let application = Application {
        host: host?,
        command: command?,
        directory: table.get("directory").and_then(|field| values::absolute_path(&field)),
        environment: table.get("environment").map(|field| environment(&field)).unwrap_or_default(),
        user: table.get("user").and_then(|field| user(&field)),
        mode_control: mode_control?,
        autostart: autostart(name, table, names),
        restart: table.get("restart").map_or_else(RestartPolicy::default, |field| restart(name, &field)),
        notify: table.boolean("notify", supervised),
        start_limit: table.duration("start-limit", SECOND..=HOUR, START_LIMIT),
        stop_limit: table.duration("stop-limit", SECOND..=HOUR, STOP_LIMIT),
        suspend_limit: table.duration("suspend-limit", 5 * SECOND..=600 * SECOND, SUSPEND_LIMIT),
        watchdog: table.get("watchdog").map_or(supervised.then_some(WATCHDOG), |field| watchdog(&field)),
        on_hang: table
            .get("on-hang")
            .and_then(|field| field.choice(&[("restart", OnHang::Restart), ("report", OnHang::Report)]))
            .unwrap_or(OnHang::Restart),
        probe: table.get("probe").and_then(|field| probe(name, &field)),
    };
    Some(application)
}

/// Neither member of a cold pair starts by itself: the SCS starts the one that is to serve.
fn autostart(name: &AppName, table: &Table<'_>, names: &Names) -> bool {
    let cold = names.cold.contains(name);
    let autostart = table.boolean("autostart", !cold);
    if let Some(field) = table.get("autostart").filter(|_| cold && autostart) {
        field.warning(
            || format!("application \"{name}\" starts by itself though its pair is in cold standby"),
            |f| {
                f.label("its agent starts it, needed or not").help(
                    "leave `autostart` away: the SCS starts a member of a cold pair when it is to serve"
                        .to_owned(),
                )
            },
        );
    }
    autostart
}

fn environment(field: &Field<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for entry in field.entries("a table of strings such as { LANG = \"C\" }") {
        let name = entry.name;
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !well_formed {
            entry.key_error(
                || format!("{} is not the name of an environment variable", shown(name)),
                |f| f.label("expected letters, digits and '_', no digit first"),
            );
        } else if RESERVED_VARIABLES.contains(&name) || name.starts_with(RESERVED_PREFIX) {
            entry.key_error(
                || format!("the environment variable {} cannot be set here", shown(name)),
                |f| f.label("set by the agent"),
            );
        } else if SECRET_WORDS.iter().any(|word| name.to_ascii_uppercase().contains(word)) {
            entry.key_warning(|| format!("the environment variable {} looks like a secret", shown(name)), |f| {
                    f.label("readable by whoever may read the configuration").help(
                        "this file goes to every agent and its versions are kept: put the secret into a file that only \
                         the application may read, and name that file here"
                            .to_owned(),
                    )
                });
        }
        if let Some(value) = entry.string("a string") {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    variables
}

/// A user's name as useradd(8) allows it, or a numeric id.
fn user(field: &Field<'_>) -> Option<String> {
    let expected = "a user's name or number";
    let name = field.string(expected)?;
    let valid = !name.is_empty()
        && name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !valid {
        field.error(
            || format!("`user`: {} cannot be a user's name", shown(name)),
            |f| f.label(format!("expected {expected}")),
        );
    }
    valid.then(|| name.to_owned())
}

fn watchdog(field: &Field<'_>) -> Option<Duration> {
    if field.is_boolean() {
        if field.boolean() == Some(true) {
            field.error(
                || "`watchdog` does not say how long".to_owned(),
                |f| f.label("expected a duration such as \"1s\", or false for none"),
            );
        }
        return None;
    }
    field.duration(WATCHDOGS)
}

fn restart(name: &AppName, field: &Field<'_>) -> RestartPolicy {
    let default = RestartPolicy::default();
    if field.is_boolean() {
        return RestartPolicy { auto: field.boolean().unwrap_or(default.auto), ..default };
    }
    if !field.is_table() {
        field.wrong_type("true, false, or a table with the keys auto, delay, attempts", None);
        return default;
    }
    let Some(table) = field.table(&RESTART, format!("`restart` of application \"{name}\"")) else {
        return default;
    };
    RestartPolicy {
        auto: table.boolean("auto", default.auto),
        delay: table.duration("delay", Duration::ZERO..=MINUTE, default.delay),
        attempts: table.integer("attempts", 1..=1_000, default.attempts),
    }
}

fn mode_control(name: &AppName, field: &Field<'_>) -> Option<ModeControl> {
    if field.is_string() {
        return field.choice(&[("socket", ModeControl::Socket), ("none", ModeControl::None)]);
    }
    let table = field.table(&MODE_CONTROL, format!("`mode-control` of application \"{name}\""))?;
    match (table.get("command"), table.get("signal")) {
        (Some(command), None) => Some(ModeControl::Command {
            command: values::command(&command)?,
            time_limit: table.duration("time-limit", 10 * MILLISECOND..=10 * MINUTE, MODE_LIMIT),
        }),
        (None, Some(signal)) => {
            if let Some(limit) = table.get("time-limit") {
                limit.key_error(
                    || "a signal has no `time-limit`".to_owned(),
                    |f| f.label("only with `command`"),
                );
            }
            mode_signal(name, &signal)
        }
        (Some(_), Some(signal)) => {
            signal.key_error(
                || format!("{} has both `command` and `signal`", table.title),
                |f| f.label("`command` is given as well"),
            );
            None
        }
        (None, None) => {
            table.error(
                || format!("{} says neither `command` nor `signal`", table.title),
                |f| f.label("expected `command` or `signal`"),
            );
            None
        }
    }
}

fn mode_signal(name: &AppName, field: &Field<'_>) -> Option<ModeControl> {
    const SIGNALS: [(&str, Signal); 3] =
        [("HUP", Signal::Hup), ("USR1", Signal::Usr1), ("USR2", Signal::Usr2)];
    let table = field.table(&MODE_SIGNAL, format!("`signal` of application \"{name}\""))?;
    let primary = table.require("primary", "primary = \"USR1\"").and_then(|field| field.choice(&SIGNALS));
    let backup = table.require("backup", "backup = \"USR2\"").and_then(|field| field.choice(&SIGNALS));
    let (primary, backup) = (primary?, backup?);
    if primary == backup {
        table.error(
            || format!("application \"{name}\" cannot tell the modes apart by one signal"),
            |f| f.label("both the same"),
        );
    }
    Some(ModeControl::Signal { primary, backup })
}

/// What a probe asks, before its target is read.
#[derive(Clone, Copy)]
enum Asks {
    Process,
    Tcp,
    Http,
    SipOptions,
    Command,
}

fn probe(name: &AppName, field: &Field<'_>) -> Option<Probe> {
    let table = field.table(&PROBE, format!("`probe` of application \"{name}\""))?;
    let kind = table.require("kind", "kind = \"sip-options\"").and_then(|field| {
        field.choice(&[
            ("process", Asks::Process),
            ("tcp", Asks::Tcp),
            ("http", Asks::Http),
            ("sip-options", Asks::SipOptions),
            ("command", Asks::Command),
        ])
    });
    let every = table.duration("every", 50 * MILLISECOND..=HOUR, SECOND);
    let timeout = table.duration("timeout", 10 * MILLISECOND..=MINUTE, every.min(500 * MILLISECOND));
    if let Some(field) = table.get("timeout").filter(|_| timeout > every) {
        field.error(
            || format!("{} asks again before its answer is due", table.title),
            |f| f.label(format!("expected at most `every`, {}", domain::format_duration(every))),
        );
    }
    let failures = table.integer("failures", 1..=100, 2);
    Some(Probe { kind: probe_kind(kind?, &table)?, every, timeout, failures })
}

fn probe_kind(asks: Asks, table: &Table<'_>) -> Option<ProbeKind> {
    let target = || {
        table
            .require("target", "target = \"127.0.0.1:5060\"")
            .and_then(|f| values::socket_address(&f, "127.0.0.1:5060"))
    };
    let (kind, used): (_, &[&str]) = match asks {
        Asks::Process => (Some(ProbeKind::Process), &[]),
        Asks::Tcp => (target().map(|target| ProbeKind::Tcp { target }), &["target"]),
        Asks::SipOptions => (target().map(|target| ProbeKind::SipOptions { target }), &["target"]),
        Asks::Http => {
            let path = table.get("path").map_or(Some("/".to_owned()), |field| http_path(&field));
            (target().zip(path).map(|(target, path)| ProbeKind::Http { target, path }), &["target", "path"])
        }
        Asks::Command => {
            let command = table.require("command", "command = [\"/usr/local/bin/check\"]");
            (
                command.and_then(|f| values::command(&f)).map(|command| ProbeKind::Command { command }),
                &["command"],
            )
        }
    };
    for key in ["target", "path", "command"] {
        if let Some(field) = table.get(key).filter(|_| !used.contains(&key)) {
            field.key_error(
                || format!("{} has a `{key}` that it does not use", table.title),
                |f| f.label("has no meaning for this kind of probe"),
            );
        }
    }
    kind
}

/// A path that can stand in a request line (RFC 9112, section 3.2.1): no spaces, visible ASCII.
fn http_path(field: &Field<'_>) -> Option<String> {
    let path = field.string("a path such as \"/health\"")?;
    let valid = path.starts_with('/') && path.len() <= 1_024 && path.bytes().all(|b| b.is_ascii_graphic());
    if !valid {
        field.error(
            || format!("`path`: {} cannot be asked for", shown(path)),
            |f| f.label("expected a path: begins with '/', visible ASCII without spaces"),
        );
    }
    valid.then(|| path.to_owned())
}
