//! Who may depend on whom: the arrows of ARCHITECTURE.md as a table, and what pure crates must not reach. Only what
//! is linked counts; tests may use what they like.

use std::collections::{BTreeMap, VecDeque};

use super::metadata::{Metadata, Package};
use super::{Finding, Source, line_of};

/// Crates that decide and never act: no clock, no socket, no thread.
pub const PURE: &[&str] = &[
    "domain",
    "access",
    "alarms",
    "ha-core",
    "lease",
    "lca-core",
    "simulation",
    "sip-proto",
    "sip-sync",
    "sip-core",
];

/// What a pure crate must not reach, not even through others: operating system, event loops, storage, chance.
const IMPURE: &[&str] = &[
    "tokio",
    "mio",
    "libc",
    "nix",
    "rustix",
    "socket2",
    "rusqlite",
    "hyper",
    "rand",
    "rand_core",
    "getrandom",
];

/// What a crate of ours may depend on among the others.
enum Arrows {
    To(&'static [&'static str]),
    /// Where everything comes together.
    Anything,
}

const ARROWS: &[(&str, Arrows)] = &[
    ("domain", Arrows::To(&[])),
    ("access", Arrows::To(&["domain"])),
    ("alarms", Arrows::To(&["domain"])),
    ("lease", Arrows::To(&["domain"])),
    ("ha-core", Arrows::To(&["alarms", "domain", "lease"])),
    ("sip-proto", Arrows::To(&["domain"])),
    ("sip-sync", Arrows::To(&["domain"])),
    ("sip-core", Arrows::To(&["domain", "sip-proto", "sip-sync"])),
    ("sip-fuzz", Arrows::To(&["domain", "sip-proto", "sip-sync", "sip-core"])),
    ("config", Arrows::To(&["domain", "lease", "sip-proto"])),
    ("control-link", Arrows::To(&["domain", "lease"])),
    ("vip-control", Arrows::To(&["domain"])),
    ("doctor", Arrows::To(&["control-link", "domain", "lease", "vip-control"])),
    ("lca-core", Arrows::To(&["domain", "lease"])),
    ("lca", Arrows::To(&["config", "control-link", "domain", "lca-core", "lease", "vip-control"])),
    ("scs", Arrows::To(&["alarms", "config", "control-link", "domain", "ha-core", "lease", "vip-control"])),
    ("console", Arrows::To(&[])),
    (
        "sci",
        Arrows::To(&["access", "alarms", "config", "console", "control-link", "domain", "ha-core", "scs"]),
    ),
    ("sip-server", Arrows::To(&["control-link", "domain", "sip-proto", "sip-sync", "sip-core"])),
    ("netlab", Arrows::To(&["domain", "vip-control"])),
    ("lease-model", Arrows::To(&["domain", "lease"])),
    ("simulation", Arrows::To(&["config", "domain", "ha-core", "lca-core", "lease"])),
    ("rehearsal", Arrows::Anything),
    ("xtask", Arrows::To(&[])),
    ("takeover", Arrows::Anything),
    ("e2e", Arrows::Anything),
    ("benches", Arrows::Anything),
];

/// Checks every crate of ours.
pub fn check(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, package) in &metadata.ours {
        findings.extend(directions(name, package, metadata, sources));
        if PURE.contains(&name.as_str()) {
            findings.extend(purity(name, package, metadata, sources));
        }
    }
    findings
}

fn directions(name: &str, package: &Package, metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let allowed = match ARROWS.iter().find(|(known, _)| *known == name) {
        Some((_, Arrows::To(allowed))) => *allowed,
        Some((_, Arrows::Anything)) => return Vec::new(),
        None => {
            let message = format!(
                "`{name}` is not in the table of arrows: add it to {} and to ARCHITECTURE.md",
                file!()
            );
            return vec![Finding::new(&package.manifest, 1, message)];
        }
    };
    let ours = package.dependencies.iter().filter(|d| !d.is_dev && metadata.ours.contains_key(&d.name));
    let wrong = ours.filter(|dependency| !allowed.contains(&dependency.name.as_str()));
    wrong
        .map(|dependency| {
            let line = line_of(sources, &package.manifest, &dependency.name);
            let message = match allowed {
                [] => format!("`{name}` must depend on none of our crates, not on `{}`", dependency.name),
                some => {
                    format!("`{name}` may depend on {} only, not on `{}`", some.join(", "), dependency.name)
                }
            };
            Finding::new(&package.manifest, line, message)
        })
        .collect()
}

