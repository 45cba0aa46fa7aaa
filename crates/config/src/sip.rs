//! `[pairs.NAME.sip]`: settings of a pair's SIP Servers. Secrets are read here and shown nowhere, in no report either.

use crate::names::named;
use crate::reader::{Field, Span, Table, did_you_mean, one_of, shown};
use crate::schema::{
    SIP, SIP_CHOICE, SIP_LIMITS, SIP_REGISTRATIONS, SIP_REPLICATION, SIP_ROUTE, SIP_TIMERS, SIP_TLS,
    SIP_TRUNK, SIP_USER,
};
use crate::values::{self, DAY, HOUR, MILLISECOND, MINUTE, SECOND};
use domain::{
    MOST_LOGGED_CALLS, PairName, SipChoice, SipCredentials, SipLimits, SipListen, SipName, SipRegistrations,
    SipReplication, SipRoute, SipSecret, SipSettings, SipTimers, SipTls, SipTransport, SipTrunk, SipUser,
    Vip, logged_calls,
};
use sip_proto::digest::{Algorithm, secret};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Most domains, listen addresses, users, trunks, addresses of a trunk, routes, and trunks of a route. Users are bounded by
/// what fits into a message to an agent, too (`file.rs`).
const MAX_DOMAINS: usize = 32;
const MAX_LISTEN: usize = 16;
const MAX_USERS: usize = 10_000;
const MAX_TRUNKS: usize = 256;
const MAX_SOURCES: usize = 64;
const MAX_ROUTES: usize = 1_024;
const MAX_CHOICES: usize = 16;
/// Longest domain name (RFC 1035, section 2.3.4) and longest called number, bytes.
const MAX_DOMAIN: usize = 253;
const MAX_DIGITS: usize = 64;
/// Longest password, bytes.
const MAX_PASSWORD: u64 = 1_024;

/// How often a trunk is asked whether it is there, and how many answers may stay out, unless the file says otherwise.
const PROBE: Duration = Duration::from_secs(30);
const PROBE_FAILURES: u32 = 3;

const TRANSPORTS: [(&str, SipTransport); 3] =
    [("udp", SipTransport::Udp), ("tcp", SipTransport::Tcp), ("tls", SipTransport::Tls)];

/// Reads the settings of a pair's SIP Servers.
pub(crate) fn settings(pair: &PairName, field: &Field<'_>, vips: &[Vip]) -> Option<SipSettings> {
    let table = field.table(&SIP, format!("`sip` of pair \"{pair}\""))?;
    let domains = table.require("domains", "domains = [\"example.com\"]").and_then(|field| domains(&field));
    let listen = match table.get("listen") {
        Some(field) => listen(&field, vips),
        None => Some(default_listen(vips)),
    };
    let tls = table.get("tls").and_then(|field| tls(pair, &field));
    check_tls(&table, listen.as_deref(), tls.is_some() || table.get("tls").is_some());
    let realm = domains.as_ref().and_then(|domains| domains.first());
    let users = users(&table, realm.map(String::as_str));
    let trunks = trunks(&table, listen.as_deref().unwrap_or_default());
    let routes = routes(&table, &trunk_names(&table));
    warn_of_what_does_nothing(&table, &trunks, &routes);
    let replication =
        table.get("replication").map_or_else(SipReplication::default, |field| replication(pair, &field));
    Some(SipSettings {
        registrations: table
            .get("registrations")
            .map_or_else(SipRegistrations::default, |field| registrations(pair, &field)),
        limits: table.get("limits").map_or_else(SipLimits::default, |field| limits(pair, &field)),
        timers: table.get("timers").map_or_else(SipTimers::default, |field| timers(pair, &field)),
        replication,
        http_port: table.get("http-port").and_then(|field| port(&field)),
        cdr_directory: table.get("cdr-directory").and_then(|field| values::absolute_path(&field)),
        cdr_log: table.get("cdr-log").map_or_else(|| Some(logged_calls()), |field| cdr_log(&field))?,
        domains: domains?,
        listen: listen?,
        tls,
        users,
        trunks,
        routes,
    })
}

