//! A file as a whole: reads it, bounded, parses it, and puts the cluster together from its sections. Applications, pairs
//! and Alarm Conditions have files of their own.

use crate::names::{Names, named};
use crate::pair::AddressBook;
use crate::reader::{Field, Finding, Sink, Table, shown};
use crate::report::{Report, masked};
use crate::schema::{CLUSTER, HOST, ROOT, SCRIPT, SCS, SCS_WEB, Section};
use crate::sip_ports::Ports;
use crate::values::{self, DAY, HOUR, SECOND};
use crate::{
    Checked, DEFAULT_PEER_PORT, DEFAULT_PORT, MAX_FILE, application, condition, oidc, pair, solution,
};
use domain::{
    AlarmCondition, AppName, Application, Cluster, Host, HostName, ModeControl, Pair, PairName, Reaction,
    Redundancy, Script, ScriptName, ScsSettings, VipControl, WebSettings,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use toml::de::DeTable;

/// Name of an installation that has none.
const DEFAULT_NAME: &str = "takeover";

/// Largest SIP settings of all pairs of a host, as the message to its agent has them, bytes: with all the rest below the
/// largest frame of the control link (1 MiB).
const MAX_SIP: usize = 832 * 1024;

/// Most mistakes of syntax looked at: of a file that is not TOML at all, each character may be one.
const MAX_SYNTAX_ERRORS: usize = 1_000;

/// The least that a file may have.
const MINIMAL: &str = "begin with a line [hosts.host1] and below it a line address = \"192.0.2.11\"";

/// Reads the cluster file at `path`.
///
/// # Errors
/// The report of everything that is wrong with it, or of why it cannot be read.
pub fn load_cluster(path: &Path) -> Checked<Cluster> {
    check_cluster(path, &read_text(path)?)
}

/// Reads `text`, which is that of the cluster file at `path`.
///
/// # Errors
/// The report of everything that is wrong with it.
pub fn check_cluster(path: &Path, text: &str) -> Checked<Cluster> {
    let (cluster, mut report) = parse_cluster(&path.display().to_string(), text)?;
    let mode = std::fs::metadata(path).map_or(0, |found| found.mode());
    let has_secrets = |pair: &Pair| pair.sip.as_ref().is_some_and(|sip| !sip.users.is_empty());
    if mode & 0o007 != 0 && cluster.pairs.values().any(has_secrets) {
        let help = format!("run: chmod o= {}", path.display());
        report.warn("has secrets of SIP users in it and can be read by everybody", &help);
    }
    Ok((cluster, report))
}

/// Reads a cluster file's text; `path` is what the report calls it.
///
/// # Errors
/// The report of everything that is wrong with it.
pub fn parse_cluster(path: &str, text: &str) -> Checked<Cluster> {
    check_file(path, text, &ROOT, cluster)
}

/// Reads the file at `path` as text, at most [`MAX_FILE`] bytes.
///
/// # Errors
/// The report of why it cannot be read.
pub fn read_text(path: &Path) -> Result<String, Box<Report>> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)).map_err(
        |e| Report::unreadable(&name, format!("cannot be read: {e}"), "check the path and its permissions"),
    )?;
    check_size(&name, bytes.len())?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let message = format!("line {line} is not text: byte {at} of the file is not UTF-8");
        Report::unreadable(&name, message, "save the file in UTF-8")
    })
}