fn purity(name: &str, package: &Package, metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let ways = ways_from(name, &metadata.linked);
    let reached = IMPURE.iter().filter_map(|impure| ways.get(impure));
    reached
        .map(|way| {
            let line = line_of(sources, &package.manifest, way[1]);
            let message = format!("pure crate reaches {}: decide here, act in a daemon", way.join(" -> "));
            Finding::new(&package.manifest, line, message)
        })
        .collect()
}

/// The shortest way from `start` to every package that is linked into it, `start` first.
fn ways_from<'a>(
    start: &'a str,
    linked: &'a BTreeMap<String, Vec<String>>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut ways = BTreeMap::from([(start, vec![start])]);
    let mut queue = VecDeque::from([start]);
    while let Some(package) = queue.pop_front() {
        for next in linked.get(package).into_iter().flatten() {
            if !ways.contains_key(next.as_str()) {
                let mut way = ways[package].clone();
                way.push(next);
                ways.insert(next, way);
                queue.push_back(next);
            }
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Dependency;
    use super::*;

    /// A workspace from `crate -> dependency` pairs; a name with a `~` in front is a dependency for tests only.
    fn workspace(arrows: &[(&str, &[&str])]) -> Metadata {
        let mut metadata = Metadata::default();
        for (name, dependencies) in arrows {
            let linked = dependencies.iter().filter(|d| !d.starts_with('~')).map(ToString::to_string);
            metadata.linked.insert(name.to_string(), linked.collect());
            let all = dependencies.iter().map(|d| Dependency {
                name: d.trim_start_matches('~').to_owned(),
                is_dev: d.starts_with('~'),
            });
            let known = ARROWS.iter().any(|(known, _)| known == name) || name.starts_with("new-");
            if known {
                let package =
                    Package { manifest: format!("crates/{name}/Cargo.toml"), dependencies: all.collect() };
                metadata.ours.insert(name.to_string(), package);
            }
        }
        metadata
    }

    fn messages(arrows: &[(&str, &[&str])]) -> Vec<String> {
        check(&workspace(arrows), &[]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_arrows_as_they_are_meant_pass() {
        let arrows: &[(&str, &[&str])] = &[
            ("domain", &["serde"]),
            ("alarms", &["domain"]),
            ("ha-core", &["alarms", "domain", "~netlab"]),
            ("netlab", &["libc"]),
            ("takeover", &["domain", "ha-core", "netlab"]),
        ];
        assert_eq!(messages(arrows), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        let found = messages(&[("domain", &["alarms"]), ("alarms", &[]), ("lca", &["scs"]), ("scs", &[])]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`domain` must depend on none"), "{found:?}");
        assert!(found[1].contains("not on `scs`"), "{found:?}");
    }

    #[test]
    fn impurity_is_found_through_others_and_the_way_is_shown() {
        let found = messages(&[("ha-core", &["uuid"]), ("uuid", &["getrandom"]), ("getrandom", &["libc"])]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("ha-core -> uuid -> getrandom -> libc"), "{found:?}");
        assert!(found[1].contains("ha-core -> uuid -> getrandom:"), "{found:?}");
    }

    #[test]
    fn tests_of_pure_crates_and_daemons_may_act() {
        assert_eq!(messages(&[("domain", &["~tokio"]), ("scs", &["tokio"])]), Vec::<String>::new());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(messages(&[("new-crate", &[])]).len(), 1);
    }

    #[test]
    fn a_circle_does_not_hang() {
        assert_eq!(messages(&[("domain", &["a"]), ("a", &["b"]), ("b", &["a"])]), Vec::<String>::new());
    }
}