fn cdr_log(field: &Field<'_>) -> Option<u16> {
    field.integer(0..=u32::from(MOST_LOGGED_CALLS)).and_then(|number| u16::try_from(number).ok())
}

fn port(field: &Field<'_>) -> Option<u16> {
    field.integer(1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

/// Items of an array, at most `most` of them, and at least one; reported otherwise.
fn some_items<'t>(field: &Field<'t>, expected: &str, most: usize) -> Option<Vec<Field<'t>>> {
    let items = field.items(expected)?;
    if items.is_empty() || items.len() > most {
        field.error(
            || match items.len() {
                0 => format!("`{}` is empty", field.name),
                n => format!("`{}` has {n} items", field.name),
            },
            |f| f.label(format!("expected {expected}, 1 to {most}")),
        );
        return None;
    }
    Some(items)
}

/// A domain, in lower case.
fn domain(text: &str) -> Result<String, String> {
    let labels =
        || text.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let address = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if text.len() <= MAX_DOMAIN && (address || (text.chars().all(letters) && labels())) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{} is not the name of a domain", shown(text)))
    }
}

fn domains(field: &Field<'_>) -> Option<Vec<String>> {
    let expected = "an array of domains such as [\"example.com\"]";
    let mut domains = Vec::new();
    for item in some_items(field, expected, MAX_DOMAINS)? {
        let Some(name) = item.understood("a domain such as \"example.com\"", domain) else { continue };
        if domains.contains(&name) {
            item.error(|| format!("`domains` lists {name} twice"), |f| f.label("listed before"));
        }
        domains.push(name);
    }
    Some(domains)
}

// ---- where it listens

/// UDP and TCP at port 5060 of each VIP.
fn default_listen(vips: &[Vip]) -> Vec<SipListen> {
    let both = |vip: &Vip| {
        let address = SocketAddr::new(vip.address.address, 5060);
        [SipTransport::Udp, SipTransport::Tcp].map(|transport| SipListen { transport, address })
    };
    vips.iter().flat_map(both).take(MAX_LISTEN).collect()
}

fn listen_address(text: &str) -> Result<SipListen, String> {
    let (word, rest) = text.split_once(':').ok_or_else(|| format!("{} names no transport", shown(text)))?;
    let transport = TRANSPORTS.iter().find(|(name, _)| *name == word).map(|(_, transport)| *transport);
    let transport = transport.ok_or_else(|| {
        format!("{} is not a transport: {}", shown(word), one_of(TRANSPORTS.iter().map(|(n, _)| *n)))
    })?;
    let default = if transport == SipTransport::Tls { 5061 } else { 5060 };
    let bare = rest.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let address = match (rest.parse::<SocketAddr>(), bare) {
        (Ok(address), _) if address.port() != 0 => address,
        (Err(_), Ok(ip)) => SocketAddr::new(ip, default),
        (Ok(_) | Err(_), _) => return Err(format!("{} is not an address with a port", shown(rest))),
    };
    Ok(SipListen { transport, address })
}