/// Parses `text` and lets `read` take its top level, a table of `section`. Without errors the value comes back with the
/// warnings.
pub(crate) fn check_file<T>(
    path: &str,
    text: &str,
    section: &'static Section,
    read: impl for<'t> FnOnce(&'t Sink<'t>, &Table<'t>) -> Option<T>,
) -> Checked<T> {
    check_size(path, text.len())?;
    let sink = Sink::new(text);
    let (root, mut syntax_errors) = DeTable::parse_recoverable(text);
    syntax_errors.sort_by_key(|error| error.span().map(|span| span.start));
    // Of a line only the first: what the parser says behind it follows from that.
    let mut lines = BTreeSet::new();
    for error in syntax_errors.iter().take(MAX_SYNTAX_ERRORS) {
        let at = text.floor_char_boundary(error.span().map_or(0, |span| span.start));
        if lines.insert(text[..at].rfind('\n')) {
            sink.error(|| syntax(text, error));
        }
    }
    // What broken syntax leaves over would only give errors that mislead; a key given twice leaves all the rest.
    let value = if syntax_errors.iter().all(is_duplicate) {
        // The file as a whole has no line of its own: what it lacks is reported at its beginning.
        read(&sink, &Table::new(&sink, root.get_ref(), 0..0, section, "the file".to_owned()))
    } else {
        None
    };
    let failed = sink.has_errors();
    let report = sink.into_report(path);
    match value {
        Some(value) if !failed => Ok((value, report)),
        Some(_) | None => {
            assert!(failed, "a file without a value has an error that says why");
            Err(Box::new(report))
        }
    }
}

fn check_size(path: &str, bytes: usize) -> Result<(), Box<Report>> {
    if bytes <= MAX_FILE {
        return Ok(());
    }
    let message = format!("is larger than {}", crate::format_size(MAX_FILE as u64));
    Err(Report::unreadable(path, message, "check that this is the file that you meant"))
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message() == "duplicate key"
}

/// A mistake of syntax, in words for people who do not write TOML every day where it is one that they make, else in
/// the parser's.
fn syntax(text: &str, error: &toml::de::Error) -> Finding {
    let span = error.span().unwrap_or(0..0);
    let at = text.floor_char_boundary(span.start);
    let before = text[..at].rsplit('\n').next().unwrap_or_default();
    let rest = text[at..].split('\n').next().unwrap_or_default();
    // The parser's message is "what is wrong, expected this"; the second half belongs under the text.
    let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if is_duplicate(error) {
        let key = text.get(span.clone()).unwrap_or_default();
        Finding::new(span, format!("`{key}` is defined twice"))
            .label("the second time")
            .help("a table or key may stand only once; put everything of it in one place".to_owned())
    } else if !before.contains('=') && (before.contains(':') || rest.starts_with(':')) {
        Finding::new(span, "a key and its value are joined by '='").label("expected '='")
    } else if before.trim_end().ends_with('=') && rest.trim().is_empty() {
        Finding::new(span, "a key has no value").label("expected a value such as \"text\", 5 or true")
    } else if let Some(equals) =
        before.find('=').filter(|_| says(&["quoted", "float", "integer", "number", "date"]))
    {
        let line = at - before.len();
        let value = text[line + equals + 1..at + rest.len()].split('#').next().unwrap_or_default().trim();
        let start = line + equals + 1 + text[line + equals + 1..].find(value).unwrap_or(0);
        // It may be a secret.
        let masked = masked(text);
        let value = &masked[start..start + value.len()];
        Finding::new(start..start + value.len(), "a value is neither a number nor in quotation marks")
            .label(format!("expected {}, if it is text", shown(value)))
    } else {
        let label =
            if matches!(expected, "" | "nothing") { String::new() } else { format!("expected {expected}") };
        let help = if message == "missing escaped value" {
            Some("write a backslash twice, or the string in single quotation marks, which know no escapes")
        } else if says(&["basic string", "literal string"]) {
            Some("a string ends in the line in which it begins, with a quotation mark")
        } else {
            None
        };
        Finding::new(span, message).label(label).help(help.map(str::to_owned))
    }
}

