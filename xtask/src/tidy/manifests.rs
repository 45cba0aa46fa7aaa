//! Rules about manifests: every outside dependency is in the workspace table, is used, and has its reason in
//! docs/dependencies.md; every crate takes the workspace's lints; pure crates carry the clippy.toml that keeps them so.

use std::collections::{BTreeMap, BTreeSet};

use super::arrows::PURE;
use super::metadata::Metadata;
use super::{Finding, Source, line_of};

const WORKSPACE: &str = "Cargo.toml";
const REASONS: &str = "docs/dependencies.md";

/// Checks all manifests.
pub fn check(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let text =
        |path: &str| sources.iter().find(|source| source.path == path).map_or("", |source| &source.text);
    let table = outside_dependencies(text(WORKSPACE));
    let mut findings = reasons(&table, &documented(text(REASONS)));
    findings.extend(usage(&table, metadata, sources));
    findings.extend(lints(metadata, sources));
    findings.extend(pure_lints(metadata, sources));
    findings
}

/// The crates in `[workspace.dependencies]` that are not ours, each with its line.
fn outside_dependencies(manifest: &str) -> BTreeMap<&str, usize> {
    let mut table = BTreeMap::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            inside = line.trim_end() == "[workspace.dependencies]";
        } else if inside
            && let Some((name, value)) = line.split_once(" = ")
            && !name.starts_with(['#', ' '])
            && !value.contains("path = ")
        {
            table.insert(name, number);
        }
    }
    table
}

/// The crates that the reasons name: rows that begin with the crate as code, each with its line.
fn documented(reasons: &str) -> BTreeMap<&str, usize> {
    let rows = (1..).zip(reasons.lines());
    let rows = rows.filter_map(|(number, line)| Some((line.strip_prefix("| `")?.split_once('`')?.0, number)));
    rows.collect()
}

fn reasons(table: &BTreeMap<&str, usize>, documented: &BTreeMap<&str, usize>) -> Vec<Finding> {
    let silent = table.iter().filter(|(name, _)| !documented.contains_key(*name));
    let silent = silent.map(|(name, line)| {
        let message =
            format!("`{name}` has no row in {REASONS}: say what for, why this one, and its licence");
        Finding::new(WORKSPACE, *line, message)
    });
    let gone = documented.iter().filter(|(name, _)| !table.contains_key(*name));
    let gone = gone.map(|(name, line)| {
        Finding::new(REASONS, *line, format!("`{name}` is not in the workspace's table: remove the row"))
    });
    silent.chain(gone).collect()
}

fn usage(table: &BTreeMap<&str, usize>, metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for package in metadata.ours.values() {
        for dependency in &package.dependencies {
            used.insert(dependency.name.as_str());
            if !table.contains_key(dependency.name.as_str()) && !metadata.ours.contains_key(&dependency.name)
            {
                let line = line_of(sources, &package.manifest, &dependency.name);
                let message = format!(
                    "`{}` is not in the workspace's table: add it there, with its reason",
                    dependency.name
                );
                findings.push(Finding::new(&package.manifest, line, message));
            }
        }
    }
    let unused = table.iter().filter(|(name, _)| !used.contains(*name));
    findings.extend(unused.map(|(name, line)| {
        Finding::new(WORKSPACE, *line, format!("`{name}` is used by no crate: remove it"))
    }));
    findings
}

fn lints(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let manifests = metadata.ours.values().filter_map(|package| {
        let manifest = sources.iter().find(|source| source.path == package.manifest)?;
        let takes = manifest.text.contains("[lints]\nworkspace = true");
        (!takes).then(|| Finding::new(&package.manifest, 1, "add `[lints]` with `workspace = true`"))
    });
    manifests.collect()
}

/// clippy reads the nearest clippy.toml only, so each pure crate needs a copy of the same one.
fn pure_lints(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let file = |name: &str| format!("crates/{name}/clippy.toml");
    let text =
        |name: &str| sources.iter().find(|source| source.path == file(name)).map(|source| &source.text);
    let model = text(PURE[0]);
    let different = PURE.iter().filter(|name| metadata.ours.contains_key(**name));
    let different = different.filter(|name| text(name).is_none() || text(name) != model);
    different
        .map(|name| {
            Finding::new(
                &file(name),
                1,
                format!("a pure crate carries the same clippy.toml as `{}`: copy it", PURE[0]),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::metadata::{Dependency, Package};
    use super::*;

    const MANIFEST: &str = "\
[workspace]
members = [\"crates/*\"]

[workspace.dependencies]
# Our own.
domain = { path = \"crates/domain\" }
# Everybody else's.
serde = { version = \"1\", features = [
  \"derive\",
] }
mio = \"1\"

[profile.dev]
debug = 1
";

    #[test]
    fn the_table_is_read_without_our_own_crates() {
        assert_eq!(outside_dependencies(MANIFEST), BTreeMap::from([("serde", 8), ("mio", 11)]));
    }

    #[test]
    fn only_rows_that_begin_with_a_crate_count() {
        let text = "# Dependencies\n\n| crate | what for |\n|---|---|\n| `mio` | beside `tokio` |\n";
        assert_eq!(documented(text), BTreeMap::from([("mio", 5)]));
    }

    /// The findings for one crate `domain` whose manifest, reasons and dependencies are given.
    fn messages(
        reasons: &str,
        dependencies: &[&str],
        crate_manifest: &str,
        clippy: Option<&str>,
    ) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let mut sources = vec![
            source(WORKSPACE, MANIFEST),
            source(REASONS, reasons),
            source("crates/domain/Cargo.toml", crate_manifest),
        ];
        sources.extend(clippy.map(|text| source("crates/domain/clippy.toml", text)));
        let dependencies =
            dependencies.iter().map(|name| Dependency { name: name.to_string(), is_dev: true });
        let package =
            Package { manifest: "crates/domain/Cargo.toml".into(), dependencies: dependencies.collect() };
        let metadata = Metadata { ours: BTreeMap::from([("domain".into(), package)]), ..Metadata::default() };
        check(&metadata, &sources).iter().map(ToString::to_string).collect()
    }

    const LINTS: &str = "[lints]\nworkspace = true\n";
    const REASONED: &str = "| `mio` |\n| `serde` |\n";

    #[test]
    fn what_is_in_order_passes() {
        assert_eq!(messages(REASONED, &["mio", "serde", "domain"], LINTS, Some("x")), Vec::<String>::new());
    }

    #[test]
    fn each_departure_is_found_where_it_is() {
        let one = |found: Vec<String>, expected: &str| {
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "expected {expected}, found {found:?}"
            );
        };
        let used = &["mio", "serde"];
        one(messages("| `mio` |\n", used, LINTS, Some("x")), "Cargo.toml:8: `serde` has no row");
        one(
            messages(&format!("{REASONED}| `old` |\n"), used, LINTS, Some("x")),
            "docs/dependencies.md:3: `old`",
        );
        one(messages(REASONED, &["serde"], LINTS, Some("x")), "Cargo.toml:11: `mio` is used by no crate");
        let around = format!("{LINTS}\n[dependencies]\nrand = \"1\"\n");
        let dependencies = &["mio", "serde", "rand"];
        one(
            messages(REASONED, dependencies, &around, Some("x")),
            "crates/domain/Cargo.toml:5: `rand` is not in",
        );
        one(messages(REASONED, used, "[package]\n", Some("x")), "crates/domain/Cargo.toml:1: add `[lints]`");
        one(messages(REASONED, used, LINTS, None), "crates/domain/clippy.toml:1: a pure crate");
    }
}