fn listen(field: &Field<'_>, vips: &[Vip]) -> Option<Vec<SipListen>> {
    let expected = "an array of addresses such as [\"udp:192.0.2.100:5060\"]";
    let mut all: Vec<SipListen> = Vec::new();
    for item in some_items(field, expected, MAX_LISTEN)? {
        let one =
            "a transport and an address such as \"udp:192.0.2.100:5060\" or \"tls:[2001:db8::100]:5061\"";
        let Some(listen) = item.understood(one, listen_address) else { continue };
        let ip = listen.address.ip();
        if !vips.iter().any(|vip| vip.address.address == ip) {
            let addresses: Vec<String> = vips.iter().map(|vip| vip.address.address.to_string()).collect();
            item.error(
                || format!("`listen`: {ip} is no VIP of this pair"),
                |f| {
                    f.label("not one of `vips`").help(match addresses.as_slice() {
                        [] => "give the pair a VIP: callers reach the primary there, whichever host it is on"
                            .to_owned(),
                        some => format!("the VIPs of this pair are: {}", some.join(", ")),
                    })
                },
            );
        }
        // TLS runs over TCP.
        let is_datagrams = |listen: &SipListen| listen.transport == SipTransport::Udp;
        let same = |other: &SipListen| {
            other.address == listen.address && is_datagrams(other) == is_datagrams(&listen)
        };
        if let Some(other) = all.iter().find(|other| same(other)) {
            let taken = format!("taken by \"{}:{}\"", other.transport, other.address);
            item.error(|| format!("`listen` names {} twice", listen.address), |f| f.label(taken));
        }
        all.push(listen);
    }
    Some(all)
}

fn tls(pair: &PairName, field: &Field<'_>) -> Option<SipTls> {
    let table = field.table(&SIP_TLS, format!("`sip.tls` of pair \"{pair}\""))?;
    let certificate = table.require("certificate", "certificate = \"/etc/takeover/sip/certificate.pem\"");
    let key = table.require("key", "key = \"/etc/takeover/sip/key.pem\"");
    let (certificate, key) =
        (certificate.and_then(|f| values::absolute_path(&f)), key.and_then(|f| values::absolute_path(&f)));
    let ca = match table.get("ca") {
        Some(field) => Some(values::absolute_path(&field)?),
        None => None,
    };
    Some(SipTls { certificate: certificate?, key: key?, ca })
}

fn check_tls(table: &Table<'_>, listen: Option<&[SipListen]>, has_tls: bool) {
    let Some(field) = table.get("listen").filter(|_| !has_tls) else { return };
    if listen.is_some_and(|all| all.iter().any(|listen| listen.transport == SipTransport::Tls)) {
        field.error(
            || format!("{} listens for TLS and has no certificate", table.title),
            |f| {
                f.label("needs `tls`").help(
                    "add a line such as: tls = { certificate = \"/etc/takeover/sip/certificate.pem\", \
                     key = \"/etc/takeover/sip/key.pem\" }"
                        .to_owned(),
                )
            },
        );
    }
}

// ---- who may call

fn users(table: &Table<'_>, realm: Option<&str>) -> BTreeMap<SipName, SipUser> {
    let users = named(table, "users", "user", &SIP_USER, |name: &SipName, user| {
        let secret = user_secret(name, user, realm);
        Some(SipUser {
            calls: user.get("calls").and_then(|field| field.integer(1..=10_000)),
            outside: user.boolean("outside", true),
            secret: secret?,
        })
    });
    too_many(table, "users", users.len(), MAX_USERS);
    users
}

fn too_many(table: &Table<'_>, key: &'static str, found: usize, most: usize) {
    if let Some(field) = table.get(key).filter(|_| found > most) {
        field.key_error(
            || format!("there are {found} {key}"),
            |f| f.label(format!("expected at most {most}")),
        );
    }
}