fn cluster<'t>(sink: &'t Sink<'t>, root: &Table<'t>) -> Option<Cluster> {
    let names = Names::collect(root.raw());
    let mut addresses = AddressBook::default();
    if root.get("hosts").is_none() {
        root.error(
            || "the file has no hosts".to_owned(),
            |f| f.label("expected a table [hosts.NAME] for each host").help(MINIMAL.to_owned()),
        );
    }
    let scs = root
        .get("scs")
        .and_then(|field| field.table(&SCS, "[scs]".to_owned()))
        .map_or_else(default_scs, |table| scs(&table));
    let taken = scs.listen.iter().map(|at| ("listen", *at));
    let web = scs.web.as_ref().map(|web| ("web", web.listen));
    let taken: Vec<_> = taken.chain(scs.api_listen.map(|at| ("api-listen", at))).chain(web).collect();
    let hosts = named(root, "hosts", "host", &HOST, |name, table| host(name, table, &mut addresses, &taken));
    let scripts = named(root, "scripts", "script", &SCRIPT, script);
    let applications = application::applications(root, &names);
    let pairs = pair::pairs(root, &names, &mut addresses, Ports::new(&hosts, &taken));
    let solutions = solution::solutions(root, &names, &pairs);
    let alarm_conditions = condition::conditions(root, &names, &pairs);
    // With errors elsewhere, what these miss may be in what could not be read.
    if !sink.has_errors() {
        check_size_of_sip(sink, &names, &pairs, &applications);
        warn_of_unused_scripts(sink, &names, &pairs, &alarm_conditions);
        warn_of_mute_members(sink, &names, &pairs, &applications);
    }
    let name = root
        .get("cluster")
        .and_then(|field| field.table(&CLUSTER, "[cluster]".to_owned()))
        .map_or_else(|| Some(DEFAULT_NAME.to_owned()), |table| cluster_name(&table));
    Some(Cluster { name: name?, scs, hosts, applications, pairs, solutions, scripts, alarm_conditions })
}

fn cluster_name(table: &Table<'_>) -> Option<String> {
    let Some(field) = table.get("name") else { return Some(DEFAULT_NAME.to_owned()) };
    let expected = "a string of 1 to 64 characters";
    let name = field.string(expected)?;
    if name.is_empty() || name.chars().count() > 64 {
        field.error(
            || "`name` is of the wrong length".to_owned(),
            |f| f.label(format!("expected {expected}")),
        );
        return None;
    }
    Some(name.to_owned())
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))]
}

fn default_scs() -> ScsSettings {
    ScsSettings { listen: default_listen(), ..ScsSettings::default() }
}

fn scs(table: &Table<'_>) -> ScsSettings {
    let default = default_scs();
    let listen =
        table.get("listen").and_then(|field| values::socket_addresses(&field)).unwrap_or(default.listen);
    let api_listen = table
        .get("api-listen")
        .and_then(|field| port_of_its_own(&field, "192.0.2.10:7402", &[("listen", &listen)]));
    let taken_by_api: Vec<SocketAddr> = api_listen.into_iter().collect();
    let web =
        table.get("web").and_then(|field| web(&field, &[("listen", &listen), ("api-listen", &taken_by_api)]));
    ScsSettings {
        listen,
        api_listen,
        oidc: oidc::oidc(table, web.is_some()),
        web,
        otlp: table.get("otlp").and_then(|field| values::socket_address(&field, "127.0.0.1:4318")),
        keep: table.duration("keep", HOUR..=3_650 * DAY, default.keep),
        keep_bytes: table
            .get("keep-size")
            .and_then(|f| f.size(16 << 20..=1 << 40))
            .unwrap_or(default.keep_bytes),
        boot_grace: table.duration("boot-grace", Duration::ZERO..=600 * SECOND, default.boot_grace),
        agent_grace: table.duration("agent-grace", Duration::ZERO..=HOUR, default.agent_grace),
    }
}

