//! The names that a cluster file defines, found before anything else is read, so that a reference to one can be
//! checked where it stands, in whatever order the file has them.

use crate::reader::{Field, Span, Table, did_you_mean, shown};
use crate::schema::Section;
use domain::{AppName, HostName, PairName, ScriptName, SolutionName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most names listed in a hint.
const MAX_LISTED: usize = 8;

/// Names of one kind, with the place where each is defined.
pub(crate) struct Known<N> {
    /// What one of them is called: `host`.
    kind: &'static str,
    /// The table that defines them: `hosts`.
    section: &'static str,
    /// The names.
    pub(crate) names: BTreeMap<N, Span>,
}

impl<N: FromStr<Err: Display> + Ord + AsRef<str> + Display> Known<N> {
    /// The valid names in `section` of the file. Invalid ones are reported when the section itself is read.
    fn collect(root: &DeTable<'_>, kind: &'static str, section: &'static str) -> Self {
        let table = root.get(section).and_then(|value| value.get_ref().as_table());
        let names = table
            .into_iter()
            .flatten()
            .filter_map(|(key, _)| Some((key.get_ref().parse().ok()?, key.span())))
            .collect();
        Self { kind, section, names }
    }

    /// The name that `field` refers to; reported where the file defines no such name.
    pub(crate) fn resolve(&self, field: &Field<'_>) -> Option<N> {
        let name: N = field.parsed(&format!("the name of {} {}", article(self.kind), self.kind))?;
        if self.names.contains_key(&name) {
            return Some(name);
        }
        field.error(
            || format!("there is no {} {}", self.kind, shown(name.as_ref())),
            |f| f.label("not defined in this file").help(self.hint(&name)),
        );
        None
    }

    fn hint(&self, name: &N) -> String {
        let known = || self.names.keys().map(AsRef::as_ref);
        let near = did_you_mean(name.as_ref(), known());
        let define = format!("define it in a table [{}.{name}]", self.section);
        let listed = match self.names.len() {
            0 => return define,
            n if n <= MAX_LISTED => {
                format!("{} defined in this file: {}", self.section, known().collect::<Vec<_>>().join(", "))
            }
            n => format!("{define}; this file has {n} other {}", self.section),
        };
        near.map_or_else(|| listed.clone(), |near| format!("{near} {listed}"))
    }
}

/// All names of the file.
pub(crate) struct Names {
    pub(crate) hosts: Known<HostName>,
    pub(crate) applications: Known<AppName>,
    pub(crate) pairs: Known<PairName>,
    pub(crate) solutions: Known<SolutionName>,
    pub(crate) scripts: Known<ScriptName>,
    /// The host of each application that names one, and where it does.
    pub(crate) host_of: BTreeMap<AppName, (HostName, Span)>,
    /// Members of pairs in cold standby.
    pub(crate) cold: BTreeSet<AppName>,
}

impl Names {
    /// Finds all names of the file.
    pub(crate) fn collect(root: &DeTable<'_>) -> Self {
        Self {
            hosts: Known::collect(root, "host", "hosts"),
            applications: Known::collect(root, "application", "applications"),
            pairs: Known::collect(root, "pair", "pairs"),
            solutions: Known::collect(root, "solution", "solutions"),
            scripts: Known::collect(root, "script", "scripts"),
            host_of: host_of(root),
            cold: cold(root),
        }
    }
}

fn host_of(root: &DeTable<'_>) -> BTreeMap<AppName, (HostName, Span)> {
    tables(root, "applications")
        .filter_map(|(app, settings)| {
            let host = settings.get("host")?;
            Some((app.parse().ok()?, (host.get_ref().as_str()?.parse().ok()?, host.span())))
        })
        .collect()
}

fn cold(root: &DeTable<'_>) -> BTreeSet<AppName> {
    let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().and_then(|name| name.parse().ok());
    tables(root, "pairs")
        .filter(|(_, pair)| {
            pair.get("redundancy").is_some_and(|value| value.get_ref().as_str() == Some("cold"))
        })
        .filter_map(|(_, pair)| pair.get("members")?.get_ref().as_array())
        .flat_map(|members| members.iter().filter_map(text))
        .collect()
}

/// The tables within a section of the file, by name.
fn tables<'a>(root: &'a DeTable<'a>, section: &str) -> impl Iterator<Item = (&'a str, &'a DeTable<'a>)> {
    let entries = root.get(section).and_then(|value| value.get_ref().as_table()).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.get_ref().as_ref(), value.get_ref().as_table()?)))
}

/// Reads the tables of a section: each that has a valid name and that `read` can make something of.
pub(crate) fn named<'t, N: FromStr<Err: Display> + Ord + Display, T>(
    root: &Table<'t>,
    section: &'static str,
    kind: &str,
    keys: &'static Section,
    mut read: impl FnMut(&N, &Table<'t>) -> Option<T>,
) -> BTreeMap<N, T> {
    let Some(section) = root.get(section) else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for entry in section.entries(&format!("tables [{}]", keys.path)) {
        let name: Option<N> = name_of(&entry, kind);
        let Some(table) = entry.table(keys, format!("{kind} {}", shown(entry.name))) else { continue };
        let Some(name) = name else { continue };
        if let Some(value) = read(&name, &table) {
            all.insert(name, value);
        }
    }
    all
}

/// The name that a table's key gives; reported where it cannot be one.
fn name_of<N: FromStr<Err: Display>>(entry: &Field<'_>, kind: &str) -> Option<N> {
    match entry.name.parse() {
        Ok(name) => Some(name),
        Err(why) => {
            entry.key_error(
                || format!("{} cannot be the name of {} {kind}: {why}", shown(entry.name), article(kind)),
                |f| f.label("expected 1 to 64 letters, digits, '-', '_' and '.'"),
            );
            None
        }
    }
}

/// The indefinite article of a kind of thing.
fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}