fn user_secret(name: &SipName, table: &Table<'_>, realm: Option<&str>) -> Option<SipSecret> {
    let (sha256, md5, file) = (table.get("sha256"), table.get("md5"), table.get("password-file"));
    if let Some(file) = file {
        if let Some(other) = sha256.or(md5) {
            other.key_error(
                || format!("{} has both `{}` and `password-file`", table.title, other.name),
                |f| f.label("made from the password anyway"),
            );
        }
        let password = password(&file)?;
        let of =
            |algorithm| realm.map(|realm| secret(algorithm, name.as_str(), realm, &password).to_string());
        return Some(SipSecret { sha256: of(Algorithm::Sha256), md5: of(Algorithm::Md5) });
    }
    if sha256.is_none() && md5.is_none() {
        let realm = realm.unwrap_or("REALM");
        table.error(
            || format!("{} has no password", table.title),
            |f| {
                f.label("`sha256`, `md5` or `password-file` is required here").help(format!(
                    "`takeover sip-user {name} {realm}` asks for a password and prints both lines"
                ))
            },
        );
        return None;
    }
    if let (Some(field), None) = (&sha256, &md5) {
        field.key_warning(
            || format!("{} has no `md5`", table.title),
            |f| {
                f.label("many phones know no other algorithm than MD5").help(
                    "`takeover sip-user` prints both; where all phones know SHA-256 this is right".to_owned(),
                )
            },
        );
    }
    Some(SipSecret { sha256: sha256.and_then(|f| digest(&f, 64)), md5: md5.and_then(|f| digest(&f, 32)) })
}

/// A digest in hexadecimal digits, in lower case as it goes into further digests (RFC 7616, section 3.4.1).
fn digest(field: &Field<'_>, digits: usize) -> Option<String> {
    let expected = format!("{digits} hexadecimal digits, as `takeover sip-user` prints them");
    let text = field.string(&expected)?;
    if text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(text.to_ascii_lowercase());
    }
    // What stands there may be a password: it is not repeated.
    field.error(|| format!("`{}` is not a digest", field.name), |f| f.label(format!("expected {expected}")));
    None
}