/// The web port with its certificate.
fn web(field: &Field<'_>, taken: &[(&str, &[SocketAddr])]) -> Option<WebSettings> {
    let table = field.table(&SCS_WEB, "[scs.web]".to_owned())?;
    let listen = table.require("listen", "listen = \"192.0.2.10:7443\"");
    let listen = listen.and_then(|field| port_of_its_own(&field, "192.0.2.10:7443", taken));
    let certificate = match (table.get("certificate"), table.get("key")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (values::absolute_path(&certificate), values::absolute_path(&key));
            Some((certificate?, key?))
        }
        (Some(alone), None) | (None, Some(alone)) => {
            alone.error(
                || "a certificate and its private key go together".to_owned(),
                |f| {
                    f.label("without the other").help(
                        "give both `certificate` and `key`, or neither: then it is the SCS's own certificate"
                            .to_owned(),
                    )
                },
            );
            return None;
        }
    };
    let address = table.get("address").and_then(|field| oidc::web_address(&field));
    Some(WebSettings { listen: listen?, certificate, address })
}

/// A port of the SCS that nothing else of the SCS has.
fn port_of_its_own(field: &Field<'_>, example: &str, taken: &[(&str, &[SocketAddr])]) -> Option<SocketAddr> {
    let address = values::socket_address(field, example)?;
    // Each port speaks another protocol; a wildcard address takes the port on every address.
    let clash = |other: &SocketAddr| {
        other.port() == address.port()
            && (other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified())
    };
    if let Some((owner, _)) = taken.iter().find(|(_, addresses)| addresses.iter().any(clash)) {
        let name = field.name;
        field.error(
            || format!("`{name}` and `{owner}` both want port {}", address.port()),
            |f| {
                let (_, free) = example.rsplit_once(':').unwrap_or_default();
                f.label(format!("taken by `{owner}`"))
                    .help(format!("give the API a port of its own, such as {free}"))
            },
        );
    }
    // Whether an agent runs beside the SCS is not in the file; where a host has this very address, that is an error below.
    if address.ip().is_unspecified() && address.port() == DEFAULT_PEER_PORT {
        let name = field.name;
        field.warning(
            || format!("`{name}` takes port {DEFAULT_PEER_PORT} of every address of the SCS's machine"),
            |f| {
                f.label("where an agent listens for the other agents, unless told otherwise")
                    .help("where the SCS runs on one of the hosts, use another port, such as 7402".to_owned())
            },
        );
    }
    Some(address)
}

/// The SIP settings of all pairs of a host go to its agent in one message.
fn check_size_of_sip(
    sink: &Sink<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
    applications: &BTreeMap<AppName, Application>,
) {
    let mut sizes: BTreeMap<&HostName, (usize, Option<&PairName>)> = BTreeMap::new();
    for (name, pair) in pairs {
        let Some(sip) = &pair.sip else { continue };
        let size = serde_json::to_vec(sip).map_or(0, |text| text.len());
        for host in pair.members.iter().filter_map(|app| applications.get(app)).map(|app| &app.host) {
            let (sum, last) = sizes.entry(host).or_default();
            *sum += size;
            *last = Some(name);
        }
    }
    let largest = sizes.iter().max_by_key(|(_, (size, _))| *size);
    let Some((host, (size, Some(last)))) = largest.filter(|(_, (size, _))| *size > MAX_SIP) else { return };
    let Some(span) = names.pairs.names.get(*last) else { return };
    sink.error(|| {
        let message =
            format!("the SIP settings of host \"{host}\" are too many: {} KiB", size.div_ceil(1_024));
        Finding::new(span.clone(), message)
            .label(format!("expected at most {} KiB in all pairs of a host", MAX_SIP / 1_024))
            .help("about 4,000 users fit; divide them among pairs on other hosts".to_owned())
    });
}

/// `taken`: where the SCS listens, each with its key.
fn host(
    name: &HostName,
    table: &Table<'_>,
    addresses: &mut AddressBook,
    taken: &[(&str, SocketAddr)],
) -> Option<Host> {
    let field = table.require("address", "address = \"192.0.2.11\"")?;
    let address = values::ip_address(&field)?;
    addresses.claim(address, format!("the address of host \"{name}\""), &field);
    let peer_address = table.get("peer-address").and_then(|field| {
        let at = values::socket_address(&field, "192.0.2.11:7401")?;
        if at.ip().is_unspecified() || at.ip().is_multicast() {
            field.error(
                || format!("`{}`: {} is no machine's address", field.name, at.ip()),
                |f| f.label("expected an address of this host that the others reach"),
            );
        } else if at.ip().to_canonical() != address.to_canonical() {
            addresses.claim(at.ip(), format!("the address of host \"{name}\" for other agents"), &field);
        }
        if let Some((key, _)) = taken.iter().find(|(_, other)| *other == at) {
            field.error(
                || format!("`{}` and `{key}` are both {at}", field.name),
                |f| {
                    f.label(format!("taken by `{key}` of [scs]"))
                        .help(format!("give the agent another port, such as \"{}:7403\"", at.ip()))
                },
            );
        }
        Some(at)
    });
    let by_default = SocketAddr::new(address, DEFAULT_PEER_PORT);
    if let (None, Some((key, _))) = (peer_address, taken.iter().find(|(_, other)| *other == by_default)) {
        field.error(
            || format!("the agent of host \"{name}\" listens at {by_default}, and so does `{key}` of [scs]"),
            |f| f.help(format!("add a line such as: peer-address = \"{address}:7403\"")),
        );
    }
    Some(Host { address, peer_address })
}

fn script(name: &ScriptName, table: &Table<'_>) -> Option<Script> {
    if name.as_str() == pair::BUILT_IN {
        table.error(
            || format!("\"{}\" is the agent's own VIP control and cannot name a script", pair::BUILT_IN),
            |f| f.label("choose another name"),
        );
    }
    let command = table.require("command", "command = [\"/etc/takeover/my-script.sh\"]");
    let time_limit = table.duration("time-limit", values::SCRIPT_LIMITS, values::SCRIPT_LIMIT);
    Some(Script { command: values::command(&command?)?, time_limit })
}

fn warn_of_unused_scripts(
    sink: &Sink<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
    conditions: &BTreeMap<String, AlarmCondition>,
) {
    let mut used = BTreeSet::new();
    for vip in pairs.values().flat_map(|pair| &pair.vips) {
        match &vip.control {
            VipControl::BuiltIn => {}
            VipControl::Script(script) => {
                used.insert(script);
            }
        }
    }
    for reaction in conditions.values().flat_map(|c| c.reactions.iter().chain(&c.clearance_reactions)) {
        match reaction {
            Reaction::Launch { script, .. } => {
                used.insert(script);
            }
            Reaction::DisableVipOnOther { .. }
            | Reaction::EnableVip { .. }
            | Reaction::DisableVip { .. }
            | Reaction::Start { .. }
            | Reaction::Stop { .. }
            | Reaction::Restart { .. }
            | Reaction::SwitchOver { .. }
            | Reaction::StartSolution { .. }
            | Reaction::StopSolution { .. } => {}
        }
    }
    for (script, span) in &names.scripts.names {
        if !used.contains(script) {
            sink.warning(|| {
                Finding::new(span.clone(), format!("script \"{script}\" is never launched"))
                    .label("no VIP and no alarm reaction names it")
            });
        }
    }
}

/// Hot standby rests on the backup's word that it is in step, and only the mode socket carries that word.
fn warn_of_mute_members(
    sink: &Sink<'_>,
    names: &Names,
    pairs: &BTreeMap<PairName, Pair>,
    applications: &BTreeMap<AppName, Application>,
) {
    for (name, pair) in pairs.iter().filter(|(_, pair)| pair.redundancy == Redundancy::Hot) {
        let mute =
            |app: &&AppName| applications.get(*app).is_some_and(|a| a.mode_control != ModeControl::Socket);
        let (Some(member), Some(span)) = (pair.members.iter().find(mute), names.pairs.names.get(name)) else {
            continue;
        };
        sink.warning(|| {
            let message =
                format!("\"{member}\" of pair \"{name}\" cannot say whether it is ready for hot standby");
            Finding::new(span.clone(), message).label("a backup that lacks calls would take over").help(
                "only mode-control = \"socket\" can carry that; use redundancy = \"warm\" without it"
                    .to_owned(),
            )
        });
    }
}