/// A password in a file of its own, on the machine of whoever reads the cluster file.
fn password(field: &Field<'_>) -> Option<String> {
    let path = values::absolute_path(field)?;
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| {
        let mode = file.metadata()?.mode();
        file.take(MAX_PASSWORD + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    let expected = "expected a file that holds the password and nothing else";
    match read {
        Err(e) => {
            field.error(|| format!("{} cannot be read: {e}", path.display()), |f| f.label(expected));
            return None;
        }
        Ok(mode) if mode & 0o077 != 0 => field.warning(
            || format!("{} can be read by others", path.display()),
            |f| f.label("holds a password").help(format!("run: chmod 600 {}", path.display())),
        ),
        Ok(_) => {}
    }
    let password = String::from_utf8(bytes).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let usable = password.filter(|password| {
        !password.is_empty()
            && password.len() as u64 <= MAX_PASSWORD
            && !password.chars().any(char::is_control)
    });
    if usable.is_none() {
        field.error(|| format!("{} does not hold a password", path.display()), |f| f.label(expected));
    }
    usable
}

// ---- trunks

fn trunk_names(table: &Table<'_>) -> BTreeSet<String> {
    let Some(field) = table.get("trunks").filter(Field::is_table) else { return BTreeSet::new() };
    field.entries("tables").into_iter().map(|entry| entry.name.to_owned()).collect()
}

fn trunks(table: &Table<'_>, listen: &[SipListen]) -> BTreeMap<SipName, SipTrunk> {
    let mut sources = BTreeMap::new();
    let trunks = named(table, "trunks", "trunk", &SIP_TRUNK, |name: &SipName, trunk| {
        let host = trunk.require("host", "host = \"sip.example.net\"");
        let host = host.and_then(|field| field.understood("a name or an address", domain));
        let transport = trunk.get("transport").and_then(|field| field.choice(&TRANSPORTS));
        Some(SipTrunk {
            port: trunk.get("port").and_then(|field| port(&field)),
            from: trunk.get("from").and_then(|field| from(&field, transport, listen)),
            transport,
            credentials: credentials(trunk),
            sources: trunk
                .get("sources")
                .map_or_else(Vec::new, |field| self::sources(&field, name, &mut sources)),
            probe: probe(trunk),
            probe_failures: trunk.integer("probe-failures", 1..=100, PROBE_FAILURES),
            calls: trunk.get("calls").and_then(|field| field.integer(1..=100_000)),
            host: host?,
        })
    });
    too_many(table, "trunks", trunks.len(), MAX_TRUNKS);
    trunks
}

fn from(field: &Field<'_>, transport: Option<SipTransport>, listen: &[SipListen]) -> Option<usize> {
    let wanted = field.understood("one of `listen`", listen_address)?;
    let found = listen.iter().position(|listen| *listen == wanted);
    let fits = transport.is_none_or(|transport| transport == wanted.transport);
    if found.is_none() || !fits {
        let all: Vec<String> = listen.iter().map(|l| format!("{}:{}", l.transport, l.address)).collect();
        field.error(
            || match found {
                None => format!("`from`: {}:{} is not listened at", wanted.transport, wanted.address),
                Some(_) => format!("`from` is an address for {}", wanted.transport),
            },
            |f| match found {
                None => f.label("not one of `listen`").help(format!("`listen` has: {}", all.join(", "))),
                Some(_) => f.label("`transport` is another one"),
            },
        );
        return None;
    }
    found
}

fn credentials(table: &Table<'_>) -> Option<SipCredentials> {
    match (table.get("username"), table.get("password-file")) {
        (None, None) => None,
        (Some(name), Some(file)) => {
            let username = name.string("a name").map(str::to_owned);
            let password = password(&file);
            Some(SipCredentials { username: username?, password: password? })
        }
        (Some(there), None) | (None, Some(there)) => {
            let lacks = if there.name == "username" { "password-file" } else { "username" };
            there.key_error(
                || format!("{} has `{}` and no `{lacks}`", table.title, there.name),
                |f| f.label("neither is of use without the other"),
            );
            None
        }
    }
}

fn sources(field: &Field<'_>, trunk: &SipName, taken: &mut BTreeMap<IpAddr, SipName>) -> Vec<IpAddr> {
    let Some(items) = some_items(field, "an array of addresses such as [\"198.51.100.7\"]", MAX_SOURCES)
    else {
        return Vec::new();
    };
    let mut sources = Vec::new();
    for item in items {
        let Some(address) = values::ip_address(&item) else { continue };
        match taken.get(&address) {
            Some(other) => item.error(
                || format!("calls from {address} would be of two trunks"),
                |f| f.label(format!("a source of trunk \"{other}\"")),
            ),
            None => drop(taken.insert(address, trunk.clone())),
        }
        sources.push(address);
    }
    sources
}

fn probe(table: &Table<'_>) -> Option<Duration> {
    let Some(field) = table.get("probe") else { return Some(PROBE) };
    if field.is_boolean() {
        if field.boolean() == Some(true) {
            field.error(
                || "`probe` does not say how often".to_owned(),
                |f| f.label("expected a duration such as \"30s\", or false for never"),
            );
        }
        return None;
    }
    field.duration(SECOND..=HOUR)
}

// ---- routes

fn routes(table: &Table<'_>, trunks: &BTreeSet<String>) -> Vec<SipRoute> {
    let Some(field) = table.get("routes") else { return Vec::new() };
    let expected = "an array of tables such as [{ prefix = \"00\", trunks = [\"carrier\"] }]";
    let Some(items) = some_items(&field, expected, MAX_ROUTES) else { return Vec::new() };
    let mut prefixes = BTreeMap::new();
    let mut routes = Vec::new();
    for item in &items {
        let Some(route) = item.table(&SIP_ROUTE, "a route".to_owned()) else { continue };
        let prefix = route.get("prefix").map_or(Some(String::new()), |field| {
            let prefix = digits(&field)?;
            Some(prefix)
        });
        let add = route.get("add").map_or(Some(String::new()), |field| digits(&field));
        let strip = u8::try_from(route.integer("strip", 0..=MAX_DIGITS as u32, 0)).unwrap_or(0);
        let choices =
            route.require("trunks", "trunks = [\"carrier\"]").and_then(|field| choices(&field, trunks));
        let (Some(prefix), Some(add), Some(trunks)) = (prefix, add, choices) else { continue };
        match prefixes.get(&prefix) {
            Some(span) => route.get("prefix").as_ref().unwrap_or(item).error(
                || format!("two routes have the prefix {prefix:?}"),
                |f| f.label("the second").related(Span::clone(span), "the first".to_owned()),
            ),
            None => {
                prefixes.insert(prefix.clone(), route.get("prefix").map_or(item.span(), |f| f.span()));
            }
        }
        routes.push(SipRoute { prefix, strip, add, trunks });
    }
    routes
}

/// A called number or a part of it: what may stand in the user part of a SIP URI without being escaped, as names do.
fn digits(field: &Field<'_>) -> Option<String> {
    let expected = "digits (or other characters of a name)";
    field.understood(expected, |text| {
        if text.is_empty() {
            return Ok(String::new());
        }
        SipName::new(text).map(|name| name.as_str().to_owned())
    })
}

fn choices(field: &Field<'_>, trunks: &BTreeSet<String>) -> Option<Vec<SipChoice>> {
    let expected = "an array of trunks such as [\"carrier\"], or tables such as { trunk = \"carrier\", priority = 1, \
                    weight = 2 }";
    let items = some_items(field, expected, MAX_CHOICES)?;
    let mut choices: Vec<SipChoice> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        // Names alone are tried in their order.
        let place = u16::try_from(index + 1).unwrap_or(u16::MAX);
        let choice = if item.is_string() {
            trunk_name(item, trunks)
                .map(|trunk| (item.clone(), SipChoice { trunk, priority: place, weight: 1 }))
        } else {
            item.table(&SIP_CHOICE, "a trunk of a route".to_owned()).and_then(|table| {
                let named = table.require("trunk", "trunk = \"carrier\"")?;
                let number =
                    |key, default| u16::try_from(table.integer(key, 0..=65_535, default)).unwrap_or(0);
                let (priority, weight) = (number("priority", u32::from(place)), number("weight", 1));
                let trunk = trunk_name(&named, trunks)?;
                Some((named, SipChoice { trunk, priority, weight }))
            })
        };
        let Some((named, choice)) = choice else { continue };
        if choices.iter().any(|other| other.trunk == choice.trunk) {
            named.error(
                || format!("the route names trunk \"{}\" twice", choice.trunk),
                |f| f.label("named before"),
            );
        }
        choices.push(choice);
    }
    Some(choices)
}

fn trunk_name(field: &Field<'_>, trunks: &BTreeSet<String>) -> Option<SipName> {
    let name: SipName = field.parsed("the name of a trunk")?;
    if !trunks.contains(name.as_str()) {
        let listed: Vec<&str> = trunks.iter().map(String::as_str).take(8).collect();
        let help = did_you_mean(name.as_str(), trunks.iter().map(String::as_str)).unwrap_or_else(|| {
            if listed.is_empty() {
                "define it in a table [pairs.NAME.sip.trunks.NAME]".to_owned()
            } else {
                format!("trunks of this pair: {}", listed.join(", "))
            }
        });
        field.error(
            || format!("there is no trunk {}", shown(name.as_str())),
            |f| f.label("not defined for this pair").help(help),
        );
        return None;
    }
    Some(name)
}

fn warn_of_what_does_nothing(table: &Table<'_>, trunks: &BTreeMap<SipName, SipTrunk>, routes: &[SipRoute]) {
    if table.get("users").is_none() && table.get("trunks").is_none() {
        table.warning(
            || format!("{} has neither users nor trunks", table.title),
            |f| f.label("nobody may call, and every call is refused"),
        );
    }
    let routed = |name: &SipName| routes.iter().any(|r| r.trunks.iter().any(|choice| choice.trunk == *name));
    if let Some(field) = table.get("trunks")
        && let Some(name) = trunks.keys().find(|name| !routed(name))
    {
        field.key_warning(
            || format!("no route leads to trunk \"{name}\""),
            |f| f.label("calls come from there, and none go there"),
        );
    }
}

// ---- numbers

fn registrations(pair: &PairName, field: &Field<'_>) -> SipRegistrations {
    let default = SipRegistrations::default();
    let Some(table) = field.table(&SIP_REGISTRATIONS, format!("`sip.registrations` of pair \"{pair}\""))
    else {
        return default;
    };
    let registrations = SipRegistrations {
        min_expires_s: seconds(&table, "min-expires", SECOND..=DAY, default.min_expires_s),
        default_expires_s: seconds(&table, "default-expires", SECOND..=7 * DAY, default.default_expires_s),
        max_expires_s: seconds(&table, "max-expires", SECOND..=7 * DAY, default.max_expires_s),
        contacts: table.integer("contacts", 1..=100, default.contacts as u32) as usize,
    };
    let SipRegistrations { min_expires_s: min, default_expires_s: usual, max_expires_s: max, .. } =
        registrations;
    if min > usual || usual > max {
        table.error(
            || format!("{} are not in order", table.title),
            |f| {
                f.label(format!(
                    "expected min-expires ({min} s) <= default-expires ({usual} s) <= max-expires ({max} s)"
                ))
            },
        );
    }
    registrations
}

fn limits(pair: &PairName, field: &Field<'_>) -> SipLimits {
    let default = SipLimits::default();
    let Some(table) = field.table(&SIP_LIMITS, format!("`sip.limits` of pair \"{pair}\"")) else {
        return default;
    };
    SipLimits {
        calls: table.integer("calls", 1..=100_000, default.calls as u32) as usize,
        source_per_s: table.integer("source-rate", 1..=100_000, default.source_per_s),
        source_burst: table.integer("source-burst", 1..=1_000_000, default.source_burst),
        refusals: table.integer("refusals", 1..=100_000, default.refusals),
        silence: table.duration("silence", SECOND..=DAY, default.silence),
    }
}

fn timers(pair: &PairName, field: &Field<'_>) -> SipTimers {
    let default = SipTimers::default();
    let Some(table) = field.table(&SIP_TIMERS, format!("`sip.timers` of pair \"{pair}\"")) else {
        return default;
    };
    // RFC 4028, section 4: 90 s is the least that there may be.
    let timers = SipTimers {
        ringing: table.duration("ringing", 5 * SECOND..=10 * MINUTE, default.ringing),
        session_expires_s: seconds(&table, "session-expires", 90 * SECOND..=DAY, default.session_expires_s),
        min_session_s: seconds(&table, "min-session", 90 * SECOND..=DAY, default.min_session_s),
    };
    if timers.min_session_s > timers.session_expires_s {
        table.error(
            || format!("{} ask for less than they accept", table.title),
            |f| f.label("expected min-session <= session-expires"),
        );
    }
    timers
}

fn replication(pair: &PairName, field: &Field<'_>) -> SipReplication {
    let default = SipReplication::default();
    let Some(table) = field.table(&SIP_REPLICATION, format!("`sip.replication` of pair \"{pair}\"")) else {
        return default;
    };
    SipReplication {
        port: table.get("port").and_then(|field| port(&field)).unwrap_or(default.port),
        lag: table.duration("lag", 10 * MILLISECOND..=MINUTE, default.lag),
    }
}

/// A duration of whole seconds: SIP counts in them.
fn seconds(table: &Table<'_>, key: &'static str, range: RangeInclusive<Duration>, default: u32) -> u32 {
    let Some(field) = table.get(key) else { return default };
    let Some(duration) = field.duration(range) else { return default };
    if duration.subsec_nanos() != 0 {
        field.error(
            || format!("`{key}` is no whole number of seconds"),
            |f| f.label("expected whole seconds"),
        );
    }
    u32::try_from(duration.as_secs()).unwrap_or(default)
}
